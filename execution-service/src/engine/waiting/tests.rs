use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

use super::*;
use crate::engine::{
    definition::Approvers,
    testing::{START, attempt_of},
};

fn waiting(policy: Policy) -> Waiting {
    Waiting::new(
        attempt_of("a", 1, 1, Value::Null).of_try(),
        About::Output,
        Arc::new(policy),
        START,
    )
}

fn user(n: u128) -> UserId {
    UserId::from(Uuid::from_u128(n))
}

fn person(n: u128, rank: Rank) -> Person {
    Person {
        id: user(n),
        rank,
        started_run: n == 1,
    }
}

fn only(users: &[u128], role: Option<Rank>) -> Approvers {
    Approvers {
        users: users.iter().map(|n| user(*n)).collect(),
        role,
    }
}

#[test]
fn those_who_are_named_and_those_of_the_role_may_decide_and_nobody_else() {
    let open = waiting(Policy::default());
    assert_eq!(open.may_decide(person(1, Rank::Member)), Ok(()));
    let named = waiting(Policy {
        approvers: only(&[2], Some(Rank::Admin)),
        ..Policy::default()
    });
    assert_eq!(named.may_decide(person(2, Rank::Member)), Ok(()));
    assert_eq!(named.may_decide(person(3, Rank::Admin)), Ok(()));
    assert_eq!(named.may_decide(person(3, Rank::Member)), Err(Denied::NotAsked));
    let members = waiting(Policy {
        approvers: only(&[], Some(Rank::Member)),
        ..Policy::default()
    });
    assert_eq!(
        members.may_decide(person(3, Rank::Admin)),
        Ok(()),
        "an admin is a member"
    );
}

#[test]
fn who_started_the_run_may_not_decide_where_that_is_said() {
    let mut own = waiting(Policy {
        not_own_run: true,
        ..Policy::default()
    });
    assert_eq!(own.may_decide(person(1, Rank::Admin)), Err(Denied::OwnRun));
    assert_eq!(own.may_decide(person(2, Rank::Member)), Ok(()));
    own.about = About::Outcome;
    assert_eq!(
        own.may_decide(person(1, Rank::Member)),
        Ok(()),
        "what came of it is no approval"
    );
}

#[test]
fn nobody_decides_twice_and_who_left_it_to_another_gets_it_back_only_from_him() {
    let mut open = waiting(Policy {
        approvers: only(&[2, 3], None),
        may_delegate: true,
        required: 2,
        ..Policy::default()
    });
    open.delegate(user(2), user(4));
    assert_eq!(open.may_decide(person(2, Rank::Member)), Err(Denied::Delegated));
    assert_eq!(open.may_decide(person(4, Rank::Member)), Ok(()));
    assert_eq!(open.may_delegate(person(4, Rank::Member)), Ok(()));
    open.delegate(user(4), user(2));
    assert_eq!(open.may_decide(person(2, Rank::Member)), Ok(()));
    assert_eq!(open.may_decide(person(4, Rank::Member)), Err(Denied::Delegated));
    open.approvals.push(Approved {
        by: user(3),
        notes: String::new(),
        form: None,
        at: START,
    });
    assert_eq!(open.may_decide(person(3, Rank::Member)), Err(Denied::Decided));
}

#[test]
fn a_decision_is_left_to_another_only_where_that_is_allowed_and_by_who_has_it() {
    let open = waiting(Policy::default());
    assert_eq!(open.may_delegate(person(2, Rank::Member)), Err(Denied::NotDelegable));
    let named = waiting(Policy {
        approvers: only(&[2], None),
        may_delegate: true,
        ..Policy::default()
    });
    assert_eq!(named.may_delegate(person(3, Rank::Member)), Err(Denied::NotAsked));
}

#[test]
fn others_may_decide_too_once_it_was_escalated() {
    let mut named = waiting(Policy {
        approvers: only(&[2], None),
        escalate_after: Some(Duration::from_secs(1)),
        escalate_to: only(&[], Some(Rank::Admin)),
        ..Policy::default()
    });
    assert_eq!(named.may_decide(person(3, Rank::Admin)), Err(Denied::NotAsked));
    named.escalated = true;
    assert_eq!(named.may_decide(person(3, Rank::Admin)), Ok(()));
    assert_eq!(named.may_decide(person(3, Rank::Member)), Err(Denied::NotAsked));
    assert_eq!(
        named.may_decide(person(2, Rank::Member)),
        Ok(()),
        "those who were asked still may"
    );
}

#[test]
fn of_what_happens_at_the_same_time_they_are_reminded_first_and_it_expires_last() {
    let second = Some(Duration::from_secs(1));
    let mut open = waiting(Policy {
        remind_after: second,
        escalate_after: second,
        expires_after: second,
        ..Policy::default()
    });
    let mut kinds = Vec::new();
    for _ in 0..3 {
        kinds.push(open.alarm().unwrap().record.kind());
        open.escalated |= open.reminded;
        open.reminded = true;
    }
    assert_eq!(kinds, ["reminded", "escalated", "expired"]);
}
