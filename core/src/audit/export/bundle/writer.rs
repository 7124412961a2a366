//! Writes the lines of a bundle and computes the digest over them.

use super::line::{self, End, Line, Manifest};
use crate::audit::export::statement::Envelope;
use crate::audit::format::hex::Hash;
use crate::audit::log::signed_note::Signer;
use sha2::{Digest as _, Sha256};

/// Writes a bundle from its first line to its last.
#[derive(Default)]
pub struct Writer {
    all: Sha256,
    lines: u64,
}

impl Writer {
    /// The line as text, without the newline that must follow it.
    pub fn line(&mut self, line: &Line) -> serde_json::Result<String> {
        let text = serde_json::to_string(line)?;
        self.all.update(&text);
        self.all.update("\n");
        self.lines += 1;
        Ok(text)
    }

    /// The last line, signed by the signer's key; `checkpoint` is the number of the checkpoint.
    pub fn end(self, manifest: &Manifest, checkpoint: i64, signer: &Signer) -> serde_json::Result<String> {
        let digest = self.all.finalize().into();
        let envelope = Envelope::sign(&line::statement(manifest, checkpoint, &digest)?, signer);
        serde_json::to_string(&Line::End(Box::new(End { lines: self.lines, digest: Hash(digest), envelope })))
    }
}
