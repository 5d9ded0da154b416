//! SQL of the connections.

use service_kit::{
    error::{Error, Result, constraint},
    ids::{CompanyId, ConnectionId, UserId},
    keys::KeyRing,
    page::Page,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{Changes, Connection, Filter, Health, Kind, New, Open, Options, Secret, Settings};

struct Row {
    id: ConnectionId,
    company_id: CompanyId,
    name: String,
    kind: String,
    base_url: String,
    options: Json<Options>,
    secret_hint: String,
    enabled: bool,
    revision: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    state: Option<String>,
    last_ok_at: Option<OffsetDateTime>,
    last_error_at: Option<OffsetDateTime>,
    error_class: Option<String>,
    error_reason: Option<String>,
    error_message: Option<String>,
}

impl From<Row> for Connection {
    fn from(row: Row) -> Self {
        let health = row.state.map(|state| Health {
            is_ok: state == "ok",
            last_ok_at: row.last_ok_at,
            last_error_at: row.last_error_at,
            error_class: row.error_class.unwrap_or_default(),
            error_reason: row.error_reason.unwrap_or_default(),
            error_message: row.error_message.unwrap_or_default(),
        });
        Self {
            id: row.id,
            company: row.company_id,
            kind: kind(&row.kind),
            settings: Settings {
                name: row.name,
                base_url: row.base_url,
                options: row.options.0,
                enabled: row.enabled,
            },
            secret_hint: row.secret_hint,
            health,
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

fn kind(text: &str) -> Kind {
    Kind::read(text).expect("the table holds these kinds alone")
}

/// Whose a connection is, before the caller's place there is known.
pub(super) async fn locate(connection: &mut PgConnection, id: ConnectionId) -> sqlx::Result<Option<CompanyId>> {
    let company = sqlx::query_scalar!(
        r#"select company_id as "company_id: CompanyId" from execution.locate_connection($1)"#,
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(company.flatten())
}

pub(super) async fn insert(
    tx: &mut PgConnection,
    id: ConnectionId,
    by: UserId,
    new: &New,
    sealed: Option<&[u8]>,
) -> Result<()> {
    sqlx::query!(
        "insert into execution.connections (id, company_id, name, kind, base_url, options, secret, secret_hint, enabled,
             created_by)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        id.as_uuid(),
        new.company.as_uuid(),
        new.settings.name,
        new.kind.as_str(),
        new.settings.base_url,
        Json(&new.settings.options) as _,
        sealed,
        new.secret.as_ref().map_or_else(String::new, Secret::hint),
        new.settings.enabled,
        by.as_uuid(),
    )
    .execute(tx)
    .await
    .map_err(taken)?;
    Ok(())
}

pub(super) async fn get(tx: &mut PgConnection, id: ConnectionId) -> Result<Option<Connection>> {
    let row = sqlx::query_as!(
        Row,
        r#"select c.id as "id: ConnectionId", c.company_id as "company_id: CompanyId", c.name, c.kind, c.base_url,
               c.options as "options: Json<Options>", c.secret_hint, c.enabled, c.revision, c.created_at, c.updated_at,
               h.state as "state?", h.last_ok_at as "last_ok_at?", h.last_error_at as "last_error_at?",
               h.error_class as "error_class?", h.error_reason as "error_reason?", h.error_message as "error_message?"
           from execution.connections c
           left join execution.connection_health h on h.company_id = c.company_id and h.connection_id = c.id
           where c.id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Connection::from))
}

pub(super) async fn list(tx: &mut PgConnection, filter: &Filter, page: &Page<String>) -> Result<Vec<Connection>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select c.id as "id: ConnectionId", c.company_id as "company_id: CompanyId", c.name, c.kind, c.base_url,
               c.options as "options: Json<Options>", c.secret_hint, c.enabled, c.revision, c.created_at, c.updated_at,
               h.state as "state?", h.last_ok_at as "last_ok_at?", h.last_error_at as "last_error_at?",
               h.error_class as "error_class?", h.error_reason as "error_reason?", h.error_message as "error_message?"
           from execution.connections c
           left join execution.connection_health h on h.company_id = c.company_id and h.connection_id = c.id
           where c.company_id = $1 and ($2::text is null or c.kind = $2) and ($3::text is null or c.name > $3)
           order by c.name limit $4"#,
        filter.company.as_uuid(),
        filter.kind.map(Kind::as_str),
        page.after.as_deref(),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Connection::from).collect())
}

/// Keeps a connection that the caller may change as it is until the transaction ends.
pub(super) async fn lock(tx: &mut PgConnection, id: ConnectionId) -> Result<()> {
    sqlx::query!(
        "select from execution.connections where id = $1 for update",
        id.as_uuid()
    )
    .fetch_optional(tx)
    .await?;
    Ok(())
}

pub(super) async fn has_secret(tx: &mut PgConnection, id: ConnectionId) -> Result<bool> {
    let has = sqlx::query_scalar!(
        r#"select secret is not null as "has!" from execution.connections where id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(has.unwrap_or_default())
}

/// `sealed` is the new secret with its hint, if it changes.
pub(super) async fn update(
    tx: &mut PgConnection,
    id: ConnectionId,
    changes: &Changes,
    sealed: Option<(Option<Vec<u8>>, String)>,
) -> Result<()> {
    let changes_secret = sealed.is_some();
    let (secret, hint) = sealed.unwrap_or_default();
    sqlx::query!(
        "update execution.connections set
             name = coalesce($2, name),
             base_url = coalesce($3, base_url),
             options = coalesce($4, options),
             enabled = coalesce($5, enabled),
             secret = case when $6 then $7 else secret end,
             secret_hint = case when $6 then $8 else secret_hint end
         where id = $1",
        id.as_uuid(),
        changes.name,
        changes.base_url,
        changes.options.as_ref().map(Json) as _,
        changes.enabled,
        changes_secret,
        secret,
        hint,
    )
    .execute(tx)
    .await
    .map_err(taken)?;
    Ok(())
}

pub(super) async fn delete(tx: &mut PgConnection, id: ConnectionId) -> Result<()> {
    sqlx::query!("delete from execution.connections where id = $1", id.as_uuid())
        .execute(tx)
        .await?;
    Ok(())
}

/// A connection as it lies in the database.
pub(crate) struct Sealed {
    open: Open,
    secret: Option<Vec<u8>>,
}

impl Sealed {
    /// The connection with its secret opened.
    ///
    /// # Errors
    /// `Internal` where the key ring does not open it: that is the operator's mistake, never the caller's.
    pub(crate) fn open(self, keys: &KeyRing) -> Result<Open> {
        let mut open = self.open;
        let secret = self
            .secret
            .map(|sealed| Secret::open(keys, open.company, open.id, &sealed));
        open.secret = secret.transpose().map_err(Error::internal)?;
        Ok(open)
    }
}

/// A company's connection, sealed.
pub(crate) async fn sealed(
    connection: &mut PgConnection,
    company: CompanyId,
    id: ConnectionId,
) -> sqlx::Result<Option<Sealed>> {
    let row = sqlx::query!(
        r#"select id as "id: ConnectionId", name, kind, base_url, options as "options: Json<Options>", secret, enabled,
               revision
           from execution.connections where company_id = $1 and id = $2"#,
        company.as_uuid(),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Sealed {
        open: Open {
            id: row.id,
            company,
            name: row.name,
            kind: kind(&row.kind),
            base_url: row.base_url,
            options: row.options.0,
            secret: None,
            enabled: row.enabled,
            revision: row.revision,
        },
        secret: row.secret,
    }))
}

fn taken(error: sqlx::Error) -> Error {
    match constraint(&error) {
        Some("connections_name_per_company") => Error::AlreadyExists {
            reason: "CONNECTION_NAME_TAKEN",
            message: "the company has a connection with this name".into(),
        },
        _ => error.into(),
    }
}
