//! `studios bench`: what the product reaches on this machine, and what the machine itself would allow.
//!
//! Every benchmark starts and removes its own PostgreSQL of default durability and its own services. Driver, services,
//! model stub and PostgreSQL are processes of their own, so that the CPU of each can be told apart. The last line of a
//! `--json` run is one report: figures with their units in their names, the machine's limits measured in the same run, and
//! the conditions. Figures of a debug build say so and mean nothing.

mod cpu;
mod definitions;
mod echo;
mod engine;
mod idle;
mod load;
mod long;
mod migrate;
pub mod pdf;
mod peer;
mod plan_create;
mod provider;
mod read;
mod report;
mod rig;
mod scale;
mod search;
mod seed;
mod sql;
mod start_up;
mod stub;
mod transfer;
mod users;
mod waiting;
mod workflow;
mod write;

use std::{fmt::Display, io::Write as _, time::Duration};

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde_json::json;
use service_kit::lifecycle::Lifecycle;

use self::report::Report;
use crate::output::Output;

/// Which benchmark, and how long it measures.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// A benchmark, `all` of those that take less than minutes, or `list` to see what each measures.
    name: Name,
    /// How long each measurement takes.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
    /// One short round over less data: shows that it works, measures nothing well.
    #[arg(long)]
    quick: bool,
    /// Of engine and read: with so many callers alone, and nothing beside. For profiling.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4096))]
    callers: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    List,
    All,
    Engine,
    EngineWaiting,
    EngineLong,
    Read,
    Write,
    Idle,
    StartUp,
    Migrate,
    Users,
    Scale,
    Transfer,
    Provider,
    PlanCreate,
    Search,
    /// The model stub of a benchmark, in a process of its own.
    #[value(hide = true)]
    Stub,
    /// The bare gRPC server that a benchmark compares with, in a process of its own.
    #[value(hide = true)]
    Echo,
}

/// What `all` runs. The others take minutes each.
const SHORT: [Name; 10] = [
    Name::Migrate,
    Name::StartUp,
    Name::Idle,
    Name::Engine,
    Name::Read,
    Name::Write,
    Name::Users,
    Name::Transfer,
    Name::Provider,
    Name::PlanCreate,
];
const MINUTES: [Name; 4] = [Name::EngineLong, Name::EngineWaiting, Name::Scale, Name::Search];

impl Name {
    fn text(self) -> String {
        self.to_possible_value()
            .expect("no name is skipped")
            .get_name()
            .to_owned()
    }

    const fn measures(self) -> &'static str {
        match self {
            Self::Engine => "executions of three model stages, from start to end, beside the same rows by plain SQL",
            Self::EngineWaiting => {
                "starts, claims and approvals while nothing waits, and while 1,000,000 runs wait for people"
            }
            Self::EngineLong => "a stage after 10, 100 and 1,000 others, a further stage, and outputs of 8 KB",
            Self::Read => "GetStudio for 10,000 users straight and through the gateway, beside a bare gRPC echo",
            Self::Write => "CreateStudio by 64 callers at once, beside single-row inserts by plain SQL",
            Self::Idle => "what an installation does and holds when nobody calls",
            Self::StartUp => "studios up until it is ready, the first time and again",
            Self::Migrate => "the whole schema from nothing, the plan, and a run with nothing to do",
            Self::Users => {
                "1,000 users of 500 companies at once: reads, writes, starts and watches through the gateway"
            }
            Self::Scale => "gets and lists of 100,000 users in 1,000 companies, beside the same of a hundredth of them",
            Self::Transfer => {
                "a file of 100 MiB up and down by gRPC and by HTTP, beside a plain program that copies and hashes it"
            }
            Self::Search => {
                "a studio's 1,000 chunks beside 1,000,000 of others; a PDF of 300 pages; answers among the first five found"
            }
            Self::Provider => {
                "a call of a model alone: its CPU, what it adds to the bare exchange, 1,000 streams at once"
            }
            Self::PlanCreate => {
                "CreatePlan beside inserts of single rows by plain SQL, and the memory of 500 plans that are written at once"
            }
            Self::List | Self::All | Self::Stub | Self::Echo => "",
        }
    }
}

/// How long and how often a benchmark measures.
#[derive(Debug, Clone, Copy)]
struct Effort {
    seconds: Option<u64>,
    quick: bool,
    callers: Option<u16>,
}

impl Effort {
    /// One measurement's length: what was asked for, or else the benchmark's own.
    fn length(self, own_seconds: u64) -> Duration {
        let own = if self.quick { 1 } else { own_seconds };
        Duration::from_secs(self.seconds.unwrap_or(own))
    }

    /// Rounds, whose median counts.
    const fn rounds(self, own: usize) -> usize {
        if self.quick { 1 } else { own }
    }

    /// The numbers of callers to measure with: the one that was asked for, or else the benchmark's own.
    fn callers(self, own: &[usize]) -> Vec<usize> {
        self.callers.map_or_else(|| own.to_vec(), |one| vec![one.into()])
    }

    /// What is measured beside: nothing, where one number of callers was asked for.
    fn beside(self, own: &[usize]) -> &[usize] {
        if self.callers.is_some() { &[] } else { own }
    }

    /// How many of something there are: a tenth in a quick run.
    const fn many(self, own: usize) -> usize {
        if self.quick { own / 10 } else { own }
    }
}

/// Runs what the command line asks for.
pub async fn run(args: &Args, output: Output) -> Result<()> {
    match args.name {
        Name::List => list(output),
        Name::Stub => stub::serve().await?,
        Name::Echo => echo::serve().await?,
        Name::All => measure(&SHORT, args, output).await?,
        one => measure(&[one], args, output).await?,
    }
    Ok(())
}

fn list(output: Output) {
    let benches = || SHORT.iter().chain(&MINUTES);
    let lines: Vec<_> = benches()
        .map(|it| format!("{:<14} {}", it.text(), it.measures()))
        .collect();
    output.result(lines.join("\n"), || {
        let benches: Vec<_> = benches()
            .map(|it| json!({ "name": it.text(), "measures": it.measures() }))
            .collect();
        json!({ "benches": benches })
    });
}

async fn measure(benches: &[Name], args: &Args, output: Output) -> Result<()> {
    let lifecycle = Lifecycle::new();
    lifecycle.install_signals()?;
    if cfg!(debug_assertions) {
        progress("THIS IS A DEBUG BUILD: its figures mean nothing. Build with --profile bench or --release.");
    }
    let effort = Effort {
        seconds: args.seconds,
        quick: args.quick,
        callers: args.callers,
    };
    let mut reports = Vec::new();
    for &bench in benches {
        progress(format_args!("{}: {}", bench.text(), bench.measures()));
        let report = tokio::select! {
            report = one(bench, effort) => report?,
            // Dropped, a benchmark ends its processes and removes its folder.
            () = lifecycle.soft().cancelled_owned() => bail!("stopped before the end"),
        };
        if output.json {
            output.result("", || report.json());
        }
        reports.push(report);
    }
    if !output.json {
        output.result(report::table(&reports), || json!(null));
    }
    Ok(())
}

async fn one(bench: Name, effort: Effort) -> Result<Report> {
    let report = Report::new(bench.text(), effort);
    match bench {
        Name::Engine => engine::run(report, effort).await,
        Name::EngineWaiting => waiting::run(report, effort).await,
        Name::EngineLong => long::run(report, effort).await,
        Name::Read => read::run(report, effort).await,
        Name::Write => write::run(report, effort).await,
        Name::Idle => idle::run(report, effort).await,
        Name::StartUp => start_up::run(report, effort).await,
        Name::Migrate => migrate::run(report, effort).await,
        Name::Users => users::run(report, effort).await,
        Name::Scale => scale::run(report, effort).await,
        Name::Transfer => transfer::run(report, effort).await,
        Name::Provider => provider::run(report, effort).await,
        Name::PlanCreate => plan_create::run(report, effort).await,
        Name::Search => search::run(report, effort).await,
        Name::List | Name::All | Name::Stub | Name::Echo => Ok(report),
    }
}

/// Where a run stands: to stderr, for stdout is the report's.
fn progress(text: impl Display) {
    // A closed stderr is no reason to stop.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
