//! Writing an object of the store as its bytes come, a part at a time.

use bytes::{Bytes, BytesMut};
use service_kit::error::{Error, Result};

use crate::objects::{Key, Objects};

/// An object that is being written.
pub(super) struct Spool<'a> {
    objects: &'a Objects,
    key: Key,
    multipart: String,
    parts: Vec<String>,
    tail: BytesMut,
    size: u64,
}

impl<'a> Spool<'a> {
    /// Begins anew, whatever was written before.
    pub(super) async fn begin(objects: &'a Objects, key: Key) -> Result<Self> {
        objects.remove(&key, None).await?;
        Ok(Self {
            multipart: objects.begin(&key).await?,
            objects,
            key,
            parts: Vec::new(),
            tail: BytesMut::new(),
            size: 0,
        })
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.tail.extend_from_slice(bytes);
        while self.tail.len() >= self.objects.part_bytes() {
            let part = self.tail.split_to(self.objects.part_bytes()).freeze();
            self.put(part).await?;
        }
        Ok(())
    }

    /// Makes it whole and says how large it is.
    pub(super) async fn finish(mut self) -> Result<u64> {
        if !self.tail.is_empty() || self.parts.is_empty() {
            let part = self.tail.split().freeze();
            self.put(part).await?;
        }
        self.objects
            .complete(&self.key, &self.multipart, &self.parts, self.size)
            .await?;
        Ok(self.size)
    }

    async fn put(&mut self, part: Bytes) -> Result<()> {
        self.size += u64::try_from(part.len()).map_err(Error::internal)?;
        let place = self.parts.len();
        let put = self
            .objects
            .put_part(&self.key, &self.multipart, place, vec![part])
            .await?;
        self.parts.push(put);
        Ok(())
    }
}
