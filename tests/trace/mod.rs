//! One run is one trace, over three processes and the model's call.

use std::collections::BTreeSet;

use serde_json::json;
use studios_tests::{
    deployment::Deployment,
    model::{Model, Reply},
    otlp::{Receiver, Span},
    tenant::Tenant,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_one_joined_trace_through_gateway_core_execution_and_the_models_call() {
    let receiver = Receiver::start().await;
    let model = Model::start(|_, _| Reply::text("fine")).await;
    let telemetry = [("STUDIOS_OTLP_ENDPOINT", receiver.url().to_string())];
    let deployment = Deployment::start(&telemetry, &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let document = it.add_document(&world, "Note", "The pier is lit at night.").await;
    let stage = json!({ "name": "only", "llm": { "model": "stub", "prompt": "{{ chunks }}",
        "retrieval": { "query": "pier", "documentIdsPath": "inputs.document_ids" } } });
    let workflow = it.add_workflow(&world, "One", json!([stage])).await;

    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let started = reqwest::Client::new()
        .post(world.url("studios.execution.v1.ExecutionService/StartExecution"))
        .bearer_auth(&it.token)
        .header("traceparent", format!("00-{trace_id}-00f067aa0ba902b7-01"))
        .json(&json!({ "workflowId": workflow, "inputs": { "document_ids": [document] }, "requestId": "one" }))
        .send()
        .await
        .unwrap();
    assert_eq!(started.status(), 200);
    let execution: serde_json::Value = started.json().await.unwrap();
    let ended = world.finished(execution["id"].as_str().unwrap(), &it.token).await;
    assert_eq!(
        (&ended["status"], &ended["traceId"]),
        (&json!("EXECUTION_STATUS_COMPLETED"), &json!(trace_id))
    );

    let services = |spans: &[Span]| spans.iter().map(|span| span.service.clone()).collect::<BTreeSet<_>>();
    let wanted = BTreeSet::from(["gateway", "core-service", "execution-service"].map(str::to_owned));
    let calls_model = |spans: &[Span]| {
        spans
            .iter()
            .any(|it| it.attributes.iter().any(|(key, _)| key == "gen_ai.request.model"))
    };
    let spans = receiver
        .until(trace_id, |spans| {
            services(spans) == wanted && calls_model(spans) && joined(spans)
        })
        .await;
    let retrieval = spans
        .iter()
        .find(|it| it.service == "core-service" && it.name.contains("SearchChunks"));
    assert!(
        retrieval.is_some(),
        "core-service's part of the run is the retrieval: {spans:#?}"
    );

    let sent = model.headers()[0]["traceparent"].to_str().unwrap().to_owned();
    let parent = sent.split('-').nth(2).unwrap().to_owned();
    assert!(
        sent.contains(trace_id) && spans.iter().any(|it| it.span_id == parent),
        "the model is called within the trace"
    );
}

/// Whether every span hangs on another one of the trace, the outermost on what the caller sent.
fn joined(spans: &[Span]) -> bool {
    let known: BTreeSet<&str> = spans
        .iter()
        .map(|it| it.span_id.as_str())
        .chain(["00f067aa0ba902b7"])
        .collect();
    spans.iter().all(|span| known.contains(span.parent_id.as_str()))
}
