//! A call of a model alone: the provider's adapter with its breaker and limits, straight from this process, without a workflow
//! around it. The stub is a process of its own; this one does nothing but call, so its CPU and memory are the calls'.
//!
//! Overhead is what a call takes beside the same exchange by the bare outbound client, at the same rate.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use execution_service::providers::{Call, Parameters, Provider, Providers, ProvidersConfig};
use futures::{StreamExt, stream::FuturesUnordered};
use hdrhistogram::Histogram;
use http::HeaderMap;
use serde_json::json;
use service_kit::{
    config::Reader,
    outbound::{Destination, Outbound, OutboundConfig},
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use url::Url;

use super::{
    Effort, cpu,
    definitions::HELD_MODEL,
    load,
    peer::Peer,
    progress,
    report::{Report, median},
    rig::fresh_dir,
};

/// Calls under way at once while the cost of one is measured.
const CALLERS: usize = 64;
/// Calls a second while overhead is measured.
const RATE: u32 = 1_000;
/// Streams at once.
const STREAMS: usize = 1_000;
/// How long a call may take at most.
const TIMEOUT: Duration = Duration::from_mins(1);
/// The largest time that is told apart, in microseconds.
const LONGEST_US: u64 = 60_000_000;

pub(super) async fn run(mut report: Report, effort: Effort) -> Result<Report> {
    let dir = fresh_dir()?;
    let stub = Peer::start(&["bench", "stub"], &[], &dir.path().join("stub.log")).await?;
    let url = stub.url("url")?;
    let rounds = effort.rounds(3);
    report.condition("rounds_of_which_the_median", rounds);
    report.condition("callers", CALLERS);
    report.condition("calls_per_second_of_the_overhead", RATE);

    let length = effort.length(8);
    let whole = provider(&url, false)?;
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let (calls, seconds, used) = closed(whole.clone(), length).await?;
        #[expect(clippy::cast_precision_loss, reason = "no run has so many calls")]
        let calls = calls as f64;
        rates.push(calls / seconds);
        costs.push(used * 1000.0 / calls);
        progress(format_args!(
            "  round {round}: {:.3} CPU-s for 1,000 calls",
            costs[round - 1]
        ));
    }
    report.figure("calls_per_s", median(rates));
    report.figure("cpu_s_per_1000", median(costs));

    let bare = Bare::new(&url)?;
    let (mut p50, mut p99, mut over) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let without = paced(length, {
            let bare = bare.clone();
            move || {
                let bare = bare.clone();
                async move { bare.post().await }
            }
        })
        .await?;
        let with = paced(length, {
            let provider = whole.clone();
            move || {
                let provider = provider.clone();
                async move { ask(&provider, "stub-1").await }
            }
        })
        .await?;
        p50.push(with.0);
        p99.push(with.1);
        over.push((with.1 - without.1).max(0.0));
        progress(format_args!(
            "  round {round}: p99 {:.3} ms, {:.3} ms by the bare client",
            with.1, without.1
        ));
    }
    report.figure("p50_ms_at_1000_per_s", median(p50));
    report.figure("p99_ms_at_1000_per_s", median(p99));
    report.figure("p99_overhead_ms_at_1000_per_s", median(over));

    let own = std::process::id();
    report.figure("resident_mb_before_the_streams", cpu::resident_mb(own)?);
    let streams = effort.many(STREAMS);
    let most = held(&provider(&url, true)?, streams).await?;
    report.count("streams_at_once", streams);
    report.figure("resident_mb_with_the_streams", most);
    stub.end().await?;
    Ok(report)
}

/// The stub's provider, as a service has it: with a breaker and limits.
fn provider(url: &Url, streams: bool) -> Result<Arc<dyn Provider>> {
    let set = |entry: &str, value: String| (format!("providers_stub_{entry}"), value);
    let settings = [
        set("base_url", format!("{url}v1")),
        set("api_key", "a-key".to_owned()),
        set("stream", streams.to_string()),
        set("concurrency", "4096".to_owned()),
        set("tokens_per_minute", "4000000000".to_owned()),
    ];
    let mut reader = Reader::load(&["STUDIOS_NO_SUCH_PREFIX_"], None, &settings);
    let config = ProvidersConfig::read(&mut reader);
    reader.finish().map_err(|errors| anyhow!("{errors}"))?;
    let providers = Providers::new(&config, Outbound::new(&OutboundConfig::default())?);
    providers.get("stub").context("it has just been configured")
}

fn call(model: &str) -> Call {
    Call {
        provider: "stub".into(),
        model: model.into(),
        system: "You are a careful clerk.".into(),
        prompt: "Say in a line what a stage is made of.".into(),
        parameters: Parameters {
            max_tokens: Some(100),
            ..Parameters::default()
        },
        timeout: TIMEOUT,
        idempotency_key: "bench/stage/1".into(),
        ..Call::default()
    }
}

async fn ask(provider: &Arc<dyn Provider>, model: &str) -> Result<()> {
    let answer = provider.call(&call(model), &|_| {}).await;
    let answer = answer.map_err(|error| anyhow!("{}: {}", error.reason, error.message))?;
    ensure!(answer.text.starts_with("OK"), "another answer: {}", answer.text);
    Ok(())
}

/// As many calls as go: how many, in how many seconds, and the CPU-seconds that they took. On one thread, so that no CPU goes
/// into threads waking each other.
async fn closed(provider: Arc<dyn Provider>, length: Duration) -> Result<(u64, f64, f64)> {
    load::on_own_thread(move || async move {
        let warm_up = calls_until(&provider, Instant::now() + length / 8).await?;
        ensure!(warm_up > 0, "no call came to an end");
        let (begun, before) = (Instant::now(), cpu::used(std::process::id())?);
        let calls = calls_until(&provider, begun + length).await?;
        let used = cpu::used(std::process::id())? - before;
        Ok((calls, begun.elapsed().as_secs_f64(), used))
    })
    .await
}

async fn calls_until(provider: &Arc<dyn Provider>, end: Instant) -> Result<u64> {
    let mut callers: FuturesUnordered<_> = (0..CALLERS)
        .map(|_| async {
            let mut calls = 0_u64;
            while Instant::now() < end {
                ask(provider, "stub-1").await?;
                calls += 1;
            }
            Ok::<_, anyhow::Error>(calls)
        })
        .collect();
    let mut all = 0;
    while let Some(calls) = callers.next().await {
        all += calls?;
    }
    Ok(all)
}

/// Calls that begin at a steady rate, whatever became of those before: their p50 and p99 in milliseconds.
async fn paced<F>(length: Duration, work: impl Fn() -> F + Send + 'static) -> Result<(f64, f64)>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    load::on_own_thread(move || async move {
        let mut times = Histogram::<u64>::new_with_bounds(1, LONGEST_US, 3)?;
        let mut calls: JoinSet<Result<Duration>> = JoinSet::new();
        let mut beat = interval(Duration::from_secs(1) / RATE);
        // What a late beat has missed comes at once, so that the rate is kept.
        beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let end = Instant::now() + length;
        while Instant::now() < end {
            beat.tick().await;
            let one = work();
            calls.spawn(async move {
                let begun = Instant::now();
                one.await?;
                Ok(begun.elapsed())
            });
            while let Some(done) = calls.try_join_next() {
                times.saturating_record(u64::try_from(done??.as_micros())?);
            }
        }
        while let Some(done) = calls.join_next().await {
            times.saturating_record(u64::try_from(done??.as_micros())?);
        }
        #[expect(clippy::cast_precision_loss, reason = "a minute has fewer microseconds")]
        let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
        Ok((ms(0.5), ms(0.99)))
    })
    .await
}

/// The most memory that this process holds while so many streams are under way.
async fn held(provider: &Arc<dyn Provider>, streams: usize) -> Result<f64> {
    let mut calls = JoinSet::new();
    for _ in 0..streams {
        let provider = provider.clone();
        calls.spawn(async move { ask(&provider, HELD_MODEL).await });
    }
    let mut most = 0.0_f64;
    let mut look = interval(Duration::from_millis(50));
    loop {
        tokio::select! {
            done = calls.join_next() => match done {
                Some(done) => done??,
                None => return Ok(most),
            },
            _ = look.tick() => most = most.max(cpu::resident_mb(std::process::id())?),
        }
    }
}

/// The same exchange without the adapter.
#[derive(Clone)]
struct Bare {
    outbound: Outbound,
    to: Destination,
}

impl Bare {
    fn new(url: &Url) -> Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "it is the benchmark's own stub")]
        let to = Destination::configured(url.join("v1/chat/completions")?);
        Ok(Self {
            outbound: Outbound::new(&OutboundConfig::default())?,
            to,
        })
    }

    async fn post(&self) -> Result<()> {
        let body = json!({ "model": "stub-1", "stream": false, "max_tokens": 100, "messages": [
            { "role": "system", "content": "You are a careful clerk." },
            { "role": "user", "content": "Say in a line what a stage is made of." },
        ]});
        let response = self
            .outbound
            .post_json(&self.to, HeaderMap::new(), &body, TIMEOUT)
            .await?;
        ensure!(response.status.is_success(), "{}", response.status);
        Ok(())
    }
}
