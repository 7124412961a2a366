//! HTML in which foreign text stays text.
//!
//! Markup is a constant of this program: a value cannot be passed as markup, because it is no `&'static str`.

use pg_tenancy_core::audit::export::bundle::report::is_invisible;

/// A page, or a part of one.
#[derive(Debug, Default)]
pub struct Html {
    text: String,
}

impl Html {
    /// Adds markup of this program.
    pub fn markup(&mut self, markup: &'static str) -> &mut Self {
        self.text.push_str(markup);
        self
    }

    /// Adds text, for any place where text may stand: between tags, in SVG, and in a quoted attribute.
    ///
    /// A character that cannot be seen becomes an escape such as `\u{202e}`.
    pub fn text(&mut self, text: &str) -> &mut Self {
        text.chars().for_each(|c| self.character(c));
        self
    }

    /// Adds a value that somebody else wrote, for a place between tags.
    ///
    /// Its direction does not reach beyond it, and escapes in it are marked, so that nobody takes them for text.
    pub fn value(&mut self, value: &str) -> &mut Self {
        self.markup("<bdi>");
        for c in value.chars() {
            if is_invisible(c) {
                self.markup("<span class=\"hidden\">").character(c);
                self.markup("</span>");
            } else {
                self.character(c);
            }
        }
        self.markup("</bdi>")
    }

    /// Adds a number with commas.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.text(&grouped(number))
    }

    /// Adds a length or a coordinate, to a tenth.
    pub fn length(&mut self, length: f64) -> &mut Self {
        self.text(&format!("{length:.1}"))
    }

    /// The bytes of the page.
    pub fn into_text(self) -> String {
        self.text
    }

    fn character(&mut self, c: char) {
        match c {
            '&' => self.text.push_str("&amp;"),
            '<' => self.text.push_str("&lt;"),
            '>' => self.text.push_str("&gt;"),
            '"' => self.text.push_str("&quot;"),
            '\'' => self.text.push_str("&#39;"),
            '`' => self.text.push_str("&#96;"),
            c if is_invisible(c) => self.text.extend(c.escape_unicode()),
            c => self.text.push(c),
        }
    }
}

/// A number with commas, such as `1,234`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The beginning of a long text, with the number of characters that it has.
pub fn clipped(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => {
            let all = grouped(text.chars().count() as u64);
            format!("{} … (the first {most} of {all} characters)", &text[..end])
        }
    }
}

#[cfg(test)]
pub use tests::hostile;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::parsed::{Parsed, parse};
    use pg_tenancy_core::audit::export::bundle::report::plain;
    use proptest::prelude::*;

    /// Text with much of what HTML gives a meaning to.
    pub fn hostile() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            4 => any::<char>().prop_map(String::from),
            2 => "[ -~]{0,6}",
            4 => prop::sample::select(vec![
                "<", ">", "&", "\"", "'", "`", "=", "/", "<script>", "</script>", "</style>", "<style>", "</title>",
                "<!--", "-->", "]]>", "<![CDATA[", "<svg>", "</svg>", "</text>", "<img src=x onerror=alert(1)>",
                "\" onload=\"", "' onload='", "javascript:", "&lt;", "&#60;", "&#x3c;", "&amp", "</bdi>", "</td>",
                "<plaintext>", "<textarea>", "<base href=//e>", "<meta http-equiv=refresh>", "\u{202e}", "\u{2066}",
                "\u{61c}", "\u{ad}", "\u{e0041}", "\0", "\u{1b}[2J", "\r\n", "\u{fffe}", "\u{10ffff}",
            ]).prop_map(str::to_owned),
        ];
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    fn page(value: &str) -> Parsed {
        let mut html = Html::default();
        html.markup("<!DOCTYPE html><html><head><title>").text(value).markup("</title></head><body><p title=\"");
        html.text(value)
            .markup("\">")
            .text(value)
            .markup("</p><table><tr><td>")
            .value(value)
            .markup("</td></tr></table>");
        html.markup("<svg><title>").text(value).markup("</title><text>").text(value);
        html.markup("</text></svg><hr></body></html>");
        parse(&html.into_text())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_value_leaves_its_place(value in hostile()) {
            let (found, shown) = (page(&value), plain(&value));
            for place in ["html>head>title", "html>body>p", "html>body>svg>title", "html>body>svg>text"] {
                prop_assert_eq!(&found.text_of(place), &shown, "{}", place);
            }
            prop_assert_eq!(&found.text_of("html>body>table>tbody>tr>td"), &shown);
            prop_assert_eq!(found.attributes.clone(), page("").attributes.into_iter().map(|(path, name, text)| {
                let text = if name == "title" { shown.clone() } else { text };
                (path, name, text)
            }).chain(found.attributes.iter().filter(|(_, name, _)| name == "class").cloned()).collect::<Vec<_>>());
            let mut elements = found.elements.clone();
            elements.retain(|path| !path.ends_with("td>bdi>span"));
            prop_assert_eq!(elements, page("").elements);
            prop_assert!(!found.text_of("html").chars().any(is_invisible));
        }

        #[test]
        fn a_clipped_text_is_never_longer_than_said(value in hostile(), most in 0..20usize) {
            let short = clipped(&value, most);
            let (said, all) = (format!(" … (the first {most} of "), value.chars().count());
            if all <= most {
                prop_assert_eq!(short, value);
            } else {
                let begin: String = value.chars().take(most).collect();
                prop_assert!(short.starts_with(&(begin + &said)), "{}", short);
            }
        }
    }

    #[test]
    fn numbers_have_commas() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
