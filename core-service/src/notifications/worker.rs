//! The worker: leases deliveries that are due in a short transaction, delivers them outside any, and puts off what is not taken.
//!
//! It looks when it is woken and otherwise every second. Of a channel few are under way at once, and after a failure its receiver is
//! left alone for a while, so that one which hangs takes no time from those of others. Mails are handed to [`mails`].

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
    ids::ChannelId,
    lifecycle::Lifecycle,
};
use tokio::time::{self, Instant};
use tracing::{Dispatch, instrument::WithSubscriber};

use super::{
    Audience, Kind, Secret, Status,
    webhook::{self, Refused},
    worker_store::{self as store, Leased, Tried},
};
use crate::{
    App,
    companies::memberships::Role,
    mails::{self, Mail},
};

const POLL: Duration = Duration::from_secs(1);

/// How many are under way at once, and how many of a channel.
const CONCURRENCY: usize = 32;
const EACH: usize = 4;

/// How long a delivery is its holder's; longer than delivering may take.
const LEASE: Duration = Duration::from_mins(1);

/// After which times a delivery is tried again: some three days in all, as Standard Webhooks advises.
const DELAYS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    Duration::from_hours(24),
];

/// For how long a receiver that has failed is left alone at most, whatever waits for it.
const LONGEST_REST: Duration = Duration::from_mins(5);

/// After how long in vain a channel is switched off.
const PATIENCE: Duration = Duration::from_hours(3 * 24);

/// Delivers notifications.
pub struct Worker {
    app: Arc<App>,
}

impl Worker {
    /// A worker of this service.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    /// Delivers until the lifecycle's soft token fires; what is under way then ends by the hard one.
    pub async fn run(self, lifecycle: Lifecycle) {
        let (soft, hard) = (lifecycle.soft(), lifecycle.hard());
        let work = async {
            let mut under_way = FuturesUnordered::new();
            let mut held: HashMap<ChannelId, usize> = HashMap::new();
            while !soft.is_cancelled() {
                for leased in self.claim(CONCURRENCY - under_way.len(), &held).await {
                    *held.entry(leased.channel).or_default() += 1;
                    under_way.push(self.attend(leased));
                }
                tokio::select! {
                    () = soft.cancelled() => {}
                    Some(channel) = under_way.next() => release(&mut held, channel),
                    () = self.app.notification_signal.woken() => {}
                    () = time::sleep(POLL) => {}
                }
            }
            while under_way.next().await.is_some() {}
        };
        tokio::select! {
            () = hard.cancelled() => {}
            () = work => {}
        }
    }

    async fn claim(&self, room: usize, held: &HashMap<ChannelId, usize>) -> Vec<Leased> {
        if room == 0 {
            return Vec::new();
        }
        let busy: Vec<_> = held
            .iter()
            .filter(|(_, held)| **held >= EACH)
            .map(|(id, _)| *id)
            .collect();
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        let claim = async {
            let mut tx = WorkerTx::begin(&self.app.worker_pool, "notifications.claim").await?;
            let leased = store::claim(&mut tx, number(room), number(EACH), &busy, LEASE).await?;
            tx.commit().await?;
            Ok::<_, Error>(leased)
        };
        // A look every second would be a trace every second.
        let result = claim.with_subscriber(Dispatch::none()).await;
        result.unwrap_or_else(|error| {
            tracing::warn!(error = %error, "cannot look for notifications");
            Vec::new()
        })
    }

    async fn attend(&self, leased: Leased) -> ChannelId {
        let attended = if !leased.enabled {
            self.drop(&leased, "the channel is switched off").await
        } else if leased.kind == Kind::Email {
            self.mail(&leased).await
        } else {
            self.post(&leased).await
        };
        if let Err(error) = attended {
            tracing::warn!(error = %error, delivery = %leased.id, "notification not settled: its lease will run out");
        }
        leased.channel
    }

    async fn drop(&self, leased: &Leased, why: &str) -> Result<()> {
        let mut tx = WorkerTx::begin(&self.app.worker_pool, "notifications.drop").await?;
        store::settle(&mut tx, leased, &Tried::ended(Status::Dropped, why)).await?;
        tx.commit().await
    }

    /// Hands mails over, in the commit that says so.
    async fn mail(&self, leased: &Leased) -> Result<()> {
        let app = &self.app;
        let mut tx = WorkerTx::begin(&app.worker_pool, "notifications.mail").await?;
        let (users, rank) = match leased.audience {
            Audience::Admins => (&[][..], Some(Role::Admin)),
            Audience::Concerned => (&leased.users[..], leased.rank),
        };
        let recipients = store::recipients(&mut tx, leased.company, users, rank).await?;
        let tried = if recipients.is_empty() {
            Tried::ended(Status::Dropped, "nobody with a verified address is concerned")
        } else {
            Tried::ended(Status::Delivered, "")
        };
        if !store::settle(&mut tx, leased, &tried).await? {
            return Ok(());
        }
        for recipient in recipients {
            let mail = Mail::Notification {
                to: recipient.email,
                company: leased.company_name.clone(),
                topic: leased.topic.clone(),
                data: leased.data.0.clone(),
            };
            mails::enqueue(&mut tx, &app.keys, Some(recipient.user), &mail).await?;
        }
        tx.commit().await?;
        app.mail_signal.wake();
        Ok(())
    }

    async fn post(&self, leased: &Leased) -> Result<()> {
        let app = &self.app;
        let sealed = leased.secret.iter().chain(&leased.old_secret);
        let secrets: Option<Vec<_>> = sealed.map(|it| Secret::open(&app.keys, leased.channel, it)).collect();
        let began = Instant::now();
        let sent = match &secrets {
            Some(secrets) => webhook::send(&app.outbound, leased, secrets, app.clock.now()).await,
            None => Err(Refused::unsigned()),
        };
        let took = began.elapsed();
        let mut tx = WorkerTx::begin(&app.worker_pool, "notifications.settle").await?;
        match sent {
            Ok(status) => {
                let tried = Tried {
                    response_status: status.into(),
                    took,
                    ..Tried::ended(Status::Delivered, "")
                };
                store::settle(&mut tx, leased, &tried).await?;
                store::note_health(&mut tx, leased.channel, None).await?;
            }
            Err(refused) => self.put_off(&mut tx, leased, &refused, took).await?,
        }
        tx.commit().await?;
        app.mail_signal.wake();
        Ok(())
    }

    /// Settles a try in vain, and with it how the channel fares.
    async fn put_off(&self, tx: &mut WorkerTx, leased: &Leased, refused: &Refused, took: Duration) -> Result<()> {
        let delay = delay(leased.tries).map(|it| refused.retry_after.map_or(it, |wanted| wanted.max(it)));
        tracing::info!(delivery = %leased.id, channel = %leased.channel, attempt = leased.tries, status = refused.status,
            error = refused.message, "notification not taken");
        let tried = Tried {
            status: if delay.is_some() {
                Status::Waiting
            } else {
                Status::Failed
            },
            response_status: refused.status.into(),
            error: &refused.message,
            took,
            again_after: delay,
        };
        store::settle(tx, leased, &tried).await?;
        let rest = delay.unwrap_or(LONGEST_REST).min(LONGEST_REST);
        store::note_health(tx, leased.channel, Some(rest)).await?;
        let is_hopeless = leased
            .failing_since
            .is_some_and(|since| self.app.clock.now() - since >= PATIENCE);
        if refused.is_gone || is_hopeless && delay.is_none() {
            self.switch_off(tx, leased, &refused.message).await?;
        }
        Ok(())
    }

    /// Switches a channel off and writes to the company's admins.
    async fn switch_off(&self, tx: &mut WorkerTx, leased: &Leased, why: &str) -> Result<()> {
        if !store::disable(tx, leased.channel, why).await? {
            return Ok(());
        }
        tracing::warn!(channel = %leased.channel, error = why, "notification channel switched off");
        for recipient in store::recipients(tx, leased.company, &[], Some(Role::Admin)).await? {
            let mail = Mail::ChannelDisabled {
                to: recipient.email,
                company: leased.company_name.clone(),
                channel: leased.channel_name.clone(),
                reason: why.to_owned(),
            };
            mails::enqueue(tx, &self.app.keys, Some(recipient.user), &mail).await?;
        }
        Ok(())
    }
}

impl<'a> Tried<'a> {
    /// It ended so.
    fn ended(status: Status, error: &'a str) -> Self {
        Self {
            status,
            response_status: 0,
            error,
            took: Duration::ZERO,
            again_after: None,
        }
    }
}

fn release(held: &mut HashMap<ChannelId, usize>, channel: ChannelId) {
    if let Some(count) = held.get_mut(&channel) {
        *count -= 1;
        if *count == 0 {
            held.remove(&channel);
        }
    }
}

/// How long after a try the next one is made; none after the last.
fn delay(tries: i32) -> Option<Duration> {
    let place = usize::try_from(tries - 1).ok()?;
    DELAYS.get(place).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_tried_ten_times_in_three_days() {
        let delays: Vec<_> = (1..).map_while(delay).collect();
        assert_eq!(delays.len(), 9);
        assert!(delays.is_sorted());
        let all: Duration = delays.iter().sum();
        assert!((3.0..3.5).contains(&(all.as_secs_f64() / 86_400.0)), "{all:?}");
    }
}
