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
    Bytea,
    /// Any other type, by its output function, as a JSON string.
    Output {
        function: pg_sys::Oid,
        reads_settings: bool,
    },
}

/// Output functions that read no setting, as their source says.
const WITHOUT_SETTINGS: [u32; 11] = [
    pg_sys::F_ENUM_OUT,
    pg_sys::F_INET_OUT,
    pg_sys::F_CIDR_OUT,
    pg_sys::F_MACADDR_OUT,
    pg_sys::F_MACADDR8_OUT,
    pg_sys::F_BIT_OUT,
    pg_sys::F_VARBIT_OUT,
    pg_sys::F_NAMEOUT,
    pg_sys::F_CHAROUT,
    pg_sys::F_OIDOUT,
    pg_sys::F_XID8OUT,
];

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
            pg_sys::BYTEAOID => JsonKind::Bytea,
            _ => {
                let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
                // SAFETY: as above; raises for a type without an output function, which no column has.
                let element = unsafe {
                    pg_sys::getTypeOutputInfo(base, &mut function, &mut is_varlena);
                    pg_sys::get_element_type(base)
                };
                let reads_settings = if element == pg_sys::InvalidOid {
                    !WITHOUT_SETTINGS.contains(&function.to_u32())
                } else {
                    // Elements are written by their own output functions.
                    function.to_u32() != pg_sys::F_ARRAY_OUT || JsonKind::of(element).output_reads_settings()
                };
                JsonKind::Output { function, reads_settings }
            }
        }
    }

    /// True if values are written by an output function that may read settings.
    pub fn reads_settings(self) -> bool {
        matches!(self, JsonKind::Output { reads_settings: true, .. })
    }

    /// True if the output function of the type may read settings, also where values are written without it.
    fn output_reads_settings(self) -> bool {
        match self {
            JsonKind::Boolean | JsonKind::Int2 | JsonKind::Int4 | JsonKind::Int8 | JsonKind::Numeric => false,
            JsonKind::Text | JsonKind::Uuid | JsonKind::Json | JsonKind::Jsonb => false,
            JsonKind::Float4 | JsonKind::Float8 | JsonKind::DateTime(_) | JsonKind::Bytea => true,
            JsonKind::Output { reads_settings, .. } => reads_settings,
        }
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
    push_escaped(out, text.as_bytes());
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
            JsonKind::Text | JsonKind::Json => Some(bytes(datum)),
            JsonKind::Numeric => Some(output(pg_sys::Oid::from(pg_sys::F_NUMERIC_OUT), datum)),
            JsonKind::Jsonb => Some(output(pg_sys::Oid::from(pg_sys::F_JSONB_OUT), datum)),
            JsonKind::Output { function, .. } => Some(output(function, datum)),
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
        // SAFETY: a value of that kind is a bytea.
        (kind == JsonKind::Bytea).then(|| unsafe { JsonBytes(bytes(datum)) })
    }

    /// How many bytes the text has.
    pub fn text_len(&self) -> usize {
        2 + 2 * self.0.len()
    }

    /// The text piece by piece: `\x` and hexadecimal digits, as `bytea_output = hex` has it.
    pub fn text(&self, mut piece: impl FnMut(&[u8])) {
        piece(b"\\x");
        let mut text = [0; 8192];
        for bytes in self.0.chunks(text.len() / 2) {
            for (byte, digits) in bytes.iter().zip(text.chunks_exact_mut(2)) {
                digits[0] = HEX[usize::from(byte >> 4)];
                digits[1] = HEX[usize::from(byte & 15)];
            }
            piece(&text[..2 * bytes.len()]);
        }
    }
}

/// The bytes of a value of variable length, which stay where they are if they are stored in the row as they are.
///
/// # Safety
/// `datum` is a value of such a type; the bytes are used before anything can free it.
unsafe fn bytes<'a>(datum: pg_sys::Datum) -> &'a [u8] {
    // SAFETY: as promised; what is neither compressed nor out of line is read as pg_detoast_datum_packed would return
    // it (fmgr.c).
    unsafe {
        let value: *mut pg_sys::varlena = datum.cast_mut_ptr();
        let as_it_is =
            varlena::varatt_is_4b_u(value) || varlena::varatt_is_1b(value) && !varlena::varatt_is_1b_e(value);
        varlena::varlena_to_byte_slice(if as_it_is { value } else { pg_sys::pg_detoast_datum_packed(value) })
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
        if let Some(bytes) = JsonBytes::of(kind, datum) {
            bytes.text(|piece| out.extend_from_slice(piece));
            return Cow::Owned(out);
        }
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
        _ => push_escaped(out, text),
    }
}

/// Appends a text as a JSON string. What is no UTF-8 stays so, and is found by [`into_text`].
fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text;
    while let Some(plain) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
        out.extend_from_slice(&rest[..plain]);
        match rest[plain] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            byte => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        rest = &rest[plain + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Hexadecimal digits.
const HEX: &[u8; 16] = b"0123456789abcdef";

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
            JsonKind::Bytea => {
                out.push(b'"');
                // The backslash before the digits is escaped.
                out.push(b'\\');
                JsonBytes(bytes(datum)).text(|piece| out.extend_from_slice(piece));
                out.push(b'"');
            }
            // Long kinds, which have a text.
            JsonKind::Numeric | JsonKind::Text | JsonKind::Json | JsonKind::Jsonb | JsonKind::Output { .. } => {}
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
        push_escaped(out, json);
    } else {
        out.extend_from_slice(json);
    }
}

/// Appends a timestamp, in microseconds since 2000, and the end of the string, as JsonEncodeDateTime (json.c) does in
/// four times as long. False for a time out of the years 1 to 9999, which has another form.
fn push_moment(out: &mut Vec<u8>, moment: i64, end: &str) -> bool {
    const DAY: i64 = 86_400_000_000;
    // 0001-01-01 and 10000-01-01.
    const REACH: std::ops::Range<i64> = -730_119 * DAY..2_921_940 * DAY;
    if !REACH.contains(&moment) {
        return false;
    }
    let (day, time) = (moment.div_euclid(DAY), moment.rem_euclid(DAY));
    // Years begin in March here, so that the leap day is the last one: 2000-01-01 is day 730,425 from 0000-03-01.
    let day = day + 730_425;
    let (era, day_of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);

    let seconds = time / 1_000_000;
    let mut text = *b"\"YYYY-MM-DDThh:mm:ss.ffffff";
    let mut put = |at: std::ops::Range<usize>, mut number: i64| {
        for place in at.rev() {
            text[place] = b'0' + (number % 10) as u8;
            number /= 10;
        }
    };
    put(1..5, year);
    put(6..8, month);
    put(9..11, day_of_month);
    put(12..14, seconds / 3600);
    put(15..17, seconds / 60 % 60);
    put(18..20, seconds % 60);
    put(21..27, time % 1_000_000);
    let mut length = text.len();
    while matches!(text[length - 1], b'0') && length > 20 {
        length -= 1;
    }
    // Without a fraction there is no point either.
    let length = if time % 1_000_000 == 0 { 20 } else { length };
    out.extend_from_slice(&text[..length]);
    out.extend_from_slice(end.as_bytes());
    true
}

/// # Safety
/// `datum` is of the date or time type given.
unsafe fn push_datetime(out: &mut Vec<u8>, datum: pg_sys::Datum, type_oid: pg_sys::Oid) {
    let in_reach = match type_oid {
        pg_sys::TIMESTAMPOID => push_moment(out, datum.value() as i64, "\""),
        pg_sys::TIMESTAMPTZOID => push_moment(out, datum.value() as i64, "+00:00\""),
        _ => false,
    };
    if in_reach {
        return;
    }
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
