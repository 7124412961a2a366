//! The metrics have the names that the documentation lists, and real exporters serve them with the files of
//! `examples/monitoring`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::action_types::{act, prepare, request};
use crate::common::server::Folder;
use crate::common::*;
use crate::secrets::{put, with_a_key};
use tokio_postgres::Client;

/// Metrics of the documentation with their labels; those that name secrets apart.
fn documented() -> [BTreeMap<String, BTreeSet<String>>; 2] {
    let page = std::fs::read_to_string("docs/monitoring.md").unwrap();
    let (_, page) = page.split_once("\n## Metrics\n").unwrap();
    let (all, named) = page.split("\n## ").next().unwrap().split_once("No label has the name of a secret").unwrap();
    [all, named].map(|part| {
        let rows = part.lines().filter_map(|line| line.strip_prefix("| `pg_tenancy_"));
        let read = |row: &str| {
            let cells: Vec<&str> = row.split(" | ").collect();
            let labels = cells[1].split('`').filter(|label| !label.trim_matches([' ', ',', '|']).is_empty());
            (format!("pg_tenancy_{}", cells[0].trim_end_matches('`')), labels.map(str::to_owned).collect())
        };
        rows.map(read).collect()
    })
}

/// The metrics of a query with columns name and labels.
async fn returned(client: &Client, metrics: &str) -> BTreeMap<String, BTreeSet<String>> {
    let sql = format!(
        "SELECT m.name, coalesce(string_agg(DISTINCT k, ' '), '') FROM {metrics} m
           LEFT JOIN LATERAL jsonb_object_keys(m.labels) k ON true GROUP BY m.name"
    );
    let read = |row: Vec<Option<String>>| {
        let labels = row[1].as_deref().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        (row[0].clone().unwrap(), labels)
    };
    rows(client, &sql).await.into_iter().map(read).collect()
}

/// A database in which each metric has a value.
async fn with_every_metric(database: &Database, superuser: &Client) {
    let client = database.application().await;
    prepare(superuser).await;
    with_a_key(superuser).await;
    let alice = database.token("alice");
    as_tenant(&client, &alice).await;
    put(&client, "a name that tells", "one").await.unwrap();
    run(&client, "COMMIT").await;
    act(&client, &alice, &request("instance.stop")).await.unwrap();
    let kind = "SELECT tenancy.define_exception_kind('free', 'test', '{\"approvals\": 0}', 'test')";
    run(superuser, kind).await;
    let exception = "SELECT tenancy.add_exception('free', 't', 'a reason that says enough', now() + interval '1 day')";
    act(&client, &alice, exception).await.unwrap();
    run(superuser, "SELECT tenancy.seal(); SELECT * FROM tenancy.verify_audit(); SELECT tenancy.checkpoint()").await;
}

#[test]
fn the_metrics_are_those_that_the_documentation_lists() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        with_every_metric(database, &superuser).await;
        let [documented, with_names] = documented();
        assert_eq!(returned(&superuser, "tenancy.metric").await, documented);
        let every = documented.into_iter().chain(with_names).collect();
        assert_eq!(returned(&superuser, "tenancy.metrics(true)").await, every);
        let telling = "SELECT count(*) FROM tenancy.metric WHERE metric::text LIKE '%tells%'";
        assert_eq!(count(&superuser, telling).await, 0, "no label has the name of a secret");
        let twice =
            "SELECT count(*) FROM (SELECT FROM tenancy.metrics(true) GROUP BY name, labels HAVING count(*) > 1) s";
        assert_eq!(count(&superuser, twice).await, 0, "each series has one value");
        // As the documentation has it, an exporter reads the metrics and nothing else.
        let exporter = exporter(&superuser).await;
        run(&superuser, &format!("SET ROLE {exporter}")).await;
        assert!(count(&superuser, "SELECT count(*) FROM tenancy.metric").await > 20);
        for other in ["secret", "secret_posture", "posture", "audit_lag", "event", "organization"] {
            assert_eq!(
                refused(&superuser, &format!("SELECT * FROM tenancy.{other}")).await.sqlstate,
                "42501",
                "{other}"
            );
        }
        run(&superuser, &format!("RESET ROLE; DROP OWNED BY {exporter}; DROP ROLE {exporter}")).await;
    });
}

/// Runs the statements of the documentation for a role of another name, and returns the name.
async fn exporter(superuser: &Client) -> String {
    let page = std::fs::read_to_string("docs/monitoring.md").unwrap();
    let begin = page.find("CREATE ROLE exporter").unwrap();
    let sql = &page[begin..begin + page[begin..].find("```").unwrap()];
    let name = database_name().replace("pg_tenancy", "exporter");
    run(superuser, &sql.replace("exporter", &name).replace("'...'", "'secret-of-the-exporter'")).await;
    name
}

/// A program that is killed with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(name: &str) -> Option<PathBuf> {
    let program = PathBuf::from(format!("target/server/{name}/usr/bin/{name}"));
    if !program.exists() {
        skipped(&format!("{name} is missing: tools/setup.sh clients"));
        return None;
    }
    Some(program)
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// What an exporter serves, once that has this metric: one of them asks the database in the background.
fn scraped(mut exporter: Command, port: u16, until: &str) -> String {
    let _running = Running(exporter.stdin(Stdio::null()).spawn().unwrap());
    for _ in 0..300 {
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            if answer.contains(until) {
                return answer;
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the exporter does not serve");
}

/// Labels that an exporter adds.
const OF_EXPORTERS: [&str; 7] = ["server", "col", "database", "driver", "host", "sql_job", "user"];

/// Metrics of ours in the text that Prometheus reads, with those of their labels that the documentation has.
fn served(answer: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut served = BTreeMap::<String, BTreeSet<String>>::new();
    let lines = answer.lines().map(|line| line.strip_prefix("sql_").unwrap_or(line));
    for line in lines.filter(|line| line.starts_with("pg_tenancy_")) {
        let name = line.split(['{', ' ']).next().unwrap();
        let labels = line.split_once('{').and_then(|(_, labels)| labels.split_once('}')).unwrap_or_default().0;
        let labels = labels.split(',').filter_map(|label| label.split_once('=')).map(|(label, _)| label.to_owned());
        served.entry(name.to_owned()).or_default().extend(labels.filter(|label| !OF_EXPORTERS.contains(&&**label)));
    }
    served
}

#[test]
fn exporters_serve_every_metric() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        with_every_metric(database, &superuser).await;
        let (Some(postgres_exporter), Some(sql_exporter)) =
            (program("prometheus-postgres-exporter"), program("prometheus-sql-exporter"))
        else {
            return;
        };
        let [documented, _] = documented();
        let role = exporter(&superuser).await;
        let port = value(&superuser, "SELECT current_setting('port')").await;
        let source =
            format!("postgres://{role}:secret-of-the-exporter@127.0.0.1:{port}/{}?sslmode=disable", database.name);

        let own_port = free_port();
        let mut command = Command::new(postgres_exporter);
        command.env("DATA_SOURCE_NAME", &source).args([
            "--disable-default-metrics",
            "--disable-settings-metrics",
            "--extend.query-path=examples/monitoring/postgres_exporter.yaml",
            &format!("--web.listen-address=127.0.0.1:{own_port}"),
        ]);
        assert_eq!(served(&scraped(command, own_port, "")), documented, "postgres_exporter");

        let folder = Folder::create("exporter").unwrap();
        let configuration = std::fs::read_to_string("examples/monitoring/sql_exporter.yml").unwrap();
        let configuration: String = configuration
            .lines()
            .map(|line| match line.split_once("- postgres://") {
                Some((before, _)) => format!("{before}- {source}\n"),
                None => format!("{line}\n"),
            })
            .collect();
        std::fs::write(folder.0.join("sql_exporter.yml"), configuration).unwrap();
        let own_port = free_port();
        let mut command = Command::new(sql_exporter);
        command.arg("-config.file").arg(folder.0.join("sql_exporter.yml"));
        command.arg("-web.listen-address").arg(format!("127.0.0.1:{own_port}"));
        assert_eq!(served(&scraped(command, own_port, "sql_pg_tenancy_alerts_total")), documented, "sql_exporter");
        run(&superuser, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    });
}
