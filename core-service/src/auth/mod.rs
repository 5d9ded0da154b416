//! Sign-up and sessions.
//!
//! A session is a family of refresh tokens: each is spent by its first use and followed by the next. A spent token that comes
//! again is in two hands, or its answer was lost: the one before the newest, and within seconds older ones too, get the newest
//! once more; anything else ends the session for all who have it. Access tokens are short-lived JWTs that nobody has to ask
//! about; of a session that ended all replicas hear by the outbox, and refuse its tokens. An unknown e-mail and a wrong
//! password take the same time and get the same answer.

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use service_kit::{
    audit::About,
    db::{self, Claims, TenantTx, WorkerTx},
    error::{Error, Result},
    ids::{SessionId, UserId},
    token::{USER_ROLE, UserClaims},
};
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::{
    App,
    contact::Email,
    mails::{self, Mail},
    outbox::{self, Event},
    users::{self, User},
};

pub mod account;
pub mod api;
mod by_mail;
mod convert;
mod device;
mod ended;
pub mod identities;
pub(crate) mod limits;
mod password;
mod refresh_token;
mod second_factor;
mod signing;
mod store;

pub use by_mail::{confirm_email, request_reset, reset_password};
pub use device::Device;
pub use ended::hear_of_ended_sessions;
pub use limits::{AuthLimits, remove_expired as remove_expired_rates};
pub use password::{Password, Passwords};
pub use refresh_token::RefreshToken;
pub use signing::SigningKeys;

/// How long an access token is valid.
pub const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_mins(10);
/// How long a session lasts from its sign-in on.
pub const SESSION_LIFETIME: Duration = Duration::from_hours(30 * 24);
/// How long the key set may be cached.
pub const JWKS_MAX_AGE: Duration = Duration::from_mins(10);

/// How long two tabs, or a client that asks again and again, may present a spent token.
const REUSE_INTERVAL: Duration = Duration::from_secs(10);
/// How far behind the newest a token may be then.
const MOST_BEHIND: usize = 8;

/// How long a session that ran out is kept, so that a late refresh learns why it fails.
const KEPT_AFTER_EXPIRY: Duration = Duration::from_hours(24);

const CREDENTIALS_WRONG: Error = Error::Unauthenticated("CREDENTIALS_WRONG");

/// Who makes access tokens, for whom, and with which keys.
pub struct Issuer {
    /// The `iss` of the tokens.
    pub name: String,
    /// The `aud` of the tokens.
    pub audience: String,
    /// What signs them.
    pub keys: Arc<SigningKeys>,
}

impl Issuer {
    fn access_token(
        &self,
        user: &User,
        session: SessionId,
        second_factor: bool,
        now: OffsetDateTime,
    ) -> Result<String> {
        self.keys.sign(&UserClaims {
            iss: self.name.clone(),
            sub: user.id,
            aud: self.audience.clone(),
            exp: (now + ACCESS_TOKEN_LIFETIME).unix_timestamp(),
            iat: now.unix_timestamp(),
            session_id: Some(session),
            email: user.email.clone(),
            role: USER_ROLE.into(),
            aal: Some(if second_factor { "aal2" } else { "aal1" }.into()),
        })
    }
}

/// A session's newest tokens. Not to be printed: the access token opens everything that is the user's.
pub struct Session {
    /// For the `authorization` header.
    pub access_token: String,
    /// For the next refresh.
    pub refresh_token: RefreshToken,
    /// Whose session it is.
    pub user: User,
}

/// Who has registered.
pub enum Registered {
    /// A user, who is signed in.
    SignedIn(Session),
    /// A user who has to prove his address first, or a made-up one where the address is somebody's already.
    Unproved(User),
}

/// What somebody signs in with.
#[derive(Debug)]
pub struct Credentials {
    /// The registered address.
    pub email: Email,
    /// The password.
    pub password: Password,
    /// The second factor's code, or a recovery code; may be empty.
    pub code: SecretString,
}

/// What a new user gives.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Not yet registered.
    pub email: Email,
    /// His from now on.
    pub password: Password,
    /// For people.
    pub full_name: String,
}

/// Why a session ended before its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
enum Ended {
    SignOut,
    TokenReuse,
    Revoked,
    PasswordChanged,
    PasswordReset,
    SecondFactor,
}

/// A refresh token that was presented, with what is known of its session.
#[derive(Debug)]
struct Presented {
    session: SessionId,
    expires_at: OffsetDateTime,
    ended_at: Option<OffsetDateTime>,
    spent_at: Option<OffsetDateTime>,
    second_factor: bool,
}

/// What a presented refresh token leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// It is the newest.
    Renew,
    /// It was spent, and gets the newest again if that is at most so many behind it.
    Repeat {
        behind: usize,
    },
    Refuse(&'static str),
}

impl Presented {
    fn judge(&self, now: OffsetDateTime) -> Verdict {
        if self.ended_at.is_some() {
            return Verdict::Refuse("SESSION_ENDED");
        }
        if self.expires_at <= now {
            return Verdict::Refuse("SESSION_EXPIRED");
        }
        match self.spent_at {
            None => Verdict::Renew,
            Some(spent_at) if now < spent_at + REUSE_INTERVAL => Verdict::Repeat { behind: MOST_BEHIND },
            Some(_) => Verdict::Repeat { behind: 1 },
        }
    }
}

/// Makes a user with an e-mail and a password, and signs him in if he need not prove his address first.
pub async fn register(app: &App, new: &Registration, device: &Device) -> Result<Registered> {
    limits::registration(app, device.address).await?;
    let hash = app.passwords.hash(&new.password).await?;
    let registered = db::retry("auth.register", || async {
        let user = UserId::generate();
        let mut tx = TenantTx::begin(&app.pool, "auth.register", &Claims::user(user)).await?;
        users::store::insert(&mut tx, user, &new.email, &new.full_name).await?;
        store::insert_identity(&mut tx, user, &new.email, &hash).await?;
        app.audit.record_by(&mut tx, user, About::own("user", user)).await?;
        let mail = Mail::Verification { to: new.email.clone() };
        mails::enqueue(&mut tx, &app.keys, Some(user), &mail).await?;
        if !app.require_verified_email {
            return open_session(app, tx, user, device, false)
                .await
                .map(Registered::SignedIn);
        }
        let made = users::store::find(&mut tx, user).await?.ok_or(CREDENTIALS_WRONG)?;
        tx.commit().await?;
        Ok(Registered::Unproved(made))
    })
    .await;
    app.mail_signal.wake();
    match registered {
        Err(Error::AlreadyExists { .. }) if app.require_verified_email => {
            by_mail::tell_owner(app, &new.email, device).await?;
            Ok(Registered::Unproved(made_up(app, new)))
        }
        other => other,
    }
}

/// Somebody like a user who has just registered.
fn made_up(app: &App, new: &Registration) -> User {
    let now = app.clock.now();
    User::fresh(UserId::generate(), &new.email, &new.full_name, now)
}

/// Opens a session for whoever knows the password, and has the second factor where there is one.
pub async fn sign_in(app: &App, given: &Credentials, device: &Device) -> Result<Session> {
    let attempt = limits::Attempt::begin(app, &given.email, device.address).await?;
    let mut tx = nobodys(app, "auth.find_by_email").await?;
    let known = store::find_user_by_email(&mut tx, &given.email).await?;
    tx.commit().await?;
    // An unknown e-mail takes every step that a known one takes, under an id that nobody has.
    let user = known.unwrap_or_else(UserId::generate);
    let mut tx = TenantTx::begin(&app.pool, "auth.password", &Claims::user(user)).await?;
    let stored = store::credential(&mut tx, user).await?;
    tx.commit().await?;
    let hash = stored.as_ref().map(|it| it.password_hash.as_str());
    let matches = app.passwords.verify(&given.password, hash).await?;
    let Some(stored) = stored.filter(|_| matches) else {
        return Err(CREDENTIALS_WRONG);
    };
    if app.require_verified_email && !stored.email_verified {
        attempt.succeeded(app).await?;
        by_mail::remind(app, user, &given.email, device).await?;
        return Err(Error::FailedPrecondition {
            reason: "EMAIL_NOT_VERIFIED",
            message: "the e-mail address must be proved first; a mail is on its way".into(),
        });
    }
    let code = given.code.expose_secret();
    let counted = if stored.second_factor && !code.is_empty() {
        Some(limits::CodeAttempt::begin(app, user).await?)
    } else {
        None
    };
    let opened = db::retry("auth.sign_in", || async {
        let mut tx = TenantTx::begin(&app.pool, "auth.sign_in", &Claims::user(user)).await?;
        let second_factor = second_factor::pass(app, &mut tx, user, &given.email, code).await?;
        app.audit.record_by(&mut tx, user, About::own("user", user)).await?;
        open_session(app, tx, user, device, second_factor).await
    })
    .await;
    match &opened {
        Ok(_) => {
            attempt.succeeded(app).await?;
            if let Some(counted) = counted {
                counted.succeeded(app).await?;
                app.mail_signal.wake();
            }
        }
        // The password was right: this was the first of two steps.
        Err(Error::Unauthenticated(second_factor::CODE_REQUIRED)) => attempt.succeeded(app).await?,
        Err(_) => {}
    }
    opened
}

/// Spends a refresh token for new tokens of its session.
pub async fn refresh(app: &App, token: &RefreshToken, device: &Device) -> Result<Session> {
    let Some((user, mut tx)) = enter(app, token, "auth.refresh").await? else {
        return Err(Error::Unauthenticated("REFRESH_TOKEN_INVALID"));
    };
    let presented = store::lock_token(&mut tx, token.hash()).await?;
    let presented = presented.ok_or(Error::Unauthenticated("REFRESH_TOKEN_INVALID"))?;
    limits::refresh(app, &mut tx, presented.session).await?;
    let now = app.clock.now();
    match presented.judge(now) {
        Verdict::Renew => {
            let successor = token.successor(&app.keys);
            store::spend_token(&mut tx, token.hash(), now).await?;
            store::insert_token(&mut tx, successor.hash(), presented.session, user).await?;
            store::session_used(&mut tx, presented.session, now, device).await?;
            hand_out(app, tx, user, &presented, successor, now).await
        }
        Verdict::Repeat { behind } => {
            if let Some(newest) = newest(app, &mut tx, token, behind).await? {
                return hand_out(app, tx, user, &presented, newest, now).await;
            }
            end_session(app, tx, presented.session, Ended::TokenReuse).await?;
            tracing::warn!(user = %user, session = %presented.session, "refresh token reused: session ended");
            Err(Error::Unauthenticated("REFRESH_TOKEN_REUSED"))
        }
        Verdict::Refuse(reason) => Err(Error::Unauthenticated(reason)),
    }
}

/// The unspent token of a spent one's session, if it is at most so many behind it.
async fn newest(app: &App, tx: &mut TenantTx, spent: &RefreshToken, behind: usize) -> Result<Option<RefreshToken>> {
    let mut last = spent.clone();
    for _ in 0..behind {
        let mut follower = None;
        for token in last.successors(&app.keys) {
            if let Some(known) = store::lock_token(tx, token.hash()).await? {
                follower = Some((token, known));
                break;
            }
        }
        // Under another key ring nothing follows: the answer cannot be given again.
        let Some((token, known)) = follower else {
            return Ok(None);
        };
        if known.spent_at.is_none() {
            return Ok(Some(token));
        }
        last = token;
    }
    Ok(None)
}

/// Ends the session of a refresh token, spent or not. A session that has ended, or that nobody knows, stays so.
pub async fn sign_out(app: &App, token: &RefreshToken) -> Result<()> {
    let Some((user, mut tx)) = enter(app, token, "auth.sign_out").await? else {
        return Ok(());
    };
    match store::lock_token(&mut tx, token.hash()).await? {
        Some(presented) => {
            let about = About::own("session", presented.session);
            app.audit.record_by(&mut tx, user, about).await?;
            end_session(app, tx, presented.session, Ended::SignOut).await
        }
        None => tx.commit().await,
    }
}

/// Ends a session of the transaction's user that has not ended yet, tells all replicas, and commits.
async fn end_session(app: &App, mut tx: TenantTx, session: SessionId, why: Ended) -> Result<()> {
    let has_ended = store::end_session(&mut tx, session, app.clock.now(), why).await?;
    if has_ended {
        outbox::publish(&mut tx, &Event::SessionEnded { session }).await?;
    }
    tx.commit().await?;
    if has_ended {
        app.revocations.add(session);
    }
    Ok(())
}

/// Ends all sessions of the transaction's user but one, tells all replicas, commits, and says how many they were.
async fn end_others(app: &App, mut tx: TenantTx, user: UserId, but: Option<SessionId>, why: Ended) -> Result<usize> {
    let ended = store::end_sessions(&mut tx, user, but, app.clock.now(), why).await?;
    for session in &ended {
        outbox::publish(&mut tx, &Event::SessionEnded { session: *session }).await?;
    }
    tx.commit().await?;
    for session in &ended {
        app.revocations.add(*session);
    }
    Ok(ended.len())
}

/// Removes at most `limit` sessions that ran out a day ago or earlier, and says how many they were.
pub async fn remove_expired(worker_pool: &PgPool, now: OffsetDateTime, limit: i64) -> Result<u64> {
    let mut tx = WorkerTx::begin(worker_pool, "auth.remove_expired").await?;
    let removed = store::remove_expired(&mut tx, now - KEPT_AFTER_EXPIRY, limit).await?;
    tx.commit().await?;
    Ok(removed)
}

/// Begins a transaction that reaches no row, to find out who calls.
async fn nobodys(app: &App, name: &'static str) -> Result<TenantTx> {
    TenantTx::begin(&app.pool, name, &Claims::user(UserId::generate())).await
}

/// Begins a transaction as the user that a refresh token belongs to.
async fn enter(app: &App, token: &RefreshToken, name: &'static str) -> Result<Option<(UserId, TenantTx)>> {
    let mut tx = nobodys(app, "auth.find_by_token").await?;
    let user = store::find_user_by_token(&mut tx, token.hash()).await?;
    tx.commit().await?;
    let Some(user) = user else { return Ok(None) };
    let tx = TenantTx::begin(&app.pool, name, &Claims::user(user)).await?;
    Ok(Some((user, tx)))
}

async fn open_session(
    app: &App,
    mut tx: TenantTx,
    user: UserId,
    device: &Device,
    second_factor: bool,
) -> Result<Session> {
    let now = app.clock.now();
    let opened = Presented {
        session: SessionId::generate(),
        expires_at: now + SESSION_LIFETIME,
        ended_at: None,
        spent_at: None,
        second_factor,
    };
    let refresh_token = RefreshToken::generate();
    users::store::signed_in(&mut tx, user, now).await?;
    store::insert_session(&mut tx, &opened, user, device).await?;
    store::insert_token(&mut tx, refresh_token.hash(), opened.session, user).await?;
    hand_out(app, tx, user, &opened, refresh_token, now).await
}

/// Commits, and gives out a session's newest tokens.
async fn hand_out(
    app: &App,
    mut tx: TenantTx,
    user: UserId,
    session: &Presented,
    refresh_token: RefreshToken,
    now: OffsetDateTime,
) -> Result<Session> {
    let user = users::store::find(&mut tx, user).await?.ok_or(CREDENTIALS_WRONG)?;
    let access_token = app
        .issuer
        .access_token(&user, session.session, session.second_factor, now)?;
    tx.commit().await?;
    Ok(Session {
        access_token,
        refresh_token,
        user,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn presented() -> Presented {
        Presented {
            session: SessionId::generate(),
            expires_at: NOW + Duration::from_secs(1),
            ended_at: None,
            spent_at: None,
            second_factor: false,
        }
    }

    #[test]
    fn a_fresh_token_of_a_running_session_renews_it() {
        assert_eq!(presented().judge(NOW), Verdict::Renew);
    }

    #[test]
    fn a_spent_token_may_be_one_behind_and_for_seconds_some_more() {
        let spent = Presented {
            spent_at: Some(NOW),
            expires_at: NOW + SESSION_LIFETIME,
            ..presented()
        };
        let behind = |after: Duration| match spent.judge(NOW + after) {
            Verdict::Repeat { behind } => behind,
            other => panic!("{other:?}"),
        };
        assert_eq!(behind(Duration::ZERO), MOST_BEHIND);
        assert_eq!(behind(Duration::from_millis(9_999)), MOST_BEHIND);
        assert_eq!(behind(REUSE_INTERVAL), 1);
        assert_eq!(spent.judge(NOW + SESSION_LIFETIME), Verdict::Refuse("SESSION_EXPIRED"));
    }

    #[test]
    fn a_session_that_is_over_is_not_renewed() {
        assert_eq!(
            presented().judge(NOW + Duration::from_secs(1)),
            Verdict::Refuse("SESSION_EXPIRED")
        );
        let ended = Presented {
            ended_at: Some(NOW),
            spent_at: Some(NOW),
            ..presented()
        };
        assert_eq!(ended.judge(NOW), Verdict::Refuse("SESSION_ENDED"));
    }
}
