//! Bundles of a real server, checked by the program that knows no server, and by a second reader in Python.

use crate::action_types::act;
use crate::common::*;
use pg_tenancy_core::audit::export::bundle::report::Verdict;
use pg_tenancy_core::audit::export::bundle::verify::{Expected, verify};
use pg_tenancy_core::audit::log::signed_note::Verifier;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use tokio_postgres::Client;

/// A folder for the files of a test, which goes with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(database: &Database) -> Self {
        let path = std::env::temp_dir().join(format!("{}_bundles", database.name));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// The program `pg-tenancy-verify`, which is built beside this one: cargo builds the programs of a test's own
/// package only.
fn verifier() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
        let done = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "pg-tenancy-verify", "--target-dir", folder.to_str().unwrap()])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(done.unwrap().success(), "cargo build --package pg-tenancy-verify");
        folder.join("debug/pg-tenancy-verify")
    });
    &PROGRAM
}

/// Runs `pg-tenancy-verify`; returns its exit status and what it said.
pub fn check(arguments: &[&str]) -> (i32, String) {
    let done = Command::new(verifier()).args(arguments).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    (done.status.code().unwrap(), said)
}

/// The second reader.
fn check_in_python(bundle: &str, key: &str) -> (bool, String) {
    let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/evidence/read.py");
    let done = Command::new("python3").args([reader, bundle, key]).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    (done.status.success(), said)
}

/// Two transactions of Alice, a change by the database's owner, and one of Bob in between. The last one of Alice has a
/// batch of three events.
async fn record(database: &Database, superuser: &Client) {
    let client = database.application().await;
    for (subject, id) in [("alice", 81), ("bob", 91), ("alice", 82)] {
        as_tenant(&client, &database.token(subject)).await;
        run(&client, &format!(r#"INSERT INTO "Finding" (id, title) VALUES ({id}, 'ünsafe')"#)).await;
        run(&client, &format!(r#"UPDATE "Finding" SET title = 'b', "amountCents" = 7 WHERE id = {id}"#)).await;
        run(&client, "COMMIT").await;
    }
    as_tenant(&client, &database.token("alice")).await;
    run(&client, r#"INSERT INTO "Finding" (id, title) SELECT 200 + n, 'ünsafe' FROM generate_series(1, 3) n"#).await;
    run(&client, "SELECT tenancy.add_evidence(sha256('the report'), 'application/pdf', 'report.pdf')").await;
    run(&client, "COMMIT").await;
    run(superuser, &format!(r#"DELETE FROM "Finding" WHERE "organizationId" = '{ACME}' AND id = 5"#)).await;
}

pub async fn checkpoint(superuser: &Client) -> i64 {
    count(superuser, "SELECT tenancy.checkpoint()").await
}

pub async fn public_key(superuser: &Client) -> String {
    value(superuser, "SELECT public_key FROM tenancy.signing_key WHERE retired_at IS NULL").await
}

/// The id of the second event of the batch of three.
async fn event_of_several(superuser: &Client) -> String {
    let sql = format!(
        "SELECT id FROM tenancy.event WHERE organization = '{ACME}' AND batch_events = 3 AND place = 1
          ORDER BY id DESC LIMIT 1"
    );
    value(superuser, &sql).await
}

/// The number of Acme's events that are sealed.
async fn sealed_events(superuser: &Client) -> i64 {
    count(superuser, &format!("SELECT max(position) FROM tenancy.entry WHERE organization = '{ACME}'")).await
}

/// The bundle, as psql writes it into a file.
pub async fn export(client: &Client, arguments: &str) -> String {
    column(client, &format!("SELECT tenancy.export_evidence({arguments})")).await.join("\n") + "\n"
}

fn lines(bundle: &str) -> Vec<Value> {
    bundle.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_bundle_tells_of_reviews_in_words_and_proves_their_reports() {
    in_database(async |database| {
        let (superuser, folder) = (database.superuser().await, Folder::new(database));
        let client = database.application().await;
        run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'dora', 'admin')")).await;
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        let open = "SELECT tenancy.open_review('memberships', 'Q1 \u{202e}review', now() + interval '1 day',
                                               filter => '{\"role\": \"admin\"}')";
        let review = act(&client, &alice, open).await.unwrap();
        let of_others = format!(
            "SELECT tenancy.decide_many('{review}', (SELECT array_agg(number) FROM tenancy.review_item
                 WHERE review = '{review}' AND what ->> 'subject' <> tenancy.subject()
                   AND decision IS NULL), 'keep', 'test')"
        );
        for token in [&alice, &dora] {
            act(&client, token, &of_others).await.unwrap();
        }
        // An application's own event of the same name tells nothing.
        let forged = format!(
            "SELECT tenancy.record_event('review_closed', domain => 'review', data => jsonb_build_object(
                 'review', '{review}', 'report_digest', repeat('0', 64)))"
        );
        let _ = act(&client, &alice, &forged).await;
        act(&client, &alice, &format!("SELECT count(*) FROM tenancy.close_review('{review}')")).await.unwrap();
        let report = format!("SELECT tenancy.review_report('{review}')::text");
        let report = act(&client, &alice, &report).await.unwrap();
        checkpoint(&superuser).await;

        let key = public_key(&superuser).await;
        let bundle = folder.file("bundle.jsonl", &export(&superuser, &format!("'{ACME}'")).await);
        let file = folder.file("report.json", &report);
        let (status, said) = check(&[&bundle, "--key", &key, "--report", &file]);
        assert_eq!(status, 0, "{said}");
        let words = said.lines().find(|line| line.contains(&format!("Review {review}"))).unwrap();
        for part in [
            "of memberships: opened on",
            "by alice over 3 items",
            "alice decided about 2",
            "dora decided about 1",
            "closed on",
            "3 kept.",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
        assert!(!said.contains('\u{202e}'), "nothing turns the line around");
        assert!(said.contains(&format!("is the report of review {review}, as an event of")), "{said}");
        let (_, json) = check(&[&bundle, "--key", &key, "--report", &file, "--json"]);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json["reviews"][0]["outcomes"]["kept"], &json["reviews"][0]["items"]), (&3.into(), &3.into()));
        assert_eq!(json["reports"][0]["of"], format!("review {review}").as_str());

        // A report in which anything is another one is none of the bundle.
        let other = folder.file("other.json", report.replace("\"kept\"", "\"applied\""));
        let (status, said) = check(&[&bundle, "--key", &key, "--report", &other]);
        assert_eq!(status, 4, "{said}");
        assert!(said.contains("no event here has its digest"), "{said}");
        let (status, _) = check(&[&bundle, "--key", &key, "--report", &bundle]);
        assert_eq!(status, 2, "a file that is no report");
    });
}

#[test]
fn an_export_is_proved_without_the_server_and_by_a_second_reader() {
    in_database(async |database| {
        let (superuser, folder) = (database.superuser().await, Folder::new(database));
        record(database, &superuser).await;
        let client = database.application().await;
        as_tenant(&client, &database.token("alice")).await;
        let add =
            "SELECT tenancy.add_evidence(sha256('the report'), 'application/pdf', 'report.pdf', subject => 'CC6.1',
                          relation => 'result-of', events => ARRAY[tenancy.record_event('access.reviewed')])";
        run(&client, add).await;
        run(&client, "COMMIT").await;
        checkpoint(&superuser).await;

        let key = public_key(&superuser).await;
        let text = export(&superuser, &format!("'{ACME}'")).await;
        let bundle = folder.file("bundle.jsonl", &text);
        let (status, said) = check(&[&bundle, "--key", &key]);
        assert_eq!(status, 0, "{said}");
        let events = sealed_events(&superuser).await;
        assert!(said.contains(&format!("These are all {events} events that the organization had then")), "{said}");
        assert!(said.contains("alice registered on"), "{said}");
        assert!(said.contains("about CC6.1, result-of one event, which is here"), "{said}");
        let (good, said) = check_in_python(&bundle, &key);
        assert!(good, "{said}");
        assert!(said.contains(&format!("{events} events, 2 artifacts")), "{said}");

        let (status, said) = check(&[&bundle]);
        assert!(status == 3 && said.contains("a key that stands in it proves nothing"), "{said}");
        let (report, other) = (folder.file("report.pdf", "the report"), folder.file("other.pdf", "another"));
        let keys = folder.file("keys", format!("# the auditor's own copy\n{key} # of production\n"));
        let (status, said) = check(&[&bundle, "--keys", &keys, "--artifact", &report, "--json"]);
        let json: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((status, &json["verdict"], &json["events"]), (0, &Value::from("proved"), &Value::from(events)));
        let (status, said) = check(&[&bundle, "--keys", &keys, "--artifact", &other]);
        assert!(status == 4 && said.contains("no artifact in the bundle has its digest"), "{said}");
    });
}

#[test]
fn a_bundle_that_was_made_once_stays_good() {
    // The key of an example of Go's note package.
    let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/evidence/sample.jsonl");
    let (status, said) = check(&[sample, "--key", key]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("result-of one event, which is here"), "{said}");
    let (good, said) = check_in_python(sample, key);
    assert!(good, "{said}");
    let other = "other.example+f23b04d1+AQ==";
    assert_eq!(check(&[sample, "--key", other]).0, 2, "no key");
    assert_eq!(check(&[sample]).0, 3);
}

#[test]
fn the_program_says_what_is_wrong_with_a_call() {
    in_database(async |database| {
        let folder = Folder::new(database);
        let nothing = folder.file("nothing", "");
        for arguments in [
            &[][..],
            &["--key"],
            &["--nonsense", &nothing],
            &[&nothing, &nothing],
            &[&nothing],
            &["/nowhere/at/all"],
            &[&nothing, "--key", "a+b+c"],
            &[&nothing, "--keys", &nothing],
            &[&nothing, "--earlier", "/nowhere/at/all"],
            &[&nothing, "--artifact", "/nowhere/at/all"],
            &[&nothing, "--max-line", "x"],
            &[folder.0.to_str().unwrap()],
        ] {
            let (status, said) = check(arguments);
            assert!(status == 2 && !said.contains("panicked"), "{arguments:?} gave {status}: {said}");
        }
        let (status, said) = check(&["--help"]);
        assert!(status == 0 && said.contains("Exit status:"), "{said}");
        assert_eq!(check(&["--version"]).0, 0);
    });
}

#[test]
fn a_bundle_or_a_history_that_was_changed_is_found() {
    in_database(async |database| {
        let (superuser, folder) = (database.superuser().await, Folder::new(database));
        record(database, &superuser).await;
        checkpoint(&superuser).await;
        let key = public_key(&superuser).await;
        let good = export(&superuser, &format!("'{ACME}'")).await;
        let changed = good.lines().count();
        for (number, line) in good.lines().enumerate() {
            let without: Vec<&str> = good.lines().filter(|other| *other != line).collect();
            let bundle = folder.file("bundle", without.join("\n") + "\n");
            let (status, said) = check(&[&bundle, "--key", &key]);
            assert!(status == 1 || number == 0 && status == 2, "without line {number} of {changed}: {status} {said}");
            assert!(!check_in_python(&bundle, &key).0, "without line {number}");
        }
        for (from, to) in [("\"insert\"", "\"delete\""), ("alice", "mallo"), ("\"title\\\":\\\"b", "\"title\\\":\\\"c")]
        {
            assert!(good.contains(from), "{from} is in {good}");
            let bundle = folder.file("bundle", good.replacen(from, to, 1));
            let (status, said) = check(&[&bundle, "--key", &key]);
            assert!(status == 1 && said.contains("TAMPERED WITH"), "{from} as {to}: {status} {said}");
            assert!(!check_in_python(&bundle, &key).0, "{from} as {to}");
        }

        // A superuser changes what is stored, with and without new hashes.
        run(
            &superuser,
            "DO $$ DECLARE t regclass; BEGIN
            FOREACH t IN ARRAY ARRAY['tenancy.event_batch', 'tenancy.event_actor', 'tenancy.seal', \
            'tenancy.evidence']::regclass[] LOOP
                EXECUTE format('ALTER TABLE %s DISABLE TRIGGER append_only', t); END LOOP; END $$",
        )
        .await;
        forge_entries(&superuser).await;
        let batch = async |events: i64| {
            let sql = format!(
                "SELECT s.batch FROM tenancy.entry s JOIN tenancy.event_batch b ON b.id = s.batch
                  WHERE s.organization = '{ACME}' AND b.events = {events} AND b.operation = 'insert'
                  ORDER BY s.leaf LIMIT 1"
            );
            format!("WHERE id = '{}'", value(&superuser, &sql).await)
        };
        let (one, three) = (batch(1).await, batch(3).await);
        let packed = |at: usize| {
            format!(
                "UPDATE tenancy.event_batch SET packed = set_byte(packed, {at}, get_byte(packed, {at}) # 1) {three}"
            )
        };
        let stored = [
            (format!("UPDATE tenancy.event_batch SET operation = 'delete' {one}"), 1),
            (format!("UPDATE tenancy.event_batch SET payload = '{{}}' {one}"), 1),
            (format!("UPDATE tenancy.event_batch SET payload_salt = NULL {one}"), 1),
            (format!("UPDATE tenancy.event_batch SET ordinal = ordinal + 1 {three}"), 1),
            // A byte of a salt.
            (packed(7), 1),
            ("UPDATE tenancy.event_actor SET subject = 'mallory' WHERE subject = 'alice'".into(), 1),
            (format!("UPDATE forged SET batch_hash = sha256('') WHERE organization = '{ACME}' AND leaf = 2"), 1),
            (format!("UPDATE tenancy.event_batch SET payload = NULL, payload_salt = NULL {one}"), 4),
            (format!("DELETE FROM tenancy.event_batch {one}"), 4),
            (format!("DELETE FROM tenancy.event_batch {three}"), 4),
            ("UPDATE tenancy.evidence SET digest = sha256('another report')".into(), 1),
            ("UPDATE tenancy.evidence SET relation = 'contradicts'".into(), 1),
            ("DELETE FROM tenancy.evidence".into(), 1),
        ];
        for (statement, expected) in stored {
            run(&superuser, "BEGIN").await;
            assert!(changed_rows(&superuser, &statement).await > 0, "{statement}");
            let bundle = folder.file("bundle", export(&superuser, &format!("'{ACME}'")).await);
            run(&superuser, "ROLLBACK").await;
            let (status, said) = check(&[&bundle, "--key", &key]);
            assert_eq!(status, expected, "{statement}: {said}");
        }
        // What cannot be read, has no place or is another organization's is not exported at all.
        for statement in [
            format!("UPDATE tenancy.event_batch SET organization = '{GLOBEX}' {one}"),
            format!("UPDATE tenancy.event_batch SET organization = '{GLOBEX}' {three}"),
            format!("DELETE FROM forged WHERE organization = '{ACME}' AND leaf = 2"),
            format!("UPDATE tenancy.event_batch SET events = 2 {three}"),
            format!("UPDATE tenancy.event_batch SET packed = packed || '\\x00' {three}"),
            format!("UPDATE tenancy.event_batch SET packed = substr(packed, 1, 20) {three}"),
            // The length of the text.
            packed(3),
        ] {
            run(&superuser, "BEGIN").await;
            assert!(changed_rows(&superuser, &statement).await > 0, "{statement}");
            let refusal = refused(&superuser, &format!("SELECT tenancy.export_evidence('{ACME}')")).await;
            assert_eq!(refusal.sqlstate, "XX001", "{statement}: {refusal:?}");
            run(&superuser, "ROLLBACK").await;
        }
    });
}

async fn changed_rows(client: &Client, statement: &str) -> u64 {
    changed(client, statement).await
}

#[test]
fn an_erased_payload_is_proved_by_the_event_that_tells_of_it() {
    in_database(async |database| {
        let (superuser, folder) = (database.superuser().await, Folder::new(database));
        record(database, &superuser).await;
        checkpoint(&superuser).await;
        let until = value(&superuser, "SELECT clock_timestamp()").await;
        let key = public_key(&superuser).await;
        let event = event_of_several(&superuser).await;
        run(&superuser, &format!("SELECT tenancy.erase_payload('{event}', 'asked for by the person')")).await;
        // The erasure is in no checkpoint yet.
        let bundle = folder.file("bundle", export(&superuser, &format!("'{ACME}', NULL, '{until}'")).await);
        let (status, said) = check(&[&bundle, "--key", &key]);
        assert!(status == 4 && said.contains("erased lawfully: no event here tells of it"), "{status} {said}");
        assert!(!check_in_python(&bundle, &key).0);
        checkpoint(&superuser).await;
        for arguments in [format!("'{ACME}'"), format!("'{ACME}', NULL, '{until}'")] {
            let bundle = folder.file("bundle", export(&superuser, &arguments).await);
            let (status, said) = check(&[&bundle, "--key", &key]);
            assert!(status == 0 && said.contains("of 1 the values were erased since"), "{status} {said}");
            let (good, said) = check_in_python(&bundle, &key);
            assert!(good, "{said}");
        }
    });
}

#[test]
fn a_checkpoint_from_before_is_continued_or_the_fork_is_found() {
    in_database(async |database| {
        let (superuser, folder) = (database.superuser().await, Folder::new(database));
        let mut notes = Vec::new();
        for round in 0..5 {
            run(
                &superuser,
                &format!(r#"INSERT INTO "Finding" ("organizationId", title) VALUES ('{ACME}', '{round}')"#),
            )
            .await;
            let number = checkpoint(&superuser).await;
            let note = value(&superuser, &format!("SELECT note FROM tenancy.checkpoint WHERE number = {number}")).await;
            notes.push((number, folder.file(&format!("note-{number}"), note)));
        }
        let key = public_key(&superuser).await;
        for (number, note) in &notes {
            let bundle = folder.file("bundle", export(&superuser, &format!("'{ACME}', earlier => {number}")).await);
            let (status, said) = check(&[&bundle, "--key", &key, "--earlier", note]);
            assert!(status == 0 && said.contains(&format!("your checkpoint {number} has changed")), "{status} {said}");
            assert!(check_in_python(&bundle, &key).0);
        }
        let bundle = folder.file("bundle", export(&superuser, &format!("'{ACME}'")).await);
        let (status, said) = check(&[&bundle, "--key", &key, "--earlier", &notes[0].1]);
        assert!(status == 4 && said.contains("export it with earlier =>"), "{status} {said}");

        // The entry of an earlier checkpoint is another one now: the log cannot begin with what was signed.
        let (number, note) = &notes[2];
        run(&superuser, "ALTER TABLE tenancy.checkpoint DISABLE TRIGGER append_only").await;
        run(&superuser, &format!("UPDATE tenancy.checkpoint SET digest = sha256('') WHERE number = {number}")).await;
        let bundle = folder.file("bundle", export(&superuser, &format!("'{ACME}', earlier => {number}")).await);
        let (status, said) = check(&[&bundle, "--key", &key, "--earlier", note]);
        assert!(status == 1 && said.contains("what was signed then has changed"), "{status} {said}");
        for wrong in [0, -1, 99] {
            let refusal =
                refused(&superuser, &format!("SELECT tenancy.export_evidence('{ACME}', earlier => {wrong})")).await;
            assert_eq!(refusal.sqlstate, "22023", "{refusal:?}");
        }
    });
}

#[test]
fn any_part_of_a_long_history_is_proved() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        for round in 0..9 {
            // Batches of one, two and three events, and one of more than a batch can have.
            let sql = format!(
                r#"DO $$ BEGIN
                     FOR n IN 1..(70 + {round}) LOOP
                         INSERT INTO "Finding" ("organizationId", title)
                         SELECT CASE WHEN n % 10 = 0 THEN '{GLOBEX}' ELSE '{ACME}' END::uuid, 'x'
                           FROM generate_series(0, n % 3);
                         UPDATE "Finding" SET title = n::text WHERE id = (SELECT max(id) FROM "Finding");
                     END LOOP;
                     UPDATE "Finding" SET title = 'y' WHERE id > (SELECT max(id) - 200 FROM "Finding");
                   END $$"#
            );
            run(&superuser, &sql).await;
            seal(&superuser).await;
        }
        checkpoint(&superuser).await;
        let key = Verifier::parse(&public_key(&superuser).await).unwrap();
        let expected = Expected { keys: vec![key], ..Expected::default() };
        let head = sealed_events(&superuser).await;
        let leaves = format!("SELECT max(leaf) FROM tenancy.entry WHERE organization = '{ACME}'");
        assert!(count(&superuser, &leaves).await > 520);
        for (first, last) in [
            (1, head),
            (1, 1),
            (head, head),
            (2, 255),
            (256, 256),
            (257, 512),
            (300, 999),
            (511, 1026),
            (head - 1, head),
            (head - 100, head - 90),
        ] {
            let at = |position| {
                format!(
                    "(SELECT occurred_at FROM tenancy.audit_trail WHERE organization = '{ACME}' AND position = \
                        {position})"
                )
            };
            let arguments = format!("'{ACME}', {}, {} + interval '1 us'", at(first), at(last));
            let text = export(&superuser, &arguments).await;
            let outcome = verify(text.as_bytes(), &expected).unwrap_or_else(|why| panic!("{first} to {last}: {why:?}"));
            assert_eq!(outcome.verdict(), Verdict::Proved, "{first} to {last}");
            let (from, to) = (outcome.manifest.first, outcome.manifest.last);
            // Whole batches, which have events of before and after the period.
            let outside = outcome.contents.outside_period as i64;
            assert!(
                from <= first && last <= to && first - from < 128 && to - last < 128,
                "{first} to {last} gave {from} to {to}"
            );
            assert!(to - from + 1 - outside < last - first + 4, "{first} to {last} gave {outside} outside");
            let batches: Vec<_> = lines(&text).into_iter().filter(|line| line["type"] == "batch").collect();
            for edge in [batches.first().unwrap(), batches.last().unwrap()] {
                let times: Vec<i64> = edge["events"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|event| event["occurred_at"].as_i64().unwrap())
                    .collect();
                let (after, before) = (outcome.manifest.from.unwrap(), outcome.manifest.to.unwrap());
                assert!(times.iter().any(|at| (after..before).contains(at)), "{first} to {last}: a batch too many");
            }
        }
        let none = export(&superuser, &format!("'{ACME}', '2020-01-01', '2020-02-01'")).await;
        let outcome = verify(none.as_bytes(), &expected).unwrap();
        assert_eq!((outcome.verdict(), outcome.contents.events), (Verdict::Proved, 0));
        let all = export(&superuser, &format!("'{GLOBEX}', '-infinity', NULL")).await;
        assert!(verify(all.as_bytes(), &expected).unwrap().contents.events > 100);
    });
}

#[test]
fn an_event_late_in_its_batch_is_found_by_its_time() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        run(
            &superuser,
            // Without a statement of its own, which would end the batch.
            r#"CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
                   'BEGIN IF pg_sleep(0.4) IS NULL THEN END IF; RETURN NULL; END';
               CREATE TRIGGER zz_slow AFTER INSERT ON "Finding" FOR EACH ROW EXECUTE FUNCTION slow()"#,
        )
        .await;
        let insert = format!(
            r#"INSERT INTO "Finding" ("organizationId", title) SELECT '{ACME}', 'slow' FROM generate_series(1, 5)"#
        );
        run(&superuser, &insert).await;
        checkpoint(&superuser).await;
        // A batch takes events for a second.
        let slow = format!("tenancy.audit_trail WHERE organization = '{ACME}' AND new_values ->> 'title' = 'slow'");
        let batches = format!("SELECT count(*) FROM {slow} GROUP BY batch ORDER BY batch");
        assert_eq!(column(&superuser, &batches).await, ["3", "2"]);
        let expected =
            Expected { keys: vec![Verifier::parse(&public_key(&superuser).await).unwrap()], ..Expected::default() };
        let places = column(&superuser, &format!("SELECT position FROM {slow} ORDER BY position")).await;
        for (number, begin) in [0, 0, 0, 3, 3].into_iter().enumerate() {
            let at = format!("(SELECT occurred_at FROM {slow} AND position = {})", places[number]);
            let text = export(&superuser, &format!("'{ACME}', {at}, {at} + interval '1 us'")).await;
            let outcome = verify(text.as_bytes(), &expected).unwrap();
            assert_eq!(outcome.verdict(), Verdict::Proved);
            assert_eq!(outcome.manifest.first.to_string(), places[begin], "{number}");
            let events = if begin == 0 { 3 } else { 2 };
            assert_eq!((outcome.contents.events, outcome.contents.outside_period), (events, events - 1), "{number}");
        }
        let between = format!("(SELECT occurred_at + interval '1 us' FROM {slow} AND position = {})", places[2]);
        let text = export(&superuser, &format!("'{ACME}', {between}, {between} + interval '1 us'")).await;
        assert_eq!(verify(text.as_bytes(), &expected).unwrap().contents.events, 0);
    });
}

#[test]
fn members_export_their_own_history_and_auditors_every_one() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        record(database, &superuser).await;
        run(&superuser, "CREATE ROLE test_auditor_of_bundles LOGIN IN ROLE tenancy_auditor").await;
        checkpoint(&superuser).await;
        let expected =
            Expected { keys: vec![Verifier::parse(&public_key(&superuser).await).unwrap()], ..Expected::default() };
        let (client, auditor) = (database.application().await, database.superuser().await);
        run(&auditor, "SET SESSION AUTHORIZATION test_auditor_of_bundles").await;

        let call = |organization| format!("SELECT tenancy.export_evidence('{organization}')");
        assert_eq!(refused(&client, &call(ACME)).await.sqlstate, "28000");
        as_tenant(&client, &database.token("victor")).await;
        assert_eq!(refused_within(&client, &call(ACME)).await.sqlstate, "42501", "a reader may not export");
        run(&client, "ROLLBACK").await;
        as_tenant(&client, &database.token("alice")).await;
        let foreign = refused_within(&client, &call(GLOBEX)).await;
        let unknown = refused_within(&client, &call(uuid::Uuid::from_u128(7))).await;
        assert_eq!(foreign.sqlstate, "42501");
        assert_eq!(foreign, unknown, "whether an organization is there is not told");
        let own = export(&client, &format!("'{ACME}'")).await;
        run(&client, "COMMIT").await;
        let outcome = verify(own.as_bytes(), &expected).unwrap();
        assert_eq!((outcome.verdict(), outcome.manifest.organization), (Verdict::Proved, ACME));
        assert!(outcome.contents.withheld > 0);
        assert_eq!(outcome.manifest.exporter.subject.as_deref(), Some("alice"));
        assert!(!own.contains("globex") && !own.contains(&GLOBEX.to_string()), "nothing of another organization");
        // The superuser who deleted a row, and how they connected.
        assert!(lines(&own).iter().filter(|line| line["type"] == "actor").all(|actor| actor["method"] == "token"));

        let all = export(&auditor, &format!("'{ACME}'")).await;
        let outcome = verify(all.as_bytes(), &expected).unwrap();
        assert_eq!((outcome.verdict(), outcome.contents.withheld), (Verdict::Proved, 0));
        assert!(lines(&all).iter().any(|line| line["type"] == "actor" && line["method"] == "none"));

        // Who exported is an event too.
        let recorded = "SELECT coalesce(subject, session_user_name) FROM tenancy.audit_trail WHERE operation = \
            'export' ORDER BY id";
        assert_eq!(column(&superuser, recorded).await, ["alice", "test_auditor_of_bundles"]);
        run(&auditor, "BEGIN READ ONLY").await;
        let again = export(&auditor, &format!("'{GLOBEX}'")).await;
        assert!(verify(again.as_bytes(), &expected).is_ok());
        run(&auditor, "ROLLBACK").await;
        run(&superuser, "DROP ROLE test_auditor_of_bundles").await;
    });
}

#[test]
fn a_period_is_exported_when_a_checkpoint_covers_it() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let call = |arguments: &str| format!("SELECT tenancy.export_evidence('{ACME}'{arguments})");
        assert_eq!(refused(&superuser, &call("")).await.sqlstate, "55000", "there is no checkpoint");
        checkpoint(&superuser).await;
        let change = format!(r#"INSERT INTO "Finding" ("organizationId", title) VALUES ('{ACME}', 'x')"#);
        run(&superuser, &change).await;
        let refusal = refused(&superuser, &call(", now() - interval '1 hour', now() + interval '1 hour'")).await;
        assert_eq!(
            (refusal.sqlstate.as_str(), refusal.hint.unwrap().contains("tenancy.checkpoint()")),
            ("55000", true)
        );
        seal(&superuser).await;
        let refusal = refused(&superuser, &call(", now() - interval '1 hour', now() + interval '1 hour'")).await;
        assert_eq!(refusal.sqlstate, "55000");
        checkpoint(&superuser).await;
        assert!(!rows(&superuser, &call(", now() - interval '1 hour', now() + interval '1 hour'")).await.is_empty());
        assert_eq!(refused(&superuser, &call(", now(), now() - interval '1 hour'")).await.sqlstate, "22023");
        assert_eq!(refused(&superuser, "SELECT tenancy.export_evidence(NULL)").await.sqlstate, "22004");
        let unknown = format!("SELECT tenancy.export_evidence('{}')", uuid::Uuid::from_u128(7));
        assert_eq!(refused(&superuser, &unknown).await.sqlstate, "55000");
        assert_eq!(rows(&superuser, &format!("{} LIMIT 1", call(""))).await.len(), 1, "who stops early stops");
        let in_from = format!("SELECT count(*) > 5 FROM tenancy.export_evidence('{ACME}')");
        assert_eq!(value(&superuser, &in_from).await, "t");
    });
}

#[test]
fn evidence_of_events_goes_with_them_whenever_it_was_registered() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        record(database, &superuser).await;
        seal(&superuser).await;
        let until = value(&superuser, "SELECT clock_timestamp()").await;
        let client = database.application().await;
        as_tenant(&client, &database.token("alice")).await;
        let event = event_of_several(&superuser).await;
        let add = |events: &str, source: &str| {
            format!("SELECT tenancy.add_evidence(sha256(''), 'text/plain', '{source}', events => '{{{events}}}')")
        };
        run(&client, &add(&event, "of the period")).await;
        run(&client, &add("", "of later")).await;
        run(&client, "COMMIT").await;
        checkpoint(&superuser).await;
        let text = export(&superuser, &format!("'{ACME}', '-infinity', '{until}'")).await;
        let expected =
            Expected { keys: vec![Verifier::parse(&public_key(&superuser).await).unwrap()], ..Expected::default() };
        let outcome = verify(text.as_bytes(), &expected).unwrap();
        assert_eq!(outcome.verdict(), Verdict::Proved);
        let sources: Vec<&str> = outcome.evidence.iter().map(|artifact| artifact.evidence.source.as_str()).collect();
        assert_eq!(sources, ["report.pdf", "of the period"]);
        assert!(outcome.evidence.iter().all(|artifact| artifact.in_history));
        assert_eq!(outcome.evidence[1].events_here, 1);
        // Registered and not in a checkpoint yet.
        as_tenant(&client, &database.token("alice")).await;
        run(&client, &add(&event, "of now")).await;
        run(&client, "COMMIT").await;
        let text = export(&superuser, &format!("'{ACME}'")).await;
        assert_eq!(verify(text.as_bytes(), &expected).unwrap().evidence.len(), 3);
    });
}
