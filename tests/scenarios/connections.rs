//! A company's connections: made, seen, changed and used, and their secrets nowhere but at the server they are for.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::Json,
};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use studios_tests::{
    deployment::Deployment,
    refusal::fields,
    tenant::{SECRET, Tenant},
    world::World,
};
use tonic::Code;

const CONNECTIONS: &str = "studios.execution.v1.ConnectionService";
const EXECUTIONS: &str = "studios.execution.v1.ExecutionService";
const MODELS: &str = "studios.execution.v1.ModelService";
const WORKFLOWS: &str = "studios.execution.v1.WorkflowService";

/// A server that lets nobody in without the secret, and remembers who came.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Vec<(String, HeaderMap)>>>);

impl Server {
    async fn start() -> (Self, String) {
        let server = Self::default();
        let router = Router::new().fallback(answer).with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (server, address)
    }

    fn asked(&self) -> Vec<(String, HeaderMap)> {
        self.0.lock().unwrap().clone()
    }
}

async fn answer(State(server): State<Server>, uri: Uri, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    let has_secret = headers.values().any(|it| it.as_bytes().ends_with(SECRET.as_bytes()));
    server.0.lock().unwrap().push((uri.path().to_owned(), headers));
    if !has_secret {
        return (StatusCode::UNAUTHORIZED, Json(json!({ "error": "who are you?" })));
    }
    let answer = match uri.path() {
        "/v1/chat/completions" => json!({ "id": "c1", "model": "m", "choices": [{ "index": 0, "finish_reason": "stop",
            "message": { "role": "assistant", "content": "From behind the connection." } }],
            "usage": { "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 } }),
        "/v1/models" => json!({ "data": [{ "id": "m" }, { "id": "n" }] }),
        _ => json!({ "seen": uri.path() }),
    };
    (StatusCode::OK, Json(answer))
}

async fn installation() -> (Deployment, World, Tenant) {
    let settings = [("STUDIOS_EXECUTION_OUTBOUND_ALLOW", "127.0.0.1".to_owned())];
    let deployment = Deployment::start(&[], &settings).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    (deployment, world, it)
}

async fn get(world: &World, it: &Tenant, id: &str) -> Value {
    world
        .ok(&format!("{CONNECTIONS}/GetConnection"), json!({ "id": id }), &it.token)
        .await
}

async fn run(world: &World, it: &Tenant, name: &str, stages: Value) -> Value {
    let workflow = it.add_workflow(world, name, stages).await;
    let execution = it.start(world, &workflow, json!({})).await;
    world.finished(&execution, &it.token).await
}

#[tokio::test]
async fn a_secret_goes_to_its_server_and_comes_back_from_nowhere() {
    let (server, address) = Server::start().await;
    let (deployment, world, it) = installation().await;
    let models = it
        .add_connection(&world, "Models", "openai", &format!("{address}/v1"))
        .await;
    let office = it
        .add_connection(&world, "Office", "http", &format!("{address}/office/"))
        .await;

    let tested = world
        .ok(
            &format!("{CONNECTIONS}/TestConnection"),
            json!({ "id": models }),
            &it.token,
        )
        .await;
    assert_eq!(
        (&tested["ok"], &tested["offers"]),
        (&json!(true), &json!(["m", "n"])),
        "{tested}"
    );

    let body = json!({ "model": { "companyId": it.company, "name": "behind", "connectionId": models, "providerModel": "m",
        "contextLength": 4096, "enabled": true } });
    let model = world.ok(&format!("{MODELS}/CreateModel"), body, &it.token).await;
    assert_eq!(
        (&model["provider"], &model["connectionId"]),
        (&json!("openai"), &json!(models)),
        "{model}"
    );
    // What is left open is what is known of the model, by what its server speaks.
    let body = json!({ "model": { "companyId": it.company, "name": "known", "connectionId": models, "providerModel": "gpt-4o-mini" } });
    let known = world.ok(&format!("{MODELS}/CreateModel"), body, &it.token).await;
    assert_eq!(
        (
            &known["contextLength"],
            &known["inputPriceMicros"],
            &known["outputPriceMicros"]
        ),
        (&json!(128_000), &json!("150000"), &json!("600000")),
        "{known}"
    );
    let body =
        json!({ "model": { "companyId": it.company, "name": "new", "connectionId": models, "providerModel": "n" } });
    let status = world.refused(&format!("{MODELS}/CreateModel"), body, &it.token).await;
    assert_eq!(fields(&status), ["model.context_length"]);
    let off = json!({ "connection": { "id": models, "options": { "noStreaming": true } } });
    world
        .ok(&format!("{CONNECTIONS}/UpdateConnection"), off, &it.token)
        .await;

    let stages = json!([
        { "name": "ask", "llm": { "model": "behind", "prompt": "Where from?" } },
        { "name": "tell", "http": { "method": "POST", "url": format!("{address}/office/desk"), "body": "{{ stages.ask.output }}",
            "repeatable": true, "connectionId": office } },
    ]);
    let ended = run(&world, &it, "Both", stages).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    let asked = server.asked();
    let paths: Vec<_> = asked.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["/v1/models", "/v1/chat/completions", "/office/desk"]);
    let expected = format!("Bearer {SECRET}");
    assert!(
        asked
            .iter()
            .all(|(_, headers)| headers["authorization"] == expected.as_str())
    );

    // Everything that can be read of it, by all who can read.
    let mut read = vec![
        get(&world, &it, &models).await,
        get(&world, &it, &office).await,
        ended.clone(),
    ];
    for (method, body) in [
        (
            format!("{CONNECTIONS}/ListConnections"),
            json!({ "companyId": it.company }),
        ),
        (
            format!("{EXECUTIONS}/ListAttempts"),
            json!({ "executionId": ended["id"], "pageSize": 50 }),
        ),
    ] {
        read.push(world.ok(&method, body, &it.token).await);
    }
    let read = serde_json::to_string(&read).unwrap();
    assert!(!read.contains(SECRET), "{read}");
    assert!(read.contains(r#""secretHint":"end7""#), "{read}");
    assert_eq!(tables_with(&world, SECRET).await, Vec::<String>::new());
    for process in [&deployment.core, &deployment.gateway]
        .into_iter()
        .chain(&deployment.execution)
    {
        assert!(!process.log().join("\n").contains(SECRET));
    }
}

/// The tables of both services that hold a text in the clear.
async fn tables_with(world: &World, text: &str) -> Vec<String> {
    let admin = world.admin().await;
    let tables =
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('core', 'execution')";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&admin).await.unwrap();
    assert!(tables.len() > 30, "{tables:?}");
    let mut found = Vec::new();
    for table in tables {
        // Bytes are looked through as they are written as text.
        let sql = format!(
            "select exists (select from {table} t where position($1 in t::text) > 0
                 or position(encode(convert_to($1, 'UTF8'), 'hex') in t::text) > 0)"
        );
        let holds: bool = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(text)
            .fetch_one(&admin)
            .await
            .unwrap();
        if holds {
            found.push(table);
        }
    }
    found
}

#[tokio::test]
async fn a_template_cannot_take_the_secret_elsewhere() {
    let (server, address) = Server::start().await;
    let (other, elsewhere) = Server::start().await;
    let (_deployment, world, it) = installation().await;
    let office = it
        .add_connection(&world, "Office", "http", &format!("{address}/office"))
        .await;
    for (n, url) in [
        format!("{elsewhere}/office/desk"),
        format!("{address}/officer/desk"),
        format!("{address}/office/../desk"),
        format!("{address}/office/..%2Fdesk"),
        format!("{address}@{}/office", elsewhere.trim_start_matches("http://")),
    ]
    .into_iter()
    .enumerate()
    {
        let stages = json!([{ "name": "tell", "http": { "method": "GET", "url": "http://{{ inputs.rest }}", "repeatable": true,
            "connectionId": office } }]);
        let workflow = it.add_workflow(&world, &format!("Leak {n}"), stages).await;
        let rest = url.trim_start_matches("http://");
        let execution = it.start(&world, &workflow, json!({ "rest": rest })).await;
        let ended = world.finished(&execution, &it.token).await;
        assert_eq!(ended["status"], "EXECUTION_STATUS_FAILED", "{url}: {ended}");
        assert_eq!(ended["failure"]["class"], "FAILURE_CLASS_VALIDATION", "{url}: {ended}");
    }
    assert!(server.asked().is_empty(), "{:?}", server.asked());
    assert!(other.asked().is_empty(), "{:?}", other.asked());
}

#[tokio::test]
async fn what_was_given_for_one_server_is_not_sent_to_another() {
    let (_deployment, world, it) = installation().await;
    let id = it
        .add_connection(&world, "Office", "http", "http://127.0.0.1:9/a")
        .await;
    let update = format!("{CONNECTIONS}/UpdateConnection");
    let moved = json!({ "connection": { "id": id, "baseUrl": "http://127.0.0.1:10/a" } });
    assert_eq!(
        fields(&world.refused(&update, moved, &it.token).await),
        ["connection.secret"]
    );
    let both = json!({ "connection": { "id": id, "baseUrl": "http://127.0.0.1:10/a", "secret": "another" } });
    let changed = world.ok(&update, both, &it.token).await;
    assert_eq!(changed["baseUrl"], "http://127.0.0.1:10/a");
    let stale = json!({ "connection": { "id": id, "name": "Desk", "etag": "r1" } });
    assert_eq!(world.refused(&update, stale, &it.token).await.code(), Code::Aborted);
}

#[tokio::test]
async fn members_see_which_connections_there_are_and_admins_alone_change_them() {
    let (_deployment, world, it) = installation().await;
    let id = it.add_connection(&world, "Office", "http", "http://127.0.0.1:9/").await;
    let member = Tenant::user(&world).await;
    it.add_member(&world, &member, "ROLE_MEMBER").await;
    let member = member.token;
    let seen = world
        .ok(&format!("{CONNECTIONS}/GetConnection"), json!({ "id": id }), &member)
        .await;
    assert_eq!(
        (&seen["name"], &seen["kind"]),
        (&json!("Office"), &json!("CONNECTION_KIND_HTTP"))
    );
    for hidden in ["baseUrl", "options", "secretHint", "etag"] {
        assert!(
            seen.get(hidden).is_none_or(|it| it.as_str() == Some("")),
            "{hidden} is shown: {seen}"
        );
    }
    for (method, body) in [
        (
            "UpdateConnection",
            json!({ "connection": { "id": id, "name": "Mine" } }),
        ),
        ("DeleteConnection", json!({ "id": id })),
        ("TestConnection", json!({ "id": id })),
    ] {
        let refused = world.refused(&format!("{CONNECTIONS}/{method}"), body, &member).await;
        assert_eq!(refused.code(), Code::PermissionDenied, "{method}");
    }
}

#[tokio::test]
async fn a_stage_whose_connection_is_gone_says_so_and_the_next_model_is_asked() {
    let (_server, address) = Server::start().await;
    let (_deployment, world, it) = installation().await;
    let models = it
        .add_connection(&world, "Models", "openai", &format!("{address}/v1"))
        .await;
    let body = json!({ "model": { "companyId": it.company, "name": "behind", "connectionId": models, "providerModel": "m",
        "contextLength": 4096, "enabled": true } });
    world.ok(&format!("{MODELS}/CreateModel"), body, &it.token).await;
    let alone = json!([{ "name": "ask", "llm": { "model": "behind", "prompt": "Where from?" } }]);
    let fallback = json!([{ "name": "ask", "llm": { "model": "behind", "prompt": "The desk opens at nine.",
        "fallbackModels": ["offline"] } }]);
    let (alone, fallback) = (
        it.add_workflow(&world, "Alone", alone).await,
        it.add_workflow(&world, "Fallback", fallback).await,
    );
    world
        .ok(
            &format!("{CONNECTIONS}/DeleteConnection"),
            json!({ "id": models }),
            &it.token,
        )
        .await;
    let execution = it.start(&world, &alone, json!({})).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(
        ended["failure"]["message"], "stage \"ask\": its connection is gone",
        "{ended}"
    );
    let execution = it.start(&world, &fallback, json!({})).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");

    let stages =
        json!([{ "name": "tell", "http": { "method": "GET", "url": "http://127.0.0.1:9/", "connectionId": models } }]);
    let body = json!({ "workflow": { "studioId": it.studio, "name": "Gone", "draft": { "stages": stages } } });
    let made = world.ok(&format!("{WORKFLOWS}/CreateWorkflow"), body, &it.token).await;
    let refused = world
        .refused(
            &format!("{WORKFLOWS}/PublishWorkflow"),
            json!({ "id": made["id"] }),
            &it.token,
        )
        .await;
    assert_eq!(fields(&refused), ["draft.stages[0].http.connection_id"]);
}

#[tokio::test]
async fn a_test_says_which_step_fails_and_the_health_remembers_it() {
    let (_server, address) = Server::start().await;
    let (_deployment, world, it) = installation().await;
    let test = format!("{CONNECTIONS}/TestConnection");
    let unsaved = |kind: &str, url: &str, secret: &str| {
        json!({ "connection": { "companyId": it.company, "kind": format!("CONNECTION_KIND_{kind}"), "baseUrl": url,
            "secret": secret } })
    };
    let failing = |tested: &Value| {
        let steps = tested["steps"].as_array().unwrap().clone();
        let failed = steps
            .into_iter()
            .find(|it| it.get("ok").is_none_or(|it| *it == json!(false)));
        failed.map(|it| it["name"].as_str().unwrap().to_owned())
    };
    for (kind, url, secret, expected) in [
        ("OPENAI", format!("{address}/v1"), SECRET, None),
        ("OPENAI", format!("{address}/v1"), "wrong", Some("access")),
        ("ANTHROPIC", "http://127.0.0.1:9/".to_owned(), SECRET, Some("answer")),
        (
            "HTTP",
            "http://169.254.169.254/latest".to_owned(),
            SECRET,
            Some("address"),
        ),
        ("OLLAMA", address.clone(), SECRET, Some("content")),
    ] {
        let tested = world.ok(&test, unsaved(kind, &url, secret), &it.token).await;
        assert_eq!(failing(&tested).as_deref(), expected, "{kind} {url}: {tested}");
    }
    let saved = it
        .add_connection(&world, "Wrong", "openai", "http://127.0.0.1:9/v1")
        .await;
    world.ok(&test, json!({ "id": saved }), &it.token).await;
    let failing = |it: &Value| it["health"]["state"] == "STATE_FAILING";
    let noted = world
        .until(
            &format!("{CONNECTIONS}/GetConnection"),
            json!({ "id": saved }),
            &it.token,
            failing,
        )
        .await;
    assert_eq!(noted["health"]["errorReason"], "answer", "{noted}");
}
