//! execution-service's settings: `STUDIOS_EXECUTION_…` in the environment, the same keys in lower case in the file and flags.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::Path,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret, SecretString};
use service_kit::{
    auth::ExternalConfig,
    client::ClientTls,
    config::{ConfigErrors, Reader, Refused},
    keys::{KeyError, KeyRing, SigningKey},
    limits::{Limit, LimitsConfig},
    outbound::AllowRule,
    server::ServerTls,
    telemetry::TelemetryConfig,
    token::USER_AUDIENCE,
};
use url::Url;
use zeroize::Zeroizing;

use crate::{providers::ProvidersConfig, start_rate};

/// All settings of execution-service.
#[derive(Debug)]
pub struct Config {
    /// `listen`: where calls come in; 127.0.0.1:50052 by default.
    pub listen: SocketAddr,
    /// `tls_cert`, `tls_key`, `tls_client_ca`: TLS at that address; none by default.
    pub tls: Option<ServerTls>,
    /// `advertised_address`: where the other replicas reach this one; the bound address by default.
    pub advertised_address: Option<String>,
    /// `database_url`: the database, as the role that serves calls.
    pub database_url: SecretString,
    /// `engine_database_url`: the database, as the role of the engine.
    pub engine_database_url: SecretString,
    /// `database_connections`: how many the first one may open; 16 by default.
    pub database_connections: u32,
    /// `engine_database_connections`: how many the second one may open; 8 by default.
    pub engine_database_connections: u32,
    /// `core_url`: where core-service is.
    pub core_url: Url,
    /// `tls_ca`, `tls_client_cert`, `tls_client_key`: TLS of the calls to `https` addresses.
    pub client_tls: ClientTls,
    /// `key_ring`, or `key_ring_file`: the installation's root keys.
    pub key_ring: KeyRing,
    /// `service_key`: the private key that signs this service's tokens, PKCS#8 as PEM or in base64.
    pub service_key: SigningKey,
    /// `issuer`: who makes the access tokens, by name; studios by default.
    pub issuer: String,
    /// `audience`: for whom they are; studios by default.
    pub audience: String,
    /// `max_running`: how many executions this process runs at a time; 256 by default.
    pub max_running: u32,
    /// `issuers_<name>_…`: other issuers whose tokens are accepted; the same as core-service's.
    pub issuers: ExternalConfig,
    /// `providers_<name>_…`: the model providers beside the offline one.
    pub providers: ProvidersConfig,
    /// `outbound_allow`: the hosts and ranges that workflows may call besides public addresses; none by default.
    pub outbound_allow: Vec<AllowRule>,
    /// `public_url`: where others reach the gateway, which flows call back at their ends; without it nothing calls back.
    pub public_url: Option<Url>,
    /// `limits_…`, `trusted_peers`: how often somebody may call a replica.
    pub limits: LimitsConfig,
    /// `limits_starts`: the runs that a company may start, over all replicas; `100/s burst 1000` by default, `off` for no
    /// limit.
    pub start_limit: Limit,
    /// `reflection`: whether the contracts can be asked for; not by default.
    pub reflection: bool,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
}

impl Config {
    /// Reads the file, the environment and the flags.
    ///
    /// # Errors
    /// All mistakes in them.
    pub fn load(file: Option<&Path>, flags: &[(String, String)]) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::load(&["STUDIOS_EXECUTION_", "STUDIOS_"], file, flags);
        let config = Self::read(&mut reader);
        reader.finish()?;
        Ok(config?)
    }

    /// Takes execution-service's settings from a reader, which keeps the mistakes.
    ///
    /// # Errors
    /// A setting is missing or malformed.
    pub fn read(reader: &mut Reader) -> Result<Self, Refused> {
        let database_url = reader.secret("database_url");
        let engine_database_url = reader.secret("engine_database_url");
        let core_url = reader.get("core_url");
        let key_ring = KeyRing::read(reader);
        let service_key = service_key(reader);
        let listen = reader.get_or("listen", LISTEN);
        let tls = ServerTls::read(reader);
        let client_tls = ClientTls::read(reader);
        let advertised_address = reader.optional("advertised_address");
        let database_connections = reader.get_or("database_connections", CONNECTIONS);
        let engine_database_connections = reader.get_or("engine_database_connections", ENGINE_CONNECTIONS);
        let issuer = reader.get_or("issuer", "studios".to_owned());
        let audience = reader.get_or("audience", USER_AUDIENCE.to_owned());
        let max_running = reader.get_or("max_running", MAX_RUNNING);
        let issuers = ExternalConfig::read(reader, &issuer);
        let providers = ProvidersConfig::read(reader);
        let outbound_allow = reader.list("outbound_allow");
        let public_url = reader.optional("public_url");
        let limits = LimitsConfig::read(reader);
        let start_limit = reader.get_or("limits_starts", start_rate::DEFAULT);
        let reflection = reader.get_or("reflection", false);
        let telemetry = TelemetryConfig::read(reader);
        Ok(Self {
            listen,
            tls,
            advertised_address,
            database_url: database_url?,
            engine_database_url: engine_database_url?,
            database_connections: database_connections.get(),
            engine_database_connections: engine_database_connections.get(),
            core_url: core_url?,
            client_tls,
            key_ring: key_ring?,
            service_key: service_key?,
            issuer,
            audience,
            max_running: max_running.get(),
            issuers,
            providers,
            outbound_allow,
            public_url,
            limits,
            start_limit,
            reflection,
            telemetry,
        })
    }
}

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 50052);
const CONNECTIONS: NonZeroU32 = NonZeroU32::new(16).expect("it is not zero");
const ENGINE_CONNECTIONS: NonZeroU32 = NonZeroU32::new(8).expect("it is not zero");
const MAX_RUNNING: NonZeroU32 = NonZeroU32::new(256).expect("it is not zero");

fn service_key(reader: &mut Reader) -> Result<SigningKey, Refused> {
    let text = reader.secret("service_key")?;
    signing_key(text.expose_secret()).map_err(|error| reader.reject("service_key", error))
}

/// Reads PKCS#8 as PEM, or its base64 alone: what stands between PEM's two marking lines.
fn signing_key(text: &str) -> Result<SigningKey, KeyError> {
    let base64: String = text
        .lines()
        .map(str::trim)
        .filter(|it| !it.starts_with("-----"))
        .collect();
    let der = BASE64_STANDARD
        .decode(Zeroizing::new(base64).as_bytes())
        .map_err(|_| KeyError::SigningKey)?;
    SigningKey::from_pkcs8(&Zeroizing::new(der))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RING: &str = "0101010101010101010101010101010101010101010101010101010101010101";

    fn load(flags: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
        let flags: Vec<_> = flags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Config::load(None, &flags)
    }

    #[test]
    fn what_must_be_set_suffices() {
        let key = BASE64_STANDARD.encode(SigningKey::generate().to_pkcs8().as_slice());
        let config = load(&[
            ("database_url", "postgres://execution@db/studios"),
            ("engine_database_url", "postgres://engine@db/studios"),
            ("core_url", "http://core:50051"),
            ("key_ring", RING),
            ("service_key", &key),
        ])
        .unwrap();
        assert_eq!((config.listen, config.advertised_address.as_deref()), (LISTEN, None));
        assert_eq!(
            (config.issuer.as_str(), config.audience.as_str()),
            ("studios", "studios")
        );
        assert!(!config.reflection && config.outbound_allow.is_empty());
        let shown = format!("{config:?}");
        assert!(
            !shown.contains("postgres://") && !shown.contains(&key),
            "secrets are not shown"
        );
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let told = load(&[
            ("listen", "x"),
            ("key_ring", "short"),
            ("service_key", "c2hvcnQ="),
            ("max_running", "0"),
            ("outbound_allow", "crm.example, http://c2hvcnQ=.example, 10.0.0.0/8:0"),
        ]);
        let told = told.unwrap_err().to_string();
        let keys = [
            "listen",
            "database_url",
            "engine_database_url",
            "core_url",
            "key_ring",
            "service_key",
            "max_running",
            "outbound_allow",
        ];
        for key in keys {
            assert!(told.contains(&format!("\n  {key} (")), "{key}: {told}");
        }
        assert!(!told.contains("short") && !told.contains("c2hvcnQ="), "{told}");
    }

    #[test]
    fn a_key_comes_as_pem_or_in_base64() {
        let key = SigningKey::generate();
        let base64 = BASE64_STANDARD.encode(key.to_pkcs8().as_slice());
        let (first, rest) = base64.split_at(64);
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{first}\n{rest}\n-----END PRIVATE KEY-----\n");
        for text in [&base64, &pem] {
            assert_eq!(signing_key(text).unwrap().kid(), key.kid());
        }
        assert!(signing_key("").is_err());
    }
}
