//! Which headers of a caller reach a service, and the request's id.
//!
//! It is a list of what may pass, not of what may not: metadata that services give a meaning among themselves
//! (`x-studios-*`), addresses that a proxy claims (`x-forwarded-*`) and hop-by-hop headers never get through, nor does
//! anything that somebody adds one day without thinking of the gateway. The client's address is the gateway's own word.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use service_kit::{auth::api_keys::Secret, ids::RequestId, limits::CLIENT_ADDRESS};

/// The header that carries the request's id, in requests and in answers.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The size of all headers together: less than what the services accept.
pub(crate) const MOST_BYTES: u32 = 16 << 10;

const LONGEST_REQUEST_ID: usize = 64;

const FORWARDED: [HeaderName; 11] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::TE,
    header::USER_AGENT,
    HeaderName::from_static("grpc-accept-encoding"),
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    REQUEST_ID,
    CLIENT_ADDRESS,
];

/// What of a caller's headers a service gets to see.
pub(crate) fn forwarded(given: &HeaderMap) -> HeaderMap {
    FORWARDED
        .into_iter()
        .filter_map(|name| given.get(&name).map(|value| (name, value.clone())))
        .collect()
}

/// Whether the headers are larger than a service would take, counted as HTTP/2 does (RFC 9113, section 6.5.2).
pub(crate) fn too_large(given: &HeaderMap) -> bool {
    const OVERHEAD: usize = 32;
    let bytes: usize = given
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + OVERHEAD)
        .sum();
    bytes > MOST_BYTES as usize
}

/// The caller's request id where it is one that logs can carry, else a new one.
pub(crate) fn request_id(given: &HeaderMap) -> HeaderValue {
    match given.get(REQUEST_ID) {
        Some(value) if is_sane(value.as_bytes()) => value.clone(),
        _ => HeaderValue::from_str(&RequestId::generate().to_string()).expect("a UUID is visible ASCII"),
    }
}

fn is_sane(id: &[u8]) -> bool {
    (1..=LONGEST_REQUEST_ID).contains(&id.len())
        && id
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte))
}

/// The media type of the content, in lower case and without parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let bare = value.split_once(';').map_or(value, |(bare, _)| bare);
    Some(bare.trim().to_ascii_lowercase())
}

/// Whether the content is in UTF-8, which is so unless its type says otherwise.
pub(crate) fn is_utf8(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let parameters = value.unwrap_or_default().split(';').skip(1);
    let mut charsets = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.trim().trim_matches('"'))
    });
    charsets.all(|charset| charset.eq_ignore_ascii_case("utf-8"))
}

/// Whether the caller shows something that looks like an API key, or an access token: three parts of base64url, the first of which
/// is JSON's beginning.
/// Whether it is a good one is for the service to say.
pub(crate) fn has_token(headers: &HeaderMap) -> bool {
    const SHORTEST_PART: usize = 16;
    let Some((scheme, token)) = headers
        .get(header::AUTHORIZATION)
        .and_then(|it| it.to_str().ok()?.split_once(' '))
    else {
        return false;
    };
    let is_part = |part: &str| {
        part.len() >= SHORTEST_PART && part.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it))
    };
    let token = token.trim();
    if Secret::looks_like(token) {
        return scheme.eq_ignore_ascii_case("bearer") && Secret::read(token).is_some();
    }
    scheme.eq_ignore_ascii_case("bearer")
        && token.starts_with("ey")
        && token.split('.').count() == 3
        && token.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn only_listed_headers_pass() {
        let given = headers(&[
            ("authorization", "Bearer t"),
            ("traceparent", "00-1-1-01"),
            ("x-studios-user", "someone"),
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("grpc-trace-bin", "AA"),
            ("connection", "close"),
            ("cookie", "a=b"),
        ]);
        let passed = forwarded(&given);
        assert_eq!(passed.len(), 2);
        assert!(passed.contains_key("authorization") && passed.contains_key("traceparent"));
    }

    #[test]
    fn a_second_value_of_a_header_does_not_pass() {
        let mut given = headers(&[("authorization", "Bearer one")]);
        given.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer two"));
        assert_eq!(forwarded(&given).get_all(header::AUTHORIZATION).iter().count(), 1);
    }

    #[test]
    fn headers_are_too_large_together() {
        let mut given = HeaderMap::new();
        given.insert("a", HeaderValue::from_bytes(&[b'x'; 9_000]).unwrap());
        assert!(!too_large(&given));
        given.insert("b", HeaderValue::from_bytes(&[b'x'; 9_000]).unwrap());
        assert!(too_large(&given));
    }

    #[test]
    fn a_request_id_is_kept_if_it_is_plain_and_made_otherwise() {
        assert_eq!(request_id(&headers(&[("x-request-id", "abc-1.2_3")])), "abc-1.2_3");
        for odd in ["", "a b", "a\"b", "{}"] {
            assert_ne!(request_id(&headers(&[("x-request-id", odd)])), odd);
        }
        assert_eq!(request_id(&HeaderMap::new()).len(), 36);
    }

    #[test]
    fn json_is_in_utf_8_unless_it_says_otherwise() {
        for (value, utf8) in [
            ("application/json", true),
            ("application/json; charset=UTF-8", true),
            ("application/json;charset=\"utf-8\"; x=y", true),
            ("application/json; charset=utf-16", false),
            ("application/json; Charset=latin1", false),
            ("application/json; charset=", false),
        ] {
            let given = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(is_utf8(&given), utf8, "{value}");
        }
        assert!(is_utf8(&HeaderMap::new()));
    }

    #[test]
    fn only_what_looks_like_a_token_is_taken_for_one() {
        let has = |value| has_token(&headers(&[("authorization", value)]));
        assert!(has(
            "Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.c2lnbmF0dXJlLW9mLWl0"
        ));
        assert!(has(
            "bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.c2lnbmF0dXJlLW9mLWl0"
        ));
        for garbage in [
            "Bearer token",
            "Bearer ",
            "Bearer a.b.c",
            "Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9",
            "Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.c2lnbmF0dXJl!W9mLWl0",
            "Basic eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.c2lnbmF0dXJlLW9mLWl0",
        ] {
            assert!(!has(garbage), "{garbage}");
        }
        assert!(!has_token(&HeaderMap::new()));
    }

    #[test]
    fn a_media_type_is_read_without_its_parameters() {
        let given = headers(&[("content-type", "Application/JSON; charset=utf-8")]);
        assert_eq!(media_type(&given).as_deref(), Some("application/json"));
        assert_eq!(media_type(&HeaderMap::new()), None);
    }
}
