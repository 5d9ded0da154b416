//! What a stage costs late in a run, what a further stage costs at rest, and runs whose outputs are large.
//!
//! A stage after n others costs what a run of 2n stages takes more than one of n does, divided by n: the start and the end of
//! a run are in neither.

use std::{cell::Cell, time::Duration};

use anyhow::{Result, ensure};
use http::HeaderValue;
use url::Url;

use super::{
    Effort,
    cpu::Processes,
    definitions::{self, LARGE_MODEL, STAGES},
    load::{Client, Outcome, closed_loop, on_own_thread},
    progress,
    report::{Measured, Report, median},
    rig::{Rig, STARTS_LIMIT, USER_LIMIT},
    seed::Population,
    workflow::{Runner, completed},
};

const EARLIER: [usize; 3] = [10, 100, 1_000];
/// How many stages further the longer one of two workflows is.
const FURTHER: usize = 7;
const LARGE_CALLERS: usize = 64;
const ROUNDS: usize = 3;
const CONNECTIONS: usize = 4;
const POPULATION: Population = Population {
    companies: 1,
    users: 1,
    studios: 1,
};
const WARM_UP: Duration = Duration::from_millis(500);

pub(super) async fn run(mut report: Report, effort: Effort) -> Result<Report> {
    let rig = Rig::start(&mut report, true, &[USER_LIMIT, STARTS_LIMIT]).await?;
    POPULATION.settle(&rig).await?;
    let length = effort.length(4);
    report.condition("seconds", length.as_secs_f64());
    report.condition("rounds_of_which_the_median", effort.rounds(ROUNDS));
    report.condition("concurrency_8kb", effort.many(LARGE_CALLERS));
    let driver = Driver {
        processes: rig.processes().await?,
        url: rig.execution()?,
        token: POPULATION.tokens(&rig).await?.swap_remove(0),
        length,
    };
    let found = on_own_thread(move || driver.drive(effort)).await?;
    let (executions, attempts) = completed(&mut rig.admin().await?).await?;
    ensure!(
        usize::try_from(attempts)? == found.stages,
        "{attempts} attempts, but {} stages were asked for",
        found.stages
    );
    report.condition("executions_checked", executions);
    found.tell(&mut report);
    Ok(report)
}

struct Driver {
    processes: Processes,
    url: Url,
    token: HeaderValue,
    length: Duration,
}

/// What was found, round by round.
#[derive(Default)]
struct Found {
    late: Vec<Late>,
    p50_ms_of_three: Vec<f64>,
    p50_ms_of_longer: Vec<f64>,
    large: Vec<Measured>,
    /// All stages that were asked for.
    stages: usize,
}

/// What a stage costs after so many earlier ones.
struct Late {
    earlier: usize,
    ms: Vec<f64>,
    cpu_us: Vec<f64>,
}

/// A workflow, and how many stages its runs go through.
struct Course {
    runner: Runner,
    stages: usize,
}

/// What a run takes.
struct Cost {
    ms: f64,
    cpu_us: f64,
}

impl Driver {
    async fn drive(self, effort: Effort) -> Result<Found> {
        let client = Client::connect(&self.url, CONNECTIONS).await?;
        let publish = async |stages: usize, name: &str, definition| {
            let name = format!("{stages} {name}");
            let studio = POPULATION.studio_of(0, 0);
            let runner = Runner::publish_as(&client, 0, &self.token, studio, name, definition).await?;
            anyhow::Ok(Course { runner, stages })
        };
        let mut pairs = Vec::new();
        for earlier in EARLIER {
            let short = publish(earlier, "in turns", definitions::in_turns(earlier)).await?;
            let long = publish(2 * earlier, "in turns", definitions::in_turns(2 * earlier)).await?;
            pairs.push((Late::after(earlier), short, long));
        }
        let of_three = STAGES as usize;
        let three = publish(of_three, "in a row", definitions::longer_by(0)).await?;
        let longer = publish(of_three + FURTHER, "in a row", definitions::longer_by(FURTHER)).await?;
        let large = publish(of_three, "of 8 KB", definitions::three(LARGE_MODEL)).await?;

        let bench = Bench {
            client,
            length: self.length,
            stages: Cell::new(0),
        };
        let mut found = Found::default();
        for round in 1..=effort.rounds(ROUNDS) {
            bench.warm_up(1, &three).await?;
            for (late, short, long) in &mut pairs {
                let short = self.cost(&bench, short).await?;
                let long = self.cost(&bench, long).await?;
                let (ms, cpu_us) = late.note(&short, &long);
                progress(format_args!(
                    "  round {round}, after {} stages: {ms:.3} ms and {cpu_us:.0} us of CPU for another one",
                    late.earlier
                ));
            }
            for (course, p50_ms) in [
                (&three, &mut found.p50_ms_of_three),
                (&longer, &mut found.p50_ms_of_longer),
            ] {
                p50_ms.push(bench.load(1, course).await?.quantile_ms(0.5));
            }
            let callers = effort.many(LARGE_CALLERS);
            bench.warm_up(callers, &large).await?;
            let cpu = self.processes.cpu()?;
            let outcome = bench.load(callers, &large).await?;
            let measured = Measured::new(&outcome, self.processes.cpu()? - cpu);
            progress(format_args!(
                "  round {round}, outputs of 8 KB: {:.0} executions/s",
                measured.rate
            ));
            found.large.push(measured);
        }
        found.late = pairs.into_iter().map(|(late, ..)| late).collect();
        found.stages = bench.stages.get();
        Ok(found)
    }

    async fn cost(&self, bench: &Bench, course: &Course) -> Result<Cost> {
        let cpu = self.processes.cpu()?;
        let outcome = bench.load(1, course).await?;
        let used = self.processes.cpu()? - cpu;
        Ok(Cost {
            ms: outcome.seconds() * 1e3 / outcome.count().max(1.0),
            cpu_us: (used.service + used.postgres) * 1e6 / outcome.count().max(1.0),
        })
    }
}

struct Bench {
    client: Client,
    length: Duration,
    /// All that were asked for so far.
    stages: Cell<usize>,
}

impl Bench {
    async fn load(&self, callers: usize, course: &Course) -> Result<Outcome> {
        self.load_for(self.length, callers, course).await
    }

    async fn warm_up(&self, callers: usize, course: &Course) -> Result<()> {
        self.load_for(WARM_UP, callers, course).await?;
        Ok(())
    }

    async fn load_for(&self, length: Duration, callers: usize, course: &Course) -> Result<Outcome> {
        let run = async |slot| {
            let id = course.runner.start(&self.client, slot).await?;
            self.stages.set(self.stages.get() + course.stages);
            course.runner.wait(&self.client, slot, id).await
        };
        closed_loop(callers, length, run).await
    }
}

impl Late {
    const fn after(earlier: usize) -> Self {
        Self {
            earlier,
            ms: Vec::new(),
            cpu_us: Vec::new(),
        }
    }

    /// Notes what a run of as many stages and one of twice as many cost, and returns a stage's share of the difference.
    fn note(&mut self, short: &Cost, long: &Cost) -> (f64, f64) {
        let share = |short: f64, long: f64| (long - short) / count(self.earlier);
        let (ms, cpu_us) = (share(short.ms, long.ms), share(short.cpu_us, long.cpu_us));
        self.ms.push(ms);
        self.cpu_us.push(cpu_us);
        (ms, cpu_us)
    }
}

impl Found {
    fn tell(&self, report: &mut Report) {
        for late in &self.late {
            report.figure(format!("ms_per_stage_at_{}", late.earlier), median(late.ms.clone()));
        }
        for late in &self.late {
            report.figure(
                format!("cpu_us_per_stage_at_{}", late.earlier),
                median(late.cpu_us.clone()),
            );
        }
        let (three, longer) = (
            median(self.p50_ms_of_three.clone()),
            median(self.p50_ms_of_longer.clone()),
        );
        report.figure("p50_ms_of_3_stages", three);
        report.figure("p50_ms_of_10_stages", longer);
        report.figure("further_stage_ms", (longer - three) / count(FURTHER));
        let large = Measured::median_of(&self.large);
        report.figure("executions_8kb_per_s", large.rate);
        report.figure("p50_ms_8kb", large.p50_ms);
        report.figure("p99_ms_8kb", large.p99_ms);
        report.cpu("_8kb", &large);
    }
}

#[expect(clippy::cast_precision_loss, reason = "no run has 2^52 stages")]
const fn count(stages: usize) -> f64 {
    stages as f64
}
