//! SQL of the rates that all replicas share. The database's clock is the one that counts.

use std::time::Duration;

use service_kit::error::Result;
use sqlx::{PgConnection, postgres::types::PgInterval};

use super::Use;

/// Counts uses. Where one was too many, answers its place and how long to wait; the transaction is to be rolled back then.
pub(super) async fn take(tx: &mut PgConnection, uses: &[Use]) -> Result<Option<(usize, Duration)>> {
    let costs: Vec<i64> = uses.iter().map(|it| micros(it.cost())).collect();
    change(tx, uses, &costs).await
}

/// Gives back what each use cost beyond a single one.
pub(super) async fn give_back(tx: &mut PgConnection, uses: &[Use]) -> Result<()> {
    let single = |it: &Use| micros(it.rate.every().min(it.cost()));
    let costs: Vec<i64> = uses.iter().map(|it| single(it) - micros(it.cost())).collect();
    change(tx, uses, &costs).await?;
    Ok(())
}

/// Gives back all that each use cost.
pub(super) async fn undo(tx: &mut PgConnection, uses: &[Use]) -> Result<()> {
    let costs: Vec<i64> = uses.iter().map(|it| -micros(it.cost())).collect();
    change(tx, uses, &costs).await?;
    Ok(())
}

async fn change(tx: &mut PgConnection, uses: &[Use], costs: &[i64]) -> Result<Option<(usize, Duration)>> {
    let keys: Vec<Vec<u8>> = uses.iter().map(|it| it.key.clone()).collect();
    let depths: Vec<i64> = uses.iter().map(|it| micros(it.rate.depth())).collect();
    let unless: Vec<Option<Vec<u8>>> = uses.iter().map(|it| it.unless.clone()).collect();
    let row = sqlx::query!(
        "select refused, wait_us from core.take_rates($1, $2, $3, $4)",
        &keys,
        costs,
        &depths,
        &unless as &[Option<Vec<u8>>],
    )
    .fetch_one(tx)
    .await?;
    let refused = row.refused.and_then(|place| usize::try_from(place - 1).ok());
    let wait = Duration::from_micros(row.wait_us.unwrap_or_default().unsigned_abs());
    Ok(refused.map(|place| (place, wait)))
}

/// Keeps a mark.
pub(super) async fn remember(tx: &mut PgConnection, mark: &[u8], how_long: Duration) -> Result<()> {
    let how_long = PgInterval {
        months: 0,
        days: 0,
        microseconds: micros(how_long),
    };
    sqlx::query!(
        "insert into core.rate_limits (key, over_at) values ($1, now() + $2)
         on conflict (key) do update set over_at = excluded.over_at",
        mark,
        how_long,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Removes at most `limit` rates and marks whose time is over; for the background work's role.
pub(super) async fn remove_expired(tx: &mut PgConnection, limit: i64) -> Result<u64> {
    let done = sqlx::query!(
        "delete from core.rate_limits where key in (
             select key from core.rate_limits where over_at < now() limit $1)",
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
