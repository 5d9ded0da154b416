//! Running a workflow dry: the way that a run would go, with outputs that are given or that an execution had. It is the engine's own
//! decision ([`dry_run`]); nothing is called, charged or recorded.

use std::sync::Arc;

use serde_json::{Map, Value};
use service_kit::{
    auth::Caller,
    db::TenantTx,
    error::{Error, Result},
    ids::{ExecutionId, WorkflowId},
};

use super::{enter, inputs, journal_store, not_found};
use crate::{
    App,
    engine::dry_run::{Answers, Sample, Trace, dry_run},
    workflows,
};

/// What to run dry.
#[derive(Clone, Debug)]
pub(super) struct DryRun {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The version's number; the draft where there is none.
    pub version: Option<i32>,
    /// The run's inputs; those of the execution where there are none.
    pub inputs: Option<Map<String, Value>>,
    /// What takes the place of everything outside.
    pub sample: Sample,
    /// The execution whose answers and decisions do, in place of that.
    pub recorded: Option<ExecutionId>,
}

/// Runs it.
pub(super) async fn run(app: &App, caller: &Caller, dry: &DryRun) -> Result<Trace> {
    let access = workflows::enter(app, caller, dry.workflow).await?;
    let definition = match dry.version {
        Some(number) => workflows::pin(app, &access, dry.workflow, number).await?.definition,
        None => Arc::new(workflows::get(app, caller, dry.workflow).await?.draft),
    };
    let (mut given, mut journal) = (dry.inputs.clone(), None);
    if let Some(id) = dry.recorded {
        let access = enter(app, caller, id).await?;
        let mut tx = TenantTx::begin(&app.pool, "executions.dry_run", &access.claims).await?;
        let pinned = journal_store::pinned(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
        if pinned.workflow != dry.workflow {
            return Err(Error::invalid("execution_id", "must be an execution of the workflow"));
        }
        journal = Some(journal_store::entries(&mut tx, id, 0, i64::MAX).await?);
        given.get_or_insert(pinned.inputs);
    }
    let (given, sample) = (given.unwrap_or_default(), dry.sample.clone());
    // It renders and checks all that a run would.
    let traced = app.aside.run(move || {
        inputs::check(definition.input_schema.as_ref(), &given)?;
        let answers = journal.as_deref().map_or(Answers::Given(&sample), Answers::Recorded);
        Ok(dry_run(&definition, &given, answers))
    });
    traced.await
}
