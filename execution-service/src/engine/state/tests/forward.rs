//! Routes, retries, fallbacks, pauses, forks.

use proptest::prelude::*;

use super::*;
use crate::engine::{
    definition::{Retry, Route},
    journal::{Cancelled, Finished, Paused, Resumed},
};

fn route(when: &str, to: &str) -> Route {
    Route {
        when: when.into(),
        to: to.into(),
    }
}

fn falling_back(retry_limit: u32) -> Stage {
    let mut stage = stage("a");
    if let Kind::Llm(llm) = &mut stage.kind {
        llm.fallback_models = vec!["second".into(), "third".into()];
    }
    Stage { retry_limit, ..stage }
}

#[test]
fn the_first_route_whose_condition_holds_is_taken_before_the_default() {
    let first = Stage {
        routes_on_pass: vec![
            route("output.score > 0.9", END),
            route("output.score > 0.5 && visit == 1 && inputs.strict", "c"),
        ],
        next_on_pass: Some("b".into()),
        ..stage("a")
    };
    let definition = Definition {
        stages: vec![first, stage("b"), stage("c")],
        ..Definition::default()
    };
    for (score, strict, next) in [
        (0.95, true, None),
        (0.6, true, Some("c")),
        (0.6, false, Some("b")),
        (0.1, true, Some("b")),
    ] {
        let mut run = Run::of(definition.clone(), json!({ "strict": strict }));
        run.record(attempt_of("a", 1, 1, json!({ "score": score })));
        match next {
            Some(next) => assert_eq!(run.place().0, next),
            None => assert_eq!(run.outputs(), json!({"a": {"score": score}})),
        }
    }
}

#[test]
fn a_run_ends_well_only_with_an_output_that_the_workflow_promises() {
    let definition = Definition {
        stages: vec![stage("a"), stage("b")],
        output_schema: Some(json!({
            "type": "object", "required": ["total"], "properties": { "total": { "type": "integer" } }
        })),
        ..Definition::default()
    };
    for (output, ends) in [(json!({ "total": 3 }), true), (json!({ "total": "3" }), false)] {
        let mut run = Run::of(definition.clone(), json!({}));
        run.record(attempt_of("a", 1, 1, json!("anything")));
        run.record(attempt_of("b", 1, 1, output.clone()));
        if ends {
            assert_eq!(run.outputs(), json!({ "b": output }));
        } else {
            let failure = run.failure();
            assert_eq!(failure.class, FailureClass::Validation);
            assert!(failure.message.contains("at /total"), "{}", failure.message);
        }
    }
}

#[test]
fn routes_on_failure_see_the_failure_and_what_earlier_stages_gave() {
    let second = Stage {
        routes_on_fail: vec![
            route(
                "failure.class == 'timeout' && stages.a.output == 'x' && stage_1.output == 'x'",
                "c",
            ),
            route("failure.reason == 'upstream' && failure.message.contains('broke')", END),
        ],
        next_on_fail: Some("a".into()),
        ..stage("b")
    };
    for (class, next) in [(FailureClass::Timeout, Some("c")), (FailureClass::RateLimit, None)] {
        let mut run = Run::stages(vec![stage("a"), second.clone(), stage("c")]);
        run.record(attempt_of("a", 1, 1, json!("x")));
        run.record(of_class(class, attempt_of("b", 1, 1, Value::Null)));
        match next {
            Some(next) => assert_eq!(run.place().0, next),
            None => assert_eq!(run.outputs(), json!({"a": "x"})),
        }
    }
}

#[test]
fn a_condition_that_cannot_be_evaluated_fails_the_run_and_is_named() {
    for when in ["output.gone == 1", "'a' + 'b'", "["] {
        let first = Stage {
            routes_on_pass: vec![route(when, END)],
            ..stage("a")
        };
        let mut run = Run::stages(vec![first]);
        run.record(attempt_of("a", 1, 1, json!({})));
        let failure = run.failure();
        assert_eq!(failure.class, FailureClass::Validation);
        assert!(failure.message.starts_with("stage \"a\": routes_on_pass[0] (") && failure.message.contains(when));
    }
}

#[test]
fn a_loop_over_a_route_ends_at_the_transition_limit() {
    let first = Stage {
        routes_on_pass: vec![route("visit < 1000", "a")],
        ..stage("a")
    };
    let definition = Definition {
        stages: vec![first],
        transition_limit: 2,
        ..Definition::default()
    };
    let mut run = Run::of(definition, json!({}));
    for visit in 1..=3 {
        assert_eq!(run.place().1, visit);
        run.record(attempt_of("a", visit, 1, json!(visit)));
    }
    assert_eq!(run.failure().class, FailureClass::Capped);
}

#[test]
fn only_the_classes_that_are_named_are_tried_again() {
    let first = Stage {
        retry_limit: 3,
        retry: Retry {
            classes: vec![FailureClass::Timeout],
            ..Retry::default()
        },
        ..stage("a")
    };
    let mut run = Run::stages(vec![first]);
    run.record(of_class(FailureClass::Timeout, attempt_of("a", 1, 1, Value::Null)));
    assert_eq!(run.place(), ("a".into(), 1, 2));
    run.record(of_class(FailureClass::RateLimit, attempt_of("a", 1, 2, Value::Null)));
    assert_eq!(run.failure().class, FailureClass::RateLimit);
}

#[test]
fn the_waits_between_tries_are_as_the_stage_says() {
    let first = Stage {
        retry_limit: 4,
        retry: Retry {
            classes: Vec::new(),
            first_backoff: Some(std::time::Duration::from_secs(10)),
            max_backoff: Some(std::time::Duration::from_secs(30)),
        },
        ..stage("a")
    };
    let mut run = Run::stages(vec![first]);
    for (attempt, full) in [(1, 10), (2, 20), (3, 30), (4, 30)] {
        run.record(failing(attempt_of("a", 1, attempt, Value::Null)));
        let wait = run.call().not_before.unwrap() - run.now();
        assert!(
            wait >= Duration::seconds(full) / 2 && wait <= Duration::seconds(full),
            "{wait}"
        );
    }
}

#[test]
fn the_next_model_is_asked_when_the_tries_of_one_are_used_up_and_tries_are_numbered_on() {
    let mut run = Run::stages(vec![falling_back(1)]);
    let mut asked = Vec::new();
    for attempt in 1..=6 {
        let call = run.call();
        assert_eq!(call.key.attempt, attempt);
        asked.push(call.model.unwrap());
        run.record(failing(attempt_of("a", 1, attempt, Value::Null)));
    }
    assert_eq!(asked, ["m", "m", "second", "second", "third", "third"]);
    assert_eq!(run.failure().class, FailureClass::ProviderError);
}

#[test]
fn a_model_that_is_gone_is_passed_over_at_once_and_an_answer_that_fails_its_check_never() {
    let mut run = Run::stages(vec![falling_back(3)]);
    run.record(lasting(failing(attempt_of("a", 1, 1, Value::Null))));
    assert_eq!(run.call().model.as_deref(), Some("second"));
    run.record(lasting(of_class(
        FailureClass::Validation,
        attempt_of("a", 1, 2, Value::Null),
    )));
    assert_eq!(run.failure().class, FailureClass::Validation);
    let mut run = Run::stages(vec![falling_back(0)]);
    run.record(of_class(FailureClass::Validation, attempt_of("a", 1, 1, Value::Null)));
    assert_eq!(run.failure().class, FailureClass::Validation);
    let mut run = Run::stages(vec![falling_back(0)]);
    run.record(lasting(of_class(
        FailureClass::Capped,
        attempt_of("a", 1, 1, Value::Null),
    )));
    assert_eq!(run.failure().class, FailureClass::Capped);
}

#[test]
fn a_new_visit_begins_with_the_first_model_again() {
    let first = Stage {
        next_on_pass: Some("a".into()),
        ..falling_back(0)
    };
    let mut run = Run::stages(vec![first]);
    run.record(failing(attempt_of("a", 1, 1, Value::Null)));
    run.record(attempt_of("a", 1, 2, json!(1)));
    assert_eq!(
        (run.place(), run.call().model.as_deref()),
        (("a".into(), 2, 1), Some("m"))
    );
}

#[test]
fn a_paused_run_begins_nothing_records_what_is_in_flight_and_goes_on_where_it_was() {
    let by = service_kit::ids::UserId::generate();
    let paused = |reason: &str| {
        Payload::Paused(Paused {
            by: Some(by),
            reason: reason.into(),
        })
    };
    let mut run = Run::stages(vec![stage("a"), stage("b")]);
    run.record(paused("lunch"));
    let since = run.now();
    let waits = Action::AwaitResume {
        by: Some(by),
        reason: "lunch".into(),
        since,
    };
    assert_eq!(run.action(), waits);
    run.record(attempt_of("a", 1, 1, json!(1)));
    run.record(paused("again"));
    assert_eq!(run.action(), waits, "the first one counts");
    run.record(Payload::Resumed(Resumed { by }));
    assert_eq!(run.place(), ("b".into(), 1, 1));
    run.record(paused(""));
    run.record(attempt_of("b", 1, 1, json!(2)));
    assert_eq!(run.outputs(), json!({"b": 2}), "what is over ends");
}

#[test]
fn nothing_follows_an_end_whatever_comes_after_it() {
    let by = service_kit::ids::UserId::generate();
    let cancelled = Payload::Cancelled(Cancelled {
        by,
        reason: String::new(),
        interrupted: None,
    });
    for end in [cancelled, Payload::Finished(Finished { failure: None })] {
        let mut run = Run::stages(vec![stage("a")]);
        run.record(end).record(attempt_of("a", 1, 1, json!(1)));
        run.record(Payload::Resumed(Resumed { by }));
        assert_eq!(run.actions(), []);
    }
}

#[test]
fn a_fork_that_does_not_come_second_means_nothing() {
    let forked = Payload::Forked(Box::new(Forked {
        source_execution: ExecutionId::generate(),
        source_seq: 1,
        source_hash: String::new(),
        from_stage: "b".into(),
        kept: Vec::new(),
        visits: BTreeMap::new(),
    }));
    let mut run = Run::stages(vec![stage("a"), stage("b")]);
    run.record(forked.clone());
    assert_eq!(run.place().0, "b");
    let mut run = Run::stages(vec![stage("a"), stage("b"), stage("c")]);
    run.record(attempt_of("a", 1, 1, json!(1))).record(forked);
    assert_eq!(run.place(), ("b".into(), 1, 1));
}

#[test]
fn an_execution_that_says_how_deep_it_is_is_that_deep() {
    let mut run = Run::stages(vec![stage("a")]);
    let Payload::Started(started) = run.journal.remove(0).payload else {
        panic!("a start")
    };
    let deep = Payload::Started(Started { depth: 3, ..started });
    run.state = State::new(&run.definition);
    run.record(deep);
    assert_eq!(run.state.depth(), 3);
}

/// Anything that could stand in a journal, most of it where it has no place.
fn anything() -> impl Strategy<Value = Payload> {
    let of = (
        prop::sample::select(vec!["a", "b", "c", "d", "x"]),
        1..3_u32,
        0..3_u32,
        1..3_u32,
    )
        .prop_map(|(stage, visit, item, attempt)| StageTry {
            stage: stage.into(),
            visit,
            item,
            attempt,
        });
    let by = || service_kit::ids::UserId::from(uuid::Uuid::from_u128(3));
    let about = |of: StageTry| crate::engine::journal::Of { of };
    (of, 0..14_u8).prop_map(move |(of, kind)| {
        let attempt = AttemptPayload {
            item: of.item,
            ..attempt_of(&of.stage, of.visit, of.attempt, json!([1, {"x": 2}]))
        };
        match kind {
            0..=4 => attempt.into(),
            5 => failing(attempt).into(),
            6 => crate::engine::testing::open(attempt).into(),
            7 => crate::engine::testing::decided(
                &of.stage,
                of.visit,
                of.attempt,
                crate::engine::journal::Ruling::Pass,
                "",
            ),
            8 => Payload::Expired(about(of)),
            9 => Payload::Unknown(about(of)),
            10 => Payload::Intent(crate::engine::journal::Intent {
                of,
                effect: String::new(),
            }),
            11 => Payload::Signal(Box::new(Signal {
                name: "go".into(),
                payload: json!(1),
                by: None,
            })),
            12 => Payload::Paused(Paused {
                by: None,
                reason: String::new(),
            }),
            _ => Payload::Resumed(Resumed { by: by() }),
        }
    })
}

fn anywhere() -> impl Strategy<Value = Definition> {
    let target = prop::option::of(prop::sample::select(vec!["a", "b", "c", "d", "end", "x"]));
    let kind = (0..7_u8).prop_map(|kind| match kind {
        0 => Kind::Map(Fan {
            items_path: "inputs.list".into(),
            stage: "b".into(),
            concurrency: 2,
            ..Fan::default()
        }),
        1 => Kind::Map(Fan {
            items_path: "inputs.none".into(),
            stage: "c".into(),
            ..Fan::default()
        }),
        2 => Kind::Wait(Wait {
            duration: Some(std::time::Duration::from_secs(3)),
            signal: Some("go".into()),
            until_path: None,
        }),
        3 => Kind::Http(Http::default()),
        4 => Kind::Workflow(SubWorkflow::default()),
        5 => Kind::Approval(Box::default()),
        _ => stage("a").kind,
    });
    prop::collection::vec((kind, target.clone(), target, 0..3_u32), 4).prop_map(|stages| Definition {
        stages: stages
            .into_iter()
            .zip(["a", "b", "c", "d"])
            .map(|((kind, pass, fail, retry_limit), name)| Stage {
                next_on_pass: pass.map(Into::into),
                next_on_fail: fail.map(Into::into),
                retry_limit,
                ..of_kind(name, kind)
            })
            .collect(),
        transition_limit: 5,
        input_schema: None,
        output_schema: None,
    })
}

proptest! {
    #[test]
    fn a_state_that_is_kept_answers_as_one_that_is_folded_at_every_entry(
        definition in anywhere(),
        entries in prop::collection::vec(anything(), 0..40),
    ) {
        let mut run = Run::of(definition, json!({"list": [1, 2, 3], "none": []}));
        let mut open = std::collections::HashSet::new();
        for payload in entries {
            // What was asked for is answered now and then, so that runs get somewhere.
            let asked = run.actions().into_iter().next();
            match asked {
                Some(Action::Call(call)) if matches!(payload, Payload::Paused(_) | Payload::Attempt(_)) => {
                    prop_assert!(open.insert(call.key.clone()), "a key comes once");
                    let of = call.key.of_try();
                    let attempt = AttemptPayload { item: of.item, ..attempt_of(&of.stage, of.visit, of.attempt, json!("o")) };
                    run.record(attempt);
                }
                Some(Action::Record(recorded)) => { run.record(*recorded); }
                Some(Action::AwaitTime { alarm, .. } | Action::AwaitSignal { alarm: Some(alarm), .. }) => { run.record(*alarm.record); }
                _ => { run.record(payload); }
            }
            prop_assert!(run.state.transitions <= 6);
        }
    }
}
