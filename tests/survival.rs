//! What leaves the database and comes back is protected as it was: dumps of every format, logical replication, and
//! pg_upgrade.

use std::process::Command;

use crate::common::protection::*;
use crate::common::server::{Folder, Server, as_server, fails, programs, succeeds};
use crate::common::*;
use tokio_postgres::{Client, Config};

const FINDINGS: &str = r#"SELECT count(*) FROM "Finding""#;

/// Gives the triggers of the extension's own tables back what `--disable-triggers` took.
const MEND_TRIGGERS: &str = "DO $$
DECLARE
    mend text;
BEGIN
    FOR mend IN SELECT format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', tgrelid::regclass, tgname)
                  FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
                 WHERE c.relnamespace = 'tenancy'::regnamespace AND NOT tgisinternal AND tgenabled = 'O'
    LOOP
        EXECUTE mend;
    END LOOP;
END $$";

/// A second database beside that of the test, empty at first. Its end drops it.
struct Copy<'a> {
    of: &'a Database,
    name: String,
}

impl<'a> Copy<'a> {
    async fn create(of: &'a Database) -> Self {
        let name = format!("{}_copy", of.name);
        run(&of.superuser().await, &format!("CREATE DATABASE {name} TEMPLATE template0")).await;
        Copy { of, name }
    }

    fn config(&self) -> Config {
        let mut config = self.of.config();
        config.dbname(&self.name);
        config
    }

    async fn superuser(&self) -> Client {
        connect(&self.config()).await
    }

    async fn application(&self) -> Client {
        connect(self.config().user(APPLICATION)).await
    }

    fn program(&self, name: &str) -> Command {
        let mut command = self.of.program(name);
        command.env("PGDATABASE", &self.name);
        command
    }

    /// Runs pg_restore into it, as docs/operations.md says. What pg_restore ignores is an error here.
    fn restore(&self, archive: &Archive, arguments: &[&str]) {
        let mut restore = self.program("pg_restore");
        // Workers meet tables that other workers have not closed yet, and rows before those they refer to;
        // --disable-triggers takes protection away for a while. The guard is told why.
        if arguments.contains(&"--jobs") {
            restore.env("PGOPTIONS", "-c tenancy.override_reason=restore -c session_replication_role=replica");
        } else if arguments.contains(&"--disable-triggers") {
            restore.env("PGOPTIONS", "-c tenancy.override_reason=restore");
        }
        succeeds(restore.args(["--exit-on-error", "-d", &self.name]).args(arguments).arg(&archive.0));
    }
}

impl Drop for Copy<'_> {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        self.of.program("psql").args(["-XqAt", "-c", &drop]).output().ok();
    }
}

/// What pg_dump wrote: a file or, in the format `directory`, a folder. Its end deletes it.
struct Archive(std::path::PathBuf);

impl Archive {
    fn dump(database: &Database, arguments: &[&str]) -> Self {
        let archive = Archive(std::env::temp_dir().join(format!("{}.dump", database.name)));
        succeeds(database.program("pg_dump").args(arguments).arg("-f").arg(&archive.0));
        archive
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).or_else(|_| std::fs::remove_dir_all(&self.0)).ok();
    }
}

/// A database with tables of every kind, dumped so and restored so: nothing is lost, nothing is open.
fn survives(dump: &[&str], restore: &[&str]) {
    in_database(async |database| {
        let superuser = database.superuser().await;
        fill_with_every_kind(&superuser, &database.application().await, &database.issuer).await;
        let original = holding(&superuser).await;
        assert_eq!(undone(&superuser).await, Vec::<String>::new());

        let archive = Archive::dump(database, dump);
        let copy = Copy::create(database).await;
        if dump.contains(&"plain") {
            run_script(copy.program("psql"), &std::fs::read(&archive.0).unwrap());
        } else {
            copy.restore(&archive, restore);
        }
        assert_kept(&original, &copy.superuser().await).await;
        assert_protected(&copy.config(), &database.issuer).await;
    });
}

#[test]
fn a_plain_dump_keeps_the_protection() {
    survives(&["--format", "plain"], &[]);
}

#[test]
fn a_custom_dump_restored_in_one_transaction_keeps_the_protection() {
    survives(&["--format", "custom"], &["--single-transaction"]);
}

#[test]
fn a_parallel_dump_restored_in_parallel_keeps_the_protection() {
    survives(&["--format", "directory", "--jobs", "4"], &["--jobs", "4"]);
}

#[test]
fn a_dump_without_rows_restores_tables_that_let_nobody_in() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        fill_with_every_kind(&superuser, &database.application().await, &database.issuer).await;
        let items = holding(&superuser).await.items;
        let copy = Copy::create(database).await;
        copy.restore(&Archive::dump(database, &["--format", "custom", "--schema-only"]), &[]);

        let there = copy.superuser().await;
        assert_eq!(undone(&there).await, Vec::<String>::new());
        run(&there, "SET search_path = ''").await;
        assert_same(&items, &column(&there, ITEMS).await);
        let client = copy.application().await;
        assert_eq!(refused(&client, FINDINGS).await.sqlstate, "28000");
        assert_eq!(authenticate(&client, &database.token("alice")).await.unwrap_err().sqlstate, "28000");
    });
}

/// A role of the test's own. Its end drops it.
struct Role<'a> {
    of: &'a Database,
    name: String,
}

impl<'a> Role<'a> {
    async fn create(of: &'a Database, attributes: &str) -> Self {
        let name = format!("{}_role", of.name);
        let password = std::env::var("PGPASSWORD").unwrap_or_default();
        run(&of.superuser().await, &format!("CREATE ROLE {name} LOGIN PASSWORD '{password}' {attributes}")).await;
        Role { of, name }
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        let drop = format!("DROP ROLE {}", self.name);
        self.of.program("psql").args(["-XqAt", "-c", &drop]).output().ok();
    }
}

#[test]
fn whoever_does_not_see_every_row_gets_no_partial_dump() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        fill_with_every_kind(&superuser, &database.application().await, &database.issuer).await;
        let dump = |role: &str, arguments: &[&str]| {
            let mut pg_dump = database.program("pg_dump");
            pg_dump.args(["--username", role]).args(arguments);
            pg_dump
        };
        // The owner of the tables is bound by their policies, and by grants on the extension's.
        let complaint = fails(&mut dump(OWNER, &["--schema", "public"]));
        assert!(complaint.contains("row-level security"), "{complaint}");
        // Asked to dump what it may see, it has no context to see it in.
        let complaint = fails(&mut dump(OWNER, &["--schema", "public", "--enable-row-security"]));
        assert!(complaint.contains("tenancy.authenticate"), "{complaint}");

        // Past the policies without being superuser.
        let role = Role::create(database, "BYPASSRLS IN ROLE pg_read_all_data").await;
        let original = holding(&superuser).await;
        let copy = Copy::create(database).await;
        copy.restore(&Archive::dump(database, &["--format", "custom", "--username", &role.name]), &[]);
        assert_kept(&original, &copy.superuser().await).await;
    });
}

#[test]
fn a_dump_without_comments_is_closed_and_protect_mends_it() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        fill_with_every_kind(&superuser, &database.application().await, &database.issuer).await;
        let archive = Archive::dump(database, &["--format", "custom"]);
        let copy = Copy::create(database).await;
        copy.restore(&archive, &["--no-comments"]);
        let client = copy.application().await;
        for table in PROTECTED {
            assert_eq!(refused(&client, &format!("SELECT FROM {table}")).await.sqlstate, "28000", "{table}");
        }
        as_tenant(&client, &database.token("alice")).await;
        assert_eq!(count(&client, FINDINGS).await, 5);
    });
}

#[test]
fn data_loaded_without_triggers_leaves_some_to_be_mended() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        fill_with_every_kind(&superuser, &database.application().await, &database.issuer).await;
        let copy = Copy::create(database).await;
        let archive = Archive::dump(database, &["--format", "custom"]);
        copy.restore(&archive, &["--schema-only"]);
        copy.restore(&archive, &["--data-only", "--disable-triggers"]);

        let (original, there) = (holding(&superuser).await, copy.superuser().await);
        let audit = holding(&there).await.audit;
        let added: Vec<&String> = audit.iter().filter(|row| !original.audit.contains(row)).collect();
        let of_the_reason = |row: &&String| {
            row.contains(",override,guardrail,") || row.contains(",schema,") || row.starts_with("tenancy.event_actor")
        };
        assert!(!added.is_empty() && added.iter().all(of_the_reason), "no row was audited, but the reason: {added:?}");
        let undone_there = undone(&there).await;
        assert!(undone_there.iter().any(|sql| sql.contains("ENABLE ALWAYS TRIGGER")), "{undone_there:?}");
        // As docs/operations.md has it.
        run(&there, MEND_TRIGGERS).await;
        for table in PROTECTED {
            run(&there, &format!("SELECT tenancy.protect('{table}')")).await;
        }
        run(&there, "ALTER TABLE invoice DISABLE TRIGGER off").await;
        assert_kept(&original, &there).await;
        assert_protected(&copy.config(), &database.issuer).await;
    });
}

#[test]
fn one_table_taken_out_of_an_archive_is_open_until_it_is_protected() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        fill_with_every_kind(&superuser, &database.application().await, &database.issuer).await;
        let archive = Archive::dump(database, &["--format", "custom"]);
        run(&superuser, r#"DROP TABLE "Note""#).await;
        succeeds(
            database
                .program("pg_restore")
                .args(["--exit-on-error", "-d", &database.name, "-t", "Note"])
                .arg(&archive.0),
        );
        // pg_restore -t brings rows and grants, and no policy: so it is, and so docs/operations.md says.
        let client = database.application().await;
        assert_eq!(count(&client, r#"SELECT count(*) FROM "Note""#).await, 2);
        run(&superuser, r#"SELECT tenancy.protect('"Note"', domain => 'memo')"#).await;
        assert_eq!(refused(&client, r#"SELECT FROM "Note""#).await.sqlstate, "28000");

        // pg_dump -t brings all that belongs to the table.
        let archive = Archive::dump(database, &["--format", "custom", "-t", r#""Note""#]);
        run(&superuser, r#"DROP TABLE "Note""#).await;
        succeeds(database.program("pg_restore").args(["--exit-on-error", "-d", &database.name]).arg(&archive.0));
        assert_eq!(refused(&client, r#"SELECT FROM "Note""#).await.sqlstate, "28000");
        assert_eq!(undone(&superuser).await, Vec::<String>::new());
    });
}

#[test]
fn nobody_reads_a_table_before_the_restore_has_closed_it() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        fill_with_every_kind(&superuser, &database.application().await, &database.issuer).await;
        // Default privileges would be in force from the start: the tables would be granted before they are closed.
        run(
            &superuser,
            &format!(
                "ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public REVOKE SELECT ON TABLES FROM {APPLICATION}"
            ),
        )
        .await;
        let script = succeeds(&mut database.program("pg_dump"));
        for table in PROTECTED {
            let place = |statement: String| {
                script.rfind(&statement).unwrap_or_else(|| panic!("{statement} is not in the dump"))
            };
            let closed = place(format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"));
            assert!(
                closed < place(format!("GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE {table} TO {APPLICATION}")),
                "{table}"
            );
        }
    });
}

/// A subscription of the copy to the original. Its end drops it, without which the copy could not be dropped.
struct Subscription<'a>(&'a Copy<'a>);

impl<'a> Subscription<'a> {
    /// Replicates what the publication names, initial rows included. The slot is made apart, because a subscription to
    /// a database of the same server would wait for itself.
    async fn create(copy: &'a Copy<'a>, publication: &str) -> Self {
        let subscription = Subscription(copy);
        let slot = format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", copy.name);
        value(&copy.of.superuser().await, &slot).await;
        let host = std::env::var("PGHOST").unwrap();
        let port = std::env::var("PGPORT").unwrap();
        let source = format!("host=''{host}'' port={port} user=postgres dbname={}", copy.of.name);
        let run_as_owner = if major() >= 16 { ", run_as_owner = true" } else { "" };
        let subscribe = format!(
            "CREATE SUBSCRIPTION of_original CONNECTION '{source}' PUBLICATION {publication}
               WITH (create_slot = false, slot_name = {}{run_as_owner})",
            copy.name
        );
        run(&copy.superuser().await, &subscribe).await;
        subscription
    }

    /// Waits until the copy has the rows of each table that the publication names, and what was committed so far.
    async fn catch_up(&self) {
        let there = self.0.superuser().await;
        eventually(&there, "SELECT count(*) > 0 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel").await;
        let here = self.0.of.superuser().await;
        let written = value(&here, "SELECT pg_current_wal_insert_lsn()").await;
        let received = format!(
            "SELECT confirmed_flush_lsn >= '{written}' FROM pg_replication_slots WHERE slot_name = '{}'",
            self.0.name
        );
        eventually(&here, &received).await;
    }
}

impl Drop for Subscription<'_> {
    fn drop(&mut self) {
        let steps = [
            "ALTER SUBSCRIPTION of_original DISABLE",
            "ALTER SUBSCRIPTION of_original SET (slot_name = NONE)",
            "DROP SUBSCRIPTION of_original",
        ];
        for step in steps {
            self.0.program("psql").args(["-XqAt", "-c", step]).output().ok();
        }
        let slot = format!(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = '{0}' AND active;
             SELECT pg_drop_replication_slot('{0}')",
            self.0.name
        );
        self.0.of.program("psql").args(["-XqAt", "-c", &slot]).output().ok();
    }
}

#[test]
fn a_subscriber_protects_and_audits_what_it_receives() {
    in_database(async |database| {
        let (superuser, application) = (database.superuser().await, database.application().await);
        fill_with_every_kind(&superuser, &application, &database.issuer).await;
        // As docs/operations.md has it: the definitions, then the tenants, then the rows by subscription.
        let copy = Copy::create(database).await;
        copy.restore(&Archive::dump(database, &["--format", "custom", "--schema-only"]), &[]);
        copy.restore(&Archive::dump(database, &["--format", "custom", "--data-only", "--schema", "tenancy"]), &[]);
        let there = copy.superuser().await;
        let before = count(&there, "SELECT count(*) FROM tenancy.event").await;
        run(&superuser, r#"CREATE PUBLICATION application FOR TABLES IN SCHEMA public, "Cost Data""#).await;
        let subscription = Subscription::create(&copy, "application").await;
        subscription.catch_up().await;

        // What tenants change arrives, and is an event there as well.
        let copied = count(&there, "SELECT count(*) FROM tenancy.event").await;
        assert!(copied > before, "the rows that were there came without events");
        as_tenant(&application, &database.token("alice")).await;
        let change = r#"UPDATE "Finding" SET title = 'replicated' WHERE id < 3; DELETE FROM "Finding" WHERE id = 3;
                        INSERT INTO "Cost Data".cost (id, day, cents) VALUES (7, '2026-02-02', 7);
                        DELETE FROM "Cost Data".cost WHERE id = 7; COMMIT"#;
        run(&application, change).await;
        subscription.catch_up().await;
        for table in PROTECTED {
            let all = format!("SELECT t FROM {table} t ORDER BY t::text");
            assert_same(&column(&superuser, &all).await, &column(&there, &all).await);
        }
        assert_eq!(count(&there, "SELECT count(*) FROM tenancy.event").await, copied + 5);
        let latest = format!(
            "SELECT operation FROM (SELECT * FROM tenancy.event ORDER BY id DESC LIMIT 5) e
              WHERE organization = '{ACME}' ORDER BY operation"
        );
        assert_eq!(column(&there, &latest).await, ["delete", "delete", "insert", "update", "update"]);

        // Once it is on its own: sequences are not replicated.
        drop(subscription);
        let restart = r#"SELECT setval(pg_get_serial_sequence(t, 'id'), 2000) FROM
            unnest('{"\"Finding\"",cloud_account,invoice}'::text[]) t"#;
        run(&there, restart).await;
        assert_protected(&copy.config(), &database.issuer).await;
    });
}

#[test]
fn a_change_that_replication_brings_ends_a_remembered_admission() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let copy = Copy::create(database).await;
        copy.restore(&Archive::dump(database, &["--format", "custom"]), &[]);
        let (there, client) = (copy.superuser().await, copy.application().await);
        run(&there, "BEGIN; SET LOCAL tenancy.override_reason = 'test'; DELETE FROM tenancy.membership; COMMIT").await;
        run(&superuser, "CREATE PUBLICATION members FOR TABLE tenancy.membership").await;
        let subscription = Subscription::create(&copy, "members").await;
        subscription.catch_up().await;
        let token = database.token("alice");
        for _ in 0..2 {
            as_tenant(&client, &token).await;
            run(&client, "COMMIT").await;
        }
        let suspend = format!("SELECT tenancy.set_membership('{ACME}', 'alice', 'admin', status => 'suspended')");
        run(&superuser, &suspend).await;
        subscription.catch_up().await;
        run(&client, "BEGIN").await;
        assert!(authenticate(&client, &token).await.is_err(), "admitted after the suspension has arrived");
        drop(subscription);
    });
}

/// The names of the options that a new cluster's columns have.
async fn column_options(server: &Server) -> Vec<String> {
    let client = connect(&server.config()).await;
    column(&client, "SELECT DISTINCT split_part(o, '=', 1) FROM pg_attribute, unnest(attoptions) o").await
}

/// The folders of programs that can be upgraded from: those of lower versions, and the same.
fn upgradable() -> Vec<std::path::PathBuf> {
    let older = std::env::var_os("PG_TENANCY_OLDER").unwrap_or_default();
    std::env::split_paths(&older).filter(|bin| !bin.as_os_str().is_empty()).chain(programs()).collect()
}

#[test]
fn pg_upgrade_keeps_the_protection() {
    if server().is_none() {
        skipped("PGHOST names no server");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for old in upgradable() {
        runtime.block_on(upgrade_keeps_the_protection(&old, &programs().unwrap()));
    }
}

async fn upgrade_keeps_the_protection(from: &std::path::Path, to: &std::path::Path) {
    let Some(folder) = Folder::create("upgrade") else {
        skipped("the server is not one beside which others may be put");
        return;
    };
    let old = Server::at(from, folder.0.join("old"));
    let new = Server::at(to, folder.0.join("new"));
    let mut options = format!("-c tenancy.jwks_directory={}", std::env::var("PG_TENANCY_JWKS").unwrap());
    if let Ok(loading @ ("shared" | "session")) = std::env::var("PG_TENANCY_LOADING").as_deref() {
        options.push_str(&format!(" -c {loading}_preload_libraries=pg_tenancy"));
    }
    let socket = format!("-c unix_socket_directories={}", std::env::var("PGHOST").unwrap());
    old.initialize();
    new.initialize();
    old.start(&format!("{options} {socket}"));
    new.start(&format!("{options} {socket}"));
    let known = column_options(&new).await;
    let mut unknown = column_options(&old).await;
    unknown.retain(|option| !known.contains(option));
    new.stop("fast");
    if !unknown.is_empty() {
        println!("skipped: {} marks columns with {unknown:?}, which {} refuses", from.display(), to.display());
        return;
    }
    let database = Database::create(old.config()).await;
    let superuser = database.superuser().await;
    fill_with_every_kind(&superuser, &database.application().await, &database.issuer).await;
    let original = holding(&superuser).await;
    drop(superuser);
    old.stop("fast");

    let mut upgrade = new.program("pg_upgrade");
    upgrade.args(["-U", "postgres", "--socketdir", &std::env::var("PGHOST").unwrap()]);
    upgrade.args(["-o", &options, "-O", &options]);
    upgrade.arg("-b").arg(&old.bin).arg("-B").arg(&new.bin).arg("-d").arg(&old.data).arg("-D").arg(&new.data);
    upgrade.args(["-p", &old.port.to_string(), "-P", &new.port.to_string()]);
    let upgraded = upgrade.current_dir(&folder.0).output().unwrap(); // it leaves a script there
    if !upgraded.status.success() {
        let logs = "grep -h -A3 'ERROR:\\|FATAL:\\|PANIC:' new/pg_upgrade_output.d/*/log/*.log";
        let logs = as_server("sh").args(["-c", logs]).current_dir(&folder.0).output().unwrap();
        panic!("{upgraded:?}\n{}", String::from_utf8_lossy(&logs.stdout));
    }

    new.start(&format!("{options} {socket}"));
    let mut config = new.config();
    config.dbname(&database.name);
    assert_kept(&original, &connect(&config).await).await;
    assert_protected(&config, &database.issuer).await;
}
