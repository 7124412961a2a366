//! Statements and functions that tell how much the server has read: EXPLAIN ANALYZE and the statistics functions.

use crate::pg::backend_local::BackendLocal;
use crate::pg::report::OrRaise;
use pg_tenancy_core::error::Result;
use pgrx::{pg_guard, pg_sys};
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_int, c_void};

/// Hears of what the role in force is about to use.
type StatisticsListener = fn(what: &str) -> Result<()>;

static LISTENER: BackendLocal<Cell<Option<StatisticsListener>>> = BackendLocal::new(Cell::new(None));
static PREVIOUS: BackendLocal<Cell<pg_sys::object_access_hook_type>> = BackendLocal::new(Cell::new(None));
const UNKNOWN: u8 = 0;
const OTHER: u8 = 1;
const STATISTICS: u8 = 2;
/// What is known of Postgres' own functions, by oid, which no session can change.
static KNOWN: BackendLocal<RefCell<Vec<u8>>> = BackendLocal::new(RefCell::new(Vec::new()));
/// Functions of initdb have smaller oids; src/include/access/transam.h.
const FIRST_NORMAL: usize = 16384;

/// Registers the hook. Called once from `_PG_init`.
pub fn watch(listener: StatisticsListener) {
    LISTENER.set(Some(listener));
    // SAFETY: called once per process from _PG_init; the library stays loaded.
    unsafe {
        PREVIOUS.set(pg_sys::object_access_hook);
        pg_sys::object_access_hook = Some(accessed);
    }
}

/// A function is about to be used: in an expression, in FROM, as an operator, an aggregate or by the fast path.
///
/// It runs for each function of each plan that starts, so it has no guard, which would cost more than what it does: an
/// error of the hook before jumps over its frame, which holds nothing to drop.
unsafe extern "C-unwind" fn accessed(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    part: c_int,
    argument: *mut c_void,
) {
    if let Some(previous) = PREVIOUS.get() {
        // SAFETY: passes on what Postgres gave.
        unsafe { previous(access, class, object, part, argument) };
    }
    if access != pg_sys::ObjectAccessType::OAT_FUNCTION_EXECUTE || class != pg_sys::ProcedureRelationId {
        return;
    }
    let place = object.to_u32() as usize;
    if place < FIRST_NORMAL && KNOWN.try_borrow().ok().and_then(|known| known.get(place).copied()) != Some(OTHER) {
        used(object, place);
    }
}

/// A function of Postgres is about to be used that is not known to tell nothing.
#[pg_guard]
extern "C-unwind" fn used(function: pg_sys::Oid, place: usize) {
    if tells_statistics(function, place) {
        tell(&function_name(function).unwrap_or_default());
    }
}

fn tells_statistics(function: pg_sys::Oid, place: usize) -> bool {
    let known = KNOWN.borrow().get(place).copied().unwrap_or(UNKNOWN);
    if known != UNKNOWN {
        return known == STATISTICS;
    }
    let tells = function_name(function).is_some_and(|name| name.starts_with("pg_stat_get_"));
    let mut all = KNOWN.borrow_mut();
    all.resize(FIRST_NORMAL, UNKNOWN);
    all[place] = if tells { STATISTICS } else { OTHER };
    tells
}

fn function_name(function: pg_sys::Oid) -> Option<String> {
    // SAFETY: a catalog lookup, which gives NULL for none, or a name.
    unsafe {
        let name = pg_sys::get_func_name(function);
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    }
}

/// # Safety
/// The node is one of a parse tree.
pub(super) unsafe fn explains(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as promised.
    unsafe { (*node).type_ == pg_sys::NodeTag::T_ExplainStmt }
}

/// An EXPLAIN is about to run. As Postgres does it, the last ANALYZE of its options counts.
#[pg_guard]
pub(super) extern "C-unwind" fn explaining(node: *mut pg_sys::Node) {
    let mut analyze = false;
    // SAFETY: the caller has looked at the tag; the options are a list of DefElem.
    unsafe {
        let options = (*node.cast::<pg_sys::ExplainStmt>()).options;
        let count = if options.is_null() { 0 } else { (*options).length as usize };
        for n in 0..count {
            let option: *mut pg_sys::DefElem = (*(*options).elements.add(n)).ptr_value.cast();
            if CStr::from_ptr((*option).defname) == c"analyze" {
                analyze = pg_sys::defGetBoolean(option);
            }
        }
    }
    if analyze {
        tell("EXPLAIN ANALYZE");
    }
}

fn tell(what: &str) {
    if let Some(listener) = LISTENER.get() {
        listener(what).or_raise();
    }
}
