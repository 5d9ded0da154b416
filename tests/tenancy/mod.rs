//! The tenancy matrix: every RPC of the contracts, called with its own tenant's token, with another tenant's token and a real
//! resource of the first, without a token, with a user's token where a service's is asked for, and with a service token.
//!
//! The RPCs come from the descriptor set: one without a row here fails the test. After every foreign call the first tenant's
//! rows, read as the administrator, are what they were.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool, Row as _};
use studios_tests::{
    call,
    rows::{Door, ROWS, Reach, Row},
    tenant::Tenant,
    world::World,
};
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_rpc_lets_a_caller_reach_another_tenants_rows() {
    every_rpc_has_a_row();
    let world = World::start().await;
    let victim = Tenant::make(&world).await;
    let stranger = Tenant::make(&world).await;
    let admin = world.admin().await;
    let before = everything_of(&admin, &victim).await;
    let mut wrong = Vec::new();

    for row in ROWS {
        let body = (row.body)(&victim);
        for (who, token, expected) in refusals(row, &world, &stranger) {
            let got = world.call(row.method, body.clone(), token.as_deref()).await;
            let fits = match (&got, expected) {
                (Err(status), Expected::Refused(code)) => status.code() == code,
                (Ok(answer), Expected::NothingOf) => !mentions(answer, &victim),
                (Err(_), Expected::NothingOf) => true,
                (Ok(_), Expected::Refused(_)) => false,
            };
            if !fits {
                wrong.push(format!("{} as {who}: expected {expected:?}, got {got:?}", row.method));
            }
        }
        let after = everything_of(&admin, &victim).await;
        for (table, rows) in &before {
            if after.iter().any(|(name, now)| name == table && now != rows) {
                wrong.push(format!("{}: a foreign call changed {table}", row.method));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    for row in ROWS {
        let token = match row.door {
            Door::Public | Door::Gateway => None,
            Door::Member => Some(victim.token.clone()),
            Door::Service => Some(world.service_token(Some(&victim.user))),
            Door::ServiceAlone => Some(world.service_token(None)),
            Door::Operator => Some(world.operator_token()),
        };
        let got = world.call(row.method, (row.body)(&victim), token.as_deref()).await;
        if got.as_ref().map_or_else(tonic::Status::code, |_| Code::Ok) != row.answer {
            wrong.push(format!(
                "{} as its own tenant: expected {:?}, got {got:?}",
                row.method, row.answer
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn every_rpc_has_a_row() {
    let served: BTreeSet<String> = call::methods().into_iter().collect();
    let rows: BTreeSet<String> = ROWS.iter().map(|row| row.method.to_owned()).collect();
    assert_eq!(rows.len(), ROWS.len(), "an RPC has two rows");
    assert_eq!(
        served.difference(&rows).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "RPCs without a row"
    );
    assert_eq!(
        rows.difference(&served).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "rows without an RPC"
    );
}

#[derive(Debug, Clone, Copy)]
enum Expected {
    /// An error with this code.
    Refused(Code),
    /// Any answer that holds nothing of the first tenant's.
    NothingOf,
}

/// Every caller that must not get in, with what he must get instead.
fn refusals(row: &Row, world: &World, stranger: &Tenant) -> Vec<(&'static str, Option<String>, Expected)> {
    let foreign = match row.reach {
        Reach::Resource => Expected::Refused(Code::NotFound),
        Reach::Caller => Expected::NothingOf,
    };
    let unauthenticated = Expected::Refused(Code::Unauthenticated);
    let as_stranger = world.service_token(Some(&stranger.user));
    match row.door {
        Door::Public | Door::Gateway => Vec::new(),
        Door::Member => vec![
            ("another tenant", Some(stranger.token.clone()), foreign),
            ("nobody", None, unauthenticated),
            ("a forger", Some(forged(&stranger.token)), unauthenticated),
            ("a service acting for another tenant", Some(as_stranger), foreign),
            (
                "a service acting for nobody",
                Some(world.service_token(None)),
                unauthenticated,
            ),
        ],
        Door::Service => vec![
            ("a service acting for another tenant", Some(as_stranger), foreign),
            (
                "a service acting for nobody",
                Some(world.service_token(None)),
                unauthenticated,
            ),
            (
                "its own user without a service",
                Some(stranger.token.clone()),
                unauthenticated,
            ),
            ("nobody", None, unauthenticated),
        ],
        Door::Operator => vec![
            ("a user", Some(stranger.token.clone()), unauthenticated),
            ("a service acting for a user", Some(as_stranger), unauthenticated),
            (
                "a service acting for nobody",
                Some(world.service_token(None)),
                unauthenticated,
            ),
            ("nobody", None, unauthenticated),
        ],
        Door::ServiceAlone => vec![
            ("a service acting for a user", Some(as_stranger), unauthenticated),
            (
                "a user without a service",
                Some(stranger.token.clone()),
                unauthenticated,
            ),
            ("nobody", None, unauthenticated),
        ],
    }
}

/// The token with its last signature character changed.
fn forged(token: &str) -> String {
    let (rest, signature) = token.rsplit_once('.').expect("a JWT has three parts");
    let turned: String = signature.chars().rev().collect();
    format!("{rest}.{turned}")
}

fn mentions(answer: &Value, tenant: &Tenant) -> bool {
    let text = answer.to_string();
    [
        &tenant.user,
        &tenant.company,
        &tenant.branch,
        &tenant.studio,
        &tenant.document,
        &tenant.file,
        &tenant.workflow,
        &tenant.execution,
        &tenant.snapshot,
        &tenant.template,
    ]
    .into_iter()
    .any(|id| text.contains(id.as_str()))
}

/// Each tenant table with a digest of the tenant's rows in it.
async fn everything_of(admin: &PgPool, tenant: &Tenant) -> Vec<(String, String)> {
    let tables = sqlx::query(
        "select c.table_schema || '.' || c.table_name as name, min(c.column_name) as key
         from information_schema.columns c join information_schema.tables t using (table_schema, table_name)
         where c.table_schema in ('core', 'execution') and t.table_type = 'BASE TABLE'
           and (c.column_name = 'company_id' or (c.table_schema, c.table_name, c.column_name) = ('core', 'companies', 'id'))
         group by 1 order by 1",
    )
    .fetch_all(admin)
    .await
    .expect("the catalogue can be read");
    assert!(tables.len() > 10, "the catalogue lists the tenant tables");
    let mut all = Vec::new();
    for table in tables {
        let (name, key): (String, String) = (table.get("name"), table.get("key"));
        let sql = format!(
            "select md5(coalesce(string_agg(t::text, '|' order by t::text), '')) from {name} t where {key} = $1::uuid"
        );
        let digest: String = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(&tenant.company)
            .fetch_one(admin)
            .await
            .expect("the table can be read");
        all.push((name, digest));
    }
    let profile: String = sqlx::query_scalar("select md5(u::text) from core.users u where id = $1::uuid")
        .bind(&tenant.user)
        .fetch_one(admin)
        .await
        .expect("the user is there");
    all.push(("core.users".into(), profile));
    all
}
