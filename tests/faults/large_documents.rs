//! Documents of tens of MiB: found to their end, in memory that does not grow with them, whole or not at all.

use std::{fmt::Write as _, fs, time::Duration};

use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    files::upload,
    locks::{hold, until_held},
    papers::{DOCX, PDF, docx, pdf},
    refusal::assert_reason,
    tenant::{Tenant, id},
    world::World,
};
use tonic::Code;

const DOCUMENTS: &str = "studios.core.v1.DocumentService";
/// More than any of them takes here.
const PATIENCE: Duration = Duration::from_mins(10);
/// More than core-service may take of memory for a document, in KiB.
const MEMORY_KIB: u64 = 40 << 10;

/// Uploads a file and makes a document of it.
async fn made(world: &World, it: &Tenant, name: &str, mime_type: &str, bytes: &[u8]) -> String {
    let file = json!({ "studioId": it.studio, "name": name, "mimeType": mime_type });
    let file = id(&upload(world, &it.token, file, bytes).await.unwrap());
    let body = json!({ "document": { "studioId": it.studio, "title": "Paper" }, "fileId": file });
    id(&world.ok(&format!("{DOCUMENTS}/CreateDocument"), body, &it.token).await)
}

async fn read(world: &World, it: &Tenant, document: &str) -> Value {
    world
        .ok(
            &format!("{DOCUMENTS}/GetDocument"),
            json!({ "id": document }),
            &it.token,
        )
        .await
}

/// Waits until a document is processed.
async fn processed(world: &World, it: &Tenant, document: &str) -> Value {
    let ends = async {
        loop {
            let found = read(world, it, document).await;
            let status = found["status"].as_str().unwrap_or_default();
            if ["PROCESSING_STATUS_COMPLETED", "PROCESSING_STATUS_FAILED"].contains(&status) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ends).await.expect("it ends")
}

async fn found(world: &World, it: &Tenant, query: &str) -> Vec<Value> {
    let search = json!({ "studioId": it.studio, "query": query });
    let found = world.ok(&format!("{DOCUMENTS}/SearchChunks"), search, &it.token).await;
    let results = found["results"].as_array().unwrap();
    results.iter().map(|it| it["chunk"].clone()).collect()
}

async fn chunk_ids(world: &World, it: &Tenant, document: &str) -> Vec<Value> {
    let body = json!({ "documentId": document, "pageSize": 1000 });
    let page = world.ok(&format!("{DOCUMENTS}/ListChunks"), body, &it.token).await;
    page["chunks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["id"].clone())
        .collect()
}

/// The whole text, a part after the other.
async fn whole_text(world: &World, it: &Tenant, document: &str, limit_bytes: i32) -> String {
    let mut text = String::new();
    let mut offset = json!("0");
    loop {
        let body = json!({ "id": document, "offset": offset, "limitBytes": limit_bytes });
        let read = world.ok(&format!("{DOCUMENTS}/GetDocumentText"), body, &it.token).await;
        text.push_str(read["text"].as_str().unwrap());
        if read["nextOffset"] == "0" {
            assert_eq!(read["sizeBytes"], json!(text.len().to_string()));
            return text;
        }
        assert_eq!(read["nextOffset"], json!(text.len().to_string()));
        offset = read["nextOffset"].clone();
    }
}

/// Paragraphs under headings, each of which says its number in words of its own.
fn handbook(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 4096);
    let mut number = 0;
    while text.len() < bytes {
        writeln!(text, "# Part {number}\n\nThe word here is nook{number}x.\n").unwrap();
        for line in 0..12 {
            writeln!(
                text,
                "Parcel {line} of order {number} is weighed and entered on the day it arrives. Where the seal is broken, \
                 *nobody* opens it alone; the clerk calls a second one, and both sign the form.\n"
            )
            .unwrap();
        }
        number += 1;
    }
    text
}

fn memory_kib(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|it| it.split_whitespace().next()?.parse().ok()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_of_60_mib_is_found_to_its_end_in_memory_that_does_not_grow_with_it() {
    let deployment = Deployment::start(&[], &[]).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    let pid = deployment.core.pid();
    let small = made(&world, &it, "small.md", "text/markdown", handbook(1 << 20).as_bytes()).await;
    processed(&world, &it, &small).await;
    let text = handbook(60 << 20) + "\n# The end\n\nHere is the quincunx.\n";
    let rest = memory_kib(pid, "VmRSS:");
    // From here on the most is measured.
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    let document = made(&world, &it, "large.md", "text/markdown", text.as_bytes()).await;
    let document = processed(&world, &it, &document).await;
    let most = memory_kib(pid, "VmHWM:");
    assert_eq!(document["status"], "PROCESSING_STATUS_COMPLETED", "{document}");
    assert_eq!(
        document["sizeBytes"],
        json!(text.len().to_string()),
        "its quota is settled"
    );
    assert!(
        most < rest + MEMORY_KIB,
        "{most} KiB, of which {rest} KiB were there at rest"
    );
    let last = found(&world, &it, "quincunx").await;
    assert_eq!(last.len(), 1);
    assert_eq!(last[0]["section"], "The end");
    let middle = found(&world, &it, "nook9999x").await;
    assert_eq!((middle.len(), &middle[0]["section"]), (1, &json!("Part 9999")));
}

#[tokio::test]
async fn sections_and_pages_are_right_however_far_into_a_text() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let text = handbook(3 << 20);
    let document = made(&world, &it, "handbook.md", "text/markdown", text.as_bytes()).await;
    let document = processed(&world, &it, &document).await;
    assert_eq!(document["status"], "PROCESSING_STATUS_COMPLETED", "{document}");
    for part in [0, 37, 512, 1000] {
        let chunks = found(&world, &it, &format!("nook{part}x")).await;
        assert_eq!(
            (chunks.len(), &chunks[0]["section"]),
            (1, &json!(format!("Part {part}")))
        );
    }
    let lines: Vec<String> = (0..200)
        .map(|page| format!("folio{page}x {}", "and so on, ".repeat(100)))
        .collect();
    let pages: Vec<&str> = lines.iter().map(String::as_str).collect();
    let document = made(&world, &it, "pages.pdf", PDF, &pdf(&pages, false)).await;
    let document = processed(&world, &it, &document).await;
    assert_eq!(document["status"], "PROCESSING_STATUS_COMPLETED", "{document}");
    for page in [0, 99, 199] {
        let chunks = found(&world, &it, &format!("folio{page}x")).await;
        assert_eq!((chunks.len(), &chunks[0]["page"]), (1, &json!(page + 1)));
    }
}

#[tokio::test]
async fn a_long_text_is_read_part_by_part() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let text = "Öl für die Außenmole.\n\n".repeat(300_000);
    let document = made(&world, &it, "long.txt", "text/plain", text.as_bytes()).await;
    let read = processed(&world, &it, &document).await;
    assert_eq!(read["language"], "de");
    for limit_bytes in [0, 1_000_001] {
        assert!(
            whole_text(&world, &it, &document, limit_bytes).await == text,
            "{limit_bytes}"
        );
    }
    let beyond = json!({ "id": document, "offset": "9000000000" });
    let read = world
        .ok(&format!("{DOCUMENTS}/GetDocumentText"), beyond, &it.token)
        .await;
    assert_eq!((&read["text"], &read["nextOffset"]), (&json!(""), &json!("0")));
    let agents = "studios.execution.v1.AgentService";
    let session = json!({ "studioId": it.studio });
    let session = id(&world.ok(&format!("{agents}/CreateSession"), session, &it.token).await);
    let edit = json!({ "sessionId": session, "type": "AGENT_REQUEST_TYPE_EDIT", "content": "Remove \"Öl\"",
        "documentIds": [document] });
    let status = world.refused(&format!("{agents}/CreateRequest"), edit, &it.token).await;
    assert_reason(&status, Code::FailedPrecondition, "DOCUMENT_TOO_LONG");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_may_be_as_long_as_the_limit_and_not_longer() {
    const LIMIT: usize = 300_000;
    let limit = ("STUDIOS_CORE_MAX_DOCUMENT_BYTES", LIMIT.to_string());
    let deployment = Deployment::start(&[limit], &[]).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    let mut text = "Every berth has a number. ".repeat(LIMIT / 26 + 1);
    text.truncate(LIMIT);
    let document = made(&world, &it, "limit.txt", "text/plain", text.as_bytes()).await;
    let read = processed(&world, &it, &document).await;
    assert_eq!(
        (&read["status"], &read["sizeBytes"]),
        (&json!("PROCESSING_STATUS_COMPLETED"), &json!(LIMIT.to_string()))
    );
    text.push('x');
    let document = made(&world, &it, "over.txt", "text/plain", text.as_bytes()).await;
    let read = processed(&world, &it, &document).await;
    let reason = "The file has more text than a document may have of it. That is at most 300000 bytes here.";
    assert_eq!(
        (&read["status"], &read["failureReason"]),
        (&json!("PROCESSING_STATUS_FAILED"), &json!(reason))
    );
    assert_eq!(read["sizeBytes"], "0", "nothing stays reserved");
}

#[tokio::test]
async fn a_small_file_that_unpacks_to_a_large_text_fails_and_says_so() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let paragraphs = "<w:p><w:r><w:t>many words and many more</w:t></w:r></w:p>".repeat(400_000);
    let document = made(&world, &it, "bomb.docx", DOCX, &docx(&paragraphs)).await;
    let read = processed(&world, &it, &document).await;
    assert_eq!(read["status"], "PROCESSING_STATUS_FAILED", "{read}");
    let told = read["failureReason"].as_str().unwrap();
    assert!(told.contains("more text") && told.contains("4194304 bytes"), "{told}");
    assert_eq!(read["sizeBytes"], "0", "nothing stays reserved");
    let left: i64 = sqlx::query_scalar("select count(*) from core.drafts")
        .fetch_one(&world.admin().await)
        .await
        .unwrap();
    assert_eq!(left, 0, "what was written of it is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_whose_processing_a_kill_cuts_keeps_what_it_had_and_is_processed_by_the_next() {
    let mut deployment = Deployment::start(&[], &[]).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    let admin = world.admin().await;
    let text = handbook(1 << 20);
    let document = made(&world, &it, "handbook.md", "text/markdown", text.as_bytes()).await;
    processed(&world, &it, &document).await;
    let mut before = chunk_ids(&world, &it, &document).await;
    let drafts = async || -> i64 {
        sqlx::query_scalar("select count(*) from core.drafts")
            .fetch_one(&admin)
            .await
            .unwrap()
    };
    assert_eq!(drafts().await, 0);

    for table in ["core.draft_chunks", "core.document_words"] {
        let held = hold(&admin, table).await;
        let body = json!({ "id": document });
        world
            .ok(&format!("{DOCUMENTS}/ReprocessDocument"), body, &it.token)
            .await;
        until_held(&admin, table).await;
        deployment.crash_core();
        held.rollback().await.unwrap();
        let world = deployment.world().await;
        assert_eq!(chunk_ids(&world, &it, &document).await, before, "{table}");
        assert_eq!(found(&world, &it, "nook7x").await.len(), 1, "{table}");
        assert!(whole_text(&world, &it, &document, 0).await == text, "{table}");
        assert_eq!(drafts().await, 1, "{table}");
        // As if the time were over for which the dead one has the job.
        sqlx::query("update core.jobs set leased_until = now()")
            .execute(&admin)
            .await
            .unwrap();
        let read = processed(&world, &it, &document).await;
        assert_eq!(read["status"], "PROCESSING_STATUS_COMPLETED", "{table}: {read}");
        let after = chunk_ids(&world, &it, &document).await;
        assert!(after.len() == before.len() && after != before, "{table}");
        assert!(whole_text(&world, &it, &document, 0).await == text, "{table}");
        assert_eq!(drafts().await, 0, "{table}");
        before = after;
    }
}
