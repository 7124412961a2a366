//! SQL text: names and literals.

/// A text as an SQL literal; text with a backslash is refused before it comes here.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A text as an SQL literal that may hold backslashes, as `quote_literal` writes it.
pub fn quoted_text(text: &str) -> String {
    let doubled = text.replace('\\', "\\\\").replace('\'', "''");
    if text.contains('\\') { format!("E'{doubled}'") } else { format!("'{doubled}'") }
}

/// A name that is generated here, or that no catalog holds yet: it may hold capitals, so it is always quoted.
pub fn quote_generated(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name made of the table's and an ending, cut where Postgres would cut it (63 bytes) and free of those `taken`.
pub fn generated_name(table: &str, ending: &str, taken: impl Fn(&str) -> bool) -> String {
    let stem: String = table
        .chars()
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= 40).then_some(c)
        })
        .collect();
    let plain = format!("{stem}{ending}");
    if !taken(&plain) {
        return plain;
    }
    (1..).map(|n| format!("{stem}{ending}{n}")).find(|name| !taken(name)).unwrap_or(plain)
}

/// Each run of white space as one blank: `pg_get_expr` breaks sub-queries into lines.
pub fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_survive_a_literal() {
        assert_eq!(quoted_text("it's \\ \"odd\""), "E'it''s \\\\ \"odd\"'");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(quote_generated("a\"b"), "\"a\"\"b\"");
    }

    #[test]
    fn a_generated_name_avoids_those_that_are_taken_and_fits() {
        let taken = ["t_tenancy_idx", "t_tenancy_idx1"];
        assert_eq!(generated_name("t", "_tenancy_idx", |name| taken.contains(&name)), "t_tenancy_idx2");
        assert!(generated_name(&"ž".repeat(60), "_tenancy_idx", |_| false).len() <= 63);
    }
}
