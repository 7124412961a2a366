//! What was said to the server, as a script that psql runs. It is printed if the test fails.

use super::call::SUBJECTS;
use crate::common::*;
use std::collections::BTreeMap;

/// What the script says its steps with.
const AGAIN: &str = include_str!("again.sql");

/// The database that the script makes.
pub const DATABASE: &str = "controls_again";

/// As which connection the superuser speaks.
pub const SUPERUSER: usize = 9;

#[derive(Default)]
pub struct Script {
    preparation: Vec<String>,
    steps: Vec<Step>,
}

struct Step {
    connection: usize,
    sql: String,
    /// What was answered; `None` for anything but a refusal.
    answer: Option<String>,
    /// Which connection ended while this one waited, how, and what was answered to that.
    meanwhile: Option<(usize, &'static str, Option<String>)>,
}

fn answer(said: &Result<String, Refusal>) -> Option<String> {
    Some(said.clone().unwrap_or_else(|refusal| format!("refused {}", refusal.sqlstate)))
}

fn quoted(text: &Option<String>) -> String {
    text.as_ref().map_or_else(|| "NULL".to_owned(), |text| format!("'{}'", text.replace('\'', "''")))
}

fn name(connection: usize) -> String {
    if connection == SUPERUSER { "superuser".to_owned() } else { format!("connection {connection}") }
}

/// As what a token stands in what is said.
pub fn token_of(subject: &str) -> String {
    format!("<token of {subject}>")
}

impl Script {
    /// A script for a database that is made as that of the test is, with these statements after it.
    pub fn new(issuer: &Issuer, prepared: &[String], tokens: &BTreeMap<&'static str, String>) -> Self {
        let role = |role: &str, member_of: &str| {
            format!(
                "SELECT 'CREATE ROLE {role} LOGIN' WHERE to_regrole('{role}') IS NULL \\gexec\n\
                 GRANT {member_of} TO {role};"
            )
        };
        let keys = format!(
            r#"SELECT format('COPY (SELECT %L) TO PROGRAM %L', '{}',
              format('umask 077 && cat > "%s/{DATABASE}.json"', current_setting('tenancy.jwks_directory'))) \gexec
SELECT tenancy.set_issuer('{}', ARRAY['{}'], jwks_file => '{DATABASE}.json', leeway_seconds => 0);"#,
            issuer.key_set(),
            issuer::ISSUER,
            issuer::AUDIENCE
        );
        let mut preparation = vec![
            "-- For psql, as a superuser of a server whose library has a clock (tools/clock.sh).".to_owned(),
            format!("CREATE DATABASE {DATABASE} TEMPLATE template0;\n\\connect {DATABASE}\n\\o /dev/null"),
            "SET client_min_messages = error;".to_owned(),
            "CREATE EXTENSION pg_tenancy;".to_owned(),
            role(APPLICATION, "tenancy_application"),
            role(OWNER, "tenancy_admin"),
            keys,
            SCHEMA.to_owned(),
        ];
        preparation.extend(prepared.iter().map(|sql| format!("{sql};")));
        preparation.push(AGAIN.to_owned());
        let known = |subject: &str| format!("INSERT INTO id VALUES ('{}', '{}');", token_of(subject), tokens[subject]);
        preparation.extend(SUBJECTS.map(known));
        preparation.push(format!("SELECT pg_temp.open('{}', session_user);", name(SUPERUSER)));
        preparation.extend((0..3).map(|n| format!("SELECT pg_temp.open('{}', '{APPLICATION}');", name(n))));
        preparation.push("RESET client_min_messages;".to_owned());
        Script { preparation, steps: Vec::new() }
    }

    pub fn says(&mut self, connection: usize, sql: &str) {
        self.steps.push(Step { connection, sql: sql.to_owned(), answer: None, meanwhile: None });
    }

    /// What was answered to what was said last.
    pub fn answered(&mut self, said: &Result<String, Refusal>) {
        self.steps.last_mut().unwrap().answer = answer(said);
    }

    /// The last answer is another one each time.
    pub fn answers_otherwise_each_time(&mut self) {
        self.steps.last_mut().unwrap().answer = None;
    }

    /// What was said last waits, and goes on once another connection has ended.
    pub fn waits_for(&mut self, holder: usize, ending: &'static str) {
        self.steps.last_mut().unwrap().meanwhile = Some((holder, ending, None));
    }

    pub fn ended(&mut self, said: &Result<String, Refusal>) {
        if let Some((.., ended)) = &mut self.steps.last_mut().unwrap().meanwhile {
            *ended = answer(said);
        }
    }

    pub fn text(&self) -> String {
        let step = |(number, step): (usize, &Step)| {
            let said = format!(
                "{}, '{}', $say${}$say$, {}",
                number + 1,
                name(step.connection),
                step.sql,
                quoted(&step.answer)
            );
            match &step.meanwhile {
                None => format!("SELECT pg_temp.say({said});"),
                Some((holder, ending, ended)) => {
                    format!("SELECT pg_temp.wait({said}, '{}', '{ending}', {});", name(*holder), quoted(ended))
                }
            }
        };
        let steps: Vec<String> = self.steps.iter().enumerate().map(step).collect();
        let over =
            "\\o\nSELECT format('%s of %s steps as they were', count(*) FILTER (WHERE same), count(*)) FROM step;";
        format!("{}\n{}\n{over}\n", self.preparation.join("\n"), steps.join("\n"))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.text());
        }
    }
}
