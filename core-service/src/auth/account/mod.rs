//! The caller's own account: his password, his address, his sessions, his second factor.
//!
//! What would let a thief of an access token stay is done only by who knows the password, and is told by mail. A changed
//! password or a new second factor ends all other sessions. Services that act for a user do none of this.

use service_kit::{
    audit::About,
    auth::Caller,
    db::{self, Claims, TenantTx},
    error::{Error, Result},
    ids::SessionId,
};
use time::OffsetDateTime;

use super::{Device, Ended, Password, end_others, end_session, limits, second_factor, store as auth_store};
use crate::{
    App,
    contact::Email,
    mails::{self, Mail, Notice},
};

pub mod api;
mod convert;
pub(super) mod store;

pub use second_factor::Enrolment;

/// A session as its user sees it.
#[derive(Clone, Debug)]
pub struct OpenSession {
    /// Its id.
    pub id: SessionId,
    /// Where it was used last.
    pub address: Option<String>,
    /// What it was used with last, as that called itself.
    pub user_agent: Option<String>,
    /// When it was opened.
    pub created_at: OffsetDateTime,
    /// When it was last refreshed, or opened.
    pub last_used_at: OffsetDateTime,
    /// When it ends by itself.
    pub expires_at: OffsetDateTime,
}

/// Sends a mail with which the caller proves his address, if he has not.
pub async fn send_verification(app: &App, caller: &Caller, device: &Device) -> Result<()> {
    let mut tx = begin(app, caller, "account.find").await?;
    let unproved = store::unproved_email(&mut tx, caller.user).await?;
    tx.commit().await?;
    let Some(to) = unproved else { return Ok(()) };
    limits::mail(app, &to, device.address).await?;
    let mut tx = begin(app, caller, "account.send_verification").await?;
    let about = About::own("user", caller.user);
    app.audit.record(&mut tx, about).await?;
    mails::enqueue(&mut tx, &app.keys, Some(caller.user), &Mail::Verification { to }).await?;
    tx.commit().await?;
    app.mail_signal.wake();
    Ok(())
}

/// Changes the password, and says how many other sessions that ended.
pub async fn change_password(
    app: &App,
    caller: &Caller,
    current: &Password,
    new: &Password,
    device: &Device,
) -> Result<usize> {
    let email = prove(app, caller, current, device).await?;
    let hash = app.passwords.hash(new).await?;
    let ended = db::retry("account.change_password", || async {
        let mut tx = begin(app, caller, "account.change_password").await?;
        let about = About::own("user", caller.user);
        app.audit.record(&mut tx, about).await?;
        auth_store::set_password(&mut tx, caller.user, &hash).await?;
        store::spend_tokens(&mut tx, caller.user, app.clock.now()).await?;
        notify(app, &mut tx, caller, &email, Notice::PasswordChanged).await?;
        end_others(app, tx, caller.user, caller.session, Ended::PasswordChanged).await
    })
    .await?;
    app.mail_signal.wake();
    Ok(ended)
}

/// Has the new address asked; it becomes the caller's once it answers.
pub async fn change_email(app: &App, caller: &Caller, password: &Password, new: &Email, device: &Device) -> Result<()> {
    prove(app, caller, password, device).await?;
    limits::mail(app, new, device.address).await?;
    let mut tx = begin(app, caller, "account.change_email").await?;
    let mail = match auth_store::find_user_by_email(&mut tx, new).await? {
        Some(owner) if owner != caller.user => Mail::AddressTaken { to: new.clone() },
        _ => Mail::EmailChange { to: new.clone() },
    };
    let about = About::own("user", caller.user).with("email", new.as_str());
    app.audit.record(&mut tx, about).await?;
    mails::enqueue(&mut tx, &app.keys, Some(caller.user), &mail).await?;
    tx.commit().await?;
    app.mail_signal.wake();
    Ok(())
}

/// The caller's sessions that have not ended.
pub async fn list_sessions(app: &App, caller: &Caller) -> Result<Vec<OpenSession>> {
    let mut tx = begin(app, caller, "account.list_sessions").await?;
    store::sessions(&mut tx, caller.user, app.clock.now()).await
}

/// Ends one of the caller's sessions. One that has ended stays so.
pub async fn revoke_session(app: &App, caller: &Caller, id: SessionId) -> Result<()> {
    let mut tx = begin(app, caller, "account.revoke_session").await?;
    if !store::has_session(&mut tx, caller.user, id).await? {
        return Err(Error::not_found("session", id));
    }
    app.audit.record(&mut tx, About::own("session", id)).await?;
    end_session(app, tx, id, Ended::Revoked).await
}

/// Ends all sessions of the caller but the one that he calls with, and says how many they were.
pub async fn revoke_others(app: &App, caller: &Caller) -> Result<usize> {
    let mut tx = begin(app, caller, "account.revoke_others").await?;
    let about = About::own("user", caller.user);
    app.audit.record(&mut tx, about).await?;
    end_others(app, tx, caller.user, caller.session, Ended::Revoked).await
}

/// Begins to set up a second factor.
pub async fn enrol_totp(app: &App, caller: &Caller, password: &Password, device: &Device) -> Result<Enrolment> {
    let email = prove(app, caller, password, device).await?;
    db::retry("account.enrol_totp", || async {
        let mut tx = begin(app, caller, "account.enrol_totp").await?;
        let enrolment = second_factor::enrol(app, &mut tx, caller.user, &email).await?;
        let about = About::own("user", caller.user);
        app.audit.record(&mut tx, about).await?;
        tx.commit().await?;
        Ok(enrolment)
    })
    .await
}

/// Confirms the second factor, and answers its recovery codes.
pub async fn confirm_totp(app: &App, caller: &Caller, code: &str) -> Result<Vec<String>> {
    let counted = limits::CodeAttempt::begin(app, caller.user).await?;
    let codes = db::retry("account.confirm_totp", || async {
        let mut tx = begin(app, caller, "account.confirm_totp").await?;
        let codes = second_factor::confirm(app, &mut tx, caller.user, code).await?;
        let email = auth_store::credential(&mut tx, caller.user)
            .await?
            .ok_or_else(no_password)?
            .email;
        notify(app, &mut tx, caller, &email, Notice::SecondFactorAdded).await?;
        let about = About::own("user", caller.user);
        app.audit.record(&mut tx, about).await?;
        end_others(app, tx, caller.user, caller.session, Ended::SecondFactor).await?;
        Ok(codes)
    })
    .await?;
    counted.succeeded(app).await?;
    app.mail_signal.wake();
    Ok(codes)
}

/// Removes the second factor, if there is one.
pub async fn disable_totp(app: &App, caller: &Caller, password: &Password, code: &str, device: &Device) -> Result<()> {
    let email = prove(app, caller, password, device).await?;
    let counted = limits::CodeAttempt::begin(app, caller.user).await?;
    db::retry("account.disable_totp", || async {
        let mut tx = begin(app, caller, "account.disable_totp").await?;
        if second_factor::pass(app, &mut tx, caller.user, &email, code).await? {
            let about = About::own("user", caller.user);
            app.audit.record(&mut tx, about).await?;
            second_factor::remove(&mut tx, caller.user).await?;
            notify(app, &mut tx, caller, &email, Notice::SecondFactorRemoved).await?;
        }
        tx.commit().await
    })
    .await?;
    counted.succeeded(app).await?;
    app.mail_signal.wake();
    Ok(())
}

/// Makes sure that the caller knows his password, and answers his address. Guessing is limited like signing in.
async fn prove(app: &App, caller: &Caller, password: &Password, device: &Device) -> Result<Email> {
    let mut tx = begin(app, caller, "account.password").await?;
    let stored = auth_store::credential(&mut tx, caller.user).await?;
    tx.commit().await?;
    let stored = stored.ok_or_else(no_password)?;
    let attempt = limits::Attempt::begin(app, &stored.email, device.address).await?;
    if !app.passwords.verify(password, Some(&stored.password_hash)).await? {
        return Err(Error::PermissionDenied {
            reason: "PASSWORD_WRONG",
            message: "the password is wrong".into(),
        });
    }
    attempt.succeeded(app).await?;
    Ok(stored.email)
}

fn no_password() -> Error {
    Error::FailedPrecondition {
        reason: "NO_PASSWORD",
        message: "this user signs in elsewhere and has no password here".into(),
    }
}

async fn notify(app: &App, tx: &mut TenantTx, caller: &Caller, to: &Email, what: Notice) -> Result<()> {
    let mail = Mail::SecurityNotice { to: to.clone(), what };
    mails::enqueue(tx, &app.keys, Some(caller.user), &mail).await
}

/// Begins a transaction as the caller, who is a user himself: what a service does for him is never his account's.
async fn begin(app: &App, caller: &Caller, name: &'static str) -> Result<TenantTx> {
    if caller.service.is_some() {
        return Err(Error::PermissionDenied {
            reason: "OWN_TOKEN_REQUIRED",
            message: "only the user himself may do this, by a token of his own".into(),
        });
    }
    TenantTx::begin(&app.pool, name, &Claims::user(caller.user)).await
}
