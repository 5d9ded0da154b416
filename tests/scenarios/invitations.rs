//! Invitations to a company by e-mail.

use serde_json::{Value, json};
use studios_tests::{mail::mail, refusal::assert_reason, tenant::Tenant, world::World};
use tonic::{Code, Status};

const INVITATIONS: &str = "studios.core.v1.InvitationService";

async fn accept(world: &World, who: &Tenant, token: &str) -> Result<Value, Status> {
    let body = json!({ "token": token });
    world
        .call(&format!("{INVITATIONS}/AcceptInvitation"), body, Some(&who.token))
        .await
}

async fn verified(world: &World) -> Tenant {
    let user = Tenant::user(world).await;
    world.verify_email(&user).await;
    user
}

#[tokio::test]
async fn whoever_is_invited_becomes_a_member_once_by_his_own_verified_address() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (bob, eve) = (Tenant::user(&world).await, verified(&world).await);
    let (invitation, token) = it.invite(&world, &bob.email.to_uppercase(), "ROLE_ADMIN").await;

    let mail = mail(&world, &bob.email, "Invitation to Harbour Works").await;
    assert_eq!(mail.code(), token);
    assert!(mail.text.contains("Test User invites you"), "{}", mail.text);
    let not_hers = accept(&world, &eve, &token).await.unwrap_err();
    assert_eq!(not_hers.code(), Code::NotFound);
    let unverified = accept(&world, &bob, &token).await.unwrap_err();
    assert_reason(&unverified, Code::FailedPrecondition, "EMAIL_UNVERIFIED");
    world.verify_email(&bob).await;
    let membership = accept(&world, &bob, &token).await.unwrap();
    assert_eq!(membership["state"], "MEMBERSHIP_STATE_APPROVED");
    assert_eq!(
        (&membership["role"], &membership["userId"]),
        (&json!("ROLE_ADMIN"), &json!(bob.user))
    );
    let studio = json!({ "id": it.studio });
    world
        .ok("studios.core.v1.StudioService/GetStudio", studio, &bob.token)
        .await;

    let again = accept(&world, &bob, &token).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound, "it is used up");
    let list = json!({ "companyId": it.company });
    let listed = world
        .ok(&format!("{INVITATIONS}/ListInvitations"), list, &it.token)
        .await;
    assert_eq!(listed["invitations"][0]["id"], invitation);
    assert!(!listed["invitations"][0]["acceptTime"].is_null() && !listed.to_string().contains(&token));
}

#[tokio::test]
async fn nobody_is_sent_more_than_a_few_invitations_an_hour() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let mut sent = 0;
    let status = loop {
        let body = json!({ "invitation": { "companyId": it.company, "email": "stranger@example.com" } });
        match world
            .call(&format!("{INVITATIONS}/CreateInvitation"), body, Some(&it.token))
            .await
        {
            Ok(made) => {
                sent += 1;
                let id = made["invitation"]["id"].clone();
                world
                    .ok(
                        &format!("{INVITATIONS}/RevokeInvitation"),
                        json!({ "id": id }),
                        &it.token,
                    )
                    .await;
            }
            Err(status) => break status,
        }
    };
    assert_reason(&status, Code::ResourceExhausted, "RATE_LIMITED_MAIL");
    assert_eq!(sent, 10);
}

#[tokio::test]
async fn an_invitation_that_was_taken_back_or_ran_out_lets_nobody_in() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let bob = verified(&world).await;
    let (first, token) = it.invite(&world, &bob.email, "ROLE_MEMBER").await;
    let twice = json!({ "invitation": { "companyId": it.company, "email": bob.email } });
    let create = format!("{INVITATIONS}/CreateInvitation");
    let open = world.refused(&create, twice.clone(), &it.token).await;
    assert_reason(&open, Code::AlreadyExists, "ALREADY_INVITED");
    world
        .ok(
            &format!("{INVITATIONS}/RevokeInvitation"),
            json!({ "id": first }),
            &it.token,
        )
        .await;
    assert_eq!(accept(&world, &bob, &token).await.unwrap_err().code(), Code::NotFound);

    let (second, token) = it.invite(&world, &bob.email, "ROLE_MEMBER").await;
    sqlx::query("update core.invitations set expires_at = now() where id = $1::uuid")
        .bind(&second)
        .execute(&world.admin().await)
        .await
        .unwrap();
    assert_eq!(accept(&world, &bob, &token).await.unwrap_err().code(), Code::NotFound);
    world.ok(&create, twice, &it.token).await;
}

#[tokio::test]
async fn admins_alone_invite_and_the_plan_bounds_who_gets_in() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let member = Tenant::user(&world).await;
    it.add_member(&world, &member, "ROLE_MEMBER").await;
    let body = json!({ "invitation": { "companyId": it.company, "email": "new@example.com" } });
    let refused = world
        .refused(&format!("{INVITATIONS}/CreateInvitation"), body, &member.token)
        .await;
    assert_reason(&refused, Code::PermissionDenied, "ADMIN_REQUIRED");
    for _ in 0..3 {
        let user = verified(&world).await;
        let (_, token) = it.invite(&world, &user.email, "ROLE_MEMBER").await;
        accept(&world, &user, &token).await.unwrap();
    }
    let sixth = verified(&world).await;
    let (_, token) = it.invite(&world, &sixth.email, "ROLE_MEMBER").await;
    let full = accept(&world, &sixth, &token).await.unwrap_err();
    assert_reason(&full, Code::ResourceExhausted, "MEMBER_QUOTA_EXCEEDED");
}
