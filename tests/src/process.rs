//! The real binaries as processes of their own, to be killed as the world kills processes.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use serde_json::Value;
use url::Url;

const SERVES_WITHIN: Duration = Duration::from_secs(30);

/// A running service. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    address: SocketAddr,
    scheme: &'static str,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts a service with these settings and nothing else of this process's environment but PATH, and waits until it says
    /// where it serves.
    pub fn start(binary: &str, settings: &[(&str, String)]) -> Self {
        // The kernel kills it with the thread that started it: no test leaves one behind.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program(binary))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("STUDIOS_LOG", "info")
            .env("STUDIOS_LOG_FORMAT", "json")
            .envs(settings.iter().map(|(key, value)| (*key, value.as_str())))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{binary}: {error}; `make test` builds it"));
        let stderr = child.stderr.take().expect("stderr is piped");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (found, address) = mpsc::channel();
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(address) = serving_address(&line) {
                    // Only the first address is waited for.
                    let _ = found.send(address);
                }
                kept.lock().expect("no reader panics").push(line);
            }
        });
        let Ok(address) = address.recv_timeout(SERVES_WITHIN) else {
            // It is killed before its log is told, so that the panic leaves nothing behind.
            let _ = child.kill();
            panic!(
                "{binary} does not serve:\n{}",
                log.lock().expect("no reader panics").join("\n")
            );
        };
        let secure = settings.iter().any(|(key, _)| key.ends_with("_TLS_CERT"));
        Self {
            child,
            address,
            scheme: if secure { "https" } else { "http" },
            log,
        }
    }

    /// Its base URL.
    pub fn url(&self) -> Url {
        format!("{}://{}", self.scheme, self.address)
            .parse()
            .expect("an address makes a URL")
    }

    /// What it has logged so far, a JSON line each.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("no reader panics").clone()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.kill_now();
    }

    /// kill -9, of one that another takes the place of.
    pub fn kill_now(&mut self) {
        self.child.kill().expect("it is ours to kill");
        self.child.wait().expect("it ends");
    }

    /// Sends a signal by name.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args(["-s", signal, &self.child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(sent.success());
    }

    /// Sends a signal by name and waits for the end; returns whether it exited with 0.
    pub fn end(mut self, signal: &str) -> bool {
        self.signal(signal);
        self.child.wait().expect("it ends").success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of this workspace, beside the test's own.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the test has a path");
    own.parent()
        .and_then(|deps| deps.parent())
        .expect("it lies in deps of the target folder")
        .join(name)
}

fn serving_address(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    (fields.get("message")?.as_str()? == "serving").then(|| fields.get("address")?.as_str()?.parse().ok())?
}
