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
use tokio_util::sync::CancellationToken;

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
pub(super) struct Live(Arc<Mutex<HashMap<PlanId, Entry>>>);

/// A plan that is being written.
#[derive(Debug, Clone)]
struct Entry {
    sender: watch::Sender<Shown>,
    abandoned: CancellationToken,
}

impl Live {
    /// Tells of a plan that is written here from now on, until it is dropped.
    pub(super) fn publish(&self, plan: PlanId) -> Publisher {
        let entry = Entry {
            sender: watch::Sender::new(Shown::default()),
            abandoned: CancellationToken::new(),
        };
        self.plans().insert(plan, entry.clone());
        Publisher {
            live: self.clone(),
            plan,
            entry,
        }
    }

    /// What is written of a plan, if that is done here. It closes when it is over.
    pub(super) fn follow(&self, plan: PlanId) -> Option<watch::Receiver<Shown>> {
        self.plans().get(&plan).map(|it| it.sender.subscribe())
    }

    /// A plan is gone: whoever writes it here lets go of it.
    pub(super) fn abandon(&self, plan: PlanId) {
        if let Some(entry) = self.plans().get(&plan) {
            entry.abandoned.cancel();
        }
    }

    /// The plans that are written here, each with what has whoever writes it let go of it.
    pub(super) fn written(&self) -> Vec<(PlanId, CancellationToken)> {
        let plans = self.plans();
        let written = plans.iter().map(|(plan, entry)| (*plan, entry.abandoned.clone()));
        written.collect()
    }

    /// The plans that are written here.
    pub(super) fn all(&self) -> Vec<PlanId> {
        self.plans().keys().copied().collect()
    }

    fn plans(&self) -> MutexGuard<'_, HashMap<PlanId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Publisher {
    live: Live,
    plan: PlanId,
    entry: Entry,
}

impl Publisher {
    /// A module is complete.
    pub(super) fn module(&self, module: Module) {
        let sender = &self.entry.sender;
        sender.send_modify(|it| it.modules.push(Arc::new(module)));
    }

    /// Everything begins anew.
    pub(super) fn restart(&self) {
        self.entry.sender.send_modify(|it| {
            it.round += 1;
            it.modules.clear();
        });
    }

    /// Fires when the plan is gone.
    pub(super) async fn abandoned(&self) {
        self.entry.abandoned.cancelled().await;
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let mut plans = self.live.plans();
        // The next attempt may have begun.
        let own = &self.entry.sender;
        if plans.get(&self.plan).is_some_and(|it| it.sender.same_channel(own)) {
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

    #[tokio::test]
    async fn whoever_writes_a_plan_that_is_gone_is_told_and_nobody_else() {
        let (live, plan) = (Live::default(), PlanId::generate());
        let publisher = live.publish(plan);
        let other = live.publish(PlanId::generate());
        live.abandon(plan);
        live.abandon(PlanId::generate());
        publisher.abandoned().await;
        assert!(!other.entry.abandoned.is_cancelled());
        assert_eq!(live.written().iter().filter(|it| it.1.is_cancelled()).count(), 1);
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
