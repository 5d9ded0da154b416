//! The root key ring, and what is sealed and authenticated with keys that derive from it.
//!
//! Every use has a purpose, and every purpose its own key: HKDF-SHA256 (RFC 5869) of a root key with the use and purpose
//! as info. What is made carries the root key's id, which derives from it too; so old keys still open what they sealed
//! while only the first key of the ring makes anything new.
//!
//! A sealed blob is `key id (4) | nonce (12) | AES-256-GCM ciphertext and tag (16)`; a MAC is `key id (4) | HMAC-SHA256 (32)`.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    hmac, rand,
};
use zeroize::Zeroizing;

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

/// The root keys of an installation, the current one first.
#[derive(Clone)]
pub struct KeyRing {
    current: Root,
    old: Vec<Root>,
}

#[derive(Clone)]
struct Root {
    id: [u8; ID_BYTES],
    secret: Secret,
}

impl KeyRing {
    /// Reads keys of 64 hexadecimal digits each, separated by commas; the first one is current.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
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

    /// A ring of one new, random key.
    pub fn generate() -> Self {
        let mut secret = Secret::default();
        rand::fill(secret.as_mut()).expect("the operating system gives random bytes");
        Self {
            current: Root::new(secret),
            old: Vec::new(),
        }
    }

    /// A secret of its own for a purpose, from the current key.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        self.current.derive("derive", purpose)
    }

    /// The secrets of their own that all keys of the ring give for a purpose, the current one's first.
    pub fn derive_each(&self, purpose: &str) -> Vec<Zeroizing<[u8; 32]>> {
        let roots = std::iter::once(&self.current).chain(&self.old);
        roots.map(|it| it.derive("derive", purpose)).collect()
    }

    /// Encrypts for a purpose. The context, such as a row's id, is not stored but must be the same when it is opened.
    pub fn seal(&self, purpose: &str, context: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let mut text = plaintext.to_vec();
        let nonce = self
            .current
            .sealing(purpose)
            .seal_in_place_append_tag(Aad::from(context), &mut text)
            .expect("AES-GCM seals what fits in memory");
        [self.current.id.as_slice(), nonce.as_ref().as_slice(), &text].concat()
    }

    /// Decrypts what was sealed for the same purpose and context.
    pub fn open(&self, purpose: &str, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let (root, rest) = self.maker(sealed)?;
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
        let tag = hmac::sign(&self.current.authenticating(purpose), data);
        [self.current.id.as_slice(), tag.as_ref()].concat()
    }

    /// The MACs that all keys of the ring give, the current one's first: one that is stored is among them.
    pub fn mac_each(&self, purpose: &str, data: &[u8]) -> Vec<Vec<u8>> {
        let roots = std::iter::once(&self.current).chain(&self.old);
        roots
            .map(|root| {
                let tag = hmac::sign(&root.authenticating(purpose), data);
                [root.id.as_slice(), tag.as_ref()].concat()
            })
            .collect()
    }

    /// Whether a MAC was made for the same purpose and data; takes as long whatever is wrong with it.
    pub fn verify_mac(&self, purpose: &str, data: &[u8], mac: &[u8]) -> bool {
        self.maker(mac)
            .is_ok_and(|(root, tag)| hmac::verify(&root.authenticating(purpose), data, tag).is_ok())
    }

    /// The key that made something, and what comes after its id.
    fn maker<'a>(&self, made: &'a [u8]) -> Result<(&Root, &'a [u8]), KeyError> {
        let (id, rest) = made.split_first_chunk::<ID_BYTES>().ok_or(KeyError::Forged)?;
        let root = std::iter::once(&self.current).chain(&self.old).find(|it| it.id == *id);
        Ok((root.ok_or(KeyError::Unknown)?, rest))
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = std::iter::once(&self.current)
            .chain(&self.old)
            .map(|it| hex::encode(it.id));
        f.write_str("KeyRing ")?;
        f.debug_list().entries(ids).finish()
    }
}

impl Root {
    fn new(secret: Secret) -> Self {
        let mut id = [0; ID_BYTES];
        expand(&secret, &["id"], &mut id);
        Self { id, secret }
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
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", ring(OLD));
        assert!(shown.len() < 30 && !shown.contains("010101"), "{shown}");
    }
}
