//! Starting workflows and following their executions from a terminal.

use std::{io::Read, path::PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::{ArgGroup, Args, Subcommand};
use secrecy::SecretString;
use serde_json::{Map, Value};
use service_kit::update::{json_to_struct, json_to_value};
use studios_proto::execution::{
    AttemptKey, CancelExecutionRequest, DecideAttemptRequest, Decision, Execution, ExecutionStatus,
    GetExecutionRequest, ListExecutionsRequest, StartExecutionRequest, Waiting,
};
use uuid::Uuid;

use crate::{
    control::{self, ControlCommand},
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

    /// A path of that gateway as a URL.
    pub(crate) fn url(&self, path: &str) -> Result<String> {
        Ok(self.gateway.url.join(path)?.into())
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
    #[command(visible_alias = "show")]
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
    Decide(Decide),
    /// What else can be asked of executions.
    #[command(flatten)]
    Control(ControlCommand),
}

/// A decision.
#[derive(Debug, Args)]
pub struct Decide {
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
    /// Do again what may or may not have been done, whatever comes of it.
    #[arg(long, group = "decision")]
    again: bool,
    /// Why; the next try's prompt has it.
    #[arg(long, default_value = "")]
    notes: String,
    /// The stage that waits; needed where several do.
    #[arg(long)]
    stage: Option<String>,
    /// The item that waits, of a stage that a map runs.
    #[arg(long)]
    item: Option<i32>,
    /// What is used in place of the output; read as JSON where it is JSON, else as text.
    #[arg(long)]
    output: Option<String>,
    /// The form, a JSON object.
    #[arg(long)]
    form: Option<String>,
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
            tell_notes(&asked, output);
            output.result(line(&asked), || message_json(&asked));
            Ok(true)
        }
        ExecutionCommand::Decide(decide) => {
            let remote = decide.access.remote()?;
            let waiting = get(&remote, &decide.execution).await?;
            let request = decision(&waiting, decide)?;
            let decided = remote
                .executions()
                .decide_attempt(remote.request(request))
                .await?
                .into_inner();
            output.result(line(&decided), || message_json(&decided));
            Ok(true)
        }
        ExecutionCommand::Control(command) => control::run(command, output).await,
    }
}

/// The decision on what an execution waits for.
fn decision(execution: &Execution, given: &Decide) -> Result<DecideAttemptRequest> {
    let waiting = waiting(execution, given.stage.as_deref(), given.item)?;
    let decision = match (given.pass, given.again) {
        (true, _) => Decision::Pass,
        (_, true) => Decision::Again,
        _ => Decision::Fail,
    };
    let form = given.form.as_deref().map(|text| {
        let form: Map<String, Value> = serde_json::from_str(text).context("the form is no JSON object")?;
        anyhow::Ok(json_to_struct(&form))
    });
    Ok(DecideAttemptRequest {
        execution_id: execution.id.clone(),
        stage: waiting.stage.clone(),
        visit: waiting.visit,
        item: waiting.item,
        attempt: waiting.attempt,
        decision: decision.into(),
        notes: given.notes.clone(),
        request_id: Uuid::now_v7().to_string(),
        output: given.output.as_deref().map(|text| json_to_value(&json_or_text(text))),
        form: form.transpose()?,
    })
}

/// What waits for a decision: the only thing that does, or the one of this stage and item.
pub(crate) fn waiting<'e>(execution: &'e Execution, stage: Option<&str>, item: Option<i32>) -> Result<&'e AttemptKey> {
    let keys = || execution.waiting.iter().filter_map(|it| it.attempt.as_ref());
    let names = || keys().map(|it| &*it.stage).collect::<Vec<_>>().join(", ");
    if keys().next().is_none() {
        bail!(
            "the execution is {} and waits for no decision",
            events::status_word(execution.status())
        );
    }
    let mut wanted = keys()
        .filter(|it| stage.is_none_or(|stage| it.stage == stage))
        .filter(|it| item.is_none_or(|item| it.item == item));
    let first = wanted
        .next()
        .ok_or_else(|| anyhow!("it waits for a decision on {}, and not on what is asked for", names()))?;
    if wanted.next().is_some() {
        return Err(Usage(format!("several things wait ({}): name --stage and --item", names())).into());
    }
    Ok(first)
}

pub(crate) async fn follow_to_end(remote: &Remote, id: &str, after: i64, output: Output) -> Result<bool> {
    let status = events::follow(remote, id, after, output).await?;
    let ended = get(remote, id).await?;
    output.result(line(&ended), || message_json(&ended));
    Ok(status == ExecutionStatus::Completed)
}

pub(crate) async fn get(remote: &Remote, id: &str) -> Result<Execution> {
    let request = remote.request(GetExecutionRequest { id: id.into() });
    Ok(remote.executions().get_execution(request).await?.into_inner())
}

pub(crate) fn line(execution: &Execution) -> String {
    let failure = execution
        .failure
        .as_ref()
        .map_or_else(String::new, |it| format!("  {}", it.message));
    let waiting: String = execution.waiting.iter().map(waits).collect();
    let paused = execution
        .paused
        .as_ref()
        .map_or_else(String::new, |it| match &*it.reason {
            "" => "  on hold".to_owned(),
            reason => format!("  on hold: {reason}"),
        });
    let source = match &*execution.source_id {
        "" => String::new(),
        source => format!("  goes on from {source}"),
    };
    format!(
        "{}  {:<9}{failure}{waiting}{paused}{source}",
        execution.id,
        events::status_word(execution.status())
    )
}

fn waits(waiting: &Waiting) -> String {
    let stage = waiting.attempt.as_ref().map_or("", |it| &it.stage);
    let how_many = if waiting.required > 1 {
        format!(" ({} of {})", waiting.approved, waiting.required)
    } else {
        String::new()
    };
    format!("  {stage} waits for a decision{how_many}")
}

/// A text of the command line as JSON where it is JSON, else as text.
pub(crate) fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

pub(crate) fn gather_inputs(pairs: &[String], file: Option<&PathBuf>) -> Result<Map<String, Value>> {
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
        inputs.insert(name.to_owned(), json_or_text(value));
    }
    Ok(inputs)
}

/// Says what a request could not reach.
pub(crate) fn tell_notes(execution: &Execution, output: Output) {
    for note in &execution.notes {
        output.progress(note);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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

    fn decide(stage: Option<&str>, item: Option<i32>) -> Decide {
        #[derive(clap::Parser)]
        struct Given {
            #[command(flatten)]
            decide: Decide,
        }
        let given = [
            "x",
            "id",
            "--token",
            "t",
            "--fail",
            "--notes",
            "warmer",
            "--output",
            "[1]",
            "--form",
            "{\"a\": 1}",
        ];
        let mut decide = <Given as clap::Parser>::parse_from(given).decide;
        decide.stage = stage.map(str::to_owned);
        decide.item = item;
        decide
    }

    fn waits_at(stage: &str, item: i32) -> Waiting {
        Waiting {
            attempt: Some(AttemptKey {
                stage: stage.into(),
                visit: 2,
                item,
                attempt: 3,
            }),
            ..Default::default()
        }
    }

    #[test]
    fn only_what_waits_is_decided() {
        let mut execution = Execution::default();
        assert!(decision(&execution, &decide(None, None)).is_err());
        execution.waiting = vec![waits_at("draft", 0)];
        assert!(decision(&execution, &decide(Some("other"), None)).is_err());
        let request = decision(&execution, &decide(Some("draft"), None)).unwrap();
        assert_eq!(
            (request.visit, request.attempt, request.decision(), &*request.notes),
            (2, 3, Decision::Fail, "warmer")
        );
        assert_eq!(request.output, Some(json_to_value(&json!([1]))));
        assert!(request.form.is_some());
    }

    #[test]
    fn of_several_things_that_wait_one_is_named() {
        let execution = Execution {
            waiting: vec![waits_at("send", 0), waits_at("send", 4)],
            ..Execution::default()
        };
        assert!(decision(&execution, &decide(Some("send"), None)).is_err());
        assert_eq!(decision(&execution, &decide(None, Some(4))).unwrap().item, 4);
    }

    #[test]
    fn an_input_without_an_equals_sign_is_refused() {
        assert!(gather_inputs(&["n".to_owned()], None).is_err());
    }
}
