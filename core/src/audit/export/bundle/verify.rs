//! Verifies a bundle in one pass, from the bundle and what the caller knows.
//!
//! Decision: `docs/decisions/45-evidence-bundle.md`.

use super::failure::Failure;
use super::line::{self, Absent, Batch, Checkpoint, End, Event, Evidence, Head, Line, Manifest, Range, Withheld};
use super::observer::Observer;
use super::reader::{Lines, MAX_LINE};
use super::reviewed::{Report, Reviews};
use crate::audit::export::evidence;
use crate::audit::export::statement::Envelope;
use crate::audit::format::batch::MAX_EVENTS;
use crate::audit::format::encoding::Digest;
use crate::audit::format::event::{Actor, ENCODING, batch_of, event_id, payload_digest, place_of};
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
    /// Reports of reviews and of break-glass that the caller has.
    pub reports: Vec<Report>,
    /// The most bytes of a line.
    pub max_line: usize,
}

impl Default for Expected {
    fn default() -> Self {
        Expected { keys: Vec::new(), earlier: None, artifacts: Vec::new(), reports: Vec::new(), max_line: MAX_LINE }
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
    /// What the events tell of reviews.
    pub reviews: Reviews,
    /// For each report of the caller, in order, what it is of and when an event took its digest.
    pub reports: Vec<Option<(String, i64)>>,
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
    /// Positions whose events the database no longer had.
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
    verify_with(input, expected, &mut ())
}

/// Verifies a bundle as [`verify`] does, and tells an observer of its events.
///
/// Errors: those of [`verify`]. Nothing that the observer heard is proved then.
pub fn verify_with(input: impl BufRead, expected: &Expected, observer: &mut dyn Observer) -> Result<Outcome, Failure> {
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

    let mut walk = BundleVerifier::new(&manifest, &head, range, (&signed.stated, &expected.keys), observer)?;
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
        reports: expected
            .reports
            .iter()
            .map(|report| found.reviews.of(report).map(|signed| (signed.of.clone(), signed.at)))
            .collect(),
        reviews: found.reviews,
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
        leaves: head.leaves,
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
    reviews: Reviews,
}

/// The previous batch, for the next one in its transaction.
struct Before {
    transaction: u64,
    /// The ordinal after that of the last event.
    next: i32,
    hash: Digest,
}

/// A batch that the bundle has.
struct Seen {
    /// The number of its events.
    events: i64,
    /// Whether the bundle has the place of the batch only.
    absent: bool,
}

/// Verifies the lines between the range and the end.
struct BundleVerifier<'a> {
    manifest: &'a Manifest,
    head: &'a Head,
    /// The proof that the tree at the last position begins the head's tree.
    proof: Vec<Digest>,
    stated: &'a [Verifier],
    known: &'a [Verifier],
    observer: &'a mut dyn Observer,
    position: i64,
    chain: Digest,
    /// All chain values so far.
    chains: HashSet<Digest>,
    frontier: Frontier,
    before: Option<Before>,
    batches: HashMap<Uuid, Seen>,
    actors: HashMap<Uuid, Digest>,
    /// Who an actor is, in words.
    people: HashMap<Uuid, String>,
    /// Actors of whom the bundle contains only the digest.
    withheld: HashSet<Uuid>,
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

/// What a batch is called in an explanation: by its event, if it has only one.
fn name(batch: &Batch) -> String {
    let (id, position) = (batch.id, batch.position);
    match batch.last() {
        Some(last) if last > position => format!("batch {id} at positions {position} to {last}"),
        _ => format!("event {id} at position {position}"),
    }
}

/// Whether payload and salt have the digest that the event states, or are both erased.
fn has_its_payload(event: &Event) -> bool {
    match (&event.payload, &event.salt) {
        (None, None) => true,
        (Some(payload), Some(salt)) => {
            let salt = salt.0.as_slice().try_into();
            salt.is_ok_and(|salt| payload_digest(salt, payload) == event.payload_digest.0)
        }
        _ => false,
    }
}

impl<'a> BundleVerifier<'a> {
    fn new(
        manifest: &'a Manifest,
        head: &'a Head,
        range: Range,
        (stated, known): (&'a [Verifier], &'a [Verifier]),
        observer: &'a mut dyn Observer,
    ) -> Result<Self, Failure> {
        let (first, last) = (manifest.first, manifest.last);
        if first < 1 || last > head.position || Some(last) < first.checked_sub(1) {
            return tampered("the positions of the bundle are none of the organization's history");
        }
        if first == 1 && range.chain.0 != chain::genesis(manifest.organization) {
            return tampered("the chain does not begin with the organization");
        }
        let leaves = count(range.leaves, "the number of batches before the first position")?;
        if (first == 1) != (leaves == 0) {
            return tampered("the first position and the number of batches before it contradict each other");
        }
        let frontier = Frontier::from_bytes(leaves, &line::digests(&range.frontier).concat());
        let Some(frontier) = frontier else { return tampered("the tree before the first position is none") };
        Ok(BundleVerifier {
            manifest,
            head,
            proof: line::digests(&range.proof),
            stated,
            known,
            observer,
            position: first - 1,
            chain: range.chain.0,
            chains: HashSet::from([range.chain.0]),
            frontier,
            before: None,
            batches: HashMap::new(),
            actors: HashMap::new(),
            people: HashMap::new(),
            withheld: HashSet::new(),
            registrations: HashMap::new(),
            erased: HashSet::new(),
            erasures: HashSet::new(),
            found: Found {
                contents: Contents::default(),
                statements: true,
                evidence: Vec::new(),
                reviews: Reviews::default(),
            },
        })
    }

    /// Verifies the next line.
    fn line(&mut self, line: Line) -> Checked {
        match line {
            Line::Actor(actor) => self.actor(&actor),
            Line::Withheld(actor) => self.withheld(&actor),
            Line::Batch(batch) => self.batch(&batch),
            Line::Absent(absent) => self.absent(&absent),
            Line::Evidence(evidence) => self.evidence(*evidence),
            Line::Manifest(_) | Line::Checkpoint(_) | Line::Head(_) | Line::Range(_) | Line::End(_) => {
                Err("a line that does not belong here".into())
            }
        }
    }

    fn actor(&mut self, actor: &Actor) -> Checked {
        let person = actor.subject.clone().unwrap_or_else(|| format!("the database role {}", actor.session_user));
        self.people.insert(actor.id, person);
        match self.actors.insert(actor.id, actor.digest()) {
            None => {
                self.observer.actor(actor);
                Ok(())
            }
            Some(_) => Err("an actor stands twice".into()),
        }
    }

    fn withheld(&mut self, actor: &Withheld) -> Checked {
        self.withheld.insert(actor.id);
        match self.actors.insert(actor.id, actor.digest.0) {
            None => {
                self.observer.withheld(actor);
                Ok(())
            }
            Some(_) => Err("an actor stands twice".into()),
        }
    }

    fn batch(&mut self, batch: &Batch) -> Checked {
        let count = batch.events.len();
        if !(1..=MAX_EVENTS).contains(&count) {
            return Err(format!("batch {} has {count} events, and a batch has 1 to {MAX_EVENTS}", batch.id));
        }
        let (last, place) = (batch.last().ok_or("a position is out of range")?, name(batch));
        if batch.encoding != ENCODING {
            return Err(format!("{place} is written in version {}, which this program does not know", batch.encoding));
        }
        if place_of(batch.id) != 0 {
            return Err(format!("{place} does not have the id of a batch"));
        }
        self.add(batch.id, Seen { events: count as i64, absent: false })?;
        for (number, event) in (0..).zip(&batch.events) {
            if !has_its_payload(event) {
                let (id, position) = (event_id(batch.id, number), batch.position.saturating_add(number.into()));
                return Err(format!(
                    "the payload of event {id} at position {position} is not the one that was recorded"
                ));
            }
        }
        let actor = self.actors.get(&batch.actor).ok_or_else(|| format!("{place} has no actor"))?;
        if batch.content_hash(self.manifest.organization, actor) != Some(batch.hash.0) {
            return Err(format!(
                "{place}, or its actor, is not what was recorded: it was changed, lacks an event, or is another \
                    organization's"
            ));
        }
        self.remember(batch);
        let who = self.people.get(&batch.actor).map_or("somebody who is not shown", String::as_str);
        self.found.reviews.add(batch, who);
        match (&batch.chain, batch.leaf, &batch.proof) {
            (None, Some(leaf), Some(proof)) => self.elsewhere(batch, last, leaf, &line::digests(proof), &place)?,
            (Some(chain), None, None) => self.in_range(batch, last, &chain.0, &place)?,
            _ => return Err(format!("{place} has neither a chain value nor leaf and proof, or something of both")),
        }
        self.observer.batch(batch, batch.chain.is_some());
        Ok(())
    }

    fn add(&mut self, batch: Uuid, seen: Seen) -> Checked {
        match self.batches.insert(batch, seen) {
            None => Ok(()),
            Some(_) => Err(format!("batch {batch} stands twice")),
        }
    }

    /// Whether the bundle has the event, or its place.
    fn has(&self, event: Uuid) -> bool {
        let batch = self.batches.get(&batch_of(event));
        batch.is_some_and(|batch| i64::from(place_of(event)) < batch.events)
    }

    /// Records what evidence and erased payloads are compared with.
    fn remember(&mut self, batch: &Batch) {
        let is = |text: &Option<String>, expected| text.as_deref() == Some(expected);
        let registers =
            batch.operation == "insert" && is(&batch.table_schema, "tenancy") && is(&batch.table_name, "evidence");
        for (place, event) in (0..).zip(&batch.events) {
            let id = event_id(batch.id, place);
            match &event.payload {
                None => {
                    self.erased.insert((id, event.payload_digest.0));
                }
                Some(payload) if batch.operation == "erase" => self.erasures.extend(erasure(payload)),
                Some(_) => {}
            }
            if registers {
                let record = event.payload.as_deref().and_then(evidence::registered);
                self.registrations.insert(id, record);
            }
        }
    }

    fn in_range(&mut self, batch: &Batch, last: i64, chain: &Digest, place: &str) -> Checked {
        let expected = self.position.saturating_add(1);
        if batch.position < expected {
            return Err(format!("{place} stands at a place that the batch before it has, and {expected} is the next"));
        }
        if batch.position > expected {
            return Err(format!("positions {expected} to {} are missing before {place}", batch.position - 1));
        }
        self.link(batch, place)?;
        self.extend(last, &batch.hash.0, chain)?;
        let count = batch.events.len() as u64;
        // The hash of the batch was computed, and so this does not overflow.
        let next = batch.ordinal.saturating_add(batch.events.len() as i32);
        self.before = Some(Before { transaction: batch.transaction, next, hash: batch.hash.0 });
        let (from, to) = (self.manifest.from, self.manifest.to);
        let in_period = |event: &&Event| {
            from.is_none_or(|from| event.occurred_at >= from) && to.is_none_or(|to| event.occurred_at < to)
        };
        let found = &mut self.found.contents;
        found.events += count;
        found.erased += batch.events.iter().filter(|event| event.payload.is_none()).count() as u64;
        found.withheld += if self.withheld.contains(&batch.actor) { count } else { 0 };
        found.outside_period += count - batch.events.iter().filter(in_period).count() as u64;
        Ok(())
    }

    /// Checks the link to the previous batch in the transaction, or to a head that was sealed earlier.
    fn link(&self, batch: &Batch, place: &str) -> Checked {
        let follows = match (batch.ordinal, &self.before) {
            (1, _) => self.chains.contains(&batch.previous.0) || self.manifest.first > 1,
            (ordinal, Some(before)) if before.transaction == batch.transaction && ordinal < before.next => {
                return Err(format!("{place} has an ordinal that its transaction has already: {ordinal}"));
            }
            (ordinal, Some(before)) => {
                before.transaction == batch.transaction && before.next == ordinal && before.hash == batch.previous.0
            }
            // The batch before is not here.
            (ordinal, None) => ordinal > 1 && (self.found.contents.absent > 0 || self.manifest.first > 1),
        };
        if follows { Ok(()) } else { Err(format!("{place} does not follow from what is before it")) }
    }

    fn absent(&mut self, absent: &Absent) -> Checked {
        let events = absent.position.checked_sub(self.position).unwrap_or_default();
        if !(1..=MAX_EVENTS as i64).contains(&events) {
            let expected = self.position.saturating_add(1);
            let (id, position) = (absent.id, absent.position);
            return Err(format!("batch {id} cannot end at position {position}, where {expected} is the next"));
        }
        let first = self.position + 1;
        self.add(absent.id, Seen { events, absent: true })?;
        self.extend(absent.position, &absent.hash.0, &absent.chain.0)?;
        self.observer.absent(first, absent.position);
        self.before = None;
        self.found.contents.absent += events.unsigned_abs();
        Ok(())
    }

    /// Checks and adds the next batch of the chain and of the tree, whose last event has this position.
    fn extend(&mut self, position: i64, hash: &Digest, chain: &Digest) -> Checked {
        if position > self.manifest.last {
            return Err(format!("position {position} is here, and {} is the last", self.manifest.last));
        }
        if chain::extend(&self.chain, position, hash) != *chain {
            return Err(format!("the chain is broken at position {position}"));
        }
        (self.position, self.chain) = (position, *chain);
        self.chains.insert(*chain);
        self.frontier.push(chain::leaf(position, hash), |_, _, _| ());
        Ok(())
    }

    /// Checks a batch outside of the positions of the bundle.
    fn elsewhere(&mut self, batch: &Batch, last: i64, leaf: i64, proof: &[Digest], place: &str) -> Checked {
        let index = leaf.checked_sub(1).and_then(|index| u64::try_from(index).ok());
        let index = index.ok_or_else(|| format!("{place} has no place"))?;
        let size = self.head.leaves.unsigned_abs();
        let hash = chain::leaf(last, &batch.hash.0);
        let here = last >= self.manifest.first && batch.position <= self.manifest.last;
        if here || !merkle::verify_inclusion(&hash, index, size, proof, &self.head.root.0) {
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
            None => match self.batches.get(&batch_of(line.registration)) {
                Some(batch) if !batch.absent => {
                    return Err(format!("{what} names an event that did not register it"));
                }
                _ => false,
            },
        };
        let by_known = check_statement(&line.envelope, evidence.statement(), self.stated, self.known);
        self.found.statements &= by_known.map_err(|error| format!("{what}: {error}"))?;
        let events: BTreeSet<&Uuid> = evidence.events.iter().collect();
        let events_here = events.into_iter().filter(|event| self.has(**event)).count();
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
        let (size, whole) = (self.frontier.size(), count(head.leaves, "the number of leaves of the head")?);
        if (size == whole) != (last == head.position) {
            return tampered("positions and batches do not end together in the head that the checkpoint signs");
        }
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
    use crate::audit::format::hex::Bytes;
    use proptest::prelude::*;

    fn with_key() -> Expected {
        Expected { keys: vec![key()], ..Expected::default() }
    }

    fn names<const N: usize>(artifacts: [&str; N]) -> report::Names {
        report::Names { artifacts: artifacts.map(str::to_owned).into(), reports: Vec::new() }
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
                let events = history.position(last + 1) - history.position(first);
                assert_eq!(outcome.contents.events, events.unsigned_abs());
                assert_eq!(outcome.contents.outside_period, 0);
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
        assert!(report::lines(&outcome, &names([])).join("\n").contains("a key that stands in it proves nothing"));
        let other = Expected { keys: vec![other_signer().verifier().clone()], ..Expected::default() };
        assert_eq!(verify(text.as_slice(), &other).unwrap().verdict(), Verdict::Unknown);
        let outcome = verify(text.as_slice(), &with_key()).unwrap();
        assert!(report::lines(&outcome, &names([])).join("\n").contains("These are all 7 events"));
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

    /// Where the batches begin among the lines.
    const BATCHES: usize = 5;

    fn batch(lines: &mut [Line], at: usize) -> &mut Batch {
        let Line::Batch(batch) = &mut lines[BATCHES + at] else { panic!() };
        batch
    }

    /// The batches 3 to 6 of nine, with 2, 1, 3 and 2 events at the positions 5 to 12.
    fn part() -> (History, Vec<Line>) {
        let history = History::new(9);
        let lines = history.lines(3, 6);
        (history, lines)
    }

    fn refusal_of(change: impl FnOnce(&mut Vec<Line>)) -> String {
        let (_, mut lines) = part();
        change(&mut lines);
        refusal(&lines)
    }

    #[test]
    fn each_field_of_a_batch_and_of_its_events_is_verified() {
        type Change = fn(&mut Batch);
        let recorded = "is not what was recorded";
        let changes: [(Change, &str); 23] = [
            (|batch| batch.position += 1, "positions 8 to 8 are missing before batch"),
            (|batch| batch.position = i64::MAX, "a position is out of range"),
            (|batch| batch.id = event_id(batch.id, 1), "does not have the id of a batch"),
            (|batch| batch.id = Uuid::from_u128(0x9000), recorded),
            (|batch| batch.actor = Uuid::nil(), "has no actor"),
            (|batch| batch.transaction += 1, recorded),
            (|batch| batch.ordinal += 1, recorded),
            (|batch| batch.ordinal = i32::MAX, recorded),
            (|batch| batch.operation = "delete".into(), recorded),
            (|batch| batch.domain.push('x'), recorded),
            (|batch| batch.table_schema = None, recorded),
            (|batch| batch.table_name = None, recorded),
            (|batch| batch.result = "denied".into(), recorded),
            (|batch| batch.reason = Some(String::new()), recorded),
            (|batch| batch.encoding = 1, "is written in version 1"),
            (|batch| batch.previous.0[0] ^= 1, recorded),
            (|batch| batch.hash.0[0] ^= 1, recorded),
            (|batch| batch.chain.as_mut().unwrap().0[0] ^= 1, "the chain is broken at position 10"),
            (|batch| batch.chain = None, "has neither a chain value nor"),
            (|batch| batch.leaf = Some(5), "or something of both"),
            (|batch| batch.proof = Some(Vec::new()), "or something of both"),
            (|batch| batch.events.clear(), "has 0 events"),
            (|batch| batch.events = vec![batch.events[0].clone(); 129], "has 129 events"),
        ];
        for (number, (change, expected)) in changes.into_iter().enumerate() {
            let why = refusal_of(|lines| change(batch(lines, 2)));
            assert!(why.contains(expected), "change {number}: {why}");
        }
        /// The bytes that are hashed remain the same.
        fn move_a_byte(event: &mut Event) {
            let (payload, salt) = (event.payload.as_mut().unwrap(), event.salt.as_mut().unwrap());
            salt.0.push(payload.remove(0) as u8);
        }
        type EventChange = fn(&mut Event);
        let payload = "the payload of event 00000000-0000-0000-0000-000000105001 at position 9";
        let changes: [(EventChange, &str); 8] = [
            (|event| event.occurred_at += 1, recorded),
            (|event| event.row_key = None, recorded),
            (|event| event.payload = Some("{}".into()), payload),
            (|event| event.payload = None, payload),
            (|event| event.salt = Some(Bytes(vec![7; 15])), payload),
            (|event| event.salt = None, payload),
            (|event| move_a_byte(event), payload),
            (|event| event.payload_digest.0[0] ^= 1, payload),
        ];
        for (number, (change, expected)) in changes.into_iter().enumerate() {
            let why = refusal_of(|lines| change(&mut batch(lines, 2).events[1]));
            assert!(why.contains(expected), "change {number} of an event: {why}");
        }
        // Of an event without a payload only the digest is left.
        let why = refusal_of(|lines| {
            let event = &mut batch(lines, 2).events[1];
            (event.payload, event.salt, event.payload_digest) = (None, None, Hash([0; 32]));
        });
        assert!(why.contains(recorded), "{why}");
    }

    #[test]
    fn who_has_the_key_of_the_bundle_cannot_leave_out_a_line() {
        let without = |at: usize| refusal_of(|lines| drop(lines.remove(at)));
        assert!(without(BATCHES).contains("positions 5 to 6 are missing before event"));
        assert!(without(BATCHES + 2).contains("positions 8 to 10 are missing before batch"));
        assert!(without(BATCHES + 3).contains("positions 11 to 12 are missing"));
        assert!(without(4).contains("has no actor"));
        assert!(without(1).contains("the checkpoint is missing"));
        assert!(without(2).contains("the head is missing"));
        assert!(without(3).contains("the range is missing"));
        assert!(without(part().1.len() - 1).contains("registered is missing"));
        let why = refusal_of(|lines| {
            let Line::Manifest(manifest) = &mut lines[0] else { panic!() };
            manifest.evidence = 2;
        });
        assert!(why.contains("the number of artifacts"));
    }

    /// Gives the batches from a place on the hashes and chain values that somebody computes who forges them.
    fn forge(history: &History, lines: &mut [Line], mut position: i64) {
        let mut chain = history.chain(3);
        for line in &mut lines[BATCHES..] {
            let Line::Batch(batch) = line else { break };
            if batch.leaf.is_none() {
                batch.position = position;
                history.seal(batch, &chain);
                (position, chain) = (batch.last().unwrap() + 1, batch.chain.unwrap().0);
            }
        }
    }

    #[test]
    fn an_event_that_is_cut_out_of_a_batch_or_put_into_one_is_found_whatever_is_computed_anew() {
        type Change = fn(&mut Batch);
        let changes: [(Change, i64); 3] = [
            (|batch| drop(batch.events.remove(1)), -1),
            (|batch| batch.events.push(batch.events[0].clone()), 1),
            (|batch| batch.events.swap(0, 1), 0),
        ];
        for (change, more) in changes {
            let (history, mut lines) = part();
            change(batch(&mut lines, 2));
            let why = refusal(&lines);
            assert!(why.contains("lacks an event"), "{why}");
            // Its root and its hash anew: the chain shows it.
            let digest = history.actor.digest();
            let forged = batch(&mut lines, 2);
            forged.hash = Hash(forged.content_hash(history.evidence.organization, &digest).unwrap());
            assert!(refusal(&lines).contains("the chain is broken"));
            // The chain anew: the batches after it do not stand where they stood.
            history.seal(batch(&mut lines, 2), &history.chain(5));
            let why = refusal(&lines);
            let expected = match more {
                -1 => "positions 10 to 10 are missing",
                1 => "stands at a place that the batch before it has",
                _ => "does not follow",
            };
            assert!(why.contains(expected), "{why}");
            // Their positions and links anew: the ordinal of the next batch stays, and then the number of events.
            forge(&history, &mut lines, 5);
            assert!(refusal(&lines).contains(if more > 0 { "has already" } else { "does not follow" }));
            let (ordinal, previous) = (1 + batch(&mut lines, 2).events.len() as i32, batch(&mut lines, 2).hash);
            let follower = batch(&mut lines, 3);
            (follower.ordinal, follower.previous) = (ordinal, previous);
            forge(&history, &mut lines, 5);
            let why = refusal(&lines);
            let expected = match more {
                -1 => "positions 12 to 12 are missing",
                1 => "position 13 is here, and 12 is the last",
                _ => "not those of the history that the checkpoint signs",
            };
            assert!(why.contains(expected), "{why}");
            // The range anew: another tree.
            let Line::Manifest(manifest) = &mut lines[0] else { panic!() };
            manifest.last += more;
            assert!(refusal(&lines).contains("not those of the history that the checkpoint signs"));
        }
    }

    #[test]
    fn two_batches_of_one_place_and_a_batch_that_stands_twice_are_named() {
        let why = refusal_of(|lines| lines.insert(BATCHES + 1, lines[BATCHES].clone()));
        assert!(why.contains("batch 00000000-0000-0000-0000-000000103000 stands twice"), "{why}");
        let why = refusal_of(|lines| {
            lines.insert(BATCHES + 3, lines[BATCHES + 2].clone());
            batch(lines, 3).id = Uuid::from_u128(0x9000);
            let organization = History::new(1).evidence.organization;
            let digest = History::new(1).actor.digest();
            let second = batch(lines, 3);
            second.hash = Hash(second.content_hash(organization, &digest).unwrap());
        });
        assert!(why.contains("stands at a place that the batch before it has, and 11 is the next"), "{why}");
        // Outside of the positions, a batch cannot have the place of another either.
        let (history, mut lines) = part();
        let Line::Batch(mut outside) = history.elsewhere(8) else { panic!() };
        let good = outside.clone();
        lines.insert(BATCHES + 4, Line::Batch(outside.clone()));
        assert_eq!(verify(sealed(&lines).as_slice(), &with_key()).unwrap().verdict(), Verdict::Proved);
        outside.id = Uuid::from_u128(0x9000);
        history.seal(&mut outside, &history.chain(8));
        outside.chain = None;
        lines[BATCHES + 4] = Line::Batch(outside);
        assert!(refusal(&lines).contains("is not in the history"));
        for change in [
            (|batch: &mut Batch| batch.leaf = Some(7)) as fn(&mut Batch),
            |batch| batch.leaf = Some(0),
            |batch| batch.leaf = Some(i64::MIN),
            |batch| batch.position += 1,
            |batch| batch.position = 5,
            |batch| batch.proof.as_mut().unwrap().truncate(1),
        ] {
            let mut outside = good.clone();
            change(&mut outside);
            lines[BATCHES + 4] = Line::Batch(outside);
            let why = refusal(&lines);
            assert!(why.contains("is not in the history") || why.contains("has no place"), "{why}");
        }
        // The chain does not lead to it: there is no value that nothing is compared with.
        let mut outside = good.clone();
        outside.chain = Some(Hash([1; 32]));
        lines[BATCHES + 4] = Line::Batch(outside);
        assert!(refusal(&lines).contains("or something of both"));
        // A batch of the range with a proof is none outside of it.
        let Line::Batch(inside) = history.elsewhere(5) else { panic!() };
        lines.remove(BATCHES + 4);
        *batch(&mut lines, 2) = *inside;
        assert!(refusal(&lines).contains("is not in the history"));
    }

    #[test]
    fn an_ordinal_twice_is_named_although_all_was_signed() {
        let mut history = History::new(4);
        history.batches[1].ordinal = 1;
        history.reseal(2);
        // The first of a transaction names a sealed head.
        assert!(refusal(&history.lines(1, 4)).contains("does not follow from what is before it"));
        let mut history = History::new(6);
        history.batches[4].events.truncate(2);
        history.batches[5].ordinal = 2;
        history.reseal(5);
        assert!(refusal(&history.lines(1, 6)).contains("has an ordinal that its transaction has already: 2"));
    }

    #[test]
    fn a_batch_of_another_organization_is_not_taken_for_an_own_one() {
        let (history, mut lines) = part();
        let digest = history.actor.digest();
        let foreign = batch(&mut lines, 2);
        foreign.hash = Hash(foreign.content_hash(Uuid::from_u128(0xb), &digest).unwrap());
        assert!(refusal(&lines).contains("or is another organization's"));
        // In the sealed history as well, under an id of its own.
        let mut history = History::new(5);
        history.batches[2].hash.0 = history.batches[2].content_hash(Uuid::from_u128(0xb), &digest).unwrap();
        let why = refusal(&history.lines(1, 5));
        assert!(why.contains("103000 at positions 5 to 6") && why.contains("or is another organization's"), "{why}");
    }

    #[test]
    fn the_positions_of_a_part_are_those_that_the_checkpoint_signs() {
        let (history, mut lines) = part();
        // All of the part stands one position later, with a chain that fits.
        let Line::Manifest(manifest) = &mut lines[0] else { panic!() };
        (manifest.first, manifest.last) = (manifest.first + 1, manifest.last + 1);
        forge(&history, &mut lines, 6);
        assert!(refusal(&lines).contains("not those of the history that the checkpoint signs"));
        for (leaves, expected) in [
            (1, "not those of the history"),
            (7, "the tree before the first position is none"),
            (3, "not those of the history"),
            (0, "contradict each other"),
            (-1, "is negative"),
            (i64::MAX, "the tree before the first position is none"),
        ] {
            let why = refusal_of(|lines| {
                let Line::Range(range) = &mut lines[3] else { panic!() };
                range.leaves = leaves;
                if leaves == 3 {
                    range.frontier.push(Hash([1; 32]));
                }
            });
            assert!(why.contains(expected), "{leaves}: {why}");
        }
        let why = refusal_of(|lines| {
            let Line::Head(head) = &mut lines[2] else { panic!() };
            head.leaves += 1;
        });
        assert!(why.contains("the head of the organization is not in the checkpoint"), "{why}");
    }

    #[test]
    fn the_chain_of_a_part_up_to_the_head_is_that_of_the_head() {
        let mut lines = History::new(9).lines(3, 9);
        // Another chain before the part, and the values that follow from it. The tree has no chain values.
        let mut chain = [7; 32];
        let Line::Range(range) = &mut lines[3] else { panic!() };
        range.chain = Hash(chain);
        for line in &mut lines[BATCHES..] {
            if let Line::Batch(batch) = line {
                chain = chain::extend(&chain, batch.last().unwrap(), &batch.hash.0);
                batch.chain = Some(Hash(chain));
            }
        }
        assert!(refusal(&lines).contains("the chain does not end in the head"));
    }

    #[test]
    fn a_head_that_hides_its_last_batches_is_found() {
        let mut history = History::new(5);
        history.hidden = 1;
        assert!(refusal(&history.lines(1, 4)).contains("positions and batches do not end together"));
    }

    #[test]
    fn who_computes_all_anew_has_another_tree() {
        let (history, mut lines) = part();
        batch(&mut lines, 3).operation = "delete".into();
        forge(&history, &mut lines, 5);
        assert!(refusal(&lines).contains("not those of the history that the checkpoint signs"));
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
        head.position -= 1;
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
        (line.evidence, line.registration) = (history.evidence.clone(), history.batches[0].id);
        assert!(refusal(&lines).contains("names an event that did not register it"));

        let artifacts = vec![history.evidence.digest.0, [8; 32]];
        let expected = Expected { artifacts, ..with_key() };
        let outcome = verify(sealed(&history.lines(1, 5)).as_slice(), &expected).unwrap();
        assert_eq!(outcome.artifacts, [vec![history.evidence.id], vec![]]);
        assert_eq!((outcome.verdict(), outcome.evidence[0].events_here), (Verdict::Incomplete, 2));
        let words = report::lines(&outcome, &names(["report.pdf", "other.pdf"])).join("\n");
        assert!(words.contains("The file report.pdf is the artifact of evidence"), "{words}");
        assert!(words.contains("no artifact in the bundle has its digest"), "{words}");
    }

    #[test]
    fn an_erased_payload_leaves_the_event_proved_and_an_absent_event_only_its_place() {
        let history = History::erasing(6, 2);
        let erased = |history: &History| {
            let mut lines = history.lines(1, 6);
            let event = batch(&mut lines, 1).events.last_mut().unwrap();
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
        // The erasure of one event does not explain that of another one of the batch.
        let mut two = lines.clone();
        let event = &mut batch(&mut two, 1).events[0];
        (event.payload, event.salt) = (None, None);
        let outcome = verify(sealed(&two).as_slice(), &with_key()).unwrap();
        assert_eq!((outcome.contents.erased, outcome.contents.unexplained), (2, 1));

        // Batch 3 has the positions 5 and 6.
        lines[BATCHES + 2] = history.absent(3);
        let outcome = verify(sealed(&lines).as_slice(), &with_key()).unwrap();
        assert_eq!((outcome.verdict(), outcome.contents.absent, outcome.contents.events), (Verdict::Incomplete, 2, 7));
        assert_eq!(outcome.evidence[0].events_here, 2);
        lines[BATCHES + 5] = history.absent(6);
        let outcome = verify(sealed(&lines).as_slice(), &with_key()).unwrap();
        assert!(!outcome.evidence[0].in_history);
        assert_eq!(outcome.verdict(), Verdict::Incomplete);
        lines[BATCHES + 3] = history.absent(3);
        assert!(refusal(&lines).contains("cannot end at position 6, where 7 is the next"));
        for position in [i64::MIN, 0, 4 + 129, i64::MAX] {
            let Line::Absent(mut absent) = history.absent(3) else { panic!() };
            absent.position = position;
            lines[BATCHES + 2] = Line::Absent(absent);
            assert!(refusal(&lines).contains(&format!("cannot end at position {position}, where 5 is the next")));
        }
    }

    #[test]
    fn an_actor_that_is_withheld_leaves_its_events_proved() {
        let history = History::new(3);
        let mut lines = history.lines(1, 3);
        let withheld = line::Withheld { id: history.actor.id, digest: Hash(history.actor.digest()) };
        lines[4] = Line::Withheld(withheld.clone());
        let outcome = verify(sealed(&lines).as_slice(), &with_key()).unwrap();
        assert_eq!((outcome.verdict(), outcome.contents.withheld), (Verdict::Proved, 5));
        lines[4] = Line::Withheld(line::Withheld { digest: Hash([0; 32]), ..withheld });
        assert!(refusal(&lines).contains("or its actor, is not what was recorded"));
    }

    #[test]
    fn a_batch_that_follows_nothing_is_found() {
        let mut history = History::new(4);
        history.batches[2].previous = Hash([1; 32]);
        history.reseal(3);
        assert!(refusal(&history.lines(1, 4)).contains("does not follow from what is before it"));
        // An ordinal is left out, and the batch before it is the right one.
        let mut history = History::new(4);
        history.batches[1].ordinal += 1;
        history.reseal(2);
        assert!(refusal(&history.lines(1, 4)).contains("does not follow from what is before it"));
    }

    #[test]
    fn what_others_wrote_cannot_move_the_cursor() {
        let mut lines = History::new(2).lines(1, 2);
        let Line::Manifest(manifest) = &mut lines[0] else { panic!() };
        manifest.exporter.session_user = "x\u{1b}[2J\nPROVED\u{202e}".into();
        let outcome = verify(sealed(&lines).as_slice(), &with_key()).unwrap();
        let words = report::lines(&outcome, &names(["a\rb"]));
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
