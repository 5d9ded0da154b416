//! Agent sessions: they answer from the studio's documents, change nothing that nobody accepts, remember, and are nobody else's.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    files,
    model::{Driver, Model, Reply},
    refusal::{assert_reason, fields},
    tenant::{Tenant, id},
    world::{PATIENCE, World},
};
use tokio::time::timeout;
use tonic::Code;
use uuid::Uuid;

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

async fn text_of(world: &World, it: &Tenant, document: &str) -> String {
    let method = "studios.core.v1.DocumentService/GetDocumentText";
    let body = json!({ "id": document });
    let there = |it: &Value| it["text"] != "";
    let found = world.until(method, body, &it.token, there).await;
    found["text"].as_str().unwrap().to_owned()
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
async fn a_question_is_answered_from_the_documents_with_citations_that_exist() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let document = it.add_document(&world, "Returns", RULES).await;
    let session = begin(&world, &it, "").await;
    let body = asking(&session, "RESEARCH", "How long may a parcel be sent back?", &[]);
    let made = call(&world, &it, "CreateRequest", body).await;
    assert_eq!(made["number"], 1);
    let answer = ended(&world, &it, &id(&made)).await;
    assert_eq!(
        (&answer["status"], &answer["progress"]),
        (&json!("AGENT_REQUEST_STATUS_COMPLETED"), &json!(1.0)),
        "{answer}"
    );
    let text = answer["results"]["text"].as_str().unwrap();
    assert!(text.contains("30 days"), "{text}");
    let citations = answer["citations"].as_array().unwrap();
    assert!(!citations.is_empty(), "{answer}");
    for citation in citations {
        assert_eq!(
            (&citation["documentId"], &citation["documentTitle"]),
            (&json!(document), &json!("Returns"))
        );
        assert!(text.contains(&format!("[{}]", citation["number"])), "{text}");
    }
    assert!(answer["usage"]["inputTokens"].as_str().unwrap().parse::<i64>().unwrap() > 0);
    let run = world
        .ok(
            "studios.execution.v1.ExecutionService/GetExecution",
            json!({ "id": answer["executionId"] }),
            &it.token,
        )
        .await;
    assert_eq!(run["status"], "EXECUTION_STATUS_COMPLETED");
    let named = call(&world, &it, "GetSession", json!({ "id": session })).await;
    assert_eq!(
        (&named["title"], &named["requestCount"]),
        (&json!("How long may a parcel be sent back?"), &json!(1))
    );
    let listed = world
        .ok(
            "studios.execution.v1.WorkflowService/ListWorkflows",
            json!({ "studioId": it.studio, "showDeleted": true }),
            &it.token,
        )
        .await;
    assert_eq!(
        listed["workflows"],
        json!([]),
        "what a session runs is no workflow of the studio's"
    );
    let hidden = world
        .refused(
            "studios.execution.v1.WorkflowService/GetWorkflow",
            json!({ "id": session }),
            &it.token,
        )
        .await;
    assert_eq!(hidden.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn citations_of_passages_that_are_not_there_are_dropped_and_said() {
    let (_model, _deployment, world, it) =
        with_model(|_, _| Reply::text("Within 30 days [1]. The shop pays [7]. Both [1, 9].")).await;
    it.add_document(&world, "Returns", RULES).await;
    let session = begin(&world, &it, "stub").await;
    let answer = asked(
        &world,
        &it,
        &session,
        "RESEARCH",
        "How long may a parcel be sent back?",
        &[],
    )
    .await;
    assert_eq!(
        answer["results"]["text"], "Within 30 days [1]. The shop pays. Both [1].",
        "{answer}"
    );
    assert_eq!(answer["droppedCitations"], json!([7, 9]));
    let numbers: Vec<_> = answer["citations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["number"].clone())
        .collect();
    assert_eq!(numbers, [json!(1)]);
    assert_eq!(
        (&answer["usage"]["inputTokens"], &answer["usage"]["outputTokens"]),
        (&json!("11"), &json!("7"))
    );
    let session = call(&world, &it, "GetSession", json!({ "id": session })).await;
    let scale = session["context"]["tokenScale"].as_f64().unwrap();
    assert!(scale < 1.0, "the provider counted less than was estimated: {scale}");
}

#[tokio::test]
async fn a_new_document_is_made_when_it_is_accepted_and_not_before() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    it.add_document(&world, "Returns", RULES).await;
    let session = begin(&world, &it, "").await;
    let content = "Write a short note for customers about returns and refunds";
    let request = asked(&world, &it, &session, "CREATE", content, &[]).await;
    let proposal = &request["proposal"];
    assert_eq!(
        (&proposal["decision"], &proposal["documentId"]),
        (&json!("AGENT_DECISION_UNSPECIFIED"), &json!("")),
        "{request}"
    );
    assert!(
        !proposal["text"].as_str().unwrap().contains("Offline model"),
        "{proposal}"
    );
    let documents = async || {
        let listed = world
            .ok(
                "studios.core.v1.DocumentService/ListDocuments",
                json!({ "studioId": it.studio }),
                &it.token,
            )
            .await;
        listed["documents"].as_array().unwrap().len()
    };
    assert_eq!(documents().await, 1);
    let accept = json!({ "id": request["id"], "title": "For customers" });
    let accepted = call(&world, &it, "AcceptProposal", accept.clone()).await;
    let made = accepted["proposal"]["madeDocumentId"].as_str().unwrap().to_owned();
    assert_eq!(accepted["proposal"]["decision"], "AGENT_DECISION_ACCEPTED");
    let again = call(&world, &it, "AcceptProposal", accept).await;
    assert_eq!(again["proposal"]["madeDocumentId"], json!(made), "once");
    assert_eq!(documents().await, 2);
    let document = world
        .ok(
            "studios.core.v1.DocumentService/GetDocument",
            json!({ "id": made }),
            &it.token,
        )
        .await;
    assert_eq!(
        (&document["title"], &document["createdBy"]),
        (&json!("For customers"), &json!(it.user))
    );
    assert_eq!(text_of(&world, &it, &made).await, proposal["text"].as_str().unwrap());
    let late = refused(&world, &it, "RejectProposal", json!({ "id": request["id"] })).await;
    assert_reason(&late, Code::FailedPrecondition, "PROPOSAL_DECIDED");
}

#[tokio::test]
async fn an_accepted_edit_is_a_new_version_and_a_stale_one_is_refused() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let paper = it
        .add_paper(&world, "returns.md", "text/markdown", RULES.as_bytes())
        .await;
    let note = it.add_document(&world, "Note", "We open at noon.\n").await;
    let session = begin(&world, &it, "").await;
    let change = "Replace \"30 days\" with \"60 days\"";
    let request = asked(&world, &it, &session, "EDIT", change, &[&paper]).await;
    let diff = request["proposal"]["diff"].as_str().unwrap();
    assert!(
        diff.contains("-Parcels may be sent back within 30 days.")
            && diff.contains("+Parcels may be sent back within 60 days."),
        "{request}"
    );
    assert_eq!(text_of(&world, &it, &paper).await, RULES, "nothing has changed yet");
    let other = asked(
        &world,
        &it,
        &session,
        "EDIT",
        "Remove \"Refunds come within a week.\"",
        &[&paper],
    )
    .await;

    let accepted = call(&world, &it, "AcceptProposal", json!({ "id": request["id"] })).await;
    let proposal = &accepted["proposal"];
    assert_eq!(
        (&proposal["decision"], &proposal["fileVersion"]),
        (&json!("AGENT_DECISION_ACCEPTED"), &json!(2)),
        "{accepted}"
    );
    let file = proposal["fileId"].as_str().unwrap();
    let bytes = files::download(&world, &it.token, file, 0, 0).await.unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), RULES.replace("30 days", "60 days"));
    let made = proposal["madeDocumentId"].as_str().unwrap();
    assert_eq!(text_of(&world, &it, made).await, RULES.replace("30 days", "60 days"));
    let stale = refused(&world, &it, "AcceptProposal", json!({ "id": other["id"] })).await;
    assert_reason(&stale, Code::FailedPrecondition, "STALE_PROPOSAL");
    let rejected = call(&world, &it, "RejectProposal", json!({ "id": other["id"] })).await;
    assert_eq!(rejected["proposal"]["decision"], "AGENT_DECISION_REJECTED");

    // A document without a file gets one, whose first version is the text before.
    let request = asked(
        &world,
        &it,
        &session,
        "EDIT",
        "Replace \"noon\" with \"nine\"",
        &[&note],
    )
    .await;
    let accepted = call(&world, &it, "AcceptProposal", json!({ "id": request["id"] })).await;
    let versions = world
        .ok(
            "studios.core.v1.FileService/ListFileVersions",
            json!({ "fileId": accepted["proposal"]["fileId"] }),
            &it.token,
        )
        .await;
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2, "{versions}");
    let made = accepted["proposal"]["madeDocumentId"].as_str().unwrap();
    assert_eq!(text_of(&world, &it, made).await, "We open at nine.\n");
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_and_leaves_nothing() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let none = json!({ "studioId": it.studio, "model": "none" });
    assert_eq!(fields(&refused(&world, &it, "CreateSession", none).await), ["model"]);
    let session = begin(&world, &it, "").await;
    let wrong = json!({ "sessionId": session, "type": "AGENT_REQUEST_TYPE_EDIT", "content": " " });
    assert_eq!(
        fields(&refused(&world, &it, "CreateRequest", wrong).await),
        ["content", "document_ids"]
    );
    let unknown = asking(&session, "EDIT", "Remove \"a\"", &[&Uuid::now_v7().to_string()]);
    let status = refused(&world, &it, "CreateRequest", unknown).await;
    assert_eq!(status.code(), Code::NotFound);
    let admin = world.admin().await;
    sqlx::query("update core.plans set tokens_per_month = 0 where code = 'free'")
        .execute(&admin)
        .await
        .unwrap();
    let mut body = asking(&session, "RESEARCH", "Which?", &[]);
    body["requestId"] = json!(Uuid::now_v7().to_string());
    let other = Tenant::with_studio(&world).await;
    let poor = begin(&world, &other, "").await;
    body["sessionId"] = json!(poor);
    let status = refused(&world, &other, "CreateRequest", body).await;
    assert_reason(&status, Code::ResourceExhausted, "TOKEN_QUOTA_EXCEEDED");
    let requests: i64 = sqlx::query_scalar("select count(*) from execution.agent_requests")
        .fetch_one(&admin)
        .await
        .unwrap();
    assert_eq!(requests, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_output_is_streamed_on_every_replica_and_requests_come_one_at_a_time() {
    let (driver, model, deployment, world, it) = driven().await;
    let other = deployment.another_execution();
    let elsewhere = deployment.world_with(&other.url()).await;
    let session = begin(&world, &it, "stub").await;
    let mut body = asking(&session, "CREATE", "Write a note", &[]);
    body["requestId"] = json!(Uuid::now_v7().to_string());
    let made = call(&world, &it, "CreateRequest", body.clone()).await;
    timeout(PATIENCE, model.until_in_flight(1))
        .await
        .expect("the model is asked");
    assert_eq!(id(&call(&world, &it, "CreateRequest", body).await), id(&made));
    let second = asking(&session, "RESEARCH", "Which?", &[]);
    let status = refused(&world, &it, "CreateRequest", second).await;
    assert_reason(&status, Code::FailedPrecondition, "REQUEST_UNDER_WAY");
    let now = call(&world, &it, "GetRequest", json!({ "id": made["id"] })).await;
    assert_eq!(
        (&now["status"], &now["progress"]),
        (&json!("AGENT_REQUEST_STATUS_PROCESSING"), &json!(0.5))
    );
    let mut watchers = Vec::new();
    for world in [&world, &elsewhere] {
        let watch = format!("{AGENTS}/WatchRequest");
        let mut events = world.stream(&watch, json!({ "id": made["id"] }), &it.token).await;
        let first = timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(first["request"]["id"], made["id"]);
        watchers.push(events);
    }
    for piece in ["# A note\n", "\nIt is lit at night."] {
        driver.say(piece).await;
        for events in &mut watchers {
            let mut output = String::new();
            while !output.ends_with(piece) {
                let event = timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
                output.push_str(event["output"].as_str().unwrap_or_default());
            }
        }
    }
    driver.finish().await;
    for events in watchers {
        let rest = timeout(PATIENCE, events.rest()).await.expect("it ends").unwrap();
        let last = &rest.last().unwrap()["request"];
        assert_eq!(
            (&last["status"], &last["proposal"]["title"]),
            (&json!("AGENT_REQUEST_STATUS_COMPLETED"), &json!("A note"))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_flight_is_cancelled_within_a_second_and_can_be_retried() {
    let (driver, reply) = Reply::driven();
    let (model, _deployment, world, it) = with_model(move |n, _| match n {
        0 => reply.clone(),
        _ => Reply::text("# Again\n\nDone."),
    })
    .await;
    let session = begin(&world, &it, "stub").await;
    let request = ask(&world, &it, &session, "CREATE", "Write a note", &[]).await;
    timeout(PATIENCE, model.until_in_flight(1))
        .await
        .expect("the model is asked");
    driver.say("# Half").await;
    let since = Instant::now();
    call(&world, &it, "CancelRequest", json!({ "id": request })).await;
    driver.hung_up().await;
    let took = since.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    let cancelled = ended(&world, &it, &request).await;
    assert_eq!(cancelled["status"], "AGENT_REQUEST_STATUS_CANCELLED", "{cancelled}");
    let twice = refused(&world, &it, "CancelRequest", json!({ "id": request })).await;
    assert_reason(&twice, Code::FailedPrecondition, "REQUEST_ENDED");
    call(&world, &it, "RetryRequest", json!({ "id": request })).await;
    let retried = ended(&world, &it, &request).await;
    assert_eq!(
        (&retried["status"], &retried["attempts"], &retried["number"]),
        (&json!("AGENT_REQUEST_STATUS_COMPLETED"), &json!(2), &json!(1)),
        "{retried}"
    );
    let done = refused(&world, &it, "RetryRequest", json!({ "id": request })).await;
    assert_reason(&done, Code::FailedPrecondition, "REQUEST_COMPLETED");
}

/// How many characters a call's messages have.
fn characters(call: &Value) -> usize {
    let messages = call["messages"].as_array().unwrap().iter();
    messages
        .map(|it| it["content"].as_str().unwrap_or_default().chars().count())
        .sum()
}

/// A completion by a provider whose tokens have four characters.
fn counted(call: &Value, text: &str) -> Reply {
    let (read, written) = (characters(call) / 4, text.len() / 4);
    let body = json!({ "id": "chatcmpl-1", "object": "chat.completion", "model": "stub-1",
        "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": text } }],
        "usage": { "prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written } });
    Reply::raw(200, body.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_turns_are_summarised_and_the_summary_is_kept_with_what_it_covers() {
    let long = format!("# Long\n\n{}", "The tide comes and goes. ".repeat(240));
    let (model, _deployment, world, it) = with_model(move |_, body| {
        let asked = body["messages"].to_string();
        if asked.contains("Summarise the conversation") {
            return counted(body, "They spoke of tides; the code word is heron.");
        }
        counted(body, &long)
    })
    .await;
    let session = begin(&world, &it, "stub").await;
    let mut folded = Value::Null;
    for number in 1..=12 {
        let content = format!("Write of tides once more, part {number}");
        let request = asked(&world, &it, &session, "CREATE", &content, &[]).await;
        assert_eq!(request["status"], "AGENT_REQUEST_STATUS_COMPLETED", "{request}");
        let now = call(&world, &it, "GetSession", json!({ "id": session })).await;
        if now["context"]["summarizedThrough"] != 0 {
            folded = now["context"].clone();
            break;
        }
    }
    assert_eq!(folded["summary"], "They spoke of tides; the code word is heron.");
    let through = folded["summarizedThrough"].as_i64().unwrap();
    assert!(through >= 1, "{folded}");
    asked(&world, &it, &session, "CREATE", "And once more", &[]).await;
    let calls = model.calls();
    let last = calls.last().unwrap()["messages"].to_string();
    assert!(last.contains("code word is heron"), "the summary is shown: {last}");
    assert!(!last.contains("part 1\\n"), "what it covers is not: {last}");
    for call in &calls {
        let characters = characters(call);
        let answer = usize::try_from(
            call["max_tokens"]
                .as_u64()
                .or(call["max_completion_tokens"].as_u64())
                .unwrap(),
        )
        .unwrap();
        assert!(
            characters / 4 + answer <= 8_192,
            "{characters} characters and {answer} tokens"
        );
    }
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
