//! What the program writes: the text, as it is taken out of the file, up to a bound.

use std::io::{self, Write};

use super::Refusal;

/// Where the text goes.
pub(super) struct Output<'a> {
    to: &'a mut dyn Write,
    /// How many bytes it may still have.
    room: u64,
}

impl<'a> Output<'a> {
    /// Writes at most so many bytes.
    pub(super) fn new(to: &'a mut dyn Write, most: u64) -> Self {
        Self { to, room: most }
    }

    /// Writes a piece of the text.
    pub(super) fn push(&mut self, text: &str) -> Result<(), Refusal> {
        self.has_room(text.len())?;
        self.room -= text.len() as u64;
        // Whoever reads no more has ended this.
        self.to.write_all(text.as_bytes()).map_err(|_| Refusal::TooMuch)
    }

    /// Refuses what is kept for later where it will be too long.
    pub(super) fn has_room(&self, bytes: usize) -> Result<(), Refusal> {
        if bytes as u64 > self.room {
            return Err(Refusal::TooLong);
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// What a reader writes, for tests.
#[cfg(test)]
pub(super) fn written(work: impl FnOnce(&mut Output<'_>) -> Result<(), Refusal>) -> Result<String, Refusal> {
    let mut bytes = Vec::new();
    work(&mut Output::new(&mut bytes, u64::MAX))?;
    Ok(String::from_utf8(bytes).unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_may_be_as_long_as_its_bound_and_no_longer() {
        let mut bytes = Vec::new();
        let mut output = Output::new(&mut bytes, 5);
        assert_eq!(output.push("abc"), Ok(()));
        assert_eq!(output.has_room(3), Err(Refusal::TooLong));
        assert_eq!(output.push("de"), Ok(()));
        assert_eq!(output.push("f"), Err(Refusal::TooLong));
        assert_eq!(bytes, b"abcde");
    }
}
