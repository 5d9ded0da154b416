//! The span of a model's call, by OpenTelemetry's semantic conventions for generative AI (1.37, still in development; their
//! names stand in this file alone). It holds no text of prompts or answers.

use futures::future::BoxFuture;
use service_kit::telemetry;
use tracing::{Instrument, Span, field::Empty};

use super::{
    Answer, Call, CallError, EmbedCall, Embedded, Provider,
    endpoint::{BaseUrl, Protocol},
};

/// `gen_ai.provider.name` of what speaks a protocol.
pub(super) const fn provider_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::OpenAi => "openai",
        Protocol::Azure => "azure.ai.openai",
        Protocol::Anthropic => "anthropic",
        Protocol::Ollama => "ollama",
        Protocol::Flowise => "flowise",
    }
}
/// `gen_ai.provider.name` of the built-in model.
pub(super) const STUDIOS: &str = "studios";

/// A provider whose calls are spans.
pub(super) struct Traced<P> {
    inner: P,
    provider: &'static str,
    server: Option<(String, u16)>,
}

impl<P> Traced<P> {
    /// The provider under its conventional name, and where it is called.
    pub(super) fn new(inner: P, provider: &'static str, server: Option<&BaseUrl>) -> Self {
        let server = server.map(|url| {
            let (host, port) = url.server();
            (host.to_owned(), port)
        });
        Self {
            inner,
            provider,
            server,
        }
    }

    fn embedding_span(&self, call: &EmbedCall) -> Span {
        let span = tracing::info_span!(
            target: telemetry::TRACES_ONLY,
            "embeddings",
            otel.name = format!("embeddings {}", call.model),
            otel.kind = "client",
            otel.status_code = Empty,
            gen_ai.operation.name = "embeddings",
            gen_ai.provider.name = self.provider,
            gen_ai.request.model = call.model,
            gen_ai.usage.input_tokens = Empty,
            error.type = Empty,
            server.address = Empty,
            server.port = Empty,
        );
        if let Some((host, port)) = &self.server {
            span.record("server.address", host).record("server.port", port);
        }
        span
    }

    fn span(&self, call: &Call) -> Span {
        let parameters = &call.parameters;
        let span = tracing::info_span!(
            target: telemetry::TRACES_ONLY,
            "model call",
            otel.name = format!("chat {}", call.model),
            otel.kind = "client",
            otel.status_code = Empty,
            gen_ai.operation.name = "chat",
            gen_ai.provider.name = self.provider,
            gen_ai.request.model = call.model,
            gen_ai.request.max_tokens = parameters.max_tokens,
            gen_ai.request.temperature = parameters.temperature,
            gen_ai.request.top_p = parameters.top_p,
            gen_ai.request.seed = parameters.seed,
            gen_ai.output.type = if call.schema.is_some() { "json" } else { "text" },
            gen_ai.response.model = Empty,
            gen_ai.response.id = Empty,
            gen_ai.response.finish_reasons = Empty,
            gen_ai.usage.input_tokens = Empty,
            gen_ai.usage.output_tokens = Empty,
            error.type = Empty,
            server.address = Empty,
            server.port = Empty,
        );
        if let Some((host, port)) = &self.server {
            span.record("server.address", host).record("server.port", port);
        }
        span
    }
}

impl<P: Provider> Provider for Traced<P> {
    fn call<'a>(
        &'a self,
        call: &'a Call,
        delta: &'a (dyn Fn(&str) + Send + Sync),
    ) -> BoxFuture<'a, Result<Answer, CallError>> {
        let span = self.span(call);
        let answered = async move {
            let result = self.inner.call(call, delta).await;
            record(&Span::current(), &result);
            result
        };
        Box::pin(answered.instrument(span))
    }

    fn embed<'a>(&'a self, call: &'a EmbedCall) -> BoxFuture<'a, Result<Embedded, CallError>> {
        let span = self.embedding_span(call);
        let answered = async move {
            let result = self.inner.embed(call).await;
            let span = Span::current();
            match &result {
                Ok(embedded) => span.record("gen_ai.usage.input_tokens", embedded.input_tokens),
                Err(error) => span
                    .record("error.type", error.reason)
                    .record("otel.status_code", "ERROR"),
            };
            result
        };
        Box::pin(answered.instrument(span))
    }
}

fn record(span: &Span, result: &Result<Answer, CallError>) {
    let (input_tokens, output_tokens) = match result {
        Ok(answer) => {
            span.record("gen_ai.response.model", answer.response_model.as_deref())
                .record("gen_ai.response.id", answer.response_id.as_deref())
                .record("gen_ai.response.finish_reasons", answer.finish_reason.as_str());
            (answer.input_tokens, answer.output_tokens)
        }
        Err(error) => {
            span.record("error.type", error.reason)
                .record("otel.status_code", "ERROR");
            (error.usage.input_tokens, error.usage.output_tokens)
        }
    };
    span.record("gen_ai.usage.input_tokens", input_tokens)
        .record("gen_ai.usage.output_tokens", output_tokens);
}
