//! A notification as a webhook: one signed POST, and what its answer means.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};
use service_kit::outbound::{Destination, Outbound, Request, Response};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Secret, worker_store::Leased};

/// How long a receiver has to answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
/// How much of an answer is read: what it says is nobody's business here.
const ANSWER_BYTES: usize = 64 << 10;
/// The longest that a receiver may have itself left alone.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(24);

/// Why a receiver has not taken it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The answer's status; 0 where there was none.
    pub(super) status: u16,
    /// For the log.
    pub(super) message: String,
    /// When the receiver wants to be asked again, if it said so.
    pub(super) retry_after: Option<Duration>,
    /// The receiver wants no more of these.
    pub(super) is_gone: bool,
}

impl Refused {
    fn unanswered(message: &(impl ToString + ?Sized)) -> Self {
        Self {
            status: 0,
            message: message.to_string(),
            retry_after: None,
            is_gone: false,
        }
    }

    /// Its secret is lost.
    pub(super) fn unsigned() -> Self {
        Self::unanswered("the channel's secret does not open under the key ring; give it another")
    }
}

#[derive(Serialize)]
struct Payload<'a> {
    r#type: &'a str,
    timestamp: String,
    company_id: String,
    data: &'a Map<String, Value>,
}

/// Sends a notification; answers the status with which it was taken.
pub(super) async fn send(
    outbound: &Outbound,
    leased: &Leased,
    secrets: &[Secret],
    now: OffsetDateTime,
) -> Result<u16, Refused> {
    let to = Destination::member(&leased.url).map_err(|error| Refused::unanswered(&error))?;
    let request = request(leased, secrets, now);
    match outbound.send(&to, request).await {
        Ok(answer) => judge(&answer, now),
        Err(error) => Err(Refused::unanswered(&error)),
    }
}

fn request(leased: &Leased, secrets: &[Secret], now: OffsetDateTime) -> Request {
    let occurred_at = leased.occurred_at.format(&Rfc3339);
    let payload = Payload {
        r#type: &leased.topic,
        timestamp: occurred_at.expect("a time of the database has a year of four digits"),
        company_id: leased.company.to_string(),
        data: &leased.data.0,
    };
    let body = serde_json::to_vec(&payload).expect("it is plain data");
    let (id, timestamp) = (leased.notification.to_string(), now.unix_timestamp());
    let signatures: Vec<_> = secrets.iter().map(|it| it.sign(&id, timestamp, &body)).collect();
    let value = |text: String| HeaderValue::from_str(&text).expect("it is ASCII");
    let headers = HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (HeaderName::from_static("webhook-id"), value(id)),
        (
            HeaderName::from_static("webhook-timestamp"),
            value(timestamp.to_string()),
        ),
        (
            HeaderName::from_static("webhook-signature"),
            value(signatures.join(" ")),
        ),
    ]);
    Request {
        method: Method::POST,
        headers,
        body: Bytes::from(body),
        timeout: TIMEOUT,
        max_response_bytes: ANSWER_BYTES,
    }
}

fn judge(answer: &Response, now: OffsetDateTime) -> Result<u16, Refused> {
    let status = answer.status;
    if status.is_success() {
        return Ok(status.as_u16());
    }
    let message = if status.is_redirection() {
        format!("the answer was {status}: redirects are not followed")
    } else {
        format!("the answer was {status}")
    };
    Err(Refused {
        status: status.as_u16(),
        message,
        retry_after: retry_after(&answer.headers, now),
        is_gone: status == StatusCode::GONE,
    })
}

/// Seconds, or a date of HTTP (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let after = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let at = OffsetDateTime::from(httpdate::parse_http_date(text).ok()?);
        Duration::try_from(at - now).ok()?
    };
    Some(after.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, retry_after: Option<&'static str>) -> Result<u16, Refused> {
        let mut headers = HeaderMap::new();
        headers.extend(retry_after.map(|it| (header::RETRY_AFTER, HeaderValue::from_static(it))));
        let answer = Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: Bytes::new(),
        };
        judge(&answer, OffsetDateTime::UNIX_EPOCH)
    }

    #[test]
    fn success_is_taken_and_all_else_is_not() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(answered(status, None), Ok(status));
        }
        for status in [301, 308, 400, 404, 429, 500, 503] {
            assert!(
                answered(status, None).is_err_and(|it| it.status == status && !it.is_gone),
                "{status}"
            );
        }
        assert!(answered(410, None).is_err_and(|it| it.is_gone));
    }

    #[test]
    fn a_receiver_says_when_it_wants_to_be_asked_again_but_not_for_ever() {
        let after = |text| answered(503, Some(text)).unwrap_err().retry_after;
        assert_eq!(after("120"), Some(Duration::from_mins(2)));
        assert_eq!(after("Thu, 01 Jan 1970 00:01:00 GMT"), Some(Duration::from_mins(1)));
        assert_eq!(after("99999999999"), Some(LONGEST_RETRY_AFTER));
        for nonsense in ["", "-1", "soon"] {
            assert_eq!(after(nonsense), None, "{nonsense}");
        }
    }
}
