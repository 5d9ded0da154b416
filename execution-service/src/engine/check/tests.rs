use proptest::prelude::*;

use super::*;
use crate::engine::{
    definition::{Llm, Retrieval, VariableType},
    testing::stage,
};

fn regex(pattern: &str) -> Stage {
    Stage {
        validation: Validation::Regex {
            pattern: pattern.into(),
        },
        ..stage("a")
    }
}

fn against(schema: Value) -> Stage {
    Stage {
        validation: Validation::JsonSchema { schema },
        ..stage("a")
    }
}

fn responding(schema: Value) -> Stage {
    let mut stage = stage("a");
    if let Kind::Llm(Llm { response_schema, .. }) = &mut stage.kind {
        *response_schema = Some(schema);
    }
    stage
}

fn with_variables(variables: &[(&str, VariableType)]) -> Stage {
    Stage {
        output_variables: variables.iter().map(|(name, kind)| ((*name).into(), *kind)).collect(),
        ..stage("a")
    }
}

fn failure(checked: &Checked) -> (FailureClass, &str, bool) {
    let failure = checked.failure.as_ref().expect("the check fails");
    (failure.class, &failure.reason, failure.retryable)
}

fn answer(stage: &Stage, text: &str) -> Checked {
    super::answer(stage, text, Seen::default())
}

fn value(stage: &Stage, output: Value, text: &str) -> Checked {
    super::value(stage, output, text, Seen::default())
}

#[test]
fn without_a_check_the_output_is_the_text() {
    let checked = answer(&stage("a"), "anything {\"at\": all}");
    assert_eq!(checked.output, "anything {\"at\": all}");
    assert_eq!(
        (checked.verdict.result, checked.failure),
        (CheckResult::Unchecked, None)
    );
}

#[test]
fn an_expression_must_be_found_somewhere_in_the_text() {
    assert_eq!(answer(&regex("b+c"), "abbcd").verdict.result, CheckResult::Pass);
    let checked = answer(&regex("^b"), "abbcd");
    assert_eq!(failure(&checked), (FailureClass::Validation, "regex", true));
    assert_eq!(checked.verdict.result, CheckResult::Fail);
    assert_eq!(checked.verdict.notes, "the output does not match the expression ^b");
    assert_eq!(checked.output, Value::Null);
}

#[test]
fn a_check_that_cannot_be_made_is_an_error_that_lasts() {
    for broken in [
        regex("("),
        regex("(a{1000}){1000}"),
        regex(r"(?=x)"),
        against(json!({"type": "unheard"})),
        Stage {
            validation: Validation::Function {
                name: "f".into(),
                arguments: Map::new(),
                cel: Expression::default(),
            },
            ..stage("a")
        },
    ] {
        let checked = answer(&broken, "{}");
        assert_eq!(checked.verdict.result, CheckResult::Error);
        assert_eq!(failure(&checked), (FailureClass::Validation, "check", false));
    }
}

#[test]
fn a_person_is_asked_about_an_output_only_if_it_has_what_its_stage_wants() {
    let mut stage = responding(json!({"type": "object", "required": ["n"]}));
    stage.validation = Validation::Manual(Box::default());
    let waits = answer(&stage, r#"{"n": 1}"#);
    assert_eq!(waits.verdict.result, CheckResult::Pending);
    assert_eq!((waits.output, waits.failure), (json!({"n": 1}), None));
    let fails = answer(&stage, "{}");
    assert_eq!(fails.verdict.result, CheckResult::Fail);
    assert_eq!(failure(&fails), (FailureClass::Validation, "schema", true));
}

#[test]
fn a_hostile_expression_takes_no_time() {
    let text = "a".repeat(50_000);
    assert_eq!(answer(&regex("(a+)+$b"), &text).verdict.result, CheckResult::Fail);
    let schema = against(json!({"type": "string", "pattern": "^(a+)+$b"}));
    assert_eq!(answer(&schema, &format!("{text:?}")).verdict.result, CheckResult::Fail);
}

#[test]
fn where_json_is_asked_for_the_output_is_parsed() {
    let stage = responding(json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}));
    for text in [
        "{\"n\": 1}",
        "```json\n{\"n\": 1}\n```",
        "```\n{\"n\":1}```\n",
        "  {\"n\":1} \n",
    ] {
        let checked = answer(&stage, text);
        assert_eq!(checked.output, json!({"n": 1}), "{text}");
        assert_eq!(checked.verdict.result, CheckResult::Pass);
    }
    let wrong = answer(&stage, "{\"n\": \"a secret\"}");
    assert_eq!(failure(&wrong), (FailureClass::Validation, "schema", true));
    assert!(wrong.verdict.notes.starts_with("at /n: "), "{}", wrong.verdict.notes);
    assert!(
        !wrong.verdict.notes.contains("secret"),
        "notes do not repeat the output"
    );
}

#[test]
fn no_json_where_it_was_asked_for_is_the_providers_fault_and_else_a_failed_check() {
    for stage in [responding(json!({})), with_variables(&[("n", VariableType::Number)])] {
        let checked = answer(&stage, "Sure! Here it is.");
        assert_eq!(failure(&checked), (FailureClass::ProviderError, "not_json", true));
        assert!(checked.verdict.notes.starts_with("the answer is not JSON"));
    }
    assert_eq!(
        failure(&answer(&against(json!({})), "Sure!")),
        (FailureClass::Validation, "schema", true)
    );
}

#[test]
fn output_variables_must_be_there_with_their_types() {
    let stage = with_variables(&[("n", VariableType::Integer), ("s", VariableType::String)]);
    assert_eq!(answer(&stage, r#"{"n": 1, "s": "x", "more": true}"#).failure, None);
    for text in [
        r#"{"n": 1}"#,
        r#"{"n": 1.5, "s": "x"}"#,
        r#"{"n": "1", "s": "x"}"#,
        "[]",
        "null",
    ] {
        assert_eq!(
            failure(&answer(&stage, text)),
            (FailureClass::Validation, "schema", true),
            "{text}"
        );
    }
}

#[test]
fn a_schema_check_and_an_expression_apply_to_an_output_with_variables_too() {
    let mut stage = with_variables(&[("s", VariableType::String)]);
    stage.validation = Validation::Regex { pattern: "tea".into() };
    assert_eq!(answer(&stage, r#"{"s": "tea"}"#).failure, None);
    assert_eq!(failure(&answer(&stage, r#"{"s": "milk"}"#)).1, "regex");
    assert_eq!(failure(&answer(&stage, r#"{"t": "tea"}"#)).1, "schema");
}

#[test]
fn escapes_that_cannot_be_stored_are_taken_out_and_said() {
    let checked = answer(&responding(json!({"type": "object"})), r#"{"s": "a\u0000b\ud800"}"#);
    assert_eq!(checked.output, json!({"s": "ab\u{FFFD}"}));
    assert!(checked.cleaned);
}

#[test]
fn notes_are_bounded() {
    let schema = against(json!({"type": "array", "items": {"type": "string"}}));
    let checked = answer(&schema, &format!("{:?}", (0..1000).collect::<Vec<_>>()));
    assert_eq!(checked.verdict.notes.matches("at /").count(), MAX_PROBLEMS);
    assert!(checked.verdict.notes.chars().count() <= MAX_NOTES);
}

#[test]
fn a_retrieved_output_is_checked_as_it_is() {
    let retrieving = Stage {
        kind: Kind::Retrieve(Retrieval {
            query: "q".into(),
            ..Retrieval::default()
        }),
        validation: Validation::JsonSchema {
            schema: json!({"properties": {"chunks": {"minItems": 1}}}),
        },
        ..stage("a")
    };
    assert_eq!(
        value(&retrieving, json!({"chunks": [1], "text": "t"}), "t").failure,
        None
    );
    assert_eq!(
        failure(&value(&retrieving, json!({"chunks": [], "text": ""}), "")).0,
        FailureClass::Validation
    );
}

#[test]
fn the_model_is_asked_to_fill_the_schema_or_the_variables() {
    assert_eq!(response_schema(&stage("a")), None);
    assert_eq!(
        response_schema(&responding(json!({"type": "array"}))),
        Some(json!({"type": "array"}))
    );
    let made = response_schema(&with_variables(&[("n", VariableType::Integer)])).unwrap();
    assert_eq!(
        made,
        json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
    );
}

#[test]
fn schemas_reach_nothing_outside() {
    for reference in [
        "http://127.0.0.1:1/x.json",
        "https://example.com/s",
        "file:///etc/passwd",
    ] {
        assert!(Schema::compile(&json!({"$ref": reference})).is_err(), "{reference}");
    }
    assert!(Schema::compile(&json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}})).is_ok());
}

#[test]
fn problems_name_where_and_what() {
    let schema = Schema::compile(&json!({"required": ["a"], "properties": {"b": {"type": "string"}}})).unwrap();
    let problems = schema.problems(&json!({"b": 1}));
    let pointers: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(
        (pointers.len(), pointers.contains(&"/b"), pointers.contains(&"")),
        (2, true, true)
    );
}

proptest! {
    #[test]
    fn an_output_is_there_exactly_when_the_check_passes(text in ".{0,80}", pattern in "[a-z]{1,3}") {
        for stage in [regex(&pattern), responding(json!({"type": "object"})), with_variables(&[("n", VariableType::Number)])] {
            let checked = answer(&stage, &text);
            prop_assert_eq!(checked.failure.is_some(), checked.output.is_null());
            prop_assert_eq!(checked.verdict.result == CheckResult::Pass, checked.failure.is_none());
        }
    }
}

fn function(name: &str, cel: &str) -> Stage {
    Stage {
        validation: Validation::Function {
            name: name.into(),
            arguments: Map::new(),
            cel: cel.into(),
        },
        ..stage("a")
    }
}

#[test]
fn a_named_check_and_a_condition_must_both_let_it_pass() {
    let both = function("not_empty", "text.contains('tea')");
    assert_eq!(answer(&both, "some tea").verdict.result, CheckResult::Pass);
    for text in ["milk", " "] {
        let checked = answer(&both, text);
        assert_eq!(checked.verdict.result, CheckResult::Fail, "{text}");
        assert_eq!(failure(&checked), (FailureClass::Validation, "function", true));
    }
    for broken in [
        function("unheard", ""),
        function("", "inputs.x == 1"),
        function("", "output.x =="),
    ] {
        assert_eq!(answer(&broken, "x").verdict.result, CheckResult::Error);
    }
}

#[test]
fn a_condition_sees_what_came_before_and_what_was_found() {
    let definition = crate::engine::definition::Definition {
        stages: vec![stage("a")],
        ..Default::default()
    };
    let inputs = json!({"least": 2}).as_object().unwrap().clone();
    let context = Context::new(&definition, &inputs, &[]);
    let sources = [Source {
        document_id: service_kit::ids::DocumentId::generate(),
        chunk_id: service_kit::ids::ChunkId::generate(),
        document_title: "Guide".into(),
        section: String::new(),
        page: None,
        overlap: String::new(),
        content: "c".into(),
    }];
    let seen = Seen {
        context: Some(&context),
        sources: &sources,
    };
    let condition = function(
        "",
        "size(text) >= inputs.least && sources.exists(s, s.document_title == 'Guide')",
    );
    assert_eq!(super::answer(&condition, "ab", seen).verdict.result, CheckResult::Pass);
    assert_eq!(super::answer(&condition, "a", seen).verdict.result, CheckResult::Fail);
}

#[test]
fn an_output_that_a_model_has_to_judge_fails_until_it_has() {
    let judged = Stage {
        validation: Validation::Llm(crate::engine::definition::Judge::default()),
        ..stage("a")
    };
    let open = || answer(&judged, "text");
    assert!(open().is_to_judge());
    assert_eq!(failure(&open()), (FailureClass::Validation, "not_judged", false));
    let verdict = |result, notes: &str| Verdict {
        result,
        notes: notes.into(),
    };
    let passed = open().judged(Ok(verdict(CheckResult::Pass, "")));
    assert_eq!((passed.failure, passed.output), (None, json!("text")));
    let refused = open().judged(Ok(verdict(CheckResult::Fail, "too cold")));
    assert_eq!(failure(&refused), (FailureClass::Validation, "judge", true));
    assert_eq!(
        (refused.output, refused.verdict.notes.as_str()),
        (Value::Null, "too cold")
    );
    let unread = AttemptFailure::passing(FailureClass::ProviderError, "judge", "it said nothing");
    let error = open().judged(Err(unread));
    assert_eq!(error.verdict.result, CheckResult::Error);
    assert_eq!(failure(&error), (FailureClass::ProviderError, "judge", true));
}

#[test]
fn an_edited_output_must_be_what_its_stage_demands_of_any() {
    let demanding = responding(json!({"type": "object", "required": ["n"]}));
    assert!(edited(&demanding, &json!({"n": 1})).is_empty());
    assert_eq!(edited(&demanding, &json!({})).len(), 1);
    assert!(edited(&stage("a"), &json!(7)).is_empty());
}
