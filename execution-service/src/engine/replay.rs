//! The prompt of a recorded attempt, rendered again. The journal does not store prompts: definition, inputs, the entries
//! before the attempt and the chunks on it give the same text, and the attempt's digest proves that it is the same.

use serde_json::{Map, Value};

use super::{
    definition::{Definition, Kind, Stage},
    failure::FailureClass,
    journal::{AttemptFailure, Entry, Source},
    request::{HttpRequest, Prompt, Renderer},
    state::{Given, State},
};

/// Why a prompt cannot be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The journal has no attempt of the definition at this place.
    #[error("the journal has no attempt of the definition at this place")]
    NoAttempt,
    /// What is rendered now is not what was sent then.
    #[error("the rendered prompt is not the one that was sent")]
    Differs,
}

/// The prompt of the attempt with this `seq`. The journal may go on after it. Of an attempt that failed before a prompt was
/// rendered, the texts are empty.
pub fn prompt(
    definition: &Definition,
    inputs: &Map<String, Value>,
    journal: &[Entry],
    seq: i64,
) -> Result<Prompt, ReplayError> {
    let place = journal
        .iter()
        .position(|entry| entry.seq == seq)
        .ok_or(ReplayError::NoAttempt)?;
    let before = &journal[..place];
    let attempt = journal[place].payload.attempt().ok_or(ReplayError::NoAttempt)?;
    let stage = definition
        .position(&attempt.stage)
        .map(|place| &definition.stages[place])
        .ok_or(ReplayError::NoAttempt)?;
    let given = Given { definition, inputs };
    let state = State::after(given, before);
    let of = attempt.of_try();
    let call = state.call(given, &of).ok_or(ReplayError::NoAttempt)?;
    if attempt.prompt_sha256.is_empty() {
        return Ok(Prompt {
            inputs: call.inputs,
            ..Prompt::default()
        });
    }
    let renderer = Renderer {
        context: &state.context_for(given, &of),
        mapped: &call.inputs,
        notes: &call.notes,
    };
    let prompt = render(&renderer, stage, &attempt.sources).map_err(|_| ReplayError::Differs)?;
    if prompt.sha256() == attempt.prompt_sha256 {
        Ok(prompt)
    } else {
        Err(ReplayError::Differs)
    }
}

/// What a stage sends, as a prompt.
pub(super) fn render(renderer: &Renderer<'_>, stage: &Stage, sources: &[Source]) -> Result<Prompt, AttemptFailure> {
    match &stage.kind {
        Kind::Llm(llm) => renderer.prompt(llm, sources),
        Kind::Retrieve(retrieval) => renderer.query(retrieval),
        Kind::Http(http) => renderer.http(http).map(HttpRequest::into_prompt),
        Kind::File(keep) => renderer.file(keep).map(|it| it.prompt),
        Kind::Approval(approval) => renderer.question(&approval.question),
        Kind::Activepieces(_) => Ok(renderer.flow()),
        Kind::Flowise { question, .. } => renderer.question(question),
        other => Err(AttemptFailure::lasting(
            FailureClass::Validation,
            "kind",
            format!("{} has no prompt", other.name()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::{
        context::Context,
        definition::Llm,
        journal::{AttemptPayload, Payload, Ruling},
        next::{Action, next},
        testing::{attempt_of, decided, entries, failing, open, stage},
    };

    fn definition() -> Definition {
        let mut second = stage("two");
        second.retry_limit = 2;
        second.input_mapping = [("x".to_owned(), "stage_1.output".to_owned())].into();
        second.kind = Kind::Llm(Llm {
            prompt: "{{ x }} {{ inputs.t }} {{ validation_notes }}".into(),
            system: "s".into(),
            ..match stage("two").kind {
                Kind::Llm(llm) => llm,
                _ => unreachable!("a test stage calls a model"),
            }
        });
        Definition {
            stages: vec![stage("one"), second],
            ..Definition::default()
        }
    }

    /// A journal whose second stage does not pass at first, each prompt's digest as the worker would record it.
    fn run_with(
        not_passed: impl FnOnce(AttemptPayload) -> Vec<Payload>,
    ) -> (Definition, Map<String, Value>, Vec<Entry>) {
        let definition = definition();
        let inputs = json!({"t": "tea"}).as_object().unwrap().clone();
        let tried = |rest: &[Payload]| {
            let journal = entries(rest.to_vec());
            let Action::Call(call) = next(&definition, &inputs, &journal).remove(0) else {
                panic!("a call")
            };
            let context = Context::new(&definition, &inputs, &journal);
            let renderer = Renderer {
                context: &context,
                mapped: &call.inputs,
                notes: &call.notes,
            };
            let mut attempt = attempt_of("two", 1, call.key.attempt, json!("out"));
            attempt.prompt_sha256 = render(&renderer, &definition.stages[1], &attempt.sources)
                .unwrap()
                .sha256();
            attempt
        };
        let mut rest = vec![attempt_of("one", 1, 1, json!("first")).into()];
        let first = tried(&rest);
        rest.extend(not_passed(first));
        let second = tried(&rest);
        rest.push(second.into());
        let journal = entries(rest);
        (definition, inputs, journal)
    }

    fn run() -> (Definition, Map<String, Value>, Vec<Entry>) {
        run_with(|first| {
            let mut failed = failing(first);
            failed.failure.as_mut().unwrap().class = FailureClass::Validation;
            failed.validation.notes = "shorter".into();
            vec![failed.into()]
        })
    }

    #[test]
    fn the_notes_of_a_person_are_in_the_prompt_that_is_rendered_again() {
        let (definition, inputs, journal) =
            run_with(|first| vec![open(first).into(), decided("two", 1, 1, Ruling::Fail, "warmer")]);
        let second = prompt(&definition, &inputs, &journal, 5).unwrap();
        assert_eq!(second.prompt, "first tea warmer");
        assert_eq!(second.inputs["validation_notes"], "warmer");
    }

    #[test]
    fn the_prompt_that_was_sent_is_rendered_again() {
        let (definition, inputs, journal) = run();
        let first = prompt(&definition, &inputs, &journal, 3).unwrap();
        assert_eq!((first.prompt.as_str(), first.system.as_str()), ("first tea ", "s"));
        let second = prompt(&definition, &inputs, &journal, 4).unwrap();
        assert_eq!(second.prompt, "first tea shorter");
        assert_eq!(second.inputs["validation_notes"], "shorter");
    }

    #[test]
    fn a_prompt_that_is_not_the_one_that_was_sent_is_not_shown() {
        let (mut definition, inputs, journal) = run();
        if let Kind::Llm(llm) = &mut definition.stages[1].kind {
            llm.prompt = format!("{}!", &*llm.prompt).into();
        }
        assert_eq!(prompt(&definition, &inputs, &journal, 3), Err(ReplayError::Differs));
    }

    #[test]
    fn an_attempt_that_came_to_no_prompt_has_none() {
        let (definition, inputs, journal) = run();
        assert_eq!(prompt(&definition, &inputs, &journal, 2), Ok(Prompt::default()));
        assert_eq!(prompt(&definition, &inputs, &journal, 1), Err(ReplayError::NoAttempt));
        assert_eq!(prompt(&definition, &inputs, &journal, 9), Err(ReplayError::NoAttempt));
    }
}
