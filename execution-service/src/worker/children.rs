//! Executions within executions: a stage that runs another workflow begins an execution of its own and waits for its end.
//!
//! A child is made in the commit of its parent's entry that names it, so neither is there without the other. Its end is told to
//! the parent by a command, after its commit; a parent that was not told looks itself from time to time. It runs as the user who
//! started its parent, and only where he may.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};
use service_kit::{
    db,
    error::Error,
    ids::{ExecutionId, StudioId, UserId, VersionId, WorkflowId},
    telemetry,
};
use tokio::time::{sleep, timeout};

use super::{
    Beginning, Shared, Wish, call,
    scene::Ground,
    store::{
        self,
        children::{self as rows, Ended},
    },
    writer::NewRun,
};
use crate::{
    engine::{
        action::StartChild,
        check::Schema,
        definition::{DEFAULT_TIMEOUT, Definition, MAX_DEPTH},
        failure::FailureClass,
        journal::{AttemptFailure, AttemptPayload, Child, Payload, StageTry},
    },
    files::{self, Starter},
};

/// The first and the longest wait before something that is away is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Why a child is cancelled whose parent has ended.
const PARENT_ENDED: &str = "the execution that it is a stage of has ended";

/// An execution to be made with its parent's next entry.
pub(super) struct Begun {
    pub run: NewRun,
    pub entry: Payload,
}

/// Makes a child ready within its stage's time, or says why the stage fails.
pub(super) async fn begin(ground: &Ground, wanted: StartChild) -> Result<Begun, AttemptPayload> {
    let of = wanted.key.of_try();
    let place = ground.definition.position(&of.stage);
    let limit = place.map_or(DEFAULT_TIMEOUT, |place| ground.stage(place).timeout);
    within(limit, prepare(ground, wanted))
        .await
        .map_err(|failure| call::failed(ground, &of, failure))
}

/// What comes in this time, or that it did not.
async fn within<T>(
    limit: Duration,
    prepared: impl Future<Output = Result<T, AttemptFailure>>,
) -> Result<T, AttemptFailure> {
    timeout(limit, prepared).await.unwrap_or_else(|_| {
        let message = "the workflow could not be begun in time";
        Err(AttemptFailure::passing(FailureClass::Timeout, "begin", message))
    })
}

async fn prepare(ground: &Ground, wanted: StartChild) -> Result<Begun, AttemptFailure> {
    let lasting = |reason: &str, message: String| AttemptFailure::lasting(FailureClass::Validation, reason, message);
    if wanted.depth > MAX_DEPTH {
        let message = format!("more than {MAX_DEPTH} workflows would run within one another");
        return Err(AttemptFailure::lasting(FailureClass::Capped, "depth", message));
    }
    let gone = || {
        lasting(
            "workflow_gone",
            "its workflow, or that version of it, is gone".to_owned(),
        )
    };
    let workflow: WorkflowId = wanted.workflow_id.parse().map_err(|_| gone())?;
    let company = ground.facts.company;
    let number = wanted.version.and_then(|number| i32::try_from(number).ok());
    let pinned = patiently(ground, || async {
        db::with(&ground.shared.pool, async |it| {
            rows::pinned(it, company, workflow, number).await
        })
        .await
        .map_err(Error::from)
    })
    .await?
    .ok_or_else(gone)?;
    patiently(ground, || async {
        let access = ground
            .shared
            .core
            .check_studio(ground.facts.started_by, pinned.studio)
            .await?;
        Ok(access.company == company)
    })
    .await
    .and_then(|is_reached| if is_reached { Ok(()) } else { Err(gone()) })?;
    let definition = definition(ground, pinned.version).await?.ok_or_else(gone)?;
    let asked = files::asked(&definition, &wanted.inputs).into_owned();
    check(ground, &definition, &asked).await?;
    let inputs = pin(ground, pinned.studio, &definition, &asked).await?;
    let execution = ExecutionId::generate();
    let beginning = Beginning::of(execution, (workflow, pinned.version, pinned.number), &inputs)
        .map_err(|error| lasting("inputs", error.to_string()))?
        .within(wanted.depth);
    ground.shared.definitions.put(pinned.version, definition.clone());
    let run = NewRun {
        execution,
        company,
        studio: pinned.studio,
        workflow,
        version: pinned.version,
        version_number: pinned.number,
        started_by: ground.facts.started_by,
        entries: beginning.seal(&ground.shared, None),
        inputs: beginning.text,
        trace_context: telemetry::current_traceparent(),
        stage: definition
            .stages
            .first()
            .map(|stage| stage.name.clone())
            .unwrap_or_default(),
        owner: None,
        key: None,
        parent: Some(ground.facts.execution),
        source: None,
        audit: None,
        allowance: None,
    };
    let entry = Payload::Child(Child {
        of: wanted.key.of_try(),
        execution_id: execution,
        workflow_id: workflow,
        version_number: pinned.number,
    });
    Ok(Begun { run, entry })
}

async fn definition(ground: &Ground, version: VersionId) -> Result<Option<Arc<Definition>>, AttemptFailure> {
    if let Some(known) = ground.shared.definitions.get(version) {
        return Ok(Some(known));
    }
    let read = patiently(ground, || async {
        db::with(&ground.shared.pool, async |it| store::definition(it, version).await)
            .await
            .map_err(Error::from)
    });
    Ok(read.await?.map(Arc::new))
}

async fn check(
    ground: &Ground,
    definition: &Arc<Definition>,
    inputs: &Map<String, Value>,
) -> Result<(), AttemptFailure> {
    if definition.input_schema.is_none() {
        return Ok(());
    }
    let (definition, inputs) = (definition.clone(), Value::Object(inputs.clone()));
    let check = move || {
        let schema = definition.input_schema.as_ref()?;
        match Schema::compile(schema) {
            Ok(schema) => {
                let problems = schema.problems(&inputs);
                let all: Vec<_> = problems
                    .iter()
                    .map(|it| format!("{} {}", it.pointer, it.description))
                    .collect();
                (!all.is_empty()).then(|| all.join("; "))
            }
            Err(error) => Some(error),
        }
    };
    match ground.shared.aside.run(check).await {
        None => Ok(()),
        Some(wrong) => Err(AttemptFailure::lasting(
            FailureClass::Validation,
            "inputs",
            format!("the workflow does not take these inputs: {wrong}"),
        )),
    }
}

/// The inputs with what there is to say of their files, as who started the parent reaches them.
async fn pin(
    ground: &Ground,
    studio: StudioId,
    definition: &Definition,
    inputs: &Map<String, Value>,
) -> Result<Map<String, Value>, AttemptFailure> {
    let starter = Starter {
        user: ground.facts.started_by,
        company: ground.facts.company,
        studio,
    };
    let pinned = patiently(ground, || async {
        match files::pin(&ground.shared.core, starter, definition, inputs.clone()).await {
            Err(error @ (Error::Invalid(_) | Error::FailedPrecondition { .. })) => Ok(Err(error)),
            other => other.map(Ok),
        }
    });
    pinned.await?.map_err(|error| {
        let message = format!("the workflow does not take these inputs: {error}");
        AttemptFailure::lasting(FailureClass::Validation, "inputs", message)
    })
}

/// Asks again while the database or core-service is away; a refusal is the stage's failure.
async fn patiently<T, F>(ground: &Ground, ask: impl Fn() -> F) -> Result<T, AttemptFailure>
where
    F: Future<Output = Result<T, Error>>,
{
    let (mut pause, longest) = PAUSES;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(Error::Unavailable { .. }) => {
                sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
            Err(Error::NotFound { .. } | Error::PermissionDenied { .. }) => {
                let message = "who started the run cannot reach the workflow";
                return Err(AttemptFailure::lasting(
                    FailureClass::ProviderError,
                    "access_lost",
                    message,
                ));
            }
            Err(error) => {
                tracing::warn!(execution = %ground.facts.execution, error = %error, "a workflow could not be begun");
                let message = "the workflow could not be begun";
                return Err(AttemptFailure::passing(FailureClass::ProviderError, "begin", message));
            }
        }
    }
}

/// How a child ended, as an attempt of the stage that waits for it; none while it runs, or where the database does not say.
pub(super) async fn ended(ground: &Ground, of: &StageTry, child: ExecutionId) -> Option<AttemptPayload> {
    let parent = ground.facts.execution;
    let read = db::with(&ground.shared.pool, async |it| rows::ended(it, parent, child).await).await;
    match read {
        Ok(Some(Ended::Completed(outputs))) => Some(call::passed(ground, of, outputs)),
        Ok(Some(Ended::Failed(failure))) => {
            let message = format!("the execution {child} failed: {}", failure.message);
            Some(call::failed(
                ground,
                of,
                AttemptFailure::passing(failure.class, "child", message),
            ))
        }
        Ok(Some(Ended::Cancelled)) => {
            let message = format!("the execution {child} was cancelled");
            let failure = AttemptFailure::lasting(FailureClass::ProviderError, "child_cancelled", message);
            Some(call::failed(ground, of, failure))
        }
        Ok(None) => None,
        Err(error) => {
            tracing::warn!(execution = %parent, error = %error, "how a child ended could not be read");
            None
        }
    }
}

/// Tells the one that waits for a run that it has ended, and those that it waited for that nobody does any more. Whoever is not
/// told finds out by himself.
pub(super) async fn tell(shared: &Shared, ground: &Ground, had_children: bool) {
    let facts = &ground.facts;
    if let Some(parent) = facts.parent {
        let wish = Wish::ChildEnded {
            execution: facts.execution,
        };
        leave(shared, &[parent], facts.started_by, &wish).await;
    }
    if had_children {
        let running = db::with(&shared.pool, async |it| rows::running(it, facts.execution).await).await;
        let wish = Wish::Cancel {
            reason: PARENT_ENDED.to_owned(),
        };
        match running {
            Ok(children) if children.is_empty() => {}
            Ok(children) => leave(shared, &children, facts.started_by, &wish).await,
            Err(error) => tracing::warn!(execution = %facts.execution, error = %error, "children could not be found"),
        }
    }
}

/// Stops the children of runs that have ended, or are gone, and could not tell them.
pub(super) async fn stop_left_behind(shared: &Shared) -> sqlx::Result<()> {
    let wish = Wish::Cancel {
        reason: PARENT_ENDED.to_owned(),
    };
    for (execution, started_by) in db::with(&shared.pool, rows::left_behind).await? {
        leave(shared, &[execution], started_by, &wish).await;
    }
    Ok(())
}

async fn leave(shared: &Shared, runs: &[ExecutionId], by: UserId, wish: &Wish) {
    match db::with(&shared.pool, async |it| rows::command(it, runs, by, wish).await).await {
        Ok(told) => {
            for execution in told {
                super::poll::nudge(shared, execution);
            }
        }
        Err(error) => tracing::warn!(error = %error, "a run could not be told"),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_child_that_cannot_be_begun_in_its_stages_time_fails_the_stage_which_may_be_tried_again() {
        let failure = within(Duration::ZERO, pending::<Result<(), _>>()).await.unwrap_err();
        assert_eq!(
            (failure.class, &*failure.reason, failure.retryable),
            (FailureClass::Timeout, "begin", true)
        );
        assert_eq!(within(Duration::from_secs(3), async { Ok(1) }).await, Ok(1));
    }
}
