//! Documents made from files: what each format gives, and what broken and hostile ones do, which is to fail with a reason.

use serde_json::{Value, json};
use studios_tests::{
    files::{FILES, upload},
    papers::{DOCX, PDF, XLSX, docx, pdf, xlsx, zipped},
    refusal::assert_reason,
    tenant::{Tenant, id},
    world::World,
};
use tonic::Code;

const DOCUMENTS: &str = "studios.core.v1.DocumentService";

async fn put(world: &World, it: &Tenant, name: &str, mime_type: &str, bytes: &[u8]) -> String {
    let file = json!({ "studioId": it.studio, "name": name, "mimeType": mime_type });
    id(&upload(world, &it.token, file, bytes).await.unwrap())
}

async fn make(world: &World, it: &Tenant, file: &str) -> Value {
    let body = json!({ "document": { "studioId": it.studio, "title": "Paper" }, "fileId": file });
    world.ok(&format!("{DOCUMENTS}/CreateDocument"), body, &it.token).await
}

async fn processed(world: &World, it: &Tenant, document: &Value) -> Value {
    let done = |it: &Value| {
        ["PROCESSING_STATUS_COMPLETED", "PROCESSING_STATUS_FAILED"].contains(&it["status"].as_str().unwrap_or_default())
    };
    let body = json!({ "id": document["id"] });
    world
        .until(&format!("{DOCUMENTS}/GetDocument"), body, &it.token, done)
        .await
}

/// Uploads a file, makes a document from it and waits for its end.
async fn extracted(world: &World, it: &Tenant, name: &str, mime_type: &str, bytes: &[u8]) -> Value {
    let file = put(world, it, name, mime_type, bytes).await;
    let document = make(world, it, &file).await;
    assert_eq!(
        (&document["mimeType"], &document["fileId"], &document["fileVersion"]),
        (&json!(mime_type), &json!(file), &json!(1))
    );
    processed(world, it, &document).await
}

async fn chunks(world: &World, it: &Tenant, document: &Value) -> Vec<(String, String, i64)> {
    let body = json!({ "documentId": document["id"] });
    let page = world.ok(&format!("{DOCUMENTS}/ListChunks"), body, &it.token).await;
    let chunk = |it: &Value| {
        let text = |key: &str| it[key].as_str().unwrap_or_default().to_owned();
        (
            text("section"),
            text("content"),
            it["page"].as_i64().unwrap_or_default(),
        )
    };
    page["chunks"].as_array().unwrap().iter().map(chunk).collect()
}

fn triple(section: &str, content: &str, page: i64) -> (String, String, i64) {
    (section.to_owned(), content.to_owned(), page)
}

#[tokio::test]
async fn every_format_gives_its_text_with_sections_and_pages() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let paper = docx(
        r#"<w:p><w:pPr><w:pStyle w:val="h1"/></w:pPr><w:r><w:t>Fees</w:t></w:r></w:p><w:p><w:r><w:t>A berth is 40.</w:t></w:r></w:p>"#,
    );
    let cell = |at: &str, text: &str| format!(r#"<c r="{at}" t="inlineStr"><is><t>{text}</t></is></c>"#);
    let rows = format!(r#"<row r="1">{}{}</row>"#, cell("A1", "Berth"), cell("C1", "Fee"));
    let html = b"<html><body><h1>Tides</h1><p>High at noon.</p></body></html>";
    for (name, mime_type, bytes, wanted) in [
        (
            "a.pdf",
            PDF,
            pdf(&["Harbour rules", "", "Mooring fees"], false),
            vec![triple("", "Harbour rules", 1), triple("", "Mooring fees", 3)],
        ),
        ("a.docx", DOCX, paper, vec![triple("Fees", "A berth is 40.", 0)]),
        (
            "a.xlsx",
            XLSX,
            xlsx("Prices", &rows),
            vec![triple("Prices", "Berth | Fee", 0)],
        ),
        (
            "a.html",
            "text/html",
            html.to_vec(),
            vec![triple("Tides", "High at noon.", 0)],
        ),
        (
            "a.csv",
            "text/csv",
            b"berth,fee\n9,40\n".to_vec(),
            vec![triple("", "berth,fee\n9,40", 0)],
        ),
        (
            "a.md",
            "text/markdown",
            b"# Oil\n\nChange it.\n".to_vec(),
            vec![triple("Oil", "Change it.", 0)],
        ),
        (
            "a.txt",
            "text/plain",
            b"Plain words.".to_vec(),
            vec![triple("", "Plain words.", 0)],
        ),
    ] {
        let document = extracted(&world, &it, name, mime_type, &bytes).await;
        assert_eq!(document["status"], "PROCESSING_STATUS_COMPLETED", "{name}: {document}");
        assert_eq!(chunks(&world, &it, &document).await, wanted, "{name}");
        assert_eq!(document["sha256"].as_str().unwrap().len(), 64, "{name}");
    }
    let search = json!({ "studioId": it.studio, "query": "mooring" });
    let found = world.ok(&format!("{DOCUMENTS}/SearchChunks"), search, &it.token).await;
    assert_eq!(found["results"][0]["chunk"]["page"], 3);
}

/// Asserts that a document of this file fails with a reason, holds nothing of the storage, and has no chunks.
async fn fails(name: &str, mime_type: &str, bytes: &[u8], reason: &str) {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let document = extracted(&world, &it, name, mime_type, bytes).await;
    assert_eq!(document["status"], "PROCESSING_STATUS_FAILED", "{document}");
    let told = document["failureReason"].as_str().unwrap();
    assert!(told.contains(reason), "{told}");
    assert_eq!(document["sizeBytes"], "0", "nothing stays reserved");
    assert!(chunks(&world, &it, &document).await.is_empty());
}

#[tokio::test]
async fn an_encrypted_pdf_fails_and_says_so() {
    fails("encrypted.pdf", PDF, &pdf(&["secret"], true), "encrypted").await;
}

#[tokio::test]
async fn a_truncated_pdf_fails_as_damaged() {
    fails("truncated.pdf", PDF, &pdf(&["Harbour rules"], false)[..60], "damaged").await;
}

#[tokio::test]
async fn a_pdf_of_blank_pages_fails_for_its_lack_of_text() {
    fails("blank.pdf", PDF, &pdf(&["", ""], false), "no text").await;
}

#[tokio::test]
async fn an_empty_page_of_the_web_fails_for_its_lack_of_text() {
    fails("blank.html", "text/html", b"<html><body></body></html>", "no text").await;
}

#[tokio::test]
async fn a_document_that_unpacks_to_gigabytes_is_stopped_by_the_bound_on_memory() {
    let bomb = format!("<w:p><w:r><w:t>{}</w:t></w:r></w:p>", " ".repeat(80 << 20));
    fails("bomb.docx", DOCX, &docx(&bomb), "memory").await;
}

#[tokio::test]
async fn a_document_that_declares_entities_fails_as_damaged() {
    let entities = r#"<!DOCTYPE d [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><w:document xmlns:w="w"><w:t>&b;</w:t></w:document>"#;
    let bytes = zipped(&[("word/document.xml", entities.as_bytes())]);
    fails("entities.docx", DOCX, &bytes, "damaged").await;
}

#[tokio::test]
async fn a_spreadsheet_without_a_book_fails_as_damaged() {
    fails("no-book.xlsx", XLSX, &zipped(&[("xl/other.xml", b"<a/>")]), "damaged").await;
}

#[tokio::test]
async fn a_sheet_that_claims_every_cell_there_is_takes_no_memory_for_them() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let rows = r#"<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>"#;
    let document = extracted(&world, &it, "far.xlsx", XLSX, &xlsx("Far", rows)).await;
    assert_eq!(
        chunks(&world, &it, &document).await,
        [triple("Far", "1\n2", 0)],
        "{document}"
    );
}

#[tokio::test]
async fn a_document_is_made_only_from_a_file_that_its_maker_reads_and_that_has_text() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let stranger = Tenant::with_studio(&world).await;
    let file = put(&world, &it, "a.txt", "text/plain", b"Plain words.").await;
    let create = format!("{DOCUMENTS}/CreateDocument");
    let body = json!({ "document": { "studioId": stranger.studio, "title": "Theirs" }, "fileId": file });
    let status = world.refused(&create, body, &stranger.token).await;
    assert_eq!(status.code(), Code::NotFound);

    let data = put(&world, &it, "a.json", "application/json", b"{}").await;
    let body = json!({ "document": { "studioId": it.studio, "title": "Data" }, "fileId": data });
    let status = world.refused(&create, body, &it.token).await;
    assert_reason(&status, Code::FailedPrecondition, "FILE_HAS_NO_TEXT");
}

#[tokio::test]
async fn a_document_outlives_its_file() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let file = put(&world, &it, "a.txt", "text/plain", b"Plain words.").await;
    let document = make(&world, &it, &file).await;
    let document = processed(&world, &it, &document).await;
    let delete = json!({ "id": file });
    world.ok(&format!("{FILES}/DeleteFile"), delete, &it.token).await;
    sqlx::query("delete from core.files where id = $1::uuid")
        .bind(&file)
        .execute(&world.admin().await)
        .await
        .unwrap();
    let body = json!({ "id": document["id"] });
    let again = world
        .ok(&format!("{DOCUMENTS}/ReprocessDocument"), body, &it.token)
        .await;
    let again = processed(&world, &it, &again).await;
    assert_eq!(
        (&again["fileId"], &again["chunkCount"]),
        (&json!(""), &json!(1)),
        "{again}"
    );
    assert_eq!(chunks(&world, &it, &again).await, [triple("", "Plain words.", 0)]);
}
