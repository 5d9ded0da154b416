//! Errors in Supabase's two shapes: `{code, error_code, msg}`, and `{code, message}` for who asks with a dated version.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::connect;

const VERSION: &str = "x-supabase-api-version";
const DATED: &str = "2024-01-01";

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Error {
    http: StatusCode,
    code: &'static str,
    message: String,
    retry_after_seconds: Option<u64>,
}

/// Whether the caller asks for the shape of 2024.
pub(super) fn is_dated(headers: &HeaderMap) -> bool {
    // Dates of this form sort as they follow each other.
    let version = headers.get(VERSION).and_then(|it| it.to_str().ok());
    version.is_some_and(|it| it >= DATED)
}

impl Error {
    pub(super) fn known(http: StatusCode, code: &'static str, message: &str) -> Self {
        Self {
            http,
            code,
            message: message.into(),
            retry_after_seconds: None,
        }
    }

    pub(super) fn into_response(self, is_dated: bool) -> Response {
        let body = if is_dated {
            json!({ "code": self.code, "message": self.message })
        } else {
            json!({ "code": self.http.as_u16(), "error_code": self.code, "msg": self.message })
        };
        let mut response = (self.http, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        if is_dated {
            headers.insert(VERSION, HeaderValue::from_static(DATED));
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let reason = status.get_details_error_info().map(|it| it.reason).unwrap_or_default();
        let violations = status
            .get_details_bad_request()
            .map(|it| it.field_violations)
            .unwrap_or_default();
        let is_wrong = |field: &str| violations.iter().any(|it| it.field == field);
        let (http, code) = match (reason.as_str(), status.code()) {
            ("CREDENTIALS_WRONG" | "PASSWORD_WRONG", _) => (400, "invalid_credentials"),
            ("EMAIL_TAKEN", _) => (422, "user_already_exists"),
            ("EMAIL_NOT_VERIFIED", _) => (400, "email_not_confirmed"),
            ("CODE_REQUIRED", _) => (400, "insufficient_aal"),
            ("CODE_WRONG", _) => (400, "mfa_verification_failed"),
            ("REFRESH_TOKEN_INVALID", _) => (400, "refresh_token_not_found"),
            ("REFRESH_TOKEN_REUSED", _) => (400, "refresh_token_already_used"),
            ("SESSION_EXPIRED", _) => (400, "session_expired"),
            ("SESSION_ENDED", _) => (403, "session_not_found"),
            ("TOKEN_MISSING", _) => (401, "no_authorization"),
            (_, Code::Unauthenticated) => (403, "bad_jwt"),
            (_, Code::InvalidArgument) if is_wrong("current_password") => (400, "current_password_required"),
            (_, Code::InvalidArgument) if is_wrong("password") || is_wrong("new_password") => (422, "weak_password"),
            (_, Code::InvalidArgument) if is_wrong("email") || is_wrong("new_email") => (400, "email_address_invalid"),
            (_, Code::InvalidArgument) => (400, "validation_failed"),
            (_, Code::ResourceExhausted) => (429, "over_request_rate_limit"),
            (_, code) => (connect::http_status(code).as_u16(), "unexpected_failure"),
        };
        let message = match code {
            // What clients know and compare.
            "invalid_credentials" => "Invalid login credentials".to_owned(),
            "user_already_exists" => "User already registered".to_owned(),
            "email_not_confirmed" => "Email not confirmed".to_owned(),
            _ => violations.first().map_or_else(
                || status.message().to_owned(),
                |it| format!("{} {}", it.field, it.description),
            ),
        };
        let delay = status.get_details_retry_info().and_then(|it| it.retry_delay);
        Self {
            http: StatusCode::from_u16(http).expect("it has three digits"),
            code,
            message,
            retry_after_seconds: delay.map(|it| it.as_secs() + u64::from(it.subsec_nanos() > 0)),
        }
    }
}

impl From<service_kit::error::Error> for Error {
    fn from(error: service_kit::error::Error) -> Self {
        Status::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use service_kit::error::Error as KitError;

    use super::*;

    #[test]
    fn an_error_has_the_word_that_supabases_clients_know() {
        for (error, http, code) in [
            (
                KitError::Unauthenticated("CREDENTIALS_WRONG"),
                400,
                "invalid_credentials",
            ),
            (KitError::Unauthenticated("TOKEN_EXPIRED"), 403, "bad_jwt"),
            (KitError::invalid("password", "is short"), 422, "weak_password"),
            (KitError::internal("x"), 500, "unexpected_failure"),
        ] {
            let error = Error::from(error);
            assert_eq!((error.http.as_u16(), error.code), (http, code));
        }
    }

    #[test]
    fn the_dated_shape_is_for_who_asks_for_it() {
        let with = |version: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(VERSION, version.parse().unwrap());
            is_dated(&headers)
        };
        assert!(with("2024-01-01") && with("2025-06-01") && !with("2023-12-31"));
        assert!(!is_dated(&HeaderMap::new()));
    }
}
