//! core-service's settings: `STUDIOS_CORE_…` in the environment, the same keys in lower case in the file and flags.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use secrecy::SecretString;
use serde_json::Value;
use service_kit::{
    auth::{ExternalConfig, Peer},
    config::{ConfigErrors, Reader, Refused},
    keys::KeyRing,
    limits::LimitsConfig,
    outbound::AllowRule,
    server::ServerTls,
    telemetry::TelemetryConfig,
    token::USER_AUDIENCE,
};

use crate::{
    auth::AuthLimits,
    documents::{chunker::Overlap, extract},
    files::Scanner,
    mails::MailConfig,
    objects::Place,
    privacy,
};

/// All settings of core-service.
#[derive(Clone, Debug)]
pub struct Config {
    /// `listen`: where calls come in; 127.0.0.1:50051 by default.
    pub listen: SocketAddr,
    /// `tls_cert`, `tls_key`, `tls_client_ca`: TLS at that address; none by default.
    pub tls: Option<ServerTls>,
    /// `database_url`: the database, as the role that serves calls.
    pub database_url: SecretString,
    /// `worker_database_url`: the database, as the role of the background work.
    pub worker_database_url: SecretString,
    /// `database_connections`: how many the first one may open; 16 by default.
    pub database_connections: u32,
    /// `worker_database_connections`: how many the second one may open; 4 by default.
    pub worker_database_connections: u32,
    /// `key_ring`, or `key_ring_file`: the installation's root keys.
    pub key_ring: KeyRing,
    /// `issuer`: who makes the access tokens, by name; studios by default.
    pub issuer: String,
    /// `audience`: for whom they are; studios by default.
    pub audience: String,
    /// `peers`: the public keys of execution-service, as a JWK, or as a JWK set while one key follows another.
    pub peers: Vec<Peer>,
    /// `limits_…`, `trusted_peers`: how often somebody may call a replica.
    pub limits: LimitsConfig,
    /// `limits_…`: how often somebody may sign in, register or refresh, over all replicas.
    pub auth_limits: AuthLimits,
    /// `objects`, `objects_…`: where files' bytes lie; a folder by default.
    pub objects: Place,
    /// `max_file_bytes`: the largest file; 100 MiB by default.
    pub max_file_bytes: NonZeroU32,
    /// `max_document_bytes`: the longest text that is taken out of a file; 64 MiB by default.
    pub max_document_bytes: NonZeroU32,
    /// `scanner`: the host and port of a clamd that looks at files before they are seen; none by default.
    pub scanner: Option<Scanner>,
    /// `extractor`: the program that takes texts out of files; `studios-extract` beside this one by default.
    pub extractor: PathBuf,
    /// `chunk_overlap_tokens`: how much of the chunk before it a chunk repeats, 0 to 200; 40 by default.
    pub chunk_overlap: Overlap,
    /// `issuers_<name>_…`: other issuers whose tokens are accepted.
    pub issuers: ExternalConfig,
    /// `mail_…`: how mails are sent.
    pub mail: MailConfig,
    /// `outbound_allow`: the hosts and ranges that notifications may go to besides public addresses; none by default.
    pub outbound_allow: Vec<AllowRule>,
    /// `erasure_grace_hours`: for how long an erasure can be taken back; seven days by default.
    pub erasure_grace: Duration,
    /// `privacy_lease_seconds`: after how long without a word another goes on with an export or erasure, 10 to 3600; 30 by default.
    pub privacy_lease: privacy::Lease,
    /// `require_verified_email`: whether nobody signs in before he has proved his e-mail address; not by default.
    pub require_verified_email: bool,
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
        let mut reader = Reader::load(&["STUDIOS_CORE_", "STUDIOS_"], file, flags);
        let config = Self::read(&mut reader);
        reader.finish()?;
        Ok(config?)
    }

    /// Takes core-service's settings from a reader, which keeps the mistakes.
    ///
    /// # Errors
    /// A setting is missing or malformed.
    pub fn read(reader: &mut Reader) -> Result<Self, Refused> {
        let database_url = reader.secret("database_url");
        let worker_database_url = reader.secret("worker_database_url");
        let key_ring = KeyRing::read(reader);
        let peers = reader.get::<Peers>("peers");
        let listen = reader.get_or("listen", LISTEN);
        let tls = ServerTls::read(reader);
        let database_connections = reader.get_or("database_connections", CONNECTIONS);
        let worker_database_connections = reader.get_or("worker_database_connections", WORKER_CONNECTIONS);
        let issuer = reader.get_or("issuer", "studios".to_owned());
        let audience = reader.get_or("audience", USER_AUDIENCE.to_owned());
        let limits = LimitsConfig::read(reader);
        let auth_limits = AuthLimits::read(reader);
        let objects = Place::read(reader);
        let max_file_bytes = reader.get_or("max_file_bytes", FILE_BYTES);
        let max_document_bytes = reader.get_or("max_document_bytes", DOCUMENT_BYTES);
        let scanner = reader.optional("scanner");
        let extractor = reader.optional::<PathBuf>("extractor");
        let chunk_overlap = reader.get_or("chunk_overlap_tokens", Overlap::default());
        let issuers = ExternalConfig::read(reader, &issuer);
        let mail = MailConfig::read(reader);
        let outbound_allow = reader.list("outbound_allow");
        let erasure_grace = Duration::from_hours(1) * reader.get_or("erasure_grace_hours", ERASURE_GRACE_HOURS);
        let privacy_lease = reader.get_or("privacy_lease_seconds", privacy::Lease::default());
        let require_verified_email = reader.get_or("require_verified_email", false);
        let reflection = reader.get_or("reflection", false);
        let telemetry = TelemetryConfig::read(reader);
        Ok(Self {
            listen,
            tls,
            database_url: database_url?,
            worker_database_url: worker_database_url?,
            database_connections: database_connections.get(),
            worker_database_connections: worker_database_connections.get(),
            key_ring: key_ring?,
            issuer,
            audience,
            peers: peers?.0,
            limits,
            auth_limits,
            objects,
            max_file_bytes,
            max_document_bytes,
            scanner,
            extractor: extractor.unwrap_or_else(extract::beside_this_program),
            chunk_overlap,
            issuers,
            mail,
            outbound_allow,
            erasure_grace,
            privacy_lease,
            require_verified_email,
            reflection,
            telemetry,
        })
    }
}

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 50051);
const CONNECTIONS: NonZeroU32 = NonZeroU32::new(16).expect("it is not zero");
const FILE_BYTES: NonZeroU32 = NonZeroU32::new(100 << 20).expect("it is not zero");
const DOCUMENT_BYTES: NonZeroU32 = NonZeroU32::new(64 << 20).expect("it is not zero");
const ERASURE_GRACE_HOURS: u32 = 7 * 24;
const WORKER_CONNECTIONS: NonZeroU32 = NonZeroU32::new(4).expect("it is not zero");

struct Peers(Vec<Peer>);

/// The text is neither a JWK nor a JWK set, or a key in it is of another kind than ours.
#[derive(Debug, thiserror::Error)]
#[error("must be a public P-256 key as a JWK, or several as a JWK set")]
struct NoKeys;

impl FromStr for Peers {
    type Err = NoKeys;

    fn from_str(text: &str) -> Result<Self, NoKeys> {
        let mut given: Value = serde_json::from_str(text).map_err(|_| NoKeys)?;
        let keys = match given.get_mut("keys").map(Value::take) {
            Some(Value::Array(keys)) => keys,
            Some(_) => return Err(NoKeys),
            None => vec![given],
        };
        keys.into_iter()
            .map(peer)
            .collect::<Option<_>>()
            .map(Self)
            .ok_or(NoKeys)
    }
}

fn peer(key: Value) -> Option<Peer> {
    let is_p256 = key.get("kty")? == "EC" && key.get("crv")? == "P-256";
    let key = serde_json::from_value(key).ok().filter(|_| is_p256)?;
    Some(Peer {
        name: "execution-service".into(),
        key,
    })
}

#[cfg(test)]
mod tests {
    use service_kit::keys::SigningKey;

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
        let jwk = serde_json::to_string(&SigningKey::generate().public_jwk()).unwrap();
        let config = load(&[
            ("database_url", "postgres://core@db/studios"),
            ("worker_database_url", "postgres://worker@db/studios"),
            ("key_ring", RING),
            ("peers", &jwk),
        ])
        .unwrap();
        assert_eq!(config.listen, LISTEN);
        assert_eq!(
            (config.issuer.as_str(), config.audience.as_str()),
            ("studios", "studios")
        );
        assert_eq!(config.peers.len(), 1);
        assert!(!config.reflection);
        assert!(!format!("{config:?}").contains("postgres://"), "secrets are not shown");
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let told = load(&[
            ("listen", "x"),
            ("key_ring", "short"),
            ("peers", "{}"),
            ("database_connections", "0"),
            ("privacy_lease_seconds", "9"),
        ]);
        let told = told.unwrap_err().to_string();
        for key in [
            "listen",
            "database_url",
            "worker_database_url",
            "key_ring",
            "peers",
            "database_connections",
            "privacy_lease_seconds",
        ] {
            assert!(told.contains(&format!("\n  {key} (")), "{key}: {told}");
        }
        assert!(!told.contains("short"), "{told}");
    }

    #[test]
    fn two_keys_are_believed_while_one_follows_the_other() {
        let keys = [SigningKey::generate(), SigningKey::generate()].map(|it| it.public_jwk());
        let set = serde_json::json!({ "keys": keys }).to_string();
        assert_eq!(set.parse::<Peers>().ok().map(|it| it.0.len()), Some(2));
        for wrong in [
            "",
            "{}",
            "[]",
            r#"{"keys":1}"#,
            r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
        ] {
            assert!(wrong.parse::<Peers>().is_err(), "{wrong}");
        }
    }
}
