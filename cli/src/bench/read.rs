//! GetStudio for 10,000 users with tokens of their own, at random: straight at core-service and through the gateway, and
//! beside it, in turns, a bare gRPC echo with the same requests.

use std::{cell::RefCell, time::Duration};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::HeaderValue;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use studios_proto::core::GetStudioRequest;
use url::Url;

use super::{
    Effort,
    cpu::Processes,
    load::{Call, Client, closed_loop, each_once, framed, on_own_thread},
    peer::Peer,
    progress,
    report::{Measured, Report, Series},
    rig::{ADDRESS_LIMIT, Rig},
    seed::Population,
};

const METHOD: &str = "studios.core.v1.StudioService/GetStudio";
const CALLERS: [usize; 3] = [16, 64, 256];
const ROUNDS: usize = 3;
/// With how many callers the gateway and the echo are compared.
const MANY: usize = 256;
const CONNECTIONS: usize = 8;
const WARM_UP: Duration = Duration::from_millis(500);
/// Where an answer has the studio's id: behind its field's tag and length.
const ID: std::ops::Range<usize> = 2..38;

pub(super) async fn run(mut report: Report, effort: Effort) -> Result<Report> {
    let population = Population {
        companies: effort.many(1000),
        users: effort.many(10_000),
        studios: effort.many(10_000),
    };
    let rig = Rig::start(&mut report, false, &[ADDRESS_LIMIT]).await?;
    population.settle(&rig).await?;
    let echo = Peer::start(&["bench", "echo"], &[], &rig.ground.log("echo")).await?;
    let length = effort.length(4);
    report.condition("seconds", length.as_secs_f64());
    report.condition("rounds_of_which_the_median", effort.rounds(ROUNDS));
    report.condition("companies", population.companies);
    report.condition("studios", population.studios);
    report.condition("tokens", population.users);
    report.condition("connections", CONNECTIONS);

    let driver = Driver {
        population,
        tokens: population.tokens(&rig).await?,
        processes: rig.processes().await?,
        core: rig.core()?,
        gateway: rig.gateway()?,
        echo: echo.url("url")?,
        echo_processes: Processes {
            service: echo.pid,
            ..rig.processes().await?
        },
        length,
    };
    let found = on_own_thread(move || driver.drive(effort)).await?;
    found.tell(&mut report);
    Ok(report)
}

struct Driver {
    population: Population,
    tokens: Vec<HeaderValue>,
    processes: Processes,
    core: Url,
    gateway: Url,
    echo: Url,
    echo_processes: Processes,
    length: Duration,
}

/// What was found, round by round.
struct Found {
    first_touch: Measured,
    lone: Vec<Series>,
    straight: Vec<Series>,
    echo: Vec<Series>,
    gateway: Vec<Series>,
    gateway_web: Vec<Series>,
    gateway_json: Vec<Series>,
}

/// How a call is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    Grpc,
    GrpcWeb,
    Json,
}

impl Driver {
    async fn drive(self, effort: Effort) -> Result<Found> {
        let core = Target::new(&self, &self.core, Speech::Grpc).await?;
        let echo = Target::new(&self, &self.echo, Speech::Grpc).await?;
        let gateway = Target::new(&self, &self.gateway, Speech::Grpc).await?;
        let web = Target::new(&self, &self.gateway, Speech::GrpcWeb).await?;
        let json = Target::new(&self, &self.gateway, Speech::Json).await?;
        let mut found = Found {
            first_touch: core.touch_all(self.processes).await?,
            lone: Series::of(effort.beside(&[1])),
            straight: Series::of(&effort.callers(&CALLERS)),
            echo: Series::of(effort.beside(&[MANY])),
            gateway: Series::of(effort.beside(&[MANY])),
            gateway_web: Series::of(effort.beside(&[MANY])),
            gateway_json: Series::of(effort.beside(&[MANY])),
        };
        progress(format_args!("  first touch: {:.0} requests/s", found.first_touch.rate));
        let (whole, half) = (self.length, self.length / 2);
        for round in 1..=effort.rounds(ROUNDS) {
            for (name, target, processes, length, into) in [
                ("straight", &core, self.processes, half, &mut found.lone),
                ("straight", &core, self.processes, whole, &mut found.straight),
                ("by the echo", &echo, self.echo_processes, half, &mut found.echo),
                (
                    "through the gateway",
                    &gateway,
                    self.processes,
                    half,
                    &mut found.gateway,
                ),
                ("by gRPC-Web", &web, self.processes, half, &mut found.gateway_web),
                ("by JSON", &json, self.processes, half, &mut found.gateway_json),
            ] {
                for series in into {
                    let callers = series.callers;
                    let measured = target.measure(callers, length, processes).await?;
                    progress(format_args!(
                        "  round {round}, {callers:>3} callers: {:.0} requests/s {name}, p99 {:.2} ms",
                        measured.rate, measured.p99_ms
                    ));
                    series.rounds.push(measured);
                }
            }
        }
        Ok(found)
    }
}

/// A server with a call of each user's for each of some of his studios.
struct Target {
    client: Client,
    calls: Vec<(Call, String)>,
    speech: Speech,
    random: RefCell<SmallRng>,
}

impl Target {
    async fn new(driver: &Driver, url: &Url, speech: Speech) -> Result<Self> {
        let client = Client::connect(url, CONNECTIONS).await?;
        let mut random = SmallRng::seed_from_u64(7);
        let calls = driver.tokens.iter().enumerate().map(|(user, token)| {
            let id = driver.population.studio_of(user, random.random_range(0..1000));
            let (kind, body) = match speech {
                Speech::Grpc => ("application/grpc", message(&id)),
                Speech::GrpcWeb => ("application/grpc-web+proto", message(&id)),
                Speech::Json => ("application/json", format!(r#"{{"id":"{id}"}}"#).into()),
            };
            Ok((client.prepare(METHOD, token, kind, body)?, id))
        });
        let calls = calls.collect::<Result<_>>()?;
        Ok(Self {
            client,
            calls,
            speech,
            random: random.into(),
        })
    }

    /// Every user once, when the server has seen no token yet.
    async fn touch_all(&self, processes: Processes) -> Result<Measured> {
        let cpu = processes.cpu()?;
        let outcome = each_once(MANY, self.calls.len(), async |slot, call| self.call(slot, call).await).await?;
        Ok(Measured::new(&outcome, processes.cpu()? - cpu))
    }

    async fn measure(&self, callers: usize, length: Duration, processes: Processes) -> Result<Measured> {
        let any = async |slot: usize| {
            let call = self.random.borrow_mut().random_range(0..self.calls.len());
            self.call(slot, call).await
        };
        closed_loop(callers, WARM_UP, any).await?;
        let cpu = processes.cpu()?;
        let outcome = closed_loop(callers, length, any).await?;
        Ok(Measured::new(&outcome, processes.cpu()? - cpu))
    }

    /// One read, whose answer must be the studio that was asked for.
    async fn call(&self, slot: usize, index: usize) -> Result<()> {
        let (call, id) = &self.calls[index];
        let found = match self.speech {
            Speech::Grpc => self.client.unary(slot, call).await?.get(ID).map(<[u8]>::to_vec),
            Speech::GrpcWeb => self
                .client
                .plain(slot, call)
                .await?
                .get(ID.start + 5..ID.end + 5)
                .map(<[u8]>::to_vec),
            Speech::Json => {
                let body = self.client.plain(slot, call).await?;
                let at = body.windows(id.len()).position(|window| window == id.as_bytes());
                at.map(|_| id.clone().into_bytes())
            }
        };
        ensure!(
            found.context("a short answer")? == id.as_bytes(),
            "the answer is another studio"
        );
        Ok(())
    }
}

fn message(id: &str) -> Bytes {
    framed(&GetStudioRequest { id: id.into() })
}

impl Found {
    fn tell(&self, report: &mut Report) {
        let straight: Vec<_> = self.straight.iter().map(Series::median).collect();
        let best = straight[Measured::best(&straight)];
        report.load("requests_per_s", "", &best);
        report.count("best_concurrency", self.straight[Measured::best(&straight)].callers);
        for lone in &self.lone {
            report.figure("lone_request_ms", lone.median().p50_ms);
        }
        for (series, measured) in self.straight.iter().zip(&straight) {
            report.load("requests_per_s", &format!("_at_{}", series.callers), measured);
        }
        for (prefix, all) in [
            ("gateway", &self.gateway),
            ("gateway_grpc_web", &self.gateway_web),
            ("gateway_json", &self.gateway_json),
        ] {
            for measured in all.iter().map(Series::median) {
                report.figure(format!("{prefix}_requests_per_s"), measured.rate);
                report.figure(format!("{prefix}_p50_ms"), measured.p50_ms);
                report.figure(format!("{prefix}_p99_ms"), measured.p99_ms);
                let cpu = measured.cpu.service + measured.cpu.postgres;
                report.figure(format!("{prefix}_cpu_s_per_1000"), cpu);
            }
        }
        report.figure("first_touch_requests_per_s", self.first_touch.rate);
        report.figure("first_touch_p99_ms", self.first_touch.p99_ms);
        report.figure("first_touch_cpu_s_per_1000_service", self.first_touch.cpu.service);
        for echo in self.echo.iter().map(Series::median) {
            report.figure("echo_requests_per_s", echo.rate);
            report.figure("share_of_echo", best.rate / echo.rate.max(f64::EPSILON));
            report.limit("echo_requests_per_s", echo.rate);
            report.limit("echo_p99_ms", echo.p99_ms);
            report.limit("echo_cpu_s_per_1000", echo.cpu.service);
            report.limit("echo_driver_cpu_s_per_1000", echo.cpu.driver);
        }
    }
}
