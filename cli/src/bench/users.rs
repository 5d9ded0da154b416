//! A thousand users of five hundred companies at once, through the gateway: reads, writes, starts, and runs watched to their
//! end. First at the pace of people, who think a moment between two calls, then each as fast as he is answered.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use futures::future::try_join_all;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{Connection, PgConnection};
use studios_proto::core::{
    BusinessArea, CreateStudioRequest, GetStudioRequest, ListStudiosRequest, Studio, UpdateStudioRequest,
};
use url::Url;
use uuid::Uuid;

use super::{
    Effort,
    cpu::Processes,
    load::{Call, Client, Outcome, closed_loop, on_own_thread},
    progress,
    report::{Measured, Report},
    rig::{ADDRESS_LIMIT, Rig},
    seed::Population,
    workflow::{Runner, check_all_completed},
};

const GET: &str = "studios.core.v1.StudioService/GetStudio";
const LIST: &str = "studios.core.v1.StudioService/ListStudios";
const CREATE: &str = "studios.core.v1.StudioService/CreateStudio";
const UPDATE: &str = "studios.core.v1.StudioService/UpdateStudio";
/// Browsers have a connection each; so many are within what a process may open anywhere.
const CONNECTIONS: usize = 250;
/// The longest that a user thinks; half of it on average.
const THINKS_MS: u64 = 400;
const DRAINED_WITHIN: Duration = Duration::from_mins(1);

/// What a user does, and how often out of a hundred times.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Read,
    Write,
    Start,
    Watch,
}

const KINDS: [(Kind, &str, u32); 4] = [
    (Kind::Read, "read", 70),
    (Kind::Write, "write", 15),
    (Kind::Start, "start", 7),
    (Kind::Watch, "watch", 8),
];

pub(super) async fn run(mut report: Report, effort: Effort) -> Result<Report> {
    let population = Population {
        companies: effort.many(500),
        users: effort.many(1000),
        studios: effort.many(1000),
    };
    let rig = Rig::start(&mut report, true, &[ADDRESS_LIMIT]).await?;
    population.settle(&rig).await?;
    let length = effort.length(30);
    report.condition("seconds", length.as_secs_f64());
    report.condition("users", population.users);
    report.condition("companies", population.companies);
    report.condition("connections", CONNECTIONS);
    report.condition("thinking_ms_on_average", THINKS_MS / 2);
    let mix: Vec<_> = KINDS
        .iter()
        .map(|(_, name, share)| format!("{share} % {name}"))
        .collect();
    report.condition("mix", mix.join(", "));
    let driver = Driver {
        population,
        tokens: population.tokens(&rig).await?,
        processes: rig.processes().await?,
        gateway: rig.gateway()?,
        admin_url: rig.database_url.clone(),
        length,
    };
    let (paced, flat_out, executions) = on_own_thread(move || driver.drive()).await?;
    report.condition("executions_checked", executions);
    paced.tell(&mut report, "");
    flat_out.tell(&mut report, "flat_out_");
    Ok(report)
}

struct Driver {
    population: Population,
    tokens: Vec<HeaderValue>,
    processes: Processes,
    gateway: Url,
    admin_url: SecretString,
    length: Duration,
}

/// One user's calls made ready.
struct User {
    get: Call,
    list: Call,
    update: Call,
    create: Call,
    company_id: String,
    runner: Runner,
}

impl Driver {
    async fn drive(self) -> Result<(Phase, Phase, i64)> {
        let client = Client::connect(&self.gateway, CONNECTIONS).await?;
        let users = self.prepare(&client).await?;
        progress(format_args!("  {} users are ready", users.len()));
        let paced = self.phase(&client, &users, Some(THINKS_MS)).await?;
        progress(format_args!("  at people's pace: {:.0} requests/s", paced.all.rate));
        let flat_out = self.phase(&client, &users, None).await?;
        progress(format_args!(
            "  as fast as they are answered: {:.0} requests/s",
            flat_out.all.rate
        ));
        let mut admin = PgConnection::connect(self.admin_url.expose_secret()).await?;
        drained(&mut admin).await?;
        let executions = check_all_completed(&mut admin).await?;
        Ok((paced, flat_out, executions))
    }

    /// Each company's admin publishes a workflow, which all its users run.
    async fn prepare(&self, client: &Client) -> Result<Vec<User>> {
        let population = self.population;
        let publish =
            |company: usize| Runner::publish(client, company, &self.tokens[company], population.studio_of(company, 0));
        let mut runners = Vec::new();
        for company in (0..population.companies).step_by(16) {
            let some = company..population.companies.min(company + 16);
            runners.extend(try_join_all(some.map(publish)).await?);
        }
        let users = self.tokens.iter().enumerate().map(|(user, token)| {
            let id = population.studio_of(user, user);
            let company_id = population.company_of(user);
            let changed = Studio {
                id: id.clone(),
                description: "What the studio is for, in other words.".into(),
                ..Studio::default()
            };
            let update = UpdateStudioRequest {
                studio: Some(changed),
                update_mask: Some(prost_types::FieldMask {
                    paths: vec!["description".into()],
                }),
            };
            let list = ListStudiosRequest {
                company_id: company_id.clone(),
                page_size: 20,
                ..ListStudiosRequest::default()
            };
            Ok(User {
                get: client.call(GET, token, &GetStudioRequest { id })?,
                list: client.call(LIST, token, &list)?,
                update: client.call(UPDATE, token, &update)?,
                create: client.call(CREATE, token, &CreateStudioRequest::default())?,
                company_id,
                runner: runners[user % population.companies].run_by(client, token)?,
            })
        });
        users.collect()
    }

    async fn phase(&self, client: &Client, users: &[User], thinks_ms: Option<u64>) -> Result<Phase> {
        let kinds = KINDS.map(|_| RefCell::new(Outcome::new()));
        let cpu = self.processes.cpu()?;
        let all = closed_loop(users.len(), self.length, async |slot| {
            if let Some(most) = thinks_ms {
                tokio::time::sleep(Duration::from_millis(rand::random_range(0..=most))).await;
            }
            let (index, kind) = any_kind();
            let began = Instant::now();
            let done = users[slot].act(client, slot, kind).await;
            kinds[index].borrow_mut().note(began, &done);
            Ok(())
        });
        let all = all.await?;
        let errors = kinds.iter().map(|it| it.borrow().errors).sum();
        if let Some(error) = kinds.iter().find_map(|it| it.borrow().first_error.clone()) {
            progress(format_args!("  {errors} errors, one of them: {error}"));
        }
        Ok(Phase {
            all: Measured::new(&all, self.processes.cpu()? - cpu),
            kinds: kinds.map(RefCell::into_inner),
            errors,
        })
    }
}

fn any_kind() -> (usize, Kind) {
    let mut lot = rand::random_range(0..KINDS.iter().map(|(_, _, share)| share).sum());
    for (index, (kind, _, share)) in KINDS.into_iter().enumerate() {
        if lot < share {
            return (index, kind);
        }
        lot -= share;
    }
    (0, Kind::Read)
}

impl User {
    async fn act(&self, client: &Client, slot: usize, kind: Kind) -> Result<()> {
        match kind {
            Kind::Read => {
                let call = if rand::random_ratio(2, 3) {
                    &self.get
                } else {
                    &self.list
                };
                client.unary(slot, call).await?;
            }
            Kind::Write if rand::random() => {
                client.unary(slot, &self.update).await?;
            }
            Kind::Write => {
                let studio = Studio {
                    company_id: self.company_id.clone(),
                    name: format!("Studio {}", Uuid::now_v7().simple()),
                    business_area: BusinessArea::Sales.into(),
                    ..Studio::default()
                };
                let request = CreateStudioRequest {
                    studio: Some(studio),
                    request_id: String::new(),
                };
                client.unary(slot, &self.create.with(&request)).await?;
            }
            Kind::Start => {
                self.runner.start(client, slot).await?;
            }
            Kind::Watch => {
                let id = self.runner.start(client, slot).await?;
                self.runner.watch(client, slot, id).await?;
            }
        }
        Ok(())
    }
}

/// Waits for the runs that nobody watched.
async fn drained(admin: &mut PgConnection) -> Result<()> {
    let began = Instant::now();
    loop {
        let running: i64 = sqlx::query_scalar("select count(*) from execution.executions where finished_at is null")
            .fetch_one(&mut *admin)
            .await?;
        if running == 0 {
            return Ok(());
        }
        if began.elapsed() > DRAINED_WITHIN {
            bail!("{running} executions have not ended");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What all users did at one pace.
struct Phase {
    all: Measured,
    kinds: [Outcome; KINDS.len()],
    errors: u64,
}

impl Phase {
    fn tell(&self, report: &mut Report, prefix: &str) {
        #[expect(clippy::cast_precision_loss, reason = "no benchmark makes 2^52 errors")]
        report.figure(format!("{prefix}errors"), self.errors as f64);
        report.figure(format!("{prefix}requests_per_s"), self.all.rate);
        report.figure(
            format!("{prefix}cpu_s_per_1000"),
            self.all.cpu.service + self.all.cpu.postgres,
        );
        for ((_, name, _), outcome) in KINDS.iter().zip(&self.kinds) {
            for (quantile, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
                report.figure(format!("{prefix}{name}_{quantile}_ms"), outcome.quantile_ms(share));
            }
        }
        let mut all = Outcome::new();
        for outcome in &self.kinds {
            all.add(outcome);
        }
        for (quantile, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
            report.figure(format!("{prefix}{quantile}_ms"), all.quantile_ms(share));
        }
    }
}
