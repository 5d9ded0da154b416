//! Files from a terminal: up, down, listed, deleted and brought back, and cleaned up.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::{ArgGroup, Subcommand, ValueEnum};
use futures::stream;
use serde_json::json;
use service_kit::update::timestamp;
use studios_proto::core::{
    AccessLevel, CleanUpFilesRequest, CreateDocumentRequest, CreateDownloadUrlRequest, DeleteFileRequest, Document,
    DownloadFileRequest, File, FileState, GetDocumentTextRequest, GetFileRequest, ListFilesRequest, NewFile,
    UndeleteFileRequest, UploadFileRequest,
};
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    output::{Output, Usage, message_json},
    runs::Access,
};

/// How much of a file goes in one message.
const MESSAGE_BYTES: usize = 256 << 10;

/// How much of a document's text is asked for at a time.
const TEXT_BYTES: i32 = 1 << 20;

/// What can be done with files.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Upload a file to a studio, or as a new version of one that is there.
    Upload {
        /// The studio's id.
        studio: String,
        /// The file.
        path: PathBuf,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// What to call it, in place of the file's own name.
        #[arg(long)]
        name: Option<String>,
        /// Its media type, where its name does not say it.
        #[arg(long)]
        mime_type: Option<String>,
        /// Who reaches it.
        #[arg(long, value_enum, default_value_t = Level::Studio)]
        level: Level,
        /// The id of the file that it is a new version of.
        #[arg(long, default_value = "")]
        version_of: String,
    },
    /// Download a file.
    Download {
        /// The file's id.
        file: String,
        /// Where to; its own name in this folder where nothing is given, - writes to stdout.
        out: Option<PathBuf>,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// The version's number; the current one where none is given.
        #[arg(long, default_value_t = 0)]
        version: i32,
    },
    /// List a studio's files, newest first.
    List {
        /// The studio's id.
        studio: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Only those whose name begins so.
        #[arg(long, default_value = "")]
        name: String,
        /// Only those of this media type.
        #[arg(long, default_value = "")]
        mime_type: String,
        /// Also deleted ones.
        #[arg(long)]
        deleted: bool,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: i32,
    },
    /// Print what is known of a file.
    Show {
        /// The file's id.
        file: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Make a document from a file's text, which searches and workflows find, and print the document's id.
    Document {
        /// The file's id.
        file: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Its title; the file's name where nothing is given.
        #[arg(long)]
        title: Option<String>,
    },
    /// Print the text of a document.
    Text {
        /// The document's id.
        document: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Print a URL that the file can be read at without a token.
    Url {
        /// The file's id.
        file: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// How many seconds it is good.
        #[arg(long, default_value_t = 300)]
        seconds: i64,
    },
    /// Delete a file; it can be brought back for 30 days.
    Delete {
        /// The file's id.
        file: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Bring a deleted file back.
    Undelete {
        /// The file's id.
        file: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Delete a studio's files that are old, unused or large: those that all conditions hold for.
    #[command(group(ArgGroup::new("condition").required(true).multiple(true)))]
    Cleanup {
        /// The studio's id.
        studio: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Made so many days ago or before.
        #[arg(long, group = "condition")]
        older_than_days: Option<u16>,
        /// Neither read nor made for so many days.
        #[arg(long, group = "condition")]
        unused_for_days: Option<u16>,
        /// At least so many bytes.
        #[arg(long, group = "condition")]
        least_bytes: Option<i64>,
        /// Delete nothing, and print what would be.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Who reaches a file.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Level {
    /// You alone.
    Private,
    /// Who reaches its studio.
    Studio,
    /// All members of the company.
    Company,
}

impl From<Level> for AccessLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Private => Self::Private,
            Level::Studio => Self::Studio,
            Level::Company => Self::Company,
        }
    }
}

/// Runs a command.
pub async fn run(command: &Command, output: Output) -> Result<()> {
    match command {
        Command::Upload {
            studio,
            path,
            access,
            name,
            mime_type,
            level,
            version_of,
        } => {
            let name = name.clone().or_else(|| own_name(path)).unwrap_or_default();
            let mime_type = mime_type.clone().or_else(|| mime_of(&name).map(str::to_owned));
            let mime_type = mime_type.ok_or_else(|| Usage("the name says no type: name one by --mime-type".into()))?;
            let new = NewFile {
                studio_id: studio.clone(),
                file_id: version_of.clone(),
                name,
                mime_type,
                access_level: AccessLevel::from(*level).into(),
                ..NewFile::default()
            };
            upload(path, new, access, output).await?;
        }
        Command::Download {
            file,
            out,
            access,
            version,
        } => download(file, out.as_deref(), *version, access, output).await?,
        Command::List {
            studio,
            access,
            name,
            mime_type,
            deleted,
            limit,
        } => {
            let request = ListFilesRequest {
                studio_id: studio.clone(),
                page_size: *limit,
                name_prefix: name.clone(),
                mime_type: mime_type.clone(),
                show_deleted: *deleted,
                ..ListFilesRequest::default()
            };
            let remote = access.remote()?;
            let page = remote.files().list_files(remote.request(request)).await?;
            page.into_inner().files.iter().for_each(|it| print(it, output));
        }
        Command::Show { file, access } => {
            let remote = access.remote()?;
            let request = GetFileRequest { id: file.clone() };
            let found = remote.files().get_file(remote.request(request)).await?;
            print(&found.into_inner(), output);
        }
        Command::Document { file, access, title } => {
            let remote = access.remote()?;
            let request = GetFileRequest { id: file.clone() };
            let found = remote.files().get_file(remote.request(request)).await?.into_inner();
            let request = CreateDocumentRequest {
                document: Some(Document {
                    studio_id: found.studio_id,
                    title: title.clone().unwrap_or(found.name),
                    access_level: found.access_level,
                    ..Document::default()
                }),
                file_id: found.id,
                ..CreateDocumentRequest::default()
            };
            let made = remote.documents().create_document(remote.request(request)).await?;
            let made = made.into_inner();
            output.result(&made.id, || message_json(&made));
        }
        Command::Text { document, access } => text(document, access, output).await?,
        Command::Url { file, access, seconds } => {
            let request = CreateDownloadUrlRequest {
                id: file.clone(),
                lifetime: Some(prost_types::Duration {
                    seconds: *seconds,
                    nanos: 0,
                }),
                ..CreateDownloadUrlRequest::default()
            };
            let remote = access.remote()?;
            let made = remote.files().create_download_url(remote.request(request)).await?;
            let made = made.into_inner();
            let url = access.url(&made.url_path)?;
            output.result(&url, || json!({ "url": url, "download": message_json(&made) }));
        }
        Command::Delete { file, access } => {
            let request = DeleteFileRequest {
                id: file.clone(),
                etag: String::new(),
            };
            let remote = access.remote()?;
            let deleted = remote.files().delete_file(remote.request(request)).await?;
            print(&deleted.into_inner(), output);
        }
        Command::Undelete { file, access } => {
            let remote = access.remote()?;
            let request = UndeleteFileRequest { id: file.clone() };
            let found = remote.files().undelete_file(remote.request(request)).await?;
            print(&found.into_inner(), output);
        }
        Command::Cleanup {
            studio,
            access,
            older_than_days,
            unused_for_days,
            least_bytes,
            dry_run,
        } => {
            let now = now();
            let before = |days: &Option<u16>| days.map(|it| timestamp(now - Duration::days(it.into())));
            let request = CleanUpFilesRequest {
                studio_id: studio.clone(),
                made_before: before(older_than_days),
                unused_since: before(unused_for_days),
                least_bytes: least_bytes.unwrap_or_default(),
                dry_run: *dry_run,
                limit: 0,
            };
            let remote = access.remote()?;
            let cleaned = remote
                .files()
                .clean_up_files(remote.request(request))
                .await?
                .into_inner();
            cleaned.files.iter().for_each(|it| print(it, output));
            let done = if *dry_run { "would be deleted" } else { "deleted" };
            let (files, bytes) = (cleaned.files.len(), cleaned.size_bytes);
            output.progress(format_args!("{files} files of {bytes} bytes {done}"));
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a person's clock, not a service's")]
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

async fn upload(path: &Path, mut new: NewFile, access: &Access, output: Output) -> Result<()> {
    let reading = || format!("reading {}", path.display());
    let file = tokio::fs::File::open(path).await.with_context(reading)?;
    new.size_bytes = i64::try_from(file.metadata().await.with_context(reading)?.len())?;
    let first = UploadFileRequest {
        file: Some(new),
        data: Bytes::new(),
    };
    // What cannot be read ends the stream early, which the service takes for what it is.
    let messages = stream::unfold((Some(first), file), |(first, mut file)| async move {
        if let Some(first) = first {
            return Some((first, (None, file)));
        }
        let mut block = vec![0; MESSAGE_BYTES];
        let read = file.read(&mut block).await.unwrap_or_default();
        block.truncate(read);
        let message = UploadFileRequest {
            file: None,
            data: block.into(),
        };
        (read > 0).then_some((message, (None, file)))
    });
    let remote = access.remote()?;
    let uploaded = remote.files().upload_file(remote.stream_request(messages)).await?;
    print(&uploaded.into_inner(), output);
    Ok(())
}

async fn download(id: &str, out: Option<&Path>, version: i32, access: &Access, output: Output) -> Result<()> {
    let remote = access.remote()?;
    let request = DownloadFileRequest {
        id: id.to_owned(),
        version,
        offset: 0,
        length: 0,
    };
    let answer = remote.files().download_file(remote.stream_request(request)).await?;
    let mut messages = answer.into_inner();
    let first = messages.message().await?.and_then(|it| it.download);
    let head = first.context("the download has no beginning")?;
    if out.is_some_and(|it| it.as_os_str() == "-") {
        let mut stdout = tokio::io::stdout();
        while let Some(message) = messages.message().await? {
            stdout.write_all(&message.data).await?;
        }
        stdout.flush().await?;
        return Ok(());
    }
    // A name that the service gives has no path in it.
    let path = out.map_or_else(|| PathBuf::from(&head.name), Path::to_owned);
    let writing = || format!("writing {}", path.display());
    let mut options = tokio::fs::OpenOptions::new();
    let file = match out {
        Some(_) => options.write(true).create(true).truncate(true),
        None => options.write(true).create_new(true),
    };
    let mut file = file.open(&path).await.with_context(writing)?;
    while let Some(message) = messages.message().await? {
        file.write_all(&message.data).await.with_context(writing)?;
    }
    file.flush().await.with_context(writing)?;
    output.result(
        format_args!("wrote {} bytes to {}", head.size_bytes, path.display()),
        || json!({ "file": path, "bytes": head.size_bytes, "sha256": head.sha256 }),
    );
    Ok(())
}

/// Prints a document's text, a message at a time: in JSON each is a line.
async fn text(document: &str, access: &Access, output: Output) -> Result<()> {
    let remote = access.remote()?;
    let mut offset = 0;
    loop {
        let request = GetDocumentTextRequest {
            id: document.to_owned(),
            offset,
            limit_bytes: TEXT_BYTES,
        };
        let read = remote.documents().get_document_text(remote.request(request)).await?;
        let read = read.into_inner();
        output.part(&read.text, || message_json(&read));
        if read.next_offset == 0 {
            return Ok(());
        }
        offset = read.next_offset;
    }
}

fn own_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

/// The media type that a name's ending says.
fn mime_of(name: &str) -> Option<&'static str> {
    let (_, ending) = name.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        "md" | "markdown" => "text/markdown",
        "html" | "htm" => "text/html",
        "csv" => "text/csv",
        "json" => "application/json",
        "zip" => "application/zip",
        "doc" => "application/msword",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xls" => "application/vnd.ms-excel",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        _ => return None,
    })
}

fn print(file: &File, output: Output) {
    output.result(line(file), || message_json(file));
}

fn line(file: &File) -> String {
    let state = match file.state() {
        FileState::Unspecified | FileState::Ready => "",
        FileState::Scanning => ", not scanned yet",
        FileState::Quarantined => ", quarantined",
        FileState::Lost => ", lost",
    };
    let deleted = if file.delete_time.is_some() { ", deleted" } else { "" };
    format!(
        "{}  {}  {}, {} bytes, version {}{state}{deleted}",
        file.id, file.name, file.mime_type, file.size_bytes, file.version
    )
}
