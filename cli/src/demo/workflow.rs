//! The demo's workflow: a summary of the document, its key points as JSON, and a brief from both.

use std::collections::BTreeMap;

use service_kit::update::json_to_struct;
use studios_proto::execution::{
    Definition, JsonSchemaCheck, LlmStage, RegexCheck, Retrieval, Stage, Validation, stage::Kind, validation::Check,
};

const SUMMARY: &str = "\
Summarise the passages in at most five sentences.

Passages:
{{ chunks }}";

const POINTS: &str = "\
List the key points that the summary leaves out.

Summary:
{{ summary }}

Passages:
{{ chunks }}";

const BRIEF: &str = "\
Write a brief from the summary and the key points below.{% if validation_notes %}
The brief before was refused: {{ validation_notes }}{% endif %}

Answer in this form:

# Brief

## Summary
(two or three sentences)

## Key points
- one sentence each

Summary:
{{ summary }}

Key points:
{% for point in points %}- {{ point }}
{% endfor %}";

const BRIEF_PATTERN: &str = r"(?s)\A# Brief\s.*## Summary\s+\S.*## Key points\s+- \S";

/// Three stages that call `model`. The inputs are `{"document_ids": [id]}`.
pub(super) fn definition(model: &str) -> Definition {
    Definition {
        stages: vec![summary(model), points(model), brief(model)],
        transition_limit: 0,
        input_schema: Some(object(&serde_json::json!({
            "type": "object",
            "properties": {
                "document_ids": { "type": "array", "items": { "type": "string" }, "minItems": 1 }
            },
            "required": ["document_ids"],
            "additionalProperties": false
        }))),
        output_schema: None,
    }
}

fn summary(model: &str) -> Stage {
    let llm = LlmStage {
        prompt: SUMMARY.into(),
        retrieval: Some(retrieval("", 50)),
        ..llm(model)
    };
    Stage {
        name: "summary".into(),
        kind: Some(Kind::Llm(llm)),
        ..Stage::default()
    }
}

fn points(model: &str) -> Stage {
    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "key_points": {
                "type": "array",
                "description": "The key points, each a sentence.",
                "items": { "type": "string", "minLength": 1 },
                "minItems": 1,
                "maxItems": 5,
                "uniqueItems": true
            },
            "topics": {
                "type": "array",
                "description": "Key phrases.",
                "items": { "type": "string", "minLength": 1 },
                "minItems": 1,
                "maxItems": 6,
                "uniqueItems": true
            }
        },
        "required": ["key_points", "topics"],
        "additionalProperties": false
    });
    let llm = LlmStage {
        prompt: POINTS.into(),
        response_schema: Some(object(&schema)),
        retrieval: Some(retrieval("{{ summary }}", 8)),
        ..llm(model)
    };
    Stage {
        name: "key_points".into(),
        kind: Some(Kind::Llm(llm)),
        input_mapping: mapping(&[("summary", "stages.summary.output")]),
        validation: Some(Validation {
            check: Some(Check::JsonSchema(JsonSchemaCheck {
                schema: Some(object(&schema)),
            })),
        }),
        retry_limit: 1,
        ..Stage::default()
    }
}

fn brief(model: &str) -> Stage {
    Stage {
        name: "brief".into(),
        kind: Some(Kind::Llm(LlmStage {
            prompt: BRIEF.into(),
            ..llm(model)
        })),
        input_mapping: mapping(&[
            ("summary", "stages.summary.output"),
            ("points", "stages.key_points.output.key_points"),
        ]),
        validation: Some(Validation {
            check: Some(Check::Regex(RegexCheck {
                pattern: BRIEF_PATTERN.into(),
            })),
        }),
        retry_limit: 2,
        ..Stage::default()
    }
}

fn llm(model: &str) -> LlmStage {
    LlmStage {
        model: model.into(),
        ..LlmStage::default()
    }
}

fn retrieval(query: &str, limit: i32) -> Retrieval {
    Retrieval {
        query: query.into(),
        limit,
        document_ids_path: "inputs.document_ids".into(),
        ..Retrieval::default()
    }
}

fn mapping(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|&(variable, path)| (variable.into(), path.into()))
        .collect()
}

fn object(value: &serde_json::Value) -> prost_types::Struct {
    json_to_struct(value.as_object().expect("the literal is an object"))
}
