//! Results on stdout, everything else on stderr, for people or as JSON lines; and exit codes that mean something.

use std::{
    fmt::{Display, Write as _},
    io::{self, Write},
};

use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Everything went well.
pub const OK: u8 = 0;
/// What was asked for was done and ended badly: an execution failed, a check found a fault.
pub const FAILED: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// A server could not be reached, or did not answer in time.
pub const UNREACHABLE: u8 = 3;
/// Not signed in, or not allowed.
pub const REFUSED: u8 = 4;
/// There is no such thing, or the caller may not see it.
pub const NOT_FOUND: u8 = 5;
/// The input or the state of things does not allow it.
pub const INVALID: u8 = 6;
/// Anything else.
pub const INTERNAL: u8 = 70;

/// The command line says something that cannot be meant.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Where results go and in which form.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// One JSON value a line instead of text.
    pub json: bool,
}

impl Output {
    /// A result: the text for people, or the value.
    pub fn result(self, text: impl Display, value: impl FnOnce() -> Value) {
        let line = if self.json {
            value().to_string()
        } else {
            text.to_string()
        };
        write_line(io::stdout().lock(), &line);
    }

    /// A part of a text that others follow: as it stands for people, or the value.
    pub fn part(self, text: &str, value: impl FnOnce() -> Value) {
        if self.json {
            write_line(io::stdout().lock(), &value().to_string());
        } else {
            let mut stdout = io::stdout().lock();
            let _ = stdout.write_all(text.as_bytes());
            let _ = stdout.flush();
        }
    }

    /// Progress: to stdout for people, silent where the results are JSON.
    pub fn progress(self, text: impl Display) {
        if !self.json {
            write_line(io::stdout().lock(), &text.to_string());
        }
    }

    /// A failure, to stderr.
    pub fn failure(self, error: &anyhow::Error) {
        let line = if self.json {
            json!({ "error": error_json(error) }).to_string()
        } else {
            error_text(error)
        };
        write_line(io::stderr().lock(), &line);
    }
}

/// A closed pipe (`| head`) is no reason to panic.
fn write_line(mut stream: impl Write, line: &str) {
    let _ = writeln!(stream, "{line}");
    let _ = stream.flush();
}

/// A message as proto3 JSON with its defaults written out.
pub fn message_json<M: prost::Message + prost::Name>(message: &M) -> Value {
    let pool = studios_proto::descriptors();
    let descriptor = pool
        .get_message_by_name(&M::full_name())
        .expect("the pool holds every generated message");
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .expect("a generated message decodes by its own descriptor");
    let options = SerializeOptions::new().skip_default_fields(false);
    dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .expect("a message of known types has a JSON form")
}

/// The exit code of a failure.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() {
        return USAGE;
    }
    match error.downcast_ref::<Status>().map(Status::code) {
        Some(Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled) => UNREACHABLE,
        Some(Code::Unauthenticated | Code::PermissionDenied) => REFUSED,
        Some(Code::NotFound) => NOT_FOUND,
        Some(
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::AlreadyExists
            | Code::Aborted
            | Code::OutOfRange
            | Code::ResourceExhausted,
        ) => INVALID,
        Some(Code::Ok | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss) => INTERNAL,
        None => FAILED,
    }
}

fn error_text(error: &anyhow::Error) -> String {
    let Some(status) = error.downcast_ref::<Status>() else {
        return format!("error: {error:#}");
    };
    let mut text = format!("error: {} ({})", status.message(), status.code());
    for violation in status
        .get_details_bad_request()
        .into_iter()
        .flat_map(|it| it.field_violations)
    {
        // A String takes everything.
        let _ = write!(text, "\n  {}: {}", violation.field, violation.description);
    }
    if let Some(request) = status.get_details_request_info() {
        let _ = write!(text, "\n  request id: {}", request.request_id);
    }
    text
}

fn error_json(error: &anyhow::Error) -> Value {
    let Some(status) = error.downcast_ref::<Status>() else {
        return json!({ "code": "internal", "message": format!("{error:#}") });
    };
    let fields: Vec<Value> = status
        .get_details_bad_request()
        .into_iter()
        .flat_map(|it| it.field_violations)
        .map(|it| json!({ "field": it.field, "description": it.description }))
        .collect();
    json!({
        "code": format!("{:?}", status.code()),
        "message": status.message(),
        "reason": status.get_details_error_info().map(|it| it.reason),
        "fields": fields,
        "request_id": status.get_details_request_info().map(|it| it.request_id),
    })
}
