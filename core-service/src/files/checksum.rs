//! Sums that a stream's bytes must have, as TUS's extension names them.

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A sum that is expected.
#[derive(Clone, Debug)]
pub(super) enum Checksum {
    Sha1(Vec<u8>),
    Sha256(Vec<u8>),
}

/// A sum that is being made.
pub(super) enum Sum {
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Sum {
    /// One of the expected kind.
    pub(super) fn new(of: &Checksum) -> Self {
        match of {
            Checksum::Sha1(_) => Self::Sha1(Sha1::new()),
            Checksum::Sha256(_) => Self::Sha256(Sha256::new()),
        }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(it) => it.update(bytes),
            Self::Sha256(it) => it.update(bytes),
        }
    }

    pub(super) fn is(self, expected: &Checksum) -> bool {
        match (self, expected) {
            (Self::Sha1(it), Checksum::Sha1(sum)) => it.finalize()[..] == sum[..],
            (Self::Sha256(it), Checksum::Sha256(sum)) => it.finalize()[..] == sum[..],
            _ => false,
        }
    }
}
