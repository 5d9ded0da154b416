//! Invitations: a company's admins ask somebody in by his e-mail address.
//!
//! What accepts one is shown once, goes out by mail, and accepts once, for the user alone whose verified address it was made for; to everybody else
//! it is unknown, whatever is wrong. Whoever accepts takes a place of the plan's in the same commit, or none.

use std::time::Duration;

use service_kit::{
    audit::About,
    auth::Caller,
    db::{Claims, TenantTx},
    error::{Error, Result},
    ids::{CompanyId, InvitationId, MembershipId, UserId},
    page::Page,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::{
    App,
    companies::memberships::{self, Membership, Role},
    contact::Email,
    mails::{self, Mail},
    outbox::{self, Event},
};

pub mod api;
mod convert;
mod store;

/// For how long an invitation can be accepted.
const LIFETIME: Duration = Duration::from_hours(7 * 24);

/// An invitation, without what accepts it.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// The company.
    pub company: CompanyId,
    /// The address that was invited.
    pub email: Email,
    /// The role that it gives.
    pub role: Role,
    /// Until when it can be accepted.
    pub expires_at: OffsetDateTime,
    /// When it was accepted.
    pub accepted_at: Option<OffsetDateTime>,
    /// When it was taken back.
    pub revoked_at: Option<OffsetDateTime>,
    /// Who made it.
    pub invited_by: Option<UserId>,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// An invitation to be made.
#[derive(Clone, Debug)]
pub struct NewInvitation {
    /// The company.
    pub company: CompanyId,
    /// Who is invited.
    pub email: Email,
    /// The role that it gives.
    pub role: Role,
}

/// What accepts an invitation: 160 random bits, which nobody guesses, so a fast hash will do.
#[derive(Clone)]
struct Token(String);

impl Token {
    fn generate() -> Self {
        Self(hex::encode(rand::random::<[u8; 20]>()))
    }

    fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

/// What became of accepting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
enum Outcome {
    Accepted,
    Member,
    NoRoom,
    Unverified,
    Unknown,
}

/// Invites somebody by a mail to his address, for the company's admins.
async fn create(app: &App, caller: &Caller, new: &NewInvitation) -> Result<(Invitation, Token)> {
    let mut tx = TenantTx::begin(&app.pool, "invitations.create", &Claims::user(caller.user)).await?;
    memberships::place(&mut tx, new.company).await?.require_admin()?;
    let (id, token, now) = (InvitationId::generate(), Token::generate(), app.clock.now());
    // Who was invited once and let it run out can be invited again.
    store::end_expired(&mut tx, new, now).await?;
    store::insert(&mut tx, id, new, token.hash(), now + LIFETIME, caller.user).await?;
    let invitation = store::find(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    let about = About::company(new.company, "invitation", id).with("email", new.email.as_str());
    app.audit.record(&mut tx, about).await?;
    let (company, inviter) = store::names(&mut tx, new.company, caller.user).await?;
    let mail = Mail::Invitation {
        to: new.email.clone(),
        company,
        inviter,
        code: token.0.clone(),
    };
    mails::enqueue(&mut tx, &app.keys, Some(caller.user), &mail).await?;
    tx.commit().await?;
    app.mail_signal.wake();
    Ok((invitation, token))
}

/// Lists a company's invitations, newest first, for its admins.
async fn list(app: &App, caller: &Caller, company: CompanyId, page: &Page<InvitationId>) -> Result<Vec<Invitation>> {
    let mut tx = TenantTx::begin(&app.pool, "invitations.list", &Claims::user(caller.user)).await?;
    memberships::place(&mut tx, company).await?.require_admin()?;
    store::list(&mut tx, company, page).await
}

/// Takes an invitation back, for the company's admins.
async fn revoke(app: &App, caller: &Caller, id: InvitationId) -> Result<Invitation> {
    let mut tx = TenantTx::begin(&app.pool, "invitations.revoke", &Claims::user(caller.user)).await?;
    let invitation = store::find(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    if !store::revoke(&mut tx, id, app.clock.now()).await? {
        return Ok(invitation);
    }
    let about = About::company(invitation.company, "invitation", id);
    app.audit.record(&mut tx, about).await?;
    let invitation = store::find(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    tx.commit().await?;
    Ok(invitation)
}

/// Makes the caller a member by an invitation to his own address.
async fn accept(app: &App, caller: &Caller, token: &Token) -> Result<Membership> {
    let unknown = || Error::not_found("invitation", "with this token");
    let mut tx = TenantTx::begin(&app.pool, "invitations.accept", &Claims::user(caller.user)).await?;
    let (outcome, company) = store::accept(&mut tx, token.hash(), MembershipId::generate()).await?;
    match outcome {
        Outcome::Accepted => {}
        Outcome::Unknown => return Err(unknown()),
        Outcome::Unverified => {
            return Err(Error::FailedPrecondition {
                reason: "EMAIL_UNVERIFIED",
                message: "the caller's e-mail address must be verified first".into(),
            });
        }
        Outcome::Member => {
            return Err(Error::AlreadyExists {
                reason: "ALREADY_A_MEMBER",
                message: "the caller is a member of this company already".into(),
            });
        }
        Outcome::NoRoom => {
            return Err(Error::ResourceExhausted {
                reason: "MEMBER_QUOTA_EXCEEDED",
                message: "the company's plan has no room for another member".into(),
                retry_after: None,
            });
        }
    }
    let company = company.ok_or_else(unknown)?;
    let user = caller.user;
    let membership = memberships::own(&mut tx, company, user).await?.ok_or_else(unknown)?;
    let about = About::company(company, "membership", membership.id);
    app.audit.record(&mut tx, about).await?;
    outbox::publish(&mut tx, &Event::MembershipChanged { company, user }).await?;
    tx.commit().await?;
    Ok(membership)
}

fn not_found(id: InvitationId) -> Error {
    Error::not_found("invitation", id)
}
