//! Certificates and keys from PEM files, for both ends of TLS.

use std::{fs, io, path::Path, sync::Arc};

use tokio_rustls::rustls::{
    self, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// Why a file of TLS cannot be used. It never shows what is in the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PemError {
    #[error("the file cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("the file holds no certificate in PEM")]
    NoCertificate,
    #[error("the file holds no private key in PEM")]
    NoKey,
    #[error("the key does not belong to the certificate")]
    Mismatch,
    #[error("the certificate cannot be used: {0}")]
    Unusable(rustls::Error),
    #[error("callers cannot be judged by these certificates: {0}")]
    Unverifiable(String),
}

impl From<rustls::Error> for PemError {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InconsistentKeys(_) => Self::Mismatch,
            error => Self::Unusable(error),
        }
    }
}

/// A mistake, and the setting that names the file.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {error}")]
pub(crate) struct Fault {
    pub(crate) setting: &'static str,
    #[source]
    pub(crate) error: PemError,
}

/// Names the setting of what failed.
pub(crate) fn at<E: Into<PemError>>(setting: &'static str) -> impl FnOnce(E) -> Fault {
    move |error| Fault {
        setting,
        error: error.into(),
    }
}

/// All certificates of a file, in its order; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let pem = fs::read(path)?;
    let all: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| PemError::NoCertificate)?;
    if all.is_empty() {
        return Err(PemError::NoCertificate);
    }
    Ok(all)
}

/// The first private key of a file: PKCS#8, SEC1 or PKCS#1.
pub(crate) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let pem = zeroize::Zeroizing::new(fs::read(path)?);
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| PemError::NoKey)
}

/// Certificates as those that others are judged by.
pub(crate) fn root_store(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// The one crypto provider of the product.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
