//! What became of an installation's mails, for its operator: kinds and fates, never whom they are to or what they say.

use anyhow::{Context, Result};
use clap::Subcommand;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, FromRow, PgConnection, raw_sql};

use crate::{migrate::OWNER, output::Output};

/// What can be done with mails.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List mails, newest first.
    List {
        /// The administrative URL of the database.
        #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
        database_url: SecretString,
        /// Only those of this status: waiting, sent, failed, or dropped (there was nobody to send it to).
        #[arg(long)]
        status: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: i64,
    },
}

#[derive(Debug, FromRow)]
struct Row {
    id: String,
    kind: String,
    status: String,
    tries: i32,
    created_at: String,
    sent_at: Option<String>,
    next_try_at: Option<String>,
    last_error: Option<String>,
}

/// Runs a command.
pub async fn run(command: &Command, output: Output) -> Result<()> {
    let Command::List {
        database_url,
        status,
        limit,
    } = command;
    let mut connection = PgConnection::connect(database_url.expose_secret())
        .await
        .context("connecting to the database as its administrator")?;
    let mut tx = connection.begin().await?;
    raw_sql(AssertSqlSafe(format!("set local role {OWNER}")))
        .execute(&mut *tx)
        .await?;
    let rows: Vec<Row> = sqlx::query_as(
        "select id::text, kind, status, tries, created_at::text, sent_at::text,
                case when status = 'waiting' then run_at::text end as next_try_at, last_error
         from core.mails where $1 is null or status = $1 order by id desc limit $2",
    )
    .bind(status)
    .bind(limit)
    .fetch_all(&mut *tx)
    .await?;
    for row in &rows {
        output.result(line(row), || {
            json!({ "id": row.id, "kind": row.kind, "status": row.status, "tries": row.tries, "created_at": row.created_at,
                "sent_at": row.sent_at, "next_try_at": row.next_try_at, "last_error": row.last_error })
        });
    }
    Ok(())
}

fn line(row: &Row) -> String {
    let why = row.last_error.as_ref().map(|it| format!("  {it}")).unwrap_or_default();
    format!(
        "{}  {}  {:<15}  {:<7}  {} tries{why}",
        row.id, row.created_at, row.kind, row.status, row.tries
    )
}
