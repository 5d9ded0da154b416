//! Agent sessions: conversations that work on a studio's documents and remember.
//!
//! A request runs as an execution of its session's private workflow, so leases, takeover, cancelling, watching and what a company may
//! use hold for it as for any run. What always holds: one request of a session is open at a time, so the conversation stands still
//! while one runs; what came of a request is taken from its execution once that has ended, by whoever looks first, and is the
//! same whoever that is; nothing of the studio changes until a member accepts it, and then in his name.
//!
//! [`window`] decides what a model is shown, [`edit`] what a change is proposed as, `citing` which citations count; they are pure.

mod api;
mod asking;
mod citing;
mod convert;
pub mod edit;
mod export;
pub(crate) mod prompt;
mod proposing;
mod request_store;
mod settling;
mod store;
mod watch;
pub mod window;

use serde::{Deserialize, Serialize};
use service_kit::{
    audit::About,
    auth::Caller,
    db::{self, TenantTx},
    error::{Error, Result},
    ids::{
        AgentRequestId, AgentSessionId, ChunkId, CompanyId, DocumentId, ExecutionId, FileId, StudioId, UserId,
        WorkflowId,
    },
    page::Page,
    update,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

pub use api::Api;

use crate::{
    App,
    access::{Access, hidden_as},
    executions, requests, workflows,
};

/// A session.
#[derive(Clone, Debug)]
struct Session {
    id: AgentSessionId,
    company: CompanyId,
    studio: StudioId,
    owner: UserId,
    title: String,
    model: String,
    scale: window::Scale,
    requests: i32,
    /// What stands for its oldest requests, and the last one that it covers.
    summary: Option<(i32, String)>,
    revision: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl Session {
    /// The workflow that its requests run.
    fn workflow(&self) -> WorkflowId {
        WorkflowId::from(self.id.as_uuid())
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Kind {
    Create,
    Edit,
    Research,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Create, Self::Edit, Self::Research];

    /// As the database writes it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Edit => "edit",
            Self::Research => "research",
        }
    }
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Pending,
    Processing,
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    /// As the database writes it; what is open it does not tell apart.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pending | Self::Processing => "open",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Processing)
    }
}

/// What came of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Results {
    text: String,
    /// Whether it proposes something; of create and edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proposed: Option<bool>,
    /// Of research.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    citations: Option<Vec<Citation>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dropped_citations: Option<Vec<u32>>,
}

/// A passage that an answer cites.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Citation {
    number: u32,
    document_id: DocumentId,
    chunk_id: ChunkId,
    document_title: String,
    section: String,
    page: Option<u32>,
    content: String,
}

/// What a request proposes.
#[derive(Clone, Debug)]
struct Proposal {
    /// None of a new document.
    document: Option<DocumentId>,
    title: String,
    /// The hash of the text that it is made of.
    base: Option<Vec<u8>>,
    diff: String,
    text: String,
    decision: Option<Decision>,
    made: Option<DocumentId>,
    /// Of a change, the file whose version it is.
    file: Option<(FileId, i32)>,
    decided_at: Option<OffsetDateTime>,
}

/// What was decided of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// Somebody is about to accept it.
    Accepting,
    Accepted,
    Rejected,
}

/// Tokens and money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    input_tokens: i64,
    output_tokens: i64,
    cost_micros: i64,
}

/// Whether an answer was of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rating {
    Up,
    Down,
}

impl Rating {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What is asked of a session.
#[derive(Clone, Debug)]
struct Request {
    id: AgentRequestId,
    session: AgentSessionId,
    number: i32,
    kind: Kind,
    content: String,
    documents: Vec<DocumentId>,
    status: Status,
    /// The stage that its execution is at; empty where it is at none.
    stage: String,
    /// For each summary that it makes first, the last request that this covers.
    folded: Vec<i32>,
    results: Option<Results>,
    proposal: Option<Proposal>,
    failure: Option<(String, String)>,
    usage: Usage,
    feedback: Option<(Rating, String)>,
    execution: ExecutionId,
    attempts: i16,
    started_at: OffsetDateTime,
    created_at: OffsetDateTime,
    ended_at: Option<OffsetDateTime>,
}

impl Request {
    /// How far it is: in the middle of the stage that it is at.
    fn progress(&self) -> f64 {
        match self.status {
            Status::Pending | Status::Failed | Status::Cancelled => 0.0,
            Status::Processing => prompt::progress(&self.stage, self.folded.len()),
            Status::Completed => 1.0,
        }
    }
}

/// A session to be begun.
#[derive(Clone, Debug)]
struct New {
    studio: StudioId,
    title: String,
    model: String,
}

/// Begins a session.
async fn create(app: &App, caller: &Caller, new: &New, key: Option<&requests::Key>) -> Result<Session> {
    let access = app.core.check_studio(caller.user, new.studio).await?;
    let mut tx = TenantTx::begin(&app.pool, "agents.create", &access.claims).await?;
    let id = AgentSessionId::generate();
    if let Some(first) = requests::claim(&mut tx, key, id).await? {
        return read(&mut tx, first).await;
    }
    if store::context_length(&mut tx, &new.model).await?.is_none() {
        return Err(Error::invalid("model", "must be the name of an enabled model"));
    }
    let workflow = WorkflowId::from(id.as_uuid());
    workflows::insert_private(&mut tx, workflow, access.company, new.studio, caller.user).await?;
    store::insert(&mut tx, id, access.company, caller.user, new).await?;
    app.audit
        .record(&mut tx, About::company(access.company, "agent_session", id))
        .await?;
    let session = read(&mut tx, id).await?;
    tx.commit().await?;
    Ok(session)
}

/// Reads a session.
async fn get(app: &App, caller: &Caller, id: AgentSessionId) -> Result<Session> {
    let access = enter(app, caller, id).await?;
    settling::settle_open(app, &access, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "agents.get", &access.claims).await?;
    read(&mut tx, id).await
}

/// Lists the caller's sessions in a studio, newest first.
async fn list(app: &App, caller: &Caller, studio: StudioId, page: &Page<AgentSessionId>) -> Result<Vec<Session>> {
    let access = app.core.check_studio(caller.user, studio).await?;
    let mut tx = TenantTx::begin(&app.pool, "agents.list", &access.claims).await?;
    store::list(&mut tx, page).await
}

/// Calls a session otherwise.
async fn rename(app: &App, caller: &Caller, id: AgentSessionId, etag: &str, title: Option<&str>) -> Result<Session> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "agents.rename", &access.claims).await?;
    let found = lock(&mut tx, id).await?;
    update::check_etag(etag, found.revision)?;
    let Some(title) = title.filter(|it| *it != found.title) else {
        return Ok(found);
    };
    store::set_title(&mut tx, id, title).await?;
    app.audit
        .record(&mut tx, About::company(access.company, "agent_session", id))
        .await?;
    let session = read(&mut tx, id).await?;
    tx.commit().await?;
    Ok(session)
}

/// Deletes a session; what it ran is erased by and by.
async fn delete(app: &App, caller: &Caller, id: AgentSessionId) -> Result<()> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "agents.delete", &access.claims).await?;
    let open = request_store::open(&mut tx, id).await?;
    drop(tx);
    if let Some(open) = open {
        match executions::cancel_owned(app, &access, open.execution).await {
            Ok(())
            | Err(
                Error::NotFound { .. }
                | Error::FailedPrecondition {
                    reason: "EXECUTION_ENDED",
                    ..
                },
            ) => {}
            Err(error) => return Err(error),
        }
    }
    let mut tx = TenantTx::begin(&app.pool, "agents.delete", &access.claims).await?;
    let found = lock(&mut tx, id).await?;
    store::delete(&mut tx, id).await?;
    workflows::give_up_private(&mut tx, found.workflow()).await?;
    app.audit
        .record(&mut tx, About::company(access.company, "agent_session", id))
        .await?;
    tx.commit().await
}

/// Reads a request.
async fn get_request(app: &App, caller: &Caller, id: AgentRequestId) -> Result<Request> {
    let access = enter_request(app, caller, id).await?;
    settled(app, &access, id).await
}

/// Lists a session's requests, newest first.
async fn list_requests(app: &App, caller: &Caller, id: AgentSessionId, page: &Page<i32>) -> Result<Vec<Request>> {
    let access = enter(app, caller, id).await?;
    settling::settle_open(app, &access, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "agents.list_requests", &access.claims).await?;
    read(&mut tx, id).await?;
    let mut listed = request_store::list(&mut tx, id, page).await?;
    for request in listed.iter_mut().filter(|it| it.status.is_open()) {
        place(&mut tx, request).await?;
    }
    Ok(listed)
}

/// Stops a request.
async fn cancel(app: &App, caller: &Caller, id: AgentRequestId) -> Result<Request> {
    let access = enter_request(app, caller, id).await?;
    let request = settled(app, &access, id).await?;
    if !request.status.is_open() {
        return Err(request_ended());
    }
    match executions::cancel_owned(app, &access, request.execution).await {
        Ok(()) => settled(app, &access, id).await,
        Err(Error::FailedPrecondition {
            reason: "EXECUTION_ENDED",
            ..
        }) => Err(request_ended()),
        Err(error) => Err(error),
    }
}

/// Keeps what somebody says of an answer.
async fn rate(app: &App, caller: &Caller, id: AgentRequestId, said: Option<(Rating, &str)>) -> Result<Request> {
    let access = enter_request(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "agents.rate", &access.claims).await?;
    if !request_store::set_feedback(&mut tx, id, said).await? {
        return Err(request_not_found(id));
    }
    app.audit
        .record(&mut tx, About::company(access.company, "agent_request", id))
        .await?;
    tx.commit().await?;
    settled(app, &access, id).await
}

/// What the caller may do where a session is; NOT_FOUND of the session where he may not see that place.
async fn enter(app: &App, caller: &Caller, id: AgentSessionId) -> Result<Access> {
    let studio = db::with(&app.pool, async |connection| store::locate(connection, id).await).await?;
    let studio = studio.ok_or_else(|| not_found(id))?;
    let access = app.core.check_studio(caller.user, studio).await;
    access.map_err(hidden_as("agent_session", id))
}

async fn enter_request(app: &App, caller: &Caller, id: AgentRequestId) -> Result<Access> {
    let studio = db::with(&app.pool, async |connection| {
        request_store::locate(connection, id).await
    });
    let studio = studio.await?.ok_or_else(|| request_not_found(id))?;
    let access = app.core.check_studio(caller.user, studio).await;
    access.map_err(hidden_as("agent_request", id))
}

async fn read(tx: &mut PgConnection, id: AgentSessionId) -> Result<Session> {
    store::get(tx, id).await?.ok_or_else(|| not_found(id))
}

/// The session, which nobody else changes until the transaction ends.
async fn lock(tx: &mut PgConnection, id: AgentSessionId) -> Result<Session> {
    if !store::lock(tx, id).await? {
        return Err(not_found(id));
    }
    read(tx, id).await
}

/// The request as it stands, with what came of it if it has ended.
async fn settled(app: &App, access: &Access, id: AgentRequestId) -> Result<Request> {
    settling::settle(app, access, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "agents.get_request", &access.claims).await?;
    read_request(&mut tx, id).await
}

async fn read_request(tx: &mut PgConnection, id: AgentRequestId) -> Result<Request> {
    let found = request_store::get(tx, id).await?;
    let mut request = found.ok_or_else(|| request_not_found(id))?;
    if request.status.is_open() {
        place(tx, &mut request).await?;
    }
    Ok(request)
}

/// Says where the execution of an open request is.
async fn place(tx: &mut PgConnection, request: &mut Request) -> Result<()> {
    let Some(stood) = executions::stood(tx, request.execution).await? else {
        return Ok(());
    };
    if stood.status != executions::Status::Pending {
        request.status = Status::Processing;
    }
    request.stage = stood.stage;
    Ok(())
}

fn not_found(id: AgentSessionId) -> Error {
    Error::not_found("agent_session", id)
}

fn request_not_found(id: AgentRequestId) -> Error {
    Error::not_found("agent_request", id)
}

fn request_ended() -> Error {
    Error::FailedPrecondition {
        reason: "REQUEST_ENDED",
        message: "the request has ended".into(),
    }
}
