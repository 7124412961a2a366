//! Finds texts that look like tokens and replaces them.
//!
//! The callers are the server's log and `pg_stat_activity`, which must not contain tokens. The shape alone decides,
//! because the issuer is not known yet. A false match costs a word of a log line; a missed token costs a session.
//!
//! The functions neither allocate nor panic, because they run while an error is being reported.

use std::ops::Range;

/// The replacement for a token. Never longer than a token, so that a text can be changed in place.
pub const REPLACEMENT: &[u8] = b"[token]";

/// The possible beginnings of the header of a compact token, in base64url (RFC 7515 section 3.1).
///
/// The header begins with a brace and then a quote or a space, or a brace and a tab or the end of a line. No other text
/// is treated as a token.
const STARTS: [&[u8]; 2] = [b"ey", b"ew"];

/// Length of the shortest header, `{"alg":"x"}`, in base64url; a shorter text is not a token.
const MIN_HEADER_BYTES: usize = 15;

/// Whether the text contains something that [`in_place`] would replace.
pub fn holds_token(text: &[u8]) -> bool {
    next(text, 0).is_some()
}

/// Replaces each token in the text and returns the new length in bytes; the bytes after it are stale.
pub fn in_place(text: &mut [u8]) -> usize {
    let (mut read, mut written) = (0, 0);
    while let Some(token) = next(text, read) {
        written = shift(text, read..token.start, written);
        for (to, from) in text.iter_mut().skip(written).zip(REPLACEMENT) {
            *to = *from;
        }
        written += REPLACEMENT.len();
        read = token.end;
    }
    if read == 0 { text.len() } else { shift(text, read..text.len(), written) }
}

/// Moves a piece of the text forward to offset `to` and returns the offset of its end.
fn shift(text: &mut [u8], piece: Range<usize>, to: usize) -> usize {
    let end = to + piece.len();
    if to < piece.start {
        text.copy_within(piece, to);
    }
    end
}

/// The first token that begins at `from` or later: a header, a dot, and at least the beginning of a body.
///
/// A length limit such as log_parameter_max_length can cut off a token within its three parts. Such a token counts as
/// well: it shows the claims, and most of a signature may be enough to guess the rest. A token of five parts (RFC 7516)
/// counts too.
fn next(text: &[u8], mut from: usize) -> Option<Range<usize>> {
    loop {
        let rest = text.get(from..)?;
        let start = from + rest.windows(2).position(|window| STARTS.contains(&window))?;
        let header = run(text, start, is_base64url);
        if header - start >= MIN_HEADER_BYTES {
            let body = run(text, header, |byte| is_base64url(byte) || byte == b'.');
            let end = body - text.get(header..body)?.iter().rev().take_while(|byte| **byte == b'.').count();
            if end > header {
                return Some(start..end);
            }
        }
        // No other start within the header leads further than this one did.
        from = header;
    }
}

/// The offset of the first byte from `from` on that is not of the kind.
fn run(text: &[u8], from: usize, kind: impl Fn(u8) -> bool) -> usize {
    from + text.get(from..).unwrap_or_default().iter().take_while(|byte| kind(**byte)).count()
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // The example of RFC 7515 appendix A.1, on one line.
    const TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    fn redacted(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        let length = in_place(&mut bytes);
        bytes.truncate(length);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_token_is_replaced_wherever_it_stands_and_nothing_else_is_touched() {
        for (before, after) in [
            ("", ""),
            ("é", "é"),
            ("\u{201e}", "\u{201c}. "),
            ("SELECT tenancy.authenticate('", "', NULL)"),
            (r#"{"authorization": "Bearer "#, r#"", "host": "x"}"#),
            ("Authorization:%20Bearer%20", "%0A"),
            ("a.b.eyJ eyJhbGci.x eyJ.eyJ. ", "."),
        ] {
            assert_eq!(redacted(&format!("{before}{TOKEN}{after}")), format!("{before}[token]{after}"));
            let twice = format!("{before}{TOKEN}{after}");
            assert_eq!(
                redacted(&format!("{twice}\n{twice}")),
                format!("{before}[token]{after}\n{before}[token]{after}")
            );
        }
    }

    #[test]
    fn what_only_resembles_a_token_stays() {
        for text in [
            "",
            "e",
            "ey",
            "eyJ",
            "eyJ.",
            "eyJ.a.b",
            "eyJhbGciOiJIUzI1NiJ9",
            "eyJhbGciOiJIUzI1NiJ9.",
            "eyJhbGciOiJIUzI1NiJ9...",
            "eyJhbGciOiJIUzI1NiJ9 .x.y",
            "EYJHBGCIOIJIUZI1NIJ9.a.b",
            "ZXlKaGJHY2lPaUo.a.b",
            "SELECT 1",
            "é",
            "schema.eyJob.column",
        ] {
            assert_eq!(redacted(text), text);
            assert!(!holds_token(text.as_bytes()), "{text}");
        }
    }

    // log_parameter_max_length cuts at any byte; what is left of the claims must not be seen.
    #[test]
    fn a_token_that_was_cut_is_replaced_as_soon_as_it_shows_a_byte_of_its_claims() {
        let header = TOKEN.find('.').unwrap();
        for length in header + 2..=TOKEN.len() {
            let cut = &TOKEN[..length];
            let dot = if cut.ends_with('.') { "." } else { "" };
            assert_eq!(
                redacted(&format!("$1 = '{cut}...'")),
                "$1 = '[token]...'".replace("]...", &format!("]{dot}..."))
            );
        }
    }

    #[test]
    fn tokens_without_a_signature_or_with_five_parts_are_replaced() {
        for token in [
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0",
            "eyJhbGciOiJkaXIifQ..iv.text.tag",
            "eyJhbGciOiJkaXIifQ.k.iv.text.tag",
        ] {
            assert_eq!(redacted(&format!("<{token}>")), "<[token]>");
        }
        assert_eq!(redacted("<eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.>"), "<[token].>");
    }

    // A line of the log may be as long as a statement, and an attacker may choose it.
    #[test]
    fn a_text_full_of_beginnings_is_read_once() {
        for piece in ["eyJ", "eyJ.", "eyJ..", "eyJhbGciOiJIUzI1NiJ9 ", "eyJhbGciOiJIUzI1NiJ9."] {
            let mut text = piece.repeat(4_000_000 / piece.len()).into_bytes();
            let before = std::time::Instant::now();
            in_place(&mut text);
            assert!(before.elapsed().as_secs() < 5, "{piece}");
        }
    }

    proptest! {
        #[test]
        fn no_token_is_left_and_the_rest_is_as_it_was(
            pieces in prop::collection::vec("[ -~é]{0,40}|eyJ[A-Za-z0-9_.-]{0,60}|[eyJ.]{0,20}", 0..12),
        ) {
            let text = pieces.concat();
            let after = redacted(&text);
            prop_assert!(!holds_token(after.as_bytes()), "{after}");
            prop_assert_eq!(holds_token(text.as_bytes()), after != text);
            // What was kept stands in the text in the same order.
            let mut rest = text.as_str();
            for kept in after.split("[token]") {
                let at = rest.find(kept);
                prop_assert!(at.is_some(), "{} in {}", kept, rest);
                rest = &rest[at.unwrap() + kept.len()..];
            }
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let before = bytes.clone();
            let length = in_place(&mut bytes);
            prop_assert!(length <= before.len());
            prop_assert_eq!(length < before.len(), holds_token(&before));
        }
    }
}
