//! The call-back: a URL of the gateway that a flow posts to at its end, and what it may post there.
//!
//! Whoever has the URL may say once how this one start ended, until it expires. It is authenticated under the key ring and
//! bound to the execution and the try; nothing of it is stored.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use service_kit::{ids::ExecutionId, keys::KeyRing};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use super::scrub;
use crate::providers::clean;

/// Where the gateway takes call-backs; the token follows.
pub const PATH: &str = "/hooks/activepieces/";
/// The largest body that is taken, in bytes.
pub const MAX_BYTES: usize = 256 << 10;

/// The longest message of a failure that is kept, in bytes.
const MAX_MESSAGE_BYTES: usize = 2 << 10;
/// What the tokens are authenticated for.
const PURPOSE: &str = "activepieces-callback";
const EXECUTION_BYTES: usize = 16;
const EXPIRY_BYTES: usize = 8;
/// How much of the digest of the try's key there is.
const TRY_BYTES: usize = 16;
const DATA_BYTES: usize = EXECUTION_BYTES + EXPIRY_BYTES + TRY_BYTES;
/// The longest text that can be a token.
const MAX_TEXT: usize = 256;

/// What a token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The execution.
    pub execution: ExecutionId,
    /// The beginning of the digest of our correlation id.
    pub of: [u8; TRY_BYTES],
}

impl Claim {
    /// Whether it is about the start with this correlation id.
    pub fn is_of(&self, tag: &str) -> bool {
        digest(tag) == self.of
    }
}

/// The URL that the start with this correlation id calls back by.
pub fn url(gateway: &Url, keys: &KeyRing, execution: ExecutionId, tag: &str, expires: OffsetDateTime) -> String {
    let mut token = Vec::with_capacity(DATA_BYTES + 36);
    token.extend(execution.as_uuid().as_bytes());
    token.extend(expires.unix_timestamp().to_be_bytes());
    token.extend(digest(tag));
    let mac = keys.mac(PURPOSE, &token);
    token.extend(mac);
    let base = gateway.as_str().trim_end_matches('/');
    format!("{base}{PATH}{}", BASE64_URL_SAFE_NO_PAD.encode(token))
}

/// What a token says, if it is one of ours and has not expired.
pub fn claim(keys: &KeyRing, token: &str, now: OffsetDateTime) -> Option<Claim> {
    if token.len() > MAX_TEXT {
        return None;
    }
    let token = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
    let (data, mac) = token.split_at_checked(DATA_BYTES)?;
    if !keys.verify_mac(PURPOSE, data, mac) {
        return None;
    }
    let (execution, rest) = data.split_first_chunk::<EXECUTION_BYTES>()?;
    let (expires, of) = rest.split_first_chunk::<EXPIRY_BYTES>()?;
    (i64::from_be_bytes(*expires) > now.unix_timestamp()).then_some(Claim {
        execution: Uuid::from_bytes(*execution).into(),
        of: of.try_into().ok()?,
    })
}

/// What a flow says of its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// The correlation id that it names, if it names one.
    pub correlation_id: Option<String>,
    /// What came out; with a failure, nothing.
    pub result: Value,
    /// Why it failed, if it says so.
    pub failure: Option<String>,
}

/// Reads a call-back's body: `{"status": "failed", "message": …}` says that it failed; else what stands under `output` came out,
/// or the whole body where nothing does. A body that is no JSON came out as text.
pub fn read(body: &[u8]) -> Said {
    let (text, _) = clean::text_of(body);
    let whole = match clean::parse_json(&text) {
        Ok((value, _)) => value,
        Err(_) => Value::String(clean::storable(&text).0),
    };
    let whole = scrub::value(whole, &[]);
    let Value::Object(mut members) = whole else {
        return Said {
            correlation_id: None,
            result: whole,
            failure: None,
        };
    };
    let correlation_id = taken(&mut members, &["correlation_id", "correlationId"]);
    let failed = members.get("status").and_then(Value::as_str).is_some_and(|it| {
        ["failed", "failure", "error"]
            .iter()
            .any(|word| it.eq_ignore_ascii_case(word))
    });
    if failed {
        let mut message =
            taken(&mut members, &["message", "error"]).unwrap_or_else(|| "the flow says that it failed".into());
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        return Said {
            correlation_id,
            result: Value::Null,
            failure: Some(message),
        };
    }
    let result = members.remove("output").unwrap_or(Value::Object(members));
    Said {
        correlation_id,
        result,
        failure: None,
    }
}

/// The text that stands under the first of these names.
fn taken(members: &mut Map<String, Value>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| match members.remove(*name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    })
}

fn digest(tag: &str) -> [u8; TRY_BYTES] {
    let whole = Sha256::digest(tag);
    *whole.first_chunk().expect("a digest has 32 bytes")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::Duration;

    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-01-01 00:00 UTC);

    fn token(keys: &KeyRing, execution: ExecutionId) -> String {
        let gateway = Url::parse("https://studios.example/").unwrap();
        let url = url(&gateway, keys, execution, "e/a/1/0/1", NOW + Duration::HOUR);
        url.strip_prefix("https://studios.example/hooks/activepieces/")
            .unwrap()
            .to_owned()
    }

    #[test]
    fn a_token_says_its_execution_and_try_until_it_expires() {
        let (keys, execution) = (KeyRing::generate(), ExecutionId::generate());
        let token = token(&keys, execution);
        let claimed = claim(&keys, &token, NOW).unwrap();
        assert_eq!(claimed.execution, execution);
        assert!(claimed.is_of("e/a/1/0/1") && !claimed.is_of("e/a/1/0/2"));
        assert_eq!(claim(&keys, &token, NOW + Duration::HOUR), None, "expired");
    }

    #[test]
    fn no_forged_changed_or_cut_token_says_anything() {
        let (keys, execution) = (KeyRing::generate(), ExecutionId::generate());
        let token = token(&keys, execution);
        assert_eq!(claim(&KeyRing::generate(), &token, NOW), None);
        for i in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[i] = if changed[i] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last character's lowest bits stand for nothing, and none but zeros are taken there.
            assert_eq!(claim(&keys, &changed, NOW), None, "{i}");
            assert_eq!(claim(&keys, &token[..i], NOW), None, "{i}");
        }
        for text in ["", "....", &"A".repeat(10_000)] {
            assert_eq!(claim(&keys, text, NOW), None);
        }
    }

    #[test]
    fn a_flow_says_what_came_out_or_that_it_failed() {
        let said = |body: Value| read(body.to_string().as_bytes());
        assert_eq!(
            said(json!({"output": {"sum": 7}, "correlation_id": "e/a"})),
            Said {
                correlation_id: Some("e/a".into()),
                result: json!({"sum": 7}),
                failure: None,
            }
        );
        assert_eq!(
            said(json!({"sum": 7, "correlationId": "e/a"})).result,
            json!({"sum": 7})
        );
        assert_eq!(
            said(json!({"status": "FAILED", "message": "no"})).failure.as_deref(),
            Some("no")
        );
        assert_eq!(said(json!([1])).result, json!([1]));
        assert_eq!(read(b"plain\0 text").result, json!("plain text"));
        assert_eq!(read(b"").result, json!(""));
    }
}
