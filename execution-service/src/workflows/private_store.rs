//! SQL of private workflows, which belong to another thing and are run by it alone.

use service_kit::{
    error::Result,
    ids::{CompanyId, StudioId, UserId, VersionId, WorkflowId},
};
use sqlx::{PgConnection, types::Json};

use crate::engine::definition::Definition;

pub(super) async fn insert(
    tx: &mut PgConnection,
    id: WorkflowId,
    company: CompanyId,
    studio: StudioId,
    owner: UserId,
) -> Result<()> {
    sqlx::query!(
        r#"insert into execution.workflows (id, company_id, studio_id, owner_id, name, draft, private)
           values ($1, $2, $3, $4, 'private ' || $1::uuid, '{"stages": []}', true)"#,
        id.as_uuid(),
        company.as_uuid(),
        studio.as_uuid(),
        owner.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn version(tx: &mut PgConnection, id: WorkflowId, definition: &Definition, by: UserId) -> Result<i32> {
    let known = sqlx::query_scalar!(
        "select number from execution.workflow_versions
         where company_id = (select execution.caller_company()) and workflow_id = $1 and definition = $2",
        id.as_uuid(),
        Json(definition) as _,
    )
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(known) = known {
        return Ok(known);
    }
    let number = sqlx::query_scalar!(
        "insert into execution.workflow_versions
             (id, company_id, studio_id, workflow_id, number, name, definition, published_by)
         select $2, w.company_id, w.studio_id, w.id, w.published_version + 1, w.name, $3, $4
         from execution.workflows w where w.id = $1 and w.private
         returning number",
        id.as_uuid(),
        VersionId::generate().as_uuid(),
        Json(definition) as _,
        by.as_uuid(),
    )
    .fetch_one(&mut *tx)
    .await?;
    sqlx::query!(
        "update execution.workflows set published_version = $2, has_unpublished_changes = false where id = $1 and private",
        id.as_uuid(),
        number,
    )
    .execute(tx)
    .await?;
    Ok(number)
}

/// Nobody brings it back: it need not be kept for the time that others are.
pub(super) async fn give_up(tx: &mut PgConnection, id: WorkflowId) -> Result<()> {
    sqlx::query!(
        "update execution.workflows set deleted_at = now() - interval '1 year' where id = $1 and private",
        id.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}
