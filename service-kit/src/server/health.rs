//! What a server says of its health: per service, and over all under the empty name.

use std::{future::Future, time::Duration};

use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use crate::lifecycle::Lifecycle;

const PROBE_INTERVAL: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The health of a server's services; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health(HealthReporter);

impl Health {
    /// No service is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the health of these services, and of the whole.
    pub async fn set(&self, services: &[&str], serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in services.iter().chain(&[""]) {
            self.0.set_service_status(service, status).await;
        }
    }

    /// Lets the health of these services follow a probe, such as a query of the database, until the process stops softly.
    /// What the probe said first stands when this returns.
    pub async fn follow<F, P>(&self, lifecycle: &Lifecycle, services: Vec<&'static str>, probe: P)
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = bool> + Send,
    {
        let asked = async move || tokio::time::timeout(PROBE_TIMEOUT, probe()).await.unwrap_or(false);
        let health = self.clone();
        health.set(&services, asked().await).await;
        let soft = lifecycle.soft();
        lifecycle.spawn("health", async move {
            // A probe that the end overtakes must not have the last word.
            while let Some(serving) = soft
                .run_until_cancelled(async {
                    tokio::time::sleep(PROBE_INTERVAL).await;
                    asked().await
                })
                .await
            {
                health.set(&services, serving).await;
            }
        });
    }

    /// Tells who watches that these services no longer serve, and ends the watching, which would hold up the server's end.
    pub(super) async fn end(mut self, services: &[&str]) {
        self.set(services, false).await;
        for service in services.iter().chain(&[""]) {
            self.0.clear_service_status(service).await;
        }
    }

    pub(super) fn server(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.0.clone()))
    }
}
