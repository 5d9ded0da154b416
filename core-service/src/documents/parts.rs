//! The parts that texts lie in.

/// How many bytes a part has at most; one that was written before texts had parts is a whole text of up to 4 MiB.
pub(super) const PART_BYTES: usize = 128 << 10;

/// Parts of a text that follow on each other.
pub(super) struct Parts<'a> {
    /// How many bytes of the text stand before each.
    pub(super) starts: Vec<i64>,
    pub(super) texts: Vec<&'a str>,
}

/// The parts of what stands behind so many bytes of a text.
pub(super) fn of(mut text: &str, before: i64) -> Parts<'_> {
    let (mut starts, mut texts) = (Vec::new(), Vec::new());
    let mut start = before;
    while !text.is_empty() {
        let (part, rest) = text.split_at(text.floor_char_boundary(PART_BYTES));
        starts.push(start);
        texts.push(part);
        start += length(part);
        text = rest;
    }
    Parts { starts, texts }
}

/// What of a text is read, from one byte to another, and where that ends: of these parts, the first of which has that byte.
/// A character in whose midst it begins is read, and one in whose midst it ends is not.
pub(super) fn range(parts: Vec<(i64, String)>, from: i64, to: i64) -> (String, i64) {
    let mut read = String::new();
    let mut end = to;
    for (start, text) in parts.into_iter().filter(|(start, _)| *start < to) {
        let place = |at: i64| text.floor_char_boundary(usize::try_from(at - start).unwrap_or(0));
        read.push_str(&text[place(from)..place(to)]);
        end = start + length(&text[..place(to)]);
    }
    (read, end)
}

/// A text's length in bytes.
pub(super) fn length(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_in_parts_is_read_from_anywhere() {
        let text = "aö漢".repeat(PART_BYTES);
        let parts = || {
            let parts = of(&text, 0);
            let texts = parts.texts.iter().map(|it| (*it).to_owned());
            parts.starts.into_iter().zip(texts).collect::<Vec<_>>()
        };
        assert!(parts().iter().all(|(_, part)| part.len() <= PART_BYTES) && parts().len() > 5);
        let length = length(&text);
        assert_eq!(range(parts(), 0, length), (text.clone(), length));
        let mut read = String::new();
        let mut at = 0;
        while at < length {
            let (next, end) = range(parts(), at, length.min(at + 100_001));
            read.push_str(&next);
            at = end;
        }
        assert_eq!(read, text, "what one leaves out, the next one begins with");
        let small = || vec![(0, "aö".to_owned())];
        assert_eq!(range(small(), 0, 2), ("a".into(), 1));
        assert_eq!(range(small(), 2, 3), ("ö".into(), 3));
    }
}
