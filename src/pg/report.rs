//! From an [`Error`] of the pure core to an `ereport(ERROR)`.

use pg_tenancy_core::error::{Error, Result};
use pgrx::pg_sys::panic::{CaughtError, ErrorReport, ErrorReportWithLevel};
use pgrx::{PgLogLevel, PgSqlErrorCode};

/// Raises `error` as a Postgres error. Does not return: pgrx unwinds to the function's guard, which longjmps.
#[track_caller]
pub fn raise(error: Error) -> ! {
    let mut report = ErrorReport::new(sqlstate(error.kind.sqlstate), error.message, error.kind.name);
    report = report.set_hint(error.kind.hint);
    if let Some(detail) = error.detail {
        report = report.set_detail(detail);
    }
    report.report(PgLogLevel::ERROR);
    unreachable!("ereport(ERROR) does not return")
}

/// Tells client and log of something that is wrong and that the statement survives.
pub fn warn(error: &Error) {
    let mut report = ErrorReport::new(sqlstate(error.kind.sqlstate), error.message.clone(), error.kind.name);
    report = report.set_hint(error.kind.hint);
    if let Some(detail) = &error.detail {
        report = report.set_detail(detail.clone());
    }
    report.report(PgLogLevel::WARNING);
}

/// Tells the client of something that it may not expect.
pub fn notice(message: &str, hint: &str) {
    let report = ErrorReport::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message.to_owned(), "NOTICE")
        .set_hint(hint.to_owned());
    report.report(PgLogLevel::NOTICE);
}

/// Writes a line into the server's log, which no rollback takes back. The client does not see it unless it asks for
/// LOG.
pub fn log(message: String) {
    ErrorReport::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message, "LOG").report(PgLogLevel::LOG);
}

/// Unwraps a result at the border to Postgres.
pub trait OrRaise<T> {
    fn or_raise(self) -> T;
}

impl<T> OrRaise<T> for Result<T> {
    #[track_caller]
    fn or_raise(self) -> T {
        match self {
            Ok(value) => value,
            Err(error) => raise(error),
        }
    }
}

/// Keeps pgrx from adding a Rust backtrace to every error when RUST_BACKTRACE is set: an error that Postgres or this
/// library raised on purpose says what it has to say, and a backtrace would show a client the paths of the build.
/// A genuine panic keeps its location and backtrace. Called once from `_PG_init`.
pub fn keep_backtraces_to_panics() {
    let hook_of_pgrx = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        if !payload.is::<CaughtError>() && !payload.is::<ErrorReportWithLevel>() {
            hook_of_pgrx(panic);
        }
    }));
}

/// Unwinds once, while this process has nothing to hide. Called once from `_PG_init`.
///
/// The first call of a function of the unwinder's library has the dynamic linker bind it, which saves all vector
/// registers on the stack (dl-trampoline.h of glibc). After a value was opened they hold parts of it.
pub fn bind_unwinder() {
    let unwound: std::thread::Result<()> = std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(())));
    drop(unwound);
}

/// The five characters packed as `MAKE_SQLSTATE` does (src/include/utils/elog.h).
fn sqlstate(code: &str) -> PgSqlErrorCode {
    let packed = code.bytes().take(5).enumerate().fold(0i32, |packed, (position, character)| {
        packed | (i32::from(character.wrapping_sub(b'0') & 0x3f) << (6 * position))
    });
    PgSqlErrorCode::from(packed)
}
