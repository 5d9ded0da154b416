//! Exports and erasures as tests ask for them and look into them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Cursor, Read},
};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::{sleep, timeout};
use zip::ZipArchive;

use crate::{
    tenant::{Tenant, id},
    world::{PATIENCE, World},
};

/// The service.
pub const PRIVACY: &str = "studios.core.v1.PrivacyService";

/// A call of the service.
pub async fn call(world: &World, it: &Tenant, method: &str, body: Value) -> Value {
    world.ok(&format!("{PRIVACY}/{method}"), body, &it.token).await
}

/// Asks for something and returns the request's id.
pub async fn ask(world: &World, it: &Tenant, method: &str, body: Value) -> String {
    id(&call(world, it, method, body).await)
}

/// Has the time be over in which a request can be taken back.
pub async fn end_grace(world: &World, request: &str) {
    let done = sqlx::query("update core.privacy_requests set due_at = now() where id = $1::uuid and state = 'waiting'")
        .bind(request)
        .execute(&world.admin().await)
        .await
        .expect("the database answers");
    assert_eq!(done.rows_affected(), 1, "it waits");
}

/// Waits until a condition about a request's row holds, which nobody needs to be let in to see.
pub async fn until(world: &World, request: &str, condition: &str) {
    let admin = world.admin().await;
    let statement = format!("select ({condition}) is true from core.privacy_requests where id = $1::uuid");
    let asked = async {
        loop {
            let holds: bool = sqlx::query_scalar(AssertSqlSafe(statement.clone()))
                .bind(request)
                .fetch_one(&admin)
                .await
                .expect("the request is there");
            if holds {
                return;
            }
            sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| panic!("it is never so that {condition}"));
}

/// The archive of an export, once it is made: its files by their names, read at a signed URL.
pub async fn archive(world: &World, it: &Tenant, request: &str) -> BTreeMap<String, Vec<u8>> {
    let done = |it: &Value| it["state"] == "PRIVACY_STATE_DONE";
    let made = world
        .until(
            &format!("{PRIVACY}/GetPrivacyRequest"),
            json!({ "id": request }),
            &it.token,
            done,
        )
        .await;
    let url = call(world, it, "CreateExportUrl", json!({ "id": request })).await;
    let answer = reqwest::get(world.url(url["urlPath"].as_str().expect("a path")))
        .await
        .expect("the gateway answers");
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.headers()["etag"],
        format!("\"{}\"", made["sha256"].as_str().expect("a hash"))
    );
    let bytes = answer.bytes().await.expect("it comes whole");
    assert_eq!(made["sizeBytes"], bytes.len().to_string());
    let mut zip = ZipArchive::new(Cursor::new(bytes)).expect("a ZIP");
    (0..zip.len())
        .map(|place| {
            let mut file = zip.by_index(place).expect("a file");
            let mut content = Vec::new();
            file.read_to_end(&mut content).expect("its sum is right");
            (file.name().expect("a name").into_owned(), content)
        })
        .collect()
}

/// The rows of both services in an archive, by their kinds.
pub fn rows(archive: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<Value>> {
    let mut rows: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for part in ["core.jsonl", "execution.jsonl"] {
        let text = std::str::from_utf8(&archive[part]).expect("it is text");
        for line in text.lines() {
            let mut line: Value = serde_json::from_str(line).expect("a line is JSON");
            let kind = line["kind"].as_str().expect("a kind").to_owned();
            rows.entry(kind).or_default().push(line["data"].take());
        }
    }
    rows
}

/// The tables of both schemas in which a text stands, in whatever column, as text or as bytes.
pub async fn tables_with(admin: &PgPool, text: &str) -> BTreeSet<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.oid::regclass::text from pg_class c
         where c.relnamespace in ('core'::regnamespace, 'execution'::regnamespace) and c.relkind = 'r'",
    )
    .fetch_all(admin)
    .await
    .expect("the catalogue is there");
    let mut found = BTreeSet::new();
    for table in tables {
        let statement = format!(
            "select exists (select from {table} t where strpos(lower(t::text), lower($1)) > 0 or strpos(t::text, encode(convert_to($1, 'UTF8'), 'hex')) > 0)"
        );
        let is_in: bool = sqlx::query_scalar(AssertSqlSafe(statement))
            .bind(text)
            .fetch_one(admin)
            .await
            .expect("the table is there");
        if is_in {
            found.insert(table);
        }
    }
    found
}

/// Waits until a text stands nowhere but in these tables.
pub async fn until_only_in(world: &World, text: &str, tables: &[&str]) {
    let admin = world.admin().await;
    let allowed: BTreeSet<String> = tables.iter().map(|it| (*it).to_owned()).collect();
    let mut left = BTreeSet::new();
    let asked = async {
        loop {
            left = tables_with(&admin, text).await.difference(&allowed).cloned().collect();
            if left.is_empty() {
                return;
            }
            sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let is_gone = timeout(PATIENCE, asked).await.is_ok();
    assert!(is_gone, "{text} is still in {left:?}");
}
