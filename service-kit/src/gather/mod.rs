//! The second door to tenant data: many callers' calls of one kind, gathered into one statement.
//!
//! While a statement is under way further calls wait, and go together with the next one; there is no timer, so a lone call
//! waits for nothing. The statement is one call of a plpgsql function (SECURITY INVOKER) that, for each item, sets its
//! caller's claims locally and then touches its rows, under row level security, all in one implicit transaction: nothing
//! stays in the session. Only plpgsql keeps that order; plain SQL may look at rows before it sets claims.
//! Always: a row found under other claims than its caller's reaches nobody; what one item fails with, its neighbours do
//! not notice, because a failing batch is run again by halves; a caller who has gone away costs nothing.

mod lane;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use sqlx::{PgConnection, PgPool};
use tokio::sync::oneshot;

use self::lane::Lane;
use crate::{
    db::{Claims, Sessions, Watch},
    error::{Error, Result},
    ids::CompanyId,
    lifecycle::Lifecycle,
};

/// The target of the spans of gathered calls.
pub(crate) const TARGET: &str = "service_kit::gather";

/// Asks for all items in one statement: their claims as JSON, and their arguments, in the same order. It answers with at
/// most one row an item, and lets errors of the database through as they are.
pub type Statement<A, R> =
    for<'c> fn(&'c mut PgConnection, &'c [String], &'c [A]) -> BoxFuture<'c, sqlx::Result<Vec<Answer<R>>>>;

/// What the statement says of an item.
#[derive(Debug)]
pub struct Answer<R> {
    /// The item's place in the batch, from 1, as plpgsql counts.
    pub item: i32,
    /// Whose the row is, which must be the caller's.
    pub owner: Owner,
    /// The row.
    pub row: R,
}

/// Whose a row is, as the database says where it finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Whose claims these are: those in force there. They must be the very claims of the call.
    Claims(String),
    /// The row's company, which must be that of the claims.
    Company(CompanyId),
}

/// A kind of call.
#[derive(Debug)]
pub struct Kind<A, R> {
    /// For traces and logs, like `studios.get`.
    pub name: &'static str,
    /// Whether it can be asked again when a connection broke: it changes nothing.
    pub reads: bool,
    /// How it is asked.
    pub statement: Statement<A, R>,
}

/// How much is gathered.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Statements that can be under way at a time, each on a connection from the pool.
    pub lanes: usize,
    /// The most calls in a statement.
    pub batch: usize,
    /// Calls that can wait; one more is told to come back.
    pub queue: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            lanes: 2,
            batch: 256,
            queue: 4096,
        }
    }
}

/// Gathers the calls of one kind. Connections are taken from the pool while there is work, and given back after it.
#[derive(Debug)]
pub struct Gatherer<A, R>(Arc<Shared<A, R>>);

impl<A: Send + Sync + 'static, R: Send + 'static> Gatherer<A, R> {
    /// Gathers what is asked of this pool; the lifecycle sees the tasks that do the asking.
    pub fn new(pool: PgPool, lifecycle: Lifecycle, kind: Kind<A, R>, bounds: Bounds) -> Self {
        Self(Arc::new(Shared {
            sessions: Sessions::of(&pool),
            pool,
            lifecycle,
            kind,
            bounds,
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                lanes: 0,
            }),
        }))
    }

    /// The row of one call; `None` where the claims see none. Dropped, the call is forgotten: a read is not made, a write
    /// may be or may not.
    ///
    /// # Errors
    /// `Unavailable` where too many calls wait already or the database cannot be reached (after a write it may have been
    /// made all the same); what the item itself fails with, in which case nothing of it was done.
    pub async fn call(&self, claims: &Claims, args: A) -> Result<Option<R>> {
        let name = self.0.kind.name;
        let span = tracing::debug_span!(
            target: TARGET,
            "transaction",
            otel.name = name,
            db.system.name = "postgresql",
            gathered = true,
        );
        let _watch = Watch::over(name, span);
        let (reply, answer) = oneshot::channel();
        let call = Call {
            company: claims.company_id,
            claims: serde_json::to_string(claims).expect("claims are plain data"),
            args,
            reply,
        };
        if let Some(lane) = self.0.enqueue(call)? {
            self.0.lifecycle.spawn(name, lane.run());
        }
        answer
            .await
            .unwrap_or_else(|_| Err(Error::internal("a gathered call was dropped")))
    }
}

#[derive(Debug)]
struct Shared<A, R> {
    pool: PgPool,
    sessions: Sessions,
    lifecycle: Lifecycle,
    kind: Kind<A, R>,
    bounds: Bounds,
    state: Mutex<State<A, R>>,
}

#[derive(Debug)]
struct State<A, R> {
    waiting: VecDeque<Call<A, R>>,
    /// Lanes at work. Where calls wait there is at least one.
    lanes: usize,
}

#[derive(Debug)]
struct Call<A, R> {
    company: Option<CompanyId>,
    claims: String,
    args: A,
    reply: oneshot::Sender<Result<Option<R>>>,
}

impl<A, R> Shared<A, R> {
    /// Lets a call wait; with a lane to be run, where there is room for another.
    fn enqueue(self: &Arc<Self>, call: Call<A, R>) -> Result<Option<Lane<A, R>>> {
        let mut state = self.state();
        if state.waiting.len() >= self.bounds.queue {
            return Err(Error::Unavailable {
                reason: "OVERLOADED",
                message: "the server has too much to do right now".into(),
                retry_after: Some(Duration::from_secs(1)),
            });
        }
        state.waiting.push_back(call);
        if state.lanes == self.bounds.lanes {
            return Ok(None);
        }
        state.lanes += 1;
        Ok(Some(Lane::new(self.clone())))
    }

    fn state(&self) -> MutexGuard<'_, State<A, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
