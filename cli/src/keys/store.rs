//! SQL of sealed and hashed columns, as the owner of the tables. Their names are this program's own, never input.

use anyhow::{Context, Result, ensure};
use service_kit::keys::{KeyId, KeyRing};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Transaction, raw_sql};

use super::{HASHED, Hashed, SEALED, Sealed};
use crate::migrate::OWNER;

/// Rows sealed anew in one transaction.
const BATCH: i64 = 500;

/// How many values of a table a key has made.
pub(super) struct Count {
    pub(super) table: &'static str,
    pub(super) key: KeyId,
    pub(super) values: i64,
    /// Whether they are sealed, and can be sealed anew; else they are hashes.
    pub(super) is_sealed: bool,
}

/// Lets one program at a time change keys, until the connection ends.
pub(super) async fn lock(database: &mut PgConnection) -> Result<()> {
    let free: bool = sqlx::query_scalar("select pg_try_advisory_lock(hashtext('studios.keys'))")
        .fetch_one(database)
        .await?;
    ensure!(free, "another program is changing the keys of this database");
    Ok(())
}

/// The sealed columns that this database has.
pub(super) async fn present(database: &mut PgConnection) -> Result<Vec<&'static Sealed>> {
    let mut present = Vec::new();
    for sealed in &SEALED {
        if is_present(database, sealed.table).await? {
            present.push(sealed);
        }
    }
    Ok(present)
}

async fn is_present(database: &mut PgConnection, table: &str) -> Result<bool> {
    let found: Option<String> = sqlx::query_scalar("select to_regclass($1)::text")
        .bind(table)
        .fetch_one(database)
        .await?;
    Ok(found.is_some())
}

/// How much each key has made.
pub(super) async fn counts(database: &mut PgConnection) -> Result<Vec<Count>> {
    let mut tx = own(database).await?;
    let sealed = SEALED.iter().map(|it| (it.table, it.column, true));
    let hashed = HASHED.iter().map(|Hashed { table, column }| (*table, *column, false));
    let mut counts = Vec::new();
    for (table, column, is_sealed) in sealed.chain(hashed) {
        if !is_present(&mut tx, table).await? {
            continue;
        }
        let sql = format!(
            "select substring({column} from 1 for 4), count(*) from {table} where length({column}) > 0 group by 1 order by 1"
        );
        let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut *tx).await?;
        for (key, count) in rows {
            let key: Option<[u8; 4]> = key.try_into().ok();
            counts.push(Count {
                table,
                key: key
                    .with_context(|| format!("{table} holds what no key has made"))?
                    .into(),
                values: count,
                is_sealed,
            });
        }
    }
    tx.commit().await?;
    Ok(counts)
}

/// Seals a column's values anew under the ring's first key, a batch at a time, until none is under another. Tells after each
/// batch how many are done.
pub(super) async fn reseal(
    database: &mut PgConnection,
    sealed: &Sealed,
    ring: &KeyRing,
    tell: impl Fn(u64),
) -> Result<u64> {
    let Sealed {
        table,
        column,
        purpose,
        context,
    } = sealed;
    let current = ring.ids()[0];
    let old = format!("{table} where length({column}) > 0 and substring({column} from 1 for 4) <> $1");
    let left = format!("select exists (select from {old})");
    // A value is no other one for being sealed anew: no trigger counts a revision. Writers wait for a batch, readers for nothing.
    let begin = format!("set local lock_timeout = '10s'; alter table {table} disable trigger user");
    let end = format!("alter table {table} enable trigger user");
    let find = format!("select ctid::text, {context}, {column} from {old} limit {BATCH}");
    // Nobody else writes: where the rows lie they stay until the end of the transaction.
    let put = format!(
        "update {table} set {column} = anew.sealed from unnest($1::text[], $2::bytea[]) as anew (place, sealed)
         where {table}.ctid = anew.place::tid"
    );
    let mut done = 0;
    loop {
        let mut tx = own(database).await?;
        let is_left: bool = sqlx::query_scalar(AssertSqlSafe(left.as_str()))
            .bind(current.as_bytes().as_slice())
            .fetch_one(&mut *tx)
            .await?;
        if !is_left {
            tx.commit().await?;
            return Ok(done);
        }
        raw_sql(AssertSqlSafe(begin.as_str())).execute(&mut *tx).await?;
        let rows: Vec<(String, Vec<u8>, Vec<u8>)> = sqlx::query_as(AssertSqlSafe(find.as_str()))
            .bind(current.as_bytes().as_slice())
            .fetch_all(&mut *tx)
            .await?;
        let (mut places, mut anew) = (Vec::new(), Vec::new());
        for (place, context, old) in rows {
            let new = ring.reseal(purpose, &context, &old);
            let new = new.with_context(|| format!("a value of {table} does not open"))?;
            places.push(place);
            anew.push(new.unwrap_or(old));
        }
        let changed = sqlx::query(AssertSqlSafe(put.as_str()))
            .bind(places)
            .bind(anew)
            .execute(&mut *tx)
            .await?;
        raw_sql(AssertSqlSafe(end.as_str())).execute(&mut *tx).await?;
        tx.commit().await?;
        done += changed.rows_affected();
        tell(done);
    }
}

/// A transaction in which nobody else writes what a key makes.
pub(super) async fn close(database: &mut PgConnection) -> Result<Transaction<'_, Postgres>> {
    let mut tx = own(database).await?;
    let sealed = SEALED.iter().map(|it| it.table);
    for table in sealed.chain(HASHED.iter().map(|it| it.table)) {
        if !is_present(&mut tx, table).await? {
            continue;
        }
        raw_sql(AssertSqlSafe(format!("lock table {table} in share mode")))
            .execute(&mut *tx)
            .await?;
    }
    Ok(tx)
}

/// A transaction as the owner: an administrator need not be a superuser, and row level security binds him.
async fn own(database: &mut PgConnection) -> Result<Transaction<'_, Postgres>> {
    let mut tx = database.begin().await?;
    raw_sql(AssertSqlSafe(format!("set local role {OWNER}")))
        .execute(&mut *tx)
        .await?;
    Ok(tx)
}
