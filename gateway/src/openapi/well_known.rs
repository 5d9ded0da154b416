//! The JSON forms of protobuf's own types, as its JSON mapping lays them down, and of Connect's error.

use serde_json::{Value, json};
use tonic::Code;

use crate::connect;

/// The schema of one of protobuf's own types that has a form of its own.
pub(super) fn schema(name: &str) -> Option<Value> {
    Some(match name {
        "google.protobuf.Timestamp" => json!({
            "type": "string",
            "format": "date-time",
            "description": "A point in time (RFC 3339), in UTC where the server wrote it.",
        }),
        "google.protobuf.Duration" => json!({
            "type": "string",
            "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$",
            "description": "A duration in seconds, such as `1.5s`.",
        }),
        "google.protobuf.FieldMask" => json!({
            "type": "string",
            "description": "Names of fields in camelCase, separated by commas; a dot leads into a message.",
        }),
        "google.protobuf.Struct" => json!({ "type": "object", "description": "Any JSON object." }),
        "google.protobuf.ListValue" => json!({ "type": "array", "description": "Any JSON array." }),
        "google.protobuf.Value" => json!({ "description": "Any JSON value." }),
        "google.protobuf.Empty" => json!({ "type": "object" }),
        "google.protobuf.Any" => json!({
            "type": "object",
            "properties": { "@type": { "type": "string", "description": "The type's URL." } },
            "required": ["@type"],
        }),
        "google.protobuf.BoolValue" => json!({ "type": ["boolean", "null"] }),
        "google.protobuf.StringValue" => json!({ "type": ["string", "null"] }),
        "google.protobuf.BytesValue" => json!({ "type": ["string", "null"], "contentEncoding": "base64" }),
        "google.protobuf.Int32Value" | "google.protobuf.UInt32Value" => json!({ "type": ["integer", "null"] }),
        "google.protobuf.Int64Value" | "google.protobuf.UInt64Value" => {
            json!({ "type": ["string", "null"], "pattern": "^-?[0-9]+$" })
        }
        "google.protobuf.FloatValue" | "google.protobuf.DoubleValue" => {
            json!({ "anyOf": [super::schemas::floating("double"), { "type": "null" }] })
        }
        _ => return None,
    })
}

/// What every call that failed is answered.
pub(super) fn error() -> Value {
    let codes: Vec<_> = (1..=16).map(|code| connect::name(Code::from_i32(code))).collect();
    json!({
        "type": "object",
        "description": "Why a call failed.",
        "required": ["code"],
        "properties": {
            "code": { "type": "string", "enum": codes, "description": "The kind of failure." },
            "message": { "type": "string", "description": "What is wrong, for people." },
            "details": {
                "type": "array",
                "description": "google.rpc details: ErrorInfo (a stable reason), BadRequest (the fields at fault), RetryInfo, \
                                QuotaFailure, RequestInfo.",
                "items": {
                    "type": "object",
                    "required": ["type", "value"],
                    "properties": {
                        "type": { "type": "string", "description": "The message's full name, such as google.rpc.BadRequest." },
                        "value": { "type": "string", "contentEncoding": "base64", "description": "The message in binary." },
                        "debug": { "description": "The message as JSON." },
                    },
                },
            },
        },
    })
}
