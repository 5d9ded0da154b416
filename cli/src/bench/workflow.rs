//! How a driver publishes and runs a workflow, and how the rows show that all its runs ended well.

use anyhow::{Result, bail, ensure};
use http::HeaderValue;
use prost::Message;
use serde_json::{Value, json};
use service_kit::update::json_to_struct;
use studios_proto::execution::{
    CreateWorkflowRequest, DecideAttemptRequest, Decision, Definition, Execution, ExecutionEvent, ExecutionStatus,
    PublishWorkflowRequest, StartExecutionRequest, WaitExecutionRequest, WatchExecutionRequest, Workflow,
    WorkflowVersion, execution_event::Event,
};
use uuid::Uuid;

use super::{
    definitions::{self, STAGES},
    load::{Call, Client},
    rig::PROVIDER,
};

const START: &str = "studios.execution.v1.ExecutionService/StartExecution";
const WAIT: &str = "studios.execution.v1.ExecutionService/WaitExecution";
const WATCH: &str = "studios.execution.v1.ExecutionService/WatchExecution";
const DECIDE: &str = "studios.execution.v1.ExecutionService/DecideAttempt";
const CREATE: &str = "studios.execution.v1.WorkflowService/CreateWorkflow";
const PUBLISH: &str = "studios.execution.v1.WorkflowService/PublishWorkflow";

/// How often a run is waited for anew that has not come to rest within a call's time.
const MOST_WAITS: usize = 10;

/// A published workflow, with the calls of one user made ready.
pub(super) struct Runner {
    workflow_id: String,
    start: Call,
    wait: Call,
    watch: Call,
    decide: Call,
}

impl Runner {
    /// Makes and publishes the workflow of three stages in a studio that the token's user reaches.
    pub(super) async fn publish(client: &Client, slot: usize, token: &HeaderValue, studio_id: String) -> Result<Self> {
        let name = format!("Three stages {slot}");
        Self::publish_as(client, slot, token, studio_id, name, definitions::three(PROVIDER)).await
    }

    /// Makes and publishes any workflow.
    pub(super) async fn publish_as(
        client: &Client,
        slot: usize,
        token: &HeaderValue,
        studio_id: String,
        name: String,
        definition: Definition,
    ) -> Result<Self> {
        let workflow = Workflow {
            studio_id,
            name,
            draft: Some(definition),
            ..Workflow::default()
        };
        let create = CreateWorkflowRequest {
            workflow: Some(workflow),
            request_id: String::new(),
        };
        let made = client.unary(slot, &client.call(CREATE, token, &create)?).await?;
        let workflow_id = Workflow::decode(made)?.id;
        let publish = PublishWorkflowRequest {
            id: workflow_id.clone(),
            ..PublishWorkflowRequest::default()
        };
        let version = client.unary(slot, &client.call(PUBLISH, token, &publish)?).await?;
        WorkflowVersion::decode(version)?;
        Self::of(client, token, workflow_id)
    }

    fn of(client: &Client, token: &HeaderValue, workflow_id: String) -> Result<Self> {
        Ok(Self {
            workflow_id,
            start: client.call(START, token, &StartExecutionRequest::default())?,
            wait: client.call(WAIT, token, &WaitExecutionRequest::default())?,
            watch: client.call(WATCH, token, &WatchExecutionRequest::default())?,
            decide: client.call(DECIDE, token, &DecideAttemptRequest::default())?,
        })
    }

    /// The same workflow run by another user.
    pub(super) fn run_by(&self, client: &Client, token: &HeaderValue) -> Result<Self> {
        Self::of(client, token, self.workflow_id.clone())
    }

    /// Starts a run and returns its id.
    pub(super) async fn start(&self, client: &Client, slot: usize) -> Result<String> {
        let inputs = json!({ "topic": "what a bakery should know about its oven" });
        self.start_with(client, slot, &inputs).await
    }

    /// Starts a run with these inputs.
    pub(super) async fn start_with(&self, client: &Client, slot: usize, inputs: &Value) -> Result<String> {
        let request = StartExecutionRequest {
            workflow_id: self.workflow_id.clone(),
            inputs: inputs.as_object().map(json_to_struct),
            request_id: Uuid::now_v7().to_string(),
            ..StartExecutionRequest::default()
        };
        let started = client.unary(slot, &self.start.with(&request)).await?;
        Ok(Execution::decode(started)?.id)
    }

    /// Waits for a run's end, which must be a good one.
    pub(super) async fn wait(&self, client: &Client, slot: usize, id: String) -> Result<()> {
        let wait = self.wait.with(&WaitExecutionRequest { id, timeout: None });
        for _ in 0..MOST_WAITS {
            match Execution::decode(client.unary(slot, &wait).await?)?.status() {
                ExecutionStatus::Pending | ExecutionStatus::Running => {}
                ended => return require_completed(ended),
            }
        }
        bail!("the run does not end")
    }

    /// Lets the output pass that the first try of a stage made.
    pub(super) async fn approve(&self, client: &Client, slot: usize, id: &str, stage: &str) -> Result<()> {
        let request = DecideAttemptRequest {
            execution_id: id.to_owned(),
            stage: stage.to_owned(),
            visit: 1,
            item: 0,
            attempt: 1,
            decision: Decision::Pass.into(),
            notes: String::new(),
            request_id: Uuid::now_v7().to_string(),
            ..DecideAttemptRequest::default()
        };
        let decided = client.unary(slot, &self.decide.with(&request)).await?;
        Execution::decode(decided)?;
        Ok(())
    }

    /// Watches a run to its end, which must be a good one.
    pub(super) async fn watch(&self, client: &Client, slot: usize, id: String) -> Result<()> {
        let request = WatchExecutionRequest { id, after: 0 };
        let mut events = client.stream(slot, &self.watch.with(&request)).await?;
        let mut last = ExecutionStatus::Unspecified;
        while let Some(event) = events.next::<ExecutionEvent>().await? {
            if let Some(Event::StatusChanged(change)) = event.event {
                last = change.status();
            }
        }
        require_completed(last)
    }
}

fn require_completed(status: ExecutionStatus) -> Result<()> {
    ensure!(status == ExecutionStatus::Completed, "the run ended as {status:?}");
    Ok(())
}

/// Checks by the rows that every execution completed, with an attempt for each of three stages, and returns how many they are.
pub(super) async fn check_all_completed(admin: &mut sqlx::PgConnection) -> Result<i64> {
    let (all, attempts) = completed(admin).await?;
    ensure!(
        attempts == all * i64::from(STAGES),
        "{all} executions have {attempts} attempts"
    );
    Ok(all)
}

/// Checks by the rows that every execution completed, and returns how many they are and how many attempts succeeded.
pub(super) async fn completed(admin: &mut sqlx::PgConnection) -> Result<(i64, i64)> {
    let (all, completed): (i64, i64) =
        sqlx::query_as("select count(*), count(*) filter (where status = 'completed') from execution.executions")
            .fetch_one(&mut *admin)
            .await?;
    let attempts: i64 =
        sqlx::query_scalar("select count(*) from execution.journal where kind = 'attempt' and outcome = 'succeeded'")
            .fetch_one(admin)
            .await?;
    ensure!(all > 0, "nothing was executed");
    ensure!(all == completed, "of {all} executions {completed} completed");
    Ok((all, attempts))
}
