//! Where the store is, by configuration: a folder's path, or `s3://bucket`, `gs://bucket`, `az://container`.

use std::{path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use object_store::{
    ClientOptions, ObjectStore, RetryConfig, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder, local::LocalFileSystem, multipart::MultipartStore,
};
use secrecy::{ExposeSecret, SecretString};
use service_kit::{
    config::Reader,
    error::{Error, Result},
};

use super::{Folder, Objects, Parts};

/// Where the store is, and how it lets us in.
#[derive(Clone, Debug)]
pub struct Place {
    /// `objects`: a folder's path, `s3://bucket`, `gs://bucket` or `az://container`; `.studios/objects` by default.
    at: Location,
    /// `objects_endpoint`: the address of a server that speaks S3 (path style), such as Supabase Storage's
    /// `https://project.supabase.co/storage/v1/s3`, or of one that speaks Azure's protocol; the provider's own by default.
    endpoint: Option<String>,
    /// `objects_region`: S3's; us-east-1 by default.
    region: Option<String>,
    /// `objects_access_key`: S3's access key, or Azure's account.
    access_key: Option<String>,
    /// `objects_secret_key`: its secret; for `gs://` the service account's key file as JSON. Without it the machine's own identity.
    secret_key: Option<SecretString>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Location {
    Folder(PathBuf),
    S3(String),
    Google(String),
    Azure(String),
}

/// The text names no store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a folder's path, s3://bucket, gs://bucket or az://container")]
struct NoStore;

impl FromStr for Location {
    type Err = NoStore;

    fn from_str(text: &str) -> Result<Self, NoStore> {
        let (make, name): (fn(String) -> Self, &str) = match text.split_once("://") {
            None if text.is_empty() => return Err(NoStore),
            None => return Ok(Self::Folder(text.into())),
            Some(("s3", name)) => (Self::S3, name),
            Some(("gs", name)) => (Self::Google, name),
            Some(("az", name)) => (Self::Azure, name),
            Some(_) => return Err(NoStore),
        };
        let name = name.trim_end_matches('/');
        let is_name = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(NoStore);
        }
        Ok(make(name.to_owned()))
    }
}

impl Place {
    /// Takes the settings from a reader, which keeps the mistakes.
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            at: reader.get_or("objects", Location::Folder(".studios/objects".into())),
            endpoint: reader.optional("objects_endpoint"),
            region: reader.optional("objects_region"),
            access_key: reader.optional("objects_access_key"),
            secret_key: reader.optional_secret("objects_secret_key"),
        }
    }

    /// Opens the store. A folder is made; a bucket is not asked for until it is needed.
    ///
    /// # Errors
    /// The folder cannot be made, or the settings do not fit together.
    pub fn open(self) -> Result<Objects> {
        let secret = self.secret_key.as_ref().map(|it| it.expose_secret().to_owned());
        let plain = self.endpoint.as_ref().is_some_and(|it| it.starts_with("http://"));
        let options = ClientOptions::new().with_allow_http(plain);
        match self.at {
            Location::Folder(path) => {
                let folder = Folder::open(&path).map_err(Error::internal)?;
                let store = LocalFileSystem::new_with_prefix(folder.root()).map_err(Error::internal)?;
                Ok(Objects {
                    store: Arc::new(store.with_automatic_cleanup(true).with_fsync(true)),
                    parts: Parts::Folder(folder),
                })
            }
            Location::S3(bucket) => {
                let mut builder = AmazonS3Builder::new()
                    .with_bucket_name(bucket)
                    .with_region(self.region.unwrap_or_else(|| "us-east-1".into()))
                    .with_client_options(options)
                    .with_retry(retry())
                    .with_allow_http(plain)
                    .with_virtual_hosted_style_request(false);
                if let Some(endpoint) = self.endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                if let (Some(key), Some(secret)) = (self.access_key, secret) {
                    builder = builder.with_access_key_id(key).with_secret_access_key(secret);
                }
                builder.build().map(bucket_of).map_err(Error::internal)
            }
            Location::Google(bucket) => {
                let mut builder = GoogleCloudStorageBuilder::new()
                    .with_bucket_name(bucket)
                    .with_retry(retry())
                    .with_client_options(options);
                if let Some(account) = secret {
                    builder = builder.with_service_account_key(account);
                }
                builder.build().map(bucket_of).map_err(Error::internal)
            }
            Location::Azure(container) => {
                let mut builder = MicrosoftAzureBuilder::new()
                    .with_container_name(container)
                    .with_retry(retry())
                    .with_client_options(options)
                    .with_allow_http(plain);
                if let Some(endpoint) = self.endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                if let Some(account) = self.access_key {
                    builder = builder.with_account(account);
                }
                if let Some(secret) = secret {
                    builder = builder.with_access_key(secret);
                }
                builder.build().map(bucket_of).map_err(Error::internal)
            }
        }
    }
}

/// The crate's own patience is three minutes, longer than anybody who waits for an answer has.
fn retry() -> RetryConfig {
    RetryConfig {
        max_retries: 3,
        retry_timeout: Duration::from_secs(10),
        ..RetryConfig::default()
    }
}

fn bucket_of<S: ObjectStore + MultipartStore>(store: S) -> Objects {
    let store = Arc::new(store);
    Objects {
        store: store.clone(),
        parts: Parts::Bucket(store),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_folder_or_a_bucket_of_a_known_kind() {
        assert_eq!("data/x".parse(), Ok(Location::Folder("data/x".into())));
        assert_eq!("s3://files".parse(), Ok(Location::S3("files".into())));
        assert_eq!("gs://files/".parse(), Ok(Location::Google("files".into())));
        assert_eq!("az://files".parse(), Ok(Location::Azure("files".into())));
        for wrong in ["", "s3://", "ftp://x", "s3://a/b", "s3://user:secret@host"] {
            assert_eq!(wrong.parse::<Location>(), Err(NoStore), "{wrong}");
        }
    }
}
