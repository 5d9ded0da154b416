//! A text on its way into the database: cleaned, measured and cut while it goes by. What is kept of it does not grow with it.

use sha2::{Digest, Sha256};

use crate::documents::{
    Language, MimeType,
    chunker::{self, Chunker, Overlap, Piece},
    words::Words,
};

/// The beginning of a text that is enough to tell its language by, in bytes.
const SAMPLE_BYTES: usize = 32 << 10;

/// What has gone by so far.
pub(super) struct Intake {
    chunker: Chunker,
    digest: Sha256,
    measure: Measure,
    sample: String,
    words: Words,
    /// The last section whose words are kept.
    section: String,
}

/// What a text is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measure {
    pub(super) size_bytes: i64,
    /// Whether something had to be taken out of it.
    pub(super) is_cleaned: bool,
    /// Whether it shows anything.
    pub(super) is_shown: bool,
}

/// A bit of a text, and the pieces that are complete by it.
pub(super) struct Bit {
    pub(super) text: String,
    pub(super) pieces: Vec<Piece>,
}

/// What a whole text was.
pub(super) struct Whole {
    /// Its last pieces.
    pub(super) pieces: Vec<Piece>,
    pub(super) measure: Measure,
    pub(super) sha256: [u8; 32],
    pub(super) words: Vec<String>,
    /// As it seems.
    pub(super) language: Language,
}

impl Intake {
    pub(super) fn new(mime_type: MimeType, overlap: Overlap) -> Self {
        Self {
            chunker: Chunker::new(mime_type, overlap),
            digest: Sha256::new(),
            measure: Measure::default(),
            sample: String::new(),
            words: Words::default(),
            section: String::new(),
        }
    }

    /// Takes the next bit of the text, without what PostgreSQL cannot store.
    pub(super) fn push(&mut self, text: String) -> Bit {
        let is_cleaned = text.contains('\0');
        let text = if is_cleaned { text.replace('\0', "") } else { text };
        self.digest.update(&text);
        let Measure {
            size_bytes,
            is_shown,
            is_cleaned: was_cleaned,
        } = self.measure;
        self.measure = Measure {
            size_bytes: size_bytes + i64::try_from(text.len()).unwrap_or(i64::MAX),
            is_cleaned: was_cleaned || is_cleaned,
            is_shown: is_shown || !text.chars().all(chunker::is_blank),
        };
        let room = SAMPLE_BYTES.saturating_sub(self.sample.len());
        self.sample.push_str(&text[..text.floor_char_boundary(room)]);
        let pieces = self.chunker.push(&text);
        self.note(&pieces);
        Bit { text, pieces }
    }

    /// Ends the text.
    pub(super) fn finish(mut self) -> Whole {
        let chunker = std::mem::replace(&mut self.chunker, Chunker::new(MimeType::Plain, Overlap::NONE));
        let pieces = chunker.finish();
        self.note(&pieces);
        Whole {
            pieces,
            measure: self.measure,
            sha256: self.digest.finalize().into(),
            words: self.words.sorted(),
            language: Language::guess(&self.sample),
        }
    }

    fn note(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            if piece.section != self.section {
                self.words.add(&piece.section);
                self.section.clone_from(&piece.section);
            }
            self.words.add(&piece.content);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bits: &[&str]) -> (String, Whole) {
        let mut intake = Intake::new(MimeType::Markdown, Overlap::NONE);
        let texts: Vec<String> = bits.iter().map(|bit| intake.push((*bit).to_owned()).text).collect();
        (texts.concat(), intake.finish())
    }

    #[test]
    fn a_text_is_measured_while_it_goes_by() {
        let (text, whole) = taken(&["# Ti\0de", "s\n\nHigh at n", "oon."]);
        assert_eq!(text, "# Tides\n\nHigh at noon.");
        let expected = Measure {
            size_bytes: 22,
            is_cleaned: true,
            is_shown: true,
        };
        assert_eq!(whole.measure, expected);
        assert_eq!(whole.sha256, <[u8; 32]>::from(Sha256::digest(&text)));
        assert_eq!(whole.words, ["high", "noon", "tides"]);
        assert_eq!((whole.pieces.len(), whole.pieces[0].section.as_str()), (1, "Tides"));
    }

    #[test]
    fn what_shows_nothing_is_known_to() {
        for bits in [&[""][..], &[" \n", "\t"], &["\u{feff}"], &["\0", "\0"]] {
            let (_, whole) = taken(bits);
            assert!(!whole.measure.is_shown && whole.pieces.is_empty(), "{bits:?}");
        }
    }
}
