//! The audit log: that everything that changes something is in it, who may read it, and that nothing of it changes unseen.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use service_kit::{
    audit::{Line, Problem, Walk},
    methods,
};
use sqlx::{AssertSqlSafe, PgPool, types::Uuid};
use studios_tests::{
    call, files,
    rows::{Door, ROWS},
    tenant::{NOTIFICATIONS, Tenant, id},
    world::World,
};
use tonic::Code;

const CORE: &str = "studios.core.v1.AuditService";
const EXECUTION: &str = "studios.execution.v1.ExecutionAuditService";

/// What changes something and is not recorded, and why.
const UNRECORDED: &[(&str, &str)] = &[
    (
        "studios.core.v1.AuthService/Refresh",
        "a session that goes on as it was allowed to",
    ),
    (
        "studios.core.v1.AuthService/RequestPasswordReset",
        "nobody knows who asks, and what comes of it is recorded",
    ),
    (
        "studios.core.v1.AccessService/ResolveIdentity",
        "what another issuer knows of a user, as his first token says it",
    ),
    (
        "studios.core.v1.EmbeddingService/ClaimChunks",
        "a service takes what it has to make vectors of",
    ),
    (
        "studios.core.v1.EmbeddingService/StoreVectors",
        "vectors follow from the documents and the model, whose making is recorded",
    ),
    (
        "studios.core.v1.NoticeService/ReportNotices",
        "what a service tells is of what is recorded there",
    ),
    (
        "studios.core.v1.PrivacyWorkService/ClaimPrivacyWork",
        "a service takes what is to be exported or erased, which was recorded when it was asked for",
    ),
    (
        "studios.core.v1.PrivacyWorkService/SubmitExport",
        "a service hands over its part of what was asked for",
    ),
    (
        "studios.core.v1.PrivacyWorkService/ReportErasure",
        "a service tells how far it is with what was asked for",
    ),
    (
        "studios.execution.v1.FlowCallbackService/TakeCallback",
        "what a flow answers stands in the journal of its run",
    ),
];

/// Rows whose requests leave things as they are, and which are made to change something elsewhere in the test.
const LEFT_AS_IT_IS: &[&str] = &[
    "studios.core.v1.CompanyService/UpdateMembership",
    "studios.core.v1.FileService/CleanUpFiles",
    "studios.execution.v1.WorkflowService/PublishWorkflow",
    "studios.execution.v1.ExecutionService/ControlExecutions",
];

/// What needs a mail, a signed URL, an archive, an authenticator, ActivePieces or a model that takes its time to be done at all.
const DONE_ELSEWHERE: &[&str] = &[
    "studios.execution.v1.AgentService/CancelRequest",
    "studios.core.v1.AccountService/ConfirmTotp",
    "studios.core.v1.AccountService/DisableTotp",
    "studios.core.v1.AuthService/ConfirmEmail",
    "studios.core.v1.AuthService/ResetPassword",
    "studios.core.v1.PrivacyService/CreateExportUrl",
    "studios.core.v1.TransferService/EndUpload",
    "studios.core.v1.TransferService/WriteUpload",
    "studios.execution.v1.FlowService/ImportFlow",
];

fn action(method: &str) -> String {
    let (service, name) = methods::parts(method);
    format!("{}.{name}", service.rsplit('.').next().unwrap())
}

async fn actions(admin: &PgPool) -> BTreeSet<(String, i64)> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "select action, count(*) from (select action from core.audit_log union all select action from execution.audit_log) l
         group by 1",
    )
    .fetch_all(admin)
    .await
    .unwrap();
    rows.into_iter().collect()
}

fn count(actions: &BTreeSet<(String, i64)>, action: &str) -> i64 {
    actions.iter().find(|it| it.0 == action).map_or(0, |it| it.1)
}

async fn ok(world: &World, it: &Tenant, method: &str, body: Value) -> Value {
    world.ok(method, body, &it.token).await
}

/// Entries of a log, newest first.
async fn list(world: &World, it: &Tenant, service: &str, mut filter: Value) -> Vec<Value> {
    filter["companyId"] = json!(it.company);
    let page = ok(world, it, &format!("{service}/ListAuditEntries"), filter).await;
    page["entries"].as_array().unwrap().clone()
}

/// The company's chain in core, once so many are in it.
async fn sealed(world: &World, it: &Tenant, service: &str, entries: i64) -> Value {
    let body = json!({ "companyId": it.company });
    let is = |told: &Value| told["entries"].as_str().and_then(|it| it.parse::<i64>().ok()) >= Some(entries);
    world
        .until(&format!("{service}/VerifyAuditLog"), body, &it.token, is)
        .await
}

async fn export(world: &World, it: &Tenant, format: &str) -> String {
    let body = json!({ "companyId": it.company, "format": format });
    let parts = world
        .stream(&format!("{CORE}/ExportAuditLog"), body, &it.token)
        .await
        .rest()
        .await
        .unwrap();
    parts.iter().map(|it| it["lines"].as_str().unwrap()).collect()
}

/// What is wrong with an export, by nothing but what is in it and the public key.
fn problems(export: &str, company: &str, key: &str) -> Vec<Problem> {
    let (mut walk, mut head) = (Walk::new(), None);
    for line in export.lines() {
        match serde_json::from_str(line).unwrap() {
            Line::Entry { seq, hash, entry, .. } => walk.step(seq, &hex(&hash), entry.as_ref()),
            Line::Head(end) => head = Some(end),
        }
    }
    walk.finish("core", company.parse().unwrap(), head.as_ref(), &[hex(key)])
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rpc_that_changes_something_leaves_an_entry_of_the_audit_log() {
    let world = World::start().await;
    let it = Tenant::make(&world).await;
    let admin = world.admin().await;
    let mut silent = Vec::new();
    for row in ROWS.iter().filter(|row| !methods::reads(row.method)) {
        let token = match row.door {
            Door::Public | Door::Gateway => None,
            Door::Member => Some(it.token.clone()),
            Door::Service => Some(world.service_token(Some(&it.user))),
            Door::ServiceAlone => Some(world.service_token(None)),
            Door::Operator => Some(world.operator_token()),
        };
        let before = actions(&admin).await;
        let answer = world.call(row.method, (row.body)(&it), token.as_deref()).await;
        let after = actions(&admin).await;
        let action = action(row.method);
        let is_recorded = count(&after, &action) > count(&before, &action);
        let is_left = |list: &[&str]| list.contains(&row.method);
        let should = answer.is_ok() && !is_left(DONE_ELSEWHERE) && !LEFT_AS_IT_IS.contains(&row.method);
        if should && !is_recorded && !UNRECORDED.iter().any(|it| it.0 == row.method) {
            silent.push(row.method);
        }
        if answer.is_err() && is_recorded {
            silent.push("an entry of what was refused");
        }
    }
    the_others(&world).await;
    let recorded = actions(&admin).await;
    for method in call::methods() {
        let is_exempt = UNRECORDED.iter().any(|it| it.0 == method) || DONE_ELSEWHERE.contains(&&*method);
        let changes = !methods::reads(&method) && !is_exempt;
        if changes && count(&recorded, &action(&method)) == 0 {
            silent.push(Box::leak(method.into_boxed_str()));
        }
    }
    assert_eq!(silent, Vec::<&str>::new());
}

/// What the rows' own requests do not do: memberships' ends, and what is asked of runs that wait.
async fn the_others(world: &World) {
    let it = Tenant::with_studio(world).await;
    let (kept, refused) = (Tenant::user(world).await, Tenant::user(world).await);
    let hook = json!({ "name": "Hook", "kind": "NOTIFICATION_CHANNEL_KIND_WEBHOOK", "url": "http://127.0.0.1:9/",
        "topics": ["NOTIFICATION_TOPIC_SECURITY_EVENT"] });
    let (channel, _) = it.add_channel(world, hook).await;
    let rotated = format!("{NOTIFICATIONS}/RotateNotificationSecret");
    ok(world, &it, &rotated, json!({ "id": channel })).await;
    let company = "studios.core.v1.CompanyService";
    let membership = it.add_member(world, &kept, "ROLE_MEMBER").await;
    let code = ok(
        world,
        &it,
        &format!("{company}/GetJoinCode"),
        json!({ "companyId": it.company }),
    )
    .await;
    let asked = json!({ "joinCode": code["code"] });
    let asked = ok(world, &refused, &format!("{company}/JoinCompany"), asked).await;
    ok(
        world,
        &it,
        &format!("{company}/RejectMembership"),
        json!({ "id": asked["id"] }),
    )
    .await;
    let branch =
        json!({ "branch": { "companyId": it.company, "name": "Unused", "address": "9 Pier Road, Harbour Town" } });
    let branch = id(&ok(world, &it, &format!("{company}/CreateBranch"), branch).await);
    ok(world, &it, &format!("{company}/DeleteBranch"), json!({ "id": branch })).await;
    let note = json!({ "studioId": it.studio, "name": "note.txt", "mimeType": "text/plain" });
    files::upload(world, &it.token, note, b"old").await.unwrap();
    let clean = json!({ "studioId": it.studio, "leastBytes": "1" });
    ok(world, &it, &format!("{}/CleanUpFiles", files::FILES), clean).await;
    let role = json!({ "membership": { "id": membership, "role": "ROLE_ADMIN" } });
    ok(world, &it, &format!("{company}/UpdateMembership"), role).await;

    // Its answers are cut before there is a plan in them.
    let brief = json!({ "model": { "companyId": it.company, "name": "brief", "provider": "offline",
        "providerModel": "offline-extractive-1", "contextLength": 8192, "enabled": true, "defaultConfig": { "max_tokens": 1 } } });
    ok(world, &it, "studios.execution.v1.ModelService/CreateModel", brief).await;
    let plans = "studios.execution.v1.PlanService";
    let wish = json!({ "topic": "Tides", "weeklyHours": 1, "model": "brief" });
    let plan = json!({ "studioId": it.studio, "wish": wish });
    let plan = json!({ "id": ok(world, &it, &format!("{plans}/CreatePlan"), plan).await["id"] });
    let has_failed = |it: &Value| it["generating"] == false;
    world
        .until(&format!("{plans}/GetPlan"), plan.clone(), &it.token, has_failed)
        .await;
    ok(world, &it, &format!("{plans}/RetryPlan"), plan).await;

    let agents = "studios.execution.v1.AgentService";
    let document = it.add_document(world, "Quay", "Open at noon.").await;
    let session = json!({ "studioId": it.studio });
    let session = id(&ok(world, &it, &format!("{agents}/CreateSession"), session).await);
    let change = async |content: &str| {
        let asked = json!({ "sessionId": session, "type": "AGENT_REQUEST_TYPE_EDIT", "content": content, "documentIds": [document] });
        let asked = json!({ "id": id(&ok(world, &it, &format!("{agents}/CreateRequest"), asked).await) });
        let has_ended = |it: &Value| !it["endTime"].is_null();
        world
            .until(&format!("{agents}/GetRequest"), asked.clone(), &it.token, has_ended)
            .await;
        asked
    };
    let failed = change("Make it friendlier").await;
    ok(world, &it, &format!("{agents}/RetryRequest"), failed.clone()).await;
    let has_ended = |it: &Value| !it["endTime"].is_null();
    world
        .until(&format!("{agents}/GetRequest"), failed, &it.token, has_ended)
        .await;
    for (method, content) in [
        ("RejectProposal", "Replace \"noon\" with \"nine\""),
        ("AcceptProposal", "Replace \"noon\" with \"ten\""),
    ] {
        ok(world, &it, &format!("{agents}/{method}"), change(content).await).await;
    }

    let runs = "studios.execution.v1.ExecutionService";
    let stages = json!([
        { "name": "ask", "approval": { "question": "Shall it go out?", "policy": { "approvers": { "userIds": [it.user] }, "mayDelegate": true } } },
        { "name": "gate", "wait": { "signal": "go" } },
    ]);
    let workflow = it.add_workflow(world, "Asks", stages).await;
    let execution = it.start(world, &workflow, json!({})).await;
    let run = json!({ "id": execution });
    let waits = |it: &Value| it["waiting"][0]["about"] == "WAITING_ABOUT_QUESTION";
    world
        .until(&format!("{runs}/GetExecution"), run.clone(), &it.token, waits)
        .await;
    ok(world, &it, &format!("{runs}/PauseExecution"), run.clone()).await;
    let is_paused = |it: &Value| !it["paused"].is_null();
    world
        .until(&format!("{runs}/GetExecution"), run.clone(), &it.token, is_paused)
        .await;
    ok(world, &it, &format!("{runs}/ResumeExecution"), run.clone()).await;
    let asked = json!({ "stage": "ask", "visit": 1, "attempt": 1 });
    let delegated = json!({ "executionId": execution, "attempt": asked, "toUserId": kept.user });
    ok(world, &it, &format!("{runs}/DelegateDecision"), delegated).await;
    let is_his = |it: &Value| it["waiting"][0]["mayDecide"] == true;
    world
        .until(&format!("{runs}/GetExecution"), run.clone(), &kept.token, is_his)
        .await;
    let decided =
        json!({ "executionId": execution, "stage": "ask", "visit": 1, "attempt": 1, "decision": "DECISION_PASS" });
    ok(world, &kept, &format!("{runs}/DecideAttempt"), decided).await;
    let go = json!({ "executionId": execution, "name": "go" });
    ok(world, &it, &format!("{runs}/SendSignal"), go).await;
    world.finished(&execution, &it.token).await;

    let cancelled = it.start(world, &workflow, json!({})).await;
    let run = json!({ "id": cancelled });
    ok(world, &it, &format!("{runs}/CancelExecution"), run.clone()).await;
    world.finished(&cancelled, &it.token).await;
    ok(world, &it, &format!("{runs}/RetryExecution"), run).await;
    let pause = json!({ "studioId": it.studio, "action": "CONTROL_ACTION_CANCEL" });
    ok(world, &it, &format!("{runs}/ControlExecutions"), pause).await;
    // His own session, last of all that he does.
    let account = "studios.core.v1.AccountService";
    let sessions = ok(world, &refused, &format!("{account}/ListSessions"), json!({})).await;
    let session = json!({ "id": sessions["sessions"][0]["id"] });
    ok(world, &refused, &format!("{account}/RevokeSession"), session).await;
    let erased = Tenant::user(world).await;
    let erasure = json!({ "confirmUserId": erased.user });
    let erase = "studios.core.v1.PrivacyService/RequestUserErasure";
    ok(world, &erased, erase, erasure).await;
    let invited = Tenant::user(world).await;
    let (_, token) = it.invite(world, &invited.email, "ROLE_MEMBER").await;
    world.verify_email(&invited).await;
    let accept = "studios.core.v1.InvitationService/AcceptInvitation";
    ok(world, &invited, accept, json!({ "token": token })).await;
    ok(
        world,
        &it,
        &format!("{company}/RemoveMembership"),
        json!({ "id": membership }),
    )
    .await;
}

#[tokio::test]
async fn an_entry_says_who_did_what_from_where_and_in_which_request() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let body =
        json!({ "studio": { "companyId": it.company, "name": "From a browser", "businessArea": "BUSINESS_AREA_HR" } });
    let answer = reqwest::Client::new()
        .post(world.url("studios.core.v1.StudioService/CreateStudio"))
        .bearer_auth(&it.token)
        .header("user-agent", "harbour/1.0")
        .header("x-request-id", "berth-7")
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    let studio: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();

    let filter = json!({ "thingId": studio["id"] });
    let entries = list(&world, &it, CORE, filter).await;
    let [entry] = &*entries else { panic!("{entries:?}") };
    assert_eq!(entry["actorId"], it.user);
    assert_eq!(entry["actorKind"], "AUDIT_ACTOR_KIND_USER");
    assert_eq!(entry["action"], "StudioService.CreateStudio");
    assert_eq!(
        (&entry["thingKind"], &entry["companyId"]),
        (&json!("studio"), &json!(it.company))
    );
    assert_eq!(entry["address"], "127.0.0.1");
    assert_eq!(
        (&entry["userAgent"], &entry["correlationId"]),
        (&json!("harbour/1.0"), &json!("berth-7"))
    );
    assert_eq!(entry["traceId"].as_str().map(str::len), Some(32));

    let stored: Vec<u8> = sqlx::query_scalar("select personal from core.audit_log where thing_id = $1::uuid")
        .bind(id(&studio))
        .fetch_one(&world.admin().await)
        .await
        .unwrap();
    assert!(
        !String::from_utf8_lossy(&stored).contains("127.0.0.1"),
        "it lies there in the clear"
    );
}

#[tokio::test]
async fn admins_list_and_filter_their_companys_log_and_nobody_else_does() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (member, stranger) = (Tenant::user(&world).await, Tenant::with_studio(&world).await);
    it.add_member(&world, &member, "ROLE_MEMBER").await;

    let all = list(&world, &it, CORE, json!({})).await;
    let created: Vec<_> = all.iter().map(|it| it["action"].as_str().unwrap()).collect();
    assert_eq!(
        created,
        [
            "CompanyService.ApproveMembership",
            "CompanyService.JoinCompany",
            "CompanyService.RotateJoinCode",
            "StudioService.CreateStudio",
            "CompanyService.CreateBranch",
            "CompanyService.CreateCompany",
        ]
    );
    let by_action = list(&world, &it, CORE, json!({ "action": "CompanyService.JoinCompany" })).await;
    assert_eq!(by_action.len(), 1);
    assert_eq!(
        list(&world, &it, CORE, json!({ "actorId": member.user })).await,
        by_action
    );
    let since = json!({ "startTime": all[2]["time"] });
    assert_eq!(list(&world, &it, CORE, since).await.len(), 3);
    let until = json!({ "endTime": all[0]["time"] });
    assert_eq!(list(&world, &it, CORE, until).await, all[1..]);
    let page = json!({ "companyId": it.company, "pageSize": 4 });
    let first = ok(&world, &it, &format!("{CORE}/ListAuditEntries"), page.clone()).await;
    let mut rest = page;
    rest["pageToken"] = first["nextPageToken"].clone();
    let rest = ok(&world, &it, &format!("{CORE}/ListAuditEntries"), rest).await;
    assert_eq!((&rest["entries"][1], &rest["nextPageToken"]), (&all[5], &json!("")));

    for service in [CORE, EXECUTION] {
        for method in ["ListAuditEntries", "ExportAuditLog", "VerifyAuditLog"] {
            let (name, body) = (format!("{service}/{method}"), json!({ "companyId": it.company }));
            let refused = world.call(&name, body.clone(), Some(&member.token)).await.unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied, "{name}");
            let hidden = world.call(&name, body, Some(&stranger.token)).await.unwrap_err();
            assert_eq!(hidden.code(), Code::NotFound, "{name}");
        }
    }
}

#[tokio::test]
async fn a_studio_and_what_is_recorded_of_it_are_one_commit() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let admin = world.admin().await;
    let together: Vec<bool> = sqlx::query_scalar(
        "select s.xmin::text = l.xmin::text from core.studios s join core.audit_log l on l.thing_id = s.id where s.id = $1",
    )
    .bind(Uuid::parse_str(&it.studio).unwrap())
    .fetch_all(&admin)
    .await
    .unwrap();
    assert_eq!(together, [true], "by the transaction that wrote each");
}

#[tokio::test]
async fn a_refused_change_leaves_no_entry() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let before = list(&world, &it, CORE, json!({})).await;
    let body = json!({ "studio": { "companyId": it.company, "name": "Operations studio", "businessArea": "BUSINESS_AREA_HR" } });
    world
        .refused("studios.core.v1.StudioService/CreateStudio", body, &it.token)
        .await;
    assert_eq!(list(&world, &it, CORE, json!({})).await, before);
}

#[tokio::test]
async fn an_export_is_checked_without_the_installation_and_for_people_it_is_csv() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let told = sealed(&world, &it, CORE, 3).await;
    assert_eq!(told["problems"], json!([]));
    let key = told["keys"][0].as_str().unwrap();
    let exported = export(&world, &it, "AUDIT_FORMAT_JSON_LINES").await;
    assert_eq!(exported.lines().count(), 4, "{exported}");
    assert_eq!(problems(&exported, &it.company, key), []);
    let forged = exported.replacen("StudioService.CreateStudio", "StudioService.DeleteStudio", 1);
    assert_eq!(problems(&forged, &it.company, key), [Problem::Changed { seq: 3 }]);
    let csv = export(&world, &it, "AUDIT_FORMAT_CSV").await;
    assert_eq!(csv.lines().count(), 4, "{csv}");
    assert!(
        csv.lines().nth(1).unwrap().contains("CompanyService.CreateCompany"),
        "{csv}"
    );
}

#[tokio::test]
async fn what_the_databases_owner_changes_removes_moves_or_cuts_off_is_found() {
    let world = World::start().await;
    let admin = world.admin().await;
    let run = async |sql: &str, company: &str| {
        let done = sqlx::query(AssertSqlSafe(sql.to_owned()))
            .bind(company.parse::<Uuid>().unwrap())
            .execute(&admin)
            .await
            .unwrap();
        assert!(done.rows_affected() > 0, "{sql}");
    };
    let second = "(select entry_id from core.audit_links where chain = $1 and seq = 2)";
    let attacks = [
        (
            format!("update core.audit_log set action = 'CompanyService.GetBranch' where id = {second}"),
            "the entry of link 2 was changed or moved",
        ),
        (
            format!("update core.audit_log set personal = '\\x00' where id = {second}"),
            "the entry of link 2 was changed or moved",
        ),
        (
            format!("delete from core.audit_log where id = {second}"),
            "the entry of link 2 was removed",
        ),
        (
            "delete from core.audit_links where chain = $1 and seq = 2".to_owned(),
            "the links 2 to 2 are missing",
        ),
        (
            "update core.audit_links set seq = case seq when 2 then 30 else seq end where chain = $1".to_owned(),
            "the links 2 to 2 are missing",
        ),
        (
            "delete from core.audit_links where chain = $1 and seq = 3".to_owned(),
            "the chain was cut off after link 2: it had 3",
        ),
        (
            "update core.audit_heads set seq = 2, hash = (select hash from core.audit_links where chain = $1 and seq = 2)
             where chain = $1"
                .to_owned(),
            "the chain's head is not signed by a key of this installation",
        ),
    ];
    for (sql, problem) in attacks {
        let it = Tenant::with_studio(&world).await;
        let told = sealed(&world, &it, CORE, 3).await;
        assert_eq!(told["problems"], json!([]), "before {sql}");
        run(&sql, &it.company).await;
        let body = json!({ "companyId": it.company });
        let told = ok(&world, &it, &format!("{CORE}/VerifyAuditLog"), body).await;
        assert_eq!(told["problems"][0], problem, "after {sql}: {told}");
        let exported = export(&world, &it, "AUDIT_FORMAT_JSON_LINES").await;
        let key = told["keys"][0].as_str().unwrap();
        assert_ne!(problems(&exported, &it.company, key), [], "offline, after {sql}");
    }
}

#[tokio::test]
async fn what_is_known_of_an_erased_actor_is_unreadable_and_the_chain_holds() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let member = Tenant::user(&world).await;
    it.add_member(&world, &member, "ROLE_MEMBER").await;
    sealed(&world, &it, CORE, 6).await;
    let by_member = || list(&world, &it, CORE, json!({ "actorId": member.user }));
    assert_eq!(by_member().await[0]["erased"], false);
    assert_ne!(by_member().await[0]["userAgent"], "");
    sqlx::query("delete from core.audit_subjects where subject = $1::uuid")
        .bind(&member.user)
        .execute(&world.admin().await)
        .await
        .unwrap();
    let erased = by_member().await.remove(0);
    assert_eq!((&erased["erased"], &erased["userAgent"]), (&json!(true), &json!("")));
    assert_eq!(sealed(&world, &it, CORE, 6).await["problems"], json!([]));
}

#[tokio::test]
async fn both_services_logs_are_sealed_within_seconds() {
    let world = World::start().await;
    let it = Tenant::make(&world).await;
    for (service, entries) in [(CORE, 6), (EXECUTION, 5)] {
        let told = sealed(&world, &it, service, entries).await;
        assert_eq!(told["problems"], json!([]), "{service}");
        assert!(!told["head"]["signature"].as_str().unwrap().is_empty());
    }
    let starts = list(&world, &it, EXECUTION, json!({ "thingId": it.execution })).await;
    assert_eq!(starts[0]["action"], "ExecutionService.StartExecution");
}
