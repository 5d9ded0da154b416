use service_kit::ids::{StudioId, VersionId, WorkflowId};
use time::OffsetDateTime;

use super::*;
use crate::{
    engine::journal::{Entry, Finished, GENESIS, Payload},
    worker::writer::{Fence, NewKey, Then},
};

#[test]
fn starts_with_an_equal_key_stand_behind_the_first_and_hear_what_it_hears() {
    let caller = (CompanyId::generate(), UserId::generate());
    let (first, first_answer) = start(caller, Some(("k", 1)));
    let (second, second_answer) = start(caller, Some(("k", 1)));
    let (third, third_answer) = start(caller, Some(("k", 2)));
    let (other, _other_answer) = start((caller.0, UserId::generate()), Some(("k", 1)));
    let (keyless, _keyless_answer) = start(caller, None);
    let execution = first.execution();
    let mut folded = folded(vec![first, second, third, other, keyless]);
    assert_eq!(folded.len(), 3);
    folded.remove(0).written(Some(times()));
    assert!(matches!(answer(first_answer), Some(Started::Written(_))));
    assert!(matches!(answer(second_answer), Some(Started::Existing(id)) if id == execution));
    assert!(matches!(answer(third_answer), Some(Started::KeyReused)));
}

#[test]
fn where_the_first_of_a_key_loses_its_lease_the_next_is_the_first() {
    let caller = (CompanyId::generate(), UserId::generate());
    let (first, first_answer) = start(caller, Some(("k", 1)));
    let (second, _second_answer) = start(caller, Some(("k", 1)));
    let next = second.execution();
    first.lost.cancel();
    let left = leased(folded(vec![first, second]));
    assert!(matches!(answer(first_answer), Some(Started::Failed(_))));
    let left: Vec<_> = left.iter().map(Item::execution).collect();
    assert_eq!(left, [next]);
}

#[test]
fn a_batch_is_in_the_order_of_executions_and_has_none_twice() {
    let executions: Vec<_> = (0..5).map(|_| ExecutionId::generate()).collect();
    let items = [3, 1, 4, 1, 0, 2].map(|n| record(executions[n]));
    let batches = batches(items.into(), 4);
    let mut found: Vec<Vec<_>> = batches
        .iter()
        .map(|batch| batch.iter().map(Item::execution).collect())
        .collect();
    let last = found.pop().unwrap();
    assert_eq!(
        last,
        [executions[0], executions[1], executions[3], executions[4]],
        "the first comes last"
    );
    assert_eq!(found, [vec![executions[1], executions[2]]]);
}

fn start((company, started_by): (CompanyId, UserId), key: Option<(&str, u8)>) -> (Item, oneshot::Receiver<Started>) {
    let (reply, answer) = oneshot::channel();
    let new = NewRun {
        execution: ExecutionId::generate(),
        company,
        studio: StudioId::generate(),
        workflow: WorkflowId::generate(),
        version: VersionId::generate(),
        version_number: 1,
        started_by,
        inputs: "{}".into(),
        trace_context: String::new(),
        stage: String::new(),
        owner: None,
        entries: vec![
            Entry {
                seq: 1,
                occurred_at: OffsetDateTime::UNIX_EPOCH,
                payload: Payload::Finished(Finished { failure: None }),
            }
            .seal(&GENESIS),
        ],
        parent: None,
        source: None,
        audit: None,
        allowance: None,
        key: key.map(|(key, body)| NewKey {
            method: "Start".into(),
            key: key.into(),
            body_hash: vec![body],
        }),
    };
    (Item::start(new, CancellationToken::new(), reply), answer)
}

fn record(execution: ExecutionId) -> Item {
    let record = Record {
        fence: Fence {
            execution,
            instance: 1,
            epoch: 0,
            seq: 1,
        },
        entries: Vec::new(),
        head: Vec::new(),
        stage: String::new(),
        status: None,
        commands_seen: 0,
        commands_done: 0,
        children: Vec::new(),
        asks: None,
        then: Then::Keep,
    };
    Item::record(record, CancellationToken::new(), oneshot::channel().0)
}

fn answer(mut answer: oneshot::Receiver<Started>) -> Option<Started> {
    answer.try_recv().ok()
}

fn times() -> Times {
    Times {
        created_at: OffsetDateTime::UNIX_EPOCH,
        started_at: None,
        remaining: None,
    }
}
