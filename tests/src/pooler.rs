//! Debian's pgbouncer in transaction mode before the run's cluster.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::{Child, Command, Stdio},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use tokio::{net::TcpStream, time::sleep};
use url::Url;

use crate::world::PATIENCE;

/// Debian's user that nothing belongs to; the pooler refuses to run as root.
const NOBODY: &str = "65534";

/// A running pooler. Dropping it kills it.
pub struct Pooler {
    child: Child,
    port: u16,
    dir: TempDir,
}

impl Pooler {
    /// Starts a pooler for these roles' connections; each URL leads past it and carries the role's password.
    pub async fn start(roles: &[SecretString]) -> Self {
        let dir = tempfile::tempdir().expect("a folder can be made");
        let port = free_port();
        let urls: Vec<Url> = roles
            .iter()
            .map(|it| it.expose_secret().parse().expect("a URL"))
            .collect();
        let server = urls.first().expect("there is a role");
        let (host, server_port) = (server.host_str().expect("a host"), server.port().expect("a port"));
        let users: Vec<_> = urls
            .iter()
            .map(|it| format!("\"{}\" \"{}\"", it.username(), it.password().expect("a password")))
            .collect();
        fs::write(dir.path().join("users.txt"), users.join("\n")).expect("the folder is writable");
        let config = format!(
            "[databases]\n* = host={host} port={server_port}\n\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 4\n\
             server_reset_query = DEALLOCATE ALL\nserver_reset_query_always = 1\nmax_client_conn = 500\n",
            dir.path().join("users.txt").display()
        );
        let config_file = dir.path().join("pgbouncer.ini");
        fs::write(&config_file, config).expect("the folder is writable");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if fs::metadata(dir.path()).expect("it is there").uid() == 0 {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
            command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
        }
        let child = command
            .args(["--", "/usr/sbin/pgbouncer"])
            .arg(config_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("log")).expect("the folder is writable"))
            .spawn()
            .unwrap_or_else(|error| panic!("pgbouncer: {error}; `make setup` installs it"));
        let pooler = Self { child, port, dir };
        let listening = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, listening)
            .await
            .unwrap_or_else(|_| panic!("pgbouncer does not listen:\n{}", pooler.log()));
        pooler
    }

    /// The same role's URL through the pooler, as its operator's guide asks for it.
    pub fn url(&self, role: &SecretString) -> SecretString {
        let mut url: Url = role.expose_secret().parse().expect("a URL");
        url.set_port(Some(self.port)).expect("a URL with a host");
        url.query_pairs_mut().append_pair("statement-cache-capacity", "0");
        String::from(url).into()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}
