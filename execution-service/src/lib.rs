//! execution-service: models, workflows, and their execution.
//!
//! One folder per feature. A request comes in through a feature's `api`, is judged by its rules and by what core-service says
//! the caller may do ([`access`]), and meets its rows in a tenant transaction. `engine` decides what an execution does next
//! and is pure; `worker` calls, waits and records around it; `providers` speak to the models.

use std::sync::Arc;

use service_kit::{audit::AuditLog, keys::KeyRing, lifecycle::Lifecycle, outbound::Outbound};
use sqlx::PgPool;

pub mod access;
pub mod agents;
pub mod aside;
pub mod audit;
mod config;
pub mod connections;
pub mod engine;
pub mod executions;
pub mod files;
pub mod models;
pub mod notices;
pub mod pieces;
pub mod places;
pub mod plans;
pub mod privacy;
pub mod providers;
pub mod replicas;
pub mod requests;
mod service;
pub mod snapshots;
pub mod start_rate;
pub mod templates;
pub mod worker;
pub mod workflows;

use crate::{access::CoreClient, providers::Providers, replicas::Replicas, worker::Engine};
pub use crate::{config::Config, service::Service};

/// What the features are made with. Shared behind an `Arc`.
pub struct App {
    /// Connections under the role that every call of a user runs with.
    pub pool: PgPool,
    /// The versions that starts are pinned to, many callers' in one statement.
    pub pins: workflows::Pins,
    /// Executions that are read one by one, many callers' in one statement.
    pub executions: executions::Gathered,
    /// Where workflows and executions are.
    pub places: places::Places,
    /// Which workflows run templates.
    pub marks: templates::Marks,
    /// Where rendering and checking run.
    pub aside: aside::Aside,
    /// The root key ring: page tokens.
    pub keys: KeyRing,
    /// Who did what.
    pub audit: Arc<AuditLog>,
    /// What users may do, and the text of their documents.
    pub core: Arc<CoreClient>,
    /// Calls to the outside.
    pub outbound: Outbound,
    /// The way to ActivePieces.
    pub pieces: pieces::Pieces,
    /// What serves models.
    pub providers: Arc<Providers>,
    /// What runs executions.
    pub engine: Arc<Engine>,
    /// What has plans written.
    pub generator: plans::Generator,
    /// Where other executions are run.
    pub replicas: Replicas,
    /// How many runs a company may start.
    pub start_rate: start_rate::StartRate,
    /// Ends watchers when the process is to stop.
    pub lifecycle: Lifecycle,
}
