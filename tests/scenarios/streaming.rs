//! Watching a model write, from the replica that runs the execution, from another one, and through the gateway.

use std::time::Duration;

use prost::Message;
use serde_json::{Value, json};
use studios_proto::execution::{ExecutionEvent, WatchExecutionRequest, execution_event::Event};
use studios_tests::{
    call::Events,
    deployment::Deployment,
    model::{Driver, Model, Reply},
    refusal::assert_reason,
    tenant::Tenant,
    world::{PATIENCE, World},
};
use tokio::time::timeout;
use tonic::Code;

const WATCH: &str = "studios.execution.v1.ExecutionService/WatchExecution";
const FOLLOW: &str = "studios.execution.v1.ReplicaService/FollowRun";

/// A deployment whose model writes what a test has it write, a tenant, and his execution that waits for it.
struct Writing {
    deployment: Deployment,
    world: World,
    it: Tenant,
    execution: String,
    driver: Driver,
}

impl Writing {
    async fn begin() -> Self {
        let (driver, reply) = Reply::driven();
        let model = Model::start(move |_, _| reply.clone()).await;
        let deployment = Deployment::start(&[], &model.settings()).await;
        let world = deployment.world().await;
        let it = Tenant::with_studio(&world).await;
        it.add_stub_model(&world).await;
        let stage = json!({ "name": "write", "timeout": "600s", "llm": { "model": "stub", "prompt": "go" } });
        let workflow = it.add_workflow(&world, "Write", json!([stage])).await;
        let execution = it.start(&world, &workflow, json!({})).await;
        timeout(PATIENCE, model.until_in_flight(1))
            .await
            .expect("the call is made");
        Self {
            deployment,
            world,
            it,
            execution,
            driver,
        }
    }

    async fn watch(&self, world: &World) -> Events {
        world
            .stream(WATCH, json!({ "id": self.execution }), &self.it.token)
            .await
    }
}

async fn next(events: &mut Events) -> Value {
    let event = timeout(PATIENCE, events.next()).await.expect("an event comes");
    event.unwrap().expect("the run goes on")
}

/// The next delta, as its text and whether it is all so far.
async fn delta(events: &mut Events) -> (String, bool) {
    loop {
        let event = next(events).await;
        let delta = &event["outputDelta"];
        if delta.is_object() {
            assert_eq!((&delta["stage"], &delta["attempt"]), (&json!("write"), &json!(1)));
            return (delta["text"].as_str().unwrap().to_owned(), delta["soFar"] == true);
        }
    }
}

/// Has the model write and end, each piece only after the one before it was seen, and sees the run to its end.
async fn write_and_see(driver: Driver, mut watchers: Vec<Events>) {
    for text in ["The pier ", "is lit ", "at night."] {
        driver.say(text).await;
        for events in &mut watchers {
            assert_eq!(delta(events).await, (text.to_owned(), false));
        }
    }
    driver.finish().await;
    for events in watchers {
        let rest = timeout(PATIENCE, events.rest()).await.expect("the run ends").unwrap();
        let recorded = rest
            .iter()
            .find(|it| it["attemptRecorded"].is_object())
            .expect("it is recorded");
        let attempt = &recorded["attemptRecorded"]["attempt"];
        assert_eq!(attempt["rawOutput"], "The pier is lit at night.");
        assert_eq!(
            (
                &attempt["inputTokens"],
                &attempt["outputTokens"],
                &attempt["billingUncertain"]
            ),
            (&json!("11"), &json!("7"), &json!(false))
        );
        assert!(
            rest.iter().all(|it| it["outputDelta"].is_null()),
            "nothing is told twice"
        );
        assert_eq!(
            rest.last().unwrap()["statusChanged"]["status"],
            "EXECUTION_STATUS_COMPLETED"
        );
    }
}

/// Waits until the model's stage is told to have begun.
async fn begun(events: &mut Events) {
    while next(events).await["stageStarted"]["stage"] != "write" {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deltas_arrive_one_by_one_while_the_model_still_writes() {
    let writing = Writing::begin().await;
    let mut events = writing.watch(&writing.world).await;
    begun(&mut events).await;
    write_and_see(writing.driver, vec![events]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deltas_arrive_on_a_replica_that_does_not_hold_the_run_too() {
    let writing = Writing::begin().await;
    let other = writing.deployment.another_execution();
    let elsewhere = writing.deployment.world().await.moved(&other.url());
    let mut one = writing.watch(&elsewhere).await;
    let mut two = writing.watch(&elsewhere).await;
    begun(&mut one).await;
    begun(&mut two).await;
    write_and_see(writing.driver, vec![one, two]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_in_mid_answer_has_the_text_so_far_and_then_every_piece_once() {
    let writing = Writing::begin().await;
    let other = writing.deployment.another_execution();
    let elsewhere = writing.deployment.world().await.moved(&other.url());
    let mut first = writing.watch(&writing.world).await;
    writing.driver.say("Once ").await;
    assert_eq!(delta(&mut first).await, ("Once ".to_owned(), false));
    writing.driver.say("upon ").await;
    assert_eq!(delta(&mut first).await, ("upon ".to_owned(), false));
    let mut late = Vec::new();
    for world in [&writing.world, &elsewhere] {
        // He has seen the start.
        let body = json!({ "id": writing.execution, "after": 1 });
        let mut events = world.stream(WATCH, body, &writing.it.token).await;
        assert_eq!(delta(&mut events).await, ("Once upon ".to_owned(), true));
        late.push(events);
    }
    late.push(first);
    writing.driver.say("a time").await;
    for events in &mut late {
        assert_eq!(delta(events).await, ("a time".to_owned(), false));
    }
    writing.driver.finish().await;
    for events in late {
        let rest = timeout(PATIENCE, events.rest()).await.expect("the run ends").unwrap();
        assert!(rest.iter().all(|it| it["outputDelta"].is_null()));
        assert_eq!(
            rest.last().unwrap()["statusChanged"]["status"],
            "EXECUTION_STATUS_COMPLETED"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_who_reads_slowly_has_the_whole_text_in_the_end() {
    let writing = Writing::begin().await;
    let other = writing.deployment.another_execution();
    let elsewhere = writing.deployment.world().await.moved(&other.url());
    let mut watchers = vec![writing.watch(&writing.world).await, writing.watch(&elsewhere).await];
    for events in &mut watchers {
        begun(events).await;
    }
    // More than all that is buffered on the way: the text so far makes up for it.
    let mut text = String::new();
    for n in 0..900 {
        let piece = format!("{n} {}\n", "x".repeat(1_000));
        writing.driver.say(&piece).await;
        text.push_str(&piece);
    }
    writing.driver.say("END").await;
    text.push_str("END");
    for events in &mut watchers {
        let mut seen = String::new();
        while !seen.ends_with("END") {
            let (piece, so_far) = delta(events).await;
            if so_far {
                seen = piece;
            } else {
                seen.push_str(&piece);
            }
        }
        assert_eq!(seen.len(), text.len());
        assert!(seen == text);
    }
    writing.driver.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deltas_arrive_through_the_gateway_by_grpc_web() {
    let writing = Writing::begin().await;
    let request = WatchExecutionRequest {
        id: writing.execution.clone(),
        after: 0,
    };
    let mut frame = vec![0];
    frame.extend(u32::try_from(request.encoded_len()).unwrap().to_be_bytes());
    request.encode(&mut frame).unwrap();
    let response = reqwest::Client::new()
        .post(writing.world.url(WATCH))
        .header("content-type", "application/grpc-web+proto")
        .header("authorization", format!("Bearer {}", writing.it.token))
        .body(frame)
        .send()
        .await
        .unwrap();
    let mut events = Frames {
        response,
        bytes: Vec::new(),
    };
    for text in ["one ", "two ", "three"] {
        writing.driver.say(text).await;
        // The next piece is written only after this one has come.
        loop {
            let event = timeout(PATIENCE, events.next()).await.expect("an event comes");
            if let Some(Event::OutputDelta(delta)) = event.expect("the run goes on").event {
                assert_eq!(delta.text, text);
                break;
            }
        }
    }
    writing.driver.finish().await;
    while timeout(PATIENCE, events.next())
        .await
        .expect("the stream ends")
        .is_some()
    {}
    assert!(String::from_utf8_lossy(&events.bytes).contains("grpc-status:0"));
}

/// The messages of a gRPC-Web answer as they come.
struct Frames {
    response: reqwest::Response,
    bytes: Vec<u8>,
}

impl Frames {
    /// The next event; none where the trailers begin.
    async fn next(&mut self) -> Option<ExecutionEvent> {
        loop {
            if let [flag, a, b, c, d, rest @ ..] = self.bytes.as_slice() {
                let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
                if rest.len() >= length {
                    if *flag != 0 {
                        return None;
                    }
                    let event = ExecutionEvent::decode(&rest[..length]).unwrap();
                    self.bytes.drain(..5 + length);
                    return Some(event);
                }
            }
            let chunk = self.response.chunk().await.unwrap().expect("the trailers come");
            self.bytes.extend_from_slice(&chunk);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_tells_other_replicas_alone_and_only_of_what_it_holds() {
    let writing = Writing::begin().await;
    let other = writing.deployment.another_execution();
    let elsewhere = writing.deployment.world().await.moved(&other.url());
    let Writing { world, it, driver, .. } = &writing;
    let stranger = Tenant::with_studio(world).await;
    let body = json!({ "executionId": writing.execution });

    let status = world.refused(FOLLOW, body.clone(), &it.token).await;
    assert_reason(&status, Code::Unauthenticated, "SERVICE_TOKEN_REQUIRED");
    let nobody = world.refused(FOLLOW, body.clone(), &world.service_token(None)).await;
    assert_eq!(nobody.code(), Code::Unauthenticated);
    let foreign = world.service_token(Some(&stranger.user));
    assert_eq!(
        world.refused(FOLLOW, body.clone(), &foreign).await.code(),
        Code::NotFound
    );
    let replica = world.service_token(Some(&it.user));
    let status = elsewhere.refused(FOLLOW, body.clone(), &replica).await;
    assert_reason(&status, Code::FailedPrecondition, "NOT_HELD");

    let mut told = world.stream(FOLLOW, body, &replica).await;
    let first = next(&mut told).await;
    assert_eq!(
        (&first["executionId"], &first["seq"]),
        (&json!(writing.execution), &json!("1"))
    );
    driver.say("one").await;
    while next(&mut told).await["outputDelta"]["text"] != "one" {}
    let cancel = json!({ "id": writing.execution, "reason": "enough" });
    world
        .ok(
            "studios.execution.v1.ExecutionService/CancelExecution",
            cancel,
            &it.token,
        )
        .await;
    timeout(PATIENCE, told.rest())
        .await
        .expect("it ends with the run")
        .unwrap();
    timeout(Duration::from_secs(5), driver.hung_up())
        .await
        .expect("the cancel hangs up");
}
