use proptest::prelude::*;
use serde_json::{Value, json};
use service_kit::ids::{ChunkId, DocumentId};
use time::macros::datetime;

use super::*;
use crate::engine::failure::FailureClass;

fn started() -> Payload {
    Payload::Started(Started {
        execution_id: ExecutionId::generate(),
        workflow_id: WorkflowId::generate(),
        version_id: VersionId::generate(),
        workflow_version: 3,
        inputs_sha256: "00".into(),
        depth: 0,
    })
}

fn attempt(output: Value, raw: &str) -> AttemptPayload {
    AttemptPayload {
        stage: "a".into(),
        visit: 1,
        item: 0,
        attempt: 1,
        failure: None,
        output,
        raw_output: raw.into(),
        cleaned: false,
        validation: Verdict::default(),
        sources: Vec::new(),
        prompt_sha256: String::new(),
        usage: None,
        judge: None,
        started_at: datetime!(2025-01-02 03:04:05.123456789 UTC),
        duration_ms: 12,
    }
}

fn entry(payload: Payload) -> Entry {
    Entry {
        seq: 2,
        occurred_at: datetime!(2025-01-02 03:04:05 UTC),
        payload,
    }
}

#[test]
fn bytes_are_canonical_and_times_have_six_digits() {
    let sealed = entry(Payload::Attempt(Box::new(attempt(json!({"b": 1.0, "a": "é"}), "x")))).seal(&GENESIS);
    assert_eq!(
        String::from_utf8(sealed.bytes).unwrap(),
        r#"{"attempt":1,"duration_ms":12,"item":0,"kind":"attempt","occurred_at":"2025-01-02T03:04:05.000000Z","#
            .to_owned()
            + r#""output":{"a":"é","b":1},"raw_output":"x","seq":2,"stage":"a","started_at":"2025-01-02T03:04:05.123456Z","visit":1}"#
    );
}

#[test]
fn an_output_that_is_the_raw_output_is_stored_once() {
    let once = entry(Payload::Attempt(Box::new(attempt(
        json!("a long answer"),
        "a long answer",
    ))))
    .seal(&GENESIS);
    assert_eq!(String::from_utf8_lossy(&once.bytes).matches("a long answer").count(), 1);
    assert_eq!(once.entry.payload.attempt().unwrap().output, "a long answer");
    let mut failed = attempt(Value::Null, "a long answer");
    failed.failure = Some(AttemptFailure::passing(FailureClass::Validation, "check", "no"));
    let failed = entry(Payload::Attempt(Box::new(failed))).seal(&GENESIS);
    assert_eq!(failed.entry.payload.attempt().unwrap().output, Value::Null);
}

#[test]
fn the_output_of_a_retrieval_is_stored_as_its_sources_alone() {
    let mut retrieved = attempt(Value::Null, "");
    retrieved.sources = vec![Source {
        document_id: DocumentId::generate(),
        chunk_id: ChunkId::generate(),
        document_title: "Guide".into(),
        section: String::new(),
        page: None,
        overlap: String::new(),
        content: "a long passage".into(),
    }];
    for sources in [retrieved.sources.clone(), Vec::new()] {
        retrieved.output = crate::engine::passages::output(&sources);
        retrieved.sources = sources;
        let sealed = entry(Payload::Attempt(Box::new(retrieved.clone()))).seal(&GENESIS);
        assert!(String::from_utf8_lossy(&sealed.bytes).matches("a long passage").count() < 2);
        assert_eq!(sealed.entry.payload.attempt(), Some(&retrieved_at_micros(&retrieved)));
    }
    let empty_answer = entry(Payload::Attempt(Box::new(attempt(json!(""), "")))).seal(&GENESIS);
    assert_eq!(empty_answer.entry.payload.attempt().unwrap().output, "");
}

fn retrieved_at_micros(attempt: &AttemptPayload) -> AttemptPayload {
    AttemptPayload {
        started_at: datetime!(2025-01-02 03:04:05.123456 UTC),
        ..attempt.clone()
    }
}

#[test]
fn what_is_in_memory_is_what_the_bytes_say() {
    let sealed = entry(Payload::Attempt(Box::new(attempt(json!({"n": 5.0, "big": 1e300}), "")))).seal(&GENESIS);
    let output = &sealed.entry.payload.attempt().unwrap().output;
    assert_eq!(
        serde_json::to_string(&output["n"]).unwrap(),
        "5",
        "as it is when it is read from the database"
    );
    assert_eq!(Entry::open(&sealed.bytes).unwrap(), sealed.entry);
}

#[test]
fn the_hash_covers_the_bytes_and_the_predecessor() {
    let first = entry(started()).seal(&GENESIS);
    let other = entry(started()).seal(&GENESIS);
    assert_ne!(first.hash, other.hash);
    let end = entry(Payload::Finished(Finished { failure: None }));
    assert_ne!(end.clone().seal(&first.hash).hash, end.clone().seal(&other.hash).hash);
    assert_eq!(
        end.clone().seal(&first.hash).hash,
        chain(&first.hash, &end.seal(&other.hash).bytes)
    );
}

fn forked() -> Forked {
    Forked {
        source_execution: ExecutionId::generate(),
        source_seq: 7,
        source_hash: "ab".into(),
        from_stage: "b".into(),
        kept: vec![Kept {
            stage: "a".into(),
            visit: 1,
            item: 2,
            attempt: 3,
            output: json!({"x": null}),
        }],
        visits: [("a".to_owned(), 1)].into(),
    }
}

#[test]
fn every_kind_reads_back_and_only_the_last_ones_are_terminal() {
    let by = UserId::generate();
    let of = attempt(Value::Null, "").of_try();
    let payloads = [
        (started(), false),
        (Payload::Attempt(Box::new(attempt(json!([1, "x"]), "[1,\"x\"]"))), false),
        (
            Payload::Decision(Box::new(Decision {
                of: attempt(Value::Null, "").of_try(),
                decision: Ruling::Fail,
                by,
                notes: "warmer".into(),
                output: Some(json!({"edited": [1, null]})),
                form: Some(json!({"reason": "x"})),
            })),
            false,
        ),
        (Payload::Forked(Box::new(forked())), false),
        (
            Payload::Intent(Intent {
                of: of.clone(),
                effect: "POST https://example.com".into(),
            }),
            false,
        ),
        (Payload::Unknown(Of { of: of.clone() }), false),
        (
            Payload::FlowRun(FlowRun {
                of: of.clone(),
                flow_id: "f".into(),
                uncertain: true,
            }),
            false,
        ),
        (
            Payload::Child(Child {
                of: of.clone(),
                execution_id: ExecutionId::generate(),
                workflow_id: WorkflowId::generate(),
                version_number: 2,
            }),
            false,
        ),
        (
            Payload::Delegated(Delegated {
                of: of.clone(),
                by,
                to: by,
            }),
            false,
        ),
        (Payload::Reminded(Of { of: of.clone() }), false),
        (Payload::Escalated(Of { of: of.clone() }), false),
        (Payload::Expired(Of { of }), false),
        (
            Payload::Signal(Box::new(Signal {
                name: "paid".into(),
                payload: json!({"n": 1}),
                by: None,
            })),
            false,
        ),
        (
            Payload::Paused(Paused {
                by: None,
                reason: "his access is gone".into(),
            }),
            false,
        ),
        (Payload::Resumed(Resumed { by }), false),
        (
            Payload::Cancelled(Cancelled {
                by,
                reason: "enough".into(),
                interrupted: Some("a".into()),
            }),
            true,
        ),
        (
            Payload::Finished(Finished {
                failure: Some(Failure::new(FailureClass::Timeout, "late")),
            }),
            true,
        ),
    ];
    for (payload, terminal) in payloads {
        let sealed = entry(payload.clone()).seal(&GENESIS);
        assert_eq!(sealed.entry.payload.kind(), payload.kind());
        assert_eq!(sealed.entry.payload.is_terminal(), terminal);
        assert_eq!(Entry::open(&sealed.bytes).unwrap(), sealed.entry);
    }
}

#[test]
fn an_attempt_that_waits_keeps_its_output_and_is_neither_well_nor_failed() {
    let mut waiting = attempt(json!("a long answer"), "a long answer");
    waiting.validation.result = CheckResult::Pending;
    let sealed = entry(Payload::Attempt(Box::new(waiting))).seal(&GENESIS);
    assert_eq!(
        String::from_utf8_lossy(&sealed.bytes).matches("a long answer").count(),
        1
    );
    let waiting = sealed.entry.payload.attempt().unwrap();
    assert_eq!(waiting.output, "a long answer");
    assert_eq!(
        (waiting.outcome(), waiting.succeeded(), waiting.is_open()),
        ("pending", false, true)
    );
}

#[test]
fn a_decisions_bytes_name_the_try_beside_what_was_decided() {
    let decision = Decision {
        of: attempt(Value::Null, "").of_try(),
        decision: Ruling::Pass,
        by: UserId::from(uuid::Uuid::from_u128(1)),
        notes: String::new(),
        output: None,
        form: None,
    };
    let sealed = entry(Payload::Decision(Box::new(decision))).seal(&GENESIS);
    assert_eq!(
        String::from_utf8(sealed.bytes).unwrap(),
        r#"{"attempt":1,"by":"00000000-0000-0000-0000-000000000001","decision":"pass","item":0,"kind":"decision","#
            .to_owned()
            + r#""occurred_at":"2025-01-02T03:04:05.000000Z","seq":2,"stage":"a","visit":1}"#
    );
}

#[test]
fn foreign_bytes_are_refused_not_guessed() {
    for bytes in [
        "",
        "{}",
        "null",
        r#"{"kind":"unheard of","seq":1,"occurred_at":"2025-01-02T03:04:05.000000Z"}"#,
    ] {
        assert!(Entry::open(bytes.as_bytes()).is_err(), "{bytes}");
    }
}

proptest! {
    #[test]
    fn sealing_what_was_sealed_changes_nothing(output in any_json(), raw in ".{0,40}", failed: bool) {
        let mut attempt = attempt(output, &raw);
        if failed {
            attempt.output = Value::Null;
            attempt.failure = Some(AttemptFailure::lasting(FailureClass::Capped, "r", "m"));
        }
        let sealed = entry(Payload::Attempt(Box::new(attempt))).seal(&GENESIS);
        let again = sealed.entry.clone().seal(&GENESIS);
        prop_assert_eq!(&again.bytes, &sealed.bytes);
        prop_assert_eq!(again.entry, sealed.entry);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1000i32..1000, 1u8..100).prop_map(|(a, b)| Value::from(f64::from(a) / f64::from(b))),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}
