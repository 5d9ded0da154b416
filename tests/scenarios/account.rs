//! A user's account: what mails do to it, his sessions, and his second factor.

use serde_json::{Value, json};
use service_kit::clock::{Clock, SystemClock};
use studios_tests::{
    mail::{mail, mails},
    refusal::assert_reason,
    tenant::{PASSWORD, Tenant},
    totp,
    world::World,
};
use tonic::{Code, Status};

const AUTH: &str = "studios.core.v1.AuthService";
const ACCOUNT: &str = "studios.core.v1.AccountService";
const PROFILE: &str = "studios.core.v1.UserService/GetProfile";
const NEW: &str = "another long password";

async fn public(world: &World, method: &str, body: Value) -> Result<Value, Status> {
    world.call(&format!("{AUTH}/{method}"), body, None).await
}

async fn sign_in(world: &World, email: &str, password: &str, code: &str) -> Result<Value, Status> {
    public(
        world,
        "SignIn",
        json!({ "email": email, "password": password, "code": code }),
    )
    .await
}

async fn account(world: &World, method: &str, body: Value, token: &str) -> Result<Value, Status> {
    world.call(&format!("{ACCOUNT}/{method}"), body, Some(token)).await
}

fn token(session: &Value) -> String {
    session["accessToken"].as_str().unwrap().to_owned()
}

async fn is_verified(world: &World, user: &str) -> bool {
    sqlx::query_scalar("select email_verified from core.users where id = $1::uuid")
        .bind(user)
        .fetch_one(&world.admin().await)
        .await
        .unwrap()
}

/// Which of the user's own acts the audit log holds, how often.
async fn recorded(world: &World, user: &Tenant, action: &str) -> i64 {
    sqlx::query_scalar("select count(*) from core.audit_log where action = $1 and actor_id = $2::uuid")
        .bind(action)
        .bind(&user.user)
        .fetch_one(&world.admin().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_mails_and_authenticators_do_is_recorded_once_each_and_what_is_refused_is_not() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let sent = mail(&world, &user.email, "Confirm your e-mail address").await;
    public(&world, "ConfirmEmail", json!({ "token": "none" }))
        .await
        .unwrap_err();
    for _ in 0..2 {
        // The second time it is spent.
        let _ = public(&world, "ConfirmEmail", json!({ "token": sent.code() })).await;
    }
    assert_eq!(recorded(&world, &user, "AuthService.ConfirmEmail").await, 1);

    let enrolled = account(&world, "EnrolTotp", json!({ "password": PASSWORD }), &user.token)
        .await
        .unwrap();
    let secret = enrolled["secret"].as_str().unwrap();
    let code = totp::code(secret, SystemClock.now().unix_timestamp(), 0);
    account(&world, "ConfirmTotp", json!({ "code": "12345" }), &user.token)
        .await
        .unwrap_err();
    let confirmed = account(&world, "ConfirmTotp", json!({ "code": code }), &user.token)
        .await
        .unwrap();
    assert_eq!(recorded(&world, &user, "AccountService.ConfirmTotp").await, 1);
    let wrong = json!({ "password": PASSWORD, "code": "mzxw6-ytboi" });
    account(&world, "DisableTotp", wrong, &user.token).await.unwrap_err();
    assert_eq!(recorded(&world, &user, "AccountService.DisableTotp").await, 0);
    let disable = json!({ "password": PASSWORD, "code": confirmed["recoveryCodes"][0] });
    account(&world, "DisableTotp", disable, &user.token).await.unwrap();
    assert_eq!(recorded(&world, &user, "AccountService.DisableTotp").await, 1);

    public(&world, "RequestPasswordReset", json!({ "email": user.email }))
        .await
        .unwrap();
    let sent = mail(&world, &user.email, "Set a new password").await;
    let body = json!({ "token": sent.code(), "newPassword": NEW });
    public(&world, "ResetPassword", body.clone()).await.unwrap();
    public(&world, "ResetPassword", body).await.unwrap_err();
    assert_eq!(recorded(&world, &user, "AuthService.ResetPassword").await, 1);
}

#[tokio::test]
async fn a_mail_proves_an_address_once() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let sent = mail(&world, &user.email, "Confirm your e-mail address").await;
    assert!(!is_verified(&world, &user.user).await);
    let body = json!({ "token": sent.code() });
    let proved = public(&world, "ConfirmEmail", body.clone()).await.unwrap();
    assert_eq!(proved["email"], json!(user.email));
    assert!(is_verified(&world, &user.user).await);
    let again = public(&world, "ConfirmEmail", body).await.unwrap_err();
    assert_reason(&again, Code::Unauthenticated, "MAIL_TOKEN_INVALID");
    account(&world, "SendVerification", json!({}), &user.token)
        .await
        .unwrap();
    let queued: i64 = sqlx::query_scalar("select count(*) from core.mails where kind = 'verification'")
        .fetch_one(&world.admin().await)
        .await
        .unwrap();
    assert_eq!(queued, 1, "nothing is sent for what is proved");
}

#[tokio::test]
async fn a_mail_says_nothing_in_the_database_and_is_forgotten_once_it_is_sent() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    mail(&world, &user.email, "Confirm your e-mail address").await;
    let admin = world.admin().await;
    let settled = async {
        loop {
            let (status, sealed): (String, Vec<u8>) = sqlx::query_as("select status, sealed from core.mails")
                .fetch_one(&admin)
                .await
                .unwrap();
            assert!(!String::from_utf8_lossy(&sealed).contains(&user.email));
            if status == "sent" {
                return sealed;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let sealed = tokio::time::timeout(studios_tests::world::PATIENCE, settled)
        .await
        .unwrap();
    assert!(sealed.is_empty());
}

#[tokio::test]
async fn a_reset_by_mail_sets_a_password_once_and_ends_all_sessions() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    public(
        &world,
        "RequestPasswordReset",
        json!({ "email": user.email.to_uppercase() }),
    )
    .await
    .unwrap();
    let sent = mail(&world, &user.email, "Set a new password").await;
    let body = json!({ "token": sent.code(), "newPassword": NEW });
    let as_proof = public(&world, "ConfirmEmail", json!({ "token": sent.code() }))
        .await
        .unwrap_err();
    assert_reason(&as_proof, Code::Unauthenticated, "MAIL_TOKEN_INVALID");
    public(&world, "ResetPassword", body.clone()).await.unwrap();
    let again = public(&world, "ResetPassword", body).await.unwrap_err();
    assert_reason(&again, Code::Unauthenticated, "MAIL_TOKEN_INVALID");

    let old = world.refused(PROFILE, json!({}), &user.token).await;
    assert_reason(&old, Code::Unauthenticated, "SESSION_ENDED");
    let refresh = public(&world, "Refresh", json!({ "refreshToken": user.refresh_token }))
        .await
        .unwrap_err();
    assert_reason(&refresh, Code::Unauthenticated, "SESSION_ENDED");
    let status = sign_in(&world, &user.email, PASSWORD, "").await.unwrap_err();
    assert_reason(&status, Code::Unauthenticated, "CREDENTIALS_WRONG");
    sign_in(&world, &user.email, NEW, "").await.unwrap();
    mail(&world, &user.email, "Your password was changed").await;
}

#[tokio::test]
async fn the_token_of_a_mail_runs_out_and_is_worth_nothing_after_the_next_password() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let email = json!({ "email": user.email });
    let reset = |token: &str| json!({ "token": token, "newPassword": NEW });
    public(&world, "RequestPasswordReset", email.clone()).await.unwrap();
    let late = mail(&world, &user.email, "Set a new password").await;
    let admin = world.admin().await;
    sqlx::query("update core.mail_tokens set expires_at = now() where purpose = 'password_reset'")
        .execute(&admin)
        .await
        .unwrap();
    let status = public(&world, "ResetPassword", reset(late.code())).await.unwrap_err();
    assert_reason(&status, Code::Unauthenticated, "MAIL_TOKEN_INVALID");

    public(&world, "RequestPasswordReset", email).await.unwrap();
    let sent = async {
        loop {
            let mails = mails(&world, &user.email, "Set a new password");
            if let [_, second] = &mails[..] {
                return second.clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let second = tokio::time::timeout(studios_tests::world::PATIENCE, sent)
        .await
        .unwrap();
    let body = json!({ "currentPassword": PASSWORD, "newPassword": NEW });
    account(&world, "ChangePassword", body, &user.token).await.unwrap();
    let status = public(&world, "ResetPassword", reset(second.code())).await.unwrap_err();
    assert_reason(&status, Code::Unauthenticated, "MAIL_TOKEN_INVALID");
}

#[tokio::test]
async fn asking_for_a_reset_tells_nobody_who_has_registered() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let unknown = format!("unknown-{}", user.email);
    let mut answers = Vec::new();
    for email in [&user.email, &unknown] {
        answers.push(
            public(&world, "RequestPasswordReset", json!({ "email": email }))
                .await
                .unwrap(),
        );
    }
    assert_eq!(answers[0], answers[1]);
    mail(&world, &user.email, "Set a new password").await;
    let admin = world.admin().await;
    let dropped = async {
        loop {
            let count: i64 = sqlx::query_scalar("select count(*) from core.mails where status = 'dropped'")
                .fetch_one(&admin)
                .await
                .unwrap();
            if count == 1 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(studios_tests::world::PATIENCE, dropped)
        .await
        .unwrap();
    assert!(mails(&world, &unknown, "Set a new password").is_empty());
    // One address can be written to so often, whoever asks.
    for email in [&user.email, &unknown] {
        let mut refused = 0;
        for _ in 0..12 {
            if let Err(status) = public(&world, "RequestPasswordReset", json!({ "email": email })).await {
                assert_reason(&status, Code::ResourceExhausted, "RATE_LIMITED_MAIL");
                refused += 1;
            }
        }
        assert_eq!(refused, 3, "{email}");
    }
}

#[tokio::test]
async fn changing_the_password_ends_the_other_sessions_and_not_ones_own() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let other = token(&sign_in(&world, &user.email, PASSWORD, "").await.unwrap());
    let wrong = json!({ "currentPassword": "not the password", "newPassword": NEW });
    let status = account(&world, "ChangePassword", wrong, &user.token).await.unwrap_err();
    assert_reason(&status, Code::PermissionDenied, "PASSWORD_WRONG");
    let body = json!({ "currentPassword": PASSWORD, "newPassword": NEW });
    let changed = account(&world, "ChangePassword", body, &user.token).await.unwrap();
    assert_eq!(changed["endedSessions"], json!(1));
    world.ok(PROFILE, json!({}), &user.token).await;
    let status = world.refused(PROFILE, json!({}), &other).await;
    assert_reason(&status, Code::Unauthenticated, "SESSION_ENDED");
    sign_in(&world, &user.email, NEW, "").await.unwrap();
    mail(&world, &user.email, "Your password was changed").await;
    let acting = world.service_token(Some(&user.user));
    let status = account(&world, "RevokeOtherSessions", json!({}), &acting)
        .await
        .unwrap_err();
    assert_reason(&status, Code::PermissionDenied, "OWN_TOKEN_REQUIRED");
}

#[tokio::test]
async fn an_address_changes_once_the_new_one_answers_and_the_old_one_is_told() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let new = format!("new-{}", user.email);
    let change = |email: &str| json!({ "password": PASSWORD, "newEmail": email });
    account(&world, "ChangeEmail", change(&new), &user.token).await.unwrap();
    let sent = mail(&world, &new, "Confirm your new e-mail address").await;
    sign_in(&world, &user.email, PASSWORD, "")
        .await
        .expect("nothing has changed yet");
    public(&world, "ConfirmEmail", json!({ "token": sent.code() }))
        .await
        .unwrap();
    sign_in(&world, &new, PASSWORD, "").await.unwrap();
    let status = sign_in(&world, &user.email, PASSWORD, "").await.unwrap_err();
    assert_reason(&status, Code::Unauthenticated, "CREDENTIALS_WRONG");
    let profile = world.ok(PROFILE, json!({}), &user.token).await;
    assert_eq!(profile["email"], json!(new));
    assert!(is_verified(&world, &user.user).await);
    let told = mail(&world, &user.email, "Your e-mail address was changed").await;
    assert!(told.text.replace("=\r\n", "").contains(&new));

    // What is somebody else's is answered alike, and its owner is told.
    let owner = Tenant::user(&world).await;
    account(&world, "ChangeEmail", change(&owner.email), &user.token)
        .await
        .unwrap();
    mail(&world, &owner.email, "You have an account already").await;
    assert!(mails(&world, &owner.email, "Confirm your new e-mail address").is_empty());
}

#[tokio::test]
async fn a_user_sees_his_sessions_and_ends_one() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let other = token(&sign_in(&world, &user.email, PASSWORD, "").await.unwrap());
    let listed = account(&world, "ListSessions", json!({}), &user.token).await.unwrap();
    let sessions = listed["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    let current: Vec<_> = sessions.iter().map(|it| it["current"].as_bool().unwrap()).collect();
    assert_eq!(current, [false, true], "the one used last first");
    for session in sessions {
        assert!(
            session["userAgent"].as_str().unwrap().starts_with("tonic/"),
            "{session}"
        );
        assert!(!session["lastUseTime"].is_null() && !session["expireTime"].is_null());
    }
    let revoke = json!({ "id": sessions[0]["id"] });
    let stranger = Tenant::user(&world).await;
    let status = account(&world, "RevokeSession", revoke.clone(), &stranger.token)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    for _ in 0..2 {
        account(&world, "RevokeSession", revoke.clone(), &user.token)
            .await
            .unwrap();
    }
    let status = world.refused(PROFILE, json!({}), &other).await;
    assert_reason(&status, Code::Unauthenticated, "SESSION_ENDED");
    let listed = account(&world, "ListSessions", json!({}), &user.token).await.unwrap();
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 1);
    sign_in(&world, &user.email, PASSWORD, "").await.unwrap();
    let ended = account(&world, "RevokeOtherSessions", json!({}), &user.token)
        .await
        .unwrap();
    assert_eq!(ended["endedSessions"], json!(1));
}

#[tokio::test]
async fn with_a_second_factor_signing_in_takes_two_steps_and_no_code_counts_twice() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let enrolled = account(&world, "EnrolTotp", json!({ "password": PASSWORD }), &user.token)
        .await
        .unwrap();
    let secret = enrolled["secret"].as_str().unwrap();
    assert!(enrolled["uri"].as_str().unwrap().starts_with("otpauth://totp/studios:"));
    sign_in(&world, &user.email, PASSWORD, "")
        .await
        .expect("what is not confirmed asks nobody");

    let now = SystemClock.now().unix_timestamp();
    let wrong = account(&world, "ConfirmTotp", json!({ "code": "12345" }), &user.token)
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    let first = totp::code(secret, now, 0);
    let confirmed = account(&world, "ConfirmTotp", json!({ "code": first }), &user.token)
        .await
        .unwrap();
    let recovery = confirmed["recoveryCodes"].as_array().unwrap();
    assert_eq!(recovery.len(), 10);
    mail(&world, &user.email, "Signing in takes a code now").await;

    let status = sign_in(&world, &user.email, PASSWORD, "").await.unwrap_err();
    assert_reason(&status, Code::Unauthenticated, "CODE_REQUIRED");
    let status = sign_in(&world, &user.email, "not the password", &first)
        .await
        .unwrap_err();
    assert_reason(&status, Code::Unauthenticated, "CREDENTIALS_WRONG");
    for code in [first.as_str(), "000 000 0", "mzxw6-ytboi"] {
        let status = sign_in(&world, &user.email, PASSWORD, code).await.unwrap_err();
        assert_reason(&status, Code::Unauthenticated, "CODE_WRONG");
    }
    let next = totp::code(secret, now, 1);
    let session = sign_in(&world, &user.email, PASSWORD, &next).await.unwrap();
    assert_eq!(level(&session), json!("aal2"));
    let renewed = public(&world, "Refresh", json!({ "refreshToken": session["refreshToken"] }))
        .await
        .unwrap();
    assert_eq!(level(&renewed), json!("aal2"));
    let status = sign_in(&world, &user.email, PASSWORD, &next).await.unwrap_err();
    assert_reason(&status, Code::Unauthenticated, "CODE_WRONG");

    let code = recovery[0].as_str().unwrap().to_uppercase();
    sign_in(&world, &user.email, PASSWORD, &code).await.unwrap();
    let told = mail(&world, &user.email, "A recovery code was used").await;
    assert!(told.text.contains("9 are left"), "{}", told.text);
    let status = sign_in(&world, &user.email, PASSWORD, &code).await.unwrap_err();
    assert_reason(&status, Code::Unauthenticated, "CODE_WRONG");

    let disable = json!({ "password": PASSWORD, "code": recovery[1] });
    account(&world, "DisableTotp", disable, &token(&renewed)).await.unwrap();
    let session = sign_in(&world, &user.email, PASSWORD, "").await.unwrap();
    assert_eq!(level(&session), json!("aal1"));
}

#[tokio::test]
async fn wrong_codes_are_limited_for_whoever_knows_the_password() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let enrolled = account(&world, "EnrolTotp", json!({ "password": PASSWORD }), &user.token)
        .await
        .unwrap();
    let secret = enrolled["secret"].as_str().unwrap();
    for _ in 0..10 {
        let status = account(&world, "ConfirmTotp", json!({ "code": "12345" }), &user.token)
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    let code = totp::code(secret, SystemClock.now().unix_timestamp(), 0);
    let status = account(&world, "ConfirmTotp", json!({ "code": code }), &user.token)
        .await
        .unwrap_err();
    assert_reason(&status, Code::ResourceExhausted, "RATE_LIMITED_CODE");
}

/// What a session's access token says of how surely it is the user.
fn level(session: &Value) -> Value {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    let token = session["accessToken"].as_str().unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&claims).unwrap()["aal"].clone()
}
