//! Companies: the tenants. Everything else belongs to one.
//!
//! Who makes a company becomes its first admin in the same commit. Members see it, admins change it, and to everybody
//! else it does not exist.

use serde::{Deserialize, Serialize};
use service_kit::{
    audit::About,
    auth::Caller,
    db::{Claims, TenantTx},
    error::{Error, Result},
    gather::{Bounds, Gatherer, Kind},
    ids::{CompanyId, UserId},
    lifecycle::Lifecycle,
    page::Page,
    update,
};
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::{
    App,
    contact::{Email, Phone},
    outbox::{self, Event},
    requests,
    users::Subscription as SubscriptionStatus,
};

pub mod api;
pub mod branches;
mod convert;
pub mod explain;
pub mod join_codes;
pub mod memberships;
pub mod plans;
pub(crate) mod storage;
pub(crate) mod store;

/// A business.
#[derive(Clone, Debug)]
pub struct Company {
    /// Its id.
    pub id: CompanyId,
    /// What its admins say about it.
    pub details: Details,
    /// The code of its plan.
    pub plan: String,
    /// How its subscription stands.
    pub subscription: Subscription,
    /// Who made it.
    pub created_by: UserId,
    /// Grows with every update.
    pub revision: i64,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

/// How a company's subscription stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// Whether it runs.
    pub status: SubscriptionStatus,
    /// When what is paid for begins.
    pub period_start: Option<OffsetDateTime>,
    /// When it ends.
    pub period_end: Option<OffsetDateTime>,
    /// Whether another period follows.
    pub renews: bool,
    /// When the company was suspended; nothing in it can be reached since.
    pub suspended_at: Option<OffsetDateTime>,
}

/// What admins say about their company.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Details {
    /// Unique among the companies of one maker.
    pub name: String,
    /// What it does.
    pub industry: Industry,
    /// Where it reads mail.
    pub contact_email: Email,
    /// Where it takes calls.
    pub contact_phone: Option<Phone>,
    /// Where it sits.
    pub headquarters_address: String,
}

/// What a company does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Industry {
    Technology,
    Healthcare,
    Finance,
    Retail,
    Manufacturing,
    Education,
    Consulting,
    Other,
}

/// A company to be made.
#[derive(Clone, Debug)]
pub struct NewCompany {
    /// What its first admin says about it.
    pub details: Details,
    /// Makes a repeated request harmless.
    pub key: Option<requests::Key>,
}

/// An update of a company.
#[derive(Clone, Debug)]
pub struct CompanyUpdate {
    /// Which company.
    pub id: CompanyId,
    /// If not empty, what it must still have.
    pub etag: String,
    /// What becomes different.
    pub changes: Vec<Change>,
}

/// What an update changes.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named like the fields of `Details`")]
pub enum Change {
    Name(String),
    Industry(Industry),
    ContactEmail(Email),
    ContactPhone(Option<Phone>),
    HeadquartersAddress(String),
}

impl Details {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Name(it) => self.name = it,
            Change::Industry(it) => self.industry = it,
            Change::ContactEmail(it) => self.contact_email = it,
            Change::ContactPhone(it) => self.contact_phone = it,
            Change::HeadquartersAddress(it) => self.headquarters_address = it,
        }
    }
}

/// The place in a list by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cursor {
    name: String,
    id: CompanyId,
}

impl From<&Company> for Cursor {
    fn from(company: &Company) -> Self {
        Self {
            name: company.details.name.clone(),
            id: company.id,
        }
    }
}

/// Reads single companies, for many callers at a time.
pub type Reads = Gatherer<CompanyId, Company>;

/// Gathers reads of single companies.
pub fn gather_reads(pool: PgPool, lifecycle: Lifecycle) -> Reads {
    let kind = Kind {
        name: "companies.get",
        reads: true,
        statement: store::find_each,
    };
    Gatherer::new(pool, lifecycle, kind, Bounds::default())
}

/// Makes a company with the caller as its admin.
pub async fn create(app: &App, caller: &Caller, new: &NewCompany) -> Result<Company> {
    let id = CompanyId::generate();
    let mut tx = TenantTx::begin(&app.pool, "companies.create", &Claims::user(caller.user)).await?;
    if let Some(first) = requests::claim(&mut tx, new.key.as_ref(), id).await? {
        return store::find(&mut tx, first).await?.ok_or_else(|| not_found(first));
    }
    store::insert(&mut tx, id, caller.user, &new.details).await?;
    memberships::found(&mut tx, id, caller.user).await?;
    let company = store::find(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    let event = Event::MembershipChanged {
        company: id,
        user: caller.user,
    };
    app.audit.record(&mut tx, About::company(id, "company", id)).await?;
    outbox::publish(&mut tx, &event).await?;
    tx.commit().await?;
    Ok(company)
}

/// Reads a company of the caller's.
pub async fn get(app: &App, caller: &Caller, id: CompanyId) -> Result<Company> {
    let company = app.company_reads.call(&Claims::user(caller.user), id).await?;
    company.ok_or_else(|| not_found(id))
}

/// Lists the caller's companies by name.
pub async fn list(app: &App, caller: &Caller, page: &Page<Cursor>) -> Result<Vec<Company>> {
    let mut tx = TenantTx::begin(&app.pool, "companies.list", &Claims::user(caller.user)).await?;
    store::list(&mut tx, page).await
}

/// Changes a company, for its admins.
pub async fn update(app: &App, caller: &Caller, update: &CompanyUpdate) -> Result<Company> {
    let id = update.id;
    let mut tx = TenantTx::begin(&app.pool, "companies.update", &Claims::user(caller.user)).await?;
    memberships::place(&mut tx, id).await?.require_admin()?;
    store::lock(&mut tx, id).await?;
    let company = store::find(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    update::check_etag(&update.etag, company.revision)?;
    let mut details = company.details.clone();
    update.changes.iter().cloned().for_each(|change| details.apply(change));
    if details == company.details {
        return Ok(company);
    }
    store::update(&mut tx, id, &details).await?;
    let company = store::find(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    app.audit.record(&mut tx, About::company(id, "company", id)).await?;
    tx.commit().await?;
    Ok(company)
}

/// There is no such company for this caller.
pub(crate) fn not_found(id: CompanyId) -> Error {
    Error::not_found("company", id)
}
