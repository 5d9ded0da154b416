//! Starts, claims and approvals while nothing waits, and the same while a million runs wait for people.
//!
//! What is measured are runs that the engine itself brought to where they wait; they end before the next measurement. The
//! million beside them are copies by SQL of one such run. Half of them belong to the company that is measured, and the others
//! to all companies in turn.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use service_kit::clock::{Clock, SystemClock};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use time::format_description::well_known::Rfc3339;
use url::Url;

use super::{
    Effort,
    cpu::{self, Processes},
    definitions::{self, ASKING_STAGE},
    load::{Client, Outcome, each_once, on_own_thread},
    progress,
    report::{Report, median},
    rig::{Rig, STARTS_LIMIT, USER_LIMIT, execute},
    seed::Population,
    workflow::Runner,
};

const WAITING: usize = 1_000_000;
const COMPANIES: usize = 1_000;
/// How many runs are started, claimed and approved each time.
const RUNS: usize = 5_000;
const ROUNDS: usize = 3;
const STARTERS: usize = 64;
const APPROVERS: usize = 16;
const CONNECTIONS: usize = 4;
/// A run that is due sooner stays with its holder, and is not claimed.
const LEAST_WAIT: Duration = Duration::from_secs(4);
const LOOK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_mins(3);

pub(super) async fn run(mut report: Report, effort: Effort) -> Result<Report> {
    let companies = effort.many(COMPANIES);
    let population = Population {
        companies,
        users: companies,
        studios: companies,
    };
    let rig = Rig::start(&mut report, true, &[USER_LIMIT, STARTS_LIMIT]).await?;
    population.settle(&rig).await?;
    report.condition("rounds_of_which_the_median", effort.rounds(ROUNDS));
    report.condition("waiting_runs", effort.many(WAITING));
    report.condition("companies", companies);
    report.condition("runs_each_time", effort.many(RUNS));
    report.condition("concurrency_starts", STARTERS);
    report.condition("concurrency_approvals", APPROVERS);
    report.condition(
        "starts",
        "of a workflow of one model stage, which runs meanwhile and asks a person",
    );
    report.condition(
        "claims",
        "runs that come due together, from the end of the first to the end of the last",
    );
    let driver = Driver {
        processes: rig.processes().await?,
        url: rig.execution()?,
        admin_url: rig.database_url.clone(),
        token: population.tokens(&rig).await?.swap_remove(0),
        studio: population.studio_of(0, 0),
    };
    let found = on_own_thread(move || driver.drive(effort)).await?;
    found.tell(&mut report);
    Ok(report)
}

struct Driver {
    processes: Processes,
    url: Url,
    admin_url: SecretString,
    token: HeaderValue,
    studio: String,
}

/// What was found without and with waiting runs.
struct Found {
    without: Level,
    with: Level,
}

/// Rates round by round, and the service's memory.
#[derive(Default)]
struct Level {
    starts: Vec<f64>,
    claims: Vec<f64>,
    approvals: Vec<f64>,
    approvals_p50_ms: Vec<f64>,
    resident_mb: f64,
}

impl Driver {
    async fn drive(self, effort: Effort) -> Result<Found> {
        let client = Client::connect(&self.url, CONNECTIONS).await?;
        let (token, studio) = (&self.token, &self.studio);
        let publish = async |name: &str, definition| {
            Runner::publish_as(&client, 0, token, studio.clone(), name.to_owned(), definition).await
        };
        let asking = publish("Asks a person", definitions::asking()).await?;
        let pausing = publish("Waits for a time", definitions::pausing()).await?;
        let mut bench = Bench {
            admin: PgConnection::connect(self.admin_url.expose_secret()).await?,
            client: &client,
            asking: &asking,
            pausing: &pausing,
        };
        let without = bench.level(self.processes, effort).await?;
        bench.let_wait(effort.many(WAITING)).await?;
        let with = bench.level(self.processes, effort).await?;
        Ok(Found { without, with })
    }
}

struct Bench<'a> {
    admin: PgConnection,
    client: &'a Client,
    asking: &'a Runner,
    pausing: &'a Runner,
}

impl Bench<'_> {
    async fn level(&mut self, processes: Processes, effort: Effort) -> Result<Level> {
        let mut level = Level::default();
        self.round(effort.many(RUNS) / 10, &mut Level::default()).await?;
        for round in 1..=effort.rounds(ROUNDS) {
            self.round(effort.many(RUNS), &mut level).await?;
            let last = |of: &[f64]| of.last().copied().unwrap_or_default();
            progress(format_args!(
                "  round {round}: {:.0} starts/s, {:.0} claims/s, {:.0} approvals/s",
                last(&level.starts),
                last(&level.claims),
                last(&level.approvals)
            ));
        }
        level.resident_mb = cpu::resident_mb(processes.service)?;
        Ok(level)
    }

    async fn round(&mut self, runs: usize, level: &mut Level) -> Result<()> {
        let (started, ids) = self.start(runs, self.asking, &json!({ "topic": "ovens" })).await?;
        level.starts.push(started.rate());
        self.come_to("execution.executions where id", "status = 'paused'", &ids)
            .await?;

        let approve = async |slot, run: usize| self.asking.approve(self.client, slot, &ids[run], ASKING_STAGE).await;
        let approved = each_once(APPROVERS, runs, approve).await?;
        level.approvals.push(approved.rate());
        level.approvals_p50_ms.push(approved.quantile_ms(0.5));
        self.end(&ids).await?;

        let takes = Duration::from_secs_f64(started.seconds());
        let due = SystemClock.now() + LEAST_WAIT + 2 * takes;
        let inputs = json!({ "until": due.format(&Rfc3339)? });
        let (_, ids) = self.start(runs, self.pausing, &inputs).await?;
        let waits = "owner is null and run_at > now()";
        self.come_to("execution.runs where execution_id", waits, &ids).await?;
        ensure!(SystemClock.now() < due, "the runs came to wait too late");
        self.end(&ids).await?;
        let seconds: f64 = sqlx::query_scalar(
            "select extract(epoch from max(finished_at) - min(finished_at))::float8
             from execution.executions where id = any($1::text[]::uuid[])",
        )
        .bind(&ids)
        .fetch_one(&mut self.admin)
        .await?;
        level.claims.push(started.count() / seconds.max(f64::EPSILON));
        Ok(())
    }

    /// Starts so many runs and returns their ids.
    async fn start(&self, runs: usize, of: &Runner, inputs: &serde_json::Value) -> Result<(Outcome, Vec<String>)> {
        let ids = RefCell::new(Vec::with_capacity(runs));
        let start = async |slot, _| {
            let id = of.start_with(self.client, slot, inputs).await?;
            ids.borrow_mut().push(id);
            Ok(())
        };
        let outcome = each_once(STARTERS, runs, start).await?;
        Ok((outcome, ids.into_inner()))
    }

    async fn end(&mut self, ids: &[String]) -> Result<()> {
        self.come_to("execution.executions where id", "status = 'completed'", ids)
            .await
    }

    /// Waits until something is true of all these runs.
    async fn come_to(&mut self, rows: &str, what: &str, ids: &[String]) -> Result<()> {
        let began = Instant::now();
        let sql = format!("select count(*) from {rows} = any($1::text[]::uuid[]) and {what}");
        loop {
            let there: i64 = sqlx::query_scalar(AssertSqlSafe(sql.clone()))
                .bind(ids)
                .fetch_one(&mut self.admin)
                .await?;
            if usize::try_from(there)? == ids.len() {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "of {} runs {there} have {what}", ids.len());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Makes so many runs that wait for a person.
    async fn let_wait(&mut self, runs: usize) -> Result<()> {
        progress(format_args!("  making {runs} waiting runs"));
        let (_, ids) = self.start(1, self.asking, &json!({ "topic": "ovens" })).await?;
        self.come_to("execution.executions where id", "status = 'paused'", &ids)
            .await?;
        let sql = format!(
            "set synchronous_commit = off;
             -- Nobody is told of them.
             set session_replication_role = replica;
             create unlogged table execution.bench as
             with place as materialized (
                 select row_number() over (order by id) - 1 as n, id as studio_id, company_id, created_by from core.studios
             ), known as materialized (
                 select count(*) as places, (extract(epoch from now()) * 1000)::bigint as ms from place
             )
             select (lpad(to_hex(ms - {runs} + i), 12, '0') || '7' || lpad(to_hex(i % 4096), 3, '0') || '8'
                     || left(md5(i::text), 15))::uuid as id, studio_id, company_id, created_by
             from generate_series(1, {runs}) i cross join known
                 join place on n = case when i % 2 = 0 then 0 else i / 2 % places end;
             insert into execution.executions (id, company_id, studio_id, workflow_id, workflow_version, version_id, started_by,
                 status, inputs, trace_context, started_at)
             select b.id, b.company_id, b.studio_id, e.workflow_id, e.workflow_version, e.version_id, b.created_by,
                 e.status, e.inputs, e.trace_context, e.started_at
             from execution.bench b cross join execution.executions e where e.id = '{one}';
             insert into execution.runs (execution_id, company_id, studio_id, owner, epoch, run_at, stage, seq, head)
             select b.id, b.company_id, b.studio_id, r.owner, r.epoch, r.run_at, r.stage, r.seq, r.head
             from execution.bench b cross join execution.runs r where r.execution_id = '{one}';
             insert into execution.journal (execution_id, seq, company_id, studio_id, kind, stage, visit, item, attempt, outcome,
                 payload, hash, occurred_at)
             select b.id, j.seq, b.company_id, b.studio_id, j.kind, j.stage, j.visit, j.item, j.attempt, j.outcome,
                 j.payload, j.hash, j.occurred_at
             from execution.bench b cross join execution.journal j where j.execution_id = '{one}';
             insert into execution.waiting (execution_id, stage, visit, item, attempt, company_id, studio_id, about, question,
                 users, rank, not_users, required, approved, since)
             select b.id, w.stage, w.visit, w.item, w.attempt, b.company_id, b.studio_id, w.about, w.question,
                 w.users, w.rank, w.not_users, w.required, w.approved, w.since
             from execution.bench b cross join execution.waiting w where w.execution_id = '{one}';
             drop table execution.bench;
             reset session_replication_role;
             vacuum analyze;
             checkpoint;",
            one = ids[0],
        );
        // VACUUM wants to be a statement of its own.
        for statement in sql.split_inclusive(';') {
            execute(&mut self.admin, statement).await?;
        }
        let waiting: i64 =
            sqlx::query_scalar("select count(*) from execution.waiting join execution.runs using (execution_id)")
                .fetch_one(&mut self.admin)
                .await?;
        ensure!(usize::try_from(waiting)? == runs + 1, "{waiting} runs wait");
        Ok(())
    }
}

impl Found {
    fn tell(&self, report: &mut Report) {
        for (suffix, level) in [("", &self.without), ("_waiting", &self.with)] {
            report.figure(format!("starts_per_s{suffix}"), median(level.starts.clone()));
            report.figure(format!("claims_per_s{suffix}"), median(level.claims.clone()));
            report.figure(format!("approvals_per_s{suffix}"), median(level.approvals.clone()));
            let p50 = median(level.approvals_p50_ms.clone());
            report.figure(format!("approval_p50_ms{suffix}"), p50);
            report.figure(format!("resident_mb{suffix}"), level.resident_mb);
        }
        let ratio = |of: fn(&Level) -> &Vec<f64>| {
            median(of(&self.with).clone()) / median(of(&self.without).clone()).max(f64::EPSILON)
        };
        report.figure("start_ratio", ratio(|it| &it.starts));
        report.figure("claim_ratio", ratio(|it| &it.claims));
        report.figure("approve_ratio", ratio(|it| &it.approvals));
    }
}
