//! The worker's SQL. Every function is one statement or part of its caller's transaction, and returns the driver's error:
//! the writer has to tell a refused statement from a lost connection.

use std::sync::Arc;

use serde_json::{Map, Value};
use service_kit::ids::{CompanyId, ConnectionId, ExecutionId, StudioId, UserId, VersionId};
use sqlx::{PgConnection, Result, types::Json};

use crate::engine::definition::Definition;

mod arrays;
pub(super) mod asks;
pub(super) mod children;
pub(super) mod claims;
pub(super) mod flows;
pub(super) mod health;
pub(super) mod hints;
pub(super) mod leases;
mod lone;
pub(super) mod quotas;
pub(super) mod upkeep;
pub(super) mod writes;

pub(super) use arrays::spent_by;

/// What a run is continued from, beside its journal.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub execution: ExecutionId,
    pub company: CompanyId,
    pub studio: StudioId,
    pub started_by: UserId,
    pub version: VersionId,
    pub inputs: Arc<Map<String, Value>>,
    /// The run that it is a stage of.
    pub parent: Option<ExecutionId>,
    /// Whether its first stage has begun.
    pub begun: bool,
    /// Whether its row says that it waits for people.
    pub paused: bool,
    /// The W3C traceparent of the request that started it; may be empty.
    pub trace_context: String,
}

pub(super) async fn facts(connection: &mut PgConnection, execution: ExecutionId) -> Result<Option<Facts>> {
    let row = sqlx::query!(
        r#"select company_id as "company: CompanyId", studio_id as "studio: StudioId",
                  started_by as "started_by: UserId", version_id as "version: VersionId",
                  inputs as "inputs: Json<Map<String, Value>>", trace_context, parent_id as "parent: ExecutionId",
                  started_at is not null as "begun!", status = 'paused' as "paused!"
           from execution.executions where id = $1"#,
        execution.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Facts {
        execution,
        company: row.company,
        studio: row.studio,
        started_by: row.started_by,
        version: row.version,
        inputs: Arc::new(row.inputs.0),
        parent: row.parent,
        begun: row.begun,
        paused: row.paused,
        trace_context: row.trace_context,
    }))
}

pub(super) async fn definition(connection: &mut PgConnection, version: VersionId) -> Result<Option<Definition>> {
    let found = sqlx::query_scalar!(
        r#"select definition as "definition: Json<Definition>" from execution.workflow_versions where id = $1"#,
        version.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.map(|definition| definition.0))
}

/// The bytes of a run's journal, in order.
pub(super) async fn journal(connection: &mut PgConnection, execution: ExecutionId) -> Result<Vec<Vec<u8>>> {
    sqlx::query_scalar!(
        "select payload from execution.journal where execution_id = $1 order by seq",
        execution.as_uuid()
    )
    .fetch_all(connection)
    .await
}

/// A model as stages call it.
#[derive(Debug)]
pub(super) struct Model {
    pub provider: String,
    /// The connection that it is served through, where it is a company's own.
    pub connection: Option<ConnectionId>,
    /// As the provider names it.
    pub upstream_name: String,
    pub defaults: Map<String, Value>,
    /// Tokens that prompt and answer may have together; unknown of a flow.
    pub context_length: Option<u32>,
    /// Millionths of a US dollar for a million tokens.
    pub input_price_micros: i64,
    /// Millionths of a US dollar for a million tokens.
    pub output_price_micros: i64,
    pub enabled: bool,
}

impl Model {
    /// What tells its vectors from those of other models.
    pub(super) fn space(&self) -> String {
        format!("{}/{}", self.provider, self.upstream_name)
    }
}

struct ModelRow {
    provider: String,
    connection: Option<ConnectionId>,
    provider_model: String,
    defaults: Json<Map<String, Value>>,
    context_length: i32,
    input_price_micros: i64,
    output_price_micros: i64,
    enabled: bool,
}

impl From<ModelRow> for Model {
    fn from(row: ModelRow) -> Self {
        Self {
            provider: row.provider,
            connection: row.connection,
            upstream_name: row.provider_model,
            defaults: row.defaults.0,
            context_length: row.context_length.try_into().ok(),
            input_price_micros: row.input_price_micros,
            output_price_micros: row.output_price_micros,
            enabled: row.enabled,
        }
    }
}

/// The model of this name, the company's own before the platform's.
pub(super) async fn model(connection: &mut PgConnection, company: CompanyId, name: &str) -> Result<Option<Model>> {
    let row = sqlx::query_as!(
        ModelRow,
        r#"select provider, connection_id as "connection: ConnectionId", provider_model,
                  default_config as "defaults: Json<Map<String, Value>>",
                  context_length, input_price_micros, output_price_micros, enabled
           from execution.models where name = $2 and (company_id = $1 or company_id is null)
           order by company_id nulls last limit 1"#,
        company.as_uuid(),
        name,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Model::from))
}

/// The model that makes the vectors of a company's documents.
pub(super) async fn embedding_model(connection: &mut PgConnection, company: CompanyId) -> Result<Option<Model>> {
    let row = sqlx::query_as!(
        ModelRow,
        r#"select provider, connection_id as "connection: ConnectionId", provider_model,
                  default_config as "defaults: Json<Map<String, Value>>",
                  context_length, input_price_micros, output_price_micros, enabled
           from execution.models where company_id = $1 and embeds_documents and enabled"#,
        company.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Model::from))
}

/// At most so many companies after one that have a model which makes vectors, in order.
pub(super) async fn embedding_companies(
    connection: &mut PgConnection,
    after: Option<CompanyId>,
    most: i64,
) -> Result<Vec<CompanyId>> {
    sqlx::query_scalar!(
        r#"select company_id as "company!: CompanyId" from execution.models
           where embeds_documents and enabled and ($1::uuid is null or company_id > $1)
           order by company_id limit $2"#,
        after.map(CompanyId::as_uuid),
        most,
    )
    .fetch_all(connection)
    .await
}

/// What somebody asks of a run.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub seq: i64,
    pub kind: String,
    pub payload: Value,
    pub issued_by: UserId,
}

/// A run's commands after a place, in order.
pub(super) async fn commands(
    connection: &mut PgConnection,
    execution: ExecutionId,
    after: i64,
) -> Result<Vec<Command>> {
    sqlx::query_as!(
        Command,
        r#"select seq, kind, payload, issued_by as "issued_by: UserId" from execution.execution_commands
           where execution_id = $1 and seq > $2 order by seq"#,
        execution.as_uuid(),
        after,
    )
    .fetch_all(connection)
    .await
}

/// The most commands of a run that come at once.
pub(super) const MOST_COMMANDS: usize = 32;

/// The commands that are not done of an instance's runs, each run's in order; of each at most [`MOST_COMMANDS`].
pub(super) async fn commands_of(connection: &mut PgConnection, instance: i32) -> Result<Vec<(ExecutionId, Command)>> {
    const MOST_RUNS: i64 = 4_096;
    let rows = sqlx::query!(
        r#"select c.execution_id as "execution: ExecutionId", c.seq, c.kind, c.payload, c.issued_by as "issued_by: UserId"
           from (select execution_id, commands_done from execution.runs
                 where owner = $1 and commands_seq > commands_done order by run_at limit $2) r
           cross join lateral (
               select * from execution.execution_commands c
               where c.execution_id = r.execution_id and c.seq > r.commands_done order by c.seq limit $3) c
           order by c.execution_id, c.seq"#,
        instance,
        MOST_RUNS,
        i64::try_from(MOST_COMMANDS).unwrap_or(i64::MAX),
    )
    .fetch_all(connection)
    .await?;
    let commands = rows.into_iter().map(|row| {
        let command = Command {
            seq: row.seq,
            kind: row.kind,
            payload: row.payload,
            issued_by: row.issued_by,
        };
        (row.execution, command)
    });
    Ok(commands.collect())
}
