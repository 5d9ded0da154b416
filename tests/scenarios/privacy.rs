//! What is held about somebody goes out as an archive, and is erased: of a company everything, of a user what is his.

use std::path::Path;

use serde_json::{Value, json};
use studios_tests::{
    files::upload,
    privacy::{PRIVACY, archive, ask, call, end_grace, rows, tables_with, until, until_only_in},
    refusal::assert_reason,
    tenant::{PASSWORD, SECRET, Tenant, id},
    world::World,
};
use tonic::Code;

use super::terminal::{lines, studios};

/// Columns that hold who somebody is, which an export of a user looks through.
const PERSONS: &[&str] = &[
    "actor_id",
    "caller_id",
    "created_by",
    "invited_by",
    "issued_by",
    "not_users",
    "owner_id",
    "published_by",
    "requested_by",
    "started_by",
    "subject",
    "uploaded_by",
    "user_id",
    "users",
];
/// Columns that hold what things are.
const THINGS: &[&str] = &[
    "branch_id",
    "chain",
    "channel_id",
    "chunk_id",
    "company_id",
    "connection_id",
    "document_id",
    "document_ids",
    "draft_id",
    "entry_id",
    "execution_id",
    "file_id",
    "id",
    "job_id",
    "lease_id",
    "made_document_id",
    "notification_id",
    "object_id",
    "parent_id",
    "plan_id",
    "reached",
    "request_id",
    "resource_id",
    "session_id",
    "source_id",
    "studio_id",
    "template_id",
    "template_version_id",
    "thing_id",
    "version_id",
    "workflow_id",
];

fn canary(of: &str) -> String {
    format!("canary-{of}-{}", uuid::Uuid::now_v7().simple())
}

async fn refused(world: &World, it: &Tenant, method: &str, body: Value) -> tonic::Status {
    world.refused(&format!("{PRIVACY}/{method}"), body, &it.token).await
}

/// Puts a text wherever a user of a studio may write something.
async fn write_everywhere(world: &World, it: &Tenant, text: &str) {
    let document = format!("# {text}\n\nShips report to the harbour office.\n");
    it.add_document(world, text, &document).await;
    for access in ["ACCESS_LEVEL_STUDIO", "ACCESS_LEVEL_PRIVATE"] {
        let file = json!({ "studioId": it.studio, "name": format!("{text}.txt"), "mimeType": "text/plain", "accessLevel": access,
            "metadata": { "note": text } });
        upload(world, &it.token, file, format!("{text} {access}").as_bytes())
            .await
            .expect("the file is taken");
        let document = json!({ "document": { "studioId": it.studio, "title": format!("{access} {text}"), "mimeType": "text/plain",
            "accessLevel": access }, "text": text });
        world
            .ok("studios.core.v1.DocumentService/CreateDocument", document, &it.token)
            .await;
    }
    let stage =
        json!({ "name": "say", "llm": { "model": "offline", "prompt": format!("{text} {{{{ inputs.text }}}}") } });
    let workflow = it.add_workflow(world, text, json!([stage])).await;
    let execution = it.start(world, &workflow, json!({ "text": text })).await;
    world.finished(&execution, &it.token).await;
    it.take_snapshot(world, &workflow, text).await;
    let plans = "studios.execution.v1.PlanService";
    for visibility in ["PLAN_VISIBILITY_PRIVATE", "PLAN_VISIBILITY_PUBLIC"] {
        let wish = json!({ "studioId": it.studio, "visibility": visibility,
            "wish": { "topic": text, "notes": text, "weeklyHours": 2 } });
        let plan = id(&world.ok(&format!("{plans}/CreatePlan"), wish, &it.token).await);
        let ready = |it: &Value| it["status"] == "PLAN_STATUS_READY";
        world
            .until(&format!("{plans}/GetPlan"), json!({ "id": plan }), &it.token, ready)
            .await;
    }
}

/// Whether the logs of both services hold, once everything in them is sealed.
async fn assert_logs_hold(world: &World, it: &Tenant) {
    for service in ["AuditService", "ExecutionAuditService"] {
        let package = if service == "AuditService" { "core" } else { "execution" };
        let method = format!("studios.{package}.v1.{service}/VerifyAuditLog");
        let told = world
            .until(&method, json!({ "companyId": it.company }), &it.token, |it| {
                it["entries"] != "0"
            })
            .await;
        assert_eq!(told["problems"], json!([]), "{service}");
    }
}

fn holds_files(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    entries
        .flatten()
        .any(|it| it.path().is_file() || holds_files(&it.path()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_holds_everything_of_a_company_and_nothing_of_another() {
    let world = World::start().await;
    let (it, other) = (Tenant::make(&world).await, Tenant::with_studio(&world).await);
    let (own, others) = (canary("own"), canary("others"));
    write_everywhere(&world, &it, &own).await;
    write_everywhere(&world, &other, &others).await;
    call(&world, &it, "CancelPrivacyRequest", json!({ "id": it.privacy_request })).await;
    let member = Tenant::user(&world).await;
    it.add_member(&world, &member, "ROLE_MEMBER").await;
    let body = json!({ "companyId": it.company });
    assert_reason(
        &refused(&world, &member, "RequestCompanyExport", body.clone()).await,
        Code::PermissionDenied,
        "ADMIN_REQUIRED",
    );
    let unknown = refused(&world, &other, "RequestCompanyExport", body.clone()).await;
    assert_eq!(unknown.code(), Code::NotFound);

    let export = ask(&world, &it, "RequestCompanyExport", body.clone()).await;
    let again = refused(&world, &it, "RequestCompanyExport", body).await;
    assert_eq!(again.code(), Code::AlreadyExists, "{again:?}");
    let archive = archive(&world, &it, &export).await;
    let rows = rows(&archive);

    // Whatever the database has of the company is in it, but for events and what is made for searching.
    let admin = world.admin().await;
    let held = tables_with(&admin, &it.company).await;
    for table in &held {
        let kind = table.split_once('.').unwrap().1;
        let kind = ["journal", "executions"]
            .into_iter()
            .find(|it| kind.starts_with(&format!("{it}_")) && kind != "execution_commands")
            .unwrap_or(kind);
        let is_elsewhere = ["outbox", "audit_links", "audit_heads", "object_removals", "request_ids"].contains(&kind);
        assert!(is_elsewhere || rows.contains_key(kind), "{table} is not exported");
    }
    let texts = |kind: &str| rows[kind].iter().filter(|it| it.to_string().contains(&own)).count();
    for kind in [
        "documents",
        "document_texts",
        "files",
        "workflows",
        "workflow_versions",
        "executions",
        "journal",
        "plans",
    ] {
        assert!(kind == "plans" || texts(kind) > 0, "{kind} lacks what was written");
    }
    let journal = rows["journal"]
        .iter()
        .find(|it| it["kind"] == "started")
        .expect("runs are told");
    assert!(journal["payload"].is_object(), "{journal}");
    let contents: Vec<_> = archive.iter().filter(|it| it.0.starts_with("files/")).collect();
    assert_eq!(contents.len(), 3, "{:?}", archive.keys());
    let holds = |text: &str| contents.iter().any(|it| it.1 == text.as_bytes());
    assert!(holds(&format!("{own} ACCESS_LEVEL_PRIVATE")) && holds(&format!("{own} ACCESS_LEVEL_STUDIO")));

    for (name, content) in &archive {
        let content = String::from_utf8_lossy(content);
        for secret in [&others, &other.company, &other.user, SECRET, "$argon2"] {
            assert!(!content.contains(secret), "{name} holds {secret}");
        }
        assert!(
            !content.contains("\"secret\"") && !content.contains("_hash\""),
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_is_read_by_admins_alone_until_it_expires() {
    let world = World::start().await;
    let (it, member, other) = (
        Tenant::with_studio(&world).await,
        Tenant::user(&world).await,
        Tenant::with_studio(&world).await,
    );
    it.add_member(&world, &member, "ROLE_MEMBER").await;
    let export = ask(&world, &it, "RequestCompanyExport", json!({ "companyId": it.company })).await;
    archive(&world, &it, &export).await;
    let body = json!({ "id": export });
    for stranger in [&member, &other] {
        for method in [
            "GetPrivacyRequest",
            "DownloadExport",
            "CreateExportUrl",
            "CancelPrivacyRequest",
        ] {
            let status = refused(&world, stranger, method, body.clone()).await;
            assert_eq!(status.code(), Code::NotFound, "{method}");
        }
    }
    let url = call(&world, &it, "CreateExportUrl", body.clone()).await;
    let url = world.url(url["urlPath"].as_str().unwrap());
    let part = reqwest::Client::new()
        .get(&url)
        .header("range", "bytes=0-3")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (part.status().as_u16(), &*part.bytes().await.unwrap()),
        (206, &b"PK\x03\x04"[..])
    );
    let streamed = world
        .stream(&format!("{PRIVACY}/DownloadExport"), body.clone(), &it.token)
        .await
        .rest()
        .await
        .unwrap();
    assert!(!streamed.is_empty());

    sqlx::query("update core.privacy_requests set expires_at = now() where id = $1::uuid")
        .bind(&export)
        .execute(&world.admin().await)
        .await
        .unwrap();
    let late = refused(&world, &it, "CreateExportUrl", body.clone()).await;
    assert_reason(&late, Code::FailedPrecondition, "NO_ARCHIVE");
    assert_eq!(reqwest::get(&url).await.unwrap().status(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_company_leaves_nothing() {
    let world = World::start().await;
    let (it, other) = (Tenant::make(&world).await, Tenant::make(&world).await);
    let text = canary("company");
    write_everywhere(&world, &it, &text).await;
    let (key, _) = it.add_key(&world, &text, &["*:read"]).await;
    call(&world, &it, "CancelPrivacyRequest", json!({ "id": it.privacy_request })).await;
    let export = ask(&world, &it, "RequestCompanyExport", json!({ "companyId": it.company })).await;
    archive(&world, &it, &export).await;
    let [objects, _] = world.objects(&it.company);
    let exports = objects.ancestors().nth(2).unwrap().join("exports").join(&export);
    assert!(holds_files(&objects) && holds_files(&exports));
    let admin = world.admin().await;
    let held = tables_with(&admin, &text).await;
    for table in [
        "core.documents",
        "core.chunks",
        "core.files",
        "core.users",
        "execution.workflows",
        "execution.plan_versions",
    ] {
        assert!(held.contains(table), "{table} of {held:?}");
    }
    assert!(held.iter().any(|it| it.starts_with("execution.journal")), "{held:?}");

    let wrong = json!({ "companyId": it.company, "confirmName": "Harbour Work" });
    let refusal = refused(&world, &it, "RequestCompanyErasure", wrong).await;
    assert_eq!(refusal.code(), Code::InvalidArgument);
    let body = json!({ "companyId": it.company, "confirmName": "Harbour Works" });
    let erasure = ask(&world, &it, "RequestCompanyErasure", body).await;
    end_grace(&world, &erasure).await;
    let done = |it: &Value| it["state"] == "PRIVACY_STATE_DONE";
    let get = format!("{PRIVACY}/GetPrivacyRequest");
    let told = world.until(&get, json!({ "id": erasure }), &it.token, done).await;
    assert!(told["rows"].as_str().unwrap().parse::<i64>().unwrap() > 50, "{told}");
    assert!(told["objects"].as_str().unwrap().parse::<i64>().unwrap() >= 3, "{told}");

    until_only_in(&world, &text, &[]).await;
    // Requests say that there was a company, and events that it is gone, until they are trimmed.
    until_only_in(&world, &it.company, &["core.outbox", "core.privacy_requests"]).await;
    until_only_in(&world, &key, &[]).await;
    for thing in [
        &it.studio,
        &it.document,
        &it.workflow,
        &it.execution,
        &it.plan,
        &it.template,
    ] {
        until_only_in(&world, thing, &["core.outbox", "core.request_ids"]).await;
    }
    assert!(!holds_files(&objects) && !holds_files(&exports));
    let own = world
        .ok(
            "studios.core.v1.CompanyService/ListOwnMemberships",
            json!({}),
            &it.token,
        )
        .await;
    assert_eq!(own["memberships"], json!([]));
    for (method, thing) in [
        ("studios.core.v1.DocumentService/GetDocument", &other.document),
        ("studios.execution.v1.ExecutionService/GetExecution", &other.execution),
        ("studios.execution.v1.PlanService/GetPlan", &other.plan),
    ] {
        world.ok(method, json!({ "id": thing }), &other.token).await;
    }
    assert_logs_hold(&world, &other).await;
    // What ended meanwhile is looked for once more.
    sqlx::query("update core.privacy_requests set sweep_at = now() where id = $1::uuid and sweep_at is not null")
        .bind(&erasure)
        .execute(&admin)
        .await
        .unwrap();
    sqlx::query("insert into execution.spend (company_id, month, tokens) values ($1::uuid, '2026-11-01', 1)")
        .bind(&it.company)
        .execute(&admin)
        .await
        .ok();
    until(&world, &erasure, "sweep_at is null").await;
    until_only_in(&world, &it.company, &["core.outbox", "core.privacy_requests"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_user_is_nobody_and_what_he_made_in_a_company_stays() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (name, secret) = (canary("name"), canary("private"));
    let email = format!("{name}@example.com");
    let registered = json!({ "email": email, "password": PASSWORD, "fullName": format!("Ada {name}") });
    let session = world
        .call("studios.core.v1.AuthService/Register", registered.clone(), None)
        .await
        .unwrap();
    let mut ada = Tenant::user(&world).await;
    ada.token = session["accessToken"].as_str().unwrap().to_owned();
    ada.user = id(&session["user"]);
    it.add_member(&world, &ada, "ROLE_MEMBER").await;
    (ada.company, ada.studio) = (it.company.clone(), it.studio.clone());
    world.verify_email(&ada).await;
    it.invite(&world, &email, "ROLE_MEMBER").await;
    write_everywhere(&world, &ada, &secret).await;
    ada.add_session(&world).await;
    // What is in the studio belongs to the company; what is private is what is looked for.
    let public = id(&world
        .ok(
            "studios.core.v1.DocumentService/ListDocuments",
            json!({ "studioId": it.studio }),
            &it.token,
        )
        .await["documents"][0]);

    let export = ask(&world, &ada, "RequestUserExport", json!({})).await;
    let exported = archive(&world, &ada, &export).await;
    let found = rows(&exported);
    assert_eq!(found["users"][0]["email"], email);
    assert!(!found["sessions"].is_empty() && found["invitations"].len() == 1);
    let entry = &found["audit_log"][0];
    assert!(
        entry["personal"]["user_agent"].is_string(),
        "what is encrypted of him is opened: {entry}"
    );
    let whole = |kind: &str, column: &str| found[kind].iter().filter(|it| !it[column].is_null()).count();
    assert_eq!(
        (
            whole("documents", "title"),
            whole("files", "name"),
            whole("plans", "visibility"),
            whole("agent_requests", "content")
        ),
        (1, 1, 1, 1)
    );
    assert!(whole("executions", "inputs") == 0 && !found["executions"].is_empty());
    assert_eq!(exported.keys().filter(|it| it.starts_with("files/")).count(), 1);

    let wrong = refused(&world, &ada, "RequestUserErasure", json!({ "confirmUserId": it.user })).await;
    assert_eq!(wrong.code(), Code::NotFound);
    let erasure = ask(&world, &ada, "RequestUserErasure", json!({ "confirmUserId": ada.user })).await;
    end_grace(&world, &erasure).await;
    until(&world, &erasure, "state = 'done'").await;

    until_only_in(&world, &name, &[]).await;
    let admin = world.admin().await;
    for (table, condition) in [
        ("core.documents", "access_level = 'private'"),
        ("core.files", "access_level = 'private'"),
        ("execution.plans", "visibility = 'private'"),
        ("execution.snapshots", "created_by is not null"),
        ("execution.agent_sessions", "true"),
        // With what ran for them, which upkeep erases.
        (
            "execution.workflows",
            "private and deleted_at > now() - interval '1 month'",
        ),
        ("execution.workflows", "private and deleted_at is null"),
        ("core.objects", "refs = 0"),
    ] {
        let statement = format!("select count(*) from {table} where {condition}");
        let left: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
            .fetch_one(&admin)
            .await
            .unwrap();
        assert_eq!(left, 0, "{table} where {condition}");
    }
    until_only_in(&world, &format!("{secret} ACCESS_LEVEL_PRIVATE"), &[]).await;
    let [objects, _] = world.objects(&it.company);
    let exports = objects.ancestors().nth(2).unwrap().join("exports").join(&export);
    assert!(!holds_files(&exports));

    let gone = world
        .call("studios.core.v1.UserService/GetProfile", json!({}), Some(&ada.token))
        .await;
    assert_eq!(gone.unwrap_err().code(), Code::Unauthenticated);
    let signed_in = json!({ "email": email, "password": PASSWORD });
    let signed_in = world.call("studios.core.v1.AuthService/SignIn", signed_in, None).await;
    assert_eq!(signed_in.unwrap_err().code(), Code::Unauthenticated);
    world
        .ok(
            "studios.core.v1.DocumentService/GetDocument",
            json!({ "id": public }),
            &it.token,
        )
        .await;
    let runs = json!({ "studioId": it.studio });
    let runs = world
        .ok("studios.execution.v1.ExecutionService/ListExecutions", runs, &it.token)
        .await;
    let run = json!({ "id": runs["executions"][0]["id"] });
    let run = world
        .ok("studios.execution.v1.ExecutionService/GetExecution", run, &it.token)
        .await;
    assert_eq!(
        (&run["inputs"]["text"], &run["startedBy"]),
        (&json!(secret), &json!(ada.user))
    );
    assert_logs_hold(&world, &it).await;
    let entries = json!({ "companyId": it.company, "actorId": ada.user });
    let entries = world
        .ok("studios.core.v1.AuditService/ListAuditEntries", entries, &it.token)
        .await;
    assert_eq!(
        (&entries["entries"][0]["erased"], &entries["entries"][0]["userAgent"]),
        (&json!(true), &json!(""))
    );
    world
        .call("studios.core.v1.AuthService/Register", registered, None)
        .await
        .expect("the address is free again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_is_taken_back_until_it_begins_and_stops_nothing_before() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let body = json!({ "companyId": it.company, "confirmName": "Harbour Works" });
    let asked = call(&world, &it, "RequestCompanyErasure", body.clone()).await;
    let wait = asked["dueTime"].as_str().unwrap();
    assert!(wait > asked["createTime"].as_str().unwrap(), "{asked}");
    assert_eq!(asked["state"], "PRIVACY_STATE_WAITING");
    let studio = json!({ "id": it.studio });
    world
        .ok("studios.core.v1.StudioService/GetStudio", studio.clone(), &it.token)
        .await;
    let erasure = json!({ "id": asked["id"] });
    let cancelled = call(&world, &it, "CancelPrivacyRequest", erasure.clone()).await;
    assert_eq!(cancelled["state"], "PRIVACY_STATE_CANCELLED");
    call(&world, &it, "CancelPrivacyRequest", erasure).await;
    let again = ask(&world, &it, "RequestCompanyErasure", body).await;
    let listed = call(&world, &it, "ListPrivacyRequests", json!({ "companyId": it.company })).await;
    assert_eq!(listed["requests"][0]["id"], again);
    assert_eq!(listed["requests"].as_array().unwrap().len(), 2);

    end_grace(&world, &again).await;
    until(&world, &again, "state <> 'waiting'").await;
    let late = refused(&world, &it, "CancelPrivacyRequest", json!({ "id": again })).await;
    assert_reason(&late, Code::FailedPrecondition, "PRIVACY_REQUEST_BEGUN");
    let gone = world
        .refused("studios.core.v1.StudioService/GetStudio", studio, &it.token)
        .await;
    assert_eq!(gone.code(), Code::NotFound, "nobody works in it any more");
    until(&world, &again, "state = 'done'").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_admin_is_not_erased_before_it_is_said_what_becomes_of_the_company() {
    let world = World::start().await;
    let (it, second) = (Tenant::with_studio(&world).await, Tenant::user(&world).await);
    let erase = |user: &Tenant| json!({ "confirmUserId": user.user });
    let alone = refused(&world, &it, "RequestUserErasure", erase(&it)).await;
    assert_reason(&alone, Code::FailedPrecondition, "LAST_ADMIN");
    assert!(alone.message().contains(&it.company), "{alone:?}");
    it.add_member(&world, &second, "ROLE_ADMIN").await;
    let first = ask(&world, &it, "RequestUserErasure", erase(&it)).await;
    let other = ask(&world, &second, "RequestUserErasure", erase(&second)).await;
    end_grace(&world, &first).await;
    until(&world, &first, "state = 'done'").await;
    end_grace(&world, &other).await;
    until(&world, &other, "state = 'waiting' and error like 'LAST_ADMIN%'").await;
    world
        .ok(
            "studios.core.v1.CompanyService/GetCompany",
            json!({ "id": it.company }),
            &second.token,
        )
        .await;
    let company = json!({ "companyId": it.company, "confirmName": "Harbour Works" });
    ask(&world, &second, "RequestCompanyErasure", company).await;
    end_grace(&world, &other).await;
    until(&world, &other, "state = 'done'").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_company_is_erased_however_few_rows_go_at_a_time() {
    let world = World::start().await;
    let it = Tenant::make(&world).await;
    let admin = world.admin().await;
    for schema in ["execution", "core"] {
        let statement = format!("select {schema}.erase_company_rows($1::uuid, 1)");
        loop {
            let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(statement.clone()))
                .bind(&it.company)
                .fetch_one(&admin)
                .await
                .unwrap();
            if rows == 0 {
                break;
            }
        }
    }
    let left = tables_with(&admin, &it.company).await;
    let only: Vec<_> = left
        .iter()
        .filter(|it| !["core.outbox", "core.privacy_requests", "core.object_removals"].contains(&it.as_str()))
        .collect();
    assert_eq!(only, Vec::<&String>::new());
}

#[tokio::test]
async fn every_column_that_may_hold_a_person_is_known_to_exports() {
    let world = World::start().await;
    let columns: Vec<String> = sqlx::query_scalar(
        "select distinct a.attname::text from pg_attribute a join pg_class c on c.oid = a.attrelid
         where c.relnamespace in ('core'::regnamespace, 'execution'::regnamespace) and c.relkind in ('r', 'p')
         and a.atttypid in ('uuid'::regtype, 'uuid[]'::regtype) order by 1",
    )
    .fetch_all(&world.admin().await)
    .await
    .unwrap();
    let is_known = |it: &&String| !PERSONS.contains(&it.as_str()) && !THINGS.contains(&it.as_str());
    let unknown: Vec<_> = columns.iter().filter(is_known).collect();
    assert_eq!(
        unknown,
        Vec::<&String>::new(),
        "does it hold a person? then core.export_user looks through it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_is_exported_and_erased_from_a_terminal() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.zip");
    let path = file.display().to_string();
    let ran = studios(&world, &it, &["privacy", "export", "--out", &path, "--json"]).await;
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    assert!(std::fs::read(&file).unwrap().starts_with(b"PK"));
    let name = [
        "privacy",
        "erase-company",
        &it.company,
        "--name",
        "Harbour Works",
        "--json",
    ];
    let ran = studios(&world, &it, &name).await;
    let asked = lines(&ran);
    let request = asked[0]["id"].as_str().unwrap();
    let ran = studios(&world, &it, &["privacy", "cancel", request, "--json"]).await;
    assert_eq!(lines(&ran)[0]["state"], "PRIVACY_STATE_CANCELLED", "{ran:?}");
    let ran = studios(&world, &it, &["privacy", "list", "--json"]).await;
    assert_eq!(lines(&ran).len(), 2, "{ran:?}");
    let ran = studios(&world, &it, &["privacy", "erase-user", &it.company]).await;
    assert_ne!(ran.status.code(), Some(0));
}
