//! Approvals and manual checks.

use service_kit::ids::UserId;

use super::*;
use crate::engine::{
    definition::{Approval, Policy, Validation},
    journal::{Decision, Delegated, Of, Ruling},
    testing::open,
    waiting::About,
};

fn asking(policy: Policy) -> Run {
    let approval = Approval {
        question: "?".into(),
        policy,
    };
    let mut run = Run::stages(vec![
        of_kind("ask", Kind::Approval(Box::new(approval))),
        stage("next"),
        stage("late"),
    ]);
    assert_eq!(run.place().0, "ask", "the question is put first");
    run.record(open(attempt_of("ask", 1, 1, json!({"question": "?"}))));
    run
}

fn checking(policy: Policy) -> Run {
    let checked = Stage {
        validation: Validation::Manual(Box::new(policy)),
        ..stage("ask")
    };
    let mut run = Run::stages(vec![checked, stage("next")]);
    run.record(open(attempt_of("ask", 1, 1, json!("draft"))));
    run
}

fn of() -> StageTry {
    attempt_of("ask", 1, 1, Value::Null).of_try()
}

fn user(n: u128) -> UserId {
    UserId::from(uuid::Uuid::from_u128(n))
}

fn says(by: UserId, decision: Ruling) -> Decision {
    Decision {
        of: of(),
        decision,
        by,
        notes: String::new(),
        output: None,
        form: None,
    }
}

fn decided(decision: Decision) -> Payload {
    Payload::Decision(Box::new(decision))
}

#[test]
fn without_a_policy_the_first_word_decides() {
    for ruling in [Ruling::Pass, Ruling::Fail] {
        let mut run = asking(Policy::default());
        let waiting = run.waiting();
        assert_eq!(
            (waiting.missing(), waiting.about, waiting.alarm()),
            (1, About::Question, None)
        );
        run.record(decided(says(user(1), ruling)));
        match ruling {
            Ruling::Pass => assert_eq!(run.place().0, "next"),
            _ => assert_eq!(run.failure().class, FailureClass::Validation),
        }
    }
}

#[test]
fn an_approvals_output_tells_who_let_it_pass_with_what() {
    let mut run = asking(Policy::default());
    run.record(decided(Decision {
        notes: "fine".into(),
        form: Some(json!({"amount": 5})),
        ..says(user(1), Ruling::Pass)
    }));
    let at = "2025-06-01T12:00:03Z";
    let decision = json!({"by": user(1), "notes": "fine", "form": {"amount": 5}, "at": at});
    let output = json!({"approved": true, "decisions": [decision]});
    assert_eq!(run.state.context(run.given()).output_of("ask"), Some(&output));
}

#[test]
fn so_many_must_let_it_pass_each_counts_once_and_the_first_refusal_decides() {
    let policy = || Policy {
        required: 2,
        ..Policy::default()
    };
    let mut run = asking(policy());
    run.record(decided(says(user(1), Ruling::Pass)));
    assert_eq!(run.waiting().missing(), 1);
    run.record(decided(says(user(1), Ruling::Pass)));
    run.record(decided(says(user(1), Ruling::Fail)));
    assert_eq!(run.waiting().approvals.len(), 1, "he has had his say");
    let mut refused = Run {
        definition: run.definition.clone(),
        inputs: run.inputs.clone(),
        journal: run.journal.clone(),
        state: run.state.clone(),
    };
    run.record(decided(says(user(2), Ruling::Pass)));
    assert_eq!(run.place().0, "next");
    refused.record(decided(says(user(2), Ruling::Fail)));
    assert_eq!(refused.failure().class, FailureClass::Validation);
}

#[test]
fn another_output_is_used_where_it_is_allowed_and_the_last_one_counts() {
    let edit = |by, text: &str| {
        decided(Decision {
            output: Some(json!(text)),
            ..says(user(by), Ruling::Pass)
        })
    };
    let output = |run: &Run| run.state.context(run.given()).output_of("ask").cloned();
    let mut plain = checking(Policy::default());
    plain.record(edit(1, "edited"));
    assert_eq!(output(&plain), Some(json!("draft")));
    let mut run = checking(Policy {
        may_edit: true,
        required: 3,
        ..Policy::default()
    });
    assert_eq!(run.waiting().about, About::Output);
    run.record(edit(1, "first"))
        .record(edit(2, "second"))
        .record(decided(says(user(3), Ruling::Pass)));
    assert_eq!(output(&run), Some(json!("second")));
}

#[test]
fn a_decision_that_was_left_to_another_is_his() {
    let mut run = asking(Policy {
        may_delegate: true,
        ..Policy::default()
    });
    run.record(Payload::Delegated(Delegated {
        of: of(),
        by: user(1),
        to: user(2),
    }));
    run.record(decided(says(user(1), Ruling::Pass)));
    assert_eq!(run.waiting().missing(), 1, "he has none any more");
    run.record(decided(says(user(2), Ruling::Pass)));
    assert_eq!(run.place().0, "next");
    let mut run = asking(Policy::default());
    run.record(Payload::Delegated(Delegated {
        of: of(),
        by: user(1),
        to: user(2),
    }));
    assert_eq!(
        run.waiting().delegations,
        [],
        "where that is not allowed it means nothing"
    );
}

#[test]
fn what_happens_by_itself_is_recorded_in_its_order_and_an_expired_question_is_a_timeout() {
    let seconds = |n| Some(std::time::Duration::from_secs(n));
    let policy = Policy {
        remind_after: seconds(10),
        escalate_after: seconds(20),
        expires_after: seconds(30),
        ..Policy::default()
    };
    let mut run = asking(policy.clone());
    let since = run.now();
    for (after, kind) in [(10, "reminded"), (20, "escalated"), (30, "expired")] {
        let alarm = run.waiting().alarm().unwrap();
        assert_eq!(
            (alarm.at, alarm.record.kind()),
            (since + Duration::seconds(after), kind)
        );
        run.record(*alarm.record);
    }
    assert_eq!(
        run.failure(),
        Failure::new(FailureClass::Timeout, "stage \"ask\": nobody decided in time")
    );
    let mut elsewhere = asking(Policy {
        next_on_expiry: Some("late".into()),
        ..policy
    });
    elsewhere.record(Payload::Expired(Of { of: of() }));
    assert_eq!(elsewhere.place().0, "late");
    let mut lasting = asking(Policy::default());
    lasting.record(Payload::Expired(Of { of: of() }));
    assert_eq!(lasting.waiting().of, of(), "what does not expire has not");
}

#[test]
fn an_output_that_expired_goes_the_way_of_failures_and_is_not_tried_again() {
    let mut run = checking(Policy {
        expires_after: Some(std::time::Duration::from_secs(1)),
        ..Policy::default()
    });
    run.definition.stages[0].retry_limit = 5;
    run.definition.stages[0].next_on_fail = Some("next".into());
    run.state = State::after(run.given(), &run.journal);
    run.record(Payload::Expired(Of { of: of() }));
    assert_eq!(run.place().0, "next");
}

#[test]
fn a_paused_run_still_takes_decisions() {
    let mut run = asking(Policy::default());
    run.record(Payload::Paused(Paused {
        by: None,
        reason: String::new(),
    }));
    assert!(matches!(run.action(), Action::AwaitResume { .. }));
    assert_eq!(run.state.waiting().count(), 1);
    run.record(decided(says(user(1), Ruling::Pass)));
    run.record(Payload::Resumed(crate::engine::journal::Resumed { by: user(1) }));
    assert_eq!(run.place().0, "next");
}
