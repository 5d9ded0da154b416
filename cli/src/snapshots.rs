//! Snapshots from a terminal: taken, listed, compared, restored, and carried as files.

use std::{
    fmt::Write,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::{ArgGroup, Subcommand};
use serde_json::json;
use studios_proto::execution::{
    CompareSnapshotsRequest, CreateSnapshotRequest, DeleteSnapshotRequest, ExportSnapshotRequest, GetSnapshotRequest,
    ImportSnapshotRequest, ListSnapshotsRequest, NewWorkflow, OverDraft, RestoreSnapshotRequest, Snapshot,
    compare_snapshots_request::To, restore_snapshot_request::Target,
};
use uuid::Uuid;

use crate::{
    output::{Output, message_json},
    runs::Access,
    workflows::diff_text,
};

/// What can be done with snapshots.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take a snapshot of a workflow's draft, or of one of its versions.
    Create {
        /// The workflow's id.
        workflow: String,
        /// The snapshot's name.
        name: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// What it is for.
        #[arg(long, default_value = "")]
        description: String,
        /// The version's number; the draft where none is given.
        #[arg(long, default_value_t = 0)]
        version: i32,
        /// Keep it when its workflow is erased.
        #[arg(long)]
        keep: bool,
    },
    /// List a studio's snapshots, newest first.
    List {
        /// The studio's id.
        studio: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Only those of this workflow.
        #[arg(long, default_value = "")]
        workflow: String,
        /// Only your own.
        #[arg(long)]
        own: bool,
        /// Also drafts that were kept when something else was put over them.
        #[arg(long)]
        automatic: bool,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: i32,
    },
    /// Print a snapshot.
    Show {
        /// The snapshot's id.
        snapshot: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Print what differs between two snapshots, or between a snapshot and a workflow's draft.
    #[command(group(ArgGroup::new("other").required(true)))]
    Compare {
        /// The older one's id.
        snapshot: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// The other snapshot's id.
        #[arg(long, group = "other")]
        with: Option<String>,
        /// The workflow whose draft is the other side.
        #[arg(long, group = "other")]
        draft_of: Option<String>,
    },
    /// Restore a snapshot as a new workflow, or over the draft of its own, which is kept.
    #[command(group(ArgGroup::new("target").required(true)))]
    Restore {
        /// The snapshot's id.
        snapshot: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// The name of the new workflow.
        #[arg(long, group = "target")]
        new: Option<String>,
        /// Over the draft of the workflow that it was taken of.
        #[arg(long, group = "target")]
        over: bool,
    },
    /// Write a snapshot as a file.
    Export {
        /// The snapshot's id.
        snapshot: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Where to; stdout where nothing is given.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Make a snapshot of a file, and say what would keep its workflow from being published here.
    Import {
        /// The studio's id.
        studio: String,
        /// The file; - reads stdin.
        file: PathBuf,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// The snapshot's name, in place of the one in the file.
        #[arg(long, default_value = "")]
        name: String,
    },
    /// Delete a snapshot for good.
    Delete {
        /// The snapshot's id.
        snapshot: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
}

/// Runs a command.
pub async fn run(command: &Command, output: Output) -> Result<()> {
    match command {
        Command::Create {
            workflow,
            name,
            access,
            description,
            version,
            keep,
        } => {
            let request = CreateSnapshotRequest {
                workflow_id: workflow.clone(),
                version: *version,
                name: name.clone(),
                description: description.clone(),
                keep_on_delete: *keep,
                request_id: Uuid::now_v7().to_string(),
            };
            let remote = access.remote()?;
            let made = remote.snapshots().create_snapshot(remote.request(request)).await?;
            print(&made.into_inner(), output);
        }
        Command::List {
            studio,
            access,
            workflow,
            own,
            automatic,
            limit,
        } => {
            let request = ListSnapshotsRequest {
                studio_id: studio.clone(),
                workflow_id: workflow.clone(),
                own: *own,
                show_automatic: *automatic,
                page_size: *limit,
                page_token: String::new(),
            };
            let remote = access.remote()?;
            let page = remote.snapshots().list_snapshots(remote.request(request)).await?;
            for found in &page.into_inner().snapshots {
                print(found, output);
            }
        }
        Command::Show { snapshot, access } => {
            let request = GetSnapshotRequest { id: snapshot.clone() };
            let remote = access.remote()?;
            let found = remote.snapshots().get_snapshot(remote.request(request)).await?;
            print(&found.into_inner(), output);
        }
        Command::Compare {
            snapshot,
            access,
            with,
            draft_of,
        } => {
            let with = with.clone().map(To::ToId);
            let request = CompareSnapshotsRequest {
                from_id: snapshot.clone(),
                to: with.or_else(|| draft_of.clone().map(To::ToWorkflowId)),
            };
            let remote = access.remote()?;
            let told = remote.snapshots().compare_snapshots(remote.request(request)).await?;
            let diff = told.into_inner().diff.unwrap_or_default();
            output.result(diff_text(&diff), || message_json(&diff));
        }
        Command::Restore {
            snapshot,
            access,
            new,
            over: _,
        } => {
            let new = new.clone().map(|name| Target::NewWorkflow(NewWorkflow { name }));
            let request = RestoreSnapshotRequest {
                id: snapshot.clone(),
                target: new.or_else(|| Some(Target::OverDraft(OverDraft::default()))),
                request_id: Uuid::now_v7().to_string(),
            };
            let remote = access.remote()?;
            let restored = remote.snapshots().restore_snapshot(remote.request(request)).await?;
            let restored = restored.into_inner();
            let workflow = restored.workflow.clone().unwrap_or_default();
            let kept = match restored.kept_snapshot_id.as_str() {
                "" => String::new(),
                id => format!("  the draft before it is the snapshot {id}"),
            };
            output.result(format_args!("{}  {}{kept}", workflow.id, workflow.name), || {
                message_json(&restored)
            });
        }
        Command::Export { snapshot, access, out } => export(snapshot, access, out.as_deref(), output).await?,
        Command::Import {
            studio,
            file,
            access,
            name,
        } => {
            let request = ImportSnapshotRequest {
                studio_id: studio.clone(),
                content: read(file)?,
                name: name.clone(),
                request_id: Uuid::now_v7().to_string(),
            };
            let remote = access.remote()?;
            let imported = remote.snapshots().import_snapshot(remote.request(request)).await?;
            let imported = imported.into_inner();
            let mut text = line(&imported.snapshot.clone().unwrap_or_default());
            for warning in &imported.warnings {
                // A String takes everything.
                let _ = write!(text, "\n  {}: {}", warning.field, warning.description);
            }
            output.result(text, || message_json(&imported));
        }
        Command::Delete { snapshot, access } => {
            let request = DeleteSnapshotRequest {
                id: snapshot.clone(),
                etag: String::new(),
            };
            let remote = access.remote()?;
            remote.snapshots().delete_snapshot(remote.request(request)).await?;
            output.result(format_args!("deleted {snapshot}"), || json!({ "deleted": snapshot }));
        }
    }
    Ok(())
}

/// Writes the file itself to stdout, or to a file and then says where.
async fn export(snapshot: &str, access: &Access, out: Option<&Path>, output: Output) -> Result<()> {
    let remote = access.remote()?;
    let request = remote.request(ExportSnapshotRequest {
        id: snapshot.to_owned(),
    });
    let exported = remote.snapshots().export_snapshot(request).await?.into_inner();
    let Some(path) = out else {
        let text = String::from_utf8(exported.content).context("the file is no text")?;
        output.result(&text, || serde_json::from_str(&text).unwrap_or_default());
        return Ok(());
    };
    std::fs::write(path, &exported.content).with_context(|| format!("writing {}", path.display()))?;
    let bytes = exported.content.len();
    output.result(
        format_args!("wrote {bytes} bytes to {}", path.display()),
        || json!({ "file": path, "bytes": bytes }),
    );
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    if file.as_os_str() != "-" {
        return std::fs::read(file).with_context(|| format!("reading {}", file.display()));
    }
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes).context("reading stdin")?;
    Ok(bytes)
}

fn print(snapshot: &Snapshot, output: Output) {
    output.result(line(snapshot), || message_json(snapshot));
}

fn line(snapshot: &Snapshot) -> String {
    let of = match (snapshot.workflow_id.as_str(), snapshot.version) {
        ("", _) => "of no workflow".to_owned(),
        (id, 0) => format!("of the draft of {id}"),
        (id, number) => format!("of version {number} of {id}"),
    };
    let kept = if snapshot.keep_on_delete { ", kept" } else { "" };
    format!("{}  {}  {of}{kept}", snapshot.id, snapshot.name)
}
