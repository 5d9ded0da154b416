//! The archive of an export: a ZIP with the rows of both services as JSON lines, and the bytes of files.
//!
//! It is written to a temporary file, for a ZIP's directory comes at its end, and from there to the store. Memory stays flat.

use std::io::{Read, Seek, SeekFrom, Write};

use futures::StreamExt;
use serde_json::json;
use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
};
use zip::{ZipWriter, write::SimpleFileOptions};

use super::{Request, spool::Spool, store};
use crate::{App, objects::Key};

/// The archive's name in the store.
pub(super) const NAME: &str = "archive.zip";
/// The name of execution-service's part.
pub(super) const EXECUTION: &str = "execution.jsonl";

const BLOCK_BYTES: usize = 256 << 10;

/// What went into an archive.
pub(super) struct Archived {
    pub(super) rows: i64,
    pub(super) objects: i64,
    pub(super) size_bytes: u64,
}

/// Makes a request's archive, anew if there is one.
pub(super) async fn make(app: &App, request: &Request) -> Result<Archived> {
    let file = tempfile::tempfile().map_err(Error::internal)?;
    let mut zip = ZipWriter::new(file);
    let begin = |zip: &mut ZipWriter<_>, name: &str| {
        let options = SimpleFileOptions::default().large_file(true);
        zip.start_file(name, options).map_err(Error::internal)
    };

    begin(&mut zip, "core.jsonl")?;
    let mut rows = 0;
    let mut tx = WorkerTx::begin(&app.worker_pool, "privacy.export").await?;
    let mut exported = store::exported(&mut tx, request.subject);
    while let Some(row) = exported.next().await {
        let row = row?;
        writeln!(zip, "{}", json!({ "kind": row.kind, "data": row.data })).map_err(Error::internal)?;
        rows += 1;
    }
    drop(exported);
    let contents = store::contents(&mut tx, request.subject).await?;
    tx.commit().await?;

    begin(&mut zip, EXECUTION)?;
    copy(app, &Key::export(request.id, EXECUTION), &mut zip).await?;

    let mut objects = 0;
    for content in contents {
        // Nothing that a user has written becomes a path.
        let name: String = content
            .name
            .chars()
            .filter(|it| !matches!(it, '/' | '\\' | '\0'))
            .collect();
        begin(&mut zip, &format!("files/{}/{}/{name}", content.file, content.version))?;
        let key = Key::object(content.company, &content.sha256, content.object);
        if copy(app, &key, &mut zip).await? == u64::try_from(content.size_bytes).map_err(Error::internal)? {
            objects += 1;
        } else {
            tracing::warn!(%key, "an object is not whole: the archive lacks it");
        }
    }

    let mut file = zip.finish().map_err(Error::internal)?;
    file.seek(SeekFrom::Start(0)).map_err(Error::internal)?;
    let mut spool = Spool::begin(&app.objects, Key::export(request.id, NAME)).await?;
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let read = file.read(&mut block).map_err(Error::internal)?;
        if read == 0 {
            break;
        }
        spool.write(&block[..read]).await?;
    }
    let size_bytes = spool.finish().await?;
    app.objects.remove(&Key::export(request.id, EXECUTION), None).await?;
    Ok(Archived {
        rows,
        objects,
        size_bytes,
    })
}

/// Copies an object, and says how many bytes it had; none where it is gone.
async fn copy(app: &App, key: &Key, to: &mut impl Write) -> Result<u64> {
    let Some(size) = app.objects.size(key).await?.filter(|it| *it > 0) else {
        return Ok(0);
    };
    let Some(mut content) = app.objects.read(key, 0..size).await? else {
        return Ok(0);
    };
    let mut copied = 0;
    while let Some(bytes) = content.next().await {
        let bytes = bytes?;
        to.write_all(&bytes).map_err(Error::internal)?;
        copied += u64::try_from(bytes.len()).map_err(Error::internal)?;
    }
    Ok(copied)
}
