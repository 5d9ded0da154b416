//! The process of a service: its command line, its signals, its end.

use std::{
    future::Future,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Parser;

use crate::lifecycle::Lifecycle;

/// For calls, streams and background work under way to finish when the process is to stop.
const GRACE: Duration = Duration::from_secs(20);

/// The command line that every service has.
#[derive(Debug, Parser)]
#[command(
    version,
    about = "A service of Studios. Settings: file, then environment (STUDIOS_…), then --set."
)]
pub struct Arguments {
    /// A TOML file of settings; the environment wins over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A setting, which wins over the environment. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

impl Arguments {
    /// Reads this process's command line; a wrong one is told and ends the process.
    pub fn read() -> Self {
        Self::parse()
    }

    /// The file of settings.
    pub fn file(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The settings given one by one.
    pub fn settings(&self) -> &[(String, String)] {
        &self.settings
    }
}

/// Serves until a signal or a task's panic stops it, softly first, and returns how serving ended.
///
/// # Errors
/// What serving failed with.
pub async fn run<E: Send + 'static>(
    name: &'static str,
    lifecycle: Lifecycle,
    serving: impl Future<Output = Result<(), E>> + Send + 'static,
) -> Result<(), E> {
    let serving = lifecycle.spawn(name, serving);
    lifecycle.soft().cancelled().await;
    lifecycle.shut_down(GRACE).await;
    match serving.await {
        Ok(ended) => ended,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Ok(()),
    }
}

fn setting(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.into(), value.into()))
}
