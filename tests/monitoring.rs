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
use serde_json::Value;
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
    program_of(name, name)
}

/// A program of an unpacked package.
fn program_of(package: &str, name: &str) -> Option<PathBuf> {
    let program = PathBuf::from(format!("target/server/{package}/usr/bin/{name}"));
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
fn scraped(mut exporter: Command, port: u16, until: &str) -> (Running, String) {
    let running = Running(exporter.stdin(Stdio::null()).spawn().unwrap());
    let answer = answer(port, "/metrics", |answer| answer.contains(until));
    (running, answer)
}

/// What a server answers, once that is as it should be.
fn answer(port: u16, path: &str, good: impl Fn(&str) -> bool) -> String {
    let mut last = String::new();
    for _ in 0..300 {
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
            last.clear();
            stream.read_to_string(&mut last).unwrap();
            if good(&last) {
                return last;
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{path} is not served as it should be: {last}");
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
        let (_running, answer) = scraped(command, own_port, "");
        assert_eq!(served(&answer), documented, "postgres_exporter");
        prometheus_answers_every_panel(&crate::evidence::Folder::new(database), own_port, &documented);

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
        let (_running, answer) = scraped(command, own_port, "sql_pg_tenancy_alerts_total");
        assert_eq!(served(&answer), documented, "sql_exporter");
        run(&superuser, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    });
}

const DASHBOARD: &str = "examples/monitoring/grafana.json";
const RULES: &str = "examples/monitoring/alerts.yml";

/// The panels of the dashboard, rows left out, with their titles and expressions.
fn panels() -> Vec<(String, Vec<String>)> {
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(DASHBOARD).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    let expressions = |panel: &Value| {
        let targets = panel["targets"].as_array().unwrap().iter();
        targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
    };
    panels.map(|panel| (panel["title"].as_str().unwrap().to_owned(), expressions(panel))).collect()
}

/// The metrics of ours that an expression names, each with the labels that stand in braces after it, and the labels
/// that the expression groups by.
fn named(expression: &str) -> (BTreeMap<String, BTreeSet<String>>, BTreeSet<String>) {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let list = |text: &str| text.split(',').map(|label| label.trim().to_owned()).collect::<Vec<_>>();
    let (mut metrics, mut groups) = (BTreeMap::<String, BTreeSet<String>>::new(), BTreeSet::new());
    let mut rest = expression;
    while let Some(begin) = rest.find("pg_tenancy_") {
        let end = rest[begin..].find(|c| !word(c)).map_or(rest.len(), |length| begin + length);
        let labels = metrics.entry(rest[begin..end].to_owned()).or_default();
        rest = &rest[end..];
        if let Some((inside, _)) = rest.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
            labels.extend(list(inside).iter().map(|label| label.split(['=', '!']).next().unwrap().to_owned()));
        }
    }
    for after in expression.split("by (").skip(1) {
        groups.extend(list(after.split(')').next().unwrap()));
    }
    (metrics, groups)
}

/// Asserts that an expression names metrics and labels that the exporters serve.
fn assert_served(expression: &str, documented: &BTreeMap<String, BTreeSet<String>>) {
    let (metrics, groups) = named(expression);
    assert!(!metrics.is_empty(), "{expression}");
    for (metric, labels) in &metrics {
        let known = documented.get(metric).unwrap_or_else(|| panic!("nobody serves {metric}: {expression}"));
        assert!(labels.is_subset(known), "{metric} has the labels {known:?}: {expression}");
        assert!(groups.is_subset(known), "{metric} has the labels {known:?}: {expression}");
    }
}

/// The expressions of the rules, as Prometheus has read them.
fn rules(answer: &str) -> Vec<(String, String, String)> {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    let groups = body["data"]["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    let text = |rule: &Value, name: &str| rule[name].as_str().unwrap().to_owned();
    rules.map(|rule| (text(rule, "name"), text(rule, "query"), text(rule, "health"))).collect()
}

/// Lets a real Prometheus read an exporter, and asks it what each panel asks and what it makes of the rules.
fn prometheus_answers_every_panel(
    folder: &crate::evidence::Folder,
    exporter: u16,
    documented: &BTreeMap<String, BTreeSet<String>>,
) {
    let Some(prometheus) = program("prometheus") else { return };
    let port = free_port();
    let rules_file = std::fs::canonicalize(RULES).unwrap();
    let configuration = serde_json::json!({
        "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
        "rule_files": [rules_file],
        "scrape_configs": [{
            "job_name": "test",
            "static_configs": [{ "targets": [format!("127.0.0.1:{exporter}")] }],
        }],
    });
    // JSON is YAML.
    let configuration = folder.file("prometheus.yml", configuration.to_string());
    let mut command = Command::new(prometheus);
    command.arg(format!("--storage.tsdb.path={configuration}.data"));
    command.arg(format!("--config.file={configuration}"));
    command.args([&format!("--web.listen-address=127.0.0.1:{port}"), "--log.level=error"]);
    let _running = Running(command.stdin(Stdio::null()).spawn().unwrap());

    let known = rules(&answer(port, "/api/v1/rules", |answer| {
        answer.contains("\"health\":\"ok\"") && !answer.contains("\"health\":\"unknown\"")
    }));
    assert!(known.len() > 15);
    for (name, query, health) in &known {
        assert_eq!(health, "ok", "{name}");
        assert_served(query, documented);
    }
    let panels = panels();
    assert!(panels.len() > 15);
    let mut asked = BTreeSet::new();
    for (title, expressions) in &panels {
        for expression in expressions {
            assert_served(expression, documented);
            asked.extend(named(expression).0.into_keys());
            let query: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let has_value = |answer: &str| answer.contains("\"value\":[");
            answer(port, &format!("/api/v1/query?query={query}"), has_value);
            assert!(!title.is_empty());
        }
    }
    let missing: Vec<&String> = documented.keys().filter(|metric| !asked.contains(*metric)).collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}

#[test]
fn the_alert_rules_fire_when_they_should_and_not_before() {
    let Some(promtool) = program_of("prometheus", "promtool") else { return };
    let run = |arguments: &[&str]| {
        let done = Command::new(&promtool).args(arguments).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        (done.status.success(), said)
    };
    let (good, said) = run(&["check", "rules", RULES]);
    assert!(good, "{said}");
    let (good, said) = run(&["test", "rules", "tests/monitoring/alerts.yml", "tests/monitoring/days.yml"]);
    assert!(good, "{said}");
    // As docs/monitoring.md has it for the other exporter.
    let folder = Folder::create("rules").unwrap();
    let file = folder.0.join("alerts.yml");
    std::fs::copy(RULES, &file).unwrap();
    let page = std::fs::read_to_string("docs/monitoring.md").unwrap();
    let command = page.lines().find_map(|line| line.trim().strip_prefix("sed -i ")).unwrap();
    let script = command.split('\'').nth(1).unwrap();
    assert!(Command::new("sed").arg("-i").arg(script).arg(&file).status().unwrap().success());
    let (good, said) = run(&["check", "rules", file.to_str().unwrap()]);
    assert!(good, "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("sql_pg_tenancy_unsealed_seconds > 300") && !text.contains(" pg_tenancy_unsealed"), "{text}");
    assert!(!text.contains("sql_sql_"));
}
