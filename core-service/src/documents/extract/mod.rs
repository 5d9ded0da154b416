//! Taking texts out of files, in a child process.
//!
//! Files come from anybody, and their formats are wide: whatever reads them may be made to loop, to take all memory or to crash.
//! So a program of its own (`studios-extract`, which is [`child`]) reads one file from its input and writes the text; it has
//! no secrets in its environment, a bound on its CPU time, memory, and output, and ends at once when time is up. Here nothing is
//! kept but a block of the text. What the program makes of a file is a text or one of the [`Refusal`]s, which is known at its end:
//! nothing of the file itself gets into a reason.

use std::{
    env,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    str,
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use service_kit::error::{Error, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{Instant, timeout},
};

use super::MimeType;

pub mod child;
mod docx;
mod encoding;
mod output;
mod pdf;
mod sheets;
mod web;

/// How much of a text is given on at a time, in bytes.
const BLOCK_BYTES: usize = 256 << 10;

/// For how many seconds a file of so many bytes may be read, of CPU time; by the clock it may be half as many more.
const fn patience_secs(file_bytes: u64) -> u64 {
    30 + file_bytes / (1 << 20)
}

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
    /// More than a document may have of it.
    #[error("The file has more text than a document may have of it.")]
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
    const CODES: [(Self, u8); 4] = [
        (Self::Encrypted, 10),
        (Self::Damaged, 11),
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

/// A text that is being taken out of a file. Dropped, it ends the program.
pub(super) struct Extraction {
    child: Child,
    output: ChildStdout,
    /// Gives the program the file.
    feeding: Option<BoxFuture<'static, Result<()>>>,
    /// What is read of the text and not given on yet.
    block: Vec<u8>,
    /// How many bytes there may still be.
    room: u64,
    /// How long it may still be waited for.
    patience: Duration,
    is_over: bool,
}

impl Extraction {
    /// Begins to take the text, of at most so many bytes, out of a file's content.
    ///
    /// # Errors
    /// The program cannot be run.
    pub(super) fn begin(
        program: &Path,
        mime_type: MimeType,
        most: u64,
        file_bytes: u64,
        content: BoxStream<'static, Result<Bytes>>,
    ) -> Result<Self> {
        let mut child = Command::new(program)
            .args([mime_type.name(), &most.to_string(), &file_bytes.to_string()])
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
        Ok(Self {
            child,
            output,
            feeding: Some(feed(input, content).boxed()),
            block: Vec::with_capacity(BLOCK_BYTES),
            room: most,
            patience: Duration::from_secs(patience_secs(file_bytes)) * 3 / 2,
            is_over: false,
        })
    }

    /// The next block of the text; `None` at its end. What is done with it takes nothing of the file's time.
    ///
    /// # Errors
    /// The content cannot be read, which is not the file's fault.
    pub(super) async fn next(&mut self) -> Result<Result<Option<String>, Refusal>> {
        if self.is_over {
            return Ok(Ok(None));
        }
        let begun = Instant::now();
        let Ok(ended) = timeout(self.patience, self.fill()).await else {
            return Ok(Err(Refusal::TooSlow));
        };
        let ended = ended?;
        self.patience = self.patience.saturating_sub(begun.elapsed());
        if let Some(Err(refusal)) = ended.map(judge) {
            return Ok(Err(refusal));
        }
        self.is_over = ended.is_some();
        let read = self.block.len() as u64;
        let Some(text) = text(&mut self.block, self.is_over) else {
            return Ok(Err(Refusal::Damaged));
        };
        let given = read - self.block.len() as u64;
        let Some(room) = self.room.checked_sub(given) else {
            return Ok(Err(Refusal::TooLong));
        };
        self.room = room;
        Ok(Ok(Some(text)))
    }

    /// Reads until there is a block, or the program has ended: then how.
    async fn fill(&mut self) -> Result<Option<ExitStatus>> {
        while self.block.len() < BLOCK_BYTES {
            let read = match &mut self.feeding {
                Some(feeding) => tokio::select! {
                    fed = feeding => {
                        fed?;
                        self.feeding = None;
                        continue;
                    }
                    read = self.output.read_buf(&mut self.block) => read,
                },
                None => self.output.read_buf(&mut self.block).await,
            };
            if read.map_err(Error::internal)? == 0 {
                // It hears no more.
                self.feeding = None;
                return Ok(Some(self.child.wait().await.map_err(Error::internal)?));
            }
        }
        Ok(None)
    }
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

/// The characters that are there in full, which are taken out of a block; `None` where they are none.
fn text(block: &mut Vec<u8>, is_last: bool) -> Option<String> {
    let whole = match str::from_utf8(block) {
        Ok(text) => text.len(),
        Err(error) if error.error_len().is_none() && !is_last => error.valid_up_to(),
        Err(_) => return None,
    };
    let rest = block.split_off(whole);
    String::from_utf8(std::mem::replace(block, rest)).ok()
}

fn judge(status: ExitStatus) -> Result<(), Refusal> {
    match status.code() {
        Some(0) => Ok(()),
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
        assert_eq!(judge(ended(0)), Ok(()));
        assert_eq!(judge(ended(101)), Err(Refusal::Damaged));
        for (refusal, code) in Refusal::CODES {
            assert_eq!(judge(ended(code)), Err(refusal));
            assert_eq!(refusal.code(), code);
        }
        assert_eq!(judge(ended(77)), Err(Refusal::TooMuch));
        assert_eq!(judge(killed(24)), Err(Refusal::TooSlow));
        assert_eq!(judge(killed(6)), Err(Refusal::TooMuch));
    }

    #[test]
    fn a_character_that_is_cut_waits_for_its_other_half() {
        let mut block = "aö".as_bytes()[..2].to_vec();
        assert_eq!(text(&mut block, false).as_deref(), Some("a"));
        assert_eq!(block, "ö".as_bytes()[..1]);
        assert_eq!(text(&mut block.clone(), true), None);
        block.push("ö".as_bytes()[1]);
        assert_eq!(text(&mut block, true).as_deref(), Some("ö"));
        assert!(block.is_empty());
        assert_eq!(text(&mut vec![0xff, b'a'], false), None);
    }
}
