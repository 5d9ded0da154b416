//! Gets and lists over all the data and over a hundredth of it: two installations at once, measured in turns, so that what the
//! machine does meanwhile is done to both. As many users call in both, each of whom has called before: what differs is only how
//! much lies beside what they ask for.

use std::{cell::RefCell, time::Duration};

use anyhow::{Result, ensure};
use http::HeaderValue;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use studios_proto::core::{
    GetCompanyRequest, GetStudioRequest, ListCompaniesRequest, ListMembershipsRequest, ListStudiosRequest,
};
use url::Url;

use super::{
    Effort,
    load::{Call, Client, Outcome, closed_loop, each_once, on_own_thread},
    progress,
    report::{Report, median},
    rig::{ADDRESS_LIMIT, Rig, USER_LIMIT},
    seed::Population,
};

const COMPANIES: usize = 1000;
const USERS: usize = 100_000;
const STUDIOS_PER_COMPANY: usize = 100;
/// The part that the whole is compared with.
const PART: usize = 100;
/// How many users call.
const ACTIVE: usize = 1000;
const CALLERS: usize = 8;
const CONNECTIONS: usize = 4;
const ROUNDS: usize = 5;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
enum Question {
    GetStudio,
    GetCompany,
    ListStudios,
    ListCompanies,
    ListMemberships,
}

impl Question {
    const ALL: [Self; 5] = [
        Self::GetStudio,
        Self::GetCompany,
        Self::ListStudios,
        Self::ListCompanies,
        Self::ListMemberships,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::GetStudio => "get_studio",
            Self::GetCompany => "get_company",
            Self::ListStudios => "list_studios",
            Self::ListCompanies => "list_companies",
            Self::ListMemberships => "list_memberships",
        }
    }

    /// The call of one of the users.
    fn call(self, client: &Client, of: Population, user: usize, token: &HeaderValue) -> Result<Call> {
        let company = of.company_of(user);
        match self {
            Self::GetStudio => {
                let id = of.studio_of(user, user);
                client.call(
                    "studios.core.v1.StudioService/GetStudio",
                    token,
                    &GetStudioRequest { id },
                )
            }
            Self::GetCompany => {
                let method = "studios.core.v1.CompanyService/GetCompany";
                client.call(method, token, &GetCompanyRequest { id: company })
            }
            Self::ListStudios => {
                let request = ListStudiosRequest {
                    company_id: company,
                    ..ListStudiosRequest::default()
                };
                client.call("studios.core.v1.StudioService/ListStudios", token, &request)
            }
            Self::ListCompanies => {
                let method = "studios.core.v1.CompanyService/ListCompanies";
                client.call(method, token, &ListCompaniesRequest::default())
            }
            Self::ListMemberships => {
                let request = ListMembershipsRequest {
                    company_id: company,
                    ..ListMembershipsRequest::default()
                };
                client.call("studios.core.v1.CompanyService/ListMemberships", token, &request)
            }
        }
    }
}

pub(super) async fn run(mut report: Report, effort: Effort) -> Result<Report> {
    let companies = effort.many(COMPANIES);
    let whole = Population {
        companies,
        users: effort.many(USERS),
        studios: companies * STUDIOS_PER_COMPANY,
    };
    // Users a company and studios a company are the same in both.
    let part = Population {
        companies: whole.companies / PART,
        users: whole.users / PART,
        studios: whole.studios / PART,
    };
    let limits = [USER_LIMIT, ADDRESS_LIMIT];
    let rigs = [
        Rig::start(&mut report, false, &limits).await?,
        Rig::start(&mut report, false, &limits).await?,
    ];
    let mut sides = Vec::new();
    for (rig, population) in rigs.iter().zip([part, whole]) {
        population.settle(rig).await?;
        sides.push(Side {
            population,
            tokens: population.tokens(rig).await?,
            core: rig.core()?,
        });
    }
    let length = effort.length(2);
    let rounds = effort.rounds(ROUNDS);
    report.condition("seconds", length.as_secs_f64());
    report.condition("rounds_of_which_the_median", rounds);
    report.condition("concurrency", CALLERS);
    report.condition("users", whole.users);
    report.condition("companies", whole.companies);
    report.condition("studios", whole.studios);
    let found = on_own_thread(move || drive(sides, length, rounds)).await?;
    let mut worst: f64 = 0.0;
    for (question, [part_ms, whole_ms]) in found {
        let name = question.name();
        let ratio = whole_ms / part_ms.max(f64::EPSILON);
        report.figure(format!("{name}_p95_ms_at_1_percent"), part_ms);
        report.figure(format!("{name}_p95_ms"), whole_ms);
        report.figure(format!("{name}_p95_ratio"), ratio);
        worst = worst.max(ratio);
    }
    report.figure("worst_p95_ratio", worst);
    Ok(report)
}

/// One of the two installations.
struct Side {
    population: Population,
    tokens: Vec<HeaderValue>,
    core: Url,
}

type Found = Vec<(Question, [f64; 2])>;

async fn drive(sides: Vec<Side>, length: Duration, rounds: usize) -> Result<Found> {
    let mut clients = Vec::new();
    for side in &sides {
        clients.push(Client::connect(&side.core, CONNECTIONS).await?);
    }
    let mut found = Vec::new();
    for question in Question::ALL {
        let mut calls = Vec::new();
        for (side, client) in sides.iter().zip(&clients) {
            let made = side.calls(client, question)?;
            each_once(CALLERS, made.len(), async |slot, call| {
                ask(client, slot, &made[call]).await
            })
            .await?;
            calls.push(made);
        }
        let mut taken = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for ((client, calls), taken) in clients.iter().zip(&calls).zip(&mut taken) {
                taken.push(measure(client, calls, length).await?.quantile_ms(0.95));
            }
        }
        let p95 = taken.map(median);
        progress(format_args!(
            "  {}: p95 {:.2} ms of a hundredth, {:.2} ms of all",
            question.name(),
            p95[0],
            p95[1]
        ));
        found.push((question, p95));
    }
    Ok(found)
}

impl Side {
    /// A call of each of the users who call.
    fn calls(&self, client: &Client, question: Question) -> Result<Vec<Call>> {
        let of = self.population;
        let step = (of.users / ACTIVE).max(1);
        let users = (0..of.users).step_by(step).take(ACTIVE);
        users
            .map(|user| question.call(client, of, user, &self.tokens[user]))
            .collect()
    }
}

async fn measure(client: &Client, calls: &[Call], length: Duration) -> Result<Outcome> {
    let random = RefCell::new(SmallRng::seed_from_u64(7));
    let any = async |slot: usize| {
        let call = random.borrow_mut().random_range(0..calls.len());
        ask(client, slot, &calls[call]).await
    };
    closed_loop(CALLERS, length, any).await
}

async fn ask(client: &Client, slot: usize, call: &Call) -> Result<()> {
    let answer = client.unary(slot, call).await?;
    ensure!(!answer.is_empty(), "an empty answer");
    Ok(())
}
