//! Branches: a company's places of business. Flat; studios may name the one they belong to.

use serde::{Deserialize, Serialize};
use service_kit::{
    audit::About,
    auth::Caller,
    db::{Claims, TenantTx},
    error::{Error, Result},
    ids::{BranchId, CompanyId},
    page::Page,
    update,
};
use time::OffsetDateTime;

use super::memberships;
use crate::{
    App,
    contact::{Email, Phone},
    requests,
};

pub(super) mod convert;
mod store;

/// A place of business.
#[derive(Clone, Debug)]
pub struct Branch {
    /// Its id.
    pub id: BranchId,
    /// Whose it is.
    pub company: CompanyId,
    /// What the company's admins say about it.
    pub details: Details,
    /// Grows with every update.
    pub revision: i64,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

/// What admins say about a branch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Details {
    /// Unique within the company.
    pub name: String,
    /// Where it is.
    pub address: String,
    /// Where it reads mail.
    pub contact_email: Option<Email>,
    /// Where it takes calls.
    pub contact_phone: Option<Phone>,
}

/// A branch to be made.
#[derive(Clone, Debug)]
pub struct NewBranch {
    /// Whose it will be.
    pub company: CompanyId,
    /// What is said about it.
    pub details: Details,
    /// Makes a repeated request harmless.
    pub key: Option<requests::Key>,
}

/// An update of a branch.
#[derive(Clone, Debug)]
pub struct BranchUpdate {
    /// Which branch.
    pub id: BranchId,
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
    Address(String),
    ContactEmail(Option<Email>),
    ContactPhone(Option<Phone>),
}

impl Details {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Name(it) => self.name = it,
            Change::Address(it) => self.address = it,
            Change::ContactEmail(it) => self.contact_email = it,
            Change::ContactPhone(it) => self.contact_phone = it,
        }
    }
}

/// The place in a list by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cursor {
    name: String,
    id: BranchId,
}

impl From<&Branch> for Cursor {
    fn from(branch: &Branch) -> Self {
        Self {
            name: branch.details.name.clone(),
            id: branch.id,
        }
    }
}

/// Adds a branch, for the company's admins.
pub async fn create(app: &App, caller: &Caller, new: &NewBranch) -> Result<Branch> {
    let id = BranchId::generate();
    let mut tx = TenantTx::begin(&app.pool, "branches.create", &Claims::user(caller.user)).await?;
    memberships::place(&mut tx, new.company).await?.require_admin()?;
    if let Some(first) = requests::claim(&mut tx, new.key.as_ref(), id).await? {
        return store::find(&mut tx, first).await?.ok_or_else(|| not_found(first));
    }
    store::insert(&mut tx, id, new.company, &new.details).await?;
    let branch = store::find(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    app.audit
        .record(&mut tx, About::company(new.company, "branch", id))
        .await?;
    tx.commit().await?;
    Ok(branch)
}

/// Reads a branch of one of the caller's companies.
pub async fn get(app: &App, caller: &Caller, id: BranchId) -> Result<Branch> {
    let mut tx = TenantTx::begin(&app.pool, "branches.get", &Claims::user(caller.user)).await?;
    store::find(&mut tx, id).await?.ok_or_else(|| not_found(id))
}

/// Lists a company's branches by name.
pub async fn list(app: &App, caller: &Caller, company: CompanyId, page: &Page<Cursor>) -> Result<Vec<Branch>> {
    let mut tx = TenantTx::begin(&app.pool, "branches.list", &Claims::user(caller.user)).await?;
    memberships::place(&mut tx, company).await?;
    store::list(&mut tx, company, page).await
}

/// Changes a branch, for the company's admins.
pub async fn update(app: &App, caller: &Caller, update: &BranchUpdate) -> Result<Branch> {
    let mut tx = TenantTx::begin(&app.pool, "branches.update", &Claims::user(caller.user)).await?;
    let branch = enter_to_change(&mut tx, update.id, &update.etag).await?;
    let mut details = branch.details.clone();
    update.changes.iter().cloned().for_each(|change| details.apply(change));
    if details == branch.details {
        return Ok(branch);
    }
    store::update(&mut tx, update.id, &details).await?;
    let branch = store::find(&mut tx, update.id)
        .await?
        .ok_or_else(|| not_found(update.id))?;
    app.audit
        .record(&mut tx, About::company(branch.company, "branch", branch.id))
        .await?;
    tx.commit().await?;
    Ok(branch)
}

/// Removes a branch that neither a studio nor a narrowed membership names, for the company's admins.
pub async fn delete(app: &App, caller: &Caller, id: BranchId, etag: &str) -> Result<()> {
    let mut tx = TenantTx::begin(&app.pool, "branches.delete", &Claims::user(caller.user)).await?;
    let branch = enter_to_change(&mut tx, id, etag).await?;
    store::delete(&mut tx, id).await?;
    app.audit
        .record(&mut tx, About::company(branch.company, "branch", id))
        .await?;
    tx.commit().await
}

/// The branch as it is and, held until the end of the transaction, stays.
async fn enter_to_change(tx: &mut TenantTx, id: BranchId, etag: &str) -> Result<Branch> {
    let seen = store::find(tx, id).await?.ok_or_else(|| not_found(id))?;
    memberships::place(tx, seen.company).await?.require_admin()?;
    store::lock(tx, id).await?;
    let branch = store::find(tx, id).await?.ok_or_else(|| not_found(id))?;
    update::check_etag(etag, branch.revision)?;
    Ok(branch)
}

/// Refuses a branch that the company does not have.
pub(crate) async fn require(tx: &mut TenantTx, company: CompanyId, id: BranchId) -> Result<()> {
    let branch = store::find(tx, id).await?;
    branch
        .filter(|it| it.company == company)
        .map(drop)
        .ok_or_else(|| not_found(id))
}

/// There is no such branch for this caller.
pub(crate) fn not_found(id: BranchId) -> Error {
    Error::not_found("branch", id)
}
