//! Why an execution is where it is, as the contract writes it and in words for people.

use service_kit::update;
use studios_proto::execution::{self as proto, WaitReasonKind as Kind};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{about, attempt_key, failure, status};
use crate::{
    engine::{definition::Rank, journal::StageTry, waiting::About},
    executions::explain::{Explanation, People, Reason},
};

pub(in crate::executions) fn explanation(explanation: Explanation) -> proto::ExplainExecutionResponse {
    proto::ExplainExecutionResponse {
        status: status(explanation.status).into(),
        reasons: explanation.reasons.into_iter().map(reason).collect(),
    }
}

fn reason(reason: Reason) -> proto::WaitReason {
    let text = text(&reason);
    let told = told(reason);
    proto::WaitReason { text, ..told }
}

fn told(reason: Reason) -> proto::WaitReason {
    let of = |kind: Kind| proto::WaitReason {
        kind: kind.into(),
        ..Default::default()
    };
    let about = |kind: Kind, key: StageTry| proto::WaitReason {
        attempt: Some(attempt_key(key)),
        ..of(kind)
    };
    match reason {
        Reason::Ended(at) => proto::WaitReason {
            since: at.map(update::timestamp),
            ..of(Kind::Ended)
        },
        Reason::Room { instances } => proto::WaitReason {
            count: instances,
            ..of(Kind::Room)
        },
        Reason::Turn { since, ahead } => proto::WaitReason {
            since: since.map(update::timestamp),
            count: ahead,
            ..of(Kind::Turn)
        },
        Reason::Running { instance, since } => proto::WaitReason {
            instance,
            since: Some(update::timestamp(since)),
            ..of(Kind::Running)
        },
        Reason::TakeOver { instance } => proto::WaitReason {
            instance,
            ..of(Kind::TakeOver)
        },
        Reason::Backoff {
            of: key,
            until,
            failure: why,
        } => proto::WaitReason {
            until: Some(update::timestamp(until)),
            failure: why.map(failure),
            ..about(Kind::Backoff, key)
        },
        Reason::People(people) => by_people(*people),
        Reason::Signal { of: key, name, until } => proto::WaitReason {
            signal: name,
            until: until.map(update::timestamp),
            ..about(Kind::Signal, key)
        },
        Reason::Time { of: key, until } => proto::WaitReason {
            until: Some(update::timestamp(until)),
            ..about(Kind::Time, key)
        },
        Reason::Child { of: key, execution, .. } => proto::WaitReason {
            execution_id: execution.to_string(),
            ..about(Kind::Child, key)
        },
        Reason::Flow {
            of: key,
            flow,
            state,
            since,
            until,
        } => proto::WaitReason {
            since: Some(update::timestamp(since)),
            until: Some(update::timestamp(until)),
            flow_id: flow,
            flow_state: state.unwrap_or_default(),
            ..about(Kind::Flow, key)
        },
        Reason::Paused { by, since, .. } => proto::WaitReason {
            user_ids: by.iter().map(ToString::to_string).collect(),
            since: Some(update::timestamp(since)),
            ..of(Kind::Paused)
        },
        Reason::Commands(count) => proto::WaitReason {
            count,
            ..of(Kind::Commands)
        },
        Reason::TakenOver(times) => proto::WaitReason {
            count: times.into(),
            ..of(Kind::TakenOver)
        },
        Reason::PutAside { times, until } => proto::WaitReason {
            count: times.into(),
            until: until.map(update::timestamp),
            ..of(Kind::PutAside)
        },
    }
}

fn by_people(people: People) -> proto::WaitReason {
    let key = attempt_key(people.of);
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    proto::WaitReason {
        kind: Kind::People.into(),
        attempt: Some(key.clone()),
        since: Some(update::timestamp(people.since)),
        until: people.until.map(update::timestamp),
        user_ids: people.users.iter().map(ToString::to_string).collect(),
        role: people.rank.map(role).unwrap_or_default().to_owned(),
        waiting: Some(proto::Waiting {
            attempt: Some(key),
            about: about(people.about).into(),
            question: String::new(),
            required: count(people.required),
            approved: count(people.approved),
            since: Some(update::timestamp(people.since)),
            expire_time: people.expires_at.map(update::timestamp),
            may_decide: people.may_decide,
            escalated: people.escalated,
        }),
        ..Default::default()
    }
}

const fn role(rank: Rank) -> &'static str {
    match rank {
        Rank::Member => "member",
        Rank::Admin => "admin",
    }
}

fn text(reason: &Reason) -> String {
    match reason {
        Reason::Ended(Some(at)) => format!("it has ended, at {}", time(*at)),
        Reason::Ended(None) => "it has ended".into(),
        Reason::Room { instances: 0 } => "no instance runs executions right now".into(),
        Reason::Room { instances } => format!("all {instances} instances are full"),
        Reason::Turn { ahead: 0, .. } => "an instance takes it up at its next look at what is due".into(),
        Reason::Turn { ahead, .. } => {
            format!("{ahead} executions of its studio were due before it; companies take turns")
        }
        Reason::Running { instance, since } => {
            format!(
                "instance {instance} runs it; the last it recorded was at {}",
                time(*since)
            )
        }
        Reason::TakeOver { instance } => {
            format!("instance {instance}, which ran it, does not answer any more; another one takes it over")
        }
        Reason::Backoff { of, until, failure } => {
            let why = failure
                .as_ref()
                .map_or_else(String::new, |it| format!(", after: {}", it.message));
            format!("try {} of {} begins at {}{why}", of.attempt, stage(of), time(*until))
        }
        Reason::People(people) => asked(people),
        Reason::Signal { of, name, until } => {
            let until = until.map_or_else(String::new, |it| format!(" until {}", time(it)));
            format!("{} waits for the signal \"{name}\"{until}", stage(of))
        }
        Reason::Time { of, until } => format!("{} waits until {}", stage(of), time(*until)),
        Reason::Child { of, execution, status } => {
            let status = status.map_or_else(String::new, |it| format!(", which is {}", it.as_str()));
            format!("{} waits for the end of the execution {execution}{status}", stage(of))
        }
        Reason::Flow {
            of,
            flow,
            state,
            since,
            until,
        } => {
            let state = match state.as_deref() {
                None => "no run of it was found yet".to_owned(),
                Some("PAUSED") => "its run is paused in ActivePieces".to_owned(),
                Some(state) => format!("its run was {state} last"),
            };
            format!(
                "{} waits since {} for the ActivePieces flow {flow}, until {} at most; {state}",
                stage(of),
                time(*since),
                time(*until)
            )
        }
        Reason::Paused { by, reason, since } => {
            let who = by.map_or_else(
                || "the service, because who started it has lost his access,".to_owned(),
                |it| format!("the user {it}"),
            );
            let why = if reason.is_empty() {
                String::new()
            } else {
                format!(": {reason}")
            };
            format!("{who} paused it at {}{why}", time(*since))
        }
        Reason::Commands(1) => "one command was left for it and not taken yet".into(),
        Reason::Commands(count) => format!("{count} commands were left for it and not taken yet"),
        Reason::TakenOver(times) => format!("it was taken over {times} times since it last recorded something"),
        Reason::PutAside { times, until } => {
            let until = until.map_or_else(String::new, |it| format!("; it is tried again at {}", time(it)));
            format!("it could not be continued {times} times in a row{until}")
        }
    }
}

fn asked(people: &People) -> String {
    let what = match people.about {
        About::Output => "whether its output is used",
        About::Question => "its question",
        About::Outcome => "what came of what it announced, which nobody knows",
    };
    let mut who: Vec<String> = people.users.iter().map(|it| format!("the user {it}")).collect();
    who.extend(people.rank.map(|it| match it {
        Rank::Member => "any member of the company".to_owned(),
        Rank::Admin => "any admin of the company".to_owned(),
    }));
    let who = if who.is_empty() {
        "nobody who is left".to_owned()
    } else {
        who.join(" or ")
    };
    let left = people.required.saturating_sub(people.approved);
    let how_many = if people.required > 1 {
        format!("; {left} of {} are still missing", people.required)
    } else {
        String::new()
    };
    format!(
        "{} waits since {} until {who} decides {what}{how_many}",
        stage(&people.of),
        time(people.since)
    )
}

fn stage(of: &StageTry) -> String {
    if of.item > 0 {
        format!("item {} of the stage {}", of.item, of.stage)
    } else {
        format!("the stage {}", of.stage)
    }
}

fn time(at: OffsetDateTime) -> String {
    let second = at.replace_nanosecond(0).unwrap_or(at);
    second.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use service_kit::ids::UserId;

    use super::*;
    use crate::executions::Status;

    fn key() -> StageTry {
        StageTry {
            stage: "draft".into(),
            visit: 1,
            item: 0,
            attempt: 2,
        }
    }

    #[test]
    fn people_are_named_and_counted() {
        let ada = UserId::generate();
        let told = reason(Reason::People(Box::new(People {
            of: key(),
            about: About::Output,
            users: vec![ada],
            rank: Some(Rank::Admin),
            required: 3,
            approved: 1,
            since: OffsetDateTime::UNIX_EPOCH,
            until: None,
            expires_at: None,
            escalated: false,
            may_decide: true,
        })));
        assert_eq!(
            told.text,
            format!(
                "the stage draft waits since 1970-01-01T00:00:00Z until the user {ada} or any admin of the company decides \
                 whether its output is used; 2 of 3 are still missing"
            )
        );
        assert_eq!((told.kind(), told.role.as_str()), (Kind::People, "admin"));
        let waiting = told.waiting.unwrap();
        assert_eq!((waiting.required, waiting.approved, waiting.may_decide), (3, 1, true));
    }

    #[test]
    fn a_reason_says_what_it_is_about() {
        let execution = service_kit::ids::ExecutionId::generate();
        let child = reason(Reason::Child {
            of: key(),
            execution,
            status: Some(Status::Running),
        });
        assert_eq!(child.execution_id, execution.to_string());
        assert!(child.text.ends_with("which is running"), "{}", child.text);
        let room = reason(Reason::Room { instances: 0 });
        assert_eq!(room.text, "no instance runs executions right now");
        assert_eq!(child.attempt.map(|it| it.attempt), Some(2));
    }
}
