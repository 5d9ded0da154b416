//! The second factor: codes of an authenticator app (TOTP), and recovery codes for when the app is gone.
//!
//! The secret lies sealed. A code counts once: the step that it belongs to is kept, and only a later one is taken. A factor
//! that is not confirmed asks nobody for anything.

use service_kit::{
    db::TenantTx,
    error::{Error, Result},
    ids::UserId,
};

use crate::{
    App,
    contact::Email,
    mails::{self, Mail, Notice},
};

mod recovery;
mod store;
mod totp;

/// The reason of a sign-in that lacks a code.
pub(super) const CODE_REQUIRED: &str = "CODE_REQUIRED";

const CODE_WRONG: Error = Error::Unauthenticated("CODE_WRONG");

/// What secrets are sealed for, in the key ring's terms.
const PURPOSE: &str = "core.totp";

/// What an authenticator app needs. Not to be printed.
pub struct Enrolment {
    /// The secret in base32.
    pub secret: String,
    /// The same as an otpauth URI.
    pub uri: String,
}

/// A stored factor.
struct Factor {
    sealed_secret: Vec<u8>,
    is_confirmed: bool,
    last_step: i64,
}

/// Begins to set up a factor, in place of one that was not confirmed.
pub(super) async fn enrol(app: &App, tx: &mut TenantTx, user: UserId, email: &Email) -> Result<Enrolment> {
    if store::lock(tx, user).await?.is_some_and(|it| it.is_confirmed) {
        return Err(Error::FailedPrecondition {
            reason: "SECOND_FACTOR_THERE",
            message: "there is a second factor; it is to be removed first".into(),
        });
    }
    let secret = totp::Secret::generate();
    let sealed = app.keys.seal(PURPOSE, user.as_uuid().as_bytes(), secret.bytes());
    store::remove(tx, user).await?;
    store::insert(tx, user, &sealed).await?;
    Ok(Enrolment {
        secret: secret.base32(),
        uri: secret.uri(&app.issuer.name, email.as_str()),
    })
}

/// Confirms the factor that was begun, and answers its recovery codes.
pub(super) async fn confirm(app: &App, tx: &mut TenantTx, user: UserId, code: &str) -> Result<Vec<String>> {
    let factor = store::lock(tx, user).await?.filter(|it| !it.is_confirmed);
    let factor = factor.ok_or_else(|| Error::FailedPrecondition {
        reason: "NO_ENROLMENT",
        message: "no second factor is being set up".into(),
    })?;
    let step = step(app, user, &factor, code)?.ok_or_else(|| Error::invalid("code", "is not the app's"))?;
    let now = app.clock.now();
    store::confirm(tx, user, now, step).await?;
    let codes = recovery::generate();
    for code in &codes {
        store::insert_recovery(tx, user, &recovery::hash(&app.keys, user, code)).await?;
    }
    Ok(codes)
}

/// Lets a user pass who needs no code, or gives a good one, and says whether there was one.
pub(super) async fn pass(app: &App, tx: &mut TenantTx, user: UserId, email: &Email, code: &str) -> Result<bool> {
    let Some(factor) = store::lock(tx, user).await?.filter(|it| it.is_confirmed) else {
        return Ok(false);
    };
    if code.trim().is_empty() {
        return Err(Error::Unauthenticated(CODE_REQUIRED));
    }
    if let Some(step) = step(app, user, &factor, code)? {
        store::use_step(tx, user, step).await?;
        return Ok(true);
    }
    let known = store::recovery_codes(tx, user).await?;
    let used = recovery::find(&app.keys, user, code, &known).ok_or(CODE_WRONG)?;
    store::remove_recovery(tx, user, used).await?;
    let left = u32::try_from(known.len() - 1).unwrap_or(u32::MAX);
    let mail = Mail::SecurityNotice {
        to: email.clone(),
        what: Notice::RecoveryCodeUsed(left),
    };
    mails::enqueue(tx, &app.keys, Some(user), &mail).await?;
    Ok(true)
}

/// Removes the factor with its recovery codes.
pub(super) async fn remove(tx: &mut TenantTx, user: UserId) -> Result<()> {
    store::remove(tx, user).await
}

/// The step that a code belongs to, if it is good and was not used.
fn step(app: &App, user: UserId, factor: &Factor, code: &str) -> Result<Option<i64>> {
    let opened = app.keys.open(PURPOSE, user.as_uuid().as_bytes(), &factor.sealed_secret);
    let secret = totp::Secret::from_bytes(&opened.map_err(Error::internal)?);
    Ok(secret.check(code, app.clock.now().unix_timestamp(), factor.last_step))
}
