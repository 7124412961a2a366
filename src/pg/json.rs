//! Values as JSON text that depends on no setting of the session.
//!
//! `to_jsonb` prints by TimeZone, DateStyle, IntervalStyle, extra_float_digits and bytea_output, and costs several
//! microseconds a row. Here the common types are written directly; the others go through their output function under
//! fixed settings, as postgres_fdw does (`set_transmission_modes`, contrib/postgres_fdw/postgres_fdw.c).
//!
//! Decision: `docs/decisions/28-canonical-values.md`.

use super::settings::scoped::with_settings;
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::nullable::Nullable;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{FromDatum, IntoDatum, pg_sys, varlena};
use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char};

/// How a type is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum JsonKind {
    Boolean,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Uuid,
    /// date, time and timestamp types: ISO 8601, with time zone in UTC.
    DateTime(pg_sys::Oid),
    /// `json`, copied as it is stored; see [`push_json`] for the exception.
    Json,
    Jsonb,
    /// Any other type, by its output function, as a JSON string.
    Output(pg_sys::Oid),
}

impl JsonKind {
    /// The way for a type; domains are written as their base type.
    pub fn of(type_oid: pg_sys::Oid) -> Self {
        // SAFETY: catalog lookups by a type that a column has.
        let base = unsafe { pg_sys::getBaseType(type_oid) };
        match base {
            pg_sys::BOOLOID => JsonKind::Boolean,
            pg_sys::INT2OID => JsonKind::Int2,
            pg_sys::INT4OID => JsonKind::Int4,
            pg_sys::INT8OID => JsonKind::Int8,
            pg_sys::FLOAT4OID => JsonKind::Float4,
            pg_sys::FLOAT8OID => JsonKind::Float8,
            pg_sys::NUMERICOID => JsonKind::Numeric,
            pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => JsonKind::Text,
            pg_sys::UUIDOID => JsonKind::Uuid,
            pg_sys::DATEOID | pg_sys::TIMEOID | pg_sys::TIMETZOID | pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => {
                JsonKind::DateTime(base)
            }
            pg_sys::JSONOID => JsonKind::Json,
            pg_sys::JSONBOID => JsonKind::Jsonb,
            _ => {
                let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
                // SAFETY: as above; raises for a type without an output function, which no column has.
                unsafe { pg_sys::getTypeOutputInfo(base, &mut function, &mut is_varlena) };
                JsonKind::Output(function)
            }
        }
    }

    /// True if the output function of the type may read settings.
    pub fn reads_settings(self) -> bool {
        matches!(self, JsonKind::Output(_))
    }
}

/// A `jsonb` value as its text, in which no number loses a digit.
pub struct Jsonb(pub String);

impl FromDatum for Jsonb {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _type_oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the caller passes a `jsonb`, whose output function returns UTF-8 in a UTF-8 database.
        (!is_null).then(|| unsafe {
            Jsonb(String::from_utf8_lossy(output(pg_sys::Oid::from(pg_sys::F_JSONB_OUT), datum)).into_owned())
        })
    }
}

impl IntoDatum for Jsonb {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        // JSON of stored values holds no NUL.
        let text = CString::new(self.0).unwrap_or_default();
        // SAFETY: a NUL-terminated string, as the input function takes it.
        unsafe { pgrx::direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(text.as_ptr().into())]) }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

// SAFETY: an argument of type `jsonb` is read as such.
unsafe impl<'fcx> ArgAbi<'fcx> for Jsonb {
    unsafe fn unbox_arg_unchecked(argument: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as promised; asked for only where the argument is not NULL.
        unsafe { argument.unbox_arg_using_from_datum().unwrap_or(Jsonb(String::new())) }
    }

    unsafe fn unbox_nullable_arg(argument: Arg<'_, 'fcx>) -> Nullable<Self> {
        // SAFETY: as promised.
        unsafe { argument.unbox_arg_using_from_datum().into() }
    }
}

// SAFETY: what is returned is a `jsonb`.
unsafe impl BoxRet for Jsonb {
    unsafe fn box_into<'fcx>(self, call: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: as above.
            Some(datum) => unsafe { call.return_raw_datum(datum) },
            None => call.return_null(),
        }
    }
}

// SAFETY: it is passed as `jsonb` both ways. No SQL is generated from this.
unsafe impl SqlTranslatable for Jsonb {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Jsonb);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: std::result::Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("jsonb"));
    const RETURN_SQL: std::result::Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("jsonb")));
}

/// Appends `text` as a JSON string.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    // Writing to a Vec cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// Appends a value as JSON.
///
/// # Safety
/// `datum` is a value, not NULL, of a type of this kind.
pub unsafe fn push_value(out: &mut Vec<u8>, kind: JsonKind, datum: pg_sys::Datum) {
    // SAFETY: as promised.
    unsafe {
        match long_text(kind, datum) {
            Some(text) => push_text(out, kind, text),
            None => push_short(out, kind, datum),
        }
    }
}

/// The text of a value of a type whose values can be long; `None` for the other types. Memory that Postgres
/// allocates for it goes with the calling context.
///
/// # Safety
/// As of [`push_value`]; the text is used before anything can free the value.
pub unsafe fn long_text<'a>(kind: JsonKind, datum: pg_sys::Datum) -> Option<&'a [u8]> {
    // SAFETY: each branch reads the datum as the kind says.
    unsafe {
        match kind {
            JsonKind::Text | JsonKind::Json => {
                Some(varlena::varlena_to_byte_slice(pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr())))
            }
            JsonKind::Numeric => Some(output(pg_sys::Oid::from(pg_sys::F_NUMERIC_OUT), datum)),
            JsonKind::Jsonb => Some(output(pg_sys::Oid::from(pg_sys::F_JSONB_OUT), datum)),
            JsonKind::Output(function) => Some(output(function, datum)),
            _ => None,
        }
    }
}

/// The bytes of a `bytea`, whose text has twice as many and need not fit into what Postgres can allocate.
pub struct JsonBytes<'a>(&'a [u8]);

impl<'a> JsonBytes<'a> {
    /// `None` for the other types.
    ///
    /// # Safety
    /// As of [`long_text`].
    pub unsafe fn of(kind: JsonKind, datum: pg_sys::Datum) -> Option<Self> {
        if kind != JsonKind::Output(pg_sys::Oid::from(pg_sys::F_BYTEAOUT)) {
            return None;
        }
        // SAFETY: the output function is that of bytea, so the value is one.
        unsafe {
            Some(JsonBytes(varlena::varlena_to_byte_slice(pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr()))))
        }
    }

    /// How many bytes the text has.
    pub fn text_len(&self) -> usize {
        2 + 2 * self.0.len()
    }

    /// The text piece by piece: `\x` and hexadecimal digits, as `bytea_output = hex` has it.
    pub fn text(&self, mut piece: impl FnMut(&[u8])) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        piece(b"\\x");
        let mut text = [0; 8192];
        for bytes in self.0.chunks(text.len() / 2) {
            for (byte, digits) in bytes.iter().zip(text.chunks_exact_mut(2)) {
                digits[0] = DIGITS[usize::from(byte >> 4)];
                digits[1] = DIGITS[usize::from(byte & 15)];
            }
            piece(&text[..2 * bytes.len()]);
        }
    }
}

/// The text of a value of any type: what stands in JSON, without the quotes and escapes of a string.
///
/// # Safety
/// As of [`long_text`].
pub unsafe fn text<'a>(kind: JsonKind, datum: pg_sys::Datum) -> Cow<'a, [u8]> {
    // SAFETY: as promised.
    unsafe {
        if let Some(text) = long_text(kind, datum) {
            return Cow::Borrowed(text);
        }
        let mut out = Vec::new();
        push_short(&mut out, kind, datum);
        // Strings of these types have nothing to escape.
        out.retain(|byte| *byte != b'"');
        Cow::Owned(out)
    }
}

/// Appends what [`long_text`] returned as JSON.
pub fn push_text(out: &mut Vec<u8>, kind: JsonKind, text: &[u8]) {
    match kind {
        JsonKind::Jsonb => out.extend_from_slice(text),
        JsonKind::Json => push_json(out, text),
        JsonKind::Numeric if text.last().is_some_and(u8::is_ascii_digit) => out.extend_from_slice(text),
        _ => push_string(out, &text_of(text)),
    }
}

/// The bytes as text. Those of a UTF-8 database are, and to check that is cheaper than to look for what is not.
fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// What was written as JSON, as a text.
pub fn into_text(json: Vec<u8>) -> String {
    String::from_utf8(json).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// A value of a type that [`long_text`] leaves out.
///
/// # Safety
/// As of [`push_value`].
unsafe fn push_short(out: &mut Vec<u8>, kind: JsonKind, datum: pg_sys::Datum) {
    // SAFETY: each branch reads the datum as the kind says.
    unsafe {
        match kind {
            JsonKind::Boolean => out.extend_from_slice(if datum.value() & 0xff != 0 { b"true" } else { b"false" }),
            JsonKind::Int2 => push_integer(out, i64::from(datum.value() as i16)),
            JsonKind::Int4 => push_integer(out, i64::from(datum.value() as i32)),
            JsonKind::Int8 => push_integer(out, datum.value() as i64),
            JsonKind::Float4 => push_float(out, f64::from(f32::from_bits(datum.value() as u32)), |out| {
                serde_json::to_writer(out, &f32::from_bits(datum.value() as u32))
            }),
            JsonKind::Float8 => push_float(out, f64::from_bits(datum.value() as u64), |out| {
                serde_json::to_writer(out, &f64::from_bits(datum.value() as u64))
            }),
            JsonKind::Uuid => {
                let bytes: [u8; 16] = *datum.cast_mut_ptr::<[u8; 16]>();
                out.push(b'"');
                let mut buffer = uuid::Uuid::encode_buffer();
                out.extend_from_slice(uuid::Uuid::from_bytes(bytes).hyphenated().encode_lower(&mut buffer).as_bytes());
                out.push(b'"');
            }
            JsonKind::DateTime(type_oid) => push_datetime(out, datum, type_oid),
            // Long kinds, which have a text.
            JsonKind::Numeric | JsonKind::Text | JsonKind::Json | JsonKind::Jsonb | JsonKind::Output(_) => {}
        }
    }
}

fn push_integer(out: &mut Vec<u8>, value: i64) {
    let _ = serde_json::to_writer(out, &value);
}

/// JSON has no word for what is not finite: those become strings, as in Postgres' own JSON.
fn push_float(out: &mut Vec<u8>, value: f64, finite: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>) {
    if value.is_finite() {
        let _ = finite(out);
    } else if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else {
        out.extend_from_slice(if value > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
    }
}

/// The type `json` takes escapes that Postgres then refuses to read (`\u0000`, lone surrogates), and one of them would
/// make the whole payload unreadable. A value with any such escape is kept as a JSON string of its text.
pub fn push_json(out: &mut Vec<u8>, json: &[u8]) {
    if json.windows(2).any(|pair| pair == b"\\u") {
        push_string(out, &text_of(json));
    } else {
        out.extend_from_slice(json);
    }
}

/// # Safety
/// `datum` is of the date or time type given.
unsafe fn push_datetime(out: &mut Vec<u8>, datum: pg_sys::Datum, type_oid: pg_sys::Oid) {
    // MAXDATELEN of src/include/utils/datetime.h is 128.
    let mut buffer = [0 as c_char; 129];
    let utc = 0;
    out.push(b'"');
    // SAFETY: the buffer is as long as Postgres asks for; the function writes a NUL-terminated string into it.
    let text = unsafe {
        pg_sys::JsonEncodeDateTime(buffer.as_mut_ptr(), datum, type_oid, &utc);
        CStr::from_ptr(buffer.as_ptr())
    };
    out.extend_from_slice(text.to_bytes());
    out.push(b'"');
}

/// # Safety
/// `function` is the output function of the datum's type.
unsafe fn output<'a>(function: pg_sys::Oid, datum: pg_sys::Datum) -> &'a [u8] {
    // SAFETY: an output function returns a NUL-terminated string in the calling memory context.
    unsafe { CStr::from_ptr(pg_sys::OidOutputFunctionCall(function, datum)) }.to_bytes()
}

/// Settings that change what output functions print, and the values they are fixed to.
const FIXED: [(&CStr, &CStr); 8] = [
    (c"datestyle", c"ISO, YMD"),
    (c"intervalstyle", c"iso_8601"),
    (c"extra_float_digits", c"3"),
    (c"bytea_output", c"hex"),
    (c"timezone", c"UTC"),
    (c"search_path", c"pg_catalog"),
    (c"lc_monetary", c"C"),
    (c"quote_all_identifiers", c"off"),
];

/// Runs `write` with fixed settings, and puts the session's own back.
pub fn with_fixed_settings<T>(write: impl FnOnce() -> T) -> T {
    with_settings(&FIXED, write)
}
