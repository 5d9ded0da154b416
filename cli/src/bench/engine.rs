//! Executions of three model stages from start to end, over gRPC straight at execution-service, with a model that answers
//! at once; and the rows of such executions by plain SQL, in the same run and in turns with it.

use std::time::Duration;

use anyhow::Result;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{Connection, PgConnection};
use url::Url;

use super::{
    Effort,
    cpu::Processes,
    load::{Client, closed_loop, on_own_thread},
    progress,
    report::{Measured, Report, Series, median},
    rig::{Rig, STARTS_LIMIT, USER_LIMIT, writing_transactions},
    seed::Population,
    sql::{self, Callers, Commits},
    workflow::{Runner, check_all_completed},
};

const CALLERS: [usize; 4] = [1, 16, 64, 256];
/// How many callers watch their executions instead of waiting for the end.
const WATCHERS: [usize; 2] = [1, 64];
const ROUNDS: usize = 3;
const SQL_CALLERS: [usize; 3] = [1, 16, 64];
/// Callers share connections as the users of a gateway do.
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
    let tokens = POPULATION.tokens(&rig).await?;
    let plain_url = rig.ground.database("plain").await?;
    sql::make_tables(&mut rig.ground.admin("plain").await?).await?;
    let length = effort.length(4);
    report.condition("seconds", length.as_secs_f64());
    report.condition("rounds_of_which_the_median", effort.rounds(ROUNDS));
    report.condition("users", "one user of one company on the enterprise plan");
    report.condition(
        "commits",
        "transactions that wrote, by transaction ids given out, less those of an idle installation",
    );

    let driver = Driver {
        processes: rig.processes().await?,
        url: rig.execution()?,
        admin_url: rig.database_url.clone(),
        plain_url,
        token: tokens[0].clone(),
        length,
    };
    let found = on_own_thread(move || driver.drive(effort)).await?;
    let executions = check_all_completed(&mut rig.admin().await?).await?;
    report.condition("executions_checked", executions);
    found.tell(&mut report);
    Ok(report)
}

struct Driver {
    processes: Processes,
    url: Url,
    admin_url: SecretString,
    plain_url: SecretString,
    token: HeaderValue,
    length: Duration,
}

/// What was found, round by round.
struct Found {
    engine: Vec<Series>,
    /// Commits for each execution, by callers as `engine` is.
    commits: Vec<Vec<f64>>,
    watched: Vec<Series>,
    three: Vec<Series>,
    one: Vec<Series>,
}

impl Driver {
    async fn drive(self, effort: Effort) -> Result<Found> {
        let mut admin = PgConnection::connect(self.admin_url.expose_secret()).await?;
        let client = Client::connect(&self.url, CONNECTIONS).await?;
        let runner = Runner::publish(&client, 0, &self.token, POPULATION.studio_of(0, 0)).await?;
        let waited = async |slot: usize| {
            let id = runner.start(&client, slot).await?;
            runner.wait(&client, slot, id).await
        };
        let watched = async |slot: usize| {
            let id = runner.start(&client, slot).await?;
            runner.watch(&client, slot, id).await
        };
        let callers = effort.callers(&CALLERS);
        let mut found = Found {
            engine: Series::of(&callers),
            commits: vec![Vec::new(); callers.len()],
            watched: Series::of(effort.beside(&WATCHERS)),
            three: Series::of(effort.beside(&SQL_CALLERS)),
            one: Series::of(effort.beside(&SQL_CALLERS)),
        };
        let idle_commits = idle_commits_per_s(&mut admin).await?;
        for round in 1..=effort.rounds(ROUNDS) {
            for (series, commits) in found.engine.iter_mut().zip(&mut found.commits) {
                let callers = series.callers;
                closed_loop(callers, WARM_UP, waited).await?;
                let (commits_before, cpu) = (writing_transactions(&mut admin).await?, self.processes.cpu()?);
                let outcome = closed_loop(callers, self.length, waited).await?;
                let measured = Measured::new(&outcome, self.processes.cpu()? - cpu);
                let committed = writing_transactions(&mut admin).await? - commits_before;
                let background = idle_commits * outcome.seconds();
                commits.push((committed - background).max(0.0) / outcome.count().max(1.0));
                progress(format_args!(
                    "  round {round}, {callers:>3} callers: {:.0} executions/s, p50 {:.2} ms, {:.3} CPU-s per 1,000",
                    measured.rate,
                    measured.p50_ms,
                    measured.cpu.service + measured.cpu.postgres
                ));
                series.rounds.push(measured);
            }
            for series in &mut found.watched {
                closed_loop(series.callers, WARM_UP, watched).await?;
                let cpu = self.processes.cpu()?;
                let outcome = closed_loop(series.callers, self.length / 2, watched).await?;
                series.rounds.push(Measured::new(&outcome, self.processes.cpu()? - cpu));
            }
            for (three, one) in found.three.iter_mut().zip(&mut found.one) {
                let plain = Callers::connect(&self.plain_url, three.callers).await?;
                for (commits, series) in [(Commits::Three, three), (Commits::One, one)] {
                    let cpu = self.processes.cpu()?;
                    let outcome = plain.run(self.length / 2, commits).await?;
                    series.rounds.push(Measured::new(&outcome, self.processes.cpu()? - cpu));
                }
            }
        }
        Ok(found)
    }
}

/// What an installation writes while nobody calls.
async fn idle_commits_per_s(admin: &mut PgConnection) -> Result<f64> {
    const LOOK: Duration = Duration::from_secs(3);
    let before = writing_transactions(admin).await?;
    tokio::time::sleep(LOOK).await;
    Ok((writing_transactions(admin).await? - before) / LOOK.as_secs_f64())
}

impl Found {
    fn tell(&self, report: &mut Report) {
        let engine: Vec<_> = self.engine.iter().map(Series::median).collect();
        let best = engine[Measured::best(&engine)];
        if let Some(lone) = self.engine.iter().position(|it| it.callers == 1) {
            report.figure("p50_ms_at_1", engine[lone].p50_ms);
            report.figure("p99_ms_at_1", engine[lone].p99_ms);
        }
        report.figure("executions_per_s", best.rate);
        report.count("best_concurrency", self.engine[Measured::best(&engine)].callers);
        report.cpu("", &best);
        for ((series, measured), commits) in self.engine.iter().zip(&engine).zip(&self.commits) {
            let suffix = format!("_at_{}", series.callers);
            report.figure(format!("executions_per_s{suffix}"), measured.rate);
            if series.callers > 1 {
                report.figure(format!("p50_ms{suffix}"), measured.p50_ms);
                report.figure(format!("p99_ms{suffix}"), measured.p99_ms);
            }
            report.figure(format!("commits_per_execution{suffix}"), median(commits.clone()));
            report.cpu(&suffix, measured);
        }
        for series in &self.watched {
            let (measured, callers) = (series.median(), series.callers);
            report.figure(format!("watched_executions_per_s_at_{callers}"), measured.rate);
            report.figure(format!("watched_p50_ms_at_{callers}"), measured.p50_ms);
            report.cpu(&format!("_watched_at_{callers}"), &measured);
        }
        for (name, all) in [("sql_three_commits", &self.three), ("sql_one_commit", &self.one)] {
            let plain: Vec<_> = all.iter().map(Series::median).collect();
            if let Some(most) = plain.get(Measured::best(&plain)) {
                report.figure(format!("{name}_per_s"), most.rate);
                report.figure(format!("ratio_to_{name}"), best.rate / most.rate.max(f64::EPSILON));
            }
            for (series, measured) in all.iter().zip(&plain) {
                let suffix = format!("at_{}", series.callers);
                report.limit(format!("{name}_per_s_{suffix}"), measured.rate);
                report.limit(format!("{name}_p50_ms_{suffix}"), measured.p50_ms);
                report.limit(
                    format!("{name}_postgres_cpu_s_per_1000_{suffix}"),
                    measured.cpu.postgres,
                );
            }
        }
    }
}
