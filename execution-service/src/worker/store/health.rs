//! SQL of the connections' health.

use sqlx::{PgConnection, Result};

use crate::worker::connections::Note;

/// Notes how a connection fared; nothing where it is gone.
pub(in crate::worker) async fn note(connection: &mut PgConnection, note: &Note) -> Result<()> {
    let (class, reason, message) = note.failure.clone().unwrap_or_default();
    sqlx::query!(
        "insert into execution.connection_health as h (connection_id, company_id, state, last_ok_at, last_error_at,
             error_class, error_reason, error_message)
         select c.id, c.company_id, case when $3 then 'failing' else 'ok' end, case when not $3 then now() end,
             case when $3 then now() end, $4, $5, left($6, 1000)
         from execution.connections c where c.company_id = $1 and c.id = $2
         on conflict (connection_id) do update set
             state = excluded.state,
             last_ok_at = coalesce(excluded.last_ok_at, h.last_ok_at),
             last_error_at = coalesce(excluded.last_error_at, h.last_error_at),
             error_class = case when $3 then excluded.error_class else h.error_class end,
             error_reason = case when $3 then excluded.error_reason else h.error_reason end,
             error_message = case when $3 then excluded.error_message else h.error_message end",
        note.company.as_uuid(),
        note.connection.as_uuid(),
        note.failure.is_some(),
        class,
        reason,
        message,
    )
    .execute(connection)
    .await?;
    Ok(())
}
