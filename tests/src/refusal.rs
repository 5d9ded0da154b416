//! What an error says, for tests to look at.

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Asserts the code and the stable reason of an error.
#[track_caller]
pub fn assert_reason(status: &Status, code: Code, reason: &str) {
    let info = status.get_details_error_info().map(|it| (it.reason, it.domain));
    assert_eq!(
        (status.code(), info),
        (code, Some((reason.to_owned(), "studios".to_owned()))),
        "{status:?}"
    );
}

/// The fields that an INVALID_ARGUMENT names, sorted.
#[track_caller]
pub fn fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let mut fields: Vec<String> = status
        .get_details_bad_request()
        .unwrap_or_else(|| panic!("no BadRequest: {status:?}"))
        .field_violations
        .into_iter()
        .map(|violation| violation.field)
        .collect();
    fields.sort();
    fields
}
