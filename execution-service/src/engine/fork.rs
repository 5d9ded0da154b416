//! Going on from where another execution was: what a new one begins with, so that what was paid for is not paid for again.
//!
//! The source is read and left as it is. What is kept is what the source had when it last came to the stage, and where that is
//! a map that failed, also the outputs of its items, unless the stage that makes them has changed.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    definition::{Definition, Kind},
    journal::{Entry, Forked, Hash, Kept, Payload},
    state::{Given, State},
};

/// The stage to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin<'a> {
    /// This one, which the source came to.
    Stage(&'a str),
    /// The one whose failure ended the source.
    Failed,
}

/// Why an execution cannot be gone on from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForkError {
    /// There is no journal.
    #[error("the execution has not begun")]
    NotBegun,
    /// It did not fail at a stage.
    #[error("the execution has not failed at a stage")]
    NotFailed,
    /// There is no such stage, in the source or in the new definition.
    #[error("the workflow has no stage \"{0}\"")]
    NoStage(String),
    /// A map runs it.
    #[error("the stage \"{0}\" is run by a map alone")]
    IsBody(String),
    /// The source never came to it.
    #[error("the execution never came to the stage \"{0}\"")]
    NotReached(String),
    /// What would be kept is of stages that the new definition does not have.
    #[error("the new version does not have the stages {}", .0.join(", "))]
    Missing(Vec<String>),
}

/// What a new execution begins with that goes on from another one. `head` is the hash of the source's last entry; `new` the
/// definition that the new execution is pinned to, with the same inputs.
pub fn fork(
    source: Given<'_>,
    journal: &[Entry],
    head: &Hash,
    from: Begin<'_>,
    new: &Definition,
) -> Result<Forked, ForkError> {
    let (Some(Payload::Started(started)), Some(last)) = (journal.first().map(|it| &it.payload), journal.last()) else {
        return Err(ForkError::NotBegun);
    };
    let (place, items) = match from {
        Begin::Stage(name) => {
            let place = source.definition.position(name);
            (place.ok_or_else(|| ForkError::NoStage(name.to_owned()))?, Vec::new())
        }
        Begin::Failed => failed_at(source, journal).ok_or(ForkError::NotFailed)?,
    };
    let name = &source.definition.stages[place].name;
    let target = new.position(name).ok_or_else(|| ForkError::NoStage(name.clone()))?;
    if is_body(new, name) {
        return Err(ForkError::IsBody(name.clone()));
    }
    let mut state = State::new(source.definition);
    state.watch(place);
    for entry in journal {
        state.apply(source, entry);
    }
    let arrival = state
        .into_arrival()
        .ok_or_else(|| ForkError::NotReached(name.clone()))?;
    let named = |place: usize| source.definition.stages[place].name.clone();
    let last_passed = arrival.last_passed;
    // The one that passed last is last here too: it is what a run gives that ends at once.
    let mut places: Vec<usize> = (0..arrival.passed.len())
        .filter(|it| Some(*it) != last_passed)
        .collect();
    places.extend(last_passed);
    let outputs = places.into_iter().filter_map(|place| {
        let passed = arrival.passed[place].as_ref()?;
        Some(Kept {
            stage: named(place),
            visit: passed.visit,
            item: 0,
            attempt: passed.attempt,
            output: (*passed.output).clone(),
        })
    });
    let mut kept: Vec<Kept> = outputs.collect();
    let missing: Vec<String> = kept
        .iter()
        .filter(|it| new.position(&it.stage).is_none())
        .map(|it| it.stage.clone())
        .collect();
    if !missing.is_empty() {
        return Err(ForkError::Missing(missing));
    }
    if same_items(source.definition, place, new, target) {
        kept.extend(items);
    }
    let visits = arrival.visits.iter().enumerate().filter(|(_, visits)| **visits > 0);
    let visits: BTreeMap<String, u32> = visits
        .map(|(place, visits)| (named(place), *visits))
        .filter(|(name, _)| new.position(name).is_some())
        .collect();
    Ok(Forked {
        source_execution: started.execution_id,
        source_seq: last.seq,
        source_hash: hex::encode(head),
        from_stage: name.clone(),
        kept,
        visits,
    })
}

/// The stage whose failure ended the run, with the items of a map that had passed.
fn failed_at(source: Given<'_>, journal: &[Entry]) -> Option<(usize, Vec<Kept>)> {
    let (last, before) = journal.split_last()?;
    let has_failed = matches!(&last.payload, Payload::Finished(finished) if finished.failure.is_some());
    let state = State::after(source, before);
    state.failed_at().filter(|_| has_failed).cloned()
}

fn is_body(definition: &Definition, name: &str) -> bool {
    definition
        .stages
        .iter()
        .any(|stage| matches!(&stage.kind, Kind::Map(fan) if fan.stage == name))
}

/// Whether a map makes of its items what it made of them before.
fn same_items(old: &Definition, at: usize, new: &Definition, to: usize) -> bool {
    let (Kind::Map(before), Kind::Map(now)) = (&old.stages[at].kind, &new.stages[to].kind) else {
        return false;
    };
    let body = |definition: &Definition, name: &str| definition.position(name).map(|it| definition.stages[it].clone());
    before.items_path == now.items_path
        && before.stage == now.stage
        && body(old, &before.stage) == body(new, &now.stage)
}

/// The outputs that are kept, by their stages; of maps those of the whole.
pub fn outputs(forked: &Forked) -> Map<String, Value> {
    forked
        .kept
        .iter()
        .map(|it| (it.stage.clone(), it.output.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::{
        action::Action,
        definition::{END, Fan},
        failure::{Failure, FailureClass},
        journal::{AttemptPayload, Finished, GENESIS},
        next::next,
        testing::{attempt_of, entries, failing, stage},
    };

    fn three() -> Definition {
        Definition {
            stages: vec![stage("a"), stage("b"), stage("c")],
            ..Definition::default()
        }
    }

    fn failed() -> Payload {
        Payload::Finished(Finished {
            failure: Some(Failure::new(FailureClass::Timeout, "late")),
        })
    }

    fn from(
        definition: &Definition,
        rest: Vec<Payload>,
        from: Begin<'_>,
        new: &Definition,
    ) -> Result<Forked, ForkError> {
        let inputs = Map::new();
        let given = Given {
            definition,
            inputs: &inputs,
        };
        fork(given, &entries(rest), &GENESIS, from, new)
    }

    fn calls(definition: &Definition, rest: Vec<Payload>) -> Vec<(String, u32, u32, u32)> {
        let actions = next(definition, &Map::new(), &entries(rest)).into_iter();
        actions
            .map(|action| match action {
                Action::Call(call) => (call.key.stage, call.key.visit, call.key.item, call.key.attempt),
                other => panic!("a call was expected, not {other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_failed_run_is_retried_at_the_stage_that_failed_with_what_was_paid_for() {
        let definition = three();
        let rest = vec![
            attempt_of("a", 1, 1, json!("kept")).into(),
            failing(attempt_of("b", 1, 1, Value::Null)).into(),
            failed(),
        ];
        let forked = from(&definition, rest, Begin::Failed, &definition).unwrap();
        assert_eq!((forked.from_stage.as_str(), forked.source_seq), ("b", 4));
        assert_eq!(Value::Object(outputs(&forked)), json!({"a": "kept"}));
        let mut edited = definition.clone();
        edited.stages[1].input_mapping = [("x".to_owned(), "stages.a.output".to_owned())].into();
        let actions = next(&edited, &Map::new(), &entries([Payload::Forked(Box::new(forked))]));
        let [Action::Call(call)] = &actions[..] else {
            panic!("a call")
        };
        assert_eq!(
            (call.key.stage.as_str(), call.key.visit, &call.inputs["x"]),
            ("b", 1, &json!("kept"))
        );
    }

    #[test]
    fn a_fork_begins_with_what_the_run_had_when_it_last_came_to_the_stage() {
        let mut definition = three();
        definition.stages[1].next_on_fail = Some("a".into());
        definition.stages[2].next_on_pass = Some(END.into());
        let rest = vec![
            attempt_of("a", 1, 1, json!(1)).into(),
            failing(attempt_of("b", 1, 1, Value::Null)).into(),
            attempt_of("a", 2, 1, json!(2)).into(),
            attempt_of("b", 2, 1, json!("later")).into(),
        ];
        let forked = from(&definition, rest, Begin::Stage("b"), &definition).unwrap();
        assert_eq!(Value::Object(outputs(&forked)), json!({"a": 2}));
        assert_eq!(forked.visits, [("a".to_owned(), 2), ("b".to_owned(), 1)].into());
        assert_eq!(
            calls(&definition, vec![Payload::Forked(Box::new(forked))]),
            [("b".into(), 2, 0, 1)]
        );
    }

    #[test]
    fn the_items_of_a_failed_map_that_had_passed_are_kept_while_their_stage_is_the_same() {
        let mut definition = three();
        definition.stages[0].kind = Kind::Map(Fan {
            items_path: "inputs".into(),
            stage: "b".into(),
            concurrency: 2,
            ..Fan::default()
        });
        let Kind::Map(fan) = &mut definition.stages[0].kind else {
            panic!("a map")
        };
        fan.items_path = "inputs.list".into();
        let inputs = json!({"list": ["x", "y", "z"]}).as_object().unwrap().clone();
        let item = |item: u32, output: Value| AttemptPayload {
            item,
            ..attempt_of("b", 1, 1, output)
        };
        let rest: Vec<Payload> = vec![
            item(1, json!("Y")).into(),
            failing(item(0, Value::Null)).into(),
            failed(),
        ];
        let given = Given {
            definition: &definition,
            inputs: &inputs,
        };
        let journal = entries(rest);
        let forked = fork(given, &journal, &GENESIS, Begin::Failed, &definition).unwrap();
        assert_eq!(forked.kept.len(), 1);
        let again = entries([Payload::Forked(Box::new(forked))]);
        let open: Vec<u32> = next(&definition, &inputs, &again)
            .into_iter()
            .map(|action| match action {
                Action::Call(call) => call.key.item,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(open, [0, 2], "the second item is paid for");
        let mut changed = definition.clone();
        changed.stages[1].retry_limit = 1;
        assert_eq!(
            fork(given, &journal, &GENESIS, Begin::Failed, &changed).unwrap().kept,
            []
        );
    }

    #[test]
    fn a_fork_of_a_fork_keeps_what_the_first_one_kept() {
        let definition = three();
        let first = vec![
            attempt_of("a", 1, 1, json!("A")).into(),
            attempt_of("b", 1, 1, json!("B")).into(),
        ];
        let forked = from(&definition, first, Begin::Stage("b"), &definition).unwrap();
        let second = vec![
            Payload::Forked(Box::new(forked)),
            attempt_of("b", 1, 1, json!("B2")).into(),
        ];
        let again = from(&definition, second.clone(), Begin::Stage("c"), &definition).unwrap();
        assert_eq!(Value::Object(outputs(&again)), json!({"a": "A", "b": "B2"}));
        assert_eq!(
            again.kept.last().unwrap().stage,
            "b",
            "the one that passed last is last"
        );
        let never = from(&definition, second, Begin::Stage("a"), &definition);
        assert_eq!(
            never,
            Err(ForkError::NotReached("a".into())),
            "the fork never came to it"
        );
    }

    #[test]
    fn what_cannot_be_gone_on_from_says_why() {
        let definition = three();
        let passed = || {
            vec![
                attempt_of("a", 1, 1, json!(1)).into(),
                attempt_of("b", 1, 1, json!(2)).into(),
            ]
        };
        let because = |rest: Vec<Payload>, start, new: &Definition| from(&definition, rest, start, new).unwrap_err();
        assert_eq!(because(passed(), Begin::Failed, &definition), ForkError::NotFailed);
        assert_eq!(
            because(passed(), Begin::Stage("x"), &definition),
            ForkError::NoStage("x".into())
        );
        let nothing: Vec<Payload> = Vec::new();
        assert_eq!(
            because(nothing, Begin::Stage("b"), &definition),
            ForkError::NotReached("b".into())
        );
        let mut without = three();
        without.stages.remove(0);
        assert_eq!(
            because(passed(), Begin::Stage("c"), &without),
            ForkError::Missing(vec!["a".into()])
        );
        let mut mapped = three();
        mapped.stages[0].kind = Kind::Map(Fan {
            stage: "b".into(),
            ..Fan::default()
        });
        assert_eq!(
            because(passed(), Begin::Stage("b"), &mapped),
            ForkError::IsBody("b".into())
        );
        let inputs = Map::new();
        let given = Given {
            definition: &definition,
            inputs: &inputs,
        };
        assert_eq!(
            fork(given, &[], &GENESIS, Begin::Failed, &definition),
            Err(ForkError::NotBegun)
        );
    }
}
