//! Work that is bounded but long: rendering and checking what members wrote. It runs beside the threads that serve everybody,
//! a few at a time.

use std::panic;

use tokio::{sync::Semaphore, task};

/// How many run at a time; the rest wait. One for the process, as the processors are.
static TURNS: Semaphore = Semaphore::const_new(4);

/// Runs it when its turn comes. What is dropped while it runs still ends its work before the next one's turn.
///
/// # Panics
/// If the work does.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let turn = TURNS.acquire().await.expect("the turns are never closed");
    let done = task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    done.await
        .unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
}
