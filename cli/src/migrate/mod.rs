//! The schema's migrations: a run is one transaction, all or nothing, under an advisory lock, so that several replicas may run
//! it at once. Also makes the services' login roles, which own nothing and cannot bypass row level security.
//!
//! Landed migrations never change: a differing checksum is drift and stops the run before anything is done.

mod roles;
mod vectors;

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use anyhow::{Context, Result, bail};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use service_kit::keys::KeyRing;
use sqlx::{AssertSqlSafe, Connection, PgConnection, migrate::Migrator, raw_sql};

pub(crate) use self::roles::OWNER;
pub use self::{
    roles::{LOGIN_ROLES, RolePasswords},
    vectors::{Adopted, Vectors, vectors},
};
use crate::output::Output;

static CORE: Migrator = sqlx::migrate!("../migrations/core");
static EXECUTION: Migrator = sqlx::migrate!("../migrations/execution");
const SCHEMAS: [(&str, &Migrator); 2] = [("core", &CORE), ("execution", &EXECUTION)];

/// How a database is brought up to date.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The administrative URL of the database.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: SecretString,
    /// The root key ring, from which the login roles' passwords derive unless their URLs are given.
    #[arg(long, env = "STUDIOS_KEY_RING", hide_env_values = true)]
    key_ring: Option<SecretString>,
    /// core-service's URL of the database; its password becomes the role's.
    #[arg(long, env = "STUDIOS_CORE_DATABASE_URL", hide_env_values = true)]
    core_database_url: Option<SecretString>,
    /// The same of core-service's worker.
    #[arg(long, env = "STUDIOS_CORE_WORKER_DATABASE_URL", hide_env_values = true)]
    core_worker_database_url: Option<SecretString>,
    /// The same of execution-service.
    #[arg(long, env = "STUDIOS_EXECUTION_DATABASE_URL", hide_env_values = true)]
    execution_database_url: Option<SecretString>,
    /// The same of execution-service's engine.
    #[arg(long, env = "STUDIOS_EXECUTION_ENGINE_DATABASE_URL", hide_env_values = true)]
    engine_database_url: Option<SecretString>,
    /// Say what would be applied, and apply nothing.
    #[arg(long)]
    plan: bool,
}

/// `studios migrate`.
pub async fn command(args: &Args, output: Output) -> Result<()> {
    let mode = if args.plan { Mode::Plan } else { Mode::Apply };
    let report = run(&args.database_url, &args.passwords()?, mode).await?;
    let done = if args.plan { "to apply" } else { "applied" };
    let mut text = format!(
        "{} {done}, {} present, {} ms",
        report.applied.len(),
        report.present,
        report.took.as_millis()
    );
    for (schema, version, description) in &report.applied {
        write!(text, "\n  {schema} {version:04} {description}")?;
    }
    write!(text, "\n{}", report.vectors)?;
    output.result(text, || {
        let applied: Vec<_> = report
            .applied
            .iter()
            .map(|(schema, version, description)| json!({ "schema": schema, "version": version, "description": description }))
            .collect();
        json!({ "plan": args.plan, "applied": applied, "present": report.present, "vectors": report.vectors.json(), "took_ms": u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX) })
    });
    Ok(())
}

impl Args {
    fn passwords(&self) -> Result<RolePasswords> {
        let mut passwords = match &self.key_ring {
            Some(ring) => RolePasswords::derive(&KeyRing::parse(ring.expose_secret()).context("the key ring")?).0,
            None => BTreeMap::new(),
        };
        let urls = [
            &self.core_database_url,
            &self.core_worker_database_url,
            &self.execution_database_url,
            &self.engine_database_url,
        ];
        for (role, url) in LOGIN_ROLES.into_iter().zip(urls) {
            let Some(url) = url else { continue };
            let url = url::Url::parse(url.expose_secret())
                .ok()
                .with_context(|| format!("the URL of {role} does not parse"))?;
            let password = url
                .password()
                .with_context(|| format!("the URL of {role} has no password"))?;
            passwords.insert(role, password.to_owned().into());
        }
        if let Some(role) = LOGIN_ROLES.iter().find(|role| !passwords.contains_key(*role)) {
            bail!("no password for {role}: give --key-ring, or the URLs of all four roles");
        }
        Ok(RolePasswords(passwords))
    }
}

/// How many of this program's migrations a database lacks; drift is an error.
pub async fn missing(connection: &mut PgConnection) -> Result<usize> {
    let mut missing = 0;
    for (schema, migrator) in SCHEMAS {
        let table: Option<String> = sqlx::query_scalar("select to_regclass($1)::text")
            .bind(format!("{schema}.applied_migrations"))
            .fetch_one(&mut *connection)
            .await?;
        let known = match table {
            Some(_) => known(connection, schema).await?,
            None => BTreeMap::new(),
        };
        check_drift(schema, migrator, &known)?;
        missing += migrator.iter().filter(|it| !known.contains_key(&it.version)).count();
    }
    Ok(missing)
}

/// Makes a database where there is none of that name.
pub async fn ensure_database(admin_url: &SecretString, name: &str) -> Result<()> {
    let mut admin = PgConnection::connect(admin_url.expose_secret())
        .await
        .context("connecting to PostgreSQL")?;
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(name)
        .fetch_one(&mut admin)
        .await?;
    if !exists {
        raw_sql(AssertSqlSafe(format!("create database {name}")))
            .execute(&mut admin)
            .await?;
    }
    admin.close().await?;
    Ok(())
}

/// What a run did, or would do.
#[derive(Debug, Default)]
pub struct Report {
    /// Migrations applied by this run (or, of a plan, to be applied): schema, version, description.
    pub applied: Vec<(&'static str, i64, String)>,
    /// Migrations that were there already.
    pub present: usize,
    /// How vectors are found, and what was done for that.
    pub vectors: Adopted,
    /// How long the run took.
    pub took: Duration,
}

/// Whether a run changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Applies what is missing.
    Apply,
    /// Says what is missing and applies nothing.
    Plan,
}

/// Brings the database up to date as an administrator.
pub async fn run(database_url: &SecretString, passwords: &RolePasswords, mode: Mode) -> Result<Report> {
    let started = std::time::Instant::now();
    let mut connection = PgConnection::connect(database_url.expose_secret())
        .await
        .context("connecting to the database as its administrator")?;
    let mut tx = connection.begin().await?;
    sqlx::query("select pg_advisory_xact_lock(hashtext('studios.migrate'))")
        .execute(&mut *tx)
        .await?;
    let mut report = Report::default();
    roles::make(&mut tx, database_url, passwords)
        .await
        .context("making the services' roles")?;
    for (schema, migrator) in SCHEMAS {
        let known = prepare_schema(&mut tx, schema).await?;
        apply_missing(&mut tx, schema, migrator, known, &mut report).await?;
    }
    report.vectors = match mode {
        Mode::Apply => {
            tx.commit().await?;
            vectors::adopt(&mut connection, database_url)
                .await
                .context("finding vectors by pgvector")?
        }
        Mode::Plan => {
            tx.rollback().await?;
            Adopted {
                vectors: vectors(&mut connection).await?,
                ..Adopted::default()
            }
        }
    };
    report.took = started.elapsed();
    Ok(report)
}

/// The schema with its table of applied migrations; returns version → checksum.
async fn prepare_schema(tx: &mut PgConnection, schema: &str) -> Result<BTreeMap<i64, Vec<u8>>> {
    let sql = format!(
        "create schema if not exists {schema} authorization {OWNER};
         create table if not exists {schema}.applied_migrations (
             version bigint primary key,
             description text not null,
             checksum bytea not null,
             created_at timestamptz not null default now()
         );
         alter table {schema}.applied_migrations owner to {OWNER};"
    );
    raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await?;
    known(tx, schema).await
}

async fn known(connection: &mut PgConnection, schema: &str) -> Result<BTreeMap<i64, Vec<u8>>> {
    let known = format!("select version, checksum from {schema}.applied_migrations");
    Ok(sqlx::query_as::<_, (i64, Vec<u8>)>(AssertSqlSafe(known))
        .fetch_all(connection)
        .await?
        .into_iter()
        .collect())
}

/// A landed migration is never edited, and none is unknown.
fn check_drift(schema: &str, migrator: &Migrator, known: &BTreeMap<i64, Vec<u8>>) -> Result<()> {
    if let Some(version) = known.keys().find(|&&version| !migrator.version_exists(version)) {
        bail!("drift: {schema} has migration {version}, which this program does not know; use a newer one");
    }
    for migration in migrator.iter() {
        if known
            .get(&migration.version)
            .is_some_and(|checksum| **checksum != *migration.checksum)
        {
            bail!(
                "drift: {schema} migration {} differs from the one that was applied",
                migration.version
            );
        }
    }
    Ok(())
}

async fn apply_missing(
    tx: &mut PgConnection,
    schema: &'static str,
    migrator: &Migrator,
    known: BTreeMap<i64, Vec<u8>>,
    report: &mut Report,
) -> Result<()> {
    check_drift(schema, migrator, &known)?;
    raw_sql(AssertSqlSafe(format!("set local role {OWNER}")))
        .execute(&mut *tx)
        .await?;
    for migration in migrator.iter() {
        if known.contains_key(&migration.version) {
            report.present += 1;
            continue;
        }
        raw_sql(migration.sql.clone())
            .execute(&mut *tx)
            .await
            .with_context(|| format!("{schema} migration {} ({})", migration.version, migration.description))?;
        let insert =
            format!("insert into {schema}.applied_migrations (version, description, checksum) values ($1, $2, $3)");
        sqlx::query(AssertSqlSafe(insert))
            .bind(migration.version)
            .bind(&*migration.description)
            .bind(&*migration.checksum)
            .execute(&mut *tx)
            .await?;
        report
            .applied
            .push((schema, migration.version, migration.description.to_string()));
    }
    raw_sql("reset role").execute(tx).await?;
    Ok(())
}
