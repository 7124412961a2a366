//! SQL text: names and literals.

/// Quotes a text as an SQL literal. The caller has refused texts with a backslash.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Quotes a text, which may contain backslashes, as an SQL literal in the form of `quote_literal`.
pub fn quoted_text(text: &str) -> String {
    let doubled = text.replace('\\', "\\\\").replace('\'', "''");
    if text.contains('\\') { format!("E'{doubled}'") } else { format!("'{doubled}'") }
}

/// Quotes a generated name, or a name that no catalog holds yet.
///
/// The name may contain capitals, so it is always quoted.
pub fn quote_generated(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Makes a name from the table's name and an ending, avoiding names that are `taken`.
///
/// The table's part is cut to 40 bytes, so that the name stays within the 63 bytes of a Postgres name.
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

/// Replaces each run of white space with one blank: `pg_get_expr` breaks sub-queries into lines.
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
