//! Reading texts in the encoding that they have: by their byte order mark, as UTF-8, as what they say of themselves, or as what
//! editors wrote before UTF-8.

use std::{io::Read, str};

use encoding_rs::{CoderResult, Decoder, Encoding, UTF_8, WINDOWS_1252};

use super::{Refusal, output::Output};

/// How much of a text is read at a time; the first of it that is not ASCII alone tells what the text is in.
const BLOCK_BYTES: u64 = 1 << 20;

/// Reads a whole text.
pub(super) fn decode(content: &[u8], said: Option<&'static Encoding>) -> String {
    if let Some((encoding, _)) = Encoding::for_bom(content) {
        return encoding.decode(content).0.into_owned();
    }
    match str::from_utf8(content) {
        Ok(text) => text.to_owned(),
        Err(_) => said.unwrap_or(WINDOWS_1252).decode(content).0.into_owned(),
    }
}

/// Writes a text out as it comes in. What then is not in the encoding that it seemed to have becomes U+FFFD.
pub(super) fn copy(mut from: impl Read, output: &mut Output<'_>) -> Result<(), Refusal> {
    let mut decoder: Option<Decoder> = None;
    let mut block = Vec::new();
    let mut text = String::new();
    let mut is_first = true;
    loop {
        let read = from.by_ref().take(BLOCK_BYTES).read_to_end(&mut block);
        let is_last = (read.map_err(|_| Refusal::TooMuch)? as u64) < BLOCK_BYTES;
        if is_first {
            decoder = Encoding::for_bom(&block).map(|(encoding, _)| encoding.new_decoder_with_bom_removal());
            is_first = false;
        }
        if decoder.is_none() {
            let ascii = block.iter().take_while(|it| it.is_ascii()).count();
            output.push(str::from_utf8(&block[..ascii]).map_err(|_| Refusal::Damaged)?)?;
            block.drain(..ascii);
            decoder = guessed(&block, is_last).map(Encoding::new_decoder_without_bom_handling);
        }
        if let Some(decoder) = &mut decoder {
            text.clear();
            text.reserve(decoder.max_utf8_buffer_length(block.len()).ok_or(Refusal::TooMuch)?);
            let (result, ..) = decoder.decode_to_string(&block, &mut text, is_last);
            if result == CoderResult::OutputFull {
                return Err(Refusal::TooMuch);
            }
            output.push(&text)?;
            block.clear();
        }
        if is_last {
            return Ok(());
        }
    }
}

/// What a text is in that goes on so behind its ASCII; `None` where more of it must tell.
fn guessed(text: &[u8], is_last: bool) -> Option<&'static Encoding> {
    match str::from_utf8(text) {
        Ok("") => None,
        Ok(_) => Some(UTF_8),
        Err(error) if is_last || error.error_len().is_some() => Some(WINDOWS_1252),
        Err(error) => (error.valid_up_to() > 0).then_some(UTF_8),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::output::written, *};

    fn copied(bytes: &[u8]) -> String {
        written(|output| copy(bytes, output)).unwrap()
    }

    #[test]
    fn a_text_is_read_in_the_encoding_it_has() {
        for (bytes, text) in [
            ("Öl".as_bytes(), "Öl"),
            (b"\xd6l", "Öl"),
            (b"\xff\xfeO\0k\0", "Ok"),
            (b"\xef\xbb\xbfOk", "Ok"),
            (b"caf\xc3", "cafÃ"),
            (b"", ""),
        ] {
            assert_eq!(copied(bytes), text);
            assert_eq!(decode(bytes, None), text);
        }
    }

    #[test]
    fn a_long_text_tells_its_encoding_where_it_is_no_longer_ascii() {
        let long = "x".repeat((3 << 20) - 1);
        for (bytes, end) in [("ÖÄ".as_bytes(), "ÖÄ"), (b"\xd6l".as_slice(), "Öl")] {
            let text = copied(&[long.as_bytes(), bytes].concat());
            assert!(text.starts_with(&long) && text.ends_with(end), "{end}");
        }
    }
}
