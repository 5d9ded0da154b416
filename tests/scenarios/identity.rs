//! Sign-up, sessions and profiles.

use futures::future::join_all;
use serde_json::json;
use studios_tests::{
    refusal::{assert_reason, fields},
    tenant::{PASSWORD, Tenant},
    world::World,
};
use tonic::{Code, Status};

const AUTH: &str = "studios.core.v1.AuthService";
const USERS: &str = "studios.core.v1.UserService";

#[tokio::test]
async fn a_user_registers_signs_in_refreshes_and_signs_out() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let sign_in = json!({ "email": user.email.to_uppercase(), "password": PASSWORD });
    let session = world.call(&format!("{AUTH}/SignIn"), sign_in, None).await.unwrap();
    let profile = world
        .ok(
            &format!("{USERS}/GetProfile"),
            json!({}),
            session["accessToken"].as_str().unwrap(),
        )
        .await;
    assert_eq!(
        (&profile["email"], &profile["id"]),
        (&json!(user.email), &json!(user.user))
    );
    assert_eq!(
        (&profile["maxSnapshots"], &profile["plan"]),
        (&json!(50), &json!("free"))
    );
    assert!(!profile["lastSignInTime"].is_null());

    let refresh = json!({ "refreshToken": session["refreshToken"] });
    let renewed = world.call(&format!("{AUTH}/Refresh"), refresh, None).await.unwrap();
    assert_ne!(renewed["refreshToken"], session["refreshToken"]);
    world
        .ok(
            &format!("{USERS}/GetProfile"),
            json!({}),
            renewed["accessToken"].as_str().unwrap(),
        )
        .await;

    let end = json!({ "refreshToken": renewed["refreshToken"] });
    world.call(&format!("{AUTH}/SignOut"), end.clone(), None).await.unwrap();
    world
        .call(&format!("{AUTH}/SignOut"), end.clone(), None)
        .await
        .expect("ending an ended session succeeds");
    let late = world.call(&format!("{AUTH}/Refresh"), end, None).await.unwrap_err();
    assert_eq!(late.code(), Code::Unauthenticated);
}

/// Refreshes, and returns the next refresh token or why there is none.
async fn refresh(world: &World, token: &str) -> Result<String, Status> {
    let body = json!({ "refreshToken": token });
    let session = world.call(&format!("{AUTH}/Refresh"), body, None).await?;
    Ok(session["refreshToken"].as_str().unwrap().to_owned())
}

/// Lets as much time pass for the refresh tokens of a user as makes two tabs implausible.
async fn age_spent_tokens(world: &World, user: &Tenant) {
    sqlx::query("update core.refresh_tokens set spent_at = spent_at - interval '1 minute' where user_id = $1::uuid")
        .bind(&user.user)
        .execute(&world.admin().await)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_client_that_lost_the_answer_to_a_refresh_gets_the_same_token_again() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let second = refresh(&world, &user.refresh_token).await.unwrap();
    age_spent_tokens(&world, &user).await;
    assert_eq!(refresh(&world, &user.refresh_token).await.unwrap(), second);
    let third = refresh(&world, &second).await.unwrap();
    assert_ne!(third, second);
    assert_eq!(
        refresh(&world, &user.refresh_token).await.unwrap_err().code(),
        Code::Unauthenticated,
        "two behind, long after its use"
    );
}

#[tokio::test]
async fn tabs_that_refresh_at_the_same_time_all_stay_signed_in() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let tabs = (0..8).map(|_| refresh(&world, &user.refresh_token));
    let tokens: Vec<_> = join_all(tabs).await.into_iter().map(Result::unwrap).collect();
    assert!(tokens.iter().all(|it| *it == tokens[0]), "one successor for all");
    let newest = refresh(&world, &tokens[0]).await.unwrap();
    assert_eq!(refresh(&world, &user.refresh_token).await.unwrap(), newest);
}

#[tokio::test]
async fn an_old_refresh_token_ends_its_session_for_all_who_have_it() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let second = refresh(&world, &user.refresh_token).await.unwrap();
    let third = refresh(&world, &second).await.unwrap();
    age_spent_tokens(&world, &user).await;
    let stolen = refresh(&world, &user.refresh_token).await.unwrap_err();
    assert_reason(&stolen, Code::Unauthenticated, "REFRESH_TOKEN_REUSED");
    for token in [&user.refresh_token, &second, &third] {
        let status = refresh(&world, token).await.unwrap_err();
        assert_reason(&status, Code::Unauthenticated, "SESSION_ENDED");
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_email_answer_alike() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let mut answers = Vec::new();
    for email in [user.email.as_str(), "nobody@example.com"] {
        let body = json!({ "email": email, "password": "a wrong password" });
        let status = world.call(&format!("{AUTH}/SignIn"), body, None).await.unwrap_err();
        assert_reason(&status, Code::Unauthenticated, "CREDENTIALS_WRONG");
        answers.push(status.message().to_owned());
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn registering_names_every_wrong_field_and_refuses_a_taken_email() {
    let world = World::start().await;
    let body = json!({ "email": "no address", "password": "short", "fullName": "x" });
    let status = world.call(&format!("{AUTH}/Register"), body, None).await.unwrap_err();
    assert_eq!(fields(&status), ["email", "full_name", "password"]);

    let user = Tenant::user(&world).await;
    let body = json!({ "email": user.email.to_uppercase(), "password": PASSWORD, "fullName": "Second User" });
    let status = world.call(&format!("{AUTH}/Register"), body, None).await.unwrap_err();
    assert_reason(&status, Code::AlreadyExists, "EMAIL_TAKEN");
}

#[tokio::test]
async fn a_profile_changes_by_mask_and_refuses_a_lost_update() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let update = format!("{USERS}/UpdateProfile");
    let body = json!({ "user": { "fullName": "Another Name", "preferences": { "theme": "dark" },
        "savedPrompts": [{ "name": "Greeting", "prompt": "Say hello." }] }, "updateMask": "fullName,savedPrompts" });
    let changed = world.ok(&update, body, &user.token).await;
    assert_eq!(
        (&changed["fullName"], &changed["preferences"]),
        (&json!("Another Name"), &json!({}))
    );
    assert_eq!(changed["savedPrompts"][0]["name"], "Greeting");
    assert!(!changed["savedPrompts"][0]["id"].as_str().unwrap().is_empty());

    let stale = json!({ "user": { "fullName": "Third Name", "etag": changed["etag"] } });
    world.ok(&update, stale.clone(), &user.token).await;
    let status = world.refused(&update, stale, &user.token).await;
    assert_reason(&status, Code::Aborted, "ETAG_MISMATCH");
    let body = json!({ "user": { "plan": "enterprise" }, "updateMask": "plan" });
    assert_eq!(
        fields(&world.refused(&update, body, &user.token).await),
        ["update_mask"]
    );
}
