//! `tenancy.export_evidence`: writes a bundle, a page of batches at a time.

use super::proof::{BatchTree, CheckpointTree};
use crate::audit::capture::append::{self, NewEvent, append};
use crate::audit::log::batch_row;
use crate::audit::log::head_tree::{self, HeadTreeVersion};
use crate::audit::sealing::signed_checkpoint;
use crate::context;
use crate::pg::report::{self, OrRaise};
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::transaction;
use crate::pg::user;
use pg_tenancy_core::audit::export::bundle::FORMAT;
use pg_tenancy_core::audit::export::bundle::line::{
    self, Absent, Batch, Checkpoint, Earlier, Evidence, Exporter, Head, Key, Line, Manifest, Range, Withheld,
};
use pg_tenancy_core::audit::export::bundle::writer::Writer;
use pg_tenancy_core::audit::export::evidence;
use pg_tenancy_core::audit::export::statement::Envelope;
use pg_tenancy_core::audit::format::batch::MAX_TIME;
use pg_tenancy_core::audit::format::batch_row::{ActorColumn, BatchColumn};
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::event::{Actor, batch_of, event_id, time_ordered_id};
use pg_tenancy_core::audit::format::hex::Hash;
use pg_tenancy_core::audit::log::chain;
use pg_tenancy_core::audit::log::checkpoint;
use pg_tenancy_core::audit::log::merkle::{self, Frontier, Nodes};
use pg_tenancy_core::audit::log::signed_note::Signer;
use pg_tenancy_core::context::Context;
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pg_tenancy_core::{actor_columns, batch_columns};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::SetOfIterator;
use pgrx::{pg_extern, pg_sys};
use serde_json::json;
use std::collections::{HashSet, VecDeque};
use uuid::Uuid;

/// How many batches are read at a time: some ten megabytes, if all are full.
const PAGE: i64 = 50;

const QUERY: &str = "the batches of the organization from the first to the last with an event that occurred in the \
    period (from included, to not), in the order of the seal, with all that stand between them";

static NEWEST: Query = Query::new(
    "SELECT c.incarnation, c.number, c.made_at, c.block, c.block_hash, c.heads, c.heads_root, c.prev_digest, c.note,
            (SELECT p.frontier FROM tenancy.checkpoint p
              WHERE p.incarnation = c.incarnation AND p.number = (c.number - 1))
       FROM tenancy.checkpoint c ORDER BY c.block DESC, c.number DESC LIMIT 1",
);

static KEYS: Query = Query::new("SELECT epoch, public_key, retired_at IS NULL FROM tenancy.signing_key ORDER BY epoch");

/// Whether a batch of `alias` begins in the period, or not long before it and has an event in it.
macro_rules! of_period {
    ($alias:literal, $id:literal) => {
        concat!(
            $alias,
            ".organization = $1 AND ",
            $alias,
            ".",
            $id,
            " >= $2 AND ",
            $alias,
            ".",
            $id,
            " < $4
                AND (",
            $alias,
            ".",
            $id,
            " >= $3
                     OR EXISTS (SELECT FROM tenancy.event w WHERE w.batch = ",
            $alias,
            ".",
            $id,
            "
                                   AND w.occurred_at >= $5))"
        )
    };
}

/// The first and the last batch of the period, and whether one stands past the head.
static PERIOD: &str = concat!(
    "SELECT min(s.leaf) FILTER (WHERE s.leaf <= $6), max(s.leaf) FILTER (WHERE s.leaf <= $6),
            coalesce(max(s.leaf), 0) > $6
       FROM tenancy.seal s
      WHERE ",
    of_period!("s", "batch")
);

/// Whether there is a batch of the period that was not sealed when the newest block was made.
static UNSEALED: &str = concat!(
    "SELECT 1::int8 FROM tenancy.event_batch e
      WHERE ",
    of_period!("e", "id"),
    " AND e.transaction >= (SELECT pg_snapshot_xmin(b.snapshot) FROM tenancy.block b ORDER BY b.number DESC LIMIT 1)
        AND NOT EXISTS (SELECT FROM tenancy.seal s WHERE s.batch = e.id)
      LIMIT 1"
);

/// Where a batch ends.
static END_OF_BATCH: Query =
    Query::new("SELECT position, chain FROM tenancy.seal WHERE organization = $1 AND leaf = $2");

/// The columns of an entry, its batch and its actor. OFFSET 0 keeps the planner from reading all batches for a few.
macro_rules! batches {
    ($condition:literal) => {
        concat!(
            "SELECT s.leaf, s.position, s.batch, s.batch_hash, s.chain, ",
            batch_columns!("e"),
            ", ",
            actor_columns!("a"),
            "
               FROM tenancy.seal s
               LEFT JOIN LATERAL (SELECT * FROM tenancy.event_batch i WHERE i.id = s.batch OFFSET 0) e ON true
               LEFT JOIN LATERAL (SELECT * FROM tenancy.event_actor i WHERE i.id = e.actor OFFSET 0) a ON true
              WHERE s.organization = $1 AND ",
            $condition
        )
    };
}

static PAGE_OF_BATCHES: Query = Query::new(batches!("s.leaf >= $2 AND s.leaf <= $3 ORDER BY s.leaf"));

static ONE_BATCH: Query = Query::new(batches!("s.batch = $2"));

/// Evidence that the head covers: registered by an event that is exported, or naming one.
const EVIDENCE: &str = "SELECT v.id FROM tenancy.evidence v
       JOIN tenancy.seal r ON r.batch = tenancy.batch_of(v.registration) AND r.organization = v.organization
      WHERE v.organization = $1 AND r.leaf <= $4
        AND (r.leaf >= $2 AND r.leaf <= $3
             OR EXISTS (SELECT FROM unnest(v.events) w (id)
                          JOIN tenancy.seal s ON s.batch = tenancy.batch_of(w.id)
                         WHERE s.organization = v.organization AND s.leaf >= $2 AND s.leaf <= $3))
      ORDER BY v.id";

static ERASURE: Query = Query::new(
    "SELECT erase_event FROM tenancy.erasure
      WHERE event = $1 AND organization = $2",
);

static ONE_EVIDENCE: Query = Query::new(
    "SELECT id, organization, digest, media_type, source, collector, collected_at, registered_at, registered_by, \
        subject,
            relation, events, description, registration
       FROM tenancy.evidence WHERE id = $1",
);

/// `tenancy.export_evidence(organization, from, to, earlier)`: the lines of the bundle.
#[pg_extern(sql = false)]
fn tenancy_export_evidence(
    organization: Option<pgrx::Uuid>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
    earlier: Option<i64>,
) -> SetOfIterator<'static, String> {
    let bound = |at: TimestampWithTimeZone| {
        let at = pg_sys::TimestampTz::from(at);
        // The infinite ones are no bounds.
        (at != i64::MIN && at != i64::MAX).then(|| transaction::from_timestamptz(at))
    };
    let period = Period { from: from.and_then(bound), to: to.and_then(bound) };
    let organization = organization.map(|id| Uuid::from_bytes(*id.as_bytes()));
    let export = Export::begin(organization, period, earlier).or_raise();
    SetOfIterator::new(export)
}

/// The time that is asked for, in microseconds since 1970: `from` included and `to` not.
#[derive(Clone, Copy)]
struct Period {
    from: Option<i64>,
    to: Option<i64>,
}

impl Period {
    /// The arguments of [`of_period`] after the organization: the lowest id that a batch with an event at `from` can
    /// have, the lowest of a batch that begins then, the lowest at `to`, and `from`.
    fn arguments(self) -> [spi::Argument; 4] {
        let lowest = |at: i64| time_ordered_id(at, [0; 8]);
        let from = self.from.map_or(Uuid::nil(), lowest);
        let before = self.from.map_or(Uuid::nil(), |from| lowest(from.saturating_sub(MAX_TIME)));
        let to = self.to.map_or(Uuid::max(), lowest);
        [spi::uuid(before), spi::uuid(from), spi::uuid(to), spi::timestamp(self.from.unwrap_or_default())]
    }
}

/// What is left to write.
enum Stage {
    Batches(i64),
    Evidence,
    End,
    Done,
}

/// The leaves of a bundle: the numbers of its first and its last batch, which is the one before if it has none.
#[derive(Clone, Copy)]
struct Leaves {
    first: i64,
    last: i64,
}

/// A bundle that is being written.
struct Export {
    manifest: Manifest,
    head: checkpoint::Head,
    leaves: Leaves,
    checkpoint: i64,
    signer: Signer,
    /// Whether actors who are no members of the organization are shown.
    all_actors: bool,
    evidence: VecDeque<Uuid>,
    actors: HashSet<Uuid>,
    /// Events that tell of erasures, whose batches are to be written too.
    erasures: VecDeque<Uuid>,
    /// Batches outside of the positions that were written.
    elsewhere: HashSet<Uuid>,
    writer: Writer,
    ready: VecDeque<String>,
    stage: Stage,
}

impl Iterator for Export {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        while self.ready.is_empty() {
            if let Stage::Done = self.stage {
                return None;
            }
            user::as_superuser(|| transaction::with_latest_snapshot(|| self.advance())).or_raise();
        }
        self.ready.pop_front()
    }
}

impl Export {
    fn begin(organization: Option<Uuid>, period: Period, earlier: Option<i64>) -> Result<Self> {
        let organization = require_not_null(organization, "organization")?;
        let context = context::current()?;
        let auditor = user::has_role(c"tenancy_auditor");
        permit(organization, auditor, context.as_deref())?;
        if let (Some(from), Some(to)) = (period.from, period.to)
            && from > to
        {
            return Err(error::ARGUMENT_INVALID.error("the period ends before it begins"));
        }
        let exporter = Exporter {
            session_user: user::session().session_user_name(),
            subject: context.as_ref().map(|context| context.subject.clone()),
            issuer: context.as_ref().map(|context| context.issuer.clone()),
        };
        let signers = signed_checkpoint::read_keys()?;
        let request = ExportRequest { organization, period, earlier, auditor, exporter };
        let export = user::as_superuser(|| transaction::with_latest_snapshot(|| request.open(signers)))?;
        record(&export.manifest)?;
        Ok(export)
    }

    /// Writes at least one line, or goes on to the next stage.
    fn advance(&mut self) -> Result<()> {
        match self.stage {
            Stage::Batches(leaf) if leaf > self.leaves.last => self.stage = Stage::Evidence,
            Stage::Batches(leaf) => {
                let last = self.leaves.last.min(leaf.saturating_add(PAGE - 1));
                self.batches(leaf, last)?;
                self.stage = Stage::Batches(last + 1);
            }
            Stage::Evidence => {
                if let Some(event) = self.erasures.pop_front() {
                    self.elsewhere(event)?;
                } else if let Some(id) = self.evidence.pop_front() {
                    self.evidence(id)?;
                } else {
                    self.stage = Stage::End;
                }
            }
            Stage::End => {
                let writer = std::mem::take(&mut self.writer);
                let end = writer.end(&self.manifest, self.checkpoint, &self.signer).map_err(unwritable)?;
                self.ready.push_back(end);
                self.stage = Stage::Done;
            }
            Stage::Done => {}
        }
        Ok(())
    }

    fn write(&mut self, line: &Line) -> Result<()> {
        let text = self.writer.line(line).map_err(unwritable)?;
        self.ready.push_back(text);
        Ok(())
    }

    fn batches(&mut self, first: i64, last: i64) -> Result<()> {
        let organization = self.manifest.organization;
        let arguments = [spi::uuid(organization), argument(first), argument(last)];
        let entries = PAGE_OF_BATCHES.read(&arguments, |row| sealed(row, organization));
        let entries: Option<Vec<SealedEntry>> = entries.into_iter().collect();
        let entries = entries.ok_or_else(unreadable)?;
        if entries.len() as i64 != last - first + 1 {
            return Err(error::STATE_INVALID.error(format!("leaves {first} to {last} of the seal are not whole")));
        }
        entries.into_iter().try_for_each(|entry| self.entry(entry))
    }

    fn entry(&mut self, entry: SealedEntry) -> Result<()> {
        match entry.content {
            SealedContent::Present { batch, actor } => {
                self.actor(actor)?;
                self.explain(&batch);
                self.write(&Line::Batch(batch))
            }
            SealedContent::Gone(absent) => self.write(&Line::Absent(absent)),
        }
    }

    /// Of events without a payload: remembers the events that tell of their erasure.
    fn explain(&mut self, batch: &Batch) {
        for (place, _) in (0..).zip(&batch.events).filter(|(_, event)| event.payload.is_none()) {
            let arguments = [spi::uuid(event_id(batch.id, place)), spi::uuid(self.manifest.organization)];
            let found = ERASURE.read(&arguments, |row| row.uuid(1));
            self.erasures.extend(found.into_iter().flatten());
        }
    }

    /// The actor, before the first batch of it.
    fn actor(&mut self, actor: Box<Actor>) -> Result<()> {
        if !self.actors.insert(actor.id) {
            return Ok(());
        }
        // Where from and as whom others connect, the platform's own staff above all, is not for a tenant.
        let member = actor.organization == Some(self.manifest.organization) && actor.method != "assumed";
        if !member && !self.all_actors {
            return self.write(&Line::Withheld(Withheld { id: actor.id, digest: Hash(actor.digest()) }));
        }
        self.write(&Line::Actor(actor))
    }

    fn evidence(&mut self, id: Uuid) -> Result<()> {
        let found = ONE_EVIDENCE.read(&[spi::uuid(id)], |row| Some((evidence(row)?, row.uuid(14)?)));
        let (evidence, registration) = found.into_iter().flatten().next().ok_or_else(unreadable)?;
        self.elsewhere(registration)?;
        let statement = evidence.statement().map_err(unwritable)?;
        let envelope = Envelope::sign(&statement, &self.signer);
        self.write(&Line::Evidence(Box::new(Evidence { evidence, registration, envelope })))
    }

    /// The batch of an event that others need, unless it stands among them, or past the checkpoint.
    fn elsewhere(&mut self, event: Uuid) -> Result<()> {
        let id = batch_of(event);
        let organization = self.manifest.organization;
        let found = ONE_BATCH.read(&[spi::uuid(organization), spi::uuid(id)], |row| sealed(row, organization)).pop();
        let Some(entry) = found else { return Ok(()) };
        let entry = entry.ok_or_else(unreadable)?;
        let SealedContent::Present { batch, actor } = entry.content else { return Ok(()) };
        let here = (self.leaves.first..=self.leaves.last).contains(&entry.leaf);
        if here || entry.leaf > self.head.leaves || !self.elsewhere.insert(id) {
            return Ok(());
        }
        let mut nodes = BatchTree(organization);
        let index = (entry.leaf - 1).unsigned_abs();
        let proof = merkle::inclusion_proof(&mut nodes, index, self.head.leaves.unsigned_abs())?;
        let batch = batch.elsewhere(entry.leaf, proof);
        self.actor(actor)?;
        self.explain(&batch);
        self.write(&Line::Batch(Box::new(batch)))
    }
}

/// An auditor exports every organization, a member with the permission the own one.
fn permit(organization: Uuid, auditor: bool, context: Option<&Context>) -> Result<()> {
    if auditor {
        return Ok(());
    }
    context::authorize("audit", "export")?;
    if context.is_some_and(|context| context.organization.id == organization) {
        return Ok(());
    }
    Err(error::PERMISSION_DENIED.error("members may export the history of their own organization only"))
}

/// The export is an event of the organization, or a line of the log where nothing can be written.
fn record(manifest: &Manifest) -> Result<()> {
    let data = json!({
        "first": manifest.first, "last": manifest.last, "from": manifest.from, "to": manifest.to,
        "evidence": manifest.evidence
    });
    if transaction::read_only() {
        let (who, organization) = (&manifest.exporter.session_user, manifest.organization);
        report::log(format!("pg_tenancy: role \"{who}\" exported the history of organization {organization}: {data}"));
        return Ok(());
    }
    append(NewEvent {
        organization: manifest.organization,
        operation: "export",
        domain: "audit",
        table_schema: None,
        table_name: None,
        row_key: None,
        result: "success",
        reason: None,
        payload: json!({ "data": data }).to_string(),
    })?;
    append::statement_finished();
    Ok(())
}

fn unwritable(error: serde_json::Error) -> Error {
    error::STATE_INVALID.error(format!("a line of the bundle cannot be written: {error}"))
}

fn unreadable() -> Error {
    error::STATE_INVALID.error("a stored batch of events or evidence cannot be read")
}

fn not_covered(what: &str) -> Error {
    error::CHECKPOINT_MISSING.error(what)
}

/// What was asked for.
struct ExportRequest {
    organization: Uuid,
    period: Period,
    earlier: Option<i64>,
    auditor: bool,
    exporter: Exporter,
}

/// A checkpoint as it is stored.
struct CoveringCheckpoint {
    entry: checkpoint::Entry,
    note: String,
    /// Of the log before it.
    frontier: Vec<Digest>,
}

/// Where the chain stands after a batch.
struct EndOfBatch {
    position: i64,
    chain: Digest,
}

impl ExportRequest {
    /// Chooses checkpoint and batches, and writes what stands before the batches.
    fn open(self, signers: Vec<Signer>) -> Result<Export> {
        let keys = keys()?;
        let signs =
            |signer: &Signer| keys.iter().any(|(key, active)| *active && key.key == signer.verifier().to_string());
        let signer = signers.into_iter().find(signs);
        let signer = signer.ok_or_else(|| not_covered("no checkpoint was signed with a key that is at hand"))?;
        let stored = newest()?.ok_or_else(|| not_covered("there is no checkpoint yet"))?;
        let tree = HeadTreeVersion { block: stored.entry.block, heads: stored.entry.heads };
        let proved = head_tree::prove(self.organization, tree, &stored.entry.heads_root)?;
        let proved = proved.ok_or_else(|| not_covered("the newest checkpoint has no event of the organization"))?;
        let head = proved.head;
        let leaves = self.leaves(head.leaves)?;
        let evidence = self.evidence(leaves, head.leaves)?;
        let (before, last) = (self.end_of(leaves.first - 1)?, self.end_of(leaves.last)?);
        let manifest = self.manifest((before.position + 1, last.position), evidence.len(), &stored.entry);
        let head_line = Line::Head(Head {
            position: head.position,
            leaves: head.leaves,
            chain: Hash(head.chain),
            root: Hash(head.root),
            index: proved.leaf as i64,
            proof: line::hashes(proved.proof),
        });
        let range_line = Line::Range(self.range(leaves, before.chain, head.leaves)?);
        let mut export = Export {
            checkpoint: stored.entry.number,
            head,
            leaves,
            signer,
            all_actors: self.auditor,
            evidence: evidence.into(),
            actors: HashSet::new(),
            erasures: VecDeque::new(),
            elsewhere: HashSet::new(),
            writer: Writer::default(),
            ready: VecDeque::new(),
            stage: Stage::Batches(leaves.first),
            manifest,
        };
        export.write(&Line::Manifest(export.manifest.clone()))?;
        export.write(&Line::Checkpoint(Box::new(self.checkpoint(stored, keys)?)))?;
        export.write(&head_line)?;
        export.write(&range_line)?;
        Ok(export)
    }

    /// The leaves of the period; an empty range after the head where there are none.
    fn leaves(&self, head: i64) -> Result<Leaves> {
        let mut found = (None, None, false);
        let [before, from, to, at] = self.period.arguments();
        spi::stream(PERIOD, &[spi::uuid(self.organization), before, from, to, at, argument(head)], |row| {
            found = (row.get(1), row.get(2), row.get(3).unwrap_or_default());
            Ok::<(), Error>(())
        })?;
        if self.period.to.is_some() && (found.2 || self.unsealed()?) {
            return Err(not_covered("the newest checkpoint does not cover the whole period"));
        }
        let first = if self.period.from.is_none() { Some(1) } else { found.0 };
        let last = if self.period.to.is_none() { Some(head) } else { found.1 };
        Ok(match (first, last) {
            (Some(first), Some(last)) if first <= last => Leaves { first, last },
            _ => Leaves { first: head + 1, last: head },
        })
    }

    fn unsealed(&self) -> Result<bool> {
        let mut found = false;
        let [before, from, to, at] = self.period.arguments();
        spi::stream(UNSEALED, &[spi::uuid(self.organization), before, from, to, at], |_| {
            found = true;
            Ok::<(), Error>(())
        })?;
        Ok(found)
    }

    fn evidence(&self, leaves: Leaves, head: i64) -> Result<Vec<Uuid>> {
        let mut found = Vec::new();
        let arguments = [spi::uuid(self.organization), argument(leaves.first), argument(leaves.last), argument(head)];
        spi::stream(EVIDENCE, &arguments, |row| {
            found.push(row.uuid(1).ok_or_else(unreadable)?);
            Ok::<(), Error>(())
        })?;
        Ok(found)
    }

    /// Position and chain value after a batch.
    fn end_of(&self, leaf: i64) -> Result<EndOfBatch> {
        if leaf == 0 {
            return Ok(EndOfBatch { position: 0, chain: chain::genesis(self.organization) });
        }
        let read = |row: &Row| Some(EndOfBatch { position: row.get(1)?, chain: row.bytes(2)? });
        let found = END_OF_BATCH.read(&[spi::uuid(self.organization), argument(leaf)], read);
        found.into_iter().flatten().next().ok_or_else(unreadable)
    }

    fn manifest(&self, (first, last): (i64, i64), evidence: usize, entry: &checkpoint::Entry) -> Manifest {
        Manifest {
            format: FORMAT.into(),
            organization: self.organization,
            from: self.period.from,
            to: self.period.to,
            first,
            last,
            evidence: evidence as i64,
            query: QUERY.into(),
            incarnation: entry.incarnation.clone(),
            exported_at: transaction::now(),
            exporter: self.exporter.clone(),
            extension: env!("CARGO_PKG_VERSION").into(),
        }
    }

    fn range(&self, leaves: Leaves, chain: Digest, head: i64) -> Result<Range> {
        let mut nodes = BatchTree(self.organization);
        let before = leaves.first - 1;
        let frontier = frontier(&mut nodes, before.unsigned_abs())?;
        let proof = merkle::consistency_proof(&mut nodes, leaves.last.unsigned_abs(), head.unsigned_abs())?;
        let (frontier, proof) = (line::hashes(frontier), line::hashes(proof));
        Ok(Range { leaves: before, chain: Hash(chain), frontier, proof })
    }

    fn checkpoint(&self, stored: CoveringCheckpoint, keys: Vec<(Key, bool)>) -> Result<Checkpoint> {
        let CoveringCheckpoint { entry, note, frontier } = stored;
        let earlier = self.earlier.map(|number| earlier(number, &entry)).transpose()?;
        Ok(Checkpoint {
            incarnation: entry.incarnation,
            number: entry.number,
            made_at: entry.made_at,
            block: entry.block,
            block_hash: Hash(entry.block_hash),
            heads: entry.heads,
            heads_root: Hash(entry.heads_root),
            previous: entry.previous.map(Hash),
            note,
            // Left of the last leaf stand the subtrees of the log before it.
            proof: line::hashes(frontier.into_iter().rev()),
            earlier,
            keys: keys.into_iter().map(|(key, _)| key).collect(),
        })
    }
}

fn earlier(number: i64, entry: &checkpoint::Entry) -> Result<Earlier> {
    if !(1..=entry.number).contains(&number) {
        let message = format!("this history has no checkpoint {number} before its newest, {}", entry.number);
        return Err(error::ARGUMENT_INVALID.error(message));
    }
    let mut nodes = CheckpointTree(entry.incarnation.clone());
    let proof = merkle::consistency_proof(&mut nodes, number.unsigned_abs(), entry.number.unsigned_abs())?;
    Ok(Earlier { number, proof: line::hashes(proof) })
}

/// The roots of the perfect subtrees of the first `size` leaves, the largest first.
fn frontier(nodes: &mut BatchTree, size: u64) -> Result<Vec<Digest>> {
    let levels = (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1);
    levels.map(|level| nodes.node(level, (size >> level) - 1)).collect()
}

fn newest() -> Result<Option<CoveringCheckpoint>> {
    let read = |row: &Row| {
        let number: i64 = row.get(2)?;
        let before = row.get::<&[u8]>(10).unwrap_or_default();
        Frontier::from_bytes((number - 1).unsigned_abs(), before)?;
        Some(CoveringCheckpoint {
            entry: checkpoint::Entry {
                incarnation: row.get(1)?,
                number,
                made_at: row.timestamp(3)?,
                block: row.get(4)?,
                block_hash: row.bytes(5)?,
                heads: row.get(6)?,
                heads_root: row.bytes(7)?,
                previous: row.bytes(8),
            },
            note: row.get(9)?,
            frontier: before.as_chunks().0.to_vec(),
        })
    };
    let found = NEWEST.read(&[], read).pop();
    found.map(|stored| stored.ok_or_else(unreadable)).transpose()
}

/// The public keys, and whether each still signs.
fn keys() -> Result<Vec<(Key, bool)>> {
    let read = |row: &Row| Some((Key { epoch: i64::from(row.get::<i32>(1)?), key: row.get(2)? }, row.get::<bool>(3)?));
    let keys: Option<Vec<(Key, bool)>> = KEYS.read(&[], read).into_iter().collect();
    keys.ok_or_else(unreadable)
}

/// An entry of the seal with what is there of its batch.
struct SealedEntry {
    leaf: i64,
    content: SealedContent,
}

enum SealedContent {
    Present { batch: Box<Batch>, actor: Box<Actor> },
    Gone(Absent),
}

/// The columns of an entry before those of its batch.
const OF_ENTRY: usize = 5;

/// `None` for what cannot be read, and for a batch that is another organization's: it is not for this bundle.
fn sealed(row: &Row, organization: Uuid) -> Option<SealedEntry> {
    let (leaf, position, id): (i64, i64, Uuid) = (row.get(1)?, row.get(2)?, row.uuid(3)?);
    let (hash, chain): (Digest, Digest) = (row.bytes(4)?, row.bytes(5)?);
    let (of_batch, of_actor) =
        (OF_ENTRY + BatchColumn::Id.number(), OF_ENTRY + BatchColumn::COUNT + ActorColumn::Id.number());
    let content = if row.uuid(of_batch as i32).is_none() || row.uuid(of_actor as i32).is_none() {
        SealedContent::Gone(Absent { position, id, hash: Hash(hash), chain: Hash(chain) })
    } else {
        let batch = batch_row::batch(row, OF_ENTRY).filter(|batch| batch.organization == organization)?;
        let batch = Batch::new(batch, position, chain).ok()?;
        let actor = batch_row::actor(row, OF_ENTRY + BatchColumn::COUNT)?;
        SealedContent::Present { batch: Box::new(batch), actor: Box::new(actor) }
    };
    Some(SealedEntry { leaf, content })
}

fn evidence(row: &Row) -> Option<evidence::Evidence> {
    Some(evidence::Evidence {
        id: row.uuid(1)?,
        organization: row.uuid(2)?,
        digest: Hash(row.bytes(3)?),
        media_type: row.get(4)?,
        source: row.get(5)?,
        collector: row.get(6)?,
        collected_at: row.timestamp(7)?,
        registered_at: row.timestamp(8)?,
        registered_by: row.get(9)?,
        subject: row.get(10),
        relation: row.get(11)?,
        events: row.get::<Vec<pgrx::Uuid>>(12)?.iter().map(|id| Uuid::from_bytes(*id.as_bytes())).collect(),
        description: row.get(13),
    })
}
