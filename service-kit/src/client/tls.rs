//! TLS of a client: whose certificates it believes, and the one it shows where it is asked.
//!
//! The system's authorities are believed, and those of a file besides. The files are read at every connecting, which is rare, so that a
//! certificate can be renewed while the process runs; files that cannot be used at that moment leave those before in force.

use std::{
    error::Error as StdError,
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwapOption;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName},
    },
};

use crate::{
    config::Reader,
    pem::{self, Fault, at},
};

const CA: &str = "tls_ca";
const CERT: &str = "tls_client_cert";
const KEY: &str = "tls_client_key";

/// gRPC is HTTP/2.
const PROTOCOL: &[u8] = b"h2";

/// A client's TLS; clones share it. The default believes the system's authorities and shows no certificate.
#[derive(Clone, Default)]
pub struct ClientTls(Arc<Inner>);

#[derive(Default)]
struct Inner {
    files: Files,
    system: OnceLock<Vec<CertificateDer<'static>>>,
    last: ArcSwapOption<ClientConfig>,
}

#[derive(Debug, Default)]
struct Files {
    ca: Option<PathBuf>,
    own: Option<(PathBuf, PathBuf)>,
}

impl ClientTls {
    /// Takes `tls_ca` (authorities to believe besides the system's), `tls_client_cert` and `tls_client_key` from a reader, which keeps
    /// the mistakes.
    pub fn read(reader: &mut Reader) -> Self {
        let ca = reader.optional(CA);
        let own = match (reader.optional(CERT), reader.optional(KEY)) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => {
                reader.reject(KEY, "is missing: tls_client_cert is set");
                None
            }
            (None, Some(_)) => {
                reader.reject(CERT, "is missing: tls_client_key is set");
                None
            }
        };
        let tls = Self(Arc::new(Inner {
            files: Files { ca, own },
            ..Inner::default()
        }));
        if (tls.0.files.ca.is_some() || tls.0.files.own.is_some())
            && let Err(fault) = tls.load()
        {
            reader.reject(fault.setting, fault.error);
        }
        tls
    }

    /// Connects to an `https` address and does the handshake.
    pub(super) async fn connect(
        self,
        uri: Uri,
    ) -> Result<TokioIo<TlsStream<TcpStream>>, Box<dyn StdError + Send + Sync>> {
        let host = uri.host().ok_or("no host")?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
        stream.set_nodelay(true)?;
        let config = tokio::task::spawn_blocking(move || self.current()).await??;
        let stream = TlsConnector::from(config)
            .connect(ServerName::try_from(host)?, stream)
            .await?;
        if stream.get_ref().1.alpn_protocol() != Some(PROTOCOL) {
            return Err("the server does not speak HTTP/2".into());
        }
        Ok(TokioIo::new(stream))
    }

    /// What the files say now, or where they cannot be used, what they said last.
    fn current(&self) -> Result<Arc<ClientConfig>, Fault> {
        self.load().or_else(|fault| {
            tracing::warn!(error = %fault, "TLS files not renewed: those before stay");
            self.0.last.load_full().ok_or(fault)
        })
    }

    fn load(&self) -> Result<Arc<ClientConfig>, Fault> {
        let mut roots = match &self.0.files.ca {
            Some(path) => pem::certificates(path).and_then(pem::root_store).map_err(at(CA))?,
            None => RootCertStore::empty(),
        };
        let system = self
            .0
            .system
            .get_or_init(|| rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(system.iter().cloned());
        let builder = ClientConfig::builder_with_provider(pem::provider())
            .with_safe_default_protocol_versions()
            .map_err(at(CA))?
            .with_root_certificates(roots);
        let mut config = match &self.0.files.own {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = pem::certificates(cert).map_err(at(CERT))?;
                let key = pem::key(key).map_err(at(KEY))?;
                builder.with_client_auth_cert(chain, key).map_err(at(KEY))?
            }
        };
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        let config = Arc::new(config);
        self.0.last.store(Some(config.clone()));
        Ok(config)
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.files.fmt(f)
    }
}
