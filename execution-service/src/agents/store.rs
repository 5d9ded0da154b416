//! SQL of the sessions.

use service_kit::{
    error::Result,
    ids::{AgentSessionId, CompanyId, StudioId, UserId},
    page::Page,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{New, Session, window::Scale};

struct Row {
    id: AgentSessionId,
    company: CompanyId,
    studio: StudioId,
    owner: UserId,
    title: String,
    model: String,
    scale: i32,
    requests: i32,
    summary: Option<Json<(i32, String)>>,
    revision: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<Row> for Session {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            company: row.company,
            studio: row.studio,
            owner: row.owner,
            title: row.title,
            model: row.model,
            scale: Scale::from_thousandths(u32::try_from(row.scale).unwrap_or_default()),
            requests: row.requests,
            summary: row.summary.map(|it| it.0),
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// The studio of a session, before the caller's place there is known.
pub(super) async fn locate(connection: &mut PgConnection, id: AgentSessionId) -> sqlx::Result<Option<StudioId>> {
    let studio = sqlx::query_scalar!(
        r#"select studio_id as "studio_id!: StudioId" from execution.locate_agent_session($1)"#,
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(studio)
}

/// The context length of the model of this name that the transaction's company calls.
pub(super) async fn context_length(tx: &mut PgConnection, model: &str) -> Result<Option<u32>> {
    let length = sqlx::query_scalar!(
        "select context_length from execution.models
         where enabled and name = $1 and (company_id is null or company_id = (select execution.caller_company()))
         order by company_id nulls last
         limit 1",
        model,
    )
    .fetch_optional(tx)
    .await?;
    Ok(length.and_then(|it| u32::try_from(it).ok()))
}

/// Makes a session, whose workflow is there.
pub(super) async fn insert(
    tx: &mut PgConnection,
    id: AgentSessionId,
    company: CompanyId,
    owner: UserId,
    new: &New,
) -> Result<()> {
    sqlx::query!(
        "insert into execution.agent_sessions (id, company_id, studio_id, owner_id, title, model)
         values ($1, $2, $3, $4, $5, $6)",
        id.as_uuid(),
        company.as_uuid(),
        new.studio.as_uuid(),
        owner.as_uuid(),
        new.title,
        new.model,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A session of the caller's.
pub(super) async fn get(tx: &mut PgConnection, id: AgentSessionId) -> Result<Option<Session>> {
    let row = sqlx::query_as!(
        Row,
        r#"select s.id as "id: AgentSessionId", s.company_id as "company: CompanyId", s.studio_id as "studio: StudioId",
               s.owner_id as "owner: UserId", s.title, s.model, s.scale, s.requests,
               (select jsonb_build_array(m.through, m.text) from execution.agent_summaries m
                where m.company_id = s.company_id and m.session_id = s.id
                order by m.through desc limit 1) as "summary: Json<(i32, String)>",
               s.revision, s.created_at, s.updated_at
           from execution.agent_sessions s
           where s.id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Session::from))
}

/// The caller's sessions in his studio, newest first, without their summaries.
pub(super) async fn list(tx: &mut PgConnection, page: &Page<AgentSessionId>) -> Result<Vec<Session>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select s.id as "id: AgentSessionId", s.company_id as "company: CompanyId", s.studio_id as "studio: StudioId",
               s.owner_id as "owner: UserId", s.title, s.model, s.scale, s.requests,
               null::jsonb as "summary: Json<(i32, String)>", s.revision, s.created_at, s.updated_at
           from execution.agent_sessions s
           where s.company_id = (select execution.caller_company()) and s.studio_id = (select execution.caller_studio())
               and s.owner_id = (select execution.caller_id()) and ($1::uuid is null or s.id < $1)
           order by s.id desc
           limit $2"#,
        page.after.map(AgentSessionId::as_uuid),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Session::from).collect())
}

/// Waits for its turn to change a session of the caller's; whether there is one.
pub(super) async fn lock(tx: &mut PgConnection, id: AgentSessionId) -> Result<bool> {
    let found = sqlx::query_scalar!(
        "select id from execution.agent_sessions where id = $1 for update",
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(found.is_some())
}

pub(super) async fn set_title(tx: &mut PgConnection, id: AgentSessionId, title: &str) -> Result<()> {
    sqlx::query!(
        "update execution.agent_sessions set title = $2 where id = $1",
        id.as_uuid(),
        title,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes how many requests a locked session has.
pub(super) async fn count_request(tx: &mut PgConnection, id: AgentSessionId, requests: i32) -> Result<()> {
    sqlx::query!(
        "update execution.agent_sessions set requests = $2 where id = $1",
        id.as_uuid(),
        requests,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn delete(tx: &mut PgConnection, id: AgentSessionId) -> Result<()> {
    sqlx::query!("delete from execution.agent_sessions where id = $1", id.as_uuid())
        .execute(tx)
        .await?;
    Ok(())
}
