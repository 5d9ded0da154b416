//! How often somebody may sign in, register, refresh or have a mail sent, over all replicas.
//!
//! It is counted before anything else is done, so that it protects the password hashing too, and by what the caller gives
//! and not by what is known: an account that does not exist is limited alike. An attempt to sign in is counted as a failed
//! one, and most of that is given back if it succeeds. Whoever hammers an account uses up its rate from his own address;
//! the rate of the account alone, for an attack from many, is loose and does not hold for addresses from which its owner
//! has signed in, so that it cannot lock him out.

mod store;

use std::time::Duration;

use service_kit::{
    config::Reader,
    db::{TenantTx, WorkerTx},
    error::Result,
    ids::{SessionId, UserId},
    limits::{self, ClientAddress, Limit, Rate},
};
use sqlx::{PgConnection, PgPool};

use crate::{App, contact::Email};

/// What keys are hashed for, in the key ring's terms: the table tells nobody's e-mail address.
const PURPOSE: &str = "core.rate-limits";

/// A failed attempt counts for so many that succeed.
const FAILED: u32 = 5;

/// How long an address is remembered from which an account's owner signed in.
const REMEMBERED: Duration = Duration::from_hours(30 * 24);

const SIGN_IN: Limit = Limit::of(10, Duration::from_mins(1), 50);
const SIGN_IN_ACCOUNT: Limit = Limit::of(100, Duration::from_mins(1), 500);
const SIGN_IN_ADDRESS: Limit = Limit::of(120, Duration::from_mins(1), 600);
const REGISTER: Limit = Limit::of(60, Duration::from_hours(1), 60);
const REFRESH: Limit = Limit::of(6, Duration::from_mins(1), 30);
const MAIL: Limit = Limit::of(10, Duration::from_hours(1), 10);
const MAIL_ADDRESS: Limit = Limit::of(60, Duration::from_hours(1), 60);
/// Six digits are soon tried out by whoever knows the password.
const CODE: Limit = Limit::of(10, Duration::from_hours(1), 10);

/// The settings of these limits, which hold over all replicas. `off` is no limit.
#[derive(Debug, Clone, Copy)]
pub struct AuthLimits {
    /// `limits_sign_in`: attempts to sign in to an account from one address; `10/m burst 50` by default. Here and in the next
    /// two a failed attempt counts five times.
    pub sign_in: Limit,
    /// `limits_sign_in_account`: attempts to sign in to an account from everywhere; `100/m burst 500` by default.
    pub sign_in_account: Limit,
    /// `limits_sign_in_address`: attempts to sign in from an address to whatever accounts; `120/m burst 600` by default.
    pub sign_in_address: Limit,
    /// `limits_register`: registrations from an address; `60/h burst 60` by default.
    pub register: Limit,
    /// `limits_refresh`: refreshes of a session; `6/m burst 30` by default.
    pub refresh: Limit,
    /// `limits_mail`: mails to an e-mail address that somebody asks for; `10/h burst 10` by default.
    pub mail: Limit,
    /// `limits_mail_address`: mails that somebody asks for from an address; `60/h burst 60` by default.
    pub mail_address: Limit,
}

impl AuthLimits {
    /// Takes the settings from a reader, which keeps the mistakes.
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            sign_in: reader.get_or("limits_sign_in", SIGN_IN),
            sign_in_account: reader.get_or("limits_sign_in_account", SIGN_IN_ACCOUNT),
            sign_in_address: reader.get_or("limits_sign_in_address", SIGN_IN_ADDRESS),
            register: reader.get_or("limits_register", REGISTER),
            refresh: reader.get_or("limits_refresh", REFRESH),
            mail: reader.get_or("limits_mail", MAIL),
            mail_address: reader.get_or("limits_mail_address", MAIL_ADDRESS),
        }
    }
}

/// One use of a rate.
#[derive(Debug)]
struct Use {
    rate: Rate,
    times: u32,
    key: Vec<u8>,
    unless: Option<Vec<u8>>,
    refusal: Refusal,
}

/// How a use is refused.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    reason: &'static str,
    what: &'static str,
}

const ATTEMPTS: Refusal = Refusal {
    reason: "RATE_LIMITED_SIGN_IN",
    what: "attempts to sign in to this account",
};
const ATTEMPTS_FROM_ADDRESS: Refusal = Refusal {
    reason: "RATE_LIMITED_ADDRESS",
    what: "attempts to sign in from this address",
};
const REGISTRATIONS: Refusal = Refusal {
    reason: "RATE_LIMITED_REGISTRATION",
    what: "registrations from this address",
};
const REFRESHES: Refusal = Refusal {
    reason: "RATE_LIMITED_REFRESH",
    what: "refreshes of this session",
};

const MAILS: Refusal = Refusal {
    reason: "RATE_LIMITED_MAIL",
    what: "mails to this e-mail address",
};
const MAILS_FROM_ADDRESS: Refusal = Refusal {
    reason: "RATE_LIMITED_ADDRESS",
    what: "mails asked for from this address",
};
const CODES: Refusal = Refusal {
    reason: "RATE_LIMITED_CODE",
    what: "wrong codes of this account",
};

impl Use {
    /// What it adds to the rate's time. One is never too many for a rate whose burst is small.
    fn cost(&self) -> Duration {
        (self.rate.every() * self.times).min(self.rate.depth())
    }
}

/// A counted attempt to sign in.
#[derive(Debug)]
pub(super) struct Attempt {
    uses: Vec<Use>,
    /// The mark of an address from which the account's owner signed in.
    mark: Vec<u8>,
}

impl Attempt {
    /// Counts an attempt as one that fails.
    ///
    /// # Errors
    /// `ResourceExhausted` where there were too many.
    pub(super) async fn begin(app: &App, email: &Email, from: Option<ClientAddress>) -> Result<Self> {
        let account = email.as_str();
        let network = from.map(|it| it.network().to_string());
        let place = network.as_deref().unwrap_or_default();
        let mark = key(app, &["known address", account, place]);
        let limits = app.auth_limits;
        let used = |limit: Limit, parts: &[&str], unless, refusal| {
            limit.rate().map(|rate| Use {
                rate,
                times: FAILED,
                key: key(app, parts),
                unless,
                refusal,
            })
        };
        let of_address = network.as_ref().map_or(Limit::OFF, |_| limits.sign_in_address);
        let uses = [
            used(limits.sign_in, &["sign-in", account, place], None, ATTEMPTS),
            used(
                limits.sign_in_account,
                &["account", account],
                Some(mark.clone()),
                ATTEMPTS,
            ),
            used(of_address, &["address", place], None, ATTEMPTS_FROM_ADDRESS),
        ];
        let uses: Vec<_> = uses.into_iter().flatten().collect();
        take(app, "auth.limit_sign_in", &uses).await?;
        Ok(Self { uses, mark })
    }

    /// Gives back what a failed attempt costs more than one that succeeds, and remembers where the owner was.
    pub(super) async fn succeeded(self, app: &App) -> Result<()> {
        if self.uses.is_empty() {
            return Ok(());
        }
        let mut tx = super::nobodys(app, "auth.limit_give_back").await?;
        store::give_back(&mut tx, &self.uses).await?;
        store::remember(&mut tx, &self.mark, REMEMBERED).await?;
        tx.commit().await
    }
}

/// Counts a registration.
///
/// # Errors
/// `ResourceExhausted` where there were too many.
pub(super) async fn registration(app: &App, from: Option<ClientAddress>) -> Result<()> {
    let (Some(rate), Some(from)) = (app.auth_limits.register.rate(), from) else {
        return Ok(());
    };
    let network = from.network().to_string();
    let used = Use {
        rate,
        times: 1,
        key: key(app, &["register", &network]),
        unless: None,
        refusal: REGISTRATIONS,
    };
    take(app, "auth.limit_register", &[used]).await
}

/// Counts a refresh, in the transaction that makes it.
///
/// # Errors
/// `ResourceExhausted` where there were too many; the transaction is to be rolled back.
pub(super) async fn refresh(app: &App, tx: &mut TenantTx, session: SessionId) -> Result<()> {
    let Some(rate) = app.auth_limits.refresh.rate() else {
        return Ok(());
    };
    let used = Use {
        rate,
        times: 1,
        key: key(app, &["refresh", &session.to_string()]),
        unless: None,
        refusal: REFRESHES,
    };
    count(tx, &[used]).await
}

/// Counts a mail that somebody asks for, by the address that he gives, be it somebody's or not.
///
/// # Errors
/// `ResourceExhausted` where there were too many.
pub(super) async fn mail(app: &App, to: &Email, from: Option<ClientAddress>) -> Result<()> {
    let once = |limit: Limit, parts: &[&str], refusal| {
        limit.rate().map(|rate| Use {
            rate,
            times: 1,
            key: key(app, parts),
            unless: None,
            refusal,
        })
    };
    let network = from.map(|it| it.network().to_string());
    let of_address = network
        .as_deref()
        .and_then(|it| once(app.auth_limits.mail_address, &["mail address", it], MAILS_FROM_ADDRESS));
    let of_recipient = once(app.auth_limits.mail, &["mail", to.as_str()], MAILS);
    let uses: Vec<_> = [of_recipient, of_address].into_iter().flatten().collect();
    take(app, "auth.limit_mail", &uses).await
}

/// Counts an invitation to an address, apart from the mails that its owner asks for: a stranger's invitations must not use those up.
///
/// # Errors
/// `ResourceExhausted` where there were too many.
pub(crate) async fn invitation(app: &App, to: &Email) -> Result<()> {
    let uses: Vec<_> = app
        .auth_limits
        .mail
        .rate()
        .map(|rate| Use {
            rate,
            times: 1,
            key: key(app, &["invitation", to.as_str()]),
            unless: None,
            refusal: MAILS,
        })
        .into_iter()
        .collect();
    take(app, "auth.limit_invitation", &uses).await
}

/// A counted code of a second factor.
#[derive(Debug)]
pub(super) struct CodeAttempt(Vec<Use>);

impl CodeAttempt {
    /// Counts a code as a wrong one.
    ///
    /// # Errors
    /// `ResourceExhausted` where there were too many.
    pub(super) async fn begin(app: &App, user: UserId) -> Result<Self> {
        let used = CODE.rate().map(|rate| Use {
            rate,
            times: 1,
            key: key(app, &["code", &user.to_string()]),
            unless: None,
            refusal: CODES,
        });
        let uses: Vec<_> = used.into_iter().collect();
        take(app, "auth.limit_code", &uses).await?;
        Ok(Self(uses))
    }

    /// It was right: the next ones are not held up by it.
    pub(super) async fn succeeded(self, app: &App) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut tx = super::nobodys(app, "auth.limit_code_back").await?;
        store::undo(&mut tx, &self.0).await?;
        tx.commit().await
    }
}

/// Removes at most `limit` rates and marks whose time is over, and says how many they were.
pub async fn remove_expired(worker_pool: &PgPool, limit: i64) -> Result<u64> {
    let mut tx = WorkerTx::begin(worker_pool, "auth.remove_rates").await?;
    let removed = store::remove_expired(&mut tx, limit).await?;
    tx.commit().await?;
    Ok(removed)
}

async fn take(app: &App, name: &'static str, uses: &[Use]) -> Result<()> {
    if uses.is_empty() {
        return Ok(());
    }
    let mut tx = super::nobodys(app, name).await?;
    count(&mut tx, uses).await?;
    tx.commit().await
}

async fn count(tx: &mut PgConnection, uses: &[Use]) -> Result<()> {
    let Some((place, wait)) = store::take(tx, uses).await? else {
        return Ok(());
    };
    let Refusal { reason, what } = uses[place].refusal;
    Err(limits::too_many(reason, what, wait.max(Duration::from_secs(1))))
}

/// The key of what is counted; no part can hold the separator.
fn key(app: &App, parts: &[&str]) -> Vec<u8> {
    app.keys.mac(PURPOSE, parts.join("\0").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_attempt_costs_more_and_never_more_than_the_whole_burst() {
        let used = |limit: &str, times| Use {
            rate: limit.parse::<Limit>().unwrap().rate().unwrap(),
            times,
            key: Vec::new(),
            unless: None,
            refusal: ATTEMPTS,
        };
        assert_eq!(used("10/m burst 50", 1).cost(), Duration::from_secs(6));
        assert_eq!(used("10/m burst 50", FAILED).cost(), Duration::from_secs(30));
        assert_eq!(used("10/m burst 2", FAILED).cost(), Duration::from_secs(12));
    }
}
