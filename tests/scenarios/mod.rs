//! What users do, through the real services.

mod access;
mod bench;
mod companies;
mod control;
mod documents;
mod executions;
mod gather;
mod identity;
mod kinds;
mod limits;
mod lists;
mod manual;
mod memberships;
mod migrations;
mod people;
mod pooler;
mod reach;
mod snapshots;
mod streaming;
mod studios;
mod terminal;
mod tls;
mod trial;
mod versions;
mod waiting;
mod workflows;
