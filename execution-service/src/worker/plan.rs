//! What a held run is to do now, as the engine's actions say it: begin calls, record what follows by itself, wait, or end.

use std::time::Duration;

use serde_json::{Map, Value};
use service_kit::ids::ExecutionId;
use time::OffsetDateTime;

use crate::engine::{
    action::{Action, Alarm, Call, StartChild},
    definition::{Definition, Kind, Stage},
    failure::Failure,
    journal::{Intent, Of, Payload, StageTry},
};

/// How long after a flow's time a run looks itself how that ended, and how often from then on, lest it was not told.
const LOOK_AT_FLOWS: (Duration, Duration) = (Duration::from_secs(30), Duration::from_mins(5));
/// How often a run that waits for another one looks itself, lest it was not told.
const LOOK_AT_CHILDREN: Duration = Duration::from_mins(5);

/// What a run is to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// An entry that follows from those before.
    pub follows: Option<Payload>,
    /// How it ends.
    pub end: Option<Ending>,
    /// Calls to begin now.
    pub calls: Vec<Call>,
    /// Executions to begin now.
    pub children: Vec<StartChild>,
    /// Executions that it waits for.
    pub awaited: Vec<(StageTry, ExecutionId)>,
    /// Flows that it waits for, and since when.
    pub flows: Vec<(Call, OffsetDateTime)>,
    /// Whether people are asked something.
    pub asks: bool,
    /// Whether somebody asked to begin nothing new.
    pub is_paused: bool,
    /// When something is to be done by itself, if nothing happens before.
    pub wake_at: Option<OffsetDateTime>,
}

/// How a run ends.
#[derive(Debug)]
pub(super) enum Ending {
    Completed(Map<String, Value>),
    Failed(Failure),
    /// Its journal has ended.
    Over,
}

impl Plan {
    /// What these actions come to at a time.
    pub(super) fn of(actions: Vec<Action>, definition: &Definition, now: OffsetDateTime) -> Self {
        let mut plan = Self::default();
        if actions.is_empty() {
            return plan;
        }
        for action in actions {
            plan.take(action, definition, now);
            if plan.follows.is_some() || plan.end.is_some() {
                break;
            }
        }
        plan
    }

    /// Whether nothing is to be done until somebody asks something or a time comes.
    pub(super) fn rests(&self) -> bool {
        self.calls.is_empty() && self.children.is_empty()
    }

    /// Whether it waits for people.
    pub(super) fn waits_for_people(&self) -> bool {
        self.is_paused || self.asks
    }

    fn take(&mut self, action: Action, definition: &Definition, now: OffsetDateTime) {
        match action {
            Action::Call(call) => {
                if self.is_time(call.not_before, now) {
                    self.calls.push(call);
                }
            }
            Action::Intend(call) => {
                if self.is_time(call.not_before, now) {
                    let effect = effect(definition.stages.get(call.stage));
                    let of = call.key.of_try();
                    self.follows = Some(Payload::Intent(Intent { of, effect }));
                }
            }
            // Starts of flows are known by their rows: making the call again sends nothing that may have been sent.
            Action::LookUp(call) if is_flow(definition.stages.get(call.stage)) => self.calls.push(call),
            // No other kind of stage can be asked what became of what it announced.
            Action::LookUp(call) => self.follows = Some(Payload::Unknown(Of { of: call.key.of_try() })),
            Action::StartChild(child) => {
                if self.is_time(child.not_before, now) {
                    self.children.push(child);
                }
            }
            Action::AwaitChild { of, execution } => {
                self.awaited.push((of, execution));
                self.wake(now + LOOK_AT_CHILDREN);
            }
            Action::AwaitRun { call, since, until } => {
                self.flows.push((call, since));
                let (after, every) = LOOK_AT_FLOWS;
                self.wake(if until + after > now {
                    until + after
                } else {
                    now + every
                });
            }
            Action::AwaitPerson(waiting) => {
                self.asks |= !self.rings(waiting.alarm(), now);
            }
            Action::AwaitSignal { alarm, .. } => {
                self.rings(alarm, now);
            }
            Action::AwaitTime { alarm, .. } => {
                self.rings(Some(alarm), now);
            }
            Action::Record(payload) => self.follows = Some(*payload),
            Action::AwaitResume { .. } => self.is_paused = true,
            Action::Complete { outputs } => self.end = Some(Ending::Completed(outputs)),
            Action::Fail(failure) => self.end = Some(Ending::Failed(failure)),
        }
    }

    fn is_time(&mut self, not_before: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
        match not_before {
            Some(at) if at > now => {
                self.wake(at);
                false
            }
            _ => true,
        }
    }

    /// Whether an alarm's time has come; what it is for is to be recorded then.
    fn rings(&mut self, alarm: Option<Alarm>, now: OffsetDateTime) -> bool {
        let Some(Alarm { at, record }) = alarm else {
            return false;
        };
        if at > now {
            self.wake(at);
            return false;
        }
        self.follows = Some(*record);
        true
    }

    fn wake(&mut self, at: OffsetDateTime) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

fn is_flow(stage: Option<&Stage>) -> bool {
    stage.is_some_and(|stage| matches!(stage.kind, Kind::Activepieces(_)))
}

/// What is announced, for people: without the values that a template fills in, which may be secret.
fn effect(stage: Option<&Stage>) -> String {
    match stage.map(|stage| &stage.kind) {
        Some(Kind::Http(http)) => format!("{} {}", http.method, http.url),
        Some(Kind::Activepieces(flow)) => format!("start the ActivePieces flow {}", flow.flow_id),
        _ => String::new(),
    }
}
