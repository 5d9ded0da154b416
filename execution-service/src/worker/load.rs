//! Reading a run that was claimed: from its rows to what its task continues from.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    Shared,
    scene::Scene,
    store::{
        self, Facts,
        claims::{self, Claimed},
    },
};
use crate::engine::{
    definition::Definition,
    journal::{Entry, GENESIS, Hash, MalformedEntry, chain},
};

/// How long to wait before asking again a database that did not answer.
const PAUSE: Duration = Duration::from_millis(250);

/// Why a claimed run cannot be continued here.
#[derive(Debug, thiserror::Error)]
enum Unusable {
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
    let stored = store::journal(&mut transaction, claimed.execution).await?;
    let journal = stored
        .iter()
        .map(|bytes| Entry::open(bytes))
        .collect::<Result<Vec<_>, _>>()?;
    let head: Hash = claimed.head.as_slice().try_into().map_err(|_| Unusable::Torn)?;
    if journal.last().map(|last| last.seq) != Some(claimed.seq) {
        return Err(Unusable::Torn);
    }
    if stored.iter().fold(GENESIS, |previous, bytes| chain(&previous, bytes)) != head {
        return Err(Unusable::Altered);
    }
    if !facts.begun {
        claims::begin(&mut transaction, instance, claimed).await?;
    }
    transaction.commit().await?;
    Ok(Scene {
        shared: shared.clone(),
        facts,
        definition,
        journal,
        head,
        takeovers: claimed.takeovers,
    })
}

async fn read_definition(
    shared: &Shared,
    connection: &mut sqlx::PgConnection,
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
