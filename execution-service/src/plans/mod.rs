//! Learning plans: modules and tasks that a model writes for a topic; complete, or not there at all.
//!
//! The rules know no database and no network: what is kept of a wish (`wish`), what a model is asked (`prompt`), how its answer
//! is read while it comes (`parser`, `reading`) and judged (`rules`), and how long it may take (`deadline`). `generating` has attempts
//! made around them: reserved before a model is called (`beginning`), recorded with their modules in one commit, told of meanwhile
//! (`live`, `watch`), let go of when nobody can want them (`abandoning`). What always holds: the same text gives the same modules or
//! the same [`Invalid`] in whatever pieces it came; a module is shown only if it would be stored as it is; a version has three
//! attempts and no more; no attempt, log or error repeats what a user or a model wrote.

mod abandoning;
mod api;
mod beginning;
mod claiming;
pub(crate) mod convert;
pub mod deadline;
mod engine_store;
mod generating;
mod listing_store;
mod live;
pub mod parser;
pub mod prompt;
mod reading;
pub mod rules;
pub mod status;
mod store;
mod watch;
pub mod wish;

use serde::Serialize;
use service_kit::{
    audit::About,
    auth::Caller,
    db::{self, TenantTx},
    error::{Error, Result},
    ids::{CompanyId, PlanId, StudioId, UserId},
    page::Page,
    update,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{
    App,
    access::{Access, hidden_as},
};

use self::live::Shown;
pub use self::{
    api::Api,
    deadline::{Deadline, Late},
    generating::Generator,
    parser::Parser,
    prompt::Prompt,
    rules::{Invalid, Module, Outline, Task},
    status::Status,
    wish::{Bounded, Level, Means, Style, WeeklyHours, Wish},
};
pub(crate) use self::{
    engine_store::forget_attempts,
    watch::{Told, follow},
};

/// How a plan came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A model writes it.
    Ai,
    /// It has the modules of another plan.
    Template,
    /// It came with its modules.
    Manual,
}

impl Origin {
    const ALL: [Self; 3] = [Self::Ai, Self::Template, Self::Manual];

    /// As the database writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ai => "ai",
            Self::Template => "template",
            Self::Manual => "manual",
        }
    }
}

/// Who sees a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Its owner.
    Private,
    /// All who reach its studio.
    Public,
}

impl Visibility {
    const ALL: [Self; 2] = [Self::Private, Self::Public];

    /// As the database writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Public => "public",
        }
    }
}

/// A version of a plan, without its modules.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The plan.
    pub id: PlanId,
    /// The company it belongs to.
    pub company: CompanyId,
    /// The studio it belongs to.
    pub studio: StudioId,
    /// Whose it is.
    pub owner: UserId,
    /// How its first version came to be.
    pub origin: Origin,
    /// Who sees it.
    pub visibility: Visibility,
    /// The version.
    pub version: i32,
    /// The newest one.
    pub newest_version: i32,
    /// What the version is made from.
    pub wish: Wish,
    /// And with what.
    pub means: Means,
    /// How its attempts ended.
    pub standing: Standing,
    /// What to name when asking about the last attempt that failed; the owner is told alone.
    pub failed: Option<String>,
    /// How far its owner is.
    pub progress: Progress,
    /// Grows with every update.
    pub revision: i64,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

/// A version of a plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// All but its modules.
    pub summary: Summary,
    /// The modules, in order.
    pub modules: Vec<Placed>,
}

/// A module as it is stored, with what is done of it.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The module.
    pub module: Module,
    /// When each of its tasks was done.
    pub done_at: Vec<Option<OffsetDateTime>>,
}

/// How the attempts at a version ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether a model writes it.
    pub generated: bool,
    /// How many succeeded.
    pub successes: u32,
    /// How many did not.
    pub failures: u32,
    /// Whether one is under way.
    pub running: bool,
}

impl Standing {
    /// Where the version stands. What was not generated came whole.
    pub const fn status(self) -> Status {
        if self.generated {
            Status::of(self.successes, self.failures)
        } else {
            Status::Ready
        }
    }

    /// How many attempts were begun.
    pub const fn attempts(self) -> u32 {
        self.successes + self.failures + if self.running { 1 } else { 0 }
    }

    /// How many more there may be.
    pub const fn attempts_left(self) -> u32 {
        if self.generated && self.successes == 0 {
            status::ATTEMPTS.saturating_sub(self.attempts())
        } else {
            0
        }
    }
}

/// How far a plan is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many tasks there are.
    pub tasks: i32,
    /// How many are done.
    pub done: i32,
}

impl Progress {
    /// Of a hundred tasks those that are done, rounded down: 100 only where all are.
    pub const fn percent(self) -> i32 {
        if self.tasks == 0 {
            0
        } else {
            100 * self.done / self.tasks
        }
    }
}

/// An attempt that has ended.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The version it was made at.
    pub version: i32,
    /// Which of it, from 1.
    pub number: i16,
    /// Why it failed, if it did.
    pub classification: Option<String>,
    /// What it was within the class.
    pub reason: String,
    /// The model that was asked last.
    pub model: String,
    /// How long it took.
    pub duration_ms: i64,
    /// How many modules it wrote.
    pub modules_count: i16,
    /// How many tasks it wrote.
    pub tasks_count: i16,
    /// Whether minutes were brought into their range.
    pub normalized_effort: bool,
    /// SHA-256 of the prompt, in hexadecimal.
    pub prompt_sha256: String,
    /// What to name when asking about it.
    pub correlation_id: String,
    /// The rest.
    pub metadata: generating::Metadata,
}

/// A plan to be made.
#[derive(Clone, Debug)]
struct New {
    studio: StudioId,
    visibility: Visibility,
    content: Content,
}

/// What a plan is to hold.
#[derive(Clone, Debug)]
enum Content {
    /// What a model writes for the wish.
    Ai(Wish, Means),
    /// These modules.
    Manual(Wish, Outline),
    /// The modules of another plan; what is wished differently from it.
    Template(PlanId, Option<Wish>),
}

/// Which plans to list.
#[derive(Clone, Debug, Serialize)]
struct Filter {
    studio: StudioId,
    /// Only the caller's.
    own: bool,
    origin: Option<Origin>,
    status: Option<Status>,
}

/// A place in the list of attempts, which goes down.
type AttemptPlace = (i32, i16);

/// Which task.
#[derive(Clone, Copy, Debug)]
struct TaskPlace {
    module: i16,
    task: i16,
}

/// Reads a version of a plan; 0 is the newest.
async fn get(app: &App, caller: &Caller, id: PlanId, version: i32) -> Result<Plan> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "plans.get", &access.claims).await?;
    read(&mut tx, id, version).await
}

/// Lists the plans of a studio that the caller sees, newest first.
async fn list(app: &App, caller: &Caller, filter: &Filter, page: &Page<PlanId>) -> Result<Vec<Summary>> {
    let access = app.core.check_studio(caller.user, filter.studio).await?;
    let mut tx = TenantTx::begin(&app.pool, "plans.list", &access.claims).await?;
    let owner = filter.own.then_some(caller.user);
    listing_store::list(&mut tx, filter, owner, page).await
}

/// Shows or hides a plan.
async fn change(app: &App, caller: &Caller, id: PlanId, etag: &str, visibility: Option<Visibility>) -> Result<Plan> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "plans.change", &access.claims).await?;
    require_owner(&access, &summary(&mut tx, id, 0).await?)?;
    let found = lock(&mut tx, id, etag).await?;
    if let Some(visibility) = visibility.filter(|it| *it != found.visibility) {
        store::set_visibility(&mut tx, id, visibility).await?;
        app.audit
            .record(&mut tx, About::company(access.company, "plan", id))
            .await?;
    }
    let changed = read(&mut tx, id, 0).await?;
    tx.commit().await?;
    Ok(changed)
}

/// Deletes a plan with all that is its.
async fn delete(app: &App, caller: &Caller, id: PlanId, etag: &str) -> Result<()> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "plans.delete", &access.claims).await?;
    let seen = summary(&mut tx, id, 0).await?;
    access.require_admin_unless(seen.owner == caller.user)?;
    update::check_etag(etag, seen.revision)?;
    // An admin may not change what he may remove, and so not lock it either.
    if !store::delete(&mut tx, id, seen.revision).await? {
        return Err(Error::Aborted {
            reason: "CONCURRENT_UPDATE",
            message: "the plan has changed meanwhile; try again".into(),
        });
    }
    app.audit
        .record(&mut tx, About::company(access.company, "plan", id))
        .await?;
    tx.commit().await?;
    app.generator.live().abandon(id);
    Ok(())
}

/// Marks a task of the newest version as done or not.
async fn mark(app: &App, caller: &Caller, id: PlanId, place: TaskPlace, done: bool) -> Result<Progress> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "plans.mark", &access.claims).await?;
    let plan = summary(&mut tx, id, 0).await?;
    require_owner(&access, &plan)?;
    if !store::mark(&mut tx, id, plan.version, place, done).await? {
        let TaskPlace { module, task } = place;
        return Err(Error::not_found("plan task", format_args!("{id}/{module}/{task}")));
    }
    app.audit
        .record(&mut tx, About::company(access.company, "plan", id))
        .await?;
    let progress = summary(&mut tx, id, 0).await?.progress;
    tx.commit().await?;
    Ok(progress)
}

/// The attempts that have ended, to the plan's owner.
async fn attempts(app: &App, caller: &Caller, id: PlanId, page: &Page<AttemptPlace>) -> Result<Vec<Attempt>> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "plans.attempts", &access.claims).await?;
    require_owner(&access, &summary(&mut tx, id, 0).await?)?;
    listing_store::attempts(&mut tx, id, page).await
}

/// What the caller may do where a plan is; NOT_FOUND of the plan where he may not see that place.
async fn enter(app: &App, caller: &Caller, id: PlanId) -> Result<Access> {
    let studio = db::with(&app.pool, async |connection| store::locate(connection, id).await).await?;
    let studio = studio.ok_or_else(|| not_found(id))?;
    app.core
        .check_studio(caller.user, studio)
        .await
        .map_err(hidden_as("plan", id))
}

async fn read(tx: &mut PgConnection, id: PlanId, version: i32) -> Result<Plan> {
    let summary = summary(tx, id, version).await?;
    let modules = store::modules(tx, id, summary.version).await?;
    Ok(Plan { summary, modules })
}

async fn summary(tx: &mut PgConnection, id: PlanId, version: i32) -> Result<Summary> {
    listing_store::get(tx, id, version).await?.ok_or_else(|| not_found(id))
}

/// The plan, which nobody else changes until the transaction ends.
async fn lock(tx: &mut PgConnection, id: PlanId, etag: &str) -> Result<Summary> {
    if !store::lock(tx, id).await? {
        return Err(not_found(id));
    }
    let found = summary(tx, id, 0).await?;
    update::check_etag(etag, found.revision)?;
    Ok(found)
}

/// Refuses everybody but the plan's owner.
fn require_owner(access: &Access, plan: &Summary) -> Result<()> {
    if plan.owner == access.claims.sub {
        return Ok(());
    }
    Err(Error::PermissionDenied {
        reason: "OWNER_REQUIRED",
        message: "the plan's owner may do this".into(),
    })
}

fn not_found(id: PlanId) -> Error {
    Error::not_found("plan", id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(successes: u32, failures: u32, running: bool) -> Standing {
        Standing {
            generated: true,
            successes,
            failures,
            running,
        }
    }

    #[test]
    fn the_attempt_under_way_counts_among_those_that_there_may_be() {
        let left = |it: Standing| (it.attempts(), it.attempts_left(), it.status());
        assert_eq!(left(standing(0, 0, true)), (1, 2, Status::Pending));
        assert_eq!(left(standing(0, 2, true)), (3, 0, Status::Pending));
        assert_eq!(left(standing(0, 3, false)), (3, 0, Status::Failed));
        assert_eq!(left(standing(1, 1, false)), (2, 0, Status::Ready));
    }

    #[test]
    fn what_came_whole_is_ready_and_has_no_attempts() {
        let whole = Standing {
            generated: false,
            ..standing(0, 0, false)
        };
        assert_eq!((whole.status(), whole.attempts_left()), (Status::Ready, 0));
    }

    #[test]
    fn a_hundred_percent_is_said_only_where_all_is_done() {
        let percent = |done, tasks| Progress { tasks, done }.percent();
        assert_eq!([percent(0, 3), percent(1, 3), percent(3, 3)], [0, 33, 100]);
        assert_eq!(percent(239, 240), 99);
        assert_eq!(Progress::default().percent(), 0, "nothing to do is not done");
    }
}
