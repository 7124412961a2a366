//! Verifies a bundle in one pass, from the bundle and what the caller knows.
//!
//! Decision: `docs/decisions/45-evidence-bundle.md`.

use super::failure::Failure;
use super::line::{self, Absent, Checkpoint, End, Event, Evidence, Head, Line, Manifest, Range, Withheld};
use super::reader::{Lines, MAX_LINE};
use crate::audit::export::evidence;
use crate::audit::export::statement::Envelope;
use crate::audit::format::encoding::Digest;
use crate::audit::format::event::{Actor, ENCODING, payload_digest};
use crate::audit::format::hex::Hash;
use crate::audit::log::chain;
use crate::audit::log::checkpoint;
use crate::audit::log::merkle::{self, Frontier};
use crate::audit::log::signed_note::{self, Verifier};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::BufRead;
use uuid::Uuid;

/// What the caller knows and asks for.
pub struct Expected {
    /// The keys that the caller trusts, obtained from elsewhere than the bundle.
    pub keys: Vec<Verifier>,
    /// The note of an earlier checkpoint, which the caller kept or got from somebody else.
    pub earlier: Option<String>,
    /// Digests (SHA-256) of artifacts that the caller has.
    pub artifacts: Vec<Digest>,
    /// The most bytes of a line.
    pub max_line: usize,
}

impl Default for Expected {
    fn default() -> Self {
        Expected { keys: Vec::new(), earlier: None, artifacts: Vec::new(), max_line: MAX_LINE }
    }
}

/// The contents of a bundle that is consistent.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The manifest of the bundle.
    pub manifest: Manifest,
    /// The signed checkpoint: origin, size and root of the log.
    pub checkpoint: signed_note::Checkpoint,
    /// Time of the checkpoint, in microseconds since 1970 UTC.
    pub made_at: i64,
    /// The number of the organization's events at the checkpoint: the position of its head.
    pub head: i64,
    /// Keys of the caller that signed the checkpoint.
    pub signers: Vec<Verifier>,
    /// Other keys that signed the checkpoint, as the bundle states them.
    pub unknown_signers: Vec<Verifier>,
    /// Whether a key of the caller signed the bundle as a whole, and each statement in it.
    pub whole: bool,
    /// Counts of the events in the bundle.
    pub contents: Contents,
    /// The relation to the earlier checkpoint; `None` if the caller gave none.
    pub earlier: Option<EarlierCheckpoint>,
    /// The artifacts in the bundle, in its order.
    pub evidence: Vec<Artifact>,
    /// For each artifact of the caller, in order, the ids of the evidence with its digest.
    pub artifacts: Vec<Vec<Uuid>>,
}

/// Counts of the events in a bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Events with their position and content.
    pub events: u64,
    /// Events of these whose payload was erased.
    pub erased: u64,
    /// Events of these whose actor is withheld.
    pub withheld: u64,
    /// Events without a payload, at any position, for which no event in the bundle records an erasure.
    pub unexplained: u64,
    /// Events outside of the requested period.
    pub outside_period: u64,
    /// Positions without an event.
    pub absent: u64,
}

/// The relation between the bundle's checkpoint and the earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EarlierCheckpoint {
    /// The log continues the earlier checkpoint: no earlier entry has changed or gone.
    Continued {
        /// Number of the earlier checkpoint, which is also the size of the log then.
        number: u64,
    },
    /// The relation cannot be determined, for this reason.
    Unknown(String),
}

/// A registered artifact.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// The registered fields.
    pub evidence: evidence::Evidence,
    /// Whether the history has the event of the registration, with the same record digest.
    pub in_history: bool,
    /// How many of the events that the evidence names are in the bundle.
    pub events_here: usize,
}

fn tampered<T>(what: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Tampered(what.into()))
}

/// Converts a number that cannot be negative.
fn count(value: i64, what: &str) -> Result<u64, Failure> {
    u64::try_from(value).or_else(|_| tampered(format!("{what} is negative")))
}

/// Verifies a bundle. `Ok` means that the bundle is consistent; the outcome states who signed it.
///
/// Errors: [`Failure::Unreadable`], [`Failure::Tampered`].
pub fn verify(input: impl BufRead, expected: &Expected) -> Result<Outcome, Failure> {
    let mut lines = Lines::new(input, expected.max_line);
    let manifest = lines.manifest()?;
    let Some(Line::Checkpoint(checkpoint)) = lines.line()? else {
        return Err(lines.tampered("the checkpoint is missing"));
    };
    let signed = signatures(&manifest, &checkpoint, expected)?;
    let Some(Line::Head(head)) = lines.line()? else { return Err(lines.tampered("the head is missing")) };
    check_head(&manifest, &checkpoint, &head)?;
    let Some(Line::Range(range)) = lines.line()? else { return Err(lines.tampered("the range is missing")) };
    let earlier =
        expected.earlier.as_deref().map(|note| continued(note, &checkpoint, &signed, expected)).transpose()?;

    let mut walk = BundleVerifier::new(&manifest, &head, range, &signed.stated, &expected.keys)?;
    let end = loop {
        match lines.line()? {
            Some(Line::End(end)) => break end,
            Some(line) => walk.line(line).map_err(|what| lines.tampered(&what))?,
            None => return tampered("the bundle has no end: it was cut off"),
        }
    };
    let (digest, number) = (*lines.digest_before(), lines.number);
    let whole = check_end(&end, &manifest, checkpoint.number, (&digest, number), &signed, &expected.keys)?;
    if lines.line()?.is_some() {
        return Err(lines.tampered("there is something after the end"));
    }
    let found = walk.finish()?;
    let of = |digest: &Digest| {
        let same = found.evidence.iter().filter(|artifact| artifact.evidence.digest.0 == *digest);
        same.map(|artifact| artifact.evidence.id).collect()
    };
    Ok(Outcome {
        made_at: checkpoint.made_at,
        head: head.position,
        checkpoint: signed.checkpoint,
        signers: signed.known,
        unknown_signers: signed.unknown_signers,
        whole: whole && found.statements,
        contents: found.contents,
        earlier,
        artifacts: expected.artifacts.iter().map(of).collect(),
        evidence: found.evidence,
        manifest,
    })
}

/// The checkpoint with the keys that signed it.
struct Signed {
    checkpoint: signed_note::Checkpoint,
    /// Keys of the caller that signed.
    known: Vec<Verifier>,
    /// Other keys that signed.
    unknown_signers: Vec<Verifier>,
    /// All keys that the bundle states.
    stated: Vec<Verifier>,
}

/// Checks the signatures of the checkpoint, and that the entry is the last leaf of the log.
fn signatures(manifest: &Manifest, checkpoint: &Checkpoint, expected: &Expected) -> Result<Signed, Failure> {
    let stated = checkpoint.keys.iter().map(|key| Verifier::parse(&key.key)).collect::<Result<Vec<_>, _>>();
    let stated = stated.or_else(|error| tampered(format!("a key that the bundle states is none: {error}")))?;
    let wrong = |error: signed_note::Malformed| Failure::Tampered(format!("the note of the checkpoint: {error}"));
    let opened = |keys: &[Verifier]| match signed_note::open(&checkpoint.note, keys) {
        Ok((text, signers)) => Ok((Some(text.to_owned()), signers.into_iter().cloned().collect())),
        Err(signed_note::Malformed::Unsigned) => Ok((None, Vec::new())),
        Err(error) => Err(wrong(error)),
    };
    let (by_stated, signers): (_, Vec<Verifier>) = opened(&stated)?;
    let (by_known, known): (_, Vec<Verifier>) = opened(&expected.keys)?;
    let text = by_known.or(by_stated).ok_or_else(|| wrong(signed_note::Malformed::Unsigned))?;
    let unknown_signers = signers.into_iter().filter(|key| !expected.keys.contains(key)).collect();
    let signed_checkpoint = signed_note::Checkpoint::parse(&text).map_err(wrong)?;

    let entry = checkpoint.entry();
    let (number, root) = (count(entry.number, "the number of the checkpoint")?, &signed_checkpoint.root);
    let proof = line::digests(&checkpoint.proof);
    if number == 0 || signed_checkpoint.size != number {
        return tampered("the note is not of the checkpoint that the bundle shows");
    }
    if !merkle::verify_inclusion(&entry.leaf(), number - 1, number, &proof, root) {
        return tampered("the checkpoint that the bundle shows is not the one that was signed");
    }
    let incarnation = signed_checkpoint.origin.rsplit_once('/').map(|(_, name)| name);
    if incarnation != Some(entry.incarnation.as_str()) || manifest.incarnation != entry.incarnation {
        return tampered("the checkpoint is of another history of the database than it says");
    }
    Ok(Signed { checkpoint: signed_checkpoint, known, stated, unknown_signers })
}

/// Checks that the checkpoint covers the head.
fn check_head(manifest: &Manifest, checkpoint: &Checkpoint, head: &Head) -> Result<(), Failure> {
    let stated = checkpoint::Head {
        organization: manifest.organization,
        position: head.position,
        chain: head.chain.0,
        root: head.root.0,
    };
    let (index, heads) = (count(head.index, "the place of the head")?, count(checkpoint.heads, "the number of heads")?);
    let proof = line::digests(&head.proof);
    if merkle::verify_inclusion(&stated.leaf(), index, heads, &proof, &checkpoint.heads_root.0) {
        return Ok(());
    }
    tampered("the head of the organization is not in the checkpoint")
}

/// Compares the checkpoint with an earlier one of the caller.
fn continued(
    text: &str,
    checkpoint: &Checkpoint,
    signed: &Signed,
    expected: &Expected,
) -> Result<EarlierCheckpoint, Failure> {
    let unknown = |why: String| Ok(EarlierCheckpoint::Unknown(why));
    let keys = [expected.keys.as_slice(), signed.stated.as_slice()].concat();
    let earlier = match signed_note::open(text, &keys) {
        Ok((text, _)) => signed_note::Checkpoint::parse(text),
        Err(error) => return unknown(format!("the earlier checkpoint does not count: {error}")),
    };
    let earlier = match earlier {
        Ok(earlier) => earlier,
        Err(error) => return unknown(format!("the earlier checkpoint does not count: {error}")),
    };
    let now = &signed.checkpoint;
    if earlier.origin != now.origin {
        let (then, now) = (&earlier.origin, &now.origin);
        return unknown(format!("the earlier checkpoint is of the log {then:?}, the one of the bundle of {now:?}"));
    }
    if earlier.size > now.size {
        return unknown(format!(
            "the checkpoint that was to be the earlier one is number {}, a later one",
            earlier.size
        ));
    }
    let proof = match &checkpoint.earlier {
        _ if earlier.size == now.size => Vec::new(),
        Some(shown) if u64::try_from(shown.number) == Ok(earlier.size) => line::digests(&shown.proof),
        _ => {
            let size = earlier.size;
            return unknown(format!("the bundle has no proof for checkpoint {size}: export it with earlier => {size}"));
        }
    };
    if merkle::verify_consistency(earlier.size, &earlier.root, now.size, &now.root, &proof) {
        return Ok(EarlierCheckpoint::Continued { number: earlier.size });
    }
    tampered(format!(
        "the history is another one than at checkpoint {}: what was signed then has changed",
        earlier.size
    ))
}

/// Opens an envelope and compares its statement with the expected one; true if a key of the caller signed.
fn check_statement(
    envelope: &Envelope,
    statement: serde_json::Result<Vec<u8>>,
    stated: &[Verifier],
    known: &[Verifier],
) -> Result<bool, String> {
    let statement = statement.map_err(|error| error.to_string())?;
    let (signed, by) = envelope.open_one(stated).map_err(|error| format!("the signature of a statement: {error}"))?;
    if signed != statement {
        return Err("a statement does not say what the bundle says".into());
    }
    Ok(known.contains(by))
}

fn check_end(
    end: &End,
    manifest: &Manifest,
    checkpoint: i64,
    (digest, number): (&Digest, u64),
    signed: &Signed,
    known: &[Verifier],
) -> Result<bool, Failure> {
    if end.lines != number - 1 {
        return tampered(format!(
            "the bundle says that it has {} lines before its end, and has {}",
            end.lines,
            number - 1
        ));
    }
    if end.digest.0 != *digest {
        return tampered("the lines are not those that were exported: their digest is another one");
    }
    let statement = line::statement(manifest, checkpoint, digest);
    check_statement(&end.envelope, statement, &signed.stated, known)
        .or_else(|what| tampered(format!("line {number}: {what}")))
}

/// The results of the events and the evidence.
struct Found {
    contents: Contents,
    /// Whether a key of the caller signed every statement.
    statements: bool,
    evidence: Vec<Artifact>,
}

/// The previous event, for the next one in its transaction.
struct Before {
    transaction: u64,
    ordinal: i32,
    hash: Digest,
}

/// Verifies the lines between the range and the end.
struct BundleVerifier<'a> {
    manifest: &'a Manifest,
    head: &'a Head,
    /// The proof that the tree at the last position begins the head's tree.
    proof: Vec<Digest>,
    stated: &'a [Verifier],
    known: &'a [Verifier],
    position: i64,
    chain: Digest,
    /// All chain values so far.
    chains: HashSet<Digest>,
    frontier: Frontier,
    before: Option<Before>,
    actors: HashMap<Uuid, Digest>,
    /// Actors of whom the bundle contains only the digest.
    withheld: HashSet<Uuid>,
    events: HashSet<Uuid>,
    /// The record digest in the payload of a registration's event, by the id of the event.
    registrations: HashMap<Uuid, Option<Digest>>,
    /// Events without a payload, each with the digest of the payload.
    erased: HashSet<(Uuid, Digest)>,
    /// Erasures that events record: the id of the event, and the digest of its payload.
    erasures: HashSet<(Uuid, Digest)>,
    found: Found,
}

type Checked<T = ()> = Result<T, String>;

/// The content of an `erase` event's payload: the id of the other event, and the digest of its payload.
fn erasure(payload: &str) -> Option<(Uuid, Digest)> {
    #[derive(serde::Deserialize)]
    struct Payload {
        data: Erasure,
    }
    #[derive(serde::Deserialize)]
    struct Erasure {
        event: Uuid,
        payload_digest: Hash,
    }
    let Payload { data } = serde_json::from_str(payload).ok()?;
    Some((data.event, data.payload_digest.0))
}

impl<'a> BundleVerifier<'a> {
    fn new(
        manifest: &'a Manifest,
        head: &'a Head,
        range: Range,
        stated: &'a [Verifier],
        known: &'a [Verifier],
    ) -> Result<Self, Failure> {
        let (first, last) = (manifest.first, manifest.last);
        if first < 1 || last > head.position || Some(last) < first.checked_sub(1) {
            return tampered("the positions of the bundle are none of the organization's history");
        }
        if first == 1 && range.chain.0 != chain::genesis(manifest.organization) {
            return tampered("the chain does not begin with the organization");
        }
        let frontier = Frontier::from_bytes(count(first - 1, "a position")?, &line::digests(&range.frontier).concat());
        let Some(frontier) = frontier else { return tampered("the tree before the first position is none") };
        Ok(BundleVerifier {
            manifest,
            head,
            proof: line::digests(&range.proof),
            stated,
            known,
            position: first - 1,
            chain: range.chain.0,
            chains: HashSet::from([range.chain.0]),
            frontier,
            before: None,
            actors: HashMap::new(),
            withheld: HashSet::new(),
            events: HashSet::new(),
            registrations: HashMap::new(),
            erased: HashSet::new(),
            erasures: HashSet::new(),
            found: Found { contents: Contents::default(), statements: true, evidence: Vec::new() },
        })
    }

    /// Verifies the next line.
    fn line(&mut self, line: Line) -> Checked {
        match line {
            Line::Actor(actor) => self.actor(&actor),
            Line::Withheld(actor) => self.withheld(&actor),
            Line::Event(event) => self.event(&event),
            Line::Absent(absent) => self.absent(&absent),
            Line::Evidence(evidence) => self.evidence(*evidence),
            Line::Manifest(_) | Line::Checkpoint(_) | Line::Head(_) | Line::Range(_) | Line::End(_) => {
                Err("a line that does not belong here".into())
            }
        }
    }

    fn actor(&mut self, actor: &Actor) -> Checked {
        match self.actors.insert(actor.id, actor.digest()) {
            None => Ok(()),
            Some(_) => Err("an actor stands twice".into()),
        }
    }

    fn withheld(&mut self, actor: &Withheld) -> Checked {
        self.withheld.insert(actor.id);
        match self.actors.insert(actor.id, actor.digest.0) {
            None => Ok(()),
            Some(_) => Err("an actor stands twice".into()),
        }
    }

    fn event(&mut self, event: &Event) -> Checked {
        let place = format!("event {} at position {}", event.id, event.position);
        if !self.events.insert(event.id) {
            return Err(format!("{place} stands twice"));
        }
        if event.encoding != ENCODING {
            return Err(format!("{place} is written in version {}, which this program does not know", event.encoding));
        }
        let erased = match (&event.payload, &event.salt) {
            (None, None) => true,
            (Some(payload), Some(salt)) if payload_digest(&salt.0, payload) == event.payload_digest.0 => false,
            _ => return Err(format!("the payload of {place} is not the one that was recorded")),
        };
        let actor = self.actors.get(&event.actor).ok_or_else(|| format!("{place} has no actor"))?;
        if event.content_hash(self.manifest.organization, actor) != event.hash.0 {
            return Err(format!("{place}, or its actor, is not what was recorded"));
        }
        self.remember(event);
        match &event.proof {
            Some(proof) => self.elsewhere(event, &line::digests(proof), &place),
            None => self.in_range(event, erased, &place),
        }
    }

    /// Records what evidence and erased payloads are compared with.
    fn remember(&mut self, event: &Event) {
        match &event.payload {
            None => {
                self.erased.insert((event.id, event.payload_digest.0));
            }
            Some(payload) if event.operation == "erase" => self.erasures.extend(erasure(payload)),
            Some(_) => {}
        }
        let is = |text: &Option<String>, expected| text.as_deref() == Some(expected);
        if event.operation == "insert" && is(&event.table_schema, "tenancy") && is(&event.table_name, "evidence") {
            let record = event.payload.as_deref().and_then(evidence::registered);
            self.registrations.insert(event.id, record);
        }
    }

    fn in_range(&mut self, event: &Event, erased: bool, place: &str) -> Checked {
        self.link(event, place)?;
        self.extend(event.position, &event.hash.0, &event.chain.0)?;
        self.before = Some(Before { transaction: event.transaction, ordinal: event.ordinal, hash: event.hash.0 });
        let (from, to) = (self.manifest.from, self.manifest.to);
        let in_period = from.is_none_or(|from| event.occurred_at >= from) && to.is_none_or(|to| event.occurred_at < to);
        self.found.contents.events += 1;
        self.found.contents.erased += u64::from(erased);
        self.found.contents.withheld += u64::from(self.withheld.contains(&event.actor));
        self.found.contents.outside_period += u64::from(!in_period);
        Ok(())
    }

    /// Checks the link to the previous event in the transaction, or to a head that was sealed earlier.
    fn link(&self, event: &Event, place: &str) -> Checked {
        let follows = match (event.ordinal, &self.before) {
            (1, _) => self.chains.contains(&event.previous.0) || self.manifest.first > 1,
            (_, Some(before)) => {
                before.transaction == event.transaction
                    && before.ordinal.checked_add(1) == Some(event.ordinal)
                    && before.hash == event.previous.0
            }
            // The event before is not here.
            (ordinal, None) => ordinal > 1 && (self.found.contents.absent > 0 || self.manifest.first > 1),
        };
        if follows { Ok(()) } else { Err(format!("{place} does not follow from what is before it")) }
    }

    fn absent(&mut self, absent: &Absent) -> Checked {
        if !self.events.insert(absent.id) {
            return Err(format!("event {} stands twice", absent.id));
        }
        self.extend(absent.position, &absent.hash.0, &absent.chain.0)?;
        self.before = None;
        self.registrations.insert(absent.id, None);
        self.found.contents.absent += 1;
        Ok(())
    }

    /// Checks and adds the next position of the chain and of the tree.
    fn extend(&mut self, position: i64, hash: &Digest, chain: &Digest) -> Checked {
        let expected = self.position.saturating_add(1);
        if expected > self.manifest.last || position != expected {
            return Err(format!(
                "position {position} stands where {expected} should, and {} is the last",
                self.manifest.last
            ));
        }
        if chain::extend(&self.chain, position, hash) != *chain {
            return Err(format!("the chain is broken at position {position}"));
        }
        (self.position, self.chain) = (position, *chain);
        self.chains.insert(*chain);
        self.frontier.push(merkle::leaf_hash(hash), |_, _, _| ());
        Ok(())
    }

    /// Checks an event outside of the positions of the bundle.
    fn elsewhere(&mut self, event: &Event, proof: &[Digest], place: &str) -> Checked {
        let index = event.position.checked_sub(1).and_then(|index| u64::try_from(index).ok());
        let index = index.ok_or_else(|| format!("{place} has no place"))?;
        let size = self.head.position.unsigned_abs();
        let leaf = merkle::leaf_hash(&event.hash.0);
        let here = (self.manifest.first..=self.manifest.last).contains(&event.position);
        if here || !merkle::verify_inclusion(&leaf, index, size, proof, &self.head.root.0) {
            return Err(format!("{place} is not in the history"));
        }
        Ok(())
    }

    fn evidence(&mut self, line: Evidence) -> Checked {
        let evidence = &line.evidence;
        let what = format!("evidence {}", evidence.id);
        if evidence.organization != self.manifest.organization {
            return Err(format!("{what} is another organization's"));
        }
        let in_history = match self.registrations.remove(&line.registration) {
            Some(Some(record)) if record == evidence.record() => true,
            Some(Some(_)) => return Err(format!("{what} is not what was registered")),
            Some(None) => false,
            None if self.events.contains(&line.registration) => {
                return Err(format!("{what} names an event that did not register it"));
            }
            None => false,
        };
        let by_known = check_statement(&line.envelope, evidence.statement(), self.stated, self.known);
        self.found.statements &= by_known.map_err(|error| format!("{what}: {error}"))?;
        let events: BTreeSet<&Uuid> = evidence.events.iter().collect();
        let events_here = events.into_iter().filter(|event| self.events.contains(event)).count();
        self.found.evidence.push(Artifact { evidence: line.evidence, in_history, events_here });
        Ok(())
    }

    /// Checks after the last line that no position is missing, and that the tree is the one of the head.
    fn finish(mut self) -> Result<Found, Failure> {
        let (last, head) = (self.manifest.last, self.head);
        if self.position != last {
            let from = self.position.saturating_add(1);
            return tampered(format!("positions {from} to {last} are missing"));
        }
        let (size, whole) = (self.frontier.size(), count(head.position, "the position of the head")?);
        if !merkle::verify_consistency(size, &self.frontier.root(), whole, &head.root.0, &self.proof) {
            return tampered("the events are not those of the history that the checkpoint signs");
        }
        if last == head.position && self.chain != head.chain.0 {
            return tampered("the chain does not end in the head that the checkpoint signs");
        }
        if let Some((event, _)) = self.registrations.iter().find(|(_, record)| record.is_some()) {
            return tampered(format!("the artifact that event {event} registered is missing"));
        }
        if self.found.evidence.len() as u64 != count(self.manifest.evidence, "the number of artifacts")? {
            return tampered("the number of artifacts is not the one that was exported");
        }
        self.found.contents.unexplained = self.erased.difference(&self.erasures).count() as u64;
        Ok(self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::export::bundle::report::{self, Verdict};
    use crate::audit::export::bundle::sample::{History, bundle, key, other_signer, signer};
    use proptest::prelude::*;

    fn with_key() -> Expected {
        Expected { keys: vec![key()], ..Expected::default() }
    }

    fn sealed(lines: &[Line]) -> Vec<u8> {
        bundle(lines, &signer())
    }

    /// The reason for refusing a bundle whose author has the key and has signed a new end.
    fn refusal(lines: &[Line]) -> String {
        match verify(sealed(lines).as_slice(), &with_key()) {
            Err(Failure::Tampered(why)) => why,
            other => panic!("not found: {:?}", other.map(|outcome| outcome.contents)),
        }
    }

    #[test]
    fn any_part_of_a_history_is_proved() {
        let history = History::new(11);
        for first in 1..=12 {
            for last in first - 1..=11 {
                let outcome = verify(sealed(&history.lines(first, last)).as_slice(), &with_key());
                let outcome = outcome.unwrap_or_else(|why| panic!("{first} to {last}: {why:?}"));
                assert_eq!(outcome.verdict(), Verdict::Proved, "{first} to {last}");
                assert_eq!(outcome.contents.events, (last + 1 - first) as u64);
                assert_eq!(outcome.signers, [key()]);
                assert!(outcome.whole && outcome.evidence[0].in_history);
            }
        }
    }

    #[test]
    fn a_key_that_stands_in_the_bundle_proves_nothing() {
        let text = sealed(&History::new(4).lines(1, 4));
        let outcome = verify(text.as_slice(), &Expected::default()).unwrap();
        assert_eq!((outcome.verdict(), outcome.signers.len()), (Verdict::Unknown, 0));
        assert!(report::lines(&outcome, &[]).join("\n").contains("a key that stands in it proves nothing"));
        let other = Expected { keys: vec![other_signer().verifier().clone()], ..Expected::default() };
        assert_eq!(verify(text.as_slice(), &other).unwrap().verdict(), Verdict::Unknown);
        let outcome = verify(text.as_slice(), &with_key()).unwrap();
        assert!(report::lines(&outcome, &[]).join("\n").contains("These are all 4 events"));
    }

    #[test]
    fn a_bundle_put_together_with_another_key_is_not_proved() {
        let mut lines = History::new(4).lines(1, 4);
        let Line::Checkpoint(checkpoint) = &mut lines[1] else { panic!() };
        checkpoint.keys.push(line::Key { epoch: 2, key: other_signer().verifier().to_string() });
        let outcome = verify(bundle(&lines, &other_signer()).as_slice(), &with_key()).unwrap();
        assert_eq!((outcome.verdict(), outcome.whole), (Verdict::Unknown, false));
        checkpoint_keys(&mut lines).pop();
        assert!(verify(bundle(&lines, &other_signer()).as_slice(), &with_key()).is_err());
    }

    fn checkpoint_keys(lines: &mut [Line]) -> &mut Vec<line::Key> {
        let Line::Checkpoint(checkpoint) = &mut lines[1] else { panic!() };
        &mut checkpoint.keys
    }

    #[test]
    fn every_change_of_one_byte_is_found() {
        let text = sealed(&History::new(3).lines(2, 2));
        assert_eq!(verify(text.as_slice(), &with_key()).unwrap().verdict(), Verdict::Proved);
        let (mut changed, expected) = (text.clone(), with_key());
        for at in 0..text.len() {
            // A neighbour, or the other case of a letter.
            changed[at] = text[at] ^ if at % 3 == 0 { 0x20 } else { 1 };
            let found = verify(changed.as_slice(), &expected);
            let good = found.is_ok_and(|outcome| outcome.verdict() == Verdict::Proved);
            assert!(!good, "byte {at} as {}", changed[at]);
            changed[at] = text[at];
        }
        for at in (0..text.len()).step_by(13) {
            assert!(verify(&text[..at], &expected).is_err(), "cut off at {at}");
            let one_less = [&text[..at], &text[at + 1..]].concat();
            let found = verify(one_less.as_slice(), &expected);
            assert!(!found.is_ok_and(|outcome| outcome.verdict() == Verdict::Proved), "without byte {at}");
        }
        assert!(verify([text.as_slice(), b"\n"].concat().as_slice(), &expected).is_err());
    }

    #[test]
    fn who_has_the_key_of_the_bundle_cannot_leave_out_or_change_an_event() {
        let history = History::new(9);
        let good = history.lines(3, 6);
        let event = |n: usize| 5 + n;
        let changed = |n: usize, change: &dyn Fn(&mut Event)| {
            let mut lines = good.clone();
            let Line::Event(stated) = &mut lines[event(n)] else { panic!() };
            change(stated);
            refusal(&lines)
        };
        assert!(changed(1, &|event| event.operation = "delete".into()).contains("is not what was recorded"));
        assert!(changed(1, &|event| event.payload = Some("{}".into())).contains("the payload of event"));
        assert!(changed(1, &|event| event.salt = None).contains("the payload of event"));
        assert!(changed(1, &|event| event.chain = Hash([0; 32])).contains("the chain is broken at position 4"));
        assert!(changed(1, &|event| event.position = 5).contains("position 5 stands where 4 should"));
        assert!(changed(1, &|event| event.proof = Some(Vec::new())).contains("is not in the history"));
        assert!(changed(1, &|event| event.encoding = 2).contains("version 2"));

        let without = |at: usize| {
            let mut lines = good.clone();
            lines.remove(at);
            refusal(&lines)
        };
        assert!(without(event(0)).contains("position 4 stands where 3 should"));
        assert!(without(event(3)).contains("positions 6 to 6 are missing"));
        assert!(without(4).contains("has no actor"));
        assert!(without(1).contains("the checkpoint is missing"));
        assert!(without(2).contains("the head is missing"));
        assert!(without(3).contains("the range is missing"));
        assert!(without(good.len() - 1).contains("registered is missing"));
        let mut more = good.clone();
        let Line::Manifest(manifest) = &mut more[0] else { panic!() };
        manifest.evidence = 2;
        assert!(refusal(&more).contains("the number of artifacts"));
        let mut twice = good.clone();
        twice.insert(event(1), twice[event(0)].clone());
        assert!(refusal(&twice).contains("stands twice"));

        // All of it anew from a place on: the root is another one.
        let mut forged = good.clone();
        let Line::Event(last) = &mut forged[event(3)] else { panic!() };
        last.operation = "delete".into();
        last.hash =
            Hash(last.content_hash(crate::audit::export::bundle::sample::ORGANIZATION, &history.actor.digest()));
        last.chain = Hash(chain::extend(&history.events[4].chain.0, 6, &last.hash.0));
        assert!(refusal(&forged).contains("not those of the history that the checkpoint signs"));
    }

    #[test]
    fn a_bundle_says_which_checkpoint_it_is_of() {
        let history = History::new(5);
        let changed = |change: &dyn Fn(&mut Checkpoint)| {
            let mut lines = history.lines(1, 5);
            let Line::Checkpoint(checkpoint) = &mut lines[1] else { panic!() };
            change(checkpoint);
            refusal(&lines)
        };
        assert!(changed(&|checkpoint| checkpoint.made_at += 1).contains("not the one that was signed"));
        assert!(changed(&|checkpoint| checkpoint.number = 4).contains("not of the checkpoint"));
        assert!(changed(&|checkpoint| checkpoint.heads_root = Hash([1; 32])).contains("not the one that was signed"));
        assert!(changed(&|checkpoint| checkpoint.note = history.note(4, &signer())).contains("not of the checkpoint"));
        assert!(changed(&|checkpoint| checkpoint.note = history.note(5, &other_signer())).contains("no signature"));
        assert!(changed(&|checkpoint| checkpoint.keys[0].key.push('=')).contains("a key that the bundle states"));
        let mut lines = history.lines(1, 5);
        let Line::Manifest(manifest) = &mut lines[0] else { panic!() };
        manifest.incarnation.push('0');
        assert!(refusal(&lines).contains("another history"));
        let mut lines = history.lines(1, 5);
        let Line::Head(head) = &mut lines[2] else { panic!() };
        head.position = 4;
        assert!(refusal(&lines).contains("the head of the organization is not in the checkpoint"));
    }

    #[test]
    fn an_earlier_checkpoint_is_continued_or_is_not() {
        let history = History::new(4);
        let text = sealed(&history.lines(1, 4));
        let seen = |note: String| verify(text.as_slice(), &Expected { earlier: Some(note), ..with_key() });
        let continued = |note| seen(note).unwrap().earlier;
        assert_eq!(continued(history.note(3, &signer())), Some(EarlierCheckpoint::Continued { number: 3 }));
        assert_eq!(continued(history.note(5, &signer())), Some(EarlierCheckpoint::Continued { number: 5 }));
        for unknown in [history.note(2, &signer()), history.note(3, &other_signer()), "nothing".into()] {
            let outcome = seen(unknown).unwrap();
            assert!(matches!(outcome.earlier, Some(EarlierCheckpoint::Unknown(_))));
            assert_eq!(outcome.verdict(), Verdict::Incomplete);
        }
        let incarnation = history.lines(1, 1).remove(0);
        let Line::Manifest(manifest) = incarnation else { panic!() };
        let forked = |origin: &str, size| {
            let checkpoint = signed_note::Checkpoint { origin: origin.into(), size, root: [7; 32] };
            seen(signer().sign(&checkpoint.text()).unwrap())
        };
        let origin = format!("audit.example/{}", manifest.incarnation);
        assert!(matches!(forked(&origin, 3), Err(Failure::Tampered(_))));
        assert!(matches!(forked(&origin, 5), Err(Failure::Tampered(_))));
        assert!(matches!(forked(&origin, 6).unwrap().earlier, Some(EarlierCheckpoint::Unknown(_))));
        assert!(matches!(forked("audit.example/other", 3).unwrap().earlier, Some(EarlierCheckpoint::Unknown(_))));
    }

    #[test]
    fn evidence_is_what_was_registered() {
        let history = History::new(5);
        let changed = |lines: Vec<Line>, change: &dyn Fn(&mut evidence::Evidence)| {
            let mut lines = lines;
            let mut evidence = history.evidence.clone();
            change(&mut evidence);
            *lines.last_mut().unwrap() = Line::Evidence(Box::new(history.evidence_line(&evidence, &signer())));
            lines
        };
        for lines in [history.lines(1, 5), history.lines(2, 3)] {
            let why = refusal(&changed(lines.clone(), &|evidence| evidence.digest = Hash([9; 32])));
            assert!(why.contains("is not what was registered"), "{why}");
            let why = refusal(&changed(lines, &|evidence| evidence.organization = Uuid::nil()));
            assert!(why.contains("another organization's"), "{why}");
        }
        let mut lines = history.lines(1, 5);
        let Some(Line::Evidence(line)) = lines.last_mut() else { panic!() };
        line.evidence.source.push('x');
        assert!(refusal(&lines).contains("is not what was registered"));
        let Some(Line::Evidence(line)) = lines.last_mut() else { panic!() };
        (line.evidence, line.registration) = (history.evidence.clone(), history.events[0].id);
        assert!(refusal(&lines).contains("names an event that did not register it"));

        let artifacts = vec![history.evidence.digest.0, [8; 32]];
        let expected = Expected { artifacts, ..with_key() };
        let outcome = verify(sealed(&history.lines(1, 5)).as_slice(), &expected).unwrap();
        assert_eq!(outcome.artifacts, [vec![history.evidence.id], vec![]]);
        assert_eq!((outcome.verdict(), outcome.evidence[0].events_here), (Verdict::Incomplete, 2));
        let words = report::lines(&outcome, &["report.pdf".into(), "other.pdf".into()]).join("\n");
        assert!(words.contains("The file report.pdf is the artifact of evidence"), "{words}");
        assert!(words.contains("no artifact in the bundle has its digest"), "{words}");
    }

    #[test]
    fn an_erased_payload_leaves_the_event_proved_and_an_absent_event_only_its_place() {
        let history = History::erasing(6, 2);
        let erased = |history: &History| {
            let mut lines = history.lines(1, 6);
            let Line::Event(event) = &mut lines[6] else { panic!() };
            (event.payload, event.salt) = (None, None);
            lines
        };
        let mut lines = erased(&history);
        let outcome = verify(sealed(&lines).as_slice(), &with_key()).unwrap();
        assert_eq!((outcome.verdict(), outcome.contents.erased, outcome.contents.unexplained), (Verdict::Proved, 1, 0));
        for history in [History::new(6), History::erasing(6, 3)] {
            let outcome = verify(sealed(&erased(&history)).as_slice(), &with_key()).unwrap();
            assert_eq!((outcome.verdict(), outcome.contents.unexplained), (Verdict::Incomplete, 1));
        }
        lines[8] = history.absent(4);
        let outcome = verify(sealed(&lines).as_slice(), &with_key()).unwrap();
        assert_eq!((outcome.verdict(), outcome.contents.absent, outcome.contents.events), (Verdict::Incomplete, 1, 5));
        lines[10] = history.absent(6);
        let outcome = verify(sealed(&lines).as_slice(), &with_key()).unwrap();
        assert!(!outcome.evidence[0].in_history);
        assert_eq!(outcome.verdict(), Verdict::Incomplete);
        lines[8] = history.absent(5);
        assert!(refusal(&lines).contains("position 5 stands where 4 should"));
    }

    #[test]
    fn an_actor_that_is_withheld_leaves_its_events_proved() {
        let history = History::new(3);
        let mut lines = history.lines(1, 3);
        let withheld = line::Withheld { id: history.actor.id, digest: Hash(history.actor.digest()) };
        lines[4] = Line::Withheld(withheld.clone());
        let outcome = verify(sealed(&lines).as_slice(), &with_key()).unwrap();
        assert_eq!((outcome.verdict(), outcome.contents.withheld), (Verdict::Proved, 3));
        lines[4] = Line::Withheld(line::Withheld { digest: Hash([0; 32]), ..withheld });
        assert!(refusal(&lines).contains("or its actor, is not what was recorded"));
    }

    #[test]
    fn an_event_that_follows_nothing_is_found() {
        let mut history = History::new(4);
        history.events[2].previous = Hash([1; 32]);
        let digest = history.actor.digest();
        history.events[2].hash =
            Hash(history.events[2].content_hash(crate::audit::export::bundle::sample::ORGANIZATION, &digest));
        assert!(refusal(&history.lines(1, 4)).contains("does not follow from what is before it"));
    }

    #[test]
    fn what_others_wrote_cannot_move_the_cursor() {
        let mut lines = History::new(2).lines(1, 2);
        let Line::Manifest(manifest) = &mut lines[0] else { panic!() };
        manifest.exporter.session_user = "x\u{1b}[2J\nPROVED\u{202e}".into();
        let outcome = verify(sealed(&lines).as_slice(), &with_key()).unwrap();
        let words = report::lines(&outcome, &["a\rb".into()]);
        assert!(words.iter().all(|line| !line.contains(|c: char| c.is_control() || c == '\u{202e}')), "{words:?}");
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_before_it_is_held() {
        let text = sealed(&History::new(2).lines(1, 2));
        let expected = Expected { max_line: 200, ..with_key() };
        assert!(matches!(verify(text.as_slice(), &expected), Err(Failure::Unreadable(why)) if why.contains("longer")));
        for foreign in [&b""[..], b"\n", b"{}\n", b"[]\n", b"\xff\n", b"{\"type\":\"manifest\",\"format\":\"x/9\"}\n"] {
            assert!(matches!(verify(foreign, &with_key()), Err(Failure::Unreadable(_))), "{foreign:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn nothing_that_is_done_to_a_bundle_makes_another_good_one(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..6),
        ) {
            let text = sealed(&History::new(3).lines(1, 3));
            let mut changed = text.clone();
            for (at, byte, kind) in changes {
                let at = at.index(changed.len());
                match kind {
                    0 => changed[at] = byte,
                    1 => changed.insert(at, byte),
                    2 => drop(changed.drain(at..(at + usize::from(byte)).min(changed.len()))),
                    _ => {
                        let piece = changed[at..(at + usize::from(byte)).min(changed.len())].to_vec();
                        changed.splice(at..at, piece);
                    }
                }
                if changed.is_empty() {
                    break;
                }
            }
            let outcome = verify(changed.as_slice(), &with_key());
            let good = outcome.is_ok_and(|outcome| outcome.verdict() == Verdict::Proved);
            prop_assert!(!good || changed == text);
        }
    }
}
