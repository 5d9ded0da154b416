//! Trying a stage on sample inputs, before there is a run. It is the engine's own try ([`Engine::try_stage`]): what it calls costs
//! what it costs, which is counted, and it counts as a start does; nothing else is recorded.
//!
//! [`Engine::try_stage`]: crate::worker::Engine::try_stage

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};
use service_kit::{
    auth::Caller,
    error::{Error, Result},
    ids::{ExecutionId, VersionId, WorkflowId},
};
use time::OffsetDateTime;

use super::{attempts::Recorded, start::starter};
use crate::{
    App,
    engine::{
        definition::{Definition, Kind},
        journal::{AttemptPayload, Entry, Forked, Kept, Payload, Started},
        replay,
        request::Prompt,
    },
    files,
    worker::TryStage,
    workflows,
};

/// The input that a map's item is put under while its stage is tried.
const ITEMS: &str = "test_items";

/// A stage to try.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The version's number; the draft where there is none.
    pub version: Option<i32>,
    /// The stage.
    pub stage: String,
    /// The run's inputs.
    pub inputs: Map<String, Value>,
    /// Outputs of other stages.
    pub outputs: Map<String, Value>,
    /// The item of a map.
    pub item: Option<Value>,
    /// Whether what must not be done twice may be done.
    pub allow_effects: bool,
}

/// Tries a stage.
pub(super) async fn stage(app: &App, caller: &Caller, trial: &Trial) -> Result<Recorded> {
    let access = workflows::enter(app, caller, trial.workflow).await?;
    app.start_rate.take(&access, None).await?;
    let studio = access
        .claims
        .studio_id
        .ok_or_else(|| Error::internal("a workflow's access names its studio"))?;
    let definition = match trial.version {
        Some(number) => workflows::pin(app, &access, trial.workflow, number).await?.definition,
        None => Arc::new(workflows::get(app, caller, trial.workflow).await?.draft),
    };
    let place = definition
        .position(&trial.stage)
        .ok_or_else(|| Error::invalid("stage", "must be a stage of the workflow"))?;
    check(&definition, place, trial)?;
    let asked = files::asked(&definition, &trial.inputs).into_owned();
    let trial = &Trial {
        inputs: files::pin(&app.core, starter(&access, studio), &definition, asked).await?,
        ..trial.clone()
    };
    let wanted = TryStage {
        company: access.company,
        studio,
        definition: Arc::clone(&definition),
        stage: place,
        inputs: trial.inputs.clone(),
        outputs: trial.outputs.clone(),
        item: trial.item.clone(),
        user: caller.user,
    };
    let attempt = app.engine.try_stage(wanted).await?;
    let trial = trial.clone();
    let shown = app.aside.run(move || {
        let prompt = prompt((*definition).clone(), &trial, &attempt);
        Recorded::alone(attempt, prompt)
    });
    Ok(shown.await)
}

fn check(definition: &Definition, place: usize, trial: &Trial) -> Result<()> {
    let stage = &definition.stages[place];
    match &stage.kind {
        Kind::Llm(_) | Kind::Retrieve(_) | Kind::Flowise { .. } => {}
        Kind::Http(http) if http.repeatable || trial.allow_effects => {}
        Kind::Http(_) => {
            return Err(Error::FailedPrecondition {
                reason: "EFFECT_NOT_ALLOWED",
                message: "the stage sends what must not be sent twice; set allow_effects to send it all the same"
                    .into(),
            });
        }
        Kind::File(_) => {
            return Err(Error::FailedPrecondition {
                reason: "EFFECT_NOT_ALLOWED",
                message: "the stage keeps a file, and a try keeps nothing; a dry run shows what it would keep".into(),
            });
        }
        other => {
            let description = format!(
                "is of the kind {}, which calls nothing that could be tried",
                other.name()
            );
            return Err(Error::invalid("stage", description));
        }
    }
    let unknown = trial.outputs.keys().find(|name| definition.position(name).is_none());
    unknown.map_or(Ok(()), |name| {
        Err(Error::invalid(
            format!("outputs[{name}]"),
            "must be the output of a stage of the workflow",
        ))
    })
}

/// The prompt that the try sent, rendered again from what it was made with.
fn prompt(mut definition: Definition, trial: &Trial, attempt: &AttemptPayload) -> Prompt {
    let mut inputs = trial.inputs.clone();
    let map = definition.stages.iter_mut().find_map(|stage| match &mut stage.kind {
        Kind::Map(fan) if fan.stage == trial.stage => {
            fan.items_path = format!("inputs.{ITEMS}");
            Some(stage.name.clone())
        }
        _ => None,
    });
    if let (Some(_), Some(item)) = (&map, &trial.item) {
        inputs.insert(ITEMS.into(), Value::Array(vec![item.clone()]));
    }
    let execution = ExecutionId::generate();
    let kept = trial.outputs.iter().map(|(stage, output)| Kept {
        stage: stage.clone(),
        visit: 1,
        item: 0,
        attempt: 1,
        output: output.clone(),
    });
    let payloads = [
        Payload::Started(Started {
            execution_id: execution,
            workflow_id: trial.workflow,
            version_id: VersionId::generate(),
            workflow_version: 0,
            inputs_sha256: String::new(),
            depth: 0,
        }),
        Payload::Forked(Box::new(Forked {
            source_execution: execution,
            source_seq: 0,
            source_hash: String::new(),
            from_stage: map.unwrap_or_else(|| trial.stage.clone()),
            kept: kept.collect(),
            visits: BTreeMap::new(),
        })),
        Payload::Attempt(Box::new(attempt.clone())),
    ];
    let journal: Vec<Entry> = payloads
        .into_iter()
        .zip(1..)
        .map(|(payload, seq)| Entry {
            seq,
            occurred_at: OffsetDateTime::UNIX_EPOCH,
            payload,
        })
        .collect();
    replay::prompt(&definition, &inputs, &journal, 3).unwrap_or_default()
}
