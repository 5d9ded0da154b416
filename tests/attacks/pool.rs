//! A pool of one connection, which every tenant's transaction gets in turn: what the one before left behind would be the next
//! one's to see.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;
use secrecy::SecretString;
use service_kit::db::{self, Claims, TenantTx};
use sqlx::PgPool;
use studios_cli::{home::Home, migrate::RolePasswords};
use studios_tests::{cluster::TestCluster, tenant::Tenant, world::World};

/// One connection as core-service signs in.
async fn pool_of_one(world: &World) -> PgPool {
    let home = Home::open(TestCluster::get().await.home()).unwrap();
    let url: SecretString = RolePasswords::derive(&home.keys)
        .url(&world.database_url, "studios_core")
        .unwrap();
    db::connect(&url, 1, "attack").await.unwrap()
}

fn claims(tenant: &Tenant) -> Claims {
    Claims::user(tenant.user.parse().unwrap())
}

/// The claims that the pool's connection holds, and the companies that it sees with none set.
async fn left_behind(pool: &PgPool) -> (String, i64) {
    sqlx::query_as(
        "select coalesce(current_setting('request.jwt.claims', true), ''), (select count(*) from core.companies)",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

async fn companies(pool: &PgPool, tenant: &Tenant) -> Vec<String> {
    let mut tx = TenantTx::begin(pool, "attack.next", &claims(tenant)).await.unwrap();
    sqlx::query_scalar("select id::text from core.companies")
        .fetch_all(&mut *tx)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_call_that_is_cancelled_in_its_transaction_leaves_the_next_tenant_no_claim() {
    let world = World::start().await;
    let (it, other) = (Tenant::with_studio(&world).await, Tenant::with_studio(&world).await);
    let pool = pool_of_one(&world).await;
    for _ in 0..5 {
        let call = async {
            let mut tx = TenantTx::begin(&pool, "attack.cancelled", &claims(&it)).await.unwrap();
            sqlx::query("update core.companies set name = 'Stolen name'")
                .execute(&mut *tx)
                .await
                .unwrap();
            // The connection comes back when the server has ended what nobody waits for.
            sqlx::query("select pg_sleep(0.2)").execute(&mut *tx).await.unwrap();
        };
        assert!(tokio::time::timeout(Duration::from_millis(30), call).await.is_err());
        assert_eq!(left_behind(&pool).await, (String::new(), 0));
        assert_eq!(companies(&pool, &other).await, [other.company.as_str()]);
    }
    let name: String = sqlx::query_scalar("select name from core.companies where id = $1::uuid")
        .bind(&it.company)
        .fetch_one(&world.admin().await)
        .await
        .unwrap();
    assert_ne!(name, "Stolen name");
}

#[tokio::test]
async fn a_panic_in_a_transaction_leaves_the_next_tenant_no_claim() {
    let world = World::start().await;
    let (it, other) = (Tenant::with_studio(&world).await, Tenant::with_studio(&world).await);
    let pool = pool_of_one(&world).await;
    for _ in 0..5 {
        let call = async {
            let mut tx = TenantTx::begin(&pool, "attack.panicked", &claims(&it)).await.unwrap();
            let own: i64 = sqlx::query_scalar("select count(*) from core.companies")
                .fetch_one(&mut *tx)
                .await
                .unwrap();
            assert_ne!(own, 1, "the panic that this test is about");
        };
        assert!(AssertUnwindSafe(call).catch_unwind().await.is_err());
        assert_eq!(left_behind(&pool).await, (String::new(), 0));
        assert_eq!(companies(&pool, &other).await, [other.company.as_str()]);
    }
}

#[tokio::test]
async fn a_statement_that_fails_in_a_transaction_leaves_the_next_tenant_no_claim() {
    let world = World::start().await;
    let (it, other) = (Tenant::with_studio(&world).await, Tenant::with_studio(&world).await);
    let pool = pool_of_one(&world).await;
    {
        let mut tx = TenantTx::begin(&pool, "attack.failed", &claims(&it)).await.unwrap();
        // Whoever got a statement in could make claims of his own, for the transaction's length.
        let all = sqlx::query("update core.studios set company_id = id")
            .execute(&mut *tx)
            .await;
        assert!(all.unwrap_err().to_string().contains("permission denied"));
    }
    assert_eq!(left_behind(&pool).await, (String::new(), 0));
    assert_eq!(companies(&pool, &other).await, [other.company.as_str()]);
}
