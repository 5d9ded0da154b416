//! What is known of the runs of flows that an execution has started, for those who may see the execution.

use serde_json::Value;
use service_kit::{
    auth::Caller,
    db::TenantTx,
    error::Result,
    ids::{ConnectionId, ExecutionId},
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{RunState, store};
use crate::{App, engine::journal::StageTry, executions};

/// A run of a flow, without its id.
#[derive(Debug, Clone)]
pub(crate) struct StartedRun {
    /// The try that it was started for.
    pub of: StageTry,
    pub connection: ConnectionId,
    pub flow: String,
    /// As ActivePieces last said.
    pub state: Option<String>,
    pub state_since: Option<OffsetDateTime>,
    /// Whether ActivePieces said that it has taken the start.
    pub taken: bool,
    pub cancel: Option<Cancel>,
    pub steps: Vec<Value>,
    pub created_at: OffsetDateTime,
    pub ended_at: Option<OffsetDateTime>,
    pub look_at: Option<OffsetDateTime>,
}

/// What became of asking to stop it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cancel {
    Asked,
    Done,
    NotPossible,
}

impl Cancel {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "asked" => Some(Self::Asked),
            "done" => Some(Self::Done),
            "not_possible" => Some(Self::NotPossible),
            _ => None,
        }
    }
}

/// What somebody asks of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Cancel,
    Pause,
    Resume,
}

/// Lists the runs of flows that an execution has started.
pub(super) async fn list(app: &App, caller: &Caller, execution: ExecutionId) -> Result<Vec<StartedRun>> {
    let access = executions::enter(app, caller, execution).await?;
    let mut tx = TenantTx::begin(&app.pool, "pieces.list_runs", &access.claims).await?;
    executions::read_in(&mut tx, &access, execution).await?;
    store::runs(&mut tx, execution).await
}

/// Those that have not ended.
pub(crate) async fn open(tx: &mut PgConnection, execution: ExecutionId) -> Result<Vec<StartedRun>> {
    let runs = store::runs(tx, execution).await?;
    Ok(runs.into_iter().filter(|it| it.ended_at.is_none()).collect())
}

/// What a request cannot reach in ActivePieces, for people.
pub(crate) async fn notes(app: &App, caller: &Caller, execution: ExecutionId, asked: Asked) -> Result<Vec<String>> {
    let access = executions::enter(app, caller, execution).await?;
    let mut tx = TenantTx::begin(&app.pool, "pieces.notes", &access.claims).await?;
    let open = open(&mut tx, execution).await?;
    Ok(open.iter().map(|run| note(run, asked)).collect())
}

fn note(run: &StartedRun, asked: Asked) -> String {
    let flow = format!("the run of the ActivePieces flow {} (stage {})", run.flow, run.of.stage);
    let state = run.state.as_deref().map(RunState::parse);
    match (asked, state) {
        (Asked::Cancel, Some(state)) if state.can_be_cancelled() => {
            format!("{flow} was last {}: ActivePieces is asked to stop it", state.as_str())
        }
        (Asked::Cancel, Some(state)) => format!(
            "{flow} was last {}, in which ActivePieces stops nothing: it goes on, and is stopped only if it pauses",
            state.as_str()
        ),
        (Asked::Cancel, None) => {
            format!(
                "{flow} was not found yet: once it is, it is stopped if it is queued or paused, and goes on if it runs"
            )
        }
        (Asked::Pause, _) => {
            format!("{flow} goes on, as ActivePieces cannot pause it; how it ends is taken when the execution goes on")
        }
        (Asked::Resume, Some(RunState::Paused)) => {
            format!(
                "{flow} is paused in ActivePieces by the flow itself, and goes on when what it waits for there comes"
            )
        }
        (Asked::Resume, _) => format!("{flow} was not paused; the execution goes on to wait for it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(state: Option<&str>) -> StartedRun {
        StartedRun {
            of: StageTry {
                stage: "flow".into(),
                visit: 1,
                item: 0,
                attempt: 1,
            },
            connection: ConnectionId::generate(),
            flow: "Obm4LgAFBZlmoo2Aq1vXI".into(),
            state: state.map(Into::into),
            state_since: None,
            taken: true,
            cancel: None,
            steps: Vec::new(),
            created_at: OffsetDateTime::UNIX_EPOCH,
            ended_at: None,
            look_at: None,
        }
    }

    #[test]
    fn what_cannot_be_reached_is_said_and_what_can_be_too() {
        let note = |state, asked| note(&run(state), asked);
        for state in ["PAUSED", "QUEUED"] {
            assert!(note(Some(state), Asked::Cancel).ends_with("is asked to stop it"));
        }
        for state in ["RUNNING", "INTERNAL_ERROR", "NEW_ONE"] {
            assert!(note(Some(state), Asked::Cancel).contains("it goes on"));
        }
        assert!(note(None, Asked::Cancel).contains("not found yet"));
        assert!(note(Some("RUNNING"), Asked::Pause).contains("cannot pause it"));
        assert!(note(Some("PAUSED"), Asked::Resume).contains("by the flow itself"));
    }
}
