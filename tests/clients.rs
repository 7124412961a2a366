//! The pages for clients show code that is run: by the suites of `tests/clients`, which `tools/clients.sh` starts. What
//! clients are told of errors is tested here.

use crate::common::*;

/// A page shows each file as a block of its language, and no other block of that language.
fn shows(page: &str, files: &[(&str, &str)]) {
    for (language, code) in files {
        assert!(page.contains(&format!("```{language}\n{code}```\n")), "the page does not show:\n{code}");
        let shown = files.iter().filter(|(other, _)| other == language).count();
        assert_eq!(page.matches(&format!("```{language}\n")).count(), shown, "blocks of {language}");
    }
}

#[test]
fn the_page_for_clients_shows_the_code_that_is_tested() {
    shows(
        include_str!("../docs/clients.md"),
        &[
            ("js", include_str!("clients/node/identity.js")),
            ("js", include_str!("clients/node/server.js")),
            ("python", include_str!("clients/python/identity.py")),
            ("python", include_str!("clients/python/server.py")),
        ],
    );
}

#[test]
fn the_pages_of_other_languages_show_the_code_that_is_tested() {
    shows(
        include_str!("../docs/clients/go.md"),
        &[("go", include_str!("clients/go/identity.go")), ("go", include_str!("clients/go/connect.go"))],
    );
    shows(include_str!("../docs/clients/java.md"), &[("java", include_str!("clients/java/Identity.java"))]);
    shows(
        include_str!("../docs/clients/php.md"),
        &[("php", include_str!("clients/php/identity.php")), ("php", include_str!("clients/php/connect.php"))],
    );
    shows(
        include_str!("../docs/clients/rust.md"),
        &[
            ("rust", include_str!("clients/rust/src/with_sqlx.rs")),
            ("rust", include_str!("clients/rust/src/with_diesel.rs")),
        ],
    );
    shows(
        include_str!("../docs/clients/ruby.md"),
        &[("ruby", include_str!("clients/ruby/identity.rb")), ("ruby", include_str!("clients/ruby/connect.rb"))],
    );
}

#[test]
fn the_names_of_errors_that_diesel_is_told_are_those_of_the_extension() {
    let names = |sqlstate: &str| -> Vec<String> {
        let kinds = include_str!("../core/src/error.rs").split_once("kinds! {").expect("the table of errors").1;
        let ends = format!(", \"{sqlstate}\"");
        kinds.lines().filter_map(|line| Some(line.trim().split_once(&ends)?.0.to_lowercase())).collect()
    };
    let listed = |name: &str| -> Vec<String> {
        let code =
            include_str!("clients/rust/src/with_diesel.rs").split_once(&format!("const {name}: &str = \"")).unwrap();
        let (words, _) = code.1.split_once('"').unwrap();
        words.split([' ', '\n', '\\']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let mut unauthenticated = names("28000");
    unauthenticated.sort();
    assert_eq!(listed("UNAUTHENTICATED"), unauthenticated);
    let forbidden = names("42501");
    assert!(listed("FORBIDDEN").iter().all(|name| forbidden.contains(name)));
}

/// diesel shows no SQLSTATE, and each driver shows the constraint.
#[test]
fn an_error_has_its_name_as_constraint_and_those_of_postgres_keep_theirs() {
    in_database(async |database| {
        let client = database.application().await;
        let constraint = async |sql: &str| {
            let error = client.batch_execute(sql).await.unwrap_err();
            let error = error.as_db_error().expect("an error of the server").clone();
            client.batch_execute("ROLLBACK").await.unwrap();
            (error.code().code().to_owned(), error.constraint().map(str::to_owned), error.table().map(str::to_owned))
        };
        let of_ours = |sqlstate: &str, name: &str| (sqlstate.to_owned(), Some(name.to_owned()), None);
        let findings = r#"SELECT count(*) FROM "Finding""#;
        assert_eq!(constraint(findings).await, of_ours("28000", "tenancy_context_missing"));
        let bad = "SELECT tenancy.authenticate('x.y.z')";
        assert_eq!(constraint(bad).await, of_ours("28000", "tenancy_token_malformed"));
        let sign_in = |subject: &str| format!("BEGIN; SELECT tenancy.authenticate('{}')", database.token(subject));
        let both = format!("{}; SELECT tenancy.authenticate('{}')", sign_in("alice"), database.token("bob"));
        assert_eq!(constraint(&both).await, of_ours("28000", "tenancy_context_sealed"));
        let denied = format!(r#"{}; DELETE FROM "Finding""#, sign_in("victor"));
        assert_eq!(constraint(&denied).await, of_ours("42501", "tenancy_permission_denied"));

        let twice = format!("{}; INSERT INTO cloud_account (external_id) VALUES ('acme-production')", sign_in("alice"));
        let key = "cloud_account_organization_id_external_id_key".to_owned();
        assert_eq!(constraint(&twice).await, ("23505".to_owned(), Some(key), Some("cloud_account".to_owned())));
    });
}
