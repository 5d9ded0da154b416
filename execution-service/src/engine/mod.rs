//! The engine's mind: what a workflow is, what an execution's journal says, and what follows from both.
//!
//! Everything here is pure. It takes values and returns values, and knows no clock, no database, no network and no task;
//! the worker around it only calls, waits and records. So a crash is survived by reading the journal again, and the same
//! decisions can be driven by another executor.

pub mod action;
pub mod approval;
pub mod cel;
pub mod check;
pub mod context;
pub mod definition;
pub mod dry_run;
pub mod failure;
pub mod fork;
pub mod functions;
pub mod journal;
pub mod judge;
pub mod next;
pub mod passages;
pub mod pattern;
pub mod replay;
pub mod request;
pub mod state;
pub mod template;
pub mod waiting;

#[cfg(test)]
mod testing;
