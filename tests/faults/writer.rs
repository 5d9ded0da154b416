//! The engine's writer by itself, over a wire that is cut, beside entries that the database refuses, and against other transactions.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use execution_service::{
    engine::journal::{Cancelled, Entry, Finished, GENESIS, Payload, Started as StartedEntry},
    worker::writer::{self, End, Fence, NewKey, NewRun, Record, Started, Then, Writer},
};
use futures::future::join_all;
use secrecy::{ExposeSecret, SecretString};
use service_kit::{
    clock::{Clock, SystemClock},
    db,
    ids::{CompanyId, ExecutionId, StudioId, UserId, VersionId, WorkflowId},
    lifecycle::Lifecycle,
};
use sqlx::{Connection, PgConnection, PgPool, Postgres, Transaction};
use studios_cli::{home::Home, migrate::RolePasswords};
use studios_tests::{
    cluster::TestCluster,
    wire::{Cut, Wire},
    world::PATIENCE,
};

const ME: i32 = 1;
/// How the statements begin that write, and no others.
const WRITES: &str = "with ";

/// A writer over a wire, and a database of its own.
struct Bench {
    writer: Writer,
    wire: Wire,
    admin: PgPool,
    lifecycle: Lifecycle,
    company: CompanyId,
    caller: UserId,
}

impl Bench {
    async fn start() -> Self {
        let cluster = TestCluster::get().await;
        let database = cluster.database().await;
        let home = Home::open(cluster.home()).expect("the keys are there");
        let engine = RolePasswords::derive(&home.keys)
            .url(&database, "studios_engine")
            .expect("a login role");
        let wire = Wire::to(&engine, WRITES).await;
        let pool = db::connect(&wire.url(&engine), 1, "writer").await.expect("it answers");
        let lifecycle = Lifecycle::new();
        let (writer, task) = Writer::new(pool, lifecycle.soft());
        lifecycle.spawn("writer", task);
        Self {
            writer,
            wire,
            admin: admin(&database).await,
            lifecycle,
            company: CompanyId::generate(),
            caller: UserId::generate(),
        }
    }

    fn new_run(&self) -> NewRun {
        let (execution, workflow, version) = (ExecutionId::generate(), WorkflowId::generate(), VersionId::generate());
        let started = StartedEntry {
            execution_id: execution,
            workflow_id: workflow,
            version_id: version,
            workflow_version: 1,
            inputs_sha256: String::new(),
            depth: 0,
        };
        let entry = Entry {
            seq: 1,
            occurred_at: SystemClock.now(),
            payload: Payload::Started(started),
        };
        NewRun {
            execution,
            company: self.company,
            studio: StudioId::generate(),
            workflow,
            version,
            version_number: 1,
            started_by: self.caller,
            inputs: r#"{"a":1}"#.into(),
            trace_context: String::new(),
            stage: "one".into(),
            owner: Some(ME),
            entries: vec![entry.seal(&GENESIS)],
            key: None,
            parent: None,
            source: None,
            audit: None,
            allowance: None,
        }
    }

    fn keyed(&self, key: &str, body: u8) -> NewRun {
        let key = NewKey {
            method: "Start".into(),
            key: key.into(),
            body_hash: vec![body; 32],
        };
        NewRun {
            key: Some(key),
            ..self.new_run()
        }
    }

    async fn start_run(&self, new: &NewRun) -> Started {
        let lost = self.lifecycle.hard();
        let started = self.writer.start(new.clone(), &lost);
        tokio::time::timeout(PATIENCE, started)
            .await
            .expect("the writer answers")
    }

    async fn record(&self, record: Record) -> Recorded {
        let lost = self.lifecycle.hard();
        let recorded = self.writer.record(record, &lost);
        let recorded = tokio::time::timeout(PATIENCE, recorded)
            .await
            .expect("the writer answers");
        match recorded {
            writer::Recorded::Written => Recorded::Written,
            writer::Recorded::Fenced => Recorded::Fenced,
            writer::Recorded::Refused(_) => Recorded::Refused,
        }
    }

    /// So many runs that were started.
    async fn runs(&self, count: usize) -> Vec<NewRun> {
        let runs: Vec<_> = (0..count).map(|_| self.new_run()).collect();
        for started in join_all(runs.iter().map(|run| self.start_run(run))).await {
            assert!(matches!(started, Started::Written(_)), "{started:?}");
        }
        runs
    }

    /// Keeps the writer busy until it is let go; what it is given meanwhile is one batch.
    async fn hold(
        &self,
    ) -> (
        Transaction<'static, Postgres>,
        Pin<Box<dyn Future<Output = Recorded> + '_>>,
    ) {
        let gate = self.runs(1).await.remove(0);
        let lock = self.lock(&gate).await;
        let mut waiting: Pin<Box<dyn Future<Output = Recorded> + '_>> = Box::pin(self.record(kept(&gate)));
        poll_fn(|context| {
            assert!(waiting.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        self.until_blocked().await;
        self.wire.executed();
        (lock, waiting)
    }

    /// Locks a run's hot row.
    async fn lock(&self, run: &NewRun) -> Transaction<'static, Postgres> {
        let mut transaction = self.admin.begin().await.unwrap();
        sqlx::query("select from execution.runs where execution_id = $1 for update")
            .bind(run.execution.as_uuid())
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction
    }

    /// Waits until a statement of the writer waits for a lock.
    async fn until_blocked(&self) {
        self.until(
            "select count(*) > 0 from pg_stat_activity where datname = current_database()
            and usename = 'studios_engine' and wait_event_type = 'Lock'",
        )
        .await;
    }

    async fn until(&self, condition: &'static str) {
        let asked = async {
            while !sqlx::query_scalar::<_, bool>(condition)
                .fetch_one(&self.admin)
                .await
                .unwrap()
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.expect(condition);
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.admin).await.unwrap()
    }

    /// How often the entries were written: each once, and its execution with it.
    async fn assert_written_once(&self, executions: i64, entries: i64) {
        let found = (
            self.count("select count(*) from execution.executions").await,
            self.count("select count(*) from execution.journal").await,
        );
        assert_eq!(found, (executions, entries));
    }
}

async fn admin(database: &SecretString) -> PgPool {
    PgPool::connect(database.expose_secret()).await.expect("it answers")
}

/// Puts them all into the writer's queue.
async fn queued<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<Pin<Box<F>>> {
    let mut queued: Vec<_> = futures.into_iter().map(Box::pin).collect();
    // One task puts in what many do at other times.
    let all = poll_fn(|context| {
        for future in &mut queued {
            assert!(future.as_mut().poll(context).is_pending());
        }
        Poll::Ready(())
    });
    tokio::task::unconstrained(all).await;
    queued
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recorded {
    Written,
    Fenced,
    Refused,
}

fn progress(run: &NewRun, payload: Payload, then: Then) -> Record {
    let entry = Entry {
        seq: 2,
        occurred_at: run.entries[0].entry.occurred_at,
        payload,
    };
    let sealed = entry.seal(&run.entries[0].hash);
    Record {
        fence: Fence {
            execution: run.execution,
            instance: ME,
            epoch: 0,
            seq: 1,
        },
        head: sealed.hash.to_vec(),
        entries: vec![sealed],
        stage: "two".into(),
        status: None,
        commands_seen: 0,
        commands_done: 0,
        children: Vec::new(),
        asks: None,
        then,
    }
}

/// Progress of a run that is kept.
fn kept(run: &NewRun) -> Record {
    let cancelled = Cancelled {
        by: run.started_by,
        reason: String::new(),
        interrupted: None,
    };
    progress(run, Payload::Cancelled(cancelled), Then::Keep)
}

/// The end of a run.
fn ended(run: &NewRun, outputs: &str) -> Record {
    let end = End {
        status: "completed",
        outputs: Some(outputs.into()),
        failure_class: None,
        failure_message: None,
        at: SystemClock.now(),
    };
    progress(run, Payload::Finished(Finished { failure: None }), Then::End(end))
}

/// Text that is JSON and that no jsonb holds.
const POISON: &str = r#"{"a":"\u0000"}"#;

#[tokio::test]
async fn one_poisoned_record_among_256_is_refused_alone_and_found_by_halving() {
    let bench = Bench::start().await;
    let runs = bench.runs(256).await;
    let (lock, gate) = bench.hold().await;
    let records = runs.iter().enumerate().map(|(n, run)| match n {
        100 => ended(run, POISON),
        n if n % 2 == 0 => ended(run, "{}"),
        _ => kept(run),
    });
    let queued = queued(records.map(|record| bench.record(record))).await;
    lock.commit().await.unwrap();
    assert_eq!(gate.await, Recorded::Written);
    for (n, recorded) in join_all(queued).await.into_iter().enumerate() {
        let expected = if n == 100 { Recorded::Refused } else { Recorded::Written };
        assert_eq!(recorded, expected, "record {n}");
    }
    // The batch, and two halves of each of its 8 doublings.
    assert_eq!(bench.wire.executed().len(), 1 + 2 * 8);
    let entries = bench
        .count("select count(*) from execution.journal where seq = 2")
        .await;
    assert_eq!(entries, 255 + 1, "with the gate's");
}

#[tokio::test]
async fn one_poisoned_start_among_starts_and_records_is_refused_alone() {
    let bench = Bench::start().await;
    let runs = bench.runs(128).await;
    let (lock, gate) = bench.hold().await;
    let mut starts: Vec<_> = (0..128).map(|_| bench.new_run()).collect();
    starts[77].inputs = POISON.into();
    let records = queued(runs.iter().map(|run| bench.record(ended(run, "{}")))).await;
    let begun = queued(starts.iter().map(|new| bench.start_run(new))).await;
    lock.commit().await.unwrap();
    assert_eq!(gate.await, Recorded::Written);
    assert!(
        join_all(records)
            .await
            .into_iter()
            .all(|recorded| recorded == Recorded::Written)
    );
    for (n, started) in join_all(begun).await.into_iter().enumerate() {
        match started {
            Started::Written(times) => assert!(n != 77 && times.started_at == Some(times.created_at)),
            Started::Failed(_) => assert_eq!(n, 77),
            other => panic!("start {n}: {other:?}"),
        }
    }
    assert_eq!(bench.wire.executed().len(), 1 + 2 * 8);
    let running = bench
        .count("select count(*) from execution.executions where status = 'running'")
        .await;
    assert_eq!(running, 127 + 1, "with the gate's");
}

#[tokio::test]
async fn equal_keys_make_one_run_whether_they_meet_in_a_batch_or_later() {
    let bench = Bench::start().await;
    let (lock, gate) = bench.hold().await;
    let mut starts: Vec<_> = (0..5).map(|_| bench.keyed("k", 1)).collect();
    starts.push(bench.keyed("k", 2));
    starts.push(bench.keyed("other", 2));
    let queued = queued(starts.iter().map(|new| bench.start_run(new))).await;
    lock.commit().await.unwrap();
    assert_eq!(gate.await, Recorded::Written);
    let mut started = join_all(queued).await.into_iter();
    assert!(matches!(started.next(), Some(Started::Written(_))));
    for _ in 1..5 {
        assert!(matches!(started.next(), Some(Started::Existing(id)) if id == starts[0].execution));
    }
    assert!(matches!(started.next(), Some(Started::KeyReused)));
    assert!(matches!(started.next(), Some(Started::Written(_))));
    assert_eq!(bench.wire.executed().len(), 1);

    assert!(matches!(bench.start_run(&bench.keyed("k", 1)).await, Started::Existing(id) if id == starts[0].execution));
    assert!(matches!(
        bench.start_run(&bench.keyed("k", 3)).await,
        Started::KeyReused
    ));
    sqlx::query("update execution.start_keys set created_at = now() - interval '25 hours' where key = 'k'")
        .execute(&bench.admin)
        .await
        .unwrap();
    let again = bench.keyed("k", 3);
    assert!(matches!(bench.start_run(&again).await, Started::Written(_)));
    assert!(matches!(bench.start_run(&bench.keyed("k", 3)).await, Started::Existing(id) if id == again.execution));
    bench.assert_written_once(1 + 2 + 1, 2 + 2 + 1).await;
}

#[tokio::test]
async fn a_refused_start_does_not_take_those_with_its_key_along() {
    let bench = Bench::start().await;
    let (lock, gate) = bench.hold().await;
    let bad = NewRun {
        inputs: POISON.into(),
        ..bench.keyed("k", 1)
    };
    let (good, late) = (bench.keyed("k", 1), bench.keyed("k", 1));
    let queued = queued([&bad, &good, &late].map(|new| bench.start_run(new))).await;
    lock.commit().await.unwrap();
    assert_eq!(gate.await, Recorded::Written);
    let [first, second, third] = <[Started; 3]>::try_from(join_all(queued).await).unwrap();
    assert!(matches!(first, Started::Failed(_)));
    assert!(matches!(second, Started::Written(_)));
    assert!(matches!(third, Started::Existing(id) if id == good.execution));
}

#[tokio::test]
async fn what_was_written_when_the_answer_was_lost_is_not_written_again() {
    let bench = Bench::start().await;
    let run = bench.runs(1).await.remove(0);
    bench.wire.cut(Cut::Answer);
    let started = bench.start_run(&bench.keyed("k", 1)).await;
    assert!(
        matches!(started, Started::Written(times) if times.started_at.is_some()),
        "{started:?}"
    );
    bench.wire.cut(Cut::Answer);
    assert_eq!(bench.record(kept(&run)).await, Recorded::Written);
    let writes = bench
        .wire
        .executed()
        .iter()
        .filter(|sql| sql.starts_with(WRITES))
        .count();
    assert_eq!(writes, 3, "each was sent once");
    bench.assert_written_once(2, 3).await;
}

#[tokio::test]
async fn what_did_not_reach_the_database_is_written_when_it_is_sure() {
    let bench = Bench::start().await;
    let run = bench.runs(1).await.remove(0);
    bench.wire.cut(Cut::Statement);
    let new = bench.keyed("k", 1);
    assert!(matches!(bench.start_run(&new).await, Started::Written(_)));
    bench.wire.cut(Cut::Statement);
    assert_eq!(bench.record(ended(&run, "{}")).await, Recorded::Written);
    bench.assert_written_once(2, 3).await;
}

#[tokio::test]
async fn a_record_that_is_still_under_way_after_its_connection_is_written_once() {
    let bench = Bench::start().await;
    let run = bench.runs(1).await.remove(0);
    let lock = bench.lock(&run).await;
    bench.wire.cut(Cut::Work);
    let recorded = bench.record(ended(&run, "{}"));
    let freed = async {
        // The statement that nobody waits for, and the look at what became of it.
        bench
            .until(
                "select count(*) = 2 from pg_stat_activity where datname = current_database()
                and usename = 'studios_engine' and wait_event_type = 'Lock'",
            )
            .await;
        lock.commit().await.unwrap();
    };
    let (recorded, ()) = tokio::join!(recorded, freed);
    assert_eq!(recorded, Recorded::Written);
    bench.assert_written_once(1, 2).await;
}

#[tokio::test]
async fn a_start_that_is_still_under_way_after_its_connection_is_made_once() {
    let bench = Bench::start().await;
    let new = bench.keyed("k", 1);
    // Somebody else makes the key and thinks better of it.
    let mut other = bench.admin.begin().await.unwrap();
    sqlx::query(
        "insert into execution.start_keys (company_id, caller_id, method, key, execution_id, body_hash)
         values ($1, $2, 'Start', 'k', $3, '')",
    )
    .bind(bench.company.as_uuid())
    .bind(bench.caller.as_uuid())
    .bind(ExecutionId::generate().as_uuid())
    .execute(&mut *other)
    .await
    .unwrap();
    bench.wire.cut(Cut::Work);
    let freed = async {
        bench
            .until(
                "select count(*) = 2 from pg_stat_activity where datname = current_database()
                and usename = 'studios_engine' and wait_event_type = 'Lock'",
            )
            .await;
        other.rollback().await.unwrap();
    };
    let (started, ()) = tokio::join!(bench.start_run(&new), freed);
    assert!(matches!(started, Started::Written(_)), "{started:?}");
    bench.assert_written_once(1, 1).await;
}

#[tokio::test]
async fn a_writer_whose_backend_is_ended_writes_all_the_same() {
    let bench = Bench::start().await;
    let runs = bench.runs(3).await;
    let lock = bench.lock(&runs[1]).await;
    let recorded = join_all(runs.iter().map(|run| bench.record(ended(run, "{}"))));
    let ended = async {
        bench.until_blocked().await;
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()
             and usename = 'studios_engine' and wait_event_type = 'Lock'",
        )
        .execute(&bench.admin)
        .await
        .unwrap();
        lock.commit().await.unwrap();
    };
    let (recorded, ()) = tokio::join!(recorded, ended);
    assert_eq!(recorded, [Recorded::Written; 3]);
    bench.assert_written_once(3, 6).await;
}

#[tokio::test]
async fn a_batch_that_is_the_victim_of_a_deadlock_is_written_again() {
    let bench = Bench::start().await;
    let mut runs = bench.runs(2).await;
    runs.sort_by_key(|run| run.execution);
    let mut other = bench.lock(&runs[1]).await;
    sqlx::query("set local deadlock_timeout = '1min'")
        .execute(&mut *other)
        .await
        .unwrap();
    let recorded = async {
        let (lock, gate) = bench.hold().await;
        let queued = queued(runs.iter().map(|run| bench.record(kept(run)))).await;
        lock.commit().await.unwrap();
        assert_eq!(gate.await, Recorded::Written);
        join_all(queued).await
    };
    let crossed = async {
        bench.until_blocked().await;
        // The gate's lock is gone when the batch of the two waits for this transaction.
        bench
            .until(
                "select count(*) > 0 from pg_locks w join pg_stat_activity a on a.pid = w.pid
                where a.usename = 'studios_engine' and not w.granted and w.locktype = 'transactionid'
                and (select count(*) from execution.journal where seq = 2) = 1 and a.datname = current_database()",
            )
            .await;
        sqlx::query("select from execution.runs where execution_id = $1 for update")
            .bind(runs[0].execution.as_uuid())
            .execute(&mut *other)
            .await
            .unwrap();
        other.commit().await.unwrap();
    };
    let (recorded, ()) = tokio::join!(recorded, crossed);
    assert_eq!(recorded, [Recorded::Written; 2]);
    assert!(bench.wire.executed().len() > 1, "the batch was written again");
}

#[tokio::test]
async fn a_run_that_was_taken_over_writes_nothing_and_its_neighbours_do() {
    let bench = Bench::start().await;
    let runs = bench.runs(3).await;
    let (lock, gate) = bench.hold().await;
    sqlx::query("update execution.runs set owner = 2, epoch = epoch + 1 where execution_id = $1")
        .bind(runs[1].execution.as_uuid())
        .execute(&bench.admin)
        .await
        .unwrap();
    let queued = queued(runs.iter().map(|run| bench.record(ended(run, "{}")))).await;
    lock.commit().await.unwrap();
    gate.await;
    let expected = [Recorded::Written, Recorded::Fenced, Recorded::Written];
    assert_eq!(join_all(queued).await, expected);
    let theirs = bench
        .count("select count(*) from execution.journal j join execution.runs r using (execution_id) where r.owner = 2")
        .await;
    assert_eq!(theirs, 1, "only the start");
}

#[tokio::test]
async fn its_plans_look_rows_up_by_key_also_when_they_are_made_over_empty_tables() {
    let bench = Bench::start().await;
    let (lock, gate) = bench.hold().await;
    let (one, other) = (bench.new_run(), bench.new_run());
    let starts = queued([&one, &other].map(|new| bench.start_run(new))).await;
    lock.commit().await.unwrap();
    gate.await;
    join_all(starts).await;
    let (lock, gate) = bench.hold().await;
    let start = bench.new_run();
    let starts = queued([bench.start_run(&start)]).await;
    let records = queued([bench.record(kept(&one))]).await;
    lock.commit().await.unwrap();
    gate.await;
    join_all(starts).await;
    join_all(records).await;
    bench.start_run(&bench.new_run()).await;
    assert_eq!(bench.record(kept(&other)).await, Recorded::Written);
    let mut statements = bench.wire.executed();
    statements.sort();
    statements.dedup();
    assert_eq!(statements.len(), 3, "starts, a lone record, both");

    let mut connection = PgConnection::connect_with(&bench.admin.connect_options())
        .await
        .unwrap();
    let settings: Vec<String> =
        sqlx::query_scalar("select unnest(rolconfig) from pg_roles where rolname = 'studios_engine'")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    for setting in settings {
        let (name, value) = setting.split_once('=').unwrap();
        sqlx::query("select set_config($1, $2, false)")
            .bind(name)
            .bind(value)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    sqlx::query("truncate execution.runs, execution.executions, execution.journal, execution.start_keys")
        .execute(&mut connection)
        .await
        .unwrap();
    // What vacuum found empty, the planner takes for empty.
    for vacuum in [false, true] {
        if vacuum {
            sqlx::query("vacuum analyze").execute(&mut connection).await.unwrap();
        }
        for sql in &statements {
            let plan = plan(&mut connection, sql).await;
            assert!(!plan.contains("Seq Scan"), "{plan}");
            for line in plan
                .lines()
                .filter(|line| line.contains("Index Scan") && !line.contains("Bitmap"))
            {
                assert!(line.contains("_pkey on "), "{line}\n{plan}");
            }
        }
    }
}

async fn plan(connection: &mut PgConnection, sql: &str) -> String {
    let parameters = (1..100).rev().find(|n| sql.contains(&format!("${n}"))).unwrap_or(0);
    let nulls = vec!["null"; parameters].join(", ");
    let explain = format!("deallocate all; prepare it as {sql}; explain (costs off) execute it({nulls})");
    let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(explain))
        .fetch_all(connection)
        .await
        .unwrap();
    let lines: Vec<String> = rows.iter().map(|row| sqlx::Row::get(row, 0)).collect();
    lines.join("\n")
}
