//! Uploads by TUS 1.0 (<https://tus.io/protocols/resumable-upload>): creation, termination, expiration, checksum.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{Path, Request, State},
    response::Response,
};
use bytes::Bytes;
use futures::{StreamExt, future, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use service_kit::error::Error;
use studios_proto::core::{
    AccessLevel, CreateUploadRequest, EndUploadRequest, GetUploadRequest, NewFile, WriteUploadRequest,
    file_service_client::FileServiceClient, transfer_service_client::TransferServiceClient,
};
use tonic::Code;

use super::{
    Refusal, Transfers,
    headers::{
        self, FILE_ID, METHOD_OVERRIDE, TUS_RESUMABLE, UPLOAD_CHECKSUM, UPLOAD_EXPIRES, UPLOAD_LENGTH, UPLOAD_METADATA,
        UPLOAD_OFFSET,
    },
    request,
};

/// How long what carries no file may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Begins an upload for the user whose token the request carries, and says where it goes on.
pub(super) async fn create(State(transfers): State<Transfers>, request: Request) -> Response {
    if method(&request) != Method::POST {
        return Refusal::not_allowed("POST, OPTIONS");
    }
    begun(transfers, request).await.unwrap_or_else(Refusal::into_response)
}

/// What is done to an upload that has begun: HEAD asks how far it is, PATCH goes on, DELETE gives it up.
pub(super) async fn go_on(State(transfers): State<Transfers>, Path(token): Path<String>, request: Request) -> Response {
    let answered = match method(&request) {
        Method::HEAD => state(transfers, token, request).await,
        Method::PATCH => patched(transfers, token, request).await,
        Method::DELETE => ended(transfers, token, request).await,
        _ => return Refusal::not_allowed("HEAD, PATCH, DELETE, OPTIONS"),
    };
    answered.unwrap_or_else(Refusal::into_response)
}

async fn begun(transfers: Transfers, mut given: Request) -> Result<Response, Refusal> {
    let _permit = transfers.admit(&mut given)?;
    let headers = given.headers();
    speaks(headers)?;
    let size_bytes = whole(headers, &UPLOAD_LENGTH)?;
    let metadata = text(headers, &UPLOAD_METADATA).unwrap_or_default();
    let mut metadata = headers::metadata(metadata)
        .ok_or_else(|| Error::invalid("upload-metadata", "must be keys and base64 values"))?;
    let mut take = |key: &str| metadata.remove(key).unwrap_or_default();
    let level = match &*take("access_level") {
        "" => AccessLevel::Unspecified,
        "private" => AccessLevel::Private,
        "studio" => AccessLevel::Studio,
        "company" => AccessLevel::Company,
        _ => return Err(Error::invalid("upload-metadata", "access_level must be private, studio or company").into()),
    };
    let file = NewFile {
        studio_id: take("studio_id"),
        file_id: take("file_id"),
        name: take("filename"),
        mime_type: take("filetype"),
        size_bytes,
        access_level: level.into(),
        metadata: None,
        sha256: take("sha256"),
        request_id: String::new(),
    };
    let mut request = request(headers, CreateUploadRequest { file: Some(file) });
    request.set_timeout(PATIENCE);
    let upload = FileServiceClient::new(transfers.core).create_upload(request).await?;
    let upload = upload.into_inner();
    let mut response = empty(StatusCode::CREATED);
    insert(&mut response, header::LOCATION, &upload.url_path);
    expires(&mut response, upload.expire_time);
    Ok(response)
}

async fn state(transfers: Transfers, token: String, mut given: Request) -> Result<Response, Refusal> {
    let _permit = transfers.admit(&mut given)?;
    speaks(given.headers())?;
    let mut request = request(given.headers(), GetUploadRequest { token });
    request.set_timeout(PATIENCE);
    let upload = TransferServiceClient::new(transfers.core).get_upload(request).await?;
    let upload = upload.into_inner();
    let mut response = empty(StatusCode::OK);
    insert(&mut response, UPLOAD_OFFSET, &upload.offset.to_string());
    insert(&mut response, UPLOAD_LENGTH, &upload.size_bytes.to_string());
    expires(&mut response, upload.expire_time);
    Ok(response)
}

async fn patched(transfers: Transfers, token: String, mut given: Request) -> Result<Response, Refusal> {
    let _permit = transfers.admit(&mut given)?;
    let (parts, body) = given.into_parts();
    let headers = parts.headers;
    speaks(&headers)?;
    if text(&headers, &header::CONTENT_TYPE) != Some("application/offset+octet-stream") {
        return Err(Refusal::http(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::InvalidArgument,
            "the content type must be application/offset+octet-stream",
        ));
    }
    let offset = whole(&headers, &UPLOAD_OFFSET)?;
    let checksum = match text(&headers, &UPLOAD_CHECKSUM) {
        None => None,
        Some(text) => Some(
            headers::checksum(text)
                .ok_or_else(|| Error::invalid("upload-checksum", "must be an algorithm and a sum"))?,
        ),
    };
    let first = WriteUploadRequest {
        token,
        offset,
        checksum,
        data: Bytes::new(),
    };
    let data = body.into_data_stream().take_while(|it| {
        if let Err(error) = it {
            tracing::debug!(%error, "an upload's request broke");
        }
        // What has come is kept.
        future::ready(it.is_ok())
    });
    let data = data.map(|it| WriteUploadRequest {
        data: it.unwrap_or_default(),
        ..WriteUploadRequest::default()
    });
    let messages = stream::once(future::ready(first)).chain(data);
    let written = TransferServiceClient::new(transfers.core)
        .write_upload(request(&headers, messages))
        .await?;
    let written = written.into_inner();
    let mut response = empty(StatusCode::NO_CONTENT);
    insert(&mut response, UPLOAD_OFFSET, &written.offset.to_string());
    match written.file {
        Some(file) => insert(&mut response, FILE_ID, &file.id),
        None => expires(&mut response, written.expire_time),
    }
    Ok(response)
}

async fn ended(transfers: Transfers, token: String, mut given: Request) -> Result<Response, Refusal> {
    let _permit = transfers.admit(&mut given)?;
    speaks(given.headers())?;
    let mut request = request(given.headers(), EndUploadRequest { token });
    request.set_timeout(PATIENCE);
    TransferServiceClient::new(transfers.core).end_upload(request).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The method that is meant: where a client cannot send one, it names it in a POST.
fn method(request: &Request) -> Method {
    let named = text(request.headers(), &METHOD_OVERRIDE).and_then(|it| it.parse().ok());
    match named {
        Some(named) if request.method() == Method::POST => named,
        _ => request.method().clone(),
    }
}

fn speaks(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.get(TUS_RESUMABLE) == Some(&headers::VERSION) {
        return Ok(());
    }
    Err(Refusal::http(
        StatusCode::PRECONDITION_FAILED,
        Code::FailedPrecondition,
        "the header tus-resumable must be 1.0.0",
    ))
}

fn whole(headers: &HeaderMap, name: &HeaderName) -> Result<i64, Refusal> {
    let number = text(headers, name).and_then(headers::number);
    number.ok_or_else(|| Error::invalid(name.as_str(), "must be a whole number").into())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn insert(response: &mut Response, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        response.headers_mut().insert(name, value);
    }
}

fn expires(response: &mut Response, at: Option<prost_types::Timestamp>) {
    let at = at.and_then(|it| std::time::SystemTime::try_from(it).ok());
    if let Some(at) = at {
        insert(response, UPLOAD_EXPIRES, &httpdate::fmt_http_date(at));
    }
}
