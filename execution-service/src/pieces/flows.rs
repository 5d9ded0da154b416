//! Flows as an instance has them, and what can be found out about one: by what its end is learned, what it takes, which
//! pieces it needs.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The piece that answers and is called by webhooks.
const WEBHOOK: &str = "@activepieces/piece-webhook";
/// The piece that sends requests.
const HTTP: &str = "@activepieces/piece-http";
/// The piece that tags runs.
const TAGS: &str = "@activepieces/piece-tags";
/// How a step names the URL that we give it.
const CALLBACK: &str = "callback_url";
/// How a step names our correlation id.
const CORRELATION: &str = "correlation_id";
/// What a start carries beside its inputs.
pub(crate) const STUDIOS: &str = "studios";
/// The most steps that are looked at.
const MAX_STEPS: usize = 500;

/// A flow as lists have it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowSummary {
    /// Its id.
    pub id: String,
    /// `ENABLED` or `DISABLED`.
    #[serde(default)]
    pub status: Option<String>,
    #[serde(default)]
    published_version_id: Option<String>,
    #[serde(default)]
    version: Option<Named>,
    /// When it last changed, as it says.
    #[serde(default)]
    pub updated: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    #[serde(default)]
    display_name: Option<String>,
}

impl FlowSummary {
    /// Its name.
    pub fn name(&self) -> &str {
        self.version
            .as_ref()
            .and_then(|it| it.display_name.as_deref())
            .unwrap_or_default()
    }

    /// Whether it runs when it is started.
    pub fn is_enabled(&self) -> bool {
        self.status.as_deref() == Some("ENABLED")
    }

    /// Whether a version of it was published.
    pub const fn is_published(&self) -> bool {
        self.published_version_id.is_some()
    }
}

/// A flow with a version of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// Its id.
    pub id: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    published_version_id: Option<String>,
    version: Version,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    #[serde(default)]
    display_name: Option<String>,
    #[serde(default)]
    valid: Option<bool>,
    trigger: Value,
}

/// What was found out about a flow.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// Its name.
    pub name: String,
    /// Whether it runs when it is started.
    pub is_enabled: bool,
    /// Whether a version of it was published.
    pub is_published: bool,
    /// Whether it says that it is valid. It does so too where a piece is missing.
    pub is_valid: bool,
    /// Whether a webhook starts it; nothing else can be started from here.
    pub starts_by_webhook: bool,
    /// Whether its trigger wants credentials: a start without them is taken, and no run comes of it.
    pub wants_credentials: bool,
    /// Whether it posts to the call-back URL.
    pub calls_back: bool,
    /// Whether it tags its run with our correlation id.
    pub tags_run: bool,
    /// Whether it answers a start that is waited for.
    pub answers: bool,
    /// The names of the pieces that it is made of.
    pub pieces: Vec<String>,
    /// JSON Schema of what it takes, where that can be known.
    pub input_schema: Option<Value>,
}

impl Flow {
    /// What can be found out about it.
    pub fn findings(&self) -> Findings {
        let trigger = &self.version.trigger;
        let mut steps = Vec::new();
        gather(trigger, &mut steps);
        let is_webhook = piece(trigger) == Some(WEBHOOK) && trigger["settings"]["triggerName"] == "catch_webhook";
        let auth = trigger["settings"]["input"]["authType"].as_str().unwrap_or("none");
        let pieces: BTreeSet<_> = steps.iter().filter_map(|step| piece(step)).map(str::to_owned).collect();
        let does = |step: &Value, name: &str, action: &str| {
            piece(step) == Some(name) && step["settings"]["actionName"] == action && step["skip"] != true
        };
        let mentions = |step: &Value, word: &str| step["settings"]["input"].to_string().contains(word);
        Findings {
            name: self.version.display_name.clone().unwrap_or_default(),
            is_enabled: self.status.as_deref() == Some("ENABLED"),
            is_published: self.published_version_id.is_some(),
            is_valid: self.version.valid.unwrap_or(false),
            starts_by_webhook: is_webhook,
            wants_credentials: is_webhook && !auth.eq_ignore_ascii_case("none"),
            calls_back: steps
                .iter()
                .any(|it| does(it, HTTP, "send_request") && mentions(it, CALLBACK)),
            tags_run: steps
                .iter()
                .any(|it| does(it, TAGS, "add_tag") && mentions(it, CORRELATION)),
            answers: steps.iter().any(|it| {
                ["return_response", "return_response_and_wait_for_next_webhook"]
                    .iter()
                    .any(|action| does(it, WEBHOOK, action))
            }),
            pieces: pieces.into_iter().collect(),
            input_schema: input_schema(trigger, &steps),
        }
    }
}

fn piece(step: &Value) -> Option<&str> {
    step["settings"]["pieceName"].as_str()
}

/// A step and all that come after it or stand in it.
fn gather<'a>(step: &'a Value, steps: &mut Vec<&'a Value>) {
    let mut next = vec![step];
    while let Some(step) = next.pop() {
        if steps.len() == MAX_STEPS || !step.is_object() {
            continue;
        }
        steps.push(step);
        next.extend(step["children"].as_array().into_iter().flatten());
        next.extend(
            ["firstLoopAction", "onSuccessAction", "onFailureAction", "nextAction"]
                .iter()
                .filter_map(|it| step.get(*it)),
        );
    }
}

/// What a flow takes: as the sample that its trigger was tried with has it, else what its steps read of the body. Nothing is
/// required: a flow may do without.
fn input_schema(trigger: &Value, steps: &[&Value]) -> Option<Value> {
    let samples = [
        &trigger["settings"]["sampleData"]["currentSelectedData"]["body"],
        &trigger["settings"]["inputUiInfo"]["currentSelectedData"]["body"],
        &trigger["settings"]["sampleData"]["body"],
        &trigger["settings"]["input"]["sampleData"]["body"],
    ];
    let sample = samples
        .into_iter()
        .find_map(Value::as_object)
        .filter(|it| !it.is_empty());
    let mut properties = Map::new();
    if let Some(sample) = sample {
        properties.extend(sample.iter().map(|(name, value)| (name.clone(), shape(value, 4))));
    } else {
        let names: BTreeSet<_> = steps
            .iter()
            .flat_map(|it| read_names(&it["settings"]["input"]))
            .collect();
        properties.extend(names.into_iter().map(|name| (name, json!({}))));
    }
    properties.remove(STUDIOS);
    (!properties.is_empty()).then(|| json!({ "type": "object", "properties": properties }))
}

/// The schema of values like this one.
fn shape(value: &Value, levels: usize) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(_) => json!({ "type": "boolean" }),
        Value::Number(_) => json!({ "type": "number" }),
        Value::String(_) => json!({ "type": "string" }),
        Value::Array(items) => match items.first() {
            Some(first) if levels > 0 => json!({ "type": "array", "items": shape(first, levels - 1) }),
            _ => json!({ "type": "array" }),
        },
        Value::Object(members) if levels > 0 => {
            let properties: Map<_, _> = members
                .iter()
                .map(|(name, value)| (name.clone(), shape(value, levels - 1)))
                .collect();
            json!({ "type": "object", "properties": properties })
        }
        Value::Object(_) => json!({ "type": "object" }),
    }
}

/// The members of the body that an input reads: `{{trigger['body']['a']}}`, `{{trigger.body.a}}`, also below `output`.
fn read_names(input: &Value) -> Vec<String> {
    let text = input.to_string();
    let mut names = Vec::new();
    for part in text.split("trigger").skip(1) {
        let mut path = part;
        let mut members = Vec::new();
        while let Some((member, rest)) = member(path) {
            members.push(member);
            path = rest;
        }
        let mut members = members.into_iter().skip_while(|it| *it == "output");
        if members.next() == Some("body")
            && let Some(name) = members.next()
        {
            names.push(name.to_owned());
        }
    }
    names
}

/// The next member of a path, and what comes after it.
fn member(path: &str) -> Option<(&str, &str)> {
    let is_name = |it: char| it.is_alphanumeric() || it == '_' || it == '$';
    if let Some(rest) = path.strip_prefix('.').or_else(|| path.strip_prefix("?.")) {
        let end = rest.find(|it| !is_name(it)).unwrap_or(rest.len());
        return (end > 0).then(|| rest.split_at(end));
    }
    let rest = path.strip_prefix("['").or_else(|| path.strip_prefix("[\\\""))?;
    let end = rest.find(['\'', '\\'])?;
    let (name, rest) = rest.split_at(end);
    let rest = rest.strip_prefix("']").or_else(|| rest.strip_prefix("\\\"]"))?;
    (!name.is_empty()).then_some((name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "they are made for this")]
    fn action(name: &str, piece: &str, action: &str, input: Value, next: Value) -> Value {
        json!({"name": name, "type": "PIECE", "skip": false, "nextAction": next,
            "settings": {"pieceName": piece, "actionName": action, "input": input}})
    }

    #[expect(clippy::needless_pass_by_value, reason = "they are made for this")]
    fn flow(trigger_input: Value, sample: Value, first: Value) -> Flow {
        serde_json::from_value(
            json!({"id": "f", "status": "ENABLED", "publishedVersionId": "v", "version": {
            "displayName": "B", "valid": true,
            "trigger": {"name": "trigger", "type": "PIECE_TRIGGER", "nextAction": first, "settings": {
                "pieceName": WEBHOOK, "triggerName": "catch_webhook", "input": trigger_input, "sampleData": sample}}}}),
        )
        .unwrap()
    }

    #[test]
    fn the_ways_of_learning_the_end_the_pieces_and_the_inputs_are_found() {
        let answer = action(
            "step_3",
            WEBHOOK,
            "return_response",
            json!({"respond": "stop"}),
            Value::Null,
        );
        let callback = json!({"method": "POST", "url": "{{trigger['body']['studios']['callback_url']}}", "body": {"sum": "{{step_1['sum']}}"}});
        let call = action("step_2", HTTP, "send_request", callback, answer);
        let code = json!({"name": "step_1", "type": "CODE", "nextAction": call,
            "settings": {"input": {"a": "{{trigger.body.a}}", "b": "{{trigger['output']['body']['b c']}} x"}}});
        let tag = action(
            "step_0",
            TAGS,
            "add_tag",
            json!({"name": "{{trigger.body.studios.correlation_id}}"}),
            code,
        );
        let found = flow(json!({"authType": "none"}), json!({}), tag).findings();
        assert!(found.calls_back && found.tags_run && found.answers && found.starts_by_webhook);
        assert!(!found.wants_credentials && found.is_enabled && found.is_published && found.is_valid);
        assert_eq!(found.pieces, [HTTP, TAGS, WEBHOOK]);
        let schema = found.input_schema.unwrap();
        let names: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["a", "b c"], "without what we send ourselves");
    }

    #[test]
    fn a_sample_says_more_than_the_steps_do() {
        let sample =
            json!({"currentSelectedData": {"body": {"n": 1, "who": {"name": "x"}, "tags": ["a"], "studios": {}}}});
        let found = flow(json!({}), sample, Value::Null).findings();
        let expected = json!({"type": "object", "properties": {
            "n": {"type": "number"},
            "who": {"type": "object", "properties": {"name": {"type": "string"}}},
            "tags": {"type": "array", "items": {"type": "string"}},
        }});
        assert_eq!(found.input_schema, Some(expected));
        assert!(!found.calls_back && !found.tags_run && !found.answers);
    }

    #[test]
    fn steps_within_branches_and_loops_count_and_skipped_ones_do_not() {
        let callback = json!({"url": "{{trigger.body.studios.callback_url}}"});
        let within = json!({"type": "ROUTER", "children": [null, {"type": "LOOP_ON_ITEMS",
            "firstLoopAction": action("s", HTTP, "send_request", callback.clone(), Value::Null)}]});
        assert!(flow(json!({}), json!({}), within).findings().calls_back);
        let mut skipped = action("s", HTTP, "send_request", callback, Value::Null);
        skipped["skip"] = true.into();
        assert!(!flow(json!({}), json!({}), skipped).findings().calls_back);
    }

    #[test]
    fn what_cannot_be_started_from_here_and_what_nobody_knows_is_said() {
        let other: Flow =
            serde_json::from_value(json!({"id": "f", "version": {"trigger": {"type": "EMPTY", "settings": {}}}}))
                .unwrap();
        let found = other.findings();
        assert!(!found.starts_by_webhook && !found.is_enabled && !found.is_published && !found.is_valid);
        assert_eq!(found.input_schema, None);
        assert!(
            flow(json!({"authType": "header"}), json!({}), Value::Null)
                .findings()
                .wants_credentials
        );
    }
}
