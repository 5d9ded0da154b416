//! Documents, from their text to the chunks that are found.

use serde_json::{Value, json};
use studios_tests::{
    refusal::{assert_reason, fields},
    tenant::{Tenant, id},
    world::World,
};
use tonic::Code;
use uuid::Uuid;

const DOCUMENTS: &str = "studios.core.v1.DocumentService";
const TEXT: &str = "# Manual\n\nRead this first.\n\n## Engine\n\nThe engine needs oil. Change the oil every spring.\n\n## Sails\n\nDry the sails.\n";

#[tokio::test]
async fn a_markdown_document_is_chunked_by_its_headings() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let document = it.add_document(&world, "Manual", TEXT).await;
    let page = world
        .ok(
            &format!("{DOCUMENTS}/ListChunks"),
            json!({ "documentId": document }),
            &it.token,
        )
        .await;
    let chunks = page["chunks"].as_array().unwrap();
    let seen: Vec<_> = chunks
        .iter()
        .map(|chunk| (chunk["index"].as_i64().unwrap(), chunk["section"].as_str().unwrap()))
        .collect();
    assert_eq!(seen, [(0, "Manual"), (1, "Manual > Engine"), (2, "Manual > Sails")]);
    let read = world
        .ok(
            &format!("{DOCUMENTS}/GetDocument"),
            json!({ "id": document }),
            &it.token,
        )
        .await;
    assert_eq!(
        (&read["chunkCount"], &read["status"]),
        (&json!(3), &json!("PROCESSING_STATUS_COMPLETED"))
    );
    let text = world
        .ok(
            &format!("{DOCUMENTS}/GetDocumentText"),
            json!({ "id": document }),
            &it.token,
        )
        .await;
    assert_eq!(text["text"], TEXT);
}

#[tokio::test]
async fn a_search_finds_sections_with_marked_snippets() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    it.add_document(&world, "Manual", &TEXT.replace("needs oil", "needs <b>oil</b> & care"))
        .await;
    let search = |query: &str, mode: &str| json!({ "studioId": it.studio, "query": query, "matchMode": mode });
    let method = format!("{DOCUMENTS}/SearchChunks");
    let found = world
        .ok(&method, search("changing oil", "MATCH_MODE_ALL"), &it.token)
        .await;
    let results = found["results"].as_array().unwrap();
    assert_eq!(results.len(), 1);
    assert_eq!(
        (&results[0]["chunk"]["section"], &results[0]["documentTitle"]),
        (&json!("Manual > Engine"), &json!("Manual"))
    );
    let snippet = results[0]["snippet"].as_str().unwrap();
    assert!(
        snippet.contains("<mark>oil</mark>") && snippet.contains("&lt;b&gt;") && !snippet.contains("<b>"),
        "{snippet}"
    );
    assert!(results[0]["score"].as_f64().unwrap() > 0.0);

    let none = world
        .ok(
            &method,
            search("how are the sails and the engine kept", "MATCH_MODE_ALL"),
            &it.token,
        )
        .await;
    assert_eq!(none["results"], json!([]));
    let any = world
        .ok(
            &method,
            search("how are the sails and the engine kept", "MATCH_MODE_ANY"),
            &it.token,
        )
        .await;
    assert_eq!(any["results"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_private_document_is_its_makers_alone() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let colleague = Tenant::user(&world).await;
    sqlx::query("insert into core.memberships (id, company_id, user_id, role, state) values ($1, $2::uuid, $3::uuid, 'admin', 'approved')")
        .bind(Uuid::now_v7())
        .bind(&it.company)
        .bind(&colleague.user)
        .execute(&world.admin().await)
        .await
        .unwrap();
    let body = json!({ "document": { "studioId": it.studio, "title": "Diary", "mimeType": "text/plain",
        "accessLevel": "ACCESS_LEVEL_PRIVATE" }, "text": "The secret berth is number nine." });
    let diary = id(&world.ok(&format!("{DOCUMENTS}/CreateDocument"), body, &it.token).await);
    let done = |it: &Value| it["status"] == "PROCESSING_STATUS_COMPLETED";
    world
        .until(
            &format!("{DOCUMENTS}/GetDocument"),
            json!({ "id": diary }),
            &it.token,
            done,
        )
        .await;

    let search = json!({ "studioId": it.studio, "query": "berth" });
    let own = world
        .ok(&format!("{DOCUMENTS}/SearchChunks"), search.clone(), &it.token)
        .await;
    assert_eq!(own["results"].as_array().unwrap().len(), 1);
    let other = world
        .ok(&format!("{DOCUMENTS}/SearchChunks"), search, &colleague.token)
        .await;
    assert_eq!(other["results"], json!([]));
    for method in ["GetDocument", "GetDocumentText", "DeleteDocument", "ReprocessDocument"] {
        let status = world
            .refused(
                &format!("{DOCUMENTS}/{method}"),
                json!({ "id": diary }),
                &colleague.token,
            )
            .await;
        assert_eq!(status.code(), Code::NotFound, "{method}");
    }
}

#[tokio::test]
async fn a_document_names_every_wrong_field() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let create = format!("{DOCUMENTS}/CreateDocument");
    let body = json!({ "document": { "studioId": "x", "title": "", "mimeType": "image/png" }, "text": " \n " });
    assert_eq!(
        fields(&world.refused(&create, body, &it.token).await),
        ["document.mime_type", "document.studio_id", "document.title", "text"]
    );
    let large = json!({ "document": { "studioId": it.studio, "title": "Large", "mimeType": "text/plain" }, "text": "x".repeat((4 << 20) + 1) });
    assert_eq!(fields(&world.refused(&create, large, &it.token).await), ["text"]);
}

#[tokio::test]
async fn the_largest_document_is_taken_and_a_nul_is_taken_out_of_it() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let sentence = "The tide table is read aloud every morning.\0 ";
    let mut text = sentence.repeat((4 << 20) / sentence.len());
    text.truncate(4 << 20);
    let body =
        json!({ "document": { "studioId": it.studio, "title": "Long", "mimeType": "text/plain" }, "text": text });
    let made = world.ok(&format!("{DOCUMENTS}/CreateDocument"), body, &it.token).await;
    assert_eq!(made["textCleaned"], true);
    let done = |it: &Value| it["status"] == "PROCESSING_STATUS_COMPLETED";
    let read = world
        .until(
            &format!("{DOCUMENTS}/GetDocument"),
            json!({ "id": id(&made) }),
            &it.token,
            done,
        )
        .await;
    assert!(read["chunkCount"].as_i64().unwrap() > 1000);
}

#[tokio::test]
async fn what_a_document_is_called_and_found_under_changes_and_who_may_change_it() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let colleague = Tenant::user(&world).await;
    it.add_member(&world, &colleague, "ROLE_MEMBER").await;
    let document = it.add_document(&world, "Manual", TEXT).await;
    let update = format!("{DOCUMENTS}/UpdateDocument");
    let tagged = |tag: &str| json!({ "studioId": it.studio, "query": "oil", "filter": { "tags": [tag] } });
    let search = async |tag: &str| {
        let found = world
            .ok(&format!("{DOCUMENTS}/SearchChunks"), tagged(tag), &it.token)
            .await;
        found["results"].as_array().unwrap().len()
    };
    let body = json!({ "document": { "id": document, "title": "Berths", "tags": ["pier", "berths", "pier"] } });
    let changed = world.ok(&update, body, &it.token).await;
    assert_eq!(
        (&changed["title"], &changed["tags"]),
        (&json!("Berths"), &json!(["berths", "pier"]))
    );
    assert_eq!(
        changed["status"], "PROCESSING_STATUS_COMPLETED",
        "its chunks are what they were"
    );
    assert_eq!((search("pier").await, search("mole").await), (1, 0));

    let stale = json!({ "document": { "id": document, "title": "Late", "etag": "r1" } });
    let status = world.refused(&update, stale, &it.token).await;
    assert_eq!(status.code(), Code::Aborted);
    let cleared = json!({ "document": { "id": document, "etag": changed["etag"] }, "updateMask": "tags" });
    assert_eq!(world.ok(&update, cleared, &it.token).await["tags"], json!([]));

    let wrong =
        json!({ "document": { "id": document, "language": "xx", "tags": [""] }, "updateMask": "title,language,tags" });
    assert_eq!(
        fields(&world.refused(&update, wrong, &it.token).await),
        ["document.language", "document.tags[0]", "document.title"]
    );
    let fixed = json!({ "document": { "id": document, "mimeType": "text/plain" }, "updateMask": "mimeType" });
    assert_eq!(fields(&world.refused(&update, fixed, &it.token).await), ["update_mask"]);

    let theirs = json!({ "document": { "id": document, "title": "Mine" } });
    let status = world.refused(&update, theirs, &colleague.token).await;
    assert_reason(&status, Code::PermissionDenied, "ADMIN_REQUIRED");
    let made =
        json!({ "document": { "studioId": it.studio, "title": "Note", "mimeType": "text/plain" }, "text": "A berth." });
    let note = world
        .ok(&format!("{DOCUMENTS}/CreateDocument"), made, &colleague.token)
        .await;
    let hidden = json!({ "document": { "id": id(&note), "accessLevel": "ACCESS_LEVEL_PRIVATE" } });
    let status = world.refused(&update, hidden.clone(), &it.token).await;
    assert_reason(&status, Code::PermissionDenied, "MAKER_REQUIRED");
    world.ok(&update, hidden, &colleague.token).await;
    let gone = world
        .refused(
            &format!("{DOCUMENTS}/GetDocument"),
            json!({ "id": id(&note) }),
            &it.token,
        )
        .await;
    assert_eq!(gone.code(), Code::NotFound, "it is private now");
}

#[tokio::test]
async fn reprocessing_replaces_the_chunks() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let document = it.add_document(&world, "Manual", TEXT).await;
    let list = format!("{DOCUMENTS}/ListChunks");
    let before = world.ok(&list, json!({ "documentId": document }), &it.token).await;
    world
        .ok(
            &format!("{DOCUMENTS}/ReprocessDocument"),
            json!({ "id": document }),
            &it.token,
        )
        .await;
    let fresh = |now: &Value| {
        now["chunks"][0]["id"] != before["chunks"][0]["id"] && now["chunks"].as_array().unwrap().len() == 3
    };
    world
        .until(&list, json!({ "documentId": document }), &it.token, fresh)
        .await;
}

#[tokio::test]
async fn a_job_whose_worker_died_is_done_by_the_next() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let admin = world.admin().await;
    world.lifecycle.shut_down(studios_tests::world::PATIENCE).await;
    let document = Uuid::now_v7();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "insert into core.documents (id, company_id, studio_id, title, mime_type, access_level, status, size_bytes, sha256, created_by)
         values ('{document}', '{company}', '{studio}', 'Left', 'text/plain', 'studio', 'processing', 4, '', '{user}');
         insert into core.document_texts (document_id, company_id, text) values ('{document}', '{company}', 'Left behind.');
         insert into core.jobs (id, company_id, kind, payload, tries, leased_until, run_at)
         values ('{document}', '{company}', 'process_document', '{{\"document_id\": \"{document}\"}}', 1, now() - interval '1 s', now() - interval '1 s');",
        company = it.company,
        studio = it.studio,
        user = it.user,
    )))
    .execute(&admin)
    .await
    .unwrap();
    let next = World::over(world.database_url.clone()).await;
    let done = |it: &Value| it["status"] == "PROCESSING_STATUS_COMPLETED";
    next.until(
        &format!("{DOCUMENTS}/GetDocument"),
        json!({ "id": document.to_string() }),
        &it.token,
        done,
    )
    .await;
}
