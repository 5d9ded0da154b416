//! Executions of published workflows: starting, reading, listing, controlling, deciding, explaining and watching them.
//!
//! This side never writes an execution: a start goes through the engine's writer, and whoever asks for more (a cancel, a
//! decision) leaves a command for the holder of the run and wakes it. An execution is pinned to the version it started with, and
//! stays readable when its workflow is deleted. What is terminal never changes again: who wants more of it gets a new one.

use serde::Serialize;
use serde_json::{Map, Value};
use service_kit::{
    auth::Caller,
    db::{self, TenantTx},
    error::{Error, Result},
    gather::{Bounds, Gatherer, Kind},
    ids::{CompanyId, ExecutionId, StudioId, TemplateId, UserId, WorkflowId},
    lifecycle::Lifecycle,
    page::Page,
};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;

use crate::{
    App,
    access::{Access, hidden_as},
    engine::failure::Failure,
};

mod again;
mod api;
mod attempts;
mod bulk;
mod control;
mod control_store;
mod convert;
mod decide;
mod dry;
mod events;
mod explain;
mod explain_store;
mod files;
mod inputs;
mod journal_store;
mod owned;
mod quotas;
mod quotas_store;
mod standing;
mod start;
mod store;
mod trial;
mod wait;
mod waiting;
mod waiting_store;
mod watch;

pub use api::Api;
pub(crate) use api::shown;
pub(crate) use convert::{attempt_key, inputs as given_inputs, start_key};
pub(crate) use inputs::check as check_against;
pub(crate) use owned::{Ended, Happened, cancel_owned, ended, follow, start_owned, stood};
pub(crate) use start::check_inputs;
pub use start::{New, start};
pub use waiting::Ask;

/// Where an execution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Durable, not yet begun.
    Pending,
    /// Under way.
    Running,
    /// Ended well.
    Completed,
    /// Ended with a failure.
    Failed,
    /// Waits for people, or somebody asked it to begin nothing new.
    Paused,
    /// Ended because somebody asked for it.
    Cancelled,
}

impl Status {
    const ALL: [Self; 6] = [
        Self::Pending,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Paused,
        Self::Cancelled,
    ];

    /// The status as the database writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status that is written so, if there is one.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == text)
    }
}

/// An execution without its inputs and outputs.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its id.
    pub id: ExecutionId,
    /// The company it belongs to.
    pub company: CompanyId,
    /// The studio it belongs to.
    pub studio: StudioId,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The number of the version it is pinned to.
    pub workflow_version: i32,
    /// Where it stands.
    pub status: Status,
    /// The stage it is at; empty before the first and after the end.
    pub current_stage: String,
    /// What people have to decide.
    pub waiting: Vec<Ask>,
    /// Set while somebody asked it to begin nothing new.
    pub paused: Option<Pause>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// The user who started it.
    pub started_by: UserId,
    /// The W3C traceparent of the request that started it; may be empty.
    pub trace_context: String,
    /// When it was asked for.
    pub created_at: OffsetDateTime,
    /// When its first stage began.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
    /// The execution that it is a stage of.
    pub parent: Option<ExecutionId>,
    /// The execution that it was retried, forked or restarted from.
    pub source: Option<ExecutionId>,
    /// How many executions it runs within.
    pub depth: u32,
}

impl Summary {
    /// As this user sees it.
    fn seen_by(mut self, access: &Access) -> Self {
        for ask in &mut self.waiting {
            ask.see(access);
        }
        self
    }
}

/// Somebody asked to begin nothing new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Who; nobody where the service did.
    pub by: Option<UserId>,
    /// Why; may be empty.
    pub reason: String,
    /// When.
    pub at: OffsetDateTime,
}

/// An execution with its inputs and outputs.
#[derive(Clone, Debug)]
pub struct Execution {
    /// All but inputs and outputs.
    pub summary: Summary,
    /// What it was started with.
    pub inputs: Map<String, Value>,
    /// The last stage's output under the stage's name; empty until it is completed.
    pub outputs: Map<String, Value>,
    /// How many more its company may start this month; where it has just been started.
    pub remaining: Option<i64>,
}

impl Execution {
    fn seen_by(self, access: &Access) -> Self {
        Self {
            summary: self.summary.seen_by(access),
            ..self
        }
    }
}

/// Which executions to list.
#[derive(Clone, Debug, Serialize)]
pub struct Filter {
    /// The studio.
    pub studio: StudioId,
    /// Only with one of these statuses, in order; all where it is empty.
    pub statuses: Vec<Status>,
    /// Only of this workflow.
    pub workflow: Option<WorkflowId>,
    /// Only of this template.
    pub template: Option<TemplateId>,
    /// Only started at or after this time.
    pub from: Option<OffsetDateTime>,
    /// Only started before this time.
    pub before: Option<OffsetDateTime>,
}

/// Reads executions, those of many callers in one statement.
pub type Gathered = Gatherer<ExecutionId, store::Row>;

/// Gathers what is read one by one.
pub fn gather(pool: PgPool, lifecycle: Lifecycle) -> Gathered {
    let kind = Kind {
        name: "executions.get",
        reads: true,
        statement: store::gathered,
    };
    Gatherer::new(pool, lifecycle, kind, Bounds::default())
}

/// Reads an execution.
pub async fn get(app: &App, caller: &Caller, id: ExecutionId) -> Result<Execution> {
    let access = enter(app, caller, id).await?;
    read(app, &access, id).await
}

/// Lists a studio's executions, newest first.
pub async fn list(app: &App, caller: &Caller, filter: &Filter, page: &Page<ExecutionId>) -> Result<Vec<Summary>> {
    let access = app.core.check_studio(caller.user, filter.studio).await?;
    let mut tx = TenantTx::begin(&app.pool, "executions.list", &access.claims).await?;
    let listed = store::list(&mut tx, filter, page).await?;
    Ok(listed.into_iter().map(|it| it.seen_by(&access)).collect())
}

/// What the caller may do where an execution is; NOT_FOUND of the execution where he may not see that place.
pub(crate) async fn enter(app: &App, caller: &Caller, id: ExecutionId) -> Result<Access> {
    let look_up = db::with(&app.pool, async |connection| store::locate(connection, id).await);
    let studio = app.places.executions.find(id, look_up).await?;
    let studio = studio.ok_or_else(|| not_found(id))?;
    app.core
        .check_studio(caller.user, studio)
        .await
        .map_err(hidden_as("execution", id))
}

async fn read(app: &App, access: &Access, id: ExecutionId) -> Result<Execution> {
    let row = app.executions.call(&access.claims, id).await?;
    let execution: Execution = row.ok_or_else(|| not_found(id))?.try_into()?;
    Ok(execution.seen_by(access))
}

/// The execution as the transaction sees it.
pub(crate) async fn read_in(tx: &mut PgConnection, access: &Access, id: ExecutionId) -> Result<Execution> {
    let execution = store::get(tx, id).await?.ok_or_else(|| not_found(id))?;
    Ok(execution.seen_by(access))
}

fn not_found(id: ExecutionId) -> Error {
    Error::not_found("execution", id)
}
