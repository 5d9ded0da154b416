//! Servers of others that speak the model providers' protocols: aimock and LiteLLM's proxy, which `make test` installs.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};
use url::Url;

/// The key that the servers are called with; LiteLLM's proxy does not start without one.
pub const KEY: &str = "sk-a-key-for-the-peers-of-tests";

const READY_WITHIN: Duration = Duration::from_mins(2);

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Peer {
    _child: Child,
    /// Where it is.
    pub url: Url,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

impl Peer {
    /// aimock, which answers by the prompt's text as `peers/aimock.mjs` says.
    pub async fn aimock() -> Self {
        let mut command = Command::new("node");
        command.arg("aimock.mjs").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = start(command);
        let stdout = child.stdout.take().expect("it is piped");
        let line = timeout(READY_WITHIN, BufReader::new(stdout).lines().next_line()).await;
        let line = line.expect("aimock is ready in time").expect("it can be read");
        let url = line.expect("aimock says its address").parse().expect("it is one");
        Self { _child: child, url }
    }

    /// LiteLLM's proxy with the models of `peers/litellm.yaml`.
    pub async fn litellm() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let mut command = Command::new(folder().join(".venv/bin/litellm"));
        command
            .args([
                "--config",
                "litellm.yaml",
                "--host",
                "127.0.0.1",
                "--port",
                &port.to_string(),
            ])
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            .env("LITELLM_MASTER_KEY", KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = start(command);
        let url: Url = format!("http://127.0.0.1:{port}").parse().expect("it is one");
        let models = url.join("v1/models").expect("a path");
        let http = reqwest::Client::new();
        // It answers before it has read its models, and refuses them until then.
        let has_models = async || {
            let answer = http.get(models.clone()).bearer_auth(KEY).send().await.ok()?;
            Some(answer.text().await.ok()?.contains("mock-ok"))
        };
        let ready = async {
            while has_models().await != Some(true) {
                // There is no event for a port that is not bound yet.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(READY_WITHIN, ready).await.expect("LiteLLM is ready in time");
        Self { _child: child, url }
    }
}

fn start(mut command: Command) -> Child {
    command
        .current_dir(folder())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("`make test` installs it")
}
