//! The folder of an embedded installation: its keys, made at the first start, and its private PostgreSQL.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use service_kit::keys::{KeyRing, SigningKey};

/// What the installation keeps secret. Its file is readable by its owner alone.
#[derive(Serialize, Deserialize)]
struct KeyFile {
    key_ring: String,
    execution_service_key: String,
}

/// An installation's folder with its keys.
pub struct Home {
    dir: PathBuf,
    /// The root key ring.
    pub keys: KeyRing,
    /// The root key ring as configuration text.
    pub key_ring: SecretString,
    /// The key that execution-service signs its service tokens with: PKCS#8 in base64, as configuration text.
    pub execution_service_key: SecretString,
}

impl Home {
    /// Opens the folder, making it and its keys first where they are missing.
    pub fn open(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let path = dir.join("keys.json");
        let file = if path.exists() { read(&path)? } else { make(&path)? };
        Ok(Self {
            dir: dir.to_owned(),
            keys: KeyRing::parse(&file.key_ring).with_context(|| format!("the key ring in {}", path.display()))?,
            key_ring: file.key_ring.into(),
            execution_service_key: file.execution_service_key.into(),
        })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The public half of execution-service's key, as core-service's configuration wants it.
    pub fn execution_service_jwk(&self) -> Result<String> {
        let der = BASE64_STANDARD
            .decode(self.execution_service_key.expose_secret())
            .context("execution_service_key")?;
        let key = SigningKey::from_pkcs8(&der)
            .ok()
            .context("execution_service_key is no PKCS#8 key of P-256")?;
        Ok(serde_json::to_string(&key.public_jwk())?)
    }
}

fn read(path: &Path) -> Result<KeyFile> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    match serde_json::from_str(&text) {
        Ok(file) => Ok(file),
        // The parser's message would quote the line, and the line is a key.
        Err(_) => bail!(
            "{} is damaged: it must hold key_ring and execution_service_key",
            path.display()
        ),
    }
}

fn make(path: &Path) -> Result<KeyFile> {
    let file = KeyFile {
        key_ring: hex::encode(rand::random::<[u8; 32]>()),
        execution_service_key: BASE64_STANDARD.encode(SigningKey::generate().to_pkcs8().as_slice()),
    };
    let mut out = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("making {}", path.display()))?;
    out.write_all(serde_json::to_string_pretty(&file)?.as_bytes())?;
    out.sync_all()?;
    Ok(file)
}
