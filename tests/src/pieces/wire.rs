//! How the instance says no: in both of its shapes.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::{Value, json};

/// `{code, params}`.
#[expect(clippy::needless_pass_by_value, reason = "they are made for the answer")]
pub(super) fn coded(status: u16, code: &str, params: Value) -> Response {
    answer(status, json!({ "code": code, "params": params }))
}

/// `{statusCode, code?, error, message}`.
pub(super) fn plain(status: u16, code: Option<&str>, message: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    let mut body = json!({
        "statusCode": status.as_u16(),
        "error": status.canonical_reason().unwrap_or("Error"),
        "message": message,
    });
    if let Some(code) = code {
        body["code"] = code.into();
    }
    answer(status.as_u16(), body)
}

/// JSON under a status.
pub(super) fn answer(status: u16, body: Value) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, Json(body)).into_response()
}

/// What is not as a schema has it.
pub(super) fn invalid(message: &str) -> Response {
    plain(400, Some("FST_ERR_VALIDATION"), message)
}

/// An id that is none.
pub(super) fn bad_id(name: &str) -> Response {
    invalid(&format!(
        "params/{name} Invalid string: must match pattern /^[0-9a-zA-Z]{{21}}$/"
    ))
}

/// What is not there.
pub(super) fn missing(kind: &str, id: &str) -> Response {
    coded(404, "ENTITY_NOT_FOUND", json!({ "entityId": id, "entityType": kind }))
}

/// A route that is not there.
pub(super) fn no_route() -> Response {
    plain(404, None, "Route not found")
}

/// Nothing under a status.
pub(super) fn silent(status: u16) -> Response {
    StatusCode::from_u16(status).expect("a status").into_response()
}

pub(super) fn is_id(text: &str) -> bool {
    text.len() == 21 && text.bytes().all(|it| it.is_ascii_alphanumeric())
}
