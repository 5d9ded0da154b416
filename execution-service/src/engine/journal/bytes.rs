//! An entry's canonical bytes (RFC 8785): written once, hashed, and never rewritten.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use super::{AttemptPayload, Entry, Payload};
use crate::engine::passages;

/// Stored bytes that are no entry this version knows.
#[derive(Debug, thiserror::Error)]
#[error("malformed journal entry: {0}")]
pub struct MalformedEntry(#[from] serde_json::Error);

#[derive(Serialize, Deserialize)]
struct Stored<P> {
    seq: i64,
    #[serde(with = "micros")]
    occurred_at: OffsetDateTime,
    #[serde(flatten)]
    payload: P,
}

/// The canonical JSON of a value.
pub fn canonical(value: &impl Serialize) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(value).expect("JSON values have string keys and finite numbers")
}

/// The entry as JSON, without an attempt's output where there is none or it says again what stands beside it.
pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    let stored = Stored {
        seq: entry.seq,
        occurred_at: entry.occurred_at,
        payload: &entry.payload,
    };
    let mut value = serde_json::to_value(stored).expect("an entry has string keys and finite numbers");
    if let Some(attempt) = entry.payload.attempt()
        && (attempt.failure.is_some() || attempt.output == implied_output(attempt))
        && let Some(members) = value.as_object_mut()
    {
        members.remove("output");
    }
    canonical(&value)
}

pub(super) fn decode(stored: &[u8]) -> Result<Entry, MalformedEntry> {
    let value: Value = serde_json::from_slice(stored)?;
    let output_omitted = value.get("output").is_none();
    let Stored {
        seq,
        occurred_at,
        mut payload,
    } = serde_json::from_value::<Stored<Payload>>(value)?;
    if let Payload::Attempt(attempt) = &mut payload
        && output_omitted
        && attempt.failure.is_none()
    {
        attempt.output = implied_output(attempt);
    }
    Ok(Entry {
        seq,
        occurred_at,
        payload,
    })
}

/// What an attempt's output is where nothing else is said: the model's text, or the chunks where no model was called.
fn implied_output(attempt: &AttemptPayload) -> Value {
    if attempt.raw_output.is_empty() {
        passages::output(&attempt.sources)
    } else {
        Value::from(attempt.raw_output.as_str())
    }
}

/// Times as RFC 3339 in UTC with exactly six digits of a second.
pub(super) mod micros {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
    use time::{
        OffsetDateTime, PrimitiveDateTime, UtcOffset, format_description::BorrowedFormatItem,
        macros::format_description,
    };

    const FORMAT: &[BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

    pub(crate) fn serialize<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
        let text = time
            .to_offset(UtcOffset::UTC)
            .format(FORMAT)
            .expect("the format names no part that is missing");
        serializer.serialize_str(&text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OffsetDateTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        PrimitiveDateTime::parse(&text, FORMAT)
            .map(PrimitiveDateTime::assume_utc)
            .map_err(D::Error::custom)
    }
}
