//! A text that comes in pieces, made storable as it grows (see [`clean`](super::clean)). Pure.
//!
//! Pieces are bytes: a server may cut a character in two, or send the halves of a surrogate pair as escapes in two pieces,
//! which parsers give as three bytes each (WTF-8). Halves that meet are joined; what stays alone becomes U+FFFD, NUL is
//! taken out, and what is longer than can be kept is left out.

use super::clean::MAX_TEXT_BYTES;

/// The text so far.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    text: String,
    /// The beginning of a character that is not whole yet.
    begun: Vec<u8>,
    told: usize,
    is_full: bool,
    cleaned: bool,
}

impl Pieces {
    /// Adds a piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        if self.begun.is_empty()
            && let Ok(text) = str::from_utf8(piece)
        {
            return self.keep(text);
        }
        let mut bytes = std::mem::take(&mut self.begun);
        bytes.extend_from_slice(piece);
        let mut rest = bytes.as_slice();
        loop {
            let (text, is_last) = match str::from_utf8(rest) {
                Ok(text) => (text, true),
                Err(error) => {
                    let (valid, _) = rest.split_at(error.valid_up_to());
                    (str::from_utf8(valid).expect("it was found valid"), false)
                }
            };
            self.keep(text);
            rest = &rest[text.len()..];
            if is_last {
                return;
            }
            match first(rest) {
                Found::Begun => {
                    self.begun = rest.to_vec();
                    return;
                }
                Found::Character(character, length) => {
                    self.keep(character.encode_utf8(&mut [0; 4]));
                    rest = &rest[length..];
                }
                Found::Nothing(length) => {
                    self.replace();
                    rest = &rest[length..];
                }
            }
        }
    }

    /// What has been added since this was last asked.
    pub(super) fn untold(&mut self) -> &str {
        let told = std::mem::replace(&mut self.told, self.text.len());
        &self.text[told..]
    }

    /// Nothing more comes: a character that is not whole stands for itself.
    pub(super) fn end(&mut self) {
        if !std::mem::take(&mut self.begun).is_empty() {
            self.replace();
        }
    }

    /// The text so far.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// The text, and whether it is not quite what came.
    pub(super) fn into_text(self) -> (String, bool) {
        (self.text, self.cleaned)
    }

    fn replace(&mut self) {
        self.cleaned = true;
        self.keep(char::REPLACEMENT_CHARACTER.encode_utf8(&mut [0; 4]));
    }

    fn keep(&mut self, text: &str) {
        for (place, part) in text.split('\0').enumerate() {
            self.cleaned |= place > 0;
            if self.is_full {
                continue;
            }
            let fits = part.floor_char_boundary(MAX_TEXT_BYTES - self.text.len());
            self.text.push_str(&part[..fits]);
            // Nothing is kept after what did not fit.
            self.is_full = fits < part.len();
            self.cleaned |= self.is_full;
        }
    }
}

/// What bytes begin with that are not UTF-8.
enum Found {
    /// The beginning of a character.
    Begun,
    /// A character in two halves, and how many bytes that is.
    Character(char, usize),
    /// So many bytes that are none.
    Nothing(usize),
}

fn first(bytes: &[u8]) -> Found {
    match surrogate(bytes) {
        Some(high @ 0xD800..=0xDBFF) => match surrogate(&bytes[3..]) {
            _ if bytes.len() == 3 => Found::Begun,
            Some(low @ 0xDC00..=0xDFFF) => {
                let joined = 0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                let character = char::from_u32(joined).expect("a surrogate pair is a character");
                Found::Character(character, 6)
            }
            _ => Found::Nothing(3),
        },
        Some(_) => Found::Nothing(3),
        None => match str::from_utf8(bytes).map_err(|error| error.error_len()) {
            Err(Some(length)) => Found::Nothing(length),
            _ => Found::Begun,
        },
    }
}

/// The surrogate that stands first, in three bytes as UTF-8 would have it.
fn surrogate(bytes: &[u8]) -> Option<u32> {
    match *bytes {
        [0xED, second @ 0xA0..=0xBF, third @ 0x80..=0xBF, ..] => {
            Some(0xD000 | (u32::from(second & 0x3F) << 6) | u32::from(third & 0x3F))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(pieces: &[&[u8]]) -> (String, bool) {
        let mut all = Pieces::default();
        let mut told = String::new();
        for piece in pieces {
            all.push(piece);
            told.push_str(all.untold());
        }
        all.end();
        told.push_str(all.untold());
        let (text, cleaned) = all.into_text();
        assert_eq!(told, text, "what is told is the text");
        (text, cleaned)
    }

    #[test]
    fn characters_that_are_cut_in_two_are_joined() {
        for text in ["a\u{1F600}b", "é", "\u{FFFD}"] {
            for cut in 0..=text.len() {
                let (one, two) = text.as_bytes().split_at(cut);
                assert_eq!(joined(&[one, two]), (text.to_owned(), false), "{text} at {cut}");
            }
        }
        let (high, low) = (b"\xED\xA0\xBD", b"\xED\xB8\x80");
        assert_eq!(joined(&[b"a", high, low, b"b"]), ("a\u{1F600}b".to_owned(), false));
        assert_eq!(
            joined(&[b"a\xED\xA0\xBD", b"", b"\xED\xB8\x80b"]),
            ("a\u{1F600}b".to_owned(), false)
        );
    }

    #[test]
    fn what_stays_alone_is_replaced_and_nul_is_taken_out() {
        for (pieces, expected) in [
            (&[&b"a\xED\xA0\xBD"[..], b"b"][..], "a\u{FFFD}b"),
            (&[b"a\xED\xB8\x80", b"b"], "a\u{FFFD}b"),
            (&[b"\xED\xA0\xBD", b"\xED\xA0\xBD\xED\xB8\x80"], "\u{FFFD}\u{1F600}"),
            (&[b"a\xED\xA0\xBD"], "a\u{FFFD}"),
            (&[b"a\xF0\x9F", b"b"], "a\u{FFFD}b"),
            (&[b"a\xF0\x9F"], "a\u{FFFD}"),
            (&[b"\xFFa\0b\0"], "\u{FFFD}ab"),
            (&[b"\0"], ""),
        ] {
            assert_eq!(joined(pieces), (expected.to_owned(), true), "{pieces:?}");
        }
    }

    #[test]
    fn no_more_than_can_be_stored_is_kept() {
        let long = "é".repeat(MAX_TEXT_BYTES / 4);
        let (text, cleaned) = joined(&[b"x", long.as_bytes(), long.as_bytes(), b"x", long.as_bytes()]);
        assert!(cleaned && text.len() == MAX_TEXT_BYTES - 1, "{}", text.len());
        assert!(text.ends_with('é'), "nothing is kept after what did not fit");
    }

    proptest! {
        #[test]
        fn text_is_the_same_however_it_is_cut(text in "[^\0]{0,40}", size in 1usize..10) {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            prop_assert_eq!(joined(&pieces), (text.clone(), false));
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..40), size in 1usize..10) {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert!(!joined(&pieces).0.contains('\0'));
        }
    }
}
