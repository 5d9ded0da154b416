//! Files: up and down by gRPC and by signed URLs, whose they are, how long they stay, and what is left of what fails.

use std::{
    fs::{self, File},
    path::Path,
    slice,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::future::join_all;
use reqwest::Client;
use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    files::{FILES, download, header, patch, text, tus, upload},
    refusal::{assert_reason, fields},
    tenant::{Tenant, id},
    world::{PATIENCE, World},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tonic::Code;
use tonic_types::StatusExt;
use uuid::Uuid;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01";

fn plain(it: &Tenant, name: &str) -> Value {
    json!({ "studioId": it.studio, "name": name, "mimeType": "text/plain" })
}

/// The files below a folder.
fn count(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .map(|it| it.unwrap().path())
        .map(|it| if it.is_dir() { count(&it) } else { 1 })
        .sum()
}

/// Waits until the company has so many objects, and nothing under way in store or database.
async fn settled(world: &World, it: &Tenant, objects: usize) {
    let admin = world.admin().await;
    let [kept, staged] = world.objects(&it.company);
    let settled = async {
        loop {
            let rows: i64 = sqlx::query_scalar(
                "select (select count(*) from core.uploads where company_id = $1::uuid) + (select count(*) from core.object_removals)",
            )
            .bind(&it.company)
            .fetch_one(&admin)
            .await
            .unwrap();
            if rows == 0 && count(&kept) == objects && count(&staged) == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, settled).await;
    assert!(found.is_ok(), "{} objects, {} staged", count(&kept), count(&staged));
}

async fn admin(world: &World, sql: &str, id: &str) {
    sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()))
        .bind(id)
        .execute(&world.admin().await)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_file_comes_back_as_it_went_whole_and_in_parts() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    // More than two parts of the store, and no whole number of them.
    let bytes = text((5 << 20) / 2 + 17);
    let file = upload(&world, &it.token, plain(&it, "lines.txt"), &bytes)
        .await
        .unwrap();
    assert_eq!(file["sizeBytes"], bytes.len().to_string());
    assert_eq!(
        (&file["state"], &file["version"]),
        (&json!("FILE_STATE_READY"), &json!(1))
    );
    let id = id(&file);
    let size = i64::try_from(bytes.len()).unwrap();
    assert!(download(&world, &it.token, &id, 0, 0).await.unwrap() == bytes);
    let middle = download(&world, &it.token, &id, 1_048_570, 20).await.unwrap();
    assert_eq!(middle, &bytes[1_048_570..1_048_590]);
    let end = download(&world, &it.token, &id, size - 3, 100).await.unwrap();
    assert_eq!(end, &bytes[bytes.len() - 3..]);
    let beyond = download(&world, &it.token, &id, size, 0).await.unwrap_err();
    assert_eq!(fields(&beyond), ["offset"]);
    let read = world
        .ok(&format!("{FILES}/GetFile"), json!({ "id": id }), &it.token)
        .await;
    assert!(!read["lastAccessTime"].is_null(), "{read}");
    assert_eq!(read["etag"], file["etag"], "reading changes nothing");
    settled(&world, &it, 1).await;
}

#[tokio::test]
async fn identical_content_is_stored_once_and_goes_with_its_last_file() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let bytes = text(3000);
    let one = upload(&world, &it.token, plain(&it, "one.txt"), &bytes).await.unwrap();
    let two = upload(&world, &it.token, plain(&it, "two.txt"), &bytes).await.unwrap();
    assert_eq!(one["sha256"], two["sha256"]);
    settled(&world, &it, 1).await;
    let erase = "update core.files set deleted_at = now() - interval '31 days' where id = $1::uuid";
    admin(&world, erase, &id(&one)).await;
    let gone = async || {
        let read = world
            .call(&format!("{FILES}/GetFile"), json!({ "id": id(&one) }), Some(&it.token))
            .await;
        read.is_err_and(|it| it.code() == Code::NotFound)
    };
    let erased = async {
        while !gone().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, erased).await.unwrap();
    settled(&world, &it, 1).await;
    assert_eq!(download(&world, &it.token, &id(&two), 0, 0).await.unwrap(), bytes);
    admin(&world, erase, &id(&two)).await;
    settled(&world, &it, 0).await;
    // What comes again is stored again.
    let again = upload(&world, &it.token, plain(&it, "again.txt"), &bytes)
        .await
        .unwrap();
    assert_eq!(download(&world, &it.token, &id(&again), 0, 0).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_file_is_what_is_said_of_it_or_leaves_nothing() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let said = |name: &str, mime: &str| json!({ "studioId": it.studio, "name": name, "mimeType": mime });
    let with = |mut file: Value, key: &str, value: Value| {
        file[key] = value;
        file
    };
    let lies = [
        (said("a.png", "image/png"), b"no image".as_slice(), "file.mime_type"),
        (said("a.txt", "text/plain"), PNG, "file.mime_type"),
        (said("a.txt", "text/plain"), b"no \xff text", "file.mime_type"),
        (said("a.pdf", "application/pdf"), PNG, "file.mime_type"),
        (
            said(
                "a.docx",
                "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            ),
            b"PK",
            "file.mime_type",
        ),
        (said("a.pdf", "image/png"), PNG, "file.mime_type"),
        (said("a.svg", "image/svg+xml"), b"<svg/>", "file.mime_type"),
        (said("a.txt", "text/plain"), b"", "file.size_bytes"),
        (
            with(said("a.txt", "text/plain"), "sizeBytes", json!("9")),
            b"shorter",
            "file.size_bytes",
        ),
        (
            with(said("a.txt", "text/plain"), "sizeBytes", json!("2")),
            b"longer",
            "file.size_bytes",
        ),
        (
            with(said("a.txt", "text/plain"), "sizeBytes", json!("104857601")),
            b"large",
            "file.size_bytes",
        ),
        (
            with(said("a.txt", "text/plain"), "sha256", json!("00".repeat(32))),
            b"other",
            "file.sha256",
        ),
    ];
    for (file, bytes, field) in lies {
        let status = upload(&world, &it.token, file.clone(), bytes).await.unwrap_err();
        assert_eq!(fields(&status), [field], "{file}");
    }
    for name in [
        "../a.txt",
        "a/b.txt",
        "a\\b.txt",
        "a\0.txt",
        "a\n.txt",
        "txt.\u{202e}exe",
        "",
        ".",
        &"x".repeat(256),
    ] {
        let status = upload(&world, &it.token, plain(&it, name), b"text").await.unwrap_err();
        assert_eq!(fields(&status), ["file.name"], "{name:?}");
    }
    settled(&world, &it, 0).await;
    let listed = world
        .ok(
            &format!("{FILES}/ListFiles"),
            json!({ "studioId": it.studio }),
            &it.token,
        )
        .await;
    assert_eq!(listed["files"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_uploads_at_the_quotas_edge_let_exactly_as_many_through_as_there_is_room_for() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    admin(
        &world,
        "update core.plans set storage_bytes = 10500 where code = 'free' and $1 <> ''",
        "x",
    )
    .await;
    let uploads = (0..100).map(|n| {
        let (world, it) = (&world, &it);
        async move {
            let mut bytes = format!("{n} ").into_bytes();
            bytes.resize(1000, b'x');
            upload(world, &it.token, plain(it, &format!("{n}.txt")), &bytes).await
        }
    });
    let (done, refused): (Vec<_>, Vec<_>) = join_all(uploads).await.into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), refused.len()), (10, 90));
    for status in refused.into_iter().map(Result::unwrap_err) {
        assert_reason(&status, Code::ResourceExhausted, "STORAGE_QUOTA_EXCEEDED");
        assert!(status.get_details_quota_failure().is_some(), "{status:?}");
    }
    settled(&world, &it, 10).await;
}

#[tokio::test]
async fn a_file_is_reached_as_its_access_level_says() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (colleague, stranger) = (Tenant::user(&world).await, Tenant::with_studio(&world).await);
    it.add_member(&world, &colleague, "ROLE_MEMBER").await;
    let mut private = plain(&it, "diary.txt");
    private["accessLevel"] = json!("ACCESS_LEVEL_PRIVATE");
    let private = id(&upload(&world, &it.token, private, b"dear diary").await.unwrap());
    let shared = id(&upload(&world, &it.token, plain(&it, "rules.txt"), b"rules")
        .await
        .unwrap());
    let code = async |file: &str, who: &Tenant| {
        let read = download(&world, &who.token, file, 0, 0).await;
        read.map_or_else(|it| it.code(), |_| Code::Ok)
    };
    assert_eq!(code(&private, &it).await, Code::Ok);
    assert_eq!(code(&private, &colleague).await, Code::NotFound);
    assert_eq!(code(&shared, &colleague).await, Code::Ok);
    assert_eq!(code(&shared, &stranger).await, Code::NotFound);
    for (method, body) in [
        ("UpdateFile", json!({ "file": { "id": shared, "name": "mine.txt" } })),
        ("DeleteFile", json!({ "id": shared })),
        ("CleanUpFiles", json!({ "studioId": it.studio, "leastBytes": "1" })),
    ] {
        let status = world
            .refused(&format!("{FILES}/{method}"), body, &colleague.token)
            .await;
        assert_reason(&status, Code::PermissionDenied, "ADMIN_REQUIRED");
    }
    let mut version = plain(&it, "x.txt");
    version["fileId"] = json!(shared);
    let status = upload(&world, &stranger.token, version.clone(), b"theirs")
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    version["studioId"] = json!(stranger.studio);
    let status = upload(&world, &stranger.token, version, b"theirs").await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn a_file_is_renamed_versioned_deleted_and_brought_back() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let file = upload(&world, &it.token, plain(&it, "draft.txt"), b"first")
        .await
        .unwrap();
    let file_id = id(&file);
    let update =
        json!({ "file": { "id": file_id, "name": "final.txt", "metadata": { "tag": "x" }, "etag": file["etag"] } });
    let renamed = world
        .ok(&format!("{FILES}/UpdateFile"), update.clone(), &it.token)
        .await;
    assert_eq!(
        (&renamed["name"], &renamed["metadata"]["tag"]),
        (&json!("final.txt"), &json!("x"))
    );
    let late = world.refused(&format!("{FILES}/UpdateFile"), update, &it.token).await;
    assert_reason(&late, Code::Aborted, "ETAG_MISMATCH");

    let mut second = plain(&it, "whatever.txt");
    second["fileId"] = json!(file_id);
    let second = upload(&world, &it.token, second, b"second").await.unwrap();
    assert_eq!((id(&second), &second["version"]), (file_id.clone(), &json!(2)));
    assert_eq!(second["name"], "final.txt");
    assert_eq!(download(&world, &it.token, &file_id, 0, 0).await.unwrap(), b"second");
    let versions = world
        .ok(
            &format!("{FILES}/ListFileVersions"),
            json!({ "fileId": file_id, "pageSize": 1 }),
            &it.token,
        )
        .await;
    assert_eq!(versions["versions"][0]["number"], 2);
    assert_ne!(versions["nextPageToken"], "");

    let deleted = world
        .ok(&format!("{FILES}/DeleteFile"), json!({ "id": file_id }), &it.token)
        .await;
    assert!(!deleted["deleteTime"].is_null());
    let read = download(&world, &it.token, &file_id, 0, 0).await.unwrap_err();
    assert_eq!(read.code(), Code::NotFound);
    let list = async |deleted: bool| {
        let body = json!({ "studioId": it.studio, "showDeleted": deleted, "namePrefix": "FIN" });
        let listed = world.ok(&format!("{FILES}/ListFiles"), body, &it.token).await;
        listed["files"].as_array().unwrap().len()
    };
    assert_eq!((list(false).await, list(true).await), (0, 1));
    world
        .ok(&format!("{FILES}/UndeleteFile"), json!({ "id": file_id }), &it.token)
        .await;
    assert_eq!(download(&world, &it.token, &file_id, 0, 0).await.unwrap(), b"second");
}

#[tokio::test]
async fn a_clean_up_deletes_what_it_has_said_that_it_would() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let small = id(&upload(&world, &it.token, plain(&it, "small.txt"), b"small")
        .await
        .unwrap());
    let large = id(&upload(&world, &it.token, plain(&it, "large.txt"), &text(5000))
        .await
        .unwrap());
    let old = id(&upload(&world, &it.token, plain(&it, "old.txt"), &text(6000))
        .await
        .unwrap());
    admin(
        &world,
        "update core.files set created_at = '2020-06-01' where id = $1::uuid",
        &old,
    )
    .await;
    let clean = async |body: Value| {
        let mut body = body;
        body["studioId"] = json!(it.studio);
        let cleaned = world.ok(&format!("{FILES}/CleanUpFiles"), body, &it.token).await;
        let files = cleaned["files"].as_array().unwrap();
        files.iter().map(id).collect::<Vec<_>>()
    };
    assert_eq!(
        clean(json!({ "leastBytes": "5000", "dryRun": true })).await,
        [large.clone(), old.clone()]
    );
    let later = "2021-01-01T00:00:00Z";
    let none: Vec<String> = Vec::new();
    assert_eq!(
        clean(json!({ "madeBefore": "2020-01-01T00:00:00Z", "dryRun": true })).await,
        none
    );
    let unused = clean(json!({ "unusedSince": later, "dryRun": true })).await;
    assert_eq!(unused, slice::from_ref(&old));
    download(&world, &it.token, &old, 0, 0).await.unwrap();
    assert_eq!(
        clean(json!({ "unusedSince": later, "dryRun": true })).await,
        none,
        "it was read"
    );
    assert_eq!(
        clean(json!({ "madeBefore": later, "leastBytes": "1" })).await,
        slice::from_ref(&old)
    );
    assert_eq!(
        download(&world, &it.token, &old, 0, 0).await.unwrap_err().code(),
        Code::NotFound
    );
    for kept in [small, large] {
        download(&world, &it.token, &kept, 0, 0).await.unwrap();
    }
    let status = world
        .refused(
            &format!("{FILES}/CleanUpFiles"),
            json!({ "studioId": it.studio }),
            &it.token,
        )
        .await;
    assert_eq!(fields(&status), ["made_before"]);
}

/// Asserts that the newest entry of the log says that the tenant has done this.
async fn assert_recorded(world: &World, it: &Tenant, action: &str, thing: &str) {
    let list = "studios.core.v1.AuditService/ListAuditEntries";
    let page = world.ok(list, json!({ "companyId": it.company }), &it.token).await;
    let newest = page["entries"][0].to_string();
    for expected in [action, thing, &it.user] {
        assert!(newest.contains(expected), "{expected}: {newest}");
    }
}

/// Begins a resumable upload and returns its URL.
async fn begin(world: &World, it: &Tenant, size: usize) -> String {
    let file = json!({ "file": { "studioId": it.studio, "name": "up.txt", "mimeType": "text/plain", "sizeBytes": size.to_string() } });
    let begun = world.ok(&format!("{FILES}/CreateUpload"), file, &it.token).await;
    world.url(begun["urlPath"].as_str().unwrap())
}

#[tokio::test]
async fn an_upload_by_url_goes_on_where_it_was_broken_off() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let http = Client::new();
    let bytes = text((2 << 20) + 100);
    let meta = |key: &str, value: &str| format!("{key} {}", BASE64_STANDARD.encode(value));
    let metadata = [
        meta("studio_id", &it.studio),
        meta("filename", "up.txt"),
        meta("filetype", "text/plain"),
    ]
    .join(",");
    let begun = tus(&http, "POST", world.url("files/uploads"))
        .bearer_auth(&it.token)
        .header("upload-length", bytes.len())
        .header("upload-metadata", metadata)
        .send()
        .await
        .unwrap();
    assert_eq!(begun.status(), 201, "{begun:?}");
    let url = world.url(header(&begun, "location"));
    let cuts = [0, 10, 1 << 20, (1 << 20) + 1, bytes.len()];
    for cut in cuts.windows(2) {
        let answer = patch(&http, url.clone(), cut[0], bytes[cut[0]..cut[1]].to_vec()).await;
        assert_eq!(answer.status(), 204);
        assert_eq!(header(&answer, "upload-offset"), cut[1].to_string());
        if cut[1] == bytes.len() {
            let file = header(&answer, "upload-file-id").to_owned();
            assert!(download(&world, &it.token, &file, 0, 0).await.unwrap() == bytes);
            assert_recorded(&world, &it, "TransferService.WriteUpload", &file).await;
            break;
        }
        let state = tus(&http, "HEAD", url.clone()).send().await.unwrap();
        assert_eq!(header(&state, "upload-offset"), cut[1].to_string());
        let elsewhere = patch(&http, url.clone(), cut[1] + 1, "x").await;
        assert_eq!(elsewhere.status(), 409);
    }
    assert_eq!(
        tus(&http, "HEAD", url.clone()).send().await.unwrap().status(),
        404,
        "it is used up"
    );
    assert_eq!(patch(&http, url, bytes.len(), "").await.status(), 404);
    settled(&world, &it, 1).await;
}

#[tokio::test]
async fn bytes_with_a_wrong_sum_are_not_kept_and_may_be_sent_again() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let http = Client::new();
    let url = begin(&world, &it, 10).await;
    assert_eq!(patch(&http, url.clone(), 0, "hello").await.status(), 204);
    let send = async |sum: &str| {
        tus(&http, "PATCH", url.clone())
            .header("upload-offset", 5)
            .header("content-type", "application/offset+octet-stream")
            .header("upload-checksum", sum)
            .body("world")
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(send("sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=").await, 460);
    assert_eq!(send("crc32 AAAA").await, 400);
    let state = tus(&http, "HEAD", url.clone()).send().await.unwrap();
    assert_eq!(header(&state, "upload-offset"), "5");
    assert_eq!(send("sha1 fCEUM/AgcVl3Qeb/Wo6jR4mrv0M=").await, 204);
}

#[tokio::test]
async fn an_upload_that_is_given_up_or_runs_out_leaves_nothing() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let http = Client::new();
    let bytes = text(3 << 20);
    for ends in ["DELETE", "time"] {
        let url = begin(&world, &it, bytes.len()).await;
        assert_eq!(
            patch(&http, url.clone(), 0, bytes[..2 << 20].to_vec()).await.status(),
            204
        );
        let [_, staged] = world.objects(&it.company);
        assert_eq!(count(&staged), 1);
        if ends == "DELETE" {
            assert_eq!(tus(&http, "DELETE", url.clone()).send().await.unwrap().status(), 204);
            assert_recorded(&world, &it, "TransferService.EndUpload", &it.company).await;
        } else {
            admin(
                &world,
                "update core.uploads set expires_at = now() - interval '1 s' where company_id = $1::uuid",
                &it.company,
            )
            .await;
        }
        settled(&world, &it, 0).await;
        assert_eq!(tus(&http, "HEAD", url).send().await.unwrap().status(), 404, "{ends}");
    }
    // More than was announced breaks the upload's stream, and what was right of it is kept.
    let url = begin(&world, &it, 3).await;
    assert_eq!(patch(&http, url.clone(), 0, "more").await.status(), 400);
    assert_eq!(tus(&http, "DELETE", url).send().await.unwrap().status(), 204);
}

#[tokio::test]
async fn an_uploads_url_does_one_thing_for_one_upload() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let member = Tenant::user(&world).await;
    let membership = it.add_member(&world, &member, "ROLE_MEMBER").await;
    let http = Client::new();
    let as_member = Tenant {
        studio: it.studio.clone(),
        ..member
    };
    let url = begin(&world, &as_member, 10).await;
    let bare = http.head(url.clone()).send().await.unwrap();
    assert_eq!(bare.status(), 412, "without tus-resumable");
    assert_eq!(http.put(url.clone()).send().await.unwrap().status(), 405);
    let as_download = url.replace("/uploads/", "/downloads/");
    assert_eq!(http.get(as_download).send().await.unwrap().status(), 404);
    let altered = format!("{}AA", &url[..url.len() - 2]);
    assert_eq!(tus(&http, "HEAD", altered).send().await.unwrap().status(), 404);
    assert_eq!(patch(&http, url.clone(), 0, "hello").await.status(), 204);
    let remove = "studios.core.v1.CompanyService/RemoveMembership";
    world.ok(remove, json!({ "id": membership }), &it.token).await;
    assert_eq!(
        patch(&http, url.clone(), 5, "world").await.status(),
        404,
        "he is no member any more"
    );
    assert_eq!(tus(&http, "HEAD", url).send().await.unwrap().status(), 404);
    let options = http
        .request("OPTIONS".parse().unwrap(), world.url("files/uploads"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        header(&options, "tus-extension"),
        "creation,termination,expiration,checksum"
    );
}

#[tokio::test]
async fn a_downloads_url_gives_one_file_with_ranges_until_its_end() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let member = Tenant::user(&world).await;
    let membership = it.add_member(&world, &member, "ROLE_MEMBER").await;
    let http = Client::new();
    let bytes = text(700_000);
    let file = upload(&world, &it.token, plain(&it, "Grüße \"x\".txt"), &bytes)
        .await
        .unwrap();
    let url = async |token: &str, lifetime: &str| {
        let body = json!({ "id": id(&file), "lifetime": lifetime });
        let made = world.ok(&format!("{FILES}/CreateDownloadUrl"), body, token).await;
        world.url(made["urlPath"].as_str().unwrap())
    };
    let own = url(&it.token, "60s").await;
    let whole = http.get(own.clone()).send().await.unwrap();
    assert_eq!(whole.status(), 200);
    let tag = header(&whole, "etag").to_owned();
    for (name, value) in [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", "700000"),
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; sandbox"),
        (
            "content-disposition",
            "attachment; filename=\"Gr__e _x_.txt\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%22x%22.txt",
        ),
    ] {
        assert_eq!(header(&whole, name), value, "{name}");
    }
    assert!(whole.bytes().await.unwrap() == bytes);
    let head = http.head(own.clone()).send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), header(&head, "content-length")),
        (200, "700000")
    );
    for (range, from, to) in [
        ("bytes=5-9", 5, 10),
        ("bytes=699990-", 699_990, 700_000),
        ("bytes=-4", 699_996, 700_000),
    ] {
        let part = http
            .get(own.clone())
            .header("range", range)
            .header("if-range", &tag)
            .send()
            .await
            .unwrap();
        assert_eq!(part.status(), 206, "{range}");
        assert_eq!(
            header(&part, "content-range"),
            format!("bytes {from}-{}/700000", to - 1)
        );
        assert_eq!(part.bytes().await.unwrap(), bytes[from..to]);
    }
    let other = http
        .get(own.clone())
        .header("range", "bytes=5-9")
        .header("if-range", "\"other\"")
        .send()
        .await
        .unwrap();
    assert_eq!(other.status(), 200, "another version than the client has");
    let none = http
        .get(own.clone())
        .header("range", "bytes=700000-")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (none.status().as_u16(), header(&none, "content-range")),
        (416, "bytes */700000")
    );
    let same = http
        .get(own.clone())
        .header("if-none-match", &tag)
        .send()
        .await
        .unwrap();
    assert_eq!(same.status(), 304);

    assert_eq!(
        http.get(format!("{}AA", &own[..own.len() - 2]))
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
    assert_eq!(http.delete(own.clone()).send().await.unwrap().status(), 405);
    let short = url(&it.token, "1s").await;
    let expired = async {
        while http.get(short.clone()).send().await.unwrap().status() != 410 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, expired).await.unwrap();
    let theirs = url(&member.token, "60s").await;
    assert_eq!(http.get(theirs.clone()).send().await.unwrap().status(), 200);
    let remove = "studios.core.v1.CompanyService/RemoveMembership";
    world.ok(remove, json!({ "id": membership }), &it.token).await;
    assert_eq!(
        http.get(theirs).send().await.unwrap().status(),
        404,
        "he is no member any more"
    );
    world
        .ok(&format!("{FILES}/DeleteFile"), json!({ "id": id(&file) }), &it.token)
        .await;
    assert_eq!(http.get(own).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_sweep_removes_objects_without_rows_and_marks_rows_without_objects() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let kept = upload(&world, &it.token, plain(&it, "kept.txt"), &text(1000))
        .await
        .unwrap();
    let lost = upload(&world, &it.token, plain(&it, "lost.txt"), &text(2000))
        .await
        .unwrap();
    let [objects, staged] = world.objects(&it.company);
    fs::remove_dir_all(objects.join(lost["sha256"].as_str().unwrap())).unwrap();
    let old = SystemTime::now() - Duration::from_hours(3);
    for folder in [objects.join("aa"), staged.clone()] {
        fs::create_dir_all(&folder).unwrap();
        let orphan = File::create(folder.join(Uuid::now_v7().to_string())).unwrap();
        orphan.set_modified(old).unwrap();
        File::create(folder.join(format!("young-{}", Uuid::now_v7()))).unwrap();
    }
    let sweep = "update core.object_sweeps set due_at = now() - interval '1 s' where company_id = $1::uuid";
    admin(&world, sweep, &it.company).await;
    let get = format!("{FILES}/GetFile");
    let is_lost = |it: &Value| it["state"] == "FILE_STATE_LOST";
    world.until(&get, json!({ "id": id(&lost) }), &it.token, is_lost).await;
    assert_eq!((count(&objects), count(&staged)), (2, 1), "what is young stays");
    let status = download(&world, &it.token, &id(&lost), 0, 0).await.unwrap_err();
    assert_reason(&status, Code::FailedPrecondition, "FILE_LOST");
    download(&world, &it.token, &id(&kept), 0, 0).await.unwrap();
    // The same content, uploaded again, mends what was lost.
    upload(&world, &it.token, plain(&it, "again.txt"), &text(2000))
        .await
        .unwrap();
    admin(&world, sweep, &it.company).await;
    let is_ready = |it: &Value| it["state"] == "FILE_STATE_READY";
    world.until(&get, json!({ "id": id(&lost) }), &it.token, is_ready).await;
    assert_eq!(download(&world, &it.token, &id(&lost), 0, 0).await.unwrap(), text(2000));
}

/// A clamd that knows INSTREAM alone, and finds what contains `EICAR`.
async fn clamd(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut command = [0; 10];
        stream.read_exact(&mut command).await.unwrap();
        assert_eq!(&command, b"zINSTREAM\0");
        let mut seen = Vec::new();
        loop {
            let length = stream.read_u32().await.unwrap();
            if length == 0 {
                break;
            }
            let mut block = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut block).await.unwrap();
            seen.extend(block);
        }
        let is_bad = seen.windows(5).any(|it| it == b"EICAR");
        let answer = if is_bad {
            "stream: Eicar-Test-Signature FOUND\0"
        } else {
            "stream: OK\0"
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_seen_by_others_when_the_scanner_has_found_it_clean() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scanner = listener.local_addr().unwrap().to_string();
    let deployment = Deployment::start(&[("STUDIOS_CORE_SCANNER", scanner)], &[]).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    let colleague = Tenant::user(&world).await;
    it.add_member(&world, &colleague, "ROLE_ADMIN").await;
    let clean = upload(&world, &it.token, plain(&it, "clean.txt"), &text(1 << 20))
        .await
        .unwrap();
    let bad = upload(&world, &it.token, plain(&it, "bad.txt"), b"an EICAR test")
        .await
        .unwrap();
    let get = format!("{FILES}/GetFile");
    for file in [&clean, &bad] {
        assert_eq!(file["state"], "FILE_STATE_SCANNING");
        let status = world.refused(&get, json!({ "id": id(file) }), &colleague.token).await;
        assert_eq!(status.code(), Code::NotFound);
        let status = download(&world, &it.token, &id(file), 0, 0).await.unwrap_err();
        assert_reason(&status, Code::FailedPrecondition, "FILE_SCANNING");
    }
    drop(tokio::spawn(clamd(listener)));
    let is = |state: &'static str| move |it: &Value| it["state"] == state;
    world
        .until(&get, json!({ "id": id(&clean) }), &it.token, is("FILE_STATE_READY"))
        .await;
    download(&world, &colleague.token, &id(&clean), 0, 0).await.unwrap();
    let held = world
        .until(&get, json!({ "id": id(&bad) }), &it.token, is("FILE_STATE_QUARANTINED"))
        .await;
    assert_eq!(held["stateReason"], "The scanner found Eicar-Test-Signature.");
    let status = world.refused(&get, json!({ "id": id(&bad) }), &colleague.token).await;
    assert_eq!(status.code(), Code::NotFound);
    let status = download(&world, &it.token, &id(&bad), 0, 0).await.unwrap_err();
    assert_reason(&status, Code::FailedPrecondition, "FILE_QUARANTINED");
    // A bad version leaves the one before.
    let mut version = plain(&it, "clean.txt");
    version["fileId"] = json!(id(&clean));
    upload(&world, &it.token, version, b"a worse EICAR").await.unwrap();
    let versions = format!("{FILES}/ListFileVersions");
    let is_held = |it: &Value| it["versions"][0]["state"] == "FILE_STATE_QUARANTINED";
    world
        .until(&versions, json!({ "fileId": id(&clean) }), &it.token, is_held)
        .await;
    assert_eq!(
        download(&world, &colleague.token, &id(&clean), 0, 0)
            .await
            .unwrap()
            .len(),
        1 << 20
    );
}

#[tokio::test]
async fn an_upload_under_a_used_request_id_answers_with_the_first_file() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let mut file = plain(&it, "once.txt");
    file["requestId"] = json!(Uuid::now_v7().to_string());
    let first = upload(&world, &it.token, file.clone(), b"The pier is lit.")
        .await
        .unwrap();
    let again = upload(&world, &it.token, file.clone(), b"The pier is lit.")
        .await
        .unwrap();
    assert_eq!(again, first);
    let at_once = (0..4).map(|_| {
        let mut file = plain(&it, "many.txt");
        file["requestId"] = json!("01900000-0000-7000-8000-0000000000aa");
        let (world, token) = (&world, &it.token);
        async move { upload(world, token, file, b"At the same time.").await.unwrap() }
    });
    let made = join_all(at_once).await;
    assert!(made.iter().all(|it| it["id"] == made[0]["id"]), "{made:?}");
    let list = json!({ "studioId": it.studio });
    let all = world.ok(&format!("{FILES}/ListFiles"), list, &it.token).await;
    assert_eq!(all["files"].as_array().unwrap().len(), 2);
    let mut other = file.clone();
    other["name"] = json!("other.txt");
    let status = upload(&world, &it.token, other, b"The pier is lit.").await.unwrap_err();
    assert_eq!(fields(&status), ["request_id"]);
    file["sizeBytes"] = json!("16");
    let status = world
        .refused(&format!("{FILES}/CreateUpload"), json!({ "file": file }), &it.token)
        .await;
    assert_eq!(fields(&status), ["file.request_id"]);
}
