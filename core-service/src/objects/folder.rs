//! Parts of an object in a folder: one file, written at the parts' places, and synced before it is called whole.

use std::{
    fs::{self, File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
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

/// The bytes of a range of a file, a block at a time. While one is taken, the next is read, where possible into the memory of
/// the one before it.
pub(super) fn blocks(file: File, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
    let file = Arc::new(file);
    let read = move |left: &mut Range<u64>, block: BytesMut| {
        let (file, place) = (file.clone(), left.start..left.end.min(left.start + BLOCK_BYTES));
        left.start = place.end;
        tokio::task::spawn_blocking(move || filled(&file, &place, block))
    };
    let begun = (range, None, Bytes::new());
    stream::try_unfold(begun, move |(mut left, reading, last)| {
        let read = read.clone();
        async move {
            let reading = match reading {
                Some(reading) => reading,
                None if left.is_empty() => return Ok(None),
                None => read(&mut left, BytesMut::new()),
            };
            let block = reading.await.map_err(Error::internal)?.map_err(failed)?.freeze();
            let next = (!left.is_empty()).then(|| read(&mut left, last.try_into_mut().unwrap_or_default()));
            Ok(Some((block.clone(), (left, next, block))))
        }
    })
    .boxed()
}

/// A part of a file, whole.
fn filled(file: &File, place: &Range<u64>, mut block: BytesMut) -> io::Result<BytesMut> {
    block.resize(usize::try_from(place.end - place.start).unwrap_or_default(), 0);
    file.read_exact_at(&mut block, place.start)?;
    Ok(block)
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

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn a_range_comes_whole_in_blocks_whether_they_are_kept_or_let_go() {
        let block_bytes = usize::try_from(BLOCK_BYTES).unwrap();
        let content: Vec<u8> = (0..=250_u8).cycle().take(5 * block_bytes + 17).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, &content).unwrap();
        let open = |range: &Range<usize>| {
            let at = |place: usize| u64::try_from(place).unwrap();
            blocks(file.reopen().unwrap(), at(range.start)..at(range.end))
        };
        for range in [0..content.len(), 3..content.len() - 5, 7..8, 9..9, 5..block_bytes + 5] {
            let kept: Vec<Bytes> = open(&range).try_collect().await.unwrap();
            assert_eq!(kept.concat(), content[range.clone()]);
            assert!(kept.iter().rev().skip(1).all(|it| it.len() == block_bytes));
            let mut at = range.start;
            let mut let_go = open(&range);
            while let Some(block) = let_go.try_next().await.unwrap() {
                assert_eq!(block, content[at..at + block.len()]);
                at += block.len();
            }
            assert_eq!(at, range.end);
        }
        let cut = open(&(0..content.len() + 1));
        assert!(cut.try_collect::<Vec<_>>().await.is_err());
    }
}
