//! `tenancy.export_evidence`: writes a bundle, a page of events at a time.

use super::proof::{CheckpointTree, EventTree};
use crate::audit::capture::append::{self, NewEvent, append};
use crate::audit::log::event_row;
use crate::audit::log::head_tree::{self, HeadTreeVersion};
use crate::audit::sealing::signed_checkpoint;
use crate::context;
use crate::pg::report::{self, OrRaise};
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::transaction;
use crate::pg::user;
use pg_tenancy_core::audit::export::bundle::FORMAT;
use pg_tenancy_core::audit::export::bundle::line::{
    self, Absent, Checkpoint, Earlier, Event, Evidence, Exporter, Head, Key, Line, Manifest, Range, Withheld,
};
use pg_tenancy_core::audit::export::bundle::writer::Writer;
use pg_tenancy_core::audit::export::evidence;
use pg_tenancy_core::audit::export::statement::Envelope;
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::event::{Actor, time_ordered_id};
use pg_tenancy_core::audit::format::event_row::{ActorColumn, EventColumn};
use pg_tenancy_core::audit::format::hex::Hash;
use pg_tenancy_core::audit::log::chain;
use pg_tenancy_core::audit::log::checkpoint;
use pg_tenancy_core::audit::log::merkle::{self, Frontier, Nodes};
use pg_tenancy_core::audit::log::signed_note::Signer;
use pg_tenancy_core::context::Context;
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pg_tenancy_core::{actor_columns, event_columns};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::SetOfIterator;
use pgrx::{pg_extern, pg_sys};
use serde_json::json;
use std::collections::{HashSet, VecDeque};
use uuid::Uuid;

/// How many positions are read at a time.
const PAGE: i64 = 200;

const QUERY: &str = "the events of the organization from the first to the last that occurred in the period (from \
    included, to not), in the order of the seal, with all that stand between them";

static NEWEST: Query = Query::new(
    "SELECT c.incarnation, c.number, c.made_at, c.block, c.block_hash, c.heads, c.heads_root, c.prev_digest, c.note,
            (SELECT p.frontier FROM tenancy.checkpoint p
              WHERE p.incarnation = c.incarnation AND p.number = (c.number - 1))
       FROM tenancy.checkpoint c ORDER BY c.block DESC, c.number DESC LIMIT 1",
);

static KEYS: Query = Query::new("SELECT epoch, public_key, retired_at IS NULL FROM tenancy.signing_key ORDER BY epoch");

/// The first and the last position of events with an id of the period, and whether one stands past the head.
const PERIOD: &str = "SELECT min(s.position) FILTER (WHERE s.position <= $4),
            max(s.position) FILTER (WHERE s.position <= $4),
            coalesce(max(s.position), 0) > $4
       FROM tenancy.seal s
      WHERE s.organization = $1 AND s.event >= $2 AND s.event < $3";

/// Whether there is an event of the period that was not sealed when the newest block was made.
const UNSEALED: &str = "SELECT 1::int8 FROM tenancy.event e
      WHERE e.organization = $1 AND e.id >= $2 AND e.id < $3
        AND e.transaction >= (SELECT pg_snapshot_xmin(b.snapshot) FROM tenancy.block b ORDER BY b.number DESC LIMIT 1)
        AND NOT EXISTS (SELECT FROM tenancy.seal s WHERE s.event = e.id)
      LIMIT 1";

static CHAIN: Query = Query::new("SELECT chain FROM tenancy.seal WHERE organization = $1 AND position = $2");

/// The columns of an entry, its event and its actor. OFFSET 0 keeps the planner from reading all events for a few.
macro_rules! events {
    ($condition:literal) => {
        concat!(
            "SELECT s.position, s.event, s.event_hash, s.chain, ",
            event_columns!("e"),
            ", ",
            actor_columns!("a"),
            "
               FROM tenancy.seal s
               LEFT JOIN LATERAL (SELECT * FROM tenancy.event i WHERE i.id = s.event OFFSET 0) e ON true
               LEFT JOIN LATERAL (SELECT * FROM tenancy.event_actor i WHERE i.id = e.actor OFFSET 0) a ON true
              WHERE s.organization = $1 AND ",
            $condition
        )
    };
}

static PAGE_OF_EVENTS: Query = Query::new(events!("s.position >= $2 AND s.position <= $3 ORDER BY s.position"));

static ONE_EVENT: Query = Query::new(events!("s.event = $2"));

/// Evidence that the head covers: registered by an event that is exported, or naming one.
const EVIDENCE: &str = "SELECT v.id FROM tenancy.evidence v
       JOIN tenancy.seal r ON r.event = v.registration AND r.organization = v.organization
      WHERE v.organization = $1 AND r.position <= $4
        AND (r.position >= $2 AND r.position <= $3
             OR EXISTS (SELECT FROM tenancy.seal s
                         WHERE s.event = ANY (v.events) AND s.organization = v.organization
                           AND s.position >= $2 AND s.position <= $3))
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
    /// The lowest id that an event at `from` can have, and the lowest at `to`.
    fn ids(self) -> [Uuid; 2] {
        let lowest = |at: i64| time_ordered_id(at, [0; 8]);
        [self.from.map_or(Uuid::nil(), lowest), self.to.map_or(Uuid::max(), lowest)]
    }
}

/// What is left to write.
enum Stage {
    Events(i64),
    Evidence,
    End,
    Done,
}

/// A bundle that is being written.
struct Export {
    manifest: Manifest,
    head: checkpoint::Head,
    checkpoint: i64,
    signer: Signer,
    /// Whether actors who are no members of the organization are shown.
    all_actors: bool,
    evidence: VecDeque<Uuid>,
    actors: HashSet<Uuid>,
    /// Events outside of the positions that are to be written: those that tell of erasures.
    erasures: VecDeque<Uuid>,
    /// Events outside of the positions that were written.
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
            Stage::Events(position) if position > self.manifest.last => self.stage = Stage::Evidence,
            Stage::Events(position) => {
                let last = self.manifest.last.min(position.saturating_add(PAGE - 1));
                self.events(position, last)?;
                self.stage = Stage::Events(last + 1);
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

    fn events(&mut self, first: i64, last: i64) -> Result<()> {
        let arguments = [spi::uuid(self.manifest.organization), argument(first), argument(last)];
        let entries: Option<Vec<SealedEntry>> = PAGE_OF_EVENTS.read(&arguments, sealed).into_iter().collect();
        let entries = entries.ok_or_else(unreadable)?;
        if entries.len() as i64 != last - first + 1 {
            return Err(error::STATE_INVALID.error(format!("positions {first} to {last} of the seal are not whole")));
        }
        entries.into_iter().try_for_each(|entry| self.entry(entry))
    }

    fn entry(&mut self, entry: SealedEntry) -> Result<()> {
        match entry {
            SealedEntry::Present { event, actor } => {
                self.actor(actor)?;
                self.explain(&event);
                self.write(&Line::Event(event))
            }
            SealedEntry::Gone(absent) => self.write(&Line::Absent(absent)),
        }
    }

    /// Of an event without a payload: remembers the event that tells of its erasure.
    fn explain(&mut self, event: &Event) {
        if event.payload.is_none() {
            let arguments = [spi::uuid(event.id), spi::uuid(self.manifest.organization)];
            let found = ERASURE.read(&arguments, |row| row.uuid(1));
            self.erasures.extend(found.into_iter().flatten());
        }
    }

    /// The actor, before the first event of it.
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

    /// An event that others need, unless it stands among them, or past the checkpoint.
    fn elsewhere(&mut self, id: Uuid) -> Result<()> {
        let arguments = [spi::uuid(self.manifest.organization), spi::uuid(id)];
        let found = ONE_EVENT.read(&arguments, sealed).into_iter().flatten().next();
        let Some(SealedEntry::Present { mut event, actor }) = found else { return Ok(()) };
        let here = (self.manifest.first..=self.manifest.last).contains(&event.position);
        if here || event.position > self.head.position || !self.elsewhere.insert(id) {
            return Ok(());
        }
        let index = (event.position - 1).unsigned_abs();
        let mut nodes = EventTree(self.manifest.organization);
        let proof = merkle::inclusion_proof(&mut nodes, index, self.head.position.unsigned_abs())?;
        event.proof = Some(line::hashes(proof));
        self.actor(actor)?;
        self.explain(&event);
        self.write(&Line::Event(event))
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
    error::STATE_INVALID.error("a stored event or evidence cannot be read")
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
    /// Chooses checkpoint and positions, and writes what stands before the events.
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
        let (first, last) = self.positions(head.position)?;
        let evidence = self.evidence(first, last, head.position)?;
        let manifest = self.manifest(first, last, evidence.len(), &stored.entry);
        let head_line = Line::Head(Head {
            position: head.position,
            chain: Hash(head.chain),
            root: Hash(head.root),
            index: proved.leaf as i64,
            proof: line::hashes(proved.proof),
        });
        let range_line = Line::Range(self.range(first, last, head.position)?);
        let mut export = Export {
            checkpoint: stored.entry.number,
            head,
            signer,
            all_actors: self.auditor,
            evidence: evidence.into(),
            actors: HashSet::new(),
            erasures: VecDeque::new(),
            elsewhere: HashSet::new(),
            writer: Writer::default(),
            ready: VecDeque::new(),
            stage: Stage::Events(first),
            manifest,
        };
        export.write(&Line::Manifest(export.manifest.clone()))?;
        export.write(&Line::Checkpoint(Box::new(self.checkpoint(stored, keys)?)))?;
        export.write(&head_line)?;
        export.write(&range_line)?;
        Ok(export)
    }

    /// The positions of the period; an empty range after the head where there are none.
    fn positions(&self, head: i64) -> Result<(i64, i64)> {
        let [from, to] = self.period.ids();
        let mut found = (None, None, false);
        spi::stream(PERIOD, &[spi::uuid(self.organization), spi::uuid(from), spi::uuid(to), argument(head)], |row| {
            found = (row.get(1), row.get(2), row.get(3).unwrap_or_default());
            Ok::<(), Error>(())
        })?;
        if self.period.to.is_some() && (found.2 || self.unsealed(from, to)?) {
            return Err(not_covered("the newest checkpoint does not cover the whole period"));
        }
        let first = if self.period.from.is_none() { Some(1) } else { found.0 };
        let last = if self.period.to.is_none() { Some(head) } else { found.1 };
        match (first, last) {
            (Some(first), Some(last)) if first <= last => Ok((first, last)),
            _ => Ok((head + 1, head)),
        }
    }

    fn unsealed(&self, from: Uuid, to: Uuid) -> Result<bool> {
        let mut found = false;
        spi::stream(UNSEALED, &[spi::uuid(self.organization), spi::uuid(from), spi::uuid(to)], |_| {
            found = true;
            Ok::<(), Error>(())
        })?;
        Ok(found)
    }

    fn evidence(&self, first: i64, last: i64, head: i64) -> Result<Vec<Uuid>> {
        let mut found = Vec::new();
        let arguments = [spi::uuid(self.organization), argument(first), argument(last), argument(head)];
        spi::stream(EVIDENCE, &arguments, |row| {
            found.push(row.uuid(1).ok_or_else(unreadable)?);
            Ok::<(), Error>(())
        })?;
        Ok(found)
    }

    fn manifest(&self, first: i64, last: i64, evidence: usize, entry: &checkpoint::Entry) -> Manifest {
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

    fn range(&self, first: i64, last: i64, head: i64) -> Result<Range> {
        let mut nodes = EventTree(self.organization);
        let before = (first - 1).unsigned_abs();
        let frontier = frontier(&mut nodes, before)?;
        let proof = merkle::consistency_proof(&mut nodes, last.unsigned_abs(), head.unsigned_abs())?;
        let chain = match before {
            0 => chain::genesis(self.organization),
            _ => {
                let found = CHAIN.read(&[spi::uuid(self.organization), argument(first - 1)], |row| row.bytes(1));
                found.into_iter().flatten().next().ok_or_else(unreadable)?
            }
        };
        Ok(Range { chain: Hash(chain), frontier: line::hashes(frontier), proof: line::hashes(proof) })
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
fn frontier(nodes: &mut EventTree, size: u64) -> Result<Vec<Digest>> {
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

/// An entry of the seal with what is there of its event.
enum SealedEntry {
    Present { event: Box<Event>, actor: Box<Actor> },
    Gone(Absent),
}

/// The columns of an entry before those of its event.
const OF_ENTRY: usize = 4;

fn sealed(row: &Row) -> Option<SealedEntry> {
    let (position, id, hash, chain): (i64, Uuid, Digest, Digest) =
        (row.get(1)?, row.uuid(2)?, row.bytes(3)?, row.bytes(4)?);
    let (of_event, of_actor) =
        (OF_ENTRY + EventColumn::Id.number(), OF_ENTRY + EventColumn::COUNT + ActorColumn::Id.number());
    if row.uuid(of_event as i32).is_none() || row.uuid(of_actor as i32).is_none() {
        return Some(SealedEntry::Gone(Absent { position, id, hash: Hash(hash), chain: Hash(chain) }));
    }
    let event = Event::new(event_row::event(row, OF_ENTRY)?, position, chain);
    let actor = event_row::actor(row, OF_ENTRY + EventColumn::COUNT)?;
    Some(SealedEntry::Present { event: Box::new(event), actor: Box::new(actor) })
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
