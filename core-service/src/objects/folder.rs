//! Parts of an object in a folder: one file, written at the parts' places, and synced before it is called whole.

use std::{
    fs::{self, File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use object_store::path::Path as Name;
use service_kit::error::{Error, Result};

use super::failed;

#[derive(Clone)]
pub(super) struct Folder(Arc<PathBuf>);

impl Folder {
    /// The folder, made if it is not there.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        root.canonicalize().map(|it| Self(Arc::new(it)))
    }

    pub(super) fn root(&self) -> &PathBuf {
        &self.0
    }

    pub(super) async fn write(&self, key: &Name, at: u64, data: Vec<Bytes>) -> Result<()> {
        self.run(key, move |path| {
            let file = made(&path)?;
            let mut at = at;
            for bytes in data {
                file.write_all_at(&bytes, at)?;
                at += bytes.len() as u64;
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn seal(&self, key: &Name, size_bytes: u64) -> Result<()> {
        self.run(key, move |path| {
            // It is not made here: an upload that is elsewhere by now must not come back as zeros.
            let file = OpenOptions::new().write(true).open(path)?;
            // A write that was lost to its caller may have gone further than what was kept of it.
            file.set_len(size_bytes)?;
            file.sync_all()
        })
        .await
    }

    async fn run(&self, key: &Name, work: impl FnOnce(PathBuf) -> io::Result<()> + Send + 'static) -> Result<()> {
        let path = self.0.join(key.as_ref());
        tokio::task::spawn_blocking(move || work(path))
            .await
            .map_err(Error::internal)?
            .map_err(failed)
    }
}

/// How much is read of a file at a time.
const BLOCK_BYTES: u64 = 256 << 10;

/// The bytes of a range of a file, a block at a time.
pub(super) fn blocks(file: File, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
    let file = Arc::new(file);
    stream::try_unfold(range, move |left| {
        let file = file.clone();
        async move {
            if left.is_empty() {
                return Ok(None);
            }
            let length = BLOCK_BYTES.min(left.end - left.start);
            let read = tokio::task::spawn_blocking(move || {
                let mut block = vec![0; usize::try_from(length).unwrap_or_default()];
                file.read_exact_at(&mut block, left.start).map(|()| Bytes::from(block))
            });
            let block = read.await.map_err(Error::internal)?.map_err(failed)?;
            Ok(Some((block, left.start + length..left.end)))
        }
    })
    .boxed()
}

/// The file, made with the folders above it, which are removed when they become empty: perhaps between one step and the next.
fn made(path: &Path) -> io::Result<File> {
    let mut tries = 3;
    loop {
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries > 0 => {
                fs::create_dir_all(path.parent().unwrap_or(path))?;
                tries -= 1;
            }
            opened => return opened,
        }
    }
}
