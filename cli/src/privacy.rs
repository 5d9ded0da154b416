//! Privacy from a terminal: archives of what is held about you or a company, and the erasure of either.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Subcommand;
use serde_json::json;
use studios_proto::core::{
    CancelPrivacyRequestRequest, CreateExportUrlRequest, DownloadExportRequest, GetPrivacyRequestRequest,
    ListPrivacyRequestsRequest, PrivacyKind, PrivacyRequest, PrivacyState, RequestCompanyErasureRequest,
    RequestCompanyExportRequest, RequestUserErasureRequest, RequestUserExportRequest,
};
use tokio::{io::AsyncWriteExt, time::sleep};

use crate::{
    output::{Output, message_json},
    remote::Remote,
    runs::Access,
};

/// How often a request that is followed is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What can be asked for of what is held about you or a company.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Have an archive made of what is held about you, or of a company that you administer.
    Export {
        /// The company's id; yourself where none is given.
        company: Option<String>,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Wait until it is made, and write it to this file.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Have your account erased, after a time in which that can be taken back.
    EraseUser {
        /// Your own id, so that nobody is erased by mistake.
        user: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Have a company erased that you administer, with all that is its own, after a time in which that can be taken back.
    EraseCompany {
        /// The company's id.
        company: String,
        /// Its name, so that none is erased by mistake.
        #[arg(long)]
        name: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// List a company's requests, or those that you have made, newest first.
    List {
        /// The company's id; your own where none is given.
        company: Option<String>,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: i32,
    },
    /// Print how far a request is.
    Show {
        /// The request's id.
        request: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Follow it until it is done.
        #[arg(long)]
        watch: bool,
    },
    /// Take a request back that has not begun.
    Cancel {
        /// The request's id.
        request: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Write an export's archive to a file, or print a URL at which it is read for a while.
    Download {
        /// The request's id.
        request: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// The file; studios-export-ID.zip where none is given.
        #[arg(long, conflicts_with = "url")]
        out: Option<PathBuf>,
        /// Print a URL that needs no token.
        #[arg(long)]
        url: bool,
    },
}

/// Runs a command.
pub async fn run(command: &Command, output: Output) -> Result<()> {
    match command {
        Command::Export { company, access, out } => {
            let remote = access.remote()?;
            let asked = match company {
                None => {
                    let request = remote.request(RequestUserExportRequest {});
                    remote.privacy().request_user_export(request).await?
                }
                Some(company) => {
                    let company_id = company.clone();
                    let request = remote.request(RequestCompanyExportRequest { company_id });
                    remote.privacy().request_company_export(request).await?
                }
            };
            let asked = asked.into_inner();
            let Some(out) = out else {
                print(&asked, output);
                return Ok(());
            };
            let made = followed(&remote, asked, output).await?;
            download(&remote, &made.id, Some(out), output).await?;
        }
        Command::EraseUser { user, access } => {
            let confirm_user_id = user.clone();
            let remote = access.remote()?;
            let request = remote.request(RequestUserErasureRequest { confirm_user_id });
            print(
                &remote.privacy().request_user_erasure(request).await?.into_inner(),
                output,
            );
        }
        Command::EraseCompany { company, name, access } => {
            let request = RequestCompanyErasureRequest {
                company_id: company.clone(),
                confirm_name: name.clone(),
            };
            let remote = access.remote()?;
            let asked = remote
                .privacy()
                .request_company_erasure(remote.request(request))
                .await?;
            print(&asked.into_inner(), output);
        }
        Command::List { company, access, limit } => {
            let request = ListPrivacyRequestsRequest {
                company_id: company.clone().unwrap_or_default(),
                page_size: *limit,
                page_token: String::new(),
            };
            let remote = access.remote()?;
            let page = remote.privacy().list_privacy_requests(remote.request(request)).await?;
            for found in &page.into_inner().requests {
                print(found, output);
            }
        }
        Command::Show { request, access, watch } => {
            let remote = access.remote()?;
            let found = get(&remote, request).await?;
            let found = if *watch {
                followed(&remote, found, output).await?
            } else {
                found
            };
            print(&found, output);
        }
        Command::Cancel { request, access } => {
            let id = request.clone();
            let remote = access.remote()?;
            let request = remote.request(CancelPrivacyRequestRequest { id });
            print(
                &remote.privacy().cancel_privacy_request(request).await?.into_inner(),
                output,
            );
        }
        Command::Download {
            request,
            access,
            out,
            url,
        } => {
            let remote = access.remote()?;
            if !url {
                return download(&remote, request, out.as_deref(), output).await;
            }
            let asked = CreateExportUrlRequest {
                id: request.clone(),
                lifetime: None,
            };
            let made = remote
                .privacy()
                .create_export_url(remote.request(asked))
                .await?
                .into_inner();
            let url = access.url(&made.url_path)?;
            output.result(&url, || json!({ "url": url, "download": message_json(&made) }));
        }
    }
    Ok(())
}

async fn get(remote: &Remote, id: &str) -> Result<PrivacyRequest> {
    let request = remote.request(GetPrivacyRequestRequest { id: id.to_owned() });
    Ok(remote.privacy().get_privacy_request(request).await?.into_inner())
}

/// Waits until a request is done, and says how far it is.
async fn followed(remote: &Remote, mut request: PrivacyRequest, output: Output) -> Result<PrivacyRequest> {
    while !matches!(request.state(), PrivacyState::Done | PrivacyState::Cancelled) {
        output.progress(line(&request));
        sleep(LOOK).await;
        request = get(remote, &request.id).await?;
    }
    Ok(request)
}

async fn download(remote: &Remote, id: &str, out: Option<&Path>, output: Output) -> Result<()> {
    let request = remote.stream_request(DownloadExportRequest { id: id.to_owned() });
    let mut messages = remote.privacy().download_export(request).await?.into_inner();
    let path = out.map_or_else(|| PathBuf::from(format!("studios-export-{id}.zip")), Path::to_owned);
    let writing = || format!("writing {}", path.display());
    let mut options = tokio::fs::OpenOptions::new();
    // What is in it is nobody else's to read.
    options.write(true).mode(0o600);
    let file = match out {
        Some(_) => options.create(true).truncate(true),
        None => options.create_new(true),
    };
    let mut file = file.open(&path).await.with_context(writing)?;
    let mut bytes = 0;
    while let Some(message) = messages.message().await? {
        file.write_all(&message.data).await.with_context(writing)?;
        bytes += message.data.len();
    }
    file.flush().await.with_context(writing)?;
    output.result(
        format_args!("wrote {bytes} bytes to {}", path.display()),
        || json!({ "file": path, "bytes": bytes }),
    );
    Ok(())
}

fn print(request: &PrivacyRequest, output: Output) {
    output.result(line(request), || message_json(request));
}

fn line(request: &PrivacyRequest) -> String {
    let kind = match request.kind() {
        PrivacyKind::Erasure => "erasure",
        PrivacyKind::Export | PrivacyKind::Unspecified => "export",
    };
    let of = if request.company_id.is_empty() {
        format!("user {}", request.user_id)
    } else {
        format!("company {}", request.company_id)
    };
    let due = request.due_time.map(|it| it.to_string()).unwrap_or_default();
    let state = match request.state() {
        PrivacyState::Unspecified | PrivacyState::Waiting => format!("begins {due}"),
        PrivacyState::Execution | PrivacyState::Core => "under way".to_owned(),
        PrivacyState::Done => "done".to_owned(),
        PrivacyState::Cancelled => "taken back".to_owned(),
    };
    let error = if request.error.is_empty() {
        String::new()
    } else {
        format!(" ({})", request.error)
    };
    format!(
        "{}  {kind} of {of}: {state}, {} rows, {} files{error}",
        request.id, request.rows, request.objects
    )
}
