//! Reads a bundle line by line, with at most one line in memory.

use super::FORMAT;
use super::failure::Failure;
use super::line::{Line, Manifest};
use crate::audit::format::encoding::Digest;
use sha2::{Digest as _, Sha256};
use std::io::{BufRead, Read as _};

/// The default limit for the bytes of a line.
pub const MAX_LINE: usize = 64 * 1024 * 1024;

/// The lines of a bundle.
pub struct Lines<R> {
    input: R,
    max_line: usize,
    buffer: Vec<u8>,
    /// The number of lines that were read.
    pub number: u64,
    all: Sha256,
    before: Digest,
}

impl<R: BufRead> Lines<R> {
    /// Reads from `input`; a line with more than `max_line` bytes is an error.
    pub fn new(input: R, max_line: usize) -> Self {
        Lines { input, max_line, buffer: Vec::new(), number: 0, all: Sha256::new(), before: [0; 32] }
    }

    /// The digest over the bytes of all lines before the last one that was read.
    pub fn digest_before(&self) -> &Digest {
        &self.before
    }

    /// The first line.
    ///
    /// Errors: [`Failure::Unreadable`] for a file that is not a bundle, or is a bundle of another format.
    pub fn manifest(&mut self) -> Result<Manifest, Failure> {
        let foreign = || Failure::Unreadable("the first line is no manifest: this is not a bundle".into());
        if !self.read()? {
            return Err(Failure::Unreadable("the file is empty".into()));
        }
        #[derive(serde::Deserialize)]
        struct Format {
            format: String,
        }
        let format: Format = serde_json::from_slice(self.text()).map_err(|_| foreign())?;
        if format.format != FORMAT {
            let text = format!("the bundle is of the format {:?}, and this program reads {FORMAT:?}", format.format);
            return Err(Failure::Unreadable(text));
        }
        match self.parse()? {
            Line::Manifest(manifest) => Ok(manifest),
            _ => Err(foreign()),
        }
    }

    /// The next line; `None` at the end of the file.
    ///
    /// Errors: [`Failure::Unreadable`] for an error of the input or a line that is too long, [`Failure::Tampered`] for
    /// a malformed line.
    pub fn line(&mut self) -> Result<Option<Line>, Failure> {
        if self.read()? { self.parse().map(Some) } else { Ok(None) }
    }

    /// Reads the bytes of the next line; false at the end.
    fn read(&mut self) -> Result<bool, Failure> {
        // One for the newline, and one more to tell a line that is too long.
        let limit = self.max_line as u64 + 2;
        self.buffer.clear();
        let read = self.input.by_ref().take(limit).read_until(b'\n', &mut self.buffer);
        let read = read.map_err(|error| Failure::Unreadable(format!("line {}: {error}", self.number + 1)))?;
        if read == 0 {
            return Ok(false);
        }
        self.number += 1;
        if read as u64 == limit {
            let text = format!("line {} is longer than {} bytes", self.number, self.max_line);
            return Err(Failure::Unreadable(text));
        }
        if self.buffer.last() != Some(&b'\n') {
            return Err(self.tampered("the file ends within the line"));
        }
        self.before = self.all.clone().finalize().into();
        self.all.update(&self.buffer);
        Ok(true)
    }

    /// The bytes of the line without its newline.
    fn text(&self) -> &[u8] {
        self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer)
    }

    fn parse(&self) -> Result<Line, Failure> {
        let line: Line = serde_json::from_slice(self.text()).map_err(|error| {
            // The text of the error may quote what stands there, but no more than a word of it.
            self.tampered(&format!("not a line of a bundle ({error})"))
        })?;
        // One way to write a line: nothing unknown, nothing twice, no other spelling of the same.
        match line.to_bytes() {
            Ok(bytes) if bytes == self.text() => Ok(line),
            _ => Err(self.tampered("not written as the exporter writes it")),
        }
    }

    /// The failure for a mismatch in the line that was read last.
    pub fn tampered(&self, what: &str) -> Failure {
        Failure::Tampered(format!("line {}: {what}", self.number))
    }
}
