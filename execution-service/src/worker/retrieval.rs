//! Retrieval: the chunks of the studio's documents that a stage asks for, read as the user who started the run.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use service_kit::{error::Error, ids::DocumentId};
use tokio::time::sleep;

use super::scene::Ground;
use crate::{
    access::{Found, Search, TextState},
    engine::{
        definition::{Retrieval, RetrievalMode},
        failure::FailureClass,
        journal::{AttemptFailure, Source},
        request::{Prompt, Renderer},
    },
};

/// The first and the longest wait before core-service is asked again while it is away.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// The first and the longest wait before a document is looked at again whose text is not there yet.
const LOOKS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How many documents are looked at at once.
const LOOKS_AT_ONCE: usize = 8;
/// How long making a query comparable may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// What is made comparable of a query, as core-service takes it.
const QUERY_CHARS: usize = 1_000;

/// What was found, and the query it was found by.
pub(super) struct Retrieved {
    pub sources: Vec<Source>,
    pub query: Prompt,
}

/// What is to be found.
pub(super) struct Wanted {
    query: Prompt,
    documents: Vec<DocumentId>,
    limit: u32,
    mode: RetrievalMode,
    mime_types: Vec<String>,
    tags: Vec<String>,
    max_age: Option<Duration>,
    /// What making the query comparable is known by to the model.
    key: String,
}

/// What a stage wants found.
pub(super) fn wish(renderer: &Renderer<'_>, retrieval: &Retrieval, key: String) -> Result<Wanted, AttemptFailure> {
    let query = renderer.query(retrieval)?;
    let documents = renderer.documents(retrieval)?;
    if query.prompt.trim().is_empty() && documents.is_empty() {
        return Err(AttemptFailure::lasting(
            FailureClass::Validation,
            "query",
            "the query is empty and no document is named",
        ));
    }
    Ok(Wanted {
        query,
        documents,
        limit: retrieval.max_chunks(),
        mode: retrieval.mode,
        mime_types: retrieval.mime_types.clone(),
        tags: retrieval.tags.clone(),
        max_age: retrieval.max_age,
        key,
    })
}

/// Finds chunks, however long core-service is away.
pub(super) async fn retrieve(ground: &Ground, wanted: Wanted) -> Result<Retrieved, AttemptFailure> {
    let Ground { shared, facts, .. } = ground;
    settled(ground, &wanted.documents).await?;
    let query = &wanted.query.prompt;
    let found = if query.trim().is_empty() {
        patiently(|| list(ground, &wanted.documents, wanted.limit)).await?
    } else {
        let vector = vector(ground, &wanted).await?;
        let search = Search {
            studio: facts.studio,
            query,
            mode: wanted.mode,
            vector,
            limit: wanted.limit,
            documents: &wanted.documents,
            mime_types: &wanted.mime_types,
            tags: &wanted.tags,
            created_from: wanted.max_age.map(|age| ground.now() - age),
        };
        patiently(|| shared.core.search_chunks(facts.started_by, search.clone())).await?
    };
    Ok(Retrieved {
        sources: found.into_iter().map(source).collect(),
        query: wanted.query,
    })
}

/// Waits until the text of each document that is named is there: one that was just made from a file comes in a moment.
async fn settled(ground: &Ground, documents: &[DocumentId]) -> Result<(), AttemptFailure> {
    let wait = |document| text_came(ground, document);
    let waits = stream::iter(documents.iter().copied().map(wait));
    waits.buffer_unordered(LOOKS_AT_ONCE).try_collect().await
}

async fn text_came(ground: &Ground, document: DocumentId) -> Result<(), AttemptFailure> {
    let Ground { shared, facts, .. } = ground;
    let (mut pause, longest) = LOOKS;
    loop {
        let state = patiently(|| async {
            match shared.core.text_state(facts.started_by, document).await {
                // What is not there has nothing that could be waited for.
                Err(Error::NotFound { .. }) => Ok(TextState::Ready),
                other => other,
            }
        });
        match state.await? {
            TextState::Ready => return Ok(()),
            TextState::Failed { title, reason } => {
                return Err(AttemptFailure::lasting(
                    FailureClass::Validation,
                    "document_failed",
                    format!("the document {title} has no text to find anything in: {reason}"),
                ));
            }
            TextState::Coming => {
                sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        }
    }
}

/// What core-service answers. Its being away is not the fault of who asks: it is asked again until the caller gives up.
pub(super) async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, AttemptFailure>
where
    F: Future<Output = Result<T, Error>>,
{
    waiting(ask).await.map_err(failure)
}

/// The same, with its refusals as they are.
pub(super) async fn waiting<T, F>(ask: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let (mut pause, longest) = PAUSES;
    loop {
        match ask().await {
            Err(Error::Unavailable { .. }) => {
                tracing::warn!("core-service is away; a stage waits for it");
                sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
            asked => return asked,
        }
    }
}

/// The query's vector by the company's model. Where the stage leaves open by what is found, it goes on without one.
async fn vector(ground: &Ground, wanted: &Wanted) -> Result<Option<(String, Vec<f32>)>, AttemptFailure> {
    let is_needed = match wanted.mode {
        RetrievalMode::Text => return Ok(None),
        RetrievalMode::Automatic => false,
        RetrievalMode::Vector | RetrievalMode::Fused => true,
    };
    match embedded(ground, wanted).await {
        Ok(None) if is_needed => Err(AttemptFailure::lasting(
            FailureClass::Validation,
            "no_embedding_model",
            "the company has no model with embeds_documents, which finding by vectors needs",
        )),
        Err(failure) if !is_needed => {
            tracing::warn!(
                reason = failure.reason,
                message = failure.message,
                "found by words alone"
            );
            Ok(None)
        }
        other => other,
    }
}

async fn embedded(ground: &Ground, wanted: &Wanted) -> Result<Option<(String, Vec<f32>)>, AttemptFailure> {
    let Some(embedder) = ground.shared.embedder(ground.facts.company).await? else {
        return Ok(None);
    };
    let text = wanted.query.prompt.chars().take(QUERY_CHARS).collect();
    let mut vectors = embedder.embed(vec![text], wanted.key.clone(), PATIENCE).await?;
    Ok(vectors.pop().map(|numbers| (embedder.name(), numbers)))
}

/// The chunks of documents one after the other, in their order.
async fn list(ground: &Ground, documents: &[DocumentId], limit: u32) -> Result<Vec<Found>, Error> {
    let mut all = Vec::new();
    for document in documents {
        let left = limit - u32::try_from(all.len()).unwrap_or(limit).min(limit);
        if left == 0 {
            break;
        }
        all.extend(
            ground
                .shared
                .core
                .list_chunks(ground.facts.started_by, *document, left)
                .await?,
        );
    }
    all.truncate(limit as usize);
    Ok(all)
}

pub(super) fn source(found: Found) -> Source {
    Source {
        document_id: found.document_id,
        chunk_id: found.chunk_id,
        document_title: found.document_title,
        section: found.section,
        page: found.page,
        overlap: found.overlap,
        content: found.content,
    }
}

/// core-service's refusals in the engine's classes.
pub(super) fn failure(error: Error) -> AttemptFailure {
    use FailureClass::{ProviderError, RateLimit, Validation};
    match error {
        Error::NotFound { .. } | Error::PermissionDenied { .. } => AttemptFailure::lasting(
            ProviderError,
            "access_lost",
            "the documents cannot be read by the user who started the run",
        ),
        Error::Invalid(violations) => {
            let all: Vec<_> = violations
                .into_iter()
                .map(|it| format!("{} {}", it.field, it.description))
                .collect();
            AttemptFailure::lasting(
                Validation,
                "retrieval",
                format!("the retrieval is refused: {}", all.join("; ")),
            )
        }
        Error::ResourceExhausted {
            message, retry_after, ..
        } => AttemptFailure {
            retry_after_ms: retry_after.and_then(|after| u64::try_from(after.as_millis()).ok()),
            ..AttemptFailure::passing(RateLimit, "retrieval", message)
        },
        Error::FailedPrecondition { message, .. } => AttemptFailure::passing(ProviderError, "retrieval", message),
        Error::DeadlineExceeded => late(),
        Error::Unauthenticated(_) | Error::Unimplemented(_) => {
            tracing::error!(error = %error, "core-service refuses this service");
            AttemptFailure::lasting(ProviderError, "config", "the documents cannot be searched")
        }
        Error::AlreadyExists { .. }
        | Error::Aborted { .. }
        | Error::Unavailable { .. }
        | Error::Cancelled
        | Error::Internal(_) => {
            tracing::warn!(error = %error, "retrieval failed");
            AttemptFailure::passing(ProviderError, "retrieval", "the documents could not be searched")
        }
    }
}

/// The stage's time was over before the documents were searched.
pub(super) fn late() -> AttemptFailure {
    AttemptFailure::passing(
        FailureClass::Timeout,
        "retrieval",
        "the documents were not searched in time",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_access_lasts_and_is_told_from_failures_that_may_pass() {
        let lost = failure(Error::not_found("studio", "x"));
        assert_eq!(
            (lost.class, lost.reason.as_str(), lost.retryable),
            (FailureClass::ProviderError, "access_lost", false)
        );
        let denied = failure(Error::PermissionDenied {
            reason: "X",
            message: "no".into(),
        });
        assert_eq!(denied, lost);
        let broken = failure(Error::internal("secret"));
        assert!(broken.retryable && !broken.message.contains("secret"));
        assert_eq!(failure(Error::DeadlineExceeded).class, FailureClass::Timeout);
    }

    #[test]
    fn what_core_asks_to_wait_is_kept() {
        let limited = failure(Error::ResourceExhausted {
            reason: "X",
            message: "slow".into(),
            retry_after: Some(Duration::from_secs(3)),
        });
        assert_eq!(
            (limited.class, limited.retry_after_ms),
            (FailureClass::RateLimit, Some(3_000))
        );
    }
}
