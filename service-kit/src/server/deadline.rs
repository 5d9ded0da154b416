//! A call's deadline: what the caller allows by `grpc-timeout`, and at most the server's cap.
//!
//! It is for the beginning of the answer: all of a unary call, and the start of a stream. The cap is not for calls whose answer
//! begins when all of a long request has come; those bound how long they wait for each part of it.

use std::time::Duration;

use futures::FutureExt;
use http::{HeaderMap, Request, Response};
use tokio::time::timeout;
use tonic::{Status, body::Body};

use super::step::{Below, Step};
use crate::error::Error;

/// How much earlier than the caller asked, at most: his own timer, and tonic's, would make a cancellation of it.
const AHEAD: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) cap: Duration,
    /// Paths that the cap is not for.
    pub(super) unhurried: &'static [&'static str],
}

/// Longer than any caller waits: a timer takes no more.
const UNCAPPED: Duration = Duration::from_hours(24);

impl Step for Deadline {
    fn run(self, request: Request<Body>, below: impl Below) -> impl Future<Output = Response<Body>> + Send {
        let is_unhurried = self.unhurried.contains(&request.uri().path());
        let cap = if is_unhurried { UNCAPPED } else { self.cap };
        let asked = asked(request.headers()).map_or(cap, |it| it.saturating_sub(AHEAD.min(it / 10)));
        timeout(asked.min(cap), below.run(request))
            .map(|answered| answered.unwrap_or_else(|_| Status::from(Error::DeadlineExceeded).into_http()))
    }
}

/// `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2).
fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_hours(value),
        "M" => Duration::from_mins(value),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::future;

    use tonic::Code;
    use tower::{Layer, ServiceExt, service_fn};

    use super::*;
    use crate::server::step::StepLayer;

    /// The code that a handler's answer becomes, under a cap of a minute.
    async fn code(asked: &str, handler: impl Future<Output = ()> + Clone + Send + 'static) -> Option<Code> {
        let handler = service_fn(move |_: Request<Body>| {
            let handler = handler.clone();
            async move {
                handler.await;
                Ok(Response::new(Body::empty()))
            }
        });
        let request = Request::builder()
            .header("grpc-timeout", asked)
            .body(Body::empty())
            .unwrap();
        let server = StepLayer(Deadline {
            cap: Duration::from_mins(1),
            unhurried: &["/slow"],
        })
        .layer(handler);
        let Ok(response) = server.oneshot(request).await;
        Status::from_header_map(response.headers()).map(|it| it.code())
    }

    #[tokio::test]
    async fn a_call_that_takes_longer_than_asked_is_told_so() {
        assert_eq!(code("20m", future::pending()).await, Some(Code::DeadlineExceeded));
        assert_eq!(code("20S", future::ready(())).await, None);
    }

    #[tokio::test]
    async fn the_cap_is_not_for_calls_that_have_to_wait_for_all_of_a_request() {
        let answer = async |path: &str| {
            let handler = service_fn(async |_: Request<Body>| {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(Response::new(Body::empty()))
            });
            let server = StepLayer(Deadline {
                cap: Duration::from_millis(5),
                unhurried: &["/slow"],
            })
            .layer(handler);
            let Ok(response) = server.oneshot(Request::get(path).body(Body::empty()).unwrap()).await;
            Status::from_header_map(response.headers()).map(|it| it.code())
        };
        assert_eq!(answer("/slow").await, None);
        assert_eq!(answer("/other").await, Some(Code::DeadlineExceeded));
    }

    fn parsed(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        asked(&headers)
    }

    #[test]
    fn a_timeout_has_up_to_eight_digits_and_a_unit() {
        assert_eq!(parsed("99999999H"), Some(Duration::from_hours(99_999_999)));
        assert_eq!(parsed("2M"), Some(Duration::from_mins(2)));
        assert_eq!(parsed("3S"), Some(Duration::from_secs(3)));
        assert_eq!(parsed("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parsed("7u"), Some(Duration::from_micros(7)));
        assert_eq!(parsed("8n"), Some(Duration::from_nanos(8)));
        for wrong in ["", "S", "5", "5s", "-1S", "1.5S", "100000000S"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
        assert_eq!(asked(&HeaderMap::new()), None);
    }
}
