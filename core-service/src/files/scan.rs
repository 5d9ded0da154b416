//! Looking at files before others see them: by a clamd, if one is configured, over its INSTREAM command.
//!
//! A file waits as `scanning` with a job for it; found clean, it becomes what it is for everybody, otherwise it is quarantined.
//! There is no size above which it is let through: a scanner that does not take all of it leaves it quarantined too.

use std::{str::FromStr, time::Duration};

use futures::StreamExt;
use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
    ids::FileId,
};
use sqlx::PgConnection;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{State, download, worker_store};
use crate::{
    App,
    jobs::{self, Lease},
};

/// How long the scanner may take to take a block, or to say what it thinks.
const PATIENCE: Duration = Duration::from_secs(30);

const ANSWER_BYTES: u64 = 1024;

/// Where a clamd listens: `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanner(String);

/// The text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a host and a port, like clamav:3310")]
pub struct NoAddress;

impl FromStr for Scanner {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(Self(text.to_owned())),
            _ => Err(NoAddress),
        }
    }
}

/// What the scanner thinks.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Clean,
    /// What it found, for people.
    Bad(String),
}

impl Scanner {
    async fn scan(&self, content: download::Content) -> Result<Verdict> {
        let mut clamd = within(TcpStream::connect(&self.0)).await?;
        within(clamd.write_all(b"zINSTREAM\0")).await?;
        let sent = Self::send(&mut clamd, content).await;
        let mut answer = Vec::new();
        // It may have said what is wrong, and closed, before all was sent.
        let read = within((&mut clamd).take(ANSWER_BYTES).read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer);
        let answer = answer.trim_end_matches('\0').trim();
        match (judged(answer), sent, read) {
            (Some(verdict), Ok(()), _) => Ok(verdict),
            (Some(bad @ Verdict::Bad(_)), ..) => Ok(bad),
            (_, Err(error), _) | (_, _, Err(error)) => Err(error),
            (None, ..) => Err(unavailable(&format!("it answers {answer:?}"))),
        }
    }

    async fn send(clamd: &mut TcpStream, mut content: download::Content) -> Result<()> {
        while let Some(block) = content.next().await {
            let block = block?;
            let length = u32::try_from(block.len()).map_err(Error::internal)?;
            within(clamd.write_all(&length.to_be_bytes())).await?;
            within(clamd.write_all(&block)).await?;
        }
        within(clamd.write_all(&[0; 4])).await?;
        within(clamd.flush()).await
    }
}

/// `stream: OK`, `stream: … FOUND`, or that it is too large for it.
fn judged(answer: &str) -> Option<Verdict> {
    let answer = answer.strip_prefix("stream: ").unwrap_or(answer);
    if answer == "OK" {
        return Some(Verdict::Clean);
    }
    if let Some(found) = answer.strip_suffix(" FOUND") {
        return Some(Verdict::Bad(format!("The scanner found {found}.")));
    }
    answer
        .contains("size limit exceeded")
        .then(|| Verdict::Bad("The file is larger than the scanner takes.".into()))
}

async fn within<T>(work: impl Future<Output = std::io::Result<T>>) -> Result<T> {
    match timeout(PATIENCE, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(unavailable(&error.to_string())),
        Err(_) => Err(unavailable("it does not answer in time")),
    }
}

fn unavailable(why: &str) -> Error {
    Error::internal(format!("the scanner cannot be used: {why}"))
}

/// Has a version scanned, notes what comes of it and ends the job.
pub(crate) async fn work(app: &App, lease: Lease, file: FileId, version: i32) -> Result<()> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "files.scan").await?;
    let stored = worker_store::scanned(&mut tx, file, version).await?;
    tx.commit().await?;
    let verdict = match (stored, &app.files.scanner) {
        (None, _) => None,
        (Some(stored), Some(scanner)) => {
            let content = download::read(app, &stored, 0, stored.size_bytes).await?;
            Some(scanner.scan(content).await?)
        }
        (Some(_), None) => {
            return Err(Error::internal(
                "a file waits to be scanned and no scanner is configured",
            ));
        }
    };
    let mut tx = WorkerTx::begin(&app.worker_pool, "files.scanned").await?;
    match &verdict {
        Some(Verdict::Clean) => worker_store::release(&mut tx, file, version).await?,
        Some(Verdict::Bad(why)) => worker_store::hold(&mut tx, file, version, State::Quarantined, why).await?,
        None => {}
    }
    if !jobs::finish(&mut tx, lease).await? {
        tracing::warn!("the lease ran out: nothing is stored");
        return Ok(());
    }
    tx.commit().await?;
    if let Some(Verdict::Bad(why)) = verdict {
        tracing::warn!(%file, version, why, "file quarantined");
    }
    Ok(())
}

/// Notes that a version could not be scanned: nobody will see it.
pub(crate) async fn give_up(tx: &mut PgConnection, file: FileId, version: i32) -> Result<()> {
    let why = "The file could not be scanned. Upload it again.";
    worker_store::hold(tx, file, version, State::Quarantined, why).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_clean_bad_or_none() {
        assert_eq!(judged("stream: OK"), Some(Verdict::Clean));
        assert_eq!(
            judged("stream: Eicar-Test-Signature FOUND"),
            Some(Verdict::Bad("The scanner found Eicar-Test-Signature.".into()))
        );
        assert!(matches!(
            judged("INSTREAM size limit exceeded. ERROR"),
            Some(Verdict::Bad(_))
        ));
        for other in ["", "UNKNOWN COMMAND", "stream: Cannot allocate memory ERROR"] {
            assert_eq!(judged(other), None);
        }
    }

    #[test]
    fn a_scanner_has_a_host_and_a_port() {
        assert!("clamav:3310".parse::<Scanner>().is_ok());
        for wrong in ["", "clamav", ":3310", "clamav:x"] {
            assert_eq!(wrong.parse::<Scanner>(), Err(NoAddress));
        }
    }
}
