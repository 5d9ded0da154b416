//! Files up and down, over gRPC and at the gateway's signed URLs.

use futures::stream;
use prost_reflect::prost::Message as _;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use studios_proto::core::{
    DownloadFileRequest, File, NewFile, UploadFileRequest, file_service_client::FileServiceClient,
};
use tonic::{Request, Status, metadata::MetadataValue};

use crate::{call, world::World};

/// The service of files.
pub const FILES: &str = "studios.core.v1.FileService";

/// How much of a file goes in one message.
pub const MESSAGE_BYTES: usize = 64 << 10;

/// Uploads bytes as what is said of them; their size is told, unless it is said.
pub async fn upload(world: &World, token: &str, mut file: Value, bytes: &[u8]) -> Result<Value, Status> {
    if file["sizeBytes"].is_null() {
        file["sizeBytes"] = json!(bytes.len().to_string());
    }
    let file = new_file(&file);
    let parts = bytes.chunks(MESSAGE_BYTES).map(|part| UploadFileRequest {
        file: None,
        data: part.to_vec().into(),
    });
    let first = UploadFileRequest {
        file: Some(file),
        ..UploadFileRequest::default()
    };
    let messages: Vec<_> = std::iter::once(first).chain(parts).collect();
    let mut client = FileServiceClient::new(world.channel(FILES).clone());
    let answer = client.upload_file(signed(stream::iter(messages), token)).await?;
    Ok(as_json("studios.core.v1.File", &answer.into_inner()))
}

/// Reads a file's bytes from a place on.
pub async fn download(world: &World, token: &str, id: &str, offset: i64, length: i64) -> Result<Vec<u8>, Status> {
    let request = DownloadFileRequest {
        id: id.to_owned(),
        version: 0,
        offset,
        length,
    };
    let mut client = FileServiceClient::new(world.channel(FILES).clone());
    let mut messages = client.download_file(signed(request, token)).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = messages.message().await? {
        bytes.extend_from_slice(&message.data);
    }
    Ok(bytes)
}

/// A request with a token.
pub fn signed<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {token}")).expect("a token is printable");
    request.metadata_mut().insert("authorization", value);
    request
}

/// What is said of a file, from JSON.
pub fn new_file(file: &Value) -> NewFile {
    let descriptor = call::POOL
        .get_message_by_name("studios.core.v1.NewFile")
        .expect("the contracts have it");
    let message = prost_reflect::DynamicMessage::deserialize(descriptor, file).expect("it is one");
    NewFile::decode(&*message.encode_to_vec()).expect("it is one")
}

fn as_json(name: &str, message: &File) -> Value {
    let descriptor = call::POOL.get_message_by_name(name).expect("the contracts have it");
    let message = prost_reflect::DynamicMessage::decode(descriptor, &*message.encode_to_vec()).expect("it is one");
    call::to_json(&message)
}

/// A request of TUS.
pub fn tus(http: &Client, method: &str, url: String) -> RequestBuilder {
    let method = method.parse().expect("a method");
    http.request(method, url).header("tus-resumable", "1.0.0")
}

/// Sends bytes to an upload's URL at an offset.
pub async fn patch(http: &Client, url: String, offset: usize, bytes: impl Into<reqwest::Body>) -> Response {
    tus(http, "PATCH", url)
        .header("upload-offset", offset)
        .header("content-type", "application/offset+octet-stream")
        .body(bytes)
        .send()
        .await
        .expect("the gateway answers")
}

/// A header's text.
pub fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |it| it.to_str().expect("a text"))
}

/// Bytes that are a text and are nowhere the same.
pub fn text(length: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(length + 16);
    let mut n = 0_u64;
    while text.len() < length {
        text.extend_from_slice(format!("line {n}\n").as_bytes());
        n += 1;
    }
    text.truncate(length);
    text
}
