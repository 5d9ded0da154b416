//! What replicas tell each other as the contract writes it.

use std::sync::Arc;

use service_kit::{
    error::{Error, Result, Violations},
    ids::{ExecutionId, PlanId},
    update,
};
use studios_proto::execution::{self as proto, follow_run_response};

use super::Told;
use crate::{
    engine::journal::StageTry,
    plans,
    worker::{LiveEvent, LiveWhat},
};

pub(super) fn request(request: &proto::FollowRunRequest) -> Result<(ExecutionId, i64)> {
    let mut violations = Violations::new();
    let id = violations.id("execution_id", &request.execution_id);
    if request.after < 0 {
        violations.add("after", "must not be negative");
    }
    violations.finish()?;
    Ok((id.expect("a missing one is a violation"), request.after))
}

pub(super) fn response(execution: ExecutionId, told: Told) -> proto::FollowRunResponse {
    let mut response = proto::FollowRunResponse {
        execution_id: execution.to_string(),
        seq: told.seq,
        ..Default::default()
    };
    if let Some(LiveEvent { of, at, after, what }) = told.event {
        let number = |given: u32| i32::try_from(given).unwrap_or(i32::MAX);
        let (stage, visit, item, attempt) = (of.stage, number(of.visit), number(of.item), number(of.attempt));
        response.cursor = after;
        response.time = Some(update::timestamp(at));
        response.event = Some(match what {
            LiveWhat::Started => follow_run_response::Event::StageStarted(proto::StageStarted {
                stage,
                visit,
                item,
                attempt,
            }),
            LiveWhat::Delta { text, so_far } => follow_run_response::Event::OutputDelta(proto::OutputDelta {
                stage,
                visit,
                item,
                attempt,
                text,
                so_far,
            }),
        });
    }
    response
}

/// What the holder said of this execution.
pub(super) fn told(execution: ExecutionId, response: proto::FollowRunResponse) -> Result<Told> {
    if response.execution_id != execution.to_string() {
        return Err(Error::internal("a replica told of another execution"));
    }
    let event = response.event.map(|event| {
        let (of, what) = match event {
            follow_run_response::Event::StageStarted(it) => {
                (a_try(it.stage, it.visit, it.item, it.attempt)?, LiveWhat::Started)
            }
            follow_run_response::Event::OutputDelta(it) => {
                let what = LiveWhat::Delta {
                    text: it.text,
                    so_far: it.so_far,
                };
                (a_try(it.stage, it.visit, it.item, it.attempt)?, what)
            }
        };
        let at = response.time.as_ref().and_then(update::moment)?;
        let after = response.cursor;
        Some(LiveEvent { of, at, after, what })
    });
    let event = event
        .map(|it| it.ok_or_else(|| Error::internal("a replica told of an event that cannot be")))
        .transpose()?;
    Ok(Told {
        seq: response.seq,
        event,
    })
}

/// What is told of a plan. The number of a module says nothing: they come in order.
pub(super) fn plan_response(plan: PlanId, (round, module): plans::Told) -> proto::FollowPlanResponse {
    proto::FollowPlanResponse {
        plan_id: plan.to_string(),
        round,
        module: module.map(|it| plans::convert::module(0, &it)),
    }
}

/// What was told of this plan.
pub(super) fn told_of_plan(plan: PlanId, response: proto::FollowPlanResponse) -> Result<plans::Told> {
    if response.plan_id != plan.to_string() {
        return Err(Error::internal("a replica told of another plan"));
    }
    let module = response.module.map(plans::convert::told_module).transpose()?;
    Ok((response.round, module.map(Arc::new)))
}

fn a_try(stage: String, visit: i32, item: i32, attempt: i32) -> Option<StageTry> {
    Some(StageTry {
        stage,
        visit: visit.try_into().ok()?,
        item: item.try_into().ok()?,
        attempt: attempt.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn event(what: LiveWhat) -> Option<LiveEvent> {
        Some(LiveEvent {
            of: a_try("a".into(), 2, 0, 3)?,
            at: datetime!(2026-11-20 09:14:23.5 UTC),
            after: 7,
            what,
        })
    }

    #[test]
    fn what_is_told_is_what_is_heard() {
        let id = ExecutionId::generate();
        let delta = LiveWhat::Delta {
            text: "one".into(),
            so_far: true,
        };
        for event in [None, event(LiveWhat::Started), event(delta)] {
            let said = Told { seq: 7, event };
            assert_eq!(told(id, response(id, said.clone())).unwrap(), said);
        }
    }

    #[test]
    fn what_makes_no_sense_is_not_heard() {
        let id = ExecutionId::generate();
        let said = || {
            response(
                id,
                Told {
                    seq: 7,
                    event: event(LiveWhat::Started),
                },
            )
        };
        assert!(told(ExecutionId::generate(), said()).is_err(), "another execution");
        let timeless = proto::FollowRunResponse { time: None, ..said() };
        assert!(told(id, timeless).is_err());
    }

    #[test]
    fn a_request_names_what_is_wrong() {
        let wrong = proto::FollowRunRequest {
            execution_id: "x".into(),
            after: -1,
        };
        let Err(Error::Invalid(violations)) = request(&wrong) else {
            panic!("refused");
        };
        let fields: Vec<_> = violations.into_iter().map(|it| it.field).collect();
        assert_eq!(fields, ["execution_id", "after"]);
    }
}
