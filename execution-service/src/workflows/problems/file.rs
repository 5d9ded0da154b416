//! The rules of stages that keep a text as a file.

use service_kit::error::Violations;

use super::{Surroundings, llm::template};
use crate::engine::definition::{Keep, Stage};

/// What a text may be kept as.
const TEXT_TYPES: [&str; 5] = [
    "text/plain",
    "text/markdown",
    "text/html",
    "text/csv",
    "application/json",
];

/// Notes the problems of such a stage.
pub(super) fn check(
    found: &mut Violations,
    field: &str,
    around: &Surroundings<'_>,
    place: usize,
    stage: &Stage,
    keep: &Keep,
) {
    let given = around.given(place);
    for (name, written) in [("file_name", &keep.file_name), ("content", &keep.content)] {
        let field = format!("{field}.{name}");
        if written.trim().is_empty() {
            found.add(&*field, "must not be empty");
        }
        template(found, &field, around, place, stage, &given, written);
    }
    if !TEXT_TYPES.contains(&keep.mime_type.as_str()) {
        let description = format!("must be one of {}", TEXT_TYPES.join(", "));
        found.add(format!("{field}.mime_type"), description);
    }
    if let Some(problem) = keep
        .file_path
        .as_ref()
        .and_then(|path| around.path_problem(place, path))
    {
        found.add(format!("{field}.file_path"), problem);
    }
}
