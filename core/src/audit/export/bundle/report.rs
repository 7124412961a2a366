//! The report about a bundle: what it proves and what it does not, as text and as JSON.

use super::failure::Failure;
use super::reviewed::Review;
use super::verify::{Artifact, EarlierCheckpoint, Outcome};
use crate::audit::format::hex;
use crate::audit::format::timestamp;
use crate::audit::log::signed_note::Verifier;
use serde_json::{Value, json};

/// The result for scripts, which is the exit status of `pg-tenancy-verify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A key of the caller proves everything that the caller asked for.
    Proved = 0,
    /// The bundle, or the history in it, was changed.
    Tampered = 1,
    /// The bundle is missing or unreadable, or the call was wrong.
    Unreadable = 2,
    /// The bundle is consistent, but no key of the caller signed it.
    Unknown = 3,
    /// A key of the caller signed the bundle, but the bundle does not show everything that the caller asked for.
    Incomplete = 4,
}

impl Verdict {
    /// The word in the JSON report, such as `proved` or `unknown-key`.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Proved => "proved",
            Verdict::Tampered => "tampered",
            Verdict::Unreadable => "unreadable",
            Verdict::Unknown => "unknown-key",
            Verdict::Incomplete => "incomplete",
        }
    }
}

impl Failure {
    /// The verdict for this failure.
    pub fn verdict(&self) -> Verdict {
        match self {
            Failure::Tampered(_) => Verdict::Tampered,
            Failure::Unreadable(_) => Verdict::Unreadable,
        }
    }

    /// The explanation, a clause without a full stop.
    pub fn text(&self) -> &str {
        let (Failure::Tampered(text) | Failure::Unreadable(text)) = self;
        text
    }
}

impl Outcome {
    /// The verdict for a bundle that is consistent.
    pub fn verdict(&self) -> Verdict {
        let asked = self.artifacts.iter().all(|found| !found.is_empty())
            && self.reports.iter().all(Option::is_some)
            && !matches!(self.earlier, Some(EarlierCheckpoint::Unknown(_)))
            && self.contents.absent == 0
            && self.contents.unexplained == 0
            && self.evidence.iter().all(|artifact| artifact.in_history);
        if self.signers.is_empty() || !self.whole {
            Verdict::Unknown
        } else if asked {
            Verdict::Proved
        } else {
            Verdict::Incomplete
        }
    }

    /// Whether the bundle has the whole history of the organization up to the checkpoint.
    pub fn is_all(&self) -> bool {
        self.manifest.first == 1 && self.manifest.last == self.head
    }
}

/// Whether a character shows nothing of itself, begins a new line, or changes the direction of the text around it.
pub fn is_invisible(c: char) -> bool {
    // Unicode 16, DerivedCoreProperties: Default_Ignorable_Code_Point; and separators and interlinear annotations.
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Makes foreign text safe to print within a line.
///
/// Characters that move the cursor, begin a new line, change the direction of the text or cannot be seen become
/// escapes.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if is_invisible(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

/// The names of files of the caller.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Those of the artifacts, in their order.
    pub artifacts: Vec<String>,
    /// Those of the reports, in their order.
    pub reports: Vec<String>,
}

/// The report as lines of text.
pub fn lines(outcome: &Outcome, names: &Names) -> Vec<String> {
    let mut lines = vec![heading(outcome), String::new()];
    lines.push(match outcome.verdict() {
        Verdict::Unknown => "The bundle agrees with itself. No key that you named stands behind all of it:".into(),
        Verdict::Incomplete => "PROVED in part, by the keys that you named:".into(),
        _ => "PROVED, by the keys that you named:".into(),
    });
    lines.extend(shown(outcome, names).into_iter().map(|line| format!("  - {line}")));
    lines.extend([String::new(), "NOT proved:".into()]);
    lines.extend(not_shown(outcome, names).into_iter().map(|line| format!("  - {line}")));
    lines.iter().map(|line| plain(line)).collect()
}

fn heading(outcome: &Outcome) -> String {
    let manifest = &outcome.manifest;
    let period = match (manifest.from, manifest.to) {
        (None, None) => "all of its time".into(),
        (Some(from), None) => format!("from {} on", timestamp::text(from)),
        (None, Some(to)) => format!("before {}", timestamp::text(to)),
        (Some(from), Some(to)) => format!("{} until {}", timestamp::text(from), timestamp::text(to)),
    };
    let (organization, exported) = (manifest.organization, timestamp::text(manifest.exported_at));
    format!("Organization {organization}, {period}; exported {exported} by {}.", exporter(outcome))
}

/// Who exported the bundle, in words.
pub fn exporter(outcome: &Outcome) -> String {
    let exporter = &outcome.manifest.exporter;
    match &exporter.subject {
        Some(subject) => format!("{subject} through {}", exporter.session_user),
        None => exporter.session_user.clone(),
    }
}

/// The keys in one line.
pub fn names_of(keys: &[Verifier]) -> String {
    keys.iter().map(Verifier::to_string).collect::<Vec<_>>().join(", ")
}

fn shown(outcome: &Outcome, names: &Names) -> Vec<String> {
    let mut lines = history(outcome);
    lines.extend(outcome.evidence.iter().filter(|artifact| artifact.in_history).map(registered));
    lines.extend(outcome.reviews.reviews.iter().map(Review::text));
    lines.extend(files(outcome, names));
    lines
}

/// What the bundle proves of the history, in sentences that may have foreign text in them: see [`plain`].
pub fn history(outcome: &Outcome) -> Vec<String> {
    let (checkpoint, contents) = (&outcome.checkpoint, &outcome.contents);
    let (number, origin, made) = (checkpoint.size, &checkpoint.origin, timestamp::text(outcome.made_at));
    let mut lines = Vec::new();
    let by = if outcome.signers.is_empty() { &outcome.unknown_signers } else { &outcome.signers };
    lines.push(format!("Checkpoint {number} of the log {origin}, made {made}, is signed by {}.", names_of(by)));
    lines.push(population(outcome));
    if contents.events > 0 {
        lines.push(format!(
            "{} of them are shown as they were recorded: who did what, when, to which row, with the values{}.",
            contents.events,
            match contents.erased {
                0 => String::new(),
                erased => format!("; of {erased} the values were erased since, which changes nothing else of them"),
            }
        ));
    }
    if let Some(EarlierCheckpoint::Continued { number }) = &outcome.earlier {
        lines.push(format!("Nothing that stood in the log at your checkpoint {number} has changed or gone since."));
    }
    lines
}

/// What the files of the caller are, in sentences that may have foreign text in them: see [`plain`].
pub fn files(outcome: &Outcome, names: &Names) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, found) in names.artifacts.iter().zip(&outcome.artifacts).filter(|(_, found)| !found.is_empty()) {
        let ids: Vec<String> = found.iter().map(ToString::to_string).collect();
        lines.push(format!("The file {name} is the artifact of evidence {}, byte for byte.", ids.join(", ")));
    }
    for (name, found) in names.reports.iter().zip(&outcome.reports) {
        if let Some((of, at)) = found {
            let at = timestamp::text(*at);
            lines.push(format!("The file {name} is the report of {of}, as an event of {at} has its digest."));
        }
    }
    lines
}

fn population(outcome: &Outcome) -> String {
    let (first, last, head) = (outcome.manifest.first, outcome.manifest.last, outcome.head);
    if outcome.is_all() {
        return format!(
            "These are all {head} events that the organization had then, in their order: none was changed, added, \
                moved or left out."
        );
    }
    if last < first {
        return format!("The organization had {head} events then. None of them is here.");
    }
    let count = last - first + 1;
    format!(
        "The organization had {head} events then. Those at the positions {first} to {last} are here, all {count}, in \
            their order: none was changed, added, moved or left out."
    )
}

fn registered(artifact: &Artifact) -> String {
    let evidence = &artifact.evidence;
    let digest = hex::encode(&evidence.digest.0);
    let about = evidence.subject.as_ref().map(|subject| format!(", about {subject}")).unwrap_or_default();
    let events = match evidence.events.len() {
        0 => String::new(),
        1 => format!(
            ", {} one event, {} here",
            evidence.relation,
            if artifact.events_here == 1 { "which is" } else { "not" }
        ),
        count => format!(", {} {count} events, {} of them here", evidence.relation, artifact.events_here),
    };
    format!(
        "Evidence {}: {} registered on {} an artifact of the type {} with the SHA-256 {digest}, from {}, collected by \
            {} on {}{about}{events}.",
        evidence.id,
        evidence.registered_by,
        timestamp::text(evidence.registered_at),
        evidence.media_type,
        evidence.source,
        evidence.collector,
        timestamp::text(evidence.collected_at),
    )
}

/// What the bundle does not prove, in sentences that may have foreign text in them: see [`plain`].
pub fn not_shown(outcome: &Outcome, names: &Names) -> Vec<String> {
    let mut lines = Vec::new();
    if outcome.signers.is_empty() {
        lines.push(
            "Who made it. Anybody can make a bundle that agrees with itself, with a key of their own: a key that \
                stands in it proves nothing. Name the signer's key, which you have from elsewhere, with --key."
                .into(),
        );
    } else if !outcome.whole {
        lines.push(
            "Who put it together, or who says what it says of artifacts: that is signed by a key that you did not \
                name. Events and checkpoint are signed by one that you did."
                .into(),
        );
    }
    if outcome.contents.withheld > 0 {
        let withheld = outcome.contents.withheld;
        lines.push(format!(
            "Who is behind {withheld} of the events: somebody who is no member of the organization, \
            whom an export by a member does not show and one by an auditor does."
        ));
    }
    if outcome.contents.absent > 0 {
        let absent = outcome.contents.absent;
        lines.push(format!(
            "What {absent} events say: the database did not have them any more, and the bundle shows their places only."
        ));
    }
    if outcome.contents.unexplained > 0 {
        let gone = outcome.contents.unexplained;
        lines.push(format!("That the values of {gone} events were erased lawfully: no event here tells of it."));
    }
    for artifact in outcome.evidence.iter().filter(|artifact| !artifact.in_history) {
        let id = artifact.evidence.id;
        lines.push(format!(
            "That evidence {id} was registered as it stands here: the event of its registration is not \
            here, or shows no values any more."
        ));
    }
    for (name, _) in names.artifacts.iter().zip(&outcome.artifacts).filter(|(_, found)| found.is_empty()) {
        lines.push(format!("Anything about the file {name}: no artifact in the bundle has its digest."));
    }
    for (name, _) in names.reports.iter().zip(&outcome.reports).filter(|(_, found)| found.is_none()) {
        lines.push(format!("Anything about the report in the file {name}: no event here has its digest."));
    }
    match &outcome.earlier {
        Some(EarlierCheckpoint::Unknown(why)) => {
            lines.push(format!("That the history continues the one you knew: {why}."))
        }
        Some(EarlierCheckpoint::Continued { .. }) => {}
        None => lines.push(
            "That others are shown the same history: compare a checkpoint that you had before, or that somebody else \
                keeps, with --earlier."
                .into(),
        ),
    }
    if !outcome.is_all() {
        lines.push(format!(
            "That no event of the period stands at another position: events stand in the order in which they were \
                committed and sealed. An export without bounds shows all {}.",
            outcome.head
        ));
    }
    if outcome.contents.outside_period > 0 {
        let outside = outcome.contents.outside_period;
        lines.push(format!(
            "Anything of the period by {outside} of the events: they stand between its events and \
            happened before or after."
        ));
    }
    lines.push("That what was recorded is true, and that the server's clock was right.".into());
    lines.push("Anything after the checkpoint, and what was done where the audit does not look.".into());
    lines
}

/// The report as JSON.
pub fn to_json(outcome: &Outcome, names: &Names) -> Value {
    let verdict = outcome.verdict();
    let keys = |keys: &[Verifier]| keys.iter().map(Verifier::to_string).collect::<Vec<_>>();
    let evidence: Vec<Value> = outcome.evidence.iter().map(artifact_json).collect();
    let reports = names.reports.iter().zip(&outcome.reports).map(|(name, found)| {
        let (of, at) = found.as_ref().map(|(of, at)| (of, timestamp::text(*at))).unzip();
        json!({ "file": name, "of": of, "signed_at": at })
    });
    let reports: Vec<Value> = reports.collect();
    let reviews: Vec<Value> = outcome.reviews.reviews.iter().map(review_json).collect();
    let artifacts: Vec<Value> = names
        .artifacts
        .iter()
        .zip(&outcome.artifacts)
        .map(|(name, found)| json!({"file": name, "evidence": found}))
        .collect();
    json!({
        "verdict": verdict.name(),
        "status": verdict as i32,
        "organization": outcome.manifest.organization,
        "from": outcome.manifest.from.map(timestamp::text),
        "to": outcome.manifest.to.map(timestamp::text),
        "first": outcome.manifest.first,
        "last": outcome.manifest.last,
        "whole_history": outcome.is_all(),
        "checkpoint": {
            "origin": outcome.checkpoint.origin,
            "number": outcome.checkpoint.size,
            "root": hex::encode(&outcome.checkpoint.root),
            "made_at": timestamp::text(outcome.made_at),
            "position": outcome.head,
            "signed_by": keys(&outcome.signers),
            "other_signatures": keys(&outcome.unknown_signers),
        },
        "bundle_signed": outcome.whole,
        "events": outcome.contents.events,
        "erased": outcome.contents.erased,
        "unexplained": outcome.contents.unexplained,
        "absent": outcome.contents.absent,
        "withheld": outcome.contents.withheld,
        "outside_period": outcome.contents.outside_period,
        "earlier": match &outcome.earlier {
            None => Value::Null,
            Some(EarlierCheckpoint::Continued { number }) => json!({"number": number, "continued": true}),
            Some(EarlierCheckpoint::Unknown(why)) => json!({"continued": null, "why": why}),
        },
        "evidence": evidence,
        "artifacts": artifacts,
        "reviews": reviews,
        "reports": reports,
        "not_proved": not_shown(outcome, names),
    })
}

fn review_json(review: &Review) -> Value {
    let event = |at: i64, who: &str| json!({ "at": timestamp::text(at), "by": who });
    json!({
        "review": review.id,
        "title": review.title,
        "opened": review.opened.as_ref().map(|(at, who, _)| event(*at, who)),
        "items": review.opened.as_ref().map(|(_, _, items)| items),
        "decided": review.decided,
        "refreshed": review.refreshed,
        "closed": review.closed.as_ref().map(|(at, who, _)| event(*at, who)),
        "outcomes": review.closed.as_ref().map(|(_, _, outcomes)| outcomes),
        "cancelled": review.cancelled.as_ref().map(|(at, who)| event(*at, who)),
    })
}

fn artifact_json(artifact: &Artifact) -> Value {
    json!({
        "evidence": artifact.evidence.id,
        "sha256": hex::encode(&artifact.evidence.digest.0),
        "in_history": artifact.in_history,
        "events_here": artifact.events_here,
    })
}
