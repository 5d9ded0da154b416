//! The public keys of core-service, kept for as long as it allows.
//!
//! However many ask at once, core-service is asked once. It is believed for ten minutes at most, so that a key that was
//! taken out is gone by then whatever was said before.

use std::time::Duration;

use bytes::Bytes;
use service_kit::{
    client,
    error::{Error, Result},
    status::from_status,
};
use studios_proto::core::{GetJwksRequest, auth_service_client::AuthServiceClient};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tonic::transport::Channel;

const LONGEST: Duration = Duration::from_mins(10);

/// How long a caller waits, those who wait for another's question included.
const PATIENCE: Duration = Duration::from_secs(3);

/// The key set and how long it holds.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// JSON Web Key Set (RFC 7517).
    pub(crate) json: Bytes,
    until: Instant,
}

impl Keys {
    /// How much longer it holds.
    pub(crate) fn max_age(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// The key set of core-service.
#[derive(Debug)]
pub(crate) struct Jwks {
    core: Channel,
    kept: Mutex<Option<Keys>>,
}

impl Jwks {
    pub(crate) fn new(core: Channel) -> Self {
        Self {
            core,
            kept: Mutex::default(),
        }
    }

    /// The keys, kept or new.
    pub(crate) async fn get(&self) -> Result<Keys> {
        timeout(PATIENCE, self.kept_or_new()).await.unwrap_or_else(|_| {
            Err(Error::Unavailable {
                reason: "BACKEND_UNAVAILABLE",
                message: "core-service did not give its keys in time".into(),
                retry_after: Some(Duration::from_secs(1)),
            })
        })
    }

    async fn kept_or_new(&self) -> Result<Keys> {
        let mut kept = self.kept.lock().await;
        if let Some(keys) = kept.as_ref().filter(|keys| !keys.max_age().is_zero()) {
            return Ok(keys.clone());
        }
        let request = client::call(None, None, GetJwksRequest {}, PATIENCE);
        let answer = AuthServiceClient::new(self.core.clone())
            .get_jwks(request)
            .await
            .map_err(from_status)?;
        let answer = answer.into_inner();
        let max_age = answer
            .max_age
            .and_then(|age| Duration::try_from(age).ok())
            .unwrap_or_default();
        let keys = Keys {
            json: answer.jwks_json.into(),
            until: Instant::now() + max_age.min(LONGEST),
        };
        *kept = Some(keys.clone());
        Ok(keys)
    }
}
