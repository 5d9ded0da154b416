//! Maps.

use super::*;
use crate::engine::definition::OnItemFailure;

fn mapped(concurrency: u32, on_item_failure: OnItemFailure) -> Definition {
    let fan = Fan {
        items_path: "inputs.list".into(),
        stage: "each".into(),
        concurrency,
        on_item_failure,
    };
    let mut each = stage("each");
    each.retry_limit = 1;
    each.input_mapping = [("n", "item.n"), ("place", "index"), ("t", "inputs.t")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    Definition {
        stages: vec![of_kind("all", Kind::Map(fan)), each, stage("last")],
        ..Definition::default()
    }
}

fn list(length: u32) -> Value {
    let items: Vec<_> = (0..length).map(|n| json!({"n": n * 10})).collect();
    json!({"list": items, "t": "tea"})
}

fn done(item: u32, attempt: u32, output: Value) -> AttemptPayload {
    AttemptPayload {
        item,
        ..attempt_of("each", 1, attempt, output)
    }
}

#[test]
fn items_are_opened_in_order_up_to_the_limit_and_handed_out_until_they_are_recorded() {
    let mut run = Run::of(mapped(2, OnItemFailure::Fail), list(4));
    assert_eq!(run.items(), [0, 1]);
    assert_eq!(run.items(), [0, 1], "again, until one is recorded");
    run.record(done(1, 1, json!("b")));
    assert_eq!(run.items(), [0, 2]);
    run.record(done(2, 1, json!("c"))).record(done(0, 1, json!("a")));
    assert_eq!(run.items(), [3]);
    run.record(done(3, 1, json!("d")));
    assert_eq!(
        run.place(),
        ("last".into(), 1, 1),
        "the body is passed over in the default order"
    );
    let context = run.state.context(run.given());
    assert_eq!(
        context.output_of("all"),
        Some(&json!(["a", "b", "c", "d"])),
        "in the items' order"
    );
    assert_eq!(context.output_of("each"), None);
}

#[test]
fn an_item_has_its_value_and_its_place_beside_the_mapping() {
    let run = Run::of(mapped(0, OnItemFailure::Fail), list(3));
    let Some(Action::Call(call)) = run.actions().into_iter().nth(2) else {
        panic!("a call")
    };
    let inputs = json!({"n": 20, "place": 2, "t": "tea", "item": {"n": 20}, "index": 2});
    assert_eq!(Value::Object(call.inputs), inputs);
    assert_eq!((call.key.visit, call.key.item, call.stage), (1, 2, 1));
    let given = run.given();
    let under_way = |of: &StageTry| of.item < 2;
    assert_eq!(run.state.actions_beyond(given, under_way).len(), 1);
}

#[test]
fn an_empty_list_passes_at_once_and_what_is_no_list_fails_the_map() {
    let mut run = Run::of(mapped(2, OnItemFailure::Fail), list(0));
    assert_eq!(run.place(), ("last".into(), 1, 1));
    run.record(attempt_of("last", 1, 1, json!(1)));
    assert_eq!(run.outputs(), json!({"last": 1}));
    for inputs in [json!({}), json!({"list": "x"}), list(1_001)] {
        let run = Run::of(mapped(2, OnItemFailure::Fail), inputs);
        assert_eq!(run.failure().class, FailureClass::Validation);
    }
    assert_eq!(Run::of(mapped(64, OnItemFailure::Fail), list(1_000)).items().len(), 64);
}

#[test]
fn an_item_is_tried_again_by_itself_and_its_failure_is_the_maps() {
    let mut run = Run::of(mapped(2, OnItemFailure::Fail), list(3));
    run.record(failing(done(1, 1, Value::Null)));
    let Some(Action::Call(again)) = run.actions().into_iter().nth(1) else {
        panic!("a call")
    };
    assert_eq!((again.key.item, again.key.attempt), (1, 2));
    assert!(again.not_before.is_some());
    run.record(failing(done(1, 2, Value::Null)));
    let failure = run.failure();
    assert_eq!(failure.message, "stage \"all\": item 1: it broke");
    run.record(done(0, 1, json!("late")));
    assert_eq!(run.failure(), failure, "what was in flight changes nothing");
}

#[test]
fn a_map_that_lets_failures_go_has_null_in_their_places() {
    let mut run = Run::of(mapped(3, OnItemFailure::Null), list(3));
    run.record(done(0, 1, json!("a")))
        .record(lasting(failing(done(1, 1, Value::Null))));
    run.record(done(2, 1, json!("c")));
    assert_eq!(run.place().0, "last");
    assert_eq!(
        run.state.context(run.given()).output_of("all"),
        Some(&json!(["a", null, "c"]))
    );
}

#[test]
fn an_attempt_of_another_visit_or_item_or_try_means_nothing() {
    let mut run = Run::of(mapped(2, OnItemFailure::Fail), list(3));
    run.record(done(2, 1, json!("not opened yet")))
        .record(done(0, 2, json!("no such try")));
    run.record(AttemptPayload {
        visit: 2,
        ..done(0, 1, json!("no such visit"))
    });
    assert_eq!(run.items(), [0, 1]);
}

#[test]
fn a_map_that_is_come_to_again_begins_anew() {
    let mut definition = mapped(2, OnItemFailure::Fail);
    definition.stages[0].next_on_pass = Some("all".into());
    let mut run = Run::of(definition, list(1));
    run.record(done(0, 1, json!("a")));
    let call = run.call();
    assert_eq!((call.key.visit, call.key.item, call.key.attempt), (2, 0, 1));
}

#[test]
fn empty_maps_that_lead_to_one_another_end_at_the_transition_limit_without_a_deep_stack() {
    let mut definition = mapped(2, OnItemFailure::Fail);
    definition.stages[0].next_on_pass = Some("all".into());
    definition.transition_limit = 10_000;
    assert_eq!(Run::of(definition, list(0)).failure().class, FailureClass::Capped);
}

#[test]
fn a_map_over_nothing_that_can_be_run_fails_and_no_way_leads_to_a_body() {
    let mut definition = mapped(2, OnItemFailure::Fail);
    definition.stages[1].kind = Kind::Wait(Wait::default());
    assert_eq!(Run::of(definition, list(1)).failure().class, FailureClass::Validation);
    let mut definition = mapped(2, OnItemFailure::Fail);
    definition.stages[0].next_on_pass = Some("each".into());
    assert_eq!(Run::of(definition, list(0)).failure().class, FailureClass::Validation);
}

#[test]
fn children_of_a_map_are_begun_and_awaited_each_by_itself() {
    let mut definition = mapped(2, OnItemFailure::Fail);
    definition.stages[1].kind = Kind::Workflow(SubWorkflow {
        workflow_id: "w".into(),
        version: Some(4),
    });
    let mut run = Run::of(definition, list(2));
    let starts = run.actions();
    assert!(matches!(&starts[..], [Action::StartChild(a), Action::StartChild(b)]
        if a.inputs["n"] == 0 && b.inputs["n"] == 10 && a.inputs.get("item").is_none() && b.depth == 1));
    let Action::StartChild(second) = &starts[1] else {
        panic!("a start")
    };
    let execution_id = ExecutionId::generate();
    run.record(Payload::Child(crate::engine::journal::Child {
        of: second.key.of_try(),
        execution_id,
        workflow_id: service_kit::ids::WorkflowId::generate(),
        version_number: 4,
    }));
    assert!(
        matches!(&run.actions()[..], [Action::StartChild(_), Action::AwaitChild { execution, .. }] if *execution == execution_id)
    );
}
