//! What the token of a mail does: prove an address, set a new password, make another address the user's.
//!
//! A token is used once. Whether somebody has registered with an address shows nowhere: who asks for a reset has a mail
//! written whoever he names, and the worker finds out later whether there is anybody to send it to.

use service_kit::{
    audit::About,
    db::{self, Claims, TenantTx},
    error::{Error, Result},
    ids::UserId,
};

use super::{Device, Ended, Password, account, end_others, limits, nobodys, store};
use crate::{
    App,
    contact::Email,
    mails::{self, Mail, MailToken, Notice, Purpose},
};

const INVALID: Error = Error::Unauthenticated("MAIL_TOKEN_INVALID");

/// Proves the address of a user, or makes the one that he changes to his, and answers it.
pub async fn confirm_email(app: &App, token: &MailToken) -> Result<Email> {
    let email = db::retry("auth.confirm_email", || async {
        let (user, mut tx) = enter(app, token, "auth.confirm_email").await?;
        let used = account::store::use_token(&mut tx, token.hash(), app.clock.now()).await?;
        let (purpose, email) = used.ok_or(INVALID)?;
        match purpose {
            Purpose::Verification => {
                if !account::store::verify(&mut tx, user, &email).await? {
                    return Err(INVALID);
                }
            }
            Purpose::EmailChange => change_email(app, &mut tx, user, &email).await?,
            Purpose::PasswordReset => return Err(INVALID),
        }
        app.audit.record_by(&mut tx, user, About::own("user", user)).await?;
        tx.commit().await?;
        Ok(email)
    })
    .await?;
    app.mail_signal.wake();
    Ok(email)
}

/// Makes an address the user's, and tells the one before.
async fn change_email(app: &App, tx: &mut TenantTx, user: UserId, new: &Email) -> Result<()> {
    let old = store::credential(tx, user).await?.ok_or(INVALID)?.email;
    account::store::set_email(tx, user, new).await?;
    account::store::spend_tokens(tx, user, app.clock.now()).await?;
    let what = Notice::EmailChanged(new.clone());
    mails::enqueue(tx, &app.keys, Some(user), &Mail::SecurityNotice { to: old, what }).await
}

/// Has a mail sent to whoever has registered with an address, if anybody has.
pub async fn request_reset(app: &App, email: &Email, device: &Device) -> Result<()> {
    limits::mail(app, email, device.address).await?;
    let mut tx = nobodys(app, "auth.request_reset").await?;
    mails::enqueue(&mut tx, &app.keys, None, &Mail::PasswordReset { to: email.clone() }).await?;
    tx.commit().await?;
    app.mail_signal.wake();
    Ok(())
}

/// Sets a new password, and ends all sessions of the user.
pub async fn reset_password(app: &App, token: &MailToken, password: &Password) -> Result<()> {
    // Strangers get no hash made.
    let (_, mut tx) = enter(app, token, "auth.reset_token").await?;
    if !account::store::is_good(&mut tx, token.hash(), app.clock.now()).await? {
        return Err(INVALID);
    }
    tx.commit().await?;
    let hash = app.passwords.hash(password).await?;
    db::retry("auth.reset_password", || async {
        let (user, mut tx) = enter(app, token, "auth.reset_password").await?;
        let used = account::store::use_token(&mut tx, token.hash(), app.clock.now()).await?;
        let Some((Purpose::PasswordReset, email)) = used else {
            return Err(INVALID);
        };
        // Of an address that is no longer his, the token is worth nothing.
        let own = store::credential(&mut tx, user).await?.map(|it| it.email);
        if own.as_ref() != Some(&email) || !store::set_password(&mut tx, user, &hash).await? {
            return Err(INVALID);
        }
        account::store::spend_tokens(&mut tx, user, app.clock.now()).await?;
        let what = Notice::PasswordChanged;
        mails::enqueue(
            &mut tx,
            &app.keys,
            Some(user),
            &Mail::SecurityNotice { to: email, what },
        )
        .await?;
        app.audit.record_by(&mut tx, user, About::own("user", user)).await?;
        end_others(app, tx, user, None, Ended::PasswordReset).await
    })
    .await?;
    app.mail_signal.wake();
    Ok(())
}

/// Tells the owner of an address that somebody wanted it, if he was not told too often.
pub(super) async fn tell_owner(app: &App, email: &Email, device: &Device) -> Result<()> {
    let mail = Mail::AddressTaken { to: email.clone() };
    quietly(app, email, device, None, &mail).await
}

/// Sends another mail to a user who has not proved his address, if he was not sent too many.
pub(super) async fn remind(app: &App, user: UserId, email: &Email, device: &Device) -> Result<()> {
    let mail = Mail::Verification { to: email.clone() };
    quietly(app, email, device, Some(user), &mail).await
}

async fn quietly(app: &App, to: &Email, device: &Device, user: Option<UserId>, mail: &Mail) -> Result<()> {
    match limits::mail(app, to, device.address).await {
        Ok(()) => {}
        Err(Error::ResourceExhausted { .. }) => return Ok(()),
        Err(error) => return Err(error),
    }
    let mut tx = match user {
        Some(user) => TenantTx::begin(&app.pool, "auth.mail", &Claims::user(user)).await?,
        None => nobodys(app, "auth.mail").await?,
    };
    mails::enqueue(&mut tx, &app.keys, user, mail).await?;
    tx.commit().await?;
    app.mail_signal.wake();
    Ok(())
}

/// Begins a transaction as the user that a token was sent to.
async fn enter(app: &App, token: &MailToken, name: &'static str) -> Result<(UserId, TenantTx)> {
    let mut tx = nobodys(app, "auth.find_by_mail_token").await?;
    let user = account::store::find_user_by_token(&mut tx, token.hash()).await?;
    tx.commit().await?;
    let user = user.ok_or(INVALID)?;
    let tx = TenantTx::begin(&app.pool, name, &Claims::user(user)).await?;
    Ok((user, tx))
}
