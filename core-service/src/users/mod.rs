//! Users: the caller's own profile.
//!
//! A profile is visible to nobody but its user; of others a company's members see the name alone (see
//! [`memberships`](crate::companies::memberships)).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use service_kit::{
    audit::About,
    auth::Caller,
    db::{Claims, TenantTx},
    error::{Error, Result},
    gather::{Bounds, Gatherer, Kind},
    ids::UserId,
    lifecycle::Lifecycle,
    update,
};
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{App, contact::Email};

pub mod api;
mod convert;
pub(crate) mod store;

pub(crate) use convert::FULL_NAME;

/// A person.
#[derive(Clone, Debug)]
pub struct User {
    /// The person's id.
    pub id: UserId,
    /// In lower case; absent for users of an external issuer that tells none.
    pub email: Option<String>,
    /// What the user says about himself.
    pub profile: Profile,
    /// How many workflow snapshots the user may keep.
    pub max_snapshots: i32,
    /// The code of the personal plan.
    pub plan: String,
    /// Whether the personal subscription is in force.
    pub subscription: Subscription,
    /// When the user last signed in.
    pub last_sign_in_at: Option<OffsetDateTime>,
    /// Grows with every update.
    pub revision: i64,
    /// When the user was made.
    pub created_at: OffsetDateTime,
    /// When the user last changed.
    pub updated_at: OffsetDateTime,
}

/// What a user says about himself.
#[derive(Clone, PartialEq, Debug)]
pub struct Profile {
    /// For people.
    pub full_name: String,
    /// Free JSON of the client's.
    pub preferences: Map<String, Value>,
    /// Prompts kept for reuse, their ids all different.
    pub saved_prompts: Vec<SavedPrompt>,
}

/// A prompt kept for reuse.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedPrompt {
    /// Names it among the user's prompts.
    pub id: Uuid,
    /// For people.
    pub name: String,
    /// The text.
    pub prompt: String,
}

/// The state of a personal subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Subscription {
    /// In force.
    Active,
    /// Ended by its holder.
    Cancelled,
    /// Ran out.
    Expired,
}

/// What an update changes.
#[derive(Clone, Debug)]
pub enum Change {
    /// The full name.
    FullName(String),
    /// All preferences.
    Preferences(Map<String, Value>),
    /// All saved prompts.
    SavedPrompts(Vec<SavedPrompt>),
}

impl User {
    /// Somebody who has just been made, as the database makes him.
    pub(crate) fn fresh(id: UserId, email: &Email, full_name: &str, at: OffsetDateTime) -> Self {
        Self {
            id,
            email: Some(email.to_string()),
            profile: Profile {
                full_name: full_name.to_owned(),
                preferences: Map::new(),
                saved_prompts: Vec::new(),
            },
            max_snapshots: 50,
            plan: "free".into(),
            subscription: Subscription::Active,
            last_sign_in_at: None,
            revision: 1,
            created_at: at,
            updated_at: at,
        }
    }
}

impl Profile {
    fn apply(&mut self, change: Change) {
        match change {
            Change::FullName(it) => self.full_name = it,
            Change::Preferences(it) => self.preferences = it,
            Change::SavedPrompts(it) => self.saved_prompts = it,
        }
    }
}

/// Reads profiles, for many callers at a time.
pub type Reads = Gatherer<UserId, User>;

/// Gathers reads of profiles.
pub fn gather_reads(pool: PgPool, lifecycle: Lifecycle) -> Reads {
    let kind = Kind {
        name: "users.get",
        reads: true,
        statement: store::find_each,
    };
    Gatherer::new(pool, lifecycle, kind, Bounds::default())
}

/// Reads the caller's profile.
pub async fn get(app: &App, caller: &Caller) -> Result<User> {
    let user = app.profile_reads.call(&Claims::user(caller.user), caller.user).await?;
    user.ok_or_else(|| not_found(caller.user))
}

/// Changes the caller's profile.
pub async fn update(app: &App, caller: &Caller, etag: &str, changes: &[Change]) -> Result<User> {
    let mut tx = TenantTx::begin(&app.pool, "users.update", &Claims::user(caller.user)).await?;
    store::lock(&mut tx, caller.user).await?;
    let user = store::find(&mut tx, caller.user)
        .await?
        .ok_or_else(|| not_found(caller.user))?;
    update::check_etag(etag, user.revision)?;
    let mut profile = user.profile.clone();
    changes.iter().cloned().for_each(|change| profile.apply(change));
    if profile == user.profile {
        return Ok(user);
    }
    store::update(&mut tx, caller.user, &profile).await?;
    let user = store::find(&mut tx, caller.user)
        .await?
        .ok_or_else(|| not_found(caller.user))?;
    app.audit.record(&mut tx, About::own("user", caller.user)).await?;
    tx.commit().await?;
    Ok(user)
}

fn not_found(id: UserId) -> Error {
    Error::not_found("user", id)
}
