use serde_json::{Value, json};
use service_kit::error::{Error, Violation};

use super::*;

fn found(draft: Value) -> Vec<Violation> {
    let draft: Definition = serde_json::from_value(draft).unwrap();
    let model = |provider: &str, enabled| KnownModel {
        provider: provider.into(),
        enabled,
    };
    let models = BTreeMap::from([
        ("offline".to_owned(), model("offline", true)),
        ("old".to_owned(), model("openai", false)),
        ("gpt".to_owned(), model("openai", true)),
    ]);
    match problems(&draft, &models).finish() {
        Ok(()) => Vec::new(),
        Err(Error::Invalid(violations)) => violations,
        Err(other) => panic!("{other}"),
    }
}

fn fields(draft: Value) -> Vec<String> {
    found(draft).into_iter().map(|it| it.field).collect()
}

/// A draft of stages that call a model, each with something changed.
fn stages(changes: &[Value]) -> Value {
    let stages: Vec<_> = changes
        .iter()
        .zip(["one", "two", "three"])
        .map(|(change, name)| {
            let mut stage = json!({"name": name, "kind": "llm", "model": "offline", "prompt": "p"});
            for (key, value) in change.as_object().unwrap() {
                stage[key] = value.clone();
            }
            stage
        })
        .collect();
    json!({ "stages": stages })
}

#[test]
fn a_draft_without_problems_has_none() {
    let draft = json!({
        "stages": [
            {"name": "find", "kind": "llm", "model": "offline", "prompt": "Sum up: {{ chunks }} {{ inputs.topic }}",
             "retrieval": {"query": "{{ topic }}", "limit": 50, "document_ids_path": "inputs.documents"},
             "input_mapping": {"topic": "inputs.topic"}},
            {"name": "points", "kind": "llm", "model": "offline", "prompt": "{{ stage_1.output }} {{ validation_notes }}",
             "response_schema": {"type": "object", "properties": {"points": {"type": "array", "items": {"type": "string"}}}},
             "validation": {"type": "json_schema", "schema": {"type": "object"}}, "retry_limit": 20,
             "next_on_fail": "find"},
            {"name": "brief", "kind": "llm", "model": "gpt", "prompt": "{{ s }} {{ p }}", "timeout_ms": 3_600_000,
             "input_mapping": {"s": "stages.find.output", "p": "stages.2.output.points"},
             "config": {"temperature": 1, "max_tokens": 10}, "output_variables": {"text": "string"},
             "validation": {"type": "regex", "pattern": "(?i)^brief"}, "next_on_pass": "end", "next_on_fail": "last"},
            {"name": "last", "kind": "retrieve", "query": "{{ inputs.topic }}"},
        ],
        "transition_limit": 10_000,
        "input_schema": {"type": "object", "required": ["topic"]},
    });
    assert_eq!(found(draft), []);
}

#[test]
fn the_definition_as_a_whole_is_checked() {
    let draft = json!({"stages": [], "transition_limit": 10_001, "input_schema": {"type": "thing"}});
    assert_eq!(
        fields(draft),
        ["draft.stages", "draft.transition_limit", "draft.input_schema"]
    );
    assert_eq!(
        fields(json!({"stages": [], "input_schema": {"$ref": "http://example.com/x"}}))[1],
        "draft.input_schema"
    );
}

#[test]
fn names_are_checked() {
    for name in ["", "1a", "a-b", "é", "end", "two", &"a".repeat(65)] {
        let draft = stages(&[json!({}), json!({}), json!({ "name": name })]);
        assert_eq!(fields(draft), ["draft.stages[2].name"], "{name}");
    }
}

#[test]
fn targets_must_exist_and_every_stage_must_be_reached() {
    let draft = stages(&[
        json!({"next_on_pass": "nowhere", "next_on_fail": "three"}),
        json!({}),
        json!({}),
    ]);
    assert_eq!(fields(draft), ["draft.stages[0].next_on_pass", "draft.stages[1]"]);
    let draft = stages(&[
        json!({"next_on_pass": "end"}),
        json!({}),
        json!({"next_on_fail": "gone"}),
    ]);
    assert_eq!(
        fields(draft),
        ["draft.stages[1]", "draft.stages[2]", "draft.stages[2].next_on_fail"]
    );
}

#[test]
fn what_is_not_served_yet_says_so() {
    let draft = stages(&[
        json!({"kind": "wait", "duration_ms": 5, "signal": null}),
        json!({"validation": {"type": "llm", "model": "", "criteria": ""}}),
        json!({"validation": {"type": "function", "name": "", "cel": ""}}),
    ]);
    let found = found(draft);
    let fields: Vec<_> = found.iter().map(|it| it.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "draft.stages[0].wait",
            "draft.stages[1].validation.llm",
            "draft.stages[2].validation.function"
        ]
    );
    assert!(found.iter().all(|it| it.description.ends_with("is not served yet")));
}

#[test]
fn models_must_be_there_and_enabled() {
    let draft = stages(&[json!({"model": ""}), json!({"model": "gone"}), json!({"model": "old"})]);
    assert_eq!(
        fields(draft),
        [
            "draft.stages[0].llm.model",
            "draft.stages[1].llm.model",
            "draft.stages[2].llm.model"
        ]
    );
}

#[test]
fn templates_must_parse_and_be_supplied() {
    let draft = stages(&[
        json!({"prompt": "{{ a", "system": "{{ chunks }}"}),
        json!({"prompt": " ", "retrieval": {"query": "{{ chunks }} {{ stage_9.output }}"}}),
        json!({"prompt": "{{ b }}{{ c }}", "input_mapping": {"b": "inputs.b"}}),
    ]);
    assert_eq!(
        fields(draft),
        [
            "draft.stages[0].llm.prompt",
            "draft.stages[0].llm.system",
            "draft.stages[1].llm.prompt",
            "draft.stages[1].llm.retrieval.query",
            "draft.stages[1].llm.retrieval.query",
            "draft.stages[2].llm.prompt",
        ]
    );
}

#[test]
fn mappings_must_have_names_of_their_own_and_paths_that_can_have_a_value() {
    let draft = stages(&[
        json!({"input_mapping": {
            "early": "stages.two.output", "self": "stage_1.output", "none": "stages.gone.output", "bad": "x",
            "in-valid": "inputs.x", "inputs": "inputs.x", "chunks": "inputs.x",
        }}),
        json!({}),
    ]);
    let mut named = fields(draft);
    named.sort();
    let expected = ["bad", "chunks", "early", "in-valid", "inputs", "none", "self"];
    assert_eq!(named, expected.map(|it| format!("draft.stages[0].input_mapping.{it}")));
    let looping = stages(&[
        json!({"input_mapping": {"early": "stages.two.output"}}),
        json!({"next_on_fail": "one"}),
    ]);
    assert_eq!(found(looping), [], "a loop brings it before");
}

#[test]
fn retrievals_are_checked() {
    let draft = json!({"stages": [
        {"name": "a", "kind": "retrieve", "query": " ", "limit": 51},
        {"name": "b", "kind": "retrieve", "document_ids_path": "documents"},
    ]});
    assert_eq!(
        fields(draft),
        [
            "draft.stages[0].retrieve.retrieval.limit",
            "draft.stages[0].retrieve.retrieval.query",
            "draft.stages[1].retrieve.retrieval.document_ids_path",
        ]
    );
}

#[test]
fn numbers_have_ranges() {
    let draft = stages(&[
        json!({"retry_limit": 21}),
        json!({"timeout_ms": 0}),
        json!({"timeout_ms": 3_600_001}),
    ]);
    assert_eq!(
        fields(draft),
        [
            "draft.stages[0].retry_limit",
            "draft.stages[1].timeout",
            "draft.stages[2].timeout"
        ]
    );
    let draft = stages(&[json!({"config": {"temperature": 3, "unheard": 1}})]);
    assert_eq!(
        fields(draft),
        [
            "draft.stages[0].llm.config.temperature",
            "draft.stages[0].llm.config.unheard"
        ]
    );
}

#[test]
fn expressions_must_compile_and_stay_small() {
    for pattern in ["", "(", "(?=x)", r"\1", "(a{1000}){1000}", &"x".repeat(1_001)] {
        let draft = stages(&[json!({"validation": {"type": "regex", "pattern": pattern}})]);
        assert_eq!(fields(draft), ["draft.stages[0].validation.regex.pattern"], "{pattern}");
    }
}

#[test]
fn schemas_must_compile_and_fit_the_offline_model() {
    let draft = stages(&[
        json!({"validation": {"type": "json_schema", "schema": {"type": 1}}}),
        json!({"response_schema": {"properties": []}}),
        json!({"response_schema": {"type": "object", "not": {"type": "string"}}}),
    ]);
    assert_eq!(
        fields(draft),
        [
            "draft.stages[0].validation.json_schema.schema",
            "draft.stages[1].llm.response_schema",
            "draft.stages[2].llm.response_schema",
        ]
    );
    let draft = stages(&[json!({"model": "gpt", "response_schema": {"type": "object", "not": {"type": "string"}}})]);
    assert_eq!(found(draft), []);
}
