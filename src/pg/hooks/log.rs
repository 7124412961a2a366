//! Keeps tokens, and values of secrets, out of what the server logs and shows of a running statement.
//!
//! Everything that goes to the log passes `emit_log_hook` (src/backend/utils/error/elog.c), whatever its format. The
//! hook changes the texts of the report where they stand: what replaces a token is shorter, so nothing is allocated
//! while an error is reported, perhaps for want of memory. The report to the client is the same object, so the client
//! sees the replacement too.
//!
//! The STATEMENT line, the query of csvlog and jsonlog, `current_query()` and the text that parallel workers get come
//! from `debug_query_string`, which belongs to others and is being executed. It is pointed to a copy without tokens;
//! Postgres itself points it elsewhere with the next message of the client.
//!
//! A token is known by its shape wherever it stands. A value of a secret looks like anything: so of a statement that
//! names a function which takes values, every literal and parameter is blotted.
//!
//! Decision: `docs/decisions/14-token-redaction.md`.

use crate::pg::backend_local::BackendLocal;
use crate::pg::transaction;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};

/// How tokens are found and replaced. Neither function may allocate or panic.
#[derive(Clone, Copy)]
pub struct Redaction {
    /// True if the text holds a token.
    pub needed: fn(&[u8]) -> bool,
    /// Replaces the tokens where they stand, and returns the new length, which is not larger.
    pub in_place: fn(&mut [u8]) -> usize,
}

/// What is redacted. None of the functions may allocate or panic.
#[derive(Clone, Copy)]
pub struct Redactions {
    /// Wherever they stand.
    pub tokens: Redaction,
    /// True for a text that names a function which takes values of secrets.
    pub takes_values: fn(&[u8]) -> bool,
    /// True for a message that reports a statement with its parameters, at whatever level.
    pub reports_statement: fn(&[u8]) -> bool,
    /// In reports of such statements.
    pub literals: Redaction,
    /// In what Postgres reports of data there: it may quote a value in any way.
    pub quoted: Redaction,
    /// True for the name of an error of this library.
    pub is_error: fn(&[u8]) -> bool,
}

static REDACTIONS: BackendLocal<Cell<Option<Redactions>>> = BackendLocal::new(Cell::new(None));
static HIDDEN: BackendLocal<Cell<Option<Hidden>>> = BackendLocal::new(Cell::new(None));

/// A statement of which something was taken out.
#[derive(Clone, Copy)]
struct Hidden {
    /// As the client sent it.
    sent: *const c_char,
    /// What `debug_query_string` was pointed to instead.
    copy: *const c_char,
    /// When the client's message came: both live as long as it is worked on, and their memory is then used again.
    message: i64,
}

impl Hidden {
    /// What the client sent, where this text stands for it.
    fn sent(statement: *const c_char) -> *const c_char {
        match HIDDEN.get() {
            Some(hidden) if hidden.copy == statement && hidden.message == transaction::statement() => hidden.sent,
            _ => statement,
        }
    }
}
static PREVIOUS_EMIT: BackendLocal<Cell<pg_sys::emit_log_hook_type>> = BackendLocal::new(Cell::new(None));

// Postgres' own functions, without pgrx's guard around them: a guard turns an error into a panic, and needs a stack of
// its own in the middle of reporting an error. None of these raises.
unsafe extern "C-unwind" {
    #[link_name = "MemoryContextAllocExtended"]
    fn allocate(context: pg_sys::MemoryContext, size: usize, flags: c_int) -> *mut c_void;
    #[link_name = "pgstat_report_activity"]
    fn report_activity(state: pg_sys::BackendState::Type, text: *const c_char);
    #[link_name = "pgstat_get_my_query_id"]
    fn query_id() -> u64;
    #[link_name = "pgstat_report_query_id"]
    fn report_query_id(id: u64, force: bool);
    #[cfg(feature = "pg18")]
    #[link_name = "pgstat_get_my_plan_id"]
    fn plan_id() -> u64;
    #[cfg(feature = "pg18")]
    #[link_name = "pgstat_report_plan_id"]
    fn report_plan_id(id: u64, force: bool);
}

/// Takes tokens and values out of every report from now on. Called once, from `_PG_init`.
pub fn redact(redactions: Redactions) {
    REDACTIONS.set(Some(redactions));
    // SAFETY: called once per process from _PG_init, which runs on the only thread; the library is never unloaded.
    unsafe {
        PREVIOUS_EMIT.set(pg_sys::emit_log_hook);
        pg_sys::emit_log_hook = Some(emit);
    }
}

/// Takes the tokens out of what other sessions, the log and `current_query()` see of the statement that runs.
pub fn hide_tokens_of_statement() {
    if let Some(redactions) = REDACTIONS.get() {
        hide_statement(redactions.tokens);
    }
}

/// Takes all literals out of it.
pub fn hide_literals_of_statement() {
    if let Some(redactions) = REDACTIONS.get() {
        hide_statement(redactions.literals);
    }
}

/// Looks at the statement as the client sent it, whatever has been hidden of it since.
pub fn with_statement<T>(look: impl FnOnce(&[u8]) -> T) -> Option<T> {
    // SAFETY: Postgres keeps it NULL or pointed to a C string that lives as long as the client's message is worked on;
    // so does the text that our copy stands for.
    unsafe {
        let sent = Hidden::sent(pg_sys::debug_query_string);
        (!sent.is_null()).then(|| look(CStr::from_ptr(sent).to_bytes()))
    }
}

/// Runs in ErrorContext, perhaps out of memory, perhaps in a critical section: it must neither raise nor panic, so it
/// has no guard either.
unsafe extern "C-unwind" fn emit(report: *mut pg_sys::ErrorData) {
    // SAFETY: Postgres calls the hook with the report at hand, and nobody else changes it meanwhile.
    if let (Some(redactions), Some(report)) = (REDACTIONS.get(), unsafe { report.as_mut() }) {
        let texts =
            [report.message, report.detail, report.detail_log, report.hint, report.context, report.internalquery];
        // SAFETY: each is NULL or a C string that errmsg() and its like allocated for this report alone.
        let is = |what: fn(&[u8]) -> bool, text: *mut c_char| unsafe {
            !text.is_null() && what(CStr::from_ptr(text).to_bytes())
        };
        let names = |text| is(redactions.takes_values, text);
        let statement_takes = with_statement(redactions.takes_values).unwrap_or_default();
        let blotted = statement_takes || texts.into_iter().any(names);
        // The message of an error is prose, unless it quotes such a call, or another library's report of a statement.
        let quotes = names(report.message) || is(redactions.reports_statement, report.message);
        let prose = report.elevel >= pg_sys::WARNING as c_int && !quotes;
        for text in texts {
            // SAFETY: as above.
            unsafe {
                redact_text(text, redactions.tokens);
                if blotted && !(prose && (text == report.message || text == report.hint)) {
                    redact_text(text, redactions.literals);
                }
            }
        }
        // What Postgres itself says of a value that is not of its type, or does not keep a rule, quotes it.
        if blotted && is_of_data(report) {
            for text in [report.message, report.detail, report.detail_log, report.context] {
                // SAFETY: as above.
                unsafe { redact_text(text, redactions.quoted) };
            }
        }
        // SAFETY: the report is an error at hand.
        unsafe { name_error(report, redactions.is_error) };
        let hidden = hide_statement(redactions.tokens) && (!blotted || hide_statement(redactions.literals));
        report.hide_stmt |= !hidden;
    }
    if let Some(previous) = PREVIOUS_EMIT.get() {
        // SAFETY: passes on what Postgres gave.
        unsafe { previous(report) };
    }
}

/// Gives an error of this library its name as a constraint name: beside the message that is the one field which each
/// client shows. The name stands where Postgres has that of the raising function; pgrx passes nothing else on.
///
/// # Safety
/// The report is one that Postgres is about to send.
unsafe fn name_error(report: &mut pg_sys::ErrorData, is_error: fn(&[u8]) -> bool) {
    const PREFIX: &[u8] = b"tenancy_";
    if report.elevel != pg_sys::PGERROR as c_int || report.funcname.is_null() || !report.constraint_name.is_null() {
        return;
    }
    // SAFETY: a C string of a binary, or of the report.
    let name = unsafe { CStr::from_ptr(report.funcname) }.to_bytes();
    if !is_error(name) {
        return;
    }
    let (length, flags) = (PREFIX.len() + name.len() + 1, pg_sys::MCXT_ALLOC_NO_OOM | pg_sys::MCXT_ALLOC_ZERO);
    // SAFETY: with NO_OOM it answers NULL instead of raising. Postgres frees the field with the others of the report.
    let copy = unsafe { allocate(report.assoc_context, length, flags as c_int) };
    if !copy.is_null() {
        // SAFETY: the allocation has this length, and nobody else knows of it. The last byte stays zero.
        let bytes = unsafe { std::slice::from_raw_parts_mut(copy.cast::<u8>(), length) };
        let letters = PREFIX.iter().chain(name).map(u8::to_ascii_lowercase);
        bytes.iter_mut().zip(letters).for_each(|(byte, letter)| *byte = letter);
        report.constraint_name = copy.cast();
    }
}

/// Whether Postgres itself reports a data exception (class 22) or a violated constraint (class 23). The errors of this
/// library have no value in them, and are raised in Rust.
fn is_of_data(report: &pg_sys::ErrorData) -> bool {
    // SAFETY: NULL or a C string of the binary.
    let file = unsafe { (!report.filename.is_null()).then(|| CStr::from_ptr(report.filename).to_bytes()) };
    // Two characters of a SQLSTATE are its class, six bits each (MAKE_SQLSTATE, elog.h).
    let class = |name: [u8; 2]| i32::from(name[0] - b'0') + (i32::from(name[1] - b'0') << 6);
    let data = [class(*b"22"), class(*b"23")].contains(&(report.sqlerrcode & 0xfff));
    data && file.is_some_and(|file| file.ends_with(b".c"))
}

/// # Safety
/// `text` is NULL or a C string that may be written to.
unsafe fn redact_text(text: *mut c_char, redaction: Redaction) {
    if text.is_null() {
        return;
    }
    // SAFETY: a C string, as the caller promises, and nobody else reads it meanwhile.
    let bytes = unsafe { std::slice::from_raw_parts_mut(text.cast::<u8>(), CStr::from_ptr(text).count_bytes()) };
    if (redaction.needed)(bytes) {
        let length = (redaction.in_place)(bytes);
        if let Some(end) = bytes.get_mut(length) {
            *end = 0;
        }
    }
}

/// The executor starts. A parallel worker shows the text of the leader's statement, which it got from the executor.
pub(super) fn executor_starts() {
    // SAFETY: reads a counter of this process.
    if unsafe { pg_sys::ParallelWorkerNumber } >= 0 {
        hide_tokens_of_statement();
    }
}

/// Points `debug_query_string` and `pg_stat_activity` to a copy without tokens. False if that was not possible.
fn hide_statement(redaction: Redaction) -> bool {
    // SAFETY: Postgres keeps it NULL or pointed to a C string that lives as long as the client's message is worked on.
    let statement = unsafe { pg_sys::debug_query_string };
    if statement.is_null() {
        return true;
    }
    // SAFETY: as above.
    let statement = unsafe { CStr::from_ptr(statement) }.to_bytes();
    if !(redaction.needed)(statement) {
        return true;
    }
    // SAFETY: these are globals of the process.
    let (context, critical) = unsafe { (copies(), pg_sys::CritSectionCount > 0) };
    if context.is_null() || critical {
        return false;
    }
    let flags = (pg_sys::MCXT_ALLOC_NO_OOM | pg_sys::MCXT_ALLOC_HUGE | pg_sys::MCXT_ALLOC_ZERO) as c_int;
    // As long as the original and filled with zeros: who took the length before (parallel CREATE INDEX does) stays
    // inside of it.
    // SAFETY: with NO_OOM and HUGE it answers NULL instead of raising.
    let copy = unsafe { allocate(context, statement.len() + 1, flags) }.cast::<u8>();
    if copy.is_null() {
        return false;
    }
    // SAFETY: the allocation has this length, plus the zero at its end, and nobody else knows of it.
    let bytes = unsafe { std::slice::from_raw_parts_mut(copy, statement.len()) };
    bytes.copy_from_slice(statement);
    let length = (redaction.in_place)(bytes);
    bytes.iter_mut().skip(length).for_each(|byte| *byte = 0);
    // SAFETY: the copy is a C string in a context that outlives the use of debug_query_string. Reporting the activity
    // writes to this process' own slot; it forgets the ids of query and plan, so they are reported again.
    unsafe {
        let sent = Hidden::sent(pg_sys::debug_query_string);
        HIDDEN.set(Some(Hidden { sent, copy: copy.cast(), message: transaction::statement() }));
        pg_sys::debug_query_string = copy.cast();
        let query = query_id();
        #[cfg(feature = "pg18")]
        let plan = plan_id();
        report_activity(pg_sys::BackendState::STATE_RUNNING, copy.cast());
        report_query_id(query, true);
        #[cfg(feature = "pg18")]
        report_plan_id(plan, true);
    }
    true
}

/// Where copies of a statement live: as long as the client's message, or the whole life of a parallel worker, which is
/// one statement. Other processes without a client have no place for them.
///
/// # Safety
/// Reads globals of the process.
unsafe fn copies() -> pg_sys::MemoryContext {
    // SAFETY: as the caller promises.
    unsafe { if pg_sys::ParallelWorkerNumber >= 0 { pg_sys::TopMemoryContext } else { pg_sys::MessageContext } }
}
