//! Work that is bounded but may be long: rendering and checking what members wrote. It runs beside the threads that serve
//! everybody, a few at a time. Coming and going costs tens of microseconds: what is known to be short is done where it is.

use std::{panic, sync::Arc};

use tokio::{sync::Semaphore, task};

/// How many run at a time; the rest wait.
const TURNS: usize = 4;

/// Where such work runs. Clones share their turns.
#[derive(Debug, Clone)]
pub struct Aside(Arc<Semaphore>);

impl Default for Aside {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TURNS)))
    }
}

impl Aside {
    /// Runs it when its turn comes. What is dropped while it runs still ends its work before the next one's turn.
    ///
    /// # Panics
    /// If the work does.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let turns = Arc::clone(&self.0);
        let turn = turns.acquire_owned().await.expect("the turns are never closed");
        let done = task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await
            .unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
    }
}
