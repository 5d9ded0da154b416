//! Taking texts out of files, in a child process.
//!
//! Files come from anybody, and their formats are wide: whatever reads them may be made to loop, to take all memory or to crash.
//! So a program of its own (`studios-extract`, which is [`child`]) reads one file from its input and writes the text; it has
//! no secrets in its environment, a bound on its CPU time, memory, and output, and ends at once when time is up. What it makes
//! of a file is a text or one of the [`Refusal`]s: nothing of the file itself gets into a reason.

use std::{
    env,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use service_kit::error::{Error, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{ChildStdin, Command},
    time::timeout,
};

use super::{
    MimeType,
    create::{TEXT_BYTES, Text},
};

pub mod child;
mod docx;
mod pdf;
mod sheets;
mod web;

/// How long it may take from first to last; less than a job's try.
const PATIENCE: Duration = Duration::from_secs(40);

/// What the program ends with when it panics.
const PANICKED: i32 = 101;

/// Why there is no text, as people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It needs a password.
    #[error("The file is encrypted. Upload it without a password.")]
    Encrypted,
    /// It is cut off, or not of its type.
    #[error("The file is damaged, or is not of the type that it says.")]
    Damaged,
    /// It shows nothing, or pictures alone.
    #[error("The file has no text. A scan must go through text recognition first.")]
    Empty,
    /// More than a document may have.
    #[error("The file has more text than the 4 MiB that a document may have.")]
    TooLong,
    /// The bounds on time were met.
    #[error("The file takes too long to read.")]
    TooSlow,
    /// The bounds on memory were met, or the reader crashed.
    #[error("The file takes more memory to read than is given to one file, or is damaged.")]
    TooMuch,
    /// The file was erased, or its bytes are lost.
    #[error("The file that the text is to be taken from is gone.")]
    Gone,
}

impl Refusal {
    /// Those that the program itself finds, with the codes that it ends with.
    const CODES: [(Self, u8); 5] = [
        (Self::Encrypted, 10),
        (Self::Damaged, 11),
        (Self::Empty, 12),
        (Self::TooLong, 13),
        (Self::TooMuch, 14),
    ];

    fn code(self) -> u8 {
        let found = Self::CODES.into_iter().find(|(it, _)| *it == self);
        found.map_or(1, |(_, code)| code)
    }
}

/// Where the program is if nobody says so: beside the one that runs, or above it, where that is a test of cargo's.
pub fn beside_this_program() -> PathBuf {
    let name = format!("studios-extract{}", env::consts::EXE_SUFFIX);
    let this = env::current_exe().unwrap_or_default();
    let mut folders = this.ancestors().skip(1).take(2).map(|folder| folder.join(&name));
    let found = folders.find(|it| it.is_file());
    found.unwrap_or_else(|| this.with_file_name(name))
}

/// Has the text of a file's content taken out by `program`.
///
/// # Errors
/// The content cannot be read, or the program cannot be run: neither is the file's fault.
pub(super) async fn run(
    program: &Path,
    mime_type: MimeType,
    content: BoxStream<'static, Result<Bytes>>,
) -> Result<Result<Text, Refusal>> {
    let mut child = Command::new(program)
        .arg(mime_type.name())
        .env_clear()
        // What the allocator would reserve at its start is all the memory that there is to be.
        .env("MIMALLOC_ARENA_RESERVE", "0")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Error::internal(format!("{} cannot be run: {error}", program.display())))?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Error::internal("a child without pipes"));
    };
    let work = async {
        let mut written = Vec::new();
        let mut output = output.take(TEXT_BYTES as u64 + 1);
        let (fed, read) = tokio::join!(feed(input, content), output.read_to_end(&mut written));
        fed?;
        read.map_err(Error::internal)?;
        if written.len() > TEXT_BYTES {
            return Ok(Err(Refusal::TooLong));
        }
        let status = child.wait().await.map_err(Error::internal)?;
        Ok(judge(status, written))
    };
    // Dropped, it is killed.
    timeout(PATIENCE, work).await.unwrap_or(Ok(Err(Refusal::TooSlow)))
}

/// Gives the child what it reads. One that has seen enough hears no more.
async fn feed(mut input: ChildStdin, mut content: BoxStream<'static, Result<Bytes>>) -> Result<()> {
    while let Some(block) = content.next().await {
        if input.write_all(&block?).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn judge(status: ExitStatus, written: Vec<u8>) -> Result<Text, Refusal> {
    match status.code() {
        Some(0) => {
            let text = String::from_utf8(written).map_err(|_| Refusal::Damaged)?;
            Text::read(text).map_err(|_| Refusal::Empty)
        }
        Some(PANICKED) => Err(Refusal::Damaged),
        Some(code) => {
            let found = Refusal::CODES.into_iter().find(|(_, it)| i32::from(*it) == code);
            Err(found.map_or(Refusal::TooMuch, |(refusal, _)| refusal))
        }
        None if child::ran_out_of_time(status) => Err(Refusal::TooSlow),
        None => Err(Refusal::TooMuch),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn however_the_program_ends_it_is_a_text_or_a_reason() {
        let ended = |code: u8| ExitStatus::from_raw(i32::from(code) << 8);
        let killed = ExitStatus::from_raw;
        assert_eq!(judge(ended(0), b"text".to_vec()).unwrap().content, "text");
        assert_eq!(judge(ended(0), b" \n".to_vec()), Err(Refusal::Empty));
        assert_eq!(judge(ended(0), vec![0xff]), Err(Refusal::Damaged));
        assert_eq!(judge(ended(101), Vec::new()), Err(Refusal::Damaged));
        for (refusal, code) in Refusal::CODES {
            assert_eq!(judge(ended(code), Vec::new()), Err(refusal));
            assert_eq!(refusal.code(), code);
        }
        assert_eq!(judge(ended(77), Vec::new()), Err(Refusal::TooMuch));
        assert_eq!(judge(killed(24), Vec::new()), Err(Refusal::TooSlow));
        assert_eq!(judge(killed(6), Vec::new()), Err(Refusal::TooMuch));
    }
}
