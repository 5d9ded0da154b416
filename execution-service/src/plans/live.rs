//! What watchers hear from the process that has a plan written: the modules that are complete so far.
//!
//! Nothing here is stored. A follower has all modules of the round at once and those that come; when the round grows, what it had
//! is void. Nobody is behind: what a slow follower misses between two looks is there at the next.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use service_kit::ids::PlanId;
use tokio::sync::watch;

use super::rules::Module;

/// The modules that are complete.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    /// Grows whenever the modules of before are void.
    pub(crate) round: i64,
    /// In order.
    pub(crate) modules: Vec<Arc<Module>>,
}

/// The plans that are being written here.
#[derive(Debug, Clone, Default)]
pub(super) struct Live(Arc<Mutex<HashMap<PlanId, watch::Sender<Shown>>>>);

impl Live {
    /// Tells of a plan that is written here from now on, until it is dropped.
    pub(super) fn publish(&self, plan: PlanId) -> Publisher {
        let sender = watch::Sender::new(Shown::default());
        self.plans().insert(plan, sender.clone());
        Publisher {
            live: self.clone(),
            plan,
            sender,
        }
    }

    /// What is written of a plan, if that is done here. It closes when it is over.
    pub(super) fn follow(&self, plan: PlanId) -> Option<watch::Receiver<Shown>> {
        self.plans().get(&plan).map(watch::Sender::subscribe)
    }

    /// The plans that are written here.
    pub(super) fn all(&self) -> Vec<PlanId> {
        self.plans().keys().copied().collect()
    }

    fn plans(&self) -> MutexGuard<'_, HashMap<PlanId, watch::Sender<Shown>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Publisher {
    live: Live,
    plan: PlanId,
    sender: watch::Sender<Shown>,
}

impl Publisher {
    /// A module is complete.
    pub(super) fn module(&self, module: Module) {
        self.sender.send_modify(|it| it.modules.push(Arc::new(module)));
    }

    /// Everything begins anew.
    pub(super) fn restart(&self) {
        self.sender.send_modify(|it| {
            it.round += 1;
            it.modules.clear();
        });
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let mut plans = self.live.plans();
        // The next attempt may have begun.
        if plans.get(&self.plan).is_some_and(|it| it.same_channel(&self.sender)) {
            plans.remove(&self.plan);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::rules::Minutes, *};

    fn module(title: &str) -> Module {
        Module {
            title: title.into(),
            description: String::new(),
            minutes: Minutes {
                value: 30,
                clamped: false,
            },
            tasks: Vec::new(),
        }
    }

    fn titles(shown: &watch::Receiver<Shown>) -> Vec<String> {
        shown.borrow().modules.iter().map(|it| it.title.clone()).collect()
    }

    #[tokio::test]
    async fn a_late_follower_has_what_was_complete_before() {
        let (live, plan) = (Live::default(), PlanId::generate());
        assert!(live.follow(plan).is_none());
        let publisher = live.publish(plan);
        publisher.module(module("One"));
        let mut follower = live.follow(plan).unwrap();
        assert_eq!(titles(&follower), ["One"]);
        publisher.module(module("Two"));
        follower.changed().await.unwrap();
        assert_eq!(titles(&follower), ["One", "Two"]);
        publisher.restart();
        follower.changed().await.unwrap();
        assert_eq!((follower.borrow().round, titles(&follower).len()), (1, 0));
        drop(publisher);
        assert!(follower.changed().await.is_err(), "it is over");
        assert!(live.all().is_empty());
    }

    #[test]
    fn the_end_of_an_attempt_does_not_end_the_next() {
        let (live, plan) = (Live::default(), PlanId::generate());
        let first = live.publish(plan);
        let _second = live.publish(plan);
        drop(first);
        assert_eq!(live.all(), [plan]);
    }
}
