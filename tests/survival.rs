//! What leaves the database and comes back is protected as it was: dumps of every format, and logical replication.

mod common;

use std::process::Command;

use common::protection::*;
use common::server::{fails, succeeds};
use common::*;
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
        if arguments.contains(&"--jobs") {
            restore.env("PGOPTIONS", "-c session_replication_role=replica");
        }
        if arguments.contains(&"--disable-triggers") {
            // It takes protection away for a while, and says why.
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
        let of_the_reason =
            |row: &&String| row.contains(",override,guardrail,") || row.starts_with("tenancy.event_actor");
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
