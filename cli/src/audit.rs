//! The audit log from a terminal: listed, exported, and checked with or without the installation that wrote it.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use serde_json::json;
use service_kit::audit::{Line, Walk};
use studios_proto::core::{
    AuditEntry, AuditFormat, ExportAuditLogRequest, ListAuditEntriesRequest, VerifyAuditLogRequest,
};
use tonic::Streaming;

use crate::{
    output::{Output, message_json},
    runs::Access,
};

/// Whose log.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Log {
    /// Companies, members, studios and documents.
    Core,
    /// Models, workflows, snapshots and executions.
    Execution,
}

/// What can be done with the audit log.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List what was done in a company, newest first.
    List {
        /// The company's id.
        company: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Which service's log.
        #[arg(long, value_enum, default_value_t = Log::Core)]
        log: Log,
        /// Only what this user or key did.
        #[arg(long, default_value = "")]
        actor: String,
        /// Only this, like StudioService.CreateStudio.
        #[arg(long, default_value = "")]
        action: String,
        /// Only what was done to the thing of this id.
        #[arg(long, default_value = "")]
        thing: String,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: i32,
    },
    /// Write a company's log, oldest first: as JSON lines that `verify` checks, or as CSV.
    Export {
        /// The company's id.
        company: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Which service's log.
        #[arg(long, value_enum, default_value_t = Log::Core)]
        log: Log,
        /// As comma-separated values.
        #[arg(long)]
        csv: bool,
        /// Only what comes after this place in the chain.
        #[arg(long, default_value_t = 0)]
        after: i64,
        /// Where to; stdout where nothing is given.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Check exported files, in the order in which they were exported; needs no server.
    Verify {
        /// Files of JSON lines.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The installation's public key, as `check` names it; the one in the files is believed where none is given.
        #[arg(long = "key", value_name = "HEX")]
        keys: Vec<String>,
    },
    /// Have the server check a company's log.
    Check {
        /// The company's id.
        company: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Which service's log.
        #[arg(long, value_enum, default_value_t = Log::Core)]
        log: Log,
    },
}

/// Does what was asked for. Says whether a log that was checked is whole.
pub async fn run(command: &Command, output: Output) -> Result<bool> {
    match command {
        Command::List {
            company,
            access,
            log,
            actor,
            action,
            thing,
            limit,
        } => {
            let remote = access.remote()?;
            let request = remote.request(ListAuditEntriesRequest {
                company_id: company.clone(),
                actor_id: actor.clone(),
                action: action.clone(),
                thing_id: thing.clone(),
                page_size: *limit,
                ..ListAuditEntriesRequest::default()
            });
            let listed = match log {
                Log::Core => remote.audit().list_audit_entries(request).await?,
                Log::Execution => remote.execution_audit().list_audit_entries(request).await?,
            };
            for entry in listed.into_inner().entries {
                output.result(line(&entry), || message_json(&entry));
            }
            Ok(true)
        }
        Command::Export {
            company,
            access,
            log,
            csv,
            after,
            out,
        } => {
            let remote = access.remote()?;
            let format = if *csv { AuditFormat::Csv } else { AuditFormat::JsonLines };
            let request = remote.stream_request(ExportAuditLogRequest {
                company_id: company.clone(),
                format: format.into(),
                after: *after,
            });
            let parts = match log {
                Log::Core => remote.audit().export_audit_log(request).await?.into_inner(),
                Log::Execution => remote.execution_audit().export_audit_log(request).await?.into_inner(),
            };
            export(parts, out.as_deref()).await?;
            Ok(true)
        }
        Command::Verify { files, keys } => verify(files, keys, output),
        Command::Check { company, access, log } => {
            let remote = access.remote()?;
            let request = remote.request(VerifyAuditLogRequest {
                company_id: company.clone(),
            });
            let told = match log {
                Log::Core => remote.audit().verify_audit_log(request).await?,
                Log::Execution => remote.execution_audit().verify_audit_log(request).await?,
            };
            let told = told.into_inner();
            let key = told.keys.first().cloned().unwrap_or_default();
            let text = verdict(told.entries.unsigned_abs(), &told.problems, &key);
            output.result(text, || message_json(&told));
            Ok(told.problems.is_empty())
        }
    }
}

async fn export(mut parts: Streaming<studios_proto::core::ExportAuditLogResponse>, out: Option<&Path>) -> Result<()> {
    let mut writer: Box<dyn Write + Send> = match out {
        Some(path) => Box::new(File::create(path).with_context(|| format!("making {}", path.display()))?),
        None => Box::new(io::stdout()),
    };
    while let Some(part) = parts.message().await? {
        writer.write_all(part.lines.as_bytes()).context("writing the log")?;
    }
    writer.flush().context("writing the log")
}

fn verify(files: &[PathBuf], keys: &[String], output: Output) -> Result<bool> {
    let (mut walk, mut head) = (Walk::new(), None);
    for path in files {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        for (number, line) in text.lines().enumerate() {
            let place = || format!("line {} of {} is none of an export", number + 1, path.display());
            match serde_json::from_str(line).with_context(place)? {
                Line::Entry { seq, hash, entry, .. } => {
                    let hash = hex::decode(&hash).with_context(place)?;
                    walk.step(seq, &hash, entry.as_ref());
                }
                Line::Head(end) => head = Some(end),
            }
        }
    }
    let trusted = keys
        .iter()
        .map(|key| hex::decode(key).context("--key must be hexadecimal digits"))
        .collect::<Result<Vec<_>>>()?;
    let trusted = match &head {
        Some(head) if trusted.is_empty() => vec![head.key.clone()],
        _ => trusted,
    };
    let (entries, _) = walk.length();
    let (log, chain) = head.as_ref().map(|it| (it.log.clone(), it.chain)).unwrap_or_default();
    let key = head.as_ref().map(|it| hex::encode(&it.key)).unwrap_or_default();
    let problems: Vec<_> = walk
        .finish(&log, chain, head.as_ref(), &trusted)
        .iter()
        .map(ToString::to_string)
        .collect();
    output.result(
        verdict(entries, &problems, &key),
        || json!({ "log": log, "company_id": chain, "entries": entries, "problems": problems, "key": key }),
    );
    Ok(problems.is_empty())
}

fn verdict(entries: u64, problems: &[String], key: &str) -> String {
    if problems.is_empty() {
        return format!("whole: {entries} entries, signed by {key}");
    }
    format!("not whole: {entries} entries\n  {}", problems.join("\n  "))
}

fn line(entry: &AuditEntry) -> String {
    let time = entry
        .time
        .as_ref()
        .and_then(service_kit::update::moment)
        .map(|it| it.to_string())
        .unwrap_or_default();
    let from = if entry.address.is_empty() {
        String::new()
    } else {
        format!("  from {}", entry.address)
    };
    format!(
        "{time}  {}  {}  {} {}{from}",
        entry.actor_id, entry.action, entry.thing_kind, entry.thing_id
    )
}
