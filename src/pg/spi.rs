//! Queries on the extension's own tables and on catalogs, run through SPI.
//!
//! Each runs with the `search_path` that functions of the extension have, so its text can name operators, functions and
//! catalogs plainly, whatever the caller's `search_path` is. Two functions run a text with the caller's:
//! [`execute`], for a statement of a plan, and [`execute_without_force`].
//!
//! pgrx's `Spi` marks all statements after the first write as not read-only (`mark_mutable`), so it cannot read with
//! the active snapshot as [`Query::read`] does.
//!
//! Decision: `docs/decisions/52-security-definer.md`.

use super::backend_local::BackendLocal;
use super::settings::scoped::with_settings;
use super::transaction;
use super::user;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{FromDatum, IntoDatum, PgMemoryContexts, pg_sys};
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char};
use uuid::Uuid;

/// A query on the extension's own tables whose plan is kept for the life of the backend.
///
/// Postgres keeps the plan as long as the `search_path` is the one that it was made with (`RevalidateCachedQuery`,
/// plancache.c), which is always so.
pub struct Query {
    text: &'static str,
    plan: BackendLocal<Cell<pg_sys::SPIPlanPtr>>,
}

/// An argument: its type and its value.
pub struct Argument(pg_sys::Oid, Option<pg_sys::Datum>);

/// A `uuid` argument.
pub fn uuid(id: impl Into<Option<Uuid>>) -> Argument {
    argument(id.into().map(|id| pgrx::Uuid::from_bytes(*id.as_bytes())))
}

/// A `timestamptz` argument, from microseconds since 1970; `None` is NULL.
pub fn timestamp(microseconds: impl Into<Option<i64>>) -> Argument {
    let datum = microseconds.into().map(|at| pg_sys::Datum::from(transaction::to_timestamptz(at)));
    Argument(pg_sys::TIMESTAMPTZOID, datum)
}

/// A `uuid[]` argument.
pub fn uuids(ids: impl IntoIterator<Item = Uuid>) -> Argument {
    argument(ids.into_iter().map(|id| pgrx::Uuid::from_bytes(*id.as_bytes())).collect::<Vec<_>>())
}

/// A `timestamptz[]` argument, as [`timestamp`]; `None` for a time that Postgres does not have.
pub fn timestamps(times: impl IntoIterator<Item = Option<i64>>) -> Option<Argument> {
    let time = |at| TimestampWithTimeZone::try_from(transaction::to_timestamptz(at)).ok();
    let times = times.into_iter().map(|at| match at {
        Some(at) => time(at).map(Some),
        None => Some(None),
    });
    times.collect::<Option<Vec<_>>>().map(argument)
}

/// Makes an argument of a Rust value.
pub fn argument<T: IntoDatum>(value: T) -> Argument {
    Argument(T::type_oid(), value.into_datum())
}

/// One row of a result; alive only inside the callback that receives it.
pub struct Row {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

impl Row {
    /// The column at `number`, from 1.
    pub fn get<T: FromDatum>(&self, number: i32) -> Option<T> {
        let mut null = false;
        // SAFETY: tuple and descriptor are of the same result, which SPI keeps until the end of the callback; the
        // caller asks for the type that the query's column has.
        unsafe {
            let datum = pg_sys::SPI_getbinval(self.tuple, self.descriptor, number, &mut null);
            T::from_datum(datum, null)
        }
    }

    /// A `uuid` column.
    pub fn uuid(&self, number: i32) -> Option<Uuid> {
        self.get::<pgrx::Uuid>(number).map(|id| Uuid::from_bytes(*id.as_bytes()))
    }

    /// A `bytea` column of a known length.
    pub fn bytes<const N: usize>(&self, number: i32) -> Option<[u8; N]> {
        self.get::<&[u8]>(number).and_then(|bytes| bytes.try_into().ok())
    }

    /// An `xid8` column.
    pub fn transaction(&self, number: i32) -> Option<u64> {
        self.datum(number).map(|datum| datum.value() as u64)
    }

    /// A `timestamptz` column, in microseconds since 1970.
    pub fn timestamp(&self, number: i32) -> Option<i64> {
        self.datum(number).map(|datum| transaction::from_timestamptz(datum.value() as i64))
    }

    /// The value as it is; `None` for NULL.
    pub(super) fn datum(&self, number: i32) -> Option<pg_sys::Datum> {
        let mut null = false;
        // SAFETY: as in `get`.
        let datum = unsafe { pg_sys::SPI_getbinval(self.tuple, self.descriptor, number, &mut null) };
        (!null).then_some(datum)
    }
}

/// How a query looks at the data.
#[derive(Clone, Copy, PartialEq)]
enum Access {
    /// With the active snapshot as it is, writing nothing.
    Read,
    /// With a new snapshot of the transaction, able to write.
    Write,
}

/// How many of the extension's own queries are on the stack.
static OWN: BackendLocal<Cell<u32>> = BackendLocal::new(Cell::new(0));

/// True while one of the extension's own queries runs.
pub fn is_own() -> bool {
    OWN.get() > 0
}

/// Counts an own query for its life, also where an error ends it.
struct OwnQuery;

impl OwnQuery {
    fn begin() -> Self {
        OWN.set(OWN.get() + 1);
        OwnQuery
    }
}

impl Drop for OwnQuery {
    fn drop(&mut self) {
        OWN.set(OWN.get() - 1);
    }
}

impl Query {
    pub const fn new(text: &'static str) -> Self {
        Query { text, plan: BackendLocal::new(Cell::new(std::ptr::null_mut())) }
    }

    /// Reads with the active snapshot; `each` gets every row.
    pub fn read<T>(&self, arguments: &[Argument], each: impl FnMut(&Row) -> T) -> Vec<T> {
        self.run(arguments, Access::Read, each)
    }

    /// As [`Query::read`], by indexes wherever there are some, and with one plan for all arguments. To plan a look-up
    /// by ids anew takes longer than to run it, and a plan made while a partition was small would read all of it later.
    pub fn read_by_index<T>(&self, arguments: &[Argument], each: impl FnMut(&Row) -> T) -> Vec<T> {
        const SETTINGS: [(&CStr, &CStr); 2] =
            [(c"enable_seqscan", c"off"), (c"plan_cache_mode", c"force_generic_plan")];
        with_settings(&SETTINGS, || self.read(arguments, each))
    }

    /// Runs a statement that writes; `each` gets every row it returns.
    pub fn write<T>(&self, arguments: &[Argument], each: impl FnMut(&Row) -> T) -> Vec<T> {
        self.run(arguments, Access::Write, each)
    }

    fn run<T>(&self, arguments: &[Argument], access: Access, each: impl FnMut(&Row) -> T) -> Vec<T> {
        let _own = OwnQuery::begin();
        let (mut values, nulls) = bind(arguments);
        // SAFETY: connect and finish are paired (an error in between is cleaned up by Postgres); the plan takes as many
        // arguments as it was prepared with, because text and arguments stand side by side at every call.
        unsafe {
            pg_sys::SPI_connect();
            let plan = self.plan(arguments);
            let run = || pg_sys::SPI_execute_plan(plan, values.as_mut_ptr(), nulls.as_ptr(), access == Access::Read, 0);
            let status = with_own_path(run);
            if status < 0 {
                pgrx::error!("SPI could not run a query of pg_tenancy: {status}");
            }
            let rows = rows(each);
            pg_sys::SPI_finish();
            rows
        }
    }

    /// Prepares the query at its first use.
    ///
    /// # Safety
    /// SPI is connected.
    unsafe fn plan(&self, arguments: &[Argument]) -> pg_sys::SPIPlanPtr {
        if self.plan.get().is_null() {
            // SAFETY: as promised; SPI_keepplan moves the plan to permanent memory.
            unsafe {
                let plan = with_own_path(|| prepare(self.text, arguments));
                if pg_sys::SPI_keepplan(plan) != 0 {
                    pgrx::error!("SPI could not keep a query of pg_tenancy");
                }
                self.plan.set(plan);
            }
        }
        self.plan.get()
    }
}

/// How many rows [`stream`] fetches at a time.
const BATCH: i64 = 10_000;

/// Reads a result of any size with the active snapshot, a batch in memory at a time; `each` gets every row.
///
/// Planned anew at each call: a plan made when the tables were small would be wrong for ever.
pub fn stream<E>(text: &str, arguments: &[Argument], mut each: impl FnMut(&Row) -> Result<(), E>) -> Result<(), E> {
    let _own = OwnQuery::begin();
    let (mut values, nulls) = bind(arguments);
    let mut outcome = Ok(());
    // SAFETY: connect and finish, the portal and the memory context are paired (an error in between is cleaned up by
    // Postgres); a row is used only while its batch is in memory.
    unsafe {
        pg_sys::SPI_connect();
        let portal = with_own_path(|| {
            let plan = prepare(text, arguments);
            pg_sys::SPI_cursor_open(std::ptr::null(), plan, values.as_mut_ptr(), nulls.as_ptr(), true)
        });
        let mut memory = PgMemoryContexts::new("pg_tenancy batch");
        while outcome.is_ok() {
            with_own_path(|| pg_sys::SPI_cursor_fetch(portal, true, BATCH));
            if pg_sys::SPI_processed == 0 {
                break;
            }
            outcome = memory.switch_to(|_| rows(&mut each).into_iter().collect());
            pg_sys::SPI_freetuptable(pg_sys::SPI_tuptable);
            memory.reset();
        }
        // Before SPI_finish, which deletes the memory that this one is part of.
        drop(memory);
        pg_sys::SPI_cursor_close(portal);
        pg_sys::SPI_finish();
    }
    outcome
}

/// Runs `work` with the `search_path` of the extension's own functions.
fn with_own_path<T>(work: impl FnOnce() -> T) -> T {
    const OWN: &CStr = c"pg_catalog, pg_temp";
    // SAFETY: a setting of the session, which Postgres keeps pointed at a C string.
    let is_set = unsafe { CStr::from_ptr(pg_sys::namespace_search_path) == OWN };
    if is_set { work() } else { with_settings(&[(c"search_path", OWN)], work) }
}

/// The values of arguments, and for each a blank or an `n` for NULL, as SPI wants them.
fn bind(arguments: &[Argument]) -> (Vec<pg_sys::Datum>, Vec<c_char>) {
    let value = |argument: &Argument| argument.1.unwrap_or(pg_sys::Datum::null());
    let null = |argument: &Argument| if argument.1.is_some() { b' ' } else { b'n' } as c_char;
    (arguments.iter().map(value).collect(), arguments.iter().map(null).collect())
}

/// # Safety
/// SPI is connected.
unsafe fn prepare(text: &str, arguments: &[Argument]) -> pg_sys::SPIPlanPtr {
    let text = CString::new(text).unwrap_or_default();
    let mut types: Vec<pg_sys::Oid> = arguments.iter().map(|argument| argument.0).collect();
    // SAFETY: as promised; Postgres copies text and types.
    let plan = unsafe { pg_sys::SPI_prepare(text.as_ptr(), types.len() as i32, types.as_mut_ptr()) };
    if plan.is_null() {
        pgrx::error!("SPI could not prepare a query of pg_tenancy");
    }
    plan
}

/// Runs a query over catalogs once; `each` gets every row.
pub fn query<T>(text: &str, each: impl FnMut(&Row) -> T) -> Vec<T> {
    let _own = OwnQuery::begin();
    with_own_path(|| execute(text, each))
}

/// Runs a text once, with the caller's `search_path`; `each` gets every row.
pub fn execute<T>(text: &str, each: impl FnMut(&Row) -> T) -> Vec<T> {
    let text = CString::new(text).unwrap_or_default();
    // SAFETY: connect and finish are paired; an error in between is cleaned up by Postgres.
    unsafe {
        pg_sys::SPI_connect();
        let status = pg_sys::SPI_execute(text.as_ptr(), false, 0);
        if status < 0 {
            pgrx::error!("SPI could not run a statement of pg_tenancy: {status}");
        }
        let rows = rows(each);
        pg_sys::SPI_finish();
        rows
    }
}

/// Runs one query that passes by the FORCE ROW LEVEL SECURITY of the tables that its own text names, and of no
/// others: FORCE is lifted while Postgres puts the policies into the query (`fireRIRrules`, rewriteHandler.c), and
/// is there again when it runs. What functions and triggers read then, they read under their tables' policies.
pub fn execute_without_force<T>(text: &str, each: impl FnMut(&Row) -> T) -> Vec<T> {
    // SAFETY: connect and finish are paired; an error in between is cleaned up by Postgres.
    unsafe {
        pg_sys::SPI_connect();
        let plan = user::without_force(|| prepare(text, &[]));
        let status = pg_sys::SPI_execute_plan(plan, std::ptr::null_mut(), std::ptr::null(), false, 0);
        if status < 0 {
            pgrx::error!("SPI could not run a statement of pg_tenancy: {status}");
        }
        let rows = rows(each);
        pg_sys::SPI_finish();
        rows
    }
}

/// Hands the rows of the last SPI call to `each`.
///
/// # Safety
/// SPI is connected, and stays so until this returns.
unsafe fn rows<T>(mut each: impl FnMut(&Row) -> T) -> Vec<T> {
    // SAFETY: SPI's own globals; the table is NULL for statements that return nothing.
    unsafe {
        let table = pg_sys::SPI_tuptable;
        if table.is_null() {
            return Vec::new();
        }
        let descriptor = (*table).tupdesc;
        (0..(*table).numvals as usize).map(|n| each(&Row { tuple: *(*table).vals.add(n), descriptor })).collect()
    }
}
