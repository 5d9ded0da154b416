//! TLS between a server and its clients: whom each believes, what is renewed while it runs, and what does not hold it up.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use service_kit::{
    auth::{AuthLayer, Door, StaticJwks, UserTokens, Verifier},
    client::{self, ClientTls},
    clock::SystemClock,
    config::Reader,
    lifecycle::Lifecycle,
    server::{Health, Listener, Routes, ServerOptions, ServerTls, serve},
    token::USER_AUDIENCE,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const TIMEOUT: Duration = Duration::from_secs(20);

/// An authority, whose certificate lies in a file of its name.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn make(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.join(name), issuer.pem()).unwrap();
        Self(issuer)
    }

    /// Writes a certificate of this authority for 127.0.0.1, and its key.
    fn issue(&self, cert: &Path, key: &Path) {
        let pair = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        fs::write(cert, params.signed_by(&pair, &self.0).unwrap().pem()).unwrap();
        fs::write(key, pair.serialize_pem()).unwrap();
    }
}

/// A folder with two authorities: `ours` has issued the server's certificate, `theirs` has nothing to do with it.
struct Folder {
    dir: TempDir,
    ours: Authority,
    theirs: Authority,
}

impl Folder {
    fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (
            Authority::make(dir.path(), "ours"),
            Authority::make(dir.path(), "theirs"),
        );
        ours.issue(&dir.path().join("cert"), &dir.path().join("key"));
        Self { dir, ours, theirs }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Settings of TLS, each the name of a file in the folder.
    fn reader(&self, settings: &[(&str, &str)]) -> Reader {
        let flags: Vec<_> = settings
            .iter()
            .map(|(key, file)| ((*key).to_owned(), self.path(file).display().to_string()))
            .collect();
        Reader::load(&["STUDIOS_TLS_TEST_"], None, &flags)
    }

    fn server(&self, settings: &[(&str, &str)]) -> ServerTls {
        let mut reader = self.reader(&[&[("tls_cert", "cert"), ("tls_key", "key")], settings].concat());
        let tls = ServerTls::read(&mut reader);
        reader.finish().unwrap();
        tls.unwrap()
    }

    fn client(&self, settings: &[(&str, &str)]) -> ClientTls {
        let mut reader = self.reader(settings);
        let tls = ClientTls::read(&mut reader);
        reader.finish().unwrap();
        tls
    }

    /// What is wrong with these settings.
    fn told(&self, settings: &[(&str, &str)]) -> String {
        let mut reader = self.reader(settings);
        ServerTls::read(&mut reader);
        ClientTls::read(&mut reader);
        reader.finish().unwrap_err().to_string()
    }
}

/// A server that answers for its health alone.
async fn server(tls: ServerTls) -> (SocketAddr, Lifecycle) {
    let lifecycle = Lifecycle::new();
    let users = UserTokens {
        issuer: "studios".into(),
        audience: USER_AUDIENCE.into(),
        keys: Arc::new(StaticJwks(r#"{"keys":[]}"#.into())),
    };
    let verifier = Verifier::new(users, [], Arc::new(SystemClock)).unwrap();
    let auth = AuthLayer::new(Arc::new(verifier), |_| Door::Member);
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let listener = listener.with_tls(Some(tls));
    assert_eq!(listener.scheme(), "https");
    let address = listener.local_addr();
    let health = Health::new();
    health.set(&[], true).await;
    let options = ServerOptions {
        health,
        ..ServerOptions::default()
    };
    let serving = serve(listener, Routes::default(), auth, lifecycle.clone(), options);
    lifecycle.spawn("server", serving);
    (address, lifecycle)
}

async fn call(channel: Channel) -> Result<(), Code> {
    let request = client::call(None, None, HealthCheckRequest::default(), TIMEOUT);
    let answer = timeout(TIMEOUT, HealthClient::new(channel).check(request))
        .await
        .unwrap();
    answer.map(drop).map_err(|status| status.code())
}

async fn https(tls: &ClientTls, address: SocketAddr) -> Result<(), Code> {
    call(tls.channel(&format!("https://{address}").parse().unwrap()).unwrap()).await
}

#[tokio::test]
async fn a_server_is_believed_by_who_believes_its_authority_and_by_nobody_else() {
    let folder = Folder::make();
    let (address, _lifecycle) = server(folder.server(&[])).await;
    assert_eq!(https(&folder.client(&[("tls_ca", "ours")]), address).await, Ok(()));
    for wrong in [folder.client(&[("tls_ca", "theirs")]), ClientTls::default()] {
        assert_eq!(https(&wrong, address).await, Err(Code::Unavailable));
    }
    let ours = folder.client(&[("tls_ca", "ours")]);
    let other_name = format!("https://localhost:{}", address.port()).parse().unwrap();
    assert_eq!(call(ours.channel(&other_name).unwrap()).await, Err(Code::Unavailable));
}

#[tokio::test]
async fn plain_text_at_a_port_of_tls_is_hung_up_on_and_harms_nobody() {
    let folder = Folder::make();
    let (address, _lifecycle) = server(folder.server(&[])).await;
    let plain = client::channel(&format!("http://{address}").parse().unwrap()).unwrap();
    assert!(call(plain).await.is_err());

    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    // Hung up on, by an end or by a reset.
    let _ = timeout(TIMEOUT, socket.read_to_end(&mut said)).await.unwrap();
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    assert_eq!(https(&folder.client(&[("tls_ca", "ours")]), address).await, Ok(()));
}

#[tokio::test]
async fn who_has_to_show_a_certificate_is_served_with_one_of_the_right_authority_only() {
    let folder = Folder::make();
    let own = [
        ("tls_client_cert", "own"),
        ("tls_client_key", "own_key"),
        ("tls_ca", "ours"),
    ];
    folder.ours.issue(&folder.path("own"), &folder.path("own_key"));
    let (address, _lifecycle) = server(folder.server(&[("tls_client_ca", "ours")])).await;
    let client = folder.client(&own);
    assert_eq!(https(&client, address).await, Ok(()));
    // Who has none learns that only after his own part of the handshake.
    assert!(https(&folder.client(&[("tls_ca", "ours")]), address).await.is_err());

    // The client's files are read at every connecting.
    folder.theirs.issue(&folder.path("own"), &folder.path("own_key"));
    assert!(https(&client, address).await.is_err());
    folder.ours.issue(&folder.path("own"), &folder.path("own_key"));
    assert_eq!(https(&client, address).await, Ok(()));
    fs::write(folder.path("own_key"), "half").unwrap();
    assert_eq!(https(&client, address).await, Ok(()), "what was there before stays");
}

#[tokio::test]
async fn a_slow_handshake_holds_up_nobody() {
    let folder = Folder::make();
    let (address, _lifecycle) = server(folder.server(&[])).await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        let mut socket = TcpStream::connect(address).await.unwrap();
        // The beginning of a handshake record that never ends.
        socket.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
        silent.push(socket);
    }
    assert_eq!(https(&folder.client(&[("tls_ca", "ours")]), address).await, Ok(()));
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart_and_a_half_renewed_one_is_not() {
    let folder = Folder::make();
    let tls = folder.server(&[]);
    let (address, _lifecycle) = server(tls.clone()).await;
    let ours = folder.client(&[("tls_ca", "ours")]);
    let theirs = folder.client(&[("tls_ca", "theirs")]);
    let open = ours.channel(&format!("https://{address}").parse().unwrap()).unwrap();
    assert_eq!(call(open.clone()).await, Ok(()));
    assert!(!tls.reload(), "nothing has changed");

    folder.theirs.issue(&folder.path("cert"), &folder.path("new_key"));
    assert!(!tls.reload(), "the key is still the old one");
    assert_eq!(https(&ours, address).await, Ok(()));

    fs::rename(folder.path("new_key"), folder.path("key")).unwrap();
    assert!(tls.reload());
    assert_eq!(https(&theirs, address).await, Ok(()));
    assert_eq!(https(&ours, address).await, Err(Code::Unavailable));
    assert_eq!(call(open).await, Ok(()), "a connection that is open stays");
}

#[test]
fn what_is_wrong_with_the_files_is_told_by_the_setting() {
    let folder = Folder::make();
    folder.theirs.issue(&folder.path("other"), &folder.path("other_key"));
    fs::write(folder.path("text"), "not PEM").unwrap();
    for (settings, key, said) in [
        (&[("tls_cert", "cert")][..], "tls_key", "is missing"),
        (&[("tls_key", "key")], "tls_cert", "is missing"),
        (&[("tls_client_ca", "ours")], "tls_client_ca", "needs tls_cert"),
        (
            &[("tls_cert", "none"), ("tls_key", "key")],
            "tls_cert",
            "cannot be read",
        ),
        (
            &[("tls_cert", "text"), ("tls_key", "key")],
            "tls_cert",
            "no certificate",
        ),
        (
            &[("tls_cert", "cert"), ("tls_key", "text")],
            "tls_key",
            "no private key",
        ),
        (
            &[("tls_cert", "cert"), ("tls_key", "other_key")],
            "tls_key",
            "does not belong",
        ),
        (&[("tls_ca", "none")], "tls_ca", "cannot be read"),
        (&[("tls_client_cert", "cert")], "tls_client_key", "is missing"),
        (
            &[("tls_client_cert", "cert"), ("tls_client_key", "other_key")],
            "tls_client_key",
            "does not belong",
        ),
    ] {
        let told = folder.told(settings);
        assert!(
            told.contains(&format!("\n  {key} (")) && told.contains(said),
            "{settings:?}: {told}"
        );
    }
    let both = folder.told(&[("tls_cert", "none"), ("tls_key", "key"), ("tls_ca", "none")]);
    assert!(both.contains("tls_cert (") && both.contains("tls_ca ("), "{both}");
}
