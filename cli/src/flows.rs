//! Flows of ActivePieces from a terminal: listed, imported as workflows, and the runs that an execution has started.

use std::fmt::Write;

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use studios_proto::execution::{
    Flow, FlowCancel, FlowEndWay, FlowFindings, FlowMode, FlowRun, FlowStatus, ImportFlowRequest, ListFlowRunsRequest,
    ListFlowsRequest,
};
use uuid::Uuid;

use crate::{
    output::{Output, message_json},
    runs::Access,
};

/// What can be done with flows.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the flows of a connection's project.
    List {
        /// The connection's id.
        connection: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Only those with this in their name.
        #[arg(long, default_value = "")]
        name: String,
        /// Only those of this status.
        #[arg(long)]
        status: Option<Status>,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Make a published workflow that runs a flow, and say what was found out about the flow.
    Import {
        /// The connection's id.
        connection: String,
        /// The flow's id.
        flow: String,
        /// The studio that the workflow is made in.
        #[arg(long)]
        studio: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// The workflow's name, in place of the flow's.
        #[arg(long, default_value = "")]
        name: String,
        /// Wait for what the flow's Return Response step answers.
        #[arg(long)]
        sync: bool,
        /// How long a run may take, in seconds.
        #[arg(long)]
        timeout: Option<u32>,
        /// Find out, and make nothing.
        #[arg(long)]
        check: bool,
    },
    /// List the runs of flows that an execution has started.
    Runs {
        /// The execution's id.
        execution: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
}

/// Which flows.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Status {
    /// Those that run when they are started.
    Enabled,
    /// The others.
    Disabled,
}

/// Runs a command.
pub async fn run(command: &Command, output: Output) -> Result<()> {
    match command {
        Command::List {
            connection,
            access,
            name,
            status,
            limit,
        } => {
            let status = match status {
                None => FlowStatus::Unspecified,
                Some(Status::Enabled) => FlowStatus::Enabled,
                Some(Status::Disabled) => FlowStatus::Disabled,
            };
            let request = ListFlowsRequest {
                connection_id: connection.clone(),
                name: name.clone(),
                status: status.into(),
                page_size: i32::try_from((*limit).min(100)).unwrap_or(100),
                page_token: String::new(),
            };
            list(access, request, *limit, output).await?;
        }
        Command::Import {
            connection,
            flow,
            studio,
            access,
            name,
            sync,
            timeout,
            check,
        } => {
            let mode = if *sync {
                FlowMode::Synchronous
            } else {
                FlowMode::Asynchronous
            };
            let request = ImportFlowRequest {
                connection_id: connection.clone(),
                flow_id: flow.clone(),
                studio_id: studio.clone(),
                name: name.clone(),
                mode: mode.into(),
                timeout: timeout.map(|it| prost_types::Duration {
                    seconds: it.into(),
                    nanos: 0,
                }),
                validate_only: *check,
                request_id: Uuid::now_v7().to_string(),
            };
            let remote = access.remote()?;
            let imported = remote.flows().import_flow(remote.request(request)).await?.into_inner();
            let findings = imported
                .findings
                .as_ref()
                .context("the answer says nothing of the flow")?;
            let mut text = match &imported.workflow {
                Some(workflow) => format!("{}  {}  version {}", workflow.id, workflow.name, imported.version),
                None => findings.name.clone(),
            };
            text.push_str(&found(findings));
            output.result(text, || message_json(&imported));
        }
        Command::Runs { execution, access } => {
            let request = ListFlowRunsRequest {
                execution_id: execution.clone(),
            };
            let remote = access.remote()?;
            let runs = remote.flows().list_flow_runs(remote.request(request)).await?;
            for run in &runs.into_inner().flow_runs {
                output.result(run_line(run), || message_json(run));
            }
        }
    }
    Ok(())
}

async fn list(access: &Access, mut request: ListFlowsRequest, limit: usize, output: Output) -> Result<()> {
    let remote = access.remote()?;
    let mut left = limit;
    loop {
        let page = remote
            .flows()
            .list_flows(remote.request(request.clone()))
            .await?
            .into_inner();
        for flow in page.flows.iter().take(left) {
            output.result(line(flow), || message_json(flow));
        }
        left = left.saturating_sub(page.flows.len());
        if left == 0 || page.next_page_token.is_empty() {
            return Ok(());
        }
        request.page_token = page.next_page_token;
    }
}

fn line(flow: &Flow) -> String {
    let status = match (flow.published, flow.enabled) {
        (false, _) => "not published",
        (true, true) => "enabled",
        (true, false) => "disabled",
    };
    format!("{}  {}  {status}", flow.id, flow.name)
}

fn found(findings: &FlowFindings) -> String {
    let ways = findings.ways().map(|way| match way {
        FlowEndWay::Callback => "call-back",
        FlowEndWay::Tag => "tag",
        FlowEndWay::Response => "response",
        FlowEndWay::Asking | FlowEndWay::Unspecified => "asking",
    });
    let mut text = format!("\n  its end is learned by: {}", ways.collect::<Vec<_>>().join(", "));
    let lines = findings.missing_pieces.iter().map(|it| format!("missing piece: {it}"));
    for line in lines.chain(findings.warnings.iter().cloned()) {
        // A String takes everything.
        let _ = write!(text, "\n  {line}");
    }
    text
}

fn run_line(run: &FlowRun) -> String {
    let stage = run.attempt.as_ref().map_or("", |it| it.stage.as_str());
    let state = match (run.state.as_str(), run.uncertain) {
        ("", true) => "perhaps started",
        ("", false) => "started",
        (state, _) => state,
    };
    let cancel = match run.cancel() {
        FlowCancel::Unspecified => "",
        FlowCancel::Asked => "  asked to stop",
        FlowCancel::Done => "  stopped",
        FlowCancel::NotPossible => "  cannot be stopped",
    };
    format!(
        "{stage}  flow {}  {state}{cancel}  {} steps",
        run.flow_id,
        run.steps.len()
    )
}
