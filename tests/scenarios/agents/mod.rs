//! Agent sessions: they answer from the studio's documents, change nothing that nobody accepts, remember, and are nobody else's.

mod asking;
mod proposing;

use std::time::Duration;

use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    model::{Driver, Model, Reply},
    tenant::{Tenant, id},
    world::{PATIENCE, World},
};
use tokio::time::timeout;
use tonic::Code;

use super::terminal::{lines, studios};

const AGENTS: &str = "studios.execution.v1.AgentService";
const RULES: &str = "# Returns\n\nParcels may be sent back within 30 days. The shop pays for the way back.\n\n\
    ## Refunds\n\nRefunds come within a week.\n";

async fn call(world: &World, it: &Tenant, method: &str, body: Value) -> Value {
    world.ok(&format!("{AGENTS}/{method}"), body, &it.token).await
}

async fn refused(world: &World, it: &Tenant, method: &str, body: Value) -> tonic::Status {
    world.refused(&format!("{AGENTS}/{method}"), body, &it.token).await
}

async fn begin(world: &World, it: &Tenant, model: &str) -> String {
    let body = json!({ "studioId": it.studio, "model": model });
    id(&call(world, it, "CreateSession", body).await)
}

fn asking(session: &str, kind: &str, content: &str, documents: &[&str]) -> Value {
    let kind = format!("AGENT_REQUEST_TYPE_{kind}");
    json!({ "sessionId": session, "type": kind, "content": content, "documentIds": documents })
}

async fn ask(world: &World, it: &Tenant, session: &str, kind: &str, content: &str, documents: &[&str]) -> String {
    let body = asking(session, kind, content, documents);
    id(&call(world, it, "CreateRequest", body).await)
}

/// Waits until a request has ended, and returns it.
async fn ended(world: &World, it: &Tenant, request: &str) -> Value {
    let body = json!({ "id": request });
    let has_ended = |it: &Value| !it["endTime"].is_null();
    world
        .until(&format!("{AGENTS}/GetRequest"), body, &it.token, has_ended)
        .await
}

async fn asked(world: &World, it: &Tenant, session: &str, kind: &str, content: &str, documents: &[&str]) -> Value {
    let request = ask(world, it, session, kind, content, documents).await;
    ended(world, it, &request).await
}

/// A deployment with a model that answers so, and a tenant.
async fn with_model(
    script: impl Fn(usize, &Value) -> Reply + Send + Sync + 'static,
) -> (Model, Deployment, World, Tenant) {
    let model = Model::start(script).await;
    let deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    (model, deployment, world, it)
}

async fn driven() -> (Driver, Model, Deployment, World, Tenant) {
    let (driver, reply) = Reply::driven();
    let (model, deployment, world, it) = with_model(move |_, _| reply.clone()).await;
    (driver, model, deployment, world, it)
}

#[tokio::test]
async fn a_session_is_its_owners_alone_and_so_is_what_it_runs() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (owner, member, stranger) = (
        Tenant::user(&world).await,
        Tenant::user(&world).await,
        Tenant::with_studio(&world).await,
    );
    for who in [&owner, &member] {
        it.add_member(&world, who, "ROLE_MEMBER").await;
    }
    it.add_document(&world, "Returns", RULES).await;
    let mine = Tenant {
        studio: it.studio.clone(),
        ..owner.clone()
    };
    let session = begin(&world, &mine, "").await;
    let request = asked(&world, &mine, &session, "CREATE", "Write a note about returns", &[]).await;
    let (by_session, by_request) = (json!({ "id": session }), json!({ "id": request["id"] }));
    let methods = [
        ("GetSession", by_session.clone()),
        ("ListRequests", json!({ "sessionId": session })),
        ("ExportSession", by_session.clone()),
        (
            "UpdateSession",
            json!({ "session": { "id": session, "title": "Mine" } }),
        ),
        ("DeleteSession", by_session),
        ("CreateRequest", asking(&session, "RESEARCH", "Which?", &[])),
        ("GetRequest", by_request.clone()),
        ("WatchRequest", by_request.clone()),
        ("CancelRequest", by_request.clone()),
        ("RetryRequest", by_request.clone()),
        ("SetFeedback", by_request.clone()),
        ("AcceptProposal", by_request.clone()),
        ("RejectProposal", by_request),
    ];
    let run = json!({ "id": request["executionId"] });
    let runs = "studios.execution.v1.ExecutionService";
    for who in [&it, &member, &stranger] {
        for (method, body) in &methods {
            let status = refused(&world, who, method, body.clone()).await;
            assert_eq!(status.code(), Code::NotFound, "{method}: {status:?}");
        }
        let attempts = json!({ "executionId": request["executionId"] });
        for (method, body) in [
            ("GetExecution", &run),
            ("WatchExecution", &run),
            ("ListAttempts", &attempts),
            ("CancelExecution", &run),
            ("RestartExecution", &run),
            ("ExplainExecution", &run),
        ] {
            let status = world
                .refused(&format!("{runs}/{method}"), body.clone(), &who.token)
                .await;
            assert_eq!(status.code(), Code::NotFound, "{method}: {status:?}");
        }
    }
    let listed = world
        .ok(
            &format!("{runs}/ListExecutions"),
            json!({ "studioId": it.studio }),
            &it.token,
        )
        .await;
    assert_eq!(listed["executions"], json!([]));
    let sessions = call(&world, &member, "ListSessions", json!({ "studioId": it.studio })).await;
    assert_eq!(sessions["sessions"], json!([]));
}

#[tokio::test]
async fn a_deleted_session_is_erased_with_all_that_it_ran() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    it.add_document(&world, "Returns", RULES).await;
    let session = begin(&world, &it, "").await;
    asked(
        &world,
        &it,
        &session,
        "RESEARCH",
        "How long may a parcel be sent back?",
        &[],
    )
    .await;
    call(&world, &it, "DeleteSession", json!({ "id": session })).await;
    let gone = refused(&world, &it, "GetSession", json!({ "id": session })).await;
    assert_eq!(gone.code(), Code::NotFound);
    let admin = world.admin().await;
    let (left, erasable): (i64, bool) = sqlx::query_as(
        "select (select count(*) from execution.agent_requests) + (select count(*) from execution.agent_sessions),
             (select execution.is_erasable(deleted_at) from execution.workflows where id = $1::uuid)",
    )
    .bind(&session)
    .fetch_one(&admin)
    .await
    .unwrap();
    assert_eq!((left, erasable), (0, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_worked_with_from_a_terminal_and_exported() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let document = it.add_document(&world, "Returns", RULES).await;
    let begun = studios(
        &world,
        &it,
        &["agents", "begin", &it.studio, "--title", "Shop", "--json"],
    )
    .await;
    let session = id(&lines(&begun)[0]);
    let question = "How long may a parcel be sent back?";
    let answered = studios(&world, &it, &["agents", "ask", &session, question]).await;
    let said = String::from_utf8_lossy(&answered.stdout).into_owned();
    assert!(
        answered.status.success() && said.contains("30 days") && said.contains("Returns"),
        "{answered:?}"
    );
    let change = "Replace \"30 days\" with \"60 days\"";
    let edit = [
        "agents",
        "ask",
        &session,
        change,
        "--kind",
        "edit",
        "--document",
        &document,
        "--json",
    ];
    let events = lines(&studios(&world, &it, &edit).await);
    let request = id(&events.last().unwrap()["request"]);
    let accepted = studios(&world, &it, &["agents", "accept", &request, "--json"]).await;
    assert_eq!(
        lines(&accepted)[0]["proposal"]["decision"],
        "AGENT_DECISION_ACCEPTED",
        "{accepted:?}"
    );
    let rated = studios(&world, &it, &["agents", "rate", &request, "up", "--note", "As asked"]).await;
    assert!(rated.status.success(), "{rated:?}");
    let listed = lines(&studios(&world, &it, &["agents", "requests", &session, "--json"]).await);
    assert_eq!((listed.len(), &listed[0]["feedback"]["note"]), (2, &json!("As asked")));
    let exported = studios(&world, &it, &["agents", "export", &session]).await;
    let markdown = String::from_utf8_lossy(&exported.stdout).into_owned();
    for part in [
        "# Shop",
        "## 1. Research",
        &format!("> {question}"),
        "Sources:",
        "```diff",
        "accepted",
        "of use. As asked",
    ] {
        assert!(markdown.contains(part), "{part}: {markdown}");
    }
    let wrong = studios(&world, &it, &["agents", "cancel", &request]).await;
    assert!(!wrong.status.success());
    let deleted = studios(&world, &it, &["agents", "delete", &session]).await;
    assert!(deleted.status.success(), "{deleted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_asked_is_in_logs_traces_or_versions() {
    const CANARY: &str = "zanzibar-canary-8817";
    let receiver = studios_tests::otlp::Receiver::start().await;
    let model = Model::start(|n, _| match n {
        0 => Reply::raw(400, format!("{{\"error\":{{\"message\":\"{CANARY}\"}}}}")),
        _ => Reply::text(&format!("# Note\n\n{CANARY}")),
    })
    .await;
    let shared = [
        ("STUDIOS_OTLP_ENDPOINT", receiver.url().to_string()),
        ("STUDIOS_LOG", "debug".to_owned()),
    ];
    let deployment = Deployment::start(&shared, &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let session = begin(&world, &it, "stub").await;
    let failed = asked(&world, &it, &session, "CREATE", &format!("Write of {CANARY}"), &[]).await;
    assert_eq!(failed["status"], "AGENT_REQUEST_STATUS_FAILED", "{failed}");
    call(&world, &it, "RetryRequest", json!({ "id": failed["id"] })).await;
    let done = ended(&world, &it, failed["id"].as_str().unwrap()).await;
    assert_eq!(done["status"], "AGENT_REQUEST_STATUS_COMPLETED", "{done}");
    let versions: i64 =
        sqlx::query_scalar("select count(*) from execution.workflow_versions where definition::text like '%canary%'")
            .fetch_one(&world.admin().await)
            .await
            .unwrap();
    assert_eq!(versions, 0);
    let logs = deployment.execution.as_ref().unwrap().log().join("\n");
    assert!(!logs.contains(CANARY), "{logs}");
    let told = async {
        while receiver.all().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        receiver.all()
    };
    let spans = timeout(PATIENCE, told).await.expect("it is traced");
    assert!(spans.iter().all(|it| !format!("{it:?}").contains(CANARY)));
}
