//! Requests: answered with citations that exist, streamed, cancelled, and remembered.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use studios_tests::{
    model::Reply,
    refusal::{assert_reason, fields},
    tenant::{Tenant, id},
    world::{PATIENCE, World},
};
use tokio::time::timeout;
use tonic::Code;
use uuid::Uuid;

use super::{AGENTS, RULES, ask, asked, asking, begin, call, driven, ended, refused, with_model};

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
