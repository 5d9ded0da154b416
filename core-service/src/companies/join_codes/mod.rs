//! Join codes: by its company's code, somebody who is no member yet asks to become one.
//!
//! A company has at most one code, and none until an admin makes it. The database finds a code by its SHA-256 and keeps the
//! code itself sealed; eighty random bits are not guessed. Having the code is enough to ask, never to get in: an admin decides.

use service_kit::{
    audit::About,
    auth::Caller,
    db::{Claims, TenantTx},
    error::{Error, Result},
    ids::{CompanyId, MembershipId},
};
use time::OffsetDateTime;

use super::memberships::{self, Membership, State};
use crate::App;

mod code;
pub(super) mod convert;
mod store;

pub use code::Code;

/// What the code is sealed for, in the key ring's terms.
const PURPOSE: &str = "core.join-codes";

/// A company's join code.
#[derive(Clone, Debug)]
pub struct JoinCode {
    /// Whose it is.
    pub company: CompanyId,
    /// What people type.
    pub code: Code,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// Reads a company's code, for its admins.
pub async fn get(app: &App, caller: &Caller, company: CompanyId) -> Result<JoinCode> {
    let mut tx = enter(app, caller, company, "join_codes.get").await?;
    let (sealed, created_at) = store::find(&mut tx, company)
        .await?
        .ok_or_else(|| Error::not_found("join code of company", company))?;
    let text = app.keys.open(PURPOSE, company.as_uuid().as_bytes(), &sealed);
    let text = text.map_err(Error::internal)?;
    let code = std::str::from_utf8(&text).ok().and_then(|it| it.parse().ok());
    Ok(JoinCode {
        company,
        code: code.ok_or_else(|| Error::internal("a sealed join code is none"))?,
        created_at,
    })
}

/// Gives a company a new code in place of the one it has, for its admins.
pub async fn rotate(app: &App, caller: &Caller, company: CompanyId) -> Result<JoinCode> {
    let mut tx = enter(app, caller, company, "join_codes.rotate").await?;
    let code = Code::generate();
    let sealed = app
        .keys
        .seal(PURPOSE, company.as_uuid().as_bytes(), code.to_string().as_bytes());
    // Of two who rotate at the same time, the later one's code stands.
    super::store::lock(&mut tx, company).await?;
    store::delete(&mut tx, company).await?;
    let created_at = store::insert(&mut tx, company, code.hash(), &sealed, caller.user).await?;
    app.audit
        .record(&mut tx, About::company(company, "join_code", company))
        .await?;
    tx.commit().await?;
    Ok(JoinCode {
        company,
        code,
        created_at,
    })
}

/// Takes a company's code away, for its admins. Without one there is nothing to take.
pub async fn delete(app: &App, caller: &Caller, company: CompanyId) -> Result<()> {
    let mut tx = enter(app, caller, company, "join_codes.delete").await?;
    store::delete(&mut tx, company).await?;
    app.audit
        .record(&mut tx, About::company(company, "join_code", company))
        .await?;
    tx.commit().await
}

/// Asks for a membership in the company that has this code; asking again answers with the same request.
pub async fn join(app: &App, caller: &Caller, code: &Code) -> Result<Membership> {
    let mut tx = TenantTx::begin(&app.pool, "join_codes.join", &Claims::user(caller.user)).await?;
    let company = store::find_company(&mut tx, code.hash())
        .await?
        .ok_or_else(wrong_code)?;
    store::ask(&mut tx, MembershipId::generate(), code.hash()).await?;
    let membership = memberships::own(&mut tx, company, caller.user).await?;
    // The code may have been rotated between the two.
    let membership = membership.ok_or_else(wrong_code)?;
    match membership.state {
        State::Pending => {
            let about = About::company(company, "membership", membership.id);
            app.audit.record(&mut tx, about).await?;
            tx.commit().await.map(|()| membership)
        }
        State::Approved => Err(Error::AlreadyExists {
            reason: "ALREADY_A_MEMBER",
            message: "the caller is a member of this company already".into(),
        }),
        State::Rejected | State::Inactive => Err(Error::FailedPrecondition {
            reason: "MEMBERSHIP_REFUSED",
            message: "an admin of the company has ended or refused the membership, and can approve it".into(),
        }),
    }
}

async fn enter(app: &App, caller: &Caller, company: CompanyId, name: &'static str) -> Result<TenantTx> {
    let mut tx = TenantTx::begin(&app.pool, name, &Claims::user(caller.user)).await?;
    memberships::place(&mut tx, company).await?.require_admin()?;
    Ok(tx)
}

fn wrong_code() -> Error {
    Error::not_found("company", "with this join code")
}
