//! The request of a call, written from where its parts lie.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Value, json};

use super::super::{
    Call,
    endpoint::{Endpoint, TokenLimit},
    remote::with_schema,
    strict_schema::is_strict,
};

/// The body that asks for the call's answer.
#[derive(Debug, Serialize)]
pub(in super::super) struct Body<'c> {
    model: &'c str,
    messages: Vec<Message<'c>>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'c [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Message<'c> {
    role: &'static str,
    content: Cow<'c, str>,
}

#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

impl<'c> Body<'c> {
    pub(in super::super) fn new(call: &'c Call, endpoint: &Endpoint) -> Self {
        let format = call.schema.as_ref().map(|schema| format(schema, endpoint));
        let system = match (&call.schema, &format) {
            (Some(schema), Some(Format::Object)) => Cow::Owned(with_schema(&call.system, schema)),
            _ => Cow::Borrowed(call.system.as_str()),
        };
        let message = |role, content| Message { role, content };
        let system = Some(system).filter(|it| !it.is_empty());
        let messages = system
            .map(|system| message("system", system))
            .into_iter()
            .chain([message("user", Cow::Borrowed(call.prompt.as_str()))]);
        let parameters = &call.parameters;
        let limit = |field| parameters.max_tokens.filter(|_| endpoint.token_limit == field);
        Self {
            model: &call.model,
            messages: messages.collect(),
            stream: endpoint.streams,
            stream_options: endpoint.streams.then_some(StreamOptions { include_usage: true }),
            response_format: format.map(Format::json),
            temperature: parameters.temperature,
            top_p: parameters.top_p,
            seed: parameters.seed,
            stop: &parameters.stop,
            max_tokens: limit(TokenLimit::MaxTokens),
            max_completion_tokens: limit(TokenLimit::MaxCompletionTokens),
        }
    }
}

/// How the answer is held to JSON.
enum Format {
    /// The provider keeps to the schema.
    Schema(Value),
    /// The provider keeps to JSON; the schema is in the prompt, and the answer is checked by us.
    Object,
}

impl Format {
    fn json(self) -> Value {
        match self {
            Self::Schema(schema) => {
                json!({"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema": schema}})
            }
            Self::Object => json!({"type": "json_object"}),
        }
    }
}

fn format(schema: &Value, endpoint: &Endpoint) -> Format {
    let mut schema = schema.clone();
    if let Some(members) = schema.as_object_mut() {
        members.remove("$schema");
    }
    if endpoint.takes_schemas && is_strict(&schema) {
        Format::Schema(schema)
    } else {
        Format::Object
    }
}
