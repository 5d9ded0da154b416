//! What a service follows of the other's changes: every change, in order, resumed after a position.

use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, PgPool};
use studios_cli::migrate::RolePasswords;
use studios_tests::{
    call::Events,
    deployment::Deployment,
    refusal::assert_reason,
    tenant::Tenant,
    world::{PATIENCE, World},
};
use tonic::Code;
use uuid::Uuid;

const FOLLOW: &str = "studios.core.v1.AccessService/FollowEvents";

/// Follows after a position, or from now on.
async fn follow(world: &World, after: Option<i64>) -> Events {
    let body = after.map_or(json!({}), |it| json!({ "after": it.to_string() }));
    world.stream(FOLLOW, body, &world.service_token(None)).await
}

async fn next(events: &mut Events) -> Value {
    let message = tokio::time::timeout(PATIENCE, events.next()).await;
    message.expect("a heartbeat at least").unwrap().expect("it has no end")
}

/// The next message that is no heartbeat.
async fn next_news(events: &mut Events) -> Value {
    loop {
        let message = next(events).await;
        if message["heartbeat"].is_null() {
            return message;
        }
    }
}

/// The events up to a position, however many heartbeats there are.
async fn events_up_to(events: &mut Events, position: i64) -> Vec<i64> {
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last| *last < position) {
        let message = next_news(events).await;
        assert!(!message["event"].is_null(), "{message}");
        heard.push(position_of(&message));
    }
    heard
}

fn position_of(message: &Value) -> i64 {
    message["position"].as_str().unwrap().parse().unwrap()
}

async fn publish(admin: &PgPool, company: &str) -> i64 {
    sqlx::query_scalar("select core.publish_event($1::uuid, 'plan_changed', '{}')")
        .bind(company)
        .fetch_one(admin)
        .await
        .unwrap()
}

#[tokio::test]
async fn heartbeats_come_while_nothing_happens() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let mut events = follow(&world, None).await;
    let first = position_of(&next(&mut events).await);
    assert!(first > 0, "making {} was an event", it.company);
    let begun = tokio::time::Instant::now();
    for _ in 0..10 {
        let message = next(&mut events).await;
        assert!(!message["heartbeat"].is_null(), "{message}");
        assert_eq!(position_of(&message), first);
    }
    // What is promised is 300 ms; a busy machine is forgiven a second in all.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn every_change_of_an_answer_is_told() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let member = Tenant::user(&world).await;
    let mut events = follow(&world, None).await;
    next(&mut events).await;
    let membership = it.add_member(&world, &member, "ROLE_MEMBER").await;
    let studios = "studios.core.v1.StudioService";
    let companies = "studios.core.v1.CompanyService";
    let changes = [
        (
            companies,
            "UpdateMembership",
            json!({ "membership": { "id": membership, "role": "ROLE_ADMIN" } }),
        ),
        (companies, "RemoveMembership", json!({ "id": membership })),
        (
            studios,
            "UpdateStudio",
            json!({ "studio": { "id": it.studio, "name": "Harbour studio" } }),
        ),
        (
            studios,
            "UpdateStudio",
            json!({ "studio": { "id": it.studio, "description": "Nothing that matters." } }),
        ),
        (
            studios,
            "UpdateStudio",
            json!({ "studio": { "id": it.studio }, "updateMask": "branchId" }),
        ),
        (studios, "DeleteStudio", json!({ "id": it.studio })),
        (studios, "UndeleteStudio", json!({ "id": it.studio })),
    ];
    for (service, method, body) in changes {
        world.ok(&format!("{service}/{method}"), body, &it.token).await;
    }
    let told = [
        ("MEMBERSHIP_CHANGED", &member.user, ""),
        ("MEMBERSHIP_CHANGED", &member.user, ""),
        ("MEMBERSHIP_CHANGED", &member.user, ""),
        ("STUDIO_CHANGED", &String::new(), it.studio.as_str()),
        ("STUDIO_CHANGED", &String::new(), it.studio.as_str()),
        ("STUDIO_DELETED", &String::new(), it.studio.as_str()),
        ("STUDIO_UNDELETED", &String::new(), it.studio.as_str()),
    ];
    for (kind, user, studio) in told {
        let message = next_news(&mut events).await;
        let expected = json!({ "companyId": it.company, "kind": format!("ACCESS_EVENT_KIND_{kind}"), "userId": user,
            "studioId": studio, "sessionId": "" });
        assert_eq!(message["event"], expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_follows_again_after_a_position_misses_nothing() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let admin = world.admin().await;
    let mut events = follow(&world, None).await;
    let start = position_of(&next(&mut events).await);

    // Many commit at once, and some give up after they were given a position.
    let writers = (0..8).map(|writer| {
        let (admin, company) = (admin.clone(), it.company.clone());
        tokio::task::spawn(async move {
            for turn in 0..40 {
                let mut tx = admin.begin().await.unwrap();
                sqlx::query("select core.publish_event($1::uuid, 'plan_changed', '{}')")
                    .bind(&company)
                    .execute(&mut *tx)
                    .await
                    .unwrap();
                if (turn + writer) % 5 == 0 {
                    tx.rollback().await.unwrap();
                } else {
                    tx.commit().await.unwrap();
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut heard = Vec::new();
    // The stream is given up and followed again, once in a while after an event that was heard earlier.
    for turn in 0..6 {
        let enough = heard.last().copied().unwrap_or(start) + 20;
        heard.extend(events_up_to(&mut events, enough).await);
        let back = if turn % 2 == 0 { 1 } else { 5 };
        let after = heard[heard.len() - back];
        heard.truncate(heard.len() + 1 - back);
        events = follow(&world, Some(after)).await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let last = publish(&admin, &it.company).await;
    heard.extend(events_up_to(&mut events, last).await);
    let committed: Vec<i64> =
        sqlx::query_scalar("select position from core.outbox where position > $1 order by position")
            .bind(start)
            .fetch_all(&admin)
            .await
            .unwrap();
    assert_eq!(heard, committed);
    assert_eq!(committed.len(), 8 * 32 + 1);
}

#[tokio::test]
async fn whoever_follows_after_what_is_no_longer_kept_is_told_to_start_anew() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let admin = world.admin().await;
    let old = publish(&admin, &it.company).await;
    let kept = publish(&admin, &it.company).await;
    sqlx::query("delete from core.outbox where position < $1")
        .bind(kept)
        .execute(&admin)
        .await
        .unwrap();
    for lost in [0, old, kept + 1000] {
        let mut events = follow(&world, Some(lost)).await;
        let first = next(&mut events).await;
        assert!(!first["reset"].is_null(), "{lost}: {first}");
        assert_eq!(position_of(&first), kept);
    }
    let mut events = follow(&world, Some(kept)).await;
    let next = publish(&admin, &it.company).await;
    assert_eq!(events_up_to(&mut events, next).await, [next]);
    let status = world
        .refused(FOLLOW, json!({ "after": "-1" }), &world.service_token(None))
        .await;
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn only_a_service_itself_follows() {
    let world = World::start().await;
    let it = Tenant::user(&world).await;
    let user = world.refused(FOLLOW, json!({}), &it.token).await;
    assert_reason(&user, Code::Unauthenticated, "SERVICE_TOKEN_REQUIRED");
    let acting = world.service_token(Some(&it.user));
    let acting = world.refused(FOLLOW, json!({}), &acting).await;
    assert_reason(&acting, Code::Unauthenticated, "SERVICE_ALONE_REQUIRED");
}

#[tokio::test]
async fn an_event_is_published_by_those_who_have_a_place_in_its_company() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let stranger = Tenant::user(&world).await;
    let url = RolePasswords::derive(world.keys())
        .url(&world.database_url, "studios_core")
        .unwrap();
    let mut service = PgConnection::connect(url.expose_secret()).await.unwrap();
    let mut publish = async |user: &str, kind: &str, payload: Value| {
        let mut tx = service.begin().await.unwrap();
        sqlx::query("select set_config('request.jwt.claims', $1, true)")
            .bind(json!({ "sub": user }).to_string())
            .execute(&mut *tx)
            .await
            .unwrap();
        let published = sqlx::query_scalar::<_, i64>("select core.publish_event($1::uuid, $2, $3)")
            .bind(&it.company)
            .bind(kind)
            .bind(payload)
            .fetch_one(&mut *tx)
            .await;
        published.map_err(|error| error.as_database_error().unwrap().code().unwrap().into_owned())
    };
    assert!(publish(&it.user, "plan_changed", json!({})).await.is_ok());
    let (refused, violated) = (Err("42501".to_owned()), Err("23514".to_owned()));
    assert_eq!(publish(&stranger.user, "plan_changed", json!({})).await, refused);
    assert_eq!(
        publish(&Uuid::now_v7().to_string(), "plan_changed", json!({})).await,
        refused
    );
    assert_eq!(publish(&it.user, "anything", json!({})).await, violated);
    let large = json!({ "text": "x".repeat(1000) });
    assert_eq!(publish(&it.user, "plan_changed", large).await, violated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_told_through_a_transaction_pooler() {
    let (deployment, pooler) = Deployment::through_a_pooler().await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    let admin = world.admin().await;
    let mut events = follow(&world, None).await;
    next(&mut events).await;
    for _ in 0..20 {
        let position = publish(&admin, &it.company).await;
        assert_eq!(events_up_to(&mut events, position).await, [position]);
    }
    let log = pooler.log();
    assert!(
        !log.contains("packet 'A'"),
        "a session that is lent to others does not listen:\n{log}"
    );
}
