//! Reads of tables that are marked as sensitive, on a server of its own with the library preloaded: each statement
//! that reads one leaves an event, whatever becomes of its transaction.

use crate::common::server::{Folder, Server, programs};
use crate::common::*;
use tokio_postgres::{Client, Config};

/// A server with the library preloaded, and a worker.
pub struct Watching {
    pub server: Server,
    _folder: Folder,
}

impl Watching {
    async fn start(name: &str, interval: &str) -> Option<Self> {
        let folder = Folder::create(name)?;
        let server = Server::at(&programs()?, folder.0.join("data"));
        server.initialize();
        let watching = Watching { server, _folder: folder };
        let socket = std::env::var("PGHOST").unwrap();
        watching.server.start(&format!(
            "-c unix_socket_directories={socket} -c shared_preload_libraries=pg_tenancy -c compute_query_id=on \
             -c tenancy.jwks_directory={}",
            watching.server.data.display()
        ));
        watching.seals_every(interval).await;
        Some(watching)
    }

    pub fn config(&self) -> Config {
        let mut config = self.server.config();
        config.dbname("postgres").application_name("test");
        config
    }

    /// Not on the command line, which no later setting would override.
    pub async fn seals_every(&self, interval: &str) {
        let client = self.client().await;
        run(&client, &format!("ALTER SYSTEM SET tenancy.seal_interval = '{interval}'")).await;
        run(&client, "SELECT pg_reload_conf()").await;
    }

    async fn client(&self) -> Client {
        connect(&self.config()).await
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.server.data.join("server.log")).unwrap_or_default()
    }
}

pub fn on_a_server(name: &str, interval: &str, test: impl AsyncFnOnce(&Watching)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match Watching::start(name, interval).await {
            Some(server) => test(&server).await,
            None => skipped("no programs of a server to start"),
        }
    });
}

/// Two organizations, and tables of which `patient` and the partitioned `visit` are marked.
const SCHEMA: &str = "
    CREATE EXTENSION pg_tenancy;
    SELECT tenancy.create_organization('Acme', 'aaaaaaaa-0000-4000-8000-000000000001'),
           tenancy.create_organization('Globex', 'bbbbbbbb-0000-4000-8000-000000000002');
    SELECT tenancy.create_role('reader'), tenancy.grant_permission('reader', '*', 'read');
    CREATE TABLE patient (id int PRIMARY KEY, organization_id uuid NOT NULL, name text);
    INSERT INTO patient SELECT n, 'aaaaaaaa-0000-4000-8000-000000000001', 'p' || n FROM generate_series(1, 100) n;
    INSERT INTO patient SELECT n, 'bbbbbbbb-0000-4000-8000-000000000002', 'p' || n FROM generate_series(101, 200) n;
    SELECT tenancy.protect('patient', domain => 'health');
    CREATE TABLE visit (id int, at date) PARTITION BY RANGE (at);
    CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    CREATE TABLE visit_2 PARTITION OF visit FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
    INSERT INTO visit VALUES (1, '2026-01-05'), (2, '2026-02-05'), (3, '2026-02-06');
    CREATE TABLE plain (id int PRIMARY KEY, patient int REFERENCES patient ON DELETE CASCADE);
    CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent);
    INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2);
    CREATE VIEW named AS SELECT id, name FROM patient;
    CREATE FUNCTION counted() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM patient); END';
    CREATE ROLE app LOGIN;
    GRANT tenancy_application, pg_write_server_files TO app;
    GRANT SELECT ON patient, named, visit TO app;";

/// A case: what is run, and the reads that it leaves: table, command, rows, result.
type Case = (&'static str, &'static [&'static str]);

const CASES: &[Case] = &[
    ("SELECT count(*) FROM patient", &["patient SELECT 1 success"]),
    ("SELECT * FROM patient WHERE id < 4", &["patient SELECT 3 success"]),
    ("SELECT * FROM patient WHERE id = -1", &["patient SELECT 0 success"]),
    ("BEGIN; SELECT * FROM patient WHERE id < 3; ROLLBACK", &["patient SELECT 2 success"]),
    ("BEGIN READ ONLY; SELECT * FROM patient WHERE id < 6; COMMIT", &["patient SELECT 5 success"]),
    ("BEGIN; SAVEPOINT s; SELECT * FROM patient WHERE id < 7; ROLLBACK TO s; COMMIT", &["patient SELECT 6 success"]),
    (
        "BEGIN; DECLARE c CURSOR FOR SELECT * FROM patient; FETCH 3 FROM c; MOVE 4 IN c; FETCH 2 FROM c; COMMIT",
        &["patient SELECT 9 success"],
    ),
    ("BEGIN; DECLARE c CURSOR FOR SELECT * FROM patient; FETCH 3 FROM c; ROLLBACK", &["patient SELECT 3 success"]),
    ("BEGIN; DECLARE c CURSOR FOR SELECT * FROM patient; COMMIT", &[]),
    (
        "PREPARE s AS SELECT * FROM patient WHERE id < $1; EXECUTE s(3); EXECUTE s(2); DEALLOCATE s",
        &["patient SELECT 1 success", "patient SELECT 2 success"],
    ),
    ("EXPLAIN SELECT * FROM patient", &[]),
    ("EXPLAIN ANALYZE SELECT * FROM patient", &["patient SELECT 200 success"]),
    ("COPY patient TO '/dev/null'", &["patient COPY 200 success"]),
    ("COPY (SELECT * FROM patient LIMIT 7) TO '/dev/null'", &["patient SELECT 7 success"]),
    ("SELECT * FROM named WHERE id < 3", &["patient SELECT 2 success"]),
    ("SELECT counted()", &["patient SELECT 1 success"]),
    (
        "DO 'BEGIN FOR n IN 1 .. 2 LOOP PERFORM FROM patient WHERE id = n; END LOOP; END'",
        &["patient SELECT 1 success", "patient SELECT 1 success"],
    ),
    ("WITH p AS MATERIALIZED (SELECT * FROM patient) SELECT 1 FROM p LIMIT 1", &["patient SELECT 1 success"]),
    ("SELECT 1 WHERE EXISTS (SELECT FROM patient)", &["patient SELECT 1 success"]),
    ("CREATE TABLE copy AS SELECT * FROM patient; DROP TABLE copy", &["patient SELECT 200 success"]),
    ("INSERT INTO plain SELECT id FROM patient WHERE id < 11; DELETE FROM plain", &["patient INSERT 10 success"]),
    ("UPDATE patient SET name = name WHERE id = 1", &["patient UPDATE 1 success"]),
    ("UPDATE patient SET name = 'same'", &[]),
    ("DELETE FROM patient WHERE false RETURNING *", &["patient DELETE 0 success"]),
    (
        "MERGE INTO plain USING patient ON false WHEN NOT MATCHED AND patient.id = 1 THEN INSERT VALUES (1); DELETE \
            FROM plain",
        &["patient MERGE 1 success"],
    ),
    ("SELECT * FROM patient a JOIN visit v ON v.id = a.id", &["patient SELECT 3 success", "visit SELECT 3 success"]),
    ("SELECT * FROM visit", &["visit SELECT 3 success"]),
    ("SELECT * FROM visit WHERE at > '2026-02-01'", &["visit SELECT 2 success"]),
    ("SELECT * FROM visit_2", &["visit SELECT 2 success"]),
    ("SELECT * FROM parent", &["child SELECT 2 success"]),
    ("SELECT * FROM ONLY parent", &[]),
    ("SELECT id FROM plain", &[]),
    // Postgres asks whether the key is there; nobody reads.
    ("INSERT INTO plain VALUES (1, 1); UPDATE plain SET patient = 2; DELETE FROM plain", &[]),
];

/// Ends with an error: as above.
const FAILING: &[Case] = &[
    ("SELECT 1 / (id - 5) FROM (SELECT id FROM patient ORDER BY id OFFSET 0) p", &["patient SELECT 4 failed"]),
    ("BEGIN; SELECT * FROM patient WHERE id < 3; SELECT 1 / 0", &["patient SELECT 2 success"]),
    (
        "BEGIN; DECLARE c CURSOR FOR SELECT 1 / (id - 5) FROM (SELECT id FROM patient ORDER BY id OFFSET 0) p; FETCH \
            2 FROM c; FETCH 20 FROM c",
        &["patient SELECT 4 failed"],
    ),
    (
        "INSERT INTO plain SELECT id FROM patient CROSS JOIN generate_series(1, 2) ORDER BY 1",
        &["patient INSERT 1 failed"],
    ),
    ("INSERT INTO plain SELECT id, id + 1000 FROM patient WHERE id < 3", &["patient INSERT 2 failed"]),
    (
        "COPY (SELECT 1 / (id - 5) FROM (SELECT id FROM patient ORDER BY id OFFSET 0) p) TO '/dev/null'",
        &["patient SELECT 4 failed"],
    ),
    ("COPY patient TO '/no/such/folder'", &["patient COPY - failed"]),
    ("SELECT pg_terminate_backend(pg_backend_pid()) FROM patient", &["patient SELECT 1 failed"]),
    ("SELECT nothing FROM patient", &[]),
    ("SET SESSION AUTHORIZATION app; SELECT * FROM plain", &[]),
];

const READS: &str =
    "SELECT table_name || ' ' || (data ->> 'command') || ' ' || coalesce(data ->> 'rows', '-') || ' ' || result
    FROM tenancy.audit_trail WHERE operation = 'read'";

/// Waits until the worker has written everything that was sent.
pub async fn drained(client: &Client) {
    eventually(client, "SELECT waiting = 0 FROM tenancy.refusal_queue()").await;
}

#[test]
fn every_statement_that_reads_a_sensitive_table_is_recorded() {
    on_a_server("reads", "50ms", async |watching| {
        let admin = watching.client().await;
        run(&admin, SCHEMA).await;
        // A session that knew of no mark hears of it, and of its end.
        let other = watching.client().await;
        run(&other, "SELECT count(*) FROM patient").await;
        run(
            &admin,
            "SELECT tenancy.set_sensitive(t, true, 'health data') FROM unnest('{patient,visit,child}'::regclass[]) t",
        )
        .await;
        run(&other, "SELECT count(*) FROM patient; SET application_name = 'heard'; SELECT count(*) FROM patient").await;
        for (n, (sql, _)) in CASES.iter().enumerate() {
            run(&other, &format!("SET application_name = 'case {n}'")).await;
            run(&other, sql).await;
        }
        for (n, (sql, _)) in FAILING.iter().enumerate() {
            let client = watching.client().await;
            run(&client, &format!("SET application_name = 'failing {n}'")).await;
            assert!(client.batch_execute(sql).await.is_err(), "{sql}");
        }
        run(
            &other,
            "SET application_name = 'parallel'; SET min_parallel_table_scan_size = 0; SET parallel_setup_cost \
            = 0; SET parallel_tuple_cost = 0; ALTER TABLE patient SET (parallel_workers = 2)",
        )
        .await;
        let plan = column(&other, "EXPLAIN SELECT * FROM patient WHERE name <> ''").await.join("\n");
        assert!(plan.contains("Gather"), "{plan}");
        run(&other, "SELECT * FROM patient WHERE name <> ''").await;
        drained(&admin).await;

        let of =
            async |name: String| column(&admin, &format!("{READS} AND application_name = '{name}' ORDER BY 1")).await;
        assert_eq!(of("heard".into()).await, ["patient SELECT 1 success"]);
        for (group, cases) in [("case", CASES), ("failing", FAILING)] {
            for (n, (sql, expected)) in cases.iter().enumerate() {
                assert_eq!(of(format!("{group} {n}")).await, *expected, "{sql}");
            }
        }
        assert_eq!(of("parallel".into()).await, ["patient SELECT 200 success"], "the leader tells of its workers");
        let ids = "SELECT count(*) FROM tenancy.audit_trail WHERE operation = 'read' AND (data ->> \
            'query_id')::bigint IS NULL";
        assert_eq!(count(&admin, ids).await, 0, "a read has no query id");
        let queue = "SELECT waiting || ' ' || dropped FROM tenancy.refusal_queue()";
        assert_eq!(value(&admin, queue).await, "0 0");
        eventually(
            &admin,
            "SELECT NOT EXISTS (SELECT FROM tenancy.event e WHERE NOT EXISTS (SELECT FROM tenancy.entry \
            s WHERE s.batch = e.batch))",
        )
        .await;
        assert_audit_is_whole(&admin).await;

        // No longer marked.
        run(&admin, "SELECT tenancy.set_sensitive('patient', false, 'moved')").await;
        run(&other, "SET application_name = 'over'; SELECT count(*) FROM patient; SELECT count(*) FROM visit").await;
        drained(&admin).await;
        assert_eq!(of("over".into()).await, ["visit SELECT 1 success"]);
        let marks = "SELECT operation || ' ' || (new_values ->> 'sensitive') || ' ' || (new_values ->> 'reason') FROM \
            tenancy.audit_trail
                      WHERE table_name = 'sensitive_table' AND row_key ->> 'table' LIKE '%patient' ORDER BY position";
        assert_eq!(
            column(&admin, marks).await,
            ["insert true health data", "update false moved"],
            "a mark is an event itself"
        );
    });
}

#[test]
fn a_read_is_of_whoever_made_it() {
    on_a_server("reads-who", "50ms", async |watching| {
        let admin = watching.client().await;
        run(&admin, SCHEMA).await;
        let issuer = issuer::Issuer::generate();
        let file = key_file(&admin, &issuer.key_set()).await;
        let register = "SELECT tenancy.set_issuer($1, ARRAY[$2], jwks_file => $3)";
        admin.execute(register, &[&issuer::ISSUER, &issuer::AUDIENCE, &file]).await.unwrap();
        run(
            &admin,
            "SELECT tenancy.set_membership('aaaaaaaa-0000-4000-8000-000000000001', 'victor', 'reader'),
                            tenancy.set_sensitive('patient', true, 'health data')",
        )
        .await;
        let app = connect(watching.config().user("app")).await;

        let token = issuer.token("victor");
        as_tenant(&app, &token).await;
        run(&app, "SET LOCAL application_name = 'as usual'; SELECT * FROM patient; ROLLBACK").await;
        // Who signs out in the middle has read all the same.
        as_tenant(&app, &token).await;
        run(&app, "SET LOCAL application_name = 'signed out'").await;
        let sql = "SELECT *, tenancy.sign_out() FROM patient WHERE id < 5";
        assert_eq!(refused(&app, sql).await.sqlstate, "28000");
        run(&app, "ROLLBACK").await;
        as_tenant(&app, &token).await;
        run(&app, "SET LOCAL application_name = 'copied'; COPY patient TO '/dev/null'; ROLLBACK").await;
        // The policy refuses: nothing is read, and nothing recorded as if it were.
        assert_eq!(refused(&app, "SELECT * FROM patient").await.sqlstate, "28000");
        // Nobody passes an event of their own off as a read, or takes a mark away.
        as_tenant(&app, &token).await;
        for (sql, sqlstate) in [
            ("SELECT tenancy.record_event('read')", "22023"),
            ("SELECT tenancy.set_sensitive('patient', false, 'x')", "42501"),
            ("DELETE FROM tenancy.sensitive_table", "42501"),
        ] {
            assert_eq!(refused_within(&app, sql).await.sqlstate, sqlstate, "{sql}");
        }
        run(&app, "ROLLBACK").await;
        run(&admin, "SET application_name = 'superuser'; SELECT * FROM patient").await;
        drained(&admin).await;
        let who = "SELECT application_name || ' ' || left(organization::text, 1) || ' ' || coalesce(subject, '-') || \
            ' ' || session_user_name || ' ' || domain || ' ' || (data ->> 'rows')
                     FROM tenancy.audit_trail WHERE operation = 'read' ORDER BY 1";
        assert_eq!(
            column(&admin, who).await,
            [
                "as usual a victor app health 100",
                "copied a victor app health 100",
                "signed out a victor app health 1",
                "superuser 0 - postgres health 200"
            ]
        );
    });
}

#[test]
fn a_mark_stays_with_its_table() {
    on_a_server("reads-marks", "50ms", async |watching| {
        let admin = watching.client().await;
        run(&admin, SCHEMA).await;
        for (sql, sqlstate) in [
            ("SELECT tenancy.set_sensitive('named', true, 'x')", "42809"),
            ("SELECT tenancy.set_sensitive('pg_class', true, 'x')", "42809"),
            ("CREATE TEMP TABLE t (a int); SELECT tenancy.set_sensitive('t', true, 'x')", "42809"),
            ("SELECT tenancy.set_sensitive('patient', true, ' ')", "22004"),
            ("SELECT tenancy.set_sensitive('patient', NULL, 'x')", "22004"),
            ("SELECT tenancy.set_sensitive(NULL, true, 'x')", "22004"),
        ] {
            assert_eq!(refused(&admin, sql).await.sqlstate, sqlstate, "{sql}");
        }
        let reader = watching.client().await;
        let reads = async |name: &str| {
            drained(&admin).await;
            column(&admin, &format!("{READS} AND application_name = '{name}' ORDER BY 1")).await
        };
        // One that is rolled back is none, in its own session too.
        run(
            &admin,
            "BEGIN; SELECT tenancy.set_sensitive('patient', true, 'x'); SET LOCAL application_name = \
            'inside'; SELECT count(*) FROM patient; ROLLBACK",
        )
        .await;
        run(&admin, "SET application_name = 'rolled back'; SELECT count(*) FROM patient").await;
        assert_eq!(reads("inside").await, ["patient SELECT 1 success"]);
        assert!(reads("rolled back").await.is_empty());
        run(&admin, "SELECT tenancy.set_sensitive(t, true, 'x') FROM unnest('{patient,visit}'::regclass[]) t").await;
        run(&reader, "SET application_name = 'renamed'; SELECT count(*) FROM visit").await;
        run(
            &admin,
            "ALTER TABLE visit RENAME TO appointment; CREATE SCHEMA s; ALTER TABLE appointment SET SCHEMA s; \
            ALTER SCHEMA s RENAME TO clinic;
                     CREATE TABLE clinic.new PARTITION OF clinic.appointment FOR VALUES FROM ('2026-03-01') TO \
                     ('2026-04-01')",
        )
        .await;
        run(&reader, "SELECT count(*) FROM clinic.appointment; SELECT * FROM clinic.new").await;
        assert_eq!(
            reads("renamed").await,
            ["appointment SELECT 0 success", "appointment SELECT 1 success", "visit SELECT 1 success"]
        );

        // A trigger inside of a check of a foreign key is no check.
        run(
            &admin,
            "CREATE TABLE leak (name text);
                     CREATE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO leak SELECT name \
                     FROM patient WHERE id = 7; RETURN OLD; END';
                     CREATE TRIGGER steal BEFORE DELETE ON plain FOR EACH ROW EXECUTE FUNCTION steal();
                     INSERT INTO plain VALUES (1, 1)",
        )
        .await;
        run(&reader, "SET application_name = 'thief'; BEGIN; DELETE FROM patient WHERE id = 1; ROLLBACK").await;
        assert_eq!(reads("thief").await, ["patient DELETE 1 success", "patient INSERT 1 success"]);

        // A dump names the tables; one that is gone is not in it.
        run(&admin, "SELECT tenancy.set_sensitive('child', true, 'x'); DROP TABLE child").await;
        let program = watching.server.bin.join("pg_dump");
        let mut dump = std::process::Command::new(program);
        dump.args(["-U", "postgres", "-d", "postgres", "-p"]).arg(watching.server.port.to_string());
        let dump = dump.output().unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        // What the worker sealed meanwhile would be in the way of the dump's seals.
        watching.seals_every("0").await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        eventually(&admin, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pg_tenancy sealer'").await;
        run(&admin, "CREATE DATABASE restored TEMPLATE template0").await;
        let mut psql = std::process::Command::new(watching.server.bin.join("psql"));
        psql.args(["-U", "postgres", "-d", "restored", "-p"]).arg(watching.server.port.to_string());
        run_script(psql, &dump.stdout);
        watching.seals_every("50ms").await;
        let mut config = watching.config();
        let restored = connect(config.dbname("restored")).await;
        let marks = r#"SELECT "table"::text FROM tenancy.sensitive_table ORDER BY 1"#;
        assert_eq!(column(&restored, marks).await, ["clinic.appointment", "patient"]);
        run(&restored, "SET application_name = 'restored'; SELECT count(*) FROM patient; SELECT count(*) FROM parent")
            .await;
        drained(&restored).await;
        assert_eq!(
            column(&restored, &format!("{READS} AND application_name = 'restored'")).await,
            ["patient SELECT 1 success"]
        );

        // The extension goes and comes in an open session.
        run(&reader, "SET application_name = 'again'").await;
        run(&admin, "DROP EXTENSION pg_tenancy CASCADE").await;
        run(&reader, "SELECT count(*) FROM patient").await;
        run(&admin, "CREATE EXTENSION pg_tenancy; SELECT tenancy.set_sensitive('patient', true, 'x')").await;
        run(&reader, "SELECT count(*) FROM patient WHERE id < 0").await;
        assert_eq!(reads("again").await, ["patient SELECT 1 success"]);
    });
}

#[test]
fn what_finds_no_place_is_in_the_log() {
    on_a_server("reads-queue", "1h", async |watching| {
        let admin = watching.client().await;
        run(&admin, SCHEMA).await;
        run(&admin, "SELECT tenancy.set_sensitive('patient', true, 'health data')").await;
        run(&admin, "DO 'BEGIN FOR n IN 1 .. 3000 LOOP PERFORM FROM patient WHERE id = n; END LOOP; END'").await;
        let dropped = count(&admin, "SELECT dropped FROM tenancy.refusal_queue()").await;
        assert!(dropped > 0, "the queue had room for all");
        let lines = watching.log().lines().filter(|line| line.contains("pg_tenancy: read {")).count();
        assert_eq!(lines as i64, dropped, "reads that found no place are in the log");
        watching.seals_every("50ms").await;
        drained(&admin).await;
        assert_eq!(count(&admin, "SELECT count(*) FROM tenancy.event WHERE operation = 'read'").await, 3000 - dropped);
    });
}
