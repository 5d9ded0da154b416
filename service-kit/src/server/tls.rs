//! TLS of a server: its certificate, whom it asks for one, and how both are renewed while it runs.
//!
//! The files are read with the configuration, so that a mistake in them is told before any port is bound, and read again
//! every minute: a connection that comes after they have changed gets the new certificate, one that is open keeps the old
//! one. Files that cannot be used (a key that is half written) change nothing until they can.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer},
        server::WebPkiClientVerifier,
    },
};
use tokio_util::sync::CancellationToken;

use super::Connection;
use crate::{
    config::Reader,
    pem::{self, Fault, at},
};

/// How long a caller may take for the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

const RELOAD_MS: u64 = 60_000;

const CERT: &str = "tls_cert";
const KEY: &str = "tls_key";
const CLIENT_CA: &str = "tls_client_ca";

/// A server's TLS; clones share what is in force.
#[derive(Clone)]
pub struct ServerTls(Arc<Inner>);

struct Inner {
    files: Files,
    reload: Duration,
    now: ArcSwap<Loaded>,
}

/// Where the certificate is, its key, and the authorities of callers' certificates where callers must have one.
#[derive(Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// What the files held, and what was made of it.
struct Loaded {
    material: Material,
    config: Arc<ServerConfig>,
}

#[derive(PartialEq)]
struct Material {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_ca: Vec<CertificateDer<'static>>,
}

impl ServerTls {
    /// Takes `tls_cert`, `tls_key`, `tls_client_ca` (callers must show a certificate of these authorities) and `tls_reload_ms`
    /// from a reader, which keeps the mistakes. No TLS where they are not set.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        let cert: Option<PathBuf> = reader.optional(CERT);
        let key: Option<PathBuf> = reader.optional(KEY);
        let client_ca: Option<PathBuf> = reader.optional(CLIENT_CA);
        let reload = reader.get_or("tls_reload_ms", RELOAD_MS);
        let (cert, key) = match (cert, key) {
            (Some(cert), Some(key)) => (cert, key),
            (None, None) => {
                if client_ca.is_some() {
                    reader.reject(CLIENT_CA, "needs tls_cert and tls_key beside it");
                }
                return None;
            }
            (Some(_), None) => {
                reader.reject(KEY, "is missing: tls_cert is set");
                return None;
            }
            (None, Some(_)) => {
                reader.reject(CERT, "is missing: tls_key is set");
                return None;
            }
        };
        let files = Files { cert, key, client_ca };
        match files.material().and_then(|material| files.load(material)) {
            Ok(loaded) => Some(Self(Arc::new(Inner {
                files,
                reload: Duration::from_millis(reload.max(1)),
                now: ArcSwap::from_pointee(loaded),
            }))),
            Err(fault) => {
                reader.reject(fault.setting, fault.error);
                None
            }
        }
    }

    /// Does the handshake with a caller, in bounded time.
    ///
    /// # Errors
    /// The caller speaks something else, has no certificate that is asked for, or is too slow.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Connection> {
        let acceptor = TlsAcceptor::from(self.0.now.load().config.clone());
        match timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(stream) => Ok(Connection::Tls(Box::new(stream?))),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Follows the files until the process stops softly.
    pub async fn keep_fresh(self, soft: CancellationToken) {
        while let Some(()) = soft.run_until_cancelled(tokio::time::sleep(self.0.reload)).await {
            let tls = self.clone();
            // A panic in there is no reason to serve no more.
            let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
        }
    }

    /// Takes the files as they are now; returns whether they were others than those in force. Blocks for as long as reading
    /// them takes.
    pub fn reload(&self) -> bool {
        let loaded = self.0.files.material().and_then(|material| {
            if material == self.0.now.load().material {
                return Ok(None);
            }
            self.0.files.load(material).map(Some)
        });
        match loaded {
            Ok(Some(loaded)) => {
                self.0.now.store(Arc::new(loaded));
                tracing::info!("certificate renewed");
                true
            }
            Ok(None) => false,
            Err(fault) => {
                tracing::warn!(error = %fault, "certificate not renewed: the one before stays");
                false
            }
        }
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.files.fmt(f)
    }
}

impl Files {
    fn material(&self) -> Result<Material, Fault> {
        Ok(Material {
            chain: pem::certificates(&self.cert).map_err(at(CERT))?,
            key: pem::key(&self.key).map_err(at(KEY))?,
            client_ca: match &self.client_ca {
                Some(path) => pem::certificates(path).map_err(at(CLIENT_CA))?,
                None => Vec::new(),
            },
        })
    }

    fn load(&self, material: Material) -> Result<Loaded, Fault> {
        let builder = ServerConfig::builder_with_provider(pem::provider())
            .with_safe_default_protocol_versions()
            .map_err(at(CERT))?;
        let builder = if self.client_ca.is_none() {
            builder.with_no_client_auth()
        } else {
            let roots = pem::root_store(material.client_ca.clone()).map_err(at(CLIENT_CA))?;
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), pem::provider())
                .build()
                .map_err(|error| pem::PemError::Unverifiable(error.to_string()))
                .map_err(at(CLIENT_CA))?;
            builder.with_client_cert_verifier(verifier)
        };
        let mut config = builder
            .with_single_cert(material.chain.clone(), material.key.clone_key())
            .map_err(at(KEY))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Loaded {
            material,
            config: Arc::new(config),
        })
    }
}
