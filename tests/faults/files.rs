//! Uploads whose process, line or store goes away in the middle.

use std::{io::Write, path::Path, process::Stdio, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use reqwest::{Body, Client};
use serde_json::{Value, json};
use studios_proto::core::{UploadFileRequest, file_service_client::FileServiceClient};
use studios_tests::{
    deployment::Deployment,
    files::{FILES, download, header, new_file, patch, signed, text, tus, upload},
    refusal::assert_reason,
    s3::S3,
    tenant::{Tenant, id},
    world::{PATIENCE, World},
};
use tokio::sync::mpsc;
use tonic::Code;

fn file(it: &Tenant, size: usize) -> Value {
    json!({ "studioId": it.studio, "name": "large.txt", "mimeType": "text/plain", "sizeBytes": size.to_string() })
}

/// Begins a resumable upload and returns its path at a gateway.
async fn begin(world: &World, it: &Tenant, size: usize) -> String {
    let begun = world
        .ok(
            &format!("{FILES}/CreateUpload"),
            json!({ "file": file(it, size) }),
            &it.token,
        )
        .await;
    begun["urlPath"].as_str().unwrap().to_owned()
}

async fn offset(http: &Client, url: &str) -> usize {
    let state = tus(http, "HEAD", url.to_owned()).send().await.unwrap();
    assert_eq!(state.status(), 200);
    header(&state, "upload-offset").parse().unwrap()
}

/// Waits until the database says so of the company.
async fn until(world: &World, it: &Tenant, sql: &'static str) {
    let admin = world.admin().await;
    let seen = async {
        while !sqlx::query_scalar::<_, bool>(sql)
            .bind(&it.company)
            .fetch_one(&admin)
            .await
            .unwrap()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen)
        .await
        .unwrap_or_else(|_| panic!("never: {sql}"));
}

const NOTHING_UNDER_WAY: &str = "select not exists (select from core.uploads where company_id = $1::uuid)
    and not exists (select from core.object_removals)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tus_js_client_goes_on_at_another_gateway_after_the_line_broke() {
    let deployment = Deployment::start(&[], &[]).await;
    let other = deployment.another_gateway();
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    let bytes = text(9 << 20);
    let mut path = tempfile::NamedTempFile::new().unwrap();
    path.write_all(&bytes).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("uploads/upload.js");
    let run = tokio::process::Command::new("node")
        .arg(script)
        .args([world.url("").as_str(), other.url().as_str(), &it.token, &it.studio])
        .arg(path.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let last: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert!(last["resumedAt"].as_u64().unwrap() >= 3 << 20, "{told}");
    let file = last["file"].as_str().unwrap();
    assert!(download(&world, &it.token, file, 0, 0).await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_before_core_service_was_killed_is_gone_on_with() {
    let mut deployment = Deployment::start(&[], &[]).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    let http = Client::new();
    let bytes = text(20 << 20);
    let path = begin(&world, &it, bytes.len()).await;
    let url = world.url(&path);
    // Three quarters come, and then nothing, until the process is gone.
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let body = stream::unfold(receiver, |mut it| async {
        Some((Ok::<_, std::io::Error>(it.recv().await?), it))
    });
    let sending = tokio::spawn({
        let (http, url) = (http.clone(), url.clone());
        async move {
            tus(&http, "PATCH", url)
                .header("upload-offset", 0)
                .header("content-type", "application/offset+octet-stream")
                .body(Body::wrap_stream(body.boxed()))
                .send()
                .await
        }
    });
    for part in bytes[..15 << 20].chunks(1 << 20) {
        sender.send(Bytes::copy_from_slice(part)).await.unwrap();
    }
    until(
        &world,
        &it,
        "select exists (select from core.uploads where company_id = $1::uuid and received_bytes > 0)",
    )
    .await;
    deployment.crash_core();
    drop(sender);
    let answer = sending.await.unwrap().unwrap();
    assert!(answer.status().is_server_error(), "{answer:?}");
    // The lease of who was killed runs out by itself; here it is hurried.
    sqlx::query("update core.uploads set leased_until = now()")
        .execute(&world.admin().await)
        .await
        .unwrap();
    let kept = offset(&http, &url).await;
    assert!((8 << 20..=15 << 20).contains(&kept), "{kept}");
    let rest = patch(&http, url, kept, bytes[kept..].to_vec()).await;
    assert_eq!(rest.status(), 204);
    let file = header(&rest, "upload-file-id").to_owned();
    assert!(download(&world, &it.token, &file, 0, 0).await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamed_upload_whose_process_or_client_goes_away_leaves_nothing() {
    let mut deployment = Deployment::start(&[], &[]).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    for dies in ["client", "core-service"] {
        let (sender, receiver) = mpsc::channel(1);
        let messages = stream::unfold(receiver, |mut it| async { Some((it.recv().await?, it)) });
        let mut client = FileServiceClient::new(world.channel(FILES).clone());
        let request = signed(messages, &it.token);
        let sending = tokio::spawn(async move { client.upload_file(request).await });
        let first = UploadFileRequest {
            file: Some(new_file(&file(&it, 4 << 20))),
            data: text(2 << 20).into(),
        };
        sender.send(first).await.unwrap();
        until(
            &world,
            &it,
            "select exists (select from core.uploads where company_id = $1::uuid and multipart_id is not null)",
        )
        .await;
        if dies == "client" {
            sending.abort();
        } else {
            deployment.crash_core();
            assert!(sending.await.unwrap().is_err());
            sqlx::query("update core.uploads set leased_until = now(), expires_at = now()")
                .execute(&world.admin().await)
                .await
                .unwrap();
        }
        until(&world, &it, NOTHING_UNDER_WAY).await;
        let [_, staged] = world.objects(&it.company);
        assert_eq!(std::fs::read_dir(staged).map_or(0, Iterator::count), 0, "{dies}");
        let listed = world
            .ok(
                &format!("{FILES}/ListFiles"),
                json!({ "studioId": it.studio }),
                &it.token,
            )
            .await;
        assert_eq!(listed["files"], json!([]), "{dies}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_lie_in_a_server_of_s3_as_in_a_folder() {
    let s3 = S3::start().await;
    let deployment = Deployment::start(&s3.settings(), &[]).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    let http = Client::new();
    // More than two parts.
    let bytes = text(11 << 20);
    let small = upload(&world, &it.token, file(&it, 5), b"small").await.unwrap();
    let url = world.url(&begin(&world, &it, bytes.len()).await);
    for cut in [0, 6 << 20, (6 << 20) + 5, bytes.len()].windows(2) {
        let answer = patch(&http, url.clone(), cut[0], bytes[cut[0]..cut[1]].to_vec()).await;
        assert_eq!(answer.status(), 204, "{:?}", answer.text().await);
        if cut[1] == bytes.len() {
            let file = header(&answer, "upload-file-id").to_owned();
            assert!(download(&world, &it.token, &file, 0, 0).await.unwrap() == bytes);
            let part = download(&world, &it.token, &file, 5_242_870, 20).await.unwrap();
            assert_eq!(part, &bytes[5_242_870..5_242_890]);
        }
    }
    assert_eq!(download(&world, &it.token, &id(&small), 0, 0).await.unwrap(), b"small");
    let ended = world.url(&begin(&world, &it, bytes.len()).await);
    assert_eq!(
        patch(&http, ended.clone(), 0, bytes[..6 << 20].to_vec()).await.status(),
        204
    );
    assert_eq!(tus(&http, "DELETE", ended).send().await.unwrap().status(), 204);
    let status = upload(&world, &it.token, file(&it, 9), b"truncated"[..4].as_ref())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    until(&world, &it, NOTHING_UNDER_WAY).await;
    let names = s3.names().await;
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.iter().all(|it| it.starts_with("objects/")), "{names:?}");
    assert!(
        !names.iter().any(|it| it.contains("large")),
        "no name that a user wrote: {names:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_said_to_be_and_holds_nothing_up() {
    let s3 = S3::start().await;
    let deployment = Deployment::start(&s3.settings(), &[]).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    let kept = upload(&world, &it.token, file(&it, 4), b"kept").await.unwrap();
    drop(s3);
    let status = upload(&world, &it.token, file(&it, 5), b"other").await.unwrap_err();
    assert_reason(&status, Code::Unavailable, "OBJECT_STORE_UNAVAILABLE");
    let status = download(&world, &it.token, &id(&kept), 0, 0).await.unwrap_err();
    assert_reason(&status, Code::Unavailable, "OBJECT_STORE_UNAVAILABLE");
    let read = world
        .ok(&format!("{FILES}/GetFile"), json!({ "id": id(&kept) }), &it.token)
        .await;
    assert_eq!(read["state"], "FILE_STATE_READY");
    until(
        &world,
        &it,
        "select not exists (select from core.uploads where company_id = $1::uuid)",
    )
    .await;
}
