//! The first page shows what a new user sees: its statements are those of `examples/quickstart/`, its output is psql's.

use crate::common::*;
use std::process::Stdio;

const PAGE: &str = include_str!("../README.md");
const SETUP: &str = include_str!("../examples/quickstart/setup.sql");
const EFFECT: &str = include_str!("../examples/quickstart/effect.sql");

/// Runs a script in psql as the superuser; returns what it printed, errors in their place.
fn psql(database: &Database, name: &str, variables: &[(&str, &str)], script: &str) -> String {
    let mut psql = database.program("psql");
    psql.env("PGDATABASE", name).args(["-X", "-a"]);
    for (variable, value) in variables {
        psql.arg("-v").arg(format!("{variable}={value}"));
    }
    let merged = psql.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = merged.spawn().unwrap();
    std::io::Write::write_all(&mut running.stdin.take().unwrap(), script.as_bytes()).unwrap();
    let done = running.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

/// The lines of the first fenced block after a heading.
fn block<'p>(heading: &str, fence: &str) -> Vec<&'p str> {
    let rest = PAGE.split(heading).nth(1).unwrap_or_else(|| panic!("README.md has no {heading}"));
    let block = rest.split(fence).nth(1).and_then(|rest| rest.split("\n```").next());
    block
        .unwrap_or_else(|| panic!("no {fence} after {heading}"))
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect()
}

#[test]
fn the_first_page_shows_what_a_new_user_sees() {
    in_database(async |database| {
        // In a database of its own, as its first statement creates the extension.
        let name = format!("{}_quickstart", database.name);
        let superuser = database.superuser().await;
        run(&superuser, &format!("CREATE DATABASE {name} TEMPLATE template0")).await;
        let issuer = &database.issuer;
        let token = |subject: &str| {
            let now = crate::common::now();
            let claims = serde_json::json!({
                "iss": "https://id.example/", "aud": "shop", "sub": subject, "iat": now, "exp": now + 600
            });
            issuer.sign(jsonwebtoken::Algorithm::ES256, &claims)
        };
        let public_keys = issuer.public_key_set();
        // A role belongs to the whole server.
        let role = format!("{name}_app");
        let told = psql(database, &name, &[("jwks", &public_keys)], &SETUP.replace("shop_app", &role));
        assert!(!told.contains("ERROR"), "{told}");
        let (ann, bob) = (token("ann"), token("bob"));
        let told = psql(database, &name, &[("ann", &ann), ("bob", &bob)], &EFFECT.replace("shop_app", &role));
        run(&superuser, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        run(&superuser, &format!("DROP ROLE {role}")).await;

        let told = told.replace(&role, "shop_app");
        for line in block("## What it does", "```text\n") {
            let line = line.trim_end();
            assert!(told.lines().any(|known| known.trim_end().ends_with(line)), "psql did not print: {line}\n{told}");
        }
        for line in SETUP.lines().chain(EFFECT.lines()).filter(|line| !line.is_empty()) {
            assert!(PAGE.contains(line), "README.md does not show: {line}");
        }
    });
}
