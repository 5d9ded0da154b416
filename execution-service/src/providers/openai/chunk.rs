//! An event of a streamed answer, read where it lies.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::Value;

/// `chat.completion.chunk`, as far as it is needed, or an error that is sent in its place.
#[derive(Debug, Deserialize)]
pub(super) struct Chunk<'c> {
    #[serde(borrow, default)]
    pub id: Option<Piece<'c>>,
    #[serde(borrow, default)]
    pub model: Option<Piece<'c>>,
    #[serde(borrow, default)]
    pub choices: Option<Vec<Choice<'c>>>,
    #[serde(default)]
    pub usage: Option<Value>,
    #[serde(default)]
    error: Option<IgnoredAny>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Piece<'c>>,
    #[serde(borrow, default)]
    object: Option<Piece<'c>>,
}

impl Chunk<'_> {
    /// Whether it says of itself that it is an error.
    pub(super) fn is_error(&self) -> bool {
        let named = |it: &Option<Piece<'_>>| it.as_ref().is_some_and(|it| it.bytes() == b"error");
        self.error.is_some() || named(&self.kind) || named(&self.object)
    }
}

/// One of the answers; we ask for one.
#[derive(Debug, Deserialize)]
pub(super) struct Choice<'c> {
    #[serde(default)]
    pub index: Option<u64>,
    #[serde(borrow, default)]
    pub delta: Option<Delta<'c>>,
    #[serde(borrow, default)]
    pub finish_reason: Option<Piece<'c>>,
}

/// What an answer grows by.
#[derive(Debug, Deserialize)]
pub(super) struct Delta<'c> {
    #[serde(borrow, default)]
    pub content: Option<Piece<'c>>,
    #[serde(borrow, default)]
    pub refusal: Option<Piece<'c>>,
    /// What a model thinks before it answers is no answer, but shows that it is at work. Servers call it the one or the other.
    #[serde(borrow, default)]
    reasoning_content: Option<Piece<'c>>,
    #[serde(borrow, default)]
    reasoning: Option<Piece<'c>>,
}

impl Delta<'_> {
    /// Whether the model has said or thought something.
    pub(super) fn is_content(&self) -> bool {
        [&self.content, &self.refusal, &self.reasoning_content, &self.reasoning]
            .into_iter()
            .flatten()
            .any(|it| !it.bytes().is_empty())
    }
}

/// A string, or the texts of a list of parts, that need not be UTF-8 and may hold halves of surrogate pairs: a character may
/// be spread over events.
#[derive(Debug)]
pub(in super::super) struct Piece<'c>(Cow<'c, [u8]>);

impl Piece<'_> {
    pub(in super::super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(in super::super) fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl<'de: 'c, 'c> Deserialize<'de> for Piece<'c> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde_json gives strings that are asked for as bytes without judging them.
        deserializer.deserialize_bytes(PieceVisitor)
    }
}

struct PieceVisitor;

impl<'de> Visitor<'de> for PieceVisitor {
    type Value = Piece<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of parts")
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Piece<'de>, E> {
        Ok(Piece(Cow::Borrowed(bytes)))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Piece<'de>, E> {
        Ok(Piece(Cow::Owned(bytes.to_vec())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Piece<'de>, A::Error> {
        let mut all = Vec::new();
        while let Some(part) = parts.next_element::<Part<'de>>()? {
            all.extend_from_slice(part.text.as_ref().map_or(b"", Piece::bytes));
        }
        Ok(Piece(Cow::Owned(all)))
    }
}

/// A part of a message.
#[derive(Deserialize)]
struct Part<'c> {
    #[serde(borrow, default)]
    text: Option<Piece<'c>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(json: &[u8]) -> Option<Vec<u8>> {
        let text = [b"{\"choices\":[{\"delta\":{\"content\":", json, b"}}]}"].concat();
        let chunk: Chunk<'_> = serde_json::from_slice(&text).unwrap();
        let choice = chunk.choices.unwrap().pop().unwrap();
        choice.delta.unwrap().content.map(|it| it.bytes().to_vec())
    }

    #[test]
    fn content_is_a_string_or_parts_and_need_not_be_valid() {
        for (json, expected) in [
            (&b"\"a\\n\xC3\xA9\""[..], Some(&b"a\n\xC3\xA9"[..])),
            (b"null", None),
            (
                b"[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"image\"},{\"text\":\"b\"}]",
                Some(b"ab"),
            ),
            (b"\"\xFF\"", Some(b"\xFF")),
            (b"\"\\ud83d\"", Some(b"\xED\xA0\xBD")),
            (b"\"\\ud83d\\ude00\"", Some("\u{1F600}".as_bytes())),
        ] {
            assert_eq!(content(json).as_deref(), expected, "{}", String::from_utf8_lossy(json));
        }
    }

    #[test]
    fn plain_text_is_not_copied() {
        let chunk: Chunk<'_> = serde_json::from_slice(br#"{"id":"c-1","choices":null}"#).unwrap();
        assert!(matches!(chunk.id.unwrap().0, Cow::Borrowed(b"c-1")));
    }
}
