//! A join code as people read it out and type it: sixteen characters of Crockford's base 32 in groups of four.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

/// Crockford's base 32 (<https://www.crockford.com/base32.html>): no I, L, O and U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH: usize = 16;
const GROUP: usize = 4;

/// A join code. Whoever has it may ask to join.
#[derive(Clone, PartialEq, Eq)]
pub struct Code([u8; LENGTH]);

/// The text is no join code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be sixteen letters and digits")]
pub struct MalformedCode;

impl Code {
    /// A new one: 80 random bits.
    pub fn generate() -> Self {
        let random: [u8; LENGTH] = rand::random();
        Self(random.map(|byte| ALPHABET[usize::from(byte % 32)]))
    }

    /// What it is found by. A fast hash will do: nobody guesses 80 random bits.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

impl FromStr for Code {
    type Err = MalformedCode;

    /// Reads a code in any letter case, with or without hyphens and blanks, and what looks like another character as that.
    fn from_str(text: &str) -> Result<Self, MalformedCode> {
        let characters = text.chars().filter(|it| *it != '-' && !it.is_whitespace());
        let read: Vec<u8> = characters
            .take(LENGTH + 1)
            .map(|it| {
                let plain = match it.to_ascii_uppercase() {
                    'I' | 'L' => '1',
                    'O' => '0',
                    other => other,
                };
                u8::try_from(plain).ok().filter(|it| ALPHABET.contains(it))
            })
            .collect::<Option<_>>()
            .ok_or(MalformedCode)?;
        read.try_into().map(Self).map_err(|_| MalformedCode)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, character) in self.0.iter().enumerate() {
            if place > 0 && place % GROUP == 0 {
                f.write_str("-")?;
            }
            write!(f, "{}", char::from(*character))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_reads_back_however_it_is_typed() {
        let code: Code = "AB01-CDEF-GH1J-KMNP".parse().unwrap();
        assert_eq!(code.to_string(), "AB01-CDEF-GH1J-KMNP");
        for typed in ["ab01cdefgh1jkmnp", " abol cdef ghij kmnp ", "ABO1-CDEF-GHLJ-KMNP"] {
            assert_eq!(typed.parse::<Code>(), Ok(code.clone()), "{typed}");
        }
        let new = Code::generate();
        assert_eq!(new.to_string().parse(), Ok(new.clone()));
        assert_ne!(new, Code::generate());
        assert!(!format!("{new:?}").contains(&new.to_string()));
    }

    #[test]
    fn what_is_no_code_is_refused() {
        for text in [
            "",
            "ABCD",
            "AB01-CDEF-GH1J-KMN",
            "AB01-CDEF-GH1J-KMNPQ",
            "AB01-CDEF-GH1J-KMNU",
            "äb01cdefgh1jkmnp",
        ] {
            assert_eq!(text.parse::<Code>(), Err(MalformedCode), "{text}");
        }
    }
}
