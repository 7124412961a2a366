//! Keys of secrets on a server of its own: keys that are wrong, missing, altered or replaced, and commands that fail in
//! every way that a command can.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::common::server::{Folder, Server, as_server, programs, succeeds};
use crate::common::*;
use tokio_postgres::{Client, Config};
use uuid::Uuid;

const A: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const B: &str = "/wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Wraps as a service would: with the key's id, what the key is bound to, and a version. It counts its runs.
pub const SERVICE: &str = r#"echo "$1 $2" >>runs
while read -r id organization key; do
    case $1 in
    wrap) echo "$id $(printf "%s %s %s %s" "$2" "$id" "$organization" "$key" | base64 -w0) $(cat version)" ;;
    unwrap)
        set -- unwrap "$2" $(printf %s "$key" | base64 -d)
        [ "$3 $4 $5" = "$2 $id $organization" ] || exit 3
        echo "$id $6" ;;
    esac
done"#;

/// A server whose ring is the file `keys` of a folder, and whose service is the script `service` there.
pub struct Keys {
    server: Server,
    folder: Folder,
}

impl Keys {
    fn start(name: &str) -> Option<Self> {
        let folder = Folder::create(name)?;
        let server = Server::at(&programs()?, folder.0.join("data"));
        server.initialize();
        let keys = Keys { server, folder };
        keys.write("keys", &format!("a {A}\nb {B}\n"));
        keys.write("service", SERVICE);
        keys.write("version", "v1");
        let at = keys.folder.0.display();
        keys.server.start(&format!(
            "-c unix_socket_directories={} -c shared_preload_libraries=pg_tenancy -c tenancy.seal_interval=0 \
             -c tenancy.secret_key_file={at}/keys -c 'tenancy.key_wrap_command=cd {at} && sh service %o %k'",
            std::env::var("PGHOST").unwrap()
        ));
        Some(keys)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    /// Replaces a file as one replaces a key file: by another one.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        let script = r#"umask 077; printf '%s' "$TEXT" >"$1.new" && mv "$1.new" "$1""#;
        succeeds(as_server("env").arg(format!("TEXT={text}")).args(["sh", "-c", script, "sh"]).arg(&path));
    }

    pub fn read(&self, name: &str) -> String {
        succeeds(as_server("cat").arg(self.path(name)))
    }

    /// What the server tells its log.
    pub fn log(&self) -> PathBuf {
        self.server.data.join("server.log")
    }

    /// How often the service has run since the last call.
    fn runs(&self) -> usize {
        let runs = self.read("runs").lines().count();
        self.write("runs", "");
        runs
    }

    pub async fn client(&self) -> Client {
        connect(&self.config("postgres")).await
    }

    pub fn config(&self, database: &str) -> Config {
        let mut config = self.server.config();
        config.dbname(database);
        config
    }
}

/// Runs the test with a superuser's connection to a database with the extension and two organizations.
pub fn on_a_server(name: &str, test: impl AsyncFnOnce(&Keys, &Client)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(keys) = Keys::start(name) else {
            skipped("no programs of a server to start");
            return;
        };
        let client = keys.client().await;
        let set_up = format!(
            "CREATE EXTENSION pg_tenancy;
             SELECT tenancy.create_organization('Acme', '{ACME}'), tenancy.create_organization('Globex', '{GLOBEX}')"
        );
        run(&client, &set_up).await;
        test(&keys, &client).await;
    });
}

/// Makes alice an administrator of Acme who comes with tokens of the issuer.
pub async fn administrator(client: &Client, issuer: &Issuer) {
    let sql = format!(
        "SELECT tenancy.set_issuer('{}', '{{{}}}', $jwks${}$jwks$);
         SELECT tenancy.set_membership('{ACME}', 'alice', 'admin')",
        issuer::ISSUER,
        issuer::AUDIENCE,
        issuer.public_key_set()
    );
    run(client, &sql).await;
}

pub async fn add(client: &Client, id: &str, provider: &str) {
    let sql = format!(
        "SELECT tenancy.add_key_encryption_key('{id}', 'test', '{provider}'),
                tenancy.set_current_key_encryption_key('{id}', 'test')"
    );
    run(client, &sql).await;
}

pub fn rotate(organization: Uuid) -> String {
    format!("SELECT tenancy.rotate_data_key('{organization}', 'test')")
}

/// What `key_status()` says of a key: available and detail.
pub async fn status(client: &Client, id: &str) -> (String, String) {
    let sql = format!("SELECT available, coalesce(detail, '') FROM tenancy.key_status() WHERE id = '{id}'");
    let row = rows(client, &sql).await.remove(0);
    (row[0].clone().unwrap(), row[1].clone().unwrap())
}

/// Changes the tables of keys as somebody does who takes the guard away.
pub async fn tamper(client: &Client, sql: &str) {
    let switch = async |to: &str| {
        for table in ["data_key", "key_encryption_key"] {
            run(client, &format!("ALTER TABLE tenancy.{table} {to} TRIGGER keep_secret_keys")).await;
        }
    };
    switch("DISABLE").await;
    run(client, sql).await;
    switch("ENABLE ALWAYS").await;
}

/// Everything that is stored of keys.
async fn stored(client: &Client) -> Vec<Vec<Option<String>>> {
    let sql =
        "SELECT k::text FROM tenancy.key_encryption_key k UNION ALL SELECT d::text FROM tenancy.data_key d ORDER BY 1";
    rows(client, sql).await
}

#[test]
fn a_ring_that_is_wrong_missing_or_unreadable_is_told_apart_and_nothing_is_wrapped_under_it() {
    on_a_server("key-ring", async |keys, client| {
        add(client, "a", "ring").await;
        run(client, &rotate(ACME)).await;
        let before = stored(client).await;
        let ring = keys.read("keys");
        let cases = [
            (format!("a {B}\n"), "wrong", "secret_key_wrong", "is another one than was registered"),
            (format!("b {A}\n"), "missing", "secret_key_missing", r#"the key-encryption key "a" is missing"#),
            (format!("a {A} more\n"), "failed", "secret_key_invalid", "line 1: the key is not the base64 of 32 bytes"),
            ("a AAAA\n".to_owned(), "failed", "secret_key_invalid", "line 1: the key is not the base64"),
            (format!("a {A}\na {A}\n"), "failed", "secret_key_invalid", "line 2: the id stands on a line before"),
            (String::new(), "failed", "secret_key_invalid", "it holds no key"),
            ("#".repeat(65_537), "failed", "secret_key_invalid", "more than 65536 bytes"),
        ];
        for (text, available, kind, why) in &cases {
            keys.write("keys", text);
            let (found, detail) = status(client, "a").await;
            assert_eq!(found, *available, "{why}");
            assert!(detail.contains(why), "{detail}");
            // In this session, which has the data key, and in another one.
            for client in [client, &keys.client().await] {
                let refusal = refused(client, &rotate(ACME)).await;
                let told = format!("{} {}", refusal.message, refusal.detail.unwrap_or_default());
                assert!(refusal.sqlstate == "F0000" && told.contains(why) && told.contains(r#""a""#), "{kind}: {told}");
                assert!(!told.contains(A) && !told.contains(B), "the key shows: {told}");
            }
            keys.write("keys", &ring);
            assert_eq!(status(client, "a").await.0, "yes", "after {why}");
        }
        for (script, why) in [
            ("chmod 644 keys", "every user of the machine may read or write it"),
            ("rm keys", "it cannot be opened"),
            ("rm -f keys; mkfifo -m 600 keys", "it is not a regular file"),
            ("rm -f keys; ln -s /dev/zero keys", "it is not a regular file"),
        ] {
            succeeds(as_server("sh").args(["-c", &format!("cd {} && {script}", keys.folder.0.display())]));
            let (found, detail) = status(client, "a").await;
            assert!(found == "failed" && detail.contains(why), "{script}: {detail}");
            assert_eq!(refused(client, &rotate(ACME)).await.sqlstate, "F0000", "{script}");
            keys.write("keys", &ring);
        }
        assert_eq!(stored(client).await, before, "nothing was written");
        run(client, &rotate(ACME)).await;
    });
}

#[test]
fn a_row_that_was_altered_or_moved_is_told_from_a_wrong_key() {
    on_a_server("key-rows", async |keys, client| {
        add(client, "a", "ring").await;
        run(client, &format!("{}; {}", rotate(ACME), rotate(GLOBEX))).await;
        run(client, "CREATE TABLE kek AS SELECT * FROM tenancy.key_encryption_key").await;
        run(client, "CREATE TABLE dek AS SELECT * FROM tenancy.data_key").await;
        let of_acme = format!("organization = '{ACME}' AND purpose = 'seal'");
        let of_globex = format!("organization = '{GLOBEX}' AND purpose = 'seal'");
        let mut cases: Vec<(String, &str, &str)> = [0, 1, 2, 17, 18, 49, 50, 81, 82, 113, 114, 129]
            .map(|byte| {
                let sql = format!(
                    "UPDATE tenancy.data_key SET wrapped = set_byte(wrapped, {byte}, get_byte(wrapped, {byte}) # 1)
                      WHERE {of_acme}"
                );
                (sql, "XX001", "yes")
            })
            .to_vec();
        cases.extend([
            // The other organization's key, in each way that it can be brought here.
            (
                format!(
                    "UPDATE tenancy.data_key SET wrapped = (SELECT wrapped FROM dek WHERE {of_globex}) WHERE {of_acme}"
                ),
                "XX001",
                "yes",
            ),
            (
                format!(
                    "DELETE FROM tenancy.data_key WHERE {of_acme};
                     UPDATE tenancy.data_key SET organization = '{ACME}' WHERE {of_globex}"
                ),
                "XX001",
                "yes",
            ),
            (format!("UPDATE tenancy.data_key SET wrapped = '' WHERE {of_acme}"), "XX001", "yes"),
            ("UPDATE tenancy.key_encryption_key SET canary = set_byte(canary, 100, 0)".into(), "XX001", "failed"),
            ("UPDATE tenancy.key_encryption_key SET canary_digest = sha256('')".into(), "XX001", "failed"),
            ("UPDATE tenancy.key_encryption_key SET canary = 'x'".into(), "XX001", "failed"),
        ]);
        for (sql, sqlstate, available) in &cases {
            tamper(client, sql).await;
            assert_eq!(refused(client, &rotate(ACME)).await.sqlstate, *sqlstate, "{sql}");
            assert_eq!(status(client, "a").await.0, *available, "{sql}");
            tamper(
                client,
                "DELETE FROM tenancy.data_key; DELETE FROM tenancy.key_encryption_key;
                 INSERT INTO tenancy.key_encryption_key SELECT * FROM kek;
                 INSERT INTO tenancy.data_key SELECT * FROM dek",
            )
            .await;
        }
        run(&keys.client().await, &rotate(ACME)).await;
    });
}

#[test]
fn a_service_wraps_and_unwraps_and_its_key_never_enters_the_server() {
    on_a_server("key-service", async |keys, client| {
        add(client, "kms-1", "command").await;
        run(client, &rotate(ACME)).await;
        let sql = "SELECT key_version, convert_from(wrapped, 'UTF8') LIKE 'kms-1 ' || id || ' ' || organization || ' %'
                     FROM tenancy.data_key";
        let version_and_binding = vec![Some("v1".to_owned()), Some("t".to_owned())];
        assert_eq!(rows(client, sql).await, vec![version_and_binding; 2]);

        let behind = "SELECT available || ' ' || behind FROM tenancy.key_status()";
        assert_eq!(value(client, behind).await, "yes 0");
        keys.write("version", "v2");
        assert_eq!(value(client, behind).await, "yes 2");
        run(client, &rotate(ACME)).await;
        assert_eq!(value(client, behind).await, "yes 2", "the new key is under the new version");

        // A row that was moved is refused by the service.
        tamper(client, &format!("UPDATE tenancy.data_key SET organization = '{GLOBEX}'")).await;
        let refusal = refused(client, &rotate(GLOBEX)).await;
        assert!(refusal.detail.unwrap().contains("exit status: 3"));
    });
}

#[test]
fn a_service_that_fails_in_any_way_leaves_nothing_behind() {
    on_a_server("key-failures", async |keys, client| {
        add(client, "kms-1", "command").await;
        let before = stored(client).await;
        let answer = |script: &str| format!("{SERVICE} >answer\n{script}");
        let cases = [
            ("exit 0".to_owned(), "printed 0 lines for 1 keys"),
            ("exit 7".to_owned(), "exit status: 7"),
            ("kill -9 $$".to_owned(), "exit status: 137"),
            (answer("cat answer; exit 1"), "exit status: 1"),
            ("echo garbage".to_owned(), "does not begin with the id"),
            (r"printf '\377\376\000'".to_owned(), "line 1 of the command's output"),
            ("cat /dev/zero".to_owned(), "printed more than"),
            (answer("cat answer answer"), "lines for"),
            (answer("[ $1 = wrap ] && cat answer || head -n 1 answer"), "printed 1 lines for 2 keys"),
            (answer("[ $1 = wrap ] && cat answer || tac answer"), "line 1 of the command's output"),
            (answer("cut -c 1-60 answer"), "the base64 of a key"),
            (answer("sed 's/$/ x y/' answer"), "the version on line 1"),
            // Another key than was wrapped, and another service.
            (answer(&format!("[ $1 = wrap ] && cat answer || sed '2s#[^ ]*$#{A}#' answer")), "does not unwrap again"),
            (answer(&format!("[ $1 = wrap ] && cat answer || sed 's#[^ ]*$#{A}#' answer")), "is another one"),
            ("exec sleep 20".to_owned(), "longer than 10 seconds"),
        ];
        for (script, why) in &cases {
            keys.write("service", script);
            let refusal = refused(client, &rotate(ACME)).await;
            let told = format!("{} {}", refusal.message, refusal.detail.unwrap_or_default());
            assert!(
                refusal.sqlstate == "F0000" && told.contains(why) && told.contains(r#""kms-1""#),
                "{script}: {told}"
            );
        }
        // A service that fails is not registered either.
        keys.write("service", "exit 1");
        let sql = "SELECT tenancy.add_key_encryption_key('kms-2', 'test', 'command')";
        assert_eq!(refused(client, sql).await.sqlstate, "F0000");
        assert_eq!(stored(client).await, before, "nothing was written");

        // What it says about its failure is in neither the error nor the log.
        keys.write("service", "echo MARKER-OUT; echo MARKER-ERR >&2; exit 1");
        let refusal = refused(client, &rotate(ACME)).await;
        assert!(!format!("{refusal:?}").contains("MARKER"), "{refusal:?}");
        let log = succeeds(as_server("cat").arg(keys.log()));
        assert!(!log.contains("MARKER") && log.contains("could not be wrapped or unwrapped"));

        keys.write("service", SERVICE);
        run(client, &rotate(ACME)).await;
    });
}

#[test]
fn a_cancelled_statement_ends_the_command_with_all_its_children() {
    on_a_server("key-cancel", async |keys, client| {
        add(client, "kms-1", "command").await;
        keys.write("service", "(sleep 3; touch mark) & sleep 3; touch mark");
        run(client, "SET statement_timeout = 300").await;
        let began = Instant::now();
        assert_eq!(refused(client, &rotate(ACME)).await.sqlstate, "57014");
        assert!(began.elapsed() < Duration::from_secs(3), "it was waited for");
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(!as_server("test").arg("-e").arg(keys.path("mark")).status().unwrap().success(), "a child lived on");
        run(client, "RESET statement_timeout").await;
        keys.write("service", SERVICE);
        run(client, &rotate(ACME)).await;
    });
}

#[test]
fn a_session_keeps_unwrapped_keys_within_bounds_and_only_while_they_are_stored_so() {
    on_a_server("key-cache", async |keys, client| {
        add(client, "kms-1", "command").await;
        run(client, &rotate(ACME)).await;
        keys.runs();
        // Making a key takes two runs; opening the one before takes another, unless the session has it.
        let runs = async |client: &Client| {
            run(client, &rotate(ACME)).await;
            keys.runs()
        };
        assert_eq!(runs(client).await, 2, "the key of before was kept");
        let other = keys.client().await;
        assert_eq!(runs(&other).await, 3, "another session has its own");
        assert_eq!(runs(client).await, 3, "the key that the other session made is another one");
        assert_eq!(runs(client).await, 2);
        assert!(count(client, "SELECT tenancy.forget_keys()").await >= 3);
        assert_eq!(count(client, "SELECT tenancy.forget_keys()").await, 0);
        assert_eq!(runs(client).await, 3, "forgotten");
        for setting in ["key_cache_size", "key_cache_lifetime"] {
            run(client, &format!("SET tenancy.{setting} = 0")).await;
            assert_eq!(count(client, "SELECT tenancy.forget_keys()").await, 0, "{setting}: forgotten at once");
            assert_eq!(runs(client).await, 3, "{setting}");
            run(client, &format!("RESET tenancy.{setting}")).await;
            assert_eq!(runs(client).await, 3, "{setting}");
            assert_eq!(runs(client).await, 2, "{setting}");
        }
        run(client, "SET tenancy.key_cache_size = 1").await;
        assert_eq!(runs(client).await, 2, "the newest one is kept");
        assert_eq!(count(client, "SELECT tenancy.forget_keys()").await, 1);
        run(client, "RESET tenancy.key_cache_size").await;

        // Whatever becomes of the row in another session counts after its commit, in a snapshot from before too.
        run(client, &rotate(ACME)).await;
        run(client, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tenancy.data_key").await;
        tamper(&other, "UPDATE tenancy.data_key SET wrapped = set_byte(wrapped, 0, 0) WHERE state = 'current'").await;
        assert!(refused(client, &rotate(ACME)).await.detail.unwrap().contains("exit status: 3"));
        run(client, "ROLLBACK").await;
    });
}

#[test]
fn kept_keys_are_locked_in_memory_and_neither_dumped_nor_inherited() {
    if !cfg!(target_os = "linux") {
        skipped("only Linux shows how memory is mapped");
        return;
    }
    on_a_server("key-memory", async |_, client| {
        add(client, "a", "ring").await;
        run(client, &rotate(ACME)).await;
        let pid = value(client, "SELECT pg_backend_pid()").await;
        let maps = succeeds(as_server("cat").arg(format!("/proc/{pid}/smaps")));
        let flags = maps.lines().filter_map(|line| line.strip_prefix("VmFlags:"));
        let kept =
            |flags: &str| ["lo", "dd", "dc"].iter().all(|flag| flags.split_whitespace().any(|found| found == *flag));
        assert_eq!(flags.filter(|flags| kept(flags)).count(), 1, "{maps}");
    });
}

#[test]
fn a_command_may_print_the_ring() {
    on_a_server("key-command", async |keys, client| {
        let at = keys.folder.0.display();
        let set = |name: &str, value: &str| format!("ALTER SYSTEM SET tenancy.{name} = '{value}'");
        // The server was started with the file, which the command line fixes: both are set.
        run(client, &set("secret_key_command", &format!("echo x >>{at}/runs; cat {at}/keys"))).await;
        run(client, "SELECT pg_reload_conf()").await;
        eventually(client, "SELECT current_setting('tenancy.secret_key_command') <> ''").await;
        let refusal = refused(client, "SELECT tenancy.add_key_encryption_key('a', 'test')").await;
        assert!(refusal.detail.unwrap().contains("are both set"));

        keys.server.stop("fast");
        keys.server.start(&format!(
            "-c unix_socket_directories={} -c shared_preload_libraries=pg_tenancy -c tenancy.seal_interval=0",
            std::env::var("PGHOST").unwrap()
        ));
        let client = &keys.client().await;
        keys.write("runs", "");
        add(client, "a", "ring").await;
        assert_eq!(keys.runs(), 1, "what it printed is kept");
        assert_eq!(refused(client, "SELECT tenancy.add_key_encryption_key('c', 'test')").await.sqlstate, "F0000");
        assert_eq!(keys.runs(), 1, "for another key it is run again");
        keys.write("keys", &format!("a {A}\nb {B}\nc {B}\n"));
        run(client, "SELECT tenancy.add_key_encryption_key('c', 'test')").await;
        run(client, "SET tenancy.key_cache_lifetime = 0").await;
        keys.runs();
        assert_eq!(status(client, "a").await.0, "yes");
        assert_eq!(keys.runs(), 2, "nothing is kept: once for each of two keys");
        keys.write("keys", "a AAAA\n");
        assert_eq!(status(client, "a").await.0, "failed");
    });
}

#[test]
fn a_dump_carries_the_keys_wrapped_and_they_open_with_the_ring_alone() {
    on_a_server("key-dump", async |keys, client| {
        add(client, "a", "ring").await;
        add(client, "b", "ring").await;
        run(client, &rotate(ACME)).await;
        let mut dump = keys.server.program("pg_dump");
        dump.args([
            "-h",
            &std::env::var("PGHOST").unwrap(),
            "-p",
            &keys.server.port.to_string(),
            "-U",
            "postgres",
            "postgres",
        ]);
        let dumped = succeeds(&mut dump);
        assert!(!dumped.contains(A) && !dumped.contains(B), "a key is in the dump");
        run(client, "CREATE DATABASE restored TEMPLATE template0").await;
        keys.write("dump.sql", "");
        let path = keys.path("dump.sql");
        let mut write = as_server("tee");
        write.arg(&path).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
        let mut write = write.spawn().unwrap();
        std::io::Write::write_all(&mut write.stdin.take().unwrap(), dumped.as_bytes()).unwrap();
        assert!(write.wait().unwrap().success());
        let mut psql = keys.server.program("psql");
        psql.args(["-Xq", "-v", "ON_ERROR_STOP=1", "-h", &std::env::var("PGHOST").unwrap()]);
        psql.args(["-p", &keys.server.port.to_string(), "-U", "postgres", "-d", "restored", "-f"]).arg(&path);
        succeeds(&mut psql);
        let restored = connect(&keys.config("restored")).await;
        assert_eq!(stored(&restored).await, stored(client).await);
        assert_eq!(status(&restored, "b").await.0, "yes");
        run(&restored, &rotate(ACME)).await;
        assert_eq!(findings(&restored).await, []);

        // Without the key: everything says which one is missing, and what needs none works.
        keys.write("keys", &format!("a {A}\n"));
        assert_eq!(status(&restored, "b").await.0, "missing");
        assert!(refused(&restored, &rotate(ACME)).await.message.contains(r#""b" is missing"#));
        run(&restored, "SELECT tenancy.create_organization('Initech'), tenancy.seal()").await;
        assert_eq!(findings(&restored).await, []);
        // The guard is back: only the restore could write.
        assert_eq!(refused(&restored, "COPY tenancy.data_key FROM PROGRAM 'true'").await.sqlstate, "42501");
    });
}

#[test]
fn whoever_takes_the_guard_away_is_recorded() {
    on_a_server("key-guard", async |_, client| {
        add(client, "a", "ring").await;
        seal_all(client).await;
        tamper(client, "UPDATE tenancy.key_encryption_key SET reason = 'another'").await;
        seal_all(client).await;
        let sql = "SELECT count(*) > 0 FROM tenancy.audit_trail
                    WHERE operation = 'capture_off' AND table_name = 'key_encryption_key'";
        assert_eq!(value(client, sql).await, "t");
    });
}

#[test]
fn sessions_that_choose_retire_and_use_keys_at_once_end_in_a_state_that_fits() {
    on_a_server("key-race", async |keys, client| {
        add(client, "b", "ring").await;
        add(client, "a", "ring").await;
        let (one, two) = (keys.client().await, keys.client().await);
        // A data key is being made under "a"; who makes "b" current waits for it, and "a" cannot be retired.
        run(&one, "BEGIN").await;
        run(&one, &rotate(ACME)).await;
        let choose = async {
            run(&two, "SELECT tenancy.set_current_key_encryption_key('b', 'test')").await;
        };
        let commit = async {
            eventually(client, "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'").await;
            run(&one, "COMMIT").await;
        };
        tokio::join!(choose, commit);
        let refusal = refused(&two, "SELECT tenancy.retire_key_encryption_key('a', 'test')").await;
        assert!(refusal.sqlstate == "55000" && refusal.message.starts_with("2 data keys"), "{refusal:?}");

        // A key is being made current; who makes a data key waits, and takes the new one.
        run(&two, "BEGIN; SELECT tenancy.set_current_key_encryption_key('a', 'test')").await;
        let make = async {
            run(&one, &rotate(GLOBEX)).await;
        };
        let commit = async {
            eventually(client, "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'").await;
            run(&two, "COMMIT").await;
        };
        tokio::join!(make, commit);
        let under = format!("SELECT DISTINCT key_encryption_key FROM tenancy.data_key WHERE organization = '{GLOBEX}'");
        assert_eq!(column(client, &under).await, ["a"]);

        // Two at a time for one organization: one current key of each purpose.
        for _ in 0..5 {
            let sql = rotate(ACME);
            tokio::join!(run(&one, &sql), run(&two, &sql));
        }
        let current =
            format!("SELECT count(*) FROM tenancy.data_key WHERE organization = '{ACME}' AND state = 'current'");
        assert_eq!(count(client, &current).await, 2);
    });
}
