//! What the integration tests stand on: a database of its own for each test, real connections, tokens of another
//! library.
//!
//! `PGHOST` and the like name the server; `make test` and `make check` start one and set them. Without a server the
//! tests fail.

#![allow(dead_code, unused_imports)] // Each test program uses its own part.

pub mod issuer;
pub mod protection;
pub mod server;
pub mod session;
pub mod signer;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls};
use uuid::{Uuid, uuid};

pub use issuer::{Issuer, now};
pub use session::*;

pub const ACME: Uuid = uuid!("aaaaaaaa-0000-4000-8000-000000000001");
pub const GLOBEX: Uuid = uuid!("bbbbbbbb-0000-4000-8000-000000000002");
pub const INITECH: Uuid = uuid!("cccccccc-0000-4000-8000-000000000003");

/// What the application logs in as.
pub const APPLICATION: &str = "test_tenancy_application";
/// Who owns the application's tables; no superuser.
pub const OWNER: &str = "test_tenancy_owner";

/// The tables, organizations and members of a database of the tests.
pub const SCHEMA: &str = include_str!("schema.sql");

/// A database with the extension, the application's tables, three organizations and their members.
pub struct Database {
    pub name: String,
    pub issuer: Issuer,
    server: Config,
}

impl Database {
    /// Makes one on that server, where the superuser of `server` may connect.
    pub async fn create(server: Config) -> Self {
        let database = Database { name: database_name(), issuer: Issuer::generate(), server };
        let admin = connect(&database.server).await;
        prepare_cluster(&admin).await;
        run(&admin, &format!("CREATE DATABASE {} TEMPLATE template0", database.name)).await;
        fill(&database, NEWEST).await;
        database
    }

    /// Makes one more on the same server, with the extension as that version had it. Whoever makes it drops it.
    pub async fn of_version(&self, version: &str) -> Self {
        let database = Database { name: database_name(), issuer: Issuer::generate(), server: self.server.clone() };
        run(&self.superuser().await, &format!("CREATE DATABASE {} TEMPLATE template0", database.name)).await;
        fill(&database, &format!("CREATE EXTENSION pg_tenancy VERSION '{version}'")).await;
        database
    }

    pub async fn superuser(&self) -> Client {
        connect(&self.config()).await
    }

    pub async fn application(&self) -> Client {
        connect(self.config().user(APPLICATION)).await
    }

    pub async fn owner(&self) -> Client {
        connect(self.config().user(OWNER)).await
    }

    /// A connection as the superuser, to be changed.
    pub fn config(&self) -> Config {
        let mut config = self.server.clone();
        config.dbname(&self.name);
        config
    }

    /// A client program of the server's installation, pointed to this database.
    pub fn program(&self, name: &str) -> Command {
        let path =
            std::env::var("PG_TENANCY_BIN").map_or_else(|_| PathBuf::from(name), |bin| PathBuf::from(bin).join(name));
        let mut command = Command::new(path);
        command.env("PGDATABASE", &self.name);
        command
    }

    /// Dumps the database and restores it into a new one, whose name is returned.
    pub async fn restore_a_dump(&self) -> String {
        let dump = self.program("pg_dump").arg("--format=plain").output().unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        let restored = format!("{}_restored", self.name);
        run(&self.superuser().await, &format!("CREATE DATABASE {restored} TEMPLATE template0")).await;
        let mut psql = self.program("psql");
        psql.env("PGDATABASE", &restored);
        run_script(psql, &dump.stdout);
        restored
    }

    /// A token of a member, signed with the HMAC key.
    pub fn token(&self, subject: &str) -> String {
        self.issuer.token(subject)
    }
}

/// Runs a script in psql and returns what was told on the way: notices and warnings.
pub fn run_script(mut psql: Command, script: &[u8]) -> String {
    psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1"]);
    psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut psql = psql.spawn().unwrap();
    psql.stdin.take().unwrap().write_all(script).unwrap();
    let done = psql.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{told}");
    told
}

/// Opens a connection and keeps it going until the client is dropped.
pub async fn connect(config: &Config) -> Client {
    try_connect(config).await.expect("a connection to the test server")
}

pub async fn try_connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// What a test that cannot run here ends with: a failure, unless PG_TENANCY_SKIP allows to leave tests out.
pub fn skipped(why: &str) {
    assert!(
        std::env::var_os("PG_TENANCY_SKIP").is_some(),
        "not run: {why}. To start a server of the tests: make check, or tools/cluster.sh start test and then \
         eval \"$(tools/cluster.sh env test)\". PG_TENANCY_SKIP=1 lets what cannot run here pass."
    );
    println!("skipped: {why}");
}

/// The Python with the packages of tests/clients/python/requirements.txt.
pub fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/python/bin/python");
    if !python.exists() {
        skipped("tools/setup.sh clients has not installed the packages of Python");
        return None;
    }
    Some(python)
}

/// The server of the environment, if one is named.
pub fn server() -> Option<Config> {
    let host = std::env::var("PGHOST").ok()?;
    let mut config = Config::new();
    if host.starts_with('/') {
        config.host_path(&host)
    } else {
        config.host(&host)
    };
    config.port(std::env::var("PGPORT").map_or(5432, |port| port.parse().expect("PGPORT is a number")));
    config.user(std::env::var("PGUSER").unwrap_or_else(|_| "postgres".into()));
    if let Ok(password) = std::env::var("PGPASSWORD") {
        config.password(password);
    }
    config.dbname("postgres");
    Some(config)
}

/// The major version of the server.
pub fn major() -> u32 {
    std::env::var("PG_TENANCY_MAJOR").map_or(15, |major| major.parse().expect("PG_TENANCY_MAJOR is a number"))
}

/// Runs `test` in a database of its own, which is dropped afterwards, and checks that the server outlived it.
pub fn in_database(test: impl AsyncFnOnce(&Database)) {
    if let Some((before, after)) = host(test) {
        assert_eq!(before, after, "the server restarted under the test");
    }
}

/// Whether the environment's server has the roles of the tests.
static PREPARED: AtomicBool = AtomicBool::new(false);

/// Returns what the server said of its start before the test and after it; `None` without a server.
fn host(test: impl AsyncFnOnce(&Database)) -> Option<([String; 2], [String; 2])> {
    let Some(server) = server() else {
        skipped("PGHOST names no server");
        return None;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = Database { name: database_name(), issuer: Issuer::generate(), server };
    let before = runtime.block_on(async {
        let admin = connect(&database.server).await;
        if !PREPARED.load(Ordering::Acquire) {
            prepare_cluster(&admin).await;
            PREPARED.store(true, Ordering::Release);
        }
        admin.batch_execute(&format!("CREATE DATABASE {} TEMPLATE template0", database.name)).await.unwrap();
        started(&admin).await
    });
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            fill(&database, NEWEST).await;
            test(&database).await;
        });
    }));
    let after = runtime.block_on(async {
        let admin = connect(&database.server).await;
        admin.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", database.name)).await.ok();
        started(&admin).await
    });
    outcome.unwrap_or_else(|panic| resume_unwind(panic));
    Some((before, after))
}

/// A name that no other test uses.
pub fn database_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("test_tenancy_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// When the postmaster started, and when the checkpointer did, which a crash of any process ends as well.
async fn started(client: &Client) -> [String; 2] {
    let sql = "SELECT pg_postmaster_start_time()::text, backend_start::text
                 FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
    let row = client.query_one(sql, &[]).await.unwrap();
    [row.get(0), row.get(1)]
}

/// Creates what all databases share: the roles of the tests and, so that no two tests race for them, those of the
/// extension.
async fn prepare_cluster(admin: &Client) {
    admin.batch_execute("SET client_min_messages = warning; SELECT pg_advisory_lock(7325)").await.unwrap();
    let password = std::env::var("PGPASSWORD").unwrap_or_default().replace('\'', "''");
    for role in [
        "tenancy_application",
        "tenancy_admin",
        "tenancy_operator",
        "tenancy_auditor",
        "tenancy_custodian",
        "tenancy_trail",
        APPLICATION,
        OWNER,
    ] {
        if count(admin, &format!("SELECT count(*) FROM pg_roles WHERE rolname = '{role}'")).await == 0 {
            let create = format!("CREATE ROLE {role}; COMMENT ON ROLE {role} IS 'made by the tests of pg_tenancy'");
            admin.batch_execute(&create).await.unwrap();
        }
    }
    let roles = format!(
        "ALTER ROLE {APPLICATION} LOGIN PASSWORD '{password}'; ALTER ROLE {OWNER} LOGIN PASSWORD '{password}';
         GRANT tenancy_application TO {APPLICATION}; GRANT tenancy_admin TO {OWNER};"
    );
    admin.batch_execute(&roles).await.unwrap();
    admin.batch_execute("SELECT pg_advisory_unlock(7325)").await.unwrap();
}

/// How a database gets the extension, where no older version is asked for.
const NEWEST: &str = "CREATE EXTENSION pg_tenancy";

/// The extension, the issuer, the tables and the tenants.
async fn fill(database: &Database, create_extension: &str) {
    let superuser = database.superuser().await;
    superuser.batch_execute(create_extension).await.unwrap();
    register(&superuser, &database.issuer).await;
    superuser.batch_execute(SCHEMA).await.unwrap();
}

/// Makes the keys of `issuer` those of [`issuer::ISSUER`].
pub async fn register(superuser: &Client, issuer: &Issuer) {
    let sql = "SELECT tenancy.set_issuer($1, ARRAY[$2], jwks_file => $3, leeway_seconds => 0)";
    let file = key_file(superuser, &issuer.key_set()).await;
    superuser.execute(sql, &[&issuer::ISSUER, &issuer::AUDIENCE, &file]).await.unwrap();
}

/// Writes a key file of a new name where the server reads them, as the server's user; returns the name.
pub async fn key_file(superuser: &Client, jwks: &str) -> String {
    let name = format!("{}.json", Uuid::from_u128(rand::random()));
    write_key_file(superuser, &name, jwks).await;
    name
}

/// Writes the key file of that name, new or not.
pub async fn write_key_file(superuser: &Client, name: &str, jwks: &str) {
    let folder = value(superuser, "SELECT current_setting('tenancy.jwks_directory')").await;
    let program =
        format!("umask 077 && cat > \"{folder}/{name}.new\" && mv \"{folder}/{name}.new\" \"{folder}/{name}\"");
    superuser.batch_execute(&format!("COPY (SELECT '{jwks}') TO PROGRAM '{program}'")).await.unwrap();
}
