//! How many runs a company may start, over all replicas.
//!
//! The rate lies in a row of the company's; a replica takes some starts at a time from it and spends them by itself
//! (`lease`), so that the row is written a few times a second under load, not at every start, and not at all at rest.
//! Of many who find nothing left one asks, for all of them. A repeated start with the key of one that was made is answered
//! however many there were; while there are some left it costs one like any other, for it does as much work.

mod lease;
mod store;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use service_kit::{
    clock::SharedClock,
    db::TenantTx,
    error::Result,
    ids::CompanyId,
    limits::{Limit, too_many},
};
use sqlx::PgPool;

use self::lease::{Lease, Plan, Spend};
use crate::{access::Access, worker::StartKey};

/// `100/s burst 1000`: the starts of a company.
pub const DEFAULT: Limit = Limit::of(100, Duration::from_secs(1), 1_000);

/// Companies whose leases are kept before idle ones are looked for.
const COMPANIES: usize = 1024;

/// Keeps all replicas together to one rate per company.
pub struct StartRate {
    plan: Option<Plan>,
    pool: PgPool,
    clock: SharedClock,
    companies: Mutex<Companies>,
}

struct Companies {
    known: HashMap<CompanyId, Arc<Company>>,
    look_at: usize,
}

#[derive(Default)]
struct Company {
    lease: Mutex<Lease>,
    /// Held by the one who asks the database.
    asking: tokio::sync::Mutex<()>,
    waiting: AtomicU32,
}

impl Company {
    fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StartRate {
    /// Keeps to a limit, with the role that serves calls.
    pub fn new(limit: Limit, pool: PgPool, clock: SharedClock) -> Self {
        Self {
            plan: limit.rate().map(Plan::of),
            pool,
            clock,
            companies: Mutex::new(Companies {
                known: HashMap::new(),
                look_at: COMPANIES,
            }),
        }
    }

    /// Counts a start of a company.
    ///
    /// # Errors
    /// `ResourceExhausted` where there were too many, unless it repeats one that was made.
    pub async fn take(&self, access: &Access, key: Option<&StartKey>) -> Result<()> {
        let Some(plan) = &self.plan else { return Ok(()) };
        let company = self.company(access.company);
        let spent = company.lease().spend(self.clock.monotonic());
        let wait = match spent {
            Spend::Spent => return Ok(()),
            Spend::Wait(wait) => Some(wait),
            Spend::Ask => self.ask(plan, &company, access).await?,
        };
        let Some(wait) = wait else { return Ok(()) };
        if let Some(key) = key
            && self.was_made(access, key).await?
        {
            return Ok(());
        }
        Err(too_many("RATE_LIMITED_STARTS", "starts of this company", wait))
    }

    /// Takes more, unless another has meanwhile. Answers how long to wait where there is none.
    async fn ask(&self, plan: &Plan, company: &Company, access: &Access) -> Result<Option<Duration>> {
        let _waiting = Waiting::new(&company.waiting);
        let _asking = company.asking.lock().await;
        let asked_at = self.clock.monotonic();
        let wanted = {
            let mut lease = company.lease();
            match lease.spend(asked_at) {
                Spend::Spent => return Ok(None),
                Spend::Wait(wait) => return Ok(Some(wait)),
                Spend::Ask => lease.wanted(plan, company.waiting.load(Ordering::Relaxed), asked_at),
            }
        };
        let mut tx = TenantTx::begin(&self.pool, "executions.take_starts", &access.claims).await?;
        let grant = store::take(&mut tx, plan, wanted).await?;
        tx.commit().await?;
        let mut lease = company.lease();
        *lease = Lease::granted(plan, asked_at, wanted, grant);
        // The first of them is the asker's, however long the answer took.
        Ok((!lease.spend_first()).then_some(grant.wait))
    }

    async fn was_made(&self, access: &Access, key: &StartKey) -> Result<bool> {
        let mut tx = TenantTx::begin(&self.pool, "executions.was_started", &access.claims).await?;
        let was_made = store::was_made(&mut tx, key).await?;
        tx.commit().await?;
        Ok(was_made)
    }

    fn company(&self, id: CompanyId) -> Arc<Company> {
        let mut companies = self.companies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(company) = companies.known.get(&id) {
            return company.clone();
        }
        if companies.known.len() >= companies.look_at {
            let now = self.clock.monotonic();
            let is_in_use = |it: &Arc<Company>| Arc::strong_count(it) > 1 || it.lease().counts(now);
            companies.known.retain(|_, it| is_in_use(it));
            companies.look_at = COMPANIES.max(companies.known.len() * 2);
        }
        companies.known.entry(id).or_default().clone()
    }
}

/// One who waits for more, as long as he does.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
