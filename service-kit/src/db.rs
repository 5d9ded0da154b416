//! The doors to the database: a transaction has a name, and either a caller's claims or a worker's role behind it.
//!
//! Row level security derives what is visible from the claims, which hold for the transaction alone. Nothing depends on
//! the state of a session: no settings are sent at connecting (timeouts are set on the roles), and prepared statements are
//! named by protocol messages, so transaction poolers that follow those (pgbouncer from 1.21, Supavisor) work. One that does
//! not (pgbouncer before 1.21) works with `statement-cache-capacity=0` in the URL and its `server_reset_query_always` set:
//! then nothing that was prepared is relied on later, and every statement runs in a transaction ([`Sessions`]).

use std::{
    ops::{Deref, DerefMut},
    str::FromStr,
    time::Duration,
};

use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Postgres, Transaction,
    error::DatabaseError,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::Instant;
use tracing::{Instrument, Span, field, log::LevelFilter};

use crate::{
    error::{self, Error, Result},
    ids::{CompanyId, StudioId, UserId},
};

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
const SLOW: Duration = Duration::from_millis(500);
const TRIES: u32 = 3;

/// Connects a pool, with one connection made at once, so that a wrong address or password shows.
///
/// # Errors
/// `Internal` for a malformed URL, `Unavailable` where the server does not answer within 5 s.
pub async fn connect(url: &SecretString, max_connections: u32, application_name: &str) -> Result<PgPool> {
    let options = PgConnectOptions::from_str(url.expose_secret())?
        .application_name(application_name)
        // Poolers refuse start-up parameters that they do not know; results are binary, so this one means nothing.
        .extra_float_digits(None)
        .log_statements(LevelFilter::Trace)
        .log_slow_statements(LevelFilter::Warn, SLOW);
    let pool = PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .connect_with(options)
        .await?;
    Ok(pool)
}

/// Whether a connection is the same session from one transaction to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sessions {
    /// It is: what is prepared stays.
    Own,
    /// It is not: a pooler lends another one for every transaction, and a statement alone takes two of its own accord, one to
    /// be prepared and one to run.
    Lent,
}

impl Sessions {
    /// Those of a pool, by its URL.
    pub fn of(pool: &PgPool) -> Self {
        let url = pool.connect_options().to_url_lossy();
        let lent = url
            .query_pairs()
            .any(|(key, value)| key == "statement-cache-capacity" && value == "0");
        if lent { Self::Lent } else { Self::Own }
    }

    /// Does something that begins no transaction itself, in one where the session is lent.
    pub async fn run<T>(
        self,
        connection: &mut PgConnection,
        operation: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        if self == Self::Own {
            return operation(connection).await;
        }
        let mut transaction = connection.begin().await?;
        let done = operation(&mut transaction).await?;
        transaction.commit().await?;
        Ok(done)
    }
}

/// Does something over a connection of the pool's, without claims: for what policies let everybody see, and for the workers.
pub async fn with<T>(
    pool: &PgPool,
    operation: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
) -> sqlx::Result<T> {
    let mut connection = acquire(pool).await?;
    Sessions::of(pool).run(&mut connection, operation).await
}

/// A connection of the pool's. Waiting for one, and making it where none is idle, is a state of 14 KB in every future that may
/// come to it: it lies on the heap, for as long as it takes.
pub(crate) fn acquire(pool: &PgPool) -> BoxFuture<'static, sqlx::Result<PoolConnection<Postgres>>> {
    Box::pin(pool.acquire())
}

/// On whose behalf, and for which tenant, a transaction runs: what the policies read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// The user.
    pub sub: UserId,
    /// The company, where policies take it from the claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub company_id: Option<CompanyId>,
    /// The studio, where policies take it from the claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub studio_id: Option<StudioId>,
    /// `admin` or `member`, where policies take it from the claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
}

impl Claims {
    /// The claims of a user as such; everything else follows from his memberships.
    pub fn user(user: UserId) -> Self {
        Self {
            sub: user,
            company_id: None,
            studio_id: None,
            role: None,
        }
    }
}

/// A transaction that sees what its claims may see. Dropped without [`commit`](Self::commit), it is rolled back.
#[derive(Debug)]
pub struct TenantTx(Named);

impl TenantTx {
    /// Begins a transaction with these claims; the name is for traces and logs, like `companies.create`.
    pub async fn begin(pool: &PgPool, name: &'static str, claims: &Claims) -> Result<Self> {
        let claims = serde_json::to_string(claims).expect("claims are plain data");
        let mut named = Named::begin(pool, name).await?;
        sqlx::query("select set_config('request.jwt.claims', $1, true)")
            .bind(claims)
            .execute(&mut *named.transaction)
            .instrument(named.watch.span.clone())
            .await?;
        Ok(Self(named))
    }

    /// Makes everything done in it last.
    pub async fn commit(self) -> Result<()> {
        self.0.commit().await
    }
}

/// A transaction without claims, for the two background workers, whose roles have policies of their own.
#[derive(Debug)]
pub struct WorkerTx(Named);

impl WorkerTx {
    /// Begins a transaction; the name is for traces and logs, like `jobs.claim`.
    pub async fn begin(pool: &PgPool, name: &'static str) -> Result<Self> {
        Named::begin(pool, name).await.map(Self)
    }

    /// Makes everything done in it last.
    pub async fn commit(self) -> Result<()> {
        self.0.commit().await
    }
}

impl Deref for TenantTx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0.transaction
    }
}

impl DerefMut for TenantTx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0.transaction
    }
}

impl Deref for WorkerTx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0.transaction
    }
}

impl DerefMut for WorkerTx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0.transaction
    }
}

#[derive(Debug)]
struct Named {
    transaction: Transaction<'static, Postgres>,
    watch: Watch,
}

impl Named {
    async fn begin(pool: &PgPool, name: &'static str) -> Result<Self> {
        let watch = Watch::start(name);
        let transaction = begin(pool).instrument(watch.span.clone()).await?;
        Ok(Self { transaction, watch })
    }

    async fn commit(self) -> Result<()> {
        let Self { transaction, watch } = self;
        transaction.commit().instrument(watch.span.clone()).await?;
        watch.span.record("outcome", "committed");
        Ok(())
    }
}

/// Begins on a connection that lives. Connections are not tested before use, which would cost every transaction a round
/// trip; after a restart of the server each idle one may fail once, and nothing has been done by then.
async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>> {
    let mut perhaps_dead = pool.size();
    loop {
        match Box::pin(pool.begin()).await {
            Err(error) if perhaps_dead > 0 && error::lost(&error) => perhaps_dead -= 1,
            result => return result.map_err(Error::from),
        }
    }
}

/// A connection that answered just now. As in [`begin`], one that does not is left for the next.
pub(crate) async fn acquire_live(pool: &PgPool) -> sqlx::Result<PoolConnection<Postgres>> {
    let mut perhaps_dead = pool.size();
    loop {
        let mut connection = acquire(pool).await?;
        match connection.ping().await {
            Ok(()) => return Ok(connection),
            Err(error) if perhaps_dead == 0 || !error::lost(&error) => return Err(error),
            Err(_) => perhaps_dead -= 1,
        }
    }
}

/// The span of a transaction, open as long as it is, and a word in the log if that was long.
#[derive(Debug)]
pub(crate) struct Watch {
    name: &'static str,
    started: Instant,
    span: Span,
}

impl Watch {
    fn start(name: &'static str) -> Self {
        let span = tracing::info_span!(
            "transaction",
            otel.name = name,
            db.system.name = "postgresql",
            outcome = field::Empty,
        );
        Self::over(name, span)
    }

    /// Watches what has this span.
    pub(crate) fn over(name: &'static str, span: Span) -> Self {
        Self {
            name,
            started: Instant::now(),
            span,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        if elapsed > SLOW {
            let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            let _entered = self.span.enter();
            tracing::warn!(transaction = self.name, elapsed_ms, "slow transaction");
        }
    }
}

/// Runs an operation again, up to 3 times in all, when the database gave it up for the sake of a concurrent one
/// (serialization failure, deadlock). Each run begins its own transaction.
///
/// # Errors
/// What the operation fails with; `Aborted` with the reason `CONCURRENT_UPDATE` after the last conflict.
pub async fn retry<T, F, Fut>(name: &'static str, mut operation: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    for attempt in 1..=TRIES {
        match operation().await {
            Err(error) if is_conflict(&error) => {
                tracing::warn!(operation = name, attempt, "transaction conflict");
                if attempt < TRIES {
                    let most_ms = 20 << attempt;
                    tokio::time::sleep(Duration::from_millis(rand::random_range(5..most_ms))).await;
                }
            }
            result => return result,
        }
    }
    Err(Error::Aborted {
        reason: "CONCURRENT_UPDATE",
        message: "others changed the same things at the same time; try again".into(),
    })
}

fn is_conflict(error: &Error) -> bool {
    let Error::Internal(source) = error else {
        return false;
    };
    source
        .downcast_ref::<sqlx::Error>()
        .and_then(sqlx::Error::as_database_error)
        .and_then(DatabaseError::code)
        .is_some_and(|code| code == "40001" || code == "40P01")
}

/// Whether the database answers. A pool whose connections are all at work is busy, not ill: broken ones leave it.
pub async fn answers(pool: PgPool) -> bool {
    let busy = pool.num_idle() == 0 && pool.size() >= pool.options().get_max_connections();
    if busy {
        return true;
    }
    match acquire(&pool).await {
        Ok(mut connection) => connection.ping().await.is_ok(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, cell::Cell, error::Error as StdError, fmt};

    use sqlx::error::ErrorKind;

    use super::*;

    #[derive(Debug)]
    struct Coded(&'static str);

    impl fmt::Display for Coded {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Coded {}

    impl DatabaseError for Coded {
        fn message(&self) -> &str {
            self.0
        }
        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }
        fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
            self
        }
        fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
            self
        }
        fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
            self
        }
        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    fn coded(code: &'static str) -> Error {
        sqlx::Error::Database(Box::new(Coded(code))).into()
    }

    #[test]
    fn absent_claims_are_left_out() {
        let user = UserId::generate();
        let json = serde_json::to_string(&Claims::user(user)).unwrap();
        assert_eq!(json, format!("{{\"sub\":\"{user}\"}}"));
    }

    #[test]
    fn a_database_that_goes_away_is_unavailable_and_the_rest_internal() {
        for code in ["08006", "53300", "57P01", "57P03"] {
            assert!(matches!(coded(code), Error::Unavailable { .. }), "{code}");
        }
        assert!(matches!(
            Error::from(sqlx::Error::PoolTimedOut),
            Error::Unavailable { .. }
        ));
        for code in ["23505", "40001", "42501"] {
            assert!(matches!(coded(code), Error::Internal(_)), "{code}");
        }
    }

    #[tokio::test]
    async fn conflicts_are_tried_again_until_they_are_over() {
        for code in ["40001", "40P01"] {
            let runs = Cell::new(0);
            let result = retry("test", || async {
                runs.set(runs.get() + 1);
                if runs.get() < TRIES {
                    Err(coded(code))
                } else {
                    Ok(runs.get())
                }
            });
            assert_eq!(result.await.unwrap(), TRIES);
        }
    }

    #[tokio::test]
    async fn a_conflict_that_stays_is_aborted() {
        let runs = Cell::new(0);
        let result = retry("test", || async {
            runs.set(runs.get() + 1);
            Err::<(), _>(coded("40001"))
        });
        assert!(matches!(
            result.await,
            Err(Error::Aborted {
                reason: "CONCURRENT_UPDATE",
                ..
            })
        ));
        assert_eq!(runs.get(), TRIES);
    }

    #[tokio::test]
    async fn other_errors_are_not_tried_again() {
        let runs = Cell::new(0);
        let result = retry("test", || async {
            runs.set(runs.get() + 1);
            Err::<(), _>(coded("23505"))
        });
        assert!(matches!(result.await, Err(Error::Internal(_))));
        assert_eq!(runs.get(), 1);
    }
}
