//! What a member reaches, as the table that policies look it up in has it: it follows what it is derived from, at once.

use std::time::Duration;

use serde_json::json;
use sqlx::{Executor, PgPool};
use studios_tests::{
    tenant::{Tenant, id},
    world::World,
};
use tonic::Code;
use uuid::Uuid;

/// A company with an admin, a member, and two branches.
struct Narrowing {
    world: World,
    admin: PgPool,
    it: Tenant,
    member: Tenant,
    membership: String,
    other_branch: String,
}

impl Narrowing {
    async fn new() -> Self {
        let world = World::start().await;
        let (it, member) = (Tenant::with_studio(&world).await, Tenant::user(&world).await);
        let membership = it.add_member(&world, &member, "ROLE_MEMBER").await;
        let branch = json!({ "branch": { "companyId": it.company, "name": "South pier", "address": "3 Pier Road, Harbour Town" } });
        let branch = world
            .ok("studios.core.v1.CompanyService/CreateBranch", branch, &it.token)
            .await;
        Self {
            admin: world.admin().await,
            membership,
            other_branch: id(&branch),
            it,
            member,
            world,
        }
    }

    fn narrow_to(&self, branch: &str) -> String {
        format!(
            "insert into core.membership_branches (company_id, user_id, branch_id) values ('{}', '{}', '{branch}')",
            self.it.company, self.member.user
        )
    }

    async fn run(&self, sql: &str) {
        self.admin.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.unwrap();
    }

    /// What the table says that the member reaches, sorted.
    async fn reached(&self) -> Vec<String> {
        let reached: Vec<Uuid> =
            sqlx::query_scalar("select reached from core.reach where user_id = $1::uuid order by 1")
                .bind(&self.member.user)
                .fetch_all(&self.admin)
                .await
                .unwrap();
        reached.iter().map(ToString::to_string).collect()
    }

    /// Whether one transaction waits for another one's lock.
    async fn somebody_waits(&self) -> bool {
        let waits = "select exists (select from pg_stat_activity
                     where datname = current_database() and wait_event_type = 'Lock')";
        sqlx::query_scalar(waits).fetch_one(&self.admin).await.unwrap()
    }

    /// Whether the member can read the company's studio.
    async fn sees_studio(&self) -> bool {
        let get = "studios.core.v1.StudioService/GetStudio";
        let found = self
            .world
            .call(get, json!({ "id": self.it.studio }), Some(&self.member.token))
            .await;
        match found {
            Ok(_) => true,
            Err(status) => {
                assert_eq!(status.code(), Code::NotFound);
                false
            }
        }
    }
}

#[tokio::test]
async fn a_member_reaches_what_his_membership_and_its_branches_say_and_nothing_once_it_is_over() {
    let n = Narrowing::new().await;
    let (it, member) = (&n.it, &n.member);
    assert_eq!(n.reached().await, std::slice::from_ref(&it.company));
    assert!(n.sees_studio().await);

    n.run(&format!(
        "update core.studios set branch_id = '{}' where id = '{}'",
        it.branch, it.studio
    ))
    .await;
    n.run(&n.narrow_to(&n.other_branch)).await;
    assert_eq!(n.reached().await, std::slice::from_ref(&n.other_branch));
    assert!(!n.sees_studio().await);

    n.run(&n.narrow_to(&it.branch)).await;
    let mut both = [it.branch.clone(), n.other_branch.clone()];
    both.sort();
    assert_eq!(n.reached().await, both);
    assert!(n.sees_studio().await);

    let set_state = |state: &str| {
        format!(
            "update core.memberships set state = '{state}' where id = '{}'",
            n.membership
        )
    };
    n.run(&set_state("inactive")).await;
    assert!(n.reached().await.is_empty() && !n.sees_studio().await);
    n.run(&set_state("approved")).await;
    assert_eq!(n.reached().await, both);

    n.run(&format!(
        "delete from core.membership_branches where user_id = '{}'",
        member.user
    ))
    .await;
    assert_eq!(n.reached().await, std::slice::from_ref(&it.company));
    n.run(&n.narrow_to(&it.branch)).await;
    n.run(&format!("delete from core.memberships where id = '{}'", n.membership))
        .await;
    assert!(n.reached().await.is_empty() && !n.sees_studio().await);
}

#[tokio::test]
async fn of_two_who_narrow_a_member_at_once_neither_is_lost() {
    let n = Narrowing::new().await;
    let mut first = n.admin.begin().await.unwrap();
    first
        .execute(sqlx::AssertSqlSafe(n.narrow_to(&n.it.branch)))
        .await
        .unwrap();
    let second = n.narrow_to(&n.other_branch);
    futures::join!(n.run(&second), async {
        while !n.somebody_waits().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        first.commit().await.unwrap();
    });
    let mut both = [n.it.branch.clone(), n.other_branch.clone()];
    both.sort();
    assert_eq!(n.reached().await, both);
}

#[tokio::test]
async fn nobody_reads_what_another_user_reaches() {
    let n = Narrowing::new().await;
    let mut tx = n.admin.begin().await.unwrap();
    tx.execute("set local role studios_core").await.unwrap();
    sqlx::query("select set_config('request.jwt.claims', $1, true)")
        .bind(json!({ "sub": n.member.user }).to_string())
        .execute(&mut *tx)
        .await
        .unwrap();
    let users: Vec<Uuid> = sqlx::query_scalar("select distinct user_id from core.reach")
        .fetch_all(&mut *tx)
        .await
        .unwrap();
    assert_eq!(
        users.iter().map(ToString::to_string).collect::<Vec<_>>(),
        std::slice::from_ref(&n.member.user)
    );
    let refused = tx
        .execute("insert into core.reach select user_id, gen_random_uuid(), company_id from core.reach")
        .await;
    assert!(refused.is_err(), "only the triggers write it");
}
