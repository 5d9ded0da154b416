//! Making studios, for many callers in one statement.
//!
//! The statement decides: it judges the caller's place and reach, the idempotency key, the plan's room and the name for each
//! studio in turn, and refuses without an error, so that neighbours are not disturbed. What it found is told here.

use service_kit::{
    audit::{About, Prepared},
    auth::Caller,
    db::Claims,
    error::{Error, Result},
    gather::{Bounds, Gatherer, Kind},
    ids::StudioId,
    lifecycle::Lifecycle,
    requests::First,
};
use sqlx::PgPool;
use time::OffsetDateTime;

use super::{NewStudio, Quota, Studio, store};
use crate::{
    App,
    companies::{self, branches, memberships},
};

/// Makes studios, each with the id that it will have and the entry that records it, for many callers at a time.
pub type Creations = Gatherer<Creation, Outcome>;

/// A studio to be made, with the entry that records it.
#[derive(Clone, Debug)]
pub struct Creation {
    pub(super) id: StudioId,
    pub(super) new: NewStudio,
    pub(super) audit: Prepared,
}

/// Gathers the making of studios.
pub fn gather_creations(pool: PgPool, lifecycle: Lifecycle) -> Creations {
    let kind = Kind {
        name: "studios.create",
        reads: false,
        statement: store::create_each,
    };
    Gatherer::new(pool, lifecycle, kind, Bounds::default())
}

/// What became of a studio to be made.
#[derive(Debug)]
pub enum Outcome {
    /// It is there.
    Made {
        /// Its first revision.
        revision: i64,
        /// When it was made.
        created_at: OffsetDateTime,
        /// The same.
        updated_at: OffsetDateTime,
    },
    /// Its key was taken before, by this request; none if the key ran out since it was seen.
    Repeated(Option<First>),
    /// The caller has no place in the company.
    NoCompany,
    /// The caller is narrowed to other branches.
    OutOfReach,
    /// The company has no such branch.
    NoBranch,
    /// The plan has no room.
    NoRoom(Quota),
    /// The company uses another studio of this name.
    NameTaken,
}

/// Makes a studio.
pub async fn create(app: &App, caller: &Caller, new: &NewStudio) -> Result<Studio> {
    let claims = Claims::user(caller.user);
    let id = StudioId::generate();
    let audit = app
        .audit
        .prepare(&app.pool, About::company(new.company, "studio", id))
        .await?;
    let creation = Creation {
        id,
        new: new.clone(),
        audit,
    };
    let outcome = app.studio_creations.call(&claims, creation).await;
    let outcome = outcome.map_err(|error| store::refused_alone(error, &new.details))?;
    match outcome.ok_or_else(|| Error::internal("nothing is said of a studio to be made"))? {
        Outcome::Made {
            revision,
            created_at,
            updated_at,
        } => Ok(Studio {
            id,
            company: new.company,
            details: new.details.clone(),
            created_by: caller.user,
            deleted_at: None,
            revision,
            created_at,
            updated_at,
        }),
        Outcome::Repeated(first) => {
            let key = new.key.as_ref();
            let key = key.ok_or_else(|| Error::internal("a request without a key is said to be repeated"))?;
            super::get(app, caller, key.replay(first)?).await
        }
        Outcome::NoCompany => Err(companies::not_found(new.company)),
        Outcome::OutOfReach => Err(memberships::out_of_reach()),
        Outcome::NoBranch => Err(match new.details.branch {
            Some(branch) => branches::not_found(branch),
            None => Error::internal("a studio of no branch is said to be of an unknown one"),
        }),
        Outcome::NoRoom(quota) => Err(quota.exceeded()),
        Outcome::NameTaken => Err(store::name_taken()),
    }
}
