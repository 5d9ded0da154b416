use serde_json::json;

use super::*;
use crate::engine::{
    definition::Validation,
    testing::{attempt_of, entries, failing},
};

fn definition(stages: &Value) -> Definition {
    serde_json::from_value(json!({ "stages": stages })).unwrap()
}

fn sample(outputs: Value) -> Sample {
    Sample {
        outputs: serde_json::from_value(outputs).unwrap(),
        ..Sample::default()
    }
}

fn run(definition: &Definition, inputs: Value, sample: &Sample) -> Trace {
    dry_run(
        definition,
        &serde_json::from_value(inputs).unwrap(),
        Answers::Given(sample),
    )
}

fn two() -> Definition {
    definition(&json!([
        {"name": "draft", "kind": "llm", "model": "m", "prompt": "About {{ t }}. {{ validation_notes }}",
         "input_mapping": {"t": "inputs.topic"}, "retry_limit": 1,
         "validation": {"type": "function", "name": "min_length", "arguments": {"chars": 5}}},
        {"name": "final", "kind": "llm", "model": "m", "prompt": "Polish: {{ stages.draft.output }}"},
    ]))
}

#[test]
fn prompts_are_rendered_checks_are_made_and_routes_are_followed() {
    let outputs = sample(json!({"draft": ["tea", "tea is a drink"], "final": ["Tea is a drink."]}));
    let trace = run(&two(), json!({"topic": "tea"}), &outputs);
    let told: Vec<_> = trace
        .steps
        .iter()
        .map(|step| (step.of.to_string(), step.check.result, step.next.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            ("draft/1/0/1".to_owned(), CheckResult::Fail, Some("draft")),
            ("draft/1/0/2".to_owned(), CheckResult::Pass, Some("final")),
            ("final/1/0/1".to_owned(), CheckResult::Unchecked, None),
        ]
    );
    let prompt = |n: usize| trace.steps[n].prompt.as_ref().unwrap().prompt.as_str();
    assert_eq!(prompt(0), "About tea. ");
    assert!(prompt(1).starts_with("About tea. the output has 3 characters"));
    assert_eq!(prompt(2), "Polish: tea is a drink");
    let outputs = json!({"final": "Tea is a drink."}).as_object().unwrap().clone();
    assert_eq!(trace.end, End::Completed { outputs });
}

#[test]
fn it_stops_where_no_output_is_given_and_fails_where_a_run_would() {
    let trace = run(
        &two(),
        json!({"topic": "tea"}),
        &sample(json!({"draft": ["tea is fine"]})),
    );
    let End::Stopped(stop) = trace.end else {
        panic!("it stops")
    };
    assert_eq!(stop.to_string(), "no output is given for final/1/0/1");
    let trace = run(&two(), json!({}), &sample(json!({"draft": ["x"]})));
    assert!(
        matches!(trace.end, End::Failed(failure) if failure.message.contains("template") || failure.message.contains("rendered"))
    );
}

#[test]
fn maps_waits_requests_and_children_are_resolved_at_once() {
    let definition = definition(&json!([
        {"name": "all", "kind": "map", "items_path": "inputs.list", "stage": "each", "concurrency": 2},
        {"name": "each", "kind": "llm", "model": "m", "prompt": "{{ index }}: {{ item }}"},
        {"name": "rest", "kind": "wait", "duration_ms": 86_400_000},
        {"name": "paid", "kind": "wait", "duration_ms": 5_000, "signal": "paid"},
        {"name": "send", "kind": "http", "method": "POST", "url": "https://example.com/{{ inputs.list[0] }}"},
        {"name": "sub", "kind": "workflow", "workflow_id": "w"},
    ]));
    let outputs =
        sample(json!({"each": ["A", "B", "C"], "paid": [{"n": 1}], "send": [{"status": 200}], "sub": [{"o": 1}]}));
    let trace = run(&definition, json!({"list": ["a", "b", "c"]}), &outputs);
    let stages: Vec<_> = trace
        .steps
        .iter()
        .map(|step| (step.of.stage.as_str(), step.of.item))
        .collect();
    let expected = [
        ("each", 0),
        ("each", 1),
        ("each", 2),
        ("rest", 0),
        ("paid", 0),
        ("send", 0),
        ("sub", 0),
    ];
    assert_eq!(stages, expected);
    assert_eq!(trace.steps[1].prompt.as_ref().unwrap().prompt, "1: b");
    assert_eq!(
        trace.steps[5].prompt.as_ref().unwrap().prompt,
        "POST https://example.com/a\n\n"
    );
    assert_eq!(trace.steps[4].output, json!({"n": 1}));
    assert!(matches!(trace.end, End::Completed { .. }));
}

#[test]
fn people_let_everything_pass_unless_something_else_is_given() {
    let definition = definition(&json!([
        {"name": "ask", "kind": "approval", "question": "Send {{ inputs.x }}?", "required": 2, "next_on_fail": "other", "next_on_pass": "end"},
        {"name": "other", "kind": "llm", "model": "m", "prompt": "p"},
    ]));
    let trace = run(&definition, json!({"x": 1}), &Sample::default());
    assert_eq!(trace.steps[0].output, json!({"question": "Send 1?"}));
    assert!(
        matches!(&trace.end, End::Completed { outputs } if outputs["ask"]["decisions"].as_array().unwrap().len() == 2)
    );
    let refusing = Sample {
        decisions: [("ask".to_owned(), vec![Ruling::Pass, Ruling::Fail])].into(),
        outputs: [("other".to_owned(), vec![json!("o")])].into(),
    };
    let trace = run(&definition, json!({"x": 1}), &refusing);
    assert_eq!(trace.steps[0].next.as_deref(), Some("other"));
    assert!(matches!(&trace.end, End::Completed { outputs } if outputs["other"] == "o"));
}

#[test]
fn a_check_that_needs_a_model_is_taken_as_passed_and_said_to_be_unmade() {
    let mut definition = two();
    definition.stages[0].validation = Validation::Llm(crate::engine::definition::Judge::default());
    let trace = run(
        &definition,
        json!({"topic": "t"}),
        &sample(json!({"draft": ["x"], "final": ["y"]})),
    );
    assert_eq!(trace.steps[0].check.notes, "no model was asked to judge");
    assert!(matches!(trace.end, End::Completed { .. }));
}

#[test]
fn a_recorded_run_is_run_again_with_its_answers_and_another_definition() {
    let said = |attempt: u32, text: &str| AttemptPayload {
        raw_output: text.into(),
        ..attempt_of("draft", 1, attempt, json!(text))
    };
    let journal = entries([failing(attempt_of("draft", 1, 1, Value::Null)), said(2, "long enough")]);
    let inputs = json!({"topic": "tea"}).as_object().unwrap().clone();
    let trace = dry_run(&two(), &inputs, Answers::Recorded(&journal));
    assert_eq!(trace.steps.len(), 2);
    assert_eq!(trace.steps[0].failure.as_ref().unwrap().reason, "upstream");
    assert!(matches!(trace.end, End::Stopped(Stop::NoOutput(of)) if of.stage == "final"));
    let mut stricter = two();
    stricter.stages[0].validation = Validation::Regex {
        pattern: "^never".into(),
    };
    let trace = dry_run(&stricter, &inputs, Answers::Recorded(&journal));
    assert!(matches!(trace.end, End::Failed(_)));
}

#[test]
fn a_loop_ends_at_the_transition_limit_here_too() {
    let definition = definition(&json!([{"name": "a", "kind": "wait", "duration_ms": 1, "next_on_pass": "a"}]));
    let trace = run(&definition, json!({}), &Sample::default());
    assert!(matches!(trace.end, End::Failed(failure) if failure.class == FailureClass::Capped));
    assert_eq!(trace.steps.len(), 101);
}
