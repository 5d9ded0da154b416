//! Starting workflows and following their executions from a terminal.

use std::{io::Read, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args, Subcommand};
use secrecy::SecretString;
use serde_json::{Map, Value};
use service_kit::update::json_to_struct;
use studios_proto::execution::{
    CancelExecutionRequest, DecideAttemptRequest, Decision, Execution, ExecutionStatus, GetExecutionRequest,
    ListExecutionsRequest, StartExecutionRequest,
};
use uuid::Uuid;

use crate::{
    events,
    output::{Output, Usage, message_json},
    remote::{Gateway, Remote},
    workflows,
};

/// Which gateway, and as whom.
#[derive(Debug, Clone, Args)]
pub struct Access {
    /// Which gateway.
    #[command(flatten)]
    gateway: Gateway,
    /// An access token.
    #[arg(long, env = "STUDIOS_TOKEN", hide_env_values = true)]
    token: SecretString,
}

impl Access {
    /// The connection to that gateway, as that user.
    pub(crate) fn remote(&self) -> Result<Remote> {
        Remote::new(&self.gateway, Some(self.token.clone()))
    }
}

/// What can be done with workflows.
#[derive(Debug, Subcommand)]
pub enum WorkflowCommand {
    /// Start a published workflow; prints the execution, or with --watch follows it to its end.
    Run {
        /// The workflow's id.
        workflow: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// The version's number; the newest published one where none is given.
        #[arg(long, default_value_t = 0)]
        version: i32,
        /// An input, name=value; the value is read as JSON where it is JSON, else as text. May be repeated.
        #[arg(long = "input", value_name = "NAME=VALUE")]
        inputs: Vec<String>,
        /// A file with the inputs as a JSON object; - reads stdin.
        #[arg(long, value_name = "FILE")]
        inputs_file: Option<PathBuf>,
        /// The idempotency key: the same one again answers with the same execution.
        #[arg(long)]
        request_id: Option<String>,
        /// Follow the execution until it ends.
        #[arg(long)]
        watch: bool,
    },
    /// What is done with a workflow itself.
    #[command(flatten)]
    Keep(workflows::Command),
}

/// What can be done with executions.
#[derive(Debug, Subcommand)]
pub enum ExecutionCommand {
    /// Follow an execution's events until it ends.
    Watch {
        /// The execution's id.
        execution: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Only events after this cursor.
        #[arg(long, default_value_t = 0)]
        after: i64,
    },
    /// Print an execution.
    Get {
        /// The execution's id.
        execution: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// List a studio's executions, newest first.
    List {
        /// The studio's id.
        studio: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: i32,
    },
    /// Ask a running execution to stop.
    Cancel {
        /// The execution's id.
        execution: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Decide the attempt that an execution waits for.
    #[command(group(ArgGroup::new("decision").required(true)))]
    Decide {
        /// The execution's id.
        execution: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Let its output pass.
        #[arg(long, group = "decision")]
        pass: bool,
        /// Do not; the stage is tried again, as often as it may be.
        #[arg(long, group = "decision")]
        fail: bool,
        /// Why; the next try's prompt has it.
        #[arg(long, default_value = "")]
        notes: String,
        /// Only if it is this stage that waits.
        #[arg(long)]
        stage: Option<String>,
    },
}

/// Runs a workflow command; false where an execution that was followed ended badly.
pub async fn workflow(command: &WorkflowCommand, output: Output) -> Result<bool> {
    let (workflow, access, version, inputs, inputs_file, request_id, watch) = match command {
        WorkflowCommand::Keep(command) => return workflows::run(command, output).await.map(|()| true),
        WorkflowCommand::Run {
            workflow,
            access,
            version,
            inputs,
            inputs_file,
            request_id,
            watch,
        } => (workflow, access, version, inputs, inputs_file, request_id, watch),
    };
    let remote = access.remote()?;
    let request = StartExecutionRequest {
        workflow_id: workflow.clone(),
        version: *version,
        inputs: Some(json_to_struct(&gather_inputs(inputs, inputs_file.as_ref())?)),
        request_id: request_id.clone().unwrap_or_else(|| Uuid::now_v7().to_string()),
    };
    let started = remote
        .executions()
        .start_execution(remote.request(request))
        .await?
        .into_inner();
    if !watch {
        output.result(line(&started), || message_json(&started));
        return Ok(true);
    }
    output.progress(format_args!("started {}", started.id));
    follow_to_end(&remote, &started.id, 0, output).await
}

/// Runs an execution command; false where an execution that was followed ended badly.
pub async fn execution(command: &ExecutionCommand, output: Output) -> Result<bool> {
    match command {
        ExecutionCommand::Watch {
            execution,
            access,
            after,
        } => follow_to_end(&access.remote()?, execution, *after, output).await,
        ExecutionCommand::Get { execution, access } => {
            let found = get(&access.remote()?, execution).await?;
            output.result(line(&found), || message_json(&found));
            Ok(true)
        }
        ExecutionCommand::List { studio, access, limit } => {
            let remote = access.remote()?;
            let request = ListExecutionsRequest {
                studio_id: studio.clone(),
                page_size: *limit,
                ..Default::default()
            };
            let page = remote
                .executions()
                .list_executions(remote.request(request))
                .await?
                .into_inner();
            for found in &page.executions {
                output.result(line(found), || message_json(found));
            }
            Ok(true)
        }
        ExecutionCommand::Cancel {
            execution,
            access,
            reason,
        } => {
            let remote = access.remote()?;
            let request = CancelExecutionRequest {
                id: execution.clone(),
                reason: reason.clone(),
            };
            let asked = remote
                .executions()
                .cancel_execution(remote.request(request))
                .await?
                .into_inner();
            output.result(line(&asked), || message_json(&asked));
            Ok(true)
        }
        ExecutionCommand::Decide {
            execution,
            access,
            pass,
            fail: _,
            notes,
            stage,
        } => {
            let remote = access.remote()?;
            let waiting = get(&remote, execution).await?;
            let request = decision(&waiting, *pass, notes, stage.as_deref())?;
            let decided = remote
                .executions()
                .decide_attempt(remote.request(request))
                .await?
                .into_inner();
            output.result(line(&decided), || message_json(&decided));
            Ok(true)
        }
    }
}

/// The decision on what an execution waits for.
fn decision(execution: &Execution, pass: bool, notes: &str, stage: Option<&str>) -> Result<DecideAttemptRequest> {
    let Some(waiting) = &execution.waiting_for else {
        bail!(
            "the execution is {} and waits for no decision",
            events::status_word(execution.status())
        );
    };
    if let Some(stage) = stage.filter(|it| *it != waiting.stage) {
        bail!("it is the stage {} that waits, not {stage}", waiting.stage);
    }
    let decision = if pass { Decision::Pass } else { Decision::Fail };
    Ok(DecideAttemptRequest {
        execution_id: execution.id.clone(),
        stage: waiting.stage.clone(),
        visit: waiting.visit,
        item: waiting.item,
        attempt: waiting.attempt,
        decision: decision.into(),
        notes: notes.to_owned(),
        request_id: Uuid::now_v7().to_string(),
    })
}

async fn follow_to_end(remote: &Remote, id: &str, after: i64, output: Output) -> Result<bool> {
    let status = events::follow(remote, id, after, output).await?;
    let ended = get(remote, id).await?;
    output.result(line(&ended), || message_json(&ended));
    Ok(status == ExecutionStatus::Completed)
}

async fn get(remote: &Remote, id: &str) -> Result<Execution> {
    let request = remote.request(GetExecutionRequest { id: id.into() });
    Ok(remote.executions().get_execution(request).await?.into_inner())
}

fn line(execution: &Execution) -> String {
    let failure = execution
        .failure
        .as_ref()
        .map_or_else(String::new, |it| format!("  {}", it.message));
    let waiting = execution
        .waiting_for
        .as_ref()
        .map_or_else(String::new, |it| format!("  {} waits for a decision", it.stage));
    format!(
        "{}  {:<9}{failure}{waiting}",
        execution.id,
        events::status_word(execution.status())
    )
}

fn gather_inputs(pairs: &[String], file: Option<&PathBuf>) -> Result<Map<String, Value>> {
    let mut inputs = match file {
        None => Map::new(),
        Some(path) => {
            let mut text = String::new();
            if path.as_os_str() == "-" {
                std::io::stdin().read_to_string(&mut text).context("reading stdin")?;
            } else {
                text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            }
            serde_json::from_str(&text).context("the inputs are no JSON object")?
        }
    };
    for pair in pairs {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(Usage(format!("--input {pair}: expected NAME=VALUE")).into());
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        inputs.insert(name.to_owned(), value);
    }
    Ok(inputs)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use studios_proto::execution::AttemptKey;

    use super::*;

    #[test]
    fn an_input_is_json_where_it_is_json_and_text_where_it_is_not() {
        let pairs = ["n=3", "s=three", "l=[1]", "e="].map(str::to_owned);
        let inputs = gather_inputs(&pairs, None).unwrap();
        assert_eq!(
            Value::Object(inputs),
            json!({ "n": 3, "s": "three", "l": [1], "e": "" })
        );
    }

    #[test]
    fn only_what_waits_is_decided() {
        let mut execution = Execution::default();
        assert!(decision(&execution, true, "", None).is_err());
        execution.waiting_for = Some(AttemptKey {
            stage: "draft".into(),
            visit: 2,
            item: 0,
            attempt: 3,
        });
        assert!(decision(&execution, true, "", Some("other")).is_err());
        let request = decision(&execution, false, "warmer", Some("draft")).unwrap();
        assert_eq!(
            (request.visit, request.attempt, request.decision(), &*request.notes),
            (2, 3, Decision::Fail, "warmer")
        );
    }

    #[test]
    fn an_input_without_an_equals_sign_is_refused() {
        assert!(gather_inputs(&["n".to_owned()], None).is_err());
    }
}
