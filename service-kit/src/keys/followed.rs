//! A file that a key ring follows: told apart from what it was by its number, size and time, so that looking costs no reading.
//! Whoever changes it replaces it whole, by renaming.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::KeyError;

pub(super) struct Followed {
    path: PathBuf,
    /// The file as it was last read; none while it cannot be found.
    seen: Mutex<Option<Stamp>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// The part of an installation's key file that is the ring.
#[derive(Deserialize)]
struct KeyFile {
    key_ring: String,
}

impl Followed {
    /// The file with the text of the ring in it.
    pub(super) fn open(path: &Path) -> Result<(Self, Zeroizing<String>), KeyError> {
        // Stamped before it is read: what changes between the two is seen by the next look.
        let stamp = stamp(path).map_err(|_| KeyError::File)?;
        let text = read(path).map_err(|_| KeyError::File)?;
        let file = Self {
            path: path.to_owned(),
            seen: Mutex::new(Some(stamp)),
        };
        Ok((file, text))
    }

    /// Gives away the text of the ring, if the file is another one than before.
    pub(super) fn if_changed(&self, take: impl FnOnce(&str)) {
        // Held until it is taken, so that nobody goes on with the keys before while somebody reads the new ones.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.path).ok();
        if now.is_none() || *seen == now {
            return;
        }
        match read(&self.path) {
            Ok(text) => {
                *seen = now;
                take(&text);
            }
            Err(error) => tracing::warn!(error = %error.kind(), "key ring not read anew: the one before stays"),
        }
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let found = fs::metadata(path)?;
    Ok(Stamp {
        inode: found.ino(),
        size: found.len(),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let text = Zeroizing::new(fs::read_to_string(path)?);
    // A parser's message would quote the key; what is no object is taken as the ring itself.
    Ok(match serde_json::from_str::<KeyFile>(&text) {
        Ok(file) => Zeroizing::new(file.key_ring),
        Err(_) => Zeroizing::new(text.trim().to_owned()),
    })
}
