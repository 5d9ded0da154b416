//! A gRPC server: its listener, its list of layers, health and reflection, and how it stops.
//!
//! The list in [`serve`] reads top-down: a request passes it so, and the answer the other way. A server stops accepting
//! when the soft token fires, drains what is under way (streams have to end by themselves) and is gone when the hard one does.

mod deadline;
mod health;
mod in_flight;
mod limit;
mod listener;
mod panic;
mod patient;
mod routes;
pub(crate) mod step;
mod tls;
mod trace;

use std::{sync::Arc, time::Duration};

use futures::TryStreamExt;
pub use health::Health;
pub use listener::{Connection, Listener};
pub use patient::Patient;
pub use routes::Routes;
pub use tls::ServerTls;
use tonic::{service, transport::Server};
use tonic_web::GrpcWebLayer;

use self::{
    deadline::Deadline,
    in_flight::InFlight,
    limit::{By, LimitStep},
    panic::CatchPanic,
    step::{Step, StepLayer},
    trace::Trace,
};
use crate::{
    audit::OriginStep,
    auth::AuthLayer,
    client::FRAME_BYTES,
    error::{Error, Result},
    lifecycle::Lifecycle,
    limits::Limits,
};

const HEADER_BYTES: u32 = 32 * 1024;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A gateway carries all its users' calls over one connection.
const STREAMS_PER_CONNECTION: u32 = 10_000;

/// How a server differs from others.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Full names of the services that are served, as health and reflection list them.
    pub services: Vec<&'static str>,
    /// What the health service answers.
    pub health: Health,
    /// Whether the contracts can be asked for.
    pub reflection: bool,
    /// The longest that a call may take to begin its answer, whatever it asks for.
    pub deadline_cap: Duration,
    /// The paths of methods that this is not for, because they take a long request first.
    pub unhurried: &'static [&'static str],
    /// Calls that may be at work on the beginning of their answer at a time; more are refused.
    pub max_in_flight: usize,
    /// How often somebody may call this replica.
    pub limits: Arc<Limits>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            services: Vec::new(),
            health: Health::new(),
            reflection: false,
            deadline_cap: Duration::from_mins(1),
            unhurried: &[],
            max_in_flight: 4096,
            limits: Arc::new(Limits::off()),
        }
    }
}

/// Serves until the lifecycle stops it.
pub async fn serve(
    listener: Listener,
    routes: Routes,
    auth: AuthLayer,
    lifecycle: Lifecycle,
    options: ServerOptions,
) -> Result<()> {
    let infrastructure = infrastructure(&options)?;
    let (soft, hard) = (lifecycle.soft(), lifecycle.hard());
    if let Some(tls) = listener.tls() {
        lifecycle.spawn("certificates", tls.keep_fresh(lifecycle.soft()));
    }
    let stop = async move {
        soft.cancelled().await;
        options.health.end(&options.services).await;
    };
    // From here on a request goes down and its answer up.
    let steps = Trace
        .then(CatchPanic)
        .then(Deadline {
            cap: options.deadline_cap,
            unhurried: options.unhurried,
        })
        .then(LimitStep {
            by: By::Address,
            limits: options.limits.clone(),
        })
        .then(auth)
        .then(LimitStep {
            by: By::User,
            limits: options.limits,
        })
        .then(OriginStep)
        .then(InFlight::new(options.max_in_flight));
    let server = Server::builder()
        .accept_http1(true)
        .http2_max_header_list_size(HEADER_BYTES)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_frame_size(FRAME_BYTES)
        .layer(GrpcWebLayer::new())
        .layer(StepLayer(steps))
        .layer(routes)
        .add_routes(infrastructure)
        .serve_with_incoming_shutdown(listener.incoming().map_ok(Patient::new), stop);
    tokio::select! {
        served = server => served.map_err(Error::internal),
        () = hard.cancelled() => Ok(()),
    }
}

/// What every server has beside its own services.
fn infrastructure(options: &ServerOptions) -> Result<service::Routes> {
    let mut routes = service::Routes::new(options.health.server());
    if options.reflection {
        let reflection = || {
            let contracts = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(studios_proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .with_service_name("grpc.health.v1.Health");
            options
                .services
                .iter()
                .fold(contracts, |contracts, name| contracts.with_service_name(*name))
        };
        // The older version is what Python's client asks for.
        routes = routes
            .add_service(reflection().build_v1().map_err(Error::internal)?)
            .add_service(reflection().build_v1alpha().map_err(Error::internal)?);
    }
    Ok(routes.prepare())
}
