//! The registry of the models that stages may call: the platform's, which every company reads, and a company's own.
//!
//! A stage names a model; the company's own one comes before the platform's of the same name. Removing a model breaks no
//! workflow: its stages keep the name, and say that the model is gone when they are checked or run. Only admins change a
//! company's models, and nobody changes the platform's here. One of a company's may make the vectors of its documents; the
//! one that is told to last does.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use service_kit::{
    audit::About,
    auth::Caller,
    db::{self, Claims, TenantTx},
    error::{Error, Result},
    ids::{CompanyId, ConnectionId, ModelId},
    page::Page,
    update,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{
    App,
    access::hidden_as,
    providers::prices::{Catalogue, Known},
    requests,
};

mod api;
mod convert;
pub mod parameters;
mod store;

pub use api::Api;

/// A model with what is known about it.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its id.
    pub id: ModelId,
    /// Whose it is; nobody's are the platform's.
    pub company: Option<CompanyId>,
    /// What can be said about it.
    pub settings: Settings,
    /// Grows with every update.
    pub revision: i64,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

/// What a company says about its model.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Unique within its owner.
    pub name: String,
    /// The provider that serves it; of a model behind a connection, what the connection's server speaks.
    pub provider: String,
    /// The connection of the company that it is served through.
    pub connection: Option<ConnectionId>,
    /// The provider's own name for it.
    pub provider_model: String,
    /// Tokens that prompt and answer may have together; 0 where that was left open.
    pub context_length: i32,
    /// Default parameters of a call.
    pub default_config: Map<String, Value>,
    /// Price of a million input tokens, in millionths of a US dollar.
    pub input_price_micros: i64,
    /// Price of a million output tokens, in millionths of a US dollar.
    pub output_price_micros: i64,
    /// Whether stages may call it.
    pub enabled: bool,
    /// Whether it makes the vectors of the company's documents.
    pub embeds_documents: bool,
}

impl Settings {
    /// Fills in what is left open and known of the model.
    fn fill(&mut self, known: Option<&Known>) {
        let Some(known) = known else { return };
        if self.context_length == 0 {
            self.context_length = known.context_length.try_into().unwrap_or(i32::MAX);
        }
        if self.input_price_micros == 0 && self.output_price_micros == 0 {
            self.input_price_micros = known.input_price_micros;
            self.output_price_micros = known.output_price_micros;
        }
    }
}

/// What an update changes; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The new name.
    pub name: Option<String>,
    /// The provider's own name for it.
    pub provider_model: Option<String>,
    /// The new context length.
    pub context_length: Option<i32>,
    /// The new default parameters.
    pub default_config: Option<Map<String, Value>>,
    /// The new price of input tokens.
    pub input_price_micros: Option<i64>,
    /// The new price of output tokens.
    pub output_price_micros: Option<i64>,
    /// Whether stages may call it from now on.
    pub enabled: Option<bool>,
    /// Whether it makes the vectors of the company's documents from now on.
    pub embeds_documents: Option<bool>,
}

/// Which models to list.
#[derive(Clone, Debug, Serialize)]
pub struct Filter {
    /// The company that may use them.
    pub company: CompanyId,
    /// Only of this provider.
    pub provider: Option<String>,
}

/// The place in a list: the platform's first, then by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cursor {
    own: bool,
    name: String,
}

impl From<&Model> for Cursor {
    fn from(model: &Model) -> Self {
        Self {
            own: model.company.is_some(),
            name: model.settings.name.clone(),
        }
    }
}

/// Registers a model for a company.
pub async fn create(
    app: &App,
    caller: &Caller,
    company: CompanyId,
    settings: &Settings,
    key: Option<&requests::Key>,
) -> Result<Model> {
    let access = app.core.check_company(caller.user, company).await?;
    access.require_admin()?;
    let id = ModelId::generate();
    let mut tx = TenantTx::begin(&app.pool, "models.create", &access.claims).await?;
    if let Some(first) = requests::claim(&mut tx, key, id).await? {
        return store::get(&mut tx, first).await?.ok_or_else(|| not_found(first));
    }
    let served = serve(&mut tx, app.providers.catalogue(), settings).await?;
    if served.embeds_documents {
        store::relieve_embedding(&mut tx, company, id).await?;
    }
    let model = store::insert(&mut tx, id, company, &served).await?;
    app.audit.record(&mut tx, About::company(company, "model", id)).await?;
    tx.commit().await?;
    Ok(model)
}

/// The settings with the provider that the connection's server is, and with what is known of its model where they leave it
/// open.
async fn serve(tx: &mut PgConnection, catalogue: &Catalogue, settings: &Settings) -> Result<Settings> {
    let mut settings = settings.clone();
    let Some(id) = settings.connection else {
        return Ok(settings);
    };
    let kind = store::connection_kind(tx, id).await?;
    let kind = kind.ok_or_else(|| Error::invalid("model.connection_id", "names no connection of the company"))?;
    let protocol = kind.protocol().ok_or_else(|| {
        let message = format!("is a connection of the kind {}, which serves no models", kind.as_str());
        Error::invalid("model.connection_id", message)
    })?;
    protocol.as_str().clone_into(&mut settings.provider);
    settings.fill(catalogue.known(protocol, &settings.provider_model));
    if settings.context_length == 0 {
        let message = "must be given: the catalogue does not know this model";
        return Err(Error::invalid("model.context_length", message));
    }
    Ok(settings)
}

/// Reads a model of the platform or of one of the caller's companies.
pub async fn get(app: &App, caller: &Caller, id: ModelId) -> Result<Model> {
    let (claims, _) = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "models.get", &claims).await?;
    store::get(&mut tx, id).await?.ok_or_else(|| not_found(id))
}

/// Lists the models a company may use.
pub async fn list(app: &App, caller: &Caller, filter: &Filter, page: &Page<Cursor>) -> Result<Vec<Model>> {
    let access = app.core.check_company(caller.user, filter.company).await?;
    let mut tx = TenantTx::begin(&app.pool, "models.list", &access.claims).await?;
    store::list(&mut tx, filter, page).await
}

/// Changes a company's model.
pub async fn change(app: &App, caller: &Caller, id: ModelId, etag: &str, changes: &Changes) -> Result<Model> {
    let (claims, company) = enter_to_change(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "models.change", &claims).await?;
    let revision = store::lock(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    update::check_etag(etag, revision)?;
    if changes.embeds_documents == Some(true) {
        store::relieve_embedding(&mut tx, company, id).await?;
    }
    let model = store::update(&mut tx, id, changes)
        .await?
        .ok_or_else(|| not_found(id))?;
    app.audit.record(&mut tx, About::company(company, "model", id)).await?;
    tx.commit().await?;
    Ok(model)
}

/// Removes a company's model.
pub async fn delete(app: &App, caller: &Caller, id: ModelId, etag: &str) -> Result<()> {
    let (claims, company) = enter_to_change(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "models.delete", &claims).await?;
    let revision = store::lock(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    update::check_etag(etag, revision)?;
    store::delete(&mut tx, id).await?;
    app.audit.record(&mut tx, About::company(company, "model", id)).await?;
    tx.commit().await
}

/// The claims a model is reached with, and its company where the caller may change it.
async fn enter(app: &App, caller: &Caller, id: ModelId) -> Result<(Claims, Result<CompanyId>)> {
    let owner = db::with(&app.pool, async |connection| store::locate(connection, id).await).await?;
    let owner = owner.ok_or_else(|| not_found(id))?;
    let Some(company) = owner else {
        let refused = Error::PermissionDenied {
            reason: "PLATFORM_MODEL",
            message: "the platform's models are the operator's to change".into(),
        };
        return Ok((Claims::user(caller.user), Err(refused)));
    };
    let access = app
        .core
        .check_company(caller.user, company)
        .await
        .map_err(hidden_as("model", id))?;
    let may_change = access.require_admin().map(|()| company);
    Ok((access.claims, may_change))
}

async fn enter_to_change(app: &App, caller: &Caller, id: ModelId) -> Result<(Claims, CompanyId)> {
    let (claims, may_change) = enter(app, caller, id).await?;
    let company = may_change?;
    Ok((claims, company))
}

fn not_found(id: ModelId) -> Error {
    Error::not_found("model", id)
}
