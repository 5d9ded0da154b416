//! The other issuers that the operator configured: `issuers_<name>_…`, the same for every service.

use std::collections::BTreeMap;

use jsonwebtoken::DecodingKey;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::config::Reader;

const TABLE: &str = "issuers";

/// A shorter secret is guessed off a token (RFC 7518 §3.2).
const SECRET_BYTES: usize = 32;

/// Every configured issuer, by the name of its settings.
#[derive(Debug, Clone, Default)]
pub struct ExternalConfig {
    issuers: BTreeMap<String, IssuerConfig>,
}

/// An issuer whose tokens are accepted.
#[derive(Debug, Clone)]
pub struct IssuerConfig {
    /// `issuer`: the `iss` of its tokens, such as `https://project.supabase.co/auth/v1`.
    pub issuer: String,
    /// `audience`: the `aud` that they must name; `authenticated` by default.
    pub audience: String,
    /// `jwks_url`: where its public keys are.
    pub jwks_url: Option<Url>,
    /// `secret`: what verifies its HS256 tokens.
    pub secret: Option<SecretString>,
    /// `supabase`: whether it is the Supabase whose users are ours under the same ids; at most one is.
    pub supabase: bool,
}

impl IssuerConfig {
    pub(super) fn secret(&self) -> Option<DecodingKey> {
        let secret = self.secret.as_ref()?;
        Some(DecodingKey::from_secret(secret.expose_secret().as_bytes()))
    }
}

impl ExternalConfig {
    /// Takes the settings from a reader, which keeps the mistakes. `own` is the name that tokens of ours have.
    pub fn read(reader: &mut Reader, own: &str) -> Self {
        let mut issuers: BTreeMap<String, IssuerConfig> = BTreeMap::new();
        for name in reader.names(TABLE, "issuer") {
            let key = |entry: &str| format!("{TABLE}_{name}_{entry}");
            let Some(issuer) = reader.optional::<String>(&key("issuer")) else {
                continue;
            };
            let config = IssuerConfig {
                audience: reader.get_or(&key("audience"), "authenticated".to_owned()),
                jwks_url: reader.optional(&key("jwks_url")),
                secret: reader.optional_secret(&key("secret")),
                supabase: reader.get_or(&key("supabase"), false),
                issuer,
            };
            if config.jwks_url.is_none() && config.secret.is_none() {
                reader.reject(&key("jwks_url"), "must be set, or the secret must");
            }
            if config
                .jwks_url
                .as_ref()
                .is_some_and(|it| !matches!(it.scheme(), "http" | "https"))
            {
                reader.reject(&key("jwks_url"), "must be an address of http or https");
            }
            if config
                .secret
                .as_ref()
                .is_some_and(|it| it.expose_secret().len() < SECRET_BYTES)
            {
                reader.reject(&key("secret"), "must have 32 bytes or more");
            }
            if config.issuer == own || issuers.values().any(|it| it.issuer == config.issuer) {
                reader.reject(&key("issuer"), "is another issuer's already");
            }
            if config.supabase && issuers.values().any(|it| it.supabase) {
                reader.reject(&key("supabase"), "is set for another issuer already");
            }
            issuers.insert(name, config);
        }
        Self { issuers }
    }

    /// All of them.
    pub fn issuers(&self) -> impl Iterator<Item = &IssuerConfig> {
        self.issuers.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: &[(&str, &str)]) -> (ExternalConfig, Option<String>) {
        let flags: Vec<_> = flags
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect();
        let mut reader = Reader::load(&["STUDIOS_TEST_"], None, &flags);
        let config = ExternalConfig::read(&mut reader, "studios");
        (config, reader.finish().err().map(|it| it.to_string()))
    }

    #[test]
    fn several_issuers_are_read_each_with_its_keys() {
        let (config, wrong) = read(&[
            ("issuers_acme_issuer", "https://login.acme.example"),
            ("issuers_acme_jwks_url", "https://login.acme.example/keys"),
            ("issuers_acme_audience", "studios"),
            ("issuers_base_issuer", "https://base.example/auth/v1"),
            ("issuers_base_secret", "a secret of more than thirty-two bytes"),
            ("issuers_base_supabase", "true"),
        ]);
        assert_eq!(wrong, None);
        let read: Vec<_> = config.issuers().map(|it| (it.audience.as_str(), it.supabase)).collect();
        assert_eq!(read, [("studios", false), ("authenticated", true)]);
        assert!(!format!("{config:?}").contains("thirty-two"));
    }

    #[test]
    fn what_cannot_be_verified_or_told_apart_is_refused() {
        let (_, wrong) = read(&[
            ("issuers_a_issuer", "studios"),
            ("issuers_b_issuer", "https://b.example"),
            ("issuers_b_secret", "short"),
            ("issuers_b_supabase", "true"),
            ("issuers_c_issuer", "https://b.example"),
            ("issuers_c_jwks_url", "file:///etc/keys"),
            ("issuers_c_supabase", "true"),
        ]);
        let wrong = wrong.unwrap();
        for key in [
            "issuers_a_issuer",
            "issuers_a_jwks_url",
            "issuers_b_secret",
            "issuers_c_issuer",
            "issuers_c_jwks_url",
            "issuers_c_supabase",
        ] {
            assert!(wrong.contains(key), "{key}: {wrong}");
        }
        assert!(!wrong.contains("short"));
    }
}
