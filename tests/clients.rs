//! The pages for clients show code that is run: by the suites of `tests/clients`, which `tools/clients.sh` starts.

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
        include_str!("../docs/clients/php.md"),
        &[("php", include_str!("clients/php/identity.php")), ("php", include_str!("clients/php/connect.php"))],
    );
    shows(
        include_str!("../docs/clients/ruby.md"),
        &[("ruby", include_str!("clients/ruby/identity.rb")), ("ruby", include_str!("clients/ruby/connect.rb"))],
    );
}
