//! What ActivePieces answers when it does not do what it is asked, in both of its shapes: `{code, params}` and
//! `{statusCode, code?, error, message}`.
//!
//! Its words are shown to people cut and without what may be secret; a run's id is never among them.

use std::time::Duration;

use serde::Deserialize;
use service_kit::{
    error::Error,
    outbound::{OutboundError, Response},
};

use super::scrub;
use crate::engine::{failure::FailureClass, journal::AttemptFailure};

/// The longest of its words that are shown, in bytes.
const MAX_WORDS: usize = 300;

/// Why ActivePieces did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What it was.
    pub kind: Kind,
    /// For people.
    pub message: String,
    /// When it is worth trying again, where that is known.
    pub retry_after: Option<Duration>,
}

/// What it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The key, or the e-mail and password, are not accepted.
    Unauthorised,
    /// The session has ended; signing in again may help.
    SessionExpired,
    /// There is no such thing, or not in the connection's project.
    NotFound,
    /// The flow is disabled, or was never published.
    FlowDisabled,
    /// The flow is unknown, or was deleted.
    FlowGone,
    /// The request is not as it must be.
    Invalid,
    /// Another operation on the flow is in progress.
    InProgress,
    /// A limit of the instance's plan is used up.
    Quota,
    /// What is sent is larger than it takes.
    TooLarge,
    /// It does not take what is sent.
    MediaType,
    /// It asks to slow down.
    RateLimited,
    /// It cannot be reached: nothing was sent.
    Unreachable,
    /// Nothing is sent, as it failed again and again.
    CircuitOpen,
    /// It says that it failed.
    Broken,
    /// No answer came in time.
    TimedOut,
    /// What it answers cannot be read.
    Unreadable,
    /// The address may not be called.
    Refused,
}

impl Kind {
    /// The reason in failures of attempts and errors; stable.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Unauthorised => "unauthorised",
            Self::SessionExpired => "session_expired",
            Self::NotFound => "not_found",
            Self::FlowDisabled => "flow_disabled",
            Self::FlowGone => "flow_not_found",
            Self::Invalid => "refused",
            Self::InProgress => "operation_in_progress",
            Self::Quota => "quota",
            Self::TooLarge => "too_large",
            Self::MediaType => "media_type",
            Self::RateLimited => "rate_limited",
            Self::Unreachable => "connect",
            Self::CircuitOpen => "circuit_open",
            Self::Broken => "upstream",
            Self::TimedOut => "timed_out",
            Self::Unreadable => "unreadable",
            Self::Refused => "address_refused",
        }
    }

    /// Whether the instance itself is what fails.
    pub(super) const fn is_instances(self) -> bool {
        matches!(self, Self::Unreachable | Self::Broken | Self::TimedOut)
    }

    /// Whether it is the connection that fares badly, and not what was asked for.
    pub(crate) const fn is_connections(self) -> bool {
        self.is_instances()
            || matches!(
                self,
                Self::Unauthorised | Self::SessionExpired | Self::Refused | Self::CircuitOpen | Self::Quota
            )
    }

    /// Whether asking again may end differently.
    pub const fn may_pass(self) -> bool {
        match self {
            Self::InProgress
            | Self::RateLimited
            | Self::Unreachable
            | Self::CircuitOpen
            | Self::Broken
            | Self::TimedOut
            | Self::SessionExpired => true,
            Self::Unauthorised
            | Self::NotFound
            | Self::FlowDisabled
            | Self::FlowGone
            | Self::Invalid
            | Self::Quota
            | Self::TooLarge
            | Self::MediaType
            | Self::Unreadable
            | Self::Refused => false,
        }
    }

    const fn class(self) -> FailureClass {
        match self {
            Self::Invalid | Self::TooLarge | Self::MediaType | Self::Refused => FailureClass::Validation,
            Self::Quota => FailureClass::Capped,
            Self::RateLimited => FailureClass::RateLimit,
            Self::TimedOut => FailureClass::Timeout,
            Self::Unauthorised
            | Self::SessionExpired
            | Self::NotFound
            | Self::FlowDisabled
            | Self::FlowGone
            | Self::InProgress
            | Self::Unreachable
            | Self::CircuitOpen
            | Self::Broken
            | Self::Unreadable => FailureClass::ProviderError,
        }
    }
}

impl Failure {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
        }
    }

    /// Why an attempt failed that came to this before anything was started.
    pub fn of_attempt(self) -> AttemptFailure {
        AttemptFailure {
            class: self.kind.class(),
            reason: self.kind.reason().to_owned(),
            retryable: self.kind.may_pass(),
            retry_after_ms: self.retry_after.and_then(|it| u64::try_from(it.as_millis()).ok()),
            message: self.message,
        }
    }

    /// What an answer says.
    pub(super) fn of_answer(answer: &Response) -> Self {
        let status = answer.status.as_u16();
        let words = Words::of(&answer.body);
        let code = words.code.as_deref().unwrap_or_default();
        let kind = match (status, code) {
            (_, "SESSION_EXPIRED") => Kind::SessionExpired,
            (_, "INVALID_CREDENTIALS" | "INVALID_BEARER_TOKEN") | (401 | 403, _) => Kind::Unauthorised,
            (_, "FLOW_OPERATION_IN_PROGRESS") => Kind::InProgress,
            (402, _) | (_, "QUOTA_EXCEEDED") => Kind::Quota,
            (404 | 410, _) => Kind::NotFound,
            (413, _) => Kind::TooLarge,
            (415, _) => Kind::MediaType,
            (429, _) => Kind::RateLimited,
            (408, _) => Kind::TimedOut,
            (500.., _) => Kind::Broken,
            // 409 is how it says that something is not valid.
            _ => Kind::Invalid,
        };
        let said = words.said();
        let said = if said.is_empty() { said } else { format!(": {said}") };
        let message = match kind {
            Kind::Unauthorised => {
                format!("ActivePieces does not accept the connection's credentials (HTTP {status}){said}")
            }
            Kind::SessionExpired => "the session at ActivePieces has ended".to_owned(),
            Kind::NotFound => {
                format!("ActivePieces has no such thing in the connection's project (HTTP {status}){said}")
            }
            Kind::InProgress => format!("another operation on the flow is in progress (HTTP {status}){said}"),
            Kind::Quota => format!("a limit of the ActivePieces plan is used up (HTTP {status}){said}"),
            Kind::TooLarge => "what is sent is larger than ActivePieces takes (HTTP 413)".to_owned(),
            Kind::MediaType => "ActivePieces does not take this content type (HTTP 415)".to_owned(),
            Kind::RateLimited => "ActivePieces asks to slow down (HTTP 429)".to_owned(),
            Kind::TimedOut => format!("ActivePieces gave up waiting (HTTP {status})"),
            Kind::Broken => format!("ActivePieces failed (HTTP {status}){said}"),
            _ => format!("ActivePieces refuses the request (HTTP {status}){said}"),
        };
        Self {
            kind,
            message,
            retry_after: retry_after(answer),
        }
    }

    /// Why there is no answer.
    pub(super) fn of_silence(error: &OutboundError) -> Self {
        match error {
            OutboundError::Connect(_) => Self::new(Kind::Unreachable, "ActivePieces cannot be reached"),
            OutboundError::Timeout(after) => Self::new(
                Kind::TimedOut,
                format!("ActivePieces did not answer within {} ms", after.as_millis()),
            ),
            OutboundError::Broken(_) => Self::new(Kind::Broken, "the connection to ActivePieces broke"),
            OutboundError::TooLarge(most) => Self::new(
                Kind::Unreadable,
                format!("what ActivePieces answers has more than {most} bytes"),
            ),
            OutboundError::Request(_) => Self::new(Kind::Invalid, "the request to ActivePieces cannot be made"),
            OutboundError::Refused(refusal) => Self::new(Kind::Refused, refusal.to_string()),
        }
    }
}

/// As callers of RPCs see it.
impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let Failure {
            kind,
            message,
            retry_after,
        } = failure;
        match kind {
            Kind::Unauthorised | Kind::SessionExpired => Self::FailedPrecondition {
                reason: "ACTIVEPIECES_UNAUTHORISED",
                message,
            },
            Kind::NotFound | Kind::FlowGone => Self::FailedPrecondition {
                reason: "ACTIVEPIECES_NOT_FOUND",
                message,
            },
            Kind::FlowDisabled => Self::FailedPrecondition {
                reason: "ACTIVEPIECES_FLOW_DISABLED",
                message,
            },
            Kind::Quota => Self::FailedPrecondition {
                reason: "ACTIVEPIECES_QUOTA",
                message,
            },
            Kind::Refused => Self::FailedPrecondition {
                reason: "ACTIVEPIECES_ADDRESS_REFUSED",
                message,
            },
            Kind::Invalid | Kind::TooLarge | Kind::MediaType | Kind::Unreadable => Self::FailedPrecondition {
                reason: "ACTIVEPIECES_REFUSED",
                message,
            },
            Kind::InProgress | Kind::Unreachable | Kind::CircuitOpen | Kind::Broken | Kind::TimedOut => {
                Self::Unavailable {
                    reason: "ACTIVEPIECES_UNAVAILABLE",
                    message,
                    retry_after,
                }
            }
            Kind::RateLimited => Self::ResourceExhausted {
                reason: "ACTIVEPIECES_RATE_LIMITED",
                message,
                retry_after,
            },
        }
    }
}

/// What both shapes say.
#[derive(Debug, Default, Deserialize)]
struct Words {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    params: Option<Params>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params {
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    entity_type: Option<String>,
}

impl Words {
    fn of(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// In its own words, cut.
    fn said(&self) -> String {
        let params = self.params.as_ref();
        let entity = params
            .and_then(|it| it.entity_type.as_deref())
            .map(|it| format!("no {it}"));
        let message = params
            .and_then(|it| it.message.clone())
            .or_else(|| self.message.clone())
            .or(entity)
            .or_else(|| self.code.clone())
            .unwrap_or_default();
        let mut message = scrub::text(&message, &[]);
        message.truncate(message.floor_char_boundary(MAX_WORDS));
        message
    }
}

/// Whether a body has one of the two shapes, or says nothing at all: it is the platform's answer and no flow's.
pub(super) fn is_platforms(body: &[u8]) -> bool {
    let words: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(body).ok();
    words.is_some_and(|it| {
        it.is_empty()
            || (it.contains_key("statusCode") && it.contains_key("error"))
            || (it.contains_key("code") && it.contains_key("params"))
    })
}

fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn answer(status: u16, body: &str) -> Response {
        Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.to_owned().into(),
        }
    }

    #[test]
    fn every_refusal_of_the_contract_is_told_apart_in_both_shapes() {
        for (status, body, kind) in [
            (
                403,
                r#"{"code":"AUTHORIZATION","params":{"message":"principal is not allowed"}}"#,
                Kind::Unauthorised,
            ),
            (
                401,
                r#"{"statusCode":401,"error":"Unauthorized","message":"Cannot read"}"#,
                Kind::Unauthorised,
            ),
            (
                401,
                r#"{"code":"INVALID_CREDENTIALS","params":null}"#,
                Kind::Unauthorised,
            ),
            (403, r#"{"code":"SESSION_EXPIRED","params":{}}"#, Kind::SessionExpired),
            (
                404,
                r#"{"code":"ENTITY_NOT_FOUND","params":{"entityId":"x","entityType":"project"}}"#,
                Kind::NotFound,
            ),
            (
                404,
                r#"{"statusCode":404,"error":"Not Found","message":"Route not found"}"#,
                Kind::NotFound,
            ),
            (409, r#"{"code":"VALIDATION","params":{"message":"no"}}"#, Kind::Invalid),
            (
                409,
                r#"{"code":"FLOW_OPERATION_IN_PROGRESS","params":{}}"#,
                Kind::InProgress,
            ),
            (
                402,
                r#"{"code":"QUOTA_EXCEEDED","params":{"metric":"tasks"}}"#,
                Kind::Quota,
            ),
            (413, r#"{"message":"Payload too large"}"#, Kind::TooLarge),
            (
                415,
                r#"{"statusCode":415,"code":"FST_ERR_CTP_INVALID_MEDIA_TYPE","error":"x","message":"y"}"#,
                Kind::MediaType,
            ),
            (
                429,
                r#"{"statusCode":429,"error":"Too Many Requests","message":"Rate limit"}"#,
                Kind::RateLimited,
            ),
            (
                400,
                r#"{"statusCode":400,"code":"FST_ERR_VALIDATION","error":"Bad Request","message":"params/id"}"#,
                Kind::Invalid,
            ),
            (
                500,
                r#"{"statusCode":500,"error":"Internal Server Error","message":"fetch failed"}"#,
                Kind::Broken,
            ),
            (502, "<html>bad gateway</html>", Kind::Broken),
            (408, "{}", Kind::TimedOut),
        ] {
            assert_eq!(Failure::of_answer(&answer(status, body)).kind, kind, "{status} {body}");
        }
    }

    #[test]
    fn what_it_says_is_shown_cut_and_without_tokens() {
        let long = format!(
            r#"{{"code":"X","params":{{"message":"see https://x.y/f?token=hush {}"}}}}"#,
            "a".repeat(900)
        );
        let failure = Failure::of_answer(&answer(409, &long));
        assert!(
            !failure.message.contains("hush") && failure.message.len() < 400,
            "{}",
            failure.message
        );
        assert!(
            Failure::of_answer(&answer(
                404,
                r#"{"code":"ENTITY_NOT_FOUND","params":{"entityType":"flow"}}"#
            ))
            .message
            .ends_with(": no flow")
        );
    }

    #[test]
    fn a_flows_own_answer_is_no_platforms() {
        for body in [
            "{}",
            r#"{"statusCode":400,"error":"x","message":"y"}"#,
            r#"{"code":"A","params":null}"#,
        ] {
            assert!(is_platforms(body.as_bytes()), "{body}");
        }
        for body in ["", "no", r#"{"cid":"x"}"#, "[]", r#"{"code":"mine"}"#] {
            assert!(!is_platforms(body.as_bytes()), "{body}");
        }
    }
}
