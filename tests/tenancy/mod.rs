//! The tenancy matrix: every RPC of the contracts with a real resource of a tenant's, called as that tenant's admin, as everybody
//! who must not get in, and as everybody who gets in a part of the way.
//!
//! The RPCs come from the descriptor set: one without a row fails the test. What a caller must get follows in `rules` from what
//! an RPC is. After every call that must not reach the tenant, its rows, read as the administrator, are what they were.

mod callers;
mod catalogue;
mod rules;

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, PgPool, Row as _};
use studios_tests::{
    call,
    rows::{Door, ROWS},
    tenant::Tenant,
    world::World,
};
use tonic::Code;

use self::{
    callers::Callers,
    rules::{Rpc, Who},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_rpc_lets_a_caller_reach_another_tenants_rows() {
    every_rpc_has_a_row();
    let world = World::start().await;
    let victim = Tenant::make(&world).await;
    let admin = world.admin().await;
    let mut wrong = Vec::new();

    let callers = Callers::of(&world, &victim).await;
    let before = everything_of(&admin, &victim).await;
    for row in ROWS {
        let body = (row.body)(&victim);
        let rpc = Rpc::of(row, &body, &victim);
        for who in Who::OUTSIDE {
            let Some(expected) = rpc.expected(who) else { continue };
            let got = world.call(row.method, body.clone(), callers.token(who)).await;
            if !expected.is_met_by(&got, &victim) {
                wrong.push(format!("{} as {who:?}: expected {expected:?}, got {got:?}", row.method));
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

    // What these may do is done, and so changes something: when a key was used last, for one.
    for row in ROWS {
        let body = (row.body)(&victim);
        let rpc = Rpc::of(row, &body, &victim);
        for who in Who::INSIDE {
            let Some(expected) = rpc.expected(who) else { continue };
            let got = world.call(row.method, body.clone(), callers.token(who)).await;
            if !expected.is_met_by(&got, &victim) {
                wrong.push(format!("{} as {who:?}: expected {expected:?}, got {got:?}", row.method));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_does_what_members_do_and_nothing_of_what_admins_do() {
    let world = World::start().await;
    let it = Tenant::make(&world).await;
    let callers = Callers::of(&world, &it).await;
    let member = callers.members();
    let mut wrong = Vec::new();
    for row in ROWS.iter().filter(|row| matches!(row.door, Door::Member)) {
        let body = (row.body)(&it);
        let expected = Rpc::of(row, &body, &it).of_a_member();
        let got = world.call(row.method, body, Some(member)).await;
        if !expected.is_met_by(&got, &it) {
            wrong.push(format!(
                "{} as a member: expected {expected:?}, got {got:?}",
                row.method
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
