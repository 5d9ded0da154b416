//! The headers that members may give a request.

use http::{HeaderMap, HeaderName, HeaderValue};

/// How many a request may have.
const MOST: usize = 64;
/// How many bytes their names and values may have together.
const MOST_BYTES: usize = 16 << 10;

/// What frames the request or belongs to the connection (RFC 9110, 7.6.1), what the client says itself, what asks for an
/// answer that nobody here reads, what says who is asking, which proxies believe, and cookies: there is no session to keep.
const RESERVED: [&str; 23] = [
    "accept-encoding",
    "baggage",
    "connection",
    "content-length",
    "cookie",
    "cookie2",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "via",
    "x-client-ip",
    "x-forwarded",
    "x-real-ip",
];

/// Beginnings of such names; services of this installation believe the last among themselves.
const RESERVED_BEGINNINGS: [&str; 4] = ["proxy-", "sec-", "x-forwarded-", "x-studios-"];

/// A header that cannot be sent. Values are not shown: they can be secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No header has such a name.
    #[error("{0:?} is no name of a header")]
    Name(String),
    /// It is not the member's to set.
    #[error("the header {0} cannot be set")]
    Reserved(HeaderName),
    /// Its value has characters that no header can carry.
    #[error("the value of the header {0} cannot be sent")]
    Value(HeaderName),
    /// It is there twice, in different spellings.
    #[error("the header {0} is given twice")]
    Twice(HeaderName),
    /// There are more than so many.
    #[error("there are more than {0} headers")]
    TooMany(usize),
    /// They have more than so many bytes together.
    #[error("the headers have more than {0} bytes")]
    TooLarge(usize),
}

/// The name of a header, if members may set it.
///
/// # Errors
/// `Name` or `Reserved`.
pub fn member_header(name: &str) -> Result<HeaderName, HeaderError> {
    let header: HeaderName = name.parse().map_err(|_| HeaderError::Name(name.to_owned()))?;
    let name = header.as_str();
    if RESERVED.contains(&name) || RESERVED_BEGINNINGS.iter().any(|it| name.starts_with(it)) {
        return Err(HeaderError::Reserved(header));
    }
    Ok(header)
}

/// A member's headers as they are sent.
///
/// # Errors
/// One of them cannot be sent, or they are too many.
pub fn member_headers<'a>(given: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<HeaderMap, HeaderError> {
    let mut headers = HeaderMap::new();
    let mut bytes = 0;
    for (name, value) in given {
        let name = member_header(name)?;
        let Ok(mut sent) = HeaderValue::from_str(value.trim()) else {
            return Err(HeaderError::Value(name));
        };
        sent.set_sensitive(true);
        bytes += name.as_str().len() + sent.len();
        if headers.insert(name.clone(), sent).is_some() {
            return Err(HeaderError::Twice(name));
        }
        if headers.len() > MOST {
            return Err(HeaderError::TooMany(MOST));
        }
        if bytes > MOST_BYTES {
            return Err(HeaderError::TooLarge(MOST_BYTES));
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_members_to_set_is_refused_by_name_in_any_case() {
        for name in RESERVED.into_iter().chain([
            "Host",
            "Content-Length",
            "Proxy-Authorization",
            "X-Forwarded-For",
            "X-Studios-Client-Address",
        ]) {
            let header: HeaderName = name.parse().unwrap();
            assert_eq!(
                member_headers([(name, "x")]),
                Err(HeaderError::Reserved(header)),
                "{name}"
            );
        }
        for name in [
            "authorization",
            "Content-Type",
            "x-api-key",
            "accept",
            "user-agent",
            "idempotency-key",
        ] {
            assert!(member_header(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn headers_cannot_smuggle_others_in() {
        for name in ["", "a b", "a:b", "a\r\nhost", "ä"] {
            assert_eq!(member_header(name), Err(HeaderError::Name(name.into())));
        }
        for value in ["a\r\nhost: x", "a\nb", "a\0b"] {
            let told = member_headers([("x-a", value)]).unwrap_err();
            assert_eq!(told, HeaderError::Value(HeaderName::from_static("x-a")), "{value:?}");
        }
        let headers = member_headers([("X-A", " schön ")]).unwrap();
        assert_eq!(headers["x-a"], "schön");
        assert!(!format!("{headers:?}").contains("sch"), "values are not shown");
    }

    #[test]
    fn headers_are_bounded_and_come_once() {
        let twice = member_headers([("X-A", "1"), ("x-a", "2")]);
        assert_eq!(twice, Err(HeaderError::Twice(HeaderName::from_static("x-a"))));
        let names: Vec<_> = (0..=MOST).map(|it| format!("x-{it}")).collect();
        let given = |count| names.iter().take(count).map(|it| (it.as_str(), "1"));
        assert!(member_headers(given(MOST)).is_ok());
        assert_eq!(member_headers(given(MOST + 1)), Err(HeaderError::TooMany(MOST)));
        let long = "a".repeat(MOST_BYTES);
        assert_eq!(
            member_headers([("x", long.as_str())]),
            Err(HeaderError::TooLarge(MOST_BYTES))
        );
    }
}
