//! How fast documents are cut: a small one and one near the longest that is taken, in bytes per second.
//!
//! The text is the same in every run: headings in three levels, paragraphs, a list and a table, over and over.

use std::{fmt::Write, hint::black_box, time::Duration};

use core_service::documents::{
    MimeType,
    chunker::{Overlap, chunk},
};
use criterion::{BenchmarkId, Criterion, Throughput};

const SIZES: [(&str, usize); 2] = [("100 KiB", 100 << 10), ("4 MiB", 4 << 20)];

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5))
        .sample_size(20)
        .configure_from_args();
    markdown(&mut criterion);
    criterion.final_summary();
}

fn markdown(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunk markdown");
    for (name, bytes) in SIZES {
        let text = handbook(bytes);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &text, |bencher, text| {
            bencher.iter(|| chunk(MimeType::Markdown, black_box(text), Overlap::default()));
        });
    }
    group.finish();
}

/// A handbook that is cut off after this many bytes.
fn handbook(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 4096);
    let mut number = 0;
    while text.len() < bytes {
        number += 1;
        let level = "#".repeat(1 + number % 3);
        write!(text, "{level} Part {number}: returns and repairs\n\n").expect("a string takes what is written to it");
        for line in 0..number % 7 + 2 {
            writeln!(
                text,
                "Parcel {line} of order {number} is weighed, photographed and entered on the day it arrives. Where the seal \
                 is broken, *nobody* opens it alone; the clerk calls a second one, and both sign the `intake` form. What \
                 cannot be repaired within {number} days is replaced — at no cost — and the customer hears of it.\n"
            )
            .expect("a string takes what is written to it");
        }
        text.push_str(
            "- a list has short items\n- and some that go on for longer than the others do\n  - or lie deeper\n\n",
        );
        text.push_str("| state | who | days |\n|---|---|---|\n| new | clerk | 1 |\n| open | workshop | 14 |\n\n");
    }
    text.truncate(text.floor_char_boundary(bytes));
    text
}
