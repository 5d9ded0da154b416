//! E-mail addresses and phone numbers as they are stored and compared.
//!
//! An address is ASCII in lower case, so that the service and the database fold it alike and no two look the same.
//! Whether anybody reads it is not for syntax to know.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use service_kit::error::Violations;

const LONGEST_EMAIL: usize = 254;
const LONGEST_LOCAL_PART: usize = 64;
const LONGEST_LABEL: usize = 63;
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// An e-mail address in lower case.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, sqlx::Type)]
#[serde(into = "String", try_from = "String")]
#[sqlx(transparent)]
pub struct Email(String);

/// The text is no e-mail address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("must be an e-mail address like name@example.com")]
pub struct NotAnEmail;

impl Email {
    /// Reads an address and notes what is wrong with it.
    pub fn read(violations: &mut Violations, field: &str, text: &str) -> Option<Self> {
        text.parse()
            .map_err(|error: NotAnEmail| violations.add(field, error.to_string()))
            .ok()
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Email {
    type Err = NotAnEmail;

    /// The syntax of RFC 5321 without quoted local parts and address literals, at a domain of two labels or more.
    fn from_str(text: &str) -> Result<Self, NotAnEmail> {
        let text = text.trim();
        let (local, domain) = text.rsplit_once('@').ok_or(NotAnEmail)?;
        let fits = text.len() <= LONGEST_EMAIL && local.len() <= LONGEST_LOCAL_PART;
        let local_is_dot_atom = local
            .split('.')
            .all(|atom| !atom.is_empty() && atom.bytes().all(is_atom_text));
        let labels = domain.split('.');
        if fits && local_is_dot_atom && labels.clone().count() >= 2 && labels.clone().all(is_label) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(NotAnEmail)
    }
}

/// `atext` of RFC 5322.
fn is_atom_text(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

fn is_label(label: &str) -> bool {
    (1..=LONGEST_LABEL).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Email {
    type Error = NotAnEmail;

    fn try_from(text: String) -> Result<Self, NotAnEmail> {
        text.parse()
    }
}

impl From<Email> for String {
    fn from(email: Email) -> Self {
        email.0
    }
}

/// A phone number in the international form: `+`, the country's code, the number.
#[derive(Clone, PartialEq, Eq, Debug, sqlx::Type)]
#[sqlx(transparent)]
pub struct Phone(String);

/// The text is no phone number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("must be a phone number like +14155550100")]
pub struct NotAPhone;

impl Phone {
    /// Reads a number and notes what is wrong with it.
    pub fn read(violations: &mut Violations, field: &str, text: &str) -> Option<Self> {
        text.parse()
            .map_err(|error: NotAPhone| violations.add(field, error.to_string()))
            .ok()
    }

    /// The number.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Phone {
    type Err = NotAPhone;

    /// The form of E.164, whose country codes do not begin with 0.
    fn from_str(text: &str) -> Result<Self, NotAPhone> {
        let text = text.trim();
        let digits = text.strip_prefix('+').ok_or(NotAPhone)?;
        let is_number = PHONE_DIGITS.contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_number {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAPhone)
        }
    }
}

impl From<Phone> for String {
    fn from(phone: Phone) -> Self {
        phone.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_folded_to_lower_case() {
        let email: Email = " Ada.Lovelace+Notes@Example.ORG ".parse().unwrap();
        assert_eq!(email.as_str(), "ada.lovelace+notes@example.org");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long_local = format!("{}@example.org", "a".repeat(65));
        let long = format!("a@{}org", format!("{}.", "b".repeat(60)).repeat(5));
        for text in [
            "",
            "@",
            "a",
            "a@",
            "@example.org",
            "a@b",
            "a b@example.org",
            "a@exa mple.org",
            "a@@example.org",
            ".a@example.org",
            "a.@example.org",
            "a..b@example.org",
            "a@-example.org",
            "a@example-.org",
            "a@example..org",
            "a@example.org.",
            "\"a\"@example.org",
            "a@[127.0.0.1]",
            "a\0@example.org",
            "ä@example.org",
            "a@exämple.org",
            "A <a@example.org>",
            &long_local,
            &long,
        ] {
            assert_eq!(text.parse::<Email>(), Err(NotAnEmail), "{text}");
        }
    }

    #[test]
    fn a_phone_number_is_international() {
        assert_eq!("+14155550100".parse::<Phone>().unwrap().as_str(), "+14155550100");
        for text in [
            "",
            "+",
            "14155550100",
            "+04155550100",
            "+123456",
            "+1234567890123456",
            "+1 415 555 0100",
            "+1415555010a",
        ] {
            assert_eq!(text.parse::<Phone>(), Err(NotAPhone), "{text}");
        }
    }
}
