//! Flowise's predictions (written against 3.0; the project is archived, its servers are not). The model is a flow's id.
//!
//! Every failure of a flow is HTTP 500 with what its upstream said, so that is looked into. A flow that cannot stream answers
//! JSON whoever asks; `end` comes after an error, too; a stream that fails before its first event is given no answer at all.
//! Results that are objects have no `text`: they are the body without what Flowise adds to it.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Call, CallError, Usage,
    endpoint::{Endpoint, MAX_SEGMENT_BYTES},
    http_failure::{Reply, classify_flow},
    remote::{Dialect, Unusable, with_schema},
    said::{End, Said},
    sse::Event,
    stream::{Growing, Step, Told},
};

/// Where flows are.
pub(super) const PATH: [&str; 3] = ["api", "v1", "prediction"];

/// What Flowise adds to a flow's result.
const ADDED: [&str; 15] = [
    "action",
    "agentFlowExecutedData",
    "agentReasoning",
    "artifacts",
    "chatId",
    "chatMessageId",
    "executionId",
    "fileAnnotations",
    "followUpPrompts",
    "isStreamValid",
    "memoryType",
    "question",
    "sessionId",
    "sourceDocuments",
    "usedTools",
];

/// The place of a flow.
pub(super) fn path(flow: &str) -> [&str; 4] {
    let [api, v1, prediction] = PATH;
    [
        api,
        v1,
        prediction,
        &flow[..flow.floor_char_boundary(MAX_SEGMENT_BYTES)],
    ]
}

/// The body that asks a flow.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body<'c> {
    question: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    session_id: &'c str,
    #[serde(skip_serializing_if = "str::is_empty")]
    chat_id: &'c str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    override_config: Map<String, Value>,
    streaming: bool,
}

impl<'c> Body<'c> {
    pub(super) fn new(call: &'c Call, endpoint: &Endpoint) -> Self {
        // A flow has messages of its own; all that can be told it is the question.
        let before = match &call.schema {
            Some(schema) => with_schema(&call.system, schema),
            None => call.system.clone(),
        };
        let question = if before.is_empty() {
            call.prompt.clone()
        } else {
            format!("{before}\n\n{}", call.prompt)
        };
        Self {
            question,
            session_id: &call.session,
            chat_id: &call.session,
            override_config: call.overrides.clone(),
            streaming: endpoint.streams,
        }
    }
}

/// How predictions are read.
#[derive(Debug, Default)]
pub(super) struct Prediction {
    /// What several models of a flow have used so far.
    used: Option<Usage>,
}

impl Dialect for Prediction {
    fn take(&mut self, event: &Event<'_>, grown: &mut Growing, told: &Told<'_>) -> Result<Step, CallError> {
        let data = event.data.trim_ascii();
        let Ok(read) = serde_json::from_slice::<Value>(data) else {
            return if data.is_empty() || data == b"[DONE]" {
                Ok(Step::Nothing)
            } else {
                Err(told.broken(data))
            };
        };
        let said = &read["data"];
        match read["event"].as_str().unwrap_or_default() {
            "token" => {
                let text = said.as_str().unwrap_or_default();
                grown.text.push(text.as_bytes());
                Ok(if text.is_empty() { Step::Nothing } else { Step::Content })
            }
            "usageMetadata" => {
                self.used = sum(self.used, usage(said));
                grown.usage = self.used;
                Ok(Step::Content)
            }
            "metadata" => {
                grown.id = said["chatMessageId"].as_str().map(str::to_owned);
                Ok(Step::Content)
            }
            "error" => {
                let message = said.as_str().map_or_else(|| said.to_string(), str::to_owned);
                Err(told.failure(serde_json::json!({ "message": message }).to_string().as_bytes()))
            }
            "end" => {
                grown.end = Some(End::Whole);
                "end".clone_into(&mut grown.finish_reason);
                Ok(Step::Done)
            }
            // A node of the flow has begun or ended.
            "nextAgentFlow" | "agentFlowExecutedData" | "usedTools" | "calledTools" | "agentReasoning" => {
                Ok(Step::Content)
            }
            _ => Ok(Step::Nothing),
        }
    }

    fn whole(&self, body: &Value) -> Result<Said, Unusable> {
        let members = body
            .as_object()
            .ok_or(Unusable("no_choices", "the flow's answer is no object"))?;
        let nodes = body["agentFlowExecutedData"].as_array().into_iter().flatten();
        Ok(Said {
            text: result(members),
            cleaned: false,
            refusal: String::new(),
            end: End::Whole,
            finish_reason: "end".to_owned(),
            usage: nodes
                .map(|node| usage(&node["data"]["output"]["usageMetadata"]))
                .fold(None, sum),
            model: None,
            id: body["chatMessageId"].as_str().map(str::to_owned),
        })
    }

    fn classify(reply: &Reply<'_>) -> CallError {
        classify_flow(reply)
    }
}

/// What a flow came to: its text, or its object as JSON.
fn result(members: &Map<String, Value>) -> String {
    match (members.get("text"), members.get("json")) {
        (Some(Value::String(text)), _) if !text.is_empty() => text.clone(),
        (_, Some(json)) if !json.is_null() => json.to_string(),
        (Some(other), _) if !other.is_null() && other != "" => other.to_string(),
        _ => {
            let own: Map<String, Value> = members
                .iter()
                .filter(|(name, _)| !ADDED.contains(&name.as_str()) && *name != "text" && *name != "json")
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            if own.is_empty() {
                String::new()
            } else {
                Value::Object(own).to_string()
            }
        }
    }
}

fn usage(told: &Value) -> Option<Usage> {
    Some(Usage {
        input_tokens: told["input_tokens"].as_u64()?,
        output_tokens: told["output_tokens"].as_u64()?,
    })
}

fn sum(one: Option<Usage>, other: Option<Usage>) -> Option<Usage> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Usage {
            input_tokens: one.input_tokens.saturating_add(other.input_tokens),
            output_tokens: one.output_tokens.saturating_add(other.output_tokens),
        }),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests;
