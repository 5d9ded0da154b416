use proptest::prelude::*;
use serde_json::json;

use std::time::Duration;

use super::*;
use crate::engine::{
    definition::{END, Stage},
    failure::{Failure, FailureClass},
    journal::{AttemptPayload, Cancelled, CheckResult, Finished, Payload, Ruling, StageTry, Verdict},
    state::{FIRST_BACKOFF, MAX_BACKOFF, MAX_RETRY_AFTER},
    testing::{START, attempt_of, decided, entries, failing, open, stage},
};

fn definition(stages: Vec<Stage>) -> Definition {
    Definition {
        stages,
        ..Definition::default()
    }
}

fn three() -> Definition {
    definition(vec![stage("a"), stage("b"), stage("c")])
}

fn decide(definition: &Definition, attempts: Vec<AttemptPayload>) -> Action {
    follow(definition, attempts.into_iter().map(Into::into).collect())
}

fn follow(definition: &Definition, rest: Vec<Payload>) -> Action {
    let mut actions = next(definition, &Map::new(), &entries(rest));
    assert_eq!(actions.len(), 1);
    actions.remove(0)
}

fn call(action: Action) -> Call {
    match action {
        Action::Call(call) => call,
        other => panic!("a call was expected, not {other:?}"),
    }
}

/// The try that waits for a person.
fn awaited(action: Action) -> StageTry {
    match action {
        Action::AwaitPerson(waiting) => waiting.of,
        other => panic!("a wait was expected, not {other:?}"),
    }
}

fn place(action: Action) -> (String, u32, u32) {
    let key = call(action).key;
    (key.stage, key.visit, key.attempt)
}

fn failed(stage: &str, visit: u32, attempt: u32, class: FailureClass) -> AttemptPayload {
    let mut failed = failing(attempt_of(stage, visit, attempt, Value::Null));
    failed.failure.as_mut().unwrap().class = class;
    failed
}

fn lasting(mut attempt: AttemptPayload) -> AttemptPayload {
    attempt.failure.as_mut().unwrap().retryable = false;
    attempt
}

#[test]
fn stages_follow_each_other_in_order_and_the_last_output_is_the_result() {
    let definition = three();
    assert_eq!(place(decide(&definition, vec![])), ("a".into(), 1, 1));
    let mut done = vec![attempt_of("a", 1, 1, json!(1))];
    assert_eq!(place(decide(&definition, done.clone())), ("b".into(), 1, 1));
    done.push(attempt_of("b", 1, 1, json!(2)));
    assert_eq!(place(decide(&definition, done.clone())), ("c".into(), 1, 1));
    done.push(attempt_of("c", 1, 1, json!({"x": 3})));
    let outputs = json!({"c": {"x": 3}}).as_object().unwrap().clone();
    assert_eq!(decide(&definition, done), Action::Complete { outputs });
}

#[test]
fn nothing_is_decided_before_the_start() {
    assert_eq!(next(&three(), &Map::new(), &[]), vec![]);
}

#[test]
fn nothing_is_decided_after_the_end() {
    let by = service_kit::ids::UserId::generate();
    for end in [
        Payload::Cancelled(Cancelled {
            by,
            reason: String::new(),
            interrupted: None,
        }),
        Payload::Finished(Finished { failure: None }),
        Payload::Finished(Finished {
            failure: Some(Failure::new(FailureClass::Timeout, "late")),
        }),
    ] {
        let mut journal = entries([attempt_of("a", 1, 1, json!(1))]);
        journal.push(Entry {
            seq: 3,
            occurred_at: START,
            payload: end,
        });
        assert_eq!(next(&three(), &Map::new(), &journal), vec![]);
    }
}

#[test]
fn a_failure_without_retries_fails_the_run_with_its_class() {
    for class in FailureClass::ALL {
        let action = decide(&three(), vec![failed("a", 1, 1, class)]);
        assert_eq!(action, Action::Fail(Failure::new(class, "stage \"a\": it broke")));
    }
}

#[test]
fn retries_are_numbered_and_end_at_the_limit() {
    let mut definition = three();
    definition.stages[0].retry_limit = 2;
    let mut done = vec![failed("a", 1, 1, FailureClass::Timeout)];
    assert_eq!(place(decide(&definition, done.clone())), ("a".into(), 1, 2));
    done.push(failed("a", 1, 2, FailureClass::Timeout));
    assert_eq!(place(decide(&definition, done.clone())), ("a".into(), 1, 3));
    done.push(failed("a", 1, 3, FailureClass::RateLimit));
    assert!(matches!(
        decide(&definition, done),
        Action::Fail(Failure {
            class: FailureClass::RateLimit,
            ..
        })
    ));
}

#[test]
fn a_failure_that_lasts_is_not_tried_again() {
    let mut definition = three();
    definition.stages[0].retry_limit = 5;
    let action = decide(&definition, vec![lasting(failed("a", 1, 1, FailureClass::Validation))]);
    assert!(matches!(
        action,
        Action::Fail(Failure {
            class: FailureClass::Validation,
            ..
        })
    ));
}

#[test]
fn a_failed_check_is_tried_again_at_once_with_its_notes() {
    let mut definition = three();
    definition.stages[0].retry_limit = 1;
    let mut rejected = failed("a", 1, 1, FailureClass::Validation);
    rejected.validation = Verdict {
        result: CheckResult::Fail,
        notes: "too short".into(),
    };
    let call = call(decide(&definition, vec![rejected]));
    assert_eq!(call.notes, "too short");
    assert_eq!(
        call.not_before,
        Some(START + Duration::from_secs(2)),
        "the time of the entry itself"
    );
}

#[test]
fn notes_do_not_outlive_the_try_they_are_for() {
    let mut definition = three();
    definition.stages[0].retry_limit = 2;
    let mut rejected = failed("a", 1, 1, FailureClass::Validation);
    rejected.validation.notes = "too short".into();
    let then_timeout = failed("a", 1, 2, FailureClass::Timeout);
    assert_eq!(
        call(decide(&definition, vec![rejected.clone(), then_timeout])).notes,
        ""
    );
    assert_eq!(
        call(decide(&definition, vec![rejected, attempt_of("a", 1, 2, json!(1))])).notes,
        ""
    );
}

#[test]
fn waits_double_and_are_bounded_and_spread() {
    let mut definition = three();
    definition.stages[0].retry_limit = 20;
    let mut done = Vec::new();
    let mut waits = Vec::new();
    for attempt in 1..=20 {
        done.push(failed("a", 1, attempt, FailureClass::ProviderError));
        let recorded = START + Duration::from_secs(u64::from(attempt) + 1);
        waits.push(call(decide(&definition, done.clone())).not_before.unwrap() - recorded);
    }
    for (n, wait) in waits.iter().enumerate() {
        let full = FIRST_BACKOFF.saturating_mul(1 << n).min(MAX_BACKOFF);
        assert!(*wait >= full / 2 && *wait <= full, "wait {n} is {wait}, of {full:?}");
    }
    let distinct: std::collections::BTreeSet<_> = waits[8..].iter().collect();
    assert!(distinct.len() > 10, "the bounded waits differ too");
}

#[test]
fn what_the_provider_asks_for_is_honoured_up_to_a_day() {
    let mut definition = three();
    definition.stages[0].retry_limit = 1;
    for (asked_ms, expected) in [(90_000, Duration::from_secs(90)), (u64::MAX, MAX_RETRY_AFTER)] {
        let mut limited = failed("a", 1, 1, FailureClass::RateLimit);
        limited.failure.as_mut().unwrap().retry_after_ms = Some(asked_ms);
        let not_before = call(decide(&definition, vec![limited])).not_before.unwrap();
        assert_eq!(not_before, START + Duration::from_secs(2) + expected);
    }
    let mut soon = failed("a", 1, 1, FailureClass::RateLimit);
    soon.failure.as_mut().unwrap().retry_after_ms = Some(1);
    let not_before = call(decide(&definition, vec![soon])).not_before.unwrap();
    assert!(
        not_before >= START + Duration::from_secs(2) + FIRST_BACKOFF / 2,
        "never sooner than by ourselves"
    );
}

#[test]
fn the_way_is_the_one_that_the_stage_names() {
    let mut definition = three();
    definition.stages[0].next_on_pass = Some("c".into());
    definition.stages[0].next_on_fail = Some("b".into());
    definition.stages[1].next_on_pass = Some(END.into());
    assert_eq!(place(decide(&definition, vec![attempt_of("a", 1, 1, json!(1))])).0, "c");
    let after_failure = vec![failed("a", 1, 1, FailureClass::Timeout)];
    assert_eq!(place(decide(&definition, after_failure.clone())).0, "b");
    let end = decide(
        &definition,
        [after_failure, vec![attempt_of("b", 1, 1, json!(2))]].concat(),
    );
    assert_eq!(
        end,
        Action::Complete {
            outputs: json!({"b": 2}).as_object().unwrap().clone()
        }
    );
}

#[test]
fn a_failure_that_may_end_the_run_leaves_the_last_output_that_passed() {
    let mut definition = three();
    definition.stages[1].next_on_fail = Some(END.into());
    let done = vec![
        attempt_of("a", 1, 1, json!(1)),
        failed("b", 1, 1, FailureClass::Timeout),
    ];
    assert_eq!(
        decide(&definition, done),
        Action::Complete {
            outputs: json!({"a": 1}).as_object().unwrap().clone()
        }
    );
    definition.stages[0].next_on_fail = Some(END.into());
    let nothing = decide(&definition, vec![failed("a", 1, 1, FailureClass::Timeout)]);
    assert_eq!(nothing, Action::Complete { outputs: Map::new() });
}

#[test]
fn visits_count_how_often_a_loop_came_by_and_tries_begin_anew() {
    let mut definition = three();
    definition.stages[1].next_on_fail = Some("a".into());
    definition.stages[1].retry_limit = 1;
    let mut done = vec![
        attempt_of("a", 1, 1, json!(1)),
        failed("b", 1, 1, FailureClass::Validation),
        failed("b", 1, 2, FailureClass::Validation),
    ];
    assert_eq!(place(decide(&definition, done.clone())), ("a".into(), 2, 1));
    done.push(attempt_of("a", 2, 1, json!(2)));
    assert_eq!(place(decide(&definition, done.clone())), ("b".into(), 2, 1));
    done.push(failed("b", 2, 1, FailureClass::Validation));
    assert_eq!(place(decide(&definition, done)), ("b".into(), 2, 2));
}

#[test]
fn a_loop_ends_at_the_transition_limit() {
    let mut definition = definition(vec![stage("a")]);
    definition.stages[0].next_on_pass = Some("a".into());
    definition.transition_limit = 3;
    let mut done = Vec::new();
    for visit in 1..=4 {
        assert_eq!(place(decide(&definition, done.clone())), ("a".into(), visit, 1));
        done.push(attempt_of("a", visit, 1, json!(visit)));
    }
    assert!(matches!(
        decide(&definition, done),
        Action::Fail(Failure {
            class: FailureClass::Capped,
            ..
        })
    ));
}

#[test]
fn the_mapping_is_resolved_from_inputs_and_earlier_outputs() {
    let mut definition = three();
    definition.stages[1].input_mapping = [
        ("t", "inputs.t"),
        ("s", "stages.a.output.s"),
        ("gone", "stages.c.output"),
    ]
    .map(|(k, v)| (k.into(), v.into()))
    .into();
    let inputs = json!({"t": 1}).as_object().unwrap().clone();
    let journal = entries([attempt_of("a", 1, 1, json!({"s": "x"}))]);
    let found = call(next(&definition, &inputs, &journal).remove(0)).inputs;
    assert_eq!(Value::Object(found), json!({"t": 1, "s": "x"}));
}

#[test]
fn a_bad_definition_fails_the_run_and_does_not_panic() {
    let complete = Action::Complete { outputs: Map::new() };
    assert_eq!(decide(&definition(vec![]), vec![]), complete);
    let mut lost = three();
    lost.stages[0].next_on_pass = Some("nowhere".into());
    assert!(matches!(
        decide(&lost, vec![attempt_of("a", 1, 1, json!(1))]),
        Action::Fail(_)
    ));
    assert_eq!(
        place(decide(&three(), vec![attempt_of("unheard", 1, 1, json!(1))])),
        ("a".into(), 1, 1),
        "what nobody asked for means nothing"
    );
}

#[test]
fn a_key_names_execution_stage_visit_item_and_try() {
    let key = call(decide(&three(), vec![])).key;
    assert_eq!(key.to_string(), "00000000-0000-0000-0000-000000000007/a/1/0/1");
}

#[test]
fn an_output_that_waits_goes_nowhere_until_a_person_decides() {
    let waiting = open(attempt_of("a", 1, 1, json!(1)));
    let of = waiting.of_try();
    assert_eq!(
        awaited(decide(&three(), vec![waiting.clone()])),
        of,
        "whatever time passes"
    );
    for other in [
        decided("b", 1, 1, Ruling::Pass, ""),
        decided("a", 2, 1, Ruling::Pass, ""),
        decided("a", 1, 2, Ruling::Fail, ""),
    ] {
        let action = follow(&three(), vec![waiting.clone().into(), other]);
        assert_eq!(awaited(action), of, "it is not about this one");
    }
}

#[test]
fn an_output_that_a_person_lets_pass_counts_as_one_that_passed() {
    let mut definition = three();
    definition.stages[0].next_on_pass = Some("c".into());
    definition.stages[2].input_mapping = [("x".to_owned(), "stages.a.output".to_owned())].into();
    let mut rest = vec![
        open(attempt_of("a", 1, 1, json!("kept"))).into(),
        decided("a", 1, 1, Ruling::Pass, "fine"),
    ];
    let call = call(follow(&definition, rest.clone()));
    assert_eq!((call.key.stage.as_str(), call.notes.as_str()), ("c", ""));
    assert_eq!(call.inputs["x"], "kept");
    rest.push(open(attempt_of("c", 1, 1, json!("last"))).into());
    rest.push(decided("c", 1, 1, Ruling::Pass, ""));
    let outputs = json!({"c": "last"}).as_object().unwrap().clone();
    assert_eq!(follow(&definition, rest), Action::Complete { outputs });
}

#[test]
fn a_refused_output_is_tried_again_at_once_with_the_persons_notes() {
    let mut definition = three();
    definition.stages[0].retry_limit = 1;
    let mut rest = vec![
        open(attempt_of("a", 1, 1, json!(1))).into(),
        decided("a", 1, 1, Ruling::Fail, "warmer"),
    ];
    let again = call(follow(&definition, rest.clone()));
    assert_eq!((again.key.attempt, again.notes.as_str()), (2, "warmer"));
    assert_eq!(
        again.not_before,
        Some(START + Duration::from_secs(3)),
        "the time of the decision"
    );
    rest.push(open(attempt_of("a", 1, 2, json!(2))).into());
    rest.push(decided("a", 1, 2, Ruling::Fail, "colder"));
    let message = "stage \"a\": a person did not let the output pass: colder";
    assert_eq!(
        follow(&definition, rest.clone()),
        Action::Fail(Failure::new(FailureClass::Validation, message))
    );
    definition.stages[0].next_on_fail = Some("c".into());
    let elsewhere = call(follow(&definition, rest));
    assert_eq!((elsewhere.key.stage.as_str(), elsewhere.notes.as_str()), ("c", ""));
    assert_eq!(elsewhere.inputs, Map::new());
}

#[test]
fn what_was_decided_once_stays_so() {
    let decision = |ruling| decided("a", 1, 1, ruling, "");
    let rest = vec![
        open(attempt_of("a", 1, 1, json!(1))).into(),
        decision(Ruling::Pass),
        decision(Ruling::Fail),
    ];
    assert_eq!(place(follow(&three(), rest)), ("b".into(), 1, 1));
}

/// How the try of a stage goes, in a generated run.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Passes,
    MayPass(FailureClass),
    Lasts,
    Waits(Ruling),
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let class = prop::sample::select(&FailureClass::ALL[..]);
    let ruling = prop_oneof![Just(Ruling::Pass), Just(Ruling::Fail)];
    let fate = prop_oneof![
        3 => Just(Fate::Passes),
        2 => class.prop_map(Fate::MayPass),
        1 => Just(Fate::Lasts),
        3 => ruling.prop_map(Fate::Waits),
    ];
    prop::collection::vec(fate, 0..60)
}

fn definitions() -> impl Strategy<Value = Definition> {
    let target = prop::option::of(prop::sample::select(vec!["s0", "s1", "s2", "s3", "end", "nowhere"]));
    let one = (target.clone(), target, 0u32..4);
    (prop::collection::vec(one, 0..5), 0u32..12).prop_map(|(stages, transition_limit)| Definition {
        stages: stages
            .into_iter()
            .enumerate()
            .map(|(n, (pass, fail, retry_limit))| Stage {
                next_on_pass: pass.map(Into::into),
                next_on_fail: fail.map(Into::into),
                retry_limit,
                ..stage(&format!("s{n}"))
            })
            .collect(),
        transition_limit,
        input_schema: None,
        output_schema: None,
    })
}

fn recorded(call: &Call, fate: Fate) -> AttemptPayload {
    let attempt = attempt_of(&call.key.stage, call.key.visit, call.key.attempt, json!("out"));
    match fate {
        Fate::Passes => attempt,
        Fate::MayPass(class) => failed(&call.key.stage, call.key.visit, call.key.attempt, class),
        Fate::Lasts => lasting(failing(attempt)),
        Fate::Waits(_) => open(attempt),
    }
}

fn tries(rest: &[Payload]) -> impl Iterator<Item = &AttemptPayload> {
    rest.iter().filter_map(Payload::attempt)
}

proptest! {
    #[test]
    fn every_run_keeps_the_rules(definition in definitions(), fates in fates()) {
        let inputs = Map::new();
        let what_follows = |rest: &[Payload]| next(&definition, &inputs, &entries(rest.to_vec()));
        let mut rest: Vec<Payload> = Vec::new();
        let mut keys = std::collections::HashSet::new();
        for fate in fates {
            let journal = entries(rest.clone());
            let actions = next(&definition, &inputs, &journal);
            prop_assert_eq!(&actions, &what_follows(&rest), "deterministic");
            prop_assert_eq!(actions.len(), 1);
            let Action::Call(call) = &actions[0] else {
                prop_assert!(!matches!(actions[0], Action::AwaitPerson(_)), "everything is decided");
                let mut ended = journal;
                ended.push(Entry { seq: 999, occurred_at: START, payload: Payload::Finished(Finished { failure: None }) });
                prop_assert_eq!(next(&definition, &inputs, &ended), vec![]);
                return Ok(());
            };
            let stage = &definition.stages[call.stage];
            prop_assert_eq!(&stage.name, &call.key.stage);
            prop_assert!(keys.insert(call.key.clone()), "a key comes once");
            prop_assert!((1..=stage.retry_limit + 1).contains(&call.key.attempt));
            let same_visit = tries(&rest).filter(|a| a.stage == stage.name && a.visit == call.key.visit).count();
            prop_assert_eq!(call.key.attempt as usize, same_visit + 1, "tries have no gaps");
            prop_assert_eq!(call.not_before.is_some(), call.key.attempt > 1);
            if let Some(not_before) = call.not_before {
                prop_assert!(not_before >= journal.last().unwrap().occurred_at);
            }
            let attempt = recorded(call, fate);
            let of = attempt.of_try();
            rest.push(attempt.into());
            if let Fate::Waits(ruling) = fate {
                let waits = what_follows(&rest);
                prop_assert_eq!(awaited(waits[0].clone()), of.clone());
                rest.push(decided(&of.stage, of.visit, of.attempt + 1, ruling, "of another try"));
                prop_assert_eq!(&what_follows(&rest), &waits, "a decision on another try means nothing");
                rest.push(decided(&of.stage, of.visit, of.attempt, ruling, "notes"));
                let follows = what_follows(&rest);
                if let [Action::Call(call)] = &follows[..] {
                    let again = call.key.stage == of.stage && call.key.visit == of.visit;
                    prop_assert_eq!(call.notes.as_str(), if again { "notes" } else { "" });
                    prop_assert!(!again || ruling == Ruling::Fail);
                }
                let other = if ruling == Ruling::Pass { Ruling::Fail } else { Ruling::Pass };
                rest.push(decided(&of.stage, of.visit, of.attempt, other, "too late"));
                prop_assert_eq!(&what_follows(&rest), &follows, "the first decision stays");
                rest.pop();
            }
            let visits = tries(&rest).filter(|a| a.attempt == 1).count();
            prop_assert!(visits <= definition.max_transitions() as usize + 1, "the transition limit holds");
        }
    }
}
