//! A company's connections to the servers that its stages call: where each is, how it is called, and its secret.
//!
//! A secret is sealed under the installation's key ring and bound to its row ([`Secret`]); it is opened where a call is made and
//! nowhere else, and never answered. Only admins make and change connections; other members see which there are and how they
//! fare. What was given for one server is never sent to another: a new address needs its secret anew. Addresses are
//! members' words, so every call passes the outbound client's guard. Removing a connection breaks no model and no workflow:
//! they keep its name and say that it is gone.

use serde::Serialize;
use service_kit::{
    audit,
    auth::Caller,
    db::{self, TenantTx},
    error::{Error, Result},
    ids::{CompanyId, ConnectionId},
    page::Page,
    update,
};
use time::OffsetDateTime;

use crate::{
    App,
    access::{Access, hidden_as},
    requests,
};

mod api;
mod confined;
mod convert;
mod options;
mod secret;
mod store;
mod testing;

pub use self::{
    api::Api,
    confined::{Escapes, confined},
    options::{Kind, Options},
    secret::Secret,
};
pub(crate) use self::{store::sealed, testing::header};

/// A connection with what is known about it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its id.
    pub id: ConnectionId,
    /// Whose it is.
    pub company: CompanyId,
    /// What the server speaks.
    pub kind: Kind,
    /// What can be said about it.
    pub settings: Settings,
    /// What its secret is told by; empty where it is short or there is none.
    pub secret_hint: String,
    /// How it fared last.
    pub health: Option<Health>,
    /// Grows with every update.
    pub revision: i64,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

/// What a company says about its connection.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Unique in the company.
    pub name: String,
    /// Where it is.
    pub base_url: String,
    /// How it is called.
    pub options: Options,
    /// Whether stages may use it.
    pub enabled: bool,
}

/// How a connection fared last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether the last call was answered.
    pub is_ok: bool,
    /// When a call was last noted as answered.
    pub last_ok_at: Option<OffsetDateTime>,
    /// When a call last failed.
    pub last_error_at: Option<OffsetDateTime>,
    /// The failure's class.
    pub error_class: String,
    /// The reason within the class.
    pub error_reason: String,
    /// What happened, in words for people.
    pub error_message: String,
}

/// What an update changes; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The new name.
    pub name: Option<String>,
    /// The new address.
    pub base_url: Option<String>,
    /// The new way to call it.
    pub options: Option<Options>,
    /// The new secret; an inner `None` takes it away.
    pub secret: Option<Option<Secret>>,
    /// Whether stages may use it from now on.
    pub enabled: Option<bool>,
}

/// A connection to be made.
#[derive(Clone, Debug)]
pub struct New {
    /// Whose it is to be.
    pub company: CompanyId,
    /// What the server speaks.
    pub kind: Kind,
    /// What is said about it.
    pub settings: Settings,
    /// Its secret.
    pub secret: Option<Secret>,
}

/// Which connections to list.
#[derive(Clone, Debug, Serialize)]
pub struct Filter {
    /// Whose.
    pub company: CompanyId,
    /// Only of this kind.
    pub kind: Option<Kind>,
}

/// Whether somebody sees all of a connection, or only that it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// All but the secret.
    Admin,
    /// Its name, kind and health.
    Member,
}

/// Makes a connection.
pub async fn create(app: &App, caller: &Caller, new: &New, key: Option<&requests::Key>) -> Result<Connection> {
    let access = app.core.check_company(caller.user, new.company).await?;
    access.require_admin()?;
    let id = ConnectionId::generate();
    let mut tx = TenantTx::begin(&app.pool, "connections.create", &access.claims).await?;
    if let Some(first) = requests::claim(&mut tx, key, id).await? {
        return store::get(&mut tx, first).await?.ok_or_else(|| not_found(first));
    }
    let sealed = new.secret.as_ref().map(|it| it.seal(&app.keys, new.company, id));
    store::insert(&mut tx, id, caller.user, new, sealed.as_deref()).await?;
    let connection = store::get(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    let about = audit::About::company(access.company, "connection", id);
    app.audit.record(&mut tx, about).await?;
    tx.commit().await?;
    Ok(connection)
}

/// Reads a connection, and says how much of it the caller sees.
pub async fn get(app: &App, caller: &Caller, id: ConnectionId) -> Result<(Connection, Sight)> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "connections.get", &access.claims).await?;
    let connection = store::get(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    Ok((connection, sight(&access)))
}

/// Lists a company's connections by name, and says how much of them the caller sees.
pub async fn list(
    app: &App,
    caller: &Caller,
    filter: &Filter,
    page: &Page<String>,
) -> Result<(Vec<Connection>, Sight)> {
    let access = app.core.check_company(caller.user, filter.company).await?;
    let mut tx = TenantTx::begin(&app.pool, "connections.list", &access.claims).await?;
    Ok((store::list(&mut tx, filter, page).await?, sight(&access)))
}

/// Changes a connection.
pub async fn change(app: &App, caller: &Caller, id: ConnectionId, etag: &str, changes: &Changes) -> Result<Connection> {
    let access = enter(app, caller, id).await?;
    access.require_admin()?;
    let mut tx = TenantTx::begin(&app.pool, "connections.change", &access.claims).await?;
    store::lock(&mut tx, id).await?;
    let old = store::get(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    update::check_etag(etag, old.revision)?;
    convert::check(&old, changes, store::has_secret(&mut tx, id).await?)?;
    let sealed = changes.secret.as_ref().map(|secret| {
        let sealed = secret.as_ref().map(|it| it.seal(&app.keys, old.company, id));
        let hint = secret.as_ref().map_or_else(String::new, Secret::hint);
        (sealed, hint)
    });
    store::update(&mut tx, id, changes, sealed).await?;
    let connection = store::get(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    let about = audit::About::company(access.company, "connection", id);
    app.audit.record(&mut tx, about).await?;
    tx.commit().await?;
    Ok(connection)
}

/// Removes a connection.
pub async fn delete(app: &App, caller: &Caller, id: ConnectionId, etag: &str) -> Result<()> {
    let access = enter(app, caller, id).await?;
    access.require_admin()?;
    let mut tx = TenantTx::begin(&app.pool, "connections.delete", &access.claims).await?;
    store::lock(&mut tx, id).await?;
    let old = store::get(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    update::check_etag(etag, old.revision)?;
    store::delete(&mut tx, id).await?;
    let about = audit::About::company(access.company, "connection", id);
    app.audit.record(&mut tx, about).await?;
    tx.commit().await
}

/// A connection with its secret opened, for what a member of its company asks of the server behind it.
///
/// # Errors
/// `NotFound` where the caller is no member of its company; `FailedPrecondition` where it is disabled.
pub async fn for_caller(app: &App, caller: &Caller, id: ConnectionId) -> Result<Open> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "connections.open", &access.claims).await?;
    let sealed = store::sealed(&mut tx, access.company, id).await?;
    sealed.ok_or_else(|| not_found(id))?.open(&app.keys)?.usable()
}

/// A connection as calls need it.
#[derive(Clone, Debug)]
pub struct Open {
    /// Its id.
    pub id: ConnectionId,
    /// Whose it is.
    pub company: CompanyId,
    /// What stages call it.
    pub name: String,
    /// What the server speaks.
    pub kind: Kind,
    /// Where it is.
    pub base_url: String,
    /// How it is called.
    pub options: Options,
    /// Its secret.
    pub secret: Option<Secret>,
    /// Whether stages may use it.
    pub enabled: bool,
    /// Grows whenever it changes.
    pub revision: i64,
}

impl Open {
    fn usable(self) -> Result<Self> {
        if self.enabled {
            return Ok(self);
        }
        Err(Error::FailedPrecondition {
            reason: "CONNECTION_DISABLED",
            message: format!("the connection \"{}\" is disabled", self.name),
        })
    }
}

/// What the caller may do where a connection is.
async fn enter(app: &App, caller: &Caller, id: ConnectionId) -> Result<Access> {
    let company = db::with(&app.pool, async |connection| store::locate(connection, id).await).await?;
    let company = company.ok_or_else(|| not_found(id))?;
    let access = app.core.check_company(caller.user, company).await;
    access.map_err(hidden_as("connection", id))
}

fn sight(access: &Access) -> Sight {
    if access.require_admin().is_ok() {
        Sight::Admin
    } else {
        Sight::Member
    }
}

fn not_found(id: ConnectionId) -> Error {
    Error::not_found("connection", id)
}
