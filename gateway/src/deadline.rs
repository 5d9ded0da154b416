//! Deadlines as callers write them, and the one that is set in the end.
//!
//! A unary call always has one, at most the configured maximum. A stream has one only if its caller asks, and then the
//! one asked for: a watch lasts as long as what it watches.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use service_kit::error::{Error, Result};

/// gRPC's header, like `250m`: at most eight digits and a unit.
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Connect's header: milliseconds, at most ten digits.
pub(crate) const CONNECT_TIMEOUT: HeaderName = HeaderName::from_static("connect-timeout-ms");

/// The time to give to a call, of what its caller asked for and the longest that is allowed.
pub(crate) fn effective(asked: Option<Duration>, unary: bool, longest: Duration) -> Option<Duration> {
    if unary {
        Some(asked.unwrap_or(longest).min(longest))
    } else {
        asked
    }
}

/// Reads gRPC's header.
pub(crate) fn grpc(headers: &HeaderMap) -> Result<Option<Duration>> {
    read(
        headers,
        &GRPC_TIMEOUT,
        parse_grpc,
        "must be up to 8 digits and a unit of H, M, S, m, u, n",
    )
}

/// Reads Connect's header.
pub(crate) fn connect(headers: &HeaderMap) -> Result<Option<Duration>> {
    let parse = |text: &str| number(text, 10).map(Duration::from_millis);
    read(
        headers,
        &CONNECT_TIMEOUT,
        parse,
        "must be up to 10 digits: milliseconds",
    )
}

/// Writes gRPC's header, rounded up so that no short time becomes none.
pub(crate) fn header(timeout: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let text = match timeout.as_micros() {
        micros if micros <= MOST => format!("{micros}u"),
        micros if micros.div_ceil(1_000) <= MOST => format!("{}m", micros.div_ceil(1_000)),
        micros => format!("{}S", micros.div_ceil(1_000_000).min(MOST)),
    };
    HeaderValue::from_str(&text).expect("digits and a letter are visible ASCII")
}

fn read(
    headers: &HeaderMap,
    name: &HeaderName,
    parse: impl Fn(&str) -> Option<Duration>,
    rule: &str,
) -> Result<Option<Duration>> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    match value.to_str().ok().and_then(parse) {
        Some(timeout) => Ok(Some(timeout)),
        None => Err(Error::invalid(name.as_str(), rule)),
    }
}

fn parse_grpc(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount = number(digits, 8)?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3_600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

fn number(digits: &str, most: usize) -> Option<u64> {
    let plain = (1..=most).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn a_unary_call_has_at_most_the_longest_time() {
        assert_eq!(effective(None, true, MINUTE), Some(MINUTE));
        assert_eq!(
            effective(Some(Duration::from_secs(5)), true, MINUTE),
            Some(Duration::from_secs(5))
        );
        assert_eq!(effective(Some(MINUTE * 10), true, MINUTE), Some(MINUTE));
    }

    #[test]
    fn a_stream_has_the_time_asked_for_or_none() {
        assert_eq!(effective(None, false, MINUTE), None);
        assert_eq!(effective(Some(MINUTE * 10), false, MINUTE), Some(MINUTE * 10));
    }

    #[test]
    fn timeouts_read_back_as_they_are_written() {
        for timeout in [
            Duration::ZERO,
            Duration::from_micros(1),
            MINUTE,
            MINUTE * 10,
            Duration::from_hours(20_000),
        ] {
            assert_eq!(parse_grpc(header(timeout).to_str().unwrap()), Some(timeout));
        }
        assert_eq!(header(Duration::MAX), "99999999S");
    }

    #[test]
    fn malformed_timeouts_are_refused_by_the_headers_name() {
        for text in ["", "5", "S", "-5S", "+5S", "5 S", "123456789S", "5x", "5\u{b5}"] {
            assert_eq!(parse_grpc(text), None, "{text}");
        }
        let headers = HeaderMap::from_iter([(CONNECT_TIMEOUT, HeaderValue::from_static("soon"))]);
        assert!(
            connect(&headers)
                .unwrap_err()
                .to_string()
                .contains("connect-timeout-ms")
        );
    }
}
