//! Executions that belong to another thing, such as what is asked of an agent: started under an id that the thing names before,
//! followed, stopped, and read once they have ended.

use std::sync::Arc;

use futures::{Stream, StreamExt, future};
use serde_json::{Map, Value};
use service_kit::{
    auth::Caller,
    db::TenantTx,
    error::Result,
    ids::{ExecutionId, WorkflowId},
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{
    Status,
    attempts::Run,
    control::Command,
    events::{Event, What},
    start::Begin,
    store, watch,
};
use crate::{
    App,
    access::Access,
    engine::{failure::Failure, journal::AttemptPayload, request::Prompt},
    worker::{Origin, Wish},
    workflows,
};

/// Starts a version of a private workflow as an execution with this id.
pub(crate) async fn start_owned(
    app: &App,
    access: &Access,
    execution: ExecutionId,
    (workflow, version): (WorkflowId, i32),
    inputs: Map<String, Value>,
) -> Result<()> {
    let begin = Begin {
        workflow,
        pinned: workflows::pin(app, access, workflow, version).await?,
        inputs,
        key: None,
        origin: Origin::Fresh,
    };
    begin.start_as(execution, app, access).await.map(drop)
}

/// Asks it to stop.
pub(crate) async fn cancel_owned(app: &App, access: &Access, execution: ExecutionId) -> Result<()> {
    let wish = Wish::Cancel { reason: String::new() };
    let command = Command::of(app, access, execution, "executions.cancel");
    command.leave(&wish).await.map(drop)
}

/// Where an execution stands.
#[derive(Clone, Debug)]
pub(crate) struct Stood {
    /// How.
    pub status: Status,
    /// At which stage; empty before the first and after the end.
    pub stage: String,
}

/// Where it stands; none where it is not there.
pub(crate) async fn stood(tx: &mut PgConnection, execution: ExecutionId) -> Result<Option<Stood>> {
    let found = store::get(tx, execution).await?;
    Ok(found.map(|it| Stood {
        status: it.summary.status,
        stage: it.summary.current_stage,
    }))
}

/// An execution that has ended, with all that it tried.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How it ended.
    pub status: Status,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// When.
    pub at: OffsetDateTime,
    /// What it was started with.
    pub inputs: Map<String, Value>,
    /// The tries of its stages with their prompts, in order.
    pub tries: Vec<(AttemptPayload, Prompt)>,
}

/// How an execution ended: none where it is not there, and none within where it has not ended.
pub(crate) async fn ended(app: &App, access: &Access, execution: ExecutionId) -> Result<Option<Option<Ended>>> {
    let mut tx = TenantTx::begin(&app.pool, "executions.ended", &access.claims).await?;
    let Some(found) = store::get(&mut tx, execution).await? else {
        return Ok(None);
    };
    let Some(at) = found.summary.finished_at else {
        return Ok(Some(None));
    };
    let mut run = Run::open(&mut tx, execution).await?;
    run.read_up_to(&mut tx, i64::MAX).await?;
    // Rendering takes time that no connection should wait for.
    drop(tx);
    let tries = move || {
        let seqs = run.journal().iter().map(|it| it.seq);
        let recorded = seqs.filter_map(|seq| run.recorded(seq));
        recorded.map(|it| (it.attempt, it.prompt)).collect()
    };
    Ok(Some(Some(Ended {
        status: found.summary.status,
        failure: found.summary.failure,
        at,
        inputs: found.inputs,
        tries: app.aside.run(tries).await,
    })))
}

/// What happened to an execution.
#[derive(Debug)]
pub(crate) enum Happened {
    /// A try of a stage began.
    Began(String),
    /// The answer of a stage's model grew by a text, or is it so far.
    Wrote {
        /// The stage.
        stage: String,
        /// The text.
        text: String,
        /// Whether it is all text so far.
        so_far: bool,
    },
}

/// What happens to an execution that is there, from its start to its end.
///
/// # Errors
/// As watching it has them.
pub(crate) async fn follow(
    app: Arc<App>,
    caller: Caller,
    execution: ExecutionId,
) -> Result<impl Stream<Item = Result<Happened>> + Send + 'static> {
    let events = watch::watch(app, caller, execution, 0).await?;
    Ok(events.filter_map(|event| future::ready(event.map(happened).transpose())))
}

fn happened(event: Event) -> Option<Happened> {
    match event.what {
        What::Started(of) => Some(Happened::Began(of.stage)),
        What::Delta { of, text, so_far } => Some(Happened::Wrote {
            stage: of.stage,
            text,
            so_far,
        }),
        What::Status { .. } | What::Recorded(_) | What::Noted(_) => None,
    }
}
