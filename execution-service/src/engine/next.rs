//! The decision as one function: what an execution does next, from its definition, inputs and journal alone.
//!
//! It folds the whole journal; who holds a run keeps its [`State`] instead, which answers the same after every entry.

pub use super::action::{Action, Alarm, AttemptKey, Call, StartChild};
use super::{
    definition::Definition,
    journal::Entry,
    state::{Given, State},
};
use serde_json::{Map, Value};

/// What follows from the journal. Several actions where a stage fans out; none once the execution has ended.
pub fn next(definition: &Definition, inputs: &Map<String, Value>, journal: &[Entry]) -> Vec<Action> {
    let given = Given { definition, inputs };
    State::after(given, journal).actions(given)
}

#[cfg(test)]
mod tests;
