//! The folder of an embedded installation: its keys, made at the first start, and its private PostgreSQL.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use service_kit::{
    clock::{Clock, SystemClock},
    keys::{KeyId, KeyRing, SigningKey},
};

/// The passwords that PostgreSQL keeps and nobody sets anew when the root key changes: what they derive for.
const SUPERUSER: &str = "postgres-superuser";
const ADMINISTRATOR: &str = "database-role/administrator";

/// What the installation keeps secret. Its file is readable by its owner alone.
#[derive(Clone, Serialize, Deserialize)]
struct KeyFile {
    key_ring: String,
    execution_service_key: String,
    /// The last key of the ring, if it is new and waits to become current.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    joined: bool,
    /// Since when the current key is current, in seconds since 1970.
    #[serde(default)]
    current_since: i64,
    /// Passwords that were derived from a root key that is current no more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    database_passwords: BTreeMap<String, String>,
}

/// An installation's folder with its keys.
pub struct Home {
    dir: PathBuf,
    file: KeyFile,
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
        if !key_file(dir).exists() {
            write(dir, &new(), Place::Free)?;
        }
        Self::existing(dir)
    }

    /// Opens a folder that has keys.
    pub fn existing(dir: &Path) -> Result<Self> {
        let path = key_file(dir);
        Self::holding(dir, read(&path)?)
    }

    fn holding(dir: &Path, file: KeyFile) -> Result<Self> {
        let keys = KeyRing::parse(&file.key_ring);
        Ok(Self {
            dir: dir.to_owned(),
            keys: keys.with_context(|| format!("the key ring in {}", key_file(dir).display()))?,
            key_ring: file.key_ring.clone().into(),
            execution_service_key: file.execution_service_key.clone().into(),
            file,
        })
    }

    /// The file of the keys, for services that [follow](KeyRing::follow) it.
    pub fn key_file(&self) -> PathBuf {
        key_file(&self.dir)
    }

    /// The password of the private PostgreSQL's superuser.
    pub fn superuser_password(&self) -> SecretString {
        self.password(SUPERUSER)
    }

    /// The password of a given PostgreSQL's administrator.
    pub fn administrator_password(&self) -> SecretString {
        self.password(ADMINISTRATOR)
    }

    fn password(&self, purpose: &str) -> SecretString {
        let kept = self.file.database_passwords.get(purpose).cloned();
        kept.unwrap_or_else(|| hex::encode(self.keys.derive(purpose))).into()
    }

    /// The key that has joined the ring and waits to become current.
    pub fn joined(&self) -> Option<KeyId> {
        let last = self.keys.ids().pop();
        last.filter(|_| self.file.joined)
    }

    /// How long the current key has been current, in seconds.
    pub fn current_for(&self) -> i64 {
        SystemClock.now().unix_timestamp() - self.file.current_since
    }

    /// Lets a new key join the ring: it opens, and seals nothing yet.
    pub fn join(&mut self) -> Result<KeyId> {
        let mut file = self.file.clone();
        file.key_ring = format!("{},{}", file.key_ring, new_key());
        file.joined = true;
        self.replace(file)?;
        self.joined().context("the ring has a last key")
    }

    /// Makes the key that has joined current, or a new one where none has.
    pub fn rotate(&mut self) -> Result<KeyId> {
        let mut file = self.file.clone();
        let mut keys: Vec<String> = file.key_ring.split(',').map(|it| it.trim().to_owned()).collect();
        let next = keys.pop_if(|_| file.joined).unwrap_or_else(new_key);
        keys.insert(0, next);
        file.key_ring = keys.join(",");
        file.joined = false;
        file.current_since = SystemClock.now().unix_timestamp();
        // These stand in PostgreSQL as the first root key gave them.
        for purpose in [SUPERUSER, ADMINISTRATOR] {
            let password = self.password(purpose).expose_secret().to_owned();
            file.database_passwords.insert(purpose.to_owned(), password);
        }
        self.replace(file)?;
        Ok(self.keys.ids()[0])
    }

    /// Drops an old key from the ring.
    pub fn retire(&mut self, id: KeyId) -> Result<()> {
        let mut file = self.file.clone();
        let kept = file
            .key_ring
            .split(',')
            .zip(self.keys.ids())
            .filter(|(_, it)| *it != id);
        file.key_ring = kept.map(|(key, _)| key.trim()).collect::<Vec<_>>().join(",");
        file.joined &= self.joined() != Some(id);
        self.replace(file)
    }

    fn replace(&mut self, file: KeyFile) -> Result<()> {
        write(&self.dir, &file, Place::Taken)?;
        *self = Self::holding(&self.dir, file)?;
        Ok(())
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

fn key_file(dir: &Path) -> PathBuf {
    dir.join("keys.json")
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

fn new() -> KeyFile {
    KeyFile {
        key_ring: new_key(),
        execution_service_key: BASE64_STANDARD.encode(SigningKey::generate().to_pkcs8().as_slice()),
        joined: false,
        current_since: SystemClock.now().unix_timestamp(),
        database_passwords: BTreeMap::new(),
    }
}

fn new_key() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

/// Whether the file is there already; keys that are there are never overwritten by first ones.
#[derive(Clone, Copy)]
enum Place {
    Free,
    Taken,
}

/// Writes the file whole or not at all: a lost key is lost data.
fn write(dir: &Path, file: &KeyFile, place: Place) -> Result<()> {
    let path = key_file(dir);
    let written = || -> Result<()> {
        // Readable by its owner alone from its first moment.
        let mut part = tempfile::NamedTempFile::new_in(dir)?;
        part.write_all(serde_json::to_string_pretty(file)?.as_bytes())?;
        part.as_file().sync_all()?;
        match place {
            Place::Free => part.persist_noclobber(&path)?,
            Place::Taken => part.persist(&path)?,
        };
        Ok(fs::File::open(dir)?.sync_all()?)
    };
    written().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_ring_grows_turns_and_shrinks_and_the_passwords_that_postgresql_keeps_stay() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Home::existing(dir.path()).is_err());
        let mut home = Home::open(dir.path()).unwrap();
        let followed = KeyRing::follow(&home.key_file()).unwrap();
        let first = home.keys.ids()[0];
        let password = |home: &Home| {
            let passwords = [home.superuser_password(), home.administrator_password()];
            passwords.map(|it| it.expose_secret().to_owned())
        };
        let passwords = password(&home);

        let second = home.join().unwrap();
        assert_eq!((home.keys.ids(), home.joined()), (vec![first, second], Some(second)));
        assert_eq!(home.rotate().unwrap(), second, "who has joined becomes current");
        assert_eq!((home.keys.ids(), home.joined()), (vec![second, first], None));
        assert!((0..60).contains(&home.current_for()));
        let third = home.rotate().unwrap();
        assert_eq!(home.keys.ids(), [third, second, first]);
        home.retire(second).unwrap();
        assert_eq!(home.keys.ids(), [third, first]);

        let again = Home::existing(dir.path()).unwrap();
        assert_eq!(again.keys.ids(), [third, first]);
        assert_eq!(followed.ids(), [third, first]);
        assert_eq!(password(&again), passwords);
        let mode = fs::metadata(home.key_file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no part is left behind");
    }

    #[test]
    fn a_key_that_joined_can_be_dropped_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut home = Home::open(dir.path()).unwrap();
        let joined = home.join().unwrap();
        home.retire(joined).unwrap();
        assert_eq!((home.keys.ids().len(), home.joined()), (1, None));
    }
}
