//! The request of a call, written from where its parts lie.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Value, json};

use super::super::{Call, endpoint::Endpoint, prices, remote::with_schema, strict_schema::is_plain};

/// The answer's limit where none is set: the protocol wants one, and every model can write as much.
const MAX_TOKENS: u32 = 4_096;

/// The body that asks for the call's answer.
#[derive(Debug, Serialize)]
pub(in super::super) struct Body<'c> {
    model: &'c str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    system: Cow<'c, str>,
    messages: [Message<'c>; 1],
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'c [String],
}

#[derive(Debug, Serialize)]
struct Message<'c> {
    role: &'static str,
    content: &'c str,
}

impl<'c> Body<'c> {
    pub(in super::super) fn new(call: &'c Call, endpoint: &Endpoint) -> Self {
        let takes_schemas = endpoint.takes_schemas
            && prices::known(endpoint.protocol, &call.model).is_none_or(|it| it.structured_output);
        let mut schema = call.schema.clone();
        if let Some(members) = schema.as_mut().and_then(Value::as_object_mut) {
            members.remove("$schema");
        }
        let kept = schema.as_ref().filter(|schema| takes_schemas && is_plain(schema));
        let system = match (&schema, kept) {
            (Some(schema), None) => Cow::Owned(with_schema(&call.system, schema)),
            _ => Cow::Borrowed(call.system.as_str()),
        };
        let parameters = &call.parameters;
        Self {
            model: &call.model,
            max_tokens: parameters.max_tokens.unwrap_or(MAX_TOKENS),
            system,
            messages: [Message {
                role: "user",
                content: &call.prompt,
            }],
            stream: endpoint.streams,
            output_config: kept.map(|schema| json!({"format": {"type": "json_schema", "schema": schema}})),
            temperature: parameters.temperature,
            top_p: parameters.top_p,
            stop_sequences: &parameters.stop,
        }
    }
}
