//! What users may do, as execution-service knows it while memberships change and core-service is cut off, dies and comes back.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::PgPool;
use studios_tests::{
    deployment::Deployment,
    model::{Model, Reply},
    proxy::Proxy,
    refusal::assert_reason,
    tenant::Tenant,
    world::{PATIENCE, World},
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};
use tonic_types::StatusExt;

const EXECUTIONS: &str = "studios.execution.v1.ExecutionService";
const WORKFLOWS: &str = "studios.execution.v1.WorkflowService";

/// How long a removed member may still get in.
const FELT_WITHIN: Duration = Duration::from_secs(1);

/// A member of a company who has started an execution there.
struct Member {
    it: Tenant,
    studio: String,
    workflow: String,
    execution: String,
    membership: String,
    admin: PgPool,
}

impl Member {
    async fn join(world: &World, company: &Tenant, stages: Value) -> Self {
        let it = Tenant::user(world).await;
        let membership = company.add_member(world, &it, "ROLE_MEMBER").await;
        let workflow = company.add_workflow(world, "Greeting", stages).await;
        let execution = it.start(world, &workflow, json!({})).await;
        Self {
            it,
            studio: company.studio.clone(),
            workflow,
            execution,
            membership,
            admin: world.admin().await,
        }
    }

    async fn get(&self, world: &World) -> Result<Value, Status> {
        let body = json!({ "id": self.execution });
        let method = format!("{EXECUTIONS}/GetExecution");
        world.call(&method, body, Some(&self.it.token)).await
    }

    /// One call of each kind.
    async fn calls(&self, world: &World) -> [Result<Value, Status>; 3] {
        let list = json!({ "studioId": self.studio });
        let start = json!({ "workflowId": self.workflow });
        let token = Some(self.it.token.as_str());
        [
            self.get(world).await,
            world.call(&format!("{WORKFLOWS}/ListWorkflows"), list, token).await,
            world.call(&format!("{EXECUTIONS}/StartExecution"), start, token).await,
        ]
    }

    /// Changes the membership as nothing in the product does: without an event.
    async fn set_silently(&self, state: &str) {
        sqlx::query("update core.memberships set state = $2 where id = $1::uuid")
            .bind(&self.membership)
            .bind(state)
            .execute(&self.admin)
            .await
            .unwrap();
    }

    /// Waits until what was answered before is given out: a change without an event goes unnoticed.
    async fn until_cached(&self, world: &World) {
        let cached = async {
            loop {
                self.set_silently("approved").await;
                self.get(world).await.unwrap();
                self.set_silently("inactive").await;
                let got = self.get(world).await;
                self.set_silently("approved").await;
                if got.is_ok() {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, cached).await.expect("answers are given out again");
    }

    /// Calls until it is refused, and returns how and when the call began that was.
    async fn until_refused(&self, world: &World, since: Instant) -> (Status, Duration) {
        let refused = async {
            loop {
                let begun = since.elapsed();
                if let Err(status) = self.get(world).await {
                    return (status, begun);
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, refused).await.expect("it is refused at some time")
    }
}

fn stages(model: &str) -> Value {
    json!([{ "name": "only", "llm": { "model": model, "prompt": "Say hello." } }])
}

async fn a_removed_member_is_out(deployment: &Deployment) {
    let other = deployment.another_execution();
    let first = deployment.world().await;
    let second = deployment.world().await.moved(&other.url());
    let company = Tenant::with_studio(&first).await;
    let member = Member::join(&first, &company, stages("offline")).await;
    for world in [&first, &second] {
        assert!(member.calls(world).await.iter().all(Result::is_ok));
        member.until_cached(world).await;
    }
    let remove = json!({ "id": member.membership });
    first
        .ok(
            "studios.core.v1.CompanyService/RemoveMembership",
            remove,
            &company.token,
        )
        .await;
    let removed = Instant::now();
    let refused = tokio::join!(
        member.until_refused(&first, removed),
        member.until_refused(&second, removed)
    );
    for (status, after) in [refused.0, refused.1] {
        assert_eq!(status.code(), Code::NotFound);
        assert!(after < FELT_WITHIN, "felt after {after:?}");
    }
    for world in [&first, &second] {
        for call in member.calls(world).await {
            assert_eq!(call.unwrap_err().code(), Code::NotFound);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_is_out_within_a_second_on_every_replica() {
    a_removed_member_is_out(&Deployment::start(&[], &[]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_is_out_within_a_second_behind_a_transaction_pooler() {
    let (deployment, _pooler) = Deployment::through_a_pooler().await;
    a_removed_member_is_out(&deployment).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_events_cannot_be_followed_nobody_gets_in_by_what_was_answered_before() {
    let deployment = Deployment::start(&[], &[]).await;
    let world = deployment.world().await;
    let company = Tenant::with_studio(&world).await;
    let member = Member::join(&world, &company, stages("offline")).await;
    member.until_cached(&world).await;

    // core-service serves as before, but cannot read its outbox.
    sqlx::raw_sql(
        "revoke select on core.outbox from studios_core_worker;
         select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and usename = 'studios_core_worker'",
    )
    .execute(&member.admin)
    .await
    .unwrap();
    let lost = Instant::now();
    member.set_silently("inactive").await;
    let (status, after) = member.until_refused(&world, lost).await;
    assert_eq!(status.code(), Code::NotFound, "core-service was asked");
    assert!(after < FELT_WITHIN, "given out for {after:?}");
    member.set_silently("approved").await;
    assert!(
        member.calls(&world).await.iter().all(Result::is_ok),
        "it is asked each time"
    );

    sqlx::query("grant select on core.outbox to studios_core_worker")
        .execute(&member.admin)
        .await
        .unwrap();
    member.until_cached(&world).await;
}

/// A run under way through a proxy to core-service, whose model takes its time.
async fn under_way(proxy: &Proxy) -> (Deployment, World, Member) {
    let model = Model::start(|_, _| Reply::text("hello").after(Duration::from_secs(4))).await;
    let mut settings = model.settings();
    settings.push(("STUDIOS_EXECUTION_CORE_URL", proxy.url().to_string()));
    let deployment = Deployment::start(&[], &settings).await;
    proxy.lead_to(&deployment.core.url());
    let world = deployment.world().await;
    let company = Tenant::with_studio(&world).await;
    company.add_stub_model(&world).await;
    let member = Member::join(&world, &company, stages("stub")).await;
    member.until_cached(&world).await;
    timeout(PATIENCE, model.until_in_flight(1))
        .await
        .expect("the call is in flight");
    (deployment, world, member)
}

/// Without core-service calls are refused before long, and the run ends well.
async fn refused_while_the_run_goes_on(world: &World, member: &Member) {
    let lost = Instant::now();
    let (status, after) = member.until_refused(world, lost).await;
    assert_reason(&status, Code::Unavailable, "PEER_UNAVAILABLE");
    assert!(after < FELT_WITHIN, "given out for {after:?}");
    for call in member.calls(world).await {
        let status = call.unwrap_err();
        assert_reason(&status, Code::Unavailable, "PEER_UNAVAILABLE");
        assert!(status.get_details_retry_info().is_some(), "{status:?}");
    }
    let took = lost.elapsed();
    assert!(took < Duration::from_secs(12), "four calls took {took:?}");
    let ended = async {
        let status = "select status from execution.executions where id = $1::uuid";
        loop {
            let status: String = sqlx::query_scalar(status)
                .bind(&member.execution)
                .fetch_one(&member.admin)
                .await
                .unwrap();
            if status == "completed" {
                return;
            }
            assert_eq!(status, "running");
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("the run ends well");
}

async fn works_again(world: &World, member: &Member) {
    let works = async {
        while member.get(world).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, works).await.expect("calls are served again");
    assert!(member.calls(world).await.iter().all(Result::is_ok));
    member.until_cached(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_core_service_calls_are_refused_and_runs_go_on() {
    let proxy = Proxy::start().await;
    let (deployment, world, member) = under_way(&proxy).await;
    deployment.core.signal("KILL");
    refused_while_the_run_goes_on(&world, &member).await;
    let restarted = deployment.another_core();
    proxy.lead_to(&restarted.url());
    works_again(&world, &member).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_network_is_no_way_in() {
    let proxy = Proxy::start().await;
    let (deployment, world, member) = under_way(&proxy).await;
    proxy.fall_silent();
    refused_while_the_run_goes_on(&world, &member).await;
    proxy.lead_to(&deployment.core.url());
    works_again(&world, &member).await;
}
