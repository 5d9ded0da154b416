//! The program `studios-extract`: bounds itself, reads a file from its input, writes the text to its output.

use std::{
    env,
    io::{self, Read, Write},
    os::unix::process::ExitStatusExt,
    panic,
    process::{ExitCode, ExitStatus},
    str, thread,
};

use encoding_rs::{Encoding, WINDOWS_1252};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::{MimeType, Refusal, TEXT_BYTES, docx, pdf, sheets, web};

const MEMORY_BYTES: u64 = 1 << 30;
const CPU_SECONDS: u64 = 30;
const STACK_BYTES: usize = 64 << 20;

const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;

/// What it ends with when it was called or bounded wrongly.
const MISUSED: u8 = 2;

/// Does the program's work, and says how it ends.
pub fn main() -> ExitCode {
    panic::set_hook(Box::new(|_| {}));
    let kind = env::args().nth(1).as_deref().and_then(MimeType::parse);
    let (Some(kind), true) = (kind, is_bounded()) else {
        return MISUSED.into();
    };
    let mut content = Vec::new();
    if io::stdin().lock().read_to_end(&mut content).is_err() {
        return Refusal::TooMuch.code().into();
    }
    // Readers descend as deep as files are nested.
    let reader = thread::Builder::new().stack_size(STACK_BYTES);
    let Ok(reader) = reader.spawn(move || text(kind, content)) else {
        return Refusal::TooMuch.code().into();
    };
    match reader.join().unwrap_or(Err(Refusal::Damaged)) {
        Ok(text) if text.len() > TEXT_BYTES => Refusal::TooLong.code().into(),
        Ok(text) => {
            let mut output = io::stdout().lock();
            let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
            written.map_or(MISUSED.into(), |()| ExitCode::SUCCESS)
        }
        Err(refusal) => refusal.code().into(),
    }
}

/// Takes from this process what a reader of files does not need.
fn is_bounded() -> bool {
    let bounds = [
        (Resource::As, MEMORY_BYTES),
        (Resource::Cpu, CPU_SECONDS),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nofile, 8),
    ];
    bounds.into_iter().all(|(resource, most)| {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit).is_ok()
    })
}

/// Whether a process was ended by its bound on CPU time.
pub(super) fn ran_out_of_time(status: ExitStatus) -> bool {
    matches!(status.signal(), Some(SIGXCPU | SIGKILL))
}

/// The text of a file: as it stands, as markdown, or pages parted by form feeds.
pub(super) fn text(kind: MimeType, content: Vec<u8>) -> Result<String, Refusal> {
    let text = match kind {
        MimeType::Plain | MimeType::Markdown | MimeType::Csv => decode(&content, None),
        MimeType::Html => web::text(&content)?,
        MimeType::Pdf => pdf::text(&content)?,
        MimeType::Docx => docx::text(content)?,
        MimeType::Xlsx => sheets::text(content)?,
    };
    let blank = text.chars().all(|it| super::super::chunker::is_blank(it) || it == '\0');
    if blank { Err(Refusal::Empty) } else { Ok(text) }
}

/// Reads a text by its byte order mark, as UTF-8, as what it says of itself, or as what editors wrote before UTF-8.
pub(super) fn decode(content: &[u8], said: Option<&'static Encoding>) -> String {
    if let Some((encoding, _)) = Encoding::for_bom(content) {
        return encoding.decode(content).0.into_owned();
    }
    match str::from_utf8(content) {
        Ok(text) => text.to_owned(),
        Err(_) => said.unwrap_or(WINDOWS_1252).decode(content).0.into_owned(),
    }
}

/// A line that is not to be taken for a heading or a rule of markdown.
pub(super) fn escaped(line: &str) -> String {
    let start = line.trim_start();
    let is_ruled = !start.is_empty() && (start.chars().all(|it| it == '=') || start.chars().all(|it| it == '-'));
    if start.starts_with('#') || is_ruled {
        format!("\\{start}")
    } else {
        line.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_in_the_encoding_it_has() {
        let read = |bytes: &[u8]| text(MimeType::Plain, bytes.to_vec());
        assert_eq!(read("Öl".as_bytes()).unwrap(), "Öl");
        assert_eq!(read(b"\xd6l").unwrap(), "Öl");
        assert_eq!(read(b"\xff\xfeO\0k\0").unwrap(), "Ok");
    }

    #[test]
    fn what_shows_nothing_is_refused() {
        for bytes in [&b""[..], b" \n\t", b"\xef\xbb\xbf", b"\0"] {
            assert_eq!(text(MimeType::Plain, bytes.to_vec()), Err(Refusal::Empty));
        }
        assert_eq!(text(MimeType::Html, b"<p></p>".to_vec()), Err(Refusal::Empty));
    }

    #[test]
    fn what_is_not_of_its_type_is_refused() {
        for kind in [MimeType::Pdf, MimeType::Docx, MimeType::Xlsx] {
            for bytes in [&b""[..], b"plain text", b"PK\x03\x04", b"%PDF-1.7\n1 0 obj"] {
                assert_eq!(text(kind, bytes.to_vec()), Err(Refusal::Damaged), "{kind:?} {bytes:?}");
            }
        }
    }

    #[test]
    fn a_line_that_looks_like_markdown_stays_a_line() {
        assert_eq!(escaped("# 5 of 9"), "\\# 5 of 9");
        assert_eq!(escaped("---"), "\\---");
        assert_eq!(escaped("a - b"), "a - b");
    }
}
