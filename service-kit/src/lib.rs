//! What the services of Studios are made with: configuration, telemetry, keys, authentication, the tenants' doors to the
//! database, errors, ids, time, lifecycle, servers and clients. Nothing here knows a feature.

use mimalloc::MiMalloc;

pub mod audit;
pub mod auth;
pub mod client;
pub mod clock;
pub mod config;
pub mod db;
pub mod error;
pub mod gather;
pub mod ids;
pub mod keys;
pub mod lifecycle;
pub mod limits;
pub mod methods;
pub mod outbound;
pub mod page;
mod pem;
pub mod program;
pub mod requests;
pub mod server;
pub mod status;
pub mod telemetry;
pub mod token;
pub mod update;

/// Of everything that is made with this crate. The services make and drop many small things on several threads, which the
/// system's allocator took a fifth of their time for.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;
