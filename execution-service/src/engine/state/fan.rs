//! A map under way: its items, those that are being tried, and the outputs so far.
//!
//! What always holds: at most as many items as the map says are open at once; an item is opened once; the outputs stand in the
//! items' order whatever order they come in.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::job::Job;
use crate::engine::{
    context::Passed,
    definition::{Definition, Fan, MAX_ITEMS},
    failure::FailureClass,
    journal::{AttemptFailure, Kept, StageTry},
};

/// A map under way.
#[derive(Debug, Clone)]
pub(super) struct FanOut {
    /// The map's place.
    pub(super) stage: usize,
    /// The place of the stage it runs.
    body: usize,
    pub(super) visit: u32,
    pub(super) items: Arc<[Value]>,
    results: Vec<Option<Passed>>,
    /// The items that are being tried.
    pub(super) open: BTreeMap<u32, Job>,
    /// The first item that was not opened.
    next: usize,
    /// How many have a result.
    done: usize,
    at_once: usize,
}

impl FanOut {
    /// A map over a value, some of whose items may have outputs already.
    pub(super) fn over(
        fan: &Fan,
        (stage, body): (usize, usize),
        visit: u32,
        items: Option<Value>,
        kept: Vec<Kept>,
    ) -> Result<Self, AttemptFailure> {
        let lasting = |message: String| AttemptFailure::lasting(FailureClass::Validation, "items", message);
        let Some(Value::Array(items)) = items else {
            return Err(lasting(format!("{} is no list", fan.items_path)));
        };
        if items.len() > MAX_ITEMS {
            let message = format!(
                "{} has {} items; at most {MAX_ITEMS} can be",
                fan.items_path,
                items.len()
            );
            return Err(lasting(message));
        }
        let mut this = Self {
            stage,
            body,
            visit,
            results: vec![None; items.len()],
            items: items.into(),
            open: BTreeMap::new(),
            next: 0,
            done: 0,
            at_once: fan.at_once(),
        };
        for kept in kept {
            let place = kept.item as usize;
            if kept.visit == visit && place < this.results.len() && this.results[place].is_none() {
                this.done += 1;
                this.results[place] = Some(Passed {
                    visit,
                    attempt: kept.attempt,
                    output: Arc::new(kept.output),
                });
            }
        }
        this.open_more();
        Ok(this)
    }

    pub(super) fn is_of(&self, definition: &Definition, of: &StageTry) -> bool {
        of.visit == self.visit && definition.stages[self.body].name == of.stage
    }

    /// Takes an item's output, and opens the next one.
    pub(super) fn settle(&mut self, item: u32, attempt: u32, output: Arc<Value>) {
        if self.open.remove(&item).is_some() {
            self.done += 1;
            self.results[item as usize] = Some(Passed {
                visit: self.visit,
                attempt,
                output,
            });
        }
        self.open_more();
    }

    pub(super) fn is_done(&self) -> bool {
        self.done == self.items.len()
    }

    /// The outputs, in the items' order.
    pub(super) fn passed(&self) -> Passed {
        let outputs = self.results.iter().flatten();
        Passed {
            visit: self.visit,
            attempt: 1,
            output: Arc::new(outputs.map(|it| (*it.output).clone()).collect()),
        }
    }

    /// The outputs so far, as another execution may keep them.
    pub(super) fn kept(&self, definition: &Definition) -> Vec<Kept> {
        let results = self.results.iter().zip(0..);
        results
            .filter_map(|(result, item)| {
                let passed = result.as_ref()?;
                // An item whose failure was let go is tried again.
                (!passed.output.is_null()).then(|| Kept {
                    stage: definition.stages[self.body].name.clone(),
                    visit: self.visit,
                    item,
                    attempt: passed.attempt,
                    output: (*passed.output).clone(),
                })
            })
            .collect()
    }

    fn open_more(&mut self) {
        while self.open.len() < self.at_once && self.next < self.items.len() {
            if self.results[self.next].is_none()
                && let Ok(item) = u32::try_from(self.next)
            {
                self.open.insert(item, Job::new(self.body, self.visit, item));
            }
            self.next += 1;
        }
    }
}
