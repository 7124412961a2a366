//! docs/clients.md shows code that is run: by the suites of `tests/clients`, which `tools/clients.sh` starts.

#[test]
fn the_page_for_clients_shows_the_code_that_is_tested() {
    let page = include_str!("../docs/clients.md");
    let files = [
        ("js", include_str!("clients/node/identity.js")),
        ("js", include_str!("clients/node/server.js")),
        ("python", include_str!("clients/python/identity.py")),
        ("python", include_str!("clients/python/server.py")),
    ];
    for (language, code) in files {
        assert!(page.contains(&format!("```{language}\n{code}```\n")), "docs/clients.md does not show:\n{code}");
    }
    assert_eq!(page.matches("```js\n").count() + page.matches("```python\n").count(), files.len());
}
