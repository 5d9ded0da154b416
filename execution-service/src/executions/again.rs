//! Going on from an execution in a new one: where it failed, from any stage, or from the start.
//!
//! The source stays as it is. The new execution keeps what the source was paid for up to where it begins, names the source, and is
//! started like any other: limited, once under its key, and as the user who asks for it.

use std::sync::Arc;

use serde_json::{Map, Value};
use service_kit::{
    auth::Caller,
    db::TenantTx,
    error::{Error, Result},
    ids::{ExecutionId, WorkflowId},
};

use super::{
    Execution, enter, journal_store, not_found,
    standing::gone,
    start::{self, Begin},
};
use crate::{
    App,
    access::Access,
    engine::{
        definition::Definition,
        fork::{self, ForkError},
        journal::{Entry, Forked, Hash, Payload},
        state::{Given, State},
    },
    files,
    worker::{Origin, StartKey},
    workflows::{self, Pinned},
};

/// Where to go on from.
#[derive(Clone, Debug)]
pub(super) enum From {
    /// Where the source failed or was cancelled.
    Failed,
    /// A stage that it came to.
    Stage(String),
    /// The start, with other inputs if there are some; nothing is kept.
    Start(Option<Map<String, Value>>),
}

/// What to go on with.
#[derive(Clone, Debug)]
pub(super) struct Again {
    /// The source.
    pub source: ExecutionId,
    /// Where to go on from.
    pub from: From,
    /// The version's number to run; the source's where there is none.
    pub version: Option<i32>,
    /// Makes a repeated start answer with the first new execution.
    pub key: Option<StartKey>,
}

impl Again {
    /// Whether the files of the source's inputs stay as they were pinned, however many versions they have by now: they are the
    /// source's own, and mean the same to the version that runs.
    fn keeps_files(&self, source_version: i32, version: i32) -> bool {
        source_version == version && !matches!(self.from, From::Start(Some(_)))
    }
}

/// Begins a new execution that goes on from another one; it is durable when this answers.
pub(super) async fn begin(app: &App, caller: &Caller, again: &Again) -> Result<Execution> {
    let access = enter(app, caller, again.source).await?;
    app.start_rate.take(&access, again.key.as_ref()).await?;
    let source = Source::read(app, &access, again.source).await?;
    let version = source.version_number;
    let mut begin = prepare(app, &access, source, again).await?;
    if !again.keeps_files(version, begin.pinned.number) {
        let starter = start::starter(&access, begin.pinned.studio);
        begin.inputs = files::pin(&app.core, starter, &begin.pinned.definition, begin.inputs).await?;
    }
    begin.start(app, &access).await
}

/// Whether a new execution could go on from another one, and why not.
pub(super) async fn rehearse(app: &App, access: &Access, again: &Again) -> Result<()> {
    let source = Source::read(app, access, again.source).await?;
    prepare(app, access, source, again).await.map(drop)
}

/// An execution to go on from.
struct Source {
    workflow: WorkflowId,
    version_number: i32,
    /// Gone with the version.
    definition: Option<Definition>,
    inputs: Map<String, Value>,
    journal: Vec<Entry>,
    /// The hash of its last entry.
    head: Hash,
}

impl Source {
    async fn read(app: &App, access: &Access, id: ExecutionId) -> Result<Self> {
        let mut tx = TenantTx::begin(&app.pool, "executions.source", &access.claims).await?;
        let pinned = journal_store::pinned(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
        let journal = journal_store::entries(&mut tx, id, 0, i64::MAX).await?;
        let last = journal.last().map_or(0, |it| it.seq);
        let head = journal_store::hash(&mut tx, id, last).await?;
        Ok(Self {
            workflow: pinned.workflow,
            version_number: pinned.version_number,
            definition: pinned.definition,
            inputs: pinned.inputs,
            journal,
            head: head.ok_or_else(|| Error::internal("an execution has a first entry"))?,
        })
    }

    /// What a new execution of this definition begins with.
    fn fork(&self, from: &From, new: &Definition) -> Result<Forked> {
        let definition = self.definition.as_ref().ok_or_else(gone)?;
        let given = Given {
            definition,
            inputs: &self.inputs,
        };
        let begin = match from {
            From::Start(_) => return self.restart(new),
            From::Stage(stage) => fork::Begin::Stage(stage),
            From::Failed => match self.journal.split_last() {
                Some((last, before)) if matches!(last.payload, Payload::Cancelled(_)) => {
                    let state = State::after(given, before);
                    let Some(stage) = state.stages(definition).first().copied() else {
                        // It was cancelled at its end.
                        return Err(not_retriable());
                    };
                    let forked = fork::fork(given, &self.journal, &self.head, fork::Begin::Stage(stage), new);
                    return forked.map_err(|error| refused(from, &error));
                }
                _ => fork::Begin::Failed,
            },
        };
        fork::fork(given, &self.journal, &self.head, begin, new).map_err(|error| refused(from, &error))
    }

    fn restart(&self, new: &Definition) -> Result<Forked> {
        let (Some(Payload::Started(started)), Some(last)) =
            (self.journal.first().map(|it| &it.payload), self.journal.last())
        else {
            return Err(Error::internal("a journal begins with its start"));
        };
        Ok(Forked {
            source_execution: started.execution_id,
            source_seq: last.seq,
            source_hash: hex::encode(self.head),
            from_stage: start::first_of(new).unwrap_or_default().to_owned(),
            kept: Vec::new(),
            visits: std::collections::BTreeMap::new(),
        })
    }
}

/// Checks all that a start is checked for, and where it begins.
async fn prepare(app: &App, access: &Access, source: Source, again: &Again) -> Result<Begin> {
    let workflow = source.workflow;
    let number = again.version.unwrap_or(source.version_number);
    let pinned = pin(app, access, workflow, number).await?;
    let inputs = match &again.from {
        From::Start(Some(other)) => other.clone(),
        _ => source.inputs.clone(),
    };
    let asked = files::asked(&pinned.definition, &inputs);
    start::check_inputs(app, &pinned.definition, &asked).await?;
    let inputs = if again.keeps_files(source.version_number, pinned.number) {
        inputs
    } else {
        asked.into_owned()
    };
    let (from, new) = (again.from.clone(), Arc::clone(&pinned.definition));
    // A journal may be long.
    let forked = app.aside.run(move || source.fork(&from, &new)).await?;
    Ok(Begin {
        workflow,
        pinned,
        inputs,
        key: again.key.clone(),
        origin: Origin::Fork(Box::new(forked)),
    })
}

async fn pin(app: &App, access: &Access, workflow: WorkflowId, number: i32) -> Result<Pinned> {
    match workflows::pin(app, access, workflow, number).await {
        Err(Error::NotFound {
            resource: "workflow", ..
        }) => Err(Error::FailedPrecondition {
            reason: "WORKFLOW_DELETED",
            message: "the execution's workflow is deleted; bring it back first".into(),
        }),
        other => other,
    }
}

fn not_retriable() -> Error {
    Error::FailedPrecondition {
        reason: "NOT_RETRIABLE",
        message: "the execution did not fail at a stage, nor was it cancelled at one; it can be forked or restarted"
            .into(),
    }
}

fn refused(from: &From, error: &ForkError) -> Error {
    let message = error.to_string();
    match error {
        ForkError::NotFailed => not_retriable(),
        ForkError::NotBegun => Error::FailedPrecondition {
            reason: "NOT_BEGUN",
            message,
        },
        ForkError::NotReached(_) => Error::FailedPrecondition {
            reason: "STAGE_NOT_REACHED",
            message,
        },
        ForkError::NoStage(_) | ForkError::IsBody(_) => match from {
            From::Stage(_) => Error::invalid("stage", message),
            From::Failed | From::Start(_) => Error::invalid("version", message),
        },
        ForkError::Missing(_) => Error::invalid("version", message),
    }
}
