//! The gateway: the one address that browsers, curl and other clients need.
//!
//! It speaks gRPC-Web and native gRPC, which it passes on frame by frame, and Connect's JSON and Supabase's way to sign in,
//! which it turns into gRPC. It
//! judges nobody: services check who calls. It keeps from them what is too large, too long or not meant for them.

mod config;
mod connect;
mod connections;
mod deadline;
mod door;
mod forward;
mod headers;
mod hooks;
mod jwks;
mod limits;
mod methods;
pub mod openapi;
mod pages;
mod relay;
mod server;
mod supabase;
mod trace;
mod transfers;
mod upload;

use std::{io, net::SocketAddr, sync::Arc};

use service_kit::{clock::SystemClock, lifecycle::Lifecycle};
use tokio::{net::TcpListener, sync::Semaphore};

pub use crate::config::{Config, Origin};
use crate::{
    connections::Connections,
    forward::{Forwarder, Limits},
    jwks::Jwks,
    methods::Methods,
    pages::Pages,
    server::Server,
};

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The configured one.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// A service's address is not one.
    #[error(transparent)]
    Backend(#[from] service_kit::error::Error),
}

/// A gateway whose address is taken.
pub struct Service {
    listener: TcpListener,
    address: SocketAddr,
    server: Server,
}

impl Service {
    /// Takes the address. The services behind need not be there yet.
    ///
    /// # Errors
    /// The address is taken, or a service's address is not one.
    pub async fn bind(config: Config, lifecycle: Lifecycle) -> Result<Self, Error> {
        let core = config.client_tls.channel(&config.core_url)?;
        let execution = config.client_tls.channel(&config.execution_url)?;
        let listening = |source| Error::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;

        let jwks = Arc::new(Jwks::new(core.clone()));
        let limits = Limits {
            message_bytes: config.max_message_bytes,
            timeout: config.max_timeout,
        };
        let forwarder = Arc::new(Forwarder {
            methods: Methods::public(),
            core,
            execution,
            limits,
            json_kib: Semaphore::new(connect::JSON_KIB),
            large_kib: Semaphore::new(connect::LARGE_KIB),
            lifecycle: lifecycle.clone(),
        });
        let origins = config.cors_origins.into_iter().map(Origin::into_header).collect();
        let callers = limits::Limits::new(
            config.address_limit,
            config.trusted_proxies.clone(),
            Arc::new(SystemClock),
        );
        let router = door::router(
            Pages { forwarder, jwks },
            origins,
            config.max_concurrent_requests,
            callers,
        );
        Ok(Self {
            listener,
            address,
            server: Server {
                router,
                tls: config.tls,
                connections: Connections::new(config.max_connections_per_address),
                proxies: config.trusted_proxies,
                head_timeout: config.head_timeout,
                lifecycle,
            },
        })
    }

    /// The address that was taken; the port is a real one even where 0 was configured.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What it speaks there, as a URL says it.
    pub fn scheme(&self) -> &'static str {
        if self.server.tls.is_some() { "https" } else { "http" }
    }

    /// Serves until the lifecycle's soft end, then until every connection has finished or the hard end has come.
    ///
    /// # Errors
    /// None after a successful [`bind`](Self::bind): a connection that fails ends alone.
    pub async fn serve(self) -> Result<(), Error> {
        tracing::info!(address = %self.address, "serving");
        self.server.serve(self.listener).await;
        Ok(())
    }
}
