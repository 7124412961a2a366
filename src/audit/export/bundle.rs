//! `tenancy.export_evidence`: writes a bundle, a page of batches at a time.

use super::proof::{BatchTree, CheckpointTree};
use crate::audit::capture::append::{self, NewEvent, append};
use crate::audit::log::batch_row;
use crate::audit::log::head_tree::{self, HeadTreeVersion};
use crate::audit::log::place::Places;
use crate::audit::log::seal;
use crate::audit::sealing::signed_checkpoint;
use crate::context;
use crate::pg::report::{self, OrRaise};
use crate::pg::spi::{self, Query, Row};
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
use pg_tenancy_core::audit::log::checkpoint;
use pg_tenancy_core::audit::log::entries::Entry;
use pg_tenancy_core::audit::log::merkle::{self, Frontier, Nodes};
use pg_tenancy_core::audit::log::signed_note::Signer;
use pg_tenancy_core::context::Context;
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pg_tenancy_core::{actor_columns, batch_columns};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::SetOfIterator;
use pgrx::{pg_extern, pg_sys};
use serde_json::json;
use std::collections::{HashMap, HashSet, VecDeque};
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

/// Whether a batch has an event that occurred at a time or later.
static REACHES: Query =
    Query::new("SELECT EXISTS (SELECT FROM tenancy.event w WHERE w.batch = $1 AND w.occurred_at >= $2)");

/// Whether there is a batch of the period that was not sealed when the newest block was made: one that begins in it,
/// or not long before it and has an event in it.
static UNSEALED: &str = "SELECT 1::int8 FROM tenancy.event_batch e
      WHERE e.organization = $1 AND e.id >= $2 AND e.id < $4
        AND (e.id >= $3
             OR EXISTS (SELECT FROM tenancy.event w WHERE w.batch = e.id AND w.occurred_at >= $5))
        AND e.transaction >= (SELECT pg_snapshot_xmin(b.snapshot) FROM tenancy.block b ORDER BY b.number DESC LIMIT 1)
        AND tenancy.place_of(e.id, e.organization, e.transaction) IS NULL
      LIMIT 1";

/// A batch and its actor; of a batch that is not there, NULL in all columns.
static BATCH: Query = Query::new(concat!(
    "SELECT ",
    batch_columns!("e"),
    ", ",
    actor_columns!("a"),
    "
       FROM (VALUES (1)) one (row)
       LEFT JOIN tenancy.event_batch e ON e.id = $1
       LEFT JOIN tenancy.event_actor a ON a.id = e.actor"
));

/// Evidence, with what registered it and the events that it names.
const EVIDENCE: &str = "SELECT v.id, v.registration, v.events FROM tenancy.evidence v
      WHERE v.organization = $1 ORDER BY v.id";

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
    /// The lowest id that a batch with an event at `from` can have, the lowest of a batch that begins then, and the
    /// lowest at `to`.
    fn ids(self) -> [Uuid; 3] {
        let lowest = |at: i64| time_ordered_id(at, [0; 8]);
        let from = self.from.map_or(Uuid::nil(), lowest);
        let before = self.from.map_or(Uuid::nil(), |from| lowest(from.saturating_sub(MAX_TIME)));
        [before, from, self.to.map_or(Uuid::max(), lowest)]
    }

    /// Whether a batch begins in the period, or not long before it and has an event in it.
    fn has(self, [before, from, to]: &[Uuid; 3], batch: &Uuid) -> bool {
        let reaches = |from| REACHES.read(&[spi::uuid(*batch), spi::timestamp(from)], |row| row.get::<bool>(1));
        (before..to).contains(&batch)
            && (batch >= from || self.from.is_some_and(|from| reaches(from).pop().flatten() == Some(true)))
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
    /// The chain value before the next batch.
    chain: Digest,
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
        let mut entries = Vec::new();
        seal::entries_from(&organization, first, |entry| {
            entries.push(entry.clone());
            Ok(entry.leaf < last)
        })?;
        if !entries.iter().map(|entry| entry.leaf).eq(first..=last) {
            return Err(error::STATE_INVALID.error(format!("leaves {first} to {last} of the seal are not whole")));
        }
        for entry in entries {
            self.chain = entry.extend(&self.chain);
            let content = content(&entry, self.chain, organization)?;
            self.content(content)?;
        }
        Ok(())
    }

    fn content(&mut self, content: SealedContent) -> Result<()> {
        match content {
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
        let Some(entry) = entry_of(organization, id)? else { return Ok(()) };
        let here = (self.leaves.first..=self.leaves.last).contains(&entry.leaf);
        if here || entry.leaf > self.head.leaves || self.elsewhere.contains(&id) {
            return Ok(());
        }
        let (_, chain) = seal::standing_at(&organization, entry.leaf)?.ok_or_else(unreadable)?;
        let SealedContent::Present { batch, actor } = content(&entry, chain, organization)? else { return Ok(()) };
        self.elsewhere.insert(id);
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
        let end_of = |leaf| seal::standing_at(&self.organization, leaf)?.ok_or_else(unreadable);
        let ((before, chain), (last, _)) = (end_of(leaves.first - 1)?, end_of(leaves.last)?);
        let manifest = self.manifest((before + 1, last), evidence.len(), &stored.entry);
        let head_line = Line::Head(Head {
            position: head.position,
            leaves: head.leaves,
            chain: Hash(head.chain),
            root: Hash(head.root),
            index: proved.leaf as i64,
            proof: line::hashes(proved.proof),
        });
        let range_line = Line::Range(self.range(leaves, chain, head.leaves)?);
        let mut export = Export {
            checkpoint: stored.entry.number,
            head,
            leaves,
            chain,
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
        let (mut first, mut last, mut beyond) = (None, None, false);
        // Who asks for all of it need not look for its beginning and its end.
        if self.period.from.is_some() || self.period.to.is_some() {
            let ids = self.period.ids();
            seal::entries_from(&self.organization, 1, |entry| {
                if self.period.has(&ids, &entry.batch) {
                    beyond |= entry.leaf > head;
                    if entry.leaf <= head {
                        first = first.or(Some(entry.leaf));
                        last = Some(entry.leaf);
                    }
                }
                Ok(true)
            })?;
        }
        if self.period.to.is_some() && (beyond || self.unsealed()?) {
            return Err(not_covered("the newest checkpoint does not cover the whole period"));
        }
        let first = if self.period.from.is_none() { Some(1) } else { first };
        let last = if self.period.to.is_none() { Some(head) } else { last };
        Ok(match (first, last) {
            (Some(first), Some(last)) if first <= last => Leaves { first, last },
            _ => Leaves { first: head + 1, last: head },
        })
    }

    fn unsealed(&self) -> Result<bool> {
        let mut found = false;
        let ids = self.period.ids().map(spi::uuid);
        let [before, from, to] = ids;
        let at = spi::timestamp(self.period.from.unwrap_or_default());
        spi::stream(UNSEALED, &[spi::uuid(self.organization), before, from, to, at], |_| {
            found = true;
            Ok::<(), Error>(())
        })?;
        Ok(found)
    }

    /// Evidence that the head covers: registered by an event that is exported, or naming one.
    fn evidence(&self, leaves: Leaves, head: i64) -> Result<Vec<Uuid>> {
        let mut all = Vec::new();
        spi::stream(EVIDENCE, &[spi::uuid(self.organization)], |row| {
            let evidence = || {
                let events = row.get::<Vec<pgrx::Uuid>>(3)?;
                let batches = events.iter().map(|id| batch_of(Uuid::from_bytes(*id.as_bytes()))).collect();
                Some((row.uuid(1)?, batch_of(row.uuid(2)?), batches))
            };
            all.push(evidence().ok_or_else(unreadable)?);
            Ok::<(), Error>(())
        })?;
        let named = |(_, registration, events): &(Uuid, Uuid, Vec<Uuid>)| [&[*registration], &events[..]].concat();
        let mut places: HashMap<Uuid, Option<i64>> = all.iter().flat_map(named).map(|batch| (batch, None)).collect();
        if places.is_empty() {
            return Ok(Vec::new());
        }
        // Some may be archived, so that no row tells their transactions: all entries up to the head are gone through.
        seal::entries_from(&self.organization, 1, |entry| {
            if let Some(leaf) = places.get_mut(&entry.batch) {
                *leaf = Some(entry.leaf);
            }
            Ok(entry.leaf < head)
        })?;
        let leaf = |batch: &Uuid| places.get(batch).copied().flatten().filter(|leaf| *leaf <= head);
        let is_here = |batch: &Uuid| leaf(batch).is_some_and(|leaf| (leaves.first..=leaves.last).contains(&leaf));
        all.retain(|(_, registration, events)| {
            leaf(registration).is_some() && (is_here(registration) || events.iter().any(is_here))
        });
        Ok(all.into_iter().map(|(id, ..)| id).collect())
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

/// What is there of the batch of an entry.
enum SealedContent {
    Present { batch: Box<Batch>, actor: Box<Actor> },
    Gone(Absent),
}

/// The entry of a batch, by its transaction; where the batch is archived, by going through all entries.
fn entry_of(organization: Uuid, id: Uuid) -> Result<Option<Entry>> {
    let read = |row: &Row| row.transaction(BatchColumn::Transaction.number() as i32);
    if let Some(transaction) = BATCH.read(&[spi::uuid(id)], read).pop().flatten() {
        return Ok(Places::default().find(&organization, transaction, &id));
    }
    let mut found = None;
    seal::entries_from(&organization, 1, |entry| {
        found = (entry.batch == id).then(|| entry.clone());
        Ok(found.is_none())
    })?;
    Ok(found)
}

/// Refuses what cannot be read, and a batch that is another organization's: it is not for this bundle.
fn content(entry: &Entry, chain: Digest, organization: Uuid) -> Result<SealedContent> {
    let content = |row: &Row| {
        let of_actor = BatchColumn::COUNT + ActorColumn::Id.number();
        if row.uuid(BatchColumn::Id.number() as i32).is_none() || row.uuid(of_actor as i32).is_none() {
            let (position, id, hash) = (entry.position, entry.batch, Hash(entry.batch_hash));
            return Some(SealedContent::Gone(Absent { position, id, hash, chain: Hash(chain) }));
        }
        let batch = batch_row::batch(row, 0).filter(|batch| batch.organization == organization)?;
        let batch = Batch::new(batch, entry.position, chain).ok()?;
        let actor = batch_row::actor(row, BatchColumn::COUNT)?;
        Some(SealedContent::Present { batch: Box::new(batch), actor: Box::new(actor) })
    };
    BATCH.read(&[spi::uuid(entry.batch)], content).pop().flatten().ok_or_else(unreadable)
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
