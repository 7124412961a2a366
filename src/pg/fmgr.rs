//! The shape of a function that Postgres calls directly, without pgrx's conversion of arguments.
//!
//! Used where a policy calls once per row: there the conversion would cost more than the work.
//!
//! Decision: `docs/decisions/53-thin-pgrx.md`.

use pgrx::{PgMemoryContexts, pg_sys, varlena};

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

/// A text where it stands, without a copy; `None` for one that is compressed or stored elsewhere, as no constant of a
/// plan is once the parser has made it.
///
/// # Safety
/// The datum is a value of type `text`, not NULL, which stays as long as the answer.
pub unsafe fn text_in_place<'a>(datum: pg_sys::Datum) -> Option<&'a str> {
    // SAFETY: as promised.
    unsafe { bytes_in_place(datum) }.and_then(|bytes| std::str::from_utf8(bytes).ok())
}

/// The bytes of a text where it stands, as [`text_in_place`].
///
/// # Safety
/// The datum is a value of type `text`, not NULL, which stays as long as the answer.
#[inline]
pub unsafe fn bytes_in_place<'a>(datum: pg_sys::Datum) -> Option<&'a [u8]> {
    // SAFETY: as promised; the header tells which form the value has.
    unsafe {
        let value: *const pg_sys::varlena = datum.cast_mut_ptr();
        let plain = varlena::varatt_is_1b(value) && !varlena::varatt_is_1b_e(value) || varlena::varatt_is_4b_u(value);
        plain.then(|| varlena::varlena_to_byte_slice(value))
    }
}

/// Works with a value that a call site keeps from call to call, until the plan that it is in has run.
pub fn with_kept<T: Default, R>(call: pg_sys::FunctionCallInfo, work: impl FnOnce(&mut T) -> R) -> R {
    // SAFETY: Postgres calls with its own call site. What stands in fn_extra is of this type, because it belongs to the
    // function that is called, and is dropped with the memory of the call site. The function is not called by itself.
    unsafe {
        let site = (*call).flinfo;
        if (*site).fn_extra.is_null() {
            let kept = PgMemoryContexts::For((*site).fn_mcxt).leak_and_drop_on_delete(T::default());
            (*site).fn_extra = kept.cast();
        }
        work(&mut *(*site).fn_extra.cast::<T>())
    }
}
