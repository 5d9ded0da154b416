//! SQL of the commands for runs: how they are left, and which are on their way.

use serde_json::json;
use service_kit::{
    error::Result,
    ids::{CompanyId, ExecutionId, StudioId, UserId},
};
use sqlx::PgConnection;

use crate::worker::Wish;

/// How far a run is: nothing is recorded of it, and nothing asked of it, that does not change this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hot {
    /// The last entry.
    seq: i64,
    /// The last command.
    commands_seq: i64,
    /// The last command that was taken.
    commands_done: i64,
}

/// The place of a new command for a run.
pub(super) struct CommandPlace {
    company: CompanyId,
    studio: StudioId,
    seq: i64,
    commands_seq: i64,
    commands_done: i64,
}

impl CommandPlace {
    /// How many commands were ever left before it.
    pub(super) const fn left_before(&self) -> i64 {
        self.commands_seq - 1
    }

    /// How many commands are on their way before it.
    pub(super) const fn ahead(&self) -> i64 {
        self.commands_seq - 1 - self.commands_done
    }

    /// How far the run was before it.
    pub(super) const fn before(&self) -> Hot {
        Hot {
            seq: self.seq,
            commands_seq: self.commands_seq - 1,
            commands_done: self.commands_done,
        }
    }
}

/// How far a run is; none where it has ended, or may not be seen.
pub(super) async fn hot(tx: &mut PgConnection, id: ExecutionId) -> Result<Option<Hot>> {
    let hot = sqlx::query_as!(
        Hot,
        "select seq, commands_seq, commands_done from execution.runs where execution_id = $1",
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(hot)
}

/// Gives a run that has not ended its next command's place, and makes it due. The run's hot row is locked from then on: nothing is
/// recorded of it before the end of the transaction.
pub(super) async fn next_command(tx: &mut PgConnection, id: ExecutionId) -> Result<Option<CommandPlace>> {
    let place = sqlx::query_as!(
        CommandPlace,
        r#"update execution.runs set commands_seq = commands_seq + 1, run_at = now() where execution_id = $1
           returning company_id as "company: CompanyId", studio_id as "studio: StudioId", seq, commands_seq, commands_done"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(place)
}

/// Leaves a command.
pub(super) async fn insert_command(
    tx: &mut PgConnection,
    id: ExecutionId,
    place: CommandPlace,
    issued_by: UserId,
    wish: &Wish,
) -> Result<()> {
    let (kind, payload) = wish.row();
    sqlx::query!(
        "insert into execution.execution_commands (execution_id, seq, company_id, studio_id, kind, payload, issued_by)
         values ($1, $2, $3, $4, $5, $6, $7)",
        id.as_uuid(),
        place.commands_seq,
        place.company.as_uuid(),
        place.studio.as_uuid(),
        kind,
        payload,
        issued_by.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What was asked of a run and is not in its journal yet, in order, and by whom; without what this version does not know.
pub(super) async fn on_their_way(tx: &mut PgConnection, id: ExecutionId) -> Result<Vec<(UserId, Wish)>> {
    let rows = sqlx::query!(
        r#"select c.kind, c.payload, c.issued_by as "issued_by: UserId"
           from execution.runs r join execution.execution_commands c using (execution_id)
           where r.execution_id = $1 and c.seq > r.commands_done
           order by c.seq"#,
        id.as_uuid(),
    )
    .fetch_all(tx)
    .await?;
    let asked = rows.into_iter().filter_map(|row| {
        let wish = serde_json::from_value(json!({ "kind": row.kind, "payload": row.payload }));
        Some((row.issued_by, wish.ok()?))
    });
    Ok(asked.collect())
}
