//! The root key ring, and what is sealed and authenticated with keys that derive from it.
//!
//! Every use has a purpose, and every purpose its own key: HKDF-SHA256 (RFC 5869) of a root key with the use and purpose
//! as info. What is made carries the root key's id, which derives from it too; so old keys still open what they sealed
//! while only the first key of the ring makes anything new. A ring that follows a file changes with it, in all its clones:
//! see [`KeyRing::follow`].
//!
//! A sealed blob is `key id (4) | nonce (12) | AES-256-GCM ciphertext and tag (16)`; a MAC is `key id (4) | HMAC-SHA256 (32)`.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use arc_swap::ArcSwap;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    hmac, rand,
};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::followed::Followed;
use crate::config::{Reader, Refused};

const KEY_BYTES: usize = 32;
const ID_BYTES: usize = 4;
const SALT: &[u8] = b"studios/v1";

type Secret = Zeroizing<[u8; KEY_BYTES]>;

/// Why keys cannot be read, or what was sealed cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not a key ring.
    #[error("must be one or more keys of 64 hexadecimal digits, separated by commas")]
    Ring,
    /// The text is no key's id.
    #[error("must be a key's id of 8 hexadecimal digits")]
    Id,
    /// The file of a key ring cannot be read.
    #[error("the file cannot be read")]
    File,
    /// The bytes are not a P-256 key in PKCS#8.
    #[error("must be a P-256 private key in PKCS#8")]
    SigningKey,
    /// It was made with a key that the ring does not hold.
    #[error("made with a key that is not in the key ring")]
    Unknown,
    /// It is cut, changed, or was made for another purpose or context.
    #[error("does not open: cut, changed, or made for something else")]
    Forged,
}

/// The id of a root key, which says nothing of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; ID_BYTES]);

impl KeyId {
    /// As it stands before what was made with the key.
    pub const fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut id = [0; ID_BYTES];
        hex::decode_to_slice(text, &mut id).map_err(|_| KeyError::Id)?;
        Ok(Self(id))
    }
}

impl From<[u8; ID_BYTES]> for KeyId {
    fn from(id: [u8; ID_BYTES]) -> Self {
        Self(id)
    }
}

/// The root keys of an installation, the current one first. Clones share them.
#[derive(Clone)]
pub struct KeyRing(Arc<Held>);

struct Held {
    roots: ArcSwap<Roots>,
    file: Option<Followed>,
}

struct Roots {
    current: Root,
    old: Vec<Root>,
}

struct Root {
    id: KeyId,
    secret: Secret,
}

impl KeyRing {
    /// Reads keys of 64 hexadecimal digits each, separated by commas; the first one is current.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        Ok(Self::held(Roots::parse(text)?, None))
    }

    /// A ring of one new, random key.
    pub fn generate() -> Self {
        let mut secret = Secret::default();
        rand::fill(secret.as_mut()).expect("the operating system gives random bytes");
        let roots = Roots {
            current: Root::new(secret),
            old: Vec::new(),
        };
        Self::held(roots, None)
    }

    /// The ring in a file: its text, or a JSON object with the text as `key_ring`. It is looked at before anything is made,
    /// and when something comes that was made with a key that is not known; so of processes that follow one file none seals
    /// with a key that is not current any more, and none fails to open what another has sealed with a newer one. A file
    /// that cannot be read changes nothing.
    ///
    /// # Errors
    /// The file cannot be read, or holds no ring.
    pub fn follow(path: &Path) -> Result<Self, KeyError> {
        let (file, text) = Followed::open(path)?;
        Ok(Self::held(Roots::parse(&text)?, Some(file)))
    }

    /// Takes `key_ring`, or `key_ring_file` to [follow](Self::follow), from a reader, which keeps the mistakes.
    ///
    /// # Errors
    /// Neither is set, both are, or what is set cannot be used.
    pub fn read(reader: &mut Reader) -> Result<Self, Refused> {
        const TEXT: &str = "key_ring";
        const FILE: &str = "key_ring_file";
        let file: Option<PathBuf> = reader.optional(FILE);
        let Some(path) = file else {
            let text = reader.secret(TEXT)?;
            return Self::parse(text.expose_secret()).map_err(|error| reader.reject(TEXT, error));
        };
        if reader.optional_secret(TEXT).is_some() {
            return Err(reader.reject(FILE, "and key_ring exclude each other"));
        }
        Self::follow(&path).map_err(|error| reader.reject(FILE, error))
    }

    /// The ids of its keys, the current one first.
    pub fn ids(&self) -> Vec<KeyId> {
        self.fresh().each().map(|it| it.id).collect()
    }

    /// Seals anew what was sealed with an old key, for the same purpose and context; nothing where the current key sealed it.
    ///
    /// # Errors
    /// It does not open.
    pub fn reseal(&self, purpose: &str, context: &[u8], sealed: &[u8]) -> Result<Option<Vec<u8>>, KeyError> {
        let plain = self.open(purpose, context, sealed)?;
        let is_current = sealed.starts_with(self.fresh().current.id.as_bytes());
        Ok((!is_current).then(|| self.seal(purpose, context, &plain)))
    }

    /// A secret of its own for a purpose, from the current key.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        self.fresh().current.derive("derive", purpose)
    }

    /// The secrets of their own that all keys of the ring give for a purpose, the current one's first.
    pub fn derive_each(&self, purpose: &str) -> Vec<Zeroizing<[u8; 32]>> {
        self.fresh().each().map(|it| it.derive("derive", purpose)).collect()
    }

    /// Encrypts for a purpose. The context, such as a row's id, is not stored but must be the same when it is opened.
    pub fn seal(&self, purpose: &str, context: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let roots = self.fresh();
        let mut text = plaintext.to_vec();
        let nonce = roots
            .current
            .sealing(purpose)
            .seal_in_place_append_tag(Aad::from(context), &mut text)
            .expect("AES-GCM seals what fits in memory");
        [roots.current.id.as_bytes(), nonce.as_ref().as_slice(), &text].concat()
    }

    /// Decrypts what was sealed for the same purpose and context.
    pub fn open(&self, purpose: &str, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let (roots, id, rest) = self.made(sealed)?;
        let root = roots.find(id).ok_or(KeyError::Unknown)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(KeyError::Forged)?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = root
            .sealing(purpose)
            .open_in_place(Nonce::from(nonce), Aad::from(context), &mut text)
            .map_err(|_| KeyError::Forged)?
            .len();
        text.truncate(length);
        Ok(text)
    }

    /// Authenticates data for a purpose.
    pub fn mac(&self, purpose: &str, data: &[u8]) -> Vec<u8> {
        let roots = self.fresh();
        let tag = hmac::sign(&roots.current.authenticating(purpose), data);
        [roots.current.id.as_bytes(), tag.as_ref()].concat()
    }

    /// The MACs that all keys of the ring give, the current one's first: one that is stored is among them.
    pub fn mac_each(&self, purpose: &str, data: &[u8]) -> Vec<Vec<u8>> {
        let roots = self.fresh();
        let macs = roots.each().map(|root| {
            let tag = hmac::sign(&root.authenticating(purpose), data);
            [root.id.as_bytes(), tag.as_ref()].concat()
        });
        macs.collect()
    }

    /// Whether a MAC was made for the same purpose and data; takes as long whatever is wrong with it.
    pub fn verify_mac(&self, purpose: &str, data: &[u8], mac: &[u8]) -> bool {
        self.made(mac).is_ok_and(|(roots, id, tag)| {
            let root = roots.find(id);
            root.is_some_and(|root| hmac::verify(&root.authenticating(purpose), data, tag).is_ok())
        })
    }

    fn held(roots: Roots, file: Option<Followed>) -> Self {
        Self(Arc::new(Held {
            roots: ArcSwap::from_pointee(roots),
            file,
        }))
    }

    /// The keys as the file has them now.
    fn fresh(&self) -> Arc<Roots> {
        if let Some(file) = &self.0.file {
            file.if_changed(|text| match Roots::parse(text) {
                Ok(roots) => {
                    self.0.roots.store(Arc::new(roots));
                    tracing::info!(keys = ?self, "key ring read anew");
                }
                Err(error) => tracing::warn!(error = %error, "key ring not read anew: the one before stays"),
            });
        }
        self.0.roots.load_full()
    }

    /// The key that made something, what comes after its id, and the keys that it is, or is not, among.
    fn made<'a>(&self, made: &'a [u8]) -> Result<(Arc<Roots>, KeyId, &'a [u8]), KeyError> {
        let (id, rest) = made.split_first_chunk::<ID_BYTES>().ok_or(KeyError::Forged)?;
        let id = KeyId(*id);
        let known = self.0.roots.load_full();
        let roots = if known.find(id).is_some() { known } else { self.fresh() };
        Ok((roots, id, rest))
    }
}

impl Roots {
    fn parse(text: &str) -> Result<Self, KeyError> {
        let mut roots = text.split(',').map(|key| {
            let mut secret = Secret::default();
            hex::decode_to_slice(key.trim(), secret.as_mut()).map_err(|_| KeyError::Ring)?;
            Ok(Root::new(secret))
        });
        let current = roots.next().ok_or(KeyError::Ring)??;
        Ok(Self {
            current,
            old: roots.collect::<Result<_, _>>()?,
        })
    }

    fn each(&self) -> impl Iterator<Item = &Root> {
        std::iter::once(&self.current).chain(&self.old)
    }

    fn find(&self, id: KeyId) -> Option<&Root> {
        self.each().find(|it| it.id == id)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roots = self.0.roots.load();
        f.write_str("KeyRing ")?;
        f.debug_list()
            .entries(roots.each().map(|it| it.id.to_string()))
            .finish()
    }
}

impl Root {
    fn new(secret: Secret) -> Self {
        let mut id = [0; ID_BYTES];
        expand(&secret, &["id"], &mut id);
        Self { id: KeyId(id), secret }
    }

    fn sealing(&self, purpose: &str) -> RandomizedNonceKey {
        let key = self.derive("seal", purpose);
        RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).expect("the key has AES-256's length")
    }

    fn authenticating(&self, purpose: &str) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.derive("mac", purpose).as_ref())
    }

    fn derive(&self, usage: &str, purpose: &str) -> Secret {
        let mut key = Secret::default();
        expand(&self.secret, &[usage, "/", purpose], key.as_mut());
        key
    }
}

fn expand(secret: &Secret, info: &[&str], out: &mut [u8]) {
    let info: Vec<&[u8]> = info.iter().map(|it| it.as_bytes()).collect();
    Salt::new(HKDF_SHA256, SALT)
        .extract(secret.as_ref())
        .expand(&info, Length(out.len()))
        .and_then(|key| key.fill(out))
        .expect("HKDF-SHA256 gives up to 8160 bytes");
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "0101010101010101010101010101010101010101010101010101010101010101";
    const NEW: &str = "0202020202020202020202020202020202020202020202020202020202020202";

    fn ring(text: &str) -> KeyRing {
        KeyRing::parse(text).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_for_its_purpose_and_context_only() {
        let keys = KeyRing::generate();
        let sealed = keys.seal("signing-keys", b"row 1", b"secret");
        assert_eq!(
            keys.open("signing-keys", b"row 1", &sealed).unwrap().as_slice(),
            b"secret"
        );
        assert_eq!(keys.open("signing-keys", b"row 2", &sealed), Err(KeyError::Forged));
        assert_eq!(keys.open("connections", b"row 1", &sealed), Err(KeyError::Forged));
        assert_eq!(
            KeyRing::generate().open("signing-keys", b"row 1", &sealed),
            Err(KeyError::Unknown)
        );
        assert_ne!(
            keys.seal("signing-keys", b"row 1", b"secret"),
            sealed,
            "every seal has its own nonce"
        );
    }

    #[test]
    fn no_changed_or_cut_byte_goes_unseen() {
        let keys = KeyRing::generate();
        let sealed = keys.seal("p", b"", b"secret");
        let mac = keys.mac("p", b"data");
        for i in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            assert!(keys.open("p", b"", &changed).is_err(), "byte {i}");
            assert!(keys.open("p", b"", &sealed[..i]).is_err(), "cut to {i} bytes");
        }
        for i in 0..mac.len() {
            let mut changed = mac.clone();
            changed[i] ^= 1;
            assert!(!keys.verify_mac("p", b"data", &changed), "byte {i}");
            assert!(!keys.verify_mac("p", b"data", &mac[..i]), "cut to {i} bytes");
        }
    }

    #[test]
    fn a_mac_holds_for_its_purpose_and_data_only() {
        let keys = KeyRing::generate();
        let mac = keys.mac("page-token", b"data");
        assert!(keys.verify_mac("page-token", b"data", &mac));
        assert!(!keys.verify_mac("page-token", b"other", &mac));
        assert!(!keys.verify_mac("signed-url", b"data", &mac));
    }

    #[test]
    fn an_old_key_still_opens_and_the_first_one_makes() {
        let sealed = ring(OLD).seal("p", b"", b"secret");
        let mac = ring(OLD).mac("p", b"data");
        let both = ring(&format!("{NEW}, {OLD}"));
        assert_eq!(both.open("p", b"", &sealed).unwrap().as_slice(), b"secret");
        assert!(both.verify_mac("p", b"data", &mac));
        assert!(ring(NEW).open("p", b"", &both.seal("p", b"", b"x")).is_ok());
        assert!(ring(NEW).verify_mac("p", b"data", &both.mac("p", b"data")));
        assert_eq!(both.mac_each("p", b"data"), [both.mac("p", b"data"), mac]);
    }

    #[test]
    fn derived_secrets_are_the_same_every_time_and_differ_by_purpose_and_key() {
        assert_eq!(ring(OLD).derive("a"), ring(OLD).derive("a"));
        assert_ne!(ring(OLD).derive("a"), ring(OLD).derive("b"));
        assert_ne!(ring(OLD).derive("a"), ring(NEW).derive("a"));
    }

    #[test]
    fn what_is_no_ring_is_refused() {
        for text in [
            "",
            ",",
            "00",
            &OLD[1..],
            &format!("{OLD}0"),
            &format!("{OLD},"),
            &format!("{OLD},xy"),
            "zz",
        ] {
            assert_eq!(KeyRing::parse(text).unwrap_err(), KeyError::Ring, "{text}");
        }
    }

    #[test]
    fn what_an_old_key_sealed_is_sealed_anew_once() {
        let sealed = ring(OLD).seal("p", b"row", b"secret");
        let both = ring(&format!("{NEW},{OLD}"));
        let again = both.reseal("p", b"row", &sealed).unwrap().unwrap();
        assert_eq!(ring(NEW).open("p", b"row", &again).unwrap().as_slice(), b"secret");
        assert_eq!(both.reseal("p", b"row", &again).unwrap(), None);
        assert_eq!(both.reseal("p", b"other row", &sealed), Err(KeyError::Forged));
        assert_eq!(ring(NEW).reseal("p", b"row", &sealed), Err(KeyError::Unknown));
        assert_eq!(both.ids().first(), ring(NEW).ids().first());
        let id = both.ids()[1];
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(sealed.starts_with(id.as_bytes()));
        for text in ["", "0102", "xyxyxyxy", "010203040506"] {
            assert_eq!(text.parse::<KeyId>(), Err(KeyError::Id), "{text}");
        }
    }

    #[test]
    fn a_ring_that_follows_a_file_seals_with_its_first_key_and_opens_with_all_that_it_comes_to_hold() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        // As an operator's program writes it: whole, by renaming.
        let write = |text: &str| {
            let part = dir.path().join("part");
            std::fs::write(&part, text).unwrap();
            std::fs::rename(part, &path).unwrap();
        };
        write(&format!("{OLD}\n"));
        let followed = KeyRing::follow(&path).unwrap();
        let clone = followed.clone();
        let old = followed.seal("p", b"", b"secret");
        assert!(ring(OLD).open("p", b"", &old).is_ok());

        write(&format!(r#"{{"key_ring":"{NEW},{OLD}","other":1}}"#));
        let new = ring(NEW).seal("p", b"", b"secret");
        assert!(followed.open("p", b"", &new).is_ok(), "an unknown key is looked for");
        assert!(
            ring(NEW).open("p", b"", &clone.seal("p", b"", b"x")).is_ok(),
            "clones share the keys"
        );
        assert!(ring(NEW).verify_mac("p", b"d", &clone.mac("p", b"d")));
        assert!(followed.open("p", b"", &old).is_ok());

        for damaged in ["", "{", r#"{"key_ring":1}"#, "xy"] {
            write(damaged);
            assert!(
                ring(NEW).open("p", b"", &followed.seal("p", b"", b"x")).is_ok(),
                "{damaged}"
            );
        }
        std::fs::remove_file(&path).unwrap();
        assert!(followed.open("p", b"", &new).is_ok());
        assert_eq!(KeyRing::follow(&path).unwrap_err(), KeyError::File);

        write(NEW);
        followed.seal("p", b"", b"x");
        assert_eq!(followed.open("p", b"", &old), Err(KeyError::Unknown));
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", ring(OLD));
        assert!(shown.len() < 30 && !shown.contains("010101"), "{shown}");
    }
}
