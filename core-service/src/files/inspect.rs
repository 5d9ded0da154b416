//! What a file's bytes are: their hash, and whether they are what is claimed. Looked at as they come, never all at once.
//!
//! It can be put aside between two parts of an upload and taken up by another process: [`save`](Inspector::save) and
//! [`load`](Inspector::load). What is known of text is whether all of it is UTF-8 without NUL, of the rest the first bytes.

use service_kit::error::{Error, Result};
use sha2::{
    Digest, Sha256,
    digest::{common::hazmat::SerializableState, typenum::Unsigned},
};

use super::mime::Mime;

/// What of the beginning is kept: as much as signatures and the first names in an archive need.
const HEAD_BYTES: usize = 4096;

/// Looks at bytes as they come.
#[derive(Clone)]
pub(super) struct Inspector {
    hasher: Sha256,
    head: Vec<u8>,
    is_text: bool,
    /// The beginning of a character whose end has not come.
    broken: Vec<u8>,
}

/// What all the bytes were.
pub(super) struct Found {
    pub(super) sha256: [u8; 32],
    pub(super) head: Vec<u8>,
    pub(super) is_text: bool,
}

impl Inspector {
    pub(super) fn new() -> Self {
        Self {
            hasher: Sha256::new(),
            head: Vec::new(),
            is_text: true,
            broken: Vec::new(),
        }
    }

    pub(super) fn look(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        let room = HEAD_BYTES - self.head.len();
        self.head.extend_from_slice(&bytes[..room.min(bytes.len())]);
        if self.is_text {
            self.read(bytes);
        }
    }

    pub(super) fn finish(self) -> Found {
        Found {
            sha256: self.hasher.finalize().into(),
            head: self.head,
            is_text: self.is_text && self.broken.is_empty(),
        }
    }

    fn read(&mut self, mut bytes: &[u8]) {
        // What may follow a broken character's beginning is at most three bytes.
        while !self.broken.is_empty() && self.is_text {
            let Some((first, rest)) = bytes.split_first() else {
                return;
            };
            self.broken.push(*first);
            bytes = rest;
            match std::str::from_utf8(&self.broken) {
                Ok(_) => self.broken.clear(),
                Err(error) => self.is_text = error.error_len().is_none(),
            }
        }
        if bytes.contains(&0) {
            self.is_text = false;
        }
        if let Err(error) = std::str::from_utf8(bytes) {
            self.is_text &= error.error_len().is_none();
            self.broken = bytes[error.valid_up_to()..].to_vec();
            self.broken.truncate(4);
        }
    }

    pub(super) fn save(&self) -> Vec<u8> {
        let mut saved = self.hasher.serialize().to_vec();
        saved.push(u8::from(self.is_text));
        saved.push(u8::try_from(self.broken.len()).expect("a character has at most four bytes"));
        saved.extend_from_slice(&self.broken);
        saved.extend_from_slice(&self.head);
        saved
    }

    pub(super) fn load(saved: &[u8]) -> Result<Self> {
        let state = <<Sha256 as SerializableState>::SerializedStateSize as Unsigned>::USIZE;
        let torn = || Error::internal("the inspection of an upload cannot be read");
        let (hasher, rest) = saved.split_at_checked(state).ok_or_else(torn)?;
        let hasher = Sha256::deserialize(hasher.try_into().map_err(|_| torn())?).map_err(|_| torn())?;
        let [is_text, length, rest @ ..] = rest else {
            return Err(torn());
        };
        let (broken, head) = rest.split_at_checked(usize::from(*length)).ok_or_else(torn)?;
        Ok(Self {
            hasher,
            head: head.to_vec(),
            is_text: *is_text == 1,
            broken: broken.to_vec(),
        })
    }
}

/// Why content is not what is claimed, if it is not.
pub(super) fn objection(claimed: Mime, found: &Found) -> Option<String> {
    let wrong = |what: &str| Some(format!("the content is not {}: {what}", claimed.name()));
    if claimed.is_text() {
        // Of other signatures some are two letters that a text may begin with.
        let other = infer::get(&found.head).and_then(|it| Mime::parse(it.mime_type()));
        if let Some(other) = other.filter(|it| !it.is_text()) {
            return wrong(&format!("it looks like {}", other.name()));
        }
        if !found.is_text {
            return wrong("it is no text in UTF-8");
        }
        let text = String::from_utf8_lossy(&found.head);
        let first = text.trim_start_matches('\u{feff}').trim_start().chars().next();
        return match claimed {
            Mime::Html if first != Some('<') => wrong("it does not begin with a tag"),
            Mime::Json if !first.is_some_and(|it| "{[\"-tfn".contains(it) || it.is_ascii_digit()) => {
                wrong("it does not begin like JSON")
            }
            _ => None,
        };
    }
    let kind = infer::get(&found.head).map_or("application/octet-stream", |it| it.mime_type());
    let names = |part: &[u8]| found.head.windows(part.len()).any(|it| it == part);
    let is_zip = found.head.starts_with(b"PK\x03\x04") || found.head.starts_with(b"PK\x05\x06");
    let fits = match claimed {
        Mime::Zip => is_zip,
        Mime::Docx => is_zip && (kind == claimed.name() || names(b"word/") || names(b"[Content_Types].xml")),
        Mime::Xlsx => is_zip && (kind == claimed.name() || names(b"xl/") || names(b"[Content_Types].xml")),
        // Both are containers of one kind, whose directory may lie anywhere.
        Mime::Doc | Mime::Xls => found.head.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
        _ => kind == claimed.name(),
    };
    if fits {
        None
    } else {
        wrong(&format!("it looks like {kind}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(bytes: &[u8], step: usize) -> Found {
        let mut inspector = Inspector::new();
        for part in bytes.chunks(step) {
            inspector.look(part);
            inspector = Inspector::load(&inspector.save()).unwrap();
        }
        inspector.finish()
    }

    #[test]
    fn bytes_are_the_same_in_whatever_parts_they_come() {
        let text = "Schöne Grüße, 日本 🦀 ".repeat(500);
        for step in [1, 2, 3, 7, 64, 100_000] {
            let found = inspected(text.as_bytes(), step);
            assert_eq!(found.sha256, <[u8; 32]>::from(Sha256::digest(&text)), "{step}");
            assert!(found.is_text, "{step}");
            assert_eq!(found.head, &text.as_bytes()[..HEAD_BYTES]);
        }
    }

    #[test]
    fn what_is_no_text_is_found_wherever_it_is_broken() {
        for wrong in [
            &b"a\xffb"[..],
            b"a\0b",
            b"end\xe6\x97",
            b"\xe6\x97x",
            b"\xf0\x9f\xa6\xf0",
            b"\xc0\x80",
        ] {
            for step in 1..=4 {
                assert!(!inspected(wrong, step).is_text, "{wrong:?} by {step}");
            }
        }
    }

    #[test]
    fn content_must_be_what_is_claimed() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice();
        let docx = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x13\0\0\0[Content_Types].xml".as_slice();
        let fits = [
            (Mime::Png, png),
            (Mime::Pdf, b"%PDF-1.7\n"),
            (Mime::Plain, b"hello"),
            (Mime::Plain, b"BMW and MZ are no pictures"),
            (Mime::Markdown, b"MZ 1"),
            (Mime::Csv, "a;b\nä;ö".as_bytes()),
            (Mime::Html, b"\xef\xbb\xbf <p>x</p>"),
            (Mime::Json, b" {\"a\": 1}"),
            (Mime::Docx, docx),
            (Mime::Zip, docx),
            (Mime::Doc, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest"),
        ];
        for (mime, bytes) in fits {
            assert_eq!(objection(mime, &inspected(bytes, 5)), None, "{}", mime.name());
        }
        let lies = [
            (Mime::Plain, png),
            (Mime::Png, b"hello".as_slice()),
            (Mime::Pdf, png),
            (Mime::Jpeg, png),
            (Mime::Docx, b"hello"),
            (Mime::Json, b"hello"),
            (Mime::Html, b"hello"),
            (Mime::Markdown, b"%PDF-1.7\n"),
        ];
        for (mime, bytes) in lies {
            assert!(objection(mime, &inspected(bytes, 5)).is_some(), "{}", mime.name());
        }
    }
}
