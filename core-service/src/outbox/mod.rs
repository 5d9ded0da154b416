//! Events that the other service must learn of, written in the commit that causes them, and told to those who follow.
//!
//! Their positions come out in commit order, so that who follows them by a cursor misses none. For that, publishing holds
//! a lock until the commit: it is the last thing that a transaction does. Whatever changes an answer of
//! [`access`](crate::access) that was given before, publishes; what only grants something new need not. A follower goes on
//! after an event that is still kept; of one that is gone it cannot be said what came after it, and the follower starts anew.

use std::time::Duration;

use service_kit::{
    db::WorkerTx,
    error::Result,
    ids::{CompanyId, SessionId, StudioId, UserId},
};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

mod follower;
mod store;
mod tail;

pub use follower::{Follower, Told};
pub use tail::Tail;

/// How long events are kept for those who follow.
const RETENTION: Duration = Duration::from_hours(24);

/// How many are kept at most.
const KEPT: i64 = 100_000;

/// A change that others must learn of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A user's membership came or went, or changed its role or its branches.
    MembershipChanged {
        /// The company.
        company: CompanyId,
        /// The user.
        user: UserId,
    },
    /// A company has another plan.
    PlanChanged {
        /// The company.
        company: CompanyId,
    },
    /// A studio has another name, or belongs to another branch.
    StudioChanged {
        /// Its company.
        company: CompanyId,
        /// The studio.
        studio: StudioId,
    },
    /// A studio was deleted.
    StudioDeleted {
        /// Its company.
        company: CompanyId,
        /// The studio.
        studio: StudioId,
    },
    /// A deleted studio was brought back.
    StudioUndeleted {
        /// Its company.
        company: CompanyId,
        /// The studio.
        studio: StudioId,
    },
    /// A company was deleted.
    CompanyDeleted {
        /// The company.
        company: CompanyId,
    },
    /// A session ended before its time.
    SessionEnded {
        /// The session.
        session: SessionId,
    },
}

impl Event {
    /// The company that it is about; that of all zeros, which nobody has, where it is about none.
    pub fn company(self) -> CompanyId {
        match self {
            Self::MembershipChanged { company, .. }
            | Self::PlanChanged { company }
            | Self::StudioChanged { company, .. }
            | Self::StudioDeleted { company, .. }
            | Self::StudioUndeleted { company, .. }
            | Self::CompanyDeleted { company } => company,
            Self::SessionEnded { .. } => Uuid::nil().into(),
        }
    }
}

/// An event as it stands in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its place in the order of commits.
    pub position: i64,
    /// The company that it is about.
    pub company: CompanyId,
    /// What happened; `None` where a newer release wrote it.
    pub event: Option<Event>,
}

/// Adds an event, and answers its position. The caller of `tx` must have a place in the company, or have had it before, or be
/// the session's user.
pub async fn publish(tx: &mut PgConnection, event: &Event) -> Result<i64> {
    store::publish(tx, event).await
}

/// Removes at most `limit` of the events that need not be kept, oldest first, and says how many they were. The newest stays.
pub(crate) async fn trim(pool: &PgPool, limit: i64) -> Result<u64> {
    let mut tx = WorkerTx::begin(pool, "outbox.trim").await?;
    let removed = store::trim(&mut tx, RETENTION, KEPT, limit).await?;
    tx.commit().await?;
    Ok(removed)
}
