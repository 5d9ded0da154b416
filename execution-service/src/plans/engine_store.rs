//! SQL of making attempts, as the engine's role.

use service_kit::{
    error,
    ids::{CompanyId, PlanId, StudioId, UserId},
};
use sqlx::{PgConnection, Result, types::Json};

use super::{
    generating::{Metadata, Outcome, Recorded},
    listing_store::{self, WishRow},
    store,
    wish::{Means, Wish},
};
use crate::worker::spend;

/// An attempt that belongs to the instance.
#[derive(Debug, Clone)]
pub(super) struct Claimed {
    pub company: CompanyId,
    pub plan: PlanId,
    pub version: i32,
    pub attempt: i16,
    pub epoch: i32,
    /// How often it was taken over, or given back while it was being made.
    pub takeovers: i16,
    pub correlation_id: String,
    pub trace_context: String,
}

/// Claims attempts that nobody makes: those that were left for whoever has room, those whose instance is gone, and those of this
/// instance that it knows nothing of. Rows that another claims are skipped.
pub(super) async fn claim(
    connection: &mut PgConnection,
    instance: i32,
    held: &[PlanId],
    limit: i64,
) -> Result<Vec<Claimed>> {
    let held: Vec<_> = held.iter().map(|it| it.as_uuid()).collect();
    sqlx::query_as!(
        Claimed,
        r#"with free as materialized (
               select r.company_id, r.plan_id from execution.plan_runs r
               where r.owner is null
                   or (r.owner <> $1 and not exists (
                       select from execution.instances i where i.id = r.owner and i.lease_until > now()))
                   or (r.owner = $1 and r.begun_at < now() - interval '30 seconds' and r.plan_id <> all($2))
               order by r.created_at
               limit $3
               for update skip locked)
           update execution.plan_runs r
           set takeovers = least(r.takeovers + (r.owner is not null)::int, 100), owner = $1, epoch = r.epoch + 1, begun_at = now()
           from free f where r.company_id = f.company_id and r.plan_id = f.plan_id
           returning r.company_id as "company: CompanyId", r.plan_id as "plan: PlanId", r.version, r.attempt, r.epoch, r.takeovers,
               r.correlation_id, r.trace_context"#,
        instance,
        &held,
        limit,
    )
    .fetch_all(connection)
    .await
}

/// The plans that an instance has attempts at.
pub(super) async fn reserved(connection: &mut PgConnection, instance: i32) -> Result<Vec<PlanId>> {
    sqlx::query_scalar!(
        r#"select plan_id as "plan: PlanId" from execution.plan_runs where owner = $1"#,
        instance,
    )
    .fetch_all(connection)
    .await
}

/// Gives an attempt back that was being made, for another to take over.
pub(super) async fn give_back(connection: &mut PgConnection, run: &Claimed, instance: i32) -> Result<()> {
    sqlx::query!(
        "update execution.plan_runs set owner = null, takeovers = least(takeovers + 1, 100)
         where company_id = $1 and plan_id = $2 and owner = $3 and epoch = $4",
        run.company.as_uuid(),
        run.plan.as_uuid(),
        instance,
        run.epoch,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What an attempt is made from.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub studio: StudioId,
    pub owner: UserId,
    pub wish: Wish,
    pub means: Means,
}

/// What an attempt is made from; none where its plan is gone.
pub(super) async fn facts(connection: &mut PgConnection, run: &Claimed) -> Result<Option<Facts>> {
    let row = sqlx::query!(
        r#"select p.studio_id as "studio: StudioId", p.owner_id as "owner: UserId", v.topic, v.topic_truncated, v.topic_length,
               v.notes, v.notes_truncated, v.notes_length, v.level, v.weekly_hours, v.style, v.use_documents, v.model,
               v.fallback_model
           from execution.plan_versions v join execution.plans p on p.company_id = v.company_id and p.id = v.plan_id
           where v.company_id = $1 and v.plan_id = $2 and v.version = $3"#,
        run.company.as_uuid(),
        run.plan.as_uuid(),
        run.version,
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let wish = listing_store::wish(WishRow {
        topic: (row.topic, row.topic_truncated, row.topic_length),
        notes: (row.notes, row.notes_truncated, row.notes_length),
        level: row.level,
        weekly_hours: row.weekly_hours,
        style: row.style,
    });
    Ok(Some(Facts {
        studio: row.studio,
        owner: row.owner,
        wish: wish.map_err(|error| sqlx::Error::Decode(error.into()))?,
        means: Means {
            use_documents: row.use_documents,
            model: row.model,
            fallback_model: row.fallback_model,
        },
    }))
}

/// Records an attempt with its modules and tasks and what it spent, and ends its reservation. Where it is not this
/// instance's any more, nothing is written; where its plan is gone, what it spent alone.
pub(super) async fn record(
    tx: &mut PgConnection,
    run: &Claimed,
    instance: i32,
    recorded: &Recorded,
) -> error::Result<()> {
    let ended = sqlx::query!(
        "delete from execution.plan_runs where company_id = $1 and plan_id = $2 and owner = $3 and epoch = $4",
        run.company.as_uuid(),
        run.plan.as_uuid(),
        instance,
        run.epoch,
    )
    .execute(&mut *tx)
    .await?;
    if ended.rows_affected() == 1 {
        insert_attempt(tx, run, recorded).await?;
        if let Outcome::Success(outline) = &recorded.outcome {
            store::insert_modules(tx, run.company, run.plan, run.version, outline).await?;
        }
    } else if is_there(tx, run).await? {
        return Ok(());
    }
    let provider = &recorded.metadata.provider;
    let tokens = provider.tokens.input.saturating_add(provider.tokens.output);
    if tokens > 0 || provider.cost_micros > 0 {
        let number = |given: u64| i64::try_from(given).unwrap_or(i64::MAX);
        spend(tx, run.company, (number(tokens), number(provider.cost_micros))).await?;
    }
    Ok(())
}

async fn is_there(tx: &mut PgConnection, run: &Claimed) -> Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from execution.plans where company_id = $1 and id = $2) as "is_there!""#,
        run.company.as_uuid(),
        run.plan.as_uuid(),
    )
    .fetch_one(tx)
    .await
}

async fn insert_attempt(tx: &mut PgConnection, run: &Claimed, recorded: &Recorded) -> Result<()> {
    let (class, reason) = match &recorded.outcome {
        Outcome::Success(_) => (None, ""),
        Outcome::Failure(class, reason) => (Some(class.as_str()), reason.as_str()),
    };
    let status = if class.is_none() { "success" } else { "failure" };
    let metadata: &Metadata = &recorded.metadata;
    let count = |number: usize| i16::try_from(number).unwrap_or(i16::MAX);
    let (modules, tasks) = match &recorded.outcome {
        Outcome::Success(outline) => (outline.modules.len(), outline.tasks().count()),
        Outcome::Failure(..) => (0, 0),
    };
    sqlx::query!(
        "insert into execution.plan_attempts (company_id, plan_id, version, number, status, classification, reason, model,
             duration_ms, modules_count, tasks_count, truncated_topic, truncated_notes, normalized_effort, prompt_sha256,
             correlation_id, metadata)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        run.company.as_uuid(),
        run.plan.as_uuid(),
        run.version,
        run.attempt,
        status,
        class,
        reason,
        metadata.provider.model,
        i64::try_from(recorded.duration.as_millis()).unwrap_or(i64::MAX),
        count(modules),
        count(tasks),
        metadata.input.topic.truncated,
        metadata.input.notes.truncated,
        metadata.normalization.modules_clamped + metadata.normalization.tasks_clamped > 0,
        recorded.prompt_sha256,
        run.correlation_id,
        Json(metadata) as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Forgets failed attempts that are older than 90 days; at most so many at once. True if there may be more.
pub(crate) async fn forget_attempts(connection: &mut PgConnection) -> Result<bool> {
    const BATCH: i64 = 5_000;
    let forgotten = sqlx::query!(
        "delete from execution.plan_attempts where ctid = any(array(
             select ctid from execution.plan_attempts
             where status = 'failure' and created_at < now() - interval '90 days' limit $1))",
        BATCH,
    )
    .execute(connection)
    .await?;
    Ok(forgotten.rows_affected() >= BATCH.unsigned_abs())
}
