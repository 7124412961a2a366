//! A streaming standby of the test server: it lets in whom the primary lets in, and writes nothing.

use crate::common::server::{Folder, Server, programs, succeeds};
use crate::common::*;
use tokio_postgres::{Client, Config};

const FINDINGS: &str = r#"SELECT count(*) FROM "Finding""#;

/// A server of the test's own that follows the one of the environment. Its end takes it down.
struct Standby {
    server: Server,
    _folder: Folder,
}

impl Standby {
    /// Copies the running server and starts the copy; `None` where there is no server whose files one may copy.
    fn start() -> Option<Self> {
        let folder = Folder::create("standby")?;
        let server = Server::at(&programs()?, folder.0.join("data"));
        let primary = |name: &str| std::env::var(name).unwrap();
        let mut copy = server.program("pg_basebackup");
        copy.args(["-R", "-c", "fast", "-h", &primary("PGHOST"), "-p", &primary("PGPORT"), "-D"]).arg(&server.data);
        succeeds(&mut copy);
        server.start("");
        Some(Standby { server, _folder: folder })
    }

    fn config(&self, database: &Database) -> Config {
        let mut config = self.server.config();
        config.dbname(&database.name);
        config
    }

    async fn application(&self, database: &Database) -> Client {
        connect(self.config(database).user(APPLICATION)).await
    }
}

/// Waits until the standby has replayed what the primary has written so far.
async fn catch_up(primary: &Client, standby: &Client) {
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
