//! SQL that reads an execution's journal and what its prompts are rendered from.

use serde_json::{Map, Value};
use service_kit::{
    error::{Error, Result},
    ids::{ExecutionId, UserId, WorkflowId},
    page::Page,
};
use sqlx::{PgConnection, types::Json};

use super::attempts::AttemptFilter;
use crate::engine::{
    definition::Definition,
    journal::{Entry, Hash},
};

/// What an execution does and with what; no definition where its version is gone with the workflow.
pub(super) struct Pinned {
    pub definition: Option<Definition>,
    pub inputs: Map<String, Value>,
    pub started_by: UserId,
    pub workflow: WorkflowId,
    pub version_number: i32,
}

pub(super) async fn pinned(tx: &mut PgConnection, id: ExecutionId) -> Result<Option<Pinned>> {
    let row = sqlx::query!(
        r#"select e.inputs as "inputs!: Json<Map<String, Value>>", v.definition as "definition?: Json<Definition>",
               e.started_by as "started_by!: UserId", e.workflow_id as "workflow!: WorkflowId",
               e.workflow_version as "version_number!"
           from execution.executions e left join execution.workflow_versions v on v.id = e.version_id
           where e.id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| Pinned {
        definition: row.definition.map(|it| it.0),
        inputs: row.inputs.0,
        started_by: row.started_by,
        workflow: row.workflow,
        version_number: row.version_number,
    }))
}

/// The hash of the entry at a place.
pub(super) async fn hash(tx: &mut PgConnection, id: ExecutionId, seq: i64) -> Result<Option<Hash>> {
    let hash = sqlx::query_scalar!(
        "select hash from execution.journal where execution_id = $1 and seq = $2",
        id.as_uuid(),
        seq,
    )
    .fetch_optional(tx)
    .await?;
    hash.map(|it| {
        it.try_into()
            .map_err(|_| Error::internal("a journal's hash has another length"))
    })
    .transpose()
}

/// The entries after one place up to another.
pub(super) async fn entries(tx: &mut PgConnection, id: ExecutionId, after: i64, last: i64) -> Result<Vec<Entry>> {
    let payloads = sqlx::query_scalar!(
        "select payload from execution.journal where execution_id = $1 and seq > $2 and seq <= $3 order by seq",
        id.as_uuid(),
        after,
        last,
    )
    .fetch_all(tx)
    .await?;
    opened(&payloads)
}

/// The places of attempts, in order.
pub(super) async fn attempt_seqs(tx: &mut PgConnection, filter: &AttemptFilter, page: &Page<i64>) -> Result<Vec<i64>> {
    let seqs = sqlx::query_scalar!(
        "select seq from execution.journal
         where execution_id = $1 and kind = 'attempt' and seq > $2 and ($3::text is null or stage = $3)
         order by seq
         limit $4",
        filter.execution.as_uuid(),
        page.after.unwrap_or(0),
        filter.stage,
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(seqs)
}

/// Attempts of these stages that did not fail, after a place.
pub(super) async fn outputs_of(
    tx: &mut PgConnection,
    id: ExecutionId,
    stages: &[String],
    after: i64,
    limit: i64,
) -> Result<Vec<Entry>> {
    let payloads = sqlx::query_scalar!(
        "select payload from execution.journal
         where execution_id = $1 and kind = 'attempt' and outcome <> 'failed' and stage = any ($2) and seq > $3
         order by seq
         limit $4",
        id.as_uuid(),
        stages,
        after,
        limit,
    )
    .fetch_all(tx)
    .await?;
    opened(&payloads)
}

/// The entries after a place that settle what waited for people.
pub(super) async fn settling(tx: &mut PgConnection, id: ExecutionId, after: i64) -> Result<Vec<Entry>> {
    let payloads = sqlx::query_scalar!(
        "select payload from execution.journal
         where execution_id = $1 and seq > $2 and kind in ('decision', 'expired')
         order by seq",
        id.as_uuid(),
        after,
    )
    .fetch_all(tx)
    .await?;
    opened(&payloads)
}

fn opened(payloads: &[Vec<u8>]) -> Result<Vec<Entry>> {
    payloads
        .iter()
        .map(|it| Entry::open(it).map_err(Error::internal))
        .collect()
}
