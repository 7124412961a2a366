//! Checks a bundle of `tenancy.export_evidence` without the database, and says in words what it proves.

mod report;

use crate::report::file;
use crate::report::page::{Verification, page};
use crate::report::tally::Tally;
use lexopt::prelude::*;
use pg_tenancy_core::audit::export::bundle::failure::Failure;
use pg_tenancy_core::audit::export::bundle::reader::MAX_LINE;
use pg_tenancy_core::audit::export::bundle::report::{self as words, Names, Verdict};
use pg_tenancy_core::audit::export::bundle::reviewed::Report;
use pg_tenancy_core::audit::export::bundle::verify::{Expected, Outcome, verify, verify_with};
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::log::signed_note::Verifier;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

const HELP: &str = "\
Checks a bundle of tenancy.export_evidence without the database, and says in words what it proves.

    pg-tenancy-verify [OPTION]... BUNDLE            - for BUNDLE reads standard input

      --key KEY          a key that you know to be the signer's, as name+id+key; may be given several times
      --keys FILE        such keys, one a line; # begins a comment
      --earlier NOTE     file with a checkpoint that you had before: nothing may have changed since
      --artifact FILE    file that you have: tells which evidence it is; may be given several times
      --report FILE      file with what tenancy.review_report or tenancy.break_glass_report returned: tells whether an
                         event has its digest; may be given several times
      --json             the result as JSON
      --html FILE        writes a report for people who know no SQL: one page, for a browser or a printer, with the
                         outcome, who changed what when, evidence, erasures, gaps, elevated access and reviews. A
                         bundle that is refused has a page too, which shows nothing of its content
      --max-line BYTES   refuses longer lines, 67108864 unless given
      --help, --version

A key that stands in the bundle proves nothing: take the key from where you trust it.

Exit status:
  0  proved: signed by a key that you named, and complete
  1  tampered with: the bundle does not agree with itself, with the key, or with the earlier checkpoint
  2  cannot be read: no bundle, a file that is not there, or a wrong call
  3  agrees with itself, and is signed by no key that you named
  4  signed by a key that you named, and not all is shown that should be: events whose content is gone,
     a file that is no artifact or no report of the bundle, or an earlier checkpoint that cannot be compared
";

/// The most bytes of a file with keys or with a note.
const MAX_TEXT: u64 = 1_000_000;

/// The most bytes of a file with a report.
const MAX_REPORT: u64 = 1 << 30;

#[derive(Default)]
struct Arguments {
    bundle: Option<OsString>,
    expected: Expected,
    names: Names,
    json: bool,
    html: Option<PathBuf>,
    /// Every file that is read.
    inputs: Vec<PathBuf>,
}

/// What came of a verification.
struct Done {
    verdict: Verdict,
    /// What is printed.
    text: String,
    /// Why the page could not be written.
    failed: Option<String>,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => return complain(&error),
    };
    match run(&arguments) {
        Ok(Done { verdict, text, failed }) => match (io::stdout().write_all(text.as_bytes()), failed) {
            (Ok(()), None) => ExitCode::from(verdict as u8),
            (Ok(()), Some(error)) => complain(&error),
            // Whoever closed the pipe must not take silence for a proof.
            (Err(_), _) => ExitCode::from(Verdict::Unreadable as u8),
        },
        Err(error) => complain(&error),
    }
}

fn complain(error: &str) -> ExitCode {
    eprintln!("pg-tenancy-verify: {}\nTry pg-tenancy-verify --help.", words::plain(error));
    ExitCode::from(Verdict::Unreadable as u8)
}

/// `None` if there is nothing more to do.
fn arguments() -> Result<Option<Arguments>, String> {
    let mut arguments = Arguments::default();
    let mut parser = lexopt::Parser::from_env();
    let say = |error: lexopt::Error| error.to_string();
    while let Some(argument) = parser.next().map_err(say)? {
        match argument {
            Long("key") => {
                let text = parser.value().and_then(|value| value.string()).map_err(say)?;
                arguments.expected.keys.push(key(&text)?);
            }
            Long("keys") => {
                let path = parser.value().map_err(say)?;
                arguments.expected.keys.extend(keys(&path)?);
                arguments.inputs.push(path.into());
            }
            Long("earlier") => {
                let path = parser.value().map_err(say)?;
                arguments.expected.earlier = Some(text_of(&path)?);
                arguments.inputs.push(path.into());
            }
            Long("artifact") => {
                let path = PathBuf::from(parser.value().map_err(say)?);
                arguments.expected.artifacts.push(digest_of(&path)?);
                arguments.names.artifacts.push(path.display().to_string());
                arguments.inputs.push(path);
            }
            Long("report") => {
                let path = parser.value().map_err(say)?;
                let name = Path::new(&path).display().to_string();
                let text = text_within(&path, MAX_REPORT)?;
                arguments.expected.reports.push(Report::read(&text).map_err(|error| format!("{name}: {error}"))?);
                arguments.names.reports.push(name);
                arguments.inputs.push(path.into());
            }
            Long("json") => arguments.json = true,
            Long("html") if arguments.html.is_none() => {
                arguments.html = Some(parser.value().map_err(say)?.into());
            }
            Long("max-line") => arguments.expected.max_line = parser.value().and_then(|v| v.parse()).map_err(say)?,
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(None);
            }
            Short('V') | Long("version") => {
                println!("pg-tenancy-verify {}", env!("CARGO_PKG_VERSION"));
                return Ok(None);
            }
            Value(bundle) if arguments.bundle.is_none() => arguments.bundle = Some(bundle),
            other => return Err(other.unexpected().to_string()),
        }
    }
    let Some(bundle) = &arguments.bundle else { return Err("no bundle is named".into()) };
    if bundle != "-" {
        arguments.inputs.push(bundle.into());
    }
    if let Some(target) = &arguments.html {
        file::check(target, &arguments.inputs)?;
    }
    Ok(Some(arguments))
}

fn key(text: &str) -> Result<Verifier, String> {
    Verifier::parse(text).map_err(|error| format!("{text:?}: {error}"))
}

fn keys(path: &OsString) -> Result<Vec<Verifier>, String> {
    let text = text_of(path)?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let keys: Vec<Verifier> = lines.filter(|line| !line.is_empty()).map(key).collect::<Result<_, _>>()?;
    if keys.is_empty() { Err(format!("{}: holds no key", Path::new(path).display())) } else { Ok(keys) }
}

fn open(path: &Path) -> Result<File, String> {
    File::open(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn text_of(path: &OsString) -> Result<String, String> {
    text_within(path, MAX_TEXT)
}

fn text_within(path: &OsString, most: u64) -> Result<String, String> {
    let path = Path::new(path);
    let mut text = String::new();
    let read = open(path)?.take(most + 1).read_to_string(&mut text);
    match read {
        Ok(length) if length as u64 <= most => Ok(text),
        Ok(_) => Err(format!("{}: longer than {most} bytes", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn digest_of(path: &Path) -> Result<Digest, String> {
    let (mut file, mut digest, mut buffer) = (open(path)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(digest.finalize().into()),
            Ok(length) => digest.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
    }
}

/// What is read, with the digest of all that was.
struct Hashed<R> {
    input: R,
    digest: Sha256,
}

impl<R: BufRead> io::Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.digest.update(&buffer[..length]);
        Ok(length)
    }
}

impl<R: BufRead> BufRead for Hashed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        // What is consumed was in the buffer before, so nothing is read here.
        if let Ok(buffer) = self.input.fill_buf() {
            self.digest.update(&buffer[..amount.min(buffer.len())]);
        }
        self.input.consume(amount);
    }
}

/// Verifies, makes the text that is printed, and writes the page.
fn run(arguments: &Arguments) -> Result<Done, String> {
    let bundle = arguments.bundle.as_deref().unwrap_or_default();
    let mut input: Box<dyn BufRead> = match bundle.to_str() {
        Some("-") => Box::new(io::stdin().lock()),
        _ => Box::new(BufReader::with_capacity(1 << 16, open(Path::new(bundle))?)),
    };
    let Some(target) = &arguments.html else {
        let (verdict, text) = said(&verify(input, &arguments.expected), arguments);
        return Ok(Done { verdict, text, failed: None });
    };
    let (mut hashed, mut tally) = (Hashed { input: &mut input, digest: Sha256::new() }, Tally::default());
    let found = verify_with(&mut hashed, &arguments.expected, &mut tally);
    let (verdict, text) = said(&found, arguments);
    let name = match bundle.to_str() {
        Some("-") => "standard input".into(),
        _ => Path::new(bundle).display().to_string(),
    };
    let verification = Verification {
        bundle: &name,
        // A bundle that is refused was not read to its end.
        digest: found.is_ok().then(|| hashed.digest.finalize().into()),
        keys: &arguments.expected.keys,
        names: &arguments.names,
        outcome: found.as_ref(),
        tally: &tally,
        verified_at: now(),
    };
    let page = page(&verification);
    // Once more, since verifying takes its time.
    let failed = file::check(target, &arguments.inputs).and_then(|()| file::write(target, &page)).err();
    Ok(Done { verdict, text, failed })
}

/// Microseconds since 1970 UTC.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// What is printed of a verification.
fn said(found: &Result<Outcome, Failure>, arguments: &Arguments) -> (Verdict, String) {
    match found {
        Ok(outcome) if arguments.json => {
            (outcome.verdict(), format!("{}\n", words::to_json(outcome, &arguments.names)))
        }
        Ok(outcome) => (outcome.verdict(), words::lines(outcome, &arguments.names).join("\n") + "\n"),
        Err(failure) if arguments.json => {
            let verdict = failure.verdict();
            let text = json!({"verdict": verdict.name(), "status": verdict as i32, "why": failure.text()});
            (verdict, format!("{text}\n"))
        }
        Err(failure) => {
            let heading = match failure.verdict() {
                Verdict::Tampered => "TAMPERED WITH, nothing in it is proved",
                _ => "Cannot be read",
            };
            (failure.verdict(), format!("{heading}: {}.\n", words::plain(failure.text())))
        }
    }
}

/// Memory stays bounded unless the caller says otherwise.
const _: () = assert!(MAX_LINE == 67_108_864);
