//! Calls by method name with JSON bodies, over gRPC, by the contracts' descriptors: what a test says is what goes over the wire.

use std::sync::LazyLock;

use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions,
    prost::Message,
};
use serde_json::Value;
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    metadata::MetadataValue,
    transport::Channel,
};

/// The contracts' descriptors.
pub static POOL: LazyLock<DescriptorPool> = LazyLock::new(studios_proto::descriptors);

/// Every method of the contracts as `package.Service/Method`.
pub fn methods() -> Vec<String> {
    POOL.services()
        .flat_map(|service| {
            let name = service.full_name().to_owned();
            service
                .methods()
                .map(move |method| format!("{name}/{}", method.name()))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The descriptor of `package.Service/Method`.
pub fn method(name: &str) -> MethodDescriptor {
    let (service, method) = name.split_once('/').expect("a name of the form package.Service/Method");
    POOL.get_service_by_name(service)
        .and_then(|it| it.methods().find(|it| it.name() == method))
        .unwrap_or_else(|| panic!("the contracts have no {name}"))
}

/// A unary call.
pub async fn unary(channel: &Channel, name: &str, body: &Value, token: Option<&str>) -> Result<Value, Status> {
    let method = method(name);
    let request = request(&method, body, token);
    let mut grpc = ready(channel).await?;
    let answer = grpc.unary(request, path(name), Json(method.output())).await?;
    Ok(to_json(&answer.into_inner()))
}

/// A server-streaming call.
pub async fn stream(channel: &Channel, name: &str, body: &Value, token: Option<&str>) -> Result<Events, Status> {
    let method = method(name);
    let request = request(&method, body, token);
    let mut grpc = ready(channel).await?;
    Ok(Events(
        grpc.server_streaming(request, path(name), Json(method.output()))
            .await?
            .into_inner(),
    ))
}

/// Any call: a stream is reduced to its first message.
pub async fn any(channel: &Channel, name: &str, body: &Value, token: Option<&str>) -> Result<Value, Status> {
    if method(name).is_server_streaming() {
        return Ok(stream(channel, name, body, token)
            .await?
            .next()
            .await?
            .unwrap_or(Value::Null));
    }
    unary(channel, name, body, token).await
}

/// The messages of a server stream.
#[derive(Debug)]
pub struct Events(Streaming<DynamicMessage>);

impl Events {
    /// The next message, or none at the stream's end.
    pub async fn next(&mut self) -> Result<Option<Value>, Status> {
        Ok(self.0.message().await?.map(|message| to_json(&message)))
    }

    /// All messages to the stream's end.
    pub async fn rest(mut self) -> Result<Vec<Value>, Status> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await? {
            all.push(event);
        }
        Ok(all)
    }
}

async fn ready(channel: &Channel) -> Result<Grpc<Channel>, Status> {
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(64 << 20);
    grpc.ready()
        .await
        .map_err(|error| Status::new(Code::Unavailable, error.to_string()))?;
    Ok(grpc)
}

fn path(name: &str) -> PathAndQuery {
    format!("/{name}").parse().expect("a method name makes a path")
}

fn request(method: &MethodDescriptor, body: &Value, token: Option<&str>) -> Request<DynamicMessage> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(method.input(), body, &options)
        .unwrap_or_else(|error| panic!("{}: {error}: {body}", method.full_name()));
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value = MetadataValue::try_from(format!("Bearer {token}")).expect("a token is printable");
        request.metadata_mut().insert("authorization", value);
    }
    request
}

/// A message as the contracts' JSON.
pub(crate) fn to_json(message: &DynamicMessage) -> Value {
    let options = SerializeOptions::new().skip_default_fields(false);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .expect("a message has a JSON form")
}

/// Encodes what it is given and decodes into the method's output.
#[derive(Debug, Clone)]
struct Json(MessageDescriptor);

impl Codec for Json {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for Json {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Json {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        DynamicMessage::decode(self.0.clone(), buffer)
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}
