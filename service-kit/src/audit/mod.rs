//! The audit log: who did what to which thing, when, from where and in which trace.
//!
//! An entry is written in the transaction of what it records, by [`AuditLog::record`], or made by [`AuditLog::prepare`] for a
//! statement that writes many callers' things at once; nobody can change one afterwards. What says where a person was or names
//! somebody is encrypted with a key of the actor's, which his erasure deletes. A sealer for each schema puts the committed entries
//! into a chain for each company and signs its head ([`Sealer`]), so that an entry that was changed, removed, moved or cut off is
//! found by whoever has the public key ([`Walk`]).

mod chain;
mod convert;
mod entry;
mod lines;
mod opener;
mod origin;
mod reading;
mod sealer;
mod store;
mod subjects;

use serde_json::{Map, Value};
use sqlx::{PgConnection, PgPool, types::Uuid};

pub use chain::{AuditKeys, Hash, Head, Problem, Walk};
pub use convert::MOST_PROBLEMS;
pub use entry::{Actor, ActorKind, Entry, Outcome};
pub use lines::{Format, Line};
pub use opener::Opener;
pub(crate) use origin::OriginStep;
pub use origin::{Origin, current as current_origin, within as within_origin};
pub use reading::{Cursor, Filter, Personal, Report, Shown, Wanted};
pub use sealer::Sealer;
pub use store::Schema;

use self::{entry::Sealed, subjects::Subjects};
use crate::{
    clock::SharedClock,
    db::{Claims, TenantTx},
    error::{Error, Result},
    ids::{CompanyId, UserId},
    keys::KeyRing,
};

/// What an entry is about.
#[derive(Debug, Clone)]
pub struct About {
    company: Option<CompanyId>,
    thing: (&'static str, Option<Uuid>),
    outcome: Outcome,
    details: Map<String, Value>,
}

impl About {
    /// A thing of a company's, such as `studio`.
    pub fn company(company: CompanyId, kind: &'static str, id: impl Into<Uuid>) -> Self {
        Self {
            company: Some(company),
            thing: (kind, Some(id.into())),
            outcome: Outcome::Done,
            details: Map::new(),
        }
    }

    /// A thing of the actor's own, such as `user`.
    pub fn own(kind: &'static str, id: impl Into<Uuid>) -> Self {
        Self {
            company: None,
            thing: (kind, Some(id.into())),
            outcome: Outcome::Done,
            details: Map::new(),
        }
    }

    /// A thing of the platform's, such as `plan`.
    pub fn platform(kind: &'static str) -> Self {
        Self {
            company: None,
            thing: (kind, None),
            outcome: Outcome::Done,
            details: Map::new(),
        }
    }

    /// The same, and it was refused.
    #[must_use]
    pub fn refused(mut self) -> Self {
        self.outcome = Outcome::Refused;
        self
    }

    /// The same with something more that is known of it; it is encrypted.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}

/// An entry that is yet to be written, as the log's table takes it.
#[derive(Debug, Clone)]
pub struct Prepared(String);

impl Prepared {
    /// A JSON object with the table's columns.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Writes and reads the log of one schema.
pub struct AuditLog {
    schema: Schema,
    keys: KeyRing,
    clock: SharedClock,
    subjects: Subjects,
}

impl AuditLog {
    /// The log of a schema.
    pub fn new(schema: Schema, keys: KeyRing, clock: SharedClock) -> Self {
        Self {
            schema,
            subjects: Subjects::new(schema, keys.clone()),
            keys,
            clock,
        }
    }

    /// Records what the request's caller does, in the transaction in which he does it; its claims are his.
    pub async fn record(&self, tx: &mut PgConnection, about: About) -> Result<()> {
        let origin = origin::current().ok_or_else(no_request)?;
        let actor = origin.actor.clone().ok_or_else(no_request)?;
        self.write(tx, &actor, Some(&origin), about).await
    }

    /// Records what somebody does who is only now known, as by signing in.
    pub async fn record_by(&self, tx: &mut PgConnection, user: UserId, about: About) -> Result<()> {
        let origin = origin::current();
        self.write(tx, &Actor::user(user), origin.as_deref(), about).await
    }

    /// Makes an entry that is written by the statement that does what it records. What the actor's first one needs is written
    /// through `pool`.
    pub async fn prepare(&self, pool: &PgPool, about: About) -> Result<Prepared> {
        let origin = origin::current().ok_or_else(no_request)?;
        let actor = origin.actor.clone().ok_or_else(no_request)?;
        let key = if let Some(key) = self.subjects.known(actor.id) {
            key
        } else {
            let mut tx = TenantTx::begin(pool, "audit.subject", &Claims::user(actor.id.into())).await?;
            let key = self.subjects.find_or_make(&mut tx, actor.id).await?;
            tx.commit().await?;
            key
        };
        Ok(Prepared(self.seal(&actor, Some(&origin), about, &key).to_json()))
    }

    async fn write(&self, tx: &mut PgConnection, actor: &Actor, origin: Option<&Origin>, about: About) -> Result<()> {
        let key = match self.subjects.known(actor.id) {
            Some(key) => key,
            None => self.subjects.find_or_make(tx, actor.id).await?,
        };
        let sealed = self.seal(actor, origin, about, &key);
        store::append(tx, self.schema, &sealed.to_json()).await
    }

    fn seal(&self, actor: &Actor, origin: Option<&Origin>, about: About, key: &subjects::DataKey) -> Sealed {
        entry::seal(actor, origin, about, key, self.clock.now())
    }
}

fn no_request() -> Error {
    Error::internal("something is to be recorded of which no request is known")
}
