//! The schema's migrations and what holds for every table they make.

use std::time::Duration;

use secrecy::ExposeSecret;
use sqlx::{Connection, PgConnection};
use studios_cli::{
    home::Home,
    migrate::{self, Mode, RolePasswords},
};
use studios_tests::cluster::TestCluster;

#[tokio::test]
async fn runs_at_once_make_the_schema_once_and_within_thirty_seconds() {
    let cluster = TestCluster::get().await;
    let url = cluster.empty_database().await;
    let passwords = RolePasswords::derive(&Home::open(cluster.home()).unwrap().keys);
    let plan = migrate::run(&url, &passwords, Mode::Plan).await.unwrap();
    assert!(plan.applied.len() > 10);
    let runs = tokio::join!(
        migrate::run(&url, &passwords, Mode::Apply),
        migrate::run(&url, &passwords, Mode::Apply),
        migrate::run(&url, &passwords, Mode::Apply),
    );
    assert!(plan.took < Duration::from_secs(30), "{:?}", plan.took);
    let mut applied = [runs.0.unwrap(), runs.1.unwrap(), runs.2.unwrap()].map(|report| report.applied.len());
    applied.sort_unstable();
    assert_eq!(applied, [0, 0, plan.applied.len()]);
}

#[tokio::test]
async fn a_migration_that_was_changed_after_it_landed_is_drift_and_nothing_is_done() {
    let cluster = TestCluster::get().await;
    let url = cluster.database().await;
    let passwords = RolePasswords::derive(&Home::open(cluster.home()).unwrap().keys);
    let mut admin = PgConnection::connect(url.expose_secret()).await.unwrap();
    sqlx::raw_sql("update core.applied_migrations set checksum = 'x' where version = 2")
        .execute(&mut admin)
        .await
        .unwrap();
    let error = migrate::run(&url, &passwords, Mode::Apply).await.unwrap_err();
    assert!(
        error.to_string().contains("drift") && error.to_string().contains('2'),
        "{error}"
    );
}

#[tokio::test]
async fn every_table_has_created_at_and_every_mutable_one_a_touch_trigger() {
    let cluster = TestCluster::get().await;
    let mut admin = PgConnection::connect(cluster.database().await.expose_secret())
        .await
        .unwrap();
    let tables = "pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname in ('core', 'execution') and c.relkind in ('r', 'p') and not c.relispartition";
    let faults = [
        format!(
            "select c.oid::regclass::text || ' has no created_at' from {tables}
            and not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'created_at')"
        ),
        format!(
            "select c.oid::regclass::text || ' has no trigger for updated_at' from {tables}
            and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'updated_at')
            and not exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgname = 'touch')"
        ),
    ];
    let mut found: Vec<String> = Vec::new();
    for sql in faults {
        found.extend(
            sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(sql))
                .fetch_all(&mut admin)
                .await
                .unwrap(),
        );
    }
    assert_eq!(found, Vec::<String>::new());
}
