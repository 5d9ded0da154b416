use service_kit::{error::Error, ids::StudioId};
use studios_proto::execution::{stage::Kind, validation::Check};

use super::*;

fn fields<T>(result: Result<T>) -> Vec<String> {
    match result {
        Err(Error::Invalid(violations)) => violations.into_iter().map(|it| it.field).collect(),
        _ => panic!("not refused for its input"),
    }
}

fn structure(json: &serde_json::Value) -> Option<prost_types::Struct> {
    json.as_object().map(update::json_to_struct)
}

fn stage(name: &str, kind: Kind) -> proto::Stage {
    proto::Stage {
        name: name.into(),
        kind: Some(kind),
        timeout: Some(prost_types::Duration { seconds: 120, nanos: 0 }),
        ..Default::default()
    }
}

fn check(check: Check) -> proto::Validation {
    proto::Validation { check: Some(check) }
}

/// A stage of every kind, with every kind of check.
#[expect(clippy::unnecessary_wraps, reason = "it is what fields of the contract are")]
fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn policy() -> proto::ApprovalPolicy {
    proto::ApprovalPolicy {
        approvers: Some(proto::Approvers {
            user_ids: vec!["01900000-0000-7000-8000-000000000001".into()],
            role: proto::ApproverRole::Admin.into(),
        }),
        required: 2,
        not_own_run: true,
        may_edit: true,
        may_delegate: true,
        form: structure(&serde_json::json!({"type": "object"})),
        expires_after: seconds(3),
        next_on_expiry: "end".into(),
        remind_after: seconds(1),
        escalate_after: seconds(2),
        escalate_to: Some(proto::Approvers {
            user_ids: Vec::new(),
            role: proto::ApproverRole::Member.into(),
        }),
    }
}

fn every_kind() -> proto::Definition {
    let retrieval = proto::Retrieval {
        query: "q".into(),
        limit: 3,
        document_ids_path: "inputs.ids".into(),
        mode: proto::RetrievalMode::Fused.into(),
        mime_types: vec!["text/plain".into()],
        tags: vec!["t".into()],
        max_age: seconds(60),
    };
    let llm = proto::LlmStage {
        fallback_models: vec!["n".into()],
        model: "m".into(),
        prompt: "p".into(),
        system: "s".into(),
        response_schema: structure(&serde_json::json!({"type": "object"})),
        config: structure(&serde_json::json!({"temperature": 0.5})),
        retrieval: Some(retrieval.clone()),
    };
    let mut stages = vec![
        stage("a", Kind::Llm(llm)),
        stage(
            "b",
            Kind::Retrieve(proto::RetrieveStage {
                retrieval: Some(retrieval),
            }),
        ),
        stage(
            "c",
            Kind::Activepieces(proto::ActivepiecesStage {
                connection_id: "c".into(),
                flow_id: "f".into(),
                mode: proto::FlowMode::Synchronous.into(),
                calls_back: true,
                tags_run: true,
            }),
        ),
        stage(
            "d",
            Kind::Flowise(proto::FlowiseStage {
                flow_id: "f".into(),
                ..Default::default()
            }),
        ),
        stage(
            "e",
            Kind::Http(proto::HttpStage {
                method: "GET".into(),
                url: "https://example.com".into(),
                body: "{{ x }}".into(),
                headers: [("Accept".to_owned(), "text/plain".to_owned())].into(),
                repeatable: true,
                connection_id: "c".into(),
            }),
        ),
        stage(
            "keep",
            Kind::File(proto::FileStage {
                file_name: "{{ x }}.csv".into(),
                content: "a".into(),
                mime_type: "text/csv".into(),
                reach: proto::FileReach::Company.into(),
                file_path: "inputs.report".into(),
            }),
        ),
        stage(
            "f",
            Kind::Workflow(proto::SubWorkflowStage {
                workflow_id: "w".into(),
                version: 3,
            }),
        ),
        stage(
            "g",
            Kind::Map(proto::MapStage {
                stage: "a".into(),
                concurrency: 2,
                items_path: "inputs.list".into(),
                on_item_failure: proto::OnItemFailure::Null.into(),
            }),
        ),
        stage(
            "h",
            Kind::Wait(proto::WaitStage {
                duration: Some(prost_types::Duration {
                    seconds: 1,
                    nanos: 500_000_000,
                }),
                signal: "s".into(),
                until_path: "inputs.until".into(),
            }),
        ),
        stage(
            "i",
            Kind::Approval(proto::ApprovalStage {
                required: 2,
                question: "?".into(),
                policy: Some(proto::ApprovalPolicy {
                    required: 0,
                    ..policy()
                }),
            }),
        ),
    ];
    stages[0].validation = Some(check(Check::Regex(proto::RegexCheck { pattern: "x".into() })));
    stages[1].validation = Some(check(Check::JsonSchema(proto::JsonSchemaCheck {
        schema: structure(&serde_json::json!({"type": "object"})),
    })));
    stages[2].validation = Some(check(Check::Manual(proto::ManualCheck { policy: Some(policy()) })));
    stages[3].validation = Some(check(Check::Function(proto::FunctionCheck {
        name: "n".into(),
        cel: "c".into(),
        arguments: structure(&serde_json::json!({"chars": 3})),
    })));
    stages[4].validation = Some(check(Check::Llm(proto::JudgeCheck {
        model: "m".into(),
        criteria: "c".into(),
        threshold: Some(0.5),
        prompt: "p".into(),
    })));
    stages[5].input_mapping.insert("x".into(), "inputs.x".into());
    stages[5].output_variables.insert("y".into(), "integer".into());
    stages[6].retry_limit = 3;
    stages[6].retry = Some(proto::RetryPolicy {
        classes: vec!["timeout".into(), "rate_limit".into()],
        first_backoff: seconds(1),
        max_backoff: seconds(2),
    });
    let route = |to: &str| proto::Route {
        when: "output == 1".into(),
        to: to.into(),
    };
    stages[6].routes_on_pass = vec![route("b"), route("end")];
    stages[6].routes_on_fail = vec![route("c")];
    stages[6].next_on_pass = "a".into();
    stages[6].next_on_fail = "end".into();
    stages[7].provider_overrides = structure(&serde_json::json!({"k": 1}));
    proto::Definition {
        stages,
        transition_limit: 7,
        input_schema: structure(&serde_json::json!({"type": "object"})),
        output_schema: structure(&serde_json::json!({"type": "string"})),
    }
}

#[test]
fn a_definition_of_every_kind_comes_back_as_it_was_given() {
    let given = every_kind();
    let mut violations = Violations::new();
    let read = definition::read(&mut violations, "draft", &given);
    violations.finish().unwrap();
    let stored = serde_json::to_value(&read).unwrap();
    let read: crate::engine::definition::Definition = serde_json::from_value(stored).unwrap();
    assert_eq!(proto::Definition::from(read), given);
}

#[test]
fn what_cannot_be_stored_is_named_and_all_of_it() {
    let mut draft = every_kind();
    draft.transition_limit = -1;
    draft.stages[0].name = "a\0".into();
    draft.stages[1].kind = None;
    draft.stages[2].retry_limit = -1;
    draft.stages[3].timeout = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    draft.stages[4].provider_overrides = structure(&serde_json::json!({"k": "\0"}));
    draft.stages[5].output_variables.insert("y".into(), "date".into());
    let workflow = proto::Workflow {
        studio_id: "s".into(),
        name: " ".into(),
        description: "d".repeat(2_001),
        metadata: structure(&serde_json::json!({"m": "x".repeat(METADATA_BYTES)})),
        draft: Some(draft),
        ..Default::default()
    };
    let request = proto::CreateWorkflowRequest {
        workflow: Some(workflow),
        request_id: "r".into(),
    };
    let mut named = fields(new("m", &request));
    named.sort();
    assert_eq!(
        named,
        [
            "request_id",
            "workflow.description",
            "workflow.draft.stages[0].name",
            "workflow.draft.stages[1].kind",
            "workflow.draft.stages[2].retry_limit",
            "workflow.draft.stages[3].timeout",
            "workflow.draft.stages[4].provider_overrides",
            "workflow.draft.stages[5].output_variables.y",
            "workflow.draft.transition_limit",
            "workflow.metadata",
            "workflow.name",
            "workflow.studio_id",
        ]
    );
}

#[test]
fn an_incomplete_draft_is_taken_and_one_that_is_too_large_is_not() {
    let mut workflow = proto::Workflow {
        studio_id: StudioId::generate().to_string(),
        name: "w".into(),
        ..Default::default()
    };
    let request = |workflow: &proto::Workflow| proto::CreateWorkflowRequest {
        workflow: Some(workflow.clone()),
        request_id: String::new(),
    };
    assert!(new("m", &request(&workflow)).is_ok());
    let llm = proto::LlmStage {
        prompt: "x".repeat(DRAFT_BYTES),
        ..Default::default()
    };
    workflow.draft = Some(proto::Definition {
        stages: vec![stage("", Kind::Llm(llm))],
        ..Default::default()
    });
    assert_eq!(fields(new("m", &request(&workflow))), ["workflow.draft"]);
}

#[test]
fn an_update_without_a_mask_changes_what_is_set() {
    let workflow = proto::Workflow {
        id: WorkflowId::generate().to_string(),
        description: "d".into(),
        etag: "r3".into(),
        ..Default::default()
    };
    let mut request = proto::UpdateWorkflowRequest {
        workflow: Some(workflow),
        update_mask: None,
    };
    let (_, etag, said) = changes(&request).unwrap();
    assert_eq!(
        (etag.as_str(), said.description.as_deref(), said.name.is_none()),
        ("r3", Some("d"), true)
    );
    request.update_mask = Some(FieldMask {
        paths: vec!["name".into(), "owner_id".into()],
    });
    assert_eq!(fields(changes(&request)), ["update_mask"]);
}

#[test]
fn a_definition_of_every_kind_is_the_same_after_it_was_written_in_the_contracts_json() {
    let mut violations = Violations::new();
    let definition = definition::read(&mut violations, "d", &every_kind());
    let again = contract::from_json(&mut violations, "d", &contract::to_json(definition.clone()));
    violations.finish().unwrap();
    assert_eq!(again, definition);
}

#[test]
fn a_value_nested_too_deep_for_a_diff_is_told_as_text() {
    let nested = |levels: usize| (0..levels).fold(serde_json::json!(1), |it, _| serde_json::json!({ "a": it }));
    assert_eq!(update::value_to_json(&shallow(&nested(16))), nested(16));
    assert_eq!(update::value_to_json(&shallow(&nested(17))), nested(17).to_string());
}

#[test]
fn a_list_is_asked_for_with_filters_that_can_be_meant() {
    let asked = |order_by: &str, name_contains: &str| {
        filter(&proto::ListWorkflowsRequest {
            studio_id: StudioId::generate().to_string(),
            order_by: order_by.into(),
            name_contains: name_contains.into(),
            ..Default::default()
        })
    };
    let read = asked("name desc", "  ").unwrap();
    assert_eq!((read.order, read.name_contains), (Order::NameBackwards, None));
    assert_eq!(fields(asked("draft", "a\0")), ["name_contains", "order_by"]);
}
