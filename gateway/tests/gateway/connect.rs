//! Connect's JSON.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use prost::Message;
use serde_json::{Value, json};

use crate::support::{CREATE_STUDIO, GET_STUDIO, WATCH, World, within};

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = within(request.send()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn a_unary_rpc_is_called_with_json() {
    let world = World::new().await;
    let request = world.json(GET_STUDIO, r#"{"id": "a"}"#);
    assert_eq!(answer(request).await, (200, json!({"id": "a", "name": "Studio a"})));
}

#[tokio::test]
async fn a_charset_and_the_protocols_version_are_tolerated() {
    let world = World::new().await;
    let request = world.http.post(world.url(GET_STUDIO)).body(r#"{"id": "a"}"#);
    let request = request
        .header("content-type", "application/json; charset=UTF-8")
        .header("authorization", "Bearer token");
    assert_eq!(answer(request.header("connect-protocol-version", "1")).await.0, 200);
    let request = world.json(GET_STUDIO, "{}").header("connect-protocol-version", "2");
    assert_eq!(answer(request).await.0, 400);
}

#[tokio::test]
async fn no_body_is_the_empty_message() {
    let world = World::new().await;
    assert_eq!(
        answer(world.json("/studios.core.v1.StudioService/ListStudios", "")).await,
        (200, json!({}))
    );
}

#[tokio::test]
async fn an_error_has_its_code_status_and_readable_details() {
    let world = World::new().await;
    let (status, error) = answer(world.json(CREATE_STUDIO, r#"{"studio": {}}"#)).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_argument")));
    let details = error["details"].as_array().unwrap();
    let find = |name| details.iter().find(|detail| detail["type"] == name).unwrap();
    let violations = &find("google.rpc.BadRequest")["debug"]["fieldViolations"];
    assert_eq!(violations[0]["field"], "studio.name");
    assert_eq!(violations[1]["field"], "studio.company_id");
    assert_eq!(violations[1]["description"], "must be a UUID");
    assert_eq!(find("google.rpc.ErrorInfo")["debug"]["domain"], "studios");

    let encoded = find("google.rpc.BadRequest")["value"].as_str().unwrap();
    let decoded = tonic_types::pb::BadRequest::decode(&*STANDARD_NO_PAD.decode(encoded).unwrap()).unwrap();
    assert_eq!(decoded.field_violations.len(), 2);
}

#[tokio::test]
async fn every_code_has_connects_name_and_http_status() {
    let world = World::new().await;
    for (path, body, status, code) in [
        (GET_STUDIO, r#"{"id": "missing"}"#, 404, "not_found"),
        ("/studios.core.v1.StudioService/UpdateStudio", "{}", 409, "aborted"),
        (
            "/studios.core.v1.StudioService/DeleteStudio",
            "{}",
            429,
            "resource_exhausted",
        ),
        (
            "/studios.core.v1.StudioService/UndeleteStudio",
            "{}",
            401,
            "unauthenticated",
        ),
        ("/studios.core.v1.AuthService/SignIn", "{}", 501, "unimplemented"),
    ] {
        let (got, error) = answer(world.json(path, body)).await;
        assert_eq!((got, error["code"].as_str()), (status, Some(code)), "{path}");
    }
}

#[tokio::test]
async fn when_to_try_again_is_readable() {
    let world = World::new().await;
    let (_, error) = answer(world.json("/studios.core.v1.StudioService/DeleteStudio", "{}")).await;
    let retry = error["details"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["type"] == "google.rpc.RetryInfo")
        .unwrap();
    assert_eq!(retry["debug"]["retryDelay"], "7s");
}

#[tokio::test]
async fn an_unknown_field_is_refused_by_its_name() {
    let world = World::new().await;
    let (status, error) = answer(world.json(CREATE_STUDIO, r#"{"studio": {"nmae": "x"}}"#)).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_argument")));
    assert!(error["message"].as_str().unwrap().contains("'nmae'"), "{error}");
    assert_eq!(world.core.calls(), 0);
}

#[tokio::test]
async fn malformed_json_is_refused_by_its_place() {
    let world = World::new().await;
    let (status, error) = answer(world.json(CREATE_STUDIO, "{\n  \"studio\": }")).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_argument")));
    assert!(
        error["message"].as_str().unwrap().contains("line 2 column 13"),
        "{error}"
    );
}

#[tokio::test]
async fn a_stream_is_refused_with_the_way_to_call_it() {
    let world = World::new().await;
    let (status, error) = answer(world.json(WATCH, "{}")).await;
    assert_eq!((status, &error["code"]), (501, &json!("unimplemented")));
    assert!(error["message"].as_str().unwrap().contains("gRPC-Web"));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let world = World::with(|config| config.max_message_bytes = 1000).await;
    let body = format!(r#"{{"id": "{}"}}"#, "x".repeat(1000));
    let request = world
        .http
        .post(world.url(GET_STUDIO))
        .header("content-type", "application/json")
        .header("authorization", "Bearer token")
        .body(body);
    let (status, error) = answer(request).await;
    assert_eq!((status, &error["code"]), (413, &json!("resource_exhausted")));
    assert_eq!(world.core.calls(), 0);
}

#[tokio::test]
async fn a_stranger_is_refused_unread_and_may_send_little_where_no_token_is_asked_for() {
    let world = World::new().await;
    let post = |path| {
        world
            .http
            .post(world.url(path))
            .header("content-type", "application/json")
    };
    let (status, error) = answer(post(GET_STUDIO).body("not even JSON")).await;
    assert_eq!((status, &error["code"]), (401, &json!("unauthenticated")));
    let large = format!(r#"{{"email": "{}"}}"#, "x".repeat(64 << 10));
    let (status, error) = answer(post("/studios.core.v1.AuthService/SignIn").body(large)).await;
    assert_eq!((status, &error["code"]), (413, &json!("resource_exhausted")));
    let studio = format!(r#"{{"studio": {{"name": "{}"}}}}"#, "x".repeat(64 << 10));
    let create = |token: &str| post(CREATE_STUDIO).header("authorization", token).body(studio.clone());
    let (status, error) = answer(create("Bearer what nobody would take for a token")).await;
    assert_eq!((status, &error["code"]), (413, &json!("resource_exhausted")));
    assert_eq!(world.core.calls(), 0);
    let token = "Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.c2lnbmF0dXJlLW9mLWl0";
    assert_eq!(answer(create(token)).await.0, 200);
}

#[tokio::test]
async fn a_deadline_is_kept_and_passed_on() {
    let world = World::new().await;
    let request = world
        .json(GET_STUDIO, r#"{"id": "held"}"#)
        .header("connect-timeout-ms", "200");
    let (status, error) = answer(request).await;
    assert_eq!((status, &error["code"]), (504, &json!("deadline_exceeded")));
    assert_eq!(world.core.last()["grpc-timeout"], "200000u");
    let (status, _) = answer(world.json(GET_STUDIO, "{}").header("connect-timeout-ms", "soon")).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn what_is_not_a_call_says_what_would_be() {
    let world = World::new().await;
    let (status, error) = answer(world.http.get(world.url(GET_STUDIO))).await;
    assert_eq!(status, 405);
    assert!(error["message"].as_str().unwrap().contains("POST"));

    let form = world
        .http
        .post(world.url(GET_STUDIO))
        .header("content-type", "application/x-www-form-urlencoded");
    let (status, error) = answer(form.body("id=a")).await;
    assert_eq!((status, &error["code"]), (415, &json!("invalid_argument")));
    assert!(error["message"].as_str().unwrap().contains("application/json"));

    let request = world.http.post(world.url(GET_STUDIO)).body("{}");
    let (status, error) = answer(request.header("content-type", "application/json; charset=utf-16")).await;
    assert_eq!((status, &error["code"]), (415, &json!("invalid_argument")));
    assert!(error["message"].as_str().unwrap().contains("utf-8"));

    let compressed = world.json(GET_STUDIO, "{}").header("content-encoding", "gzip");
    assert_eq!(answer(compressed).await.0, 501);
}

#[tokio::test]
async fn an_internal_service_is_answered_like_one_that_does_not_exist() {
    let world = World::new().await;
    let internal = answer(world.json("/studios.core.v1.AccessService/CheckStudio", "{}")).await;
    let (status, error) = &internal;
    assert_eq!((*status, &error["code"]), (501, &json!("unimplemented")));
    let without_id = |mut error: Value| {
        error["details"]
            .as_array_mut()
            .unwrap()
            .retain(|detail| detail["type"] != "google.rpc.RequestInfo");
        error
    };
    let unknown = answer(world.json("/studios.core.v1.NoService/CheckStudio", "{}")).await;
    assert_eq!(without_id(internal.1), without_id(unknown.1));
    let read = |service: &str| {
        world
            .http
            .get(world.url(&format!("/studios.core.v1.{service}/CheckStudio")))
    };
    assert_eq!(answer(read("AccessService")).await, answer(read("NoService")).await);
}
