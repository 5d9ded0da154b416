//! The settings of mails.

use std::{path::PathBuf, time::Duration};

use lettre::message::Mailbox;
use service_kit::config::Reader;
use url::Url;

use super::Transport;

const OUTBOX: &str = ".studios/outbox";
const RETENTION_DAYS: u32 = 30;

/// How mails are sent.
#[derive(Clone, Debug)]
pub struct MailConfig {
    /// `mail_smtp_url`: the server, such as `smtps://user:password@mail.example`; `mail_outbox`: the folder that takes them
    /// where there is none, `.studios/outbox` by default.
    pub transport: Transport,
    /// `mail_from`: who they are from; `Studios <studios@localhost>` by default.
    pub from: Mailbox,
    /// `mail_pages_url`: the page that links lead to, which gets `type` and `token` in its query; without it mails have codes.
    pub pages: Option<Url>,
    /// `mail_retention_days`: how long it can be looked up what became of a mail; 30 by default.
    pub retention: Duration,
}

impl MailConfig {
    /// Takes the settings from a reader, which keeps the mistakes.
    pub fn read(reader: &mut Reader) -> Self {
        let folder = Transport::Folder(reader.get_or("mail_outbox", PathBuf::from(OUTBOX)));
        let transport = match reader.optional_secret("mail_smtp_url") {
            Some(url) => Transport::smtp(&url).unwrap_or_else(|_| {
                reader.reject("mail_smtp_url", "must be a URL like smtps://user:password@mail.example");
                folder
            }),
            None => folder,
        };
        let from = "Studios <studios@localhost>".parse().expect("it is a mailbox");
        let days = reader.get_or("mail_retention_days", RETENTION_DAYS);
        Self {
            transport,
            from: reader.get_or("mail_from", from),
            pages: reader.optional("mail_pages_url"),
            retention: Duration::from_hours(24) * days,
        }
    }
}
