//! What the services of Studios are made with: configuration, telemetry, keys, authentication, the tenant's door to the
//! database, errors, ids, time, lifecycle, servers and clients. Nothing here knows a feature.

pub mod auth;
pub mod client;
pub mod clock;
pub mod config;
pub mod db;
pub mod error;
pub mod ids;
pub mod keys;
pub mod lifecycle;
pub mod outbound;
pub mod page;
pub mod program;
pub mod requests;
pub mod server;
pub mod status;
pub mod telemetry;
pub mod token;
pub mod update;
