//! SQL that reads plans as they stand, one or many alike, and their attempts.

use service_kit::{
    error::{Error, Result},
    ids::{CompanyId, PlanId, StudioId, UserId},
    page::Page,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{
    Attempt, AttemptPlace, Filter, Level, Origin, Progress, Standing, Style, Summary, Visibility, WeeklyHours,
    generating::Metadata,
    wish::{Bounded, Means, Wish},
};

struct Row {
    id: PlanId,
    company: CompanyId,
    studio: StudioId,
    owner: UserId,
    origin: String,
    visibility: String,
    version: i32,
    newest_version: i32,
    topic: String,
    topic_truncated: bool,
    topic_length: i32,
    notes: String,
    notes_truncated: bool,
    notes_length: i32,
    level: String,
    weekly_hours: i16,
    style: String,
    use_documents: bool,
    model: String,
    fallback_model: String,
    generated: bool,
    successes: i32,
    failures: i32,
    running: bool,
    failed: Option<String>,
    tasks: i32,
    done: i32,
    revision: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl TryFrom<Row> for Summary {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let standing = Standing {
            generated: row.generated,
            successes: count(row.successes),
            failures: count(row.failures),
            running: row.running,
        };
        Ok(Self {
            id: row.id,
            company: row.company,
            studio: row.studio,
            owner: row.owner,
            origin: one_of(&Origin::ALL, Origin::as_str, &row.origin)?,
            visibility: one_of(&Visibility::ALL, Visibility::as_str, &row.visibility)?,
            version: row.version,
            newest_version: row.newest_version,
            wish: wish(WishRow {
                topic: (row.topic, row.topic_truncated, row.topic_length),
                notes: (row.notes, row.notes_truncated, row.notes_length),
                level: row.level,
                weekly_hours: row.weekly_hours,
                style: row.style,
            })?,
            means: Means {
                use_documents: row.use_documents,
                model: row.model,
                fallback_model: row.fallback_model,
            },
            standing,
            failed: row.failed.filter(|_| !standing.running && standing.successes == 0),
            progress: Progress {
                tasks: row.tasks,
                done: row.done,
            },
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// A wish as a version holds it.
pub(super) struct WishRow {
    /// The text, whether it was cut, and how long it was.
    pub topic: (String, bool, i32),
    pub notes: (String, bool, i32),
    pub level: String,
    pub weekly_hours: i16,
    pub style: String,
}

/// The wish that a version holds.
pub(super) fn wish(row: WishRow) -> Result<Wish> {
    let bounded = |(text, truncated, length): (String, bool, i32)| Bounded {
        text,
        truncated,
        original_length: usize::try_from(length).unwrap_or_default(),
    };
    let hours = u32::try_from(row.weekly_hours).ok().and_then(WeeklyHours::new);
    Ok(Wish {
        topic: bounded(row.topic),
        notes: bounded(row.notes),
        level: one_of(&Level::ALL, Level::as_str, &row.level)?,
        weekly_hours: hours.ok_or_else(unreadable)?,
        style: one_of(&Style::ALL, Style::as_str, &row.style)?,
    })
}

/// A version of a plan that the caller sees; 0 is the newest.
pub(super) async fn get(tx: &mut PgConnection, id: PlanId, version: i32) -> Result<Option<Summary>> {
    let row = sqlx::query_as!(
        Row,
        r#"select p.id as "id: PlanId", p.company_id as "company: CompanyId", p.studio_id as "studio: StudioId",
               p.owner_id as "owner: UserId", p.origin, p.visibility, v.version, p.version as newest_version,
               v.topic, v.topic_truncated, v.topic_length, v.notes, v.notes_truncated, v.notes_length, v.level, v.weekly_hours,
               v.style, v.use_documents, v.model, v.fallback_model,
               s.generated as "generated!", s.successes as "successes!", s.failures as "failures!", s.running as "running!",
               (select a.correlation_id from execution.plan_attempts a
                where a.company_id = p.company_id and a.plan_id = p.id and a.version = v.version and a.status = 'failure'
                order by a.number desc limit 1) as failed,
               t.tasks as "tasks!", t.done as "done!", p.revision, p.created_at, p.updated_at
           from execution.plans p
               join execution.plan_versions v on v.company_id = p.company_id and v.plan_id = p.id
                   and v.version = case when $2 = 0 then p.version else $2 end
               cross join lateral execution.plan_standing(p.id, v.version) s
               cross join lateral (
                   select count(*)::int as tasks, count(t.done_at)::int as done from execution.plan_tasks t
                   where t.company_id = p.company_id and t.plan_id = p.id and t.version = v.version) t
           where p.company_id = (select execution.caller_company()) and p.id = $1"#,
        id.as_uuid(),
        version,
    )
    .fetch_optional(tx)
    .await?;
    row.map(Summary::try_from).transpose()
}

/// The plans of the caller's studio that he sees, newest first.
pub(super) async fn list(
    tx: &mut PgConnection,
    filter: &Filter,
    owner: Option<UserId>,
    page: &Page<PlanId>,
) -> Result<Vec<Summary>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select p.id as "id: PlanId", p.company_id as "company: CompanyId", p.studio_id as "studio: StudioId",
               p.owner_id as "owner: UserId", p.origin, p.visibility, v.version, p.version as newest_version,
               v.topic, v.topic_truncated, v.topic_length, v.notes, v.notes_truncated, v.notes_length, v.level, v.weekly_hours,
               v.style, v.use_documents, v.model, v.fallback_model,
               s.generated as "generated!", s.successes as "successes!", s.failures as "failures!", s.running as "running!",
               (select a.correlation_id from execution.plan_attempts a
                where a.company_id = p.company_id and a.plan_id = p.id and a.version = v.version and a.status = 'failure'
                order by a.number desc limit 1) as failed,
               t.tasks as "tasks!", t.done as "done!", p.revision, p.created_at, p.updated_at
           from execution.plans p
               join execution.plan_versions v on v.company_id = p.company_id and v.plan_id = p.id and v.version = p.version
               cross join lateral execution.plan_standing(p.id, v.version) s
               cross join lateral (
                   select count(*)::int as tasks, count(t.done_at)::int as done from execution.plan_tasks t
                   where t.company_id = p.company_id and t.plan_id = p.id and t.version = v.version) t
           where p.company_id = (select execution.caller_company()) and p.studio_id = (select execution.caller_studio())
               and ($1::uuid is null or p.owner_id = $1)
               and ($2::text is null or p.origin = $2)
               and ($3::text is null or $3 = case when not s.generated or s.successes > 0 then 'ready'
                   when s.failures >= 3 then 'failed' else 'pending' end)
               and ($4::uuid is null or p.id < $4)
           order by p.id desc
           limit $5"#,
        owner.map(UserId::as_uuid),
        filter.origin.map(Origin::as_str),
        filter.status.map(super::Status::as_str),
        page.after.map(PlanId::as_uuid),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(Summary::try_from).collect()
}

/// The attempts at a plan of the caller's that have ended, the newest first.
pub(super) async fn attempts(tx: &mut PgConnection, id: PlanId, page: &Page<AttemptPlace>) -> Result<Vec<Attempt>> {
    let (version, number) = page.after.unwrap_or((i32::MAX, i16::MAX));
    let rows = sqlx::query!(
        r#"select version, number, classification, reason, model, duration_ms, modules_count, tasks_count, normalized_effort,
               prompt_sha256, correlation_id, metadata as "metadata: Json<Metadata>"
           from execution.plan_attempts
           where company_id = (select execution.caller_company()) and plan_id = $1 and (version, number) < ($2, $3)
           order by version desc, number desc
           limit $4"#,
        id.as_uuid(),
        version,
        number,
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    let attempts = rows.into_iter().map(|row| Attempt {
        version: row.version,
        number: row.number,
        classification: row.classification,
        reason: row.reason,
        model: row.model,
        duration_ms: row.duration_ms,
        modules_count: row.modules_count,
        tasks_count: row.tasks_count,
        normalized_effort: row.normalized_effort,
        prompt_sha256: row.prompt_sha256,
        correlation_id: row.correlation_id,
        metadata: row.metadata.0,
    });
    Ok(attempts.collect())
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

fn one_of<T: Copy>(all: &[T], text: impl Fn(T) -> &'static str, stored: &str) -> Result<T> {
    all.iter()
        .copied()
        .find(|it| text(*it) == stored)
        .ok_or_else(unreadable)
}

fn unreadable() -> Error {
    Error::internal("a plan cannot be read")
}
