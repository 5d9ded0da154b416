//! API keys: what a company's admins give to its machines.
//!
//! A key is a user of its own with a member's place in its company, made with it and ended with it; so whoever loses the key loses
//! the place at once, in both services, and what a key may see is decided where it is for everybody. How a key looks and what its
//! scopes hold is service-kit's.

use futures::future::BoxFuture;
use service_kit::{
    audit::About,
    auth::{
        Caller,
        api_keys::{ApiKey, ApiKeySource, Scope, Secret},
    },
    db::{Claims, TenantTx},
    error::{Error, Result},
    ids::{BranchId, CompanyId, MembershipId, UserId},
    page::Page,
};
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::{
    App,
    companies::{branches, memberships},
    outbox::{self, Event},
};

pub mod api;
pub(crate) mod convert;
mod store;

/// A key, without its text.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its id, which is that of the user that it acts as.
    pub id: UserId,
    /// Whose it is.
    pub company: CompanyId,
    /// What it is for.
    pub name: String,
    /// How its text begins.
    pub prefix: String,
    /// What it may be used for.
    pub scopes: Vec<String>,
    /// The branches that it is narrowed to; empty means all.
    pub branches: Vec<BranchId>,
    /// When it ends by itself.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<OffsetDateTime>,
    /// When it was revoked.
    pub revoked_at: Option<OffsetDateTime>,
    /// Who made it.
    pub created_by: Option<UserId>,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Whose it will be.
    pub company: CompanyId,
    /// What it is for.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// The branches that it is narrowed to; empty means all.
    pub branches: Vec<BranchId>,
    /// When it ends by itself.
    pub expires_at: Option<OffsetDateTime>,
}

/// Makes a key, for the company's admins. Its text is nowhere but in the answer.
async fn create(app: &App, caller: &Caller, new: &NewKey) -> Result<(Key, Secret)> {
    if new.expires_at.is_some_and(|it| it <= app.clock.now()) {
        return Err(Error::invalid("api_key.expire_time", "must be in the future"));
    }
    let mut tx = TenantTx::begin(&app.pool, "api_keys.create", &Claims::user(caller.user)).await?;
    memberships::place(&mut tx, new.company).await?.require_admin()?;
    for branch in &new.branches {
        branches::require(&mut tx, new.company, *branch).await?;
    }
    let (id, secret) = (UserId::generate(), Secret::generate());
    let hash = secret.hash(&app.keys);
    if !store::insert(&mut tx, id, MembershipId::generate(), new, &hash, secret.shown()).await? {
        return Err(Error::ResourceExhausted {
            reason: "API_KEY_QUOTA_EXCEEDED",
            message: "a company has at most 100 API keys in use".into(),
            retry_after: None,
        });
    }
    let key = store::find(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    app.audit
        .record(&mut tx, About::company(new.company, "api_key", id))
        .await?;
    tx.commit().await?;
    Ok((key, secret))
}

/// Lists a company's keys, newest first, for its admins.
async fn list(app: &App, caller: &Caller, company: CompanyId, page: &Page<UserId>) -> Result<Vec<Key>> {
    let mut tx = TenantTx::begin(&app.pool, "api_keys.list", &Claims::user(caller.user)).await?;
    memberships::place(&mut tx, company).await?.require_admin()?;
    store::list(&mut tx, company, page).await
}

/// Ends a key and its place in the company, for the company's admins.
async fn revoke(app: &App, caller: &Caller, id: UserId) -> Result<Key> {
    let mut tx = TenantTx::begin(&app.pool, "api_keys.revoke", &Claims::user(caller.user)).await?;
    let key = store::find(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    if !store::revoke(&mut tx, &key, app.clock.now()).await? {
        return Ok(key);
    }
    let company = key.company;
    let key = store::find(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    app.audit
        .record(&mut tx, About::company(company, "api_key", id))
        .await?;
    outbox::publish(&mut tx, &Event::MembershipChanged { company, user: id }).await?;
    tx.commit().await?;
    Ok(key)
}

/// The key that has one of these hashes, if it may be used; notes that it was.
pub(crate) async fn find(pool: &PgPool, hashes: &[Vec<u8>]) -> Result<Option<ApiKey>> {
    let mut tx = TenantTx::begin(pool, "api_keys.use", &Claims::user(UserId::generate())).await?;
    let found = store::use_key(&mut tx, hashes).await?;
    tx.commit().await?;
    Ok(found)
}

/// Where this service looks keys up: in its database.
pub struct StoredApiKeys(pub PgPool);

impl ApiKeySource for StoredApiKeys {
    fn find(&self, hashes: Vec<Vec<u8>>) -> BoxFuture<'_, Result<Option<ApiKey>>> {
        Box::pin(async move { find(&self.0, &hashes).await })
    }
}

fn not_found(id: UserId) -> Error {
    Error::not_found("api_key", id)
}
