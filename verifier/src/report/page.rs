//! The page of a report, from its first line to its last.

use super::escape::{Html, clipped, grouped};
use super::parts::{ROWS, TEXT, list, moment};
use super::sections::contents;
use super::tally::Tally;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pg_tenancy_core::audit::export::bundle::failure::Failure;
use pg_tenancy_core::audit::export::bundle::report::{self, Names, Verdict};
use pg_tenancy_core::audit::export::bundle::verify::Outcome;
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::hex;
use pg_tenancy_core::audit::log::signed_note::Verifier;
use sha2::{Digest as _, Sha256};

/// The style of the page, which its Content-Security-Policy names by its digest.
const STYLE: &str = include_str!("style.css");

/// A verification, with what a page tells of it.
pub struct Verification<'a> {
    /// The name of the bundle's file.
    pub bundle: &'a str,
    /// SHA-256 of the file, if it was read to its end.
    pub digest: Option<Digest>,
    /// The keys that the caller named.
    pub keys: &'a [Verifier],
    /// The names of the caller's other files.
    pub names: &'a Names,
    /// What came of it.
    pub outcome: Result<&'a Outcome, &'a Failure>,
    /// What the events tell.
    pub tally: &'a Tally,
    /// When it was verified, in microseconds since 1970 UTC.
    pub verified_at: i64,
}

/// The page.
pub fn page(verification: &Verification) -> String {
    let mut html = Html::default();
    html.markup("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.markup("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-");
    html.text(&BASE64_STANDARD.encode(Sha256::digest(STYLE)));
    html.markup("'; base-uri 'none'; form-action 'none'\">\n<meta name=\"referrer\" content=\"no-referrer\">\n");
    html.markup("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.markup("<title>Verification of an audit bundle: ").text(outcome_of(verification).0);
    html.markup("</title>\n<style>").markup(STYLE).markup("</style>\n</head>\n<body>\n");
    outcome(&mut html, verification);
    if let Ok(found) = verification.outcome {
        contents(&mut html, found, verification.tally, found.verdict() == Verdict::Unknown);
    }
    glossary(&mut html, verification);
    html.markup("</body>\n</html>\n");
    html.into_text()
}

/// The outcome in a word, what it means, and how it looks.
fn outcome_of(verification: &Verification) -> (&'static str, &'static str, &'static str) {
    let verdict = match verification.outcome {
        Ok(outcome) => outcome.verdict(),
        Err(failure) => failure.verdict(),
    };
    match verdict {
        Verdict::Proved => (
            "PROVED",
            "The file is signed by a key that you named, and it is complete. What this page shows of the history is \
             what was recorded.",
            "outcome",
        ),
        Verdict::Incomplete => (
            "PROVED IN PART",
            "The file is signed by a key that you named. Not all is shown that should be: see below what could not be \
             shown.",
            "outcome partly",
        ),
        Verdict::Unknown => (
            "NOT PROVED",
            "The file agrees with itself, but no key that you named stands behind all of it. Anybody can make such a \
             file. Rely on nothing that this page shows of it.",
            "outcome bad",
        ),
        Verdict::Tampered => (
            "TAMPERED WITH",
            "The file contradicts itself, a key, or the earlier checkpoint. Nothing in it is proved, and this page \
             shows nothing of its content.",
            "outcome bad",
        ),
        Verdict::Unreadable => (
            "CANNOT BE READ",
            "The file is no bundle that this program can read. Nothing is proved, and this page shows nothing of its \
             content.",
            "outcome bad",
        ),
    }
}

/// What was checked, against whose key, with what outcome.
fn outcome(html: &mut Html, verification: &Verification) {
    let (word, meaning, look) = outcome_of(verification);
    html.markup("<header>\n<p class=\"kind\">Verification of an audit bundle of pg_tenancy</p>\n<div class=\"");
    html.markup(look).markup("\">\n<h1>Outcome: ").markup(word).markup("</h1>\n<p>").markup(meaning).markup("</p>\n");
    if let Err(failure) = verification.outcome {
        html.markup("<p>Reason: ").value(&clipped(failure.text(), TEXT)).markup(".</p>\n");
    }
    html.markup(
        "</div>\n</header>\n<main>\n<h2 id=\"checked\">What was checked</h2>\n<table class=\"facts\"><tbody>\n",
    );
    fact(html, "File", verification.bundle);
    if let Some(digest) = verification.digest {
        fact(html, "SHA-256 of the file", &hex::encode(&digest));
    }
    let keys: Vec<String> = verification.keys.iter().map(Verifier::to_string).collect();
    facts(html, "Keys that you named", if keys.is_empty() { vec!["none".into()] } else { keys });
    if let Ok(outcome) = verification.outcome {
        let (manifest, checkpoint) = (&outcome.manifest, &outcome.checkpoint);
        let signers = |keys: &[Verifier]| match keys {
            [] => "none".into(),
            keys => report::names_of(keys),
        };
        fact(html, "Keys of yours that signed", &signers(&outcome.signers));
        if !outcome.unknown_signers.is_empty() {
            fact(html, "Keys in the file that you did not name", &signers(&outcome.unknown_signers));
        }
        fact(html, "Organization", &manifest.organization.to_string());
        let bound = |at: Option<i64>, none: &str| at.map_or_else(|| none.to_owned(), moment);
        let period = match (manifest.from, manifest.to) {
            (None, None) => "all of its time".into(),
            (from, to) => {
                format!("from {} until before {}", bound(from, "the beginning"), bound(to, "the checkpoint"))
            }
        };
        fact(html, "Period that was asked for", &period);
        let range = match manifest.last - manifest.first + 1 {
            0 => "none".into(),
            count => format!(
                "{} events, at the positions {} to {} of {}",
                grouped(count.unsigned_abs()),
                grouped(manifest.first.unsigned_abs()),
                grouped(manifest.last.unsigned_abs()),
                grouped(outcome.head.unsigned_abs())
            ),
        };
        fact(html, "Part of the history", &range);
        let of =
            format!("number {} of the log {}, made {}", checkpoint.size, checkpoint.origin, moment(outcome.made_at));
        fact(html, "Signed checkpoint", &of);
        let exported = format!("{} by {}", moment(manifest.exported_at), report::exporter(outcome));
        fact(html, "Exported", &exported);
    }
    let by = format!("{} by pg-tenancy-verify {}", moment(verification.verified_at), env!("CARGO_PKG_VERSION"));
    fact(html, "Verified", &by);
    html.markup("</tbody></table>\n");
    let Ok(outcome) = verification.outcome else { return };
    html.markup(if outcome.verdict() == Verdict::Unknown {
        "<h2 id=\"proved\">What the file says, which is not proved</h2>\n"
    } else {
        "<h2 id=\"proved\">What is proved</h2>\n"
    });
    let mut lines = report::history(outcome);
    let registered = outcome.evidence.iter().filter(|artifact| artifact.in_history).count();
    if registered > 0 {
        lines.push(match registered {
            1 => "The registration of one artifact is the one that was recorded: see Evidence.".into(),
            _ => format!("The registrations of {registered} artifacts are those that were recorded: see Evidence."),
        });
    }
    lines.extend(report::files(outcome, verification.names));
    list(html, &lines);
    html.markup("<h2 id=\"not-shown\">What could not be shown</h2>\n");
    list(html, &report::not_shown(outcome, verification.names));
}

fn fact(html: &mut Html, name: &'static str, value: &str) {
    facts(html, name, vec![value.to_owned()]);
}

fn facts(html: &mut Html, name: &'static str, values: Vec<String>) {
    html.markup("<tr><th scope=\"row\">").markup(name).markup("</th><td>");
    let more = values.len().saturating_sub(ROWS);
    for (number, value) in values.iter().take(ROWS).enumerate() {
        if number > 0 {
            html.markup("<br>");
        }
        html.value(&clipped(value, TEXT));
    }
    if more > 0 {
        html.markup("<br>and ").number(more as u64).markup(" more");
    }
    html.markup("</td></tr>\n");
}

/// What the words of the page mean.
fn glossary(html: &mut Html, verification: &Verification) {
    if verification.outcome.is_err() {
        html.markup("</main>\n");
    }
    html.markup("<footer>\n<h2 id=\"words\">Words of this page</h2>\n<ul>\n");
    for line in [
        "<li>An <b>event</b> is a change of one row of a table, or something else that the database recorded.</li>\n",
        "<li>A <b>position</b> counts the events of the organization from 1. A missing position would show.</li>\n",
        "<li>A <b>checkpoint</b> is a statement, signed with a key, of everything recorded until then. Whoever \
         changes, adds, moves or leaves out an event afterwards cannot make the same checkpoint again.</li>\n",
        "<li>A <b>key</b> proves something only if you have it from somebody you trust, and not from the file.</li>\n",
        "<li>A <b>grant of break-glass</b> gives a person more rights for some hours, for a stated reason.</li>\n",
        "<li>A character that cannot be seen, or that turns the direction of a line, stands as its code in a frame, \
         such as <span class=\"hidden\">\\u{202e}</span>.</li>\n",
    ] {
        html.markup(line);
    }
    html.markup(
        "</ul>\n<p>The documentation of pg_tenancy has more in <code>docs/evidence.md</code>. This page is made by ",
    );
    html.markup("the program that verified the file, and is not signed itself: who doubts it verifies the file again.");
    html.markup("</p>\n</footer>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::escape::hostile;
    use crate::report::parsed::{Parsed, parse};
    use crate::report::tally::Values;
    use pg_tenancy_core::audit::export::bundle::FORMAT;
    use pg_tenancy_core::audit::export::bundle::line::{Batch, Event, Exporter, Manifest, Withheld};
    use pg_tenancy_core::audit::export::bundle::observer::Observer as _;
    use pg_tenancy_core::audit::export::bundle::reviewed::{Review, Reviews};
    use pg_tenancy_core::audit::export::bundle::verify::{Artifact, Contents};
    use pg_tenancy_core::audit::export::evidence::Evidence;
    use pg_tenancy_core::audit::format::event::Actor;
    use pg_tenancy_core::audit::format::hex::Hash;
    use pg_tenancy_core::audit::log::signed_note::Checkpoint;
    use proptest::prelude::*;
    use serde_json::json;
    use std::collections::{BTreeMap, BTreeSet};
    use uuid::Uuid;

    const DAY: i64 = 86_400_000_000;

    fn key() -> Verifier {
        Verifier::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap()
    }

    fn actor(id: u128, subject: Option<&str>, method: &str, text: &str) -> Actor {
        Actor {
            id: Uuid::from_u128(id),
            method: method.into(),
            subject: subject.map(str::to_owned),
            issuer: Some(text.into()),
            role: Some(text.into()),
            organization: None,
            session_id: None,
            correlation_id: None,
            reason: Some(text.into()),
            session_user: text.into(),
            current_user: text.into(),
            client_address: None,
            application_name: None,
            grant: (method == "elevated").then_some(Uuid::nil()),
        }
    }

    /// A batch of as many events as it has payloads.
    fn batch(actor: u128, position: i64, operation: &str, text: &str, payloads: &[Option<String>]) -> Batch {
        let event = |payload: &Option<String>| Event {
            occurred_at: position * DAY,
            row_key: Some(json!({ text: text }).to_string()),
            payload: payload.clone(),
            salt: None,
            payload_digest: Hash([0; 32]),
        };
        Batch {
            position,
            id: Uuid::from_u128(position as u128),
            actor: Uuid::from_u128(actor),
            transaction: 1,
            ordinal: 1,
            operation: operation.into(),
            domain: text.into(),
            table_schema: Some(text.into()),
            table_name: Some(text.into()),
            result: "success".into(),
            reason: Some(text.into()),
            events: payloads.iter().map(event).collect(),
            encoding: 2,
            previous: Hash([0; 32]),
            hash: Hash([0; 32]),
            chain: None,
            leaf: None,
            proof: None,
        }
    }

    fn of_domain(batch: Batch, domain: &str) -> Batch {
        Batch { domain: domain.into(), table_schema: None, table_name: None, ..batch }
    }

    /// A history in which somebody else wrote each text.
    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
        tally.actor(&actor(1, Some(text), "token", text));
        tally.actor(&actor(2, None, "none", text));
        tally.actor(&actor(3, Some(text), "assumed", text));
        tally.actor(&actor(4, Some(text), "elevated", text));
        tally.actor(&actor(5, Some(text), text, text));
        tally.withheld(&Withheld { id: Uuid::from_u128(6), digest: Hash([0; 32]) });
        let change = |old: &str, new: &str| Some(json!({"old": {text: old}, "new": {text: new, "n": 1}}).to_string());
        tally.batch(&batch(1, 1, "insert", text, &[change(text, text), None]), true);
        tally.batch(&batch(2, 3, "update", text, &[Some(text.into()), Some(json!({ text: text }).to_string())]), true);
        tally.batch(&Batch { result: "denied".into(), ..batch(3, 5, text, text, &[Some("{}".into())]) }, true);
        tally.batch(&Batch { result: text.into(), ..batch(5, 6, "delete", text, &[Some("7".into())]) }, true);
        let grant = json!({"new": {"grant": text, "beneficiary_subject": text, "ticket": text, "permissions": [text]}});
        let steps = of_domain(batch(4, 7, "break_glass_requested", text, &[Some(grant.to_string())]), "break_glass");
        tally.batch(&steps, true);
        let other = of_domain(batch(6, 8, text, text, &[Some(grant.to_string())]), "break_glass");
        tally.batch(&other, true);
        let gone = json!({"data": {"event": Uuid::nil(), "legal_basis": text, "payload_digest": text}}).to_string();
        tally.batch(&batch(2, 9, "erase", text, &[Some(gone)]), false);
        tally.batch(&batch(2, 10, "gap", text, &[Some(json!({"new": {"name": text}}).to_string())]), true);
        tally.absent(11, 12);
        tally.absent(13, 13);
        tally
    }

    fn outcome(text: &str) -> Outcome {
        let texts = || Some(text.to_owned());
        let evidence = |number: u128| Artifact {
            evidence: Evidence {
                id: Uuid::from_u128(number),
                organization: Uuid::nil(),
                digest: Hash([1; 32]),
                media_type: text.into(),
                source: text.into(),
                collector: text.into(),
                collected_at: -1,
                registered_at: 0,
                registered_by: text.into(),
                subject: texts(),
                relation: text.into(),
                events: vec![Uuid::nil(); number as usize],
                description: texts(),
            },
            in_history: number > 0,
            events_here: 0,
        };
        let review = |closed: bool| Review {
            id: text.into(),
            title: text.into(),
            opened: closed.then(|| (0, text.into(), 3)),
            decided: BTreeMap::from([(text.into(), 2)]),
            refreshed: 1,
            closed: closed.then(|| (0, text.into(), BTreeMap::from([(text.into(), 1)]))),
            cancelled: Some((0, text.into())),
        };
        Outcome {
            manifest: Manifest {
                format: FORMAT.into(),
                organization: Uuid::nil(),
                from: None,
                to: Some(i64::MAX),
                first: 1,
                last: 13,
                evidence: 3,
                query: text.into(),
                incarnation: text.into(),
                exported_at: 0,
                exporter: Exporter { session_user: text.into(), subject: texts(), issuer: texts() },
                extension: text.into(),
            },
            checkpoint: Checkpoint { origin: text.into(), size: 1, root: [0; 32] },
            made_at: 0,
            head: 13,
            signers: vec![key()],
            unknown_signers: Vec::new(),
            whole: true,
            contents: Contents { events: 9, erased: 1, withheld: 1, unexplained: 1, outside_period: 2, absent: 3 },
            earlier: None,
            evidence: (0..3).map(evidence).collect(),
            artifacts: vec![vec![Uuid::nil()], Vec::new()],
            reviews: Reviews { reviews: vec![review(true), review(false)], signed: Vec::new() },
            reports: vec![Some((text.into(), 0)), None],
        }
    }

    fn page_of(outcome: Result<&Outcome, &Failure>, tally: &Tally, text: &str) -> String {
        let names = Names { artifacts: vec![text.into(); 2], reports: vec![text.into(); 2] };
        let keys = [key()];
        page(&Verification { bundle: text, digest: None, keys: &keys, names: &names, outcome, tally, verified_at: 0 })
    }

    /// The names of elements, and attributes with their values, without the numbers of charts.
    fn skeleton(page: &Parsed) -> (BTreeSet<&str>, BTreeSet<(&str, &str)>) {
        let elements = page.elements.iter().map(|path| path.rsplit('>').next().unwrap()).collect();
        let chart = ["x", "y", "x1", "x2", "y1", "y2", "width", "height", "viewBox"];
        let attributes = page.attributes.iter().filter(|(_, name, _)| !chart.contains(&name.as_str()));
        (elements, attributes.map(|(_, name, value)| (name.as_str(), value.as_str())).collect())
    }

    #[test]
    fn a_page_asks_for_nothing_from_elsewhere_and_has_no_script() {
        let text = page_of(Ok(&outcome("alice")), &tally("alice"), "bundle.jsonl");
        let page = parse(&text);
        let (elements, attributes) = skeleton(&page);
        for element in
            ["script", "link", "img", "iframe", "object", "embed", "base", "form", "image", "use", "foreignObject"]
        {
            assert!(!elements.contains(element), "{element}");
        }
        for (name, value) in &attributes {
            assert!(!name.starts_with("on") && !["src", "style", "srcset", "action"].contains(name), "{name}");
            assert!(*name != "href" || value.starts_with('#'), "{value}");
        }
        assert!(!text.contains("url(") && !text.contains("@import"));
        let policy = attributes.iter().find(|(_, value)| value.starts_with("default-src")).unwrap().1;
        let style = page.text_of("html>head>style");
        let digest = BASE64_STANDARD.encode(Sha256::digest(&style));
        assert_eq!(
            policy,
            format!("default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'")
        );
        assert!(text.find("Content-Security-Policy").unwrap() < text.find("<style>").unwrap());
        assert!(page.others.is_empty());
        // Each link of the page leads to a heading.
        for (_, value) in attributes.iter().filter(|(name, _)| *name == "href") {
            assert!(attributes.contains(&("id", value.trim_start_matches('#'))), "{value}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn a_page_of_hostile_values_has_the_elements_and_attributes_of_every_page(text in hostile()) {
            let known = parse(&page_of(Ok(&outcome("alice")), &tally("alice"), "a"));
            let hidden = parse(&page_of(Ok(&outcome("\u{202e}")), &tally("\u{202e}"), "a"));
            let found = page_of(Ok(&outcome(&text)), &tally(&text), &text);
            let found = parse(&found);
            let (elements, attributes) = skeleton(&found);
            let ((more, others), (fewer, some)) = (skeleton(&hidden), skeleton(&known));
            prop_assert!(elements.iter().all(|name| more.contains(name) || fewer.contains(name)), "{:?}", elements);
            let unknown = attributes.iter().find(|pair| !others.contains(pair) && !some.contains(pair));
            prop_assert_eq!(unknown, None);
            prop_assert_eq!(found.text_of("html>head>style"), STYLE);
            prop_assert_eq!(found.text_of("html>head>title"), "Verification of an audit bundle: PROVED IN PART");
            prop_assert!(found.others.is_empty());
            prop_assert!(!found.text_of("html>body").chars().any(|c| report::is_invisible(c) && c != '\n'));
            prop_assert!(found.text_of("html>body").contains(&report::plain(&clipped(&text, 200))));
        }

        #[test]
        fn a_refused_bundle_has_a_page_that_says_why_and_shows_nothing(text in hostile()) {
            for (failure, word) in [
                (Failure::Tampered(text.clone()), "TAMPERED WITH"),
                (Failure::Unreadable(text.clone()), "CANNOT BE READ"),
            ] {
                let found = parse(&page_of(Err(&failure), &tally("mallory"), "a"));
                prop_assert_eq!(found.text_of("html>body>header>div>h1"), format!("Outcome: {word}"));
                let body = found.text_of("html>body");
                prop_assert!(body.contains(&report::plain(&clipped(&text, TEXT))), "{}", body);
                prop_assert!(!body.contains("mallory"));
                prop_assert!(!found.elements.iter().any(|path| path.ends_with("svg")));
            }
        }
    }

    #[test]
    fn the_outcome_stands_first_in_words() {
        let (mut found, tally) = (outcome("alice"), tally("alice"));
        let heading = |found: &Outcome| {
            let page = parse(&page_of(Ok(found), &tally, "a"));
            (page.text_of("html>body>header>div>h1"), page.text_of("html>body>main"))
        };
        assert_eq!(heading(&found).0, "Outcome: PROVED IN PART");
        found.signers.clear();
        let (outcome, main) = heading(&found);
        assert_eq!(outcome, "Outcome: NOT PROVED");
        assert!(main.contains("What the file says, which is not proved") && main.contains("Evidence (not proved)"));
        found.signers.push(key());
        (found.contents.absent, found.contents.unexplained) = (0, 0);
        (found.artifacts, found.reports) = (Vec::new(), Vec::new());
        found.evidence.remove(0);
        let (outcome, main) = heading(&found);
        assert_eq!(outcome, "Outcome: PROVED");
        assert!(main.contains("What is proved") && !main.contains("not proved"));
    }

    #[test]
    fn people_of_one_name_are_told_apart_everywhere() {
        let mut two = Tally::default();
        for (number, name, issuer) in [(1, "alice", "idp-one"), (2, "bob", "idp-one"), (3, "alice", "idp-two")] {
            two.actor(&Actor { issuer: Some(issuer.into()), ..actor(number, Some(name), "token", "") });
            two.batch(&batch(number, number as i64, "insert", "t", &[Some("{}".into())]), true);
        }
        let page = page_of(Ok(&outcome("carol")), &two, "a");
        let newest = &page[page.find("<h2 id=\"newest\">").unwrap()..];
        assert_eq!((newest.matches("idp-one").count(), newest.matches("idp-two").count()), (1, 1));
        assert_eq!(newest.matches("bob").count(), 1);
    }

    #[test]
    fn what_does_not_fit_is_counted_in_words() {
        let (mut found, mut many) = (outcome("alice"), Tally::default());
        for number in 0..1000 {
            let name = format!("person {number}");
            many.actor(&actor(number, Some(&name), "token", "i"));
            let erased = json!({"data": {"event": Uuid::nil(), "legal_basis": null}}).to_string();
            let mut one = batch(number, 1 + number as i64, "erase", "t", &[Some(erased)]);
            one.table_name = Some(format!("table {number}"));
            one.events[0].occurred_at = number as i64 * 40 * DAY;
            many.batch(&one, true);
            many.absent(2000 + 2 * number as i64, 2000 + 2 * number as i64);
        }
        found.evidence = vec![found.evidence[1].clone(); 1000];
        let text = page_of(Ok(&found), &many, "a");
        let main = parse(&text).text_of("html>body>main");
        for words in [
            "And 960 more people.",
            "And 800 more tables and matters.",
            "800 earlier events are in the file and not in this table.",
            "And 800 more artifacts.",
            "And 800 more erasures.",
            "And 800 more gaps.",
        ] {
            assert!(main.contains(words), "{words}");
        }
        assert!(text.len() < 1_000_000, "{} bytes", text.len());
    }

    #[test]
    fn a_tally_keeps_a_part_and_counts_the_rest() {
        let mut many = Tally::default();
        for number in 0..12_000 {
            many.actor(&actor(number, Some(&format!("person {number}")), &format!("method {number}"), "i"));
            let mut one = batch(number, 1 + number as i64, "update", "t", &[Some("x".repeat(20_000))]);
            (one.table_name, one.result) = (Some(format!("table {number}")), format!("result {number}"));
            one.events[0].occurred_at = number as i64 * DAY;
            many.batch(&one, true);
        }
        let kept = crate::report::tally::MOST;
        let lists =
            [many.people.list.len(), many.subjects.list.len(), many.elevated.list.len(), many.refusals.list.len()];
        assert_eq!(lists, [kept; 4]);
        let more = [many.people.more, many.subjects.more, many.elevated.more, many.refusals.more, many.other_days];
        assert_eq!(more, [2000; 5]);
        assert_eq!((many.days.len(), many.newest.len(), many.events), (kept, 200, 12_000));
        assert!(many.newest.iter().all(|event| matches!(event.values, Values::Long(20_000))));
        let main = parse(&page_of(Ok(&outcome("alice")), &many, "a")).text_of("html>body>main");
        assert!(main.contains("2,000 events are of people beyond the first 10,000"), "{main}");
    }
}
