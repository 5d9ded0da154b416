//! What companies are told without asking: signed webhooks that are tried again, mails to those whom it concerns, and what of them
//! is in the log.

use http::HeaderMap;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use studios_tests::{
    files::upload,
    hooks::{Hook, Hooks},
    mail::{mail, mails},
    refusal::assert_reason,
    tenant::{NOTIFICATIONS, Tenant, id},
    world::World,
};
use tonic::Code;
use uuid::Uuid;

use super::quotas::plan;

fn webhook(hooks: &Hooks, topics: &[&str]) -> Value {
    channel("Hook", "WEBHOOK", topics, json!({ "url": hooks.url() }))
}

fn channel(name: &str, kind: &str, topics: &[&str], mut rest: Value) -> Value {
    rest["name"] = json!(name);
    rest["kind"] = json!(format!("NOTIFICATION_CHANNEL_KIND_{kind}"));
    rest["topics"] = topics.iter().map(|it| format!("NOTIFICATION_TOPIC_{it}")).collect();
    rest["enabled"] = json!(true);
    rest
}

async fn call(world: &World, it: &Tenant, method: &str, body: Value) -> Value {
    world.ok(&format!("{NOTIFICATIONS}/{method}"), body, &it.token).await
}

/// The newest delivery of a channel, once it stands so.
async fn delivery(world: &World, it: &Tenant, channel: &str, status: &str) -> Value {
    let status = format!("NOTIFICATION_DELIVERY_STATUS_{status}");
    let list = format!("{NOTIFICATIONS}/ListNotificationDeliveries");
    let is = |it: &Value| it["deliveries"][0]["status"] == status;
    let mut found = world.until(&list, json!({ "channelId": channel }), &it.token, is).await;
    found["deliveries"][0].take()
}

fn is_signed(hook: &Hook, secret: &str) -> bool {
    let headers: HeaderMap = hook.headers.clone();
    Webhook::new(secret).unwrap().verify(&hook.body, &headers).is_ok()
}

/// A run whose only stage never passes.
async fn failed_run(world: &World, it: &Tenant) -> String {
    let stage = json!({ "name": "say", "llm": { "model": "offline", "prompt": "The pier is lit at night." },
        "validation": { "regex": { "pattern": "^never$" } } });
    let name = format!("Never passes {}", Uuid::now_v7());
    let workflow = it.add_workflow(world, &name, json!([stage])).await;
    let execution = it.start(world, &workflow, json!({})).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_FAILED", "{ended}");
    execution
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_run_is_told_with_a_signature_that_its_receiver_can_check() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let mut hooks = Hooks::start(&[]).await;
    let (told, secret) = it.add_channel(&world, webhook(&hooks, &["EXECUTION_FAILED"])).await;
    let execution = failed_run(&world, &it).await;
    let hook = hooks.got(1).await.remove(0);
    assert!(is_signed(&hook, &secret));
    assert!(
        !is_signed(&hook, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        "another secret is not it"
    );
    let mut altered = hook.clone();
    altered.body = hook.body.iter().map(|it| it ^ 1).collect();
    assert!(!is_signed(&altered, &secret), "nor another text");
    let got = hook.json();
    assert_eq!(
        (&got["type"], &got["company_id"]),
        (&json!("execution.failed"), &json!(it.company))
    );
    let data = &got["data"];
    assert_eq!(
        (&data["execution_id"], &data["studio_id"], &data["failure_class"]),
        (&json!(execution), &json!(it.studio), &json!("validation"))
    );
    assert!(
        data["workflow_name"].as_str().unwrap().starts_with("Never passes"),
        "{data}"
    );
    let delivered = delivery(&world, &it, &told, "DELIVERED").await;
    assert_eq!(delivered["notificationId"], hook.header("webhook-id"));
    assert_eq!(
        (&delivered["responseStatus"], &delivered["tries"], &delivered["data"]),
        (&json!(204), &json!(1), data)
    );

    // What it did not choose, it is not told; nor is anybody else.
    let shown = call(&world, &it, "GetNotificationChannel", json!({ "id": told })).await;
    assert!(
        secret.ends_with(shown["secretHint"].as_str().unwrap()) && shown["secretHint"].as_str().unwrap().len() == 4
    );
    it.add_key(&world, "Crane", &["*:read"]).await;
    failed_run(&world, &Tenant::with_studio(&world).await).await;
    failed_run(&world, &it).await;
    let told: Vec<_> = hooks.got(2).await.iter().map(Hook::json).collect();
    assert_eq!(told[1]["type"], "execution.failed");
    assert!(
        told.iter().all(|hook| hook["company_id"] == it.company.as_str()),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_taken_is_tried_again_under_its_id_and_can_be_sent_once_more() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let mut hooks = Hooks::start(&[500]).await;
    let (channel, secret) = it.add_channel(&world, webhook(&hooks, &["SECURITY_EVENT"])).await;
    call(&world, &it, "TestNotificationChannel", json!({ "id": channel })).await;
    hooks.got(1).await;
    let failing = |it: &Value| it["failingSinceTime"].is_string();
    let get = format!("{NOTIFICATIONS}/GetNotificationChannel");
    world.until(&get, json!({ "id": channel }), &it.token, failing).await;
    let waiting = delivery(&world, &it, &channel, "WAITING").await;
    assert_eq!(
        (&waiting["tries"], &waiting["responseStatus"]),
        (&json!(1), &json!(500))
    );
    assert!(
        waiting["error"].as_str().unwrap().contains("500") && waiting["nextTryTime"].is_string(),
        "{waiting}"
    );

    // The new secret signs beside the old one for a while.
    let rotated = call(&world, &it, "RotateNotificationSecret", json!({ "id": channel })).await;
    let again = hooks.got(2).await.remove(1);
    assert!(is_signed(&again, &secret) && is_signed(&again, rotated["secret"].as_str().unwrap()));
    let delivered = delivery(&world, &it, &channel, "DELIVERED").await;
    assert_eq!((&delivered["tries"], &delivered["error"]), (&json!(2), &json!("")));
    let well = |it: &Value| it["failingSinceTime"].is_null();
    world.until(&get, json!({ "id": channel }), &it.token, well).await;

    call(&world, &it, "RedeliverNotification", json!({ "id": delivered["id"] })).await;
    let all = hooks.got(3).await;
    assert!(
        all.iter()
            .all(|hook| hook.header("webhook-id") == delivered["notificationId"])
    );
    delivery(&world, &it, &channel, "DELIVERED").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_whose_receiver_is_gone_is_switched_off_and_its_admins_are_written_to() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    world.verify_email(&it).await;
    let mut hooks = Hooks::start(&[410]).await;
    let (channel, _) = it.add_channel(&world, webhook(&hooks, &["SECURITY_EVENT"])).await;
    let test = json!({ "id": channel });
    call(&world, &it, "TestNotificationChannel", test.clone()).await;
    let off = |it: &Value| it["enabled"] == false;
    let get = format!("{NOTIFICATIONS}/GetNotificationChannel");
    let found = world.until(&get, test.clone(), &it.token, off).await;
    assert!(found["disabledReason"].as_str().unwrap().contains("410"), "{found}");
    let written = mail(&world, &it.email, "Notifications of").await.text;
    assert!(written.contains("Hook") && written.contains("410"), "{written}");
    let tested = format!("{NOTIFICATIONS}/TestNotificationChannel");
    let refused = world.refused(&tested, test.clone(), &it.token).await;
    assert_reason(&refused, Code::FailedPrecondition, "CHANNEL_DISABLED");
    // What waits meanwhile is not sent.
    delivery(&world, &it, &channel, "DROPPED").await;

    let on = json!({ "channel": { "id": channel, "enabled": true }, "updateMask": "enabled" });
    let found = call(&world, &it, "UpdateNotificationChannel", on).await;
    assert_eq!(
        (&found["disabledReason"], &found["failingSinceTime"]),
        (&json!(""), &Value::Null)
    );
    call(&world, &it, "TestNotificationChannel", test).await;
    hooks.got(2).await;
    delivery(&world, &it, &channel, "DELIVERED").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_decide_is_written_to_and_reminded_and_nobody_else() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    world.verify_email(&it).await;
    let [ada, bob] = [Tenant::user(&world).await, Tenant::user(&world).await];
    for member in [&ada, &bob] {
        it.add_member(&world, member, "ROLE_MEMBER").await;
        world.verify_email(member).await;
    }
    let topics = ["APPROVAL_WAITING", "APPROVAL_REMINDER", "APPROVAL_ESCALATED"];
    let audience = json!({ "audience": "NOTIFICATION_AUDIENCE_CONCERNED" });
    it.add_channel(&world, channel("Approvals", "EMAIL", &topics, audience))
        .await;
    let policy = json!({ "approvers": { "userIds": [ada.user] }, "remindAfter": "2s", "escalateAfter": "4s",
        "escalateTo": { "role": "APPROVER_ROLE_ADMIN" } });
    let ask = json!({ "name": "ask", "approval": { "question": "Shall it go out?", "policy": policy } });
    let workflow = it.add_workflow(&world, "Letters", json!([ask])).await;
    let execution = it.start(&world, &workflow, json!({})).await;
    let get = json!({ "id": it.company });
    let company = world
        .ok("studios.core.v1.CompanyService/GetCompany", get, &it.token)
        .await;
    let about = |what: &str| format!("{}: A run of \"Letters\" {what}", company["name"].as_str().unwrap());
    let asked = mail(&world, &ada.email, &about("waits for a decision\n")).await.text;
    assert!(asked.contains(&format!("execution id: {execution}")), "{asked}");
    mail(&world, &ada.email, &about("still waits")).await;
    // When it is escalated, admins are concerned too.
    mail(&world, &it.email, &about("waits for a decision, and others")).await;
    assert!(mails(&world, &bob.email, company["name"].as_str().unwrap()).is_empty());
    assert!(mails(&world, &it.email, &about("still waits")).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_who_gets_in_are_told_from_both_services() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let mut hooks = Hooks::start(&[]).await;
    it.add_channel(&world, webhook(&hooks, &["SECURITY_EVENT"])).await;
    let (key, _) = it.add_key(&world, "Crane", &["*:read"]).await;
    let connection = it.add_connection(&world, "Bank", "http", "http://127.0.0.1:9/").await;
    let told: Vec<_> = hooks
        .got(2)
        .await
        .iter()
        .map(|hook| hook.json()["data"].take())
        .collect();
    for (action, thing) in [
        ("ApiKeyService.CreateApiKey", &key),
        ("ConnectionService.CreateConnection", &connection),
    ] {
        let one = told
            .iter()
            .find(|it| it["action"] == action)
            .unwrap_or_else(|| panic!("{told:?}"));
        assert_eq!((&one["thing_id"], &one["actor_id"]), (&json!(thing), &json!(it.user)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_company_is_warned_before_its_plan_is_used_up_and_told_when_it_is() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    plan(&world, &it, "executions_per_month = 5, storage_bytes = 100000").await;
    let mut hooks = Hooks::start(&[]).await;
    it.add_channel(&world, webhook(&hooks, &["QUOTA_WARNING", "QUOTA_REACHED"]))
        .await;

    let file = |name: &str| json!({ "studioId": it.studio, "name": name, "mimeType": "text/plain" });
    upload(&world, &it.token, file("a.txt"), &vec![b'a'; 79_000])
        .await
        .unwrap();
    upload(&world, &it.token, file("b.txt"), &[b'b'; 2_000]).await.unwrap();
    let full = upload(&world, &it.token, file("c.txt"), &vec![b'c'; 50_000])
        .await
        .unwrap_err();
    assert_reason(&full, Code::ResourceExhausted, "STORAGE_QUOTA_EXCEEDED");
    upload(&world, &it.token, file("d.txt"), b"d").await.unwrap();

    let stage = json!({ "name": "say", "llm": { "model": "offline", "prompt": "The pier is lit at night." } });
    let workflow = it.add_workflow(&world, "Says", json!([stage])).await;
    let run = async || {
        let execution = it.start(&world, &workflow, json!({})).await;
        world.finished(&execution, &it.token).await;
    };
    for _ in 0..4 {
        run().await;
    }
    let said = |hook: &Hook| {
        let hook = hook.json();
        (
            hook["type"].as_str().unwrap().to_owned(),
            hook["data"]["quota"].as_str().unwrap().to_owned(),
        )
    };
    hooks.got(3).await;
    run().await;
    let mut told: Vec<_> = hooks.got(4).await.iter().map(said).collect();
    told.sort();
    let pair = |topic: &str, quota: &str| (topic.to_owned(), quota.to_owned());
    let expected = [
        pair("quota.reached", "executions_per_month"),
        pair("quota.reached", "storage_bytes"),
        pair("quota.warning", "executions_per_month"),
        pair("quota.warning", "storage_bytes"),
    ];
    assert_eq!(told, expected, "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_leads_nowhere_that_members_may_not_call() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    for (name, url) in [
        ("Metadata", "http://169.254.169.254/latest"),
        ("Private", "http://10.0.0.1/"),
    ] {
        let inside = channel(name, "WEBHOOK", &["SECURITY_EVENT"], json!({ "url": url }));
        let (channel, _) = it.add_channel(&world, inside).await;
        call(&world, &it, "TestNotificationChannel", json!({ "id": channel })).await;
        let list = format!("{NOTIFICATIONS}/ListNotificationDeliveries");
        let tried = |it: &Value| it["deliveries"][0]["tries"] == 1 && it["deliveries"][0]["error"] != "";
        let found = world
            .until(&list, json!({ "channelId": channel }), &it.token, tried)
            .await;
        let found = &found["deliveries"][0];
        assert_eq!(found["responseStatus"], 0, "{found}");
        assert!(
            found["error"].as_str().unwrap().contains("must not be called"),
            "{found}"
        );
    }
    let taken = channel(
        "private",
        "EMAIL",
        &["SECURITY_EVENT"],
        json!({ "companyId": it.company }),
    );
    let create = format!("{NOTIFICATIONS}/CreateNotificationChannel");
    let refused = world.refused(&create, json!({ "channel": taken }), &it.token).await;
    assert_reason(&refused, Code::AlreadyExists, "CHANNEL_NAME_TAKEN");
    let id = id(&call(
        &world,
        &it,
        "ListNotificationChannels",
        json!({ "companyId": it.company }),
    )
    .await["channels"][0]);
    call(&world, &it, "DeleteNotificationChannel", json!({ "id": id })).await;
    let gone = world
        .refused(
            &format!("{NOTIFICATIONS}/GetNotificationChannel"),
            json!({ "id": id }),
            &it.token,
        )
        .await;
    assert_eq!(gone.code(), Code::NotFound);
}
