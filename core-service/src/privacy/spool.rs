//! Writing an object of the store as its bytes come, a part at a time.
//!
//! What an attempt writes has a name of its own, which its request's row says from the beginning, so that whoever comes after one
//! that was cut removes what it has left.

use bytes::{Bytes, BytesMut};
use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
    ids::PrivacyRequestId,
};
use sha2::{Digest, Sha256};

use super::{lost, store};
use crate::{App, objects::Key};

/// An object that is being written.
pub(super) struct Spool<'a> {
    app: &'a App,
    key: Key,
    multipart: String,
    parts: Vec<String>,
    tail: BytesMut,
    size: u64,
    hash: Sha256,
}

/// What was written.
pub(super) struct Written {
    pub(super) size_bytes: u64,
    pub(super) sha256: Vec<u8>,
}

impl<'a> Spool<'a> {
    /// Begins to write what an attempt at a request makes.
    pub(super) async fn begin(app: &'a App, request: PrivacyRequestId, attempt: i32, key: Key) -> Result<Self> {
        let multipart = app.objects.begin(&key).await?;
        let mut tx = WorkerTx::begin(&app.worker_pool, "privacy.write").await?;
        let before = store::note_writing(&mut tx, request, attempt, &key.to_string(), &multipart).await?;
        tx.commit().await?;
        if let (Some(key), Some(multipart)) = before.ok_or_else(lost)? {
            app.objects.remove(&Key::kept(&key)?, Some(&multipart)).await?;
        }
        Ok(Self {
            app,
            key,
            multipart,
            parts: Vec::new(),
            tail: BytesMut::new(),
            size: 0,
            hash: Sha256::new(),
        })
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.tail.extend_from_slice(bytes);
        let whole = self.app.objects.part_bytes();
        while self.tail.len() >= whole {
            let part = self.tail.split_to(whole).freeze();
            self.put(part).await?;
        }
        Ok(())
    }

    /// Makes it whole.
    pub(super) async fn finish(mut self) -> Result<Written> {
        if !self.tail.is_empty() || self.parts.is_empty() {
            let part = self.tail.split().freeze();
            self.put(part).await?;
        }
        let objects = &self.app.objects;
        objects
            .complete(&self.key, &self.multipart, &self.parts, self.size)
            .await?;
        Ok(Written {
            size_bytes: self.size,
            sha256: self.hash.finalize().to_vec(),
        })
    }

    async fn put(&mut self, part: Bytes) -> Result<()> {
        self.size += u64::try_from(part.len()).map_err(Error::internal)?;
        let (place, objects) = (self.parts.len(), &self.app.objects);
        let put = objects.put_part(&self.key, &self.multipart, place, vec![part]).await?;
        self.parts.push(put);
        Ok(())
    }
}
