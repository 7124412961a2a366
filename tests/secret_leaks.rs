//! Where a secret turns up that must not: data files, WAL, logical decoding, dumps, base backups, the log at its most
//! talkative, statistics, errors, events. With values in bind parameters and in messages that are sealed, nowhere.
//!
//! Each value has a mark that no other text has. The same search on the insecure shape, a table that got the plain text
//! first, finds it in each place: so it is known to look.

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::server::{Folder, Server, as_server, programs, succeeds};
use crate::common::*;
use crate::secret_keys::{add, administrator};
use crate::secrets::Recipient;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use jsonwebtoken::Algorithm;
use tokio_postgres::Client;

/// What is looked for: a name, and the bytes.
type Marks = BTreeMap<String, Vec<u8>>;

struct Leaks {
    server: Server,
    folder: Folder,
    issuer: Issuer,
    /// Whether pgaudit logs as well.
    audits: bool,
}

/// The two orders of libraries. Each takes the hooks that the one before it has taken.
const PGAUDIT_FIRST: [&str; 2] = ["pgaudit", "pg_tenancy"];
const PGAUDIT_LAST: [&str; 2] = ["pg_tenancy", "pgaudit"];

/// Whether the server's installation has pgaudit. That of Postgres 18 has not, because Debian has no package of it.
fn has_pgaudit(server: &Server) -> bool {
    let folder = succeeds(server.program("pg_config").arg("--pkglibdir"));
    let found = Path::new(folder.trim()).join("pgaudit.so").exists();
    if !found && major() < 18 {
        skipped("pgaudit is not installed: run tools/setup.sh server");
    } else if !found {
        println!("without pgaudit, which is not installed");
    }
    found
}

fn mark() -> String {
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).unwrap();
    format!("MARK{}", random.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

impl Leaks {
    /// Runs the test on a server that logs all that it can.
    ///
    /// pgaudit is loaded before or after pg_tenancy, in the order of `libraries`.
    fn host(name: &str, libraries: [&str; 2], test: impl AsyncFnOnce(&Leaks, &Client)) {
        let Some((bin, folder)) = programs().zip(Folder::create(name)) else {
            skipped("no programs of a server to start");
            return;
        };
        let server = Server::at(&bin, folder.0.join("data"));
        server.initialize();
        let audits = has_pgaudit(&server);
        let libraries: Vec<&str> = libraries.into_iter().filter(|name| audits || *name != "pgaudit").collect();
        let leaks = Leaks { server, folder, issuer: Issuer::generate(), audits };
        let mut key = [0; 32];
        // Without the ends of lines, at which grep would cut it.
        while key.iter().any(|byte| [0, b'\n'].contains(byte)) {
            aws_lc_rs::rand::fill(&mut key).unwrap();
        }
        let at = leaks.folder.0.display().to_string();
        let line = format!("a {}", BASE64_STANDARD.encode(key));
        let script = r#"umask 077; printf '%s\n' "$TEXT" >"$1""#;
        succeeds(as_server("env").arg(format!("TEXT={line}")).args(["sh", "-c", script, "sh", &format!("{at}/keys")]));
        leaks.server.start(&format!(
            "-c unix_socket_directories={} -c wal_level=logical -c max_wal_senders=3 -c compute_query_id=on \
             -c shared_preload_libraries={},pg_stat_statements,auto_explain \
             -c tenancy.secret_key_file={at}/keys \
             -c log_min_messages=debug5 -c log_statement=all -c log_min_duration_statement=0 -c log_duration=on \
             -c log_parameter_max_length=-1 -c log_parameter_max_length_on_error=-1 -c debug_print_plan=on \
             -c debug_pretty_print=off \
             -c debug_print_parse=on -c debug_print_rewritten=on -c log_error_verbosity=verbose \
             -c auto_explain.log_min_duration=0 -c auto_explain.log_analyze=on -c auto_explain.log_verbose=on \
             -c auto_explain.log_nested_statements=on -c log_temp_files=0 -c work_mem=64kB -c log_executor_stats=on \
             -c pgaudit.log=all -c pgaudit.log_parameter=on -c pgaudit.log_relation=on -c pgaudit.log_rows=on",
            std::env::var("PGHOST").unwrap(),
            libraries.join(",")
        ));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = connect(&leaks.server.config()).await;
            let set_up = format!(
                "CREATE EXTENSION pg_tenancy; CREATE EXTENSION pg_stat_statements; {}
                 SELECT tenancy.create_organization('Acme', '{ACME}')",
                if audits { "CREATE EXTENSION pgaudit;" } else { "" }
            );
            run(&client, &set_up).await;
            administrator(&client, &leaks.issuer).await;
            add(&client, "a", "ring").await;
            run(&client, "SELECT pg_create_logical_replication_slot('leaks', 'test_decoding')").await;
            test(&leaks, &client).await;
        });
    }

    fn token(&self) -> String {
        self.issuer.sign(Algorithm::ES256, &self.issuer.claims("alice"))
    }

    /// Each place that has one of the marks, in any of its forms.
    async fn found(&self, client: &Client, marks: &Marks) -> Vec<String> {
        run(client, "CHECKPOINT").await;
        let slot = "SELECT data FROM pg_logical_slot_peek_changes('leaks', NULL, NULL)";
        let activity = "SELECT query FROM pg_stat_activity WHERE query IS NOT NULL";
        let mut found = Vec::new();
        for (place, query) in [
            ("logical decoding", slot),
            ("pg_stat_activity", activity),
            ("pg_stat_statements", "SELECT query FROM pg_stat_statements"),
            ("events", "SELECT concat(payload, row_key, reason) FROM tenancy.event"),
        ] {
            for text in column(client, query).await {
                look(place, text.as_bytes(), marks, &mut found);
            }
        }
        let out = self.folder.0.join("out");
        let out = out.to_str().unwrap();
        succeeds(as_server("rm").args(["-rf", out]));
        succeeds(as_server("mkdir").arg(out));
        let config = ["-U", "postgres", "-h", &std::env::var("PGHOST").unwrap(), "-p", &self.server.port.to_string()]
            .map(str::to_owned);
        for format in ["plain", "custom", "directory", "tar"] {
            let mut dump = self.server.program("pg_dump");
            // Not compressed, so that it can be searched.
            let compressed = if format == "tar" { vec![] } else { vec!["-Z", "0"] };
            succeeds(dump.args(&config).args(compressed).args([
                "-F",
                format,
                "-f",
                &format!("{out}/dump-{format}"),
                "postgres",
            ]));
        }
        let mut backup = self.server.program("pg_basebackup");
        succeeds(backup.args(&config).args(["-c", "fast", "-X", "stream", "-D", &format!("{out}/backup")]));
        for (place, folder) in [("data folder", self.server.data.to_str().unwrap()), ("dumps and backup", out)] {
            self.look_into(place, folder, marks, &mut found);
        }
        found.sort();
        found.dedup();
        found
    }

    /// How many lines of pgaudit in the log have the pattern.
    fn audited(&self, pattern: &str) -> usize {
        let mut grep = as_server("grep");
        let log = self.server.data.join("server.log");
        let output = grep.args(["-cE", &format!("AUDIT: SESSION,.*{pattern}")]).arg(log).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    /// Searches the files of a folder as the server's user.
    fn look_into(&self, place: &str, folder: &str, marks: &Marks, found: &mut Vec<String>) {
        let forms: Vec<(String, String)> = marks
            .iter()
            .flat_map(|(name, bytes)| forms(name, bytes))
            .map(|(name, bytes)| (name, bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()))
            .collect();
        let files = |pattern: &str| {
            // grep answers 1 where nothing is found.
            let mut grep = as_server("env");
            let output = grep.args(["LC_ALL=C", "grep", "-rlaP", pattern, folder]).output().unwrap();
            assert!(output.status.code().is_some_and(|code| code < 2), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let any: Vec<&str> = forms.iter().map(|(_, pattern)| pattern.as_str()).collect();
        if files(&any.join("|")).is_empty() {
            return;
        }
        for (name, pattern) in &forms {
            for file in files(pattern).lines() {
                let file = Path::new(file).strip_prefix(folder).unwrap().display().to_string();
                found.push(format!("{name} in the {place}: {file}"));
            }
        }
    }
}

/// The forms in which bytes are written: as they are, in hex, in base64 and as a printed plan has them.
fn forms(name: &str, bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let listed: Vec<String> = bytes.iter().map(|byte| (*byte as i8).to_string()).collect();
    // In base64 at each of the three offsets; the ends of the text depend on what stands beside it.
    let mut all = vec![(name.to_owned(), bytes.to_vec()), (format!("{name} in hex"), hex.into_bytes())];
    for offset in 0..3 {
        let text = BASE64_STANDARD.encode([&[0; 3][..offset], bytes].concat());
        let text = text.trim_end_matches('=').as_bytes();
        all.push((format!("{name} in base64"), text[if offset == 0 { 0 } else { 4 }..text.len() - 2].to_vec()));
    }
    // A printed plan breaks its lines after about 25 bytes, so that one of the two is whole.
    for part in [&listed[5..12], &listed[12..19]] {
        all.push((format!("{name} as a constant"), part.join(" ").into_bytes()));
    }
    all
}

fn look(place: &str, text: &[u8], marks: &Marks, found: &mut Vec<String>) {
    for (name, bytes) in marks.iter().flat_map(|(name, bytes)| forms(name, bytes)) {
        if text.windows(bytes.len()).any(|window| window == bytes) {
            found.push(format!("{name} in {place}"));
        }
    }
}

/// Everything that an application does with values, each with a mark of its own.
async fn use_secrets(leaks: &Leaks, client: &Client) -> Marks {
    let mut marks = Marks::new();
    let mut new = |name: &str| {
        let mark = mark();
        marks.insert(name.to_owned(), mark.clone().into_bytes());
        mark
    };
    as_tenant(client, &leaks.token()).await;
    let put = "SELECT tenancy.put_secret($1, $2)";
    client.execute(put, &[&"stored", &new("stored")]).await.unwrap();
    let large = format!("{}{}", new("large"), "x".repeat(60_000));
    client.execute(put, &[&"large", &large]).await.unwrap();
    let value = format!(r#"{{"access_key_id": "AKIA", "secret_access_key": "{}"}}"#, new("of a kind"));
    client.execute("SELECT tenancy.put_secret($1, $2, 'aws_access_key')", &[&"kind", &value]).await.unwrap();
    // Prepared, until the plan is generic.
    let prepared = client.prepare(put).await.unwrap();
    for n in 0..8 {
        let value = new(&format!("prepared {n}"));
        client.execute(&prepared, &[&format!("prepared {n}"), &value]).await.unwrap();
    }
    let message = Recipient::of(client).await.sealed(ACME, "delivered", new("delivered"));
    client.execute("SELECT tenancy.put_secret($1, $2, sealed => true)", &[&"delivered", &message]).await.unwrap();
    for name in ["stored", "large", "kind", "delivered"] {
        client.query_one("SELECT tenancy.reveal_secret($1, 'test')", &[&name]).await.unwrap();
    }
    let begin = "SELECT tenancy.begin_rotation($1, $2)";
    client.execute(begin, &[&"stored", &new("rotated")]).await.unwrap();
    run(client, "SELECT tenancy.begin_rotation('kind'); SAVEPOINT before").await;
    let value = format!(r#"{{"access_key_id": "AKIB", "secret_access_key": "{}"}}"#, new("supplied"));
    client.execute("SELECT tenancy.supply_value('kind', 2, $1)", &[&value]).await.unwrap();
    run(client, "ROLLBACK TO before").await;
    // Each is refused, with the value at hand.
    for (what, sql) in [
        ("name taken", put.to_owned()),
        ("kind", "SELECT tenancy.put_secret($1, $2, 'aws_access_key')".to_owned()),
        ("unknown kind", "SELECT tenancy.put_secret($1, $2, 'nothing')".to_owned()),
        ("scope", "SELECT tenancy.put_secret($1, $2, scope => 'all')".to_owned()),
        ("write", "SELECT tenancy.put_secret($1, $2, scope => 'write')".to_owned()),
        ("domain", "SELECT tenancy.put_secret($1, $2, domain => NULL)".to_owned()),
        ("expired", "SELECT tenancy.put_secret($1, $2, expires_at => 'epoch')".to_owned()),
        ("sealed", "SELECT tenancy.put_secret($1, $2, sealed => true)".to_owned()),
        ("rotation open", begin.to_owned()),
        (
            "division",
            "SELECT tenancy.put_secret($1 || 'x', $2), 1 / (SELECT count(*) FROM pg_class WHERE false)".to_owned(),
        ),
        ("version", "SELECT tenancy.supply_value($1, 9, $2)".to_owned()),
        ("cast", "SELECT tenancy.put_secret($1, ($2::text)::jsonb::text)".to_owned()),
    ] {
        let value = new(&format!("refused: {what}"));
        run(client, "SAVEPOINT before").await;
        let error = client.execute(&sql, &[&"stored", &value]).await.expect_err(what);
        let error = format!("{:?}", error.as_db_error().unwrap());
        assert!(!error.contains(&value), "{what}: {error}");
        run(client, "ROLLBACK TO before").await;
    }
    run(client, "COMMIT").await;
    // A sort that spills, of all that can be read.
    run(client, "SELECT count(*) FROM (SELECT * FROM tenancy.sealed_value ORDER BY sealed) s").await;
    marks
}

#[test]
fn no_value_and_no_key_turns_up_anywhere() {
    for libraries in [PGAUDIT_FIRST, PGAUDIT_LAST] {
        Leaks::host("secret-leaks", libraries, async |leaks, client| {
            if libraries == PGAUDIT_LAST {
                // At this level messages are taken for prose, unless they are known.
                run(client, "SET pgaudit.log_client = on; SET pgaudit.log_level = 'warning'").await;
            }
            let mut marks = use_secrets(leaks, client).await;
            let line = succeeds(as_server("cat").arg(leaks.folder.0.join("keys")));
            let ring_key = BASE64_STANDARD.decode(line.trim().strip_prefix("a ").unwrap()).unwrap();
            marks.insert("ring key".to_owned(), ring_key);
            assert_eq!(leaks.found(client, &marks).await, [""; 0]);
            let audited = leaks.audited(r#"put_secret\(\$1, \$2\)",\*\*\*$"#);
            assert_eq!(audited > 0, leaks.audits, "pgaudit logs the calls without their parameters");
        });
    }
}

#[test]
fn the_search_finds_what_a_table_has_that_got_plain_text_first() {
    Leaks::host("secret-leaks-plain", PGAUDIT_LAST, async |leaks, client| {
        let value = mark();
        let marks = Marks::from([("plain".to_owned(), value.clone().into_bytes())]);
        run(client, "CREATE TABLE plain (secret text)").await;
        client.execute("INSERT INTO plain VALUES ($1)", &[&value]).await.unwrap();
        let found = leaks.found(client, &marks).await.join("\n");
        for place in [
            "plain in logical decoding",
            "data folder: base",
            "data folder: pg_wal",
            "data folder: server.log",
            "plain as a constant in the data folder: server.log",
            "dump-plain",
            "dump-custom",
            "dump-directory",
            "dump-tar",
            "dumps and backup: backup/base",
        ] {
            assert!(found.contains(place), "{place} in:\n{found}");
        }
        assert_eq!(leaks.audited(&value) > 0, leaks.audits, "pgaudit logs parameters");
        run(client, "UPDATE plain SET secret = 'sealed'").await;
        run(client, "VACUUM FULL plain").await;
        let found = leaks.found(client, &marks).await.join("\n");
        assert!(found.contains("plain in logical decoding") && found.contains("pg_wal"), "{found}");
    });
}

#[test]
fn a_value_within_a_statement_is_warned_of_and_blotted_or_refused() {
    Leaks::host("secret-literals", PGAUDIT_LAST, async |leaks, client| {
        let mut marks = Marks::new();
        let mut new = |name: &str| {
            let mark = mark();
            marks.insert(name.to_owned(), mark.clone().into_bytes());
            mark
        };
        for (way, statement) in [
            ("literal", "SELECT tenancy.put_secret('literal', '{}')"),
            ("E", r"SELECT tenancy.put_secret('E', E'{}\n')"),
            ("dollars", "SELECT tenancy.put_secret('dollars', $v${}$v$)"),
            ("several", "SELECT 1; SELECT tenancy.put_secret('several', '{}')"),
            ("refused", "SELECT tenancy.put_secret('literal', '{}')"),
            ("error", "SELECT tenancy.put_secret('error', '{}'), 1 / (SELECT count(*) FROM pg_class WHERE false)"),
            ("syntax", "SELEC tenancy.put_secret('syntax', '{}')"),
            ("block", "DO $$ BEGIN PERFORM tenancy.put_secret('block', '{}'); END $$"),
        ] {
            as_tenant(client, &leaks.token()).await;
            client.batch_execute(&statement.replace("{}", &new(way))).await.ok();
            run(client, "COMMIT").await;
        }
        // What pg_stat_statements has of a statement that is no query is not ours to change.
        marks.retain(|name, _| name != "block");
        let found = leaks.found(client, &marks).await;
        assert_eq!(found, [""; 0], "no literal is in the log");
        let stored = column(client, "SELECT name FROM tenancy.secret ORDER BY name COLLATE \"C\"").await;
        assert_eq!(stored, ["E", "block", "dollars", "literal", "several"]);
        let log = succeeds(
            as_server("grep")
                .args(["-c", "the value stands in the text of the statement"])
                .arg(leaks.server.data.join("server.log")),
        );
        assert!(log.trim().parse::<i32>().unwrap() >= 5, "{log}");
        run(client, "SELECT tenancy.set_guardrail('literal_secret', 'enforce', 'test')").await;
        as_tenant(client, &leaks.token()).await;
        let refusal = refused_within(client, "SELECT tenancy.put_secret('enforced', 'a value in the statement')").await;
        assert_eq!((refusal.sqlstate.as_str(), refusal.message.contains("a value")), ("22023", false), "{refusal:?}");
        let bound = client.execute("SELECT tenancy.put_secret('bound', $1)", &[&"bound"]).await.is_ok();
        assert!(!bound, "the name is the value, and stands there");
        run(client, "ROLLBACK").await;
        as_tenant(client, &leaks.token()).await;
        client.execute("SELECT tenancy.put_secret('bound', $1)", &[&"a value"]).await.unwrap();
        run(client, "COMMIT").await;
    });
}
