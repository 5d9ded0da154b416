//! A small OTLP receiver that keeps the spans it is sent.

use std::{
    fmt::Write,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use url::Url;

/// A span as a test looks at it.
#[derive(Debug, Clone)]
pub struct Span {
    /// The service's name, of its resource.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Its trace's id, in hexadecimal.
    pub trace_id: String,
    /// Its own id, in hexadecimal.
    pub span_id: String,
    /// Its parent's id, in hexadecimal; empty for a root.
    pub parent_id: String,
    /// Its attributes as text.
    pub attributes: Vec<(String, String)>,
}

/// A running receiver.
#[derive(Debug, Clone)]
pub struct Receiver {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Receiver {
    /// Starts a receiver.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let receiver = Self {
            address,
            spans: Arc::default(),
        };
        let service = TraceServiceServer::new(receiver.clone());
        let serving = tonic::transport::Server::builder().add_service(service);
        drop(tokio::task::spawn(
            serving.serve_with_incoming(TcpListenerStream::new(listener)),
        ));
        receiver
    }

    /// Where exporters send to.
    pub fn url(&self) -> Url {
        format!("http://{}", self.address)
            .parse()
            .expect("an address makes a URL")
    }

    /// The spans of a trace so far.
    pub fn trace(&self, trace_id: &str) -> Vec<Span> {
        let spans = self.spans.lock().expect("no handler panics");
        spans.iter().filter(|span| span.trace_id == trace_id).cloned().collect()
    }

    /// All spans so far.
    pub fn all(&self) -> Vec<Span> {
        self.spans.lock().expect("no handler panics").clone()
    }

    /// Waits until the spans of a trace satisfy the condition.
    pub async fn until(&self, trace_id: &str, done: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let asked = async {
            loop {
                let spans = self.trace(trace_id);
                if done(&spans) {
                    return spans;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(crate::world::PATIENCE, asked)
            .await
            .unwrap_or_else(|_| panic!("the trace never got whole: {:#?}", self.trace(trace_id)))
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.spans.lock().expect("no handler panics");
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.map(|it| it.attributes).unwrap_or_default();
            let service = texts(&attributes)
                .into_iter()
                .find(|(key, _)| key == "service.name")
                .map(|(_, name)| name);
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                kept.push(Span {
                    service: service.clone().unwrap_or_default(),
                    name: span.name,
                    trace_id: hex(&span.trace_id),
                    span_id: hex(&span.span_id),
                    parent_id: hex(&span.parent_span_id),
                    attributes: texts(&span.attributes),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse { partial_success: None }))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

fn texts(attributes: &[KeyValue]) -> Vec<(String, String)> {
    attributes
        .iter()
        .map(|it| (it.key.clone(), it.value.as_ref().map(text).unwrap_or_default()))
        .collect()
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}
