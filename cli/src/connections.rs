//! Connections from a terminal. A secret comes from stdin or the environment, never from the command line, which others can read.

use std::{
    env,
    fmt::Write,
    io::{self, Read},
};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde_json::json;
use studios_proto::execution::{
    Connection, ConnectionKind, ConnectionOptions, CreateConnectionRequest, DeleteConnectionRequest,
    ListConnectionsRequest, TestConnectionRequest, TestConnectionResponse, connection_health::State,
    test_connection_request::Of,
};
use uuid::Uuid;

use crate::{
    output::{Output, message_json},
    runs::Access,
};

/// The variable that a secret may stand in.
const SECRET: &str = "STUDIOS_CONNECTION_SECRET";

/// What can be done with connections.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a connection; its secret is read from `STUDIOS_CONNECTION_SECRET`, or from stdin with --secret-stdin.
    Create {
        /// The company's id.
        company: String,
        /// The connection's name.
        name: String,
        /// openai, anthropic, azure, ollama, flowise, activepieces or http.
        kind: String,
        /// The server's address.
        base_url: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Read the secret from stdin.
        #[arg(long)]
        secret_stdin: bool,
        /// The project (of activepieces).
        #[arg(long, default_value = "")]
        project: String,
        /// Who signs in with the secret as password (of activepieces).
        #[arg(long, default_value = "")]
        email: String,
        /// The header that carries the secret (of http); a bearer token without one.
        #[arg(long, default_value = "")]
        header: String,
        /// Calls at once (of model providers); 0 for no limit.
        #[arg(long, default_value_t = 0)]
        concurrency: i32,
    },
    /// List a company's connections and how they fare.
    List {
        /// The company's id.
        company: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: i32,
    },
    /// Call a connection's server and say what works.
    Test {
        /// The connection's id.
        connection: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Remove a connection.
    Delete {
        /// The connection's id.
        connection: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
}

/// Runs one of the commands; false where a test failed.
pub async fn run(command: &Command, output: Output) -> Result<bool> {
    match command {
        Command::Create {
            company,
            name,
            kind,
            base_url,
            access,
            secret_stdin,
            project,
            email,
            header,
            concurrency,
        } => {
            let kind_name = format!("CONNECTION_KIND_{}", kind.to_ascii_uppercase());
            let Some(kind) = ConnectionKind::from_str_name(&kind_name) else {
                bail!("{kind} is no kind of connection: openai, anthropic, azure, ollama, flowise, activepieces, http");
            };
            let connection = Connection {
                company_id: company.clone(),
                name: name.clone(),
                kind: kind.into(),
                base_url: base_url.clone(),
                secret: secret(*secret_stdin)?,
                enabled: true,
                options: Some(ConnectionOptions {
                    concurrency: *concurrency,
                    project_id: project.clone(),
                    email: email.clone(),
                    header: header.clone(),
                    ..Default::default()
                }),
                ..Default::default()
            };
            let request = CreateConnectionRequest {
                connection: Some(connection),
                request_id: Uuid::now_v7().to_string(),
            };
            let remote = access.remote()?;
            let made = remote.connections().create_connection(remote.request(request)).await?;
            print(&made.into_inner(), output);
        }
        Command::List { company, access, limit } => {
            let request = ListConnectionsRequest {
                company_id: company.clone(),
                page_size: *limit,
                ..Default::default()
            };
            let remote = access.remote()?;
            let page = remote.connections().list_connections(remote.request(request)).await?;
            for found in &page.into_inner().connections {
                print(found, output);
            }
        }
        Command::Test { connection, access } => {
            let request = TestConnectionRequest {
                of: Some(Of::Id(connection.clone())),
            };
            let remote = access.remote()?;
            let tested = remote.connections().test_connection(remote.request(request)).await?;
            let tested = tested.into_inner();
            output.result(steps(&tested), || message_json(&tested));
            return Ok(tested.ok);
        }
        Command::Delete { connection, access } => {
            let request = DeleteConnectionRequest {
                id: connection.clone(),
                etag: String::new(),
            };
            let remote = access.remote()?;
            remote.connections().delete_connection(remote.request(request)).await?;
            output.result(
                format_args!("deleted {connection}"),
                || json!({ "deleted": connection }),
            );
        }
    }
    Ok(true)
}

fn secret(from_stdin: bool) -> Result<String> {
    if !from_stdin {
        return Ok(env::var(SECRET).unwrap_or_default());
    }
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .context("reading the secret from stdin")?;
    Ok(text.trim().to_owned())
}

fn steps(tested: &TestConnectionResponse) -> String {
    let mut text = String::new();
    for step in &tested.steps {
        let mark = if step.ok { "ok " } else { "BAD" };
        // A String takes everything.
        let _ = writeln!(text, "{mark} {:<8} {} ({} ms)", step.name, step.message, step.took_ms);
    }
    for offer in &tested.offers {
        let _ = writeln!(text, "    {offer}");
    }
    text.trim_end().to_owned()
}

fn print(connection: &Connection, output: Output) {
    let kind = connection
        .kind()
        .as_str_name()
        .trim_start_matches("CONNECTION_KIND_")
        .to_lowercase();
    let health = connection.health.clone().unwrap_or_default();
    let fares = match health.state() {
        State::Unspecified => "not used yet".to_owned(),
        State::Ok => "works".to_owned(),
        State::Failing => format!("fails: {}", health.error_message),
    };
    let enabled = if connection.enabled { "" } else { ", disabled" };
    let text = format!(
        "{}  {}  {kind} {}  {fares}{enabled}",
        connection.id, connection.name, connection.base_url
    );
    output.result(text, || message_json(connection));
}
