//! What the tests stand on: one PostgreSQL cluster a run, a database of its own for each test, real servers on port 0, calls by
//! method name, and peers that answer as slowly or as wrongly as a test wants.

#![expect(
    clippy::disallowed_methods,
    reason = "the peers that tests make up are no services of ours"
)]

pub mod call;
pub mod certificates;
pub mod cluster;
pub mod deployment;
pub mod effects;
pub mod files;
pub mod hooks;
pub mod journal;
pub mod locks;
pub mod mail;
pub mod model;
pub mod otlp;
pub mod papers;
pub mod peer;
pub mod pieces;
pub mod pooler;
pub mod privacy;
pub mod process;
pub mod proxy;
pub mod refusal;
pub mod rows;
pub mod s3;
pub mod smtp;
pub mod tenant;
pub mod totp;
pub mod wire;
pub mod world;
