//! CreatePlan, straight at execution-service, beside single-row inserts of the same plans by plain SQL; and what the service holds
//! while 500 plans are written at once.
//!
//! The plans that are made for the latency are written meanwhile by the offline model, as in production: so they come at a steady
//! rate, with which the machine keeps up. What it keeps up with at most is a figure of its own.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::HeaderValue;
use prost::Message;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{Connection, Executor, PgConnection};
use studios_proto::execution::{CreatePlanRequest, Plan, PlanWish};
use tokio::time::{Instant, interval};
use url::Url;
use uuid::Uuid;

use super::{
    Effort, cpu,
    definitions::HELD_MODEL,
    load::{Client, closed_loop, each_once, on_own_thread, paced},
    progress,
    report::{Report, median},
    rig::{PROVIDER, Rig, STARTS_LIMIT, USER_LIMIT, execute},
    seed::Population,
    sql,
};

const METHOD: &str = "studios.execution.v1.PlanService/CreatePlan";
const CALLERS: usize = 16;
/// Plans a second.
const ARRIVALS: usize = 50;
const COMPANIES: usize = 100;
const WARM_UP: Duration = Duration::from_millis(500);
/// Plans that are written at once.
const AT_ONCE: usize = 500;
/// How long the model of those writes, and a little more.
const HELD: Duration = Duration::from_secs(7);

pub(super) async fn run(mut report: Report, effort: Effort) -> Result<Report> {
    let population = Population {
        companies: COMPANIES,
        users: COMPANIES,
        studios: COMPANIES,
    };
    let settings = [
        USER_LIMIT,
        STARTS_LIMIT,
        ("STUDIOS_EXECUTION_PROVIDERS_STUB_CONCURRENCY", "4096"),
    ];
    let rig = Rig::start(&mut report, true, &settings).await?;
    population.settle(&rig).await?;
    let held = format!(
        "insert into execution.models (id, company_id, name, provider, provider_model, context_length)
         values (gen_random_uuid(), null, '{HELD_MODEL}', '{PROVIDER}', '{HELD_MODEL}', 131072)"
    );
    execute(&mut rig.admin().await?, held).await?;
    let rounds = effort.rounds(3);
    report.condition("rounds_of_which_the_median", rounds);
    report.condition("arrivals_per_s", ARRIVALS);
    report.condition("callers_of_the_most", CALLERS);
    report.condition("companies", COMPANIES);
    let driver = Driver {
        population,
        tokens: population.tokens(&rig).await?,
        service: rig.processes().await?.service,
        execution: rig.execution()?,
        admin_url: rig.database_url.clone(),
        length: effort.length(4),
        at_once: effort.many(AT_ONCE),
    };
    let at_once = driver.at_once;
    let found = on_own_thread(move || driver.drive(rounds)).await?;
    report.figure("p95_ms", median(found.product.clone()));
    report.figure("p95_ms_insert", median(found.insert.clone()));
    let over = found
        .product
        .iter()
        .zip(&found.insert)
        .map(|(with, without)| with - without);
    report.figure("p95_ms_over_insert", median(over.collect()));
    report.figure("p50_ms", median(found.usual));
    report.figure("plans_per_s", median(found.most));
    report.count("plans_at_once", at_once);
    report.figure("memory_over_rest_mb_with_the_plans", found.memory_mb);
    Ok(report)
}

struct Driver {
    population: Population,
    tokens: Vec<HeaderValue>,
    service: u32,
    execution: Url,
    admin_url: SecretString,
    length: Duration,
    at_once: usize,
}

/// What was found, round by round.
#[derive(Default)]
struct Found {
    product: Vec<f64>,
    usual: Vec<f64>,
    insert: Vec<f64>,
    most: Vec<f64>,
    memory_mb: f64,
}

impl Driver {
    async fn drive(self, rounds: usize) -> Result<Found> {
        let client = Client::connect(&self.execution, CALLERS).await?;
        let connections = sql::Callers::connect(&self.admin_url, CALLERS).await?;
        let create = async |slot: usize| self.create(&client, slot, "").await;
        let insert = async |slot: usize| {
            let mut connection = connections.connection(slot).await;
            let user = self.user();
            let row = sqlx::query(
                "insert into execution.plans (id, company_id, studio_id, owner_id, origin, visibility)
                 values ($1, $2, $3, $4, 'ai', 'private')",
            );
            let row = row
                .bind(Uuid::now_v7())
                .bind(self.population.company_of(user).parse::<Uuid>()?)
                .bind(self.population.studio_of(user, 0).parse::<Uuid>()?)
                .bind(self.population.user(user).parse::<Uuid>()?);
            connection.execute(row).await?;
            Ok(())
        };
        let mut found = Found::default();
        for round in 1..=rounds {
            let most = closed_loop(CALLERS, self.length, create).await?;
            self.settled().await?;
            // As autovacuum does within a minute.
            let mut admin = PgConnection::connect(self.admin_url.expose_secret()).await?;
            execute(&mut admin, "vacuum analyze").await?;
            admin.close().await?;
            paced(CALLERS, ARRIVALS, WARM_UP, create).await?;
            let product = paced(CALLERS, ARRIVALS, self.length, create).await?;
            self.settled().await?;
            let plain = paced(CALLERS, ARRIVALS, self.length, insert).await?;
            found.most.push(most.rate());
            found.product.push(product.quantile_ms(0.95));
            found.usual.push(product.quantile_ms(0.5));
            found.insert.push(plain.quantile_ms(0.95));
            progress(format_args!(
                "  round {round}: p95 {:.3} ms, {:.3} ms by plain SQL; at most {:.0} plans/s",
                found.product[round - 1],
                found.insert[round - 1],
                most.rate()
            ));
        }
        let rest = cpu::resident_mb(self.service)?;
        let held = async |slot: usize, _call: usize| self.create(&client, slot, HELD_MODEL).await;
        each_once(CALLERS, self.at_once, held).await?;
        let under_way = self.under_way().await?;
        ensure!(
            under_way * 10 >= self.at_once * 9,
            "{under_way} plans are written at once"
        );
        let end = Instant::now() + HELD;
        let mut look = interval(Duration::from_millis(50));
        while Instant::now() < end {
            look.tick().await;
            found.memory_mb = found.memory_mb.max(cpu::resident_mb(self.service)? - rest);
        }
        Ok(found)
    }

    async fn create(&self, client: &Client, slot: usize, model: &str) -> Result<()> {
        let user = self.user();
        let request = CreatePlanRequest {
            studio_id: self.population.studio_of(user, 0),
            wish: Some(PlanWish {
                topic: "Mooring a ship at night".into(),
                notes: "bollards, knots, lights".into(),
                weekly_hours: 3,
                model: model.into(),
                ..PlanWish::default()
            }),
            ..CreatePlanRequest::default()
        };
        let call = client.call(METHOD, &self.tokens[user], &request)?;
        let made = Plan::decode(client.unary(slot, &call).await?)?;
        ensure!(!made.id.is_empty(), "a plan without an id");
        Ok(())
    }

    /// Waits until all plans are written.
    async fn settled(&self) -> Result<()> {
        let mut look = interval(Duration::from_millis(50));
        while self.under_way().await? > 0 {
            look.tick().await;
        }
        Ok(())
    }

    async fn under_way(&self) -> Result<usize> {
        let mut admin = PgConnection::connect(self.admin_url.expose_secret()).await?;
        let under_way: i64 = sqlx::query_scalar("select count(*) from execution.plan_runs")
            .fetch_one(&mut admin)
            .await?;
        admin.close().await?;
        Ok(usize::try_from(under_way)?)
    }

    fn user(&self) -> usize {
        rand::random_range(0..self.population.users)
    }
}
