//! ActivePieces: flows that run elsewhere and belong to a workflow here.
//!
//! `client` speaks to an instance, as it behaves and not as its documentation says; `runs` and `flows` read what it answers;
//! `callback` is the URL by which a flow says itself that it has ended. Starts and their ends are the worker's
//! ([`crate::worker`]). What always holds: an instance's address is a member's and passes the guard; the id of a run is a
//! capability, and no answer, log, span or error has it.

mod accounts;
mod api;
mod breaker;
pub mod callback;
mod client;
mod convert;
mod failure;
mod flows;
mod importing;
mod runs;
mod scrub;
mod session;
pub(crate) mod started;
mod store;

pub use self::{
    api::Api,
    client::{Account, Auth, Flows, Page, Pieces, Probe, Runs, Started},
    failure::{Failure, Kind as FailureKind},
    flows::{Findings, Flow, FlowSummary},
    runs::{Detailed, Ended, Listed, RunState},
};
pub(crate) use self::{client::is_id, flows::STUDIOS};
