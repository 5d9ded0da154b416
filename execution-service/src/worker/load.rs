//! Reading a run that was claimed: from its rows to what its task continues from.

use std::{sync::Arc, time::Duration};

use sqlx::PgConnection;
use time::OffsetDateTime;
use tokio::time::sleep;

use super::{
    Shared,
    scene::{Ground, Scene},
    store::{
        self, Facts,
        claims::{self, Claimed},
    },
};
use crate::engine::{
    definition::Definition,
    journal::{Entry, GENESIS, Hash, MalformedEntry, chain},
    state::State,
};

/// How long to wait before asking again a database that did not answer.
const PAUSE: Duration = Duration::from_millis(250);

/// Why a claimed run cannot be continued here.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the execution or its version is not there")]
    Gone,
    #[error(transparent)]
    Malformed(#[from] MalformedEntry),
    #[error("the journal does not end where the run stands")]
    Torn,
    #[error("the hash of the journal is not the run's head")]
    Altered,
}

impl Unusable {
    /// Whether the database may answer otherwise later.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Database(error)
            if !matches!(error, sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. }))
    }
}

/// Reads a claimed run; none if it cannot be continued here. Waits for a database that is away.
pub(super) async fn scene(shared: &Arc<Shared>, instance: i32, claimed: &Claimed) -> Option<Scene> {
    loop {
        match read(shared, instance, claimed).await {
            Ok(scene) => return Some(scene),
            Err(error) if error.may_pass() => {
                tracing::warn!(execution = %claimed.execution, error = %error, "a run could not be read");
                sleep(PAUSE).await;
            }
            Err(error) => {
                tracing::error!(execution = %claimed.execution, error = %error, "a run cannot be continued");
                return None;
            }
        }
    }
}

async fn read(shared: &Arc<Shared>, instance: i32, claimed: &Claimed) -> Result<Scene, Unusable> {
    // Few at a time, so that a process that takes over many leaves connections to those that run.
    let _turn = shared.loaders.acquire().await;
    let mut transaction = shared.pool.begin().await?;
    let facts = store::facts(&mut transaction, claimed.execution)
        .await?
        .ok_or(Unusable::Gone)?;
    let definition = match shared.definitions.get(facts.version) {
        Some(definition) => definition,
        None => read_definition(shared, &mut transaction, &facts).await?,
    };
    let begun = facts.begun;
    let ground = Ground {
        shared: shared.clone(),
        facts,
        definition,
    };
    let head: Hash = claimed.head.as_slice().try_into().map_err(|_| Unusable::Torn)?;
    let (state, last_at) = fold(&mut transaction, &ground, claimed.seq, head).await?;
    if !begun {
        claims::begin(&mut transaction, instance, claimed).await?;
    }
    transaction.commit().await?;
    Ok(Scene {
        ground: Arc::new(ground),
        state: Arc::new(state),
        seq: claimed.seq,
        head,
        last_at,
        takeovers: claimed.takeovers,
    })
}

/// Where a run stands after all of its journal, which has to end with this entry and this hash; and when that was. What was
/// announced in it was not done here.
pub(super) async fn fold(
    connection: &mut PgConnection,
    ground: &Ground,
    seq: i64,
    head: Hash,
) -> Result<(State, OffsetDateTime), Unusable> {
    let mut state = State::new(&ground.definition);
    let (mut last, mut hash) = (None, GENESIS);
    for bytes in store::journal(connection, ground.facts.execution).await? {
        let entry = Entry::open(&bytes)?;
        hash = chain(&hash, &bytes);
        state.apply(ground.given(), &entry);
        last = Some((entry.seq, entry.occurred_at));
    }
    match last {
        Some((last, at)) if last == seq => {
            if hash != head {
                return Err(Unusable::Altered);
            }
            state.resumed();
            Ok((state, at))
        }
        _ => Err(Unusable::Torn),
    }
}

async fn read_definition(
    shared: &Shared,
    connection: &mut PgConnection,
    facts: &Facts,
) -> Result<Arc<Definition>, Unusable> {
    let definition = Arc::new(
        store::definition(connection, facts.version)
            .await?
            .ok_or(Unusable::Gone)?,
    );
    shared.definitions.put(facts.version, definition.clone());
    Ok(definition)
}
