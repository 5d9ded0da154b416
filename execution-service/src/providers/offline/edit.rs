//! Changed documents: what the offline model answers with where it is told to change one (see [`crate::agents`]).
//!
//! It does what is said in so many words: replace "a" with "b", remove "a", add "a", at the end or after or before "b". Every text that it
//! puts in stands in what was asked. It fails where it does not understand, or where the text to be changed is not there, rather
//! than guess.

use std::{borrow::Cow, sync::LazyLock};

use regex::Regex;

use super::{Call, CallError};
use crate::{agents::prompt, engine::failure::FailureClass};

const QUOTED: &str = r#"(?:"([^"]+)"|“([^”]+)”|'([^']+)'|`([^`]+)`)"#;

static REPLACE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r"(?i)\b(?:replace|change|rename|correct)\b[^\x22“'`\n]*{QUOTED}\s*(?:with|by|to|into)\s*{QUOTED}"
    ))
});
static REMOVE: LazyLock<Regex> =
    LazyLock::new(|| pattern(&format!(r"(?i)\b(?:remove|delete|drop)\b[^\x22“'`\n]*{QUOTED}")));
static ADD: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r"(?i)\b(?:add|append|insert)\b[^\x22“'`\n]*{QUOTED}(?:\s*(after|before)\b[^\x22“'`\n]*{QUOTED})?"
    ))
});
static BARE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?im)\b(?:replace|change)\s+(.+?)\s+(?:with|by|to|into)\s+(.+?)\s*[.!]?$"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the expression is right")
}

/// The changed document, where the call asks for one.
pub(super) fn answer(call: &Call) -> Option<Result<String, CallError>> {
    if call.system != prompt::EDIT {
        return None;
    }
    let asked = super::without_earlier(&call.prompt);
    let (_, after) = asked.split_once(prompt::CHANGE.0)?;
    let between = format!("{}{}", prompt::CHANGE.1, prompt::DOCUMENT.0);
    let (change, after) = after.split_once(&between)?;
    let document = after.strip_suffix(prompt::DOCUMENT.1)?;
    Some(changed(change, document).ok_or_else(|| {
        let message = "the offline model changes texts by: replace \"a\" with \"b\", remove \"a\", add \"a\" (after \"b\"), where \
                       the document has them";
        CallError::new(FailureClass::Validation, "nothing_to_change", message)
    }))
}

/// The document with all changes that are asked for; none where there is none, or one cannot be made.
fn changed(change: &str, document: &str) -> Option<String> {
    let mut text = Cow::Borrowed(document);
    let mut is_changed = false;
    let quoted = |found: &regex::Captures<'_>, first: usize| {
        let groups = first..first + 4;
        groups
            .filter_map(|at| found.get(at))
            .map(|it| it.as_str().to_owned())
            .next()
    };
    let mut rest = change.to_owned();
    for found in REPLACE.captures_iter(change) {
        let (from, to) = (quoted(&found, 1)?, quoted(&found, 5)?);
        text = Cow::Owned(replaced(&text, &from, &to)?);
        rest = rest.replacen(&found[0], "", 1);
        is_changed = true;
    }
    for found in REMOVE.captures_iter(&rest.clone()) {
        text = Cow::Owned(replaced(&text, &quoted(&found, 1)?, "")?);
        rest = rest.replacen(&found[0], "", 1);
        is_changed = true;
    }
    for found in ADD.captures_iter(&rest.clone()) {
        let added = quoted(&found, 1)?;
        text = Cow::Owned(
            match (found.get(5).map(|it| it.as_str().to_lowercase()), quoted(&found, 6)) {
                (Some(place), Some(mark)) => {
                    let at = text.find(&mark)?;
                    match place.as_str() {
                        "before" => format!("{}{added} {}", &text[..at], &text[at..]),
                        _ => format!("{} {added}{}", &text[..at + mark.len()], &text[at + mark.len()..]),
                    }
                }
                _ => format!("{}\n\n{added}\n", text.trim_end()),
            },
        );
        is_changed = true;
    }
    if !is_changed {
        for found in BARE.captures_iter(change) {
            text = Cow::Owned(replaced(&text, &found[1], &found[2])?);
            is_changed = true;
        }
    }
    is_changed.then(|| text.into_owned())
}

fn replaced(text: &str, from: &str, to: &str) -> Option<String> {
    text.contains(from).then(|| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "Send it back within 30 days.\n\nWe pay for it.\n";

    #[test]
    fn what_is_said_in_so_many_words_is_done() {
        for (change, expected) in [
            (
                "Please replace \"30 days\" with \"60 days\".",
                "Send it back within 60 days.\n\nWe pay for it.\n",
            ),
            (
                "change 30 days to 14 days",
                "Send it back within 14 days.\n\nWe pay for it.\n",
            ),
            (
                "Remove “We pay for it.” and add 'You pay.' at the end",
                "Send it back within 30 days.\n\nYou pay.\n",
            ),
            (
                "Insert `always` after \"We\"",
                "Send it back within 30 days.\n\nWe always pay for it.\n",
            ),
        ] {
            assert_eq!(changed(change, DOCUMENT).as_deref(), Some(expected), "{change}");
        }
    }

    #[test]
    fn what_is_not_understood_or_not_there_is_not_guessed() {
        for change in [
            "Make it friendlier.",
            "Replace \"90 days\" with \"1 day\"",
            "remove \"nothing\"",
        ] {
            assert_eq!(changed(change, DOCUMENT), None, "{change}");
        }
    }

    #[test]
    fn a_call_that_is_no_change_of_a_document_is_left_alone() {
        assert!(answer(&Call::default()).is_none());
        let call = Call {
            system: prompt::EDIT.into(),
            prompt: "Change.\n\n<change>\nremove \"a\"\n</change>\n\n<document>\na b\n</document>".into(),
            ..Call::default()
        };
        assert_eq!(answer(&call).unwrap().unwrap(), " b");
    }
}
