//! Templates: automations that are picked from a catalogue, filled in like a form, and run in a studio.
//!
//! A version never changes; it holds all that it does, with the schemas of what it takes and gives. The platform's come with the
//! program ([`catalogue`]) and are everybody's; a company's are made of its workflows and are its members'. A run is one of
//! a workflow that the studio has for that version: it is made once, hidden and unchangeable, and what happens to runs happens to
//! these alike. Deleting or deactivating a template ends no run.

use std::collections::HashMap;

use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use service_kit::{
    audit,
    auth::Caller,
    db::{self, Claims, TenantTx},
    error::{Error, Result},
    ids::{CompanyId, TemplateId, TemplateVersionId, UserId, WorkflowId},
    page::Page,
    update,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{
    App,
    access::{Access, hidden_as},
    engine::definition::Definition,
};

mod api;
pub mod catalogue;
mod catalogue_store;
mod convert;
pub mod form;
mod publishing;
mod running;
mod store;
mod version;
mod version_store;

pub use api::Api;
pub use version::Semver;

/// The most workflows of which it is remembered whether they run templates.
const MARKS: u64 = 50_000;

/// The template that a workflow runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The template.
    pub template: TemplateId,
    /// Its version.
    pub version: String,
}

impl Mark {
    /// The template's id and the version, as the contract writes them.
    pub fn into_texts(self) -> (String, String) {
        (self.template.to_string(), self.version)
    }
}

/// Which workflows run templates: that never changes, so what was looked up once holds.
#[derive(Debug)]
pub struct Marks(Cache<WorkflowId, Option<Mark>>);

impl Default for Marks {
    fn default() -> Self {
        Self(Cache::new(MARKS))
    }
}

/// The business area that a template is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// Marketing.
    Marketing,
    /// Sales.
    Sales,
    /// Operations.
    Operations,
    /// Customer support.
    CustomerSupport,
    /// Finance.
    Finance,
    /// Human resources.
    Hr,
    /// Anything else.
    Other,
}

impl Area {
    /// Every one of them.
    pub const ALL: [Self; 7] = [
        Self::Marketing,
        Self::Sales,
        Self::Operations,
        Self::CustomerSupport,
        Self::Finance,
        Self::Hr,
        Self::Other,
    ];

    /// As the database writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Marketing => "marketing",
            Self::Sales => "sales",
            Self::Operations => "operations",
            Self::CustomerSupport => "customer_support",
            Self::Finance => "finance",
            Self::Hr => "hr",
            Self::Other => "other",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == text)
    }
}

/// What a template asks of whoever uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Complexity {
    /// Nothing.
    Beginner,
    /// Some knowledge of its subject.
    Intermediate,
    /// That its output is checked by somebody who knows the subject well.
    Advanced,
}

impl Complexity {
    const ALL: [Self; 3] = [Self::Beginner, Self::Intermediate, Self::Advanced];

    /// As the database writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Beginner => "beginner",
            Self::Intermediate => "intermediate",
            Self::Advanced => "advanced",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == text)
    }
}

/// What a template says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Unique among its owner's templates.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The business area that it is for.
    pub area: Area,
    /// What it asks of whoever uses it.
    pub complexity: Complexity,
    /// How long it takes with its inputs at hand, in minutes.
    pub estimated_minutes: i32,
    /// In their order, each once.
    pub tags: Vec<String>,
}

/// A template without what it does.
#[derive(Clone, Debug)]
pub struct Template {
    /// Its id.
    pub id: TemplateId,
    /// Whose it is; nobody's are the platform's.
    pub company: Option<CompanyId>,
    /// What it says about itself.
    pub about: About,
    /// Whether it can be run.
    pub active: bool,
    /// Its newest version.
    pub newest: Semver,
    /// Who made it, as long as he has an account; nobody made the platform's.
    pub created_by: Option<UserId>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
    /// Grows with every update.
    pub revision: i64,
}

/// A version without what it does.
#[derive(Clone, Debug)]
struct VersionSummary {
    id: TemplateVersionId,
    template: TemplateId,
    version: Semver,
    notes: String,
    published_by: Option<UserId>,
    created_at: OffsetDateTime,
}

/// An immutable version of a template.
#[derive(Clone, Debug)]
struct Version {
    summary: VersionSummary,
    /// What it does, with the schemas of what it takes and gives.
    definition: Definition,
    /// Inputs to try it with.
    sample: Map<String, Value>,
}

/// What an update changes; `None` stays as it is.
#[derive(Clone, Debug, Default)]
struct Changes {
    name: Option<String>,
    description: Option<String>,
    area: Option<Area>,
    complexity: Option<Complexity>,
    estimated_minutes: Option<i32>,
    tags: Option<Vec<String>>,
    active: Option<bool>,
}

/// Whose templates to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Owner {
    Platform,
    Company,
}

/// Which templates to list, and in which order.
#[derive(Clone, Debug, Serialize)]
struct Filter {
    company: CompanyId,
    /// Words that name, description or tags must have, as PostgreSQL takes them.
    words: Option<String>,
    area: Option<Area>,
    complexity: Option<Complexity>,
    tag: Option<String>,
    owner: Option<Owner>,
    show_inactive: bool,
    order: Order,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Order {
    Name,
    NameBackwards,
    Oldest,
    Newest,
    FirstChanged,
    LastChanged,
}

impl Order {
    /// Every order by the words for it.
    const ALL: [(&str, Self); 6] = [
        ("name", Self::Name),
        ("name desc", Self::NameBackwards),
        ("create_time", Self::Oldest),
        ("create_time desc", Self::Newest),
        ("update_time", Self::FirstChanged),
        ("update_time desc", Self::LastChanged),
    ];

    /// The order that is asked for so, if there is such a one; nothing asks for names.
    fn parse(text: &str) -> Option<Self> {
        let asked = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if asked.is_empty() {
            return Some(Self::Name);
        }
        let found = Self::ALL.into_iter().find(|(word, _)| *word == asked);
        found.map(|(_, order)| order)
    }

    /// The words for it.
    fn as_str(self) -> &'static str {
        let found = Self::ALL.into_iter().find(|(_, order)| *order == self);
        found.map_or("", |(word, _)| word)
    }
}

/// Where a page ended, in any order.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Cursor {
    id: TemplateId,
    name: String,
    updated_at: OffsetDateTime,
}

impl From<&Template> for Cursor {
    fn from(template: &Template) -> Self {
        Self {
            id: template.id,
            name: template.about.name.clone(),
            updated_at: template.updated_at,
        }
    }
}

/// The templates that these workflows run, each in its workflow's place.
pub(crate) async fn marks(app: &App, workflows: &[WorkflowId]) -> Result<Vec<Option<Mark>>> {
    let known = |id: &WorkflowId| app.marks.0.get(id);
    let unknown: Vec<_> = workflows.iter().copied().filter(|id| known(id).is_none()).collect();
    let mut found = HashMap::new();
    if !unknown.is_empty() {
        found = db::with(&app.pool, async |it| store::locate_runs(it, &unknown).await).await?;
        for id in unknown {
            app.marks.0.insert(id, found.get(&id).cloned());
        }
    }
    let mark = |id| known(id).unwrap_or_else(|| found.get(id).cloned());
    Ok(workflows.iter().map(mark).collect())
}

/// Reads a template with one of its versions; without one, the newest.
async fn get(app: &App, caller: &Caller, id: TemplateId, version: Option<Semver>) -> Result<(Template, Version)> {
    let claims = claims(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "templates.get", &claims).await?;
    let template = read(&mut tx, id).await?;
    let version = find_version(&mut tx, &template, version).await?;
    Ok((template, version))
}

/// Lists the templates that a company may run.
async fn list(app: &App, caller: &Caller, filter: &Filter, page: &Page<Cursor>) -> Result<Vec<Template>> {
    let access = app.core.check_company(caller.user, filter.company).await?;
    let mut tx = TenantTx::begin(&app.pool, "templates.list", &access.claims).await?;
    store::list(&mut tx, filter, page).await
}

/// Lists a template's versions, newest first.
async fn list_versions(app: &App, caller: &Caller, id: TemplateId, page: &Page<Semver>) -> Result<Vec<VersionSummary>> {
    let claims = claims(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "templates.list_versions", &claims).await?;
    read(&mut tx, id).await?;
    version_store::list(&mut tx, id, page).await
}

/// Changes a company's template, for admins and who made it; what stays the same makes no new revision.
async fn change(
    app: &App,
    caller: &Caller,
    id: TemplateId,
    etag: &str,
    changes: &Changes,
) -> Result<(Template, Version)> {
    let access = enter_own(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "templates.change", &access.claims).await?;
    let found = lock_own(&mut tx, caller, &access, id, etag).await?;
    let template = if changes.differ_from(&found) {
        let about = audit::About::company(access.company, "template", id);
        app.audit.record(&mut tx, about).await?;
        store::update(&mut tx, id, changes).await?
    } else {
        found
    };
    let version = find_version(&mut tx, &template, None).await?;
    tx.commit().await?;
    Ok((template, version))
}

/// Takes a company's template out of the catalogue, for admins and who made it.
async fn delete(app: &App, caller: &Caller, id: TemplateId, etag: &str) -> Result<()> {
    let access = enter_own(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "templates.delete", &access.claims).await?;
    lock_own(&mut tx, caller, &access, id, etag).await?;
    store::delete(&mut tx, id).await?;
    let about = audit::About::company(access.company, "template", id);
    app.audit.record(&mut tx, about).await?;
    tx.commit().await
}

impl Changes {
    fn differ_from(&self, template: &Template) -> bool {
        fn differs<T: PartialEq>(change: Option<&T>, current: &T) -> bool {
            change.is_some_and(|it| it != current)
        }
        let about = &template.about;
        differs(self.name.as_ref(), &about.name)
            || differs(self.description.as_ref(), &about.description)
            || differs(self.area.as_ref(), &about.area)
            || differs(self.complexity.as_ref(), &about.complexity)
            || differs(self.estimated_minutes.as_ref(), &about.estimated_minutes)
            || differs(self.tags.as_ref(), &about.tags)
            || differs(self.active.as_ref(), &template.active)
    }
}

/// The claims that a template is read with; NOT_FOUND where the caller may not see it.
async fn claims(app: &App, caller: &Caller, id: TemplateId) -> Result<Claims> {
    Ok(match owner(app, id).await? {
        None => Claims::user(caller.user),
        Some(company) => enter(app, caller, id, company).await?.claims,
    })
}

/// What the caller may do with a template of his company; the platform's are the operator's.
async fn enter_own(app: &App, caller: &Caller, id: TemplateId) -> Result<Access> {
    match owner(app, id).await? {
        Some(company) => enter(app, caller, id, company).await,
        None => Err(Error::PermissionDenied {
            reason: "PLATFORM_TEMPLATE",
            message: "the platform's templates are the operator's to change; copy one to change it".into(),
        }),
    }
}

async fn owner(app: &App, id: TemplateId) -> Result<Option<CompanyId>> {
    let owner = db::with(&app.pool, async |connection| store::locate(connection, id).await).await?;
    owner.ok_or_else(|| not_found(id))
}

async fn enter(app: &App, caller: &Caller, id: TemplateId, company: CompanyId) -> Result<Access> {
    app.core
        .check_company(caller.user, company)
        .await
        .map_err(hidden_as("template", id))
}

/// A template that the transaction's caller may see.
async fn read(tx: &mut PgConnection, id: TemplateId) -> Result<Template> {
    store::get(tx, id).await?.ok_or_else(|| not_found(id))
}

/// The template, which nobody else changes until the transaction ends and the caller may change.
async fn lock_own(
    tx: &mut PgConnection,
    caller: &Caller,
    access: &Access,
    id: TemplateId,
    etag: &str,
) -> Result<Template> {
    let seen = read(tx, id).await?;
    access.require_admin_unless(seen.created_by == Some(caller.user))?;
    let found = store::lock(tx, id).await?.ok_or_else(|| not_found(id))?;
    update::check_etag(etag, found.revision)?;
    Ok(found)
}

/// A version of a template; without one, the newest.
async fn find_version(tx: &mut PgConnection, template: &Template, version: Option<Semver>) -> Result<Version> {
    let version = version.unwrap_or(template.newest);
    let found = version_store::find(tx, template.id, version).await?;
    found.ok_or_else(|| Error::not_found("template version", format!("{}/{version}", template.id)))
}

fn not_found(id: TemplateId) -> Error {
    Error::not_found("template", id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_one_of_those_that_there_are() {
        for (word, order) in Order::ALL {
            assert_eq!((Order::parse(word), order.as_str()), (Some(order), word));
        }
        assert_eq!(Order::parse(""), Some(Order::Name));
        for other in ["name asc", "area", "NAME", "desc"] {
            assert_eq!(Order::parse(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_written_of_a_template_reads_back() {
        for area in Area::ALL {
            assert_eq!(Area::parse(area.as_str()), Some(area));
        }
        for complexity in Complexity::ALL {
            assert_eq!(Complexity::parse(complexity.as_str()), Some(complexity));
        }
    }
}
