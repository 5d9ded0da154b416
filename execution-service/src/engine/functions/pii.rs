//! Data about persons that can be told by their form: addresses of mail, phone numbers, IBANs, cards. What is found is named
//! by its kind and never repeated.

use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;

/// A kind of such data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// An address of mail.
    Email,
    /// A phone number in the international form, or a long one with separators.
    Phone,
    /// An IBAN whose check digits are right (ISO 13616).
    Iban,
    /// A card's number of 13 to 19 digits that passes Luhn's check (ISO/IEC 7812-1).
    Card,
}

const ALL: [Kind; 4] = [Kind::Email, Kind::Phone, Kind::Iban, Kind::Card];

static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)[a-z0-9._%+'-]{1,64}@[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})*\.[a-z]{2,24}")
        .expect("the expression is right")
});
static PHONE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:\+|\b00)[1-9](?:[ ()./-]?\d){6,14}\b|\(?\b0\d{1,4}\)?[ /-]\d{2,5}(?:[ /-]?\d{2,5}){1,3}\b|\(\d{3}\) ?\d{3}-\d{4}\b|\b\d{3}-\d{3}-\d{4}\b")
        .expect("the expression is right")
});
static IBAN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}").expect("the expression is right"));
static CARD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b\d(?:[ -]?\d){12,18}\b").expect("the expression is right"));

/// An error that names the kinds that are in the text; without kinds all are looked for.
pub(super) fn none_of(text: &str, kinds: &[Kind]) -> Result<(), String> {
    let wanted = if kinds.is_empty() { &ALL[..] } else { kinds };
    let there: Vec<&str> = wanted
        .iter()
        .filter(|kind| kind.is_in(text))
        .map(|kind| kind.name())
        .collect();
    if there.is_empty() {
        Ok(())
    } else {
        Err(format!("the output has data about persons in it: {}", there.join(", ")))
    }
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Email => "an address of mail",
            Self::Phone => "a phone number",
            Self::Iban => "an IBAN",
            Self::Card => "a card's number",
        }
    }

    fn is_in(self, text: &str) -> bool {
        match self {
            Self::Email => EMAIL.is_match(text),
            Self::Phone => PHONE.is_match(text),
            Self::Iban => IBAN.find_iter(text).any(|it| is_iban(it.as_str())),
            Self::Card => CARD.find_iter(text).any(|it| passes_luhn(it.as_str())),
        }
    }
}

/// Whether some beginning of it, as the letters after an IBAN may belong to it or not, has the check digits right: its
/// digits after the first four were put last, letters from 10 on, leave 1 when divided by 97.
fn is_iban(text: &str) -> bool {
    let plain: Vec<u8> = text.bytes().filter(|it| *it != b' ').collect();
    (15..=plain.len().min(34)).any(|length| {
        let (head, tail) = plain[..length].split_at(4);
        let remainder = tail.iter().chain(head).fold(0_u32, |rest, byte| match byte {
            b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
            _ => (rest * 100 + u32::from(byte - b'A') + 10) % 97,
        });
        remainder == 1
    })
}

fn passes_luhn(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|it| it.to_digit(10)).collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => *digit,
            (_, doubled) if doubled > 9 => doubled - 9,
            (_, doubled) => doubled,
        })
        .sum();
    // A row of one digit is no card.
    sum.is_multiple_of(10) && digits.iter().any(|it| *it != digits[0])
}
