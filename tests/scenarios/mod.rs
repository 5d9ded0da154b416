//! What users do, through the real services.

mod companies;
mod documents;
mod executions;
mod identity;
mod lists;
mod migrations;
mod studios;
mod terminal;
mod workflows;
