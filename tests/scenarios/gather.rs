//! The gatherer: what it puts into one statement, whom an error reaches, and that nobody gets another's row.

use std::{collections::BTreeSet, sync::Arc};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, join_all},
    stream,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use service_kit::{
    db::Claims,
    error::Error,
    gather::{Answer, Bounds, Gatherer, Kind, Owner},
    ids::UserId,
    lifecycle::Lifecycle,
};
use sqlx::{PgConnection, PgPool, postgres::PgPoolOptions};
use studios_tests::{
    cluster::TestCluster,
    refusal::assert_reason,
    tenant::{Tenant, id},
    world::{PATIENCE, World},
};
use tonic::Code;
use uuid::Uuid;

const STUDIOS: &str = "studios.core.v1.StudioService";
const USERS: usize = 64;
const CALLS: usize = 30;

#[tokio::test]
async fn users_of_many_companies_at_once_get_their_own_rows_and_never_a_foreign_one() {
    let world = World::start().await;
    // Few at a time: hashing 64 passwords at once would keep everything else waiting.
    let tenants: Vec<_> = stream::iter(0..USERS)
        .map(|_| Tenant::with_studio(&world))
        .buffered(4)
        .collect()
        .await;
    let (world, tenants) = (&world, &tenants);
    let asked = |asker: usize, call: usize| async move {
        // Each asks for his own and for everybody else's in turn.
        let owner = if call.is_multiple_of(2) {
            asker
        } else {
            (asker + call) % USERS
        };
        let (it, other) = (&tenants[asker], &tenants[owner]);
        for (method, id, company) in [
            (format!("{STUDIOS}/GetStudio"), &other.studio, "companyId"),
            (
                "studios.core.v1.CompanyService/GetCompany".to_owned(),
                &other.company,
                "id",
            ),
        ] {
            let answer = world.call(&method, json!({ "id": id }), Some(&it.token)).await;
            match answer {
                Ok(found) => assert_eq!(
                    (&found["id"], &found[company]),
                    (&json!(id), &json!(it.company)),
                    "{method}"
                ),
                Err(status) => assert_eq!((status.code(), owner == asker), (Code::NotFound, false), "{status:?}"),
            }
        }
        let profile = world
            .ok("studios.core.v1.UserService/GetProfile", json!({}), &it.token)
            .await;
        assert_eq!(profile["id"], json!(it.user));
    };
    let askers = (0..USERS).map(|asker| async move {
        for call in 0..CALLS {
            asked(asker, call).await;
        }
    });
    join_all(askers).await;
}

#[tokio::test]
async fn of_many_who_make_a_studio_at_once_each_gets_what_he_would_get_alone() {
    let world = World::start().await;
    let (it, other) = (Tenant::with_studio(&world).await, Tenant::with_studio(&world).await);
    let create = format!("{STUDIOS}/CreateStudio");
    let body = |company: &str, name: &str| json!({ "studio": { "companyId": company, "name": name, "businessArea": "BUSINESS_AREA_HR" } });
    let call = |body: Value, token: String| {
        let (world, create) = (&world, &create);
        async move { world.call(create, body, Some(&token)).await }
    };

    let same_name = (0..20).map(|_| call(body(&it.company, "Same"), it.token.clone()));
    let mut repeated = body(&other.company, "Repeated");
    repeated["requestId"] = json!(Uuid::now_v7().to_string());
    let same_request = (0..20).map(|_| call(repeated.clone(), other.token.clone()));
    let foreign = (0..20).map(|n| call(body(&other.company, &format!("Foreign {n}")), it.token.clone()));
    let (same_name, (same_request, foreign)) = futures::join!(
        join_all(same_name),
        futures::future::join(join_all(same_request), join_all(foreign))
    );

    assert_eq!(same_name.iter().filter(|it| it.is_ok()).count(), 1);
    for refused in same_name.into_iter().filter_map(Result::err) {
        assert_reason(&refused, Code::AlreadyExists, "STUDIO_NAME_TAKEN");
    }
    let made: BTreeSet<_> = same_request.into_iter().map(|it| id(&it.unwrap())).collect();
    assert_eq!(made.len(), 1, "one request makes one studio");
    for refused in foreign {
        assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    }

    // The plan has room for three, of which each company has two.
    let room = join_all((0..10).map(|n| call(body(&it.company, &format!("Last {n}")), it.token.clone()))).await;
    assert_eq!(room.iter().filter(|it| it.is_ok()).count(), 1);
    for refused in room.into_iter().filter_map(Result::err) {
        assert_eq!(refused.code(), Code::ResourceExhausted);
    }
}

#[tokio::test]
async fn a_refused_studio_leaves_its_request_id_free() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let create = format!("{STUDIOS}/CreateStudio");
    let request = json!(Uuid::now_v7().to_string());
    let body = |name: &str| json!({ "requestId": request, "studio": { "companyId": it.company, "name": name, "businessArea": "BUSINESS_AREA_HR" } });
    let taken = world.refused(&create, body("Operations studio"), &it.token).await;
    assert_reason(&taken, Code::AlreadyExists, "STUDIO_NAME_TAKEN");
    let made = world.ok(&create, body("Another studio"), &it.token).await;
    assert_eq!(world.ok(&create, body("Another studio"), &it.token).await, made);
    let other = world.refused(&create, body("A third studio"), &it.token).await;
    assert_eq!(other.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn calls_that_wait_go_together_and_a_lone_one_waits_for_nothing() {
    let ground = Ground::make().await;
    let gatherer = ground.gatherer(
        true,
        Bounds {
            lanes: 1,
            ..Bounds::default()
        },
    );
    assert_eq!(ask(&gatherer, 7).await, Ok(Some(7)));
    assert_eq!(ground.count("statements").await, 1);
    assert_eq!(ask(&gatherer, MISSING).await, Ok(None));

    let gate = ground.close_gate().await;
    let waiting = ground.behind_the_gate(&gatherer, 1..=256).await;
    gate.open().await;
    assert_eq!(
        join_all(waiting).await,
        (1..=256).map(|it| Ok(Some(it))).collect::<Vec<_>>()
    );
    assert_eq!(
        ground.count("statements").await,
        2 + 1 + 1,
        "the one at the gate, and one for all the others"
    );
}

#[tokio::test]
async fn one_poisoned_item_among_256_fails_alone() {
    let ground = Ground::make().await;
    let gatherer = ground.gatherer(
        false,
        Bounds {
            lanes: 1,
            ..Bounds::default()
        },
    );
    let gate = ground.close_gate().await;
    let items = (1..=256).map(|it| if it == 100 { POISON } else { it });
    let waiting = ground.behind_the_gate(&gatherer, items).await;
    gate.open().await;
    for (place, answer) in (1..).zip(join_all(waiting).await) {
        match answer {
            Err(error) => assert_eq!((place, &*error), (100, "internal error")),
            Ok(row) => assert_eq!(row, Some(place)),
        }
    }
    let statements = ground.count("statements").await;
    assert_eq!(statements, 1 + 1 + 2 * 8, "halves of 256 until one is alone");
}

#[tokio::test]
async fn a_caller_who_has_gone_away_costs_nothing_and_disturbs_nobody() {
    let ground = Ground::make().await;
    let gatherer = ground.gatherer(
        false,
        Bounds {
            lanes: 1,
            ..Bounds::default()
        },
    );
    let gate = ground.close_gate().await;
    let mut waiting = ground.behind_the_gate(&gatherer, 1..=10).await;
    let gone: Vec<_> = waiting.drain(1..6).collect();
    drop(gone);
    gate.open().await;
    let answers = join_all(waiting).await;
    assert_eq!(answers, [1, 7, 8, 9, 10].map(|it| Ok(Some(it))));
    assert_eq!(ground.count("items").await, 1 + 5);
}

#[tokio::test]
async fn a_read_survives_its_connection_and_a_write_is_unavailable() {
    let ground = Ground::make().await;
    for reads in [true, false] {
        let gatherer = ground.gatherer(
            reads,
            Bounds {
                lanes: 1,
                ..Bounds::default()
            },
        );
        assert_eq!(
            ask(&gatherer, 1).await,
            Ok(Some(1)),
            "its connection goes back to the pool"
        );
        let gate = ground.close_gate().await;
        let waiting = ask(&gatherer, GATE);
        ground.cut_at_the_gate(gate, waiting).await.map_or_else(
            |error| assert_eq!((reads, &*error), (false, "the database cannot be reached")),
            |row| assert_eq!((reads, row), (true, Some(GATE))),
        );
        assert_eq!(ask(&gatherer, 2).await, Ok(Some(2)), "and it goes on");
    }
}

#[tokio::test]
async fn a_full_queue_refuses_and_holds_nobody_up() {
    let ground = Ground::make().await;
    let bounds = Bounds {
        lanes: 1,
        batch: 2,
        queue: 3,
    };
    let gatherer = ground.gatherer(true, bounds);
    let gate = ground.close_gate().await;
    let waiting = ground.behind_the_gate(&gatherer, 1..=3).await;
    let refused = ask(&gatherer, 4).await;
    assert_eq!(refused, Err("the server has too much to do right now".into()));
    gate.open().await;
    assert_eq!(join_all(waiting).await, [1, 2, 3].map(|it| Ok(Some(it))));
}

/// Items with a meaning of their own; any other is answered with itself.
const MISSING: i32 = -1;
const POISON: i32 = -2;
/// Waits until the gate is open.
const GATE: i32 = -3;
const GATE_LOCK: i64 = 4711;

const FUNCTION: &str = "
    create sequence statements;
    create sequence items;
    create function answer_each(claims text[], args int[]) returns table (item int, seen text, answer int)
    language plpgsql as $$
    begin
        perform nextval('statements');
        for k in 1 .. cardinality(args) loop
            perform nextval('items'), set_config('request.jwt.claims', claims[k], true);
            if args[k] = -2 then raise exception 'poison'; end if;
            if args[k] = -3 then perform pg_advisory_xact_lock(4711); end if;
            if args[k] <> -1 then
                return query select k, current_setting('request.jwt.claims'), args[k];
            end if;
        end loop;
    end $$";

fn answer_each<'c>(
    connection: &'c mut PgConnection,
    claims: &'c [String],
    args: &'c [i32],
) -> BoxFuture<'c, sqlx::Result<Vec<Answer<i32>>>> {
    async move {
        let rows: Vec<(i32, String, i32)> = sqlx::query_as("select * from answer_each($1, $2)")
            .bind(claims)
            .bind(args)
            .fetch_all(connection)
            .await?;
        let answers = rows.into_iter().map(|(item, seen, row)| Answer {
            item,
            owner: Owner::Claims(seen),
            row,
        });
        Ok(answers.collect())
    }
    .boxed()
}

type Numbers = Arc<Gatherer<i32, i32>>;
type Asked = BoxFuture<'static, Result<Option<i32>, String>>;

/// Asks as a user of its own; errors as the caller would read them.
fn ask(gatherer: &Numbers, number: i32) -> Asked {
    let gatherer = gatherer.clone();
    async move {
        let claims = Claims::user(UserId::generate());
        let answered = tokio::time::timeout(PATIENCE, gatherer.call(&claims, number)).await;
        answered
            .expect("it is answered")
            .map_err(|error: Error| error.to_string())
    }
    .boxed()
}

/// A database with the function that the tests gather.
struct Ground {
    pool: PgPool,
    lifecycle: Lifecycle,
}

impl Ground {
    async fn make() -> Self {
        let url = TestCluster::get().await.empty_database().await;
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .test_before_acquire(false)
            .connect(url.expose_secret())
            .await
            .unwrap();
        sqlx::raw_sql(FUNCTION).execute(&pool).await.unwrap();
        Self {
            pool,
            lifecycle: Lifecycle::new(),
        }
    }

    fn gatherer(&self, reads: bool, bounds: Bounds) -> Numbers {
        let kind = Kind {
            name: "numbers",
            reads,
            statement: answer_each,
        };
        Arc::new(Gatherer::new(self.pool.clone(), self.lifecycle.clone(), kind, bounds))
    }

    async fn count(&self, sequence: &'static str) -> i64 {
        let sql = match sequence {
            "items" => "select last_value from items",
            _ => "select last_value from statements",
        };
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    async fn close_gate(&self) -> Gate {
        let mut keeper = self.pool.acquire().await.unwrap().detach();
        sqlx::query("select pg_advisory_lock($1)")
            .bind(GATE_LOCK)
            .execute(&mut keeper)
            .await
            .unwrap();
        Gate(keeper)
    }

    /// Calls that wait in the queue, because the one statement that may be under way stands at the gate.
    async fn behind_the_gate(&self, gatherer: &Numbers, numbers: impl IntoIterator<Item = i32>) -> Vec<Asked> {
        let mut first = ask(gatherer, GATE);
        assert_eq!(first.as_mut().now_or_never(), None);
        self.someone_at_the_gate().await;
        // What is at the gate is not waited for: its lane goes on by itself.
        drop(first);
        let waiting = numbers.into_iter().map(|number| {
            let mut asked = ask(gatherer, number);
            assert_eq!(asked.as_mut().now_or_never(), None);
            asked
        });
        waiting.collect()
    }

    async fn someone_at_the_gate(&self) -> i32 {
        let sql = "select pid from pg_locks where locktype = 'advisory' and not granted
                       and database = (select oid from pg_database where datname = current_database())";
        let wait = async {
            loop {
                if let Some(pid) = sqlx::query_scalar(sql).fetch_optional(&self.pool).await.unwrap() {
                    return pid;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("someone comes to the gate")
    }

    /// Breaks the connection of who stands at the gate, opens it, and tells what he was answered.
    async fn cut_at_the_gate(&self, gate: Gate, mut asked: Asked) -> Result<Option<i32>, String> {
        assert_eq!(asked.as_mut().now_or_never(), None);
        let pid = self.someone_at_the_gate().await;
        sqlx::query("select pg_terminate_backend($1)")
            .bind(pid)
            .execute(&self.pool)
            .await
            .unwrap();
        gate.open().await;
        asked.await
    }
}

/// A lock that is held until it is opened.
struct Gate(PgConnection);

impl Gate {
    async fn open(mut self) {
        sqlx::query("select pg_advisory_unlock($1)")
            .bind(GATE_LOCK)
            .execute(&mut self.0)
            .await
            .unwrap();
    }
}
