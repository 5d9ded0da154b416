//! The rules of connections that stages name.

use std::collections::BTreeMap;

use service_kit::{error::Violations, ids::ConnectionId};

use crate::{
    connections::Kind as Speaks,
    engine::definition::{Definition, Kind},
};

/// A connection that the company has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownConnection {
    /// What its server speaks.
    pub kind: Speaks,
    /// Whether stages may use it.
    pub enabled: bool,
}

/// The connections that the stages of a definition name.
pub fn connected(draft: &Definition) -> Vec<ConnectionId> {
    named(draft).filter_map(|(_, id, _)| id.parse().ok()).collect()
}

/// Notes which of those cannot be used; `known` are those that the company has.
pub fn unconnected(found: &mut Violations, draft: &Definition, known: &BTreeMap<ConnectionId, KnownConnection>) {
    for (field, id, wanted) in named(draft) {
        // What is no id is a problem of its own.
        let Ok(id) = id.parse::<ConnectionId>() else { continue };
        match known.get(&id) {
            None => found.add(field, "names no connection of the company"),
            Some(it) if it.kind != wanted => {
                let problem = format!(
                    "is a connection of the kind {}, not {}",
                    it.kind.as_str(),
                    wanted.as_str()
                );
                found.add(field, problem);
            }
            Some(it) if !it.enabled => found.add(field, "is a connection that is disabled"),
            Some(_) => {}
        }
    }
}

/// Notes that a field names no connection at all.
pub(super) fn id(found: &mut Violations, field: &str, id: &str) {
    if id.parse::<ConnectionId>().is_err() {
        found.add(format!("{field}.connection_id"), "must be the id of a connection");
    }
}

/// The fields that name connections, with what the server must speak.
fn named(draft: &Definition) -> impl Iterator<Item = (String, &str, Speaks)> {
    draft.stages.iter().enumerate().filter_map(|(place, stage)| {
        let (kind, id, wanted) = match &stage.kind {
            Kind::Http(it) => ("http", it.connection_id.as_deref()?, Speaks::Http),
            Kind::Activepieces(it) => ("activepieces", it.connection_id.as_str(), Speaks::ActivePieces),
            Kind::Flowise { connection_id, .. } => ("flowise", connection_id.as_str(), Speaks::Flowise),
            _ => return None,
        };
        Some((format!("draft.stages[{place}].{kind}.connection_id"), id, wanted))
    })
}
