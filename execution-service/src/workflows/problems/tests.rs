use serde_json::{Value, json};
use service_kit::{
    error::{Error, Violation},
    ids::WorkflowId,
};

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
            {"name": "last", "kind": "retrieve", "query": "{{ inputs.topic }}", "next_on_pass": "ask"},
            {"name": "each", "kind": "http", "method": "POST", "url": "https://example.com/{{ id }}", "body": "{{ item.x }} {{ index }}",
             "headers": {"Accept": "text/{{ inputs.topic }}"}, "repeatable": true, "retry_limit": 2,
             "input_mapping": {"id": "item.id", "place": "index"},
             "validation": {"type": "function", "name": "not_empty", "cel": "output.status < 300 && size(text) > 0 && has(item.x)"}},
            {"name": "all", "kind": "map", "items_path": "stages.points.output.points", "stage": "each", "concurrency": 64},
            {"name": "ask", "kind": "approval", "question": "Send {{ stages.last.output.text }}?", "required": 2,
             "approvers": {"role": "admin"}, "expires_after_ms": 60_000, "remind_after_ms": 1_000, "next_on_expiry": "rest"},
            {"name": "sub", "kind": "workflow", "workflow_id": "01900000-0000-7000-8000-000000000001",
             "input_mapping": {"inputs": "inputs"}, "routes_on_fail": [{"when": "failure.class == 'capped' && visit < 3", "to": "rest"}]},
            {"name": "rest", "kind": "wait", "duration_ms": 1_000, "until_path": "inputs.until", "signal": "go",
             "routes_on_pass": [{"when": "output.ok && stages.ask.output.approved && stage_1.output != ''", "to": "all"}]},
            {"name": "polite", "kind": "llm", "model": "offline", "fallback_models": ["gpt"], "prompt": "{{ stages.all.output }}",
             "validation": {"type": "llm", "model": "gpt", "criteria": "Polite.", "threshold": 0.5, "prompt": "{{ criteria }}"},
             "retry": {"classes": ["timeout"], "first_backoff_ms": 100, "max_backoff_ms": 1_000}},
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

/// A connection's id.
const ID: &str = "01900000-0000-7000-8000-000000000001";

#[test]
fn a_flow_has_a_connection_an_id_and_a_question() {
    let draft = stages(&[
        json!({"kind": "flowise", "connection_id": "", "flow_id": "", "question": ""}),
        json!({"kind": "flowise", "connection_id": ID, "flow_id": "f", "question": "{{ inputs.x"}),
        json!({"kind": "flowise", "connection_id": ID, "flow_id": "f", "question": "go"}),
    ]);
    assert_eq!(
        fields(draft),
        [
            "draft.stages[0].flowise.connection_id",
            "draft.stages[0].flowise.flow_id",
            "draft.stages[0].flowise.question",
            "draft.stages[1].flowise.question",
        ]
    );
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

#[test]
fn conditions_must_compile_and_read_what_is_there() {
    let draft = stages(&[
        json!({"routes_on_pass": [
            {"when": "1 +", "to": "end"},
            {"when": "failure.class == 'timeout'", "to": "end"},
            {"when": "stages.gone.output == 1", "to": "end"},
            {"when": "stage_2.output == 1", "to": "end"},
            {"when": "stages.one.output == 1 && output == 1", "to": "gone"},
            {"when": "item == 1", "to": "end"},
        ]}),
        json!({"validation": {"type": "function", "cel": "visit == 1"}}),
    ]);
    let pass = |i: usize| format!("draft.stages[0].routes_on_pass[{i}].when");
    let mut expected: Vec<String> = [0, 1, 2, 3, 5].map(pass).into();
    expected.insert(0, "draft.stages[0].routes_on_pass[4].to".into());
    expected.push("draft.stages[1].validation.function.cel".into());
    assert_eq!(fields(draft), expected);
    let many = vec![json!({"when": "true", "to": "end"}); 21];
    assert_eq!(
        fields(stages(&[json!({"routes_on_fail": many})])),
        ["draft.stages[0].routes_on_fail"]
    );
}

#[test]
fn a_stage_from_which_the_end_cannot_be_reached_is_a_problem() {
    let draft = stages(&[json!({}), json!({"next_on_pass": "two"})]);
    assert_eq!(fields(draft), ["draft.stages[0]"]);
    let draft = stages(&[json!({}), json!({"next_on_pass": "one"})]);
    assert_eq!(found(draft), [], "a loop is bounded");
    let draft = stages(&[json!({}), json!({"next_on_pass": "two", "next_on_fail": "end"})]);
    assert_eq!(found(draft), [], "a way out is one");
}

#[test]
fn functions_and_judges_are_checked() {
    let draft = stages(&[
        json!({"validation": {"type": "function"}}),
        json!({"validation": {"type": "function", "name": "unheard"}}),
        json!({"validation": {"type": "llm", "model": "gone", "criteria": " ", "threshold": 1.5, "prompt": "{{ x }}"}}),
    ]);
    assert_eq!(
        fields(draft),
        [
            "draft.stages[0].validation.function",
            "draft.stages[1].validation.function.name",
            "draft.stages[2].validation.llm.model",
            "draft.stages[2].validation.llm.criteria",
            "draft.stages[2].validation.llm.threshold",
            "draft.stages[2].validation.llm.prompt",
        ]
    );
}

#[test]
fn fallback_models_and_retries_are_checked() {
    let draft = stages(&[
        json!({"fallback_models": ["offline", "gone", "gpt", "gpt"]}),
        json!({"fallback_models": ["gpt", "a", "b", "c", "d", "e"]}),
        json!({"retry": {"first_backoff_ms": 3_600_001, "max_backoff_ms": 1}}),
    ]);
    let found = fields(draft);
    assert_eq!(
        found[..4],
        [
            "draft.stages[0].llm.fallback_models[0]",
            "draft.stages[0].llm.fallback_models[1]",
            "draft.stages[0].llm.fallback_models[3]",
            "draft.stages[1].llm.fallback_models",
        ]
    );
    let retry = [
        "draft.stages[2].retry.first_backoff",
        "draft.stages[2].retry.max_backoff",
    ];
    assert_eq!(found[found.len() - 2..], retry);
}

#[test]
fn requests_are_checked() {
    let http = |method: &str, url: &str| json!({"name": "a", "kind": "http", "method": method, "url": url});
    let one = |stage: Value| fields(json!({"stages": [stage]}));
    assert_eq!(
        one(http("TRACE", "https://example.com")),
        ["draft.stages[0].http.method"]
    );
    for url in ["", "example.com", "{{ inputs.url }}", "file:///etc/passwd", "http://"] {
        assert_eq!(one(http("GET", url)), ["draft.stages[0].http.url"], "{url}");
    }
    assert_eq!(
        one(http("GET", "https://example.com/{{ gone }}")),
        ["draft.stages[0].http.url"]
    );
    let mut with_body = http("GET", "https://example.com");
    with_body["body"] = json!("x");
    with_body["headers"] = json!({"Host": "x", "a b": "x", "X-Y": "{{ z }}"});
    assert_eq!(
        one(with_body),
        [
            "draft.stages[0].http.body",
            "draft.stages[0].http.headers.Host",
            "draft.stages[0].http.headers.X-Y",
            "draft.stages[0].http.headers.a b",
        ]
    );
}

#[test]
fn maps_and_their_bodies_are_checked() {
    let with = |map: Value, body: Value| {
        let mut stages = json!([
            {"name": "all", "kind": "map", "items_path": "inputs.x", "stage": "each"},
            {"name": "each", "kind": "retrieve", "query": "{{ item }}"},
            {"name": "last", "kind": "retrieve", "query": "q"},
        ]);
        for (stage, changes) in [map, body].into_iter().enumerate() {
            for (key, value) in changes.as_object().unwrap() {
                stages[stage][key] = value.clone();
            }
        }
        fields(json!({ "stages": stages }))
    };
    assert_eq!(with(json!({}), json!({})), Vec::<String>::new());
    assert_eq!(
        with(json!({"concurrency": 65, "items_path": "x"}), json!({})),
        ["draft.stages[0].map.items_path", "draft.stages[0].map.concurrency"]
    );
    assert_eq!(
        with(json!({}), json!({"validation": {"type": "manual"}})),
        ["draft.stages[0].map.stage"]
    );
    assert_eq!(
        with(json!({"stage": "gone"}), json!({"query": "q"})),
        ["draft.stages[0].map.stage"]
    );
    assert_eq!(
        with(json!({}), json!({"next_on_pass": "last"})),
        ["draft.stages[1].next_on_pass"]
    );
    assert_eq!(
        with(json!({"next_on_pass": "each"}), json!({}))[0],
        "draft.stages[0].next_on_pass"
    );
    assert_eq!(
        with(
            json!({"retry_limit": 1, "validation": {"type": "regex", "pattern": "x"}}),
            json!({})
        ),
        ["draft.stages[0].validation", "draft.stages[0].retry_limit"]
    );
    let twice = json!({"stages": [
        {"name": "a", "kind": "map", "items_path": "inputs.x", "stage": "each"},
        {"name": "b", "kind": "map", "items_path": "stages.each.output", "stage": "each"},
        {"name": "each", "kind": "wait", "duration_ms": 1},
    ]});
    assert_eq!(
        fields(twice),
        [
            "draft.stages[0].map.stage",
            "draft.stages[1].map.items_path",
            "draft.stages[1].map.stage",
            "draft.stages[1].map.stage"
        ]
    );
    let item = stages(&[json!({"prompt": "{{ item }}", "input_mapping": {"x": "item.y"}})]);
    assert_eq!(
        fields(item),
        ["draft.stages[0].input_mapping.x", "draft.stages[0].llm.prompt"]
    );
}

#[test]
fn waits_and_sub_workflows_are_checked() {
    let one = |stage: Value| fields(json!({"stages": [stage]}));
    assert_eq!(one(json!({"name": "a", "kind": "wait"})), ["draft.stages[0].wait"]);
    assert_eq!(
        one(json!({"name": "a", "kind": "wait", "duration_ms": 0, "until_path": "x"})),
        ["draft.stages[0].wait.duration", "draft.stages[0].wait.until_path"]
    );
    assert_eq!(
        one(json!({"name": "a", "kind": "workflow", "workflow_id": "x"})),
        ["draft.stages[0].workflow.workflow_id"]
    );
}

#[test]
fn policies_that_nobody_can_satisfy_are_problems() {
    let id = |n: u32| format!("01900000-0000-7000-8000-00000000000{n}");
    let policy = |changes: Value| {
        let mut stage = json!({"name": "a", "kind": "approval", "question": "?"});
        for (key, value) in changes.as_object().unwrap() {
            stage[key] = value.clone();
        }
        let found = fields(json!({"stages": [stage]})).into_iter();
        found
            .map(|it| it.replace("draft.stages[0].approval.", ""))
            .collect::<Vec<_>>()
    };
    let none: Vec<String> = Vec::new();
    assert_eq!(policy(json!({})), none);
    assert_eq!(policy(json!({"question": " "})), ["question"]);
    assert_eq!(
        policy(json!({"required": 3, "approvers": {"users": [id(1), id(2), id(2)]}})),
        ["policy.required"]
    );
    assert_eq!(
        policy(json!({"required": 2, "approvers": {"users": [id(1), id(2)]}})),
        none
    );
    assert_eq!(
        policy(
            json!({"required": 2, "approvers": {"users": [id(1)]}, "escalate_after_ms": 1_000, "escalate_to": {"users": [id(2)]}})
        ),
        none
    );
    assert_eq!(
        policy(json!({"required": 2, "approvers": {"users": [id(1)], "role": "admin"}})),
        none
    );
    assert_eq!(policy(json!({"required": 101})), ["policy.required"]);
    assert_eq!(
        policy(json!({"expires_after_ms": 1, "remind_after_ms": 2_000})),
        ["policy.expires_after", "policy.remind_after"]
    );
    assert_eq!(policy(json!({"next_on_expiry": "end"})), ["policy.next_on_expiry"]);
    assert_eq!(
        policy(json!({"next_on_expiry": "gone", "expires_after_ms": 1_000})),
        ["policy.next_on_expiry"]
    );
    assert_eq!(
        policy(json!({"escalate_to": {"role": "admin"}})),
        ["policy.escalate_to"]
    );
    assert_eq!(
        policy(json!({"form": {"type": "thing"}, "may_edit": true})),
        ["policy.may_edit", "policy.form"]
    );
}

#[test]
fn a_stage_can_only_run_a_workflow_that_is_there_and_not_its_own() {
    let [itself, other, bare, gone] = [(); 4].map(|()| WorkflowId::generate());
    let child = |name: &str, id: &str, version: Option<u32>| json!({"name": name, "kind": "workflow", "workflow_id": id, "version": version});
    let draft: Definition = serde_json::from_value(json!({"stages": [
        child("a", &itself.to_string(), None),
        child("b", &other.to_string(), None),
        child("c", &other.to_string(), Some(2)),
        child("d", &other.to_string(), Some(3)),
        child("e", &bare.to_string(), None),
        child("f", &gone.to_string(), None),
        child("g", "no id", None),
    ]}))
    .unwrap();
    assert_eq!(called(&draft), [itself, other, other, other, bare, gone]);
    let callable = BTreeMap::from([(itself, 1), (other, 2), (bare, 0)]);
    let wrong = |workflow| {
        let mut found = Violations::new();
        uncallable(&mut found, &draft, workflow, &callable);
        match found.finish() {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|it| it.field).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    let always = [
        "draft.stages[3].workflow.version",
        "draft.stages[4].workflow.workflow_id",
        "draft.stages[5].workflow.workflow_id",
    ];
    assert_eq!(wrong(None), always);
    assert_eq!(wrong(Some(itself))[0], "draft.stages[0].workflow.workflow_id");
    assert_eq!(wrong(Some(itself))[1..], always);
}
