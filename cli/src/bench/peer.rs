//! A process beside the driver: this very program, started anew as a service, a stub or an echo.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};
use url::Url;

const READY_WITHIN: Duration = Duration::from_mins(2);
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// A running process that has said that it is ready. Dropping it kills it.
pub(super) struct Peer {
    child: Child,
    /// Its process id.
    pub(super) pid: u32,
    /// The line that it said so with.
    pub(super) ready: Value,
}

impl Peer {
    /// Starts this program with these arguments and no environment but PATH, HOME and what is given, and waits for the
    /// first line on its standard output. What it logs goes to `log`.
    ///
    /// Called on the main thread, for the kernel ends the process together with the thread that started it.
    pub(super) async fn start(arguments: &[&str], environment: &[(&str, String)], log: &Path) -> Result<Self> {
        let mut command = command(arguments, environment)?;
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(File::create(log).with_context(|| format!("making {}", log.display()))?)
            .spawn()?;
        let pid = child.id().context("it has just been started")?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let line = timeout(READY_WITHIN, BufReader::new(stdout).lines().next_line()).await;
        let Ok(Ok(Some(line))) = line else {
            return Err(failed(arguments, log));
        };
        Ok(Self {
            child,
            pid,
            ready: serde_json::from_str(&line).with_context(|| format!("`studios {}`", arguments.join(" ")))?,
        })
    }

    /// A URL that it has told.
    pub(super) fn url(&self, key: &str) -> Result<Url> {
        let text = self.ready[key].as_str();
        Ok(text.with_context(|| format!("no {key} in {}", self.ready))?.parse()?)
    }

    /// Asks it to end, and waits until it has.
    pub(super) async fn end(mut self) -> Result<()> {
        let sent = Command::new("kill")
            .args(["-TERM", &self.pid.to_string()])
            .status()
            .await?;
        ensure!(sent.success(), "process {} cannot be ended", self.pid);
        let status = timeout(GONE_WITHIN, self.child.wait())
            .await
            .context("it does not end")??;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}

/// Runs this program to its end and returns the first line of its output.
pub(super) async fn finish(arguments: &[&str], environment: &[(&str, String)], log: &Path) -> Result<Value> {
    let output = command(arguments, environment)?
        .stdout(Stdio::piped())
        .stderr(File::create(log)?)
        .output()
        .await?;
    if !output.status.success() {
        return Err(failed(arguments, log));
    }
    let line = String::from_utf8(output.stdout)?;
    Ok(serde_json::from_str(line.lines().next().unwrap_or_default())?)
}

/// With `setpriv`, where it exists, the kernel kills the process should this one be killed.
fn command(arguments: &[&str], environment: &[(&str, String)]) -> Result<Command> {
    let program = std::env::current_exe().context("this program's path")?;
    let mut command = match setpriv() {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command
        .args(arguments)
        .env_clear()
        .envs(["PATH", "HOME"].map(|name| (name, std::env::var_os(name).unwrap_or_default())))
        .envs(environment.iter().map(|(key, value)| (*key, value.as_str())))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

fn setpriv() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join("setpriv"))
        .find(|it| it.exists())
}

fn failed(arguments: &[&str], log: &Path) -> anyhow::Error {
    let said = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = said.lines().collect();
    let last = lines[lines.len().saturating_sub(5)..].join("\n");
    anyhow::anyhow!("`studios {}` did not get ready: {last}", arguments.join(" "))
}
