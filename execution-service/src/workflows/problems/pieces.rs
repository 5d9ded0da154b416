//! The rules of flows of ActivePieces. Whether a flow is there and enabled is found out at import and when it is started.

use service_kit::error::Violations;

use crate::{
    engine::definition::{Flow, Stage},
    pieces,
};

/// Notes the problems of a flow.
pub(super) fn check(found: &mut Violations, field: &str, stage: &Stage, flow: &Flow) {
    if !pieces::is_id(&flow.flow_id) {
        found.add(format!("{field}.flow_id"), "must be 21 letters and digits");
    }
    if stage.input_mapping.contains_key(pieces::STUDIOS) {
        found.add(
            field
                .rsplit_once('.')
                .map_or_else(String::new, |(stage, _)| format!("{stage}.input_mapping.studios")),
            "flows are sent something else under this name",
        );
    }
}
