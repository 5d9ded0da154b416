//! CreateStudio by 64 callers at once, each a user of his own, straight at core-service; and beside it, in turns, the same
//! rows as single-row inserts by plain SQL, each with its commit.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::HeaderValue;
use prost::Message;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{Connection, Executor, PgConnection};
use studios_proto::core::{BusinessArea, CreateStudioRequest, Studio};
use url::Url;
use uuid::Uuid;

use super::{
    Effort,
    cpu::{Cpu, Processes},
    load::{Client, closed_loop, on_own_thread},
    progress,
    report::{Measured, Report, median},
    rig::{Rig, writing_transactions},
    seed::Population,
    sql,
};

const METHOD: &str = "studios.core.v1.StudioService/CreateStudio";
const CALLERS: usize = 64;
const CONNECTIONS: usize = 4;
const WARM_UP: Duration = Duration::from_millis(500);
const DESCRIPTION: &str = "What the studio is for, in a line of text.";

pub(super) async fn run(mut report: Report, effort: Effort) -> Result<Report> {
    let companies = effort.many(1000);
    let population = Population {
        companies,
        users: companies,
        studios: companies,
    };
    let rig = Rig::start(&mut report, false, &[]).await?;
    population.settle(&rig).await?;
    let length = effort.length(4);
    let rounds = effort.rounds(3);
    report.condition("seconds", length.as_secs_f64());
    report.condition("rounds_of_which_the_median", rounds);
    report.condition("concurrency", CALLERS);
    report.condition("companies", companies);
    let driver = Driver {
        population,
        tokens: population.tokens(&rig).await?,
        processes: rig.processes().await?,
        core: rig.core()?,
        admin_url: rig.database_url.clone(),
        length,
    };
    let found = on_own_thread(move || driver.drive(rounds)).await?;
    let (product, lone, plain) = (
        Measured::median_of(&found.product),
        Measured::median_of(&found.lone),
        Measured::median_of(&found.plain),
    );
    report.load("requests_per_s", "", &product);
    report.figure("lone_request_ms", lone.p50_ms);
    // The sealer of the audit log commits once in a while, too.
    report.figure("commits_per_request_at_1", median(found.commits));
    report.figure("sql_inserts_per_s", plain.rate);
    report.figure("ratio_to_sql", product.rate / plain.rate.max(f64::EPSILON));
    report.limit("sql_inserts_per_s", plain.rate);
    report.limit("sql_inserts_p99_ms", plain.p99_ms);
    report.limit("sql_inserts_postgres_cpu_s_per_1000", plain.cpu.postgres);
    Ok(report)
}

struct Driver {
    population: Population,
    tokens: Vec<HeaderValue>,
    processes: Processes,
    core: Url,
    admin_url: SecretString,
    length: Duration,
}

/// What was found, round by round.
#[derive(Default)]
struct Found {
    product: Vec<Measured>,
    lone: Vec<Measured>,
    /// Writing transactions for each lone request.
    commits: Vec<f64>,
    plain: Vec<Measured>,
}

impl Driver {
    async fn drive(self, rounds: usize) -> Result<Found> {
        let mut admin = PgConnection::connect(self.admin_url.expose_secret()).await?;
        let client = Client::connect(&self.core, CONNECTIONS).await?;
        let connections = sql::Callers::connect(&self.admin_url, CALLERS).await?;
        let create = async |slot: usize| self.create(&client, slot).await;
        let insert = async |slot: usize| {
            let mut connection = connections.connection(slot).await;
            let (user, name) = (self.user(), unique_name());
            let row = sqlx::query(
                "insert into core.studios (id, company_id, name, description, business_area, created_by)
                 values ($1, $2, $3, $4, 'operations', $5)",
            );
            let row = row
                .bind(Uuid::now_v7())
                .bind(self.population.company_of(user).parse::<Uuid>()?);
            let row = row
                .bind(name)
                .bind(DESCRIPTION)
                .bind(self.population.user(user).parse::<Uuid>()?);
            connection.execute(row).await?;
            Ok(())
        };
        let mut found = Found::default();
        for round in 1..=rounds {
            let before = writing_transactions(&mut admin).await?;
            let lone = closed_loop(1, self.length, create).await?;
            found
                .commits
                .push((writing_transactions(&mut admin).await? - before) / lone.count().max(1.0));
            found.lone.push(Measured::new(&lone, Cpu::default()));
            found.product.push(self.measure(CALLERS, create).await?);
            found.plain.push(self.measure(CALLERS, insert).await?);
            progress(format_args!(
                "  round {round}: {:.0} requests/s, {:.0} inserts/s by plain SQL",
                found.product[round - 1].rate,
                found.plain[round - 1].rate
            ));
        }
        Ok(found)
    }

    async fn measure(&self, callers: usize, work: impl AsyncFn(usize) -> Result<()> + Copy) -> Result<Measured> {
        closed_loop(callers, WARM_UP, work).await?;
        let cpu = self.processes.cpu()?;
        let outcome = closed_loop(callers, self.length, work).await?;
        Ok(Measured::new(&outcome, self.processes.cpu()? - cpu))
    }

    async fn create(&self, client: &Client, slot: usize) -> Result<()> {
        let user = self.user();
        let studio = Studio {
            company_id: self.population.company_of(user),
            name: unique_name(),
            description: DESCRIPTION.into(),
            business_area: BusinessArea::Operations.into(),
            ..Studio::default()
        };
        let request = CreateStudioRequest {
            studio: Some(studio),
            request_id: String::new(),
        };
        let call = client.call(METHOD, &self.tokens[user], &request)?;
        let made = Studio::decode(client.unary(slot, &call).await?)?;
        ensure!(!made.id.is_empty(), "a studio without an id");
        Ok(())
    }

    fn user(&self) -> usize {
        rand::random_range(0..self.population.users)
    }
}

fn unique_name() -> String {
    format!("Studio {}", Uuid::now_v7().simple())
}
