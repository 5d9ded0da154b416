//! The connections that stages use, remembered for a second, and how they fare.
//!
//! What changes of a connection is felt by the next call a second later at most. How a call went is noted aside: a note that
//! says nothing new is not written, one that finds no room is left out, and no run waits for one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::future::Cache;
use service_kit::{
    clock::{Clock, SystemClock},
    db,
    error::Error,
    ids::{CompanyId, ConnectionId},
    keys::KeyRing,
    lifecycle::Lifecycle,
};
use sqlx::PgPool;
use tokio::{sync::mpsc, time::Instant};

use super::store::health;
use crate::connections::{self, Open};

/// How long what was read is believed.
const LIFETIME: Duration = Duration::from_secs(1);
/// How many are remembered.
const CAPACITY: u64 = 10_000;
/// How long a note that says the same again is left out.
const SAME_FOR: Duration = Duration::from_mins(1);
/// How many notes wait to be written.
const NOTES: usize = 256;
/// How many connections' last notes are remembered.
const REMEMBERED: usize = 10_000;

/// The connections that were used in the last second.
pub(super) struct Connections {
    pool: PgPool,
    keys: KeyRing,
    known: Cache<(CompanyId, ConnectionId), Option<Arc<Open>>>,
    notes: mpsc::Sender<Note>,
    told: Mutex<HashMap<ConnectionId, (Option<String>, Instant)>>,
}

/// How a call of a connection went.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub company: CompanyId,
    pub connection: ConnectionId,
    /// Class, reason and words, where it failed.
    pub failure: Option<(String, String, String)>,
}

impl Connections {
    /// Notes are written until the lifecycle ends.
    pub(super) fn new(pool: PgPool, keys: KeyRing, lifecycle: &Lifecycle) -> Self {
        let (notes, incoming) = mpsc::channel(NOTES);
        lifecycle.spawn("connection-health", write(pool.clone(), incoming, lifecycle.soft()));
        Self {
            pool,
            keys,
            known: Cache::builder().max_capacity(CAPACITY).time_to_live(LIFETIME).build(),
            notes,
            told: Mutex::default(),
        }
    }

    /// A company's connection. Many who ask at once read it once.
    ///
    /// # Errors
    /// The database does not answer, or the key ring does not open the secret.
    pub(super) async fn find(&self, company: CompanyId, id: ConnectionId) -> Result<Option<Arc<Open>>, Arc<Error>> {
        let key = (company, id);
        if let Some(known) = self.known.get(&key).await {
            return Ok(known);
        }
        let read = async {
            let sealed = db::with(&self.pool, async |it| connections::sealed(it, company, id).await).await?;
            let open = sealed.map(|it| it.open(&self.keys)).transpose()?;
            Ok(open.map(Arc::new))
        };
        self.known.try_get_with(key, read).await
    }

    /// Notes how a call went.
    pub(super) fn note(&self, note: Note) {
        let said = note.failure.as_ref().map(|(_, reason, _)| reason.clone());
        let now = SystemClock.monotonic().into();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told
            .get(&note.connection)
            .is_some_and(|(last, at)| *last == said && now < *at + SAME_FOR)
        {
            return;
        }
        if told.len() >= REMEMBERED {
            told.clear();
        }
        let connection = note.connection;
        if self.notes.try_send(note).is_ok() {
            told.insert(connection, (said, now));
        }
    }
}

async fn write(pool: PgPool, mut incoming: mpsc::Receiver<Note>, stop: tokio_util::sync::CancellationToken) {
    while let Some(Some(note)) = stop.run_until_cancelled(incoming.recv()).await {
        let written = db::with(&pool, async |it| health::note(it, &note).await).await;
        if let Err(error) = written {
            tracing::warn!(%error, connection = %note.connection, "a connection's health was not noted");
        }
    }
}
