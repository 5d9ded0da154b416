//! What a job asks of the worker.

use serde_json::{Map, Value};
use service_kit::ids::ExecutionId;
use uuid::Uuid;

use super::{
    Given, State, Step,
    job::{Job, Phase},
};
use crate::engine::{
    action::{Action, AttemptKey, Call, StartChild},
    definition::{Kind, Stage},
    journal::Payload,
};

impl State {
    /// What a job asks for now.
    pub(super) fn action(&self, given: Given<'_>, job: &Job) -> Action {
        let stage = &given.definition.stages[job.stage];
        match &job.phase {
            Phase::Ready => match &stage.kind {
                Kind::Workflow(child) => Action::StartChild(StartChild {
                    key: key(self.execution, stage, job),
                    not_before: job.not_before,
                    workflow_id: child.workflow_id.clone(),
                    version: child.version,
                    inputs: self.variables(given, stage, job, false),
                    depth: self.depth + 1,
                }),
                Kind::Http(http) if !http.repeatable => Action::Intend(self.call_of(given, job)),
                Kind::Activepieces(_) => Action::Intend(self.call_of(given, job)),
                _ => Action::Call(self.call_of(given, job)),
            },
            Phase::Intended => Action::Call(Call {
                intended: true,
                ..self.call_of(given, job)
            }),
            Phase::Lost => Action::LookUp(Call {
                intended: true,
                ..self.call_of(given, job)
            }),
            Phase::Run(since) => Action::AwaitRun {
                call: Call {
                    intended: true,
                    ..self.call_of(given, job)
                },
                since: *since,
                until: since.saturating_add(stage.timeout.try_into().unwrap_or(time::Duration::MAX)),
            },
            Phase::Child(execution) => Action::AwaitChild {
                of: job.of_try(given.definition),
                execution: *execution,
            },
            Phase::People(waiting, _) => Action::AwaitPerson(waiting.clone()),
            Phase::Until(until) => {
                let of = job.of_try(given.definition);
                let alarm = until.alarm(&of);
                match (&until.signal, alarm) {
                    (None, Some(alarm)) => Action::AwaitTime { of, alarm },
                    (name, alarm) => Action::AwaitSignal {
                        of,
                        name: name.clone().unwrap_or_default(),
                        alarm,
                    },
                }
            }
            Phase::Known(attempt) => Action::Record(Box::new(Payload::Attempt(attempt.clone()))),
        }
    }

    pub(super) fn call_of(&self, given: Given<'_>, job: &Job) -> Call {
        let stage = &given.definition.stages[job.stage];
        let model = match &stage.kind {
            Kind::Llm(llm) => llm.model_at(job.model).map(str::to_owned),
            _ => None,
        };
        Call {
            key: key(self.execution, stage, job),
            stage: job.stage,
            not_before: job.not_before,
            inputs: self.variables(given, stage, job, true),
            notes: job.notes.clone(),
            model,
            intended: false,
            round: job.round,
        }
    }

    /// The variables of the stage's mapping; those of a template also have the item.
    fn variables(&self, given: Given<'_>, stage: &Stage, job: &Job, with_item: bool) -> Map<String, Value> {
        let context = self.context_for(given, &job.of_try(given.definition));
        let mut variables = match &stage.kind {
            // A flow that is given nothing in particular takes what the run was started with.
            Kind::Activepieces(_) if stage.input_mapping.is_empty() => given.inputs.clone(),
            _ => context.mapped(&stage.input_mapping),
        };
        if with_item
            && matches!(self.step, Step::Fan(_))
            && let Some((index, item)) = context.item()
        {
            variables.insert("item".into(), item.clone());
            variables.insert("index".into(), Value::from(index));
        }
        variables
    }
}

/// What a job's try is known by.
pub(super) fn key(execution: Option<ExecutionId>, stage: &Stage, job: &Job) -> AttemptKey {
    AttemptKey {
        execution: execution.unwrap_or_else(|| Uuid::nil().into()),
        stage: stage.name.clone(),
        visit: job.visit,
        item: job.item,
        attempt: job.attempt,
    }
}
