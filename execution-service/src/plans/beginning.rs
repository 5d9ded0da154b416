//! Making plans and reserving attempts at them.
//!
//! An attempt is a row before a model is called: of many who ask for the last one at once, one gets it, and of those who do not
//! nothing is left. It belongs to this process from its commit on, where that has room, and else to whoever claims it.

use std::collections::BTreeSet;

use service_kit::{
    audit::About,
    auth::Caller,
    db::TenantTx,
    error::{Error, Result, Violations},
    ids::PlanId,
    status::current_request_id,
    telemetry,
};
use sqlx::PgConnection;

use super::{
    Content, Means, New, Origin, Outline, Plan, Status, Wish,
    engine_store::Claimed,
    enter,
    generating::Room,
    lock, read, require_owner,
    store::{self, NewPlan, NewRun, NewVersion},
    summary,
};
use crate::{App, access::Access, requests};

/// How many versions a user may have made anew within an hour.
const REGENERATIONS: i32 = 10;

/// Makes a plan.
pub(super) async fn create(app: &App, caller: &Caller, new: &New, key: Option<&requests::Key>) -> Result<Plan> {
    let access = app.core.check_studio(caller.user, new.studio).await?;
    if matches!(new.content, Content::Ai(..)) {
        admit(app, &access).await?;
    }
    let mut tx = TenantTx::begin(&app.pool, "plans.create", &access.claims).await?;
    let id = PlanId::generate();
    if let Some(first) = requests::claim(&mut tx, key, id).await? {
        return read(&mut tx, first, 0).await;
    }
    let plan = NewPlan {
        id,
        company: access.company,
        studio: new.studio,
        owner: caller.user,
        origin: match &new.content {
            Content::Ai(..) => Origin::Ai,
            Content::Template(..) => Origin::Template,
            Content::Manual(..) => Origin::Manual,
        },
        visibility: new.visibility,
    };
    let reserved = match &new.content {
        Content::Ai(wish, means) => {
            check_models(&mut tx, means).await?;
            store::insert(&mut tx, &plan).await?;
            Some(first_attempt(app, &mut tx, &access, id, 1, wish, means).await?)
        }
        Content::Manual(wish, outline) => {
            store::insert(&mut tx, &plan).await?;
            whole(&mut tx, &access, id, wish, outline).await?;
            None
        }
        Content::Template(template, wish) => {
            let found = template_of(&mut tx, *template).await?;
            store::insert(&mut tx, &plan).await?;
            let wish = wish.as_ref().unwrap_or(&found.summary.wish);
            let modules = found.modules.into_iter().map(|it| it.module).collect();
            whole(&mut tx, &access, id, wish, &Outline { modules }).await?;
            None
        }
    };
    app.audit
        .record(&mut tx, About::company(access.company, "plan", id))
        .await?;
    let made = match reserved {
        Some(_) => begun(&mut tx, id).await?,
        None => read(&mut tx, id, 0).await?,
    };
    tx.commit().await?;
    if let Some(reserved) = reserved {
        reserved.begin(app, &access);
    }
    Ok(made)
}

/// Refuses a plan to be written where the company has begun too much of late, or has used up what it may call models with.
async fn admit(app: &App, access: &Access) -> Result<()> {
    let rate = app.start_rate.take(access, None);
    let rest = app.engine.admit(access.company, &access.allowance);
    tokio::try_join!(rate, rest)?;
    Ok(())
}

/// A plan that is about to be written, which has no modules.
async fn begun(tx: &mut PgConnection, id: PlanId) -> Result<Plan> {
    let summary = summary(tx, id, 0).await?;
    Ok(Plan {
        summary,
        modules: Vec::new(),
    })
}

/// Begins another attempt at the newest version.
pub(super) async fn retry(app: &App, caller: &Caller, id: PlanId) -> Result<Plan> {
    let access = enter(app, caller, id).await?;
    // Before the plan is locked: what waits for it must not wait for a connection too.
    admit(app, &access).await?;
    let mut tx = TenantTx::begin(&app.pool, "plans.retry", &access.claims).await?;
    require_owner(&access, &summary(&mut tx, id, 0).await?)?;
    let found = lock(&mut tx, id, "").await?;
    if found.standing.status() == Status::Ready {
        return Err(Error::FailedPrecondition {
            reason: "PLAN_READY",
            message: "the plan is ready; regenerate it for another version".into(),
        });
    }
    if found.standing.attempts_left() == 0 {
        return Err(capped());
    }
    require_rest(found.standing.running)?;
    let number = store::take_attempt(&mut tx, id, found.version).await?;
    let reserved = Reserved::new(app, id, found.version, number.ok_or_else(capped)?);
    store::insert_run(&mut tx, &reserved.run).await?;
    app.audit
        .record(&mut tx, About::company(access.company, "plan", id))
        .await?;
    let plan = begun(&mut tx, id).await?;
    tx.commit().await?;
    reserved.begin(app, &access);
    Ok(plan)
}

/// A version to be made anew.
pub(super) struct Again {
    pub plan: PlanId,
    /// From this instead.
    pub wish: Option<(Wish, Means)>,
}

/// Has a new version written.
pub(super) async fn regenerate(app: &App, caller: &Caller, again: &Again, key: Option<&requests::Key>) -> Result<Plan> {
    let id = again.plan;
    let access = enter(app, caller, id).await?;
    admit(app, &access).await?;
    let mut tx = TenantTx::begin(&app.pool, "plans.regenerate", &access.claims).await?;
    require_owner(&access, &summary(&mut tx, id, 0).await?)?;
    let found = lock(&mut tx, id, "").await?;
    if requests::claim(&mut tx, key, id).await?.is_some() {
        return read(&mut tx, id, 0).await;
    }
    require_rest(found.standing.running)?;
    if store::lock_regenerations(&mut tx).await? >= REGENERATIONS {
        return Err(Error::ResourceExhausted {
            reason: "REGENERATION_LIMIT",
            message: format!("no more than {REGENERATIONS} plans may be regenerated an hour"),
            retry_after: None,
        });
    }
    let same = || {
        let mut means = found.means.clone();
        // One that came whole names no model.
        if means.model.is_empty() {
            super::convert::DEFAULT_MODEL.clone_into(&mut means.model);
        }
        (found.wish.clone(), means)
    };
    let (wish, means) = again.wish.clone().unwrap_or_else(same);
    check_models(&mut tx, &means).await?;
    let version = found.newest_version + 1;
    let reserved = first_attempt(app, &mut tx, &access, id, version, &wish, &means).await?;
    store::set_version(&mut tx, id, version).await?;
    app.audit
        .record(&mut tx, About::company(access.company, "plan", id))
        .await?;
    let plan = begun(&mut tx, id).await?;
    tx.commit().await?;
    reserved.begin(app, &access);
    Ok(plan)
}

/// An attempt that is there with the commit, and the room that this process has for it.
struct Reserved {
    run: NewRun,
    room: Option<Room>,
}

impl Reserved {
    fn new(app: &App, plan: PlanId, version: i32, attempt: i16) -> Self {
        let room = app.generator.room();
        Self {
            run: NewRun {
                plan,
                version,
                attempt,
                owner: room.as_ref().map(Room::instance),
                correlation_id: current_request_id().as_deref().unwrap_or_default().to_owned(),
                trace_context: telemetry::current_traceparent(),
            },
            room,
        }
    }

    /// Makes it, or lets others know that they may.
    fn begin(self, app: &App, access: &Access) {
        let NewRun {
            plan,
            version,
            attempt,
            correlation_id,
            trace_context,
            ..
        } = self.run;
        let claimed = Claimed {
            company: access.company,
            plan,
            version,
            attempt,
            epoch: 0,
            takeovers: 0,
            correlation_id,
            trace_context,
        };
        match self.room {
            Some(room) => app.generator.begin(claimed, room),
            None => app.generator.nudge(),
        }
    }
}

/// Makes a version with its first attempt.
async fn first_attempt(
    app: &App,
    tx: &mut PgConnection,
    access: &Access,
    plan: PlanId,
    version: i32,
    wish: &Wish,
    means: &Means,
) -> Result<Reserved> {
    let reserved = Reserved::new(app, plan, version, 1);
    let new = NewVersion {
        company: access.company,
        plan,
        version,
        wish,
        means: Some(means),
        created_by: access.claims.sub,
    };
    store::insert_version(tx, &new, Some(&reserved.run)).await?;
    Ok(reserved)
}

/// Makes the first version of a plan with its modules.
async fn whole(tx: &mut PgConnection, access: &Access, plan: PlanId, wish: &Wish, outline: &Outline) -> Result<()> {
    let new = NewVersion {
        company: access.company,
        plan,
        version: 1,
        wish,
        means: None,
        created_by: access.claims.sub,
    };
    store::insert_version(tx, &new, None).await?;
    store::insert_modules(tx, access.company, plan, 1, outline).await
}

/// The plan whose modules another one is to have.
async fn template_of(tx: &mut PgConnection, template: PlanId) -> Result<Plan> {
    let found = read(tx, template, 0).await.map_err(|error| match error {
        Error::NotFound { .. } => Error::invalid("template_plan_id", "must be a plan of the same studio that you see"),
        other => other,
    })?;
    if found.modules.is_empty() {
        return Err(Error::FailedPrecondition {
            reason: "PLAN_NOT_READY",
            message: "the plan that this one is to be made from is not ready".into(),
        });
    }
    Ok(found)
}

async fn check_models(tx: &mut PgConnection, means: &Means) -> Result<()> {
    let named = [
        ("wish.model", &means.model),
        ("wish.fallback_model", &means.fallback_model),
    ];
    let named = named.iter().filter(|(_, name)| !name.is_empty());
    let names: BTreeSet<_> = named.clone().map(|(_, name)| (*name).clone()).collect();
    let known = store::known_models(tx, &names.into_iter().collect::<Vec<_>>()).await?;
    let mut violations = Violations::new();
    for (field, name) in named {
        if !known.contains(name) {
            violations.add(*field, "must be the name of an enabled model");
        }
    }
    violations.finish()
}

fn require_rest(running: bool) -> Result<()> {
    if running {
        return Err(Error::FailedPrecondition {
            reason: "PLAN_GENERATING",
            message: "an attempt is under way".into(),
        });
    }
    Ok(())
}

fn capped() -> Error {
    Error::ResourceExhausted {
        reason: "CAPPED",
        message: format!(
            "{} attempts were made; regenerate the plan for another version",
            super::status::ATTEMPTS
        ),
        retry_after: None,
    }
}
