//! Starting a run: what is checked before it, and the start itself, which the engine's writer makes durable.

use std::sync::Arc;

use serde_json::{Map, Value};
use service_kit::{
    audit::About,
    auth::Caller,
    error::Result,
    ids::{ExecutionId, StudioId, WorkflowId},
    telemetry,
};

use super::{Execution, Status, Summary, inputs, read};
use crate::{
    App,
    access::Access,
    engine::definition::{Definition, Kind},
    files::{self, Starter},
    worker::{Origin, Start, StartKey, StartOutcome, Times},
    workflows::{self, Pinned},
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
    let inputs = files::asked(&pinned.definition, &new.inputs);
    check_inputs(app, &pinned.definition, &inputs).await?;
    let starter = starter(&access, pinned.studio);
    let inputs = files::pin(&app.core, starter, &pinned.definition, inputs.into_owned()).await?;
    let begin = Begin {
        workflow: new.workflow,
        pinned,
        inputs,
        key: new.key.clone(),
        origin: Origin::Fresh,
    };
    begin.start(app, &access).await
}

/// For whom the files of a run in this studio are looked up.
pub(super) fn starter(access: &Access, studio: StudioId) -> Starter {
    Starter {
        user: access.claims.sub,
        company: access.company,
        studio,
    }
}

/// What has been checked and is to be started.
pub(super) struct Begin {
    pub workflow: WorkflowId,
    pub pinned: Pinned,
    pub inputs: Map<String, Value>,
    pub key: Option<StartKey>,
    pub origin: Origin,
}

impl Begin {
    /// Starts it for the user whose access this is; it is durable when this answers.
    pub(super) async fn start(self, app: &App, access: &Access) -> Result<Execution> {
        self.start_as(ExecutionId::generate(), app, access).await
    }

    /// Starts it under an id that is known before.
    pub(super) async fn start_as(self, execution: ExecutionId, app: &App, access: &Access) -> Result<Execution> {
        let studio = self.pinned.studio;
        let about = About::company(access.company, "execution", execution);
        let start = Start {
            execution,
            company: access.company,
            studio,
            workflow: self.workflow,
            version_id: self.pinned.version,
            version_number: self.pinned.number,
            definition: self.pinned.definition,
            inputs: self.inputs,
            started_by: access.claims.sub,
            key: self.key,
            trace_context: telemetry::current_traceparent(),
            origin: self.origin,
            audit: Some(app.audit.prepare(&app.pool, about).await?),
            allowance: access.allowance,
        };
        let answer = answer(&start);
        match app.engine.start(start).await? {
            StartOutcome::Existing(id) => read(app, access, id).await,
            StartOutcome::Started(id, times) => {
                app.places.executions.put(id, studio);
                Ok(answer(times))
            }
        }
    }
}

/// Refuses inputs that do not fit the version's schema. A schema is a member's, so checking by it may take long.
pub(crate) async fn check_inputs(app: &App, definition: &Arc<Definition>, given: &Map<String, Value>) -> Result<()> {
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
            current_stage: first_stage(&start),
            waiting: Vec::new(),
            paused: None,
            failure: None,
            started_by: start.started_by,
            trace_context: start.trace_context,
            created_at: times.created_at,
            started_at: times.started_at,
            finished_at: None,
            updated_at: times.created_at,
            parent: None,
            source: match &start.origin {
                Origin::Fresh => None,
                Origin::Fork(forked) => Some(forked.source_execution),
            },
            depth: 0,
        },
        inputs: start.inputs,
        outputs: Map::new(),
        remaining: times.remaining,
    }
}

/// The stage that it begins with.
fn first_stage(start: &Start) -> String {
    match &start.origin {
        Origin::Fork(forked) => forked.from_stage.clone(),
        Origin::Fresh => first_of(&start.definition).unwrap_or_default().to_owned(),
    }
}

/// The stage that a run of it begins with: the first that no map runs.
pub(super) fn first_of(definition: &Definition) -> Option<&str> {
    let is_body = |name: &str| {
        let kinds = definition.stages.iter().map(|it| &it.kind);
        kinds
            .into_iter()
            .any(|kind| matches!(kind, Kind::Map(fan) if fan.stage == name))
    };
    let mut names = definition.stages.iter().map(|it| &*it.name);
    names.find(|name| !is_body(name))
}
