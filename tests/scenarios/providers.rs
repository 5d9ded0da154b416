//! Providers of every protocol: servers of others that speak them, flows as stages, answers that are asked for again.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::post,
};
use execution_service::{
    engine::failure::FailureClass::{self, ProviderError, RateLimit, Validation},
    providers::{Answer, Call, CallError, Provider, Providers, ProvidersConfig},
};
use serde_json::{Value, json};
use service_kit::{
    config::Reader,
    outbound::{Outbound, OutboundConfig},
};
use studios_tests::{
    deployment::Deployment,
    model::{Model, Reply},
    peer::{KEY, Peer},
    tenant::Tenant,
    world::World,
};
use tokio::sync::Mutex;

const EXECUTIONS: &str = "studios.execution.v1.ExecutionService";

fn providers(settings: &[(String, String)]) -> Providers {
    let mut reader = Reader::load(&["STUDIOS_NO_SUCH_PREFIX_"], None, settings);
    let config = ProvidersConfig::read(&mut reader);
    reader.finish().unwrap();
    Providers::new(&config, Outbound::new(&OutboundConfig::default()).unwrap())
}

async fn ask(provider: &Arc<dyn Provider>, model: &str, prompt: &str) -> Result<Answer, CallError> {
    let call = Call {
        model: model.into(),
        prompt: prompt.into(),
        timeout: Duration::from_secs(30),
        ..Call::default()
    };
    provider.call(&call, &|_| {}).await
}

#[tokio::test]
async fn every_protocol_is_spoken_with_aimock_streaming_and_not() {
    let aimock = Peer::aimock().await;
    let base = aimock.url.as_str().trim_end_matches('/');
    for (protocol, path, model) in [
        ("openai", "/v1", "gpt-4o"),
        ("azure", "/openai/v1", "a-deployment"),
        ("anthropic", "/v1", "claude-sonnet-4-5"),
        ("ollama", "", "llama3"),
    ] {
        for streams in [true, false] {
            let set = |entry: &str, value: String| (format!("providers_peer_{entry}"), value);
            let providers = providers(&[
                set("base_url", format!("{base}{path}")),
                set("protocol", protocol.to_owned()),
                set("api_key", KEY.to_owned()),
                set("stream", streams.to_string()),
            ]);
            let peer = providers.get("peer").unwrap();
            let what = format!("{protocol}, streaming: {streams}");
            let answer = ask(&peer, model, "say hello")
                .await
                .unwrap_or_else(|error| panic!("{what}: {error:?}"));
            assert_eq!(answer.text, "Hello from aimock.", "{what}");
            let mut rows: Vec<(&str, FailureClass, &str)> = vec![
                ("limit", RateLimit, "rate_limit"),
                ("overload", ProviderError, "overloaded"),
                ("malformed", ProviderError, "wrong_body"),
            ];
            if streams {
                rows.push(("disconnect", ProviderError, "connection_lost"));
            }
            for (prompt, class, reason) in rows {
                let error = ask(&peer, model, prompt).await.unwrap_err();
                assert_eq!(
                    (error.class, error.reason),
                    (class, reason),
                    "{what}: {prompt}: {error:?}"
                );
                assert!(error.retryable, "{what}: {prompt}");
            }
            let limited = ask(&peer, model, "limit").await.unwrap_err();
            assert_eq!(limited.retry_after, Some(Duration::from_secs(1)), "{what}");
        }
    }
}

#[tokio::test]
async fn litellms_proxy_is_one_more_server_that_speaks_openais_protocol() {
    let litellm = Peer::litellm().await;
    for streams in [true, false] {
        let providers = providers(&[
            ("providers_peer_base_url".to_owned(), format!("{}v1", litellm.url)),
            ("providers_peer_api_key".to_owned(), KEY.to_owned()),
            ("providers_peer_stream".to_owned(), streams.to_string()),
        ]);
        let peer = providers.get("peer").unwrap();
        let answer = ask(&peer, "mock-ok", "say hello").await.unwrap();
        assert_eq!(answer.text, "Hello from LiteLLM.", "streaming: {streams}");
        assert!(answer.output_tokens > 0 && !answer.billing_uncertain, "{answer:?}");
        for (model, class, reason) in [
            ("mock-limit", RateLimit, "rate_limit"),
            ("mock-error", ProviderError, "server_error"),
            ("mock-context", Validation, "context_length"),
            ("not-there", ProviderError, "model_not_found"),
        ] {
            let error = ask(&peer, model, "say hello").await.unwrap_err();
            assert_eq!((error.class, error.reason), (class, reason), "{model}: {error:?}");
        }
    }
}

/// Runs one stage and returns the execution and its attempts.
async fn run(world: &World, it: &Tenant, name: &str, stage: Value) -> (Value, Vec<Value>) {
    let workflow = it.add_workflow(world, name, json!([stage])).await;
    let execution = it.start(world, &workflow, json!({ "name": "Ada" })).await;
    let ended = world.finished(&execution, &it.token).await;
    let body = json!({ "executionId": execution });
    let page = world.ok(&format!("{EXECUTIONS}/ListAttempts"), body, &it.token).await;
    (ended, page["attempts"].as_array().unwrap().clone())
}

#[tokio::test]
async fn an_answer_that_is_not_as_its_schema_wants_is_asked_for_once_more_in_the_same_try() {
    let model = Model::start(|n, _| match n {
        0 => Reply::text("The port is Antwerp."),
        1 => Reply::text(r#"{"port": "Antwerp"}"#),
        2 => Reply::text(r#"{"port": 7}"#),
        _ => Reply::text("still no JSON"),
    })
    .await;
    let deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let stage = || json!({ "name": "only", "outputVariables": { "port": "string" }, "llm": { "model": "stub", "prompt": "Which port?" } });
    let (ended, made) = run(&world, &it, "Corrected", stage()).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    assert_eq!(made.len(), 1, "it is one try: {made:#?}");
    assert_eq!(
        (&made[0]["inputTokens"], &made[0]["outputTokens"]),
        (&json!("22"), &json!("14")),
        "both asks are counted"
    );
    let again = model.calls()[1]["messages"].to_string();
    assert!(
        again.contains("The port is Antwerp.") && again.contains("the answer is not JSON"),
        "{again}"
    );
    let keys: Vec<_> = model.headers().iter().map(|it| it["idempotency-key"].clone()).collect();
    assert_ne!(keys[0], keys[1], "it is another call");

    let (ended, made) = run(&world, &it, "Incorrigible", stage()).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_FAILED", "{ended}");
    assert_eq!(
        (made.len(), model.calls().len()),
        (1, 4),
        "it is not asked a third time"
    );
    assert_eq!(made[0]["rawOutput"], "still no JSON");
}

#[derive(Clone, Default)]
struct Flows(Arc<Mutex<Vec<(String, Value)>>>);

async fn predict(
    State(flows): State<Flows>,
    Path(flow): Path<String>,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    flows.0.lock().await.push((flow.clone(), body.clone()));
    let added =
        json!({ "question": body["question"], "chatId": "c", "chatMessageId": "m", "sessionId": body["sessionId"] });
    match flow.as_str() {
        "echo" => (
            StatusCode::OK,
            Json(json!({ "text": format!("echo: {}", body["question"].as_str().unwrap()), "chatMessageId": "m" })),
        ),
        "object" => {
            let mut object = added;
            object["port"] = "Antwerp".into();
            (StatusCode::OK, Json(object))
        }
        _ => {
            let message =
                "Error: predictionsServices.buildChatflow - Error in LLM node: 429 You exceeded your current quota";
            let body = json!({ "statusCode": 500, "success": false, "message": message, "stack": {} });
            (StatusCode::INTERNAL_SERVER_ERROR, Json(body))
        }
    }
}

#[tokio::test]
async fn a_flowise_stage_asks_its_flow_in_the_executions_session() {
    let flows = Flows::default();
    let router = Router::new()
        .route("/api/v1/prediction/{flow}", post(predict))
        .with_state(flows.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    drop(tokio::spawn(async move { axum::serve(listener, router).await }));
    let settings = [("STUDIOS_EXECUTION_OUTBOUND_ALLOW", "127.0.0.1".to_owned())];
    let deployment = Deployment::start(&[], &settings).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    let connection = it.add_connection(&world, "Flows", "flowise", &base_url).await;
    let stage = |flow: &str| {
        json!({ "name": "only", "flowise": { "connectionId": connection, "flowId": flow, "question": "Who is {{ inputs.name }}?" },
                "providerOverrides": { "temperature": 0.5 } })
    };
    let (ended, made) = run(&world, &it, "Echo", stage("echo")).await;
    assert_eq!(ended["outputs"]["only"], "echo: Who is Ada?", "{ended} {made:#?}");
    let (flow, asked) = flows.0.lock().await[0].clone();
    assert_eq!((flow.as_str(), &asked["sessionId"]), ("echo", &ended["id"]));
    assert_eq!(asked["overrideConfig"], json!({ "temperature": 0.5 }));

    let mut object = stage("object");
    object["outputVariables"] = json!({ "port": "string" });
    let (ended, _) = run(&world, &it, "Object", object).await;
    assert_eq!(ended["outputs"]["only"], json!({ "port": "Antwerp" }), "{ended}");

    let (ended, made) = run(&world, &it, "Quota", stage("quota")).await;
    assert_eq!(ended["failure"]["class"], "FAILURE_CLASS_PROVIDER_ERROR", "{ended}");
    let said = made[0]["failure"]["message"].as_str().unwrap();
    assert!(said.contains("quota with the provider is used up"), "{said}");
}
