//! Tables that a test holds, so that whoever comes to them stands still where he can be killed.

use std::time::Duration;

use sqlx::{Acquire, AssertSqlSafe, Executor, PgPool, Postgres, Transaction};
use tokio::time::{sleep, timeout};

use crate::world::PATIENCE;

/// Holds what comes to a table until it is dropped: whoever works with it stands there.
pub async fn hold(admin: &PgPool, table: &str) -> Transaction<'static, Postgres> {
    let mut held = admin.begin().await.expect("the database answers");
    let lock = format!("lock table {table} in access exclusive mode");
    held.acquire()
        .await
        .expect("the database answers")
        .execute(AssertSqlSafe(lock))
        .await
        .expect("the database answers");
    held
}

/// Waits until somebody stands before the held table.
pub async fn until_held(admin: &PgPool, table: &str) {
    let waits = async {
        loop {
            let is_there: bool = sqlx::query_scalar(
                "select exists (select from pg_locks where not granted and relation = $1::regclass)",
            )
            .bind(table)
            .fetch_one(admin)
            .await
            .expect("the database answers");
            if is_there {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waits).await.expect("somebody comes to it");
}
