//! The page of `pg-tenancy-verify --html` of bundles of a real server, as a real browser understands it.

use crate::action_types::act;
use crate::break_glass::{CHANGE, approved, elevate, end, prepare, sign_off};
use crate::common::*;
use crate::evidence::{Folder, check, checkpoint, export, public_key};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_postgres::Client;

/// The browser, which `tools/setup.sh clients` installs.
fn browser() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join("chromium")).find(|path| path.exists());
    if found.is_none() {
        let why = "Chromium is missing, so no browser has looked at a page: tools/setup.sh clients";
        assert!(std::env::var_os("CI").is_none(), "{why}");
        eprintln!("\n=====\nNOT RUN: {why}\n=====\n");
    }
    found
}

/// Runs the browser without a window.
fn browse(browser: &Path, folder: &Path, arguments: &[&str]) -> String {
    // Root has no sandbox of Chromium's, and the page of a test comes from the test.
    let own = format!("--user-data-dir={}", folder.join("browser").display());
    let done = Command::new("timeout")
        .args(["180", browser.to_str().unwrap(), "--headless", "--no-sandbox", "--disable-gpu", &own])
        .args(["--disable-dev-shm-usage", "--virtual-time-budget=2000"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// The elements of a page after its scripts, if any, have run.
fn dumped(browser: &Path, page: &str) -> String {
    let path = Path::new(page);
    browse(browser, path.parent().unwrap(), &["--dump-dom", &format!("file://{page}")])
}

/// A server that counts who asks it, and answers nobody.
struct Asked {
    port: u16,
    times: Arc<AtomicUsize>,
}

impl Asked {
    fn new() -> Self {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let asked = Asked { port: server.local_addr().unwrap().port(), times: Arc::default() };
        let times = Arc::clone(&asked.times);
        std::thread::spawn(move || {
            for connection in server.incoming() {
                times.fetch_add(1, Ordering::SeqCst);
                drop(connection);
            }
        });
        asked
    }

    /// How often since the last call.
    fn times(&self) -> usize {
        self.times.swap(0, Ordering::SeqCst)
    }
}

/// Values that leave a mark in the page, or ask this port, if they are taken for markup.
fn hostile(port: u16) -> [String; 8] {
    let mark = "document.documentElement.dataset.ran=1";
    let from = format!("http://127.0.0.1:{port}");
    [
        format!("<script>{mark}</script>"),
        format!("<img src=x onerror=\"{mark}\">"),
        format!("</style></title></td></table><script>{mark}</script>"),
        format!("\"><svg onload=\"{mark}\"></svg>"),
        format!("'><img src='{from}/image'>"),
        format!("<link rel=stylesheet href={from}/style><style>* {{ display: none }}</style>"),
        format!("&lt;b&gt; \u{202e}detrevni\u{202c} \u{2066}\u{61c} <!-- <plaintext> <iframe src={from}/frame>"),
        format!("<meta http-equiv=refresh content=\"0;url={from}/\"><base href={from}>"),
    ]
}

/// A history with everything that a page tells of, in which `values` stand where somebody else chooses what stands.
async fn record(database: &Database, superuser: &Client, values: &[String]) {
    let client = database.application().await;
    let quoted = |number: usize| format!("'{}'", values[number % values.len()].replace('\'', "''"));
    prepare(superuser).await;
    let mallory = format!("{}\u{202e}", values[0]);
    let member = format!("SELECT tenancy.set_membership('{ACME}', '{}', 'admin')", mallory.replace('\'', "''"));
    run(superuser, &member).await;
    let (alice, mallory) = (database.token("alice"), database.token(&mallory));
    for number in 0..values.len() {
        let id = 8000 + number;
        let insert = format!(r#"INSERT INTO "Finding" (id, title) VALUES ({id}, {}) RETURNING id"#, quoted(number));
        act(&client, &mallory, &insert).await.unwrap();
        let change = format!(r#"UPDATE "Finding" SET title = {} WHERE id = {id} RETURNING id"#, quoted(number + 1));
        act(&client, &alice, &change).await.unwrap();
        let evidence = format!(
            "SELECT tenancy.add_evidence(sha256('{number}'), 'text/html', {}, collector => {}, subject => {},
                 description => {}, relation => 'supports',
                 events => ARRAY[tenancy.record_event('access.reviewed', data => json_build_object({}, 1))])",
            quoted(number),
            quoted(number + 1),
            quoted(number + 2),
            quoted(number + 3),
            quoted(number + 4)
        );
        act(&client, &mallory, &evidence).await.unwrap();
    }
    // The application refuses somebody, and an operator acts.
    let refused = format!(
        "SELECT tenancy.record_event('invoice.paid', data => json_build_object({}, {}), result => 'denied',
             reason => {})",
        quoted(5),
        quoted(6),
        quoted(7)
    );
    act(&client, &mallory, &refused).await.unwrap();
    run(
        superuser,
        &format!(
            r#"BEGIN; SELECT tenancy.assume_organization('{ACME}', {}); DELETE FROM "Finding" WHERE id = 8000; COMMIT"#,
            quoted(1)
        ),
    )
    .await;
    // A review, and break-glass until its sign-off.
    let open = format!("SELECT tenancy.open_review('memberships', {}, now() + interval '1 day')", quoted(2));
    act(&client, &alice, &open).await.unwrap();
    let grant = approved(database, &client, ", duration => '10 minutes'").await;
    let nora = database.token("nora");
    as_tenant(&client, &nora).await;
    value(&client, &elevate(&grant)).await;
    value(&client, CHANGE).await;
    run(&client, "COMMIT").await;
    act(&client, &nora, &end(&grant)).await.unwrap();
    seal_all(superuser).await;
    act(&client, &alice, &sign_off(&grant)).await.unwrap();
    // An erasure.
    let erase = format!(
        "SELECT tenancy.erase_payload(id, {}, {}) FROM tenancy.event
          WHERE organization = '{ACME}' AND operation = 'insert' AND table_name = 'Finding' ORDER BY id DESC LIMIT 1",
        quoted(3),
        quoted(4)
    );
    seal_all(superuser).await;
    run(superuser, &erase).await;
    checkpoint(superuser).await;
}

#[test]
fn a_page_of_a_hostile_history_runs_nothing_and_asks_nobody() {
    in_database(async |database| {
        let (superuser, folder) = (database.superuser().await, Folder::new(database));
        let server = Asked::new();
        let values = hostile(server.port);
        record(database, &superuser, &values).await;
        let key = public_key(&superuser).await;
        let bundle = folder.file("bundle.jsonl", export(&superuser, &format!("'{ACME}'")).await);
        let target = folder.file("page.html", "an older page");
        let (status, said) = check(&[&bundle, "--key", &key, "--html", &target]);
        assert_eq!(status, 0, "{said}");
        let page = fs::read_to_string(&target).unwrap();
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
        for value in &values {
            let escaped = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let escaped = escaped.replace('"', "&quot;").replace('\'', "&#39;");
            let begin: String = escaped.chars().take(12).collect();
            assert!(page.contains(&begin), "{begin}");
            assert!(!page.contains(value.as_str()), "{value}");
        }
        for words in [
            "Outcome: PROVED",
            "signed off",
            "the night job has failed",
            "acted for the organization as an operator",
            "\\u{202e}",
            "erased since",
            "not closed in these events",
            "refused: ",
            "one event, which is here",
        ] {
            assert!(page.contains(words), "{words}");
        }

        let Some(browser) = browser() else { return };
        // What a careless page would do, so that the silence of this one tells something.
        let careless = values.iter().take(6).map(|value| format!("<p>{value}</p>")).collect::<String>();
        let careless = folder.file("careless.html", format!("<!DOCTYPE html><html lang=\"en\">{careless}</html>"));
        let ran = dumped(&browser, &careless);
        assert!(ran.contains("data-ran=\"1\"") && server.times() > 0, "{ran}");
        let quiet = dumped(&browser, &target);
        let tag = |text: &str| text[..text.find("<head>").unwrap()].to_owned();
        assert_eq!(tag(&quiet).trim_end(), tag(&page).trim_end(), "the root has no mark");
        assert_eq!(server.times(), 0, "the page asks nobody");
        for element in ["<script", "<img", "<iframe", "<link", "<base", "<plaintext", "<svg onload"] {
            assert!(!quiet.contains(element), "{element}");
        }
        let count = |text: &str, what: &str| text.matches(what).count();
        for element in ["<tr", "<td", "<rect", "<bdi", "<style", "<h2", "<table"] {
            assert_eq!(
                count(&quiet, element),
                count(&page, element),
                "{element}: the browser sees the page as written"
            );
        }
        // For somebody who looks: REPORT_PICTURES names a folder.
        if let Some(pictures) = std::env::var_os("REPORT_PICTURES") {
            let pictures = PathBuf::from(pictures);
            fs::copy(&target, pictures.join("hostile.html")).unwrap();
            let path = format!("file://{target}");
            let picture = format!("--screenshot={}", pictures.join("hostile.png").display());
            browse(&browser, &pictures, &["--hide-scrollbars", "--window-size=1000,6000", &picture, &path]);
            let print = format!("--print-to-pdf={}", pictures.join("hostile.pdf").display());
            browse(&browser, &pictures, &["--no-pdf-header-footer", &print, &path]);
        }
    });
}

#[test]
fn every_outcome_has_a_page_and_keeps_its_exit_status() {
    in_database(async |database| {
        let (superuser, folder) = (database.superuser().await, Folder::new(database));
        record(database, &superuser, &["a title".to_owned()]).await;
        let key = public_key(&superuser).await;
        let text = export(&superuser, &format!("'{ACME}'")).await;
        let bundle = folder.file("bundle.jsonl", &text);
        let changed = folder.file("changed.jsonl", text.replacen("\"insert\"", "\"delete\"", 1));
        let (none, artifact) = (folder.file("none.jsonl", "none\n"), folder.file("artifact", "another"));
        let target = folder.file("page.html", "");
        for (arguments, status, heading) in [
            (vec![&*bundle, "--key", &key], 0, "Outcome: PROVED</h1>"),
            (vec![&*changed, "--key", &key], 1, "Outcome: TAMPERED WITH</h1>"),
            (vec![&*none, "--key", &key], 2, "Outcome: CANNOT BE READ</h1>"),
            (vec![&*bundle], 3, "Outcome: NOT PROVED</h1>"),
            (vec![&*bundle, "--key", &key, "--artifact", &artifact], 4, "Outcome: PROVED IN PART</h1>"),
        ] {
            let without = check(&arguments);
            let (found, said) = check(&[arguments.as_slice(), &["--html", &target]].concat());
            assert_eq!((found, &said), (status, &without.1), "the page changes nothing of what is said");
            assert_eq!(without.0, status);
            let page = fs::read_to_string(&target).unwrap();
            assert!(page.contains(heading), "{heading}");
            assert_eq!(page.contains("a title"), [0, 3, 4].contains(&status), "{heading}: of what is refused, nothing");
            assert_eq!(page.contains("(not proved)"), status == 3, "{heading}");
        }
        let json = check(&[&bundle, "--key", &key, "--json", "--html", &target]).1;
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());

        // Gone from the database: the page tells the positions.
        run(&superuser, "ALTER TABLE tenancy.event_batch DISABLE TRIGGER append_only").await;
        let gone = format!(
            "DELETE FROM tenancy.event_batch WHERE organization = '{ACME}' AND table_name = 'Finding'
                AND operation = 'update'"
        );
        run(&superuser, &gone).await;
        let bundle = folder.file("gone.jsonl", export(&superuser, &format!("'{ACME}'")).await);
        assert_eq!(check(&[&bundle, "--key", &key, "--html", &target]).0, 4);
        let page = fs::read_to_string(&target).unwrap();
        assert!(page.contains("What they said could not be shown") && page.contains("Outcome: PROVED IN PART"));
    });
}

#[test]
fn a_page_takes_the_place_of_no_input_and_is_written_whole() {
    in_database(async |database| {
        let (superuser, folder) = (database.superuser().await, Folder::new(database));
        checkpoint(&superuser).await;
        let key = public_key(&superuser).await;
        let text = export(&superuser, &format!("'{ACME}'")).await;
        let (bundle, keys) = (folder.file("bundle.jsonl", &text), folder.file("keys", &key));
        for target in [&bundle, &keys, "/dev/null", "/nowhere/page.html", "/"] {
            let (status, said) = check(&[&bundle, "--keys", &keys, "--html", target]);
            assert_eq!(status, 2, "{target}: {said}");
            assert!(said.contains(target), "{said}");
        }
        assert_eq!((fs::read_to_string(&bundle).unwrap(), fs::read_to_string(&keys).unwrap()), (text.clone(), key));
        // A wrong call writes none, and leaves the older one.
        let page = folder.file("page.html", "an older page");
        for arguments in [&["--html", &page, "/nowhere/at/all"][..], &["--html", &page, "--html", &page, &bundle]] {
            assert_eq!(check(arguments).0, 2);
        }
        assert_eq!(fs::read_to_string(&page).unwrap(), "an older page");
        // Nobody finds a part of a page.
        let beside = fs::read_dir(Path::new(&page).parent().unwrap()).unwrap();
        let mut names: Vec<String> = beside.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["bundle.jsonl", "keys", "page.html"]);
    });
}
