//! The shape of a function that Postgres calls directly, without pgrx's conversion of arguments.
//!
//! Used where a policy calls once per row: there the conversion would cost more than the work.
//!
//! Decision: `docs/decisions/53-thin-pgrx.md`.

/// Declares a function of the C calling convention, version 1, with its `pg_finfo_` record (fmgr.h).
///
/// The body is an expression that yields a `pg_sys::Datum`. Where most calls have their answer ready, `ready` comes
/// before it: an `Option<Datum>` that cannot panic and is looked at without the cost of a guard.
macro_rules! fmgr_function {
    ($(#[$doc:meta])* $name:ident, $finfo:ident, |$call:ident| $body:expr) => {
        $crate::pg::fmgr::fmgr_function! { $(#[$doc])* $name, $finfo, ready: None, |$call| $body }
    };
    ($(#[$doc:meta])* $name:ident, $finfo:ident, ready: $ready:expr, |$call:ident| $body:expr) => {
        #[unsafe(no_mangle)]
        #[doc(hidden)]
        pub extern "C" fn $finfo() -> &'static pgrx::pg_sys::Pg_finfo_record {
            static INFO: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &INFO
        }
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name($call: pgrx::pg_sys::FunctionCallInfo) -> pgrx::pg_sys::Datum {
            let ready: Option<pgrx::pg_sys::Datum> = $ready;
            if let Some(datum) = ready {
                return datum;
            }
            let body = || $body;
            // SAFETY: the guard turns a panic into an ereport at the border to C; nothing here outlives the call.
            unsafe { pgrx::pg_sys::submodules::panic::pgrx_extern_c_guard(body) }
        }
    };
}
pub(crate) use fmgr_function;
