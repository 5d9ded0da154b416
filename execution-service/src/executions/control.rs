//! Asking something of a run: to stop, to pause, to go on, to hear a signal.
//!
//! Whoever asks leaves a command and is answered once it is durable; the run's holder makes it an entry. What can be known to mean
//! nothing is refused before, by where the run stands with all that was asked before it ([`Standing`]). That is judged before the
//! run's hot row is locked, and once more under the lock where something was recorded or asked between the two: so a command that
//! was answered well is one that counts, and the lock is held for a moment alone.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use service_kit::{
    audit::About,
    auth::Caller,
    db::TenantTx,
    error::{Error, Result},
    ids::ExecutionId,
};
use sqlx::PgConnection;

use super::{
    Execution, control_store, enter, not_found, read_in,
    standing::{Read, Standing},
    store,
};
use crate::{App, access::Access, engine::state::MAX_SIGNALS, requests, worker::Wish};

/// How many commands may be on their way to a run, cancels aside.
const MAX_ON_THEIR_WAY: i64 = 1_000;

/// A signal to send.
#[derive(Clone, Debug)]
pub(super) struct Send {
    /// The execution.
    pub execution: ExecutionId,
    /// The signal's name.
    pub name: String,
    /// What comes with it.
    pub payload: Value,
    /// Makes a repeated request answer well without sending again.
    pub key: Option<requests::Key>,
}

/// Asks a running execution to stop.
pub(super) async fn cancel(app: &App, caller: &Caller, id: ExecutionId, reason: &str) -> Result<Execution> {
    let access = enter(app, caller, id).await?;
    let wish = Wish::Cancel { reason: reason.into() };
    Command::of(app, &access, id, "executions.cancel").leave(&wish).await
}

/// Asks an execution to begin nothing new.
pub(super) async fn pause(app: &App, caller: &Caller, id: ExecutionId, reason: &str) -> Result<Execution> {
    let access = enter(app, caller, id).await?;
    let wish = Wish::Pause { reason: reason.into() };
    let command = Command::of(app, &access, id, "executions.pause");
    command.leave_if(&wish, Arc::new(can_pause)).await
}

/// Lets a paused execution go on.
pub(super) async fn resume(app: &App, caller: &Caller, id: ExecutionId) -> Result<Execution> {
    let access = enter(app, caller, id).await?;
    let command = Command::of(app, &access, id, "executions.resume");
    command.leave_if(&Wish::Resume {}, Arc::new(can_resume)).await
}

/// Sends an execution a signal.
pub(super) async fn signal(app: &App, caller: &Caller, send: &Send) -> Result<Execution> {
    let access = enter(app, caller, send.execution).await?;
    let wish = Wish::Signal {
        name: send.name.clone(),
        payload: send.payload.clone(),
    };
    let command = Command::of(app, &access, send.execution, "executions.signal").keyed(send.key.as_ref());
    // So few commands cannot have filled the place that there is for signals: the journal need not be looked at.
    if let Some(execution) = command.left_among(&wish, None, MAX_SIGNALS).await? {
        return Ok(execution);
    }
    let name = send.name.clone();
    command
        .leave_if(&wish, Arc::new(move |standing| can_hear(standing, &name)))
        .await
}

/// Whether it can be asked to pause, and why not.
pub(super) fn can_pause(standing: &Standing) -> Result<()> {
    if standing.is_paused() {
        return Err(Error::FailedPrecondition {
            reason: "ALREADY_PAUSED",
            message: "the execution is paused already".into(),
        });
    }
    Ok(())
}

/// Whether it can be asked to go on, and why not.
pub(super) fn can_resume(standing: &Standing) -> Result<()> {
    if standing.is_paused() {
        return Ok(());
    }
    Err(Error::FailedPrecondition {
        reason: "NOT_PAUSED",
        message: "nobody asked the execution to pause".into(),
    })
}

/// Whether a signal is kept until somebody waits for it, and why not.
fn can_hear(standing: &Standing, signal: &str) -> Result<()> {
    if standing.loses(signal) {
        return Err(Error::ResourceExhausted {
            reason: "TOO_MANY_SIGNALS",
            message: format!(
                "{MAX_SIGNALS} signals that nobody waited for yet are kept for the execution; no more can be"
            ),
            retry_after: None,
        });
    }
    Ok(())
}

/// Whether a command means something where a run stands, and why not.
pub(super) type Fits = Arc<dyn Fn(&Standing) -> Result<()> + Sync + std::marker::Send>;

/// A command to be left.
pub(super) struct Command<'a> {
    app: &'a App,
    access: &'a Access,
    execution: ExecutionId,
    name: &'static str,
    key: Option<&'a requests::Key>,
}

impl<'a> Command<'a> {
    /// A command for a run; the name is the transaction's.
    pub(super) const fn of(app: &'a App, access: &'a Access, execution: ExecutionId, name: &'static str) -> Self {
        Self {
            app,
            access,
            execution,
            name,
            key: None,
        }
    }

    /// The same, left once under a key.
    pub(super) const fn keyed(self, key: Option<&'a requests::Key>) -> Self {
        Self { key, ..self }
    }

    /// Leaves it, whatever the run is at.
    pub(super) async fn leave(&self, wish: &Wish) -> Result<Execution> {
        self.left(wish, None).await
    }

    /// Leaves it if it fits where the run stands when it comes to it. Whether it does may take long to find out.
    pub(super) async fn leave_if(&self, wish: &Wish, fits: Fits) -> Result<Execution> {
        let id = self.execution;
        let mut tx = TenantTx::begin(&self.app.pool, self.name, &self.access.claims).await?;
        // Taken for a look alone: dropped, the transaction leaves the key as it was.
        if requests::claim(&mut tx, self.key, id).await?.is_some() {
            return read_in(&mut tx, self.access, id).await;
        }
        let read = Read::of(&mut tx, id).await?;
        drop(tx);
        let judge = Arc::clone(&fits);
        let judged = self.app.aside.run(move || {
            let standing = read.fold()?;
            judge(&standing).map(|()| standing)
        });
        let standing = judged.await?;
        self.left(wish, Some((standing, fits))).await
    }

    async fn left(&self, wish: &Wish, judged: Option<(Standing, Fits)>) -> Result<Execution> {
        let left = self.left_among(wish, judged, usize::MAX).await?;
        Ok(left.expect("no count is beyond the largest"))
    }

    /// Leaves it unless so many commands were left before it already, whatever became of those.
    async fn left_among(
        &self,
        wish: &Wish,
        judged: Option<(Standing, Fits)>,
        most: usize,
    ) -> Result<Option<Execution>> {
        let id = self.execution;
        let mut tx = TenantTx::begin(&self.app.pool, self.name, &self.access.claims).await?;
        if requests::claim(&mut tx, self.key, id).await?.is_some() {
            return read_in(&mut tx, self.access, id).await.map(Some);
        }
        let Some(place) = control_store::next_command(&mut tx, id).await? else {
            return Err(ended(&mut tx, id).await);
        };
        if usize::try_from(place.left_before()).is_ok_and(|before| before >= most) {
            // Dropped, the transaction leaves no trace.
            return Ok(None);
        }
        if place.ahead() >= MAX_ON_THEIR_WAY && !matches!(wish, Wish::Cancel { .. }) {
            return Err(Error::ResourceExhausted {
                reason: "TOO_MANY_COMMANDS",
                message: format!("{MAX_ON_THEIR_WAY} commands are on their way to the execution already"),
                retry_after: Some(Duration::from_secs(1)),
            });
        }
        if let Some((standing, fits)) = judged
            && !standing.is_of(place.before())
        {
            fits(&Read::of(&mut tx, id).await?.fold()?)?;
        }
        control_store::insert_command(&mut tx, id, place, self.access.claims.sub, wish).await?;
        let execution = read_in(&mut tx, self.access, id).await?;
        let about = About::company(self.access.company, "execution", id);
        self.app.audit.record(&mut tx, about).await?;
        tx.commit().await?;
        self.app.engine.nudge(id);
        Ok(Some(execution))
    }
}

/// Why a run that is not there takes no command.
pub(super) async fn ended(tx: &mut PgConnection, id: ExecutionId) -> Error {
    match store::get(tx, id).await {
        Ok(Some(_)) => has_ended(),
        Ok(None) => not_found(id),
        Err(error) => error,
    }
}

/// That a run takes no command any more.
pub(super) fn has_ended() -> Error {
    Error::FailedPrecondition {
        reason: "EXECUTION_ENDED",
        message: "the execution has ended".into(),
    }
}
