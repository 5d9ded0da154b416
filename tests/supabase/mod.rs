//! supabase-js itself, which signs in against us.

use std::{path::Path, process::Stdio};

use serde_json::{Value, json};
use studios_tests::{
    mail::mail,
    refusal::assert_reason,
    tenant::PASSWORD,
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
