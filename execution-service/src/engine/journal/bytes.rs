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

/// The largest whole number that canonical JSON, whose numbers are doubles, writes as it is.
const MAX_EXACT: u64 = 1 << 53;

/// The canonical JSON of a value.
pub fn canonical(value: &impl Serialize) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(value).expect("JSON values have string keys and finite numbers")
}

/// Whether serde_json writes the value as RFC 8785 wants it, at a fraction of the canonicalizer's cost: then every number is
/// whole and exact, and every name ASCII, so that the map's order is that of UTF-16. It also reads back as it was.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => number.as_u64().map_or_else(
            || number.as_i64().is_some_and(|it| it.unsigned_abs() <= MAX_EXACT),
            |it| it <= MAX_EXACT,
        ),
        Value::Array(items) => items.iter().all(is_plain),
        Value::Object(members) => members.iter().all(|(name, value)| name.is_ascii() && is_plain(value)),
    }
}

/// The entry's bytes, and the entry as it is read from them.
pub(super) fn sealed(entry: Entry) -> (Vec<u8>, Entry) {
    let value = stored(&entry);
    if !is_plain(&value) {
        let bytes = canonical(&value);
        let entry = decode(&bytes).expect("an entry reads its own bytes");
        return (bytes, entry);
    }
    let bytes = serde_json::to_vec(&value).expect("JSON values have string keys");
    let entry = as_stored(entry);
    debug_assert_eq!(bytes, canonical(&value), "plain values are canonical");
    debug_assert_eq!(
        decode(&bytes).ok().as_ref(),
        Some(&entry),
        "a plain entry is what its bytes say"
    );
    (bytes, entry)
}

/// The entry as it is read back where its values are plain.
fn as_stored(mut entry: Entry) -> Entry {
    entry.occurred_at = micros::floor(entry.occurred_at);
    if let Payload::Attempt(attempt) = &mut entry.payload {
        attempt.started_at = micros::floor(attempt.started_at);
        if attempt.failure.is_some() {
            attempt.output = Value::Null;
        }
    }
    entry
}

/// The entry as JSON, without an attempt's output where there is none or it says again what stands beside it.
fn stored(entry: &Entry) -> Value {
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
    value
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

    /// The time without what is not stored of it.
    pub(crate) fn floor(time: OffsetDateTime) -> OffsetDateTime {
        let time = time.to_offset(UtcOffset::UTC);
        time.replace_microsecond(time.microsecond())
            .expect("a second has a million of them")
    }

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
