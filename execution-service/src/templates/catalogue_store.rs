//! SQL of seeding the platform's templates, as the owner of the schema.

use serde_json::{Map, Value};
use service_kit::{
    error::{Error, Result},
    ids::{TemplateId, TemplateVersionId},
};
use sqlx::{Connection, PgConnection, Postgres, Transaction, types::Json};

use super::{About, Semver, catalogue::Entry};
use crate::engine::definition::Definition;

/// A template of the platform with its newest version.
pub(super) struct Found {
    pub(super) id: TemplateId,
    pub(super) newest: Semver,
    pub(super) definition: Definition,
    pub(super) sample: Map<String, Value>,
}

/// One seeds at a time.
pub(super) async fn begin(connection: &mut PgConnection) -> Result<Transaction<'_, Postgres>> {
    let mut tx = connection.begin().await?;
    sqlx::query!("set local role studios_owner").execute(&mut *tx).await?;
    sqlx::query!("select pg_advisory_xact_lock(hashtext('execution.templates.seed'))")
        .execute(&mut *tx)
        .await?;
    Ok(tx)
}

pub(super) async fn find(tx: &mut PgConnection, key: &str) -> Result<Option<Found>> {
    let row = sqlx::query!(
        r#"select t.id as "id: TemplateId", t.newest_version, v.definition as "definition: Json<Definition>",
               v.sample_input as "sample_input: Json<Map<String, Value>>"
           from execution.templates t
               join execution.template_versions v on v.template_id = t.id and v.version = t.newest_version
           where t.key = $1
           for update of t"#,
        key,
    )
    .fetch_optional(tx)
    .await?;
    row.map(|row| {
        Ok(Found {
            id: row.id,
            newest: Semver::parse(&row.newest_version).ok_or_else(|| Error::internal("a version is a semver"))?,
            definition: row.definition.0,
            sample: row.sample_input.0,
        })
    })
    .transpose()
}

pub(super) async fn insert(tx: &mut PgConnection, id: TemplateId, entry: &Entry) -> Result<()> {
    let about = &entry.about;
    sqlx::query!(
        "insert into execution.templates
             (id, key, name, description, area, complexity, estimated_minutes, tags, newest_version)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        id.as_uuid(),
        entry.key,
        about.name,
        about.description,
        about.area.as_str(),
        about.complexity.as_str(),
        about.estimated_minutes,
        &about.tags,
        entry.version.to_string(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn insert_version(
    tx: &mut PgConnection,
    template: TemplateId,
    id: TemplateVersionId,
    entry: &Entry,
    version: Semver,
) -> Result<()> {
    sqlx::query!(
        "insert into execution.template_versions (id, template_id, version, place, notes, definition, sample_input)
         values ($1, $2, $3, $4, $5, $6, $7)",
        id.as_uuid(),
        template.as_uuid(),
        version.to_string(),
        &version.place()[..],
        entry.notes,
        Json(&entry.definition) as _,
        Json(&entry.sample) as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Brings up to date what a template says about itself; what it says already makes no new revision.
pub(super) async fn update(tx: &mut PgConnection, id: TemplateId, about: &About, newest: Semver) -> Result<()> {
    sqlx::query!(
        "update execution.templates set name = $2, description = $3, area = $4, complexity = $5, estimated_minutes = $6,
             tags = $7, newest_version = $8, active = true
         where id = $1 and (name, description, area, complexity, estimated_minutes, tags, newest_version, active)
             is distinct from ($2, $3, $4, $5, $6, $7, $8, true)",
        id.as_uuid(),
        about.name,
        about.description,
        about.area.as_str(),
        about.complexity.as_str(),
        about.estimated_minutes,
        &about.tags,
        newest.to_string(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Deactivates the platform's templates with other keys; says how many.
pub(super) async fn deactivate_others(tx: &mut PgConnection, keys: &[String]) -> Result<usize> {
    let done = sqlx::query!(
        "update execution.templates set active = false where key is not null and active and key <> all($1)",
        keys,
    )
    .execute(tx)
    .await?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
}
