//! A try of a stage that is not recorded: how a stage does on sample inputs, before there is a run.
//!
//! It is the same try as a run's, from the same state: one that has just begun at the stage with the given outputs of others. What
//! it calls is called, costs what it costs, and counts as that; nothing else is written.

use std::sync::Arc;

use serde_json::{Map, Value};
use service_kit::{
    db,
    error::{Error, Result},
    ids::{CompanyId, ExecutionId, StudioId, UserId, VersionId, WorkflowId},
    telemetry,
};

use super::{
    Beginning, Engine,
    call::{Came, Try},
    scene::Ground,
    scene::Scene,
    store::{Facts, quotas, spent_by},
};
use crate::engine::{
    action::Action,
    definition::{Definition, Kind},
    journal::{AttemptPayload, Forked, Kept},
};

/// The input that a map's item is put under.
const ITEMS: &str = "test_items";

/// A stage to try.
#[derive(Debug, Clone)]
pub struct TryStage {
    /// The company it is tried for.
    pub company: CompanyId,
    /// The studio whose documents it sees.
    pub studio: StudioId,
    /// What the stage is part of.
    pub definition: Arc<Definition>,
    /// Its place.
    pub stage: usize,
    /// The run's inputs.
    pub inputs: Map<String, Value>,
    /// Outputs of other stages, by their names.
    pub outputs: Map<String, Value>,
    /// The item that a stage sees which a map runs.
    pub item: Option<Value>,
    /// Who tries it; it acts as this user.
    pub user: UserId,
}

impl Engine {
    /// Tries a stage, and records nothing.
    ///
    /// # Errors
    /// `Invalid` on `stage` for one that calls nothing, or that a map runs and that is given no `item`; on `inputs` that cannot be
    /// stored.
    pub async fn try_stage(&self, wanted: TryStage) -> Result<AttemptPayload> {
        let company = wanted.company;
        let scene = self.scene(wanted)?;
        let ground = scene.ground.clone();
        let call = scene
            .state
            .actions(ground.given())
            .into_iter()
            .find_map(|action| match action {
                Action::Call(call) | Action::Intend(call) => Some(call),
                _ => None,
            })
            .ok_or_else(|| Error::invalid("stage", "calls nothing that could be tried"))?;
        let a_try = Try {
            ground,
            state: scene.state.clone(),
            call,
            live: None,
            may_repeat: false,
            ended: None,
        };
        match a_try.perform().await {
            Came::Attempt(attempt) => {
                self.count(company, &attempt).await;
                Ok(*attempt)
            }
            Came::Run(_) | Came::Unknown => Err(Error::Unavailable {
                reason: "OUTCOME_UNKNOWN",
                message: "the request was sent and no answer came".into(),
                retry_after: None,
            }),
        }
    }

    /// Counts what a try took. It is answered all the same where that cannot be: it is paid for.
    async fn count(&self, company: CompanyId, attempt: &AttemptPayload) {
        let spent = spent_by(std::iter::once(attempt));
        let counted = db::with(&self.shared.pool, async |it| quotas::spend(it, company, spent).await);
        if let Err(error) = counted.await {
            tracing::error!(%company, error = %error, "what a try of a stage took is not counted");
        }
    }

    /// A run that has just begun at the stage.
    fn scene(&self, wanted: TryStage) -> Result<Scene> {
        let mut definition = (*wanted.definition).clone();
        let name = definition.stages[wanted.stage].name.clone();
        let mut inputs = wanted.inputs;
        let from_stage = match fan_over(&mut definition, &name) {
            None => name,
            Some(map) => {
                let item = wanted
                    .item
                    .ok_or_else(|| Error::invalid("item", "is needed: a map runs this stage"))?;
                inputs.insert(ITEMS.into(), Value::Array(vec![item]));
                map
            }
        };
        let execution = ExecutionId::generate();
        let of = (WorkflowId::generate(), VersionId::generate(), 0);
        let beginning = Beginning::of(execution, of, &inputs)?;
        let kept = wanted.outputs.into_iter().map(|(stage, output)| Kept {
            stage,
            visit: 1,
            item: 0,
            attempt: 1,
            output,
        });
        let forked = Forked {
            source_execution: execution,
            source_seq: 0,
            source_hash: String::new(),
            from_stage,
            kept: kept.collect(),
            visits: std::collections::BTreeMap::new(),
        };
        let entries = beginning.seal(&self.shared, Some(Box::new(forked)));
        let ground = Ground {
            shared: self.shared.clone(),
            facts: Facts {
                execution,
                company: wanted.company,
                studio: wanted.studio,
                started_by: wanted.user,
                version: of.1,
                inputs: Arc::new(beginning.inputs),
                parent: None,
                begun: true,
                paused: false,
                trace_context: telemetry::current_traceparent(),
            },
            definition: Arc::new(definition),
        };
        Ok(Scene::begun(ground, &entries))
    }
}

/// The name of the map that runs this stage, which goes over the item alone from here on.
fn fan_over(definition: &mut Definition, body: &str) -> Option<String> {
    definition.stages.iter_mut().find_map(|stage| match &mut stage.kind {
        Kind::Map(fan) if fan.stage == body => {
            fan.items_path = format!("inputs.{ITEMS}");
            Some(stage.name.clone())
        }
        _ => None,
    })
}
