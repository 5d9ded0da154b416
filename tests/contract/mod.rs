//! Every RPC, called once with curl through the gateway, as a person or a script would.

mod compose;
mod openapi;

use std::process::{Command, Stdio};

use prost_reflect::{DynamicMessage, prost::Message};
use serde_json::Value;
use studios_tests::{
    call,
    rows::{Door, ROWS, Row},
    tenant::Tenant,
    world::World,
};
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rpc_can_be_called_with_curl() {
    let world = World::start().await;
    let tenant = Tenant::make(&world).await;
    let mut wrong = Vec::new();
    for row in ROWS {
        let is_public = !matches!(
            row.door,
            Door::Service | Door::ServiceAlone | Door::Gateway | Door::Operator
        );
        let (status, body) = if is_public && is_stream(row) {
            grpc_web(&world, row, &tenant)
        } else {
            json(&world, row, &tenant)
        };
        if let Err(fault) = judge(row, status, &body) {
            wrong.push(format!(
                "{}: {fault}: {status} {}",
                row.method,
                String::from_utf8_lossy(&body)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether the answer is what the contract says: the output's JSON, or an error of the expected code.
fn judge(row: &Row, status: u16, body: &[u8]) -> Result<(), String> {
    let method = call::method(row.method);
    if let Door::Service | Door::ServiceAlone | Door::Gateway | Door::Operator = row.door {
        return if status == 501 {
            Ok(())
        } else {
            Err("the gateway serves an internal method".into())
        };
    }
    if is_stream(row) && row.answer != Code::Ok {
        // The refusal stands in the headers.
        return match grpc_web_message(body) {
            None => Ok(()),
            Some(_) => Err("a message came".into()),
        };
    }
    if is_stream(row) {
        let message = grpc_web_message(body).ok_or("no message came")?;
        DynamicMessage::decode(method.output(), message).map_err(|error| error.to_string())?;
        return if status == 200 { Ok(()) } else { Err("not 200".into()) };
    }
    let answer: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let refusal = match row.answer {
        Code::FailedPrecondition => Some("failed_precondition"),
        Code::InvalidArgument => Some("invalid_argument"),
        Code::NotFound => Some("not_found"),
        Code::Unauthenticated => Some("unauthenticated"),
        _ => None,
    };
    if let Some(code) = refusal {
        return if answer["code"] == code {
            Ok(())
        } else {
            Err(format!("not {code}"))
        };
    }
    DynamicMessage::deserialize(method.output(), &answer).map_err(|error| error.to_string())?;
    if status == 200 { Ok(()) } else { Err("not 200".into()) }
}

fn is_stream(row: &Row) -> bool {
    let method = call::method(row.method);
    method.is_server_streaming() || method.is_client_streaming()
}

fn json(world: &World, row: &Row, tenant: &Tenant) -> (u16, Vec<u8>) {
    let body = (row.body)(tenant).to_string();
    curl(world, row, tenant, "application/json", body.as_bytes())
}

/// One frame: no compression, the length in four bytes, the message.
fn grpc_web(world: &World, row: &Row, tenant: &Tenant) -> (u16, Vec<u8>) {
    let input = call::method(row.method).input();
    let message = DynamicMessage::deserialize(input, &(row.body)(tenant))
        .expect("the row fits its method")
        .encode_to_vec();
    let length = u32::try_from(message.len()).expect("a small message").to_be_bytes();
    let frame: Vec<u8> = [&[0], length.as_slice(), &message].concat();
    curl(world, row, tenant, "application/grpc-web+proto", &frame)
}

fn grpc_web_message(body: &[u8]) -> Option<&[u8]> {
    let (head, rest) = body.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    (head[0] == 0).then(|| rest.get(..usize::try_from(length).ok()?))?
}

fn curl(world: &World, row: &Row, tenant: &Tenant, content_type: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut command = Command::new("curl");
    command
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "30",
            "--write-out",
            "\n%{http_code}",
            "--data-binary",
            "@-",
        ])
        .args(["--header", &format!("content-type: {content_type}")])
        .arg(world.url(row.method))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    if let Door::Member = row.door {
        command.args(["--header", &format!("authorization: Bearer {}", tenant.token)]);
    }
    let mut child = command.spawn().expect("curl is installed");
    std::io::Write::write_all(&mut child.stdin.take().expect("stdin is piped"), body).expect("curl reads");
    let output = child.wait_with_output().expect("curl ends");
    let cut = output
        .stdout
        .iter()
        .rposition(|&byte| byte == b'\n')
        .expect("the status stands on the last line");
    let status = String::from_utf8_lossy(&output.stdout[cut + 1..])
        .parse()
        .expect("a status");
    (status, output.stdout[..cut].to_vec())
}
