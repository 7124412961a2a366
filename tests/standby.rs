//! A streaming standby of the test server: it lets in whom the primary lets in, and writes nothing.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;
use tokio_postgres::{Client, Config};

const FINDINGS: &str = r#"SELECT count(*) FROM "Finding""#;

/// A server of the test's own that follows the one of the environment. Its end takes it down.
struct Standby {
    folder: PathBuf,
    port: u16,
}

/// A program of the server's installation, run as the user that the server runs as.
fn as_server(program: &str) -> Command {
    let path = Path::new(&std::env::var("PG_TENANCY_BIN").unwrap()).join(program);
    let run = std::env::var("PG_TENANCY_RUN").unwrap_or_default();
    let mut words = run.split_whitespace();
    let mut command = match words.next() {
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(path);
            command
        }
        None => Command::new(path),
    };
    command.current_dir("/");
    command
}

fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Standby {
    /// Copies the running server and starts the copy; `None` where there is no server whose files one may copy.
    fn start() -> Option<Self> {
        let data = PathBuf::from(std::env::var("PG_TENANCY_DATA").ok()?);
        let folder = data.parent()?.join(format!("standby-{}", std::process::id()));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let standby = Standby { folder, port };
        succeeds(as_server("pg_basebackup").args(["-R", "-c", "fast", "-D"]).arg(&standby.folder));
        // Beside the socket of the primary, under another port.
        let options = format!("-c port={port} -c listen_addresses=");
        let log = standby.folder.join("standby.log");
        // Its own output would keep the pipe open that `succeeds` reads.
        let mut start = as_server("pg_ctl");
        start.args(["start", "-w", "-t", "60", "-s", "-o", &options, "-D"]).arg(&standby.folder).arg("-l").arg(log);
        start
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        assert!(start.status().unwrap().success(), "the standby did not start: {start:?}");
        Some(standby)
    }

    fn config(&self, database: &Database) -> Config {
        let mut config = Config::new();
        config.host_path(std::env::var("PGHOST").unwrap()).port(self.port).dbname(&database.name).user("postgres");
        config
    }

    async fn application(&self, database: &Database) -> Client {
        connect(self.config(database).user(APPLICATION)).await
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        as_server("pg_ctl").args(["stop", "-m", "immediate", "-s", "-D"]).arg(&self.folder).status().ok();
        as_server_tool("rm").arg("-rf").arg(&self.folder).status().ok();
    }
}

/// A program of the system, run as the user that the server runs as.
fn as_server_tool(program: &str) -> Command {
    let run = std::env::var("PG_TENANCY_RUN").unwrap_or_default();
    let mut words = run.split_whitespace().chain([program]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).current_dir("/");
    command
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
            println!("skipped: the server is not one to be copied");
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

        // In a session, which asks again once the suspension has arrived.
        let session = standby.application(database).await;
        session.execute("SELECT tenancy.authenticate_session($1)", &[&database.token("alice")]).await.unwrap();
        let forced = if major() < 16 { "force_parallel_mode" } else { "debug_parallel_query" };
        for mode in ["off", "on"] {
            run(&session, &format!("SET {forced} = {mode}")).await;
            assert_eq!(count(&session, FINDINGS).await, 5, "parallel: {mode}");
        }
        run(&primary, &format!("SELECT tenancy.set_membership('{ACME}', 'alice', 'admin', status => 'suspended')"))
            .await;
        catch_up(&primary, &reader).await;
        assert!(refused(&session, FINDINGS).await.message.contains("membership"));
        assert_eq!(authenticate(&client, &database.token("alice")).await.unwrap_err().sqlstate, "28000");

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
