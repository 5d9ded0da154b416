//! What stands between a company and a model that its plan does not pay for: asked before each call.
//!
//! What was spent is counted in the commit of the attempt that spent it. A replica reads it at most once a second for a company,
//! and each time again where little is left; calls under way here, and those that ended since it was read, are counted as what
//! they may take at most. What other replicas have under way is not known, so all together may go over a limit by what they have
//! in flight at that moment.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use moka::future::Cache;
use service_kit::{
    db,
    error::{Error, Result},
    ids::CompanyId,
};
use sqlx::PgPool;

use super::store::quotas::{self, Spent};
use crate::{
    access::Allowance,
    engine::{failure::FailureClass, journal::AttemptFailure},
};

/// How long what was read is believed, where much is left.
const LIFETIME: Duration = Duration::from_secs(1);
/// How many companies are remembered.
const CAPACITY: u64 = 10_000;
/// The part of a limit from which on it is read before each call: nine tenths.
const NEAR: (i64, i64) = (9, 10);

/// Tokens and what they cost, in millionths of a US dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub tokens: i64,
    pub cost_micros: i64,
}

impl Amount {
    const fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            cost_micros: self.cost_micros.saturating_add(other.cost_micros),
        }
    }

    const fn minus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(other.tokens),
            cost_micros: self.cost_micros.saturating_sub(other.cost_micros),
        }
    }
}

/// A limit that there is nothing left of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Short {
    Tokens(i64),
    Cost(i64),
}

impl Short {
    /// Which limit an amount goes over, after what was spent. What is free may be had when the money is gone.
    fn of(spent: &Spent, wanted: Amount) -> Option<Self> {
        if spent.tokens.saturating_add(wanted.tokens) > spent.tokens_per_month {
            Some(Self::Tokens(spent.tokens_per_month))
        } else if wanted.cost_micros > 0
            && spent.cost_micros.saturating_add(wanted.cost_micros) > spent.cost_micros_per_month
        {
            Some(Self::Cost(spent.cost_micros_per_month))
        } else {
            None
        }
    }

    fn message(self) -> String {
        match self {
            Self::Tokens(limit) => format!("the company's plan has {limit} model tokens a month, and too few are left"),
            Self::Cost(micros) => {
                let (dollars, cents) = (micros / 1_000_000, micros % 1_000_000 / 10_000);
                format!("the company's plan has ${dollars}.{cents:02} a month for models, and too little is left")
            }
        }
    }

    /// What becomes of an attempt whose call is not made.
    fn failure(self) -> AttemptFailure {
        let reason = match self {
            Self::Tokens(_) => "token_quota",
            Self::Cost(_) => "cost_quota",
        };
        AttemptFailure::lasting(FailureClass::Capped, reason, self.message())
    }

    fn refusal(self) -> Error {
        Error::ResourceExhausted {
            reason: match self {
                Self::Tokens(_) => "TOKEN_QUOTA_EXCEEDED",
                Self::Cost(_) => "COST_QUOTA_EXCEEDED",
            },
            message: self.message(),
            retry_after: None,
        }
    }
}

/// What a company had spent when it was read; nothing where it has started nothing this month.
#[derive(Debug, Default)]
struct Known {
    spent: Option<Spent>,
    /// What calls that have ended since may have taken.
    since: Mutex<Amount>,
}

impl Known {
    fn since(&self) -> MutexGuard<'_, Amount> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What companies have spent, as this replica knows it.
#[derive(Debug)]
pub(super) struct Spending {
    pool: PgPool,
    known: Cache<CompanyId, Arc<Known>>,
    under_way: Mutex<HashMap<CompanyId, Amount>>,
}

/// A company's, for the calls of one of its runs.
#[derive(Debug, Clone)]
pub(super) struct Purse {
    spending: Arc<Spending>,
    company: CompanyId,
}

impl Spending {
    pub(super) fn new(pool: PgPool) -> Arc<Self> {
        Arc::new(Self {
            pool,
            known: Cache::builder().max_capacity(CAPACITY).time_to_live(LIFETIME).build(),
            under_way: Mutex::default(),
        })
    }

    pub(super) fn purse(self: &Arc<Self>, company: CompanyId) -> Purse {
        Purse {
            spending: self.clone(),
            company,
        }
    }

    /// Refuses a start by whose plan no token may be had any more.
    pub(super) async fn require_rest(&self, company: CompanyId, allowed: &Allowance) -> Result<()> {
        let least = Amount {
            tokens: 1,
            cost_micros: 0,
        };
        let known = self.known(company, least).await?;
        // The plan may have changed since the last start.
        let spent = known.spent.map(|it| Spent {
            tokens_per_month: allowed.tokens_per_month,
            cost_micros_per_month: allowed.cost_micros_per_month,
            ..it
        });
        match spent.and_then(|it| Short::of(&it, least)) {
            Some(short) => Err(short.refusal()),
            None => Ok(()),
        }
    }

    /// The same of calls that no start comes before, which notes what the plan allows: it is asked for before each call.
    pub(super) async fn admit(&self, company: CompanyId, allowed: &Allowance) -> Result<()> {
        let known = self.known(company, Amount::default()).await?;
        let limits = (allowed.tokens_per_month, allowed.cost_micros_per_month);
        let is_noted = |it: Spent| (it.tokens_per_month, it.cost_micros_per_month) == limits;
        if !known.spent.is_some_and(is_noted) {
            db::with(&self.pool, async |it| quotas::note(it, company, allowed).await).await?;
            self.known.invalidate(&company).await;
        }
        self.require_rest(company, allowed).await
    }

    /// What was spent; read anew where an amount comes near what is left.
    async fn known(&self, company: CompanyId, wanted: Amount) -> Result<Arc<Known>, sqlx::Error> {
        if let Some(known) = self.known.get(&company).await {
            let wanted = wanted.plus(*known.since());
            if known.spent.is_some_and(|it| is_far(&it, wanted)) {
                return Ok(known);
            }
        }
        let spent = db::with(&self.pool, async |it| quotas::spent(it, company).await).await?;
        let known = Arc::new(Known {
            spent,
            since: Mutex::default(),
        });
        // Where nothing was started, that is about to change.
        if spent.is_some() {
            self.known.insert(company, known.clone()).await;
        }
        Ok(known)
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<CompanyId, Amount>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_far(spent: &Spent, wanted: Amount) -> bool {
    let near = Spent {
        tokens_per_month: spent.tokens_per_month / NEAR.1 * NEAR.0,
        cost_micros_per_month: spent.cost_micros_per_month / NEAR.1 * NEAR.0,
        ..*spent
    };
    Short::of(&near, wanted).is_none()
}

impl Purse {
    /// Takes what a call may need at most, until it is over. A database that is away lets calls through: runs go on without it
    /// as long as they can, and what they spend is counted when it is back.
    pub(super) async fn take(&self, most: Amount) -> Result<Taken, AttemptFailure> {
        let (mut taken, all) = Taken::of(self.clone(), most);
        match self.spending.known(self.company, all).await {
            Ok(known) => {
                let wanted = all.plus(*known.since());
                if let Some(short) = known.spent.and_then(|it| Short::of(&it, wanted)) {
                    return Err(short.failure());
                }
                taken.known = Some(known);
            }
            Err(error) => tracing::warn!(error = %error, "what the company has spent is not known"),
        }
        Ok(taken)
    }
}

/// What a call under way may need. Of many at once each is counted with those before it.
#[derive(Debug)]
pub(super) struct Taken {
    purse: Purse,
    most: Amount,
    /// What it has taken; as long as that is not known, as much as it may.
    took: Amount,
    /// What it was let through by; none where it was not, or nothing was known.
    known: Option<Arc<Known>>,
}

impl Taken {
    fn of(purse: Purse, most: Amount) -> (Self, Amount) {
        let all = {
            let mut under_way = purse.spending.under_way();
            let all = under_way.entry(purse.company).or_default();
            *all = all.plus(most);
            *all
        };
        let known = None;
        let taken = Self {
            purse,
            most,
            took: most,
            known,
        };
        (taken, all)
    }
}

impl Taken {
    /// Says what the call has taken.
    pub(super) fn took(&mut self, amount: Amount) {
        self.took = amount;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(known) = &self.known {
            let mut since = known.since();
            *since = since.plus(self.took);
        }
        let mut under_way = self.purse.spending.under_way();
        if let Some(all) = under_way.get_mut(&self.purse.company) {
            *all = all.minus(self.most);
            if *all == Amount::default() {
                under_way.remove(&self.purse.company);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(tokens: i64, cost_micros: i64) -> Spent {
        Spent {
            tokens,
            cost_micros,
            tokens_per_month: 1_000,
            cost_micros_per_month: 5_250_000,
        }
    }

    fn amount(tokens: i64, cost_micros: i64) -> Amount {
        Amount { tokens, cost_micros }
    }

    #[test]
    fn an_amount_fits_to_the_last_token_and_no_further() {
        assert_eq!(Short::of(&spent(990, 0), amount(10, 0)), None);
        assert_eq!(Short::of(&spent(990, 0), amount(11, 0)), Some(Short::Tokens(1_000)));
        assert_eq!(Short::of(&spent(0, 5_000_000), amount(1, 250_000)), None);
        let short = Short::of(&spent(0, 5_000_000), amount(1, 250_001)).unwrap();
        assert_eq!(short, Short::Cost(5_250_000));
        assert!(short.message().contains("$5.25 a month"), "{}", short.message());
        assert_eq!(short.failure().class, FailureClass::Capped);
    }

    #[test]
    fn what_is_free_may_be_had_when_the_money_is_gone() {
        assert_eq!(Short::of(&spent(0, 9_000_000), amount(10, 0)), None);
    }

    #[test]
    fn where_little_is_left_it_is_read_before_each_call() {
        assert!(is_far(&spent(800, 0), amount(100, 0)));
        assert!(!is_far(&spent(850, 0), amount(100, 0)));
    }
}
