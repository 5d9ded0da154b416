//! The service as it runs: what it opens, what it serves, and what goes on in the background.

use std::{net::SocketAddr, sync::Arc};

use service_kit::{
    audit::{AuditLog, Schema, Sealer},
    auth::{
        AuthLayer, ClientJwks, Door, External, IssuerKeys, Peer, Revocations, UserTokens, Verifier,
        api_keys::{ApiKeys, ClientApiKeys},
    },
    clock::{SharedClock, SystemClock},
    db,
    error::Result,
    lifecycle::Lifecycle,
    limits::Limits,
    outbound::{Outbound, OutboundConfig},
    server::{self, Health, Listener, Routes, ServerOptions},
    token::ServiceIdentity,
};
use studios_proto::execution::{
    agent_service_server::{self, AgentServiceServer},
    connection_service_server::{self, ConnectionServiceServer},
    execution_audit_service_server::{self, ExecutionAuditServiceServer},
    execution_service_server::{self, ExecutionServiceServer},
    flow_callback_service_server::{self, FlowCallbackServiceServer},
    flow_service_server::{self, FlowServiceServer},
    model_service_server::{self, ModelServiceServer},
    plan_service_server::{self, PlanServiceServer},
    replica_service_server::{self, ReplicaServiceServer},
    snapshot_service_server::{self, SnapshotServiceServer},
    template_service_server::{self, TemplateServiceServer},
    workflow_service_server::{self, WorkflowServiceServer},
};

use url::Url;

use crate::{
    App, Config,
    access::CoreClient,
    agents,
    aside::Aside,
    audit, connections, executions, models, notices,
    pieces::{self, Pieces},
    places::Places,
    plans, privacy,
    providers::Providers,
    replicas::{self, Replicas},
    snapshots,
    start_rate::StartRate,
    templates,
    worker::{Engine, EngineConfig},
    workflows,
};

const NAME: &str = "execution-service";

const SERVICES: [&str; 12] = [
    agent_service_server::SERVICE_NAME,
    connection_service_server::SERVICE_NAME,
    execution_audit_service_server::SERVICE_NAME,
    execution_service_server::SERVICE_NAME,
    flow_callback_service_server::SERVICE_NAME,
    flow_service_server::SERVICE_NAME,
    model_service_server::SERVICE_NAME,
    plan_service_server::SERVICE_NAME,
    replica_service_server::SERVICE_NAME,
    snapshot_service_server::SERVICE_NAME,
    template_service_server::SERVICE_NAME,
    workflow_service_server::SERVICE_NAME,
];

/// A service that holds its port and is ready to serve.
pub struct Service {
    app: Arc<App>,
    listener: Listener,
    auth: AuthLayer,
    limits: Arc<Limits>,
    reflection: bool,
}

impl Service {
    /// Connects to the database, binds the port, and takes up executions. core-service need not be there yet.
    pub async fn bind(config: Config, lifecycle: Lifecycle) -> Result<Self> {
        let clock: SharedClock = Arc::new(SystemClock);
        let pool = db::connect(&config.database_url, config.database_connections, NAME).await?;
        let engine_pool = db::connect(&config.engine_database_url, config.engine_database_connections, NAME).await?;
        let channel = config.client_tls.channel(&config.core_url)?;
        let users = UserTokens {
            issuer: config.issuer,
            audience: config.audience,
            keys: Arc::new(ClientJwks::new(channel.clone())),
        };
        // The other replicas have the same key.
        let replica = Peer {
            name: NAME.into(),
            key: config.service_key.public_jwk(),
        };
        let revocations = Arc::new(Revocations::new(clock.clone()));
        let identity = Arc::new(ServiceIdentity::new(NAME, config.service_key, clock.clone()));
        let api_keys = Arc::new(ClientApiKeys::new(channel.clone(), identity.clone()));
        let api_keys = ApiKeys::new(config.key_ring.clone(), api_keys);
        let core = Arc::new(CoreClient::new(channel, identity.clone(), revocations.clone()));
        let external = External::new(
            &config.issuers,
            &Outbound::new(&IssuerKeys::OUTBOUND)?,
            core.clone(),
            clock.clone(),
        );
        let verifier = Verifier::new(users, [replica], clock.clone())?
            .refusing(revocations)
            .accepting(external)
            .with_api_keys(api_keys);
        lifecycle.spawn("access-events", core.as_ref().clone().follow(lifecycle.soft()));
        let outbound = Outbound::new(&OutboundConfig {
            allow: config.outbound_allow,
            ..OutboundConfig::default()
        })?;
        let pieces = Pieces::new(outbound.clone(), clock.clone());
        let providers = Arc::new(Providers::new(&config.providers, outbound.clone()));
        let is_secure = config.tls.is_some();
        let listener = Listener::bind(config.listen).await?.with_tls(config.tls);
        let address = config
            .advertised_address
            .unwrap_or_else(|| listener.local_addr().to_string());
        let replicas = Replicas::new(address.clone(), is_secure, config.client_tls, identity);
        let limits = Limits::new(config.limits, clock.clone());
        let start_rate = StartRate::new(config.start_limit, pool.clone(), clock.clone());
        let aside = Aside::default();
        let audit = AuditLog::new(Schema::Execution, config.key_ring.clone(), clock.clone());
        let sealer = Sealer::new(Schema::Execution, engine_pool.clone(), &config.key_ring, clock.clone());
        lifecycle.spawn("audit", sealer.run(lifecycle.soft()));
        lifecycle.spawn(
            "privacy",
            privacy::Worker::new(engine_pool.clone(), core.clone(), config.key_ring.clone()).run(lifecycle.soft()),
        );
        lifecycle.spawn(
            "notices",
            notices::tell(engine_pool.clone(), core.clone(), lifecycle.soft()),
        );
        let engine = EngineConfig {
            pool: engine_pool,
            address,
            max_running: config.max_running,
            aside: aside.clone(),
            pieces: pieces.clone(),
            keys: config.key_ring.clone(),
            public_url: config.public_url,
        };
        let engine = Engine::open(
            engine,
            providers.clone(),
            core.clone(),
            clock.clone(),
            lifecycle.clone(),
        )
        .await?;
        let generator = plans::Generator::open(engine.clone(), clock, lifecycle.clone());
        let app = App {
            pins: workflows::gather_pins(pool.clone(), lifecycle.clone()),
            executions: executions::gather(pool.clone(), lifecycle.clone()),
            places: Places::default(),
            marks: templates::Marks::default(),
            aside,
            audit: Arc::new(audit),
            pool,
            keys: config.key_ring,
            core,
            outbound,
            pieces,
            providers,
            engine,
            generator,
            replicas,
            start_rate,
            lifecycle,
        };
        Ok(Self {
            app: Arc::new(app),
            listener,
            auth: AuthLayer::new(Arc::new(verifier), door),
            limits: Arc::new(limits),
            reflection: config.reflection,
        })
    }

    /// The address that is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// What it speaks there, as a URL says it.
    pub fn scheme(&self) -> &'static str {
        self.listener.scheme()
    }

    /// Says where others reach the gateway, where the configuration does not.
    pub fn reached_at(&self, gateway: Url) {
        self.app.engine.reached_at(gateway);
    }

    /// Serves until the lifecycle stops it; ending for another reason, it stops that softly.
    pub async fn serve(self) -> Result<()> {
        let Self {
            app,
            listener,
            auth,
            limits,
            reflection,
        } = self;
        let lifecycle = app.lifecycle.clone();
        let _stops = lifecycle.soft().drop_guard();
        let health = Health::new();
        let pool = app.pool.clone();
        health
            .follow(&lifecycle, SERVICES.to_vec(), move || db::answers(pool.clone()))
            .await;
        tracing::info!(address = %listener.local_addr(), "serving");
        let options = ServerOptions {
            services: SERVICES.to_vec(),
            health,
            reflection,
            limits,
            ..ServerOptions::default()
        };
        server::serve(listener, routes(&app), auth, lifecycle, options).await
    }
}

/// The replicas speak to each other alone; what a flow posts carries its right in itself.
fn door(path: &str) -> Door {
    match path.trim_start_matches('/').split('/').next() {
        Some(replica_service_server::SERVICE_NAME) => Door::Service,
        Some(flow_callback_service_server::SERVICE_NAME) => Door::Public,
        _ => Door::Member,
    }
}

fn routes(app: &Arc<App>) -> Routes {
    Routes::new()
        .with(AgentServiceServer::new(agents::Api::new(app.clone())))
        .with(ConnectionServiceServer::new(connections::Api::new(app.clone())))
        .with(ExecutionAuditServiceServer::new(audit::Api::new(app.clone())))
        .with(ExecutionServiceServer::new(executions::Api::new(app.clone())))
        .with(FlowCallbackServiceServer::new(pieces::Api::new(app.clone())))
        .with(FlowServiceServer::new(pieces::Api::new(app.clone())))
        .with(ModelServiceServer::new(models::Api::new(app.clone())))
        .with(PlanServiceServer::new(plans::Api::new(app.clone())))
        .with(ReplicaServiceServer::new(replicas::Api::new(app.clone())))
        .with(SnapshotServiceServer::new(snapshots::Api::new(app.clone())))
        .with(TemplateServiceServer::new(templates::Api::new(app.clone())))
        .with(WorkflowServiceServer::new(workflows::Api::new(app.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_of_the_contracts_is_served() {
        let package = "studios.execution.v1";
        let mut named: Vec<_> = studios_proto::descriptors()
            .services()
            .filter(|it| it.parent_file().package_name() == package)
            .map(|it| it.full_name().to_owned())
            .collect();
        named.sort();
        assert_eq!(named, SERVICES);
    }
}
