//! pgvector, which an administrator may install at any time: each run after that begins to use it, or goes on where one was broken off.
//!
//! Services work all the while: the column is filled in steps, and indexes are made beside what is being written. Searches use both
//! as soon as they are whole. Of runs at once one does it; it holds its lock in a transaction that is otherwise idle, since a session's
//! would not outlast a pooler's transaction.

use std::fmt;

use anyhow::{Context, Result};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql, types::Uuid};

use super::OWNER;

/// Vectors that one statement converts.
const STEP: i32 = 2000;
/// What the extension's newest version must be for this program to make it.
const SINCE: &str = "0.8";

/// Makes the extension, where a hosted database keeps those if it has such a schema.
const MAKE: &str = "do $$ begin
    if exists (select from pg_extension where extname = 'vector') then null;
    elsif exists (select from pg_namespace where nspname = 'extensions') then create extension vector schema extensions;
    else create extension vector;
    end if;
    end $$";

/// How a database finds vectors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Vectors {
    /// One by one: there is no extension, and none that could be made.
    #[default]
    OneByOne,
    /// One by one, until an administrator has done this.
    Waiting(String),
    /// One by one: the next run begins to use the extension.
    Next,
    /// By this version of the extension; so many indexes are to be made or dropped by the next run.
    ByPgvector {
        /// The extension's version.
        version: String,
        /// Indexes to be made or dropped.
        indexes: usize,
    },
}

impl fmt::Display for Vectors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneByOne => write!(
                formatter,
                "vectors are compared one by one, of at most 50,000 chunks a search: with pgvector {SINCE} or newer installed in PostgreSQL, `studios migrate` begins to use it"
            ),
            Self::Waiting(what) => write!(
                formatter,
                "vectors are compared one by one until an administrator has {what}"
            ),
            Self::Next => formatter.write_str("pgvector is there and not used yet: run `studios migrate`"),
            Self::ByPgvector { version, indexes: 0 } => write!(formatter, "pgvector {version} finds vectors"),
            Self::ByPgvector { version, indexes } => write!(
                formatter,
                "pgvector {version} finds vectors; {indexes} indexes of large studios are to be made or dropped: run `studios migrate`"
            ),
        }
    }
}

/// What a run did for vectors, and how they are found from now on.
#[derive(Debug, Clone, Default)]
pub struct Adopted {
    /// How they are found.
    pub vectors: Vectors,
    /// How many were converted for the extension.
    pub converted: i64,
    /// Statements about indexes that were run.
    pub indexes: Vec<String>,
}

impl Adopted {
    pub(super) fn json(&self) -> Value {
        let (pgvector, waiting) = match &self.vectors {
            Vectors::ByPgvector { version, .. } => (Some(version), None),
            Vectors::Waiting(what) => (None, Some(what)),
            Vectors::OneByOne | Vectors::Next => (None, None),
        };
        json!({ "pgvector": pgvector, "waiting_for": waiting, "converted": self.converted, "indexes": self.indexes })
    }
}

impl fmt::Display for Adopted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.vectors.fmt(formatter)?;
        if self.converted > 0 {
            write!(formatter, "; {} vectors were converted for it", self.converted)?;
        }
        for statement in &self.indexes {
            let words: Vec<_> = statement.split_whitespace().collect();
            write!(formatter, "\n  {}", words.join(" "))?;
        }
        Ok(())
    }
}

/// How a database finds vectors now. Where the schema is not there yet, that is one by one.
pub async fn vectors(connection: &mut PgConnection) -> Result<Vectors> {
    let is_known: bool = sqlx::query_scalar("select to_regprocedure('core.use_pgvector()') is not null")
        .fetch_one(&mut *connection)
        .await?;
    if !is_known {
        return Ok(Vectors::OneByOne);
    }
    let (installed, is_used, can_be_made): (Option<String>, bool, bool) = sqlx::query_as(
        "select e.extversion, core.uses_pgvector(), e.extversion is null and exists (
             select from pg_available_extensions a
             where a.name = 'vector' and (regexp_match(a.default_version, '^(\\d+)\\.(\\d+)'))::int[] >= array[0, 8])
         from (select) one left join pg_extension e on e.extname = 'vector'",
    )
    .fetch_one(&mut *connection)
    .await?;
    let Some(version) = installed else {
        return Ok(if can_be_made { Vectors::Next } else { Vectors::OneByOne });
    };
    let schema: Option<String> = sqlx::query_scalar("select core.pgvector_schema()")
        .fetch_one(&mut *connection)
        .await?;
    let Some(schema) = schema else {
        return Ok(Vectors::Waiting(format!(
            "replaced pgvector {version} by {SINCE} or newer (`alter extension vector update`)"
        )));
    };
    if is_used {
        let indexes = statements(connection).await?.len();
        return Ok(Vectors::ByPgvector { version, indexes });
    }
    let may_use: bool = sqlx::query_scalar(
        "select has_schema_privilege($1, n.oid, 'usage') from pg_namespace n where quote_ident(n.nspname) = $2",
    )
    .bind(OWNER)
    .bind(&schema)
    .fetch_one(connection)
    .await?;
    Ok(if may_use {
        Vectors::Next
    } else {
        Vectors::Waiting(format!("run `grant usage on schema {schema} to {OWNER}`"))
    })
}

/// Brings the database to use pgvector where it is there, and makes the indexes that large studios need.
pub(super) async fn adopt(connection: &mut PgConnection, database_url: &SecretString) -> Result<Adopted> {
    let mut adopted = Adopted {
        vectors: provide(connection).await?,
        ..Adopted::default()
    };
    let is_settled = !matches!(
        adopted.vectors,
        Vectors::Next | Vectors::ByPgvector { indexes: 1.., .. }
    );
    if is_settled {
        return Ok(adopted);
    }
    let mut holder = PgConnection::connect(database_url.expose_secret()).await?;
    let mut lock = holder.begin().await?;
    let is_alone: bool = sqlx::query_scalar("select pg_try_advisory_xact_lock(hashtext('studios.pgvector'))")
        .fetch_one(&mut *lock)
        .await?;
    if is_alone {
        adopted.converted = convert(connection).await?;
        for (name, statement) in statements(connection).await? {
            raw_sql(AssertSqlSafe(statement.clone()))
                .execute(&mut *connection)
                .await
                .with_context(|| format!("the index {name}"))?;
            adopted.indexes.push(statement);
        }
        adopted.vectors = vectors(connection).await?;
    }
    lock.rollback().await?;
    holder.close().await?;
    Ok(adopted)
}

/// Makes the extension and lets the schema's owner use it, as far as this administrator may.
async fn provide(connection: &mut PgConnection) -> Result<Vectors> {
    let mut found = vectors(connection).await?;
    // Where it was made, its schema may have to be opened too.
    for _ in 0..2 {
        let statement = match &found {
            Vectors::Next => MAKE.to_owned(),
            Vectors::Waiting(_) => {
                format!(
                    "do $$ begin execute 'grant usage on schema ' || core.pgvector_schema() || ' to {OWNER}'; end $$"
                )
            }
            Vectors::OneByOne | Vectors::ByPgvector { .. } => break,
        };
        found = match (raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await, found) {
            (Ok(_), _) => vectors(connection).await?,
            // That he may not is no reason for a schema not to be migrated.
            (Err(sqlx::Error::Database(_)), found @ Vectors::Waiting(_)) => found,
            (Err(sqlx::Error::Database(error)), _) => {
                Vectors::Waiting(format!("run `create extension vector` ({})", error.message()))
            }
            (Err(error), _) => return Err(error).context("making the extension vector"),
        };
    }
    Ok(found)
}

/// Has every vector as the extension compares it; how many were not.
async fn convert(connection: &mut PgConnection) -> Result<i64> {
    let is_used: bool = sqlx::query_scalar("select core.uses_pgvector()")
        .fetch_one(&mut *connection)
        .await?;
    if is_used {
        return Ok(0);
    }
    let mut tx = connection.begin().await?;
    raw_sql(AssertSqlSafe(format!(
        "set local role {OWNER}; select core.use_pgvector()"
    )))
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    let (mut after, mut converted) = (Uuid::nil(), 0);
    loop {
        let step = sqlx::query_as("select * from core.halve_vectors($1, $2)")
            .bind(after)
            .bind(STEP);
        let (last, halved): (Option<Uuid>, i64) = match step.fetch_one(&mut *connection).await {
            // Whoever stores vectors of the same chunks holds them in an order of his own.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("40P01") => continue,
            step => step?,
        };
        converted += halved;
        match last {
            Some(last) => after = last,
            None => break,
        }
    }
    raw_sql("alter table core.chunk_vectors validate constraint chunk_vectors_halved")
        .execute(connection)
        .await?;
    Ok(converted)
}

/// The indexes to make or drop: their names and statements.
async fn statements(connection: &mut PgConnection) -> Result<Vec<(String, String)>> {
    let statements = sqlx::query_as("select name, statement from core.vector_indexes()");
    Ok(statements.fetch_all(connection).await?)
}
