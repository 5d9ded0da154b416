//! Authorities of a test's own, and what they certify.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use service_kit::{client::ClientTls, config::Reader};
use tempfile::TempDir;

/// A folder with an authority (`ca.pem`), and a certificate for 127.0.0.1 with its key (`cert.pem`, `key.pem`), which serves
/// and calls.
pub struct Certificates {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    /// Makes all of it anew.
    pub fn make() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Under the name that certificates have by default, OpenSSL would take those for signed by themselves.
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority of the tests");
        let key = KeyPair::generate().expect("a key");
        let made = Self {
            folder: tempfile::tempdir().expect("a folder"),
            authority: CertifiedIssuer::self_signed(params, key).expect("a certificate"),
        };
        write(&made.path("ca.pem"), &made.authority.pem());
        made.issue(made.folder.path());
        made
    }

    /// A file of the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as a setting says it.
    pub fn setting(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes a new certificate of this authority for 127.0.0.1, and its key, into a folder.
    pub fn issue(&self, folder: &Path) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
        let certificate = params.signed_by(&key, &self.authority).expect("a certificate");
        write(&folder.join("cert.pem"), &certificate.pem());
        write(&folder.join("key.pem"), &key.serialize_pem());
    }

    /// A client that believes the authority and shows the certificate where it is asked.
    pub fn client(&self) -> ClientTls {
        let setting = |key: &str, file| (key.to_owned(), self.setting(file));
        let settings = [
            setting("tls_ca", "ca.pem"),
            setting("tls_client_cert", "cert.pem"),
            setting("tls_client_key", "key.pem"),
        ];
        let mut reader = Reader::load(&["STUDIOS_TESTS_"], None, &settings);
        let tls = ClientTls::read(&mut reader);
        reader.finish().expect("the files are well");
        tls
    }
}

fn write(path: &Path, pem: &str) {
    fs::write(path, pem).expect("the folder takes files");
}
