//! The instance's lease: one row a process, renewed every second, by which others know that its runs are looked after.
//!
//! The lease lasts ten seconds by the database's clock. This side stops working when seven have passed by its own monotonic
//! clock since it last began a renewal that succeeded, so it has stopped before anybody may take its runs over, whatever the
//! two clocks say. After that it registers as a new instance; the old one's runs come back by being claimed.

use std::time::Duration;

use sqlx::PgPool;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{OwnConnection, Trouble},
    held::Held,
    store::leases,
};

/// How often the lease is renewed.
const RENEWAL: Duration = Duration::from_secs(1);
/// How long this side works without a renewal.
const TRUST: Duration = Duration::from_secs(7);
/// How long to wait before asking again a database that did not answer.
const PAUSE: Duration = Duration::from_millis(250);
/// How long the last statement may take, when the service stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// A lease that holds until `lost` fires.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub instance: i32,
    pub lost: CancellationToken,
}

/// The current lease, for all who work under it; none while the database is away too long.
pub(super) type CurrentLease = watch::Receiver<Option<Lease>>;

/// Registers, and gives the lease with the task that keeps it until `done` fires.
pub(super) async fn take(
    pool: PgPool,
    address: String,
    held: Held,
    done: CancellationToken,
) -> Result<(CurrentLease, impl Future<Output = ()> + Send + 'static), Trouble> {
    let begun = Instant::now();
    let (publish, current) = watch::channel(None);
    let mut keeper = Keeper {
        address,
        held,
        publish,
        connection: OwnConnection::new(pool),
    };
    let first = keeper.register().await?;
    keeper.publish.send_replace(Some(first.clone()));
    Ok((current, async move {
        if done.run_until_cancelled(keeper.keep(first, begun)).await.is_none() {
            keeper.resign().await;
        }
    }))
}

struct Keeper {
    address: String,
    held: Held,
    publish: watch::Sender<Option<Lease>>,
    connection: OwnConnection,
}

impl Keeper {
    async fn keep(&mut self, mut lease: Lease, mut begun: Instant) {
        loop {
            self.renew_until_lost(&lease, begun).await;
            tracing::error!(
                instance = lease.instance,
                "the lease is lost: all its runs are given up"
            );
            lease.lost.cancel();
            self.publish.send_replace(None);
            (lease, begun) = self.register_again().await;
            self.publish.send_replace(Some(lease.clone()));
        }
    }

    async fn renew_until_lost(&mut self, lease: &Lease, mut begun: Instant) {
        loop {
            let trusted_until = begun + TRUST;
            sleep_until((begun + RENEWAL).min(trusted_until)).await;
            let trying = Instant::now();
            match timeout_at(trusted_until, self.renew(lease.instance)).await {
                Ok(Ok(true)) => begun = trying,
                // Somebody may have taken the runs over already.
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(error)) => {
                    tracing::warn!(instance = lease.instance, error = %error, "the lease could not be renewed");
                    sleep_until((trying + PAUSE).min(trusted_until)).await;
                }
            }
        }
    }

    async fn renew(&mut self, instance: i32) -> Result<bool, Trouble> {
        let room = self.room();
        self.connection
            .with(async |connection| leases::renew(connection, instance, room).await)
            .await
    }

    async fn register(&mut self) -> Result<Lease, Trouble> {
        let (address, room) = (self.address.clone(), self.room());
        let instance = self
            .connection
            .with(async |connection| leases::register(connection, &address, room).await)
            .await?;
        tracing::info!(instance, "registered");
        Ok(Lease {
            instance,
            lost: CancellationToken::new(),
        })
    }

    fn room(&self) -> i32 {
        i32::try_from(self.held.room()).unwrap_or(i32::MAX)
    }

    async fn register_again(&mut self) -> (Lease, Instant) {
        loop {
            let begun = Instant::now();
            match self.register().await {
                Ok(lease) => return (lease, begun),
                Err(error) => {
                    tracing::warn!(error = %error, "no lease can be had");
                    sleep(RENEWAL).await;
                }
            }
        }
    }

    async fn resign(&mut self) {
        let Some(lease) = self.publish.send_replace(None) else {
            return;
        };
        let resigned = timeout_at(Instant::now() + FAREWELL, async {
            self.connection
                .with(async |connection| leases::resign(connection, lease.instance).await)
                .await
        });
        if let Ok(Ok(())) = resigned.await {
            tracing::info!(instance = lease.instance, "resigned");
        } else {
            tracing::warn!(
                instance = lease.instance,
                "could not resign; the lease runs out by itself"
            );
        }
    }
}
