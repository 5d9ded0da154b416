//! Files that executions are given and make: whose they are, which version counts, what stages find in them and keep.

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use studios_tests::{
    files::{FILES, download, upload},
    papers::{DOCX, PDF, docx, pdf},
    refusal::{assert_reason, fields},
    tenant::{Tenant, id},
    world::World,
};
use tonic::Code;
use uuid::Uuid;

const START: &str = "studios.execution.v1.ExecutionService/StartExecution";
const LIST: &str = "studios.execution.v1.ExecutionService/ListExecutionFiles";
const GET: &str = "studios.execution.v1.ExecutionService/GetExecution";
const DOCUMENTS: &str = "studios.core.v1.DocumentService/ListDocuments";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01";

async fn put(world: &World, it: &Tenant, name: &str, mime_type: &str, bytes: &[u8]) -> String {
    let file = json!({ "studioId": it.studio, "name": name, "mimeType": mime_type });
    id(&upload(world, &it.token, file, bytes).await.unwrap())
}

/// A workflow that finds passages in one file and says what it is.
async fn add_reader(world: &World, it: &Tenant) -> String {
    let file = json!({ "type": "object", "x-widget": "file", "required": ["file_id"], "additionalProperties": false,
        "properties": { "file_id": { "type": "string" }, "version": { "type": "integer" } } });
    let schema = json!({ "type": "object", "additionalProperties": false, "properties": {
        "contract": file, "papers": { "type": "array", "items": file } } });
    let stage = json!({ "name": "read", "retrieve": { "retrieval": {
        "query": "What does {{ inputs.contract.name }} say of the fee?", "documentIdsPath": "inputs.contract" } } });
    let body = json!({ "workflow": { "studioId": it.studio, "name": "Reader", "draft": { "stages": [stage], "inputSchema": schema } } });
    let workflow = id(&world
        .ok("studios.execution.v1.WorkflowService/CreateWorkflow", body, &it.token)
        .await);
    let publish = json!({ "id": workflow });
    world
        .ok(
            "studios.execution.v1.WorkflowService/PublishWorkflow",
            publish,
            &it.token,
        )
        .await;
    workflow
}

fn start(workflow: &str, inputs: &Value) -> Value {
    json!({ "workflowId": workflow, "inputs": inputs, "requestId": Uuid::now_v7().to_string() })
}

async fn files(world: &World, it: &Tenant, execution: &str) -> Vec<Value> {
    let list = world.ok(LIST, json!({ "executionId": execution }), &it.token).await;
    list["files"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_run_reads_the_papers_it_is_given_as_files_and_lists_them() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = add_reader(&world, &it).await;
    let page = ["The fee of the berth is 40 coins a day."];
    let contract = put(&world, &it, "contract.pdf", PDF, &pdf(&page, false)).await;
    let body = r"<w:p><w:r><w:t>Fees are paid before the ship leaves.</w:t></w:r></w:p>";
    let letter = put(&world, &it, "letter.docx", DOCX, &docx(body)).await;
    let photo = put(&world, &it, "pier.png", "image/png", PNG).await;
    let claims = json!({ "contract": { "file_id": contract, "name": "a lie", "document_id": Uuid::now_v7().to_string() },
        "papers": [{ "file_id": letter }, { "file_id": photo, "version": 1 }] });
    let run = it.start(&world, &workflow, claims).await;
    let ended = world.finished(&run, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    let found = ended["outputs"].to_string();
    assert!(found.contains("40 coins"), "{found}");
    let given = &ended["inputs"]["contract"];
    assert_eq!(
        (&given["name"], &given["version"]),
        (&json!("contract.pdf"), &json!(1.0)),
        "{given}"
    );

    let listed = files(&world, &it, &run).await;
    let places: Vec<_> = listed.iter().map(|it| it["input"].as_str().unwrap()).collect();
    assert_eq!(places, ["contract", "papers[0]", "papers[1]"]);
    let facts = world
        .ok(&format!("{FILES}/GetFile"), json!({ "id": contract }), &it.token)
        .await;
    for fact in ["name", "mimeType", "sizeBytes", "sha256", "version"] {
        assert_eq!(listed[0][fact], facts[fact], "{fact}");
    }
    assert_eq!(listed[0]["direction"], "FILE_DIRECTION_INPUT");
    assert_eq!(listed[0]["documentId"], given["document_id"]);
    assert_eq!(listed[2]["documentId"], "", "no text is in a picture");

    // What there is a document of gets no other, and inputs of a run are good for another as they are.
    let again = it.start(&world, &workflow, ended["inputs"].clone()).await;
    let again = world.finished(&again, &it.token).await;
    assert_eq!(again["inputs"], ended["inputs"]);
    let all = world.ok(DOCUMENTS, json!({ "studioId": it.studio }), &it.token).await;
    assert_eq!(all["documents"].as_array().unwrap().len(), 2, "{all}");

    let first = json!({ "executionId": run, "pageSize": 2 });
    let page = world.ok(LIST, first, &it.token).await;
    let next = json!({ "executionId": run, "pageSize": 2, "pageToken": page["nextPageToken"] });
    let next = world.ok(LIST, next, &it.token).await;
    assert_eq!(
        (&next["files"][0]["input"], &next["nextPageToken"]),
        (&json!("papers[1]"), &json!(""))
    );
}

#[tokio::test]
async fn a_file_that_its_starter_does_not_reach_is_refused_by_its_field() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = add_reader(&world, &it).await;
    let other = Tenant::with_studio(&world).await;
    let foreign = put(&world, &other, "foreign.txt", "text/plain", b"Not yours.").await;
    let colleague = Tenant::user(&world).await;
    it.add_member(&world, &colleague, "ROLE_MEMBER").await;
    let private = json!({ "studioId": it.studio, "name": "diary.txt", "mimeType": "text/plain", "accessLevel": "ACCESS_LEVEL_PRIVATE" });
    let private = id(&upload(&world, &colleague.token, private, b"Mine.").await.unwrap());
    let own = put(&world, &it, "own.txt", "text/plain", b"Ours.").await;
    let unknown = Uuid::now_v7().to_string();
    // One who is a member there too does not carry it over either.
    other.add_member(&world, &it, "ROLE_MEMBER").await;
    for file in [&foreign, &private, &unknown] {
        let status = world
            .refused(
                START,
                start(&workflow, &json!({ "contract": { "file_id": file } })),
                &it.token,
            )
            .await;
        assert_eq!(fields(&status), ["inputs.contract.file_id"], "{file}");
    }
    let wrong = [
        (
            json!({ "contract": { "file_id": own, "version": 2 } }),
            "inputs.contract.version",
        ),
        (
            json!({ "contract": { "file_id": own, "version": 0 } }),
            "inputs.contract.version",
        ),
        (json!({ "contract": { "file_id": "x" } }), "inputs.contract.file_id"),
        (json!({ "contract": {} }), "inputs.contract.file_id"),
        (
            json!({ "contract": { "file_id": own }, "papers": [{ "file_id": own }, { "file_id": foreign }] }),
            "inputs.papers[1].file_id",
        ),
        (json!({ "papers": vec![json!({ "file_id": own }); 21] }), "inputs"),
    ];
    for (inputs, field) in wrong {
        let status = world.refused(START, start(&workflow, &inputs), &it.token).await;
        assert_eq!(fields(&status), [field], "{inputs}");
    }
    let gone = json!({ "id": own });
    world.ok(&format!("{FILES}/DeleteFile"), gone, &it.token).await;
    let status = world
        .refused(
            START,
            start(&workflow, &json!({ "contract": { "file_id": own } })),
            &it.token,
        )
        .await;
    assert_eq!(fields(&status), ["inputs.contract.file_id"], "deleted");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_starts_nothing() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = add_reader(&world, &it).await;
    let file = put(&world, &it, "paper.txt", "text/plain", b"The fee is 40 coins.").await;
    for (state, reason) in [
        ("scanning", "FILE_SCANNING"),
        ("quarantined", "FILE_QUARANTINED"),
        ("lost", "FILE_LOST"),
    ] {
        for table in [
            "core.file_versions set state = $2 where file_id",
            "core.files set state = $2 where id",
        ] {
            sqlx::query(AssertSqlSafe(format!("update {table} = $1::uuid")))
                .bind(&file)
                .bind(state)
                .execute(&world.admin().await)
                .await
                .unwrap();
        }
        let status = world
            .refused(
                START,
                start(&workflow, &json!({ "contract": { "file_id": file } })),
                &it.token,
            )
            .await;
        assert_reason(&status, Code::FailedPrecondition, reason);
        assert!(status.message().contains("inputs.contract.file_id"), "{status:?}");
    }
}

#[tokio::test]
async fn a_run_and_what_goes_on_from_it_keep_the_version_that_was_current_when_it_was_started() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = add_reader(&world, &it).await;
    let file = put(&world, &it, "rules.txt", "text/plain", b"The fee is 40 coins.").await;
    let run = it
        .start(&world, &workflow, json!({ "contract": { "file_id": file } }))
        .await;
    world.finished(&run, &it.token).await;
    let newer = json!({ "studioId": it.studio, "fileId": file, "name": "rules.txt", "mimeType": "text/plain" });
    upload(&world, &it.token, newer, b"The fee is 70 coins.").await.unwrap();

    let body = json!({ "id": run, "requestId": Uuid::now_v7().to_string() });
    let mut fork = body.clone();
    fork["stage"] = json!("read");
    for (method, body) in [("RestartExecution", body), ("ForkExecution", fork)] {
        let method = format!("studios.execution.v1.ExecutionService/{method}");
        let again = id(&world.ok(&method, body, &it.token).await);
        let ended = world.finished(&again, &it.token).await;
        assert!(ended["outputs"].to_string().contains("40 coins"), "{method}: {ended}");
        assert_eq!(
            files(&world, &it, &again).await,
            files(&world, &it, &run).await,
            "{method}"
        );
    }
    let other = json!({ "id": run, "inputs": { "contract": { "file_id": file } } });
    let method = "studios.execution.v1.ExecutionService/RestartExecution";
    let newer = id(&world.ok(method, other, &it.token).await);
    let ended = world.finished(&newer, &it.token).await;
    assert!(ended["outputs"].to_string().contains("70 coins"), "{ended}");
    let older = it
        .start(
            &world,
            &workflow,
            json!({ "contract": { "file_id": file, "version": 1 } }),
        )
        .await;
    let ended = world.finished(&older, &it.token).await;
    assert!(ended["outputs"].to_string().contains("40 coins"), "{ended}");
}

#[tokio::test]
async fn a_stage_whose_file_has_no_text_after_all_fails_and_says_why() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = add_reader(&world, &it).await;
    let locked = put(&world, &it, "locked.pdf", PDF, &pdf(&["Nobody reads this."], true)).await;
    let run = it
        .start(&world, &workflow, json!({ "contract": { "file_id": locked } }))
        .await;
    let ended = world.finished(&run, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_FAILED", "{ended}");
    let said = ended["failure"]["message"].as_str().unwrap();
    assert!(said.contains("locked.pdf has no text"), "{said}");
    let seen = world.ok(GET, json!({ "id": run }), &it.token).await;
    assert_eq!(seen["inputs"]["contract"]["name"], "locked.pdf");
}

#[tokio::test]
async fn a_workflow_run_by_another_looks_its_files_up_for_who_started_that() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let reader = add_reader(&world, &it).await;
    let call =
        json!({ "name": "call", "workflow": { "workflowId": reader }, "inputMapping": { "contract": "inputs.paper" } });
    let caller = it.add_workflow(&world, "Caller", json!([call])).await;
    let file = put(&world, &it, "rules.txt", "text/plain", b"The fee is 40 coins.").await;
    let paper = json!({ "paper": { "file_id": file, "name": "a lie" } });
    let run = it.start(&world, &caller, paper).await;
    let ended = world.finished(&run, &it.token).await;
    assert!(ended["outputs"].to_string().contains("40 coins"), "{ended}");
    assert!(files(&world, &it, &run).await.is_empty(), "its own inputs are no files");

    let other = Tenant::with_studio(&world).await;
    let foreign = put(&world, &other, "foreign.txt", "text/plain", b"Not yours.").await;
    let run = it
        .start(&world, &caller, json!({ "paper": { "file_id": foreign } }))
        .await;
    let ended = world.finished(&run, &it.token).await;
    let said = ended["failure"]["message"].as_str().unwrap();
    assert!(said.contains("inputs.contract.file_id"), "{said}");
}

#[tokio::test]
async fn what_a_stage_keeps_is_a_file_that_is_downloaded_and_listed() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let first = json!({ "name": "report", "file": { "fileName": "{{ inputs.topic }}.md", "content": "# {{ inputs.topic }}\n\nThe pier is lit." } });
    let second = json!({ "name": "again", "file": { "fileName": "ignored.md", "content": "# Newer", "filePath": "stages.report.output" } });
    let each = json!({ "name": "all", "map": { "itemsPath": "inputs.days", "stage": "day" } });
    let day = json!({ "name": "day", "file": { "fileName": "{{ item }}.csv", "content": "day\n{{ item }}\n", "mimeType": "text/csv",
        "reach": "FILE_REACH_PRIVATE" } });
    let workflow = it
        .add_workflow(&world, "Reports", json!([first, second, each, day]))
        .await;
    let inputs = json!({ "topic": "Harbour", "days": ["monday", "tuesday"] });
    let run = it.start(&world, &workflow, inputs).await;
    let ended = world.finished(&run, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    let listed = files(&world, &it, &run).await;
    let mut seen: Vec<_> = listed
        .iter()
        .map(|it| {
            (
                it["stage"].as_str().unwrap(),
                it["item"].as_i64().unwrap(),
                it["name"].as_str().unwrap(),
            )
        })
        .collect();
    seen.sort_unstable();
    let expected = [
        ("again", 0, "Harbour.md"),
        ("day", 0, "monday.csv"),
        ("day", 1, "tuesday.csv"),
        ("report", 0, "Harbour.md"),
    ];
    assert_eq!(seen, expected);
    assert!(listed.iter().all(|it| it["direction"] == "FILE_DIRECTION_OUTPUT"));
    let at = |stage: &str| listed.iter().find(|it| it["stage"] == stage).unwrap();
    assert_eq!(at("again")["fileId"], at("report")["fileId"]);
    assert_eq!(
        (&at("report")["version"], &at("again")["version"]),
        (&json!(1), &json!(2))
    );
    let file = at("again")["fileId"].as_str().unwrap();
    assert_eq!(download(&world, &it.token, file, 0, 0).await.unwrap(), b"# Newer");
    let one = at("day")["fileId"].as_str().unwrap();
    let facts = world
        .ok(&format!("{FILES}/GetFile"), json!({ "id": one }), &it.token)
        .await;
    assert_eq!(facts["accessLevel"], "ACCESS_LEVEL_PRIVATE");
    assert_eq!(facts["uploadedBy"], json!(it.user));
    assert_eq!(facts["sha256"], at("day")["sha256"]);
}

#[tokio::test]
async fn a_file_stage_that_cannot_keep_its_text_says_why() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let stage = json!({ "name": "keep", "file": { "fileName": "{{ inputs.name }}", "content": "{{ inputs.text }}" } });
    let workflow = it.add_workflow(&world, "Keep", json!([stage])).await;
    for (inputs, said) in [
        (json!({ "name": "a/b.md", "text": "x" }), "file.name"),
        (json!({ "name": "a.pdf", "text": "x" }), "file.mime_type"),
        (json!({ "name": "a.md", "text": "" }), "is empty"),
    ] {
        let run = it.start(&world, &workflow, inputs.clone()).await;
        let ended = world.finished(&run, &it.token).await;
        assert_eq!(
            ended["failure"]["class"], "FAILURE_CLASS_VALIDATION",
            "{inputs}: {ended}"
        );
        let message = ended["failure"]["message"].as_str().unwrap();
        assert!(message.contains(said), "{inputs}: {message}");
        assert!(files(&world, &it, &run).await.is_empty());
    }
    let wrong =
        json!([{ "name": "keep", "file": { "fileName": "", "content": "{{ nowhere }}", "mimeType": "image/png" } }]);
    let body = json!({ "workflow": { "studioId": it.studio, "name": "Wrong", "draft": { "stages": wrong } } });
    let draft = world
        .ok("studios.execution.v1.WorkflowService/CreateWorkflow", body, &it.token)
        .await;
    let publish = json!({ "id": draft["id"] });
    let status = world
        .refused(
            "studios.execution.v1.WorkflowService/PublishWorkflow",
            publish,
            &it.token,
        )
        .await;
    let field = |name: &str| format!("draft.stages[0].file.{name}");
    assert_eq!(
        fields(&status),
        [field("content"), field("file_name"), field("mime_type")]
    );
    let tried = json!({ "workflowId": workflow, "stage": "keep", "inputs": { "name": "a.md", "text": "x" }, "allowEffects": true });
    let status = world
        .refused("studios.execution.v1.ExecutionService/TestStage", tried, &it.token)
        .await;
    assert_reason(&status, Code::FailedPrecondition, "EFFECT_NOT_ALLOWED");
}
