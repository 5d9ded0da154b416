//! supabase-js itself, which signs in against us.

use std::{path::Path, process::Stdio};

use serde_json::{Value, json};
use studios_tests::{
    mail::mail,
    refusal::assert_reason,
    tenant::{PASSWORD, Tenant},
    world::{PATIENCE, World},
};
use tokio::process::Command;
use tonic::Code;
use uuid::Uuid;

#[tokio::test]
async fn supabase_js_signs_up_in_and_out_against_us() {
    let world = World::start().await;
    let email = format!("{}@example.com", Uuid::now_v7().simple());
    let seen = run(&world, &email).await;
    let code = |step: &str| seen[step]["code"].clone();
    assert_eq!(seen["signUp"]["error"], Value::Null, "{seen:#}");
    assert_eq!(seen["signUp"]["session"], json!(true));
    assert_eq!(
        seen["signUp"]["user"]["user_metadata"]["full_name"],
        json!("Ada Lovelace")
    );
    assert_eq!(code("twice"), "user_already_exists", "{seen:#}");
    assert_eq!(code("weak"), "weak_password", "{seen:#}");
    assert_eq!(code("wrong"), "invalid_credentials", "{seen:#}");
    assert_eq!(seen["signIn"]["error"], Value::Null, "{seen:#}");
    assert_eq!(seen["signIn"]["expiresIn"], json!(600));
    assert_eq!(seen["refresh"], json!({ "error": null, "isNew": true }), "{seen:#}");
    assert_eq!(seen["user"]["email"], json!(email), "{seen:#}");
    assert_eq!(seen["claims"]["sub"], seen["user"]["id"], "{seen:#}");
    assert_eq!(seen["claims"]["alg"], "ES256", "verified with our key set");
    assert_eq!(
        seen["update"]["metadata"],
        json!({ "full_name": "Ada Lovelace", "city": "London" }),
        "{seen:#}"
    );
    assert_eq!(code("unsure"), "current_password_required", "{seen:#}");
    assert_eq!(seen["signOut"], Value::Null, "{seen:#}");
    assert_eq!(seen["gone"]["name"], "AuthSessionMissingError", "{seen:#}");
    assert_eq!(seen["other"], Value::Null, "the other session goes on: {seen:#}");
    assert_eq!(seen["late"]["name"], "AuthSessionMissingError", "{seen:#}");
    assert_eq!(seen["recover"], Value::Null, "{seen:#}");
    mail(&world, &email, "Set a new password").await;

    // The token opens the rest of the product too, until its session ended.
    let token = seen["signIn"]["token"].as_str().unwrap();
    let status = world
        .refused("studios.core.v1.UserService/GetProfile", json!({}), token)
        .await;
    assert_reason(&status, Code::Unauthenticated, "SESSION_ENDED");
}

#[tokio::test]
async fn the_supabase_paths_answer_in_both_shapes_and_keep_our_rules() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let client = reqwest::Client::new();
    let post = async |path: &str, body: String, dated: bool| {
        let mut request = client
            .post(world.url(path))
            .header("content-type", "application/json")
            .body(body);
        if dated {
            request = request.header("x-supabase-api-version", "2024-01-01");
        }
        let answer = request.send().await.unwrap();
        let version = answer.headers().contains_key("x-supabase-api-version");
        (answer.status().as_u16(), version, answer.json::<Value>().await.unwrap())
    };
    let token = "auth/v1/token?grant_type=password";
    let wrong = json!({ "email": user.email, "password": "not the password" }).to_string();
    let message = "Invalid login credentials";
    let (status, version, body) = post(token, wrong.clone(), false).await;
    assert_eq!((status, version), (400, false));
    assert_eq!(
        body,
        json!({ "code": 400, "error_code": "invalid_credentials", "msg": message })
    );
    let (status, version, body) = post(token, wrong, true).await;
    assert_eq!((status, version), (400, true));
    assert_eq!(body, json!({ "code": "invalid_credentials", "message": message }));
    for (path, body, status, code) in [
        (
            "auth/v1/token?grant_type=magic",
            "{}".to_owned(),
            400,
            "validation_failed",
        ),
        ("auth/v1/token", "[1]".to_owned(), 400, "bad_json"),
        ("auth/v1/signup", "x".repeat(70_000), 400, "bad_json"),
        (
            "auth/v1/signup",
            json!({ "email": "none", "password": PASSWORD }).to_string(),
            400,
            "email_address_invalid",
        ),
        ("auth/v1/nothing", "{}".to_owned(), 404, "not_found"),
        ("auth/v1/logout", "{}".to_owned(), 401, "no_authorization"),
    ] {
        let (got, _, answer) = post(path, body, false).await;
        assert_eq!((got, &answer["error_code"]), (status, &json!(code)), "{path}: {answer}");
    }
    let (status, _, body) = post(
        "auth/v1/recover",
        json!({ "email": "nobody@example.com" }).to_string(),
        false,
    )
    .await;
    assert_eq!((status, body), (200, json!({})));

    let change = json!({ "password": "another long password", "current_password": PASSWORD });
    let changed = client
        .put(world.url("auth/v1/user"))
        .bearer_auth(&user.token)
        .json(&change)
        .send()
        .await
        .unwrap();
    assert_eq!(changed.status(), 200);
    let with = |password: &str| json!({ "email": user.email, "password": password }).to_string();
    assert_eq!(post(token, with(PASSWORD), false).await.0, 400);
    let (status, _, session) = post(token, with("another long password"), false).await;
    assert_eq!(
        (status, &session["token_type"], &session["user"]["id"]),
        (200, &json!("bearer"), &json!(user.user))
    );
    for path in ["auth/v1/.well-known/jwks.json", ".well-known/jwks.json"] {
        let keys: Value = client.get(world.url(path)).send().await.unwrap().json().await.unwrap();
        assert_eq!(keys["keys"][0]["alg"], "ES256", "{path}");
    }
}

async fn run(world: &World, email: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("supabase");
    assert!(
        folder.join("node_modules").is_dir(),
        "`scripts/setup.sh --tests` installs what it imports"
    );
    let ran = Command::new("node")
        .args(["session.mjs", world.url("").trim_end_matches('/'), email, PASSWORD])
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ran = tokio::time::timeout(PATIENCE, ran)
        .await
        .expect("it ends")
        .expect("node is there");
    let text = String::from_utf8_lossy(&ran.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_default())
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&ran.stderr)))
}
