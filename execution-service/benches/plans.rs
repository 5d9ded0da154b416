//! What a plan costs beside the model's time: cutting its texts, reading the answer while it comes, judging it.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput};
use execution_service::plans::{Bounded, Parser, rules};
use serde_json::{Value, json};

const PIECES: usize = 1_000;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(50)
        .configure_from_args();
    truncation(&mut criterion);
    validation(&mut criterion);
    reading(&mut criterion);
    criterion.final_summary();
}

fn truncation(criterion: &mut Criterion) {
    let (topic, notes) = ("漢".repeat(400), "🦀".repeat(4_000));
    criterion.bench_function("cut a topic and notes", |bencher| {
        bencher.iter(|| (Bounded::topic(black_box(&topic)), Bounded::notes(black_box(&notes))));
    });
}

/// The largest plan that there can be, with descriptions as models write them.
fn validation(criterion: &mut Criterion) {
    let answer = answer(200);
    criterion.bench_function("judge 12 modules with 20 tasks", |bencher| {
        bencher.iter(|| rules::judge(black_box(&answer)).expect("the plan breaks no rule"));
    });
}

/// Twice the length takes twice the time.
fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read an answer in 1,000 pieces");
    for chars in [50_000, 100_000, 200_000] {
        // What is not a description takes less than 20,000 characters.
        let text = answer((chars - 20_000) / 252).to_string();
        assert!(text.chars().count() <= chars, "the answer is longer than it is called");
        let text = format!("{text}{}", " ".repeat(chars - text.chars().count()));
        group.throughput(Throughput::Elements(chars as u64));
        group.bench_function(
            BenchmarkId::from_parameter(format!("of {chars} characters")),
            |bencher| {
                bencher.iter(|| {
                    let mut parser = Parser::default();
                    for piece in text.as_bytes().chunks(text.len().div_ceil(PIECES)) {
                        black_box(parser.push(piece).expect("the answer is not too long"));
                    }
                    parser.finish().expect("the plan breaks no rule")
                });
            },
        );
    }
    group.finish();
}

fn answer(description: usize) -> Value {
    let description = "x".repeat(description);
    let task = json!({"title": "Read", "description": description, "estimated_minutes": 30});
    let module =
        json!({"title": "Basics", "description": description, "estimated_minutes": 60, "tasks": vec![task; 20]});
    json!({"modules": vec![module; 12]})
}
