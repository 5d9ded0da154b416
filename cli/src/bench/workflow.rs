//! The workflow that benchmarks run: three model stages, each with a prompt that is rendered from what came before and a
//! regular expression that the answer must match. And how a driver runs it.

use anyhow::{Result, ensure};
use http::HeaderValue;
use prost::Message;
use service_kit::update::json_to_struct;
use studios_proto::execution::{
    CreateWorkflowRequest, Definition, Execution, ExecutionEvent, ExecutionStatus, LlmStage, PublishWorkflowRequest,
    RegexCheck, Stage, StartExecutionRequest, Validation, WaitExecutionRequest, WatchExecutionRequest, Workflow,
    WorkflowVersion, execution_event::Event, stage::Kind, validation::Check,
};
use uuid::Uuid;

use super::{
    load::{Call, Client},
    rig::PROVIDER,
};

const START: &str = "studios.execution.v1.ExecutionService/StartExecution";
const WAIT: &str = "studios.execution.v1.ExecutionService/WaitExecution";
const WATCH: &str = "studios.execution.v1.ExecutionService/WatchExecution";
const CREATE: &str = "studios.execution.v1.WorkflowService/CreateWorkflow";
const PUBLISH: &str = "studios.execution.v1.WorkflowService/PublishWorkflow";

/// How many attempts a run records.
pub(super) const STAGES: u32 = 3;

/// A published workflow, with the calls of one user made ready.
pub(super) struct Runner {
    workflow_id: String,
    start: Call,
    wait: Call,
    watch: Call,
}

impl Runner {
    /// Makes and publishes a workflow in a studio that the token's user reaches.
    pub(super) async fn publish(client: &Client, slot: usize, token: &HeaderValue, studio_id: String) -> Result<Self> {
        let workflow = Workflow {
            studio_id,
            name: format!("Three stages {slot}"),
            draft: Some(definition()),
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
        })
    }

    /// The same workflow run by another user.
    pub(super) fn run_by(&self, client: &Client, token: &HeaderValue) -> Result<Self> {
        Self::of(client, token, self.workflow_id.clone())
    }

    /// Starts a run and returns its id.
    pub(super) async fn start(&self, client: &Client, slot: usize) -> Result<String> {
        let inputs = serde_json::json!({ "topic": "what a bakery should know about its oven" });
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
        let request = WaitExecutionRequest { id, timeout: None };
        let ended = client.unary(slot, &self.wait.with(&request)).await?;
        require_completed(Execution::decode(ended)?.status())
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

fn definition() -> Definition {
    let mapping = |variable: &str, path: &str| (variable.to_owned(), path.to_owned());
    let stages = [
        (
            "outline",
            "Outline in three points: {{ topic }}.",
            mapping("topic", "inputs.topic"),
        ),
        (
            "draft",
            "Write a paragraph from this outline:\n{{ outline }}",
            mapping("outline", "stages.outline.output"),
        ),
        (
            "review",
            "Say what is missing in this paragraph:\n{{ draft }}",
            mapping("draft", "stages.draft.output"),
        ),
    ];
    Definition {
        stages: stages
            .into_iter()
            .map(|(name, prompt, mapping)| Stage {
                name: name.into(),
                kind: Some(Kind::Llm(LlmStage {
                    model: PROVIDER.into(),
                    prompt: prompt.into(),
                    ..LlmStage::default()
                })),
                input_mapping: [mapping].into(),
                validation: Some(Validation {
                    check: Some(Check::Regex(RegexCheck {
                        pattern: r"\AOK: [a-z ]+".into(),
                    })),
                }),
                ..Stage::default()
            })
            .collect(),
        ..Definition::default()
    }
}

/// Checks by the rows that every execution completed, with an attempt for each of its stages, and returns how many they are.
pub(super) async fn check_all_completed(admin: &mut sqlx::PgConnection) -> Result<i64> {
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
    ensure!(
        attempts == all * i64::from(STAGES),
        "{all} executions have {attempts} attempts"
    );
    Ok(all)
}
