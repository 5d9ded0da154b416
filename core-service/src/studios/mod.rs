//! Studios: where a company keeps its documents and workflows.
//!
//! All approved members reach them, narrowed ones those of their branches. Deletion is soft: a deleted studio keeps what
//! is in it, can still be read, and comes back within [`RETENTION`] if its name is free and the plan has room. Deleting
//! what is deleted, and bringing back what is in use, change nothing and succeed.

use std::time::Duration;

use serde::Serialize;
use service_kit::{
    audit::About,
    auth::Caller,
    db::{Claims, TenantTx},
    error::{Error, Result},
    gather::{Bounds, Gatherer, Kind},
    ids::{BranchId, CompanyId, StudioId, UserId},
    lifecycle::Lifecycle,
    page::Page,
    update,
};
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::{
    App,
    companies::memberships::{self, Place},
    outbox::{self, Event},
    requests,
};

pub mod api;
mod convert;
mod create;
mod store;

pub use create::{Creations, create, gather_creations};

/// How long a softly deleted studio can be brought back.
pub const RETENTION: Duration = Duration::from_hours(30 * 24);

/// A place for one kind of work.
#[derive(Clone, Debug)]
pub struct Studio {
    /// Its id.
    pub id: StudioId,
    /// Whose it is.
    pub company: CompanyId,
    /// What its members say about it.
    pub details: Details,
    /// Who made it.
    pub created_by: UserId,
    /// When it was deleted softly.
    pub deleted_at: Option<OffsetDateTime>,
    /// Grows with every update.
    pub revision: i64,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

/// What members say about a studio.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Details {
    /// The branch it belongs to.
    pub branch: Option<BranchId>,
    /// Unique within the company.
    pub name: String,
    /// For people.
    pub description: String,
    /// What the work is about.
    pub area: BusinessArea,
}

/// What a studio's work is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum BusinessArea {
    Marketing,
    Sales,
    Operations,
    CustomerSupport,
    Finance,
    Hr,
    Other,
}

/// A studio to be made.
#[derive(Clone, Debug)]
pub struct NewStudio {
    /// Whose it will be.
    pub company: CompanyId,
    /// What is said about it.
    pub details: Details,
    /// Makes a repeated request harmless.
    pub key: Option<requests::Key>,
}

/// An update of a studio.
#[derive(Clone, Debug)]
pub struct StudioUpdate {
    /// Which studio.
    pub id: StudioId,
    /// If not empty, what it must still have.
    pub etag: String,
    /// What becomes different.
    pub changes: Vec<Change>,
}

/// What an update changes.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named like the fields of `Details`")]
pub enum Change {
    Branch(Option<BranchId>),
    Name(String),
    Description(String),
    Area(BusinessArea),
}

impl Details {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Branch(it) => self.branch = it,
            Change::Name(it) => self.name = it,
            Change::Description(it) => self.description = it,
            Change::Area(it) => self.area = it,
        }
    }
}

/// Which studios to list.
#[derive(Clone, Debug, Serialize)]
pub struct Filter {
    /// Only of this company.
    pub company: Option<CompanyId>,
    /// Only of this branch.
    pub branch: Option<BranchId>,
    /// Only of this business area.
    pub area: Option<BusinessArea>,
    /// Also softly deleted ones.
    pub show_deleted: bool,
}

/// Reads single studios, for many callers at a time.
pub type Reads = Gatherer<StudioId, Studio>;

/// Gathers reads of single studios.
pub fn gather_reads(pool: PgPool, lifecycle: Lifecycle) -> Reads {
    let kind = Kind {
        name: "studios.get",
        reads: true,
        statement: store::find_each,
    };
    Gatherer::new(pool, lifecycle, kind, Bounds::default())
}

/// How many studios a company uses, and may use by its plan.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    used: i64,
    allowed: i32,
}

impl Quota {
    /// Refuses one more than there may be.
    fn require_room(self) -> Result<()> {
        if self.used < self.allowed.into() {
            return Ok(());
        }
        Err(self.exceeded())
    }

    fn exceeded(self) -> Error {
        Error::ResourceExhausted {
            reason: "STUDIO_QUOTA_EXCEEDED",
            message: format!("the company's plan has room for {} studios", self.allowed),
            retry_after: None,
        }
    }
}

/// Reads a studio that the caller reaches, softly deleted or not.
pub async fn get(app: &App, caller: &Caller, id: StudioId) -> Result<Studio> {
    let studio = app.studio_reads.call(&Claims::user(caller.user), id).await?;
    studio.ok_or_else(|| not_found(id))
}

/// Lists the studios that the caller reaches, newest first.
pub async fn list(app: &App, caller: &Caller, filter: &Filter, page: &Page<StudioId>) -> Result<Vec<Studio>> {
    let mut tx = TenantTx::begin(&app.pool, "studios.list", &Claims::user(caller.user)).await?;
    if let Some(company) = filter.company {
        memberships::place(&mut tx, company).await?;
    }
    store::list(&mut tx, filter, page).await
}

/// Changes a studio that is in use.
pub async fn update(app: &App, caller: &Caller, update: &StudioUpdate) -> Result<Studio> {
    let id = update.id;
    let mut tx = TenantTx::begin(&app.pool, "studios.update", &Claims::user(caller.user)).await?;
    let (studio, place) = enter(&mut tx, id).await?;
    update::check_etag(&update.etag, studio.revision)?;
    if studio.deleted_at.is_some() {
        return Err(Error::FailedPrecondition {
            reason: "STUDIO_DELETED",
            message: "the studio is deleted; bring it back first".into(),
        });
    }
    let mut details = studio.details.clone();
    update.changes.iter().cloned().for_each(|change| details.apply(change));
    if details == studio.details {
        return Ok(studio);
    }
    place.require_reach(details.branch)?;
    store::update(&mut tx, id, &details).await?;
    let is_renamed_or_moved = details.name != studio.details.name || details.branch != studio.details.branch;
    let studio = store::find(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    app.audit
        .record(&mut tx, About::company(studio.company, "studio", id))
        .await?;
    if is_renamed_or_moved {
        let event = Event::StudioChanged {
            company: studio.company,
            studio: id,
        };
        outbox::publish(&mut tx, &event).await?;
    }
    tx.commit().await?;
    Ok(studio)
}

/// Deletes a studio softly, for admins and its maker.
pub async fn delete(app: &App, caller: &Caller, id: StudioId, etag: &str) -> Result<Studio> {
    let mut tx = TenantTx::begin(&app.pool, "studios.delete", &Claims::user(caller.user)).await?;
    let (studio, place) = enter(&mut tx, id).await?;
    place.require_admin_unless(studio.created_by == caller.user)?;
    update::check_etag(etag, studio.revision)?;
    if studio.deleted_at.is_some() {
        return Ok(studio);
    }
    store::set_deleted(&mut tx, &studio, Some(app.clock.now())).await?;
    let studio = store::find(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    app.audit
        .record(&mut tx, About::company(studio.company, "studio", id))
        .await?;
    let event = Event::StudioDeleted {
        company: studio.company,
        studio: id,
    };
    outbox::publish(&mut tx, &event).await?;
    tx.commit().await?;
    Ok(studio)
}

/// Brings a softly deleted studio back, for admins and its maker.
pub async fn undelete(app: &App, caller: &Caller, id: StudioId) -> Result<Studio> {
    let mut tx = TenantTx::begin(&app.pool, "studios.undelete", &Claims::user(caller.user)).await?;
    let (studio, place) = enter(&mut tx, id).await?;
    place.require_admin_unless(studio.created_by == caller.user)?;
    let Some(deleted_at) = studio.deleted_at else {
        return Ok(studio);
    };
    require_retained(deleted_at, app.clock.now())?;
    store::quota(&mut tx, studio.company).await?.require_room()?;
    store::set_deleted(&mut tx, &studio, None).await?;
    let studio = store::find(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    app.audit
        .record(&mut tx, About::company(studio.company, "studio", id))
        .await?;
    let event = Event::StudioUndeleted {
        company: studio.company,
        studio: id,
    };
    outbox::publish(&mut tx, &event).await?;
    tx.commit().await?;
    Ok(studio)
}

/// The studio as it is and, held until the end of the transaction, stays; with the caller's place in its company.
async fn enter(tx: &mut TenantTx, id: StudioId) -> Result<(Studio, Place)> {
    store::lock(tx, id).await?;
    let studio = store::find(tx, id).await?.ok_or_else(|| not_found(id))?;
    let place = memberships::place(tx, studio.company).await?;
    Ok((studio, place))
}

fn require_retained(deleted_at: OffsetDateTime, now: OffsetDateTime) -> Result<()> {
    if now <= deleted_at + RETENTION {
        return Ok(());
    }
    Err(Error::FailedPrecondition {
        reason: "STUDIO_RETENTION_OVER",
        message: "the studio was deleted more than 30 days ago".into(),
    })
}

fn not_found(id: StudioId) -> Error {
    Error::not_found("studio", id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_room_up_to_its_limit() {
        assert!(Quota { used: 2, allowed: 3 }.require_room().is_ok());
        for used in [3, 4] {
            let refused = Quota { used, allowed: 3 }.require_room();
            assert!(matches!(
                refused,
                Err(Error::ResourceExhausted {
                    reason: "STUDIO_QUOTA_EXCEEDED",
                    ..
                })
            ));
        }
    }

    #[test]
    fn a_studio_comes_back_within_its_retention_only() {
        let deleted = OffsetDateTime::UNIX_EPOCH;
        assert!(require_retained(deleted, deleted + RETENTION).is_ok());
        let refused = require_retained(deleted, deleted + RETENTION + Duration::from_secs(1));
        assert!(matches!(
            refused,
            Err(Error::FailedPrecondition {
                reason: "STUDIO_RETENTION_OVER",
                ..
            })
        ));
    }
}
