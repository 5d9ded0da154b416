//! The object store: where files' bytes lie. A folder, S3 or what speaks like it, Google's or Azure's.
//!
//! Objects are named by the tenant, the hash of their content and an id, uploads under way by the tenant and their id; nothing
//! that a user has written is ever part of a name. Content is written in parts of one size, so that it can be gone on with by
//! another process. Everything here may be done again: a part written twice is the same part, and removing what is gone succeeds.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use object_store::{
    GetOptions, GetRange, GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload,
    multipart::{MultipartStore, PartId},
    path::Path,
};
use service_kit::{
    error::{Error, Result},
    ids::{CompanyId, ObjectId, PrivacyRequestId, UploadId},
};

mod config;
mod folder;

pub use config::Place;
use folder::Folder;

/// The parts of what goes to a bucket: S3 takes no smaller ones.
const BUCKET_PART_BYTES: usize = 5 << 20;
/// The parts of what goes to a folder: small, because each upload holds one in memory.
const FOLDER_PART_BYTES: usize = 1 << 20;

/// A name in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(Path);

impl Key {
    /// Content of a tenant's.
    pub fn object(company: CompanyId, sha256: &[u8], id: ObjectId) -> Self {
        Self(Path::from_iter([
            "objects".to_owned(),
            company.to_string(),
            hex::encode(sha256),
            id.to_string(),
        ]))
    }

    /// An upload under way.
    pub fn staging(company: CompanyId, upload: UploadId) -> Self {
        Self(Path::from_iter([
            "staging".to_owned(),
            company.to_string(),
            upload.to_string(),
        ]))
    }

    /// Something that is written for an export.
    pub fn export(request: PrivacyRequestId, name: String) -> Self {
        Self(Path::from_iter(["exports".to_owned(), request.to_string(), name]))
    }

    /// The id that it ends in: an object's or an upload's.
    pub(crate) fn id(&self) -> Option<UploadId> {
        self.0.filename()?.parse().ok()
    }

    /// A name that the database keeps.
    pub(crate) fn kept(text: &str) -> Result<Self> {
        Path::parse(text).map(Self).map_err(Error::internal)
    }
}

/// The store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    parts: Parts,
}

/// How content is written in parts.
#[derive(Clone)]
enum Parts {
    Folder(Folder),
    Bucket(Arc<dyn MultipartStore>),
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Folder(_) => "Folder",
            Self::Bucket(_) => "Bucket",
        })
    }
}

impl Objects {
    /// The size of all parts but the last.
    pub fn part_bytes(&self) -> usize {
        match self.parts {
            Parts::Folder(_) => FOLDER_PART_BYTES,
            Parts::Bucket(_) => BUCKET_PART_BYTES,
        }
    }

    /// Begins to write in parts. Nothing of it is seen until it is whole.
    pub async fn begin(&self, key: &Key) -> Result<String> {
        match &self.parts {
            Parts::Folder(_) => Ok("folder".into()),
            Parts::Bucket(store) => store.create_multipart(&key.0).await.map_err(failed),
        }
    }

    /// Writes the part of this place, from 0, and returns what to name it by.
    pub async fn put_part(&self, key: &Key, id: &str, place: usize, data: Vec<Bytes>) -> Result<String> {
        match &self.parts {
            Parts::Folder(folder) => {
                let at = place as u64 * FOLDER_PART_BYTES as u64;
                folder.write(&key.0, at, data).await.map(|()| String::new())
            }
            Parts::Bucket(store) => {
                let data = PutPayload::from_iter(data);
                let put = store.put_part(&key.0, &id.to_owned(), place, data).await;
                put.map(|it| it.content_id).map_err(failed)
            }
        }
    }

    /// Makes the parts one object, on the disk.
    pub async fn complete(&self, key: &Key, id: &str, parts: &[String], size_bytes: u64) -> Result<()> {
        match &self.parts {
            Parts::Folder(folder) => folder.seal(&key.0, size_bytes).await,
            Parts::Bucket(store) => {
                let ids = parts.iter().map(|it| PartId { content_id: it.clone() }).collect();
                match store.complete_multipart(&key.0, &id.to_owned(), ids).await {
                    Ok(_) => Ok(()),
                    // A try before this one may have got so far without hearing of it.
                    Err(error) => match self.size(key).await? {
                        Some(size) if size == size_bytes => Ok(()),
                        _ => Err(failed(error)),
                    },
                }
            }
        }
    }

    /// Gives an object another name.
    pub async fn rename(&self, from: &Key, to: &Key) -> Result<()> {
        match self.store.rename(&from.0, &to.0).await {
            Err(object_store::Error::NotFound { .. }) if self.size(to).await?.is_some() => Ok(()),
            result => result.map_err(failed),
        }
    }

    /// The size of an object, if it is there.
    pub async fn size(&self, key: &Key) -> Result<Option<u64>> {
        match self.store.head(&key.0).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// The bytes of a range as they come; none where the object is gone.
    pub async fn read(&self, key: &Key, range: Range<u64>) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        match self.store.get_opts(&key.0, options).await {
            Ok(found) => Ok(Some(match found.payload {
                // In larger blocks than the crate's own.
                GetResultPayload::File(file, _) => folder::blocks(file, found.range),
                GetResultPayload::Stream(bytes) => bytes.map(|it| it.map_err(failed)).boxed(),
            })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Removes an object, and what was written of it in parts.
    pub async fn remove(&self, key: &Key, multipart: Option<&str>) -> Result<()> {
        if let (Parts::Bucket(store), Some(id)) = (&self.parts, multipart) {
            match store.abort_multipart(&key.0, &id.to_owned()).await {
                // Stores differ in what they say of an upload that is complete or unknown: what counts is that it is not there.
                Err(error @ object_store::Error::NotFound { .. }) => tracing::debug!(%error, "no parts to remove"),
                Err(error) if error.to_string().contains("NoSuchUpload") => {}
                result => result.map_err(failed)?,
            }
        }
        match self.store.delete(&key.0).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// All objects and uploads of a tenant.
    pub(crate) fn of(&self, company: CompanyId) -> BoxStream<'static, Result<(Key, ObjectMeta)>> {
        let list = |top: &str| {
            self.store
                .list(Some(&Path::from_iter([top.to_owned(), company.to_string()])))
        };
        list("objects")
            .chain(list("staging"))
            .map(|it| it.map(|meta| (Key(meta.location.clone()), meta)).map_err(failed))
            .boxed()
    }

    /// All that is there of an export.
    pub(crate) fn of_export(&self, request: PrivacyRequestId) -> BoxStream<'static, Result<Key>> {
        let within = Path::from_iter(["exports".to_owned(), request.to_string()]);
        let found = self.store.list(Some(&within));
        found
            .map(|it| it.map(|meta| Key(meta.location)).map_err(failed))
            .boxed()
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The store cannot be reached or does not do it. Its own words go to the log alone: they may name hosts and keys' ids.
fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    tracing::warn!(error = %error, "object store failed");
    Error::Unavailable {
        reason: "OBJECT_STORE_UNAVAILABLE",
        message: "the object store cannot be reached".into(),
        retry_after: Some(std::time::Duration::from_secs(1)),
    }
}
