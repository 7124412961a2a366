//! Reads of tables that are marked as sensitive: one event for a statement and a table, which no rollback takes back.

use super::append::{self, NewEvent};
use super::message_queue::deliver;
use crate::pg::backend_local::BackendLocal;
use crate::pg::fmgr::fmgr_function;
use crate::pg::hooks::reading::{ReadListener, ReadOutcome, ReadStatement};
use crate::pg::tables::{catalog, table};
use crate::pg::transaction;
use pg_tenancy_core::audit::capture::read::Read;
use pg_tenancy_core::audit::format::event::Actor;
use pg_tenancy_core::error::Result;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// What is told of the executor.
pub const LISTENER: ReadListener = ReadListener { active, changed, of_interest, begun, went_on, ended };

/// A marked table.
struct SensitiveTable {
    table: pg_sys::Oid,
    domain: String,
}

/// The marked tables, and what is read with them: each by its own oid and those of its partitions and children.
struct SensitiveTables {
    /// The table that holds the sensitive; none where the extension is not installed.
    kept_in: Option<pg_sys::Oid>,
    tables: HashMap<pg_sys::Oid, Rc<SensitiveTable>>,
}

/// What is known of the sensitive. Read where nothing may fail.
#[derive(Clone, Copy, PartialEq)]
enum Known {
    /// They must be read, for the first time or again.
    Outdated,
    None,
    Some,
}

/// A statement that has begun: what it read of each table, as it would be recorded now.
struct RunningRead {
    reads: Vec<Read>,
}

static KNOWN: BackendLocal<Cell<Known>> = BackendLocal::new(Cell::new(Known::Outdated));
static SENSITIVE_TABLES: BackendLocal<RefCell<Option<SensitiveTables>>> = BackendLocal::new(RefCell::new(None));
static BEGUN: BackendLocal<RefCell<BTreeMap<u64, RunningRead>>> = BackendLocal::new(RefCell::new(BTreeMap::new()));
static NUMBER: BackendLocal<Cell<u64>> = BackendLocal::new(Cell::new(0));
/// True in a process of the library's own: what it reads, it reads for the audit.
static OWN_PROCESS: BackendLocal<Cell<bool>> = BackendLocal::new(Cell::new(false));

/// This process records reads, so its own are none.
pub fn read_for_the_audit() {
    OWN_PROCESS.set(true);
}

fn active() -> bool {
    KNOWN.get() != Known::None && !OWN_PROCESS.get()
}

fn changed(table: pg_sys::Oid) {
    let concerned = match SENSITIVE_TABLES.try_borrow().as_deref() {
        Ok(Some(SensitiveTables { kept_in: Some(kept_in), tables })) => {
            table == pg_sys::InvalidOid || table == *kept_in || tables.contains_key(&table)
        }
        // Being read, or the extension may have come.
        _ => true,
    };
    if concerned {
        KNOWN.set(Known::Outdated);
    }
}

fn of_interest(table: pg_sys::Oid) -> Option<pg_sys::Oid> {
    if KNOWN.get() == Known::Outdated {
        learn();
    }
    SENSITIVE_TABLES.borrow().as_ref().and_then(|sensitive| sensitive.tables.get(&table)).map(|marked| marked.table)
}

/// Reads the sensitive as they are committed, and as this transaction sees its own. What changes meanwhile outdates
/// them again.
fn learn() {
    KNOWN.set(Known::Some);
    let sensitive = transaction::with_latest_snapshot(|| {
        // pg_upgrade makes the extension's tables first and their indexes later; the latter is news of the table.
        let kept_in = table::oid_if_any(c"sensitive_table");
        let is_whole = table::oid_if_any(c"sensitive_table_pkey").is_some();
        let mut tables = HashMap::new();
        if kept_in.is_some() && is_whole {
            // table, sensitive, domain, ...
            let marked = table::find(c"sensitive_table", c"sensitive_table_pkey", &[], |row| {
                let marked = SensitiveTable { table: row.get(1)?, domain: row.get(3)? };
                // Of a table that was dropped the mark is left.
                (row.get::<bool>(2)? && catalog::name(marked.table).is_some()).then(|| Rc::new(marked))
            });
            let marked: Vec<Rc<SensitiveTable>> = marked.into_iter().flatten().collect();
            for marked in &marked {
                for read_with in catalog::descendants(marked.table) {
                    tables.entry(read_with).or_insert_with(|| marked.clone());
                }
            }
            // A partition with a mark of its own is told of under its own name.
            tables.extend(marked.into_iter().map(|marked| (marked.table, marked)));
        }
        SensitiveTables { kept_in, tables }
    });
    let none = sensitive.tables.is_empty();
    SENSITIVE_TABLES.replace(Some(sensitive));
    if none && KNOWN.get() == Known::Some {
        KNOWN.set(Known::None);
    }
}

fn begun(statement: ReadStatement) -> u64 {
    let number = NUMBER.get() + 1;
    NUMBER.set(number);
    let (actor, occurred_at) = (actor(), transaction::now());
    let reads = statement.tables.into_iter().filter_map(|table| {
        let (table_schema, table_name) = catalog::name(table)?;
        let domain = SENSITIVE_TABLES.borrow().as_ref()?.tables.get(&table)?.domain.clone();
        Some(Read {
            occurred_at,
            organization: actor.organization,
            domain,
            table_schema,
            table_name,
            command: statement.command.to_owned(),
            query_id: statement.query_id,
            rows: None,
            failed: false,
            actor: actor.clone(),
        })
    });
    let reads = reads.collect();
    BEGUN.borrow_mut().insert(number, RunningRead { reads });
    number
}

/// Who acts. A context that cannot be used, because its token has expired, lets nobody read a protected table.
fn actor() -> Actor {
    append::describe_now().unwrap_or_else(|_| append::describe_without_context())
}

/// A statement that authenticates before it reads has no context at its beginning; one that signs out has none at
/// its end.
fn went_on(number: u64) {
    let mut begun = BEGUN.borrow_mut();
    let Some(begun) = begun.get_mut(&number) else { return };
    if begun.reads.iter().any(|read| read.actor.organization.is_none()) {
        let actor = actor();
        for read in &mut begun.reads {
            read.organization = actor.organization;
            read.actor = actor.clone();
        }
    }
}

fn ended(number: u64, outcome: ReadOutcome) {
    let begun = BEGUN.try_borrow_mut().ok().and_then(|mut begun| begun.remove(&number));
    let (Some(begun), ReadOutcome::Ran { rows, failed }) = (begun, outcome) else { return };
    for read in begun.reads {
        deliver("read", &Read { rows, failed, ..read }.to_message());
    }
}

/// Writes the event of a read that came as a message.
pub fn record(read: Read) -> Result<()> {
    let payload = read.payload();
    append::append_as(
        read.actor,
        read.occurred_at,
        NewEvent {
            organization: read.organization.unwrap_or_default(),
            operation: "read",
            domain: &read.domain,
            table_schema: Some(&read.table_schema),
            table_name: Some(&read.table_name),
            row_key: None,
            result: if read.failed { "failed" } else { "success" },
            reason: None,
            payload,
        },
    )
}

fmgr_function! {
    /// `tenancy.renew_sensitive_tables()`: trigger of `tenancy.sensitive_table`, after which every session reads it
    /// again.
    tenancy_renew_sensitive_tables, pg_finfo_tenancy_renew_sensitive_tables, |call| {
        use crate::pg::report::OrRaise;
        let call = crate::pg::trigger::Call::new(call).or_raise();
        catalog::table_has_changed(call.relation());
        pg_sys::Datum::null()
    }
}
