//! Where a token turns up that was in a statement: the log in its three forms, pg_stat_activity, pg_stat_statements.
//!
//! On servers of this program's own, which log more than the others do. The tables of docs/tokens-in-logs.md are what
//! the first test measures.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::common::*;
use jsonwebtoken::Algorithm;
use serde_json::json;
use tokio_postgres::{Client, Config};

/// A server that logs to stderr, CSV and JSON at once, in a folder of its own.
struct LoggingServer {
    folder: PathBuf,
    config: Config,
    issuer: Issuer,
}

impl LoggingServer {
    /// Runs `test` on such a server, unless there is no installation to start it from.
    fn host(preload: &str, test: impl AsyncFnOnce(&LoggingServer)) {
        let (Ok(data), Some(mut config)) = (std::env::var("PG_TENANCY_DATA"), server()) else {
            skipped("no server of our own");
            return;
        };
        static COUNT: AtomicU16 = AtomicU16::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let sockets = std::env::var("PGHOST").unwrap();
        // Without TCP, the port is no more than a part of the socket's name.
        let port = 1024 + (std::process::id() % 6000) as u16 * 10 + number;
        config = {
            let user = config.get_user().unwrap().to_owned();
            let mut own = Config::new();
            own.host_path(&sockets).port(port).user(&user).dbname("postgres");
            own
        };
        let folder = Path::new(&data).with_file_name(format!("leaks-{port}"));
        let server = LoggingServer { folder, config, issuer: Issuer::generate() };
        server
            .program("initdb", &["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        let settings = format!(
            "port = {port}\nlisten_addresses = ''\nunix_socket_directories = '{sockets}'\nfsync = off\n\
             shared_preload_libraries = '{preload}'\ncompute_query_id = on\n\
             logging_collector = on\nlog_destination = 'stderr,csvlog,jsonlog'\nlog_filename = \
             'server.log'\nlog_rotation_age = 0\n"
        );
        let file = server.folder.join("postgresql.conf");
        fs::write(&file, fs::read_to_string(&file).unwrap() + &settings).unwrap();
        server.program("pg_ctl", &["start", "-w", "-s", "-l", "/dev/null"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            server.prepare().await;
            test(&server).await;
        });
    }

    fn program(&self, name: &str, arguments: &[&str]) {
        let run = std::env::var("PG_TENANCY_RUN").unwrap_or_default();
        let path = PathBuf::from(std::env::var("PG_TENANCY_BIN").unwrap()).join(name);
        let mut words = run.split_whitespace().map(PathBuf::from).chain([path]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg("-D").arg(&self.folder).args(arguments);
        // From a folder that the server's user may enter, and free of the settings for the other server.
        command.current_dir("/").env_remove("PGHOST").env_remove("PGPORT").stdout(std::process::Stdio::null());
        assert!(command.status().unwrap().success(), "{name}");
    }

    /// One database with the extension and one with a function that only looks like `authenticate`.
    async fn prepare(&self) {
        let admin = connect(&self.config).await;
        admin.batch_execute("CREATE DATABASE plain").await.unwrap();
        admin.batch_execute("CREATE DATABASE tenants").await.unwrap();
        let plain = connect(self.config.clone().dbname("plain")).await;
        let both = "CREATE TABLE seen (token text PRIMARY KEY)";
        run(&plain, both).await;
        run(
            &plain,
            "CREATE SCHEMA tenancy; CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
            CREATE FUNCTION tenancy.authenticate(token text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
                IF token LIKE '%refused' THEN RAISE 'the token''s signature is not valid'; END IF; RETURN \
                'organization'; END $$",
        )
        .await;
        let tenants = connect(self.config.clone().dbname("tenants")).await;
        run(&tenants, both).await;
        run(&tenants, "CREATE EXTENSION pg_tenancy").await;
        let keys = self.issuer.public_key_set();
        let set_issuer = "SELECT tenancy.set_issuer($1, ARRAY[$2], $3)";
        tenants.execute(set_issuer, &[&issuer::ISSUER, &issuer::AUDIENCE, &keys]).await.unwrap();
        run(
            &tenants,
            &format!(
                "SELECT tenancy.create_organization('Acme', '{ACME}'); SELECT \
             tenancy.set_membership('{ACME}', 'alice', \
             'admin')"
            ),
        )
        .await;
    }

    /// A connection as superuser with these settings from the start.
    async fn client(&self, database: &str, settings: &[&str]) -> Client {
        let options: Vec<String> = settings.iter().map(|setting| format!("-c {setting}")).collect();
        connect(self.config.clone().dbname(database).options(options.join(" "))).await
    }

    /// A token that no other test has.
    fn canary(&self) -> Canary {
        let mut claims = self.issuer.claims("alice");
        claims["a"] = json!(unique());
        let token = self.issuer.sign(Algorithm::ES256, &claims);
        Canary { token }
    }

    /// The forms of the log, once everything that was logged until now is there.
    async fn logs(&self) -> [(&'static str, String); 3] {
        let end = format!("read-{}", unique());
        let client = connect(&self.config).await;
        run(&client, &format!("DO $$ BEGIN RAISE LOG '{end}'; END $$")).await;
        for _ in 0..200 {
            let logs = [("stderr", "log"), ("csvlog", "csv"), ("jsonlog", "json")].map(|(form, ending)| {
                let file = fs::read(self.folder.join(format!("log/server.{ending}"))).unwrap_or_default();
                // debug_print_plan wraps its lines, in the JSON form with escaped characters.
                let text = String::from_utf8_lossy(&file).replace("\\n", "").replace("\\t", "");
                (form, text.split_whitespace().collect::<String>())
            });
            if logs.iter().all(|(_, log)| log.contains(&end)) {
                return logs;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the log was not written");
    }

    async fn log_shows(&self, canary: &Canary) -> bool {
        let shown = self.logs().await.map(|(_, log)| canary.is_in(&log));
        assert!(shown.iter().all(|form| *form == shown[0]), "the forms of the log differ: {shown:?}");
        shown[0]
    }
}

impl Drop for LoggingServer {
    fn drop(&mut self) {
        self.program("pg_ctl", &["stop", "-m", "immediate", "-s"]);
        if std::env::var("PG_TENANCY_KEEP").is_err() {
            fs::remove_dir_all(&self.folder).ok();
        }
    }
}

fn unique() -> String {
    let mut bytes = [0; 24];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    issuer::base64url(bytes)
}

struct Canary {
    token: String,
}

impl Canary {
    /// Any piece of the claims that is this token's own, or of the signature; also as the bytes of a constant that a
    /// debug_print_ setting prints.
    fn is_in(&self, text: &str) -> bool {
        let (_, rest) = self.token.split_once('.').unwrap();
        let (claims, signature) = rest.split_once('.').unwrap();
        let bytes = &claims.as_bytes()[10..24];
        let bytes: Vec<String> = bytes.iter().map(u8::to_string).collect();
        text.contains(&claims[8..24]) || text.contains(&signature[..16]) || text.contains(&bytes.concat())
    }

    /// A signature that is not the token's, and which the look-alike refuses, too.
    fn refused(&self) -> String {
        let (signed, signature) = self.token.rsplit_once('.').unwrap();
        format!("{signed}.{}refused", &signature[..signature.len() - 7])
    }
}

/// The ways in which a token gets into a statement.
const WAYS: [&str; 9] = [
    "bind parameter",
    "bind parameter, refused",
    "bind parameter, error later in the statement",
    "literal",
    "literal, refused",
    "literal, error in a later statement of the message",
    "literal, syntax error",
    "`PREPARE` without it, `EXECUTE` with it",
    "`DO`",
];

/// Where it may be seen, and the settings for that.
const PLACES: [(&str, &[&str]); 8] = [
    ("pg_stat_activity", &[]),
    ("pg_stat_statements", &[]),
    ("error", &[]),
    ("log_statement", &["log_statement=all"]),
    ("duration", &["log_min_duration_statement=0"]),
    ("parameters on error", &["log_parameter_max_length_on_error=-1"]),
    ("auto_explain", &["auto_explain.log_min_duration=0", "auto_explain.log_analyze=on"]),
    ("debug_print_plan", &["debug_print_plan=on"]),
];

async fn say(client: &Client, way: &str, canary: &Canary) {
    let (token, refused) = (&canary.token, &canary.refused());
    let bind = "SELECT tenancy.authenticate($1)";
    let done = match way {
        "bind parameter" => client.execute(bind, &[token]).await.map(drop),
        "bind parameter, refused" => client.execute(bind, &[refused]).await.map(drop),
        "bind parameter, error later in the statement" => {
            client.execute("SELECT tenancy.authenticate($1), 1 / (SELECT count(*) FROM seen)", &[token]).await.map(drop)
        }
        "literal" => client.batch_execute(&format!("SELECT tenancy.authenticate('{token}')")).await,
        "literal, refused" => client.batch_execute(&format!("SELECT tenancy.authenticate('{refused}')")).await,
        "literal, error in a later statement of the message" => {
            client.batch_execute(&format!("SELECT tenancy.authenticate('{token}'); SELECT 1/0")).await
        }
        "literal, syntax error" => client.batch_execute(&format!("SELEC tenancy.authenticate('{token}')")).await,
        "`PREPARE` without it, `EXECUTE` with it" => {
            run(client, "PREPARE p(text) AS SELECT tenancy.authenticate($1)").await;
            client.batch_execute(&format!("EXECUTE p('{token}')")).await
        }
        "`DO`" => client.batch_execute(&format!("DO $$ BEGIN PERFORM tenancy.authenticate('{token}'); END $$")).await,
        _ => unreachable!("{way}"),
    };
    assert_eq!(done.is_err(), way.contains("refused") || way.contains("error"), "{way}: {done:?}");
}

/// One line of Markdown for each way: where the token was seen.
async fn measure(server: &LoggingServer, database: &str, preload: &str) -> String {
    let observer = server.client("plain", &[]).await;
    let mut cells = Vec::new();
    for way in WAYS {
        for (place, settings) in PLACES {
            let canary = server.canary();
            let libraries = match place {
                "auto_explain" => format!("session_preload_libraries=auto_explain,{preload}"),
                _ => format!("session_preload_libraries={preload}"),
            };
            let settings: Vec<&str> = settings.iter().copied().chain([libraries.trim_end_matches(',')]).collect();
            let client = server.client(database, &settings).await;
            let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
            say(&client, way, &canary).await;
            let query = match place {
                "pg_stat_activity" => "SELECT query FROM pg_stat_activity WHERE pid = $1",
                "pg_stat_statements" => "SELECT query FROM pg_stat_statements WHERE $1 > 0",
                _ => "SELECT ''::text WHERE $1 > 0",
            };
            let texts = observer.query(query, &[&pid]).await.unwrap();
            assert!(!texts.is_empty(), "{place}");
            let seen = texts.iter().any(|row| canary.is_in(row.get(0)));
            cells.push((way, place, canary, seen));
        }
    }
    let logs = server.logs().await;
    let mut table = String::new();
    for way in WAYS {
        write!(table, "| {way} |").unwrap();
        for (_, place, canary, mut seen) in cells.iter().filter(|cell| cell.0 == way).map(|c| (c.0, c.1, &c.2, c.3)) {
            if !place.starts_with("pg_") {
                let forms: BTreeSet<bool> = logs.iter().map(|(_, log)| canary.is_in(log)).collect();
                assert_eq!(forms.len(), 1, "the forms of the log differ: {way}, {place}");
                seen = forms.contains(&true);
            }
            write!(table, " {} |", if seen { "**seen**" } else { "-" }).unwrap();
        }
        table.push('\n');
    }
    table
}

#[test]
fn what_is_seen_of_a_token_is_what_the_documentation_says() {
    LoggingServer::host("pg_stat_statements", async |server| {
        let mut documentation = include_str!("../docs/tokens-in-logs.md").to_owned();
        if major() < 16 {
            // auto_explain logs no parameters yet.
            for row in
                ["| bind parameter | - | - | - |", "| `PREPARE` without it, `EXECUTE` with it | **seen** | - | - |"]
            {
                let with = |seen| format!("{row} **seen** | **seen** | - | {seen} | **seen** |");
                documentation = documentation.replace(&with("**seen**"), &with("-"));
            }
        }
        let mut missing = String::new();
        for (what, database, preload) in [
            ("without the extension", "plain", ""),
            ("loaded on demand", "tenants", ""),
            ("preloaded", "tenants", "pg_tenancy"),
        ] {
            let table = measure(server, database, preload).await;
            println!("{what}\n{table}");
            if !documentation.contains(&table) {
                writeln!(missing, "{what}\n{table}").unwrap();
            }
        }
        assert_eq!(missing, "", "docs/tokens-in-logs.md lacks this");
    });
}

#[test]
fn another_session_sees_no_token_while_the_statement_runs() {
    LoggingServer::host("", async |server| {
        let observer = server.client("plain", &[]).await;
        let client = server.client("tenants", &["session_preload_libraries=pg_tenancy"]).await;
        let canary = server.canary();
        let pid = count(&client, "SELECT pg_backend_pid()").await;
        let sql = format!("SELECT tenancy.authenticate('{}'), pg_sleep(1), current_query()", canary.token);
        let seen = async {
            eventually(&observer, &format!("SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = {pid}"))
                .await;
            rows(&observer, &format!("SELECT query, state, query_id FROM pg_stat_activity WHERE pid = {pid}")).await
        };
        let (answer, seen) = futures_util::future::join(rows(&client, &sql), seen).await;
        let redacted = sql.replace(&canary.token, "[token]");
        // Reporting an activity anew takes the id of the query away.
        let plan = column(&client, &format!("EXPLAIN (VERBOSE) {redacted}")).await;
        let id = plan.iter().find_map(|line| line.strip_prefix("Query Identifier: ")).unwrap().to_owned();
        assert_eq!(seen, [[Some(redacted.clone()), Some("active".into()), Some(id)]]);
        assert_eq!(answer[0][2], Some(redacted), "current_query() is what triggers write to audit tables");
    });
}

#[test]
fn parallel_workers_show_no_token() {
    LoggingServer::host("", async |server| {
        let settings = [
            "session_preload_libraries=pg_tenancy",
            "parallel_setup_cost=0",
            "parallel_tuple_cost=0",
            "min_parallel_table_scan_size=0",
        ];
        let client = server.client("tenants", &settings).await;
        run(&client, "CREATE TABLE many AS SELECT n FROM generate_series(1, 1000) n; ANALYZE many").await;
        let canary = server.canary();
        let pid = count(&client, "SELECT pg_backend_pid()").await;
        // The second statement has workers; its text is that of the whole message.
        let sql = format!(
            "SELECT tenancy.authenticate('{}'); SELECT count(*) FROM many WHERE pg_sleep(0.002) IS NOT NULL",
            canary.token
        );
        let observer = server.client("plain", &[]).await;
        let seen = async {
            let workers = format!("FROM pg_stat_activity WHERE leader_pid = {pid} AND wait_event = 'PgSleep'");
            eventually(&observer, &format!("SELECT count(*) > 0 {workers}")).await;
            column(&observer, &format!("SELECT query {workers}")).await
        };
        let (_, seen) = futures_util::future::join(rows(&client, &sql), seen).await;
        assert!(!seen.is_empty());
        assert_eq!(seen[0], sql.replace(&canary.token, "[token]"));
    });
}

#[test]
fn no_text_of_a_message_keeps_a_token() {
    LoggingServer::host("", async |server| {
        let settings =
            ["session_preload_libraries=pg_tenancy", "log_min_messages=notice", "log_error_verbosity=verbose"];
        let client = server.client("tenants", &settings).await;
        let canaries: Vec<Canary> = (0..8).map(|_| server.canary()).collect();
        let [message, detail, hint, context, duplicate, cut, headers, error] = &canaries[..] else { unreachable!() };
        for (field, canary) in [("DETAIL", detail), ("HINT", hint)] {
            run(&client, &format!("DO $$ BEGIN RAISE LOG 'text' USING {field} = 'it was {}'; END $$", canary.token))
                .await;
        }
        run(&client, &format!("DO $$ BEGIN RAISE NOTICE 'it was % and no more', '{}'; END $$", message.token)).await;
        refused(&client, &format!("DO $$ BEGIN EXECUTE 'SELECT 1/0, ''{}'''; END $$", context.token)).await;
        client.execute("INSERT INTO seen VALUES ($1)", &[&duplicate.token]).await.unwrap();
        client.execute("INSERT INTO seen VALUES ($1)", &[&duplicate.token]).await.unwrap_err();
        let refusal = refused(&client, &format!("SELECT '{}'::int", error.token)).await;
        assert_eq!(refusal.message, "invalid input syntax for type integer: \"[token]\"", "the client reads the same");
        // As many bytes of the parameter as end within the claims.
        run(&client, "SET log_min_duration_statement = 0; SET log_parameter_max_length = 120").await;
        client.execute("SELECT $1::text", &[&cut.token]).await.unwrap();
        // What PostgREST sends.
        run(&client, "SET log_parameter_max_length = -1").await;
        let json = format!(r#"{{"authorization":"Bearer {}","host":"localhost"}}"#, headers.token);
        client.execute("SELECT set_config('request.headers', $1, true)", &[&json]).await.unwrap();
        for canary in &canaries {
            assert!(!server.log_shows(canary).await, "{}", canary.token);
        }
        for (form, log) in server.logs().await {
            for rest in
                ["itwas[token]", "itwas[token]andnomore", "(token)=([token])", "$1='[token]...'", "Bearer[token]"]
            {
                assert!(log.contains(rest), "{form} lacks {rest}");
            }
        }
    });
}

/// What a crashed session was doing is logged by the postmaster, which has the library where it is in
/// shared_preload_libraries.
#[test]
fn the_postmaster_logs_no_token_of_a_session_that_crashed() {
    LoggingServer::host("pg_tenancy", async |server| {
        let client = server.client("tenants", &[]).await;
        let pid = count(&client, "SELECT pg_backend_pid()").await;
        let canary = server.canary();
        // authenticate is not reached, so the text in pg_stat_activity still has the token.
        let sql = format!("SELECT pg_sleep(60), '{}'", canary.token);
        let kill = async {
            let observer = server.client("plain", &[]).await;
            eventually(&observer, &format!("SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = {pid}"))
                .await;
            assert!(Command::new("kill").args(["-SEGV", &pid.to_string()]).status().unwrap().success());
        };
        let (answer, ()) = futures_util::future::join(client.batch_execute(&sql), kill).await;
        answer.unwrap_err();
        for _ in 0..200 {
            if try_connect(&server.config).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(!server.log_shows(&canary).await);
        let logs = server.logs().await;
        assert!(logs.iter().all(|(_, log)| log.contains("SELECTpg_sleep(60),'[token]'")), "no line of the postmaster");
    });
}
