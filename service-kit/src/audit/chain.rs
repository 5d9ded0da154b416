//! The chain of a company's entries, the signature of its head, and the walk that checks both.
//!
//! A link's hash is over its place, its entry's digest and the link before it; the head is the last link, signed anew with every
//! link that comes. So an entry that was changed or moved does not fit its link, one that was removed leaves a gap, and a chain
//! that was cut off is shorter than its head says, which nobody can sign again. The keys derive from the root key ring
//! (Ed25519, RFC 8032); an older root key's signatures hold as long as the ring has it.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::types::Uuid;
use time::OffsetDateTime;

use super::{entry::Entry, store::Schema};
use crate::keys::KeyRing;

const PURPOSE: &str = "audit.heads";
const LINK_FORM: &[u8] = b"studios.audit.link.v1";
const HEAD_FORM: &[u8] = b"studios.audit.head.v1";

/// A SHA-256.
pub type Hash = [u8; 32];

/// What comes before the first link.
const BEGINNING: Hash = [0; 32];

/// The hash of a link.
pub(super) fn link(before: Option<&Hash>, seq: i64, digest: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update(LINK_FORM);
    hash.update(before.unwrap_or(&BEGINNING));
    hash.update(seq.to_be_bytes());
    hash.update(digest);
    hash.finalize().into()
}

/// The end of a chain, signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Whose log it is: `core` or `execution`.
    pub log: String,
    /// The company, or the nil UUID.
    pub chain: Uuid,
    /// The last link's place.
    pub seq: i64,
    /// Its hash.
    #[serde(with = "hexadecimal")]
    pub hash: Vec<u8>,
    /// When it was signed.
    #[serde(with = "time::serde::rfc3339")]
    pub signed_at: OffsetDateTime,
    /// The public key.
    #[serde(with = "hexadecimal")]
    pub key: Vec<u8>,
    /// The signature.
    #[serde(with = "hexadecimal")]
    pub signature: Vec<u8>,
}

impl Head {
    fn message(&self) -> Vec<u8> {
        let mut message = HEAD_FORM.to_vec();
        message.extend((self.log.len() as u64).to_be_bytes());
        message.extend(self.log.as_bytes());
        message.extend(self.chain.as_bytes());
        message.extend(self.seq.to_be_bytes());
        message.extend((self.signed_at.unix_timestamp_nanos() / 1000).to_be_bytes());
        message.extend(&self.hash);
        message
    }

    /// Whether one of these keys signed it.
    fn is_signed_by(&self, keys: &[Vec<u8>]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.key);
        keys.contains(&self.key) && key.verify(&self.message(), &self.signature).is_ok()
    }

    /// Whether it is a head of this schema that one of these keys signed.
    pub(super) fn holds(&self, schema: Schema, keys: &[Vec<u8>]) -> bool {
        self.log == schema.name() && self.is_signed_by(keys)
    }
}

/// The keys that sign heads.
#[derive(Debug)]
pub struct AuditKeys {
    pair: Ed25519KeyPair,
    public: Vec<Vec<u8>>,
}

impl AuditKeys {
    /// Those of a key ring; its current key signs.
    pub fn of(ring: &KeyRing) -> Self {
        let pairs = ring.derive_each(PURPOSE);
        let mut pairs = pairs
            .iter()
            .map(|seed| Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).expect("any 32 bytes are a seed"));
        let pair = pairs.next().expect("a ring has a key");
        let first = pair.public_key().as_ref().to_vec();
        let public = std::iter::once(first)
            .chain(pairs.map(|it| it.public_key().as_ref().to_vec()))
            .collect();
        Self { pair, public }
    }

    /// The public keys, the current one first.
    pub fn public(&self) -> &[Vec<u8>] {
        &self.public
    }

    pub(super) fn sign(&self, schema: Schema, chain: Uuid, seq: i64, hash: &Hash, at: OffsetDateTime) -> Head {
        let mut head = Head {
            log: schema.name().to_owned(),
            chain,
            seq,
            hash: hash.to_vec(),
            signed_at: at,
            key: self.public[0].clone(),
            signature: Vec::new(),
        };
        head.signature = self.pair.sign(&head.message()).as_ref().to_vec();
        head
    }
}

/// Something that is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Links are missing.
    #[error("the links {from} to {to} are missing")]
    Missing {
        /// The first of them.
        from: i64,
        /// The last.
        to: i64,
    },
    /// A link's entry is not there.
    #[error("the entry of link {seq} was removed")]
    Removed {
        /// Its place.
        seq: i64,
    },
    /// An entry does not fit its link, or the link its place.
    #[error("the entry of link {seq} was changed or moved")]
    Changed {
        /// Its place.
        seq: i64,
    },
    /// The chain ends before its head.
    #[error("the chain was cut off after link {last}: it had {signed}")]
    Cut {
        /// The last that is there.
        last: i64,
        /// The last that was signed.
        signed: i64,
    },
    /// The head is of another chain, or of another end.
    #[error("the signed head is not this chain's end")]
    OtherEnd,
    /// Nobody signed it.
    #[error("the chain's head is not signed by a key of this installation")]
    Unsigned,
    /// An entry has no link though it is long there.
    #[error("the entry {entry} is in no chain")]
    Loose {
        /// The entry.
        entry: Uuid,
    },
}

/// Goes along a chain, from its first link or from one whose hash is known.
#[derive(Debug)]
pub struct Walk {
    last: i64,
    hash: Option<Hash>,
    entries: u64,
    problems: Vec<Problem>,
}

impl Default for Walk {
    fn default() -> Self {
        Self::new()
    }
}

impl Walk {
    /// From the beginning.
    pub fn new() -> Self {
        Self {
            last: 0,
            hash: None,
            entries: 0,
            problems: Vec::new(),
        }
    }

    /// Looks at the next link and its entry, if that is there.
    pub fn step(&mut self, seq: i64, hash: &[u8], entry: Option<&Entry>) {
        let stored: Option<Hash> = hash.try_into().ok();
        if seq <= self.last {
            self.problems.push(Problem::Changed { seq });
            return;
        }
        let follows = seq == self.last + 1;
        if !follows {
            let (from, to) = (self.last + 1, seq - 1);
            self.problems.push(Problem::Missing { from, to });
        }
        match entry {
            None => self.problems.push(Problem::Removed { seq }),
            // After a gap the link before is not known, and with it not whether this one fits.
            Some(entry) if follows && Some(link(self.hash.as_ref(), seq, &entry.digest())) != stored => {
                self.problems.push(Problem::Changed { seq });
            }
            Some(_) => {}
        }
        self.entries += 1;
        self.last = seq;
        self.hash = stored;
    }

    /// An entry that should have a link and has none.
    pub fn loose(&mut self, entry: Uuid) {
        self.problems.push(Problem::Loose { entry });
    }

    /// How many links there were, and the last one's place.
    pub fn length(&self) -> (u64, i64) {
        (self.entries, self.last)
    }

    /// Ends at the head, which one of these keys must have signed.
    pub fn finish(mut self, log: &str, chain: Uuid, head: Option<&Head>, keys: &[Vec<u8>]) -> Vec<Problem> {
        match head {
            None if self.last == 0 => {}
            None => self.problems.push(Problem::Unsigned),
            Some(head) => {
                if head.log != log || head.chain != chain {
                    self.problems.push(Problem::OtherEnd);
                } else if head.seq > self.last {
                    self.problems.push(Problem::Cut {
                        last: self.last,
                        signed: head.seq,
                    });
                } else if head.seq < self.last || self.hash.as_ref().map(<[u8; 32]>::as_slice) != Some(&head.hash) {
                    self.problems.push(Problem::OtherEnd);
                }
                if !head.is_signed_by(keys) {
                    self.problems.push(Problem::Unsigned);
                }
            }
        }
        self.problems
    }
}

mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::entry::tests::entry;

    struct Chain {
        keys: AuditKeys,
        links: Vec<(i64, Hash, Option<Entry>)>,
    }

    impl Chain {
        fn of(length: i64) -> Self {
            let mut links: Vec<(i64, Hash, Option<Entry>)> = Vec::new();
            for seq in 1..=length {
                let mut entry = entry();
                entry.id = Uuid::from_u128(u128::from(seq.unsigned_abs()));
                let hash = link(links.last().map(|it| &it.1), seq, &entry.digest());
                links.push((seq, hash, Some(entry)));
            }
            Self {
                keys: AuditKeys::of(&KeyRing::generate()),
                links,
            }
        }

        fn head(&self) -> Head {
            let (seq, hash, _) = self.links.last().unwrap();
            self.keys
                .sign(Schema::Core, Uuid::nil(), *seq, hash, OffsetDateTime::UNIX_EPOCH)
        }

        fn problems(&self, head: &Head) -> Vec<Problem> {
            let mut walk = Walk::new();
            for (seq, hash, entry) in &self.links {
                walk.step(*seq, hash, entry.as_ref());
            }
            walk.finish("core", Uuid::nil(), Some(head), self.keys.public())
        }
    }

    #[test]
    fn a_whole_chain_has_no_problem() {
        let chain = Chain::of(5);
        assert_eq!(chain.problems(&chain.head()), []);
        assert_eq!(Walk::new().finish("core", Uuid::nil(), None, &[]), []);
    }

    #[test]
    fn a_changed_entry_is_found() {
        let mut chain = Chain::of(5);
        let head = chain.head();
        chain.links[2].2.as_mut().unwrap().action.push('x');
        assert_eq!(chain.problems(&head), [Problem::Changed { seq: 3 }]);
    }

    #[test]
    fn a_removed_entry_is_found_with_its_link_or_without() {
        let mut chain = Chain::of(5);
        let head = chain.head();
        chain.links[2].2 = None;
        assert_eq!(chain.problems(&head), [Problem::Removed { seq: 3 }]);
        chain.links.remove(2);
        assert_eq!(chain.problems(&head), [Problem::Missing { from: 3, to: 3 }]);
    }

    #[test]
    fn entries_that_changed_places_are_found() {
        let mut chain = Chain::of(5);
        let head = chain.head();
        let moved = chain.links[1].2.take();
        chain.links[1].2 = std::mem::replace(&mut chain.links[2].2, moved);
        let found = chain.problems(&head);
        assert_eq!(found, [Problem::Changed { seq: 2 }, Problem::Changed { seq: 3 }]);
    }

    #[test]
    fn a_chain_that_was_cut_off_is_found_and_no_older_head_can_be_signed() {
        let mut chain = Chain::of(5);
        let head = chain.head();
        chain.links.truncate(3);
        assert_eq!(chain.problems(&head), [Problem::Cut { last: 3, signed: 5 }]);
        let mut moved = head.clone();
        moved.seq = 3;
        moved.hash = chain.links[2].1.to_vec();
        assert_eq!(chain.problems(&moved), [Problem::Unsigned]);
        let forger = AuditKeys::of(&KeyRing::generate());
        let forged = forger.sign(Schema::Core, Uuid::nil(), 3, &chain.links[2].1, head.signed_at);
        assert_eq!(chain.problems(&forged), [Problem::Unsigned]);
        assert_eq!(
            forger
                .sign(Schema::Execution, Uuid::nil(), 3, &chain.links[2].1, head.signed_at)
                .log,
            "execution"
        );
    }

    #[test]
    fn a_rewritten_chain_does_not_end_at_its_head() {
        let mut chain = Chain::of(5);
        let head = chain.head();
        let mut other = Chain::of(4);
        let mut last = entry();
        last.action.push('x');
        let hash = link(Some(&other.links[3].1), 5, &last.digest());
        other.links.push((5, hash, Some(last)));
        chain.links = other.links;
        assert_eq!(chain.problems(&head), [Problem::OtherEnd]);
    }

    #[test]
    fn what_an_older_root_key_signed_still_holds() {
        let (old, new) = ("01".repeat(32), "02".repeat(32));
        let before = AuditKeys::of(&KeyRing::parse(&old).unwrap());
        let after = AuditKeys::of(&KeyRing::parse(&format!("{new},{old}")).unwrap());
        assert_eq!(after.public()[1], before.public()[0]);
        assert_ne!(after.public()[0], before.public()[0]);
    }
}
