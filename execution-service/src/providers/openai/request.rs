//! The request of a call.

use serde_json::{Map, Value, json};

use super::super::{Call, config::Endpoint, strict_schema::is_strict};

/// The body that asks for the call's answer.
pub(super) fn body(call: &Call, endpoint: &Endpoint) -> Value {
    let mut body = Map::new();
    let format = call.schema.as_ref().map(|schema| format(schema, endpoint));
    let system = match (&call.schema, &format) {
        (Some(schema), Some(Format::Object)) => with_schema(&call.system, schema),
        _ => call.system.clone(),
    };
    let system = Some(json!({"role": "system", "content": system})).filter(|it| it["content"] != "");
    let messages: Vec<Value> = system
        .into_iter()
        .chain([json!({"role": "user", "content": call.prompt})])
        .collect();
    body.insert("model".into(), call.model.as_str().into());
    body.insert("messages".into(), messages.into());
    body.insert("stream".into(), false.into());
    if let Some(format) = format {
        body.insert("response_format".into(), format.json());
    }
    let parameters = &call.parameters;
    let stop = Some(&parameters.stop).filter(|stop| !stop.is_empty());
    for (name, value) in [
        ("temperature", parameters.temperature.map(Value::from)),
        ("top_p", parameters.top_p.map(Value::from)),
        ("seed", parameters.seed.map(Value::from)),
        ("stop", stop.map(|stop| json!(stop))),
        (endpoint.token_limit.field(), parameters.max_tokens.map(Value::from)),
    ] {
        body.extend(value.map(|value| (name.to_owned(), value)));
    }
    body.into()
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

/// Providers refuse to keep to JSON unless a message asks for it.
fn with_schema(system: &str, schema: &Value) -> String {
    let asked =
        format!("Answer with one JSON value, and nothing else, that is valid against this JSON Schema:\n{schema}");
    if system.is_empty() {
        asked
    } else {
        format!("{system}\n\n{asked}")
    }
}
