//! The one place where errors become gRPC statuses, and a peer's statuses errors again.
//!
//! A status carries google.rpc details: a stable reason, the fields at fault, when to try again, and the correlation id.
//! What is internal goes to the log, once, with its sources; the caller gets the id under which it stands there.

use std::{collections::HashMap, error::Error as StdError, fmt::Write, future::Future, sync::Arc, time::Duration};

use tonic::{Code, Status, TimeoutExpired};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::error::{Error, Violation};

const DOMAIN: &str = "studios";

/// Details travel in the trailers, which clients bound: 8 KiB with what else is in there. This is before base64.
const VIOLATIONS_BYTES: usize = 4 * 1024;
const MESSAGE_CHARS: usize = 500;

tokio::task_local! {
    static REQUEST_ID: Arc<str>;
}

/// Runs a request's future under its correlation id: the one that statuses made in it carry.
pub fn with_request_id<F: Future>(id: Arc<str>, future: F) -> impl Future<Output = F::Output> {
    REQUEST_ID.scope(id, future)
}

/// The correlation id of the request that is being answered, if one is.
pub fn current_request_id() -> Option<Arc<str>> {
    REQUEST_ID.try_with(Arc::clone).ok()
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut details = ErrorDetails::new();
        if let Some(id) = current_request_id() {
            details.set_request_info(&*id, "");
        }
        let text = error.to_string();
        let (code, reason, message) = match error {
            Error::Invalid(violations) => {
                let message = summary(&violations);
                details.set_bad_request(bounded(violations));
                (Code::InvalidArgument, "INVALID_INPUT", message)
            }
            Error::Unauthenticated(reason) => (Code::Unauthenticated, reason, "the caller is not authenticated".into()),
            Error::NotFound { resource, id } => {
                details.set_resource_info(resource, shortened(id), "", "");
                (Code::NotFound, "NOT_FOUND", text)
            }
            Error::PermissionDenied { reason, message } => (Code::PermissionDenied, reason, message),
            Error::AlreadyExists { reason, message } => (Code::AlreadyExists, reason, message),
            Error::Aborted { reason, message } => (Code::Aborted, reason, message),
            Error::FailedPrecondition { reason, message } => (Code::FailedPrecondition, reason, message),
            Error::ResourceExhausted {
                reason,
                message,
                retry_after,
            } => {
                match retry_after {
                    Some(delay) => details.set_retry_info(Some(delay)),
                    None => details.add_quota_failure_violation(reason, &*message),
                };
                (Code::ResourceExhausted, reason, message)
            }
            Error::Unavailable {
                reason,
                message,
                retry_after,
            } => {
                if let Some(delay) = retry_after {
                    details.set_retry_info(Some(delay));
                }
                (Code::Unavailable, reason, message)
            }
            Error::DeadlineExceeded => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", text),
            Error::Cancelled => (Code::Cancelled, "CANCELLED", text),
            Error::Unimplemented(_) => (Code::Unimplemented, "UNIMPLEMENTED", text),
            Error::Internal(source) => {
                tracing::error!(error = %chain(&*source), "internal error");
                (Code::Internal, "INTERNAL", text)
            }
        };
        details.set_error_info(reason, DOMAIN, HashMap::new());
        Self::with_error_details(code, shortened(message), details)
    }
}

/// The error that a peer's status stands for here.
///
/// What the peer says of the caller's request stays what it is. That the peer refuses *us* (our token, our arguments'
/// types) or has failed is our failure; that the connection broke is nobody's, and may be tried again.
pub fn from_status(status: Status) -> Error {
    if broke(&status) {
        return unavailable(&status, None);
    }
    let details = status.get_error_details();
    let retry_after = details.retry_info().and_then(|it| it.retry_delay);
    let reason = details.error_info().map_or("", |it| &it.reason);
    let message = status.message().to_owned();
    match status.code() {
        Code::InvalidArgument => match details.bad_request() {
            Some(bad) if !bad.is_empty() => Error::Invalid(bad.field_violations.iter().map(violation).collect()),
            _ => Error::internal(status),
        },
        Code::NotFound => {
            let id = details.resource_info().map_or("", |it| &it.resource_name);
            Error::not_found("resource", id)
        }
        Code::PermissionDenied => Error::PermissionDenied {
            reason: known(reason, "PERMISSION_DENIED"),
            message,
        },
        Code::AlreadyExists => Error::AlreadyExists {
            reason: known(reason, "ALREADY_EXISTS"),
            message,
        },
        Code::Aborted => Error::Aborted {
            reason: known(reason, "ABORTED"),
            message,
        },
        Code::FailedPrecondition => Error::FailedPrecondition {
            reason: known(reason, "FAILED_PRECONDITION"),
            message,
        },
        Code::ResourceExhausted => Error::ResourceExhausted {
            reason: known(reason, "RESOURCE_EXHAUSTED"),
            message,
            retry_after,
        },
        Code::Unavailable => unavailable(&status, retry_after),
        // The transport reports its own timeout as a cancellation; a caller that gave up is not here to hear of it.
        Code::DeadlineExceeded | Code::Cancelled => Error::DeadlineExceeded,
        Code::Ok
        | Code::Unknown
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => Error::internal(status),
    }
}

/// Whether the transport failed under the call. Only a status made on this side has a source; the transport's timeout is
/// one too, and no failure.
fn broke(status: &Status) -> bool {
    let first = status.source();
    let timed_out = std::iter::successors(first, |it| (*it).source()).any(<dyn StdError>::is::<TimeoutExpired>);
    first.is_some() && !timed_out
}

fn unavailable(status: &Status, retry_after: Option<Duration>) -> Error {
    tracing::warn!(error = %status.message(), "peer unavailable");
    Error::Unavailable {
        reason: "PEER_UNAVAILABLE",
        message: "another service that is needed cannot be reached".into(),
        retry_after: retry_after.or(Some(Duration::from_secs(1))),
    }
}

/// A peer's reason as one of those that pass through unchanged.
fn known(reason: &str, otherwise: &'static str) -> &'static str {
    [
        "ADMIN_REQUIRED",
        "ETAG_MISMATCH",
        "CONCURRENT_UPDATE",
        "FILE_HAS_NO_TEXT",
        "STORAGE_QUOTA_EXCEEDED",
    ]
    .into_iter()
    .find(|it| *it == reason)
    .unwrap_or(otherwise)
}

fn violation(given: &FieldViolation) -> Violation {
    Violation {
        field: given.field.clone(),
        description: given.description.clone(),
    }
}

fn summary(violations: &[Violation]) -> String {
    let mut text = String::from("invalid: ");
    for (i, violation) in violations.iter().enumerate() {
        if i > 0 {
            text.push_str(", ");
        }
        text.push_str(&violation.field);
        if text.len() > MESSAGE_CHARS {
            break;
        }
    }
    text
}

/// The violations as far as they fit, and how many more there are.
fn bounded(violations: Vec<Violation>) -> Vec<FieldViolation> {
    let all = violations.len();
    let mut bytes = 0;
    let mut told: Vec<_> = violations
        .into_iter()
        .map(|it| FieldViolation::new(shortened(it.field), shortened(it.description)))
        .take_while(|it| {
            bytes += it.field.len() + it.description.len();
            bytes <= VIOLATIONS_BYTES
        })
        .collect();
    if told.len() < all {
        told.push(FieldViolation::new(
            "",
            format!("{} more fields are wrong", all - told.len()),
        ));
    }
    told
}

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MESSAGE_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// An error and what caused it, outermost first.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        // Many errors repeat their source's text in their own.
        if !text.ends_with(&cause) {
            write!(text, ": {cause}").expect("writing to a string cannot fail");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{fmt, io};

    use super::*;

    #[derive(Debug)]
    struct Outer(io::Error);
    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot store")
        }
    }
    impl StdError for Outer {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn every_wrong_field_is_told() {
        let error = Error::Invalid(vec![
            Violation {
                field: "company.name".into(),
                description: "must have 3 to 100 characters".into(),
            },
            Violation {
                field: "company.contact_email".into(),
                description: "must be an e-mail address".into(),
            },
        ]);
        let status = Status::from(error);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "invalid: company.name, company.contact_email");
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations.len(), 2);
        let info = details.error_info().unwrap();
        assert_eq!((&*info.reason, &*info.domain), ("INVALID_INPUT", "studios"));
    }

    #[test]
    fn details_stay_small_however_much_is_wrong() {
        let violations = (0..10_000)
            .map(|i| Violation {
                field: format!("stages[{i}].name"),
                description: "x".repeat(5_000),
            })
            .collect();
        let status = Status::from(Error::Invalid(violations));
        let told = status
            .get_error_details()
            .bad_request()
            .unwrap()
            .field_violations
            .clone();
        assert!(status.details().len() < 6 * 1024, "{}", status.details().len());
        assert!(status.message().len() < 600);
        assert!(told.last().unwrap().description.ends_with("more fields are wrong"));
    }

    #[tokio::test]
    async fn a_status_carries_the_correlation_id_of_its_request() {
        let status = with_request_id("r-1".into(), async { Status::from(Error::Cancelled) }).await;
        assert_eq!(status.get_error_details().request_info().unwrap().request_id, "r-1");
        assert!(
            Status::from(Error::Cancelled)
                .get_error_details()
                .request_info()
                .is_none()
        );
    }

    #[test]
    fn internal_text_is_not_sent() {
        let status = Status::from(Error::internal(Outer(io::Error::other("password=x"))));
        assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
        assert!(!String::from_utf8_lossy(status.details()).contains("password"));
    }

    #[test]
    fn a_chain_names_each_cause_once() {
        assert_eq!(chain(&Outer(io::Error::other("disk full"))), "cannot store: disk full");
        let repeated = sqlx::Error::Io(io::Error::other("reset"));
        assert_eq!(chain(&repeated), "error communicating with database: reset");
    }

    #[test]
    fn limits_say_when_to_try_again_and_quotas_what_is_used_up() {
        let error = |retry_after| Error::ResourceExhausted {
            reason: "STORAGE",
            message: "full".into(),
            retry_after,
        };
        let delay = Duration::from_secs(3);
        let details = Status::from(error(Some(delay))).get_error_details();
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(delay));
        let details = Status::from(error(None)).get_error_details();
        assert_eq!(details.quota_failure().unwrap().violations[0].description, "full");
    }

    #[test]
    fn what_a_peer_says_of_the_request_stays_what_it_is() {
        let there_and_back = |error: Error| from_status(Status::from(error));
        let back = there_and_back(Error::not_found("studio", "s-1"));
        assert!(matches!(back, Error::NotFound { id, .. } if id == "s-1"));
        let back = there_and_back(Error::invalid("query", "must not be empty"));
        assert!(matches!(back, Error::Invalid(it) if it[0].field == "query"));
        let back = there_and_back(Error::PermissionDenied {
            reason: "ADMIN_REQUIRED",
            message: "no".into(),
        });
        assert!(matches!(
            back,
            Error::PermissionDenied {
                reason: "ADMIN_REQUIRED",
                ..
            }
        ));
        assert!(matches!(
            there_and_back(Error::DeadlineExceeded),
            Error::DeadlineExceeded
        ));
        let delay = Some(Duration::from_secs(2));
        let back = there_and_back(Error::Unavailable {
            reason: "X",
            message: String::new(),
            retry_after: delay,
        });
        assert!(matches!(back, Error::Unavailable { retry_after, .. } if retry_after == delay));
    }

    #[test]
    fn what_a_peer_says_of_us_is_our_failure() {
        for status in [
            Status::unauthenticated("token"),
            Status::internal("x"),
            Status::unknown("x"),
            Status::invalid_argument("no fields"),
        ] {
            assert!(matches!(from_status(status), Error::Internal(_)));
        }
        assert!(matches!(
            from_status(Status::cancelled("Timeout expired")),
            Error::DeadlineExceeded
        ));
    }

    #[test]
    fn a_broken_connection_may_be_tried_again_and_a_timeout_is_the_deadline() {
        let broken = Status::from_error(Box::new(io::Error::other("reset")));
        assert!(matches!(from_status(broken), Error::Unavailable { .. }));
        let late = Status::from_error(Box::new(TimeoutExpired(())));
        assert!(matches!(from_status(late), Error::DeadlineExceeded));
    }
}
