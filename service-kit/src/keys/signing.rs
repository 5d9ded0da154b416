//! A key that signs tokens: ES256, that is ECDSA on P-256 with SHA-256 (RFC 7518 §3.4).

use std::fmt;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, EllipticCurveKeyParameters, Jwk, KeyAlgorithm, PublicKeyUse,
    ThumbprintHash,
};
use serde::Serialize;
use zeroize::Zeroizing;

use super::KeyError;

/// A private key with its id.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    kid: String,
    header: String,
}

impl SigningKey {
    /// A new, random key.
    pub fn generate() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Self::new(pair.expect("the operating system gives random bytes"))
    }

    /// Reads a key from PKCS#8 DER.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
        pair.map(Self::new).map_err(|_| KeyError::SigningKey)
    }

    /// The key as PKCS#8 DER.
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        let document = self.pair.to_pkcs8v1().expect("a P-256 key has a PKCS#8 form");
        Zeroizing::new(document.as_ref().to_vec())
    }

    /// The key's id: its JWK's SHA-256 thumbprint (RFC 7638).
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half, for a JWKS.
    pub fn public_jwk(&self) -> Jwk {
        public_jwk(&self.pair, Some(self.kid.clone()))
    }

    /// A signed JWT of these claims.
    pub fn sign(&self, claims: &impl Serialize) -> String {
        let claims = serde_json::to_vec(claims).expect("claims are plain data");
        let mut token = format!("{}.{}", self.header, BASE64URL.encode(claims));
        let signature = self
            .pair
            .sign(&SystemRandom::new(), token.as_bytes())
            .expect("a P-256 key signs any message");
        token.push('.');
        BASE64URL.encode_string(signature, &mut token);
        token
    }

    fn new(pair: EcdsaKeyPair) -> Self {
        let kid = public_jwk(&pair, None)
            .thumbprint(ThumbprintHash::SHA256)
            .expect("a P-256 key has a thumbprint");
        let header = BASE64URL.encode(format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{kid}"}}"#));
        Self { pair, kid, header }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

fn public_jwk(pair: &EcdsaKeyPair, kid: Option<String>) -> Jwk {
    // An uncompressed point: 4, x, y.
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    Jwk {
        common: CommonParameters {
            public_key_use: Some(PublicKeyUse::Signature),
            key_algorithm: Some(KeyAlgorithm::ES256),
            key_id: kid,
            ..CommonParameters::default()
        },
        algorithm: AlgorithmParameters::EllipticCurve(EllipticCurveKeyParameters {
            curve: EllipticCurve::P256,
            x: BASE64URL.encode(x),
            y: BASE64URL.encode(y),
            ..EllipticCurveKeyParameters::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_token_verifies_with_the_published_half_of_the_key() {
        let key = SigningKey::generate();
        let token = key.sign(&json!({"sub": "u", "exp": 4_000_000_000_u64}));
        let public = DecodingKey::from_jwk(&key.public_jwk()).unwrap();
        let read = decode::<Value>(&token, &public, &Validation::new(Algorithm::ES256)).unwrap();
        assert_eq!(read.header.kid.as_deref(), Some(key.kid()));
        assert_eq!(read.claims["sub"], "u");
        let other = DecodingKey::from_jwk(&SigningKey::generate().public_jwk()).unwrap();
        assert!(decode::<Value>(&token, &other, &Validation::new(Algorithm::ES256)).is_err());
    }

    #[test]
    fn a_key_survives_its_pkcs8_form() {
        let key = SigningKey::generate();
        let again = SigningKey::from_pkcs8(&key.to_pkcs8()).unwrap();
        assert_eq!(again.kid(), key.kid());
        assert_eq!(again.public_jwk(), key.public_jwk());
        assert_eq!(SigningKey::from_pkcs8(b"no key").unwrap_err(), KeyError::SigningKey);
    }

    #[test]
    fn the_published_half_is_public_and_names_algorithm_and_use() {
        let key = SigningKey::generate();
        let shown = serde_json::to_value(key.public_jwk()).unwrap();
        assert_eq!((&shown["kty"], &shown["crv"]), (&json!("EC"), &json!("P-256")));
        assert_eq!((&shown["alg"], &shown["use"]), (&json!("ES256"), &json!("sig")));
        assert_eq!(shown["kid"], key.kid());
        assert!(shown.get("d").is_none());
        assert!(!format!("{key:?}").contains("pair"));
    }
}
