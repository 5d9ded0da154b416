//! The archive of an export: a ZIP with the rows of both services as JSON lines, and the bytes of files.
//!
//! It goes to the store as it is made, without a copy on this machine's disk; memory holds a part of it, and the names of its files.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use futures::StreamExt;
use serde_json::json;
use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
    ids::PrivacyRequestId,
};
use zip::{
    CompressionMethod, ZipWriter,
    write::{SimpleFileOptions, StreamWriter},
};

use super::{
    Request, Subject,
    spool::{Spool, Written},
    store::{self, Content},
};
use crate::{App, objects::Key};

/// How many files are looked up at a time.
const FILES: i64 = 500;

/// Where an attempt's archive is.
pub(super) fn key(request: PrivacyRequestId, attempt: i32) -> Key {
    Key::export(request, format!("archive-{attempt}.zip"))
}

/// Where the other service's part is that an attempt has handed over.
pub(super) fn part(request: PrivacyRequestId, attempt: i32) -> Key {
    Key::export(request, format!("execution-{attempt}.jsonl"))
}

/// What went into an archive.
pub(super) struct Archived {
    pub(super) rows: i64,
    pub(super) objects: i64,
    pub(super) written: Written,
}

/// Makes a request's archive.
pub(super) async fn make(app: &App, request: &Request) -> Result<Archived> {
    let mut archive = Archive::begin(app, request).await?;
    let (company, user) = match request.subject {
        Subject::Company(company) => (Some(company), None),
        Subject::User(user) => (None, Some(user)),
    };
    archive.begin_file("export.json", CompressionMethod::Stored)?;
    let head = json!({
        "format": 1, "request_id": request.id, "company_id": company, "user_id": user,
        "made_at": app.clock.now().unix_timestamp(),
    });
    archive.write(format!("{head}\n").as_bytes()).await?;

    archive.begin_file("core.jsonl", CompressionMethod::Deflated)?;
    let rows = copy_rows(app, request, &mut archive).await?;

    archive.begin_file("execution.jsonl", CompressionMethod::Deflated)?;
    if let Some(attempt) = request.part {
        copy(app, &part(request.id, attempt), &mut archive).await?;
    }

    let (mut objects, mut after) = (0, None);
    loop {
        let mut tx = WorkerTx::begin(&app.worker_pool, "privacy.contents").await?;
        let contents = store::contents(&mut tx, request.subject, after, FILES).await?;
        tx.commit().await?;
        let Some(last) = contents.last() else { break };
        after = Some((last.file, last.version));
        for content in contents {
            objects += copy_file(app, &content, &mut archive).await?;
        }
    }
    Ok(Archived {
        rows,
        objects,
        written: archive.finish().await?,
    })
}

async fn copy_rows(app: &App, request: &Request, archive: &mut Archive<'_>) -> Result<i64> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "privacy.export").await?;
    store::allow_long(&mut tx).await?;
    let opener = match request.subject {
        Subject::User(user) => app.audit.opener(&mut tx, user).await?,
        Subject::Company(_) => None,
    };
    let mut exported = store::exported(&mut tx, request.subject);
    let mut rows = 0;
    while let Some(row) = exported.next().await {
        let row = row?;
        let mut data = row.data.unwrap_or_default();
        if let Some(opener) = &opener {
            opener.open(&mut data);
        }
        let line = json!({ "kind": row.kind, "data": data });
        archive.write(format!("{line}\n").as_bytes()).await?;
        rows += 1;
    }
    drop(exported);
    tx.commit().await?;
    Ok(rows)
}

/// Copies a version's bytes, and says how many objects that were.
async fn copy_file(app: &App, content: &Content, archive: &mut Archive<'_>) -> Result<i64> {
    // Nothing that a user has written becomes a path.
    let name = content.name.replace(['/', '\\', '\0'], "_");
    let name = format!("files/{}/{}/{name}", content.file, content.version);
    archive.begin_file(&name, CompressionMethod::Stored)?;
    let key = Key::object(content.company, &content.sha256, content.object);
    let copied = copy(app, &key, archive).await?;
    if Ok(copied) == u64::try_from(content.size_bytes) {
        return Ok(1);
    }
    tracing::warn!(%key, "an object is not whole: the archive lacks it");
    Ok(0)
}

/// Copies an object, and says how many bytes it had; none where it is gone.
async fn copy(app: &App, key: &Key, archive: &mut Archive<'_>) -> Result<u64> {
    let Some(size) = app.objects.size(key).await?.filter(|it| *it > 0) else {
        return Ok(0);
    };
    let Some(mut content) = app.objects.read(key, 0..size).await? else {
        return Ok(0);
    };
    let mut copied = 0;
    while let Some(bytes) = content.next().await {
        let bytes = bytes?;
        archive.write(&bytes).await?;
        copied += u64::try_from(bytes.len()).map_err(Error::internal)?;
    }
    Ok(copied)
}

/// A ZIP on its way to the store.
struct Archive<'a> {
    zip: Box<ZipWriter<StreamWriter<Outflow>>>,
    outflow: Outflow,
    spool: Spool<'a>,
}

impl<'a> Archive<'a> {
    async fn begin(app: &'a App, request: &Request) -> Result<Self> {
        let outflow = Outflow::default();
        Ok(Self {
            zip: Box::new(ZipWriter::new_stream(outflow.clone())),
            outflow,
            spool: Spool::begin(app, request.id, request.attempt, key(request.id, request.attempt)).await?,
        })
    }

    fn begin_file(&mut self, name: &str, method: CompressionMethod) -> Result<()> {
        let options = SimpleFileOptions::default().compression_method(method).large_file(true);
        self.zip.start_file(name, options).map_err(Error::internal)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.zip.write_all(bytes).map_err(Error::internal)?;
        let written = self.outflow.take();
        self.spool.write(&written).await
    }

    async fn finish(mut self) -> Result<Written> {
        self.zip.finish().map_err(Error::internal)?;
        let written = self.outflow.take();
        self.spool.write(&written).await?;
        self.spool.finish().await
    }
}

/// What the ZIP's writer has written and nobody has taken yet.
#[derive(Clone, Default)]
struct Outflow(Arc<Mutex<Vec<u8>>>);

impl Outflow {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Outflow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
