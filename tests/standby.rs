//! A streaming standby of the test server: it lets in whom the primary lets in, and writes nothing. Once it is promoted
//! it goes on with what the primary has begun.

use std::path::PathBuf;

use crate::action_types::act;
use crate::common::server::{Folder, Server, as_server, programs, succeeds};
use crate::common::*;
use crate::rotation::{CALLS, assert_invariants, call, states};
use crate::secrets::{put, reveal, with_a_key};
use tokio_postgres::{Client, Config};

const FINDINGS: &str = r#"SELECT count(*) FROM "Finding""#;

/// A server of the test's own that follows the one of the environment. Its end takes it down.
pub struct Standby {
    server: Server,
    folder: Folder,
}

impl Standby {
    /// Copies the running server and starts the copy; `None` where there is no server whose files one may copy.
    pub fn start() -> Option<Self> {
        let standby = Standby::copy("standby")?;
        standby.server.start("");
        Some(standby)
    }

    /// Copies the running server into a folder of that name.
    fn copy(name: &str) -> Option<Self> {
        let folder = Folder::create(name)?;
        let server = Server::at(&programs()?, folder.0.join("data"));
        let primary = |name: &str| std::env::var(name).unwrap();
        let mut copy = server.program("pg_basebackup");
        copy.args(["-R", "-c", "fast", "-h", &primary("PGHOST"), "-p", &primary("PGPORT"), "-D"]).arg(&server.data);
        succeeds(&mut copy);
        Some(Standby { server, folder })
    }

    /// Where a key file of its own is.
    fn key_file(&self) -> PathBuf {
        self.folder.0.join("secret_keys")
    }

    fn config(&self, database: &Database) -> Config {
        let mut config = self.server.config();
        config.dbname(&database.name);
        config
    }

    pub async fn application(&self, database: &Database) -> Client {
        connect(self.config(database).user(APPLICATION)).await
    }
}

/// Waits until the standby has replayed what the primary has written so far.
pub async fn catch_up(primary: &Client, standby: &Client) {
    let written = value(primary, "SELECT pg_current_wal_flush_lsn()").await;
    eventually(standby, &format!("SELECT pg_last_wal_replay_lsn() >= '{written}'")).await;
}

#[test]
fn a_standby_lets_in_whom_the_primary_lets_in_and_writes_nothing() {
    in_database(async |database| {
        let Some(standby) = Standby::start() else {
            skipped("the server is not one to be copied");
            return;
        };
        let primary = database.superuser().await;
        let reader = connect(&standby.config(database)).await;
        let grant =
            format!("GRANT EXECUTE ON FUNCTION tenancy.authenticate_session(text, uuid, text) TO {APPLICATION}");
        run(&primary, &grant).await;
        catch_up(&primary, &reader).await;
        assert_eq!(value(&reader, "SELECT pg_is_in_recovery()").await, "t");

        // In a transaction.
        let client = standby.application(database).await;
        assert_eq!(refused(&client, FINDINGS).await.sqlstate, "28000");
        for (subject, findings) in [("alice", 5), ("bob", 7)] {
            as_tenant(&client, &database.token(subject)).await;
            assert_eq!(count(&client, FINDINGS).await, findings);
            run(&client, "COMMIT").await;
        }
        as_tenant(&client, &database.token("alice")).await;
        assert_eq!(authenticate(&client, &database.token("bob")).await.unwrap_err().sqlstate, "28000");
        run(&client, "ROLLBACK").await;

        // What is there can be verified, by several processes too, though nothing can be sealed or written down.
        let verify = "SELECT count(*) FROM tenancy.verify_audit(whole => true, workers => 2)";
        assert_eq!(count(&reader, verify).await, 0);

        // In a session, which asks again once the suspension has arrived.
        let session = standby.application(database).await;
        session.execute("SELECT tenancy.authenticate_session($1)", &[&database.token("alice")]).await.unwrap();
        let forced = if major() < 16 { "force_parallel_mode" } else { "debug_parallel_query" };
        for mode in ["off", "on"] {
            run(&session, &format!("SET {forced} = {mode}")).await;
            assert_eq!(count(&session, FINDINGS).await, 5, "parallel: {mode}");
        }
        // A verdict that a session has in memory ends with it as well: one from memory reads no table.
        let read = "SELECT coalesce(idx_scan, 0) FROM pg_stat_xact_all_tables
                     WHERE relid = 'tenancy.membership'::regclass";
        let (token, mut scans) = (database.token("alice"), 1);
        for _ in 0..100 {
            run(&reader, "BEGIN").await;
            let before = count(&reader, read).await;
            authenticate(&reader, &token).await.unwrap();
            scans = count(&reader, read).await - before;
            run(&reader, "COMMIT").await;
            if scans == 0 {
                break;
            }
        }
        assert_eq!(scans, 0, "never remembered");
        run(&primary, &format!("SELECT tenancy.set_membership('{ACME}', 'alice', 'admin', status => 'suspended')"))
            .await;
        catch_up(&primary, &reader).await;
        assert!(refused(&session, FINDINGS).await.message.contains("membership"));
        assert_eq!(authenticate(&client, &token).await.unwrap_err().sqlstate, "28000");
        assert_eq!(authenticate(&reader, &token).await.unwrap_err().sqlstate, "28000");

        // What must write says so.
        for sql in
            ["SELECT tenancy.seal()", "SELECT tenancy.create_role('x')", r#"SELECT tenancy.unprotect('"Finding"')"#]
        {
            let refusal = refused(&reader, sql).await;
            assert_eq!(refusal.sqlstate, "25006", "{sql}: {refusal:?}");
        }
        assert!(refused(&reader, "SELECT tenancy.seal()").await.hint.unwrap().contains("primary"));
        assert_eq!(refused(&primary, "BEGIN READ ONLY; SELECT tenancy.seal()").await.sqlstate, "25006");
        run(&primary, "ROLLBACK").await;
        assert_eq!(findings(&reader).await, []);
    });
}

#[test]
fn what_is_excepted_is_told_on_a_standby_and_nothing_is_asked_or_decided_there() {
    in_database(async |database| {
        let Some(standby) = Standby::copy("controls_standby") else {
            skipped("the server is not one to be copied");
            return;
        };
        standby.server.start("");
        let (primary, writer) = (database.superuser().await, database.application().await);
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        run(&primary, &format!("SELECT tenancy.set_membership('{ACME}', 'dora', 'admin')")).await;
        let add =
            "SELECT tenancy.add_exception('finding', 't', 'a reason that says enough', now() + interval '9 days')";
        let exception = act(&writer, &alice, add).await.unwrap();
        act(&writer, &dora, &format!("SELECT tenancy.decide_exception('{exception}', true, 'test')")).await.unwrap();
        let open = "SELECT tenancy.open_review('exceptions', 'test', now() + interval '9 days')";
        let review = act(&writer, &alice, open).await.unwrap();
        let reader = standby.application(database).await;
        catch_up(&primary, &connect(&standby.config(database)).await).await;
        let asked = "SELECT tenancy.is_excepted('finding', 't')";
        assert_eq!(act(&reader, &alice, asked).await.unwrap(), "t");
        let row = "SELECT (tenancy.exception_of('finding', 't')).id";
        assert_eq!(act(&reader, &alice, row).await.unwrap(), exception);
        for sql in [
            add.to_owned(),
            format!("SELECT tenancy.decide_exception('{exception}', true, 'test')"),
            format!("SELECT tenancy.amend_exception('{exception}', now() + interval '10 days')"),
            format!("SELECT tenancy.revoke_exception('{exception}', 'test')"),
            open.to_owned(),
            format!("SELECT tenancy.decide('{review}', 1, 'keep', 'test')"),
            format!("SELECT tenancy.close_review('{review}')"),
            format!("SELECT tenancy.cancel_review('{review}', 'test')"),
            "SELECT tenancy.schedule_review('memberships', '30 days', '9 days')".to_owned(),
            "SELECT tenancy.add_member('new', 'viewer')".to_owned(),
            "SELECT tenancy.define_role('own', '{finding:read}')".to_owned(),
        ] {
            let refusal = act(&reader, &alice, &sql).await.unwrap_err();
            assert_eq!(refusal.sqlstate, "25006", "{sql}: {}", refusal.message);
        }
        // What ends on the primary ends here as soon as it is replayed, also within an open transaction.
        as_tenant(&reader, &alice).await;
        assert_eq!(value(&reader, asked).await, "t");
        act(&writer, &dora, &format!("SELECT tenancy.revoke_exception('{exception}', 'test')")).await.unwrap();
        eventually(&reader, "SELECT NOT tenancy.is_excepted('finding', 't')").await;
        run(&reader, "COMMIT").await;
    });
}

#[test]
fn a_rotation_goes_on_where_it_was_on_a_standby_that_is_promoted() {
    in_database(async |database| {
        let Some(standby) = Standby::copy("promoted") else {
            skipped("the server is not one to be copied");
            return;
        };
        let (superuser, alice) = (database.superuser().await, database.token("alice"));
        with_a_key(&superuser).await;
        let client = database.application().await;
        as_tenant(&client, &alice).await;
        put(&client, "aws", "first").await.unwrap();
        let role = r#"{"role_arn": "arn:aws:iam::123456789012:role/costs"}"#;
        client.query_one("SELECT tenancy.put_secret('role', $1, 'aws_role')", &[&role]).await.unwrap();
        let external_id = value(&client, "SELECT tenancy.external_id('role')").await;
        run(&client, "SELECT tenancy.set_secret_policy('aws', NULL, NULL, NULL, 2, '0', NULL, NULL); COMMIT").await;
        as_tenant(&client, &alice).await;
        client.query_one("SELECT tenancy.begin_rotation('aws', $1)", &[&"second"]).await.unwrap();
        run(&client, "SELECT tenancy.report_health('aws', 2, true); COMMIT").await;
        let pending = "current pending; open";
        assert_eq!(states(&superuser, "aws").await, pending);

        // It has all of it but the key file.
        standby.server.start(&format!("-c tenancy.secret_key_file={}", standby.key_file().display()));
        let reader = connect(&standby.config(database)).await;
        let application = standby.application(database).await;
        let reveal_while = async |state: &str| {
            run(&superuser, &format!("SELECT tenancy.set_guardrail('unrecorded_reveal', '{state}', 'test')")).await;
            catch_up(&superuser, &reader).await;
            as_tenant(&application, &alice).await;
            let revealed = reveal(&application, "aws").await;
            run(&application, "ROLLBACK").await;
            revealed
        };
        let missing = reveal_while("off").await.unwrap_err();
        assert_eq!((missing.sqlstate.as_str(), missing.message.contains("\"first\"")), ("F0000", true), "{missing:?}");
        let original = PathBuf::from(std::env::var_os("PG_TENANCY_DATA").unwrap()).with_file_name("secret_keys");
        succeeds(as_server("cp").arg("-p").arg(original).arg(standby.key_file()));
        for state in ["off", "warn"] {
            assert_eq!(reveal_while(state).await.as_deref(), Ok("first"), "{state}");
        }
        let unrecorded = reveal_while("enforce").await.unwrap_err();
        assert_eq!((unrecorded.sqlstate.as_str(), unrecorded.message.contains("cannot be recorded")), ("55000", true));

        // What would write says so, and what reads works.
        as_tenant(&application, &alice).await;
        let others = ["put_secret('gcp', 'v')", "destroy_secret(%, 'x')", "secret_recipient()"];
        let policy = "set_secret_policy(%, NULL, NULL, NULL, NULL, NULL, NULL, NULL)";
        for each in CALLS.into_iter().chain(others).chain([policy]) {
            assert_eq!(refused_within(&application, &call(each, "aws")).await.sqlstate, "25006", "{each}");
        }
        assert_eq!(value(&application, "SELECT tenancy.external_id('role')").await, external_id);
        run(&application, "COMMIT").await;
        assert_eq!(states(&reader, "aws").await, pending);
        assert_eq!(count(&reader, "SELECT count(*) FROM tenancy.verify_secrets()").await, 0);

        run(&reader, "SELECT pg_promote()").await;
        assert_eq!(value(&reader, "SELECT pg_is_in_recovery()").await, "f");
        for (step, answer, after) in [
            ("report_health(%, 2, true)", "verified", "current verified; open"),
            ("promote(%, 2)", "1", "previous current; observing"),
            ("report_health(%, 2, true)", "current", "previous current; observing"),
            ("retire(%, 1, 'rotated')", "", "retired current; completed"),
        ] {
            as_tenant(&application, &alice).await;
            assert_eq!(value(&application, &call(step, "aws")).await, answer, "{step}");
            run(&application, "COMMIT").await;
            assert_eq!(states(&reader, "aws").await, after, "{step}");
            assert_invariants(&reader).await;
        }
        as_tenant(&application, &alice).await;
        assert_eq!(reveal(&application, "aws").await.as_deref(), Ok("second"), "it is recorded now");
        put(&application, "gcp", "new").await.unwrap();
        run(&application, "COMMIT").await;
        assert_eq!(count(&reader, "SELECT count(*) FROM tenancy.verify_secrets()").await, 0);
        run(&reader, "SELECT tenancy.seal()").await;
        seal_all(&reader).await;
        let events = "SELECT string_agg(operation, ' ' ORDER BY occurred_at, id) FROM tenancy.audit_trail
                       WHERE domain = 'secret' AND result = 'success' AND new_values ->> 'name' = 'aws'";
        let told = "put policy begin_rotation health health promote health retire reveal";
        assert_eq!(value(&reader, events).await, told, "of both servers, and none of the standby");
        assert_audit_is_whole(&reader).await;
        // The old primary goes on with what it had.
        assert_eq!(states(&superuser, "aws").await, pending);
    });
}
