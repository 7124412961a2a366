//! `docs/sql-reference.md` against `sql/`: no function, table or view is left out, each signature is the real one, each
//! description is the COMMENT, and each example runs.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::*;
use jsonwebtoken::Algorithm;
use serde_json::json;
use tokio_postgres::Client;

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

#[test]
fn the_reference_has_the_comments_of_sql() {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/sql_reference.py");
    let checked = Command::new("python3").arg(tool).arg("--check").output().expect("python3");
    let told = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&told));
}

/// A fence of the page: its line, the role of its first line, and the SQL.
struct Example {
    line: usize,
    role: String,
    sql: String,
}

impl Example {
    /// The value of each row, or "no row", that the last line promises after "-- => ".
    fn expected(&self) -> Option<&str> {
        self.sql.lines().last()?.strip_prefix("-- => ")
    }
}

fn examples(page: &str) -> Vec<Example> {
    let mut examples = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line != "```sql" {
            continue;
        }
        let sql: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        let role = sql.first().and_then(|first| first.strip_prefix("-- as "));
        let role = role.unwrap_or_else(|| panic!("line {}: the example does not begin with \"-- as\"", number + 1));
        examples.push(Example { line: number + 1, role: role.into(), sql: sql.join("\n") });
    }
    examples
}

const NORTHWIND: &str = "11111111-1111-4111-8111-111111111111";
const ROLES: [&str; 4] = ["finops_owner", "finops_app", "finops_auditor", "finops_custodian"];

/// The database of `make demo`, as tools/demo.sh makes it, with roles of its own: roles belong to the whole server.
struct Demo<'d> {
    database: &'d Database,
    name: String,
    token: String,
}

impl<'d> Demo<'d> {
    fn new(database: &'d Database) -> Self {
        let claims = json!({
            "iss": "https://sso.example.com", "aud": "finops", "sub": "alice", "org_id": NORTHWIND,
            "iat": now(), "exp": now() + 3600
        });
        let token = database.issuer.sign(Algorithm::ES256, &claims);
        Demo { database, name: format!("{}_demo", database.name), token }
    }

    async fn create(&self, superuser: &Client) -> Result<(), String> {
        run(superuser, &format!("CREATE DATABASE {} TEMPLATE template0 ENCODING UTF8", self.name)).await;
        let user = std::env::var("PGUSER").unwrap_or_else(|_| "postgres".into());
        self.psql(&user, &[], &self.own(&read("examples/finops/schema.sql")))?;
        let password = std::env::var("PGPASSWORD").unwrap_or_default().replace('\'', "''");
        for role in ROLES {
            run(superuser, &format!("ALTER ROLE {} PASSWORD '{password}'", self.own(role))).await;
        }
        let issuer = &self.database.issuer;
        let file = key_file(superuser, &issuer.key_set()).await;
        let tenancy = self.own(&read("examples/finops/tenancy.sql")).replace("supabase.json", &file);
        let setup = format!("CREATE EXTENSION pg_tenancy;\n{tenancy}");
        self.psql(&user, &[("jwks_sso", &issuer.public_key_set())], &setup)?;
        for table in ["cloud_account", "\"Finding\"", "remediation_action"] {
            self.psql(&self.own(ROLES[0]), &[], &format!("SELECT tenancy.protect('{table}')"))?;
        }
        Ok(())
    }

    async fn drop(&self, superuser: &Client) {
        run(superuser, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).await;
        run(superuser, &format!("DROP ROLE IF EXISTS {}", self.own(&ROLES.join(", ")))).await;
    }

    /// The text with the names of this database's roles.
    fn own(&self, text: &str) -> String {
        text.replace("finops_", &format!("{}_", self.name))
    }

    /// Runs a script in psql up to its first error; returns the output, or the errors.
    fn psql(&self, user: &str, variables: &[(&str, &str)], script: &str) -> Result<String, String> {
        let mut psql = self.database.program("psql");
        psql.env("PGDATABASE", &self.name).args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-U", user, "-f", "-"]);
        for (variable, value) in variables {
            psql.arg("-v").arg(format!("{variable}={value}"));
        }
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = psql.spawn().unwrap();
        running.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let done = running.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
    }

    /// Runs an example as its role; the error says what is not as the page has it.
    fn run(&self, example: &Example) -> Result<(), String> {
        let auditor = self.own("finops_auditor");
        let (mut note, mut key) = (String::new(), String::new());
        if example.sql.contains(":'note'") {
            let newest = "SELECT note FROM tenancy.checkpoint ORDER BY block DESC, number DESC LIMIT 1";
            // psql ends the value with a line feed of its own.
            note = self.psql(&auditor, &[], newest)?.trim_end_matches('\n').to_owned() + "\n";
            key = self.psql(&auditor, &[], "SELECT public_key FROM tenancy.signing_key")?.trim_end().to_owned();
        }
        let variables = [("token", self.token.as_str()), ("note", note.as_str()), ("public_key", key.as_str())];
        let output = self.psql(&self.own(&example.role), &variables, &self.own(&example.sql))?;
        let Some(expected) = example.expected() else { return Ok(()) };
        let good = match expected {
            "no row" => output.is_empty(),
            value => !output.is_empty() && output.lines().all(|line| line == value),
        };
        if good { Ok(()) } else { Err(format!("the result is not {expected}, but {output}")) }
    }
}

#[test]
fn every_example_of_the_reference_runs() {
    let examples = examples(&read("docs/sql-reference.md"));
    assert!(examples.len() >= 40, "{} examples were found", examples.len());
    in_database(async |database| {
        let superuser = database.superuser().await;
        let demo = Demo::new(database);
        let created = demo.create(&superuser).await;
        let run_one = |example: &Example| {
            demo.run(example).err().map(|error| format!("docs/sql-reference.md:{}: {error}", example.line))
        };
        let failed: Vec<String> = match created {
            Ok(()) => examples.iter().filter_map(run_one).collect(),
            Err(error) => vec![error],
        };
        demo.drop(&superuser).await;
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    });
}
