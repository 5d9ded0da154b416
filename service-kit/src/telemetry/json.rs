//! Log lines as JSON objects: the event's own fields, and those of the spans that it is in.
//!
//! So a line carries `correlation_id`, `user`, `company` and `execution` wherever a span above knows them, and its trace's
//! id; of two fields with one name the inner one stands.

use std::fmt;

use opentelemetry::trace::TraceContextExt;
use serde_json::{Map, Value};
use time::format_description::well_known::Rfc3339;
use tracing::{
    Event, Subscriber,
    dispatcher::get_default,
    field::{Field, Visit},
    span::{Id, Record},
};
use tracing_opentelemetry::get_otel_context;
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    registry::{LookupSpan, Scope},
};

use crate::clock::{Clock, SystemClock};

pub(super) struct JsonLines;

/// Keeps a span's fields as a line each, `name=value` with the value as JSON. Every request has spans and few have lines in
/// the log, so they are made cheaply, another one simply behind them, and read when there is something to log.
pub(super) struct SpanFields;

impl<'w> FormatFields<'w> for SpanFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut kept = Kept { writer, result: Ok(()) };
        fields.record(&mut kept);
        kept.result
    }

    fn add_fields(&self, current: &'w mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        self.format_fields(current.as_writer(), fields)
    }
}

struct Kept<'w> {
    writer: Writer<'w>,
    result: fmt::Result,
}

impl Kept<'_> {
    fn keep(&mut self, field: &Field, value: impl fmt::Display) {
        // What OpenTelemetry alone understands is no news to a reader of logs.
        if !field.name().starts_with("otel.") {
            self.result = self
                .result
                .and_then(|()| writeln!(self.writer, "{}={value}", field.name()));
        }
    }
}

impl Visit for Kept<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if value
            .bytes()
            .all(|it| (b' '..=b'~').contains(&it) && it != b'"' && it != b'\\')
        {
            self.keep(field, format_args!("\"{value}\""));
        } else {
            self.keep(field, Value::from(value));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, value);
    }
}

impl<S> FormatEvent<S, SpanFields> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, SpanFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::default();
        line.0.insert(
            "timestamp".into(),
            SystemClock.now().format(&Rfc3339).map_err(|_| fmt::Error)?.into(),
        );
        line.0.insert("level".into(), event.metadata().level().as_str().into());
        line.0.insert("target".into(), event.metadata().target().into());
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            line.0.insert("span".into(), span.name().into());
            if let Some(fields) = span.extensions().get::<FormattedFields<SpanFields>>() {
                line.add_fields(fields);
            }
        }
        event.record(&mut line);
        if let Some(span) = context.event_scope().and_then(|mut it| it.next()) {
            line.add_trace_id(&span.id());
        }
        let text = serde_json::to_string(&line.0).map_err(|_| fmt::Error)?;
        writeln!(writer, "{text}")
    }
}

#[derive(Default)]
struct Line(Map<String, Value>);

impl Line {
    fn add_fields(&mut self, fields: &str) {
        for (name, value) in fields.lines().filter_map(|it| it.split_once('=')) {
            if let Ok(value) = serde_json::from_str(value) {
                self.0.insert(name.into(), value);
            }
        }
    }

    fn add_trace_id(&mut self, span: &Id) {
        let Some(context) = get_default(|dispatch| get_otel_context(span, dispatch)) else {
            return;
        };
        let context = context.span().span_context().clone();
        if context.is_valid() {
            self.0.insert("trace_id".into(), context.trace_id().to_string().into());
        }
    }

    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().into(), value.into());
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::{Registry, layer::SubscriberExt};

    use super::super::{LogFormat, TelemetryConfig, lines};
    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that are written with a filter.
    fn written(log: &str, work: impl FnOnce()) -> Vec<Value> {
        let written = Written::default();
        let writer = written.clone();
        let config = TelemetryConfig {
            log_format: LogFormat::Json,
            log: log.parse().unwrap(),
            otlp_endpoint: None,
        };
        let subscriber = Registry::default().with(lines(&config, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
    }

    #[test]
    fn a_line_carries_its_own_fields_and_those_of_the_spans_around_it() {
        let lines = written("info", || {
            let span = tracing::info_span!(
                "rpc",
                otel.name = "x",
                correlation_id = "c-1",
                user = tracing::field::Empty,
                attempt = 1,
                text = "a=\"1\"\nb\\",
            );
            span.record("user", "u-1");
            span.in_scope(|| {
                let _inner = tracing::info_span!("query", attempt = 2).entered();
                tracing::info!(rows = 3, cached = false, "read \"all\"\n");
            });
        });
        let line = &lines[0];
        assert_eq!((&line["correlation_id"], &line["user"]), (&"c-1".into(), &"u-1".into()));
        assert_eq!(line["text"], "a=\"1\"\nb\\");
        assert_eq!((&line["span"], &line["attempt"]), (&"query".into(), &2.into()));
        assert_eq!((&line["rows"], &line["cached"]), (&3.into(), &false.into()));
        assert_eq!(
            (&line["level"], &line["message"]),
            (&"INFO".into(), &"read \"all\"\n".into())
        );
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        assert!(line.get("otel.name").is_none());
    }

    #[test]
    fn a_line_keeps_its_ids_when_few_lines_are_wanted() {
        let lines = written("warn", || {
            let _span = tracing::info_span!("rpc", correlation_id = "c-1").entered();
            tracing::info!("not wanted");
            tracing::warn!("wanted");
        });
        assert_eq!(lines.len(), 1);
        assert_eq!(
            (&lines[0]["message"], &lines[0]["correlation_id"]),
            (&"wanted".into(), &"c-1".into())
        );
    }
}
