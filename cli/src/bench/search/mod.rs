//! Search within a studio of 1,000 chunks, alone and beside a thousand such studios; how soon a long PDF is found; and how often
//! the chunk that answers a question is among the first five, by words, by vectors, and by both.
//!
//! The chunks are sentences of this repository's own documents, so that words are as common and as rare as they are. Their
//! vectors are the offline model's, which hashes words: what a trained model would find by them, no figure here says.

mod paper;
mod quality;
mod settle;

use std::{cell::RefCell, time::Duration};

use anyhow::{Result, ensure};
use http::HeaderValue;
use prost::Message;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use studios_proto::core::{MatchMode, QueryVector, SearchChunksRequest, SearchChunksResponse, SearchMode};
use url::Url;

use self::settle::CHUNKS_PER_STUDIO;
use super::{
    Effort,
    load::{Call, Client, Outcome, closed_loop, on_own_thread},
    progress,
    report::{Report, median},
    rig::{ADDRESS_LIMIT, Rig, USER_LIMIT},
    seed::Population,
};

const STUDIOS: usize = 1000;
/// Of a quick run.
const FEW_STUDIOS: usize = 20;
/// The part that the whole is compared with.
const PART: usize = 100;
const CALLERS: usize = 2;
const ROUNDS: usize = 3;
const SEARCH: &str = "studios.core.v1.DocumentService/SearchChunks";

/// Ways to search.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// A question, as workflows ask it: any word counts.
    Question,
    /// Two words, as people type them: both must be there.
    Words,
    /// A question with its vector.
    Fused,
}

impl Way {
    const ALL: [Self; 3] = [Self::Question, Self::Words, Self::Fused];

    const fn suffix(self) -> &'static str {
        match self {
            Self::Question => "",
            Self::Words => "_two_words",
            Self::Fused => "_fused",
        }
    }

    fn request(self, question: &Question) -> SearchChunksRequest {
        let words = question
            .text
            .split_whitespace()
            .rev()
            .take(2)
            .collect::<Vec<_>>()
            .join(" ");
        let (query, matching) = match self {
            Self::Question | Self::Fused => (question.text.clone(), MatchMode::Any),
            Self::Words => (words, MatchMode::All),
        };
        SearchChunksRequest {
            query,
            match_mode: matching.into(),
            mode: SearchMode::Automatic.into(),
            vector: matches!(self, Self::Fused).then(|| QueryVector {
                model: quality::SPACE.into(),
                numbers: question.vector.clone(),
            }),
            ..SearchChunksRequest::default()
        }
    }
}

/// A question with its vector.
struct Question {
    text: String,
    vector: Vec<f32>,
}

pub(super) async fn run(mut report: Report, effort: Effort) -> Result<Report> {
    let studios = if effort.quick { FEW_STUDIOS } else { STUDIOS };
    let rig = Rig::start(&mut report, false, &[USER_LIMIT, ADDRESS_LIMIT]).await?;
    sqlx::query("update core.plans set storage_bytes = 1::bigint << 40")
        .execute(&mut rig.admin().await?)
        .await?;
    let user = quality::User::sign_up(&rig).await?;
    report.figure("pdf_of_300_pages_searchable_s", paper::searchable_s(&user).await?);
    for (way, recall) in quality::recalls(&rig, &user).await? {
        report.figure(format!("recall_at_5_{way}"), recall);
    }

    let population = Population {
        companies: studios,
        users: studios,
        studios,
    };
    population.settle(&rig).await?;
    let length = effort.length(5);
    let rounds = effort.rounds(ROUNDS);
    report.condition("studios", studios);
    report.condition("chunks", studios * CHUNKS_PER_STUDIO);
    report.condition("chunks_per_studio", CHUNKS_PER_STUDIO);
    report.condition("concurrency", CALLERS);
    report.condition("seconds", length.as_secs_f64());
    report.condition("rounds_of_which_the_median", rounds);
    let tokens = population.tokens(&rig).await?;
    let few = (studios / PART).max(1);
    let texts = settle::Texts::make().await?;
    let mut measured = Vec::new();
    for (from, to) in [(0, few), (few, studios)] {
        settle::settle(&rig, &texts, from..to).await?;
        progress(format_args!("  {} chunks are there", to * CHUNKS_PER_STUDIO));
        // The same studios are asked both times: what differs is how much lies beside them.
        let (core, tokens) = (rig.core()?, tokens[..few].to_vec());
        let questions = quality::questions().await?;
        measured.push(on_own_thread(move || drive(core, population, tokens, questions, length, rounds)).await?);
    }
    let (alone, beside) = (&measured[0], &measured[1]);
    let mut worst: f64 = 0.0;
    for ((way, alone), beside) in Way::ALL.into_iter().zip(alone).zip(beside) {
        let suffix = way.suffix();
        let ratio = beside.p95_ms / alone.p95_ms.max(f64::EPSILON);
        worst = worst.max(ratio);
        report.figure(format!("p50_ms{suffix}"), beside.p50_ms);
        report.figure(format!("p95_ms{suffix}"), beside.p95_ms);
        report.figure(format!("p95_ms_at_1_percent{suffix}"), alone.p95_ms);
    }
    report.figure("worst_p95_ratio", worst);
    Ok(report)
}

/// How long a way of searching takes.
#[derive(Debug, Clone, Copy)]
struct Latency {
    p50_ms: f64,
    p95_ms: f64,
}

async fn drive(
    core: Url,
    population: Population,
    tokens: Vec<HeaderValue>,
    questions: Vec<Question>,
    length: Duration,
    rounds: usize,
) -> Result<Vec<Latency>> {
    let client = Client::connect(&core, CALLERS).await?;
    let mut found = Vec::new();
    for way in Way::ALL {
        let mut calls = Vec::new();
        for (user, token) in tokens.iter().enumerate() {
            for question in &questions {
                let request = SearchChunksRequest {
                    studio_id: population.studio_of(user, 0),
                    ..way.request(question)
                };
                calls.push(client.call(SEARCH, token, &request)?);
            }
        }
        // The first of them warms it up, and shows that there is something to find.
        let answer = SearchChunksResponse::decode(client.unary(0, &calls[0]).await?)?;
        ensure!(!answer.results.is_empty(), "nothing is found");
        let (mut p50, mut p95) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let outcome = measure(&client, &calls, length).await?;
            p50.push(outcome.quantile_ms(0.5));
            p95.push(outcome.quantile_ms(0.95));
        }
        let latency = Latency {
            p50_ms: median(p50),
            p95_ms: median(p95),
        };
        progress(format_args!(
            "  {way:?}: p50 {:.2} ms, p95 {:.2} ms",
            latency.p50_ms, latency.p95_ms
        ));
        found.push(latency);
    }
    Ok(found)
}

async fn measure(client: &Client, calls: &[Call], length: Duration) -> Result<Outcome> {
    let random = RefCell::new(SmallRng::seed_from_u64(7));
    let any = async |slot: usize| {
        let call = random.borrow_mut().random_range(0..calls.len());
        client.unary(slot, &calls[call]).await.map(|_| ())
    };
    closed_loop(CALLERS, length, any).await
}
