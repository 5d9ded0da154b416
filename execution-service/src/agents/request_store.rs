//! SQL of what is asked of sessions, and of what that proposes.

use std::time::Duration;

use service_kit::{
    error::{Error, Result},
    ids::{AgentRequestId, AgentSessionId, CompanyId, DocumentId, ExecutionId, FileId, StudioId},
    page::Page,
};
use sqlx::{PgConnection, postgres::types::PgInterval, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Decision, Kind, Proposal, Rating, Request, Results, Status, Usage, asking, settling::Settled};

struct Row {
    id: AgentRequestId,
    session: AgentSessionId,
    number: i32,
    kind: String,
    content: String,
    document_ids: Vec<Uuid>,
    execution: ExecutionId,
    attempts: i16,
    folded: Vec<i32>,
    status: String,
    results: Option<Json<Results>>,
    failure_class: Option<String>,
    failure_message: String,
    input_tokens: i64,
    output_tokens: i64,
    cost_micros: i64,
    feedback: Option<String>,
    feedback_note: String,
    started_at: OffsetDateTime,
    created_at: OffsetDateTime,
    ended_at: Option<OffsetDateTime>,
    title: Option<String>,
    document: Option<DocumentId>,
    base: Option<Vec<u8>>,
    diff: Option<String>,
    text: Option<String>,
    decision: Option<String>,
    made: Option<DocumentId>,
    file: Option<FileId>,
    file_version: Option<i32>,
    decided_at: Option<OffsetDateTime>,
}

impl TryFrom<Row> for Request {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let proposal = row.title.map(|title| Proposal {
            document: row.document,
            title,
            base: row.base,
            diff: row.diff.unwrap_or_default(),
            text: row.text.unwrap_or_default(),
            decision: row.decision.as_deref().map(|it| match it {
                "accepted" => Decision::Accepted,
                "rejected" => Decision::Rejected,
                _ => Decision::Accepting,
            }),
            made: row.made,
            file: row.file.zip(row.file_version),
            decided_at: row.decided_at,
        });
        let status = match row.status.as_str() {
            "open" => Status::Pending,
            "completed" => Status::Completed,
            "failed" => Status::Failed,
            "cancelled" => Status::Cancelled,
            _ => return Err(unreadable()),
        };
        let rating = row.feedback.as_deref().map(|it| match it {
            "up" => Rating::Up,
            _ => Rating::Down,
        });
        let kind = Kind::ALL.into_iter().find(|it| it.as_str() == row.kind);
        Ok(Self {
            id: row.id,
            session: row.session,
            number: row.number,
            kind: kind.ok_or_else(unreadable)?,
            content: row.content,
            documents: row.document_ids.into_iter().map(DocumentId::from).collect(),
            status,
            stage: String::new(),
            folded: row.folded,
            results: row.results.map(|it| it.0),
            proposal,
            failure: row.failure_class.map(|it| (it, row.failure_message)),
            usage: Usage {
                input_tokens: row.input_tokens,
                output_tokens: row.output_tokens,
                cost_micros: row.cost_micros,
            },
            feedback: rating.map(|it| (it, row.feedback_note)),
            execution: row.execution,
            attempts: row.attempts,
            started_at: row.started_at,
            created_at: row.created_at,
            ended_at: row.ended_at,
        })
    }
}

/// The studio of a request, before the caller's place there is known.
pub(super) async fn locate(connection: &mut PgConnection, id: AgentRequestId) -> sqlx::Result<Option<StudioId>> {
    let studio = sqlx::query_scalar!(
        r#"select studio_id as "studio_id!: StudioId" from execution.locate_agent_request($1)"#,
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(studio)
}

pub(super) async fn insert(
    tx: &mut PgConnection,
    company: CompanyId,
    id: AgentRequestId,
    number: i32,
    new: &asking::New,
    execution: ExecutionId,
    folded: &[i32],
) -> Result<()> {
    let documents: Vec<_> = new.documents.iter().map(|it| it.as_uuid()).collect();
    sqlx::query!(
        "insert into execution.agent_requests
             (id, company_id, session_id, number, kind, content, document_ids, execution_id, folded)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        id.as_uuid(),
        company.as_uuid(),
        new.session.as_uuid(),
        number,
        new.kind.as_str(),
        new.content,
        &documents,
        execution.as_uuid(),
        folded,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A request of the caller's with what it proposes.
pub(super) async fn get(tx: &mut PgConnection, id: AgentRequestId) -> Result<Option<Request>> {
    let row = sqlx::query_as!(
        Row,
        r#"select r.id as "id: AgentRequestId", r.session_id as "session: AgentSessionId", r.number, r.kind, r.content,
               r.document_ids, r.execution_id as "execution: ExecutionId", r.attempts, r.folded, r.status,
               r.results as "results: Json<Results>", r.failure_class, r.failure_message, r.input_tokens, r.output_tokens,
               r.cost_micros, r.feedback, r.feedback_note, r.started_at, r.created_at, r.ended_at, p.title as "title?",
               p.document_id as "document?: DocumentId", p.base as "base?", p.diff as "diff?", p.text as "text?",
               p.decision as "decision?", p.made_document_id as "made?: DocumentId", p.file_id as "file?: FileId",
               p.file_version as "file_version?", p.decided_at as "decided_at?"
           from execution.agent_requests r
               left join execution.agent_proposals p on p.company_id = r.company_id and p.request_id = r.id
           where r.id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    row.map(Request::try_from).transpose()
}

/// A session's requests, newest first.
pub(super) async fn list(tx: &mut PgConnection, session: AgentSessionId, page: &Page<i32>) -> Result<Vec<Request>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select r.id as "id: AgentRequestId", r.session_id as "session: AgentSessionId", r.number, r.kind, r.content,
               r.document_ids, r.execution_id as "execution: ExecutionId", r.attempts, r.folded, r.status,
               r.results as "results: Json<Results>", r.failure_class, r.failure_message, r.input_tokens, r.output_tokens,
               r.cost_micros, r.feedback, r.feedback_note, r.started_at, r.created_at, r.ended_at, p.title as "title?",
               p.document_id as "document?: DocumentId", p.base as "base?", p.diff as "diff?", p.text as "text?",
               p.decision as "decision?", p.made_document_id as "made?: DocumentId", p.file_id as "file?: FileId",
               p.file_version as "file_version?", p.decided_at as "decided_at?"
           from execution.agent_requests r
               left join execution.agent_proposals p on p.company_id = r.company_id and p.request_id = r.id
           where r.company_id = (select execution.caller_company()) and r.session_id = $1 and ($2::int is null or r.number < $2)
           order by r.number desc
           limit $3"#,
        session.as_uuid(),
        page.after,
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(Request::try_from).collect()
}

/// An open request.
pub(super) struct Open {
    pub id: AgentRequestId,
    pub execution: ExecutionId,
}

/// The open request of a session.
pub(super) async fn open(tx: &mut PgConnection, session: AgentSessionId) -> Result<Option<Open>> {
    let open = sqlx::query_as!(
        Open,
        r#"select id as "id: AgentRequestId", execution_id as "execution: ExecutionId" from execution.agent_requests
           where company_id = (select execution.caller_company()) and session_id = $1 and status = 'open'"#,
        session.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(open)
}

/// A completed request as the conversation has it.
pub(super) struct Told {
    pub number: i32,
    pub kind: String,
    pub content: String,
    pub answer: String,
}

impl Told {
    /// What a model is shown of it.
    pub(super) fn text(&self) -> String {
        format!("User ({}): {}\n\nAssistant: {}", self.kind, self.content, self.answer)
    }
}

/// The completed requests of a session after one of them.
pub(super) async fn turns(tx: &mut PgConnection, session: AgentSessionId, after: i32) -> Result<Vec<Told>> {
    let told = sqlx::query_as!(
        Told,
        r#"select number, kind, content, coalesce(results ->> 'text', '') as "answer!" from execution.agent_requests
           where company_id = (select execution.caller_company()) and session_id = $1 and number > $2 and status = 'completed'
           order by number"#,
        session.as_uuid(),
        after,
    )
    .fetch_all(tx)
    .await?;
    Ok(told)
}

/// Whether a request's last attempt was begun longer ago.
pub(super) async fn is_older(tx: &mut PgConnection, id: AgentRequestId, than: Duration) -> Result<bool> {
    let than = PgInterval::try_from(than).map_err(Error::internal)?;
    let is_older = sqlx::query_scalar!(
        r#"select started_at < now() - $2::interval as "is_older!" from execution.agent_requests where id = $1"#,
        id.as_uuid(),
        than,
    )
    .fetch_optional(tx)
    .await?;
    Ok(is_older.unwrap_or_default())
}

/// Begins a request again that came to nothing, with another execution.
pub(super) async fn begin_again(
    tx: &mut PgConnection,
    id: AgentRequestId,
    execution: ExecutionId,
    folded: &[i32],
) -> Result<()> {
    sqlx::query!(
        "update execution.agent_requests
         set status = 'open', execution_id = $2, folded = $3, attempts = attempts + 1, failure_class = null, failure_message = '',
             started_at = now(), ended_at = null
         where id = $1",
        id.as_uuid(),
        execution.as_uuid(),
        folded,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Puts a request back as it was before it was begun again with an execution that was refused.
pub(super) async fn give_up_again(tx: &mut PgConnection, before: &Request, refused: ExecutionId) -> Result<()> {
    let failure = before.failure.as_ref();
    sqlx::query!(
        "update execution.agent_requests
         set status = $3, execution_id = $4, folded = $5, attempts = $6, failure_class = $7, failure_message = $8,
             started_at = $9, ended_at = $10
         where id = $1 and execution_id = $2",
        before.id.as_uuid(),
        refused.as_uuid(),
        before.status.as_str(),
        before.execution.as_uuid(),
        &before.folded,
        before.attempts,
        failure.map(|it| it.0.as_str()),
        failure.map_or("", |it| it.1.as_str()),
        before.started_at,
        before.ended_at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Forgets a request whose execution was refused.
pub(super) async fn delete(tx: &mut PgConnection, id: AgentRequestId) -> Result<()> {
    sqlx::query!("delete from execution.agent_requests where id = $1", id.as_uuid())
        .execute(tx)
        .await?;
    Ok(())
}

/// Puts down what came of a request, once; nothing where it was put down already, or begun again since.
pub(super) async fn settle(
    tx: &mut PgConnection,
    company: CompanyId,
    request: &Request,
    settled: &Settled,
) -> Result<()> {
    let failure = settled.failure.as_ref();
    let done = sqlx::query!(
        "update execution.agent_requests
         set status = $3, results = $4, failure_class = $5, failure_message = $6, input_tokens = input_tokens + $7,
             output_tokens = output_tokens + $8, cost_micros = cost_micros + $9, ended_at = coalesce($10, now())
         where id = $1 and execution_id = $2 and status = 'open'",
        request.id.as_uuid(),
        request.execution.as_uuid(),
        settled.status.as_str(),
        settled.results.as_ref().map(Json) as _,
        failure.map(|it| it.0),
        failure.map_or("", |it| it.1.as_str()),
        settled.usage.input_tokens,
        settled.usage.output_tokens,
        settled.usage.cost_micros,
        settled.at,
    )
    .execute(&mut *tx)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(());
    }
    for (through, text) in &settled.summaries {
        sqlx::query!(
            "insert into execution.agent_summaries (company_id, session_id, through, text) values ($1, $2, $3, $4)
             on conflict do nothing",
            company.as_uuid(),
            request.session.as_uuid(),
            through,
            text,
        )
        .execute(&mut *tx)
        .await?;
    }
    sqlx::query!(
        "update execution.agent_sessions set scale = $2 where id = $1",
        request.session.as_uuid(),
        i32::try_from(settled.scale.thousandths()).unwrap_or(i32::MAX),
    )
    .execute(&mut *tx)
    .await?;
    if let Some(proposal) = &settled.proposal {
        sqlx::query!(
            "insert into execution.agent_proposals (company_id, request_id, document_id, title, base, diff, text)
             values ($1, $2, $3, $4, $5, $6, $7)",
            company.as_uuid(),
            request.id.as_uuid(),
            proposal.document.map(DocumentId::as_uuid),
            proposal.title,
            proposal.base,
            proposal.diff,
            proposal.text,
        )
        .execute(tx)
        .await?;
    }
    Ok(())
}

/// Keeps what is said of a request, or that nothing is; whether there is one.
pub(super) async fn set_feedback(
    tx: &mut PgConnection,
    id: AgentRequestId,
    said: Option<(Rating, &str)>,
) -> Result<bool> {
    let done = sqlx::query!(
        "update execution.agent_requests set feedback = $2, feedback_note = $3 where id = $1",
        id.as_uuid(),
        said.map(|it| it.0.as_str()),
        said.map_or("", |it| it.1),
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Waits for its turn to decide a proposal; whether there is one.
pub(super) async fn lock_proposal(tx: &mut PgConnection, id: AgentRequestId) -> Result<bool> {
    let found = sqlx::query_scalar!(
        "select request_id from execution.agent_proposals
         where company_id = (select execution.caller_company()) and request_id = $1 for update",
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(found.is_some())
}

/// Notes what is decided of a proposal, or that nothing is yet.
pub(super) async fn decide(
    tx: &mut PgConnection,
    id: AgentRequestId,
    decision: Option<Decision>,
    made: Option<DocumentId>,
) -> Result<()> {
    let decision = decision.map(|it| match it {
        Decision::Accepting => "accepting",
        Decision::Accepted => "accepted",
        Decision::Rejected => "rejected",
    });
    sqlx::query!(
        "update execution.agent_proposals
         set decision = $2, made_document_id = $3, decided_at = case when $2 in ('accepted', 'rejected') then now() end
         where company_id = (select execution.caller_company()) and request_id = $1",
        id.as_uuid(),
        decision,
        made.map(DocumentId::as_uuid),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes the version of a file that accepting a proposal has made.
pub(super) async fn note_file(tx: &mut PgConnection, id: AgentRequestId, (file, version): (FileId, i32)) -> Result<()> {
    sqlx::query!(
        "update execution.agent_proposals set file_id = $2, file_version = $3
         where company_id = (select execution.caller_company()) and request_id = $1",
        id.as_uuid(),
        file.as_uuid(),
        version,
    )
    .execute(tx)
    .await?;
    Ok(())
}

fn unreadable() -> Error {
    Error::internal("a request of an agent cannot be read")
}
