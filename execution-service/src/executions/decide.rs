//! Deciding what waits for people, and leaving that to somebody else.
//!
//! A decision is a command like any other; the holder of the run makes it an entry. Whether somebody may give it, and whether it is
//! as it must be, follows from where the run stands ([`approval`]).

use std::sync::Arc;

use serde_json::Value;
use service_kit::{
    auth::Caller,
    error::{Error, Result, Violation},
    ids::{ExecutionId, UserId},
};

use super::{Execution, control::Command, enter, standing::Standing};
use crate::{
    App,
    access::Access,
    engine::{
        approval::{self, Proposal, Refused},
        journal::{Delegated, Ruling, StageTry},
        waiting::Denied,
    },
    requests,
    worker::Wish,
};

/// What is decided.
#[derive(Clone, Debug)]
pub(super) struct Decide {
    /// The execution.
    pub execution: ExecutionId,
    /// The attempt.
    pub of: StageTry,
    /// What is decided.
    pub decision: Ruling,
    /// Why; may be empty.
    pub notes: String,
    /// What is used in place of the output.
    pub output: Option<Value>,
    /// The form that was filled in.
    pub form: Option<Value>,
    /// Makes a repeated request answer well without deciding again.
    pub key: Option<requests::Key>,
}

/// What is left to somebody else.
#[derive(Clone, Debug)]
pub(super) struct Delegate {
    /// The execution.
    pub execution: ExecutionId,
    /// The attempt.
    pub of: StageTry,
    /// Who decides.
    pub to: UserId,
    /// Makes a repeated request answer well without leaving it again.
    pub key: Option<requests::Key>,
}

/// Decides what waits; it is durable when this answers, and the run goes on by itself.
pub(super) async fn decide(app: &App, caller: &Caller, decide: &Decide) -> Result<Execution> {
    let id = decide.execution;
    let access = enter(app, caller, id).await?;
    let wish = Wish::Decide {
        of: decide.of.clone(),
        decision: decide.decision,
        notes: decide.notes.clone(),
        output: decide.output.clone(),
        form: decide.form.clone(),
    };
    let command = Command::of(app, &access, id, "executions.decide").keyed(decide.key.as_ref());
    let (by, given) = (access.clone(), decide.clone());
    command
        .leave_if(&wish, Arc::new(move |standing| may_decide(standing, &by, &given)))
        .await
}

/// Leaves the caller's decision to somebody else who reaches the studio.
pub(super) async fn delegate(app: &App, caller: &Caller, delegate: &Delegate) -> Result<Execution> {
    let id = delegate.execution;
    let access = enter(app, caller, id).await?;
    let other = other(app, &access, delegate.to).await?;
    let wish = Wish::Delegate {
        of: delegate.of.clone(),
        to: delegate.to,
    };
    let command = Command::of(app, &access, id, "executions.delegate").keyed(delegate.key.as_ref());
    let (by, of) = (access.clone(), delegate.of.clone());
    command
        .leave_if(
            &wish,
            Arc::new(move |standing| may_delegate(standing, &by, &other, &of)),
        )
        .await
}

/// What he may do to whom a decision is left, or why that cannot be he.
async fn other(app: &App, access: &Access, to: UserId) -> Result<Result<Access, &'static str>> {
    if to == access.claims.sub {
        return Ok(Err("must be somebody else"));
    }
    let studio = access
        .claims
        .studio_id
        .ok_or_else(|| Error::internal("an execution's access names its studio"))?;
    match app.core.check_studio(to, studio).await {
        Ok(other) => Ok(Ok(other)),
        Err(Error::NotFound { .. } | Error::PermissionDenied { .. } | Error::Unauthenticated(_)) => {
            Ok(Err("must be a user who reaches the studio"))
        }
        Err(error) => Err(error),
    }
}

fn may_delegate(
    standing: &Standing,
    access: &Access,
    other: &Result<Access, &'static str>,
    of: &StageTry,
) -> Result<()> {
    let waiting = standing.waiting(of)?;
    waiting.may_delegate(standing.person(access)).map_err(denied)?;
    let nobody = |description: &str| Error::invalid("to_user_id", description);
    let other = other.as_ref().map_err(|it| nobody(it))?;
    let then = standing.after_delegation(Delegated {
        of: of.clone(),
        by: access.claims.sub,
        to: other.claims.sub,
    });
    let refused = |denied: Denied| match denied {
        Denied::OwnRun => nobody("started the run, and may not decide this"),
        Denied::Decided => nobody("has decided this already"),
        Denied::Delegated | Denied::NotAsked | Denied::NotDelegable => nobody("may not decide this"),
    };
    then.waiting(of)?.may_decide(then.person(other)).map_err(refused)
}

/// Whether it may be decided so by this user, and why not.
fn may_decide(standing: &Standing, access: &Access, decide: &Decide) -> Result<()> {
    let waiting = standing.waiting(&decide.of)?;
    let stage = standing
        .stage(&decide.of.stage)
        .ok_or_else(|| Error::not_found("attempt", &decide.of))?;
    let proposal = Proposal {
        by: standing.person(access),
        ruling: decide.decision,
        output: decide.output.as_ref(),
        form: decide.form.as_ref(),
    };
    approval::check(stage, waiting, proposal).map_err(refused)
}

fn refused(refused: Refused) -> Error {
    let described = refused.to_string();
    match refused {
        Refused::Denied(why) => denied(why),
        Refused::Again => Error::invalid("decision", described),
        Refused::Edit => Error::invalid("output", described),
        Refused::NoForm | Refused::UnaskedForm => Error::invalid("form", described),
        Refused::Output(problems) => named("output", problems),
        Refused::Form(problems) => named("form", problems),
    }
}

/// Everything wrong with a value, each by its field.
fn named(field: &str, problems: Vec<(String, String)>) -> Error {
    let violations = problems.into_iter().map(|(pointer, description)| Violation {
        field: format!("{field}{}", pointer.replace('/', ".")),
        description,
    });
    Error::Invalid(violations.collect())
}

fn denied(denied: Denied) -> Error {
    let message = denied.to_string();
    match denied {
        Denied::NotAsked => Error::PermissionDenied {
            reason: "NOT_ASKED",
            message,
        },
        Denied::OwnRun => Error::PermissionDenied {
            reason: "OWN_RUN",
            message,
        },
        Denied::Decided => Error::FailedPrecondition {
            reason: "ALREADY_DECIDED",
            message,
        },
        Denied::Delegated => Error::FailedPrecondition {
            reason: "DELEGATED",
            message,
        },
        Denied::NotDelegable => Error::FailedPrecondition {
            reason: "NOT_DELEGABLE",
            message,
        },
    }
}
