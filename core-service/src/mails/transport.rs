//! How mails leave: to an SMTP server, or as files into a folder.

use std::{io, path::PathBuf, time::Duration};

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor, message::Mailbox, message::header::ContentType,
    transport::smtp,
};
use secrecy::{ExposeSecret, SecretString};
use service_kit::{
    error::{Error, Result},
    ids::MailId,
};
use tokio::fs;

use super::template::Words;
use crate::contact::Email;

/// How long an SMTP server may take for each of its answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where mails go.
#[derive(Clone, Debug)]
pub enum Transport {
    /// One file each, named by its id.
    Folder(PathBuf),
    /// A server, which sends them on.
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
}

/// Why a mail did not leave.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Trying again is in vain.
    #[error("refused: {0}")]
    Refused(String),
    /// It may be taken later.
    #[error("not taken: {0}")]
    NotTaken(String),
}

impl Transport {
    /// A server by its URL: `smtp://host:port`, with `?tls=required` (STARTTLS), or `smtps://user:password@host`.
    ///
    /// # Errors
    /// `Internal`: it is no such URL.
    pub fn smtp(url: &SecretString) -> Result<Self> {
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose_secret()).map_err(Error::internal)?;
        Ok(Self::Smtp(builder.timeout(Some(PATIENCE)).build()))
    }

    /// Sends a mail.
    pub(super) async fn send(&self, id: MailId, from: &Mailbox, to: &Email, words: Words) -> Result<(), Failure> {
        let message = message(id, from, to, words)?;
        match self {
            Self::Folder(folder) => {
                let written = write(folder.clone(), id, message.formatted()).await;
                written.map_err(|error| Failure::NotTaken(error.to_string()))
            }
            Self::Smtp(server) => server.send(message).await.map(drop).map_err(|error| failure(&error)),
        }
    }
}

fn message(id: MailId, from: &Mailbox, to: &Email, words: Words) -> Result<Message, Failure> {
    let refused = |error: &dyn std::error::Error| Failure::Refused(error.to_string());
    let to: Mailbox = to
        .as_str()
        .parse()
        .map_err(|_| Failure::Refused("the address cannot be written to".into()))?;
    Message::builder()
        .from(from.clone())
        .to(to)
        .subject(words.subject)
        .message_id(Some(format!("<{id}@{}>", from.email.domain())))
        .header(ContentType::TEXT_PLAIN)
        .body(words.body)
        .map_err(|error| refused(&error))
}

/// What the server said, without whom the mail is to: servers like to repeat that.
fn failure(error: &smtp::Error) -> Failure {
    let code = error.status().map(|it| format!(" {it}")).unwrap_or_default();
    if error.is_permanent() {
        return Failure::Refused(format!("the server answered{code}"));
    }
    if error.is_transient() {
        return Failure::NotTaken(format!("the server answered{code}"));
    }
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_tls() {
        "TLS failed"
    } else if error.is_response() || error.is_client() {
        "the server speaks otherwise"
    } else {
        "no connection"
    };
    Failure::NotTaken(what.into())
}

/// Writes a file that is whole once it has its name, and that nobody else may read.
async fn write(folder: PathBuf, id: MailId, text: Vec<u8>) -> io::Result<()> {
    fs::create_dir_all(&folder).await?;
    let (part, whole) = (folder.join(format!(".{id}.part")), folder.join(format!("{id}.eml")));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    options.mode(0o600);
    let mut file = options.open(&part).await?;
    tokio::io::AsyncWriteExt::write_all(&mut file, &text).await?;
    file.sync_all().await?;
    fs::rename(&part, &whole).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_one_recipient_and_its_mails_id() {
        let id = MailId::generate();
        let words = Words {
            subject: "Grüße".into(),
            body: "Hello\n".into(),
        };
        let from = "Studios <studios@example.org>".parse().unwrap();
        let message = message(id, &from, &"ada@example.com".parse().unwrap(), words).unwrap();
        let text = String::from_utf8(message.formatted()).unwrap();
        for part in [
            "To: ada@example.com\r\n",
            &format!("Message-ID: <{id}@example.org>\r\n"),
            "From: Studios <studios@example.org>",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(text.is_ascii());
    }
}
