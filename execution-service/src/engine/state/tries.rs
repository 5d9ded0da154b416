//! Trying again: which failures, after how long, and with which model.

use std::time::Duration;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::job::{Job, Phase};
use crate::engine::{
    action::AttemptKey,
    definition::{Kind, Retry, Stage},
    failure::FailureClass,
    journal::AttemptFailure,
};

/// The wait before the second try, without jitter, where nothing is said.
pub(in crate::engine) const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// The longest wait that grows by itself, where nothing is said.
pub(in crate::engine) const MAX_BACKOFF: Duration = Duration::from_mins(1);
/// The longest wait that a provider can ask for.
pub(in crate::engine) const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

impl Job {
    /// Makes it the next try after one that failed; false if there is none.
    pub(super) fn try_again(
        &mut self,
        stage: &Stage,
        key: &AttemptKey,
        failure: &AttemptFailure,
        notes: &str,
        at: OffsetDateTime,
    ) -> bool {
        self.tries += 1;
        let is_covered = failure.retryable && stage.retry.covers(failure.class);
        if is_covered && self.tries <= stage.retry_limit {
            let wait = backoff(&stage.retry, key, self.tries, failure);
            notes.clone_into(&mut self.notes);
            self.not_before = Some(at.saturating_add(wait.try_into().unwrap_or(time::Duration::MAX)));
        } else if falls_back(failure) && has_another(stage, self.model) {
            self.model += 1;
            self.tries = 0;
            self.notes.clear();
            self.not_before = Some(at);
        } else {
            return false;
        }
        self.attempt += 1;
        self.round = 0;
        self.phase = Phase::Ready;
        true
    }
}

/// Whether another model may do better: not where the request or the answer is what is wrong, nor where a limit of ours is
/// reached for good.
fn falls_back(failure: &AttemptFailure) -> bool {
    match failure.class {
        FailureClass::Validation => false,
        FailureClass::ProviderError => true,
        FailureClass::RateLimit | FailureClass::Timeout | FailureClass::Capped => failure.retryable,
    }
}

fn has_another(stage: &Stage, model: usize) -> bool {
    matches!(&stage.kind, Kind::Llm(llm) if llm.model_at(model + 1).is_some())
}

/// How long to wait before trying again: what the provider asked for, or twice as long with every try, spread by a hash of
/// the attempt's key so that runs that failed together do not come back together. Failed checks do not wait.
fn backoff(retry: &Retry, failed: &AttemptKey, tries: u32, failure: &AttemptFailure) -> Duration {
    let asked = Duration::from_millis(failure.retry_after_ms.unwrap_or(0)).min(MAX_RETRY_AFTER);
    if failure.class == FailureClass::Validation {
        return asked;
    }
    let first = retry.first_backoff.unwrap_or(FIRST_BACKOFF);
    let longest = retry.max_backoff.unwrap_or_else(|| MAX_BACKOFF.max(first));
    let doublings = tries.saturating_sub(1).min(16);
    let full = first.saturating_mul(1 << doublings).min(longest).min(MAX_RETRY_AFTER);
    asked.max(full.mul_f64(0.5 + 0.5 * jitter(failed)))
}

/// A number from 0 to 1 that depends on the key alone.
fn jitter(key: &AttemptKey) -> f64 {
    let digest = Sha256::digest(key.to_string());
    f64::from(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])) / f64::from(u32::MAX)
}
