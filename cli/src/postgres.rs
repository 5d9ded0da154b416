//! A private PostgreSQL cluster: found, made, started, and ended with the process that started it.
//!
//! It listens on loopback alone, asks for a password, and runs as an unprivileged user (PostgreSQL refuses root). Where
//! `setpriv` exists the kernel ends the server with the thread that started it, so that not even kill -9 leaves one behind;
//! that is why a thread of its own starts it and waits for it.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use secrecy::{ExposeSecret, SecretString};
use service_kit::clock::{Clock, SystemClock};

const READY_WITHIN: Duration = Duration::from_mins(1);
const STOPPED_WITHIN: Duration = Duration::from_secs(20);

/// How a cluster trades durability for speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// PostgreSQL's defaults: what is answered is on disk.
    Full,
    /// Nothing is flushed: for tests, which throw the cluster away.
    None,
}

/// A running server with its administrative address. Dropping it stops the server.
#[derive(Debug)]
pub struct Cluster {
    port: u16,
    password: SecretString,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Cluster {
    /// Starts the cluster below `dir`, making it first where there is none, with the superuser's password.
    pub fn start(dir: &Path, password: &SecretString, durability: Durability) -> Result<Self> {
        Self::start_with(&find_binaries()?, dir, password, durability)
    }

    /// The same with PostgreSQL's programs that are in a folder.
    pub fn start_with(binaries: &Path, dir: &Path, password: &SecretString, durability: Durability) -> Result<Self> {
        let user = Unprivileged::find()?;
        let data = user.place(dir)?;
        if !data.join("PG_VERSION").exists() {
            make(binaries, &data, &user, password)?;
        }
        let (port, stop, thread) = serve(binaries, &data, &user, durability)?;
        Ok(Self {
            port,
            password: password.clone(),
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The administrative URL of one of its databases, over TCP.
    pub fn url(&self, database: &str) -> SecretString {
        url(&self.password, self.port, database)
    }

    /// The administrative URL of a database of the cluster below `dir`, if a server serves it: another process's.
    pub fn running(dir: &Path, password: &SecretString, database: &str) -> Result<Option<SecretString>> {
        let data = Unprivileged::find()?.place(dir)?;
        if running_server(&data).is_none() {
            return Ok(None);
        }
        let state = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        let port = state.lines().nth(3).and_then(|it| it.trim().parse().ok());
        Ok(port.map(|port| url(password, port, database)))
    }
}

fn url(password: &SecretString, port: u16, database: &str) -> SecretString {
    let password = password.expose_secret();
    format!("postgres://postgres:{password}@127.0.0.1:{port}/{database}").into()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread's panic has been reported by itself.
            let _ = thread.join();
        }
    }
}

/// Where initdb and postgres are: in `STUDIOS_POSTGRES`, else the newest of /usr/lib/postgresql, else on PATH.
pub fn find_binaries() -> Result<PathBuf> {
    if let Some(told) = std::env::var_os("STUDIOS_POSTGRES") {
        let bin = PathBuf::from(told);
        if !has_programs(&bin) {
            bail!(
                "STUDIOS_POSTGRES: neither initdb nor postgres may be missing in {}",
                bin.display()
            );
        }
        return Ok(bin);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    debian.sort_by_key(|bin| std::cmp::Reverse(major_version(bin)));
    debian
        .into_iter()
        .chain(std::env::split_paths(&path))
        .find(|bin| has_programs(bin))
        .context("PostgreSQL (initdb, postgres) is neither in /usr/lib/postgresql nor on PATH: install it, or set DATABASE_URL")
}

fn has_programs(bin: &Path) -> bool {
    bin.join("initdb").exists() && bin.join("postgres").exists()
}

fn major_version(bin: &Path) -> u32 {
    bin.parent()
        .and_then(Path::file_name)
        .and_then(|name| name.to_str())
        .and_then(|name| name.parse().ok())
        .unwrap_or(0)
}

/// Who runs the server: the current user, or where that is root an unprivileged one.
struct Unprivileged(Option<(u32, u32)>);

impl Unprivileged {
    fn find() -> Result<Self> {
        let own = fs::metadata("/proc/self").context("reading the current user")?;
        if std::os::unix::fs::MetadataExt::uid(&own) != 0 {
            return Ok(Self(None));
        }
        let accounts = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| account(&accounts, name))
            .map(|ids| Self(Some(ids)))
            .context("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")
    }

    fn apply<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        match self.0 {
            Some((uid, gid)) => command.uid(uid).gid(gid),
            None => command,
        }
    }

    /// The data directory: below `dir`, or in /var/lib/studios where the server's user cannot reach `dir`.
    fn place(&self, dir: &Path) -> Result<PathBuf> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        let Some((uid, gid)) = self.0 else {
            return Ok(dir.join("postgres"));
        };
        let reachable = dir
            .ancestors()
            .all(|part| fs::metadata(part).is_ok_and(|it| it.permissions().mode() & 0o001 != 0));
        let home = if reachable {
            dir
        } else {
            use sha2::{Digest, Sha256};
            let name = hex::encode(&Sha256::digest(dir.as_os_str().as_encoded_bytes())[..8]);
            PathBuf::from("/var/lib/studios").join(name)
        };
        let data = home.join("postgres");
        fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
        std::os::unix::fs::chown(&data, Some(uid), Some(gid))?;
        Ok(data)
    }
}

fn account(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn make(binaries: &Path, data: &Path, user: &Unprivileged, password: &SecretString) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    std::io::Write::write_all(&mut file, password.expose_secret().as_bytes())?;
    if let Some((uid, gid)) = user.0 {
        std::os::unix::fs::chown(file.path(), Some(uid), Some(gid))?;
    }
    let mut command = Command::new(binaries.join("initdb"));
    command
        .args([
            "--username=postgres",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ])
        .arg("--pgdata")
        .arg(data)
        .arg("--pwfile")
        .arg(file.path())
        .current_dir("/")
        .stdin(Stdio::null());
    let output = user.apply(&mut command).output().context("running initdb")?;
    if !output.status.success() {
        bail!(
            "initdb failed in {}: {}",
            data.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

type Serving = (u16, mpsc::Sender<()>, thread::JoinHandle<()>);

/// A server that was cut off from its parent takes a moment to shut down; a second one must not start before it is gone.
fn wait_for_predecessor(data: &Path) -> Result<()> {
    let deadline = SystemClock.monotonic() + STOPPED_WITHIN;
    while let Some(pid) = running_server(data) {
        if SystemClock.monotonic() >= deadline {
            bail!(
                "PostgreSQL (process {pid}) still serves {}: is another one up in this folder?",
                data.display()
            );
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn running_server(data: &Path) -> Option<u32> {
    let pid = fs::read_to_string(data.join("postmaster.pid"))
        .ok()?
        .lines()
        .next()?
        .parse()
        .ok()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    (name.trim() == "postgres" && is_running(pid)).then_some(pid)
}

fn serve(binaries: &Path, data: &Path, user: &Unprivileged, durability: Durability) -> Result<Serving> {
    wait_for_predecessor(data)?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = server_command(binaries, data, port, durability);
    user.apply(&mut command);
    let log = data.with_extension("log");
    let log_file = fs::File::create(&log).with_context(|| format!("making {}", log.display()))?;
    command.stderr(log_file);
    let (started, start) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let thread = thread::Builder::new().name("postgres".into()).spawn(move || {
        let mut child = match command.spawn() {
            Ok(child) => {
                let _ = started.send(Ok(child.id()));
                child
            }
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        // Ends when the sender is dropped; then a fast shutdown, which waits for no client.
        let _ = stopped.recv();
        interrupt(child.id());
        let deadline = SystemClock.monotonic() + STOPPED_WITHIN;
        while SystemClock.monotonic() < deadline {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    })?;
    let pid = start
        .recv()
        .context("the thread of PostgreSQL ended")?
        .context("starting postgres")?;
    wait_until_ready(data, pid, &log)?;
    Ok((port, stop, thread))
}

fn server_command(binaries: &Path, data: &Path, port: u16, durability: Durability) -> Command {
    let postgres = binaries.join("postgres");
    let mut command = if Command::new("setpriv")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok()
    {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "INT", "--"]).arg(postgres);
        command
    } else {
        Command::new(postgres)
    };
    let port = format!("port={port}");
    let mut settings = vec![
        port.as_str(),
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=300",
        "shared_buffers=256MB",
        "log_min_messages=warning",
    ];
    if durability == Durability::None {
        settings.extend([
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "max_wal_size=4GB",
        ]);
    }
    command
        .arg("-D")
        .arg(data)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0);
    for setting in settings {
        command.args(["-c", setting]);
    }
    command
}

/// PostgreSQL writes its state into the eighth line of postmaster.pid.
fn wait_until_ready(data: &Path, pid: u32, log: &Path) -> Result<()> {
    let deadline = SystemClock.monotonic() + READY_WITHIN;
    while SystemClock.monotonic() < deadline {
        let state = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        let mut lines = state.lines();
        if lines.next() == Some(pid.to_string().as_str()) && lines.nth(6).is_some_and(|line| line.trim() == "ready") {
            return Ok(());
        }
        if !is_running(pid) {
            let said = fs::read_to_string(log).unwrap_or_default();
            bail!(
                "PostgreSQL did not start: {}",
                said.lines().last().unwrap_or("no message")
            );
        }
        thread::sleep(Duration::from_millis(10));
    }
    bail!(
        "PostgreSQL was not ready within {} s; its log is {}",
        READY_WITHIN.as_secs(),
        log.display()
    )
}

fn is_running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn interrupt(pid: u32) {
    // A signal needs a program or unsafe code; kill is part of every system that runs PostgreSQL.
    let _ = Command::new("kill").args(["-INT", &pid.to_string()]).status();
}
