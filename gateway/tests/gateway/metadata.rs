//! What of a request's metadata reaches a service, and the request's id.

use service_kit::telemetry::{self, TelemetryConfig};

use crate::support::{GET_STUDIO, World, within};

#[tokio::test]
async fn internal_and_forwarded_metadata_is_taken_out_and_the_callers_token_kept() {
    let world = World::new().await;
    let plant = |request: reqwest::RequestBuilder| {
        request
            .header("authorization", "Bearer token")
            .header("x-studios-user", "someone else")
            .header("x-studios-company", "another")
            .header("x-studios-client-address", "10.0.0.1")
            .header("x-forwarded-for", "10.0.0.1")
            .header("forwarded", "for=10.0.0.1")
            .header("grpc-trace-bin", "AAAA")
            .header("cookie", "a=b")
    };
    let calls = [
        world.json(GET_STUDIO, "{}"),
        world.grpc_web(GET_STUDIO, &studios_proto::core::GetStudioRequest::default()),
    ];
    for (i, call) in calls.into_iter().enumerate() {
        within(plant(call).send()).await.unwrap();
        let seen = world.core.last();
        assert_eq!(world.core.calls(), i + 1);
        assert_eq!(seen["authorization"], "Bearer token");
        assert_eq!(seen["x-studios-client-address"], "127.0.0.1", "the gateway's own word");
        for name in seen.keys().filter(|it| *it != "x-studios-client-address") {
            let name = name.as_str();
            assert!(!name.starts_with("x-studios-") && !name.contains("forwarded"), "{name}");
            assert!(
                !["grpc-trace-bin", "cookie", "x-grpc-web", "connection", "host"].contains(&name),
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn a_plain_request_id_is_kept_all_the_way() {
    let world = World::new().await;
    let response = within(world.json(GET_STUDIO, "{}").header("x-request-id", "mine-1").send())
        .await
        .unwrap();
    assert_eq!(response.headers()["x-request-id"], "mine-1");
    assert_eq!(world.core.last()["x-request-id"], "mine-1");
}

#[tokio::test]
async fn an_odd_request_id_is_replaced() {
    let world = World::new().await;
    let response = within(world.json(GET_STUDIO, "{}").header("x-request-id", "a b\"c").send())
        .await
        .unwrap();
    let id = response.headers()["x-request-id"].clone();
    assert_eq!(id.len(), 36);
    assert_eq!(world.core.last()["x-request-id"], id);
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let world = World::new().await;
    for path in ["/", "/healthz", "/nothing", GET_STUDIO] {
        let response = within(world.http.get(world.url(path)).send()).await.unwrap();
        assert_eq!(response.headers()["x-request-id"].len(), 36, "{path}");
    }
}

#[tokio::test]
async fn an_errors_details_name_the_request() {
    let world = World::new().await;
    let request = world.json(GET_STUDIO, "{").header("x-request-id", "mine-2");
    let error: serde_json::Value = within(request.send()).await.unwrap().json().await.unwrap();
    let details = error["details"].as_array().unwrap();
    let info = details
        .iter()
        .find(|it| it["type"] == "google.rpc.RequestInfo")
        .unwrap();
    assert_eq!(info["debug"]["requestId"], "mine-2");
}

#[tokio::test]
async fn headers_over_the_limit_are_refused() {
    let world = World::new().await;
    let request = world.json(GET_STUDIO, "{}").header("authorization", "x".repeat(20_000));
    assert_eq!(within(request.send()).await.unwrap().status(), 431);
    assert_eq!(world.core.calls(), 0);
}

#[tokio::test]
async fn a_service_sees_the_gateways_span_in_the_callers_trace() {
    let quiet = TelemetryConfig {
        log: "off".parse().unwrap(),
        ..TelemetryConfig::default()
    };
    let _telemetry = telemetry::init("gateway", &quiet);
    let world = World::new().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let given = format!("00-{trace}-b7ad6b7169203331-01");
    within(world.json(GET_STUDIO, "{}").header("traceparent", &given).send())
        .await
        .unwrap();
    let seen = world.core.last()["traceparent"].to_str().unwrap().to_owned();
    assert!(seen.starts_with(&format!("00-{trace}-")), "{seen}");
    assert_ne!(seen, given);

    within(world.json(GET_STUDIO, "{}").send()).await.unwrap();
    assert!(!world.core.last()["traceparent"].to_str().unwrap().contains(trace));
}
