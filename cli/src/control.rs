//! What else can be asked of executions from a terminal: to pause, to go on, to hear a signal, to begin again; of many at once; and
//! what waits for whom.

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value};
use service_kit::update::{json_to_struct, json_to_value};
use studios_proto::execution::{
    ControlAction, ControlExecutionsRequest, ControlOutcome, ControlResult, DelegateDecisionRequest, Execution,
    ExecutionFile, ExecutionStatus, ExplainExecutionRequest, FileDirection, ForkExecutionRequest,
    ListExecutionFilesRequest, ListWaitingRequest, PauseExecutionRequest, RestartExecutionRequest,
    ResumeExecutionRequest, RetryExecutionRequest, SendSignalRequest, WaitingExecution,
};
use tonic::{Response, Status};
use uuid::Uuid;

use crate::{
    events,
    output::{Output, message_json},
    remote::Remote,
    runs::{self, Access},
};

/// What else can be asked of executions.
#[derive(Debug, Subcommand)]
pub enum ControlCommand {
    /// Ask an execution to begin nothing new.
    Pause {
        /// The execution's id.
        execution: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let a paused execution go on.
    Resume {
        /// The execution's id.
        execution: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Send an execution a signal.
    Signal {
        /// The execution's id.
        execution: String,
        /// The signal's name.
        name: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// What comes with it; read as JSON where it is JSON, else as text.
        #[arg(long, default_value = "null")]
        payload: String,
    },
    /// Leave the decision on what waits to somebody else.
    Delegate {
        /// The execution's id.
        execution: String,
        /// The user's id.
        to: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// The stage that waits; needed where several do.
        #[arg(long)]
        stage: Option<String>,
        /// The item that waits, of a stage that a map runs.
        #[arg(long)]
        item: Option<i32>,
    },
    /// Go on from where an execution failed or was cancelled, in a new one that keeps what was paid for.
    Retry(Again),
    /// Begin a new execution at a stage of an execution, with the outputs it had by then.
    Fork {
        /// The stage.
        #[arg(long)]
        stage: String,
        /// The rest.
        #[command(flatten)]
        again: Again,
    },
    /// Begin a new execution from the start, with the same inputs or others.
    Restart {
        /// An input, name=value; the value is read as JSON where it is JSON, else as text. With any, they take the place of all.
        #[arg(long = "input", value_name = "NAME=VALUE")]
        inputs: Vec<String>,
        /// The rest.
        #[command(flatten)]
        again: Again,
    },
    /// Tell why an execution is where it is.
    Explain {
        /// The execution's id.
        execution: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// List the files that an execution was started with, and those that it has made.
    Files {
        /// The execution's id.
        execution: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// List what waits for the caller's decision in all studios of a company, longest waiting first.
    Waiting {
        /// The company's id.
        company: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Only in this studio.
        #[arg(long, default_value = "")]
        studio: String,
        /// Also what the caller may not decide.
        #[arg(long)]
        all: bool,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: i32,
    },
    /// Do the same to all of a studio's executions that a filter selects.
    Each {
        /// What to do.
        action: Action,
        /// The studio's id.
        studio: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Only of this workflow.
        #[arg(long, default_value = "")]
        workflow: String,
        /// Only with this status; may be repeated. Those that it can be done to where none is given.
        #[arg(long = "status")]
        statuses: Vec<Word>,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
        /// Only tell what would be done.
        #[arg(long)]
        dry_run: bool,
    },
}

/// From which execution a new one goes on.
#[derive(Debug, Args)]
pub struct Again {
    /// The execution's id.
    execution: String,
    /// Which gateway, and as whom.
    #[command(flatten)]
    access: Access,
    /// The version's number to run; the execution's own where none is given.
    #[arg(long, default_value_t = 0)]
    version: i32,
    /// The idempotency key: the same one again answers with the same new execution.
    #[arg(long)]
    request_id: Option<String>,
    /// Follow the new execution until it ends.
    #[arg(long)]
    watch: bool,
}

impl Again {
    fn key(&self) -> String {
        self.request_id.clone().unwrap_or_else(|| Uuid::now_v7().to_string())
    }
}

/// What is done to many.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Action {
    /// They stop.
    Cancel,
    /// They begin nothing new.
    Pause,
    /// They go on.
    Resume,
    /// New ones go on from where they failed or were cancelled.
    Retry,
}

impl From<Action> for ControlAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Cancel => Self::Cancel,
            Action::Pause => Self::Pause,
            Action::Resume => Self::Resume,
            Action::Retry => Self::Retry,
        }
    }
}

/// A status as scripts and people write it.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Word {
    /// Not yet begun.
    Pending,
    /// Under way.
    Running,
    /// Ended well.
    Completed,
    /// Ended with a failure.
    Failed,
    /// Waits for people.
    Paused,
    /// Ended because somebody asked for it.
    Cancelled,
}

impl From<Word> for ExecutionStatus {
    fn from(word: Word) -> Self {
        match word {
            Word::Pending => Self::Pending,
            Word::Running => Self::Running,
            Word::Completed => Self::Completed,
            Word::Failed => Self::Failed,
            Word::Paused => Self::Paused,
            Word::Cancelled => Self::Cancelled,
        }
    }
}

/// Runs a command; false where an execution that was followed ended badly, or something could not be done to one of many.
pub(crate) async fn run(command: &ControlCommand, output: Output) -> Result<bool> {
    match command {
        ControlCommand::Pause {
            execution,
            access,
            reason,
        } => {
            let remote = access.remote()?;
            let request = PauseExecutionRequest {
                id: execution.clone(),
                reason: reason.clone(),
            };
            tell(
                remote.executions().pause_execution(remote.request(request)).await,
                output,
            )
        }
        ControlCommand::Resume { execution, access } => {
            let remote = access.remote()?;
            let request = ResumeExecutionRequest { id: execution.clone() };
            tell(
                remote.executions().resume_execution(remote.request(request)).await,
                output,
            )
        }
        ControlCommand::Signal {
            execution,
            name,
            access,
            payload,
        } => {
            let remote = access.remote()?;
            let request = SendSignalRequest {
                execution_id: execution.clone(),
                name: name.clone(),
                payload: Some(json_to_value(&runs::json_or_text(payload))),
                request_id: Uuid::now_v7().to_string(),
            };
            tell(remote.executions().send_signal(remote.request(request)).await, output)
        }
        ControlCommand::Delegate {
            execution,
            to,
            access,
            stage,
            item,
        } => {
            let remote = access.remote()?;
            let found = runs::get(&remote, execution).await?;
            let request = DelegateDecisionRequest {
                execution_id: execution.clone(),
                attempt: Some(runs::waiting(&found, stage.as_deref(), *item)?.clone()),
                to_user_id: to.clone(),
                request_id: Uuid::now_v7().to_string(),
            };
            tell(
                remote.executions().delegate_decision(remote.request(request)).await,
                output,
            )
        }
        ControlCommand::Retry(again) => {
            let remote = again.access.remote()?;
            let request = RetryExecutionRequest {
                id: again.execution.clone(),
                version: again.version,
                request_id: again.key(),
            };
            let begun = remote.executions().retry_execution(remote.request(request)).await;
            follow(&remote, again, begun, output).await
        }
        ControlCommand::Fork { stage, again } => {
            let remote = again.access.remote()?;
            let request = ForkExecutionRequest {
                id: again.execution.clone(),
                stage: stage.clone(),
                version: again.version,
                request_id: again.key(),
            };
            let begun = remote.executions().fork_execution(remote.request(request)).await;
            follow(&remote, again, begun, output).await
        }
        ControlCommand::Restart { inputs, again } => {
            let remote = again.access.remote()?;
            let other: Map<String, Value> = runs::gather_inputs(inputs, None)?;
            let request = RestartExecutionRequest {
                id: again.execution.clone(),
                inputs: (!other.is_empty()).then(|| json_to_struct(&other)),
                version: again.version,
                request_id: again.key(),
            };
            let begun = remote.executions().restart_execution(remote.request(request)).await;
            follow(&remote, again, begun, output).await
        }
        ControlCommand::Explain { execution, access } => explain(&access.remote()?, execution, output).await,
        ControlCommand::Files { execution, access } => files(&access.remote()?, execution, output).await,
        ControlCommand::Waiting {
            company,
            access,
            studio,
            all,
            limit,
        } => {
            let request = ListWaitingRequest {
                company_id: company.clone(),
                studio_id: studio.clone(),
                all: *all,
                page_size: *limit,
                page_token: String::new(),
            };
            waiting(&access.remote()?, request, output).await
        }
        ControlCommand::Each {
            action,
            studio,
            access,
            workflow,
            statuses,
            reason,
            dry_run,
        } => {
            let request = ControlExecutionsRequest {
                studio_id: studio.clone(),
                action: ControlAction::from(*action).into(),
                statuses: statuses.iter().map(|it| ExecutionStatus::from(*it).into()).collect(),
                workflow_id: workflow.clone(),
                reason: reason.clone(),
                page_size: 200,
                request_id: Uuid::now_v7().to_string(),
                dry_run: *dry_run,
                ..Default::default()
            };
            each(&access.remote()?, request, output).await
        }
    }
}

fn tell(answer: Result<Response<Execution>, Status>, output: Output) -> Result<bool> {
    let execution = answer?.into_inner();
    runs::tell_notes(&execution, output);
    output.result(runs::line(&execution), || message_json(&execution));
    Ok(true)
}

async fn follow(
    remote: &Remote,
    again: &Again,
    begun: Result<Response<Execution>, Status>,
    output: Output,
) -> Result<bool> {
    if !again.watch {
        return tell(begun, output);
    }
    let begun = begun?.into_inner();
    output.progress(format_args!("started {}", begun.id));
    runs::follow_to_end(remote, &begun.id, 0, output).await
}

async fn explain(remote: &Remote, execution: &str, output: Output) -> Result<bool> {
    let request = ExplainExecutionRequest {
        id: execution.to_owned(),
    };
    let explained = remote
        .executions()
        .explain_execution(remote.request(request))
        .await?
        .into_inner();
    let mut text = events::status_word(explained.status()).to_owned();
    for reason in &explained.reasons {
        text.push_str("\n  ");
        text.push_str(&reason.text);
    }
    output.result(text, || message_json(&explained));
    Ok(true)
}

async fn files(remote: &Remote, execution: &str, output: Output) -> Result<bool> {
    let mut request = ListExecutionFilesRequest {
        execution_id: execution.to_owned(),
        ..Default::default()
    };
    loop {
        let answer = remote
            .executions()
            .list_execution_files(remote.request(request.clone()))
            .await;
        let page = answer?.into_inner();
        for file in &page.files {
            output.result(file_line(file), || message_json(file));
        }
        if page.next_page_token.is_empty() {
            return Ok(true);
        }
        request.page_token = page.next_page_token;
    }
}

fn file_line(file: &ExecutionFile) -> String {
    let from = match file.direction() {
        FileDirection::Output => format!("by {}", file.stage),
        FileDirection::Input | FileDirection::Unspecified => format!("as {}", file.input),
    };
    format!(
        "{}  {}  version {}  {} bytes  {}  {from}",
        file.file_id, file.name, file.version, file.size_bytes, file.mime_type
    )
}

async fn waiting(remote: &Remote, request: ListWaitingRequest, output: Output) -> Result<bool> {
    let page = remote
        .executions()
        .list_waiting(remote.request(request))
        .await?
        .into_inner();
    for found in &page.waiting {
        output.result(waiting_line(found), || message_json(found));
    }
    Ok(true)
}

fn waiting_line(found: &WaitingExecution) -> String {
    let waiting = found.waiting.clone().unwrap_or_default();
    let stage = waiting.attempt.map_or_else(String::new, |it| it.stage);
    let mine = if waiting.may_decide { "yours" } else { "others'" };
    let question = match &*waiting.question {
        "" => String::new(),
        question => format!("  {question}"),
    };
    format!(
        "{}  {stage:<12}  {} of {}  {mine}{question}",
        found.execution_id, waiting.approved, waiting.required
    )
}

/// Does it page by page until there is no more.
async fn each(remote: &Remote, mut request: ControlExecutionsRequest, output: Output) -> Result<bool> {
    let mut all = true;
    loop {
        let answer = remote
            .executions()
            .control_executions(remote.request(request.clone()))
            .await;
        let page = answer
            .with_context(|| match &*request.page_token {
                "" => "nothing was done".to_owned(),
                _ => "those above were done, and no more".to_owned(),
            })?
            .into_inner();
        for result in &page.results {
            all &= result.outcome() != ControlOutcome::Refused;
            output.result(result_line(result), || message_json(result));
        }
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

fn result_line(result: &ControlResult) -> String {
    let how = match result.outcome() {
        ControlOutcome::Done => "done".to_owned(),
        ControlOutcome::WouldBeDone => "would be done".to_owned(),
        ControlOutcome::Refused | ControlOutcome::Unspecified => format!("not done: {}", result.message),
    };
    let new = match &*result.new_execution_id {
        "" => String::new(),
        new => format!("  goes on as {new}"),
    };
    format!("{}  {how}{new}", result.execution_id)
}
