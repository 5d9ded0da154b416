//! The one HTTP client for calls to the outside.
//!
//! It follows no redirect and uses no proxy, so a request goes where the operator's configuration says and nowhere else.
//! An answer that is longer than the cap is dropped while it is read. Answers are read whole, under one deadline, or as they
//! come ([`Incoming`]), and then their reader keeps the time. It speaks HTTP/1.1 alone: a call has its connection for
//! itself, so none waits for another's stream, and giving one up closes it, which every server notices.

use std::{fs, path::PathBuf, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};
use serde::Serialize;
use url::Url;

use crate::{
    error::{Error, Result},
    telemetry,
};

const USER_AGENT: &str = concat!("studios/", env!("CARGO_PKG_VERSION"));
/// How many connections to a host are kept for the next calls: as many as calls that are commonly under way.
const IDLE_PER_HOST: usize = 256;

/// Limits of all calls.
#[derive(Debug, Clone)]
pub struct OutboundConfig {
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// The longest answer, in bytes.
    pub max_response_bytes: usize,
    /// A PEM file of authorities to believe besides the system's.
    pub ca: Option<PathBuf>,
}

impl Default for OutboundConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            max_response_bytes: 16 * 1024 * 1024,
            ca: None,
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
        is_json(&self.headers)
    }
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub struct Incoming {
    response: reqwest::Response,
    left: usize,
    cap: usize,
}

impl Incoming {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Whether the content type says that the body is JSON.
    pub fn is_json(&self) -> bool {
        is_json(self.headers())
    }

    /// Whether the content type says that the body is a stream of events.
    pub fn is_event_stream(&self) -> bool {
        media_type(self.headers()).eq_ignore_ascii_case("text/event-stream")
    }

    /// The next bytes of the body as they come; none after its end. It takes as long as the server likes: the caller has
    /// the deadline. Bytes that came are never lost by giving up the wait.
    ///
    /// # Errors
    /// `Broken` where the connection ends before the body does, `TooLarge` where the body is longer than the cap.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, OutboundError> {
        let chunk = self.response.chunk().await.map_err(classified)?;
        let length = chunk.as_ref().map_or(0, Bytes::len);
        self.left = self.left.checked_sub(length).ok_or(OutboundError::TooLarge(self.cap))?;
        Ok(chunk)
    }

    /// The rest of the body.
    ///
    /// # Errors
    /// As those of [`chunk`](Self::chunk).
    pub async fn whole(mut self) -> Result<Response, OutboundError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(Response {
            status: self.status(),
            headers: std::mem::take(self.response.headers_mut()),
            body: body.freeze(),
        })
    }
}

fn media_type(headers: &HeaderMap) -> &str {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|it| it.to_str().ok())
        .unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = media_type(headers).to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
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
    /// `Internal`: TLS cannot be set up, or the file of authorities cannot be used.
    pub fn new(config: &OutboundConfig) -> Result<Self> {
        let authorities = match &config.ca {
            Some(path) => {
                let pem = fs::read(path).map_err(Error::internal)?;
                reqwest::Certificate::from_pem_bundle(&pem).map_err(Error::internal)?
            }
            None => Vec::new(),
        };
        #[expect(clippy::disallowed_methods, reason = "this is the outbound client")]
        let client = reqwest::Client::builder()
            .tls_certs_merge(authorities)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .http1_only()
            .pool_max_idle_per_host(IDLE_PER_HOST)
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
        headers: HeaderMap,
        body: &(impl Serialize + ?Sized),
        timeout: Duration,
    ) -> Result<Response, OutboundError> {
        self.whole(self.open_json(url, headers, body), timeout).await
    }

    /// Posts JSON and answers once the answer's head is there. It takes as long as the server likes: the caller has the
    /// deadline. Giving up the wait, or dropping the answer, ends the exchange.
    ///
    /// # Errors
    /// `Connect` where no connection could be made within its own deadline.
    pub async fn open_json(
        &self,
        url: &Url,
        mut headers: HeaderMap,
        body: &(impl Serialize + ?Sized),
    ) -> Result<Incoming, OutboundError> {
        let body = serde_json::to_vec(body).map_err(|error| OutboundError::Request(error.into()))?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.open(self.client.post(url.clone()).body(body), headers).await
    }

    /// Gets a resource and reads the whole answer, all within `timeout`.
    pub async fn get(&self, url: &Url, timeout: Duration) -> Result<Response, OutboundError> {
        self.whole(self.open(self.client.get(url.clone()), HeaderMap::new()), timeout)
            .await
    }

    async fn whole(
        &self,
        opening: impl Future<Output = Result<Incoming, OutboundError>>,
        timeout: Duration,
    ) -> Result<Response, OutboundError> {
        let exchange = async { opening.await?.whole().await };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or(Err(OutboundError::Timeout(timeout)))
    }

    async fn open(&self, request: reqwest::RequestBuilder, mut headers: HeaderMap) -> Result<Incoming, OutboundError> {
        telemetry::inject_headers(&mut headers);
        let response = request.headers(headers).send().await.map_err(classified)?;
        let cap = self.max_response_bytes;
        if response.content_length().unwrap_or(0) > cap as u64 {
            return Err(OutboundError::TooLarge(cap));
        }
        Ok(Incoming {
            response,
            left: cap,
            cap,
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
    async fn an_answer_is_read_as_it_comes_and_up_to_the_cap() {
        let lifecycle = Lifecycle::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let (step, mut steps) = tokio::sync::mpsc::channel::<&str>(1);
        lifecycle.spawn("stub", async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            read(&mut socket).await;
            while let Some(text) = steps.recv().await {
                socket.write_all(text.as_bytes()).await.unwrap();
            }
        });
        step.send(
            "HTTP/1.1 200 OK\r\ncontent-type: Text/Event-Stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await
        .unwrap();
        let outbound = outbound(12);
        let mut incoming = outbound.open_json(&url, HeaderMap::new(), &json!({})).await.unwrap();
        assert!(incoming.is_event_stream() && !incoming.is_json() && incoming.status() == StatusCode::OK);
        for (frame, data) in [("6\r\ndata 1\r\n", "data 1"), ("6\r\ndata 2\r\n", "data 2")] {
            // The next is sent only after this one has come.
            step.send(frame).await.unwrap();
            assert_eq!(incoming.chunk().await.unwrap().unwrap(), data);
        }
        step.send("1\r\n!\r\n").await.unwrap();
        assert!(matches!(incoming.chunk().await, Err(OutboundError::TooLarge(12))));
    }

    #[tokio::test]
    async fn giving_an_answer_up_closes_its_connection() {
        let lifecycle = Lifecycle::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let server = lifecycle.spawn("stub", async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            read(&mut socket).await;
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            socket.write_all(head.as_bytes()).await.unwrap();
            socket.read(&mut [0]).await.map_or(0, |it| it)
        });
        let outbound = outbound(12);
        drop(outbound.open_json(&url, HeaderMap::new(), &json!({})).await.unwrap());
        let read = tokio::time::timeout(DEADLINE, server).await.unwrap().unwrap();
        assert_eq!(read, 0, "the server sees the end");
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
