//! A server that is killed in the middle of a rotation: before and after each write of each call, before its commit and
//! right after it. What is stored afterwards is what was before the call, or what is after it, as the client was told.

use std::time::Duration;

use crate::common::server::{Folder, Server, as_server, kill, programs, reconnect, succeeds};
use crate::common::*;
use crate::rotation::{assert_invariants, states};
use crate::secrets::{put, with_a_key};
use tokio_postgres::Client;

/// Calls one after another, and whether the server is killed in each. `%` is the secret.
const CALLS: [(&str, bool); 22] = [
    ("begin_rotation(%)", true),
    ("supply_value(%, 2, 'two')", true),
    ("report_health(%, 2, true)", true),
    ("promote(%, 2)", true),
    ("report_health(%, 2, true)", true),
    ("retire(%, 1, 'test')", true),
    ("begin_rotation(%, 'three')", true),
    ("report_health(%, 3, false)", true),
    ("retire(%, 3, 'test')", true),
    ("begin_rotation(%, 'four')", false),
    ("abandon_rotation(%, 'test')", true),
    ("begin_rotation(%, 'five')", false),
    ("report_health(%, 5, true)", false),
    ("promote(%, 5)", false),
    ("roll_back(%, 'test')", true),
    ("retire(%, 5, 'test')", false),
    ("set_secret_policy(%, NULL, NULL, NULL, NULL, '1 day', NULL, NULL)", true),
    ("begin_rotation(%, 'six')", false),
    ("report_health(%, 6, true)", false),
    ("promote(%, 6)", false),
    ("report_health(%, 6, false)", true),
    ("destroy_secret(%, 'test')", true),
];

/// Counts the statements that write the tables of a rotation, and kills at the one that the test chose.
const KILLER: &str = "
    CREATE SCHEMA crash;
    CREATE SEQUENCE crash.writes;
    CREATE TABLE crash.plan (write bigint, command text);
    INSERT INTO crash.plan VALUES (0, 'true');
    CREATE FUNCTION crash.count() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('crash.writes') = (SELECT write FROM crash.plan) THEN
            EXECUTE format('COPY (SELECT) TO PROGRAM %L', (SELECT command FROM crash.plan));
            PERFORM pg_sleep(60);
        END IF;
        RETURN NULL;
    END
    $$;
    DO $$
    DECLARE
        name text;
    BEGIN
        FOREACH name IN ARRAY '{secret,secret_version,sealed_value,rotation,health_report}'::text[] LOOP
            EXECUTE format('CREATE TRIGGER count_before BEFORE INSERT OR UPDATE OR DELETE ON tenancy.%I
                                FOR EACH STATEMENT EXECUTE FUNCTION crash.count()', name);
            EXECUTE format('CREATE TRIGGER count_after AFTER INSERT OR UPDATE OR DELETE ON tenancy.%I
                                FOR EACH STATEMENT EXECUTE FUNCTION crash.count()', name);
        END LOOP;
    END
    $$";

struct Victim {
    server: Server,
    folder: Folder,
    database: Database,
    superuser: Client,
}

#[derive(Clone, Copy)]
enum Killed {
    Backend,
    Postmaster,
}

impl Victim {
    async fn create(name: &str) -> Option<Self> {
        let folder = Folder::create(name)?;
        let server = Server::at(&programs()?, folder.0.join("data"));
        server.initialize();
        let script = r#"umask 077; echo "first $(head -c 32 /dev/urandom | base64)" >"$1""#;
        succeeds(as_server("sh").args(["-c", script, "sh"]).arg(folder.0.join("keys")));
        serve(&server, &folder);
        let database = Database::create(server.config()).await;
        let superuser = database.superuser().await;
        with_a_key(&superuser).await;
        Some(Victim { server, folder, database, superuser })
    }

    /// Has the server killed at a write of the next call; 0: at none.
    async fn plan(&self, write: u32, killed: Killed) {
        let command = match killed {
            Killed::Backend => "kill -9 $PPID".to_owned(),
            Killed::Postmaster => format!("kill -9 {} $PPID", self.server.postmaster()),
        };
        let sql = format!("UPDATE crash.plan SET write = {write}, command = '{command}'");
        run(&self.superuser, &format!("{sql}; SELECT setval('crash.writes', 1, false)")).await;
    }

    /// Kills the server while a session is in a transaction, or has just committed.
    async fn kill_now(&mut self, session: &str, killed: Killed) {
        let (postmaster, children) = (self.server.postmaster(), self.server.children());
        if let Killed::Postmaster = killed {
            kill(&postmaster);
        }
        kill(session);
        self.recover(killed, &postmaster, &children).await;
    }

    /// A session that does not wait for the disk by itself, and has begun as a member.
    async fn member(&self) -> Client {
        let client = self.database.application().await;
        run(&client, "SET synchronous_commit = off").await;
        as_tenant(&client, &self.database.token("alice")).await;
        client
    }

    /// Waits until a server that was killed is there again.
    async fn recover(&mut self, killed: Killed, postmaster: &str, children: &[String]) {
        if let Killed::Postmaster = killed {
            self.server.wait_for_the_end(postmaster, children).await;
            serve(&self.server, &self.folder);
        }
        // A connection of before the crash may still answer while the postmaster ends its processes.
        while self.superuser.simple_query("SELECT 1").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.superuser = reconnect(&self.database.config()).await;
    }
}

fn serve(server: &Server, folder: &Folder) {
    server.start(&format!(
        "-c unix_socket_directories={} -c shared_preload_libraries=pg_tenancy -c tenancy.seal_interval=0 \
         -c tenancy.secret_key_file={}/keys -c tenancy.jwks_directory={} -c wal_writer_delay=10s",
        std::env::var("PGHOST").unwrap(),
        folder.0.display(),
        server.data.display()
    ));
}

/// Kills the server at every moment of every call, and returns at how many writes.
async fn crash_through(victim: &mut Victim, killed: Killed) -> u32 {
    run(&victim.superuser, KILLER).await;
    let client = victim.member().await;
    put(&client, "aws", "one").await.unwrap();
    run(&client, "SELECT tenancy.set_secret_policy('aws', NULL, NULL, NULL, NULL, '0', NULL, NULL); COMMIT").await;
    let mut writes = 0;
    for (call, crashes) in CALLS {
        let sql = format!("SELECT tenancy.{}", call.replace('%', "'aws'"));
        let before = states(&victim.superuser, "aws").await;
        for write in 1.. {
            if !crashes {
                break;
            }
            victim.plan(write, killed).await;
            let (postmaster, children) = (victim.server.postmaster(), victim.server.children());
            let client = victim.member().await;
            let session = value(&client, "SELECT pg_backend_pid()").await;
            let done = client.simple_query(&sql).await;
            if let Err(error) = &done {
                assert!(error.as_db_error().is_none(), "{call}: {error:?}");
                victim.recover(killed, &postmaster, &children).await;
                writes += 1;
            } else {
                // It has no such write: all is done but the commit.
                victim.kill_now(&session, killed).await;
            }
            assert_eq!(states(&victim.superuser, "aws").await, before, "{call}, killed at its write {write}");
            assert_invariants(&victim.superuser).await;
            if done.is_ok() {
                break;
            }
        }
        victim.plan(0, killed).await;
        let client = victim.member().await;
        run(&client, &sql).await;
        let after = states(&client, "aws").await;
        let session = value(&client, "SELECT pg_backend_pid()").await;
        run(&client, "COMMIT").await;
        if crashes {
            victim.kill_now(&session, killed).await;
        }
        assert_eq!(states(&victim.superuser, "aws").await, after, "{call}, killed after its commit");
        assert_invariants(&victim.superuser).await;
    }
    let end = "retired retired retired retired retired retired; completed abandoned abandoned rolled_back rolled_back";
    assert_eq!(states(&victim.superuser, "aws").await, end, "no rule was lost on the way");
    seal_all(&victim.superuser).await;
    let events = "SELECT count(*) FROM tenancy.audit_trail WHERE domain = 'secret' AND result = 'success'";
    assert_eq!(
        count(&victim.superuser, events).await,
        2 + CALLS.len() as i64,
        "each call that was committed is an event"
    );
    assert_audit_is_whole(&victim.superuser).await;
    writes
}

fn survives(name: &str, killed: Killed) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(mut victim) = Victim::create(name).await else {
            skipped("no programs of a server to start");
            return;
        };
        let writes = crash_through(&mut victim, killed).await;
        assert!(writes > 60, "killed at {writes} writes only");
    });
}

#[test]
fn a_backend_that_is_killed_at_any_write_leaves_a_secret_with_a_current_value() {
    survives("rotation-backend", Killed::Backend);
}

#[test]
fn a_postmaster_that_is_killed_at_any_write_leaves_a_secret_with_a_current_value() {
    survives("rotation-postmaster", Killed::Postmaster);
}
