//! What stands before an endpoint: its breaker, and how much may be asked of it.
//!
//! Limits are those of one process: several share an account as best they can, by what the provider answers. A call waits
//! for its turn in the order of coming, as long as its own time allows; what would wait longer is refused at once, with how
//! long it would be, and no call is made. What a member can bring about by himself (a time too short, a prompt that is
//! refused) says nothing about the endpoint, so nobody can open the breaker for others.

mod breaker;
mod rate;

use std::{
    num::NonZeroU32,
    sync::Arc,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep, timeout_at},
};

pub use self::breaker::BreakerState;
use self::{
    breaker::{Breaker, Pass, Verdict},
    rate::{Rate, Taken},
};
use super::{Answer, Call, CallError, EmbedCall, Embedded, Provider, endpoint::Limits};
use crate::engine::failure::FailureClass;

/// How many calls may wait for their turn at an endpoint.
const MOST_WAITING: u32 = 10_000;
/// Tokens that an answer is expected to have where it has no limit.
const USUAL_ANSWER: u64 = 512;
/// A time of its own that a call must have had for the endpoint to be to blame that it ran out.
const FAIR_TIME: Duration = Duration::from_secs(10);
/// How long to wait before asking again where all places are taken.
const PAUSE: Duration = Duration::from_secs(1);

/// How an endpoint stands in this process.
#[derive(Debug)]
pub(super) struct Standing {
    name: String,
    breaker: Mutex<Breaker>,
    rate: Option<Mutex<Rate>>,
    places: Option<Semaphore>,
    waiting: AtomicU32,
    calling: AtomicU32,
    last_failure: Mutex<Option<&'static str>>,
}

/// How an endpoint stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingReport {
    /// Whether calls are made.
    pub breaker: BreakerState,
    /// Failures in a row that the endpoint is to blame for.
    pub failures: u32,
    /// The reason of the last of them.
    pub last_failure: Option<&'static str>,
    /// Calls under way.
    pub calling: u32,
    /// Calls that wait for their turn.
    pub waiting: u32,
}

impl Standing {
    /// Nothing is known yet. `name` is what logs call the endpoint.
    pub(super) fn new(name: &str, limits: Limits) -> Self {
        let has_rate = limits.requests_per_minute.is_some() || limits.tokens_per_minute.is_some();
        let rate = || Rate::new(limits.requests_per_minute, limits.tokens_per_minute, Instant::now());
        let places = |most: NonZeroU32| Semaphore::new(usize::try_from(most.get()).unwrap_or(usize::MAX));
        Self {
            name: name.to_owned(),
            breaker: Mutex::default(),
            rate: has_rate.then(|| Mutex::new(rate())),
            places: limits.concurrency.map(places),
            waiting: AtomicU32::new(0),
            calling: AtomicU32::new(0),
            last_failure: Mutex::default(),
        }
    }

    /// As it is now.
    pub(super) fn report(&self) -> StandingReport {
        let breaker = lock(&self.breaker);
        StandingReport {
            breaker: breaker.state(Instant::now()),
            failures: breaker.failures(),
            last_failure: *lock(&self.last_failure),
            calling: self.calling.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    /// Waits for a call's turn.
    async fn enter(&self, tokens: impl FnOnce() -> u64, deadline: Instant) -> Result<Entry<'_>, CallError> {
        if let Some(rest) = lock(&self.breaker).refuses(Instant::now()) {
            return Err(resting(rest));
        }
        let rate = match &self.rate {
            Some(rate) => Some(self.pace(rate, tokens(), deadline).await?),
            None => None,
        };
        let place = match &self.places {
            Some(places) => Some(self.place(places, deadline).await?),
            None => None,
        };
        let pass = lock(&self.breaker).admit(Instant::now()).map_err(resting)?;
        self.calling.fetch_add(1, Ordering::Relaxed);
        Ok(Entry {
            standing: self,
            pass,
            rate,
            _place: place,
            is_settled: false,
        })
    }

    /// Waits for its part of the minute's calls and tokens.
    async fn pace<'a>(&'a self, rate: &'a Mutex<Rate>, tokens: u64, deadline: Instant) -> Result<Share<'a>, CallError> {
        let now = Instant::now();
        let patience = deadline.saturating_duration_since(now);
        let taken = lock(rate).take(tokens, patience, now);
        let (taken, wait) = taken.map_err(|wait| {
            let message = "the connection's calls or tokens of this minute are used up";
            limited("connection_rate", message, wait)
        })?;
        let share = Share {
            rate,
            taken: Some(taken),
        };
        if !wait.is_zero() {
            let _waiting = self.queue()?;
            sleep(wait).await;
        }
        Ok(share)
    }

    /// Waits for a place among those who call at once; whoever came first is first.
    async fn place<'a>(&'a self, places: &'a Semaphore, deadline: Instant) -> Result<SemaphorePermit<'a>, CallError> {
        if let Ok(place) = places.try_acquire() {
            return Ok(place);
        }
        let _waiting = self.queue()?;
        let place = timeout_at(deadline, places.acquire()).await;
        let place = place.map_err(|_| {
            let message = "all calls that the connection may make at once are under way";
            limited("connection_busy", message, PAUSE)
        })?;
        place.map_err(|_| {
            CallError::new(
                FailureClass::ProviderError,
                "connection_busy",
                "the connection is closed",
            )
        })
    }

    fn queue(&self) -> Result<Waiting<'_>, CallError> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.waiting);
        if before >= MOST_WAITING {
            let message = "too many calls wait for the connection";
            return Err(limited("connection_busy", message, PAUSE));
        }
        Ok(waiting)
    }
}

/// The lock is held for moments, and what it guards is whole at all times.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn resting(rest: Duration) -> CallError {
    CallError {
        retry_after: Some(rest),
        ..CallError::new(
            FailureClass::ProviderError,
            "breaker_open",
            "the provider has failed several times in a row and is left alone for a while",
        )
        .retryable()
    }
}

fn limited(reason: &'static str, message: &str, wait: Duration) -> CallError {
    CallError {
        retry_after: Some(wait),
        ..CallError::new(FailureClass::RateLimit, reason, message).retryable()
    }
}

/// A call that waits.
struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call's part of the minute, given back if the call is not made.
struct Share<'a> {
    rate: &'a Mutex<Rate>,
    taken: Option<Taken>,
}

impl Share<'_> {
    /// The call used this much; nothing where it is not known, and then the estimate stands.
    fn correct(mut self, used: Option<u64>) {
        if let (Some(taken), Some(used)) = (self.taken.take(), used) {
            lock(self.rate).correct(taken, used);
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            lock(self.rate).give_back(taken);
        }
    }
}

/// A call whose turn it is. Given up, it says nothing about the endpoint.
struct Entry<'a> {
    standing: &'a Standing,
    pass: Pass,
    rate: Option<Share<'a>>,
    _place: Option<SemaphorePermit<'a>>,
    is_settled: bool,
}

impl Entry<'_> {
    /// Takes what came of the call, of its failure also its time.
    fn settle(mut self, failure: Option<(&CallError, Duration)>, used: Option<u64>) {
        self.is_settled = true;
        if let Some(rate) = self.rate.take() {
            rate.correct(used);
        }
        let verdict = failure.map_or(Verdict::Works, |(error, time)| verdict(error, time));
        let standing = self.standing;
        if let (Verdict::Failed(_), Some((error, _))) = (verdict, failure) {
            *lock(&standing.last_failure) = Some(error.reason);
        }
        let change = lock(&standing.breaker).settle(self.pass, verdict, Instant::now());
        match change {
            Some(BreakerState::Open(rest)) => tracing::warn!(
                provider = standing.name,
                rest_ms = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX),
                reason = failure.map(|(error, _)| error.reason),
                "the provider failed several times in a row and is left alone"
            ),
            Some(_) => tracing::info!(provider = standing.name, "the provider works again"),
            None => {}
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.standing.calling.fetch_sub(1, Ordering::Relaxed);
        if !self.is_settled {
            // It was sent, so its part of the minute is used.
            if let Some(rate) = self.rate.take() {
                rate.correct(None);
            }
            lock(&self.standing.breaker).settle(self.pass, Verdict::Nothing, Instant::now());
        }
    }
}

/// What a failure says of the endpoint.
fn verdict(error: &CallError, time: Duration) -> Verdict {
    match error.class {
        FailureClass::Timeout if error.reason == "total" && time < FAIR_TIME => Verdict::Nothing,
        FailureClass::Timeout => Verdict::Failed(error.retry_after),
        FailureClass::ProviderError => match error.reason {
            "unreachable" | "connection_lost" | "incomplete" | "wrong_body" | "no_choices" | "overloaded"
            | "server_error" => Verdict::Failed(error.retry_after),
            _ => Verdict::Nothing,
        },
        FailureClass::Validation if error.reason == "address" => Verdict::Nothing,
        FailureClass::Validation => Verdict::Works,
        FailureClass::RateLimit | FailureClass::Capped => Verdict::Nothing,
    }
}

/// A provider behind its endpoint's standing.
pub(super) struct Guarded<P> {
    inner: P,
    standing: Arc<Standing>,
}

impl<P: Provider> Guarded<P> {
    /// The provider, whose calls are counted there.
    pub(super) const fn new(inner: P, standing: Arc<Standing>) -> Self {
        Self { inner, standing }
    }

    async fn answer(&self, call: &Call, delta: &(dyn Fn(&str) + Send + Sync)) -> Result<Answer, CallError> {
        let begun = Instant::now();
        let deadline = begun + call.timeout;
        let entry = self.standing.enter(|| estimate(call), deadline).await?;
        let waited = begun.elapsed();
        let result = if waited < Duration::from_millis(1) {
            self.inner.call(call, delta).await
        } else {
            let rest = Call {
                timeout: call.timeout.saturating_sub(waited),
                ..call.clone()
            };
            self.inner.call(&rest, delta).await
        };
        let time = call.timeout.saturating_sub(waited);
        match &result {
            Ok(answer) => {
                let used = answer.input_tokens.saturating_add(answer.output_tokens);
                entry.settle(None, (!answer.billing_uncertain).then_some(used));
            }
            Err(error) => {
                let used = error.usage.input_tokens.saturating_add(error.usage.output_tokens);
                entry.settle(Some((error, time)), (!error.billing_uncertain).then_some(used));
            }
        }
        result
    }

    async fn vectors(&self, call: &EmbedCall) -> Result<Embedded, CallError> {
        let begun = Instant::now();
        let bytes = || call.inputs.iter().map(String::len).sum::<usize>() as u64;
        let entry = self.standing.enter(|| bytes() / 4, begun + call.timeout).await?;
        let waited = begun.elapsed();
        let result = if waited < Duration::from_millis(1) {
            self.inner.embed(call).await
        } else {
            let rest = EmbedCall {
                timeout: call.timeout.saturating_sub(waited),
                ..call.clone()
            };
            self.inner.embed(&rest).await
        };
        match &result {
            Ok(embedded) => entry.settle(None, (!embedded.billing_uncertain).then_some(embedded.input_tokens)),
            Err(error) => entry.settle(Some((error, call.timeout.saturating_sub(waited))), None),
        }
        result
    }
}

/// How many tokens a call will take, more or less: a token is about four bytes.
fn estimate(call: &Call) -> u64 {
    let prompt = (call.system.len() + call.prompt.len()) as u64 / 4;
    let answer = call.parameters.max_tokens.map_or(USUAL_ANSWER, u64::from);
    prompt.saturating_add(answer)
}

impl<P: Provider> Provider for Guarded<P> {
    fn call<'a>(
        &'a self,
        call: &'a Call,
        delta: &'a (dyn Fn(&str) + Send + Sync),
    ) -> BoxFuture<'a, Result<Answer, CallError>> {
        Box::pin(self.answer(call, delta))
    }

    fn embed<'a>(&'a self, call: &'a EmbedCall) -> BoxFuture<'a, Result<Embedded, CallError>> {
        Box::pin(self.vectors(call))
    }
}

#[cfg(test)]
mod tests;
