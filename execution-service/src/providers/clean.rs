//! Foreign text made storable at the border.
//!
//! A model's answer may hold what PostgreSQL's text and jsonb refuse (NUL) or what no string can hold (lone surrogates, invalid
//! UTF-8), and it may be of any size. Everything a provider sends passes through here once, and whoever stores it says whether
//! something had to be changed.

use std::borrow::Cow;

use serde::de::Error as _;
use serde_json::Value;

/// The most bytes of a text that are kept.
pub const MAX_TEXT_BYTES: usize = 1 << 20;
/// How many lists and objects of JSON may stand in each other. Readers of what it becomes part of give up beyond a depth:
/// `serde_json` at 128 levels, protobuf at 100, of which an object takes three.
const MAX_DEPTH: usize = 24;

const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// The text without NUL and no longer than [`MAX_TEXT_BYTES`], and whether that changed it.
pub fn storable(text: &str) -> (String, bool) {
    let mut kept = text.replace('\0', "");
    kept.truncate(kept.floor_char_boundary(MAX_TEXT_BYTES));
    let changed = kept.len() != text.len();
    (kept, changed)
}

/// The bytes as text: what is not UTF-8 becomes U+FFFD, then as [`storable`] but of any length.
pub fn text_of(bytes: &[u8]) -> (String, bool) {
    let text = String::from_utf8_lossy(bytes);
    let replaced = matches!(text, Cow::Owned(_));
    if text.contains('\0') {
        (text.replace('\0', ""), true)
    } else {
        (text.into_owned(), replaced)
    }
}

/// Parses JSON text that may hold escapes of NUL (taken out) and of lone surrogates (which become U+FFFD, as parsers
/// refuse them), and says whether it did. Refuses what is nested deeper than can be stored and read again.
pub fn parse_json(text: &str) -> Result<(Value, bool), serde_json::Error> {
    let safe = without_bad_escapes(text);
    let changed = matches!(safe, Cow::Owned(_));
    let value: Value = serde_json::from_str(&safe)?;
    if is_deeper(&value, MAX_DEPTH) {
        return Err(serde_json::Error::custom(format!(
            "nested more than {MAX_DEPTH} levels deep"
        )));
    }
    let (value, cleaned) = storable_json(value);
    Ok((value, changed || cleaned))
}

/// The value with every string and key [`storable`], and whether that changed it.
pub fn storable_json(value: Value) -> (Value, bool) {
    match value {
        Value::String(text) => {
            let (text, changed) = storable(&text);
            (Value::String(text), changed)
        }
        Value::Array(items) => {
            let mut changed = false;
            let items = items
                .into_iter()
                .map(|item| note(storable_json(item), &mut changed))
                .collect();
            (Value::Array(items), changed)
        }
        Value::Object(members) => {
            let mut changed = false;
            let members = members
                .into_iter()
                .map(|(key, value)| {
                    (
                        note(storable(&key), &mut changed),
                        note(storable_json(value), &mut changed),
                    )
                })
                .collect();
            (Value::Object(members), changed)
        }
        other => (other, false),
    }
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| is_deeper(item, levels - 1)),
        Value::Object(members) => levels == 0 || members.values().any(|member| is_deeper(member, levels - 1)),
        _ => false,
    }
}

fn note<T>((kept, changed): (T, bool), so_far: &mut bool) -> T {
    *so_far |= changed;
    kept
}

/// JSON text with the escapes of NUL taken out and those of lone surrogates replaced.
pub(crate) fn without_bad_escapes(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('\\')) {
        let start = at + found;
        let (end, replacement) = match escaped_unit(text, start) {
            None => (
                start + 1 + text[start + 1..].chars().next().map_or(0, char::len_utf8),
                None,
            ),
            Some(0) => (start + 6, Some(None)),
            Some(0xD800..=0xDBFF) if matches!(escaped_unit(text, start + 6), Some(0xDC00..=0xDFFF)) => {
                (start + 12, None)
            }
            Some(0xD800..=0xDFFF) => (start + 6, Some(Some(REPLACEMENT))),
            Some(_) => (start + 6, None),
        };
        if let Some(replacement) = replacement {
            out.push_str(&text[copied..start]);
            out.extend(replacement);
            copied = end;
        }
        at = end;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// The UTF-16 unit that a `\uXXXX` at this place stands for.
fn escaped_unit(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
    digits
        .bytes()
        .all(|b| b.is_ascii_hexdigit())
        .then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn text_that_is_storable_stays_as_it_is() {
        assert_eq!(
            storable("a line\nand ünïcode \u{1F600}"),
            ("a line\nand ünïcode \u{1F600}".to_owned(), false)
        );
    }

    #[test]
    fn nul_is_taken_out_and_size_is_capped_at_a_character() {
        assert_eq!(storable("a\0b"), ("ab".to_owned(), true));
        let long = "é".repeat(MAX_TEXT_BYTES);
        let (kept, changed) = storable(&long);
        assert!(changed && kept.len() <= MAX_TEXT_BYTES && kept.len() > MAX_TEXT_BYTES - 4);
    }

    #[test]
    fn invalid_utf8_is_replaced_and_said() {
        assert_eq!(text_of(b"a\xFFb"), ("a\u{FFFD}b".to_owned(), true));
        assert_eq!(text_of(b"a\0b"), ("ab".to_owned(), true));
        assert_eq!(text_of("schön".as_bytes()), ("schön".to_owned(), false));
    }

    #[test]
    fn escapes_that_no_string_or_database_can_hold_are_replaced() {
        for (text, expected) in [
            (r#"{"a":"x\u0000y"}"#, json!({"a": "xy"})),
            (r#"{"a":"x\ud800y"}"#, json!({"a": "x\u{FFFD}y"})),
            (r#"{"a":"x\udc00\ud83dy"}"#, json!({"a": "x\u{FFFD}\u{FFFD}y"})),
            (r#"{"a\u0000":["\uDBFF","\u0000"]}"#, json!({"a": ["\u{FFFD}", ""]})),
            (r#"["\ud83d\u0041"]"#, json!(["\u{FFFD}A"])),
        ] {
            assert_eq!(parse_json(text).unwrap(), (expected, true), "{text}");
        }
    }

    #[test]
    fn escapes_that_are_in_order_and_escaped_backslashes_are_left_alone() {
        for (text, expected) in [
            (r#"["\ud83d\ude00"]"#, json!(["\u{1F600}"])),
            (r#"["\\u0000 \\ud800"]"#, json!(["\\u0000 \\ud800"])),
            (r#"["\n\"\u00e9"]"#, json!(["\n\"é"])),
        ] {
            assert_eq!(parse_json(text).unwrap(), (expected, false), "{text}");
        }
        assert!(parse_json("{\"a\":\\").is_err());
        assert!(parse_json("\\é").is_err());
    }

    #[test]
    fn json_that_could_not_be_read_again_is_refused() {
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse_json(&nested(MAX_DEPTH)).is_ok());
        assert!(parse_json(&nested(MAX_DEPTH + 1)).is_err());
    }

    proptest! {
        #[test]
        fn whatever_comes_the_result_is_storable_and_nothing_else_changes(text in any::<String>()) {
            let (kept, changed) = storable(&text);
            prop_assert!(!kept.contains('\0'));
            prop_assert_eq!(changed, kept != text);
            prop_assert_eq!(storable(&kept), (kept.clone(), false));
        }

        #[test]
        fn bad_escapes_anywhere_never_stop_valid_json_from_being_read(
            units in prop::collection::vec(any::<u16>(), 0..20)
        ) {
            use std::fmt::Write;
            let mut text = String::from("[\"");
            for unit in units {
                write!(text, "\\u{unit:04x}").unwrap();
            }
            text.push_str("\"]");
            let (value, _) = parse_json(&text).unwrap();
            prop_assert!(!value[0].as_str().unwrap().contains('\0'));
        }

        #[test]
        fn escape_repair_survives_any_text(text in any::<String>()) {
            let _ = parse_json(&text);
        }
    }
}
