//! SQL of the templates' versions.

use serde_json::{Map, Value};
use service_kit::{
    error::{Error, Result},
    ids::{CompanyId, TemplateId, TemplateVersionId, UserId},
    page::Page,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{Semver, Version, VersionSummary};
use crate::engine::definition::Definition;

struct SummaryRow {
    id: TemplateVersionId,
    template_id: TemplateId,
    place: Vec<i32>,
    notes: String,
    published_by: Option<UserId>,
    created_at: OffsetDateTime,
}

impl TryFrom<SummaryRow> for VersionSummary {
    type Error = Error;

    fn try_from(row: SummaryRow) -> Result<Self> {
        Ok(Self {
            id: row.id,
            template: row.template_id,
            version: Semver::of(&row.place).ok_or_else(|| Error::internal("a version has three numbers"))?,
            notes: row.notes,
            published_by: row.published_by,
            created_at: row.created_at,
        })
    }
}

struct Row {
    id: TemplateVersionId,
    template_id: TemplateId,
    place: Vec<i32>,
    notes: String,
    definition: Json<Definition>,
    sample_input: Json<Map<String, Value>>,
    published_by: Option<UserId>,
    created_at: OffsetDateTime,
}

impl TryFrom<Row> for Version {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let summary = SummaryRow {
            id: row.id,
            template_id: row.template_id,
            place: row.place,
            notes: row.notes,
            published_by: row.published_by,
            created_at: row.created_at,
        };
        Ok(Self {
            summary: summary.try_into()?,
            definition: row.definition.0,
            sample: row.sample_input.0,
        })
    }
}

/// A version of a company's template that is to be made.
pub(super) struct New<'a> {
    pub(super) id: TemplateVersionId,
    pub(super) company: CompanyId,
    pub(super) template: TemplateId,
    pub(super) version: Semver,
    pub(super) notes: &'a str,
    pub(super) definition: &'a Definition,
    pub(super) sample: &'a Map<String, Value>,
    pub(super) published_by: UserId,
}

pub(super) async fn insert(tx: &mut PgConnection, new: &New<'_>) -> Result<Version> {
    let row = sqlx::query_as!(
        Row,
        r#"insert into execution.template_versions
               (id, company_id, template_id, version, place, notes, definition, sample_input, published_by)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
           returning id as "id: TemplateVersionId", template_id as "template_id: TemplateId", place, notes,
               definition as "definition: Json<Definition>", sample_input as "sample_input: Json<Map<String, Value>>",
               published_by as "published_by: UserId", created_at"#,
        new.id.as_uuid(),
        new.company.as_uuid(),
        new.template.as_uuid(),
        new.version.to_string(),
        &new.version.place()[..],
        new.notes,
        Json(new.definition) as _,
        Json(new.sample) as _,
        new.published_by.as_uuid(),
    )
    .fetch_one(tx)
    .await?;
    row.try_into()
}

pub(super) async fn get(tx: &mut PgConnection, id: TemplateVersionId) -> Result<Option<Version>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: TemplateVersionId", template_id as "template_id: TemplateId", place, notes,
               definition as "definition: Json<Definition>", sample_input as "sample_input: Json<Map<String, Value>>",
               published_by as "published_by: UserId", created_at
           from execution.template_versions where id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    row.map(Version::try_from).transpose()
}

pub(super) async fn find(tx: &mut PgConnection, template: TemplateId, version: Semver) -> Result<Option<Version>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: TemplateVersionId", template_id as "template_id: TemplateId", place, notes,
               definition as "definition: Json<Definition>", sample_input as "sample_input: Json<Map<String, Value>>",
               published_by as "published_by: UserId", created_at
           from execution.template_versions where template_id = $1 and place = $2"#,
        template.as_uuid(),
        &version.place()[..],
    )
    .fetch_optional(tx)
    .await?;
    row.map(Version::try_from).transpose()
}

pub(super) async fn list(
    tx: &mut PgConnection,
    template: TemplateId,
    page: &Page<Semver>,
) -> Result<Vec<VersionSummary>> {
    let rows = sqlx::query_as!(
        SummaryRow,
        r#"select id as "id: TemplateVersionId", template_id as "template_id: TemplateId", place, notes,
               published_by as "published_by: UserId", created_at
           from execution.template_versions
           where template_id = $1 and ($2::int[] is null or place < $2)
           order by place desc
           limit $3"#,
        template.as_uuid(),
        page.after.as_ref().map(|it| it.place().to_vec()) as _,
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(VersionSummary::try_from).collect()
}
