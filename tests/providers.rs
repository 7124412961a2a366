//! `docs/providers/`: the SQL of each page runs, and the token that the page shows is let in by it.

use crate::common::*;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio_postgres::Client;

const PAGES: [(&str, &str); 9] = [
    ("generic", include_str!("../docs/providers/generic.md")),
    ("README", include_str!("../docs/providers/README.md")),
    ("supabase", include_str!("../docs/providers/supabase.md")),
    ("auth0", include_str!("../docs/providers/auth0.md")),
    ("clerk", include_str!("../docs/providers/clerk.md")),
    ("workos", include_str!("../docs/providers/workos.md")),
    ("keycloak", include_str!("../docs/providers/keycloak.md")),
    ("entra", include_str!("../docs/providers/entra.md")),
    ("okta", include_str!("../docs/providers/okta.md")),
];

/// The fenced blocks of a language.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    let begin = format!("```{language}\n");
    page.split(&begin).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// The page's statements about pg_tenancy; what is for the provider's own database is left out.
fn statements(page: &str) -> Vec<&str> {
    let ours = blocks(page, "sql").into_iter().filter(|block| block.contains("SELECT tenancy."));
    ours.flat_map(|block| block.split_inclusive(";\n"))
        .filter(|statement| statement.contains("SELECT tenancy."))
        .collect()
}

/// What stands in quotes after `word`.
fn quoted_after<'s>(statement: &'s str, word: &str) -> Option<&'s str> {
    statement.split(word).nth(1)?.split('\'').nth(1)
}

/// Runs the statements. Of several ways to set the issuer the first is the one in force at the end.
async fn follow(superuser: &Client, page: &str, issuer: &Issuer) {
    let statements = statements(page);
    for file in statements.iter().filter_map(|statement| quoted_after(statement, "jwks_file =>")) {
        write_key_file(superuser, file, &issuer.key_set()).await;
    }
    for statement in &statements {
        run(superuser, statement).await;
    }
    let registration = statements.iter().find(|statement| statement.contains("tenancy.set_issuer("));
    if let Some(statement) = registration {
        run(superuser, statement).await;
    }
}

#[test]
fn the_set_up_of_each_page_lets_in_the_token_that_the_page_shows() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let organization = "11111111-1111-4111-8111-111111111111";
        run(&superuser, &format!("SELECT tenancy.create_organization('Page', '{organization}')")).await;
        run(&superuser, "SELECT tenancy.create_role('editor')").await;
        let mut let_in = 0;
        for (name, page) in PAGES {
            follow(&superuser, page, &database.issuer).await;
            let Some(shown) = blocks(page, "json").pop() else { continue };
            let mut claims: Value = serde_json::from_str(shown).unwrap();
            // The only thing in it that passes is the time.
            for (claim, seconds) in [("iat", 0), ("nbf", 0), ("exp", 300)] {
                if claims.get(claim).is_some() {
                    claims[claim] = json!(now() + seconds);
                }
            }
            if name == "generic" {
                // The page leaves the membership to its index.
                let (issuer, subject) = (claims["iss"].as_str().unwrap(), claims["sub"].as_str().unwrap());
                let sql = format!("SELECT tenancy.set_membership('{ACME}', '{subject}', 'editor', '{issuer}')");
                run(&superuser, &sql).await;
            }
            let token = database.issuer.sign(Algorithm::ES256, &claims);
            run(&client, "BEGIN").await;
            authenticate(&client, &token).await.unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"));
            let expected = if name == "generic" { ACME.to_string() } else { organization.to_owned() };
            assert_eq!(value(&client, "SELECT tenancy.org_id()").await, expected, "{name}");
            run(&client, "ROLLBACK").await;
            let_in += 1;
        }
        assert_eq!(let_in, 8, "a page for each provider, and one for the others");
    });
}

#[test]
fn the_folder_of_key_files_is_set_as_the_page_says() {
    let page = PAGES.iter().find(|(name, _)| *name == "README").unwrap().1;
    let line = page.lines().find(|line| line.contains("ALTER SYSTEM")).unwrap();
    let commands: Vec<&str> =
        line.split(" -c ").skip(1).map(|command| &command.trim()[1..command.trim().len() - 1]).collect();
    assert_eq!(commands.len(), 3, "{commands:?}");
    in_database(async |database| {
        // In a session that has not loaded the library yet. What the server has stays: the last command would reload
        // it.
        let superuser = database.superuser().await;
        for command in &commands[..2] {
            run(&superuser, command).await;
        }
        run(&superuser, "ALTER SYSTEM RESET tenancy.jwks_directory").await;
    });
}
