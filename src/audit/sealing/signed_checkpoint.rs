//! `tenancy.checkpoint()`: signs where the audit stands, at the commit, so that no signature is seen of what is
//! rolled back.
//!
//! Decision: `docs/decisions/40-checkpoint-signing.md`.

use super::sealer;
use crate::audit::log::head_tree::{HeadTreeChange, HeadTreeVersion};
use crate::audit::log::state::unreadable;
use crate::pg::backend_local::BackendLocal;
use crate::pg::report::{self, OrRaise};
use crate::pg::settings::configuration;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::tables::table::{self, ColumnValue};
use crate::pg::transaction;
use crate::pg::user;
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::log::checkpoint::Entry;
use pg_tenancy_core::audit::log::merkle::Frontier;
use pg_tenancy_core::audit::log::signed_note::{self, Checkpoint, Signer, Verifier};
use pg_tenancy_core::error::{self, Result};
use pg_tenancy_core::savepoint_stack::SavepointStack;
use pg_tenancy_files::checkpoint_files::{self, Folder};
use pg_tenancy_files::signing_key::Source;
use pgrx::pg_extern;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// The most bytes that NOTIFY carries (async.c).
const MAX_PAYLOAD_BYTES: usize = 7999;
/// How many notes are written to files in one call at most, where many are missing.
const BACKLOG: i64 = 1000;

static NEWEST_BLOCK: Query =
    Query::new("SELECT number, hash, incarnation FROM tenancy.block ORDER BY number DESC LIMIT 1");

static NEWEST: Query = Query::new(
    "SELECT incarnation, number, block, digest, root, frontier, origin, made_at, heads FROM tenancy.checkpoint
      ORDER BY block DESC, number DESC LIMIT 1",
);

static NOTE: Query = Query::new("SELECT note FROM tenancy.checkpoint WHERE incarnation = $1 AND number = $2");

static NOTES: Query = Query::new(
    "SELECT number, note FROM tenancy.checkpoint
      WHERE incarnation = $1 AND origin = $2 AND number > $3 ORDER BY number LIMIT $4",
);

static KEYS: Query =
    Query::new("SELECT epoch, public_key, retired_at IS NOT NULL FROM tenancy.signing_key ORDER BY epoch");

static ADD_KEY: Query = Query::new(
    "INSERT INTO tenancy.signing_key (epoch, name, key_id, public_key, first_used_at, first_incarnation, \
        first_checkpoint)
     VALUES ($1, $2, $3, $4, $5, $6, $7)",
);

static RETIRE_KEY: Query = Query::new(
    "UPDATE tenancy.signing_key SET retired_at = $2, last_incarnation = $3, last_checkpoint = $4
      WHERE epoch = $1 RETURNING 1",
);

/// Who listens gets it after the commit. A transaction that did this cannot be prepared (async.c).
static NOTIFY: Query = Query::new("SELECT pg_notify('tenancy_checkpoint', $1)");

/// A block, as far as a checkpoint names it.
struct CheckpointBlock {
    number: i64,
    hash: Digest,
    incarnation: String,
}

/// The checkpoint before the one that is made.
struct LastCheckpoint {
    incarnation: String,
    number: i64,
    tree: HeadTreeVersion,
    digest: Digest,
    frontier: Frontier,
    origin: String,
    made_at: i64,
}

/// What is to be signed at the commit.
struct PendingCheckpoint {
    signers: Vec<Signer>,
    origin: String,
}

/// What was signed, to be handed out after the commit.
struct SignedCheckpoint {
    origin: String,
    number: i64,
    note: String,
}

static DUE: BackendLocal<RefCell<SavepointStack<Option<Rc<PendingCheckpoint>>>>> =
    BackendLocal::new(RefCell::new(SavepointStack::new(None)));
static MADE: BackendLocal<Cell<Option<SignedCheckpoint>>> = BackendLocal::new(Cell::new(None));

/// `tenancy.checkpoint()`: returns the number of the checkpoint.
#[pg_extern(sql = false)]
fn tenancy_checkpoint() -> i64 {
    checkpoint().or_raise()
}

fn checkpoint() -> Result<i64> {
    // Takes the lock that all this stands under until the end of the transaction.
    sealer::seal_and_prepare()?;
    let Some(block) = newest_block()? else { return Ok(0) };
    let last = last()?;
    let signers = read_keys()?;
    let origin = origin(&block.incarnation, last.as_ref(), &signers)?;
    let here = last.as_ref().filter(|last| last.incarnation == block.incarnation);
    publish_backlog(&block.incarnation, &origin, here.map_or(0, |last| last.number))?;
    let keys = CheckpointKeys::compare(&signers)?;
    if let Some(last) = here.filter(|last| last.tree.block == block.number && keys.same()) {
        return Ok(last.number);
    }
    let number = here.map_or(1, |last| last.number + 1);
    keys.write(&block.incarnation, number, last.as_ref())?;
    let mut due = DUE.borrow_mut();
    *due.change(transaction::level()) = Some(Rc::new(PendingCheckpoint { signers, origin }));
    Ok(number)
}

/// A savepoint was rolled back or released.
pub fn savepoint(level: i32, rolled_back: bool) {
    let mut due = DUE.borrow_mut();
    if rolled_back { due.roll_back(level) } else { due.release(level) }
}

/// The transaction is about to commit: makes the checkpoint. Nothing can be read of it before.
pub fn before_commit() {
    let due = DUE.borrow().get().clone();
    if let Some(due) = due {
        let made = user::as_superuser(|| transaction::with_latest_snapshot(|| due.make())).or_raise();
        MADE.set(Some(made));
    }
}

/// The transaction is over: hands out what it made. That the file is missing is no reason to fail, the next one
/// writes both.
pub fn transaction_ended(committed: bool) {
    DUE.borrow_mut().clear();
    let Some(made) = MADE.take().filter(|_| committed) else { return };
    if let Some(directory) = configuration::checkpoint_directory() {
        let written = Folder::new(&directory, &made.origin).and_then(|folder| folder.write(made.number, &made.note));
        if let Err(error) = written {
            report::warn(&error);
        }
    }
}

/// True if the settings name a key to sign with.
pub fn has_signing_key() -> bool {
    configuration::signing_key_file().is_some() || configuration::signing_key_command().is_some()
}

/// When the worker is to make the next checkpoint, in microseconds since 1970; `None` if nothing is new.
pub fn next(interval: Duration) -> Option<i64> {
    let (block, last) = transaction::with_latest_snapshot(|| (newest_block().or_raise(), last().or_raise()));
    let block = block?;
    match last.filter(|last| last.incarnation == block.incarnation) {
        None => Some(0),
        Some(last) if last.tree.block == block.number => None,
        Some(last) => Some(last.made_at.saturating_add(i64::try_from(interval.as_micros()).unwrap_or(i64::MAX))),
    }
}

impl PendingCheckpoint {
    fn make(&self) -> Result<SignedCheckpoint> {
        let Some(block) = newest_block()? else { return Err(unreadable("the newest row of tenancy.block")) };
        let last = last()?;
        let here = last.as_ref().filter(|last| last.incarnation == block.incarnation);
        let tree = HeadTreeChange::compute(
            last.as_ref().map_or_else(HeadTreeVersion::default, |last| last.tree),
            block.number,
        )?;
        let entry = Entry {
            number: here.map_or(1, |last| last.number + 1),
            made_at: transaction::now(),
            block: block.number,
            block_hash: block.hash,
            heads: tree.version.heads,
            heads_root: tree.root,
            previous: last.as_ref().map(|last| last.digest),
            incarnation: block.incarnation,
        };
        let mut frontier = here.map_or_else(Frontier::default, |last| last.frontier.clone());
        frontier.push(entry.leaf(), |_, _, _| ());
        let signed = Checkpoint { origin: self.origin.clone(), size: frontier.size(), root: frontier.root() };
        let note = signed_note::sign(&signed.text(), &self.signers)
            .map_err(|why| error::SIGNING_KEY_INVALID.error(format!("checkpoints cannot be signed: {why}")))?;
        tree.write();
        write(&entry, &frontier, &self.origin, &note);
        announce(&note)?;
        transaction::commit_durably();
        Ok(SignedCheckpoint { origin: self.origin.clone(), number: entry.number, note })
    }
}

fn write(entry: &Entry, frontier: &Frontier, origin: &str, note: &str) {
    table::insert(
        c"checkpoint",
        &[
            ColumnValue::Text(&entry.incarnation),
            ColumnValue::BigInteger(entry.number),
            ColumnValue::Timestamp(entry.made_at),
            ColumnValue::BigInteger(entry.block),
            ColumnValue::Bytes(&entry.block_hash),
            ColumnValue::BigInteger(entry.heads),
            ColumnValue::Bytes(&entry.heads_root),
            entry.previous.as_ref().map_or(ColumnValue::Null, |previous| ColumnValue::Bytes(previous)),
            ColumnValue::Bytes(&entry.digest()),
            ColumnValue::Bytes(&frontier.root()),
            ColumnValue::Bytes(&frontier.to_bytes()),
            ColumnValue::Text(origin),
            ColumnValue::Text(note),
        ],
    );
}

fn announce(note: &str) -> Result<()> {
    if note.len() > MAX_PAYLOAD_BYTES {
        return Err(error::SIGNING_KEY_INVALID.error("the note is too long for a NOTIFY"));
    }
    NOTIFY.write(&[argument(note)], |_| ());
    Ok(())
}

/// The keys at hand.
pub fn read_keys() -> Result<Vec<Signer>> {
    let source = Source::of(configuration::signing_key_file(), configuration::signing_key_command())?;
    source.read(configuration::checkpoint_origin().as_deref(), transaction::check_for_interrupts)
}

/// The name of the log. A key that goes must not take the name of the log with it, so without the setting the name
/// is the one that was used before.
fn origin(incarnation: &str, last: Option<&LastCheckpoint>, signers: &[Signer]) -> Result<String> {
    let used = || last.and_then(|last| last.origin.rsplit_once('/')).map(|(name, _)| name.to_owned());
    let of_key = || signers.first().map(|signer| signer.verifier().name().to_owned());
    let name = configuration::checkpoint_origin().or_else(used).or_else(of_key).unwrap_or_default();
    if signed_note::check_name(&name).is_err() || name.len() > pg_tenancy_files::signing_key::MAX_NAME_BYTES {
        let message = "tenancy.checkpoint_origin is longer than 200 bytes, or has white space or a plus sign";
        return Err(error::SIGNING_KEY_INVALID.error(message));
    }
    Ok(format!("{name}/{incarnation}"))
}

/// Writes the files that are missing of committed checkpoints, and makes sure that those there are this history's.
fn publish_backlog(incarnation: &str, origin: &str, newest: i64) -> Result<()> {
    let Some(directory) = configuration::checkpoint_directory() else { return Ok(()) };
    let missing = || {
        let folder = Folder::new(&directory, origin)?;
        let latest = folder.latest()?;
        if let Some((number, note)) = &latest
            && (*number > newest || note_of(incarnation, *number).is_none_or(|stored| stored != *note))
        {
            return Err(checkpoint_files::other_history(*number));
        }
        let after = latest.map_or(0, |(number, _)| number);
        let arguments = [argument(incarnation), argument(origin), argument(after), argument(BACKLOG)];
        let notes = transaction::with_latest_snapshot(|| {
            NOTES.read(&arguments, |row| Some((row.get::<i64>(1)?, row.get::<String>(2)?)))
        });
        notes.into_iter().flatten().try_for_each(|(number, note)| folder.write(number, &note))
    };
    match missing() {
        // The checkpoint itself does not depend on the folder.
        Err(error) if error.kind == &error::PUBLICATION_FAILED => {
            report::warn(&error);
            Ok(())
        }
        other => other,
    }
}

fn note_of(incarnation: &str, number: i64) -> Option<String> {
    let arguments = [argument(incarnation), argument(number)];
    transaction::with_latest_snapshot(|| NOTE.read(&arguments, |row| row.get::<String>(1))).pop().flatten()
}

/// The keys at hand beside those that signed before.
struct CheckpointKeys<'s> {
    epochs: i32,
    new: Vec<&'s Verifier>,
    gone: Vec<i32>,
}

impl<'s> CheckpointKeys<'s> {
    fn compare(signers: &'s [Signer]) -> Result<Self> {
        let read = |row: &Row| Some((row.get::<i32>(1)?, row.get::<String>(2)?, row.get::<bool>(3)?));
        let known: Option<Vec<_>> = transaction::with_latest_snapshot(|| KEYS.read(&[], read)).into_iter().collect();
        let known = known.ok_or_else(|| unreadable("a row of tenancy.signing_key"))?;
        let at_hand: Vec<(&Verifier, String)> =
            signers.iter().map(|signer| (signer.verifier(), signer.verifier().to_string())).collect();
        let mut keys =
            CheckpointKeys { epochs: known.last().map_or(0, |(epoch, ..)| *epoch), new: Vec::new(), gone: Vec::new() };
        for (verifier, text) in &at_hand {
            match known.iter().find(|(_, known, _)| known == text) {
                None => keys.new.push(verifier),
                Some((epoch, _, true)) => {
                    let detail = format!("The reason: the key of epoch {epoch} was retired, and never signs again.");
                    return Err(error::SIGNING_KEY_INVALID.error("checkpoints cannot be signed").detail(detail));
                }
                Some(_) => {}
            }
        }
        let gone = known.iter().filter(|(_, key, retired)| !retired && at_hand.iter().all(|(_, text)| text != key));
        keys.gone = gone.map(|(epoch, ..)| *epoch).collect();
        Ok(keys)
    }

    fn same(&self) -> bool {
        self.new.is_empty() && self.gone.is_empty()
    }

    /// Writes down which keys begin with checkpoint `number`, and which ended with the one before.
    fn write(&self, incarnation: &str, number: i64, last: Option<&LastCheckpoint>) -> Result<()> {
        let now = transaction::now();
        for (epoch, key) in (self.epochs + 1..).zip(&self.new) {
            let values = [
                argument(epoch),
                argument(key.name()),
                argument(key.id().as_slice()),
                argument(key.to_string()),
                spi::timestamp(now),
                argument(incarnation),
                argument(number),
            ];
            ADD_KEY.write(&values, |_| ());
        }
        for epoch in &self.gone {
            let last = last.ok_or_else(|| unreadable("the newest row of tenancy.checkpoint"))?;
            let (incarnation, number) = (argument(last.incarnation.as_str()), argument(last.number));
            let updated = RETIRE_KEY.write(&[argument(*epoch), spi::timestamp(now), incarnation, number], |_| ());
            if updated.is_empty() {
                // The row is younger than the snapshot of a REPEATABLE READ transaction.
                return Err(error::CHECKPOINT_CONFLICT.error("the signing keys changed since the transaction began"));
            }
        }
        transaction::next_command();
        Ok(())
    }
}

fn newest_block() -> Result<Option<CheckpointBlock>> {
    let read = |row: &Row| Some(CheckpointBlock { number: row.get(1)?, hash: row.bytes(2)?, incarnation: row.get(3)? });
    let found = transaction::with_latest_snapshot(|| NEWEST_BLOCK.read(&[], read)).pop();
    found.map(|block| block.ok_or_else(|| unreadable("the newest row of tenancy.block"))).transpose()
}

fn last() -> Result<Option<LastCheckpoint>> {
    let read = |row: &Row| {
        let (number, root): (i64, Digest) = (row.get(2)?, row.bytes(5)?);
        let frontier = Frontier::from_bytes(number.unsigned_abs(), row.get::<&[u8]>(6)?)?;
        // What was signed once must be what the next one continues.
        let whole = frontier.root() == root;
        whole.then_some(LastCheckpoint {
            incarnation: row.get(1)?,
            number,
            tree: HeadTreeVersion { block: row.get(3)?, heads: row.get(9)? },
            digest: row.bytes(4)?,
            frontier,
            origin: row.get(7)?,
            made_at: row.timestamp(8)?,
        })
    };
    let found = transaction::with_latest_snapshot(|| NEWEST.read(&[], read)).pop();
    found.map(|last| last.ok_or_else(|| unreadable("the newest row of tenancy.checkpoint"))).transpose()
}
