//! Logs and traces: one span tree, written as log lines to stderr and, where an endpoint is configured, sent by OTLP.
//!
//! Trace ids exist without an exporter too: every span is sampled, so that what a user is told can be looked for later.
//! Standard output belongs to results, and gets nothing from here. Without [`init`] everything here still works and says
//! nothing, which is how tests run services in their process.

mod context;
mod json;

use std::{
    io::{self, IsTerminal},
    str::FromStr,
};

pub(crate) use context::adopt;
pub use context::{
    current_trace_id, current_traceparent, extract, extract_headers, inject, inject_headers, span_with_parent,
};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::{Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, Targets, filter_fn},
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};
use url::Url;

use crate::{config::Reader, gather};

/// The target of spans that say nothing to a reader of logs, and are many: they are made only where traces are exported.
pub const TRACES_ONLY: &str = "studios::traces";

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err("must be pretty or json"),
        }
    }
}

/// Which log lines are written: directives like `info,core_service=debug`, checked when they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".into())
    }
}

impl FromStr for LogFilter {
    type Err = tracing_subscriber::filter::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        EnvFilter::try_new(text).map(|_| Self(text.into()))
    }
}

/// What is logged, and where spans go.
#[derive(Debug, Clone, Default)]
pub struct TelemetryConfig {
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which are written.
    pub log: LogFilter,
    /// An OTLP receiver's gRPC address, like `http://127.0.0.1:4317`.
    pub otlp_endpoint: Option<Url>,
}

impl TelemetryConfig {
    /// Reads `log_format`, `log` and `otlp_endpoint`, none of which has to be set.
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            log_format: reader.get_or("log_format", LogFormat::default()),
            log: reader.get_or("log", LogFilter::default()),
            otlp_endpoint: reader.optional("otlp_endpoint"),
        }
    }
}

/// Sends what is left when it is dropped, so it is kept until the process ends.
#[must_use = "what is not sent yet is lost without it"]
#[derive(Debug)]
pub struct Guard(Option<SdkTracerProvider>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(|it| it.shutdown()) {
            tracing::warn!(error = %error, "the last spans may be lost");
        }
    }
}

/// Sets up logs and traces of this process; the second call in a process changes nothing.
///
/// Called inside the tokio runtime where an endpoint is configured.
pub fn init(service_name: &'static str, config: &TelemetryConfig) -> Guard {
    let (provider, unsent) = match provider(service_name, config.otlp_endpoint.as_ref()) {
        Ok(provider) => (provider, None),
        Err(error) => (builder(service_name).build(), Some(error)),
    };
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("studios"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        .with_filter(traced(config.otlp_endpoint.is_some()));
    if Registry::default()
        .with(traces)
        .with(lines(config, io::stderr))
        .try_init()
        .is_err()
    {
        return Guard(None);
    }
    if let Some(error) = unsent {
        tracing::error!(error = %error, "spans are not exported");
    }
    Guard(Some(provider))
}

fn lines<S, W>(config: &TelemetryConfig, writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_ansi(io::stderr().is_terminal()).with_writer(writer);
    let layer = match config.log_format {
        LogFormat::Pretty => layer.boxed(),
        LogFormat::Json => layer.fmt_fields(json::SpanFields).event_format(json::JsonLines).boxed(),
    };
    // Spans count however few lines are wanted: the ids on a line are theirs.
    let spans = filter_fn(|it| it.is_span() && *it.level() <= Level::INFO && it.target() != TRACES_ONLY)
        .with_max_level_hint(Level::INFO);
    // What names targets and levels only is answered once for each place in the code; EnvFilter looks at every span.
    let filter = if let Ok(targets) = config.log.0.parse::<Targets>() {
        FilterExt::boxed(targets.with_target(TRACES_ONLY, LevelFilter::OFF).or(spans))
    } else {
        let directives = format!("{},{TRACES_ONLY}=off", config.log.0);
        FilterExt::boxed(EnvFilter::new(directives).or(spans))
    };
    layer.with_filter(filter)
}

/// Our spans, whatever is logged; not the transports', which would trace the export of traces. Those of gathered calls, which
/// are many and say nothing that their requests do not say to a reader of logs, are made only where they are exported.
fn traced(exported: bool) -> Targets {
    let transports = [
        "h2",
        "hyper",
        "hyper_util",
        "tonic",
        "tower",
        "reqwest",
        "rustls",
        "sqlx",
    ];
    let transports = transports.map(|it| (it, LevelFilter::OFF));
    let gathered = if exported { Level::DEBUG } else { Level::INFO };
    let traces_only = if exported { LevelFilter::INFO } else { LevelFilter::OFF };
    Targets::new()
        .with_default(Level::INFO)
        .with_target(gather::TARGET, gathered)
        .with_target(TRACES_ONLY, traces_only)
        .with_targets(transports)
}

fn provider(service_name: &'static str, endpoint: Option<&Url>) -> Result<SdkTracerProvider, ExporterBuildError> {
    let mut builder = builder(service_name);
    if let Some(endpoint) = endpoint {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint.as_str())
            .build()?;
        builder = builder.with_batch_exporter(exporter);
    }
    Ok(builder.build())
}

fn builder(service_name: &'static str) -> opentelemetry_sdk::trace::TracerProviderBuilder {
    SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOn)
        .with_resource(Resource::builder().with_service_name(service_name).build())
}
