//! Runs: their states by the time that has passed, their steps, and what they post at their end.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{PROJECT, Shared, flows::Flow};

/// What a flow does when it is started.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// How the start is answered.
    pub reaction: Reaction,
    /// How long it stands in the queue.
    pub queued: Duration,
    /// How long it runs.
    pub runs: Duration,
    /// How it ends.
    pub ends: &'static str,
    /// What it becomes after that: an internal error that is tried again.
    pub becomes: Option<(Duration, &'static str)>,
    /// Whether it stays paused until somebody resumes or stops it.
    pub pauses: bool,
    /// What it posts to its call-back URL.
    pub calls_back: CallBack,
    /// Whether it tags its run with our correlation id.
    pub tags: bool,
    /// Whether its runs have been purged: no steps.
    pub purged: bool,
    /// What its last step gives.
    pub output: Value,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            reaction: Reaction::Takes,
            queued: Duration::ZERO,
            runs: Duration::from_millis(50),
            ends: "SUCCEEDED",
            becomes: None,
            pauses: false,
            calls_back: CallBack::Never,
            tags: false,
            purged: false,
            output: json!({ "sum": 7 }),
        }
    }
}

/// How a start is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Reaction {
    /// As usual.
    Takes,
    /// With this status, after the run was begun.
    Says(u16),
    /// With this status and body, and nothing is begun.
    Refuses(u16, Value),
    /// Not at all: the run is begun, and no answer ever comes.
    Hangs,
    /// Well, and nothing is ever begun: wrong credentials of the trigger.
    Forgets,
}

/// What is posted at the end.
#[derive(Debug, Clone, PartialEq)]
pub enum CallBack {
    /// Nothing.
    Never,
    /// What came out.
    Once,
    /// What came out, before the start is answered.
    Early,
    /// The same three times.
    Thrice,
    /// That it failed.
    Failed,
}

/// A run.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub id: String,
    pub flow: String,
    pub body: Value,
    pub tags: Vec<String>,
    /// By the clock of the day.
    pub created: OffsetDateTime,
    begun: Instant,
    behaviour: Behaviour,
    /// Whether it has a row: an async start has none until a worker takes it.
    pub has_row: bool,
    /// Whether no worker was there to take it.
    waits: bool,
    fixed: Option<&'static str>,
    resumed: Option<Instant>,
}

impl Run {
    pub(super) fn state(&self, now: Instant, longest: Duration) -> &'static str {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        if self.waits {
            return "QUEUED";
        }
        let it = &self.behaviour;
        let begun = self.resumed.unwrap_or(self.begun + it.queued);
        if now < begun {
            return "QUEUED";
        }
        if it.pauses && self.resumed.is_none() {
            return "PAUSED";
        }
        let ran = now - begun;
        if ran < it.runs.min(longest) {
            return "RUNNING";
        }
        if it.runs > longest {
            return "TIMEOUT";
        }
        match it.becomes {
            Some((after, becomes)) if ran >= it.runs + after => becomes,
            _ => it.ends,
        }
    }

    /// As lists have it.
    pub(super) fn json(&self, flow: Option<&Flow>, now: Instant, longest: Duration) -> Value {
        let state = self.state(now, longest);
        let time = self.created.format(&Rfc3339).expect("a time");
        let is_over = !matches!(state, "QUEUED" | "RUNNING" | "PAUSED");
        json!({
            "id": self.id, "created": time, "updated": time, "projectId": PROJECT, "flowId": self.flow,
            "flowVersionId": "Tn0UjsL3ieBKGPinRDjWI", "environment": "PRODUCTION", "logsFileId": null, "parentRunId": null,
            "failParentOnFailure": false, "status": state, "tags": self.tags, "startTime": null, "triggeredBy": null,
            "finishTime": is_over.then_some(&time),
            "failedStep": (state == "FAILED").then(|| json!({ "name": "step_1", "displayName": "Add", "message": cut(&error()) })),
            "archivedAt": null, "stepNameToTest": null, "stepsCount": 1, "pauseMetadata": null,
            "flowVersion": flow.map(Flow::version),
        })
    }

    /// Its steps.
    pub(super) fn steps(&self, now: Instant, longest: Duration) -> Value {
        let state = self.state(now, longest);
        if self.behaviour.purged || matches!(state, "QUEUED" | "INTERNAL_ERROR") {
            return json!({});
        }
        let mut steps = json!({ "trigger": { "type": "PIECE_TRIGGER", "status": "SUCCEEDED", "input": {},
            "output": { "method": "POST", "headers": {}, "body": self.body, "queryParams": {} } } });
        match state {
            "SUCCEEDED" => {
                steps["step_1"] = json!({ "type": "CODE", "status": "SUCCEEDED", "input": { "secret": "step-input-canary" },
                    "output": self.behaviour.output, "duration": 3.5 });
            }
            "FAILED" => {
                steps["step_1"] = json!({ "type": "CODE", "status": "FAILED", "input": {}, "duration": 3.5, "errorMessage": error() });
            }
            _ => {}
        }
        steps
    }

    pub(super) fn cancel(&mut self, now: Instant, longest: Duration) {
        if self.state(now, longest) == "PAUSED" {
            self.fixed = Some("CANCELED");
        }
    }

    pub(super) fn resume(&mut self, now: Instant) {
        self.resumed = Some(now);
    }
}

fn error() -> String {
    json!({ "__apErrorVersion": 1, "message": "Error: asked to fail: x", "raw": "Error: Error: asked to fail: x\n at (eval)".repeat(20) }).to_string()
}

fn cut(text: &str) -> &str {
    &text[..text.len().min(700)]
}

/// Begins a run; its id, and how it behaves.
pub(super) fn begin(shared: &Arc<Shared>, flow: &Flow, body: Value, is_sync: bool) -> (String, Behaviour) {
    let behaviour = behaviour(shared, flow, &body);
    let id = shared.id();
    let tag = body["studios"]["correlation_id"].as_str().filter(|_| behaviour.tags);
    let tags = tag.map(str::to_owned).into_iter().collect();
    let run = Run {
        id: id.clone(),
        flow: flow.id.clone(),
        body,
        tags,
        created: OffsetDateTime::now_utc(),
        begun: Instant::now(),
        behaviour: behaviour.clone(),
        has_row: is_sync || shared.worker_is_up.load(Ordering::SeqCst),
        waits: !shared.worker_is_up.load(Ordering::SeqCst),
        fixed: None,
        resumed: None,
    };
    let is_taken = !run.waits;
    shared.state().runs.push(run);
    if is_taken {
        let wait = behaviour.queued + behaviour.runs;
        let shared = Arc::clone(shared);
        let run = id.clone();
        if !behaviour.pauses {
            drop(tokio::task::spawn(async move {
                tokio::time::sleep(wait).await;
                call_back(&shared, &run).await;
            }));
        }
    }
    (id, behaviour)
}

/// What a test has set, else what definition and body say.
fn behaviour(shared: &Shared, flow: &Flow, body: &Value) -> Behaviour {
    if let Some(set) = shared.state().behaviours.get(&flow.id) {
        return set.clone();
    }
    let millis = body["sleepMs"].as_u64().unwrap_or(20);
    Behaviour {
        runs: Duration::from_millis(millis),
        ends: if body["fail"].is_null() { "SUCCEEDED" } else { "FAILED" },
        pauses: flow.has("@activepieces/piece-delay", None) || flow.has("@activepieces/piece-approval", None),
        tags: flow.has("@activepieces/piece-tags", Some("add_tag")),
        ..Behaviour::default()
    }
}

/// Posts what a run posts at its end.
pub(super) async fn call_back(shared: &Arc<Shared>, id: &str) {
    let run = shared.state().runs.iter().find(|it| it.id == id).cloned();
    let Some(run) = run else { return };
    let Some(url) = run.body["studios"]["callback_url"].as_str() else {
        return;
    };
    let tag = &run.body["studios"]["correlation_id"];
    let output = json!({ "correlation_id": tag, "output": run.behaviour.output });
    let (times, body) = match run.behaviour.calls_back {
        CallBack::Never => return,
        CallBack::Once | CallBack::Early => (1, output),
        CallBack::Thrice => (3, output),
        CallBack::Failed => (
            1,
            json!({ "correlation_id": tag, "status": "failed", "message": "the branch of failures ran" }),
        ),
    };
    for _ in 0..times {
        // One that is lost is what call-backs are.
        drop(shared.http.post(url).json(&body).send().await);
    }
}

/// Has a worker take what waits for one.
pub(super) fn catch_up(shared: &Arc<Shared>) {
    let now = Instant::now();
    for run in shared.state().runs.iter_mut().filter(|it| it.waits) {
        (run.has_row, run.waits) = (true, false);
        run.begun = now;
        run.created = OffsetDateTime::now_utc();
    }
}

/// Ends all runs.
pub(super) fn finish_all(shared: &Arc<Shared>) {
    let mut ids = Vec::new();
    for run in &mut shared.state().runs {
        run.fixed = Some(run.behaviour.ends);
        ids.push(run.id.clone());
    }
    let shared = Arc::clone(shared);
    drop(tokio::task::spawn(async move {
        for id in ids {
            call_back(&shared, &id).await;
        }
    }));
}
