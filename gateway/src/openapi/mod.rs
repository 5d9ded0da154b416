//! The OpenAPI 3.1 document of what the gateway serves as JSON, made from the contracts and their comments.
//!
//! The gateway serves the committed file (`gateway/openapi.json`), not what is made here: this is run by `make openapi`, which
//! writes the file, and by the test that says when it is out of date. Nothing is written by hand but what the contracts do not
//! know: the protocol around the messages and the gateway's own pages.

mod comments;
mod schemas;
mod well_known;

use serde_json::{Map, Value, json};

use self::schemas::Schemas;
use crate::{
    connect,
    methods::{Method, Methods},
};

/// The committed document, as it is served.
pub(crate) const COMMITTED: &str = include_str!("../../openapi.json");

const ABOUT: &str = "Every RPC that is not a stream is called by POST with its request as JSON, at the path of its full name \
(Connect's protocol). Names are camelCase, 64-bit integers are strings, enums are their names, times are RFC 3339. Fields that \
hold their default are left out of answers. A field that is not in the contract is refused by its name. The same port speaks \
gRPC and gRPC-Web, which streams need.";

const STREAM: &str = "This RPC streams its request or its answer: call it by gRPC or gRPC-Web (frames of binary protobuf); JSON is answered \
with 501. `x-request-schema` and `x-message-schema` are the JSON forms of the request and of each message of the answer.";

const FRAMES: &str = "application/grpc-web+proto";

/// Makes the document.
pub fn document() -> Value {
    let methods = Methods::public().sorted();
    let mut schemas = Schemas::default();
    let mut paths = pages();
    let mut tags = vec![json!({ "name": GATEWAY, "description": "What the gateway answers itself." })];
    for (path, method) in &methods {
        let service = method.descriptor.parent_service();
        let tag =
            json!({ "name": service.full_name(), "description": comments::of(&service.parent_file(), service.path()) });
        if !tags.contains(&tag) {
            tags.push(tag);
        }
        paths.insert(path.clone(), json!({ "post": operation(method, &mut schemas) }));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Studios",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }],
        "tags": tags,
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An access token, from studios.core.v1.AuthService/SignIn.",
                },
            },
            "parameters": parameters(),
            "headers": {
                "RequestId": {
                    "description": "The request's id, which the logs and traces carry too.",
                    "schema": { "type": "string" },
                },
            },
            "responses": { "Error": error_response() },
            "schemas": schemas.finish(),
        },
    })
}

const GATEWAY: &str = "gateway";

fn operation(method: &Method, schemas: &mut Schemas) -> Value {
    let descriptor = &method.descriptor;
    let comment = comments::of(&descriptor.parent_file(), descriptor.path());
    let service = descriptor.parent_service();
    let mut operation = json!({
        "operationId": format!("{}_{}", service.name(), descriptor.name()),
        "summary": comments::summary(&comment),
        "description": comment,
        "tags": [service.full_name()],
    });
    let fields = operation.as_object_mut().expect("it was made as one");
    if method.is_public() {
        fields.insert("security".into(), json!([]));
    }
    let (input, output) = (
        schemas.message(&descriptor.input()),
        schemas.message(&descriptor.output()),
    );
    if method.is_unary() {
        fields.extend(unary(&input, &output));
    } else {
        fields.insert("description".into(), format!("{comment}\n\n{STREAM}").into());
        fields.extend(stream(input, output));
    }
    operation
}

fn unary(input: &Value, output: &Value) -> Map<String, Value> {
    let parameters = ["ConnectProtocolVersion", "ConnectTimeoutMs", "RequestId", "Traceparent"]
        .map(|name| json!({ "$ref": format!("#/components/parameters/{name}") }));
    object(json!({
        "parameters": parameters,
        "requestBody": {
            "description": "No body is a request without any field.",
            "content": { "application/json": { "schema": input } },
        },
        "responses": {
            "200": {
                "description": "The answer.",
                "headers": { "x-request-id": { "$ref": "#/components/headers/RequestId" } },
                "content": { "application/json": { "schema": output } },
            },
            "default": { "$ref": "#/components/responses/Error" },
        },
    }))
}

fn stream(input: Value, output: Value) -> Map<String, Value> {
    let mut fields = object(json!({
        "parameters": [
            { "$ref": "#/components/parameters/RequestId" },
            { "$ref": "#/components/parameters/Traceparent" },
        ],
        "requestBody": {
            "description": "One frame with the request.",
            "required": true,
            "content": { FRAMES: {} },
        },
        "responses": {
            "200": {
                "description": "A frame for each message, then one with the trailers, which hold the status (grpc-status).",
                "headers": { "x-request-id": { "$ref": "#/components/headers/RequestId" } },
                "content": { FRAMES: {} },
            },
            "501": { "$ref": "#/components/responses/Error" },
            "default": { "$ref": "#/components/responses/Error" },
        },
    }));
    fields.insert("x-request-schema".into(), input);
    fields.insert("x-message-schema".into(), output);
    fields
}

fn parameters() -> Value {
    let header = |name: &str, description: &str, schema: Value| json!({ "in": "header", "name": name, "description": description, "schema": schema });
    json!({
        "ConnectProtocolVersion": header("connect-protocol-version", "Connect's version, if it is said.", json!({ "const": "1" })),
        "ConnectTimeoutMs": header(
            "connect-timeout-ms",
            "How long the call may take, in milliseconds; the gateway has a longest time of its own.",
            json!({ "type": "string", "pattern": "^[0-9]{1,10}$" }),
        ),
        "RequestId": header(
            "x-request-id",
            "An id for this request: up to 64 letters, digits and -_.: (another one is replaced).",
            json!({ "type": "string" }),
        ),
        "Traceparent": header("traceparent", "The caller's trace (W3C).", json!({ "type": "string" })),
    })
}

fn error_response() -> Value {
    let statuses: Vec<_> = connect::http_statuses()
        .iter()
        .map(|(status, codes)| format!("{status} {}", codes.join(", ")))
        .collect();
    let description = format!(
        "The call failed; the HTTP status follows from the code: {}. Besides, 413 where the body is too large, 415 where it is \
         no JSON, 404 where no RPC has this path.",
        statuses.join("; ")
    );
    json!({
        "description": description,
        "headers": { "x-request-id": { "$ref": "#/components/headers/RequestId" } },
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/connect.Error" } } },
    })
}

fn pages() -> Map<String, Value> {
    let page = |id: &str, summary: &str, content: &str, more: Value| {
        let mut responses = object(json!({ "200": {
            "description": summary,
            "content": { content: { "schema": { "type": "object" } } },
        } }));
        responses.extend(object(more));
        json!({ "get": {
            "operationId": id, "summary": summary, "tags": [GATEWAY], "security": [], "responses": responses,
        } })
    };
    let unready = json!({ "503": {
        "description": "Not all of it can be reached and serves.",
        "content": { "application/json": { "schema": { "type": "object" } } },
    } });
    let failed = json!({ "default": { "$ref": "#/components/responses/Error" } });
    object(json!({
        "/": page("index", "What this is and how to talk to it.", "application/json", json!({})),
        "/healthz": page("live", "The process lives.", "application/json", json!({})),
        "/readyz": page("ready", "Both services can be reached and serve.", "application/json", unready),
        "/openapi.json": page("openapi", "This document.", "application/json", json!({})),
        "/.well-known/jwks.json": page("jwks", "The public keys of access tokens (RFC 7517).", "application/json", failed),
    }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
