//! The mails of an installation, as they lie in its outbox.

use std::{fs, time::Duration};

use crate::world::{PATIENCE, World};

/// A mail.
#[derive(Debug, Clone)]
pub struct Mail {
    /// All of it, with plain ends of lines.
    pub text: String,
}

impl Mail {
    /// The code that it brings.
    pub fn code(&self) -> &str {
        let (_, rest) = self.text.split_once("Your code is:\n\n").expect("it has a code");
        rest.lines().next().expect("it has a line")
    }
}

/// What somebody reads of a mail in ASCII: its lines whole (quoted-printable, RFC 2045, 6.7), with plain ends.
pub fn plain(mail: &str) -> String {
    mail.replace("\r\n", "\n").replace("=\n", "").replace("=3D", "=")
}

/// All mails to an address with these words in their subject.
pub fn mails(world: &World, to: &str, subject: &str) -> Vec<Mail> {
    let Ok(files) = fs::read_dir(world.outbox()) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = files.map(|it| it.expect("a folder lists").path()).collect();
    paths.retain(|it| it.extension().is_some_and(|it| it == "eml"));
    // Ids sort by the time of their making.
    paths.sort();
    let texts = paths
        .into_iter()
        .filter_map(|it| Some(plain(&fs::read_to_string(it).ok()?)));
    texts
        .filter(|it| it.contains(&format!("To: {to}\n")) && it.contains(&format!("Subject: {subject}")))
        .map(|text| Mail { text })
        .collect()
}

/// The newest mail to an address with these words in its subject, once it is there.
pub async fn mail(world: &World, to: &str, subject: &str) -> Mail {
    let found = async {
        loop {
            if let Some(mail) = mails(world, to, subject).pop() {
                return mail;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found)
        .await
        .unwrap_or_else(|_| panic!("no mail to {to} about {subject}"))
}
