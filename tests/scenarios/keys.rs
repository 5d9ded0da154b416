//! The root key turned under a running installation, and what is sealed under it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use service_kit::{client::ClientTls, lifecycle::Lifecycle};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use studios_cli::{
    home::Home,
    keys::{HASHED, SEALED},
    up::{Args, Installation},
};
use studios_tests::{
    cluster::TestCluster,
    process::program,
    tenant::{PASSWORD, Tenant},
    world::World,
};

const JOIN_CODE: &str = "studios.core.v1.CompanyService/GetJoinCode";
const NEW_JOIN_CODE: &str = "studios.core.v1.CompanyService/RotateJoinCode";
const SIGN_IN: &str = "studios.core.v1.AuthService/SignIn";
const REFRESH: &str = "studios.core.v1.AuthService/Refresh";
const VERIFY: &str = "studios.core.v1.AuditService/VerifyAuditLog";
const GRACE: Duration = Duration::from_secs(10);

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A folder where a private PostgreSQL can be: keys that turn belong to one test.
async fn folder() -> PathBuf {
    let dir = TestCluster::get().await.home();
    let dir = dir.join(format!("keys-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// An installation as `studios up` starts it.
async fn up(dir: &Path) -> (World, Installation) {
    let lifecycle = Lifecycle::new();
    let args = Args {
        dir: dir.to_owned(),
        port: 0,
        database_url: None,
        demo: false,
        doc: None,
    };
    let it = Installation::start(&args, &lifecycle).await.unwrap();
    let (tls, url) = (ClientTls::default(), &it.database_url);
    let world = World::at(&it.core, &it.execution, &it.gateway, url, lifecycle, &tls).await;
    (world, it)
}

async fn studios(arguments: &[&str]) -> Output {
    let mut command = Command::new(program("studios"));
    command
        .args(arguments)
        .arg("--json")
        .env_remove("DATABASE_URL")
        .env_remove("STUDIOS_KEY_RING");
    tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .expect("`make test` builds it")
}

async fn keys(dir: &Path, arguments: &[&str]) -> Value {
    let dir = dir.display().to_string();
    let done = studios(&[&["keys"], arguments, &["--dir", &dir]].concat()).await;
    assert_eq!(done.status.code(), Some(0), "{arguments:?}: {done:?}");
    serde_json::from_slice(&done.stdout).unwrap()
}

/// Drops a key once the services have signed the audit log's heads anew, which takes them a minute at most.
async fn retired(dir: &Path, arguments: &[&str]) -> Value {
    let dir = dir.display().to_string();
    let begun = Instant::now();
    loop {
        let done = studios(&[arguments, &["--dir", &dir]].concat()).await;
        if done.status.success() {
            return serde_json::from_slice(&done.stdout).unwrap();
        }
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(said.contains("sign them anew within a minute"), "{said}");
        assert!(begun.elapsed() < Duration::from_mins(1), "{said}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn refused(dir: &Path, arguments: &[&str], with: &str) {
    let dir = dir.display().to_string();
    let done = studios(&[&["keys"], arguments, &["--dir", &dir]].concat()).await;
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains(with), "{arguments:?}: {said}");
}

/// Ids of the keys with their state and how many signing keys and join codes are sealed under them.
async fn standing(dir: &Path) -> Vec<(String, String, i64)> {
    let list = keys(dir, &["list"]).await;
    let keys = list["keys"].as_array().unwrap().iter();
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    let count = |it: &Value, table: &str| it["sealed"][table].as_i64().unwrap_or_default();
    keys.map(|it| {
        let sealed = count(it, "core.signing_keys") + count(it, "core.join_codes");
        (text(&it["id"]), text(&it["state"]), sealed)
    })
    .collect()
}

/// Makes the current key look as if it had been that for long.
fn let_time_pass(dir: &Path) {
    let path = Home::existing(dir).unwrap().key_file();
    let mut file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    file["current_since"] = json!(0);
    let part = dir.join("part");
    std::fs::write(&part, file.to_string()).unwrap();
    std::fs::rename(part, path).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_key_turns_while_everything_runs_and_the_old_one_is_dropped_once_nothing_needs_it() {
    let dir = folder().await;
    let (world, mut installation) = up(&dir).await;
    let it = Tenant::with_studio(&world).await;
    let company = json!({ "companyId": it.company });
    let code = world.ok(NEW_JOIN_CODE, company.clone(), &it.token).await["code"].clone();
    let before = standing(&dir).await;
    assert_eq!(before.len(), 1);
    let first = before[0].0.clone();
    assert_eq!(
        (before[0].1.as_str(), before[0].2),
        ("current", 2),
        "a signing key and a join code"
    );
    refused(&dir, &["retire", &first], "is the current key").await;

    let spent = json!({ "refreshToken": it.refresh_token });
    let refreshed = world.call(REFRESH, spent.clone(), None).await.unwrap();

    // Calls that open what is sealed, and sign, from before the rotation to after it.
    let (world, stop) = (Arc::new(world), Arc::new(AtomicBool::new(false)));
    let calling = tokio::spawn({
        let (world, it, stop) = (world.clone(), it.clone(), stop.clone());
        async move {
            let mut calls = 0;
            while !stop.load(Ordering::Relaxed) {
                let body = json!({ "companyId": it.company });
                world.ok(JOIN_CODE, body, &it.token).await;
                let who = json!({ "email": it.email, "password": PASSWORD });
                world.call(SIGN_IN, who, None).await.unwrap();
                calls += 1;
            }
            calls
        }
    });
    let rotated = keys(&dir, &["rotate"]).await;
    let second = rotated["current"].as_str().unwrap().to_owned();
    assert_eq!((&rotated["made"], &rotated["old"]), (&json!(true), &json!([first])));
    let resealed = &rotated["resealed"];
    assert_eq!(
        (&resealed["core.join_codes"], &resealed["core.signing_keys"]),
        (&json!(1), &json!(1))
    );
    // A client that lost the answer before the key turned is given it again.
    let repeated = world.call(REFRESH, spent, None).await.unwrap();
    assert_eq!(repeated["refreshToken"], refreshed["refreshToken"]);
    // What is made from now on is made with the new key.
    let other = Tenant::with_studio(&world).await;
    let body = json!({ "companyId": other.company });
    world.ok(NEW_JOIN_CODE, body, &other.token).await;
    stop.store(true, Ordering::Relaxed);
    assert!(calling.await.unwrap() > 0);
    let state = |id: &str, state: &str, sealed| (id.to_owned(), state.to_owned(), sealed);
    assert_eq!(
        standing(&dir).await,
        [state(&second, "current", 3), state(&first, "old", 0)]
    );

    refused(&dir, &["retire", &first], "a moment ago").await;
    let_time_pass(&dir);
    // A recovery code's hash cannot be made anew: who drops its key says that he knows.
    let mut database = PgConnection::connect(world.database_url.expose_secret()).await.unwrap();
    for sql in [
        "insert into core.totp_factors (user_id, sealed_secret) select user_id, '' from core.memberships limit 1",
        "insert into core.recovery_codes (user_id, code_hash) select user_id, decode($1 || '00', 'hex') from core.totp_factors",
    ] {
        let sql = sql.replace("$1", &format!("'{first}'"));
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut database).await.unwrap();
    }
    refused(&dir, &["retire", &first], "1 of core.recovery_codes are hashed with").await;
    let retired = retired(&dir, &["keys", "retire", &first, "--lose-hashes"]).await;
    assert_eq!(retired["dropped"], true);
    sqlx::query("delete from core.totp_factors")
        .execute(&mut database)
        .await
        .unwrap();
    assert_eq!(standing(&dir).await, [state(&second, "current", 3)]);
    assert_eq!(world.ok(JOIN_CODE, company.clone(), &it.token).await["code"], code);
    // The chain of what was recorded before the key turned goes on, and proves itself without the key that was dropped.
    let told = world.ok(VERIFY, company.clone(), &it.token).await;
    let entries = |it: &Value| it["entries"].as_str().unwrap().parse::<i64>().unwrap();
    let before = entries(&told);
    world.ok(NEW_JOIN_CODE, company.clone(), &it.token).await;
    let told = world
        .until(VERIFY, company.clone(), &it.token, |it| entries(it) > before)
        .await;
    assert!(told["problems"].as_array().is_none_or(Vec::is_empty), "{told}");
    let code = world.ok(JOIN_CODE, company.clone(), &it.token).await["code"].clone();
    world.lifecycle.shut_down(GRACE).await;
    drop(installation);

    // Neither its own PostgreSQL nor anything in it is lost to the next start; while nothing runs a rotation starts it itself.
    let third = keys(&dir, &["rotate"]).await["current"].as_str().unwrap().to_owned();
    assert_eq!(
        standing(&dir).await,
        [state(&third, "current", 3), state(&second, "old", 0)]
    );
    let (world, again) = up(&dir).await;
    installation = again;
    assert_eq!(world.ok(JOIN_CODE, company, &it.token).await["code"], code);
    world.lifecycle.shut_down(GRACE).await;
    drop(installation);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_was_interrupted_is_finished_by_the_next_and_makes_no_further_key() {
    let dir = folder().await;
    let (world, installation) = up(&dir).await;
    let it = Tenant::with_studio(&world).await;
    let company = json!({ "companyId": it.company });
    let code = world.ok(NEW_JOIN_CODE, company.clone(), &it.token).await["code"].clone();
    let first = standing(&dir).await[0].0.clone();
    let mut database = PgConnection::connect(installation.database_url.expose_secret())
        .await
        .unwrap();
    let sealed: Vec<u8> = sqlx::query_scalar("select sealed from core.join_codes")
        .fetch_one(&mut database)
        .await
        .unwrap();
    let joined = keys(&dir, &["rotate", "--join"]).await["joined"].clone();
    assert_eq!(
        keys(&dir, &["rotate", "--join"]).await["joined"],
        joined,
        "one joins at a time"
    );
    assert_eq!(keys(&dir, &["rotate", "--finish"]).await["current"], joined);

    // As it would be had the rotation ended before it came to the join codes.
    sqlx::query("update core.join_codes set sealed = $1")
        .bind(&sealed)
        .execute(&mut database)
        .await
        .unwrap();
    let_time_pass(&dir);
    refused(&dir, &["retire", &first], "1 of core.join_codes are sealed under").await;
    let finished = keys(&dir, &["rotate"]).await;
    assert_eq!((&finished["made"], &finished["current"]), (&json!(false), &joined));
    let resealed = &finished["resealed"];
    assert_eq!(
        (&resealed["core.join_codes"], &resealed["core.signing_keys"]),
        (&json!(1), &json!(0))
    );
    let idle = keys(&dir, &["rotate", "--finish"]).await;
    assert_eq!((&idle["made"], &idle["current"]), (&json!(false), &joined));
    assert_eq!(world.ok(JOIN_CODE, company, &it.token).await["code"], code);

    // A ring that lacks a key changes nothing, and tells no key.
    let url = installation.database_url.expose_secret().to_owned();
    let wrong = "0101010101010101010101010101010101010101010101010101010101010101";
    let given = ["keys", "rotate", "--key-ring", wrong, "--database-url", &url];
    let done = studios(&given).await;
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("nothing was changed") && !said.contains(wrong), "{said}");
    let ring = Home::existing(&dir).unwrap().key_ring.expose_secret().to_owned();
    let given = ["keys", "rotate", "--key-ring", &ring, "--database-url", &url];
    let done: Value = serde_json::from_slice(&studios(&given).await.stdout).unwrap();
    assert_eq!((&done["made"], &done["current"]), (&json!(false), &joined));
    world.lifecycle.shut_down(GRACE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sealed_column_of_the_schema_is_one_that_a_rotation_seals_anew() {
    /// Hashes without a key, public keys, and what lies under keys of its own: nothing in them needs a root key.
    const NOT_SEALED: [&str; 33] = [
        "core.applied_migrations.checksum",
        "core.audit_heads.hash",
        "core.audit_heads.key",
        "core.audit_heads.signature",
        "core.audit_links.hash",
        "core.audit_log.personal",
        "core.chunk_vectors.vector",
        "core.documents.sha256",
        "core.file_versions.sha256",
        "core.files.sha256",
        "core.invitations.token_hash",
        "core.join_codes.code_hash",
        "core.mail_tokens.token_hash",
        "core.objects.sha256",
        "core.privacy_requests.sha256",
        "core.rate_limits.key",
        "core.refresh_tokens.token_hash",
        "core.request_ids.body_hash",
        "core.uploads.expected_sha256",
        "core.uploads.inspection",
        "core.uploads.tail",
        "execution.agent_proposals.base",
        "execution.applied_migrations.checksum",
        "execution.audit_heads.hash",
        "execution.audit_heads.key",
        "execution.audit_heads.signature",
        "execution.audit_links.hash",
        "execution.audit_log.personal",
        "execution.journal.hash",
        "execution.journal.payload",
        "execution.request_ids.body_hash",
        "execution.runs.head",
        "execution.start_keys.body_hash",
    ];
    let url = TestCluster::get().await.database().await;
    let mut database = PgConnection::connect(url.expose_secret()).await.unwrap();
    let found: Vec<String> = sqlx::query_scalar(
        "select table_schema || '.' || table_name || '.' || column_name from information_schema.columns c
         where table_schema in ('core', 'execution') and udt_name = 'bytea' and not exists (
             select from pg_inherits where inhrelid = format('%I.%I', table_schema, table_name)::regclass)",
    )
    .fetch_all(&mut database)
    .await
    .unwrap();
    let sealed = SEALED.iter().map(|it| format!("{}.{}", it.table, it.column));
    let hashed = HASHED.iter().map(|it| format!("{}.{}", it.table, it.column));
    let told: BTreeSet<String> = sealed.chain(hashed).chain(NOT_SEALED.map(str::to_owned)).collect();
    let untold: Vec<String> = found.into_iter().filter(|it| !told.contains(it)).collect();
    assert!(untold.is_empty(), "sealed or not? {untold:?}");
}
