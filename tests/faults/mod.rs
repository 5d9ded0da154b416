//! What goes wrong in the world: processes die, models answer badly, tokens are not what they say.

mod access;
mod agents;
mod answers;
mod chaos;
mod claiming;
mod crash;
mod database;
mod effects;
mod extraction;
mod files;
mod flows;
mod hostile;
mod journal;
mod large_documents;
mod plans;
mod privacy;
mod providers;
mod replicas;
mod sessions;
mod streaming;
mod tokens;
mod writer;
