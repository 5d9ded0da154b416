//! SQL of the instances' leases. All times are the database's.

use sqlx::{PgConnection, Result};

/// A new instance with a lease, and room for so many runs.
pub(in crate::worker) async fn register(connection: &mut PgConnection, address: &str, room: i32) -> Result<i32> {
    sqlx::query_scalar!(
        "insert into execution.instances (address, lease_until, room)
         values ($1, now() + interval '10 seconds', $2) returning id",
        address,
        room,
    )
    .fetch_one(connection)
    .await
}

/// Whether the lease had not run out and is renewed. `room` is for how many more runs.
pub(in crate::worker) async fn renew(connection: &mut PgConnection, instance: i32, room: i32) -> Result<bool> {
    let renewed = sqlx::query!(
        "update execution.instances set lease_until = now() + interval '10 seconds', room = $2
         where id = $1 and lease_until > now()",
        instance,
        room,
    )
    .execute(connection)
    .await?;
    Ok(renewed.rows_affected() == 1)
}

/// Ends the lease. The row stays for the upkeep, as a claim whose answer was lost may still bring runs to the instance: they
/// are claimed like those of one that died.
pub(in crate::worker) async fn resign(connection: &mut PgConnection, instance: i32) -> Result<()> {
    sqlx::query!(
        "update execution.instances set lease_until = now() where id = $1",
        instance
    )
    .execute(connection)
    .await?;
    Ok(())
}
