//! Values within the text of a statement: found, and blotted out of what is logged.
//!
//! A value that stands in a statement has leaked: into the log, `pg_stat_activity`, a pooler. The functions that take
//! one say so. And whatever the log has of a statement that calls them, its literals and the bytes of its constants are
//! blotted: those of a name, too, because the order of arguments is the caller's.
//!
//! Decision: `docs/decisions/79-values-in-statements.md`.
//!
//! The functions that blot neither allocate nor panic, because they run while an error is being reported.

use std::ops::Range;

/// The functions that take a value. A call in quotes or another case is one as well.
const TAKE_VALUES: [&[u8]; 3] = [b"put_secret", b"begin_rotation", b"supply_value"];

/// What stands before the bytes of a constant in a plan that is printed (`outDatum`, src/backend/nodes/outfuncs.c).
const CONSTANT: &[u8] = b":constvalue";

/// What a message of pgaudit begins with. It is a line of CSV: the statement is its eighth field, the parameters follow
/// as they are.
const AUDIT: &[u8] = b"AUDIT: ";
const AUDITED_STATEMENT: usize = 7;

/// What is left of a literal, at most as long as it was.
const BLOT: &[u8] = b"***";

/// A value that is shorter stands in a longer literal by chance.
const SHORT: usize = 4;

/// Whether the text names a function that takes a value.
pub fn names_taker(text: &[u8]) -> bool {
    TAKE_VALUES.iter().any(|name| text.windows(name.len()).any(|window| window.eq_ignore_ascii_case(name)))
}

/// Whether the text reports a statement, and is no prose: a message of pgaudit.
pub fn reports_statement(text: &[u8]) -> bool {
    text.starts_with(AUDIT)
}

/// Whether [`blot`] would change the text.
pub fn holds_literal(text: &[u8]) -> bool {
    if audited_parameters(text).is_some_and(|parameters| !is_blot(&text[parameters])) {
        return true;
    }
    let mut from = 0;
    while let Some(literal) = next_literal(text, from) {
        if !is_blot(&text[literal.content]) {
            return true;
        }
        from = literal.after;
    }
    let mut from = 0;
    while let Some(bytes) = next_constant(text, from) {
        from = bytes.end;
        if text[bytes].iter().any(u8::is_ascii_digit) {
            return true;
        }
    }
    false
}

/// Blots what stands in quotes, the bytes of constants and the parameters in a message of pgaudit; returns the new
/// length, the bytes after it are stale.
pub fn blot(mut text: &mut [u8]) -> usize {
    if let Some(parameters) = audited_parameters(text) {
        let blot = &BLOT[..parameters.len().min(BLOT.len())];
        let end = parameters.start + blot.len();
        text[parameters.start..end].copy_from_slice(blot);
        text = &mut text[..end];
    }
    let mut from = 0;
    while let Some(bytes) = next_constant(text, from) {
        from = bytes.end;
        text[bytes].iter_mut().filter(|byte| byte.is_ascii_digit() || **byte == b'-').for_each(|byte| *byte = b'*');
    }
    let (mut read, mut written) = (0, 0);
    while let Some(literal) = next_literal(text, read) {
        written = shift(text, read..literal.content.start, written);
        let blot = &BLOT[..literal.content.len().min(BLOT.len())];
        text[written..written + blot.len()].copy_from_slice(blot);
        written = shift(text, literal.content.end..literal.after, written + blot.len());
        read = literal.after;
    }
    shift(text, read..text.len(), written)
}

fn is_blot(content: &[u8]) -> bool {
    content.len() <= BLOT.len() && content.iter().all(|byte| *byte == b'*')
}

/// What stands behind the statement in a message of pgaudit.
fn audited_parameters(text: &[u8]) -> Option<Range<usize>> {
    let (mut field, mut quoted) = (0, false);
    let fields = text.strip_prefix(AUDIT)?;
    let comma = fields.iter().position(|byte| {
        // A quote within quotes is doubled, which ends them and begins them again.
        quoted ^= *byte == b'"';
        field += usize::from(*byte == b',' && !quoted);
        field > AUDITED_STATEMENT
    })?;
    let start = AUDIT.len() + comma + 1;
    (start < text.len()).then_some(start..text.len())
}

/// Moves a piece of the text forward to offset `to` and returns the offset of its end.
fn shift(text: &mut [u8], piece: Range<usize>, to: usize) -> usize {
    let end = to + piece.len();
    text.copy_within(piece, to);
    end
}

/// Whether [`cut`] would change the text.
pub fn holds_quote(text: &[u8]) -> bool {
    quote(text).is_some()
}

/// Cuts off what stands behind the first double quote, colon or parenthesis; returns the new length.
///
/// Postgres quotes a value that it does not take as `type uuid: "..."`, `Token "..."` or `JSON data, line 1: ...`.
pub fn cut(text: &mut [u8]) -> usize {
    quote(text).unwrap_or(text.len())
}

fn quote(text: &[u8]) -> Option<usize> {
    let quote = text.iter().position(|byte| matches!(byte, b'"' | b':' | b'('))?;
    (quote + 1 < text.len()).then_some(quote + 1)
}

/// Whether the value stands in a literal of the statement, written in any of the ways of SQL.
pub fn stands_in(statement: &[u8], value: &[u8]) -> bool {
    let mut from = 0;
    while let Some(literal) = next_literal(statement, from) {
        let text = &statement[literal.content];
        let contains = |text: &[u8]| {
            let longer = value.len() >= SHORT && text.windows(value.len()).any(|window| window == value);
            text == value || longer
        };
        if contains(text) || contains(&unescaped(text, false)) || contains(&unescaped(text, true)) {
            return true;
        }
        from = literal.after;
    }
    false
}

/// The content of a literal without its escapes: doubled quotes, and backslashes as in `E'...'`.
fn unescaped(text: &[u8], backslashes: bool) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\'' => {
                bytes.next_if_eq(&b'\'');
                plain.push(byte);
            }
            b'\\' if backslashes => match bytes.next() {
                Some(b'n') => plain.push(b'\n'),
                Some(b't') => plain.push(b'\t'),
                Some(b'r') => plain.push(b'\r'),
                Some(other) => plain.push(other),
                None => plain.push(byte),
            },
            _ => plain.push(byte),
        }
    }
    plain
}

/// What stands in quotes, and the offset behind them.
struct Literal {
    content: Range<usize>,
    after: usize,
}

/// The first literal that is not empty and begins at `from` or later, as the lexer has it (scan.l): in quotes, with
/// quotes doubled or after a backslash, or between dollar tags. One without an end goes on to the end of the text.
fn next_literal(text: &[u8], mut from: usize) -> Option<Literal> {
    loop {
        let opening = from + text.get(from..)?.iter().position(|byte| matches!(byte, b'\'' | b'$'))?;
        let literal = match text[opening] {
            b'\'' => Some(quoted(text, opening)),
            _ => dollar_quoted(text, opening),
        };
        match literal {
            Some(literal) if !literal.content.is_empty() => return Some(literal),
            Some(literal) => from = literal.after,
            None => from = opening + 1,
        }
    }
}

fn quoted(text: &[u8], opening: usize) -> Literal {
    let escapes = opening > 0 && matches!(text[opening - 1], b'E' | b'e');
    let mut at = opening + 1;
    while at < text.len() {
        match text[at] {
            b'\\' if escapes => at += 2,
            b'\'' if text.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => break,
            _ => at += 1,
        }
    }
    let end = at.min(text.len());
    Literal { content: opening + 1..end, after: (end + 1).min(text.len()) }
}

/// `$tag$...$tag$`; none for a parameter.
fn dollar_quoted(text: &[u8], opening: usize) -> Option<Literal> {
    let is_tag = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii();
    let length = text[opening + 1..].iter().take_while(|byte| is_tag(byte)).count();
    let end = opening + 1 + length;
    if text.get(end) != Some(&b'$') || text[opening + 1].is_ascii_digit() {
        return None;
    }
    let tag = &text[opening..=end];
    let (begin, rest) = (end + 1, &text[end + 1..]);
    let length = rest.windows(tag.len()).position(|window| window == tag).unwrap_or(rest.len());
    Some(Literal { content: begin..begin + length, after: (begin + length + tag.len()).min(text.len()) })
}

/// The bytes of the first constant of a printed plan from `from` on.
fn next_constant(text: &[u8], from: usize) -> Option<Range<usize>> {
    let rest = text.get(from..)?;
    let name = rest.windows(CONSTANT.len()).position(|window| window == CONSTANT)?;
    let begin = from + name + CONSTANT.len();
    let open = begin + text[begin..].iter().position(|byte| *byte == b'[')?;
    let end = text[open..].iter().position(|byte| *byte == b']').map_or(text.len(), |length| open + length);
    Some(open..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blotted(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        let length = blot(&mut bytes);
        bytes.truncate(length);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn literals_are_blotted_however_they_are_written() {
        for (text, expected) in [
            ("SELECT put_secret('aws', 'value')", "SELECT put_secret('***', '***')"),
            ("put_secret('', 'x', 'yz', $1)", "put_secret('', '*', '**', $1)"),
            ("'it''s' || E'a\\'b' || 'c'", "'***' || E'***' || '*'"),
            ("$$a value$$, $tag$a $$ value$tag$, $2", "$$***$$, $tag$***$tag$, $2"),
            ("parameters: $1 = 'a', $2 = 'value'", "parameters: $1 = '*', $2 = '***'"),
            ("'cut off", "'***"),
            ("$$cut off", "$$***"),
            ("E'cut off\\", "E'***"),
            ("no literal at all: $1, $2", "no literal at all: $1, $2"),
            (":constvalue 9 [ 36 0 -12 118 ] :x 1", ":constvalue 9 [ ** * *** *** ] :x 1"),
            (":constvalue 9 [ 36 0", ":constvalue 9 [ ** *"),
            ("'ä' 'ö€'", "'**' '***'"),
            (
                "AUDIT: SESSION,1,1,READ,SELECT,,,\"SELECT \"\"put_secret\"\"($1, 'kind')\",\"aws,a \"\"value\"\"\",1",
                "AUDIT: SESSION,1,1,READ,SELECT,,,\"SELECT \"\"put_secret\"\"($1, '***')\",***",
            ),
            (
                "AUDIT: SESSION,1,1,MISC,BEGIN,TABLE,\"a,b\",BEGIN,x",
                "AUDIT: SESSION,1,1,MISC,BEGIN,TABLE,\"a,b\",BEGIN,*",
            ),
            ("AUDIT: SESSION,1,1,MISC,BEGIN,,,BEGIN,", "AUDIT: SESSION,1,1,MISC,BEGIN,,,BEGIN,"),
            ("AUDIT: SESSION,1,1,MISC,BEGIN", "AUDIT: SESSION,1,1,MISC,BEGIN"),
        ] {
            assert_eq!(blotted(text), expected, "{text}");
            assert_eq!(holds_literal(text.as_bytes()), text != expected, "{text}");
            assert!(!holds_literal(expected.as_bytes()), "{expected}");
        }
    }

    #[test]
    fn a_value_is_found_in_a_statement_however_it_is_written() {
        let value = "it's a\nvalue\\";
        for statement in [
            "SELECT tenancy.put_secret('n', 'it''s a\nvalue\\')",
            "SELECT tenancy.put_secret('n', E'it\\'s a\\nvalue\\\\')",
            "SELECT tenancy.put_secret('n', $x$it's a\nvalue\\$x$)",
            "DO $$ BEGIN PERFORM tenancy.put_secret('n', 'it''s a\nvalue\\'); END $$",
        ] {
            assert!(stands_in(statement.as_bytes(), value.as_bytes()), "{statement}");
        }
        for (statement, value) in [
            ("SELECT tenancy.put_secret($1, $2)", "secret"),
            ("SELECT tenancy.put_secret('name', $1)", "n"),
            ("SELECT tenancy.put_secret('name', $1)", "nam"),
            ("", "x"),
        ] {
            assert!(!stands_in(statement.as_bytes(), value.as_bytes()), "{statement}");
        }
        assert!(stands_in(b"SELECT tenancy.put_secret('n', 'x')", b"x"));
    }

    #[test]
    fn what_postgres_quotes_of_a_value_is_cut_off() {
        for (text, expected) in [
            ("invalid input syntax for type uuid: \"value\"", "invalid input syntax for type uuid:"),
            ("Token \"value\" is invalid.", "Token \""),
            ("JSON data, line 1: value...", "JSON data, line 1:"),
            ("Failing row contains (1, value).", "Failing row contains ("),
            ("Key (secret)=(value) already exists.", "Key ("),
            ("division by zero", "division by zero"),
        ] {
            let mut bytes = text.as_bytes().to_vec();
            assert_eq!(holds_quote(&bytes), text != expected);
            let length = cut(&mut bytes);
            assert_eq!(&text[..length], expected);
            assert!(!holds_quote(&bytes[..length]));
        }
    }

    #[test]
    fn the_functions_that_take_values_are_known_by_their_names() {
        for text in ["tenancy.put_secret(", "TENANCY.PUT_SECRET (", "\"supply_value\"", "begin_rotation"] {
            assert!(names_taker(text.as_bytes()), "{text}");
        }
        for text in ["", "put_secre", "reveal_secret('x')", "SELECT 1"] {
            assert!(!names_taker(text.as_bytes()), "{text}");
        }
    }

    // A line of the log may be as long as a statement, and an attacker may choose it.
    #[test]
    fn a_text_full_of_beginnings_is_read_in_time() {
        for piece in ["'", "''", "$$", "$a$", "$", ":constvalue", ":constvalue [", "E'\\"] {
            let mut text = piece.repeat(2_000_000 / piece.len()).into_bytes();
            let before = std::time::Instant::now();
            blot(&mut text);
            assert!(before.elapsed().as_secs() < 10, "{piece}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_nothing_grows(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let before = bytes.len();
            prop_assert!(blot(&mut bytes) <= before);
        }

        #[test]
        fn no_value_is_left(value in "[a-z]{4,40}", before in "[^'$E]{0,20}", quoted in any::<bool>()) {
            let literal = if quoted { format!("'{value}'") } else { format!("$q${value}$q$") };
            let text = format!("{before}put_secret({literal})");
            prop_assert!(!blotted(&text).contains(&value) || before.contains(&value));
            prop_assert!(stands_in(text.as_bytes(), value.as_bytes()));
        }
    }
}
