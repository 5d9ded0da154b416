//! Waiting for a time or a signal. How it ended is an attempt of the stage, which follows from the entries alone.

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::job::{Job, Phase};
use crate::engine::{
    action::Alarm,
    context::{Context, SourcePath},
    definition::{Definition, Kind, Wait},
    failure::FailureClass,
    journal::{AttemptFailure, AttemptPayload, Payload, Signal, StageTry, Verdict},
};

/// Since when, and until when at most.
#[derive(Debug, Clone)]
pub(super) struct Until {
    pub(super) since: OffsetDateTime,
    pub(super) deadline: Option<OffsetDateTime>,
    pub(super) signal: Option<String>,
}

impl Until {
    /// A wait that begins now.
    pub(super) fn begin(wait: &Wait, context: &Context<'_>, since: OffsetDateTime) -> Result<Self, AttemptFailure> {
        let after = wait
            .duration
            .map(|it| since.saturating_add(it.try_into().unwrap_or(time::Duration::MAX)));
        let named = match &wait.until_path {
            None => None,
            Some(path) => Some(named(path, context)?),
        };
        let deadline = match (after, named) {
            (Some(after), Some(named)) => Some(after.min(named)),
            (after, named) => after.or(named),
        };
        // A wait for nothing would never end.
        let deadline = if wait.signal.is_none() {
            deadline.or(Some(since))
        } else {
            deadline
        };
        Ok(Self {
            since,
            deadline,
            signal: wait.signal.clone(),
        })
    }

    /// What is recorded when the time has come.
    pub(super) fn alarm(&self, of: &StageTry) -> Option<Alarm> {
        let at = self.deadline?;
        let mut attempt = self.attempt(of, at);
        match &self.signal {
            None => attempt.output = json!({ "waited": true }),
            Some(name) => {
                let message = format!("the signal \"{name}\" did not come in time");
                attempt.failure = Some(AttemptFailure::lasting(FailureClass::Timeout, "signal", message));
            }
        }
        Some(Alarm {
            at,
            record: Box::new(Payload::Attempt(Box::new(attempt))),
        })
    }

    /// How it ended with a signal.
    pub(super) fn heard(&self, of: &StageTry, payload: Value, at: OffsetDateTime) -> AttemptPayload {
        AttemptPayload {
            output: payload,
            ..self.attempt(of, at)
        }
    }

    fn attempt(&self, of: &StageTry, at: OffsetDateTime) -> AttemptPayload {
        let lasted = (at - self.since).whole_milliseconds();
        AttemptPayload {
            duration_ms: u64::try_from(lasted).unwrap_or(0),
            ..unmade(of, self.since)
        }
    }
}

/// An attempt for which nothing was called.
pub(super) fn unmade(of: &StageTry, started_at: OffsetDateTime) -> AttemptPayload {
    AttemptPayload {
        stage: of.stage.clone(),
        visit: of.visit,
        item: of.item,
        attempt: of.attempt,
        failure: None,
        output: Value::Null,
        raw_output: String::new(),
        cleaned: false,
        validation: Verdict::default(),
        sources: Vec::new(),
        prompt_sha256: String::new(),
        usage: None,
        judge: None,
        started_at,
        duration_ms: 0,
    }
}

/// The time at a path.
fn named(path: &str, context: &Context<'_>) -> Result<OffsetDateTime, AttemptFailure> {
    let found = SourcePath::parse(path).ok().and_then(|path| context.resolve(&path));
    let time = found.as_ref().and_then(Value::as_str);
    time.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok())
        .ok_or_else(|| {
            let message = format!("{path} is no time as RFC 3339 has it");
            AttemptFailure::lasting(FailureClass::Validation, "until", message)
        })
}

impl Job {
    /// Ends the wait if it is for this signal.
    pub(super) fn hears(&mut self, definition: &Definition, signal: &Signal, at: OffsetDateTime) -> bool {
        let Phase::Until(until) = &self.phase else { return false };
        if !self.listens_for(&signal.name) {
            return false;
        }
        let heard = until.heard(&self.of_try(definition), signal.payload.clone(), at);
        self.phase = Phase::Known(Box::new(heard));
        true
    }

    /// Whether it waits for a signal of this name.
    pub(super) fn listens_for(&self, name: &str) -> bool {
        matches!(&self.phase, Phase::Until(until) if until.signal.as_deref() == Some(name))
    }

    /// What a stage that waits waits for.
    pub(super) fn wait<'d>(&self, definition: &'d Definition) -> Option<&'d Wait> {
        match &definition.stages[self.stage].kind {
            Kind::Wait(wait) => Some(wait),
            _ => None,
        }
    }
}
