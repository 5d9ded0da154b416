//! What people decide of outputs that wait for them, and which outputs count in the end.
//!
//! An attempt that waits is recorded with its output and no failure; the decision is an entry of its own after it. What counts
//! is the first decision on an attempt; one on an attempt that does not wait means nothing.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::ids::UserId;

use super::{AttemptFailure, AttemptPayload, Entry, StageTry};
use crate::engine::failure::FailureClass;

/// What a person decided of an attempt's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The attempt.
    #[serde(flatten)]
    pub of: StageTry,
    /// What he decided.
    pub decision: Ruling,
    /// Who.
    pub by: UserId,
    /// Why, in his words, for the next try's prompt; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notes: String,
    /// What is used in place of the attempt's output, where that is allowed; what came of an effect whose outcome was unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// The form he filled in, where one is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<Value>,
}

impl Decision {
    /// Why an attempt fails that was decided so; another try may pass.
    pub fn refusal(&self) -> AttemptFailure {
        let message = match &*self.notes {
            "" => "a person did not let the output pass".to_owned(),
            notes => format!("a person did not let the output pass: {notes}"),
        };
        AttemptFailure::passing(FailureClass::Validation, "decision", message)
    }
}

/// What a person says of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    /// It is used.
    Pass,
    /// It is not used.
    Fail,
    /// It is unknown whether there is one, and it shall be done again whatever comes of that.
    Again,
}

/// The decision on a try, with its entry, if there is one among these entries.
pub fn decision_on<'a>(of: &StageTry, journal: &'a [Entry]) -> Option<(&'a Entry, &'a Decision)> {
    let mut decisions = journal
        .iter()
        .filter_map(|entry| Some((entry, entry.payload.decision()?)));
    decisions.find(|(_, decision)| decision.of == *of)
}

/// The attempts whose output counts, in the order in which that came to be settled.
pub fn passed(journal: &[Entry]) -> impl Iterator<Item = &AttemptPayload> {
    journal.iter().enumerate().filter_map(|(place, entry)| {
        if let Some(attempt) = entry.payload.attempt() {
            return attempt.succeeded().then_some(attempt);
        }
        let decision = entry.payload.decision()?;
        let before = journal[..place].iter().rev();
        let waiting = before
            .take_while(|entry| entry.payload.decision().is_none_or(|it| it.of != decision.of))
            .filter_map(|entry| entry.payload.attempt())
            .find(|attempt| attempt.is_open() && attempt.is(&decision.of));
        waiting.filter(|_| decision.decision == Ruling::Pass)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::{
        journal::Payload,
        testing::{attempt_of, decided, entries, open},
    };

    fn outputs(journal: &[Entry]) -> Vec<&serde_json::Value> {
        passed(journal).map(|it| &it.output).collect()
    }

    #[test]
    fn an_output_that_waits_counts_once_a_person_lets_it_pass() {
        let waiting: Vec<Payload> = vec![
            attempt_of("a", 1, 1, json!(1)).into(),
            open(attempt_of("b", 1, 1, json!(2))).into(),
        ];
        assert_eq!(outputs(&entries(waiting.clone())), [1]);
        let pass = decided("b", 1, 1, Ruling::Pass, "");
        assert_eq!(outputs(&entries([waiting.clone(), vec![pass]].concat())), [1, 2]);
        let fail = decided("b", 1, 1, Ruling::Fail, "");
        assert_eq!(outputs(&entries([waiting, vec![fail]].concat())), [1]);
    }

    #[test]
    fn only_the_first_decision_on_an_attempt_that_waits_means_anything() {
        let journal = entries(vec![
            attempt_of("a", 1, 1, json!(1)).into(),
            decided("a", 1, 1, Ruling::Pass, ""),
            decided("b", 1, 1, Ruling::Pass, ""),
            open(attempt_of("b", 1, 1, json!(2))).into(),
            decided("b", 1, 2, Ruling::Pass, ""),
            decided("b", 2, 1, Ruling::Pass, ""),
        ]);
        assert_eq!(outputs(&journal), [1]);
        let twice = entries(vec![
            open(attempt_of("b", 1, 1, json!(2))).into(),
            decided("b", 1, 1, Ruling::Fail, "no"),
            decided("b", 1, 1, Ruling::Pass, "yes"),
        ]);
        assert!(outputs(&twice).is_empty());
        let of = twice[1].payload.of_try().unwrap();
        assert_eq!(
            decision_on(&of, &twice).map(|(entry, it)| (entry.seq, &*it.notes)),
            Some((3, "no"))
        );
    }
}
