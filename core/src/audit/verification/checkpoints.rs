//! Verifies the stored checkpoints: the link to the previous one, the signature, and the signed log.

use super::range;
use super::{Finding, FindingKind};
use crate::audit::format::encoding::Digest;
use crate::audit::log::checkpoint::Entry;
use crate::audit::log::head_tree::HeadNode;
use crate::audit::log::merkle::{self, Frontier};
use crate::audit::log::signed_note::{self, Checkpoint, Verifier};
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// A row of `tenancy.checkpoint`.
#[derive(Debug, Clone)]
pub struct StoredCheckpoint {
    /// The columns that the digest covers.
    pub entry: Entry,
    /// The stored digest of the entry.
    pub digest: Digest,
    /// The stored root of the log up to this checkpoint.
    pub root: Digest,
    /// The stored roots of the perfect subtrees of the log, largest first, 32 bytes each.
    pub frontier: Vec<u8>,
    /// The name of the signed log, which ends with a slash and the name of the incarnation.
    pub origin: String,
    /// The signed note with the signatures of all keys in use.
    pub note: String,
}

/// Verifies checkpoints in the order in which they were made.
pub struct Checkpoints {
    keys: Vec<Verifier>,
    /// The digest of the previous checkpoint; `None` before the very first.
    before: Option<Digest>,
    /// The log of each incarnation, by name.
    logs: HashMap<String, Frontier>,
}

impl Checkpoints {
    /// Begins after a checkpoint that an earlier run has verified, or before the first checkpoint.
    pub fn after(before: Option<&StoredCheckpoint>, keys: Vec<Verifier>) -> Self {
        let log = |row: &StoredCheckpoint| Some((row.entry.incarnation.clone(), frontier(row)?));
        Checkpoints { keys, before: before.map(|row| row.digest), logs: before.and_then(log).into_iter().collect() }
    }

    /// Verifies the next checkpoint.
    pub fn next(&mut self, row: &StoredCheckpoint) -> Vec<Finding> {
        let entry = &row.entry;
        let name = format!("checkpoint {} of {}", entry.number, entry.incarnation);
        let mut found = Vec::new();
        let mut report = |finding, text: String| found.push(Finding::in_block(finding, entry.block, text));
        if entry.digest() != row.digest {
            report(FindingKind::Altered, format!("{name} is not what was signed"));
        }
        let log = self.logs.entry(entry.incarnation.clone()).or_default();
        let expected = log.size() as i64 + 1;
        if entry.number > expected {
            let gone = range("checkpoint", "checkpoints", expected, entry.number - 1);
            report(FindingKind::Missing, format!("{gone} gone of {}", entry.incarnation));
            *log = frontier(row).unwrap_or_default();
        } else {
            if entry.previous != self.before {
                report(FindingKind::Forked, format!("{name} does not follow from the one before"));
            }
            log.push(merkle::leaf_hash(&row.digest), |_, _, _| ());
            if log.root() != row.root || log.to_bytes() != row.frontier {
                report(
                    FindingKind::Altered,
                    format!("{name} has another root than the log of the checkpoints up to it"),
                );
            }
        }
        if let Some(fault) = self.fault_of_note(row) {
            report(FindingKind::Altered, format!("{name} {fault}"));
        }
        self.before = Some(row.digest);
        found
    }

    /// The mismatch between the note and the row, if there is one.
    fn fault_of_note(&self, row: &StoredCheckpoint) -> Option<&'static str> {
        let stored = Checkpoint { origin: row.origin.clone(), size: row.entry.number as u64, root: row.root };
        let names_history = row.origin.rsplit_once('/').is_some_and(|(_, name)| name == row.entry.incarnation);
        match signed_note::open(&row.note, &self.keys) {
            Err(_) => Some("has no good signature of a key in tenancy.signing_key"),
            Ok((text, _)) if Checkpoint::parse(text).as_ref() != Ok(&stored) => Some("has a note with another content"),
            Ok(_) if !names_history => Some("has a note of another history"),
            Ok(_) => None,
        }
    }
}

/// The log as the row stores it; `None` if it is not a frontier of that size.
fn frontier(row: &StoredCheckpoint) -> Option<Frontier> {
    Frontier::from_bytes(u64::try_from(row.entry.number).ok()?, &row.frontier)
}

/// Compares a note that the caller kept with the stored checkpoints.
pub struct KeptNote {
    /// The checkpoint in the note.
    pub checkpoint: Checkpoint,
    log: Frontier,
}

impl KeptNote {
    /// Opens a note that the key has signed.
    ///
    /// Errors: those of [`signed_note::open`] and [`Checkpoint::parse`].
    pub fn open(text: &str, key: &Verifier) -> Result<Self, signed_note::Malformed> {
        let (text, _) = signed_note::open(text, std::slice::from_ref(key))?;
        Ok(KeptNote { checkpoint: Checkpoint::parse(text)?, log: Frontier::default() })
    }

    /// Name of the incarnation in the origin of the note; empty if the origin has none.
    pub fn incarnation(&self) -> &str {
        self.checkpoint.origin.rsplit_once('/').map_or("", |(_, incarnation)| incarnation)
    }

    /// Adds the next checkpoint of that incarnation, recomputed from its columns; false if no more are needed.
    pub fn next(&mut self, entry: &Entry) -> bool {
        let more = self.log.size() < self.checkpoint.size && entry.number == self.log.size() as i64 + 1;
        if more {
            self.log.push(entry.leaf(), |_, _, _| ());
        }
        more
    }

    /// The mismatch between the stored checkpoints and the note, if there is one.
    pub fn compare(&self) -> Option<Finding> {
        let (stored, signed) = (self.log.size(), self.checkpoint.size);
        if stored < signed {
            let text = format!("of the {signed} checkpoints that were signed, only the first {stored} are stored");
            return Some(Finding::anywhere(FindingKind::Truncated, text));
        }
        (self.log.root() != self.checkpoint.root).then(|| {
            let text = "the stored checkpoints are not those that were signed";
            Finding::anywhere(FindingKind::Forked, text)
        })
    }
}

/// Compares the nodes that the checkpoint over a block has changed with the stored ones, of which `None` is one that
/// cannot be read.
pub fn compare_nodes(block: i64, expected: &[HeadNode], stored: Vec<Option<HeadNode>>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut report = |finding, level: u32, index: u64, fault: &str| {
        let text = format!("node {index} of level {level} in tenancy.head_node {fault}");
        found.push(Finding::in_block(finding, block, text));
    };
    let mut rows = BTreeMap::new();
    let mut unreadable = 0;
    for node in stored {
        match node {
            Some(node) => drop(rows.insert((node.level, node.index), node.hash)),
            None => unreadable += 1,
        }
    }
    for HeadNode { level, index, hash } in expected {
        match rows.remove(&(*level, *index)) {
            Some(stored) if stored == *hash => (),
            Some(_) => report(FindingKind::Altered, *level, *index, "is not the node over the heads"),
            None => report(FindingKind::Missing, *level, *index, "is gone"),
        }
    }
    for (level, index) in rows.into_keys() {
        report(FindingKind::Inserted, level, index, "is not one that the checkpoint changed");
    }
    if unreadable > 0 {
        let text = format!("{unreadable} rows in tenancy.head_node have a column with an invalid value");
        found.push(Finding::in_block(FindingKind::Altered, block, text));
    }
    found
}

/// Compares the leaves of the organizations with the stored ones.
pub struct Leaves<'e> {
    expected: &'e [Uuid],
    seen: Vec<bool>,
    /// True if there are no others.
    all: bool,
    found: Vec<Finding>,
}

impl<'e> Leaves<'e> {
    /// `expected` has the organizations in the order of their leaves.
    pub fn new(expected: &'e [Uuid], all: bool) -> Self {
        Leaves { expected, seen: vec![false; expected.len()], all, found: Vec::new() }
    }

    /// Compares a stored row.
    pub fn next(&mut self, leaf: i64, organization: Uuid) {
        let place = usize::try_from(leaf).ok().filter(|place| *place < self.expected.len());
        let (finding, text) = match place {
            Some(place) => {
                self.seen[place] = true;
                if self.expected[place] == organization {
                    return;
                }
                (FindingKind::Altered, format!("leaf {leaf} in tenancy.head_leaf belongs to another organization"))
            }
            None if leaf < 0 || self.all => {
                (FindingKind::Inserted, format!("leaf {leaf} in tenancy.head_leaf is not one of a checkpoint"))
            }
            None => return,
        };
        self.found.push(Finding::anywhere(finding, text).of(organization));
    }

    /// What was found, with the leaves that are gone.
    pub fn finish(mut self) -> Vec<Finding> {
        for (leaf, organization) in self.expected.iter().enumerate().filter(|(leaf, _)| !self.seen[*leaf]) {
            let text = format!("leaf {leaf} is gone from tenancy.head_leaf");
            self.found.push(Finding::anywhere(FindingKind::Missing, text).of(*organization));
        }
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::log::signed_note::Signer;

    fn signer(name: &str) -> Signer {
        // An Ed25519 key in PKCS #8, made from the seed of RFC 8032 section 7.1, test 1.
        let seed: [u8; 32] = *b"0123456789abcdef0123456789abcdef";
        let der = [&[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20], &seed[..]].concat();
        let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        Signer::parse(&format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----"), name).unwrap()
    }

    fn rows(count: i64) -> Vec<StoredCheckpoint> {
        let (mut previous, mut log) = (None, Frontier::default());
        let row = |number| {
            let entry = Entry {
                incarnation: "a".into(),
                number,
                made_at: number,
                block: number * 10,
                block_hash: [number as u8; 32],
                heads: 1,
                heads_root: [2; 32],
                previous,
            };
            previous = Some(entry.digest());
            log.push(entry.leaf(), |_, _, _| ());
            let signed = Checkpoint { origin: "test/a".into(), size: number as u64, root: log.root() };
            let note = signer("test").sign(&signed.text()).unwrap();
            StoredCheckpoint {
                digest: entry.digest(),
                entry,
                root: log.root(),
                frontier: log.to_bytes(),
                origin: "test/a".into(),
                note,
            }
        };
        (1..=count).map(row).collect()
    }

    fn verify(rows: &[StoredCheckpoint]) -> Vec<(i64, FindingKind)> {
        let mut verifier = Checkpoints::after(None, vec![signer("test").verifier().clone()]);
        let found = rows.iter().flat_map(|row| verifier.next(row));
        found.map(|found| (found.block.unwrap(), found.finding)).collect()
    }

    #[test]
    fn untouched_checkpoints_verify_from_the_first_and_from_any_other() {
        let rows = rows(5);
        assert_eq!(verify(&rows), []);
        let mut verifier = Checkpoints::after(Some(&rows[2]), vec![signer("test").verifier().clone()]);
        assert!(rows[3..].iter().all(|row| verifier.next(row).is_empty()));
    }

    #[test]
    fn each_change_is_named() {
        let changed = |change: fn(&mut Vec<StoredCheckpoint>)| {
            let mut rows = rows(4);
            change(&mut rows);
            verify(&rows)
        };
        let altered = [(20, FindingKind::Altered)];
        assert_eq!(changed(|rows| rows[1].entry.made_at = 9), altered);
        assert_eq!(changed(|rows| rows[1].entry.heads_root = [9; 32]), altered);
        assert_eq!(changed(|rows| rows[1].frontier = vec![]), altered);
        assert_eq!(changed(|rows| rows[1].note = rows[2].note.clone()), altered);
        assert_eq!(changed(|rows| rows[1].note = rows[1].note.replace("test ", "other ")), altered);
        assert!(changed(|rows| rows[1].root = [9; 32]).contains(&altered[0]));
        assert_eq!(changed(|rows| drop(rows.remove(1))), [(30, FindingKind::Missing)]);
        let rewritten = changed(|rows| {
            rows[1].entry.block_hash = [9; 32];
            rows[1].digest = rows[1].entry.digest();
        });
        assert!(rewritten.contains(&altered[0]) && rewritten.contains(&(30, FindingKind::Forked)), "{rewritten:?}");
    }

    #[test]
    fn a_note_that_was_kept_tells_whether_its_history_is_still_there() {
        let rows = rows(5);
        let kept = |count: usize, change: fn(&mut Entry)| {
            let mut kept = KeptNote::open(&rows[3].note, signer("test").verifier()).unwrap();
            assert_eq!(kept.incarnation(), "a");
            let mut entries: Vec<Entry> = rows[..count].iter().map(|row| row.entry.clone()).collect();
            change(&mut entries[1]);
            entries.iter().for_each(|entry| {
                kept.next(entry);
            });
            kept.compare().map(|found| found.finding)
        };
        assert_eq!(kept(5, |_| ()), None);
        assert_eq!(kept(4, |_| ()), None);
        assert_eq!(kept(3, |_| ()), Some(FindingKind::Truncated));
        assert_eq!(kept(5, |entry| entry.block_hash = [9; 32]), Some(FindingKind::Forked));
        assert!(KeptNote::open(&rows[3].note, signer("other").verifier()).is_err());
    }

    #[test]
    fn each_node_and_leaf_that_is_not_as_it_was_is_named() {
        let node = |index, hash| HeadNode { level: 3, index, hash: [hash; 32] };
        let found = |stored: Vec<Option<HeadNode>>| -> Vec<FindingKind> {
            let expected = [node(0, 1), node(1, 2)];
            compare_nodes(7, &expected, stored).into_iter().map(|found| found.finding).collect()
        };
        assert_eq!(found(vec![Some(node(1, 2)), Some(node(0, 1))]), []);
        assert_eq!(found(vec![Some(node(0, 1)), Some(node(1, 9))]), [FindingKind::Altered]);
        assert_eq!(found(vec![Some(node(0, 1))]), [FindingKind::Missing]);
        assert_eq!(found(vec![Some(node(0, 1)), Some(node(1, 2)), Some(node(2, 3))]), [FindingKind::Inserted]);
        assert_eq!(found(vec![Some(node(0, 1)), None]), [FindingKind::Missing, FindingKind::Altered]);

        let order = [1, 2, 3].map(Uuid::from_u128);
        let found = |all, stored: &[(i64, u128)]| -> Vec<FindingKind> {
            let mut leaves = Leaves::new(&order, all);
            stored.iter().for_each(|(leaf, organization)| leaves.next(*leaf, Uuid::from_u128(*organization)));
            leaves.finish().into_iter().map(|found| found.finding).collect()
        };
        assert_eq!(found(true, &[(0, 1), (1, 2), (2, 3)]), []);
        assert_eq!(found(true, &[(0, 2), (1, 1), (2, 3)]), [FindingKind::Altered; 2]);
        assert_eq!(found(true, &[(0, 1), (2, 3)]), [FindingKind::Missing]);
        assert_eq!(found(true, &[(0, 1), (1, 2), (2, 3), (3, 4)]), [FindingKind::Inserted]);
        assert_eq!(found(false, &[(0, 1), (1, 2), (2, 3), (3, 4)]), [], "a later checkpoint has it");
        assert_eq!(found(false, &[(0, 1), (1, 2), (2, 3), (-1, 4)]), [FindingKind::Inserted]);
    }
}
