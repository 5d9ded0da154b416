//! Signed URLs: what a token in one says, and that nobody else has made it.
//!
//! A token does one thing to one thing for one user until its end, and gives him nothing: whoever presents it is taken for that
//! user, whose rights are looked at then. So it dies with them, with the upload or file that it names, and with its key.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use service_kit::{
    error::{Error, Result},
    ids::{FileId, PrivacyRequestId, UploadId, UserId},
    keys::KeyRing,
};
use time::OffsetDateTime;

const PURPOSE: &str = "file-url";
const MOST_BYTES: usize = 1024;

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Permit {
    /// To go on with an upload.
    Upload(UploadId),
    /// To read a file.
    Download {
        file: FileId,
        /// The current one, if not given.
        version: Option<i32>,
        /// Whether it may be shown in place.
        shown: bool,
    },
    /// To read the archive of an export.
    Export(PrivacyRequestId),
}

/// A permit, for whom and how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ticket {
    #[serde(rename = "p")]
    pub(super) permit: Permit,
    #[serde(rename = "u")]
    pub(super) user: UserId,
    /// Seconds since 1970.
    #[serde(rename = "e")]
    end: i64,
}

impl Ticket {
    pub(super) fn new(permit: Permit, user: UserId, end: OffsetDateTime) -> Self {
        Self {
            permit,
            user,
            end: end.unix_timestamp(),
        }
    }

    pub(super) fn seal(&self, keys: &KeyRing) -> String {
        let text = serde_json::to_vec(self).expect("a ticket is plain data");
        let mac = keys.mac(PURPOSE, &text);
        format!("{}.{}", URL_SAFE_NO_PAD.encode(text), URL_SAFE_NO_PAD.encode(mac))
    }

    /// Reads a token.
    ///
    /// # Errors
    /// `NotFound` where it was not made here or was changed, `FailedPrecondition` with `URL_EXPIRED` after its end.
    pub(super) fn open(keys: &KeyRing, token: &str, now: OffsetDateTime) -> Result<Self> {
        let ticket = Self::read(keys, token).ok_or_else(|| Error::not_found("URL", ""))?;
        if now.unix_timestamp() >= ticket.end {
            return Err(Error::FailedPrecondition {
                reason: "URL_EXPIRED",
                message: "the URL was good until some time ago; ask for another".into(),
            });
        }
        Ok(ticket)
    }

    fn read(keys: &KeyRing, token: &str) -> Option<Self> {
        if token.len() > MOST_BYTES {
            return None;
        }
        let (text, mac) = token.split_once('.')?;
        let text = URL_SAFE_NO_PAD.decode(text).ok()?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        keys.verify_mac(PURPOSE, &text, &mac)
            .then(|| serde_json::from_slice(&text).ok())
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_token_reads_back_until_its_end_and_under_its_key_alone() {
        let keys = KeyRing::generate();
        let now = OffsetDateTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 50);
        let ticket = Ticket::new(Permit::Upload(UploadId::generate()), UserId::generate(), now);
        let token = ticket.seal(&keys);
        let before = now - Duration::from_secs(1);
        assert_eq!(Ticket::open(&keys, &token, before).unwrap(), ticket);
        assert!(matches!(
            Ticket::open(&keys, &token, now),
            Err(Error::FailedPrecondition {
                reason: "URL_EXPIRED",
                ..
            })
        ));
        let (text, mac) = token.split_once('.').unwrap();
        let other = Ticket::new(
            Permit::Download {
                file: FileId::generate(),
                version: None,
                shown: false,
            },
            ticket.user,
            now,
        );
        let other = other.seal(&keys);
        let other = other.split_once('.').unwrap().0;
        for altered in [
            format!("{other}.{mac}"),
            text.into(),
            format!("{text}."),
            format!("{token}A"),
            String::new(),
        ] {
            assert!(
                matches!(Ticket::open(&keys, &altered, before), Err(Error::NotFound { .. })),
                "{altered}"
            );
        }
        let elsewhere = Ticket::open(&KeyRing::generate(), &token, before);
        assert!(matches!(elsewhere, Err(Error::NotFound { .. })));
    }
}
