//! SQL of the lists of workflows.

use serde_json::{Map, Value};
use service_kit::{
    error::Result,
    ids::{CompanyId, StudioId, TemplateId, UserId, WorkflowId},
    page::Page,
};
use sqlx::{PgConnection, types::Json};

use super::{
    Summary,
    listing::{Cursor, Filter},
    store::SummaryRow,
};

/// The newest first, as their index has them.
pub(super) async fn newest(tx: &mut PgConnection, filter: &Filter, page: &Page<Cursor>) -> Result<Vec<Summary>> {
    let rows = sqlx::query_as!(
        SummaryRow,
        r#"select id as "id: WorkflowId", company_id as "company_id: CompanyId", studio_id as "studio_id: StudioId",
               owner_id as "owner_id: UserId", name, description, metadata as "metadata: Json<Map<String, Value>>",
               published_version, has_unpublished_changes, created_at, updated_at, deleted_at, revision,
               template_id as "template_id: TemplateId", template_version
           from execution.workflows
           where company_id = (select execution.caller_company()) and studio_id = $1
               and ($2 or deleted_at is null)
               and ($3::text is null or strpos(lower(name), lower($3)) > 0)
               and ($4::text is null or metadata @> jsonb_build_object('tags', jsonb_build_array($4::text)))
               and ($5::uuid is null or owner_id = $5)
               and (not $6 or published_version > 0)
               and ($7::uuid is null or id < $7)
               and ($9 or template_id is null) and not private
           order by id desc
           limit $8"#,
        filter.studio.as_uuid(),
        filter.show_deleted,
        filter.name_contains,
        filter.tag,
        filter.owner.map(UserId::as_uuid),
        filter.only_published,
        page.after.as_ref().map(|it| it.id.as_uuid()),
        page.limit(),
        filter.show_templates,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Summary::from).collect())
}

/// In another order, with the ids where the rest is equal.
pub(super) async fn ordered(tx: &mut PgConnection, filter: &Filter, page: &Page<Cursor>) -> Result<Vec<Summary>> {
    let after = page.after.as_ref();
    let rows = sqlx::query_as!(
        SummaryRow,
        r#"select id as "id: WorkflowId", company_id as "company_id: CompanyId", studio_id as "studio_id: StudioId",
               owner_id as "owner_id: UserId", name, description, metadata as "metadata: Json<Map<String, Value>>",
               published_version, has_unpublished_changes, created_at, updated_at, deleted_at, revision,
               template_id as "template_id: TemplateId", template_version
           from execution.workflows
           where company_id = (select execution.caller_company()) and studio_id = $1
               and ($2 or deleted_at is null)
               and ($3::text is null or strpos(lower(name), lower($3)) > 0)
               and ($4::text is null or metadata @> jsonb_build_object('tags', jsonb_build_array($4::text)))
               and ($5::uuid is null or owner_id = $5)
               and (not $6 or published_version > 0)
               and ($7::uuid is null or case $8::text
                   when 'name' then (name, id) > ($9, $7)
                   when 'name desc' then (name, id) < ($9, $7)
                   when 'update_time' then (updated_at, id) > ($10, $7)
                   when 'update_time desc' then (updated_at, id) < ($10, $7)
                   else id > $7 end)
               and ($12 or template_id is null) and not private
           order by case when $8 = 'name' then name end, case when $8 = 'name desc' then name end desc,
               case when $8 = 'update_time' then updated_at end, case when $8 = 'update_time desc' then updated_at end desc,
               case when $8 in ('name desc', 'update_time desc') then id end desc, id
           limit $11"#,
        filter.studio.as_uuid(),
        filter.show_deleted,
        filter.name_contains,
        filter.tag,
        filter.owner.map(UserId::as_uuid),
        filter.only_published,
        after.map(|it| it.id.as_uuid()),
        filter.order.as_str(),
        after.map(|it| it.name.as_str()),
        after.map(|it| it.updated_at),
        page.limit(),
        filter.show_templates,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Summary::from).collect())
}
