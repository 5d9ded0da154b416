//! SQL of the outbox. All but publishing is for the worker's role.

use std::time::Duration;

use serde_json::{Value, json};
use service_kit::{error::Result, ids::CompanyId};
use sqlx::PgConnection;

use super::{Event, Published};

/// Where [`publish`] gives its hint.
pub(super) const CHANNEL: &str = "core_outbox";

struct Row {
    position: i64,
    company: CompanyId,
    kind: String,
    payload: Value,
}

impl From<Row> for Published {
    fn from(row: Row) -> Self {
        Self {
            position: row.position,
            company: row.company,
            event: read(row.company, &row.kind, &row.payload),
        }
    }
}

pub(super) async fn publish(tx: &mut PgConnection, event: &Event) -> Result<i64> {
    if let Event::SessionEnded { session } = event {
        let position = sqlx::query_scalar!(
            r#"select core.publish_session_end($1) as "position!""#,
            session.as_uuid()
        );
        return Ok(position.fetch_one(tx).await?);
    }
    let (kind, payload) = written(event);
    let position = sqlx::query_scalar!(
        r#"select core.publish_event($1, $2, $3) as "position!""#,
        event.company().as_uuid(),
        kind,
        payload,
    )
    .fetch_one(tx)
    .await?;
    Ok(position)
}

/// The events from a position on, that one first if it is still kept.
pub(super) async fn from(tx: &mut PgConnection, position: i64, limit: i64) -> Result<Vec<Published>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select position, company_id as "company: CompanyId", kind, payload
           from core.outbox where position >= $1 order by position limit $2"#,
        position,
        limit,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Published::from).collect())
}

/// The position of the newest event; 0 where there has never been one.
pub(super) async fn newest(tx: &mut PgConnection) -> Result<i64> {
    let newest = sqlx::query_scalar!(r#"select coalesce(max(position), 0) as "newest!" from core.outbox"#);
    Ok(newest.fetch_one(tx).await?)
}

/// The ends of sessions that are no older.
pub(super) async fn ended_sessions(tx: &mut PgConnection, age: Duration) -> Result<Vec<Published>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select position, company_id as "company: CompanyId", kind, payload
           from core.outbox where kind = 'session_ended' and created_at > now() - make_interval(secs => $1)"#,
        age.as_secs_f64(),
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Published::from).collect())
}

/// Which session of the server this is.
pub(super) async fn session(tx: &mut PgConnection) -> Result<i32> {
    let session = sqlx::query_scalar!(r#"select pg_backend_pid() as "session!""#);
    Ok(session.fetch_one(tx).await?)
}

/// Gives a hint to all who listen, with a word that they know it by.
pub(super) async fn hint(tx: &mut PgConnection, word: &str) -> Result<()> {
    sqlx::query!("select pg_notify($1, $2)", CHANNEL, word)
        .execute(tx)
        .await?;
    Ok(())
}

/// Removes at most `limit` of the events before the first one that is younger than `age` and among the newest `kept`.
/// What is removed is always the beginning: whatever comes after an event that is kept is kept too.
pub(super) async fn trim(tx: &mut PgConnection, age: Duration, kept: i64, limit: i64) -> Result<u64> {
    let done = sqlx::query!(
        "with newest as materialized (select max(position) as position from core.outbox),
              first as materialized (
                  select greatest(
                      coalesce(
                          (select min(position) from core.outbox where created_at >= now() - make_interval(secs => $1)),
                          newest.position),
                      newest.position - $2) as position
                  from newest)
         delete from core.outbox where position in (
             select o.position from core.outbox o, first where o.position < first.position order by o.position limit $3)",
        age.as_secs_f64(),
        kept,
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// An event as its row has it.
fn written(event: &Event) -> (&'static str, Value) {
    match event {
        Event::MembershipChanged { user, .. } => ("membership_changed", json!({ "user_id": user })),
        Event::PlanChanged { .. } => ("plan_changed", json!({})),
        Event::StudioChanged { studio, .. } => ("studio_changed", json!({ "studio_id": studio })),
        Event::StudioDeleted { studio, .. } => ("studio_deleted", json!({ "studio_id": studio })),
        Event::StudioUndeleted { studio, .. } => ("studio_undeleted", json!({ "studio_id": studio })),
        Event::CompanyDeleted { .. } => ("company_deleted", json!({})),
        Event::SessionEnded { session } => ("session_ended", json!({ "session_id": session })),
    }
}

fn read(company: CompanyId, kind: &str, payload: &Value) -> Option<Event> {
    let studio = || payload.get("studio_id")?.as_str()?.parse().ok();
    Some(match kind {
        "membership_changed" => Event::MembershipChanged {
            company,
            user: payload.get("user_id")?.as_str()?.parse().ok()?,
        },
        "plan_changed" => Event::PlanChanged { company },
        "studio_changed" => Event::StudioChanged {
            company,
            studio: studio()?,
        },
        "studio_deleted" => Event::StudioDeleted {
            company,
            studio: studio()?,
        },
        "studio_undeleted" => Event::StudioUndeleted {
            company,
            studio: studio()?,
        },
        "company_deleted" => Event::CompanyDeleted { company },
        "session_ended" => Event::SessionEnded {
            session: payload.get("session_id")?.as_str()?.parse().ok()?,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use service_kit::ids::{SessionId, StudioId, UserId};

    use super::*;

    #[test]
    fn an_event_reads_back_as_it_was_written() {
        let (company, studio, user) = (CompanyId::generate(), StudioId::generate(), UserId::generate());
        let events = [
            Event::MembershipChanged { company, user },
            Event::PlanChanged { company },
            Event::StudioChanged { company, studio },
            Event::StudioDeleted { company, studio },
            Event::StudioUndeleted { company, studio },
            Event::CompanyDeleted { company },
            Event::SessionEnded {
                session: SessionId::generate(),
            },
        ];
        for event in events {
            let (kind, payload) = written(&event);
            assert_eq!(read(company, kind, &payload), Some(event));
        }
        assert_eq!(read(company, "of_a_newer_release", &json!({})), None);
        assert_eq!(read(company, "studio_deleted", &json!({})), None);
    }
}
