//! Verdicts that a session remembers: when they are told from memory, and what makes each of them be found out anew.
//!
//! A verdict from memory reads no table, so the scans that Postgres counts in the transaction tell one from the other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::issuer::{AUDIENCE, ISSUER};
use crate::common::*;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;

/// How a token was admitted.
#[derive(Debug, PartialEq, Clone, Copy)]
enum Way {
    FromMemory,
    Anew,
}
use Way::{Anew, FromMemory};

const SUSPEND: &str = "UPDATE tenancy.membership SET status = 'suspended' WHERE subject = 'alice'";
const ACTIVATE: &str = "UPDATE tenancy.membership SET status = 'active' WHERE subject = 'alice'";

/// Scans of a table in the transaction that is open.
async fn scans(client: &Client, table: &str) -> i64 {
    let sql = format!(
        "SELECT coalesce(seq_scan, 0) + coalesce(idx_scan, 0) FROM pg_stat_xact_all_tables
          WHERE relid = 'tenancy.{table}'::regclass"
    );
    count(client, &sql).await
}

/// Admits a token in a transaction of its own, or says why not.
async fn admit(client: &Client, token: &str, organization: Option<Uuid>) -> Result<Way, String> {
    run(client, "BEGIN").await;
    let before = scans(client, "membership").await;
    let admitted = client.execute("SELECT tenancy.authenticate($1, $2)", &[&token, &organization]).await;
    let way = match admitted {
        Ok(_) if scans(client, "membership").await == before => Ok(FromMemory),
        Ok(_) => Ok(Anew),
        Err(error) => Err(Refusal::of(&error).message),
    };
    run(client, "ROLLBACK").await;
    way
}

async fn way(client: &Client, token: &str) -> Result<Way, String> {
    admit(client, token, None).await
}

/// Admits the token until that is from memory: what other tests do to the server, such as an overflow of its messages,
/// may empty the memory at any time.
async fn remember(client: &Client, token: &str) {
    for _ in 0..100 {
        if way(client, token).await == Ok(FromMemory) {
            return;
        }
    }
    panic!("never remembered");
}

async fn assert_refused(client: &Client, token: &str, case: &str) {
    assert!(way(client, token).await.is_err(), "{case}: admitted");
}

/// The tables whose changes are announced.
async fn announced(superuser: &Client) -> Vec<String> {
    let sql = "SELECT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
                WHERE t.tgfoid = 'tenancy.announce_identity_change'::regproc AND t.tgenabled = 'A' ORDER BY 1";
    column(superuser, sql).await
}

/// An issuer with every kind of claim, an organization that enforces single sign-on, and the token of a member.
async fn with_everything(database: &Database, superuser: &Client) -> String {
    run(
        superuser,
        &format!(
            "UPDATE tenancy.issuer SET organization_claim = '/org', role_claim = '/role', role_rule = 'narrower';
             SELECT tenancy.set_external_organization('{ACME}', '{ISSUER}', 'org_1');
             SELECT tenancy.set_external_role('{ISSUER}', 'org:admin', 'admin');
             SELECT tenancy.retire_key('{ISSUER}', 'HS256', 'infinity');
             SELECT tenancy.revoke_session('{ISSUER}', 'of nobody'), tenancy.revoke_subject('{ISSUER}', 'nobody');
             SELECT tenancy.set_guardrail('dormant_member', 'off', 'test');
             INSERT INTO tenancy.sso_connection (organization, name, issuer, state, break_glass_issuer,
                 break_glass_subject) VALUES ('{ACME}', 'sso', '{ISSUER}', 'enforced', '{ISSUER}', 'alice');
             INSERT INTO tenancy.sso_domain (connection, organization, name, challenge, verified_at, verified_by)
                 SELECT id, organization, 'acme.example', 'x', now(), 'test' FROM tenancy.sso_connection"
        ),
    )
    .await;
    let mut claims = database.issuer.claims("alice");
    for (name, value) in [("org", "org_1"), ("role", "org:admin"), ("email", "alice@acme.example")] {
        claims[name] = json!(value);
    }
    database.issuer.sign(Algorithm::HS256, &claims)
}

#[test]
fn every_table_that_a_verdict_was_read_from_announces_its_changes() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let token = with_everything(database, &superuser).await;
        let announced = announced(&superuser).await;
        let fresh = database.superuser().await;
        run(&fresh, "BEGIN").await;
        fresh.execute("SELECT tenancy.authenticate($1)", &[&token]).await.unwrap();
        let read = "SELECT relname FROM pg_stat_xact_all_tables
                     WHERE schemaname = 'tenancy' AND relname <> 'sensitive_table' AND coalesce(seq_scan, 0) + \
                         coalesce(idx_scan, 0) > 0 ORDER BY 1";
        assert_eq!(column(&fresh, read).await, announced);
    });
}

#[test]
fn a_change_of_any_table_behind_a_verdict_has_it_found_out_anew() {
    in_database(async |database| {
        let (client, superuser) = (database.superuser().await, database.superuser().await);
        let token = with_everything(database, &superuser).await;
        run(&superuser, "ALTER TABLE tenancy.guardrail DISABLE TRIGGER keep_controls").await;
        for table in announced(&superuser).await {
            let row = format!("ctid = (SELECT max(ctid) FROM tenancy.{table})");
            let column = format!(
                "SELECT quote_ident(attname) FROM pg_attribute
                  WHERE attrelid = 'tenancy.{table}'::regclass AND attnum = 1"
            );
            let column = value(&superuser, &column).await;
            // What other tests do to the server may empty the memory in between; a change that is told too early does
            // so each time.
            let mut attempts = 5;
            loop {
                remember(&client, &token).await;
                run(&superuser, "BEGIN").await;
                // An update of a row to what it was is a change as well.
                let update = format!("UPDATE tenancy.{table} SET {column} = {column} WHERE {row}");
                assert_eq!(changed(&superuser, &update).await, 1);
                attempts -= 1;
                let found = way(&client, &token).await;
                if found == Ok(FromMemory) {
                    break;
                }
                assert!(found == Ok(Anew) && attempts > 0, "{table}: not committed yet, and {found:?}");
                run(&superuser, "ROLLBACK").await;
            }
            run(&superuser, "COMMIT").await;
            assert_eq!(way(&client, &token).await, Ok(Anew), "{table}");
        }
    });
}

#[test]
fn other_tables_and_other_databases_leave_the_memory_alone() {
    in_database(async |database| {
        let (client, superuser) = (database.superuser().await, database.superuser().await);
        let token = database.token("alice");
        remember(&client, &token).await;
        let mut kept = 0;
        for _ in 0..5 {
            run(&superuser, "CREATE TABLE public.other (id int); DROP TABLE public.other; SELECT tenancy.seal()").await;
            kept += i32::from(way(&client, &token).await == Ok(FromMemory));
        }
        assert!(kept > 0, "each change of any table emptied the memory");
    });
}

#[test]
fn every_way_to_change_a_row_ends_a_remembered_admission() {
    in_database(async |database| {
        let (client, superuser) = (database.superuser().await, database.superuser().await);
        let token = database.token("alice");
        let name = &database.name;
        run(&superuser, "CREATE TABLE public.kept AS TABLE tenancy.membership").await;
        run(&superuser, &format!("SELECT tenancy.revoke_subject('{ISSUER}', 'alice', '2000-01-01')")).await;
        // A trigger on a column keeps the column's type.
        run(&superuser, "SET tenancy.override_reason = 'a test'").await;
        run(&superuser, "DROP TRIGGER audit_row ON tenancy.revoked_subject").await;
        run(&superuser, "ALTER TABLE tenancy.member_activity DISABLE TRIGGER keep_member_activity").await;
        let again = "SET session_replication_role = origin; DELETE FROM tenancy.revoked_session;
                     UPDATE tenancy.revoked_subject SET issued_before = '2000-01-01';
                     DELETE FROM tenancy.membership; INSERT INTO tenancy.membership SELECT * FROM public.kept";
        let replica = "SET session_replication_role = replica";
        let revoke = format!("COPY (SELECT '{ISSUER}', 'session of alice') TO PROGRAM 'cat > /tmp/{name}.copy'");
        run(&superuser, &revoke).await;
        for change in [
            SUSPEND.to_owned(),
            format!("{replica}; {SUSPEND}"),
            format!("{replica}; DELETE FROM tenancy.membership WHERE subject = 'alice'"),
            "TRUNCATE tenancy.membership CASCADE".to_owned(),
            format!("{replica}; TRUNCATE tenancy.membership CASCADE"),
            format!("COPY tenancy.revoked_session (issuer, session_id) FROM '/tmp/{name}.copy'"),
            format!("{replica}; COPY tenancy.revoked_session (issuer, session_id) FROM '/tmp/{name}.copy'"),
            format!("BEGIN; {SUSPEND}; PREPARE TRANSACTION '{name}'; COMMIT PREPARED '{name}'"),
            format!("BEGIN; SAVEPOINT s; {SUSPEND}; RELEASE s; COMMIT"),
            "ALTER TABLE tenancy.revoked_subject ALTER issued_before TYPE timestamptz USING 'tomorrow'".to_owned(),
        ] {
            remember(&client, &token).await;
            for statement in change.split("; ") {
                run(&superuser, statement).await;
            }
            assert_refused(&client, &token, &change).await;
            run(&superuser, again).await;
        }
        run(&superuser, &format!("COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; rm /tmp/{name}.copy'")).await;
    });
}

#[test]
fn a_prepared_suspension_counts_from_its_commit_on() {
    in_database(async |database| {
        let (client, superuser) = (database.superuser().await, database.superuser().await);
        let (token, name) = (database.token("alice"), &database.name);
        for outcome in ["ROLLBACK", "COMMIT"] {
            remember(&client, &token).await;
            for sql in ["BEGIN", SUSPEND, &format!("PREPARE TRANSACTION '{name}'")] {
                run(&superuser, sql).await;
            }
            assert!(way(&client, &token).await.is_ok(), "prepared only");
            // Whoever commits it.
            run(&database.superuser().await, &format!("{outcome} PREPARED '{name}'")).await;
            assert_eq!(way(&client, &token).await.is_ok(), outcome == "ROLLBACK");
        }
    });
}

#[test]
fn a_transaction_sees_its_own_changes_and_leaves_none_of_them_in_memory() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let (token, stranger) = (database.token("alice"), database.token("dora"));
        let admitted = async |token: &str| {
            run(&superuser, "SAVEPOINT sign_in").await;
            let admitted = authenticate(&superuser, token).await.is_ok();
            run(&superuser, "ROLLBACK TO sign_in").await;
            admitted
        };
        remember(&superuser, &token).await;
        run(&superuser, "BEGIN; SAVEPOINT s").await;
        run(&superuser, SUSPEND).await;
        assert!(!admitted(&token).await, "its own suspension");
        run(&superuser, "ROLLBACK TO s").await;
        assert!(admitted(&token).await, "rolled back to the savepoint");
        run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'dora', 'admin')")).await;
        assert!(admitted(&stranger).await, "its own member");
        run(&superuser, "ROLLBACK").await;
        assert!(way(&superuser, &token).await.is_ok());
        assert_refused(&superuser, &stranger, "a member who never was").await;
    });
}

/// A function that a statement can sign in with in the middle of its work.
async fn with_question(superuser: &Client) {
    run(
        superuser,
        "CREATE FUNCTION public.asked(token text) RETURNS text LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM 1;
             PERFORM tenancy.authenticate(token);
             RETURN 'admitted';
         EXCEPTION WHEN invalid_authorization_specification THEN
             RETURN 'refused';
         END $$",
    )
    .await;
}

/// A statement that changes a table and asks in the middle of it, before its triggers fire.
#[test]
fn what_a_statement_saw_of_its_own_rows_before_it_failed_is_not_remembered() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let (token, stranger) = (database.token("alice"), database.token("dora"));
        with_question(&superuser).await;
        remember(&superuser, &token).await;
        let asked = "WITH changed AS (UPDATE tenancy.membership SET status = 'suspended' WHERE subject = 'alice'
                                       RETURNING public.asked($1) AS answer)
                     SELECT answer FROM changed";
        run(&superuser, "BEGIN").await;
        let answer: String = superuser.query_one(asked, &[&token]).await.unwrap().get(0);
        assert_eq!(answer, "refused", "by the statement's own change");
        run(&superuser, "ROLLBACK").await;
        let failing = format!(
            "WITH added AS (INSERT INTO tenancy.membership (organization, issuer, subject, role)
                            VALUES ('{ACME}', '{ISSUER}', 'dora', 'admin') RETURNING public.asked($1) AS answer)
             SELECT 1 / (answer <> 'admitted')::int FROM added"
        );
        assert_eq!(Refusal::of(&superuser.query(&failing, &[&stranger]).await.unwrap_err()).sqlstate, "22012");
        assert_refused(&superuser, &stranger, "a member who never was").await;
    });
}

#[test]
fn nothing_is_remembered_while_a_trigger_may_not_fire() {
    in_database(async |database| {
        let (client, superuser) = (database.superuser().await, database.superuser().await);
        let token = database.token("alice");
        run(&superuser, "SET tenancy.override_reason = 'a test'").await;
        let trigger = "ALTER TABLE tenancy.membership";
        for (off, on) in [
            ("DISABLE TRIGGER announce_identity_change", "ENABLE ALWAYS TRIGGER announce_identity_change"),
            ("ENABLE TRIGGER announce_identity_change", "ENABLE ALWAYS TRIGGER announce_identity_change"),
            ("ENABLE REPLICA TRIGGER announce_identity_change", "ENABLE ALWAYS TRIGGER announce_identity_change"),
            ("DISABLE TRIGGER ALL", "ENABLE TRIGGER ALL, ENABLE ALWAYS TRIGGER announce_identity_change"),
        ] {
            remember(&client, &token).await;
            run(&superuser, &format!("{trigger} {off}")).await;
            for _ in 0..2 {
                assert_eq!(way(&client, &token).await, Ok(Anew), "{off}");
            }
            // The change, by whoever does it, is seen at once.
            for role in ["origin", "replica"] {
                run(&superuser, &format!("SET session_replication_role = {role}")).await;
                run(&superuser, SUSPEND).await;
                assert_refused(&client, &token, off).await;
                run(&superuser, ACTIVATE).await;
                assert_eq!(way(&client, &token).await, Ok(Anew), "{off}");
            }
            run(&superuser, "SET session_replication_role = origin").await;
            run(&superuser, &format!("{trigger} {on}")).await;
            // Off and on again around a change.
            remember(&client, &token).await;
            run(&superuser, &format!("BEGIN; {trigger} {off}; {SUSPEND}; {trigger} {on}; COMMIT")).await;
            assert_refused(&client, &token, off).await;
            run(&superuser, ACTIVATE).await;
        }
        run(&superuser, "DROP TRIGGER announce_identity_change ON tenancy.membership").await;
        assert_eq!(way(&client, &token).await, Ok(Anew));
        assert_eq!(way(&client, &token).await, Ok(Anew));
    });
}

/// A token of alice that no session has seen, of the same organization, role and login each time.
fn new_token(database: &Database) -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut claims = database.issuer.claims("alice");
    for (name, value) in [("org", json!("org_1")), ("role", json!("helper")), ("number", json!(number))] {
        claims[name] = value;
    }
    database.issuer.sign(Algorithm::HS256, &claims)
}

/// What a token that was never seen gives, and which tables are read for it.
async fn sign_in(client: &Client, database: &Database) -> (String, Vec<String>) {
    let counted = "SELECT relname || ' ' || coalesce(seq_scan, 0) + coalesce(idx_scan, 0)
                     FROM pg_stat_xact_all_tables WHERE schemaname = 'tenancy' ORDER BY 1";
    run(client, "BEGIN").await;
    let before = column(client, counted).await;
    let given = match client.execute("SELECT tenancy.authenticate($1)", &[&new_token(database)]).await {
        Ok(_) => {
            let who = whoami(client).await;
            json!([who["organization"], who["role"], who["permissions"]]).to_string()
        }
        Err(error) => {
            run(client, "ROLLBACK").await;
            return (Refusal::of(&error).message, Vec::new());
        }
    };
    let mut read = column(client, counted).await;
    run(client, "ROLLBACK").await;
    read.retain(|table| !before.contains(table));
    (given, read.into_iter().filter_map(|table| Some(table.split_once(' ')?.0.to_owned())).collect())
}

/// Signs in with new tokens until what they have in common is from memory; other tests may empty it at any time.
async fn with_rows_from_memory(client: &Client, database: &Database) -> (String, Vec<String>) {
    for _ in 0..100 {
        let (given, read) = sign_in(client, database).await;
        if !["issuer", "organization", "role", "role_permission"]
            .iter()
            .any(|table| read.contains(&(*table).to_owned()))
        {
            return (given, read);
        }
    }
    panic!("never from memory");
}

async fn with_names_of_the_issuer(superuser: &Client) {
    run(
        superuser,
        &format!(
            "UPDATE tenancy.issuer SET organization_claim = '/org', role_claim = '/role', role_rule = 'claim';
             SELECT tenancy.create_role('helper'), tenancy.grant_permission('helper', 'finding', 'read');
             SELECT tenancy.set_external_organization('{ACME}', '{ISSUER}', 'org_1')"
        ),
    )
    .await;
}

#[test]
fn a_new_token_has_its_membership_read_and_nothing_that_others_share() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        with_names_of_the_issuer(&superuser).await;
        assert_eq!(with_rows_from_memory(&superuser, database).await.1, ["membership"]);
        // Tables of revocations that hold rows are read, whatever is remembered.
        run(
            &superuser,
            &format!(
                "SELECT tenancy.revoke_session('{ISSUER}', 'of nobody'), tenancy.revoke_subject('{ISSUER}', 'nobody')"
            ),
        )
        .await;
        let read = with_rows_from_memory(&superuser, database).await.1;
        assert_eq!(read, ["membership", "revoked_session", "revoked_subject"]);
        // No rows are kept where none may be.
        let other = database.superuser().await;
        run(&other, "SET tenancy.token_cache_size = 0").await;
        sign_in(&other, database).await;
        assert!(sign_in(&other, database).await.1.contains(&"issuer".to_owned()));
    });
}

#[test]
fn a_new_token_meets_each_change_of_the_rows_that_others_share() {
    in_database(async |database| {
        let (client, superuser) = (database.superuser().await, database.superuser().await);
        with_names_of_the_issuer(&superuser).await;
        let connection = format!(
            "INSERT INTO tenancy.sso_connection (organization, name, issuer, state, break_glass_issuer,
                 break_glass_subject) VALUES ('{ACME}', 'sso', '{ISSUER}', 'enforced', '{ISSUER}', 'nobody');
             UPDATE tenancy.sso_connection SET accepted_amr = '{{never}}'"
        );
        let revoked_session = format!("SELECT tenancy.revoke_session('{ISSUER}', 'session of alice')");
        let revoked_subject = format!("SELECT tenancy.revoke_subject('{ISSUER}', 'alice', now() + interval '1 hour')");
        let changes = [
            ("UPDATE tenancy.issuer SET status = 'disabled'", "UPDATE tenancy.issuer SET status = 'active'"),
            (
                "UPDATE tenancy.organization SET status = 'suspended'",
                "UPDATE tenancy.organization SET status = 'active'",
            ),
            (
                "UPDATE tenancy.external_organization SET external_id = 'org_2'",
                "UPDATE tenancy.external_organization SET external_id = 'org_1'",
            ),
            (
                "DELETE FROM tenancy.role_permission WHERE role = 'helper'",
                "SELECT tenancy.grant_permission('helper', 'finding', 'read')",
            ),
            (
                "DELETE FROM tenancy.role WHERE name = 'helper'",
                "SELECT tenancy.create_role('helper'), tenancy.grant_permission('helper', 'finding', 'read')",
            ),
            (SUSPEND, ACTIVATE),
            (&connection, "DELETE FROM tenancy.sso_connection"),
            (&revoked_session, "DELETE FROM tenancy.revoked_session"),
            (&revoked_subject, "DELETE FROM tenancy.revoked_subject"),
        ];
        for (change, undo) in changes {
            let given = with_rows_from_memory(&client, database).await.0;
            for step in [change, undo] {
                let before = sign_in(&client, database).await.0;
                run(&superuser, "BEGIN").await;
                run(&superuser, step).await;
                assert_eq!(sign_in(&client, database).await.0, before, "{step}: not committed yet");
                run(&superuser, "COMMIT").await;
                let after = sign_in(&client, database).await.0;
                assert_ne!(after, before, "{step}: from memory");
                // A session that remembers nothing says the same.
                assert_eq!(after, sign_in(&database.superuser().await, database).await.0, "{step}");
            }
            assert_eq!(sign_in(&client, database).await.0, given, "{undo}");
        }
    });
}

#[test]
fn rows_that_a_transaction_wrote_and_rolled_back_are_not_remembered() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        with_names_of_the_issuer(&superuser).await;
        let given = with_rows_from_memory(&superuser, database).await.0;
        let own = [
            "UPDATE tenancy.organization SET status = 'suspended'",
            "SELECT tenancy.grant_permission('helper', 'finding', 'delete')",
            "UPDATE tenancy.issuer SET status = 'disabled'",
        ];
        for own in own {
            run(&superuser, "BEGIN; SAVEPOINT s").await;
            run(&superuser, own).await;
            let token = new_token(database);
            let within = match authenticate(&superuser, &token).await {
                Ok(()) => whoami(&superuser).await["permissions"].to_string(),
                Err(refusal) => refusal.message,
            };
            assert!(!given.contains(&within), "{own}: {within} is from memory");
            run(&superuser, "ROLLBACK").await;
            assert_eq!(sign_in(&superuser, database).await.0, given, "{own}");
        }
        // Before the triggers of the statement have fired, and then they never do.
        with_question(&superuser).await;
        let failing = "WITH changed AS (UPDATE tenancy.organization SET status = 'suspended'
                                         RETURNING public.asked($1) AS answer)
                       SELECT 1 / (answer <> 'refused')::int FROM changed";
        assert_eq!(with_rows_from_memory(&superuser, database).await.0, given);
        let failed = superuser.query(failing, &[&new_token(database)]).await.unwrap_err();
        assert_eq!(Refusal::of(&failed).sqlstate, "22012", "by the statement's own change");
        assert_eq!(sign_in(&superuser, database).await.0, given);
    });
}

#[test]
fn a_remembered_admission_ends_with_its_time() {
    in_database(async |database| {
        let (client, superuser) = (database.superuser().await, database.superuser().await);
        let (token, short) = (database.token("alice"), database.issuer.token_until("victor", 3));
        let member = format!(
            "SELECT tenancy.set_membership('{ACME}', 'alice', 'admin', valid_until => clock_timestamp() + interval \
                '3 s')"
        );
        run(&superuser, &member).await;
        let (old, other) = (database.superuser().await, database.issuer.claims("victor"));
        let retiring = database.issuer.sign(Algorithm::ES256, &other);
        run(&superuser, &format!("SELECT tenancy.retire_key('{ISSUER}', 'ES256', clock_timestamp() + interval '3 s')"))
            .await;
        for (client, token) in [(&client, &token), (&client, &short), (&old, &retiring)] {
            remember(client, token).await;
        }
        tokio::time::sleep(Duration::from_millis(3_100)).await;
        assert!(way(&client, &token).await.unwrap_err().contains("no active membership"));
        assert_eq!(way(&client, &short).await, Err("the token has expired".to_owned()));
        assert_eq!(way(&old, &retiring).await, Err("the key that signed the token is retired".to_owned()));
    });
}

#[test]
fn a_verdict_is_of_one_organization_and_each_call_has_its_own_correlation_id() {
    in_database(async |database| {
        let client = database.superuser().await;
        let token = database.token("carol");
        for round in 0..3 {
            for (organization, text) in [(ACME, "acme"), (GLOBEX, "globex")] {
                let request = format!("{round} \"{text}\"");
                run(&client, "BEGIN").await;
                let sql = "SELECT tenancy.authenticate($1, $2, $3)";
                client.execute(sql, &[&token, &organization, &request]).await.unwrap();
                let context = whoami(&client).await;
                assert_eq!(context["organization"], json!(organization.to_string()), "{context}");
                assert_eq!(value(&client, "SELECT tenancy.correlation_id()").await, request);
                assert_eq!(value(&client, "SELECT tenancy.org_id_text()").await, text);
                run(&client, "COMMIT").await;
            }
            assert!(way(&client, &token).await.unwrap_err().contains("several organizations"));
            assert!(admit(&client, &token, Some(INITECH)).await.is_err());
        }
        assert_eq!(admit(&client, &token, Some(ACME)).await, Ok(FromMemory));
    });
}

/// Registers so many issuers with the keys of the test's own, and makes tokens of a member of each.
async fn tokens_of_issuers(database: &Database, superuser: &Client, issuers: usize) -> Vec<String> {
    let keys = database.issuer.public_key_set();
    let mut tokens = Vec::new();
    for n in 0..issuers {
        let name = format!("https://{n}.example/");
        superuser.execute("SELECT tenancy.set_issuer($1, ARRAY[$2], $3)", &[&name, &AUDIENCE, &keys]).await.unwrap();
        let member = "SELECT tenancy.set_membership($1, 'alice', 'admin', $2)";
        superuser.execute(member, &[&ACME, &name]).await.unwrap();
        let claims = Value::Object({
            let mut claims = database.issuer.claims("alice").as_object().unwrap().clone();
            claims.insert("iss".into(), json!(name));
            claims
        });
        tokens.push(database.issuer.sign(Algorithm::ES256, &claims));
    }
    tokens
}

/// Waits until all of the tokens, in their order, are admitted from memory, which other tests may empty in between.
async fn all_remembered(client: &Client, tokens: &[String]) {
    for _ in 0..200 {
        if from_memory(client, tokens).await == tokens.len() {
            return;
        }
    }
    panic!("never were all remembered");
}

/// How many of the tokens are admitted from memory, in their order.
async fn from_memory(client: &Client, tokens: &[String]) -> usize {
    let mut remembered = 0;
    for token in tokens {
        remembered += usize::from(way(client, token).await.unwrap() == FromMemory);
    }
    remembered
}

#[test]
fn as_many_issuers_are_remembered_as_the_setting_says() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let tokens = tokens_of_issuers(database, &superuser, 80).await;
        all_remembered(&superuser, &tokens).await;
        // Round and round among more than there is room for, each is the one that was forgotten.
        let other = database.superuser().await;
        run(&other, "SET tenancy.issuer_cache_size = 79").await;
        from_memory(&other, &tokens).await;
        assert_eq!(from_memory(&other, &tokens).await, 0);
        all_remembered(&other, &tokens[1..]).await;
        // One more costs the one that was not used for longest, and not all. Other tests may empty the memory.
        let mut remembered = 0;
        for _ in 0..5 {
            all_remembered(&other, &tokens[1..]).await;
            from_memory(&other, &tokens[..1]).await;
            remembered = remembered.max(from_memory(&other, &tokens[2..]).await);
        }
        assert_eq!(remembered, 78);
    });
}

#[test]
fn as_many_tokens_are_remembered_as_the_setting_says() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let token = |n: usize| {
            let mut claims = database.issuer.claims("alice");
            claims["jti"] = json!(format!("token {n}"));
            database.issuer.sign(Algorithm::HS256, &claims)
        };
        let tokens: Vec<String> = (0..300).map(token).collect();
        all_remembered(&superuser, &tokens).await;
        let other = database.superuser().await;
        run(&other, "SET tenancy.token_cache_size = 50").await;
        from_memory(&other, &tokens[..51]).await;
        assert_eq!(from_memory(&other, &tokens[..51]).await, 0);
        all_remembered(&other, &tokens[1..51]).await;
        run(&other, "SET tenancy.token_cache_size = 0").await;
        assert_eq!(from_memory(&other, &tokens[51..53]).await, 0);
        assert_eq!(from_memory(&other, &tokens[51..53]).await, 0);
        let application = database.application().await;
        whoami(&application).await; // The library is loaded, by whatever way.
        assert_eq!(refused(&application, "SET tenancy.token_cache_size = 1").await.sqlstate, "42501");
    });
}
