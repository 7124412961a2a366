//! The packed events of a batch: times, row keys and payloads of the events of one statement, in one value.
//!
//! A row of `tenancy.event_batch` with several events has them here, in place of a row each. The value is a head, the
//! salts, and a text part, which is compressed where that makes it smaller (`docs/audit-format.md`, Packed events).
//! What is read may be hostile: the head bounds the memory that reading needs, and each length is checked.
//!
//! Decision: `docs/decisions/55-packed-events.md`.

use super::encoding::Digest;
use super::event::{SALT, event_digest, payload_digest};
use std::borrow::Cow;

/// The most events of a batch. The place of an event has twelve bits in its id.
pub const MAX_EVENTS: usize = 128;

/// The most bytes of row keys and payloads that a batch is filled with. An event with more is a batch of its own.
pub const MAX_TEXT: usize = 128 * 1024;

/// How long a batch takes events, in microseconds.
///
/// The id of a batch has the time of its first event. Who looks for the events of a period by id begins this much
/// earlier.
pub const MAX_TIME: i64 = 1_000_000;

/// The most bytes that the text part may have when it is read.
///
/// A written one has at most [`MAX_TEXT`] bytes of texts, and some bytes for each event.
const MAX_PLAIN: usize = 2 * MAX_TEXT;

/// Below this size the text part is not compressed: 144 bytes of JSON became 11 % smaller, and 289 bytes 46 %
/// (`docs/benchmarks.md`).
const MIN_COMPRESSED: usize = 256;

/// The form of the text part: as it is.
const PLAIN: u8 = 0;
/// The form of the text part: one LZ4 block.
const LZ4: u8 = 1;

/// The payload of an event is there, with its salt.
const WHOLE: u8 = 0;
/// The payload of an event was erased; its digest is in the place of the salt.
const ERASED: u8 = 1;

/// Form and length of the text part.
const HEAD: usize = 5;

/// An event of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedEvent<'a> {
    /// Time of the change by the server's clock, in microseconds since 1970 UTC.
    pub occurred_at: i64,
    /// The primary key of the row as the text of a JSON object; absent if there is none.
    pub row_key: Option<&'a str>,
    /// The payload, or what is left of it.
    pub content: PackedContent<'a>,
}

/// The payload of an event of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackedContent<'a> {
    /// The payload with its salt.
    Payload {
        /// 16 random bytes, without which the digest does not reveal an erased payload.
        salt: [u8; SALT],
        /// Old and new values as JSON text.
        text: &'a str,
    },
    /// The digest of a payload that was erased.
    Erased(Digest),
}

impl PackedEvent<'_> {
    /// The digest of salt and payload, stored only where the payload was erased.
    pub fn payload_digest(&self) -> Digest {
        match &self.content {
            PackedContent::Payload { salt, text } => payload_digest(salt, text),
            PackedContent::Erased(digest) => *digest,
        }
    }

    /// The digest of the event.
    pub fn digest(&self) -> Digest {
        event_digest(self.occurred_at, self.row_key, &self.payload_digest())
    }
}

/// Packs the events of a batch; times are stored as distances from `occurred_at`, the time of the batch.
pub fn pack(occurred_at: i64, events: &[PackedEvent]) -> Vec<u8> {
    let size = |event: &PackedEvent| {
        let text = if let PackedContent::Payload { text, .. } = event.content { text.len() } else { 0 };
        event.row_key.map_or(0, str::len) + text + 24
    };
    let mut text = Vec::with_capacity(events.iter().map(size).sum());
    let mut body = vec![PLAIN; HEAD];
    for event in events {
        let distance = event.occurred_at.wrapping_sub(occurred_at);
        put_number(&mut text, ((distance << 1) ^ (distance >> 63)).cast_unsigned());
        put_text(&mut text, event.row_key);
        match &event.content {
            PackedContent::Payload { salt, text: payload } => {
                body.push(WHOLE);
                body.extend_from_slice(salt);
                put_text(&mut text, Some(payload));
            }
            PackedContent::Erased(digest) => {
                body.push(ERASED);
                body.extend_from_slice(digest);
                put_text(&mut text, None);
            }
        }
    }
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    body[1..HEAD].copy_from_slice(&length.to_be_bytes());
    if text.len() < MIN_COMPRESSED || !compress(&text, &mut body) {
        body.extend_from_slice(&text);
    }
    body
}

/// Appends the text as an LZ4 block and changes the head, if that is shorter.
fn compress(text: &[u8], body: &mut Vec<u8>) -> bool {
    let fixed = body.len();
    body.resize(fixed + lz4_flex::block::get_maximum_output_size(text.len()), 0);
    // The output is long enough, so nothing fails.
    let length = lz4_flex::block::compress_into(text, &mut body[fixed..]).unwrap_or(text.len());
    let shorter = length < text.len();
    body.truncate(if shorter { fixed + length } else { fixed });
    if shorter {
        body[0] = LZ4;
    }
    shorter
}

/// Why packed events cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// The value ends before all events are there.
    CutOff,
    /// There is more than the events need.
    TooLong,
    /// The head announces more than a batch may have.
    Beyond,
    /// The compressed part is none, or does not have the length that the head announces.
    Compressed,
    /// A value is none that is written: an unknown form or mark, a text that is not UTF-8.
    Invalid,
    /// The columns of the row are not those of a batch with so many events.
    Columns,
}

impl Malformed {
    /// A clause without a full stop, for findings.
    pub fn text(self) -> &'static str {
        match self {
            Malformed::CutOff => "the packed events of the batch are cut off",
            Malformed::TooLong => "the packed events of the batch have something after their end",
            Malformed::Beyond => "the packed events of the batch announce more than a batch may have",
            Malformed::Compressed => "the compressed part of the batch does not have the length that it announces",
            Malformed::Invalid => "the packed events of the batch have a value that is never written",
            Malformed::Columns => "the columns of the batch are not those of its number of events",
        }
    }
}

/// The packed events of a batch, with the text part as it was before it was compressed.
pub struct Packed<'b> {
    /// The marks and salts.
    fixed: &'b [u8],
    text: Cow<'b, [u8]>,
    count: usize,
}

impl<'b> Packed<'b> {
    /// Reads the head of a value with so many events, and decompresses the text part.
    ///
    /// Errors: [`Malformed`]. The memory is bounded, whatever the value says.
    pub fn open(body: &'b [u8], count: i32) -> Result<Self, Malformed> {
        let count = usize::try_from(count).ok().filter(|count| (1..=MAX_EVENTS).contains(count));
        let count = count.ok_or(Malformed::Beyond)?;
        let (&[form, length @ ..], rest) = body.split_first_chunk::<HEAD>().ok_or(Malformed::CutOff)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_PLAIN {
            return Err(Malformed::Beyond);
        }
        let mut end = 0;
        for _ in 0..count {
            end += match rest.get(end) {
                Some(&WHOLE) => 1 + SALT,
                Some(&ERASED) => 1 + size_of::<Digest>(),
                Some(_) => return Err(Malformed::Invalid),
                None => return Err(Malformed::CutOff),
            };
        }
        let (fixed, stored) = rest.split_at_checked(end).ok_or(Malformed::CutOff)?;
        let text = match form {
            PLAIN if stored.len() < length => return Err(Malformed::CutOff),
            PLAIN if stored.len() > length => return Err(Malformed::TooLong),
            PLAIN => Cow::Borrowed(stored),
            LZ4 => Cow::Owned(decompress(stored, length)?),
            _ => return Err(Malformed::Invalid),
        };
        Ok(Packed { fixed, text, count })
    }

    /// The events, in their order. `occurred_at` is the time of the batch.
    ///
    /// Errors: [`Malformed`].
    pub fn events(&self, occurred_at: i64) -> Result<Vec<PackedEvent<'_>>, Malformed> {
        let (mut fixed, mut text) = (self.fixed, &self.text[..]);
        let mut events = Vec::with_capacity(self.count);
        for _ in 0..self.count {
            let (mark, rest) = fixed.split_first().ok_or(Malformed::CutOff)?;
            let distance = take_number(&mut text)?;
            let distance = (distance >> 1).cast_signed() ^ -(distance & 1).cast_signed();
            let row_key = take_text(&mut text)?;
            let payload = take_text(&mut text)?;
            let content = match (*mark, payload) {
                (WHOLE, Some(payload)) => {
                    let (salt, rest) = rest.split_first_chunk().ok_or(Malformed::CutOff)?;
                    fixed = rest;
                    PackedContent::Payload { salt: *salt, text: payload }
                }
                (ERASED, None) => {
                    let (digest, rest) = rest.split_first_chunk().ok_or(Malformed::CutOff)?;
                    fixed = rest;
                    PackedContent::Erased(*digest)
                }
                _ => return Err(Malformed::Invalid),
            };
            events.push(PackedEvent { occurred_at: occurred_at.wrapping_add(distance), row_key, content });
        }
        if text.is_empty() && fixed.is_empty() { Ok(events) } else { Err(Malformed::TooLong) }
    }
}

fn decompress(stored: &[u8], length: usize) -> Result<Vec<u8>, Malformed> {
    let mut plain = vec![0; length];
    match lz4_flex::block::decompress_into(stored, &mut plain) {
        Ok(written) if written == length => Ok(plain),
        _ => Err(Malformed::Compressed),
    }
}

/// Writes a number in groups of seven bits, the lowest first, as LEB128 (DWARF 5, section 7.6).
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Writes a text after its length plus one; 0 for an absent one.
fn put_text(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => {
            put_number(out, text.len() as u64 + 1);
            out.extend_from_slice(text.as_bytes());
        }
        None => out.push(0),
    }
}

/// Reads a number that has its shortest form.
fn take_number(from: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first().ok_or(Malformed::CutOff)?;
        *from = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits || (*byte == 0 && shift > 0) {
            return Err(Malformed::Invalid);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed::Invalid)
}

fn take_text<'a>(from: &mut &'a [u8]) -> Result<Option<&'a str>, Malformed> {
    let Some(length) = take_number(from)?.checked_sub(1) else { return Ok(None) };
    let length = usize::try_from(length).map_err(|_| Malformed::CutOff)?;
    let (text, rest) = from.split_at_checked(length).ok_or(Malformed::CutOff)?;
    *from = rest;
    std::str::from_utf8(text).map(Some).map_err(|_| Malformed::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIME: i64 = 1_793_491_200_000_000;

    /// Distance of the time, row key and payload of each event; an event without a payload is an erased one.
    type Texts = Vec<(i64, Option<String>, Option<String>)>;

    fn events(texts: &Texts) -> Vec<PackedEvent<'_>> {
        let mut events = Vec::new();
        for (n, (distance, row_key, payload)) in texts.iter().enumerate() {
            let content = match payload {
                Some(text) => PackedContent::Payload { salt: [n as u8; SALT], text },
                None => PackedContent::Erased([n as u8; 32]),
            };
            let occurred_at = TIME.wrapping_add(*distance);
            events.push(PackedEvent { occurred_at, row_key: row_key.as_deref(), content });
        }
        events
    }

    fn similar(count: usize) -> Texts {
        let row = |n| {
            (
                n as i64 * 7,
                Some(format!("{{\"id\":{n}}}")),
                Some(format!("{{\"new\":{{\"id\":{n},\"title\":\"a finding\"}}}}")),
            )
        };
        (0..count).map(row).collect()
    }

    fn read(body: &[u8], count: usize) -> Result<usize, Malformed> {
        Packed::open(body, count as i32).and_then(|packed| packed.events(TIME).map(|events| events.len()))
    }

    #[test]
    fn what_is_packed_is_read_again_and_similar_rows_take_little() {
        for count in [1, 2, 7, 64, MAX_EVENTS] {
            let texts = similar(count);
            let events = events(&texts);
            let body = pack(TIME, &events);
            let packed = Packed::open(&body, count as i32).unwrap();
            assert_eq!(packed.events(TIME).unwrap(), events);
            assert_eq!(body[0], if count < 7 { PLAIN } else { LZ4 }, "{count}");
        }
        assert!(pack(TIME, &events(&similar(128))).len() < 128 * 32);
    }

    #[test]
    fn an_erased_event_keeps_the_digests_of_the_batch() {
        let texts = similar(5);
        let mut events = events(&texts);
        let digests = |events: &[PackedEvent]| -> Vec<Digest> { events.iter().map(PackedEvent::digest).collect() };
        let before = digests(&events);
        events[2].content = PackedContent::Erased(events[2].payload_digest());
        assert_eq!(digests(&events), before);
        let body = pack(TIME, &events);
        assert_eq!(Packed::open(&body, 5).unwrap().events(TIME).unwrap(), events);
    }

    #[test]
    fn a_value_that_is_cut_off_or_too_long_is_named() {
        for count in [2, 100] {
            let texts = similar(count);
            let body = pack(TIME, &events(&texts));
            for length in 0..body.len() {
                assert!(read(&body[..length], count).is_err(), "{length} of {}", body.len());
            }
            let longer = [&body[..], &[0]].concat();
            assert!(read(&longer, count).is_err());
            assert!(read(&body, count - 1).is_err() && read(&body, count + 1).is_err());
        }
        assert_eq!(read(&[], 1), Err(Malformed::CutOff));
        assert_eq!(read(&[0; 100], 0), Err(Malformed::Beyond));
        assert_eq!(read(&[0; 100], MAX_EVENTS + 1), Err(Malformed::Beyond));
    }

    /// Why a hash covers the events and not the bytes: an offset may point at another copy of the same text.
    #[test]
    fn other_bytes_can_say_the_same_events() {
        let texts = similar(100);
        let events = events(&texts);
        let body = pack(TIME, &events);
        let says_the_same = |at: usize, bits: u8| {
            let mut changed = body.clone();
            changed[at] ^= bits;
            Packed::open(&changed, 100).is_ok_and(|packed| packed.events(TIME).is_ok_and(|read| read == events))
        };
        let places = HEAD + 100 * (1 + SALT)..body.len();
        assert!(places.flat_map(|at| (1..=255).map(move |bits| (at, bits))).any(|(at, bits)| says_the_same(at, bits)));
    }

    #[test]
    fn a_length_that_is_announced_bounds_the_memory() {
        let texts = similar(100);
        let body = pack(TIME, &events(&texts));
        let announced = |length: u32| {
            let mut body = body.clone();
            body[1..HEAD].copy_from_slice(&length.to_be_bytes());
            read(&body, 100)
        };
        assert_eq!(announced(u32::MAX), Err(Malformed::Beyond));
        assert_eq!(announced(MAX_PLAIN as u32 + 1), Err(Malformed::Beyond));
        assert_eq!(announced(MAX_PLAIN as u32), Err(Malformed::Compressed));
        assert_eq!(announced(10), Err(Malformed::Compressed));
    }

    #[test]
    fn a_number_has_one_form() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, number);
            assert_eq!(take_number(&mut &out[..]), Ok(number));
        }
        for bad in
            [&[0x80, 0][..], &[0x81, 0x80, 0], &[0xff; 10], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]]
        {
            assert_eq!(take_number(&mut &bad[..]), Err(Malformed::Invalid), "{bad:?}");
        }
        assert_eq!(take_number(&mut &[0x80][..]), Err(Malformed::CutOff));
    }

    proptest! {
        #[test]
        fn any_events_are_read_as_they_were_packed(
            texts in prop::collection::vec(
                (any::<i64>(), any::<Option<String>>(), any::<Option<String>>()),
                1..MAX_EVENTS,
            )
        ) {
            let events = events(&texts);
            let body = pack(TIME, &events);
            let packed = Packed::open(&body, events.len() as i32).unwrap();
            prop_assert_eq!(packed.events(TIME).unwrap(), events);
        }

        #[test]
        fn any_bytes_are_read_or_named(body in prop::collection::vec(any::<u8>(), 0..400), count in 0i32..200) {
            if let Ok(packed) = Packed::open(&body, count) {
                let _ = packed.events(TIME);
            }
        }
    }
}
