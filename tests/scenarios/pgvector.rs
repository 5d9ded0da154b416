//! Vectors where the database has pgvector: what is found is what is found without it, of more chunks; and the extension may come,
//! and go, at any time. Over a newer PostgreSQL than all other tests.

use std::{fmt::Write as _, time::Duration};

use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use studios_cli::{
    home::Home,
    migrate::{self, Mode, Report, RolePasswords, Vectors},
};
use studios_tests::{
    cluster::TestCluster,
    refusal::assert_reason,
    tenant::Tenant,
    world::{PATIENCE, World},
};
use tonic::Code;

use super::search::{SEARCH, search, vectors_go_round};

const MODEL: &str = "toy/16";

async fn world() -> World {
    World::over(TestCluster::newer().await.database().await).await
}

/// `studios migrate`.
async fn migrated(url: &SecretString, mode: Mode) -> Report {
    let home = Home::open(TestCluster::newer().await.home()).unwrap();
    migrate::run(url, &RolePasswords::derive(&home.keys), mode)
        .await
        .unwrap()
}

async fn run(admin: &PgPool, sql: impl Into<String>) {
    sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(admin).await.unwrap();
}

async fn count(admin: &PgPool, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(admin).await.unwrap()
}

/// Documents in a studio, each of `per` chunks, whose vectors of 16 dimensions are those of `vector`, SQL over the chunk's number `c`.
async fn fill(admin: &PgPool, it: &Tenant, name: &str, documents: i32, per: i32, vector: &str) {
    let (company, studio, user) = (&it.company, &it.studio, &it.user);
    let (document, chunk) = (
        format!("md5('{name} {studio} ' || d)::uuid"),
        format!("md5('{name} {studio} chunk ' || c)::uuid"),
    );
    let numbered =
        format!("generate_series(1, {documents}) d, lateral generate_series((d - 1) * {per} + 1, d * {per}) c");
    run(
        admin,
        format!(
            "insert into core.documents (id, company_id, studio_id, title, mime_type, access_level, status, size_bytes, sha256,
                 chunk_count, created_by)
             select {document}, '{company}', '{studio}', '{name} ' || d, 'text/plain', 'studio', 'completed', 1, '', {per}, '{user}'
             from generate_series(1, {documents}) d;
             insert into core.embeddings (document_id, company_id, model)
             select {document}, '{company}', '{MODEL}' from generate_series(1, {documents}) d;
             insert into core.chunks (id, company_id, document_id, index, content, token_count)
             select {chunk}, '{company}', {document}, c, 'berth ' || c, 2 from {numbered};
             insert into core.chunk_vectors (chunk_id, company_id, document_id, model, vector)
             select {chunk}, '{company}', {document}, '{MODEL}', {vector} from {numbered};
             analyze core.chunk_vectors;"
        ),
    )
    .await;
}

/// Queries that point anywhere.
fn queries(count: u8) -> Vec<Vec<f64>> {
    let number = |query: u8, place: u8| (f64::from(query) * 7.3 + f64::from(place) * 2.9 + 1.0).sin();
    (0..count)
        .map(|query| (0..16).map(|place| number(query, place)).collect())
        .collect()
}

fn body(mode: &str, numbers: &[f64], limit: u8) -> Value {
    json!({ "query": "berth", "mode": mode, "limit": limit, "vector": { "model": MODEL, "numbers": numbers } })
}

/// What is found: chunks with their scores.
fn hits(found: &Value) -> Vec<(String, f64)> {
    let hit = |it: &Value| {
        (
            it["chunk"]["id"].as_str().unwrap().to_owned(),
            it["score"].as_f64().unwrap(),
        )
    };
    found["results"].as_array().unwrap().iter().map(hit).collect()
}

/// What is found by all queries in both modes.
async fn answers(world: &World, it: &Tenant) -> Vec<Vec<(String, f64)>> {
    let mut answers = Vec::new();
    for numbers in queries(5) {
        for mode in ["SEARCH_MODE_VECTOR", "SEARCH_MODE_FUSED"] {
            answers.push(hits(&search(world, it, body(mode, &numbers, 100)).await));
        }
    }
    answers
}

#[tokio::test]
async fn pgvector_finds_what_is_found_without_it_whenever_it_comes_and_goes() {
    let world = world().await;
    let admin = world.admin().await;
    let it = Tenant::with_studio(&world).await;
    // Every vector four times, so that chunks are equally near.
    fill(&admin, &it, "Many", 40, 50, "decode(md5((c % 500)::text), 'hex')").await;
    fill(&admin, &it, "Zero", 1, 3, "decode(repeat('00', 16), 'hex')").await;
    fill(&admin, &it, "Longer", 1, 3, "decode(repeat('7f', 17), 'hex')").await;
    fill(&admin, &it, "Longest", 1, 2, "decode(repeat('7f', 3999 + c), 'hex')").await;
    // As much as a row ever has.
    run(
        &admin,
        "update core.chunk_vectors set model = repeat('m', 500) where length(vector) > 100",
    )
    .await;
    let by = async || migrate::vectors(&mut *admin.acquire().await.unwrap()).await.unwrap();
    assert!(matches!(by().await, Vectors::ByPgvector { indexes: 0, .. }));
    let halved = "select count(half) from core.chunk_vectors";
    assert_eq!(count(&admin, halved).await, 2007, "all but one of 4,001 dimensions");
    let with = answers(&world, &it).await;
    assert!(with.iter().all(|it| it.len() == 100));

    run(&admin, "drop extension vector cascade").await;
    assert_eq!(by().await, Vectors::Next);
    assert_eq!(answers(&world, &it).await, with);
    let told = async |chunks: u32| {
        run(
            &admin,
            format!("update core.documents set chunk_count = {chunks} where title = 'Many 1'"),
        )
        .await;
    };
    told(50_000).await;
    let refused = async |numbers: &[f64]| {
        let mut wanted = body("SEARCH_MODE_VECTOR", numbers, 10);
        wanted["studioId"] = json!(it.studio);
        world.refused(SEARCH, wanted, &it.token).await
    };
    assert_reason(&refused(&[1.0; 16]).await, Code::FailedPrecondition, "TOO_MANY_CHUNKS");
    fill(&admin, &it, "Later", 1, 2, "decode(md5(c::text), 'hex')").await;

    let plan = migrated(&world.database_url, Mode::Plan).await;
    assert_eq!((plan.vectors.vectors, plan.vectors.converted), (Vectors::Next, 0));
    run(&admin, "delete from core.documents where title = 'Later 1'").await;
    run(&admin, "create schema extensions").await;
    told(50).await;
    let done = migrated(&world.database_url, Mode::Apply).await.vectors;
    assert_eq!(done.converted, 2007);
    assert!(done.to_string().starts_with("pgvector 0.8"), "{done}");
    told(50_000).await;
    assert_eq!(
        answers(&world, &it).await,
        with,
        "as exactly, where there are more and no index"
    );
    assert_reason(
        &refused(&[1.0; 4001]).await,
        Code::FailedPrecondition,
        "TOO_MANY_CHUNKS",
    );
    told(50).await;
    let again = migrated(&world.database_url, Mode::Apply).await.vectors;
    assert_eq!((again.converted, again.indexes.len()), (0, 0));

    // What was broken off is gone on with.
    run(
        &admin,
        "alter table core.chunk_vectors disable trigger halve, drop constraint chunk_vectors_halved;
         update core.chunk_vectors set half = null where length(vector) = 16 and get_byte(vector, 0) > 127;
         alter table core.chunk_vectors enable trigger halve,
             add constraint chunk_vectors_halved check (half is not null or length(vector) > 4000) not valid",
    )
    .await;
    assert_eq!(by().await, Vectors::Next);
    let rest = migrated(&world.database_url, Mode::Apply).await.vectors.converted;
    assert!((1..2000).contains(&rest), "{rest}");
    assert_eq!(count(&admin, halved).await, 2007);
}

#[tokio::test]
async fn an_administrator_is_told_what_he_must_do_for_pgvector_to_be_used() {
    let url = TestCluster::newer().await.database().await;
    let admin = PgPool::connect(secrecy::ExposeSecret::expose_secret(&url))
        .await
        .unwrap();
    let told = async |sql: &str| {
        let mut tx = admin.begin().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await.unwrap();
        let connection: &mut PgConnection = &mut tx;
        migrate::vectors(connection).await.unwrap()
    };
    let away = "drop extension vector cascade; create schema far; create extension vector schema far";
    let waiting = Vectors::Waiting("run `grant usage on schema far to studios_owner`".into());
    assert_eq!(told(away).await, waiting);
    assert_eq!(
        told(&format!("{away}; grant usage on schema far to studios_owner")).await,
        Vectors::Next
    );
    let old = told("update pg_extension set extversion = '0.7.4' where extname = 'vector'").await;
    assert!(
        matches!(&old, Vectors::Waiting(what) if what.contains("0.7.4")),
        "{old}"
    );
    run(&admin, away).await;
    let done = migrated(&url, Mode::Apply).await.vectors;
    assert!(
        matches!(done.vectors, Vectors::ByPgvector { .. }),
        "it is granted by who may: {done}"
    );
}

/// The chunks nearest to a vector among a studio's own, which its maker can read.
async fn nearest(admin: &PgPool, it: &Tenant, numbers: &[f64], most: i64) -> Vec<String> {
    let mut vector = String::new();
    for number in numbers {
        let _ = write!(vector, "{}{number}", if vector.is_empty() { '[' } else { ',' });
    }
    let sql = format!(
        "select v.chunk_id::text from core.chunk_vectors v join core.documents d on d.id = v.document_id
         where d.studio_id = '{}' and d.access_level = 'studio' order by v.half <=> '{vector}]'::halfvec limit {most}",
        it.studio
    );
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(admin).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_studio_is_searched_by_an_index_of_its_companys_own() {
    const QUERIES: u8 = 10;
    let world = world().await;
    let admin = world.admin().await;
    let it = Tenant::with_studio(&world).await;
    run(
        &admin,
        "alter table core.chunks disable trigger search, alter column search set default ''",
    )
    .await;
    fill(&admin, &it, "Many", 101, 500, "decode(md5(c::text), 'hex')").await;
    // Nearer than any of them, and nobody's to find here: another company's, another studio's, and a colleague's own.
    let other = Tenant::with_studio(&world).await;
    let colleague = Tenant::user(&world).await;
    it.add_member(&world, &colleague, "ROLE_ADMIN").await;
    let studio = json!({ "studio": { "companyId": it.company, "branchId": it.branch, "name": "Second",
        "businessArea": "BUSINESS_AREA_OPERATIONS" } });
    let second = world
        .ok("studios.core.v1.StudioService/CreateStudio", studio, &it.token)
        .await;
    let mut elsewhere = Tenant::user(&world).await;
    elsewhere.company.clone_from(&it.company);
    elsewhere.studio = second["id"].as_str().unwrap().to_owned();
    let mut private = Tenant::user(&world).await;
    private.company.clone_from(&it.company);
    private.studio.clone_from(&it.studio);
    private.user.clone_from(&colleague.user);
    for (place, numbers) in (1..).zip(queries(QUERIES)) {
        let bytes: String = numbers.iter().map(|it| format!("{:02x}", code(*it))).collect();
        for near in [&other, &elsewhere, &private] {
            fill(
                &admin,
                near,
                &format!("Near {place}"),
                1,
                20,
                &format!("decode('{bytes}', 'hex')"),
            )
            .await;
        }
    }
    run(
        &admin,
        format!(
            "update core.documents set access_level = 'private' where created_by = '{}'",
            colleague.user
        ),
    )
    .await;
    run(&admin, "analyze").await;

    // A build that was broken off is made anew.
    run(
        &admin,
        format!(
            "do $$ begin execute format('create index %I on core.chunk_vectors (created_at)', core.vector_index('{}', '{MODEL}', 16)); end $$;
             update pg_index set indisvalid = false
             where indexrelid = ('core.' || core.vector_index('{0}', '{MODEL}', 16))::regclass",
            it.company
        ),
    )
    .await;
    let done = migrated(&world.database_url, Mode::Apply).await.vectors;
    assert_eq!(done.indexes.len(), 2, "{done}");
    assert!(matches!(done.vectors, Vectors::ByPgvector { indexes: 0, .. }), "{done}");

    let mut found_of = (0, 0);
    for numbers in queries(QUERIES) {
        let exact = nearest(&admin, &it, &numbers, 20).await;
        let found = hits(&search(&world, &it, body("SEARCH_MODE_VECTOR", &numbers, 20)).await);
        assert_eq!(found.len(), 20);
        assert!(found.is_sorted_by(|one, next| one.1 >= next.1));
        found_of.0 += found.iter().filter(|(chunk, _)| exact.contains(chunk)).count();
        found_of.1 += exact.len();
    }
    assert!(found_of.0 * 100 >= found_of.1 * 95, "{found_of:?}");
    let is_used = async {
        let sql = "select idx_scan from pg_stat_user_indexes where indexrelname like 'chunk_vectors_near_%'";
        while count(&admin, sql).await < i64::from(QUERIES) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_used)
        .await
        .expect("the index finds them");

    // Its own are nearer by far for the colleague; what is left of a studio is compared.
    let numbers = queries(1).remove(0);
    let own = world
        .ok(
            SEARCH,
            json!({ "studioId": it.studio, "query": "x", "mode": "SEARCH_MODE_VECTOR", "limit": 20,
                "vector": { "model": MODEL, "numbers": numbers } }),
            &colleague.token,
        )
        .await;
    assert!(hits(&own).iter().all(|(_, score)| *score > 0.999), "{own}");
    let theirs = search(&world, &other, body("SEARCH_MODE_VECTOR", &numbers, 100)).await;
    assert!(
        theirs["results"]
            .as_array()
            .unwrap()
            .iter()
            .all(|it| it["documentTitle"].as_str().unwrap().starts_with("Near"))
    );

    run(
        &admin,
        format!(
            "update core.documents set chunk_count = 1 where company_id = '{}'",
            it.company
        ),
    )
    .await;
    let less = migrated(&world.database_url, Mode::Apply).await.vectors;
    assert!(
        less.indexes.len() == 1 && less.indexes[0].starts_with("drop index"),
        "{less}"
    );
}

/// A number as it is stored, of numbers up to 1.
fn code(number: f64) -> u8 {
    #[expect(clippy::cast_possible_truncation, reason = "it is at most 127")]
    let code = (number * 127.0).round() as i8;
    code.to_le_bytes()[0]
}

#[tokio::test]
async fn vectors_are_stored_replaced_exported_and_erased_with_pgvector_as_without() {
    let world = world().await;
    let admin = world.admin().await;
    let it = vectors_go_round(&world).await;
    fill(&admin, &it, "Some", 1, 3, "decode(md5(c::text), 'hex')").await;
    let exported: Vec<Value> = sqlx::query_scalar(
        "select data from core.export_company($1::uuid) e where e.kind = 'chunk_vectors' order by data ->> 'chunk_id'",
    )
    .bind(&it.company)
    .fetch_all(&admin)
    .await
    .unwrap();
    assert!(exported.len() >= 3, "{exported:?}");
    for row in exported {
        let columns: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            columns,
            ["chunk_id", "company_id", "created_at", "document_id", "model"]
        );
    }
    let lacking = "select count(*) from core.chunk_vectors v where v.half is distinct from core.halved(v.vector)";
    assert_eq!(count(&admin, lacking).await, 0);
    run(
        &admin,
        format!(
            "update core.chunk_vectors set vector = '\\x01ff' where company_id = '{}'",
            it.company
        ),
    )
    .await;
    assert_eq!(count(&admin, lacking).await, 0);
    run(
        &admin,
        format!("delete from core.documents where company_id = '{}'", it.company),
    )
    .await;
    let left = format!(
        "select count(*) from core.chunk_vectors where company_id = '{}'",
        it.company
    );
    assert_eq!(count(&admin, &left).await, 0);
}

#[tokio::test]
async fn an_installation_does_everything_on_a_newer_postgresql() {
    let world = world().await;
    let it = Tenant::make(&world).await;
    let found = search(&world, &it, json!({ "query": "harbuor office" })).await;
    assert_eq!(found["correctedQuery"], "harbour office");
}
