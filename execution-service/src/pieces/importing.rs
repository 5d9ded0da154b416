//! Listing the flows of a connection, and making a workflow of one.
//!
//! What is imported can be run: a flow that is disabled, that no webhook starts or whose pieces are missing is refused, with
//! the reasons. Nothing of ActivePieces is called within a transaction.

use std::time::Duration;

use serde_json::Map;
use service_kit::{
    auth::Caller,
    error::{Error, Result, Violations},
    ids::{ConnectionId, StudioId},
};

use super::{
    Failure, FailureKind, Findings, FlowSummary, Page, accounts,
    client::{Account, Flows},
};
use crate::{
    App,
    engine::{
        check::Demands,
        definition::{Definition, Flow, FlowMode, Kind, Retry, Stage, Validation},
    },
    requests,
    workflows::{self, Version, Workflow},
};

/// The name of the stage that an import makes.
const STAGE: &str = "flow";
/// The most pieces that an instance is asked about.
const MAX_PIECES: usize = 40;

/// What to import, and how.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub connection: ConnectionId,
    pub flow: String,
    pub studio: StudioId,
    /// Empty for the flow's.
    pub name: String,
    pub mode: FlowMode,
    pub timeout: Option<Duration>,
    pub validate_only: bool,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Imported {
    /// None where it was only found out.
    pub made: Option<(Workflow, Version)>,
    pub findings: Findings,
    pub missing: Vec<String>,
}

/// Lists flows of a connection's project.
pub(super) async fn list(
    app: &App,
    caller: &Caller,
    connection: ConnectionId,
    wanted: &Flows<'_>,
) -> Result<Page<FlowSummary>> {
    let (account, _) = accounts::of_caller(app, caller, connection).await?;
    Ok(app.pieces.flows(&account, wanted).await?)
}

/// Finds out about a flow, and makes a published workflow that runs it.
pub(super) async fn import(app: &App, caller: &Caller, wish: &Wish, key: Option<&requests::Key>) -> Result<Imported> {
    let access = app.core.check_studio(caller.user, wish.studio).await?;
    let (account, company) = accounts::of_caller(app, caller, wish.connection).await?;
    if company != access.company {
        return Err(Error::invalid("connection_id", "is another company's than the studio"));
    }
    let (findings, missing) = find_out(app, &account, &wish.flow).await?;
    refuse(wish, &findings, &missing)?;
    let made = if wish.validate_only {
        None
    } else {
        let new = workflow(wish, &findings);
        Some(workflows::create_published(app, caller, &access, &new, key).await?)
    };
    Ok(Imported {
        made,
        findings,
        missing,
    })
}

async fn find_out(app: &App, account: &Account, flow: &str) -> Result<(Findings, Vec<String>)> {
    let found = app.pieces.flow(account, flow).await;
    let flow = found.map_err(|failure| match failure.kind {
        FailureKind::NotFound | FailureKind::FlowGone => Error::invalid("flow_id", failure.message),
        _ => Error::from(failure),
    })?;
    let findings = flow.findings();
    let mut missing = Vec::new();
    for piece in findings.pieces.iter().take(MAX_PIECES) {
        let has: Result<bool, Failure> = app.pieces.has_piece(account, piece).await;
        if !has? {
            missing.push(piece.clone());
        }
    }
    Ok((findings, missing))
}

/// Refuses what could not be run.
fn refuse(wish: &Wish, findings: &Findings, missing: &[String]) -> Result<()> {
    let mut found = Violations::new();
    if !findings.starts_by_webhook {
        found.add(
            "flow_id",
            "the flow is not started by a webhook: its trigger has to be Catch Webhook",
        );
    }
    if findings.wants_credentials {
        found.add(
            "flow_id",
            "the flow's webhook wants credentials: without them ActivePieces takes a start and runs nothing; set it to none",
        );
    }
    if !findings.is_published {
        found.add("flow_id", "the flow was never published in ActivePieces");
    } else if !findings.is_enabled {
        found.add("flow_id", "the flow is disabled in ActivePieces");
    }
    if !missing.is_empty() {
        found.add(
            "flow_id",
            format!(
                "the instance does not have the pieces that the flow needs: {}",
                missing.join(", ")
            ),
        );
    }
    if wish.mode == FlowMode::Synchronous && findings.starts_by_webhook && !findings.answers {
        found.add(
            "mode",
            "the flow has no Return Response step, so nothing would answer the start",
        );
    }
    if wish.name.is_empty() && findings.name.trim().is_empty() {
        found.add("name", "must be given, as the flow has none");
    }
    found.finish()
}

fn workflow(wish: &Wish, findings: &Findings) -> workflows::New {
    let kind = Kind::Activepieces(Flow {
        connection_id: wish.connection.to_string(),
        flow_id: wish.flow.clone(),
        mode: wish.mode,
        calls_back: findings.calls_back,
        tags_run: findings.tags_run,
    });
    let stage = Stage {
        name: STAGE.into(),
        timeout: wish.timeout.unwrap_or_else(|| kind.usual_timeout()),
        kind,
        input_mapping: std::collections::BTreeMap::new(),
        output_variables: std::collections::BTreeMap::new(),
        validation: Validation::None,
        retry_limit: 0,
        retry: Retry::default(),
        routes_on_pass: Vec::new(),
        routes_on_fail: Vec::new(),
        next_on_pass: None,
        next_on_fail: None,
        provider_overrides: None,
        demands: Demands::default(),
    };
    let name = if wish.name.is_empty() {
        &findings.name
    } else {
        &wish.name
    };
    workflows::New {
        studio: wish.studio,
        name: name.trim().chars().filter(|it| !it.is_control()).take(200).collect(),
        description: "Runs a flow of ActivePieces.".into(),
        metadata: Map::new(),
        draft: Definition {
            stages: vec![stage],
            transition_limit: 0,
            input_schema: findings.input_schema.clone(),
            output_schema: None,
        },
    }
}

/// What is worth knowing of a flow, for people.
pub(super) fn warnings(findings: &Findings) -> Vec<String> {
    let mut warnings = Vec::new();
    if !findings.calls_back && !findings.tags_run {
        warnings.push(
            "its end is learned by asking alone; an HTTP step that posts to {{trigger.body.studios.callback_url}} would tell it at once"
                .to_owned(),
        );
    }
    if findings.calls_back {
        warnings.push(
            "a failure is told at once only where a branch of the flow posts {\"status\": \"failed\"} to the call-back URL".to_owned(),
        );
    }
    if findings.input_schema.is_none() {
        warnings.push("what it takes is not known: it has no sample and reads nothing of the body by name".to_owned());
    }
    if !findings.is_valid {
        warnings.push("ActivePieces says that the flow is not valid".to_owned());
    }
    warnings
}
