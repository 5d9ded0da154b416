//! Trace context as W3C Trace Context writes it: in and out of metadata and headers, and kept as text for later work.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::MetadataMap;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACEPARENT: &str = "traceparent";

/// Writes the current span's context into a gRPC call's metadata.
pub fn inject(metadata: &mut MetadataMap) {
    inject_headers(metadata.as_mut());
}

/// Writes the current span's context into a request's headers.
pub fn inject_headers(headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut Headers(headers));
}

/// The context that a gRPC call came with; an empty one if it came with none.
pub fn extract(metadata: &MetadataMap) -> Context {
    extract_headers(metadata.as_ref())
}

/// The context that a request came with; an empty one if it came with none.
pub fn extract_headers(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &HeadersRead(headers))
}

/// The current trace's id, 32 hexadecimal digits; empty where nothing is traced.
pub fn current_trace_id() -> String {
    let context = Span::current().context();
    let span = context.span();
    let id = span.span_context();
    if id.is_valid() {
        id.trace_id().to_string()
    } else {
        String::new()
    }
}

/// The current span as a `traceparent`, to be stored with work that is done later; empty where nothing is traced.
pub fn current_traceparent() -> String {
    let mut stored = Stored(String::new());
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut stored);
    stored.0
}

/// Makes a span that nothing has entered yet a child of a stored `traceparent`. A text that is none leaves it where it is.
pub fn span_with_parent(traceparent: &str, span: Span) -> Span {
    let stored = Stored(traceparent.to_owned());
    adopt(
        &span,
        TraceContextPropagator::new().extract_with_context(&Context::new(), &stored),
    );
    span
}

/// Makes a span that nothing has entered yet a child of a remote context, if that is one.
pub(crate) fn adopt(span: &Span, parent: Context) {
    if parent.span().span_context().is_valid() {
        // Fails where nothing is traced, and then there is nothing to join.
        let _ = span.set_parent(parent);
    }
}

/// A `traceparent` alone.
struct Stored(String);

impl Injector for Stored {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = value;
        }
    }
}

impl Extractor for Stored {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(&self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if value.is_empty() {
            return;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(key.as_bytes()), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

struct HeadersRead<'a>(&'a HeaderMap);

impl Extractor for HeadersRead<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
