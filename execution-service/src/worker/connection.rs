//! A connection of one's own, beside the pool: for the writer, the lease and the claimer, which must not wait for others.

use std::time::Duration;

use service_kit::{db::Sessions, error::Error};
use sqlx::{ConnectOptions, PgConnection, PgPool, error::DatabaseError};
use tokio::time::timeout;

/// How long connecting, and then an operation, may take before the connection counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why an operation has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The database gave it up for the sake of another; to be done again.
    #[error("conflict with another transaction: {0}")]
    Conflict(sqlx::Error),
    /// No connection could be had; nothing was sent.
    #[error("no connection: {0}")]
    Away(sqlx::Error),
    /// The connection was lost over it; it may have been done.
    #[error("connection lost: {0}")]
    Unknown(sqlx::Error),
    /// It was refused and not done.
    #[error("refused: {0}")]
    Refused(sqlx::Error),
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(error) => error.into(),
            Trouble::Conflict(_) | Trouble::Away(_) | Trouble::Unknown(_) => {
                tracing::warn!(error = %trouble, "database unavailable");
                Self::Unavailable {
                    reason: "DATABASE_UNAVAILABLE",
                    message: "the database cannot be reached".into(),
                    retry_after: Some(Duration::from_secs(1)),
                }
            }
        }
    }
}

/// The connection: made when it is needed, dropped when it is lost or an operation is given up half-way.
#[derive(Debug)]
pub(super) struct OwnConnection {
    pool: PgPool,
    sessions: Sessions,
    connection: Option<PgConnection>,
}

impl OwnConnection {
    /// A connection to where the pool's lead.
    pub(super) fn new(pool: PgPool) -> Self {
        Self {
            sessions: Sessions::of(&pool),
            pool,
            connection: None,
        }
    }

    /// Does something over the connection.
    pub(super) async fn with<T>(
        &mut self,
        operation: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, Trouble> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => in_time(self.connect()).await.map_err(Trouble::Away)?,
        };
        let done = self.sessions.run(&mut connection, operation);
        let result = in_time(done).await.map_err(classify);
        if !matches!(result, Err(Trouble::Unknown(_))) {
            self.connection = Some(connection);
        }
        result
    }

    async fn connect(&self) -> sqlx::Result<PgConnection> {
        self.pool.connect_options().connect().await
    }
}

async fn in_time<T>(future: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut))
}

fn classify(error: sqlx::Error) -> Trouble {
    let code = error.as_database_error().and_then(DatabaseError::code);
    match code.as_deref() {
        Some("40001" | "40P01") => Trouble::Conflict(error),
        // Connection exceptions, an unknown completion, out of resources, shutting down or starting up, the server's own
        // system, a standby: not the statement's fault.
        Some(code)
            if ["08", "40003", "53", "57", "58", "25006"]
                .iter()
                .any(|passing| code.starts_with(passing)) =>
        {
            Trouble::Unknown(error)
        }
        Some(_) => Trouble::Refused(error),
        None => match error {
            sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => {
                Trouble::Refused(error)
            }
            other => Trouble::Unknown(other),
        },
    }
}
