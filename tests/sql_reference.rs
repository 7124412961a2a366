//! `docs/sql-reference.md` against `sql/`: no function, table or view is left out, and each signature is the real one.

use std::fs;
use std::path::Path;

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace("( ", "(")
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The scripts that make up the installation, one after the other.
fn sql() -> String {
    let order = read("sql/order");
    order.lines().filter(|line| !line.starts_with('#')).map(|file| read(&format!("sql/{file}"))).collect()
}

/// What stands between `begin` and the first `end` after it, each time.
fn between<'t>(text: &'t str, begin: &'t str, end: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(begin).skip(1).map(move |rest| rest.split(end).next().unwrap())
}

#[test]
fn every_function_stands_in_the_reference_with_its_signature() {
    let (sql, reference) = (sql(), in_one_line(&read("docs/sql-reference.md")));
    let signatures: Vec<String> = between(&sql, "CREATE FUNCTION ", "\n    LANGUAGE").map(in_one_line).collect();
    assert!(signatures.len() >= 29);
    for signature in &signatures {
        assert!(reference.contains(signature.as_str()), "docs/sql-reference.md lacks {signature}");
    }
}

#[test]
fn every_procedure_stands_in_the_reference_with_its_signature() {
    let (sql, reference) = (sql(), in_one_line(&read("docs/sql-reference.md")));
    for signature in between(&sql, "CREATE PROCEDURE ", "\n    LANGUAGE").map(in_one_line) {
        assert!(reference.contains(&format!("CALL {signature}")), "docs/sql-reference.md lacks {signature}");
    }
}

#[test]
fn the_reference_has_no_function_that_does_not_exist() {
    let (sql, reference) = (in_one_line(&sql()), read("docs/sql-reference.md"));
    for signature in between(&reference, "```text\ntenancy.", " RETURNS") {
        let signature = in_one_line(signature);
        assert!(sql.contains(&format!("CREATE FUNCTION tenancy.{signature} RETURNS")), "there is no {signature}");
    }
}

#[test]
fn every_table_and_view_stands_in_the_reference() {
    let (sql, reference) = (sql(), read("docs/sql-reference.md"));
    let made = between(&sql, "CREATE TABLE ", " ").chain(between(&sql, "CREATE VIEW ", " "));
    // Those with a placeholder are partitions.
    for name in made.filter(|name| !name.contains('%')) {
        assert!(reference.contains(&format!("`{name}`")) || reference.contains(&format!("### {name}\n")), "{name}");
    }
}
