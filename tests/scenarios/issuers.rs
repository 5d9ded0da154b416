//! Users who bring tokens of other issuers.

use std::sync::{Arc, Mutex};

use axum::{Router, extract::State, routing::get};
use futures::future::join_all;
use serde_json::{Value, json};
use service_kit::{
    clock::{Clock, SystemClock},
    keys::SigningKey,
};
use studios_tests::{deployment::Deployment, refusal::assert_reason, tenant::Tenant, world::World};
use tokio::net::TcpListener;
use tonic::Code;
use uuid::Uuid;

const PROFILE: &str = "studios.core.v1.UserService/GetProfile";
const WORKFLOWS: &str = "studios.execution.v1.WorkflowService/ListWorkflows";
const ACME: &str = "https://login.acme.example";

/// An issuer with a key set at an address.
struct Issuer {
    key: SigningKey,
    jwks: Arc<Mutex<String>>,
    url: String,
}

impl Issuer {
    async fn start() -> Self {
        let key = SigningKey::generate();
        let jwks = Arc::new(Mutex::new(json!({ "keys": [key.public_jwk()] }).to_string()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let shown = |State(jwks): State<Arc<Mutex<String>>>| async move { jwks.lock().unwrap().clone() };
        let router = Router::new().route("/keys", get(shown)).with_state(jwks.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { key, jwks, url }
    }

    /// Two issuers have this key set: one is the installation's Supabase.
    async fn deployment(&self) -> Deployment {
        let shared = [
            ("STUDIOS_ISSUERS_ACME_ISSUER", ACME.to_owned()),
            ("STUDIOS_ISSUERS_ACME_AUDIENCE", "studios".to_owned()),
            ("STUDIOS_ISSUERS_ACME_JWKS_URL", self.url.clone()),
            ("STUDIOS_ISSUERS_BASE_ISSUER", "https://base.example/auth/v1".to_owned()),
            ("STUDIOS_ISSUERS_BASE_JWKS_URL", self.url.clone()),
            ("STUDIOS_ISSUERS_BASE_SUPABASE", "true".to_owned()),
        ];
        Deployment::start(&shared, &[]).await
    }

    fn token(&self, changes: &Value) -> String {
        let now = SystemClock.now().unix_timestamp();
        let mut claims = json!({ "iss": ACME, "sub": "ada", "aud": "studios", "iat": now, "exp": now + 300, "name": "Ada Lovelace",
            "email": "ada@acme.example", "role": "authenticated" });
        claims
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        self.key.sign(&claims)
    }
}

async fn users(world: &World) -> i64 {
    sqlx::query_scalar("select count(*) from core.users")
        .fetch_one(&world.admin().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn the_first_token_of_another_issuer_makes_one_profile_however_many_come_at_once() {
    let issuer = Issuer::start().await;
    let deployment = issuer.deployment().await;
    let world = deployment.world().await;
    let tokens: Vec<_> = (0..8)
        .map(|number| issuer.token(&json!({ "number": number })))
        .collect();
    let first = join_all(tokens.iter().map(|token| world.ok(PROFILE, json!({}), token))).await;
    assert!(first.iter().all(|it| it["id"] == first[0]["id"]));
    assert_eq!(first[0]["fullName"], json!("Ada Lovelace"));
    assert_eq!(users(&world).await, 1);

    let base =
        json!({ "iss": "https://base.example/auth/v1", "aud": "authenticated", "sub": Uuid::new_v4().to_string() });
    let theirs: Vec<_> = (0..8)
        .map(|number| {
            let mut changes = base.clone();
            changes["number"] = json!(number);
            issuer.token(&changes)
        })
        .collect();
    let same = join_all(theirs.iter().map(|token| world.ok(PROFILE, json!({}), token))).await;
    assert!(
        same.iter().all(|it| it["id"] == base["sub"]),
        "of Supabase the ids are ours"
    );
    assert_eq!(users(&world).await, 2);
    let mut nobody = base.clone();
    nobody["sub"] = json!("no uuid");
    let status = world.refused(PROFILE, json!({}), &issuer.token(&nobody)).await;
    assert_reason(&status, Code::Unauthenticated, "TOKEN_INVALID");
}

#[tokio::test]
async fn an_e_mail_address_makes_nobody_of_another_issuer_a_user_of_ours() {
    let issuer = Issuer::start().await;
    let deployment = issuer.deployment().await;
    let world = deployment.world().await;
    let ours = Tenant::with_studio(&world).await;
    sqlx::query("update core.users set email_verified = true where id = $1::uuid")
        .bind(&ours.user)
        .execute(&world.admin().await)
        .await
        .unwrap();
    for verified in [true, false] {
        let changes = json!({ "sub": format!("mallory {verified}"), "email": ours.email, "email_verified": verified });
        let token = issuer.token(&changes);
        let profile = world.ok(PROFILE, json!({}), &token).await;
        assert_ne!(profile["id"], json!(ours.user));
        let studio = json!({ "id": ours.studio });
        let status = world
            .refused("studios.core.v1.StudioService/GetStudio", studio, &token)
            .await;
        assert_eq!(status.code(), Code::NotFound);
    }
}

#[tokio::test]
async fn a_user_of_another_issuer_works_with_both_services() {
    let issuer = Issuer::start().await;
    let deployment = issuer.deployment().await;
    let world = deployment.world().await;
    let admin = Tenant::with_studio(&world).await;
    // His first call ever comes to execution-service.
    let token = issuer.token(&json!({ "sub": "grace", "name": "Grace Hopper" }));
    let list = json!({ "studioId": admin.studio });
    let status = world.refused(WORKFLOWS, list.clone(), &token).await;
    assert_eq!(status.code(), Code::NotFound);
    let profile = world.ok(PROFILE, json!({}), &token).await;
    assert_eq!(profile["fullName"], json!("Grace Hopper"));
    let mut grace = Tenant::user(&world).await;
    grace.token.clone_from(&token);
    grace.user = profile["id"].as_str().unwrap().to_owned();
    admin.add_member(&world, &grace, "ROLE_MEMBER").await;
    world.ok(WORKFLOWS, list, &token).await;
    let status = world
        .refused(
            "studios.core.v1.AccountService/ChangePassword",
            json!({ "currentPassword": "x", "newPassword": "a long enough password" }),
            &token,
        )
        .await;
    assert_reason(&status, Code::FailedPrecondition, "NO_PASSWORD");
}

#[tokio::test]
async fn a_key_that_its_issuer_takes_out_is_replaced_by_the_next() {
    let mut issuer = Issuer::start().await;
    let deployment = issuer.deployment().await;
    let world = deployment.world().await;
    world.ok(PROFILE, json!({}), &issuer.token(&json!({}))).await;
    issuer.key = SigningKey::generate();
    *issuer.jwks.lock().unwrap() = json!({ "keys": [issuer.key.public_jwk()] }).to_string();
    // An unknown key is asked for at most every five seconds.
    let taken = async {
        while world
            .call(PROFILE, json!({}), Some(&issuer.token(&json!({}))))
            .await
            .is_err()
        {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(studios_tests::world::PATIENCE, taken)
        .await
        .unwrap();
    for wrong in [
        json!({ "iss": "studios" }),
        json!({ "aud": "another" }),
        json!({ "iss": "https://nobody.example" }),
    ] {
        let status = world.refused(PROFILE, json!({}), &issuer.token(&wrong)).await;
        assert_reason(&status, Code::Unauthenticated, "TOKEN_INVALID");
    }
}
