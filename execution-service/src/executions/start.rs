//! Starting a run: what is checked before it, and the start itself, which the engine's writer makes durable.

use std::sync::Arc;

use serde_json::{Map, Value};
use service_kit::{
    auth::Caller,
    db::TenantTx,
    error::Result,
    ids::{ExecutionId, WorkflowId},
    telemetry,
};

use super::{Execution, inputs, read};
use crate::{
    App, aside,
    worker::{Start, StartKey, StartOutcome},
    workflows,
};

/// What to start.
#[derive(Clone, Debug)]
pub struct New {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The version's number; 0 is the newest.
    pub version: i32,
    /// What to start it with.
    pub inputs: Map<String, Value>,
    /// Makes a repeated start answer with the first execution.
    pub key: Option<StartKey>,
}

/// Starts a run of a published version; it is durable when this answers.
pub async fn start(app: &App, caller: &Caller, new: &New) -> Result<Execution> {
    let access = workflows::enter(app, caller, new.workflow).await?;
    let mut tx = TenantTx::begin(&app.pool, "executions.prepare", &access.claims).await?;
    let pinned = workflows::find_version(&mut tx, new.workflow, new.version).await?;
    tx.commit().await?;
    let (schema, given) = (pinned.definition.input_schema.clone(), new.inputs.clone());
    aside::run(move || inputs::check(schema.as_ref(), &given)).await?;
    let outcome = app.engine.start(Start {
        execution: ExecutionId::generate(),
        company: access.company,
        studio: pinned.studio,
        workflow: new.workflow,
        version_id: pinned.version,
        version_number: pinned.number,
        definition: Arc::new(pinned.definition),
        inputs: new.inputs.clone(),
        started_by: caller.user,
        key: new.key.clone(),
        trace_context: telemetry::current_traceparent(),
    });
    let (StartOutcome::Started(id) | StartOutcome::Existing(id)) = outcome.await?;
    read(app, &access, id).await
}
