//! How long a provider asks us to wait, in every form in which they say it.
//!
//! - `retry-after-ms` and `retry-after` (seconds, also with a fraction, or a date: RFC 9110, 10.2.3);
//! - OpenAI's `x-ratelimit-reset-requests` and `-tokens`: durations such as `6m0s` or `120ms`, elsewhere also seconds or a point
//!   in time; of the two, the one whose `-remaining-` is used up;
//! - Anthropic's `anthropic-ratelimit-*-reset`: RFC 3339 times;
//! - "Please try again in 2s." in the message, for gateways that drop headers.
//!
//! LiteLLM passes the provider's headers on as `llm_provider-…`.

use std::{sync::LazyLock, time::Duration};

use http::HeaderMap;
use regex::Regex;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The longest wait that is believed.
const LONGEST: Duration = Duration::from_hours(24);

/// Headers with what is left of a limit and when it is whole again.
const RESETS: [(&str, &str); 7] = [
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    (
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ),
    (
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
    ),
    (
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset",
    ),
    (
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-reset",
    ),
];

static IN_MESSAGE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(?:try again|retry) (?:in|after) ((?:\d+(?:\.\d+)?(?:ms|h|m|s) ?)+|\d+ seconds?\b)")
        .expect("the pattern is fixed and tested")
});

static PARTS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(\d+(?:\.\d+)?)\s*(ms|h|m|s)").expect("the pattern is fixed and tested"));

/// The wait that headers or, failing them, the message ask for.
pub(super) fn retry_after(headers: &HeaderMap, message: &str, now: OffsetDateTime) -> Option<Duration> {
    let now = sent_at(headers).unwrap_or(now);
    let wait = header(headers, "retry-after-ms")
        .and_then(|text| seconds(text).map(|wait| wait / 1_000))
        .or_else(|| header(headers, "retry-after").and_then(|text| seconds(text).or_else(|| until_date(text, now))))
        .or_else(|| until_reset(headers, now))
        .or_else(|| IN_MESSAGE.captures(message).and_then(|found| duration(&found[1])));
    wait.map(|wait| wait.min(LONGEST))
}

/// Whether the provider says that trying again has a point.
pub(super) fn should_retry(headers: &HeaderMap) -> Option<bool> {
    header(headers, "x-should-retry")?.to_ascii_lowercase().parse().ok()
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let passed_on = format!("llm_provider-{name}");
    let value = headers.get(name).or_else(|| headers.get(passed_on.as_str()))?;
    value.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
}

/// When the answer was made by the provider's own clock, against which its dates are meant.
fn sent_at(headers: &HeaderMap) -> Option<OffsetDateTime> {
    header(headers, "date")
        .and_then(|text| httpdate::parse_http_date(text).ok())
        .map(OffsetDateTime::from)
}

fn until_date(text: &str, now: OffsetDateTime) -> Option<Duration> {
    let date = httpdate::parse_http_date(text).ok().map(OffsetDateTime::from);
    date.or_else(|| OffsetDateTime::parse(text, &Rfc3339).ok())
        .map(|then| from(now, then))
}

fn until_reset(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let resets = RESETS.iter().filter_map(|(remaining, reset)| {
        let wait = reset_time(header(headers, reset)?, now)?;
        let remaining = header(headers, remaining).and_then(|text| text.parse::<f64>().ok());
        Some((remaining.is_some_and(|left| left <= 0.0), wait))
    });
    let (used_up, others): (Vec<_>, Vec<_>) = resets.partition(|(is_used_up, _)| *is_used_up);
    let longest = used_up.into_iter().map(|(_, wait)| wait).max();
    longest.or_else(|| others.into_iter().map(|(_, wait)| wait).min())
}

fn reset_time(text: &str, now: OffsetDateTime) -> Option<Duration> {
    if let Some(number) = seconds(text) {
        // Large numbers are seconds or milliseconds since 1970, no waits.
        let since_1970 = match number.as_secs() {
            0..1_000_000_000 => return Some(number),
            1_000_000_000..100_000_000_000 => number,
            _ => number / 1_000,
        };
        let then = OffsetDateTime::UNIX_EPOCH + time::Duration::try_from(since_1970).ok()?;
        return Some(from(now, then));
    }
    duration(text).or_else(|| until_date(text, now))
}

fn from(now: OffsetDateTime, then: OffsetDateTime) -> Duration {
    Duration::try_from(then - now).unwrap_or(Duration::ZERO)
}

fn seconds(text: &str) -> Option<Duration> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let seconds: f64 = text.parse().ok().filter(|_| is_plain)?;
    Duration::try_from_secs_f64(seconds.min(1e15)).ok()
}

/// A duration in Go's form: `1h2m3.5s`, `120ms`; or `20 seconds`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim().trim_end_matches("econds").trim_end_matches("econd");
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let part = PARTS
            .captures(rest)
            .filter(|part| part.get(0).is_some_and(|whole| whole.start() == 0))?;
        let unit = match &part[2] {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            _ => 0.001,
        };
        sum += Duration::try_from_secs_f64(part[1].parse::<f64>().ok()? * unit).ok()?;
        rest = rest[part[0].len()..].trim_start();
    }
    (!text.trim().is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-20 09:14:23 UTC);

    fn of(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        pairs.iter().map(pair).collect()
    }

    fn millis(pairs: &[(&str, &str)]) -> Option<u128> {
        retry_after(&of(pairs), "", NOW).map(|wait| wait.as_millis())
    }

    #[test]
    fn retry_after_is_read_in_every_form() {
        for (pairs, expected) in [
            (&[("retry-after", "2")][..], Some(2_000)),
            (&[("retry-after", "0.5")], Some(500)),
            (&[("retry-after", "0")], Some(0)),
            (&[("retry-after-ms", "2500"), ("retry-after", "9")], Some(2_500)),
            (&[("retry-after", "Fri, 20 Nov 2026 09:14:33 GMT")], Some(10_000)),
            (&[("retry-after", "Friday, 20-Nov-26 09:14:33 GMT")], Some(10_000)),
            (&[("retry-after", "Fri Nov 20 09:14:33 2026")], Some(10_000)),
            (&[("retry-after", "Fri, 20 Nov 2026 09:00:00 GMT")], Some(0)),
            (&[("retry-after", "2026-11-20T09:15:23Z")], Some(60_000)),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "inf")], None),
            (&[("retry-after", "99999999999999999999")], Some(86_400_000)),
            (&[("llm_provider-retry-after", "2")], Some(2_000)),
            (&[], None),
        ] {
            assert_eq!(millis(pairs), expected, "{pairs:?}");
        }
    }

    #[test]
    fn a_date_is_meant_by_the_providers_clock() {
        let pairs = [
            ("retry-after", "Fri, 20 Nov 2026 10:00:05 GMT"),
            ("date", "Fri, 20 Nov 2026 10:00:00 GMT"),
        ];
        assert_eq!(millis(&pairs), Some(5_000));
    }

    #[test]
    fn resets_are_durations_points_in_time_or_seconds() {
        for (text, expected) in [
            ("6m0s", 360_000),
            ("1h2m3.5s", 3_723_500),
            ("120ms", 120),
            ("1s", 1_000),
            ("20", 20_000),
            ("1795166073", 10_000),
            ("1795166073000", 10_000),
            ("2026-11-20T09:14:33Z", 10_000),
        ] {
            assert_eq!(
                millis(&[("x-ratelimit-reset-requests", text)]),
                Some(expected),
                "{text}"
            );
        }
        for text in ["", "6x", "m", "1s!"] {
            assert_eq!(millis(&[("x-ratelimit-reset-requests", text)]), None, "{text}");
        }
        assert_eq!(
            millis(&[("anthropic-ratelimit-tokens-reset", "2026-11-20T09:14:33Z")]),
            Some(10_000)
        );
    }

    #[test]
    fn the_limit_that_is_used_up_counts() {
        let both = [
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ];
        let with = |left: [&str; 2]| {
            let left = [
                ("x-ratelimit-remaining-requests", left[0]),
                ("x-ratelimit-remaining-tokens", left[1]),
            ];
            millis(&[both, left].concat())
        };
        assert_eq!(with(["0", "10"]), Some(1_000));
        assert_eq!(with(["3", "0"]), Some(360_000));
        assert_eq!(with(["0", "0"]), Some(360_000));
        assert_eq!(with(["-1", "5"]), Some(1_000));
        assert_eq!(millis(&both), Some(1_000));
    }

    #[test]
    fn a_wait_in_the_message_is_the_last_resort() {
        let of_message = |message: &str| retry_after(&HeaderMap::new(), message, NOW).map(|wait| wait.as_millis());
        assert_eq!(of_message("Limit 3, Used 3. Please try again in 2s. Bye"), Some(2_000));
        assert_eq!(of_message("Please try again in 1m30.5s."), Some(90_500));
        assert_eq!(of_message("Please retry after 20 seconds."), Some(20_000));
        assert_eq!(of_message("Please try again in a while"), None);
        assert_eq!(
            retry_after(&of(&[("retry-after", "7")]), "try again in 2s", NOW),
            Some(Duration::from_secs(7))
        );
    }

    #[test]
    fn whether_to_retry_is_said_as_a_truth_value() {
        assert_eq!(should_retry(&of(&[("x-should-retry", "true")])), Some(true));
        assert_eq!(should_retry(&of(&[("x-should-retry", "False")])), Some(false));
        assert_eq!(should_retry(&of(&[("x-should-retry", "perhaps")])), None);
        assert_eq!(should_retry(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn no_value_is_too_odd(value in "[ -~]{0,40}", message in any::<String>()) {
            for name in ["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens", "date"] {
                let wait = retry_after(&of(&[(name, &value)]), &message, NOW);
                prop_assert!(wait.is_none_or(|wait| wait <= LONGEST));
            }
        }
    }
}
