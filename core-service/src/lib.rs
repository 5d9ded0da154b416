//! core-service: users, companies, studios, their files and documents, and who may reach them.
//!
//! One folder per feature. A request comes in through a feature's `api`, is judged by its rules, and meets its rows in a
//! tenant transaction, where row level security shows it nothing but what the caller's memberships reach.

use std::sync::Arc;

use service_kit::{audit::AuditLog, auth::Revocations, clock::SharedClock, keys::KeyRing, outbound::Outbound};
use sqlx::PgPool;

pub mod access;
pub mod api_keys;
pub mod audit;
pub mod auth;
pub mod companies;
mod config;
mod contact;
pub mod documents;
pub mod embeddings;
pub mod files;
pub mod invitations;
pub mod jobs;
pub mod mails;
pub mod notifications;
pub mod objects;
pub mod operators;
pub mod outbox;
pub mod privacy;
pub mod requests;
mod service;
pub mod studios;
pub mod users;

pub use config::Config;
pub use service::Service;

/// What the features are made with. Shared behind an `Arc`.
pub struct App {
    /// Connections under the role that every call of a user runs with.
    pub pool: PgPool,
    /// Reads of single studios through [`pool`](Self::pool), gathered.
    pub studio_reads: studios::Reads,
    /// The making of studios, gathered.
    pub studio_creations: studios::Creations,
    /// Reads of single companies, gathered.
    pub company_reads: companies::Reads,
    /// Reads of profiles, gathered.
    pub profile_reads: users::Reads,
    /// Connections under the role of the background work.
    pub worker_pool: PgPool,
    /// The root key ring: page tokens and sealed keys.
    pub keys: KeyRing,
    /// The time.
    pub clock: SharedClock,
    /// Makes access tokens.
    pub issuer: auth::Issuer,
    /// How often somebody may sign in, register or refresh.
    pub auth_limits: auth::AuthLimits,
    /// Makes and checks password hashes.
    pub passwords: auth::Passwords,
    /// Where files' bytes lie.
    pub objects: objects::Objects,
    /// What files are set up with.
    pub files: files::Settings,
    /// The program that takes texts out of files.
    pub extractor: std::path::PathBuf,
    /// The longest text that is taken out of a file, in bytes.
    pub max_document_bytes: i64,
    /// How much of the chunk before it a chunk repeats.
    pub chunk_overlap: documents::chunker::Overlap,
    /// The end of the outbox, for those who follow it.
    pub outbox: outbox::Tail,
    /// Who did what.
    pub audit: Arc<AuditLog>,
    /// Wakes this process's worker.
    pub job_signal: jobs::Signal,
    /// How mails are sent.
    pub mail: mails::MailConfig,
    /// Wakes what sends them.
    pub mail_signal: jobs::Signal,
    /// Wakes what delivers notifications.
    pub notification_signal: jobs::Signal,
    /// For how long an erasure can be taken back.
    pub erasure_grace: std::time::Duration,
    /// For how long a step of an export or erasure is its taker's after each word of his.
    pub privacy_lease: std::time::Duration,
    /// Calls to the outside.
    pub outbound: Outbound,
    /// The sessions whose tokens are refused.
    pub revocations: Arc<Revocations>,
    /// The users of other issuers.
    pub directory: Arc<auth::identities::Directory>,
    /// Whether nobody signs in before he has proved his e-mail address.
    pub require_verified_email: bool,
}
