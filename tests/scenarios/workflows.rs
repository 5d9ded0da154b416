//! Workflows: drafts, problems, versions; and the models that stages call.

use serde_json::{Value, json};
use studios_tests::{
    refusal::{assert_reason, fields},
    tenant::{Tenant, id, summary_stage},
    world::World,
};
use tonic::Code;

const WORKFLOWS: &str = "studios.execution.v1.WorkflowService";
const MODELS: &str = "studios.execution.v1.ModelService";

#[tokio::test]
async fn a_draft_is_edited_published_and_kept_as_versions() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = it
        .add_workflow(&world, "Summary", json!([summary_stage("offline")]))
        .await;
    let read = world
        .ok(
            &format!("{WORKFLOWS}/GetWorkflow"),
            json!({ "id": workflow }),
            &it.token,
        )
        .await;
    assert_eq!(
        (&read["publishedVersion"], &read["hasUnpublishedChanges"]),
        (&json!(1), &json!(false))
    );

    let mut stage = summary_stage("offline");
    stage["retryLimit"] = json!(2);
    let body = json!({ "workflow": { "id": workflow, "etag": read["etag"], "draft": { "stages": [stage] } } });
    let changed = world
        .ok(&format!("{WORKFLOWS}/UpdateWorkflow"), body.clone(), &it.token)
        .await;
    assert_eq!(changed["hasUnpublishedChanges"], true);
    assert_reason(
        &world
            .refused(&format!("{WORKFLOWS}/UpdateWorkflow"), body, &it.token)
            .await,
        Code::Aborted,
        "ETAG_MISMATCH",
    );
    let second = world
        .ok(
            &format!("{WORKFLOWS}/PublishWorkflow"),
            json!({ "id": workflow }),
            &it.token,
        )
        .await;
    assert_eq!(
        (&second["number"], &second["definition"]["stages"][0]["retryLimit"]),
        (&json!(2), &json!(2))
    );
    let again = world
        .ok(
            &format!("{WORKFLOWS}/PublishWorkflow"),
            json!({ "id": workflow }),
            &it.token,
        )
        .await;
    assert_eq!(again["number"], 2, "an unchanged draft makes no version");

    let first = json!({ "workflowId": workflow, "number": 1 });
    let first = world
        .ok(&format!("{WORKFLOWS}/GetWorkflowVersion"), first, &it.token)
        .await;
    assert_eq!(
        first["definition"]["stages"][0]["retryLimit"], 0,
        "a version never changes"
    );
    let versions = world
        .ok(
            &format!("{WORKFLOWS}/ListWorkflowVersions"),
            json!({ "workflowId": workflow }),
            &it.token,
        )
        .await;
    let numbers: Vec<_> = versions["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["number"].as_i64().unwrap())
        .collect();
    assert_eq!(numbers, [2, 1]);
}

#[tokio::test]
async fn every_problem_of_a_draft_is_named_with_its_field() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let stages = json!([
        { "name": "first", "llm": { "model": "no such model", "prompt": "{{ nothing }}" }, "nextOnPass": "nowhere" },
        { "name": "first", "llm": { "model": "offline", "prompt": "{{ broken" }, "inputMapping": { "a": "stages.later.output" } },
        { "name": "third", "llm": { "model": "offline", "prompt": "x", "responseSchema": { "not": { "type": "string" } } },
          "validation": { "regex": { "pattern": "(" } }, "retryLimit": 21, "timeout": "7200s" },
        { "name": "fourth", "wait": {}, "validation": { "jsonSchema": { "schema": { "type": 7 } } } },
    ]);
    let body = json!({ "workflow": { "studioId": it.studio, "name": "Broken", "draft": { "stages": stages } } });
    let workflow = id(&world.ok(&format!("{WORKFLOWS}/CreateWorkflow"), body, &it.token).await);
    let answer = world
        .ok(
            &format!("{WORKFLOWS}/ValidateWorkflow"),
            json!({ "id": workflow }),
            &it.token,
        )
        .await;
    let named: Vec<&str> = answer["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["field"].as_str().unwrap())
        .collect();
    for field in [
        "draft.stages[0].llm.model",
        "draft.stages[0].llm.prompt",
        "draft.stages[0].next_on_pass",
        "draft.stages[1].name",
        "draft.stages[1].llm.prompt",
        "draft.stages[1].input_mapping.a",
        "draft.stages[2].llm.response_schema",
        "draft.stages[2].validation.regex.pattern",
        "draft.stages[2].retry_limit",
        "draft.stages[2].timeout",
        "draft.stages[3].wait",
        "draft.stages[3].validation.json_schema.schema",
    ] {
        assert!(
            named.iter().any(|it| it.starts_with(field)),
            "{field} is not among {named:#?}"
        );
    }
    let refused = world
        .refused(
            &format!("{WORKFLOWS}/PublishWorkflow"),
            json!({ "id": workflow }),
            &it.token,
        )
        .await;
    assert!(fields(&refused).contains(&"draft.stages[0].llm.model".to_owned()));
    let start = json!({ "workflowId": workflow, "requestId": "a" });
    let unpublished = world
        .refused("studios.execution.v1.ExecutionService/StartExecution", start, &it.token)
        .await;
    assert_reason(&unpublished, Code::FailedPrecondition, "NOT_PUBLISHED");
}

#[tokio::test]
async fn a_workflow_is_deleted_softly_and_brought_back() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = it
        .add_workflow(&world, "Summary", json!([summary_stage("offline")]))
        .await;
    let deleted = world
        .ok(
            &format!("{WORKFLOWS}/DeleteWorkflow"),
            json!({ "id": workflow }),
            &it.token,
        )
        .await;
    assert!(!deleted["deleteTime"].is_null());
    let listed = world
        .ok(
            &format!("{WORKFLOWS}/ListWorkflows"),
            json!({ "studioId": it.studio }),
            &it.token,
        )
        .await;
    assert_eq!(listed["workflows"], json!([]));
    let start = json!({ "workflowId": workflow, "requestId": "a" });
    let status = world
        .refused("studios.execution.v1.ExecutionService/StartExecution", start, &it.token)
        .await;
    assert_reason(&status, Code::FailedPrecondition, "WORKFLOW_DELETED");
    world
        .ok(
            &format!("{WORKFLOWS}/UndeleteWorkflow"),
            json!({ "id": workflow }),
            &it.token,
        )
        .await;
    let listed = world
        .ok(
            &format!("{WORKFLOWS}/ListWorkflows"),
            json!({ "studioId": it.studio }),
            &it.token,
        )
        .await;
    assert_eq!(listed["workflows"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_companys_model_hides_the_platforms_of_that_name_and_its_going_is_told() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let platform = world
        .ok(
            &format!("{MODELS}/ListModels"),
            json!({ "companyId": it.company }),
            &it.token,
        )
        .await;
    let models = platform["models"].as_array().unwrap();
    assert_eq!(
        (models.len(), &models[0]["name"], &models[0]["companyId"]),
        (1, &json!("offline"), &json!(""))
    );
    let body = json!({ "model": { "companyId": it.company, "name": "house", "provider": "no such", "providerModel": "", "contextLength": 0 } });
    let status = world.refused(&format!("{MODELS}/CreateModel"), body, &it.token).await;
    assert_eq!(
        fields(&status),
        ["model.context_length", "model.provider", "model.provider_model"]
    );

    let body = json!({ "model": { "companyId": it.company, "name": "house", "provider": "offline", "providerModel": "offline-extractive-1",
        "contextLength": 8192, "enabled": true } });
    let model = id(&world.ok(&format!("{MODELS}/CreateModel"), body, &it.token).await);
    it.add_document(&world, "Note", "The pier is lit at night.").await;
    let stage = json!({ "name": "say", "llm": { "model": "house", "prompt": "The pier is lit at night." } });
    let workflow = it.add_workflow(&world, "House", json!([stage])).await;
    world
        .ok(&format!("{MODELS}/DeleteModel"), json!({ "id": model }), &it.token)
        .await;
    let read = world
        .ok(
            &format!("{WORKFLOWS}/GetWorkflow"),
            json!({ "id": workflow }),
            &it.token,
        )
        .await;
    assert_eq!(
        read["draft"]["stages"][0]["llm"]["model"], "house",
        "the stage keeps its text"
    );
    let execution = it.start(&world, &workflow, json!({})).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_FAILED");
    assert!(
        ended["failure"]["message"].as_str().unwrap().contains("gone"),
        "{}",
        ended["failure"]
    );
    let problems: Value = world
        .ok(
            &format!("{WORKFLOWS}/ValidateWorkflow"),
            json!({ "id": workflow }),
            &it.token,
        )
        .await;
    assert_eq!(problems["problems"][0]["field"], "draft.stages[0].llm.model");
}
