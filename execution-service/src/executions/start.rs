//! Starting a run: what is checked before it, and the start itself, which the engine's writer makes durable.

use std::sync::Arc;

use serde_json::{Map, Value};
use service_kit::{
    auth::Caller,
    error::Result,
    ids::{ExecutionId, WorkflowId},
    telemetry,
};

use super::{Execution, Status, Summary, inputs, read};
use crate::{
    App,
    engine::definition::Definition,
    worker::{Start, StartKey, StartOutcome, Times},
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
    app.start_rate.take(&access, new.key.as_ref()).await?;
    let pinned = workflows::pin(app, &access, new.workflow, new.version).await?;
    check_inputs(app, &pinned.definition, &new.inputs).await?;
    let start = Start {
        execution: ExecutionId::generate(),
        company: access.company,
        studio: pinned.studio,
        workflow: new.workflow,
        version_id: pinned.version,
        version_number: pinned.number,
        definition: pinned.definition,
        inputs: new.inputs.clone(),
        started_by: caller.user,
        key: new.key.clone(),
        trace_context: telemetry::current_traceparent(),
    };
    let answer = answer(&start);
    match app.engine.start(start).await? {
        StartOutcome::Existing(id) => read(app, &access, id).await,
        StartOutcome::Started(id, times) => {
            app.places.executions.put(id, pinned.studio);
            Ok(answer(times))
        }
    }
}

/// Refuses inputs that do not fit the version's schema. A schema is a member's, so checking by it may take long.
async fn check_inputs(app: &App, definition: &Arc<Definition>, given: &Map<String, Value>) -> Result<()> {
    if definition.input_schema.is_none() {
        return inputs::check(None, given);
    }
    let (definition, given) = (Arc::clone(definition), given.clone());
    let check = move || inputs::check(definition.input_schema.as_ref(), &given);
    app.aside.run(check).await
}

/// The execution that a start makes, once it is known when it was written.
fn answer(start: &Start) -> impl FnOnce(Times) -> Execution + use<> {
    let start = start.clone();
    move |times| Execution {
        summary: Summary {
            id: start.execution,
            company: start.company,
            studio: start.studio,
            workflow: start.workflow,
            workflow_version: start.version_number,
            status: if times.started_at.is_some() {
                Status::Running
            } else {
                Status::Pending
            },
            current_stage: start
                .definition
                .stages
                .first()
                .map(|it| it.name.clone())
                .unwrap_or_default(),
            waiting_for: None,
            failure: None,
            started_by: start.started_by,
            trace_context: start.trace_context,
            created_at: times.created_at,
            started_at: times.started_at,
            finished_at: None,
            updated_at: times.created_at,
        },
        inputs: start.inputs,
        outputs: Map::new(),
    }
}
