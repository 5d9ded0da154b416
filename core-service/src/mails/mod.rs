//! Mails: written in the commit that causes them, sent by a worker that leases them.
//!
//! Whom a mail is to and what it says lies sealed until it is sent, and is forgotten then. A token that it carries follows from
//! the mail's id under the key ring, so it lies nowhere, and a repeated try sends the same one. A mail is sent at least once:
//! a server that took it and then lost the connection gets it again, under the same message id.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use service_kit::{
    db::WorkerTx,
    error::Result,
    ids::{MailId, UserId},
    keys::KeyRing,
};
use sqlx::{PgConnection, PgPool};

use crate::contact::Email;

mod config;
mod store;
mod template;
mod token;
mod transport;
mod worker;

pub use config::MailConfig;
pub use token::{MailToken, Purpose};
pub use transport::Transport;
pub use worker::Worker;

/// What what a mail says is sealed for, in the key ring's terms.
const PURPOSE: &str = "core.mails";

/// A mail to be sent. Not to be printed: it may hold what opens a door.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Mail {
    /// Asks a user to prove his address.
    Verification {
        /// The address.
        to: Email,
    },
    /// Lets a user set a new password, if there is one with this address when it is sent.
    PasswordReset {
        /// The address.
        to: Email,
    },
    /// Asks a user to prove the address that he changes to.
    EmailChange {
        /// The new address.
        to: Email,
    },
    /// Invites somebody to a company.
    Invitation {
        /// Whom.
        to: Email,
        /// The company's name.
        company: String,
        /// The name of who invites.
        inviter: String,
        /// What he accepts it with.
        code: String,
    },
    /// Tells the owner of an address that somebody tried to take it.
    AddressTaken {
        /// The address.
        to: Email,
    },
    /// Tells somebody what his company has chosen to be told.
    Notification {
        /// The address.
        to: Email,
        /// The company's name.
        company: String,
        /// What it is of.
        topic: String,
        /// What there is to tell: ids, names and numbers.
        data: Map<String, Value>,
    },
    /// Tells an admin that a channel of notifications was switched off.
    ChannelDisabled {
        /// The address.
        to: Email,
        /// The company's name.
        company: String,
        /// The channel's name.
        channel: String,
        /// Why.
        reason: String,
    },
    /// Tells a user what happened to his account.
    SecurityNotice {
        /// The address.
        to: Email,
        /// What happened.
        what: Notice,
    },
}

/// What a user is told of his account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// The password was changed.
    PasswordChanged,
    /// The account has this e-mail address now.
    EmailChanged(Email),
    /// A second factor is asked for from now on.
    SecondFactorAdded,
    /// No second factor is asked for any more.
    SecondFactorRemoved,
    /// Somebody signed in with a recovery code; so many are left.
    RecoveryCodeUsed(u32),
}

impl Mail {
    /// Whom it is to.
    pub fn to(&self) -> &Email {
        match self {
            Self::Verification { to }
            | Self::PasswordReset { to }
            | Self::EmailChange { to }
            | Self::Invitation { to, .. }
            | Self::AddressTaken { to }
            | Self::Notification { to, .. }
            | Self::ChannelDisabled { to, .. }
            | Self::SecurityNotice { to, .. } => to,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Verification { .. } => "verification",
            Self::PasswordReset { .. } => "password_reset",
            Self::EmailChange { .. } => "email_change",
            Self::Invitation { .. } => "invitation",
            Self::AddressTaken { .. } => "address_taken",
            Self::Notification { .. } => "notification",
            Self::ChannelDisabled { .. } => "channel_disabled",
            Self::SecurityNotice { .. } => "security_notice",
        }
    }

    /// What its token is for, if it carries one.
    fn purpose(&self) -> Option<Purpose> {
        match self {
            Self::Verification { .. } => Some(Purpose::Verification),
            Self::PasswordReset { .. } => Some(Purpose::PasswordReset),
            Self::EmailChange { .. } => Some(Purpose::EmailChange),
            Self::Invitation { .. }
            | Self::AddressTaken { .. }
            | Self::Notification { .. }
            | Self::ChannelDisabled { .. }
            | Self::SecurityNotice { .. } => None,
        }
    }
}

/// Adds a mail, of a user who calls, or of nobody where whom it concerns is only found out when it is sent. After the commit,
/// waking the worker speeds it up.
pub async fn enqueue(tx: &mut PgConnection, keys: &KeyRing, user: Option<UserId>, mail: &Mail) -> Result<()> {
    let id = MailId::generate();
    store::insert(tx, id, user, mail.kind(), &seal(keys, id, mail)).await
}

/// Removes at most `limit` mails that were written so long ago, and tokens that ran out as long ago, and says how many they were.
pub async fn remove_expired(worker_pool: &PgPool, age: Duration, limit: i64) -> Result<u64> {
    let mut tx = WorkerTx::begin(worker_pool, "mails.remove_expired").await?;
    let mails = store::remove_mails(&mut tx, age, limit).await?;
    let tokens = store::remove_tokens(&mut tx, age, limit).await?;
    tx.commit().await?;
    Ok(mails.max(tokens))
}

fn seal(keys: &KeyRing, id: MailId, mail: &Mail) -> Vec<u8> {
    let text = serde_json::to_vec(mail).expect("a mail is plain data");
    keys.seal(PURPOSE, id.as_uuid().as_bytes(), &text)
}

/// What was sealed for this id, if the key ring still opens it.
fn open(keys: &KeyRing, id: MailId, sealed: &[u8]) -> Option<Mail> {
    let text = keys.open(PURPOSE, id.as_uuid().as_bytes(), sealed).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_mail_opens_for_its_own_id_alone_and_tells_nothing() {
        let (keys, id) = (KeyRing::generate(), MailId::generate());
        let mail = Mail::Invitation {
            to: "ada@example.com".parse().unwrap(),
            company: "Harbour Works".into(),
            inviter: "Grace".into(),
            code: "sesame".into(),
        };
        let sealed = seal(&keys, id, &mail);
        assert!(open(&keys, id, &sealed) == Some(mail));
        assert!(open(&keys, MailId::generate(), &sealed).is_none());
        assert!(open(&KeyRing::generate(), id, &sealed).is_none());
        for part in ["ada", "Harbour", "sesame"] {
            assert!(!sealed.windows(part.len()).any(|it| it == part.as_bytes()), "{part}");
        }
    }
}
