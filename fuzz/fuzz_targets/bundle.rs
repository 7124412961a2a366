//! Of all bundles that one key has signed, as they are or with a new end that the key signs, only those with the
//! events of the signed history are proved.

#![no_main]

use aws_lc_rs::digest;
use libfuzzer_sys::fuzz_target;
use pg_tenancy_core::audit::export::bundle::line::{self, End, Line};
use pg_tenancy_core::audit::export::bundle::report::{self, Names, Verdict};
use pg_tenancy_core::audit::export::bundle::verify::{Expected, verify};
use pg_tenancy_core::audit::export::statement::Envelope;
use pg_tenancy_core::audit::format::hex::Hash;
use pg_tenancy_fuzz::{BUNDLE, SIGNER};

/// The same lines with an end that fits, as somebody with the key would put it under them.
fn sealed_anew(data: &[u8]) -> Option<Vec<u8>> {
    let end = data.strip_suffix(b"\n")?.iter().rposition(|byte| *byte == b'\n')? + 1;
    let lines = &data[..end];
    let Ok(Line::Manifest(manifest)) = serde_json::from_slice(lines.split(|byte| *byte == b'\n').next()?) else {
        return None;
    };
    let digest = digest::digest(&digest::SHA256, lines).as_ref().try_into().expect("32 bytes");
    let statement = line::statement(&manifest, checkpoint(lines)?, &digest).expect("JSON");
    let count = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
    let envelope = Envelope::sign(&statement, &SIGNER);
    let end = Line::End(Box::new(End { lines: count, digest: Hash(digest), envelope }));
    Some([lines, &end.to_bytes().expect("JSON"), b"\n"].concat())
}

fn checkpoint(lines: &[u8]) -> Option<i64> {
    match serde_json::from_slice(lines.split(|byte| *byte == b'\n').nth(1)?) {
        Ok(Line::Checkpoint(checkpoint)) => Some(checkpoint.number),
        _ => None,
    }
}

fn is_batch(line: &&str) -> bool {
    line.starts_with("{\"type\":\"batch\"")
}

fuzz_target!(|data: &[u8]| {
    let expected = Expected { keys: vec![SIGNER.verifier().clone()], max_line: 20_000, ..Expected::default() };
    if let Ok(outcome) = verify(data, &expected) {
        assert!(outcome.verdict() != Verdict::Proved || data == BUNDLE.as_bytes(), "a bundle that nobody signed");
    }
    let Some(sealed) = sealed_anew(data) else { return };
    if let Ok(outcome) = verify(sealed.as_slice(), &expected) {
        let names = Names::default();
        let said = report::lines(&outcome, &names).join("\n") + &report::to_json(&outcome, &names).to_string();
        assert!(!said.contains('\u{1b}'));
        let text = std::str::from_utf8(&sealed).expect("JSON");
        let original: Vec<&str> = BUNDLE.lines().filter(is_batch).collect();
        for batch in text.lines().filter(is_batch) {
            // Without the payload of an event, a batch has another line and the same hash.
            assert!(batch.contains("\"payload\":null") || original.contains(&batch), "a batch that never was: {batch}");
        }
    }
});
