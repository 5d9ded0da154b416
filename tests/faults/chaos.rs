//! Real processes under everything at once: two execution-services and PostgreSQL are killed, stopped past their lease and cut
//! off, every few seconds, while runs of all sorts go on; then the journals are read and prove that nothing was lost or done
//! twice. `STUDIOS_CHAOS_SECONDS` says how long, `STUDIOS_CHAOS_RUNS` with how many runs.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    process::Command,
    time::Duration,
};

use execution_service::engine::journal::{AttemptPayload, Entry, Payload};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::{PgPool, postgres::PgPoolOptions};
use studios_tests::{
    cluster::TestCluster,
    deployment::Deployment,
    effects::{self, Effects},
    journal,
    model::{Model, Reply},
    process::Process,
    tenant::Tenant,
    world::{PATIENCE, World},
};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

const START: &str = "studios.execution.v1.ExecutionService/StartExecution";
/// Longer than a lease lasts.
const PAST_THE_LEASE: Duration = Duration::from_secs(11);

/// What is done to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    Killed,
    Stopped,
    DatabaseCrashed,
    ConnectionsCut,
}

/// Two execution-services, one of which may be stopped.
struct Replicas {
    deployment: Deployment,
    both: [Process; 2],
    stopped: Option<(usize, Instant)>,
}

fn set(name: &str, otherwise: u64) -> u64 {
    let set = std::env::var(name).ok().and_then(|it| it.parse().ok());
    set.unwrap_or(otherwise)
}

impl Replicas {
    /// One that works.
    fn alive(&self) -> &Process {
        &self.both[self.stopped.map_or(0, |(place, _)| 1 - place)]
    }

    fn kill(&mut self) {
        let place = self.stopped.map_or(usize::from(rand(2) == 0), |(place, _)| 1 - place);
        let next = self.deployment.another_execution();
        std::mem::replace(&mut self.both[place], next).kill();
    }

    fn stop(&mut self) {
        let place = usize::from(rand(2) == 0);
        self.both[place].signal("STOP");
        self.stopped = Some((place, Instant::now() + PAST_THE_LEASE));
    }

    fn go_on(&mut self) {
        if let Some((place, _)) = self.stopped.take() {
            self.both[place].signal("CONT");
        }
    }

    fn go_on_when_due(&mut self) {
        if self.stopped.is_some_and(|(_, until)| until <= Instant::now()) {
            self.go_on();
        }
    }
}

/// A number below this one.
fn rand(end: u64) -> u64 {
    u64::from(Uuid::new_v4().as_fields().0) % end
}

/// Kills a process of PostgreSQL, upon which it ends all others, and recovers.
async fn crash(admin: &PgPool) -> sqlx::Result<()> {
    let walwriter: i32 = sqlx::query_scalar("select pid from pg_stat_activity where backend_type = 'walwriter'")
        .fetch_one(admin)
        .await?;
    let killed = Command::new("kill").args(["-KILL", &walwriter.to_string()]).status();
    assert!(killed.expect("kill runs").success());
    Ok(())
}

async fn cut(admin: &PgPool) -> sqlx::Result<()> {
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where usename like 'studios_%'")
        .execute(admin)
        .await?;
    Ok(())
}

/// The workflows: calls that fail now and then, effects, a map, a child, people.
async fn workflows(world: &World, it: &Tenant, server: &Effects) -> Vec<String> {
    let say = |name: &str| json!({ "name": name, "retryLimit": 20, "llm": { "model": "stub", "prompt": "go" } });
    let calls = it
        .add_workflow(world, "Calls", json!([say("one"), say("two"), say("three")]))
        .await;
    let order = server.stage("order", "{{ inputs.n }}");
    let effect = it
        .add_workflow(world, "Effect", json!([say("one"), order, say("two")]))
        .await;
    let map = json!({ "name": "each", "map": { "itemsPath": "inputs.list", "stage": "item", "concurrency": 3 } });
    let mapped = it
        .add_workflow(world, "Map", json!([map, say("item"), say("after")]))
        .await;
    let child = json!({ "name": "child", "workflow": { "workflowId": calls } });
    let parent = it.add_workflow(world, "Parent", json!([say("one"), child])).await;
    let mut asked = say("asked");
    asked["validation"] = json!({ "manual": {} });
    let wait = json!({ "name": "wait", "wait": { "duration": "3s" } });
    let people = it
        .add_workflow(world, "People", json!([wait, asked, say("after")]))
        .await;
    vec![calls, effect, mapped, parent, people]
}

/// Starts what is still to be started, with whoever is alive, for so long.
async fn start(replicas: &Replicas, it: &Tenant, left: &mut VecDeque<Value>, time: Duration, gap: Duration) {
    let until = Instant::now() + time;
    let world = replicas.deployment.world_with(&replicas.alive().url()).await;
    while Instant::now() < until {
        if let Some(body) = left.pop_front() {
            // Where the answer is lost the same request is made again.
            let started = timeout(Duration::from_secs(2), world.call(START, body.clone(), Some(&it.token))).await;
            if !matches!(started, Ok(Ok(_))) {
                left.push_back(body);
            }
        }
        sleep(gap).await;
    }
}

/// Waits until all runs have ended, and does meanwhile what people are asked.
async fn drained(admin: &PgPool, it: &Tenant) {
    let ended = async {
        loop {
            effects::let_pass(admin, &it.user).await.expect("the database is up");
            // Parents that were not told look by themselves only minutes later; runs that wait for ever are left waiting.
            sqlx::query("update execution.runs set run_at = now() where owner is null and run_at < 'infinity'")
                .execute(admin)
                .await
                .expect("the database is up");
            let open: i64 = sqlx::query_scalar("select count(*) from execution.executions where finished_at is null")
                .fetch_one(admin)
                .await
                .expect("the database is up");
            if open == 0 {
                return;
            }
            sleep(Duration::from_millis(500)).await;
        }
    };
    timeout(2 * PATIENCE, ended).await.expect("no run is lost");
}

/// Reads all journals; returns how many entries there are.
async fn prove(admin: &PgPool) -> usize {
    journal::verify(admin).await;
    let rows: Vec<(Uuid, Vec<u8>, String)> = sqlx::query_as(
        "select j.execution_id, j.payload, e.status from execution.journal j join execution.executions e on e.id = j.execution_id
         order by j.execution_id, j.seq",
    )
    .fetch_all(admin)
    .await
    .expect("the journal can be read");
    let mut runs: BTreeMap<Uuid, (String, Vec<Payload>)> = BTreeMap::new();
    let entries = rows.len();
    for (execution, payload, status) in rows {
        let entry = Entry::open(&payload).expect("an entry");
        let (_, payloads) = runs.entry(execution).or_insert_with(|| (status, Vec::new()));
        payloads.push(entry.payload);
    }
    for (execution, (status, payloads)) in &runs {
        let (last, before) = payloads.split_last().expect("it has begun");
        assert!(
            before.iter().all(|it| !it.is_terminal()),
            "{execution} goes on after its end"
        );
        let end = match last {
            Payload::Finished(finished) if finished.failure.is_none() => "completed",
            Payload::Finished(_) => "failed",
            Payload::Cancelled(_) => "cancelled",
            other => panic!("{execution} ends with {}", other.kind()),
        };
        assert_eq!(status, end, "{execution}");
        let tries: Vec<_> = payloads
            .iter()
            .filter_map(Payload::attempt)
            .map(AttemptPayload::of_try)
            .collect();
        let mut counted: BTreeMap<(String, u32, u32), u32> = BTreeMap::new();
        for of in &tries {
            let count = counted.entry((of.stage.clone(), of.visit, of.item)).or_default();
            *count += 1;
            assert_eq!(of.attempt, *count, "{execution}: {of}");
        }
        let intents: Vec<_> = payloads.iter().filter(|it| matches!(it, Payload::Intent(_))).collect();
        let distinct: BTreeSet<_> = intents
            .iter()
            .filter_map(|it| it.about())
            .map(ToString::to_string)
            .collect();
        assert_eq!(distinct.len(), intents.len(), "{execution} announces twice");
    }
    let left: i64 = sqlx::query_scalar("select count(*) from execution.runs")
        .fetch_one(admin)
        .await
        .expect("the database is up");
    assert_eq!(left, 0);
    entries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_done_twice_while_replicas_and_the_database_die_again_and_again() {
    let time = Duration::from_secs(set("STUDIOS_CHAOS_SECONDS", 60));
    let count = set("STUDIOS_CHAOS_RUNS", 300);
    let (_cluster, database) = TestCluster::get().await.apart().await;
    let model = Model::start(|n, _| match n % 12 {
        3 => Reply::raw(500, "{}"),
        _ => Reply::text("fine").after(Duration::from_millis(rand(1_500))),
    })
    .await;
    let server = Effects::start(Duration::from_millis(500)).await;
    let providers = [&model.settings()[..], &[server.settings()]].concat();
    let mut deployment = Deployment::at(database, &providers).await;
    let first = deployment.execution.take().expect("it is alive");
    let mut replicas = Replicas {
        both: [first, deployment.another_execution()],
        deployment,
        stopped: None,
    };
    let world = replicas.deployment.world_with(&replicas.alive().url()).await;
    let admin = PgPoolOptions::new()
        .acquire_timeout(PATIENCE)
        .connect(world.database_url.expose_secret())
        .await
        .expect("the database answers");
    let it = Tenant::with_studio(&world).await;
    sqlx::query("update core.companies set plan = 'enterprise'")
        .execute(&admin)
        .await
        .expect("the database is up");
    it.add_stub_model(&world).await;
    let workflows = workflows(&world, &it, &server).await;
    let mut left: VecDeque<Value> = (0..count)
        .map(|n| {
            let workflow = &workflows[usize::try_from(n).expect("few") % workflows.len()];
            json!({ "workflowId": workflow, "requestId": Uuid::now_v7().to_string(),
                "inputs": { "n": n.to_string(), "list": [1, 2, 3, 4] } })
        })
        .collect();

    let gap = time.mul_f64(0.6) / u32::try_from(count).expect("few");
    let mut blows: BTreeMap<Blow, u32> = BTreeMap::new();
    let begun = Instant::now();
    while begun.elapsed() < time {
        start(
            &replicas,
            &it,
            &mut left,
            Duration::from_millis(1_000 + rand(2_000)),
            gap,
        )
        .await;
        replicas.go_on_when_due();
        // A database that recovers answers a moment later; what cannot be done to it then is left out.
        let blow = match rand(4) {
            0 => Blow::DatabaseCrashed,
            1 => Blow::ConnectionsCut,
            2 if replicas.stopped.is_none() => Blow::Stopped,
            _ => Blow::Killed,
        };
        let is_done = match blow {
            Blow::Killed => {
                replicas.kill();
                true
            }
            Blow::Stopped => {
                replicas.stop();
                true
            }
            Blow::DatabaseCrashed => crash(&admin).await.is_ok(),
            Blow::ConnectionsCut => cut(&admin).await.is_ok(),
        };
        *blows.entry(blow).or_default() += u32::from(is_done);
        let _ = effects::let_pass(&admin, &it.user).await;
    }
    replicas.go_on();
    timeout(PATIENCE, async {
        while !left.is_empty() {
            start(&replicas, &it, &mut left, Duration::from_secs(1), Duration::ZERO).await;
        }
    })
    .await
    .expect("everything is started in the end");
    drained(&admin, &it).await;

    let entries = prove(&admin).await;
    let failures: Vec<(String, i64)> = sqlx::query_as(
        "select failure_message, count(*) from execution.executions where status <> 'completed' group by 1 order by 2 desc",
    )
    .fetch_all(&admin)
    .await
    .expect("the database is up");
    assert_eq!(failures, [], "nothing here fails for good");
    let seen = server.seen();
    assert!(seen.values().all(|times| *times == 1), "an effect came twice: {seen:?}");
    let statuses: Vec<(String, bool, i64)> = sqlx::query_as(
        "select status, parent_id is not null, count(*) from execution.executions group by 1, 2 order by 2, 1",
    )
    .fetch_all(&admin)
    .await
    .expect("the database is up");
    let started: i64 = statuses.iter().filter(|it| !it.1).map(|it| it.2).sum();
    assert_eq!(
        started,
        i64::try_from(count).expect("few"),
        "a start was lost or made twice"
    );
    let unknown: i64 = sqlx::query_scalar("select count(*) from execution.journal where kind = 'unknown'")
        .fetch_one(&admin)
        .await
        .expect("the database is up");
    eprintln!(
        "chaos: {} s, {blows:?}; {entries} entries proved; {statuses:?}; {} effects, each once, {unknown} told by a person",
        begun.elapsed().as_secs(),
        seen.len(),
    );
}
