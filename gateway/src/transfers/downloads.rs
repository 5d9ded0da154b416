//! Downloads at signed URLs: GET and HEAD, with ranges. Whatever the bytes are, they run nowhere: they are saved, or shown as the
//! image that they are, under a policy that allows nothing.

use axum::{
    body::Body,
    extract::{Path, Request, State},
    response::Response,
};
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use service_kit::error::Error;
use studios_proto::core::{Download, ReadDownloadRequest, transfer_service_client::TransferServiceClient};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Code;

use super::{
    Refusal, Transfers,
    headers::{disposition, range},
    request,
};

/// Sends a file, or a part of it.
pub(super) async fn read(State(transfers): State<Transfers>, Path(token): Path<String>, request: Request) -> Response {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return Refusal::not_allowed("GET, HEAD");
    }
    sent(transfers, token, request)
        .await
        .unwrap_or_else(Refusal::into_response)
}

async fn sent(transfers: Transfers, token: String, mut given: Request) -> Result<Response, Refusal> {
    let permit = transfers.admit(&mut given)?;
    let headers = given.headers();
    let mut asked = ReadDownloadRequest {
        token,
        head: given.method() == Method::HEAD,
        ..ReadDownloadRequest::default()
    };
    let in_part = text(headers, &header::RANGE).is_some_and(|it| range(it, &mut asked));
    if in_part && let Some(condition) = text(headers, &header::IF_RANGE) {
        // A date, or a weak tag, is never the same: all of it is sent.
        asked.if_sha256 = condition.trim().trim_matches('"').to_owned();
    }
    let is_head = asked.head;
    let mut messages = TransferServiceClient::new(transfers.core)
        .read_download(request(headers, asked))
        .await?
        .into_inner();
    let first = messages.message().await?;
    let download = first
        .and_then(|it| it.download)
        .ok_or_else(|| Error::internal("a download began without a head"))?;

    let tag = format!("\"{}\"", download.sha256);
    if text(headers, &header::IF_NONE_MATCH).is_some_and(|it| it == "*" || it.contains(&tag)) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        insert(&mut response, header::ETAG, &tag);
        return Ok(response);
    }
    if in_part && download.length == 0 {
        let mut response = Refusal::http(
            StatusCode::RANGE_NOT_SATISFIABLE,
            Code::OutOfRange,
            "the file has no such range",
        )
        .into_response();
        insert(
            &mut response,
            header::CONTENT_RANGE,
            &format!("bytes */{}", download.size_bytes),
        );
        return Ok(response);
    }
    let body = if is_head {
        Body::empty()
    } else {
        Body::from_stream(messages.map(move |it| {
            let _held: &OwnedSemaphorePermit = &permit;
            it.map(|it| it.data)
        }))
    };
    let mut response = Response::new(body);
    describe(&mut response, &download, &tag);
    Ok(response)
}

fn describe(response: &mut Response, download: &Download, tag: &str) {
    let is_text = download.mime_type.starts_with("text/");
    let charset = if is_text { "; charset=utf-8" } else { "" };
    let is_shown = download.shown && download.mime_type.starts_with("image/");
    let kind = if is_shown { "inline" } else { "attachment" };
    insert(
        response,
        header::CONTENT_TYPE,
        &format!("{}{charset}", download.mime_type),
    );
    insert(response, header::CONTENT_LENGTH, &download.length.to_string());
    insert(
        response,
        header::CONTENT_DISPOSITION,
        &disposition(kind, &download.name),
    );
    insert(response, header::ETAG, tag);
    let made = download
        .create_time
        .and_then(|it| std::time::SystemTime::try_from(it).ok());
    if let Some(made) = made {
        insert(response, header::LAST_MODIFIED, &httpdate::fmt_http_date(made));
    }
    if download.length < download.size_bytes {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let last = download.offset + download.length - 1;
        let range = format!("bytes {}-{last}/{}", download.offset, download.size_bytes);
        insert(response, header::CONTENT_RANGE, &range);
    }
    for (name, value) in [
        (header::ACCEPT_RANGES, "bytes"),
        (header::CACHE_CONTROL, "private, no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
        // The URL is a key.
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn insert(response: &mut Response, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        response.headers_mut().insert(name, value);
    }
}
