//! Mails through a mail server, and an installation that asks for proof of addresses.

use serde_json::json;
use studios_tests::{
    deployment::Deployment,
    mail::{mail, mails, plain},
    refusal::assert_reason,
    smtp::Smtp,
    tenant::{PASSWORD, Tenant},
};
use tonic::Code;

const AUTH: &str = "studios.core.v1.AuthService";

#[tokio::test]
async fn a_mail_is_sent_again_until_the_server_takes_it_and_fails_at_once_where_it_is_refused() {
    let mut smtp = Smtp::start(&["451 later", "550 nobody here"]).await;
    let shared = [
        ("STUDIOS_CORE_MAIL_SMTP_URL", format!("smtp://{}", smtp.address)),
        ("STUDIOS_CORE_MAIL_FROM", "Harbour <mail@harbour.example>".to_owned()),
        (
            "STUDIOS_CORE_MAIL_PAGES_URL",
            "https://harbour.example/account".to_owned(),
        ),
    ];
    let deployment = Deployment::start(&shared, &[]).await;
    let world = deployment.world().await;
    let user = Tenant::user(&world).await;
    let admin = world.admin().await;
    // The first one is put off.
    wait(
        &admin,
        "select exists (select from core.mails where tries = 1 and last_error like '%451%')",
    )
    .await;
    // The second one is refused meanwhile.
    let refused = Tenant::user(&world).await;
    wait(
        &admin,
        "select exists (select from core.mails where status = 'failed' and last_error like '%550%')",
    )
    .await;
    assert_eq!(smtp.refusals_left(), 0);
    let taken = plain(&smtp.mail(|it| it.contains(&format!("To: {}", user.email))).await);
    for part in [
        "From: Harbour <mail@harbour.example>",
        "Subject: Confirm your e-mail address",
        "https://harbour.example/account?type=verification&token=",
    ] {
        assert!(taken.contains(part), "{taken}");
    }
    wait(
        &admin,
        "select exists (select from core.mails where status = 'sent' and tries = 2)",
    )
    .await;
    let texts: Vec<String> = sqlx::query_scalar("select coalesce(last_error, '') from core.mails")
        .fetch_all(&admin)
        .await
        .unwrap();
    assert!(!texts.iter().any(|it| it.contains(&refused.email)), "{texts:?}");
}

async fn wait(admin: &sqlx::PgPool, condition: &'static str) {
    let met = async {
        while !sqlx::query_scalar::<_, bool>(condition).fetch_one(admin).await.unwrap() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(studios_tests::world::PATIENCE, met)
        .await
        .unwrap_or_else(|_| panic!("{condition}"));
}

#[tokio::test]
async fn where_addresses_must_be_proved_registering_tells_nobody_who_has() {
    let shared = [("STUDIOS_CORE_REQUIRE_VERIFIED_EMAIL", "true".to_owned())];
    let deployment = Deployment::start(&shared, &[]).await;
    let world = deployment.world().await;
    let email = format!("{}@example.com", uuid::Uuid::now_v7().simple());
    let body = json!({ "email": email, "password": PASSWORD, "fullName": "Ada" });
    let mut answers = Vec::new();
    for _ in 0..2 {
        let mut answer = world
            .call(&format!("{AUTH}/Register"), body.clone(), None)
            .await
            .unwrap();
        assert_eq!(answer["accessToken"], json!(""));
        let user = answer["user"].as_object_mut().unwrap();
        for it in ["id", "createTime", "updateTime"] {
            assert!(user.remove(it).is_some_and(|it| !it.is_null()));
        }
        answers.push(answer);
    }
    assert_eq!(answers[0], answers[1], "the second one is made up");
    mail(&world, &email, "You have an account already").await;

    let sign_in = json!({ "email": email, "password": PASSWORD });
    let status = world
        .call(&format!("{AUTH}/SignIn"), sign_in.clone(), None)
        .await
        .unwrap_err();
    assert_reason(&status, Code::FailedPrecondition, "EMAIL_NOT_VERIFIED");
    let wrong = json!({ "email": email, "password": "not the password" });
    let status = world.call(&format!("{AUTH}/SignIn"), wrong, None).await.unwrap_err();
    assert_reason(&status, Code::Unauthenticated, "CREDENTIALS_WRONG");
    let sent = mail(&world, &email, "Confirm your e-mail address").await;
    let proof = json!({ "token": sent.code() });
    world.call(&format!("{AUTH}/ConfirmEmail"), proof, None).await.unwrap();
    world.call(&format!("{AUTH}/SignIn"), sign_in, None).await.unwrap();
    assert!(!mails(&world, &email, "Confirm your e-mail address").is_empty());
}
