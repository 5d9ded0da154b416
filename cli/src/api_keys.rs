//! API keys from a terminal.

use anyhow::{Context, Result};
use clap::Subcommand;
use serde_json::json;
use service_kit::update;
use studios_proto::core::{ApiKey, CreateApiKeyRequest, ListApiKeysRequest, RevokeApiKeyRequest};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    output::{Output, message_json},
    runs::Access,
};

/// What can be done with API keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a key and print it, this once.
    Create {
        /// The company's id.
        company: String,
        /// What it is for.
        name: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// What it may be used for, like workflows:read, executions:write or *:read. May be repeated.
        #[arg(long = "scope", required = true)]
        scopes: Vec<String>,
        /// A branch that it is narrowed to. May be repeated.
        #[arg(long = "branch")]
        branches: Vec<String>,
        /// When it ends by itself, like 2027-01-31T00:00:00Z.
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// List a company's keys, newest first.
    List {
        /// The company's id.
        company: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// End a key.
    Revoke {
        /// The key's id.
        key: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
}

/// Does what was asked for.
pub async fn run(command: &Command, output: Output) -> Result<()> {
    match command {
        Command::Create {
            company,
            name,
            access,
            scopes,
            branches,
            expires,
        } => {
            let expires = expires.as_deref().map(|text| OffsetDateTime::parse(text, &Rfc3339));
            let expires = expires.transpose().context("--expires must be a time")?;
            let remote = access.remote()?;
            let request = remote.request(CreateApiKeyRequest {
                api_key: Some(ApiKey {
                    company_id: company.clone(),
                    name: name.clone(),
                    scopes: scopes.clone(),
                    branch_ids: branches.clone(),
                    expire_time: expires.map(update::timestamp),
                    ..ApiKey::default()
                }),
            });
            let made = remote.api_keys().create_api_key(request).await?.into_inner();
            let id = made.api_key.as_ref().map(|it| it.id.clone()).unwrap_or_default();
            output.result(
                format_args!(
                    "{}\n  keep it: it is not shown again; `studios api-keys revoke {id}` ends it",
                    made.key
                ),
                || json!({ "id": id, "key": made.key }),
            );
        }
        Command::List { company, access } => {
            let remote = access.remote()?;
            let request = remote.request(ListApiKeysRequest {
                company_id: company.clone(),
                page_size: 1000,
                page_token: String::new(),
            });
            for key in remote.api_keys().list_api_keys(request).await?.into_inner().api_keys {
                output.result(line(&key), || message_json(&key));
            }
        }
        Command::Revoke { key, access } => {
            let remote = access.remote()?;
            let request = remote.request(RevokeApiKeyRequest { id: key.clone() });
            let revoked = remote.api_keys().revoke_api_key(request).await?.into_inner();
            output.result(line(&revoked), || message_json(&revoked));
        }
    }
    Ok(())
}

fn line(key: &ApiKey) -> String {
    let at = |time: &Option<prost_types::Timestamp>| {
        let moment = time.as_ref().and_then(update::moment);
        moment.and_then(|it| it.format(&Rfc3339).ok())
    };
    let used = at(&key.last_used_time).unwrap_or_else(|| "never".into());
    let revoked = if key.revoke_time.is_some() { "  revoked" } else { "" };
    let expires = at(&key.expire_time)
        .map(|it| format!("  until {it}"))
        .unwrap_or_default();
    format!(
        "{}  {}\u{2026}  {}  {}  used {used}{expires}{revoked}",
        key.id,
        key.prefix,
        key.name,
        key.scopes.join(",")
    )
}
