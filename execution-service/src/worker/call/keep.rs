//! A stage that keeps a text as a file of the studio, for the user who started the run.
//!
//! What is kept is known to core-service by where in the run it was made and what it is, and not by the try: whoever makes the
//! same call again, after a crash or because of a check, finds the file that is there. So nothing has to be announced first.

use serde_json::Value;
use service_kit::error::Error;
use tokio::time::{Instant, timeout_at};

use super::{Draft, Try};
use crate::{
    access::{Level, NewUpload, named},
    engine::{
        action::AttemptKey,
        check,
        definition::{Keep, Reach},
        failure::FailureClass,
        journal::AttemptFailure,
    },
    files::Pinned,
    worker::retrieval,
};

impl Try {
    pub(super) async fn keep(&self, keep: &Keep, draft: &mut Draft) -> Result<(), AttemptFailure> {
        let deadline = Instant::now() + self.stage().timeout;
        let wanted = {
            let keep = keep.clone();
            self.rendered(move |renderer| renderer.file(&keep)).await?
        };
        let hash = wanted.prompt.sha256();
        draft.prompt_sha256.clone_from(&hash);
        let facts = &self.ground.facts;
        let new = NewUpload {
            studio: facts.studio,
            file: wanted.file,
            name: &wanted.prompt.system,
            mime_type: &keep.mime_type,
            level: level(keep.reach),
            content: &wanted.prompt.prompt,
            request_id: named(known_by(&self.call.key, &hash)),
        };
        let core = &self.ground.shared.core;
        let kept = retrieval::waiting(|| core.keep_file(facts.started_by, new));
        let kept = timeout_at(deadline, kept).await.map_err(|_| late())?;
        let (file_id, name, version) = kept.map_err(failure)?;
        let output = Pinned {
            file_id,
            version: version.number,
            name,
            mime_type: version.mime_type,
            size_bytes: version.size_bytes,
            sha256: version.sha256,
            document_id: None,
        };
        let output = serde_json::to_value(output).unwrap_or(Value::Null);
        let text = wanted.prompt.prompt;
        let checked = self
            .aside(&[], move |stage, seen| check::value(stage, output, &text, seen))
            .await;
        self.settle(checked, deadline, draft).await
    }
}

/// The place in the run and what is kept there, without the try.
fn known_by(key: &AttemptKey, hash: &str) -> String {
    let AttemptKey {
        execution,
        stage,
        visit,
        item,
        ..
    } = key;
    format!("{execution}/{stage}/{visit}/{item}/{hash}")
}

const fn level(reach: Reach) -> Level {
    match reach {
        Reach::Private => Level::Private,
        Reach::Studio => Level::Studio,
        Reach::Company => Level::Company,
    }
}

/// core-service's refusals in the engine's classes.
fn failure(error: Error) -> AttemptFailure {
    use FailureClass::{Capped, ProviderError, RateLimit, Validation};
    match error {
        Error::NotFound { .. } | Error::PermissionDenied { .. } => AttemptFailure::lasting(
            ProviderError,
            "access_lost",
            "the file cannot be kept by the user who started the run",
        ),
        Error::Invalid(violations) => {
            let all = violations
                .into_iter()
                .map(|it| format!("{} {}", it.field, it.description));
            let all = all.collect::<Vec<_>>().join("; ");
            AttemptFailure::lasting(Validation, "file", format!("the file is refused: {all}"))
        }
        Error::ResourceExhausted {
            reason: "STORAGE_QUOTA_EXCEEDED",
            message,
            ..
        } => AttemptFailure::lasting(Capped, "storage", message),
        Error::ResourceExhausted {
            message, retry_after, ..
        } => AttemptFailure {
            retry_after_ms: retry_after.and_then(|after| u64::try_from(after.as_millis()).ok()),
            ..AttemptFailure::passing(RateLimit, "file", message)
        },
        Error::FailedPrecondition { message, .. } => AttemptFailure::lasting(ProviderError, "file", message),
        Error::DeadlineExceeded => late(),
        Error::Unauthenticated(_) | Error::Unimplemented(_) => {
            tracing::error!(error = %error, "core-service refuses this service");
            AttemptFailure::lasting(ProviderError, "config", "the file cannot be kept")
        }
        Error::AlreadyExists { .. }
        | Error::Aborted { .. }
        | Error::Unavailable { .. }
        | Error::Cancelled
        | Error::Internal(_) => {
            tracing::warn!(error = %error, "a file could not be kept");
            AttemptFailure::passing(ProviderError, "file", "the file could not be kept")
        }
    }
}

fn late() -> AttemptFailure {
    AttemptFailure::passing(FailureClass::Timeout, "file", "the file was not kept in time")
}

#[cfg(test)]
mod tests {
    use service_kit::ids::ExecutionId;

    use super::*;

    #[test]
    fn a_kept_text_is_known_by_its_place_and_itself_and_not_by_the_try() {
        let key = AttemptKey {
            execution: ExecutionId::generate(),
            stage: "keep".into(),
            visit: 1,
            item: 0,
            attempt: 1,
        };
        let again = AttemptKey {
            attempt: 2,
            ..key.clone()
        };
        assert_eq!(known_by(&key, "a"), known_by(&again, "a"));
        assert_ne!(known_by(&key, "a"), known_by(&key, "b"));
        let other = AttemptKey {
            visit: 2,
            ..key.clone()
        };
        assert_ne!(known_by(&key, "a"), known_by(&other, "a"));
    }

    #[test]
    fn a_full_storage_caps_the_stage_and_lost_access_is_told() {
        let full = failure(Error::ResourceExhausted {
            reason: "STORAGE_QUOTA_EXCEEDED",
            message: "full".into(),
            retry_after: None,
        });
        assert_eq!((full.class, full.retryable), (FailureClass::Capped, false));
        let lost = failure(Error::not_found("studio", "x"));
        assert_eq!(
            (lost.class, &*lost.reason),
            (FailureClass::ProviderError, "access_lost")
        );
        let bad = failure(Error::invalid("file.name", "must be shorter"));
        assert_eq!(bad.class, FailureClass::Validation);
        assert!(bad.message.contains("file.name must be shorter"), "{}", bad.message);
    }
}
