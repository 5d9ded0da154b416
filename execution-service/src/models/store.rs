//! SQL of the models.

use serde_json::{Map, Value};
use service_kit::{
    error::{Error, Result, constraint},
    ids::{CompanyId, ConnectionId, ModelId},
    page::Page,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{Changes, Cursor, Filter, Model, Settings};
use crate::connections::Kind;

struct Row {
    id: ModelId,
    company_id: Option<CompanyId>,
    name: String,
    provider: String,
    connection_id: Option<ConnectionId>,
    provider_model: String,
    context_length: i32,
    default_config: Json<Map<String, Value>>,
    input_price_micros: i64,
    output_price_micros: i64,
    enabled: bool,
    embeds_documents: bool,
    revision: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<Row> for Model {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            company: row.company_id,
            settings: Settings {
                name: row.name,
                provider: row.provider,
                connection: row.connection_id,
                provider_model: row.provider_model,
                context_length: row.context_length,
                default_config: row.default_config.0,
                input_price_micros: row.input_price_micros,
                output_price_micros: row.output_price_micros,
                enabled: row.enabled,
                embeds_documents: row.embeds_documents,
            },
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// The owner of a model, before the caller's place there is known; the inner `None` is the platform.
pub(super) async fn locate(connection: &mut PgConnection, id: ModelId) -> sqlx::Result<Option<Option<CompanyId>>> {
    let owner = sqlx::query_scalar!(
        r#"select company_id as "company_id: CompanyId" from execution.locate_model($1)"#,
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(owner)
}

pub(super) async fn insert(
    tx: &mut PgConnection,
    id: ModelId,
    company: CompanyId,
    settings: &Settings,
) -> Result<Model> {
    let row = sqlx::query_as!(
        Row,
        r#"insert into execution.models (id, company_id, name, provider, provider_model, context_length, default_config,
               input_price_micros, output_price_micros, enabled, connection_id, embeds_documents)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
           returning id as "id: ModelId", company_id as "company_id: CompanyId", name, provider,
               connection_id as "connection_id: ConnectionId", provider_model, context_length, default_config as "default_config: Json<Map<String, Value>>", input_price_micros,
               output_price_micros, enabled, embeds_documents, revision, created_at, updated_at"#,
        id.as_uuid(),
        company.as_uuid(),
        settings.name,
        settings.provider,
        settings.provider_model,
        settings.context_length,
        Json(&settings.default_config) as _,
        settings.input_price_micros,
        settings.output_price_micros,
        settings.enabled,
        settings.connection.map(service_kit::ids::ConnectionId::as_uuid),
        settings.embeds_documents,
    )
    .fetch_one(tx)
    .await
    .map_err(taken)?;
    Ok(row.into())
}

pub(super) async fn get(tx: &mut PgConnection, id: ModelId) -> Result<Option<Model>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: ModelId", company_id as "company_id: CompanyId", name, provider,
               connection_id as "connection_id: ConnectionId", provider_model, context_length, default_config as "default_config: Json<Map<String, Value>>", input_price_micros,
               output_price_micros, enabled, embeds_documents, revision, created_at, updated_at
           from execution.models where id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Model::from))
}

pub(super) async fn list(tx: &mut PgConnection, filter: &Filter, page: &Page<Cursor>) -> Result<Vec<Model>> {
    let after = page.after.as_ref();
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id: ModelId", company_id as "company_id: CompanyId", name, provider,
               connection_id as "connection_id: ConnectionId", provider_model, context_length, default_config as "default_config: Json<Map<String, Value>>", input_price_micros,
               output_price_micros, enabled, embeds_documents, revision, created_at, updated_at
           from execution.models
           where (company_id is null or company_id = $1) and ($2::text is null or provider = $2)
               and ($3::bool is null or (company_id is not null, name) > ($3, $4))
           order by company_id is not null, name
           limit $5"#,
        filter.company.as_uuid(),
        filter.provider,
        after.map(|it| it.own),
        after.map(|it| it.name.as_str()),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Model::from).collect())
}

/// The revision of a model that the caller may change; it stays so until the transaction ends.
pub(super) async fn lock(tx: &mut PgConnection, id: ModelId) -> Result<Option<i64>> {
    let revision = sqlx::query_scalar!(
        "select revision from execution.models where id = $1 for update",
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(revision)
}

pub(super) async fn update(tx: &mut PgConnection, id: ModelId, changes: &Changes) -> Result<Option<Model>> {
    let row = sqlx::query_as!(
        Row,
        r#"update execution.models set
               name = coalesce($2, name),
               provider_model = coalesce($3, provider_model),
               context_length = coalesce($4, context_length),
               default_config = coalesce($5, default_config),
               input_price_micros = coalesce($6, input_price_micros),
               output_price_micros = coalesce($7, output_price_micros),
               enabled = coalesce($8, enabled),
               embeds_documents = coalesce($9, embeds_documents)
           where id = $1
           returning id as "id: ModelId", company_id as "company_id: CompanyId", name, provider,
               connection_id as "connection_id: ConnectionId", provider_model, context_length, default_config as "default_config: Json<Map<String, Value>>", input_price_micros,
               output_price_micros, enabled, embeds_documents, revision, created_at, updated_at"#,
        id.as_uuid(),
        changes.name,
        changes.provider_model,
        changes.context_length,
        changes.default_config.as_ref().map(Json) as _,
        changes.input_price_micros,
        changes.output_price_micros,
        changes.enabled,
        changes.embeds_documents,
    )
    .fetch_optional(tx)
    .await
    .map_err(taken)?;
    Ok(row.map(Model::from))
}

/// Lets no other model of a company make vectors.
pub(super) async fn relieve_embedding(tx: &mut PgConnection, company: CompanyId, by: ModelId) -> Result<()> {
    sqlx::query!(
        "update execution.models set embeds_documents = false where company_id = $1 and embeds_documents and id <> $2",
        company.as_uuid(),
        by.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn delete(tx: &mut PgConnection, id: ModelId) -> Result<()> {
    sqlx::query!("delete from execution.models where id = $1", id.as_uuid())
        .execute(tx)
        .await?;
    Ok(())
}

/// What the server of a company's connection speaks.
pub(super) async fn connection_kind(tx: &mut PgConnection, id: ConnectionId) -> Result<Option<Kind>> {
    let kind = sqlx::query_scalar!("select kind from execution.connections where id = $1", id.as_uuid())
        .fetch_optional(tx)
        .await?;
    Ok(kind.as_deref().and_then(Kind::read))
}

fn taken(error: sqlx::Error) -> Error {
    match constraint(&error) {
        Some("models_name_per_owner") => Error::AlreadyExists {
            reason: "MODEL_NAME_TAKEN",
            message: "the company has a model with this name".into(),
        },
        // Two who say so at once: one of them is late.
        Some("models_embedding") => Error::Aborted {
            reason: "EMBEDDING_MODEL_CHANGED",
            message: "another model was made the one that embeds documents at the same time".into(),
        },
        Some("models_provider_model_per_owner") => Error::AlreadyExists {
            reason: "PROVIDER_MODEL_TAKEN",
            message: "the company has registered this provider's model".into(),
        },
        _ => error.into(),
    }
}
