//! Flows, and what they are made of.

use serde_json::{Value, json};

use super::PROJECT;

const TIME: &str = "2026-11-20T09:30:40.670Z";

/// A flow.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pub id: String,
    pub name: String,
    pub trigger: Value,
    pub is_enabled: bool,
    pub is_published: bool,
    pub metadata: Value,
}

impl Flow {
    pub(super) fn empty(id: &str, name: &str, metadata: Value) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            trigger: json!({ "name": "trigger", "valid": false, "displayName": "Select Trigger", "type": "EMPTY", "settings": {} }),
            is_enabled: false,
            is_published: false,
            metadata,
        }
    }

    pub(super) fn published(id: &str, name: &str, trigger: Value) -> Self {
        Self {
            trigger,
            is_enabled: true,
            is_published: true,
            ..Self::empty(id, name, Value::Null)
        }
    }

    /// As it is answered.
    pub(super) fn json(&self) -> Value {
        json!({
            "id": self.id, "created": TIME, "updated": TIME, "projectId": PROJECT, "externalId": self.id, "ownerId": self.id,
            "folderId": null, "status": if self.is_enabled { "ENABLED" } else { "DISABLED" },
            "publishedVersionId": self.is_published.then_some("Tn0UjsL3ieBKGPinRDjWI"), "metadata": self.metadata,
            "operationStatus": "NONE", "timeSavedPerRun": null, "templateId": null, "createdBy": null,
            "version": self.version(),
        })
    }

    pub(super) fn version(&self) -> Value {
        json!({
            "id": "Tn0UjsL3ieBKGPinRDjWI", "created": TIME, "updated": TIME, "flowId": self.id, "displayName": self.name,
            "trigger": self.trigger, "updatedBy": null, "valid": self.trigger["valid"], "schemaVersion": "22", "agentIds": [],
            "state": if self.is_published { "LOCKED" } else { "DRAFT" }, "connectionIds": [], "backupFiles": null, "notes": [],
        })
    }

    /// Whether it has a step of this piece and action.
    pub(super) fn has(&self, piece: &str, action: Option<&str>) -> bool {
        self.find(piece, action).is_some()
    }

    /// The first step of this piece and action.
    pub(super) fn find(&self, piece: &str, action: Option<&str>) -> Option<&Value> {
        let mut step = self.trigger.get("nextAction");
        while let Some(it) = step {
            let settings = &it["settings"];
            let is_it = settings["pieceName"] == piece && action.is_none_or(|action| settings["actionName"] == action);
            if is_it {
                return Some(it);
            }
            step = it.get("nextAction");
        }
        None
    }
}

/// A trigger by webhook with these steps behind it, each a piece, an action and an input.
pub fn definition(steps: &[(&str, &str, Value)]) -> Value {
    let mut next = Value::Null;
    for (place, (piece, action, input)) in steps.iter().enumerate().rev() {
        let mut step = json!({
            "name": format!("step_{}", place + 1), "valid": true, "displayName": action, "type": "PIECE", "skip": false,
            "settings": { "pieceName": format!("@activepieces/piece-{piece}"), "pieceVersion": "0.1.0", "actionName": action,
                "input": input },
        });
        if !next.is_null() {
            step["nextAction"] = next;
        }
        next = step;
    }
    let mut trigger = json!({
        "name": "trigger", "valid": true, "displayName": "Catch Webhook", "type": "PIECE_TRIGGER",
        "settings": { "pieceName": "@activepieces/piece-webhook", "pieceVersion": "0.1.36", "triggerName": "catch_webhook",
            "input": { "authType": "none", "authFields": {} } },
    });
    if !next.is_null() {
        trigger["nextAction"] = next;
    }
    trigger
}
