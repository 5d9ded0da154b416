//! What users do, through the real services.

mod access;
mod bench;
mod companies;
mod documents;
mod executions;
mod gather;
mod identity;
mod limits;
mod lists;
mod manual;
mod memberships;
mod migrations;
mod pooler;
mod snapshots;
mod streaming;
mod studios;
mod terminal;
mod tls;
mod versions;
mod waiting;
mod workflows;
