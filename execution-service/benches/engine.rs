//! What the engine adds to a model's time: deciding, sealing, rendering; and the model that is built in.
//!
//! The run goes round between two stages, one of which retrieves eight chunks of the longest kind. Its journal is made by the
//! engine's own decisions, so it is one that could have happened.

use std::{fmt::Write, hint::black_box, time::Duration};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use execution_service::{
    engine::{
        action::{Action, Call as Try},
        cel::{Expression, Scope, Variable},
        context::Context,
        definition::{Definition, Kind},
        journal::{AttemptPayload, Entry, GENESIS, Payload, Source, Started, Verdict, chain},
        request::Renderer,
        state::{Given, State},
    },
    providers::{Call, OFFLINE, Offline, Provider},
};
use serde_json::{Map, Value, json};
use service_kit::ids::{ChunkId, DocumentId, ExecutionId, VersionId, WorkflowId};
use time::{OffsetDateTime, macros::datetime};
use tokio::runtime::Runtime;

const START: OffsetDateTime = datetime!(2025-06-01 12:00:00 UTC);
const CHUNKS: usize = 8;
const CHUNK_BYTES: usize = 1600;
const ANSWER_BYTES: usize = 2000;
const DOCUMENT_BYTES: usize = 200_000;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(50)
        .configure_from_args();
    decision(&mut criterion);
    conditions(&mut criterion);
    sealing(&mut criterion);
    prompt(&mut criterion);
    offline_model(&mut criterion);
    criterion.final_summary();
}

fn decision(criterion: &mut Criterion) {
    let (definition, inputs) = (definition(), inputs());
    let given = Given {
        definition: &definition,
        inputs: &inputs,
    };
    let mut group = criterion.benchmark_group("take an attempt and decide what is next");
    for attempts in [10, 100, 1_000] {
        let journal = journal(given, attempts);
        let (last, before) = journal.split_last().expect("a journal has a first entry");
        let state = State::after(given, before);
        group.bench_function(
            BenchmarkId::from_parameter(format!("after {attempts} attempts")),
            |bencher| {
                bencher.iter_batched_ref(
                    || state.clone(),
                    |state| {
                        state.apply(given, black_box(last));
                        state.actions(given)
                    },
                    BatchSize::SmallInput,
                );
            },
        );
    }
    group.finish();
}

/// Conditions: one that people write, and some that are written to take long.
fn conditions(criterion: &mut Criterion) {
    let (definition, inputs) = (definition(), inputs());
    let items: Vec<Value> = (0..100_000).map(Value::from).collect();
    let output = json!({"score": 0.8, "items": items, "long": "x".repeat(1 << 20)});
    let context = Context::new(&definition, &inputs, &[]);
    let scope = Scope::of(&context).with("output", Variable::Json(&output));
    let mut group = criterion.benchmark_group("a condition");
    for (name, text) in [
        (
            "usual",
            "output.score > 0.5 && inputs.topic == 'returns' && !has(stages.review)",
        ),
        (
            "nested loops",
            "output.items.all(a, output.items.all(b, output.items.all(c, a + b + c >= 0)))",
        ),
        (
            "growing text",
            "output.items.map(a, output.long + output.long).size() == 0",
        ),
        (
            "growing lists",
            "output.items.map(a, output.items + output.items).size() == 0",
        ),
        ("searches", "output.items.all(a, !output.long.matches('(x+x+)+y'))"),
    ] {
        let expression = Expression::from(text);
        group.bench_function(name, |bencher| bencher.iter(|| black_box(&expression).holds(&scope)));
    }
    group.finish();
}

fn sealing(criterion: &mut Criterion) {
    let (definition, inputs) = (definition(), inputs());
    let given = Given {
        definition: &definition,
        inputs: &inputs,
    };
    let entry = journal(given, 1).remove(1);
    let bytes = entry.clone().seal(&GENESIS).bytes;
    let mut group = criterion.benchmark_group("an attempt's entry");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("seal", |bencher| {
        bencher.iter_batched(
            || entry.clone(),
            |entry| black_box(entry).seal(&GENESIS),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("hash", |bencher| bencher.iter(|| chain(&GENESIS, black_box(&bytes))));
    group.finish();
}

fn prompt(criterion: &mut Criterion) {
    let (definition, inputs) = (definition(), inputs());
    let given = Given {
        definition: &definition,
        inputs: &inputs,
    };
    let journal = journal(given, 2);
    let Kind::Llm(llm) = &definition.stages[0].kind else {
        unreachable!("the first stage calls a model");
    };
    let sources = sources();
    criterion.bench_function("render a prompt with 8 chunks", |bencher| {
        bencher.iter(|| {
            let context = Context::new(&definition, &inputs, &journal);
            let mapped = context.mapped(&definition.stages[0].input_mapping);
            let renderer = Renderer {
                context: &context,
                mapped: &mapped,
                notes: "",
            };
            renderer
                .prompt(llm, black_box(&sources))
                .expect("every variable has a value")
        });
    });
}

fn offline_model(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("the machine has threads to give");
    let call = Call {
        provider: OFFLINE.into(),
        model: "offline".into(),
        system: "You are a careful clerk.".into(),
        prompt: format!(
            "Summarise the text in five bullet points.\n\nText:\n{}",
            prose(0, DOCUMENT_BYTES)
        ),
        timeout: Duration::from_mins(1),
        idempotency_key: "benchmark".into(),
        ..Call::default()
    };
    let mut group = criterion.benchmark_group("offline model");
    group.sample_size(10);
    group.measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Bytes(call.prompt.len() as u64));
    group.bench_function("summarise 200 KB", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            Offline
                .call(&call, &|_| ())
                .await
                .expect("there is something to extract")
        });
    });
    group.finish();
}

fn definition() -> Definition {
    let definition = json!({
        "transition_limit": 10_000,
        "stages": [
            {
                "name": "draft",
                "kind": "llm",
                "model": "m",
                "system": "You write for {{ reader }}.",
                "prompt": "Write about {{ inputs.topic }}.\n{% if review %}Mind this: {{ review }}\n{% endif %}\n{{ chunks }}\n",
                "retrieval": { "query": "{{ inputs.topic }}" },
                "input_mapping": { "reader": "inputs.reader", "review": "stages.review.output" },
            },
            {
                "name": "review",
                "kind": "llm",
                "model": "m",
                "prompt": "What is wrong with this?\n\n{{ draft }}",
                "input_mapping": { "draft": "stages.draft.output" },
                "next_on_pass": "draft",
            },
        ],
    });
    serde_json::from_value(definition).expect("the definition has the stored form")
}

fn inputs() -> Map<String, Value> {
    Map::from_iter([
        ("topic".into(), "returns".into()),
        ("reader".into(), "the workshop".into()),
    ])
}

/// The journal of a run after so many attempts, all of which succeeded.
fn journal(given: Given<'_>, attempts: usize) -> Vec<Entry> {
    let mut journal = vec![entry(
        1,
        Payload::Started(Started {
            execution_id: ExecutionId::generate(),
            workflow_id: WorkflowId::generate(),
            version_id: VersionId::generate(),
            workflow_version: 1,
            inputs_sha256: String::new(),
            depth: 0,
        }),
    )];
    let mut state = State::after(given, &journal);
    for seq in (2..).take(attempts) {
        let actions = state.actions(given);
        let [Action::Call(call)] = actions.as_slice() else {
            unreachable!("the stages go round");
        };
        let recorded = entry(seq, Payload::Attempt(Box::new(attempt(call))));
        state.apply(given, &recorded);
        journal.push(recorded);
    }
    journal
}

fn entry(seq: i64, payload: Payload) -> Entry {
    Entry {
        seq,
        occurred_at: START + time::Duration::seconds(seq),
        payload,
    }
}

fn attempt(call: &Try) -> AttemptPayload {
    let answer = prose(call.key.visit as usize, ANSWER_BYTES);
    AttemptPayload {
        stage: call.key.stage.clone(),
        visit: call.key.visit,
        item: call.key.item,
        attempt: call.key.attempt,
        failure: None,
        output: Value::from(answer.as_str()),
        raw_output: answer,
        cleaned: false,
        validation: Verdict::default(),
        sources: if call.stage == 0 { sources() } else { Vec::new() },
        prompt_sha256: "0".repeat(64),
        usage: None,
        judge: None,
        started_at: START,
        duration_ms: 900,
    }
}

fn sources() -> Vec<Source> {
    (0..CHUNKS)
        .map(|number| Source {
            document_id: DocumentId::generate(),
            chunk_id: ChunkId::generate(),
            document_title: "Handbook".into(),
            section: format!("Returns > Part {number}"),
            page: None,
            overlap: String::new(),
            content: prose(number * 100, CHUNK_BYTES),
        })
        .collect()
}

/// Sentences that differ from each other, in paragraphs; from another number on, others. As long as was asked for.
fn prose(from: usize, bytes: usize) -> String {
    const WHO: [&str; 7] = [
        "clerk",
        "workshop",
        "customer",
        "carrier",
        "auditor",
        "buyer",
        "night shift",
    ];
    const DOES: [&str; 11] = [
        "weighs",
        "repairs",
        "returns",
        "photographs",
        "rejects",
        "replaces",
        "signs for",
        "stores",
        "ships",
        "counts",
        "unpacks",
    ];
    const WHAT: [&str; 13] = [
        "pump", "valve", "parcel", "gasket", "invoice", "meter", "battery", "lamp", "spindle", "filter", "cable",
        "housing", "sensor",
    ];
    let mut text = String::with_capacity(bytes + 200);
    let mut number = from;
    while text.len() < bytes {
        let pick = |list: &[&'static str], stride: usize| list[(number * stride + number / list.len()) % list.len()];
        let (who, does, what) = (pick(&WHO, 3), pick(&DOES, 5), pick(&WHAT, 7));
        let end = if number.is_multiple_of(6) { "\n\n" } else { " " };
        write!(
            text,
            "The {who} {does} the {what} of order {number} within {} days, and tells the {}.{end}",
            number % 29 + 1,
            pick(&WHO, 5)
        )
        .expect("a string takes what is written to it");
        number += 1;
    }
    text.truncate(bytes);
    text
}
