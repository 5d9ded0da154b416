//! The worker: leases mails that are due in a short transaction, sends them outside any, and puts off what is not taken.
//!
//! It looks when it is woken and otherwise every two seconds. What a server refuses for good fails at once; the rest is tried
//! for some hours, later and later. A token is good before its mail leaves.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
    ids::{MailId, UserId},
    lifecycle::Lifecycle,
};
use tokio::time;
use tracing::{Dispatch, instrument::WithSubscriber};

use super::{Mail, MailToken, store, template, transport::Failure};
use crate::App;

const POLL: Duration = Duration::from_secs(2);

/// How many are sent at once.
const CONCURRENCY: i64 = 4;

/// How long a mail is its holder's, and how long sending it may take.
const LEASE: Duration = Duration::from_mins(3);
const TRY: Duration = Duration::from_mins(2);

const FIRST_DELAY: Duration = Duration::from_secs(5);
const LONGEST_DELAY: Duration = Duration::from_hours(1);
/// Some six hours in all.
const TRIES: i32 = 12;

/// A mail that this process holds. Which try it is, is the fence.
pub(super) struct Leased {
    pub(super) id: MailId,
    pub(super) user: Option<UserId>,
    pub(super) sealed: Vec<u8>,
    pub(super) tries: i32,
}

/// Sends mails.
pub struct Worker {
    app: Arc<App>,
}

impl Worker {
    /// A worker of this service.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    /// Sends until the lifecycle's soft token fires; what is under way then ends by the hard one.
    pub async fn run(self, lifecycle: Lifecycle) {
        let (soft, hard) = (lifecycle.soft(), lifecycle.hard());
        let work = async {
            while !soft.is_cancelled() {
                let mails = self.claim().await;
                if mails.is_empty() {
                    tokio::select! {
                        () = soft.cancelled() => {}
                        () = self.app.mail_signal.woken() => {}
                        () = time::sleep(POLL) => {}
                    }
                    continue;
                }
                join_all(mails.iter().map(|it| self.attend(it))).await;
            }
        };
        tokio::select! {
            () = hard.cancelled() => {}
            () = work => {}
        }
    }

    async fn claim(&self) -> Vec<Leased> {
        let claim = async {
            let mut tx = WorkerTx::begin(&self.app.worker_pool, "mails.claim").await?;
            let mails = store::claim(&mut tx, CONCURRENCY, LEASE).await?;
            tx.commit().await?;
            Ok::<_, Error>(mails)
        };
        // A look every other second would be a trace every other second.
        let result = claim.with_subscriber(Dispatch::none()).await;
        result.unwrap_or_else(|error| {
            tracing::warn!(error = %error, "cannot look for mails");
            Vec::new()
        })
    }

    async fn attend(&self, leased: &Leased) {
        let sent = time::timeout(TRY, self.send(leased)).await;
        let sent = sent.unwrap_or(Ok(Err(Failure::NotTaken("not sent in time".into()))));
        let ended = match sent {
            Ok(sent) => self.settle(leased, sent).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::warn!(error = %error, mail = %leased.id, "mail not settled: its lease will run out");
        }
    }

    /// Sends a mail; says whether there was anybody to send it to.
    async fn send(&self, leased: &Leased) -> Result<Result<bool, Failure>> {
        let app = &self.app;
        let Some(mail) = super::open(&app.keys, leased.id, &leased.sealed) else {
            return Ok(Err(Failure::Refused("it does not open under the key ring".into())));
        };
        let token = match self.token(leased, &mail).await? {
            Token::Made(token) => Some(token),
            Token::NoneNeeded => None,
            Token::Nobody => return Ok(Ok(false)),
        };
        let words = template::write(&mail, token.as_ref(), app.mail.pages.as_ref());
        let sent = app
            .mail
            .transport
            .send(leased.id, &app.mail.from, mail.to(), words)
            .await;
        Ok(sent.map(|()| true))
    }

    async fn token(&self, leased: &Leased, mail: &Mail) -> Result<Token> {
        let Some(purpose) = mail.purpose() else {
            return Ok(Token::NoneNeeded);
        };
        let mut tx = WorkerTx::begin(&self.app.worker_pool, "mails.token").await?;
        let user = match leased.user {
            Some(user) => Some(user),
            None => store::find_user(&mut tx, mail.to()).await?,
        };
        let Some(user) = user else {
            return Ok(Token::Nobody);
        };
        let token = MailToken::of(&self.app.keys, leased.id);
        let expires_at = self.app.clock.now() + purpose.lifetime();
        store::insert_token(&mut tx, token.hash(), user, purpose, mail.to(), expires_at).await?;
        tx.commit().await?;
        Ok(Token::Made(token))
    }

    async fn settle(&self, leased: &Leased, sent: Result<bool, Failure>) -> Result<()> {
        let mut tx = WorkerTx::begin(&self.app.worker_pool, "mails.settle").await?;
        match sent {
            Ok(true) => store::end(&mut tx, leased, "sent", None).await?,
            Ok(false) => store::end(&mut tx, leased, "dropped", None).await?,
            Err(Failure::NotTaken(error)) if leased.tries < TRIES => {
                tracing::warn!(error, mail = %leased.id, attempt = leased.tries, "mail put off");
                store::postpone(&mut tx, leased, delay(leased.tries), &error).await?;
            }
            Err(Failure::NotTaken(error) | Failure::Refused(error)) => {
                tracing::warn!(error, mail = %leased.id, "mail failed");
                store::end(&mut tx, leased, "failed", Some(&error)).await?;
            }
        }
        tx.commit().await
    }
}

/// The token of a mail.
enum Token {
    Made(MailToken),
    NoneNeeded,
    /// The address is nobody's.
    Nobody,
}

/// How long after a try the next one is made.
fn delay(tries: i32) -> Duration {
    let doubled = u32::try_from(tries - 1).unwrap_or(0).min(16);
    FIRST_DELAY.saturating_mul(1 << doubled).min(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_put_off_longer_and_longer_up_to_an_hour() {
        let delays = [1, 2, 3, 10, 11, i32::MAX].map(|tries| delay(tries).as_secs());
        assert_eq!(delays, [5, 10, 20, 2560, 3600, 3600]);
    }
}
