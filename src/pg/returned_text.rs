//! A text that a function returns, of which no copy of ours stays behind.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::pg_sys;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};

/// A `text` in the memory that Postgres passes results in.
pub struct ReturnedText(pg_sys::Datum);

impl ReturnedText {
    /// Copies the text once, to where the result has to be.
    pub fn new(text: &str) -> Self {
        // SAFETY: copies that many bytes into memory of the caller's context, and raises where there is none.
        let value = unsafe { pg_sys::cstring_to_text_with_len(text.as_ptr().cast(), text.len() as i32) };
        ReturnedText(pg_sys::Datum::from(value))
    }
}

// SAFETY: what is returned is a `text`.
unsafe impl BoxRet for ReturnedText {
    unsafe fn box_into<'fcx>(self, call: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: as above; it is of this call.
        unsafe { call.return_raw_datum(self.0) }
    }
}

// SAFETY: it is passed as `text`. No SQL is generated from this.
unsafe impl SqlTranslatable for ReturnedText {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(ReturnedText);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Err(ArgumentError::NotValidAsArgument("ReturnedText"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Ok(ReturnsRef::One(SqlMappingRef::literal("text")));
}
