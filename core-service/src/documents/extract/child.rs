//! The program `studios-extract`: bounds itself, reads a file from its input, writes the text to its output. It is told what the
//! file is, how many bytes its text may have, and how many it has itself.

use std::{
    env,
    io::{self, BufWriter, Read},
    os::unix::process::ExitStatusExt,
    panic,
    process::{ExitCode, ExitStatus},
    thread,
};

use rustix::process::{Resource, Rlimit, setrlimit};

use super::{MimeType, Refusal, docx, encoding, output::Output, patience_secs, pdf, sheets, web};

const MEMORY_BYTES: u64 = 1 << 30;
const STACK_BYTES: usize = 64 << 20;
/// How much of the text is written at a time.
const OUTPUT_BYTES: usize = 64 << 10;

const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;

/// What it ends with when it was called or bounded wrongly.
const MISUSED: u8 = 2;

/// Does the program's work, and says how it ends.
pub fn main() -> ExitCode {
    panic::set_hook(Box::new(|_| {}));
    let mut told = env::args().skip(1);
    let kind = told.next().as_deref().and_then(MimeType::parse);
    let mut number = || told.next().and_then(|it| it.parse::<u64>().ok());
    let (Some(kind), Some(most), Some(file_bytes)) = (kind, number(), number()) else {
        return MISUSED.into();
    };
    if !is_bounded(patience_secs(file_bytes)) {
        return MISUSED.into();
    }
    // Readers descend as deep as files are nested.
    let reader = thread::Builder::new().stack_size(STACK_BYTES);
    let Ok(reader) = reader.spawn(move || work(kind, most)) else {
        return Refusal::TooMuch.code().into();
    };
    let done = reader.join().unwrap_or(Err(Refusal::Damaged));
    done.map_or_else(|refusal| refusal.code().into(), |()| ExitCode::SUCCESS)
}

/// Takes the text out of what comes in.
fn work(kind: MimeType, most: u64) -> Result<(), Refusal> {
    let mut stdout = BufWriter::with_capacity(OUTPUT_BYTES, io::stdout().lock());
    let mut output = Output::new(&mut stdout, most);
    text(kind, io::stdin().lock(), &mut output)?;
    output.flush().map_err(|_| Refusal::TooMuch)
}

/// Takes from this process what a reader of files does not need.
fn is_bounded(cpu_seconds: u64) -> bool {
    let bounds = [
        (Resource::As, MEMORY_BYTES),
        (Resource::Cpu, cpu_seconds),
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

/// Writes the text of a file: as it stands, as markdown, or pages parted by form feeds. Only texts are written as they are read: all
/// other formats say at their end, or anywhere, what is in them.
fn text(kind: MimeType, mut from: impl Read, output: &mut Output<'_>) -> Result<(), Refusal> {
    if matches!(kind, MimeType::Plain | MimeType::Markdown | MimeType::Csv) {
        return encoding::copy(from, output);
    }
    let mut content = Vec::new();
    from.read_to_end(&mut content).map_err(|_| Refusal::TooMuch)?;
    match kind {
        MimeType::Plain | MimeType::Markdown | MimeType::Csv => Ok(()),
        MimeType::Html => web::text(&content, output),
        MimeType::Pdf => pdf::text(&content, output),
        MimeType::Docx => docx::text(content, output),
        MimeType::Xlsx => sheets::text(content, output),
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
    use super::{super::output::written, *};

    #[test]
    fn what_is_not_of_its_type_is_refused() {
        for kind in [MimeType::Pdf, MimeType::Docx, MimeType::Xlsx] {
            for bytes in [&b""[..], b"plain text", b"PK\x03\x04", b"%PDF-1.7\n1 0 obj"] {
                let read = written(|output| text(kind, bytes, output));
                assert_eq!(read, Err(Refusal::Damaged), "{kind:?} {bytes:?}");
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
