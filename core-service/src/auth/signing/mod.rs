//! The keys that sign access tokens, and their rotation.
//!
//! They lie in the database, the private halves sealed under the root key ring, so every replica signs with the same one
//! and publishes the same set. Each replica tends them once a minute: what is missing is made under an advisory lock, by
//! the rules of [`rules`], and what is over is removed. A row that the key ring does not open is an operator's mistake
//! and stops the service at its start, for a second set of keys would only hide it.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use serde::Serialize;
use serde_json::json;
use service_kit::{
    auth::JwksSource,
    clock::SharedClock,
    error::{Error, Result},
    keys::{KeyRing, SigningKey},
};
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use rules::Term;
use store::Stored;

mod rules;
mod store;

const PURPOSE: &str = "core.signing_keys";
const TEND_EVERY: Duration = Duration::from_mins(1);

/// The signing keys as this replica knows them.
pub struct SigningKeys {
    pool: PgPool,
    ring: KeyRing,
    clock: SharedClock,
    known: RwLock<Arc<Known>>,
}

#[derive(Default)]
struct Known {
    keys: Vec<(Term, SigningKey)>,
    jwks: String,
}

impl SigningKeys {
    /// Reads the keys, and makes the first one where there is none.
    pub async fn open(pool: PgPool, ring: KeyRing, clock: SharedClock) -> Result<Self> {
        let keys = Self {
            pool,
            ring,
            clock,
            known: RwLock::default(),
        };
        keys.tend().await?;
        Ok(keys)
    }

    /// A JWT of these claims.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String> {
        let now = self.clock.now();
        let known = self.known();
        let signs = known.keys.iter().find(|(term, _)| term.contains(now));
        let (_, key) = signs.ok_or_else(|| Error::Unavailable {
            reason: "SIGNING_KEY_UNAVAILABLE",
            message: "no key may sign at the moment".into(),
            retry_after: Some(TEND_EVERY),
        })?;
        Ok(key.sign(claims))
    }

    /// The public halves as a JSON Web Key Set.
    pub fn jwks(&self) -> String {
        self.known().jwks.clone()
    }

    /// Tends the keys until it is told to stop.
    pub async fn keep_tended(self: Arc<Self>, stop: CancellationToken) {
        let tending = async {
            loop {
                tokio::time::sleep(TEND_EVERY).await;
                self.tend_or_warn().await;
            }
        };
        stop.run_until_cancelled(tending).await;
    }

    async fn tend_or_warn(&self) {
        if let Err(error) = self.tend().await {
            tracing::warn!(error = ?error, "signing keys could not be tended");
        }
    }

    async fn tend(&self) -> Result<()> {
        let now = self.clock.now();
        let mut tx = self.pool.begin().await?;
        let mut stored = store::list(&mut tx).await?;
        if missing(&stored, now).is_some() {
            store::lock(&mut tx).await?;
            // Another replica may have been faster.
            stored = store::list(&mut tx).await?;
            if let Some(term) = missing(&stored, now) {
                let made = self.make(term)?;
                store::insert(&mut tx, &made).await?;
                tracing::info!(kid = made.kid, signs_from = %made.from, "signing key made");
                stored.push(made);
            }
        }
        store::remove_ended_before(&mut tx, now - rules::AFTERWARDS).await?;
        tx.commit().await?;
        let known = Arc::new(self.read(&stored)?);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    fn make(&self, term: Term) -> Result<Stored> {
        let key = SigningKey::generate();
        Ok(Stored {
            kid: key.kid().to_owned(),
            public_jwk: serde_json::to_value(key.public_jwk()).map_err(Error::internal)?,
            sealed: self.ring.seal(PURPOSE, key.kid().as_bytes(), &key.to_pkcs8()),
            from: term.from,
            until: term.until,
        })
    }

    fn read(&self, stored: &[Stored]) -> Result<Known> {
        let keys = stored.iter().map(|row| Ok((row.term(), self.unseal(row)?)));
        let public: Vec<_> = stored.iter().map(|row| &row.public_jwk).collect();
        Ok(Known {
            keys: keys.collect::<Result<_>>()?,
            jwks: json!({ "keys": public }).to_string(),
        })
    }

    fn unseal(&self, row: &Stored) -> Result<SigningKey> {
        let opened = self.ring.open(PURPOSE, row.kid.as_bytes(), &row.sealed);
        opened
            .and_then(|der| SigningKey::from_pkcs8(&der))
            .map_err(|error| Error::internal(format!("the key ring does not open signing key {}: {error}", row.kid)))
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl JwksSource for SigningKeys {
    /// Reads the database first, for the key that is asked for may be another replica's newest.
    fn fetch(&self) -> BoxFuture<'_, Result<String>> {
        async {
            self.tend_or_warn().await;
            Ok(self.jwks())
        }
        .boxed()
    }
}

impl Stored {
    fn term(&self) -> Term {
        Term {
            from: self.from,
            until: self.until,
        }
    }
}

fn missing(stored: &[Stored], now: OffsetDateTime) -> Option<Term> {
    rules::missing(stored.iter().map(Stored::term), now)
}
