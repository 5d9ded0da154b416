//! A person's own entries, opened for the export of what is held about him.

use serde_json::Value;
use sqlx::{PgConnection, types::Uuid};

use super::{
    AuditLog,
    store::{self, Schema},
    subjects::DataKey,
};
use crate::{error::Result, ids::UserId, keys::KeyRing};

/// Opens what is encrypted in one person's entries.
#[derive(Debug)]
pub struct Opener(DataKey);

impl Opener {
    /// A person's, if he has a key; for roles that may read everybody's.
    pub async fn of(tx: &mut PgConnection, schema: Schema, ring: &KeyRing, user: UserId) -> Result<Option<Self>> {
        let found = store::subject(tx, schema, user.as_uuid()).await?;
        let open = |it: store::Subject| DataKey::open(ring, user.as_uuid(), &it.sealed).map(Self);
        found.map(open).transpose()
    }

    /// Puts what an entry's row says in place of what is encrypted in it. What does not open becomes null; other rows stay as they
    /// are.
    pub fn open(&self, row: &mut Value) {
        let Some(sealed) = row.get("personal").and_then(Value::as_str) else {
            return;
        };
        row["personal"] = self.read(row, sealed).unwrap_or_default();
    }

    fn read(&self, row: &Value, sealed: &str) -> Option<Value> {
        let entry: Uuid = row.get("id")?.as_str()?.parse().ok()?;
        self.0.read(entry, &hex::decode(sealed.strip_prefix("\\x")?).ok()?)
    }
}

impl AuditLog {
    /// Opens a person's own entries of this log, if he has any; for roles that may read everybody's key.
    pub async fn opener(&self, tx: &mut PgConnection, user: UserId) -> Result<Option<Opener>> {
        Opener::of(tx, self.schema, &self.keys, user).await
    }
}
