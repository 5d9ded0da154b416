//! The one HTTP client for calls to the outside.
//!
//! It follows no redirect and uses no proxy, so a request goes where the operator's configuration says and nowhere else.
//! Every call has a deadline over all of it, and an answer that is longer than the cap is dropped while it is read.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};
use serde::Serialize;
use url::Url;

use crate::{
    error::{Error, Result},
    telemetry,
};

const USER_AGENT: &str = concat!("studios/", env!("CARGO_PKG_VERSION"));

/// Limits of all calls.
#[derive(Debug, Clone)]
pub struct OutboundConfig {
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// The longest answer, in bytes.
    pub max_response_bytes: usize,
}

impl Default for OutboundConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            max_response_bytes: 16 * 1024 * 1024,
        }
    }
}

/// The client; clones share its connections.
#[derive(Debug, Clone)]
pub struct Outbound {
    client: reqwest::Client,
    max_response_bytes: usize,
}

/// A whole answer, of whatever status.
#[derive(Debug, Clone)]
pub struct Response {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// Whether the content type says that the body is JSON.
    pub fn is_json(&self) -> bool {
        let value = self
            .headers
            .get(CONTENT_TYPE)
            .and_then(|it| it.to_str().ok())
            .unwrap_or_default();
        let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// No connection; nothing was sent.
    #[error("cannot connect")]
    Connect(#[source] reqwest::Error),
    /// The deadline passed; the request may have been carried out.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The connection broke; the request may have been carried out.
    #[error("the connection broke")]
    Broken(#[source] reqwest::Error),
    /// The answer is longer than so many bytes.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// The request itself cannot be made.
    #[error("the request cannot be made")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Outbound {
    /// A client with these limits.
    ///
    /// # Errors
    /// `Internal`: TLS cannot be set up.
    pub fn new(config: &OutboundConfig) -> Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "this is the outbound client")]
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .connect_timeout(config.connect_timeout)
            .user_agent(USER_AGENT)
            .build()
            .map_err(Error::internal)?;
        Ok(Self {
            client,
            max_response_bytes: config.max_response_bytes,
        })
    }

    /// Posts JSON and reads the whole answer, all within `timeout`.
    pub async fn post_json(
        &self,
        url: &Url,
        mut headers: HeaderMap,
        body: &(impl Serialize + ?Sized),
        timeout: Duration,
    ) -> Result<Response, OutboundError> {
        let body = serde_json::to_vec(body).map_err(|error| OutboundError::Request(error.into()))?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let request = self.client.post(url.clone()).body(body);
        self.answer(request, headers, timeout).await
    }

    /// Gets a resource and reads the whole answer, all within `timeout`.
    pub async fn get(&self, url: &Url, timeout: Duration) -> Result<Response, OutboundError> {
        self.answer(self.client.get(url.clone()), HeaderMap::new(), timeout)
            .await
    }

    async fn answer(
        &self,
        request: reqwest::RequestBuilder,
        mut headers: HeaderMap,
        timeout: Duration,
    ) -> Result<Response, OutboundError> {
        telemetry::inject_headers(&mut headers);
        let exchange = self.exchange(request.headers(headers));
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or(Err(OutboundError::Timeout(timeout)))
    }

    async fn exchange(&self, request: reqwest::RequestBuilder) -> Result<Response, OutboundError> {
        let mut response = request.send().await.map_err(classified)?;
        let announced = response.content_length().unwrap_or(0);
        if announced > self.max_response_bytes as u64 {
            return Err(OutboundError::TooLarge(self.max_response_bytes));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(classified)? {
            if body.len() + chunk.len() > self.max_response_bytes {
                return Err(OutboundError::TooLarge(self.max_response_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response {
            status: response.status(),
            headers: response.headers().clone(),
            body: body.freeze(),
        })
    }
}

/// URLs can carry secrets, so errors are kept without theirs.
fn classified(error: reqwest::Error) -> OutboundError {
    let error = error.without_url();
    if error.is_builder() {
        OutboundError::Request(error.into())
    } else if error.is_connect() || error.is_timeout() {
        // The client has no timeout but the one for connecting.
        OutboundError::Connect(error)
    } else {
        OutboundError::Broken(error)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::lifecycle::Lifecycle;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn outbound(max_response_bytes: usize) -> Outbound {
        Outbound::new(&OutboundConfig {
            max_response_bytes,
            ..OutboundConfig::default()
        })
        .unwrap()
    }

    /// A server that reads a request whole, answers every connection with these bytes and closes it; and its address.
    async fn server(lifecycle: &Lifecycle, answer: impl Into<Vec<u8>>) -> Url {
        let answer = answer.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/chat?key=secret", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        lifecycle.spawn("stub", async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                read(&mut socket).await;
                // The client may have hung up, which is what some tests are about.
                let _ = socket.write_all(&answer).await;
            }
        });
        url
    }

    /// Reads a request whose body is `{}`.
    async fn read(socket: &mut TcpStream) -> String {
        let mut request = Vec::new();
        while !request.ends_with(b"{}") {
            assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0);
        }
        String::from_utf8(request).unwrap()
    }

    async fn post(outbound: &Outbound, url: &Url) -> Result<Response, OutboundError> {
        outbound.post_json(url, HeaderMap::new(), &json!({}), DEADLINE).await
    }

    #[tokio::test]
    async fn an_answer_is_read_whole_whatever_its_status() {
        let lifecycle = Lifecycle::new();
        let answer = "HTTP/1.1 429 Too Many\r\ncontent-type: Application/JSON; charset=utf-8\r\n\
                      retry-after: 7\r\ncontent-length: 2\r\n\r\n[]";
        let url = server(&lifecycle, answer).await;
        let response = post(&outbound(1024), &url).await.unwrap();
        assert_eq!((response.status.as_u16(), &response.body[..]), (429, &b"[]"[..]));
        assert_eq!(response.headers["retry-after"], "7");
        assert!(response.is_json());
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let lifecycle = Lifecycle::new();
        let elsewhere = "HTTP/1.1 307 Away\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
        let url = server(&lifecycle, elsewhere).await;
        assert_eq!(post(&outbound(1024), &url).await.unwrap().status.as_u16(), 307);
    }

    #[tokio::test]
    async fn a_longer_answer_than_the_cap_is_dropped_announced_or_not() {
        let lifecycle = Lifecycle::new();
        let announced = "HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n";
        let chunked = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}",
            "10\r\n0123456789abcdef\r\n".repeat(99)
        );
        for answer in [announced.to_owned(), chunked] {
            let url = server(&lifecycle, answer).await;
            assert!(matches!(
                post(&outbound(1024), &url).await,
                Err(OutboundError::TooLarge(1024))
            ));
        }
    }

    #[tokio::test]
    async fn what_went_wrong_says_whether_the_request_may_have_been_carried_out() {
        let lifecycle = Lifecycle::new();
        let cut = server(&lifecycle, "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{").await;
        let error = post(&outbound(1024), &cut).await.unwrap_err();
        assert!(matches!(error, OutboundError::Broken(_)), "{error:?}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");

        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = post(&outbound(1024), &format!("http://{gone}/").parse().unwrap())
            .await
            .unwrap_err();
        assert!(matches!(error, OutboundError::Connect(_)), "{error:?}");

        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap()).parse().unwrap();
        let short = Duration::from_millis(20);
        let answer = outbound(1024)
            .post_json(&url, HeaderMap::new(), &json!({}), short)
            .await;
        assert!(matches!(answer, Err(OutboundError::Timeout(it)) if it == short));
    }

    #[test]
    fn only_json_is_json() {
        let response = |kind: &str| Response {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]),
            body: Bytes::new(),
        };
        for kind in [
            "application/json",
            "application/json;charset=utf-8",
            "application/problem+json",
        ] {
            assert!(response(kind).is_json(), "{kind}");
        }
        for kind in [
            "text/html",
            "text/json",
            "application/jsonl",
            "application/json-seq",
            "json",
            "",
        ] {
            assert!(!response(kind).is_json(), "{kind}");
        }
    }
}
