//! SQL of the plans, as the caller: making and changing them, and reserving attempts.

use service_kit::{
    error::Result,
    ids::{CompanyId, PlanId, StudioId, UserId},
};
use sqlx::PgConnection;

use super::{
    Module, Origin, Outline, Placed, Task, TaskPlace, Visibility,
    rules::Minutes,
    wish::{Means, Wish},
};

/// The studio of a plan, before the caller's place there is known.
pub(super) async fn locate(connection: &mut PgConnection, id: PlanId) -> sqlx::Result<Option<StudioId>> {
    let studio = sqlx::query_scalar!(
        r#"select studio_id as "studio_id!: StudioId" from execution.locate_plan($1)"#,
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(studio)
}

/// A plan whose first version is still to be made.
pub(super) struct NewPlan {
    pub id: PlanId,
    pub company: CompanyId,
    pub studio: StudioId,
    pub owner: UserId,
    pub origin: Origin,
    pub visibility: Visibility,
}

pub(super) async fn insert(tx: &mut PgConnection, new: &NewPlan) -> Result<()> {
    sqlx::query!(
        "insert into execution.plans (id, company_id, studio_id, owner_id, origin, visibility) values ($1, $2, $3, $4, $5, $6)",
        new.id.as_uuid(),
        new.company.as_uuid(),
        new.studio.as_uuid(),
        new.owner.as_uuid(),
        new.origin.as_str(),
        new.visibility.as_str(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// An attempt to be reserved.
#[derive(Debug, Clone)]
pub(super) struct NewRun {
    pub plan: PlanId,
    pub version: i32,
    pub attempt: i16,
    /// The instance that makes it; none where one is to claim it.
    pub owner: Option<i32>,
    pub correlation_id: String,
    pub trace_context: String,
}

/// A version to be made.
pub(super) struct NewVersion<'a> {
    pub company: CompanyId,
    pub plan: PlanId,
    pub version: i32,
    pub wish: &'a Wish,
    /// None where it comes with its modules.
    pub means: Option<&'a Means>,
    pub created_by: UserId,
}

/// Makes a version, of a generated one with its first attempt reserved.
pub(super) async fn insert_version(tx: &mut PgConnection, new: &NewVersion<'_>, run: Option<&NewRun>) -> Result<()> {
    let length = |chars: usize| i32::try_from(chars).unwrap_or(i32::MAX);
    let wish = new.wish;
    sqlx::query!(
        "with made as (
             insert into execution.plan_versions (company_id, plan_id, version, generated, topic, topic_truncated, topic_length,
                 notes, notes_truncated, notes_length, level, weekly_hours, style, use_documents, model, fallback_model, attempts,
                 created_by)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17::int, $18))
         insert into execution.plan_runs (company_id, plan_id, version, attempt, owner, correlation_id, trace_context)
         select $1, $2, $3, 1, $19, $20, $21 where $17 = 1",
        new.company.as_uuid(),
        new.plan.as_uuid(),
        new.version,
        new.means.is_some(),
        wish.topic.text,
        wish.topic.truncated,
        length(wish.topic.original_length),
        wish.notes.text,
        wish.notes.truncated,
        length(wish.notes.original_length),
        wish.level.as_str(),
        i16::try_from(wish.weekly_hours.get()).unwrap_or(i16::MAX),
        wish.style.as_str(),
        new.means.is_some_and(|it| it.use_documents),
        new.means.map_or("", |it| it.model.as_str()),
        new.means.map_or("", |it| it.fallback_model.as_str()),
        i32::from(run.is_some()),
        new.created_by.as_uuid(),
        run.and_then(|it| it.owner),
        run.map_or("", |it| it.correlation_id.as_str()),
        run.map_or("", |it| it.trace_context.as_str()),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Makes a version the newest.
pub(super) async fn set_version(tx: &mut PgConnection, id: PlanId, version: i32) -> Result<()> {
    sqlx::query!(
        "update execution.plans set version = $2 where id = $1",
        id.as_uuid(),
        version
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Takes the next attempt of a version of a locked plan, and gives its number; none where the cap is used up.
pub(super) async fn take_attempt(tx: &mut PgConnection, id: PlanId, version: i32) -> Result<Option<i16>> {
    let number = sqlx::query_scalar!(
        "update execution.plan_versions set attempts = attempts + 1
         where company_id = (select execution.caller_company()) and plan_id = $1 and version = $2 and generated and attempts < 3
         returning attempts",
        id.as_uuid(),
        version,
    )
    .fetch_optional(tx)
    .await?;
    Ok(number)
}

/// Reserves an attempt that was taken.
pub(super) async fn insert_run(tx: &mut PgConnection, run: &NewRun) -> Result<()> {
    sqlx::query!(
        "insert into execution.plan_runs (company_id, plan_id, version, attempt, owner, correlation_id, trace_context)
         values (execution.caller_company(), $1, $2, $3, $4, $5, $6)",
        run.plan.as_uuid(),
        run.version,
        run.attempt,
        run.owner,
        run.correlation_id,
        run.trace_context,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Stores the modules of a version that was not generated.
pub(super) async fn insert_modules(
    tx: &mut PgConnection,
    company: CompanyId,
    plan: PlanId,
    version: i32,
    outline: &Outline,
) -> Result<()> {
    let Columns { modules, tasks } = Columns::of(outline);
    sqlx::query!(
        "insert into execution.plan_modules (company_id, plan_id, version, number, title, description, minutes)
         select $1, $2, $3, * from unnest($4::smallint[], $5::text[], $6::text[], $7::smallint[])",
        company.as_uuid(),
        plan.as_uuid(),
        version,
        &modules.number,
        &modules.title,
        &modules.description,
        &modules.minutes,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "insert into execution.plan_tasks (company_id, plan_id, version, module, number, title, description, minutes)
         select $1, $2, $3, * from unnest($4::smallint[], $5::smallint[], $6::text[], $7::text[], $8::smallint[])",
        company.as_uuid(),
        plan.as_uuid(),
        version,
        &tasks.module,
        &tasks.number,
        &tasks.title,
        &tasks.description,
        &tasks.minutes,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A plan's rows, column by column.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub modules: Rows,
    pub tasks: Rows,
}

/// Modules or tasks.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Of tasks.
    pub module: Vec<i16>,
    pub number: Vec<i16>,
    pub title: Vec<String>,
    pub description: Vec<String>,
    pub minutes: Vec<i16>,
}

impl Rows {
    fn push(&mut self, number: i16, title: &str, description: &str, minutes: Minutes) {
        self.number.push(number);
        self.title.push(title.to_owned());
        self.description.push(description.to_owned());
        self.minutes.push(i16::try_from(minutes.value).unwrap_or(i16::MAX));
    }
}

impl Columns {
    /// The rows of an outline.
    pub(super) fn of(outline: &Outline) -> Self {
        let mut columns = Self::default();
        for (place, module) in (1..).zip(&outline.modules) {
            columns
                .modules
                .push(place, &module.title, &module.description, module.minutes);
            for (number, task) in (1..).zip(&module.tasks) {
                columns.tasks.module.push(place);
                columns.tasks.push(number, &task.title, &task.description, task.minutes);
            }
        }
        columns
    }
}

/// A version's modules, in order.
pub(super) async fn modules(tx: &mut PgConnection, id: PlanId, version: i32) -> Result<Vec<Placed>> {
    let rows = sqlx::query!(
        r#"select m.number, m.title, m.description, m.minutes, t.title as "task_title?", t.description as "task_description?",
               t.minutes as "task_minutes?", t.done_at as "done_at?"
           from execution.plan_modules m
               left join execution.plan_tasks t on t.company_id = m.company_id and t.plan_id = m.plan_id
                   and t.version = m.version and t.module = m.number
           where m.company_id = (select execution.caller_company()) and m.plan_id = $1 and m.version = $2
           order by m.number, t.number"#,
        id.as_uuid(),
        version,
    )
    .fetch_all(tx)
    .await?;
    let minutes = |stored: i16| Minutes {
        value: u16::try_from(stored).unwrap_or_default(),
        clamped: false,
    };
    let mut modules: Vec<(i16, Placed)> = Vec::new();
    for row in rows {
        if modules.last().is_none_or(|(number, _)| *number != row.number) {
            let module = Module {
                title: row.title,
                description: row.description,
                minutes: minutes(row.minutes),
                tasks: Vec::new(),
            };
            let done_at = Vec::new();
            modules.push((row.number, Placed { module, done_at }));
        }
        if let (Some(title), Some((_, placed))) = (row.task_title, modules.last_mut()) {
            placed.module.tasks.push(Task {
                title,
                description: row.task_description.unwrap_or_default(),
                minutes: minutes(row.task_minutes.unwrap_or_default()),
            });
            placed.done_at.push(row.done_at);
        }
    }
    Ok(modules.into_iter().map(|(_, placed)| placed).collect())
}

/// Waits for its turn to change a plan of the caller's; whether there is one.
pub(super) async fn lock(tx: &mut PgConnection, id: PlanId) -> Result<bool> {
    let found = sqlx::query_scalar!("select id from execution.plans where id = $1 for update", id.as_uuid())
        .fetch_optional(tx)
        .await?;
    Ok(found.is_some())
}

pub(super) async fn set_visibility(tx: &mut PgConnection, id: PlanId, visibility: Visibility) -> Result<()> {
    sqlx::query!(
        "update execution.plans set visibility = $2 where id = $1",
        id.as_uuid(),
        visibility.as_str(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Deletes a plan that is as it was; whether it was.
pub(super) async fn delete(tx: &mut PgConnection, id: PlanId, revision: i64) -> Result<bool> {
    let done = sqlx::query!(
        "delete from execution.plans where id = $1 and revision = $2",
        id.as_uuid(),
        revision,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Marks a task; false where there is no such one. What was done stays done since it was.
pub(super) async fn mark(
    tx: &mut PgConnection,
    id: PlanId,
    version: i32,
    place: TaskPlace,
    done: bool,
) -> Result<bool> {
    let marked = sqlx::query!(
        "update execution.plan_tasks set done_at = case when $5 then coalesce(done_at, now()) end
         where company_id = (select execution.caller_company()) and plan_id = $1 and version = $2 and module = $3 and number = $4",
        id.as_uuid(),
        version,
        place.module,
        place.task,
        done,
    )
    .execute(tx)
    .await?;
    Ok(marked.rows_affected() == 1)
}

/// How many versions the caller has had made anew within the hour; he has no other made until the transaction ends.
pub(super) async fn lock_regenerations(tx: &mut PgConnection) -> Result<i32> {
    let made = sqlx::query_scalar!(r#"select execution.lock_plan_versions() as "made!""#)
        .fetch_one(tx)
        .await?;
    Ok(made)
}

/// Which of these names are of models that the company's plans may call.
pub(super) async fn known_models(tx: &mut PgConnection, names: &[String]) -> Result<Vec<String>> {
    let known = sqlx::query_scalar!(
        "select distinct name from execution.models where enabled and name = any($1)
             and (company_id is null or company_id = (select execution.caller_company()))",
        names,
    )
    .fetch_all(tx)
    .await?;
    Ok(known)
}

/// The address of the replica that has the plan written, if one does.
pub(super) async fn holder(tx: &mut PgConnection, id: PlanId) -> Result<Option<String>> {
    let address = sqlx::query_scalar!(
        "select i.address from execution.plan_runs r join execution.instances i on i.id = r.owner
         where r.company_id = (select execution.caller_company()) and r.plan_id = $1 and i.lease_until > now()",
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(address)
}
