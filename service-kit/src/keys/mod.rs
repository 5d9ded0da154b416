//! The keys of an installation: the root key ring that everything secret derives from, and the keys that sign tokens.
//!
//! Nothing here prints a key: `Debug` shows ids at most.

mod followed;
mod ring;
mod signing;

pub use jsonwebtoken::jwk::{Jwk, JwkSet};
pub use ring::{KeyError, KeyId, KeyRing};
pub use signing::SigningKey;
