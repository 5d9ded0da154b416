//! Everybody who calls in the matrix.

use serde_json::json;
use studios_tests::{
    tenant::{Tenant, id},
    world::World,
};

use super::rules::Who;

/// One of each kind, with his token.
pub(super) struct Callers {
    tokens: Vec<(Who, String)>,
    member: String,
}

impl Callers {
    /// Callers from outside and inside of a tenant's company.
    pub(super) async fn of(world: &World, tenant: &Tenant) -> Self {
        let stranger = Tenant::make(world).await;
        let member = Tenant::user(world).await;
        tenant.add_member(world, &member, "ROLE_MEMBER").await;
        let inactive = Tenant::user(world).await;
        let membership = tenant.add_member(world, &inactive, "ROLE_ADMIN").await;
        let ended = json!({ "id": membership });
        world
            .ok("studios.core.v1.CompanyService/RemoveMembership", ended, &tenant.token)
            .await;
        let narrowed = Tenant::user(world).await;
        tenant.add_member(world, &narrowed, "ROLE_MEMBER").await;
        narrow(world, tenant, &narrowed).await;
        let every = stranger.add_key(world, "Every scope", &["*:*"]).await.1;
        let reading = tenant.add_key(world, "Reads", &["*:read"]).await.1;
        let models = tenant.add_key(world, "Reads models", &["models:read"]).await.1;
        let tokens = vec![
            (Who::OtherTenant, stranger.token.clone()),
            (Who::Forger, forged(&stranger.token)),
            (Who::ServiceForOther, world.service_token(Some(&stranger.user))),
            (Who::ServiceForNobody, world.service_token(None)),
            (Who::Operator, world.operator_token()),
            (Who::Inactive, inactive.token),
            (Who::Narrowed, narrowed.token),
            (Who::OthersKey, every),
            (Who::KeyWithScope, reading),
            (Who::KeyWithoutScope, models),
        ];
        Self {
            tokens,
            member: member.token,
        }
    }

    /// What a caller shows.
    pub(super) fn token(&self, who: Who) -> Option<&str> {
        self.tokens.iter().find(|it| it.0 == who).map(|it| it.1.as_str())
    }

    /// The member's token.
    pub(super) fn members(&self) -> &str {
        &self.member
    }
}

/// Narrows a member to a branch in which nothing is.
async fn narrow(world: &World, tenant: &Tenant, member: &Tenant) {
    let branch = json!({ "branch": { "companyId": tenant.company, "name": "Empty pier", "address": "7 Pier Road, Harbour Town" } });
    let branch = id(&world
        .ok("studios.core.v1.CompanyService/CreateBranch", branch, &tenant.token)
        .await);
    sqlx::query(
        "insert into core.membership_branches (company_id, user_id, branch_id) values ($1::uuid, $2::uuid, $3::uuid)",
    )
    .bind(&tenant.company)
    .bind(&member.user)
    .bind(&branch)
    .execute(&world.admin().await)
    .await
    .unwrap();
}

/// The token with its signature turned round.
fn forged(token: &str) -> String {
    let (rest, signature) = token.rsplit_once('.').expect("a JWT has three parts");
    let turned: String = signature.chars().rev().collect();
    format!("{rest}.{turned}")
}
