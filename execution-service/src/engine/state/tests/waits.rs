//! Waiting for times and signals.

use super::*;

fn wait(duration: Option<u64>, until_path: Option<&str>, signal: Option<&str>) -> Vec<Stage> {
    let wait = Wait {
        duration: duration.map(std::time::Duration::from_secs),
        until_path: until_path.map(Into::into),
        signal: signal.map(Into::into),
    };
    vec![of_kind("w", Kind::Wait(wait)), stage("next")]
}

fn run(stages: Vec<Stage>, inputs: Value) -> Run {
    let definition = Definition {
        stages,
        ..Definition::default()
    };
    Run::of(definition, inputs)
}

fn signal(name: &str, payload: Value) -> Payload {
    Payload::Signal(Box::new(Signal {
        name: name.into(),
        payload,
        by: None,
    }))
}

#[test]
fn a_wait_for_a_time_counts_from_the_entry_that_led_to_it_and_is_recorded_when_it_has_come() {
    let mut run = Run::stages(wait(Some(60), None, None));
    let since = run.now();
    let Action::AwaitTime { of, alarm } = run.action() else {
        panic!("a wait")
    };
    assert_eq!((of.stage.as_str(), alarm.at), ("w", since + Duration::minutes(1)));
    let recorded = alarm.record.attempt().unwrap().clone();
    assert_eq!(
        (recorded.started_at, recorded.duration_ms, recorded.usage),
        (since, 60_000, None)
    );
    run.record(*alarm.record);
    assert_eq!(run.place().0, "next");
    assert_eq!(
        run.state.context(run.given()).output_of("w"),
        Some(&json!({"waited": true}))
    );
}

#[test]
fn a_wait_until_a_time_of_the_context_ends_then_or_sooner_by_its_duration() {
    let until = |duration, inputs| match run(wait(duration, Some("inputs.t"), None), inputs).action() {
        Action::AwaitTime { alarm, .. } => Ok(alarm.at),
        Action::Fail(failure) => Err(failure.class),
        other => panic!("{other:?}"),
    };
    let inputs = json!({"t": "2025-06-01T14:00:00+01:00"});
    assert_eq!(until(None, inputs.clone()), Ok(START + Duration::hours(1)));
    assert_eq!(until(Some(60), inputs), Ok(START + Duration::seconds(61)));
    for inputs in [json!({}), json!({"t": "tomorrow"}), json!({"t": 5})] {
        assert_eq!(until(None, inputs), Err(FailureClass::Validation));
    }
}

#[test]
fn a_signal_ends_the_wait_for_its_name_with_what_comes_with_it() {
    let mut run = Run::stages(wait(None, None, Some("paid")));
    assert!(matches!(run.action(), Action::AwaitSignal { name, alarm: None, .. } if name == "paid"));
    run.record(signal("other", json!(0)));
    assert!(matches!(run.action(), Action::AwaitSignal { .. }));
    run.record(signal("paid", json!({"n": 1})));
    let Action::Record(payload) = run.action() else {
        panic!("an entry to record")
    };
    run.record(*payload);
    assert_eq!(run.place().0, "next");
    assert_eq!(run.state.context(run.given()).output_of("w"), Some(&json!({"n": 1})));
}

#[test]
fn a_signal_that_does_not_come_in_time_is_a_timeout() {
    let mut stages = wait(Some(5), None, Some("paid"));
    stages[0].next_on_fail = Some("next".into());
    let mut run = Run::stages(stages);
    let Action::AwaitSignal { alarm: Some(alarm), .. } = run.action() else {
        panic!("a wait with a deadline")
    };
    let failure = alarm.record.attempt().unwrap().failure.clone().unwrap();
    assert_eq!(
        (failure.class, failure.reason.as_str()),
        (FailureClass::Timeout, "signal")
    );
    run.record(*alarm.record).record(signal("paid", json!(1)));
    assert_eq!(run.place().0, "next");
}

#[test]
fn signals_that_come_early_are_kept_in_order_each_for_one_wait() {
    let mut stages = wait(None, None, Some("s"));
    stages[0].next_on_pass = Some("w".into());
    let mut run = Run::of(
        Definition {
            stages: [vec![stage("first")], stages].concat(),
            ..Definition::default()
        },
        json!({}),
    );
    run.record(signal("s", json!(1)))
        .record(signal("x", json!(0)))
        .record(signal("s", json!(2)));
    run.record(attempt_of("first", 1, 1, json!(0)));
    for expected in [1, 2] {
        let Action::Record(payload) = run.action() else {
            panic!("an entry to record")
        };
        assert_eq!(payload.attempt().unwrap().output, json!(expected));
        run.record(*payload);
    }
    assert!(matches!(run.action(), Action::AwaitSignal { .. }));
    assert_eq!(run.state.signals_kept, 1);
}

#[test]
fn no_more_than_so_many_signals_are_kept() {
    let mut run = Run::stages(wait(Some(1), None, None));
    let mut state = run.state.clone();
    for n in 0..=MAX_SIGNALS {
        let entry = Entry {
            seq: 2 + i64::try_from(n).unwrap(),
            occurred_at: START,
            payload: signal(&format!("s{n}"), json!(n)),
        };
        state.apply(run.given(), &entry);
    }
    assert_eq!((state.signals_kept, state.signals.len()), (MAX_SIGNALS, MAX_SIGNALS));
    assert!(state.loses("s0") && state.loses("one more"));
    assert!(!run.state.loses("s0"));
    run.record(signal("w", json!(1)));
}
