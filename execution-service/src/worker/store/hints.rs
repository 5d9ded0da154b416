//! SQL of the hints between instances.

use service_kit::ids::ExecutionId;
use sqlx::{PgConnection, Result};

/// The channel. A notification names, with spaces between them, the instances whose runs have commands, and [`DUE`].
pub(in crate::worker) const CHANNEL: &str = "studios_engine";
/// Something is due.
pub(in crate::worker) const DUE: &str = "due";

/// Tells other instances, in one notification: those that hold one of these runs, and, where something is `due`, all if one of
/// them has room. Notifies nobody where that is nobody, as a notification takes a lock of the whole database at its commit.
pub(in crate::worker) async fn send(
    connection: &mut PgConnection,
    instance: i32,
    commanded: &[ExecutionId],
    due: bool,
) -> Result<()> {
    let commanded: Vec<_> = commanded.iter().map(|execution| execution.as_uuid()).collect();
    sqlx::query!(
        r#"with told as (
               select distinct r.owner::text as name from execution.runs r
               where r.execution_id = any($2) and r.owner <> $1
               union all
               select $4 where $3 and exists (
                   select from execution.instances i where i.id <> $1 and i.room > 0 and i.lease_until > now())
           )
           select pg_notify($5, string_agg(name, ' ')) as "sent: ()" from told having count(*) > 0"#,
        instance,
        &commanded,
        due,
        DUE,
        CHANNEL,
    )
    .fetch_optional(connection)
    .await?;
    Ok(())
}
