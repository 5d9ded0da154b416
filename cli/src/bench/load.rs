//! A load generator that costs little itself: gRPC over HTTP/2 with requests made beforehand, in a closed loop, on one
//! thread of its own, so that what it uses is its process's CPU and nothing hides in it.

use std::{
    cell::RefCell,
    future::Future,
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{StreamExt, stream::FuturesUnordered};
use h2::{RecvStream, client::SendRequest};
use hdrhistogram::Histogram;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use prost::Message;
use tokio::{net::TcpStream, task::JoinSet};
use url::Url;

/// A gRPC message is preceded by whether it is compressed and its length.
const PREFIX: usize = 5;
const WINDOW_BYTES: u32 = 16 << 20;
/// An hour: nothing here takes longer.
const LONGEST_US: u64 = 3_600_000_000;
/// Callers that fail this often will not succeed any more.
const MOST_ERRORS: u64 = 100;

/// Runs a load on a thread of its own with a runtime of its own.
pub(super) async fn on_own_thread<T, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("driver".into()).spawn(move || {
        // Nobody waits any more where the benchmark was stopped.
        let _ = done.send(runtime.block_on(work()));
    })?;
    result.await.context("the driver panicked")?
}

/// Connections to one server. Dropping it closes them.
pub(super) struct Client {
    senders: Vec<SendRequest<Bytes>>,
    origin: String,
    _connections: JoinSet<()>,
}

/// A call made ready to be sent again and again.
#[derive(Debug, Clone)]
pub(super) struct Call {
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    /// The same call with another message.
    pub(super) fn with(&self, message: &impl Message) -> Self {
        Self {
            body: framed(message),
            ..self.clone()
        }
    }
}

impl Client {
    /// Opens so many connections.
    pub(super) async fn connect(base: &Url, connections: usize) -> Result<Self> {
        let address = base.socket_addrs(|| None)?.first().copied().context("an address")?;
        let mut senders = Vec::with_capacity(connections);
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = h2::client::Builder::new()
                .initial_window_size(WINDOW_BYTES)
                .initial_connection_window_size(WINDOW_BYTES)
                .handshake(stream)
                .await?;
            tasks.spawn(async move {
                // Its calls learn of its end by themselves.
                let _ = connection.await;
            });
            senders.push(sender);
        }
        Ok(Self {
            senders,
            origin: base.as_str().trim_end_matches('/').to_owned(),
            _connections: tasks,
        })
    }

    /// A gRPC call of a method, as the user of a token.
    pub(super) fn call(&self, method: &str, token: &HeaderValue, message: &impl Message) -> Result<Call> {
        self.prepare(method, token, "application/grpc", framed(message))
    }

    /// A call with a body of any type.
    pub(super) fn prepare(&self, method: &str, token: &HeaderValue, kind: &'static str, body: Bytes) -> Result<Call> {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::AUTHORIZATION, token.clone());
        Ok(Call {
            uri: format!("{}/{method}", self.origin).parse()?,
            headers,
            body,
        })
    }

    /// Makes a unary gRPC call and returns the encoded answer.
    pub(super) async fn unary(&self, slot: usize, call: &Call) -> Result<Bytes> {
        let mut body = self.send(slot, call).await?;
        let answer = collect(&mut body).await?;
        let trailers = body.trailers().await?.context("an answer without trailers")?;
        check(&trailers)?;
        ensure!(answer.len() >= PREFIX, "an answer without a message");
        Ok(answer.slice(PREFIX..))
    }

    /// Makes a call whose answer is a body and nothing behind it: JSON, or gRPC-Web.
    pub(super) async fn plain(&self, slot: usize, call: &Call) -> Result<Bytes> {
        let mut body = self.send(slot, call).await?;
        collect(&mut body).await
    }

    /// Opens a server stream.
    pub(super) async fn stream(&self, slot: usize, call: &Call) -> Result<Messages> {
        let body = self.send(slot, call).await?;
        Ok(Messages {
            body,
            pending: BytesMut::new(),
        })
    }

    async fn send(&self, slot: usize, call: &Call) -> Result<RecvStream> {
        let sender = self.senders[slot % self.senders.len()].clone();
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = call.uri.clone();
        *request.headers_mut() = call.headers.clone();
        let (response, mut stream) = sender.ready().await?.send_request(request, false)?;
        stream.send_data(call.body.clone(), true)?;
        let (head, mut body) = response.await?.into_parts();
        if head.headers.contains_key("grpc-status") {
            check(&head.headers)?;
        }
        if head.status != StatusCode::OK {
            let said = collect(&mut body).await?;
            bail!("{}: {}", head.status, String::from_utf8_lossy(&said));
        }
        Ok(body)
    }
}

/// The messages of a server stream.
pub(super) struct Messages {
    body: RecvStream,
    pending: BytesMut,
}

impl Messages {
    /// The next message; none after the last.
    pub(super) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>> {
        loop {
            if let Some(message) = self.take() {
                return Ok(Some(M::decode(message)?));
            }
            let Some(data) = self.body.data().await else {
                check(&self.body.trailers().await?.context("a stream without trailers")?)?;
                return Ok(None);
            };
            let data = data?;
            self.body.flow_control().release_capacity(data.len())?;
            self.pending.extend_from_slice(&data);
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let length: [u8; 4] = self.pending.get(1..PREFIX)?.try_into().ok()?;
        let whole = PREFIX + usize::try_from(u32::from_be_bytes(length)).ok()?;
        (self.pending.len() >= whole).then(|| self.pending.split_to(whole).freeze().slice(PREFIX..))
    }
}

/// A message as gRPC sends it.
pub(super) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut body = BytesMut::with_capacity(PREFIX + length);
    body.put_u8(0);
    body.put_u32(u32::try_from(length).expect("a benchmark's messages are small"));
    message.encode(&mut body).expect("the buffer grows");
    body.freeze()
}

/// The common answer is one frame, which is not copied.
async fn collect(body: &mut RecvStream) -> Result<Bytes> {
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        if first.is_empty() {
            first = data;
        } else {
            more.extend_from_slice(&data);
        }
    }
    if more.is_empty() {
        return Ok(first);
    }
    Ok([first.as_ref(), more.as_ref()].concat().into())
}

fn check(headers: &HeaderMap) -> Result<()> {
    let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or("missing");
    match text("grpc-status") {
        "0" => Ok(()),
        status => Err(anyhow!("gRPC status {status}: {}", text("grpc-message"))),
    }
}

/// What a load did.
#[derive(Debug)]
pub(super) struct Outcome {
    latencies_us: Histogram<u64>,
    /// Calls that failed.
    pub(super) errors: u64,
    /// What the first of them said.
    pub(super) first_error: Option<String>,
    seconds: f64,
}

impl Outcome {
    pub(super) fn new() -> Self {
        Self {
            latencies_us: Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds and digits are allowed"),
            errors: 0,
            first_error: None,
            seconds: 0.0,
        }
    }

    /// Notes one call.
    pub(super) fn note(&mut self, began: Instant, done: &Result<()>) {
        match done {
            Ok(()) => self
                .latencies_us
                .saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)),
            Err(error) => {
                self.errors += 1;
                self.first_error.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }

    /// Adds the calls of another one.
    pub(super) fn add(&mut self, other: &Self) {
        self.latencies_us
            .add(&other.latencies_us)
            .expect("all histograms have the same bounds");
        self.errors += other.errors;
    }

    /// Says how long it took from the first call to the last answer.
    pub(super) fn ended(mut self, began: Instant) -> Self {
        self.seconds = began.elapsed().as_secs_f64();
        self
    }

    /// How many calls succeeded.
    #[expect(clippy::cast_precision_loss, reason = "no benchmark makes 2^52 calls")]
    pub(super) fn count(&self) -> f64 {
        self.latencies_us.len() as f64
    }

    /// How long it took.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Successful calls a second.
    pub(super) fn rate(&self) -> f64 {
        self.count() / self.seconds.max(f64::EPSILON)
    }

    /// The latency that this share of the calls stayed within.
    #[expect(clippy::cast_precision_loss, reason = "no call takes 2^52 microseconds")]
    pub(super) fn quantile_ms(&self, share: f64) -> f64 {
        self.latencies_us.value_at_quantile(share) as f64 / 1000.0
    }

    /// Refuses an outcome with errors in it: its figures would be those of something else.
    pub(super) fn without_errors(self) -> Result<Self> {
        match &self.first_error {
            None => Ok(self),
            Some(first) => bail!("{} calls failed, the first one: {first}", self.errors),
        }
    }
}

/// So many callers who share a number of calls, each calling again as soon as it is answered.
pub(super) async fn each_once(
    callers: usize,
    calls: usize,
    work: impl AsyncFn(usize, usize) -> Result<()>,
) -> Result<Outcome> {
    let outcome = RefCell::new(Outcome::new());
    let rest = RefCell::new(0..calls);
    let began = Instant::now();
    let caller = async |slot: usize| {
        while let Some(call) = next(&rest) {
            let called = Instant::now();
            let done = work(slot, call).await;
            outcome.borrow_mut().note(called, &done);
        }
    };
    let mut all: FuturesUnordered<_> = (0..callers).map(&caller).collect();
    while all.next().await.is_some() {}
    drop(all);
    outcome.into_inner().ended(began).without_errors()
}

/// A function of its own, so that no borrow lasts through a call.
fn next(rest: &RefCell<Range<usize>>) -> Option<usize> {
    rest.borrow_mut().next()
}

/// Calls that come at their times, whether or not those before are answered, taken in turn by so many callers; a call's latency
/// counts from its time, so that what waits behind a slow one is slow too.
pub(super) async fn paced(
    callers: usize,
    a_second: usize,
    length: Duration,
    work: impl AsyncFn(usize) -> Result<()>,
) -> Result<Outcome> {
    let outcome = RefCell::new(Outcome::new());
    let began = Instant::now();
    let apart = Duration::from_secs(1) / u32::try_from(a_second)?;
    let rest = RefCell::new(0..usize::try_from(length.as_nanos() / apart.as_nanos())?);
    let caller = async |slot: usize| {
        while let Some(call) = next(&rest) {
            let due = began + apart * u32::try_from(call).expect("no benchmark makes 2^32 calls");
            tokio::time::sleep_until(due.into()).await;
            let done = work(slot).await;
            outcome.borrow_mut().note(due, &done);
        }
    };
    let mut all: FuturesUnordered<_> = (0..callers).map(&caller).collect();
    while all.next().await.is_some() {}
    drop(all);
    outcome.into_inner().ended(began).without_errors()
}

/// So many callers, each calling again as soon as it is answered, until the time is over.
pub(super) async fn closed_loop(
    callers: usize,
    length: Duration,
    work: impl AsyncFn(usize) -> Result<()>,
) -> Result<Outcome> {
    let outcome = RefCell::new(Outcome::new());
    let began = Instant::now();
    let caller = async |slot: usize| {
        while began.elapsed() < length && outcome.borrow().errors < MOST_ERRORS {
            let called = Instant::now();
            let done = work(slot).await;
            outcome.borrow_mut().note(called, &done);
        }
    };
    let mut all: FuturesUnordered<_> = (0..callers).map(&caller).collect();
    while all.next().await.is_some() {}
    drop(all);
    outcome.into_inner().ended(began).without_errors()
}
