//! Vectors of the companies' documents, made in the background.
//!
//! core-service knows which chunks lack a vector of their company's model and hands them out under a lease, to one replica at a
//! time; what is lost here is handed out again. A company whose model does not answer waits longer and longer; a document
//! whose text the model refuses is not sent again. While no company has such a model, core-service is not asked.

use std::{collections::HashMap, sync::Arc, time::Duration};

use service_kit::{db, error::Result, ids::CompanyId};
use tokio::time::{Instant, sleep};
use tracing::{Dispatch, instrument::WithSubscriber};

use super::{Shared, store};
use crate::{
    access::Unembedded,
    engine::{failure::FailureClass, journal::AttemptFailure},
};

/// How long nobody looks after nothing was found.
const IDLE: Duration = Duration::from_secs(2);
/// How long to wait after a failure that is no company's.
const PAUSE: Duration = Duration::from_secs(5);
/// The first and the longest wait of a company whose model does not answer.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(10));
/// How many companies are asked about at once.
const COMPANIES: usize = 500;
/// How many chunks are made comparable at once.
const CHUNKS: i32 = 64;
/// How long a batch may take: less than its lease.
const PATIENCE: Duration = Duration::from_secs(90);
/// The longest reason of a model's that is kept, in characters.
const REASON_CHARS: usize = 500;

/// Makes vectors until the service stops.
pub(super) async fn keep(shared: Arc<Shared>) {
    let soft = shared.lifecycle.soft();
    let mut round = Round {
        shared,
        after: None,
        waiting: HashMap::new(),
    };
    let work = async {
        loop {
            let pause = match round.next().await {
                Ok(Found::Something) => continue,
                Ok(Found::Nothing) => IDLE,
                Err(error) => {
                    tracing::warn!(error = %error, "no vectors are made");
                    PAUSE
                }
            };
            sleep(pause).await;
        }
    };
    let _stopped = soft.run_until_cancelled(work).await;
}

enum Found {
    Something,
    Nothing,
}

struct Round {
    shared: Arc<Shared>,
    /// The last company that was asked about, so that all have their turn.
    after: Option<CompanyId>,
    /// Companies that are not asked about until then, and how long they waited last.
    waiting: HashMap<CompanyId, (Instant, Duration)>,
}

impl Round {
    /// Makes one batch of vectors, if any are lacking.
    async fn next(&mut self) -> Result<Found> {
        // A look every few seconds would be a trace every few seconds.
        let is_whole = self.after.is_none();
        let claimed = self.claim().with_subscriber(Dispatch::none()).await?;
        let Some(batch) = claimed else {
            // It rests when it has asked about all companies, from the first to the last.
            let is_last = self.after.is_none();
            return Ok(if is_whole && is_last {
                Found::Nothing
            } else {
                Found::Something
            });
        };
        let (company, document) = (batch.company, batch.document);
        // The others have their turn before it.
        self.after = Some(company);
        match self.make(batch).await? {
            Ok(()) => {
                self.waiting.remove(&company);
            }
            Err(failure) => {
                let (first, longest) = BACKOFF;
                let asked = failure.retry_after_ms.map(Duration::from_millis);
                let last = self.waiting.get(&company).map(|(_, pause)| *pause);
                let pause = last
                    .map_or(first, |it| (it * 2).min(longest))
                    .max(asked.unwrap_or_default());
                tracing::warn!(%company, %document, reason = failure.reason, message = failure.message,
                    pause_s = pause.as_secs(), "a company's model makes no vectors");
                self.waiting.insert(company, (Instant::now() + pause, pause));
            }
        }
        Ok(Found::Something)
    }

    /// Chunks of the next company that lacks vectors.
    async fn claim(&mut self) -> Result<Option<Unembedded>> {
        let after = self.after;
        let companies = db::with(&self.shared.pool, async |it| {
            store::embedding_companies(it, after, i64::try_from(COMPANIES).unwrap_or(i64::MAX)).await
        })
        .await?;
        self.after = companies.last().copied().filter(|_| companies.len() == COMPANIES);
        let now = Instant::now();
        let mut wanted = Vec::new();
        for company in companies {
            if self.waiting.get(&company).is_some_and(|(until, _)| now < *until) {
                continue;
            }
            let model = self.shared.models.embedding(company).await;
            let model = model.map_err(|error| service_kit::error::Error::internal(error.to_string()))?;
            wanted.extend(model.map(|model| (company, model.space())));
        }
        if wanted.is_empty() {
            return Ok(None);
        }
        self.shared.core.claim_chunks(&wanted, CHUNKS).await
    }

    /// Makes the vectors of a batch. The inner failure is the company's model's.
    async fn make(&self, batch: Unembedded) -> Result<std::result::Result<(), AttemptFailure>> {
        let embedder = match self.shared.embedder(batch.company).await {
            Ok(Some(embedder)) => embedder,
            // It was told otherwise meanwhile.
            Ok(None) => return Ok(Ok(())),
            Err(failure) => return Ok(Err(failure)),
        };
        let (ids, texts): (Vec<_>, Vec<_>) = batch.chunks.into_iter().unzip();
        let key = format!(
            "vectors/{}/{}",
            batch.document,
            ids.first().map(ToString::to_string).unwrap_or_default()
        );
        let model = embedder.name();
        let made = match embedder.embed(texts, key, PATIENCE).await {
            Ok(vectors) => Ok(ids.into_iter().zip(vectors).collect()),
            Err(failure) if is_the_texts(&failure) => Err(failure.message.chars().take(REASON_CHARS).collect()),
            Err(failure) => return Ok(Err(failure)),
        };
        self.shared.core.store_vectors(batch.document, &model, made).await?;
        Ok(Ok(()))
    }
}

/// Whether the model refuses these texts, and others perhaps not.
fn is_the_texts(failure: &AttemptFailure) -> bool {
    failure.class == FailureClass::Validation && !failure.retryable && failure.reason != "no_embeddings"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_text_is_told_from_a_model_that_makes_no_vectors_at_all() {
        let of = |class, reason: &str| AttemptFailure::lasting(class, reason, "no");
        assert!(is_the_texts(&of(FailureClass::Validation, "context_length")));
        assert!(!is_the_texts(&of(FailureClass::Validation, "no_embeddings")));
        assert!(!is_the_texts(&of(FailureClass::ProviderError, "auth")));
        assert!(!is_the_texts(&AttemptFailure::passing(
            FailureClass::Validation,
            "x",
            "no"
        )));
    }
}
