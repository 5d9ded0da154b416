//! Server-sent events out of bytes that come split anywhere (the format: WHATWG HTML, 9.2.6). Pure.
//!
//! Written here because events have to be bounded, may hold what is not UTF-8 (the answer is cleaned, not refused), and are
//! read where they lie: `sse-stream` 0.3 knows no bound for an event that never ends, ends the stream at an invalid byte,
//! and makes a `String` of each field. Comments, unknown fields and events without data are passed over, an event that
//! the end of the stream cuts off is none, and a byte-order mark at the beginning is skipped.

use std::borrow::Cow;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event<'e> {
    /// Its type; empty where none is given.
    pub name: &'e [u8],
    /// Its data, lines joined with a line feed.
    pub data: Cow<'e, [u8]>,
}

/// An event is longer than may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

/// The events of a stream.
#[derive(Debug)]
pub(super) struct Events {
    bytes: Vec<u8>,
    /// Where the event begins that has not been given yet.
    begin: usize,
    /// Where its line begins whose end has not been found yet.
    line: usize,
    /// How far the end of that line has been looked for.
    looked: usize,
    is_at_start: bool,
    /// The last line ended with a carriage return at the end of what had come: a line feed after it belongs to it.
    after_return: bool,
    cap: usize,
    /// Every line is an event (newline-delimited JSON), not the fields of one.
    are_lines: bool,
}

impl Events {
    /// None yet; each at most so many bytes.
    pub(super) const fn new(cap: usize) -> Self {
        Self {
            bytes: Vec::new(),
            begin: 0,
            line: 0,
            looked: 0,
            is_at_start: true,
            after_return: false,
            cap,
            are_lines: false,
        }
    }

    /// The same of a stream in which every line that is not empty is an event without a name.
    pub(super) fn of_lines(cap: usize) -> Self {
        Self {
            are_lines: true,
            ..Self::new(cap)
        }
    }

    /// Takes what came. All events of what came before have to be taken out first.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.begin);
        self.line -= self.begin;
        self.looked -= self.begin;
        self.begin = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole event, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<Event<'_>>, TooLong> {
        if self.is_at_start && !self.skip_mark() {
            return Ok(None);
        }
        while let Some(end) = self.line_end() {
            let (begin, line) = (self.begin, self.line);
            if self.are_lines {
                self.line = self.looked;
                self.begin = self.line;
                if self.bytes[line..end].trim_ascii().is_empty() {
                    continue;
                }
                if end - line > self.cap {
                    return Err(TooLong);
                }
                return Ok(Some(Event {
                    name: b"",
                    data: Cow::Borrowed(&self.bytes[line..end]),
                }));
            }
            let is_comment = self.bytes[line] == b':';
            self.line = self.looked;
            if end > line && !(is_comment && line == begin) {
                continue;
            }
            // A comment before the event, or the line that ends it.
            self.begin = self.line;
            if fields(&self.bytes[begin..line]).any(|(name, _)| name == b"data") {
                if line - begin > self.cap {
                    return Err(TooLong);
                }
                return Ok(Some(event(&self.bytes[begin..line])));
            }
        }
        if self.bytes.len() - self.begin > self.cap {
            return Err(TooLong);
        }
        Ok(None)
    }

    /// Whether what comes after a byte-order mark can be read; not before it is known whether there is one.
    fn skip_mark(&mut self) -> bool {
        let is_known = self.bytes.len() >= BYTE_ORDER_MARK.len() || !BYTE_ORDER_MARK.starts_with(&self.bytes);
        if is_known {
            self.is_at_start = false;
            if self.bytes.starts_with(BYTE_ORDER_MARK) {
                self.begin = BYTE_ORDER_MARK.len();
                self.line = self.begin;
                self.looked = self.begin;
            }
        }
        is_known
    }

    /// Where the line ends; `looked` is after its end then.
    fn line_end(&mut self) -> Option<usize> {
        if self.after_return && self.looked < self.bytes.len() {
            self.after_return = false;
            if self.bytes[self.looked] == b'\n' {
                self.looked += 1;
                if self.begin == self.line {
                    self.begin = self.looked;
                }
                self.line = self.looked;
            }
        }
        let rest = &self.bytes[self.looked..];
        let Some(found) = rest.iter().position(|&byte| byte == b'\n' || byte == b'\r') else {
            self.looked = self.bytes.len();
            return None;
        };
        let end = self.looked + found;
        self.looked = end + 1;
        if rest[found] == b'\r' {
            match rest.get(found + 1) {
                Some(b'\n') => self.looked += 1,
                Some(_) => {}
                None => self.after_return = true,
            }
        }
        Some(end)
    }
}

fn event(lines: &[u8]) -> Event<'_> {
    let mut event = Event {
        name: b"",
        data: Cow::Borrowed(b""),
    };
    let mut has_data = false;
    for (name, value) in fields(lines) {
        match name {
            b"event" => event.name = value,
            b"data" if std::mem::replace(&mut has_data, true) => {
                let data = event.data.to_mut();
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            b"data" => event.data = Cow::Borrowed(value),
            _ => {}
        }
    }
    event
}

/// The fields of whole lines; a comment is one without a name.
fn fields(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    // Of a carriage return and a line feed there is an empty line between them, which is a field without a name, too.
    let lines = lines.split(|&byte| byte == b'\n' || byte == b'\r');
    lines.map(|line| {
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAP: usize = 1_000;

    /// The events of a text that comes in pieces of this size, as name and data.
    fn read(text: &[u8], size: usize) -> Vec<(String, String)> {
        let mut events = Events::new(CAP);
        let mut all = Vec::new();
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for piece in text.chunks(size) {
            events.push(piece);
            while let Some(event) = events.next().unwrap() {
                all.push((shown(event.name), shown(&event.data)));
            }
        }
        all
    }

    fn told(text: &str) -> Vec<(String, String)> {
        let whole = read(text.as_bytes(), text.len());
        for size in 1..text.len() {
            assert_eq!(read(text.as_bytes(), size), whole, "{text:?} in pieces of {size}");
        }
        whole
    }

    fn of(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, data): &(&str, &str)| ((*name).to_owned(), (*data).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn events_are_read_whatever_ends_their_lines_and_wherever_they_are_split() {
        for end in ["\n", "\r", "\r\n"] {
            let text = "data: one\n\nevent: error\ndata:two\nid: 7\n\ndata\n\n".replace('\n', end);
            assert_eq!(told(&text), of(&[("", "one"), ("error", "two"), ("", "")]), "{text:?}");
        }
        assert_eq!(
            told("data: é\r\n\r\ndata: \u{1F600}\n\n"),
            of(&[("", "é"), ("", "\u{1F600}")])
        );
    }

    #[test]
    fn data_of_several_lines_is_joined() {
        assert_eq!(told("data: {\ndata:  1\ndata\ndata: }\n\n"), of(&[("", "{\n 1\n\n}")]));
        assert_eq!(told("data: {\r\ndata: }\r\n\r\n"), of(&[("", "{\n}")]));
    }

    #[test]
    fn comments_unknown_fields_and_events_without_data_are_passed_over() {
        let text =
            ": keep-alive\n\n:\n\nretry: 10\n\nevent: ping\n\nfoo: bar\ndata: x\n: y\nbare\n\n\n\n: z\ndata: y\n\n";
        assert_eq!(told(text), of(&[("", "x"), ("", "y")]));
    }

    #[test]
    fn a_mark_at_the_beginning_is_skipped_and_nowhere_else() {
        assert_eq!(
            told("\u{FEFF}data: x\n\ndata: \u{FEFF}y\n\n"),
            of(&[("", "x"), ("", "\u{FEFF}y")])
        );
        assert_eq!(told("\u{FEFF}\n\n\u{FEFF}data: x\n\n"), of(&[]));
    }

    #[test]
    fn an_event_that_is_cut_off_is_none() {
        assert_eq!(told("data: x\n\ndata: y\n"), of(&[("", "x")]));
        assert_eq!(told("data: x"), of(&[]));
    }

    #[test]
    fn an_event_that_does_not_end_is_given_up_and_comments_are_not_kept() {
        let fed = |text: &str| {
            let mut events = Events::new(CAP);
            for _ in 0..2 * CAP {
                events.push(text.as_bytes());
                while events.next()?.is_some() {}
            }
            Ok(events.bytes.len())
        };
        for endless in ["x", "data: x\n", "foo: x\n", ":no line feed"] {
            assert_eq!(fed(endless), Err(TooLong), "{endless}");
        }
        for (endless, kept) in [(": x\n", 4), (": x\n\n", 5), ("data: x\n\n", 9), ("\n", 1)] {
            assert_eq!(fed(endless), Ok(kept), "{endless}");
        }
        let long = format!("data: {}\n\n", "x".repeat(CAP));
        assert_eq!(fed(&long), Err(TooLong));
    }

    #[test]
    fn of_lines_each_is_an_event() {
        for size in [1, 2, 7, 100] {
            let mut events = Events::of_lines(CAP);
            let mut all = Vec::new();
            for piece in b"\xEF\xBB\xBF{\"a\":1}\n\r\n{\"b\":2}\r\n{\"cut".chunks(size) {
                events.push(piece);
                while let Some(event) = events.next().unwrap() {
                    all.push(String::from_utf8_lossy(&event.data).into_owned());
                }
            }
            assert_eq!(all, [r#"{"a":1}"#, r#"{"b":2}"#], "in pieces of {size}");
        }
        let mut events = Events::of_lines(CAP);
        events.push("x".repeat(CAP + 1).as_bytes());
        assert_eq!(events.next(), Err(TooLong));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd_and_how_they_are_split_does_not_matter(
            bytes in prop::collection::vec(prop::sample::select(b"\r\n:dat evn\xEF\xBB\xBF".to_vec()), 0..60),
            size in 1usize..20,
        ) {
            prop_assert_eq!(read(&bytes, size), read(&bytes, 60));
        }
    }
}
