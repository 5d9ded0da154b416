//! A change to a document as it is proposed: a unified diff to read, and the text that it leads to.
//!
//! A proposal is made of one text and fits no other. Whoever accepts it gets the very text that was proposed, and only while
//! the document still is what the proposal was made of; nothing is merged behind a member's back.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use similar::TextDiff;

/// How long a small diff is looked for; what is found after that is larger, and as right.
const PATIENCE: Duration = Duration::from_millis(100);
/// Lines around a change.
const CONTEXT: usize = 3;

/// Why a proposal is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the document has changed since this was proposed")]
pub struct Stale;

/// A change that somebody may accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// SHA-256 of the text that it was made of.
    pub base: [u8; 32],
    /// The change as a unified diff.
    pub diff: String,
    /// The text with the change.
    pub text: String,
}

impl Proposal {
    /// The change from one text to another under the document's title; none if they are equal.
    pub fn between(title: &str, before: &str, after: String) -> Option<Self> {
        if before == after {
            return None;
        }
        // A title of two lines would end the diff's head early.
        let name = title.split_whitespace().collect::<Vec<_>>().join(" ");
        let diff = TextDiff::configure()
            .timeout(PATIENCE)
            .diff_lines(before, &after)
            .unified_diff()
            .context_radius(CONTEXT)
            .header(&name, &name)
            .to_string();
        Some(Self {
            base: hash(before),
            diff,
            text: after,
        })
    }

    /// The new text of a document that now has this one.
    ///
    /// # Errors
    ///
    /// [`Stale`] if that is not the text which the proposal was made of.
    pub fn accept(&self, current: &str) -> Result<&str, Stale> {
        if hash(current) == self.base {
            Ok(&self.text)
        } else {
            Err(Stale)
        }
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a reader of the diff makes of the text, by its line numbers.
    fn patched(before: &str, diff: &str) -> String {
        let old: Vec<&str> = before.split_inclusive('\n').collect();
        let mut made = String::new();
        let mut at = 0;
        let mut takes = false;
        for line in diff.split_inclusive('\n').skip(2) {
            if let Some(hunk) = line.strip_prefix("@@ -") {
                let range = hunk.split(' ').next().unwrap();
                let (start, count) = range.split_once(',').unwrap_or((range, "1"));
                let start: usize = start.parse().unwrap();
                let start = if count == "0" { start } else { start - 1 };
                made.extend(old[at..start].iter().copied());
                at = start;
            } else if line.starts_with("\\ ") {
                if takes {
                    made.truncate(made.len() - 1);
                }
            } else {
                let (sign, text) = line.split_at(1);
                takes = sign != "-";
                if sign != "+" {
                    assert_eq!(old[at].trim_end_matches('\n'), text.trim_end_matches('\n'));
                    at += 1;
                }
                if takes {
                    made.push_str(text);
                }
            }
        }
        made.extend(old[at..].iter().copied());
        made
    }

    #[test]
    fn a_change_reads_as_a_unified_diff() {
        let proposal = Proposal::between("The\nplan", "one\ntwo\nthree\n", "one\n2\nthree\n".into()).unwrap();
        assert_eq!(
            proposal.diff,
            "--- The plan\n+++ The plan\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"
        );
    }

    #[test]
    fn no_change_is_no_proposal() {
        assert_eq!(Proposal::between("t", "same\n", "same\n".into()), None);
    }

    #[test]
    fn a_proposal_is_refused_once_the_document_has_changed() {
        let proposal = Proposal::between("t", "a\n", "b\n".into()).unwrap();
        assert_eq!(proposal.accept("a\n"), Ok("b\n"));
        assert_eq!(proposal.accept("a \n"), Err(Stale));
        assert_eq!(proposal.accept("b\n"), Err(Stale));
    }

    proptest! {
        #[test]
        fn a_diff_leads_from_its_base_to_the_proposed_text(before in "([ab]{0,2}\n){0,12}[ab]?", after in "([ab]{0,2}\n){0,12}[ab]?") {
            if let Some(proposal) = Proposal::between("t", &before, after.clone()) {
                prop_assert_eq!(patched(&before, &proposal.diff), after);
            }
        }
    }
}
