//! What must not happen twice, and executions within executions.

use super::*;
use crate::engine::{
    definition::{Flow, MAX_DEPTH},
    journal::{Child, Decision, FlowRun, Intent, Of, Ruling},
    waiting::About,
};

fn http(repeatable: bool) -> Run {
    let http = Http {
        method: "POST".into(),
        url: "https://example.com".into(),
        repeatable,
        ..Http::default()
    };
    let stage = Stage {
        retry_limit: 1,
        ..of_kind("send", Kind::Http(http))
    };
    Run::stages(vec![stage, super::stage("next")])
}

fn of(attempt: u32) -> StageTry {
    attempt_of("send", 1, attempt, Value::Null).of_try()
}

fn intent(attempt: u32) -> Payload {
    Payload::Intent(Intent {
        of: of(attempt),
        effect: "POST https://example.com".into(),
    })
}

fn ruled(decision: Ruling, output: Option<Value>) -> Payload {
    Payload::Decision(Box::new(Decision {
        of: of(1),
        decision,
        by: service_kit::ids::UserId::generate(),
        notes: "seen at the bank".into(),
        output,
        form: None,
    }))
}

#[test]
fn what_can_be_repeated_is_called_at_once() {
    assert!(!http(true).call().intended);
}

#[test]
fn what_cannot_be_repeated_is_announced_first_and_called_after_that() {
    let mut run = http(false);
    assert!(matches!(run.action(), Action::Intend(call) if !call.intended && call.key.attempt == 1));
    run.record(intent(1));
    assert!(run.call().intended);
    run.record(failing(attempt_of("send", 1, 1, Value::Null)));
    assert!(
        matches!(run.action(), Action::Intend(call) if call.key.attempt == 2),
        "a known failure is tried again"
    );
    run.record(intent(2))
        .record(attempt_of("send", 1, 2, json!({"status": 200})));
    assert_eq!(run.place().0, "next");
}

#[test]
fn after_a_restart_an_announced_call_is_looked_up_and_never_made() {
    let mut run = http(false);
    run.record(intent(1));
    let mut state = run.state.clone();
    state.resumed();
    let actions = state.actions(run.given());
    assert!(matches!(&actions[..], [Action::LookUp(call)] if call.intended && call.key.of_try() == of(1)));
    let mut found = state.clone();
    let entry = Entry {
        seq: 3,
        occurred_at: START,
        payload: attempt_of("send", 1, 1, json!({"status": 201})).into(),
    };
    found.apply(run.given(), &entry);
    assert!(matches!(&found.actions(run.given())[..], [Action::Call(call)] if call.key.stage == "next"));
}

#[test]
fn an_outcome_that_nobody_can_find_out_is_told_by_a_person() {
    let unknown = || {
        let mut run = http(false);
        run.record(intent(1)).record(Payload::Unknown(Of { of: of(1) }));
        assert_eq!((run.waiting().about, run.waiting().of), (About::Outcome, of(1)));
        run
    };
    let mut passed = unknown();
    passed.record(ruled(Ruling::Pass, Some(json!({"status": 200}))));
    let Action::Record(payload) = passed.action() else {
        panic!("an entry to record")
    };
    assert_eq!(payload.attempt().unwrap().validation.notes, "seen at the bank");
    passed.record(*payload);
    assert_eq!(passed.place().0, "next");
    assert_eq!(
        passed.state.context(passed.given()).output_of("send"),
        Some(&json!({"status": 200}))
    );
    let mut failed = unknown();
    failed.record(ruled(Ruling::Fail, None));
    let Action::Record(payload) = failed.action() else {
        panic!("an entry to record")
    };
    failed.record(*payload);
    assert_eq!(
        failed.failure().message,
        "stage \"send\": a person said that it failed: seen at the bank"
    );
    let mut again = unknown();
    again.record(ruled(Ruling::Again, None));
    assert!(
        matches!(again.action(), Action::Intend(call) if call.key.of_try() == of(1)),
        "only now a second time"
    );
    again.record(intent(1));
    assert!(again.call().intended);
}

#[test]
fn what_was_not_announced_cannot_be_unknown_and_an_unknown_one_can_still_be_found_out() {
    let mut run = http(false);
    run.record(Payload::Unknown(Of { of: of(1) }));
    assert!(matches!(run.action(), Action::Intend(_)));
    run.record(intent(1)).record(Payload::Unknown(Of { of: of(1) }));
    run.record(attempt_of("send", 1, 1, json!({"status": 200})));
    assert_eq!(run.place().0, "next");
}

fn flow() -> Run {
    let flow = Kind::Activepieces(Flow {
        connection_id: "c".into(),
        flow_id: "f".into(),
        ..Flow::default()
    });
    let stage = Stage {
        retry_limit: 1,
        ..of_kind("send", flow)
    };
    let definition = Definition {
        stages: vec![stage, super::stage("next")],
        ..Definition::default()
    };
    Run::of(definition, json!({"topic": "tea"}))
}

fn begun(uncertain: bool) -> Payload {
    Payload::FlowRun(FlowRun {
        of: of(1),
        flow_id: "f".into(),
        uncertain,
    })
}

#[test]
fn a_flow_is_announced_started_with_all_inputs_and_awaited_until_its_attempt() {
    let mut run = flow();
    assert!(matches!(run.action(), Action::Intend(call) if call.inputs["topic"] == "tea"));
    run.record(intent(1));
    assert!(run.call().intended);
    run.record(begun(false));
    let Action::AwaitRun { call, since, until } = run.action() else {
        panic!("a wait")
    };
    assert_eq!((call.key.of_try(), call.round), (of(1), 0));
    assert_eq!(until - since, run.definition.stages[0].timeout);
    let mut state = run.state.clone();
    state.resumed();
    assert!(
        matches!(&state.actions(run.given())[..], [Action::AwaitRun { .. }]),
        "another process waits on"
    );
    run.record(failing(attempt_of("send", 1, 1, Value::Null)));
    assert!(matches!(run.action(), Action::Intend(call) if call.key.attempt == 2));
}

#[test]
fn a_flow_whose_start_nobody_recorded_is_looked_up_and_one_that_nobody_finds_is_told_by_a_person() {
    let mut run = flow();
    run.record(intent(1));
    let mut state = run.state.clone();
    state.resumed();
    assert!(matches!(&state.actions(run.given())[..], [Action::LookUp(_)]));
    run.record(begun(true)).record(Payload::Unknown(Of { of: of(1) }));
    assert_eq!(run.waiting().about, About::Outcome);
    run.record(ruled(Ruling::Again, None));
    assert!(
        matches!(run.action(), Action::Intend(call) if call.round == 1 && call.key.of_try() == of(1)),
        "the same try once more, under another name"
    );
}

fn parent() -> Stage {
    let mut parent = of_kind(
        "sub",
        Kind::Workflow(SubWorkflow {
            workflow_id: "w".into(),
            version: None,
        }),
    );
    parent.input_mapping = [("topic".to_owned(), "inputs.topic".to_owned())].into();
    parent.retry_limit = 1;
    parent
}

#[test]
fn another_workflow_is_begun_awaited_and_its_end_is_the_stages_attempt() {
    let definition = Definition {
        stages: vec![parent(), stage("next")],
        ..Definition::default()
    };
    let mut run = Run::of(definition, json!({"topic": "tea"}));
    let Action::StartChild(start) = run.action() else {
        panic!("a start")
    };
    assert_eq!(
        (start.depth, start.inputs["topic"].clone(), start.version),
        (1, json!("tea"), None)
    );
    let child = |attempt| {
        Payload::Child(Child {
            of: attempt_of("sub", 1, attempt, Value::Null).of_try(),
            execution_id: ExecutionId::generate(),
            workflow_id: service_kit::ids::WorkflowId::generate(),
            version_number: 1,
        })
    };
    run.record(child(1));
    assert!(matches!(run.action(), Action::AwaitChild { .. }));
    run.record(failing(attempt_of("sub", 1, 1, Value::Null)));
    assert!(matches!(run.action(), Action::StartChild(start) if start.key.attempt == 2));
    run.record(child(2))
        .record(attempt_of("sub", 1, 2, json!({"last": "out"})));
    assert_eq!(run.place().0, "next");
}

#[test]
fn workflows_run_within_one_another_up_to_a_depth() {
    let mut run = Run::stages(vec![parent()]);
    let Payload::Started(started) = run.journal.remove(0).payload else {
        panic!("a start")
    };
    for (depth, deep_enough) in [(MAX_DEPTH - 1, false), (MAX_DEPTH, true)] {
        run.journal.clear();
        run.state = State::new(&run.definition);
        run.record(Payload::Started(Started {
            depth,
            ..started.clone()
        }));
        let failed = matches!(run.action(), Action::Fail(failure) if failure.class == FailureClass::Capped);
        assert_eq!(failed, deep_enough);
    }
}
