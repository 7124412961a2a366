//! The keys that sign checkpoints: read from a file or from the output of a command, and never stored in the database.

use pg_tenancy_core::audit::log::signed_note::Signer;
use pg_tenancy_core::error::{Error, Result, SIGNING_KEY_INVALID};
use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The most bytes of a file, or of the output of a command.
const MAX_BYTES: usize = 64 * 1024;
/// The most keys: a note must fit into the payload of a NOTIFY.
const MAX_KEYS: usize = 8;
/// The longest name of a key, in bytes.
pub const MAX_NAME_BYTES: usize = 200;
/// The longest run time of a command.
const PATIENCE: Duration = Duration::from_secs(10);
/// The interval at which a running command is polled.
const STEP: Duration = Duration::from_millis(50);

/// The source of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, by its absolute path.
    File(PathBuf),
    /// A shell command that prints the keys, in the manner of `ssl_passphrase_command`.
    Command(String),
}

impl Source {
    /// The source that the settings `tenancy.signing_key_file` and `tenancy.signing_key_command` name.
    ///
    /// Errors: [`SIGNING_KEY_INVALID`] unless exactly one is set; a file needs an absolute path.
    pub fn of(file: Option<String>, command: Option<String>) -> Result<Self> {
        match (file, command) {
            (Some(_), Some(_)) => Err(refused("tenancy.signing_key_file and tenancy.signing_key_command are both set")),
            (Some(file), None) if Path::new(&file).is_absolute() => Ok(Source::File(file.into())),
            (Some(_), None) => Err(refused("tenancy.signing_key_file is not an absolute path")),
            (None, Some(command)) => Ok(Source::Command(command)),
            (None, None) => Err(refused("neither tenancy.signing_key_file nor tenancy.signing_key_command is set")),
        }
    }

    /// Reads the keys. `name` is for keys without a name of their own.
    ///
    /// The function calls `interrupted` repeatedly while a command runs, and kills the command if `interrupted`
    /// unwinds.
    ///
    /// Errors: [`SIGNING_KEY_INVALID`].
    pub fn read(&self, name: Option<&str>, interrupted: impl FnMut()) -> Result<Vec<Signer>> {
        let text = match self {
            Source::File(path) => read_file(path)?,
            Source::Command(command) => run(command, interrupted)?,
        };
        parse(&text, name)
    }
}

/// Parses the keys of a text, one after another: lines of Go's note package, or PKCS #8 in PEM.
///
/// Empty lines and lines that begin with `#` are skipped. `name` is the name of keys in PEM, which have none of their
/// own.
///
/// Errors: [`SIGNING_KEY_INVALID`] for a malformed key, a repeated key, none, or more than 8.
pub fn parse(text: &str, name: Option<&str>) -> Result<Vec<Signer>> {
    let mut signers: Vec<Signer> = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let signer = if line.starts_with("-----BEGIN ") {
            let mut pem = vec![line];
            for line in lines.by_ref() {
                pem.push(line);
                if line.starts_with("-----END ") {
                    break;
                }
            }
            let name =
                name.ok_or_else(|| refused("a key in PEM has no name: tenancy.checkpoint_origin must give it"))?;
            Signer::parse(&pem.join("\n"), name)
        } else {
            Signer::parse(line, "")
        };
        // Malformed holds nothing of the text.
        let signer = signer.map_err(|why| refused(&format!("of key {}: {why}", signers.len() + 1)))?;
        if signer.verifier().name().len() > MAX_NAME_BYTES {
            return Err(refused("the name of a key is longer than 200 bytes"));
        }
        if signers.iter().any(|other| other.verifier() == signer.verifier()) {
            return Err(refused("a key is there twice"));
        }
        signers.push(signer);
    }
    match signers.len() {
        0 => Err(refused("there is no key")),
        1..=MAX_KEYS => Ok(signers),
        _ => Err(refused("there are more than 8 keys")),
    }
}

fn read_file(path: &Path) -> Result<String> {
    let failed = |error: std::io::Error| refused(&format!("the file cannot be read: {}", error.kind()));
    // Not blocking, so that a named pipe cannot hold the backend.
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(refused("the file is not a regular one"));
    }
    // As Postgres asks of the key of its certificate: what others can read is no secret.
    if metadata.mode() & 0o007 != 0 {
        return Err(refused("every user of the machine may read or write the file"));
    }
    let mut text = String::new();
    file.take(MAX_BYTES as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    bounded(text)
}

fn bounded(text: String) -> Result<String> {
    if text.len() > MAX_BYTES { Err(refused("there are more than 64 kB")) } else { Ok(text) }
}

/// A running command in a process group of its own; dropping the value kills the group.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.0.id()) {
            // SAFETY: the group of a child that was not waited for, so its number is nobody else's.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
        let _ = self.0.wait();
    }
}

/// Runs a command and returns its standard output.
///
/// Its standard error is discarded because it may contain secrets, which must not reach the log.
fn run(command: &str, mut interrupted: impl FnMut()) -> Result<String> {
    let child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let mut child = Running(child.map_err(|error| refused(&format!("the command cannot be run: {}", error.kind())))?);
    let deadline = Instant::now() + PATIENCE;
    let mut printed = Vec::new();
    if let Some(mut output) = child.0.stdout.take() {
        let mut buffer = [0; 4096];
        loop {
            interrupted();
            if !readable(&output, deadline)? {
                continue;
            }
            match output.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => printed.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(refused(&format!("the command cannot be read: {}", error.kind()))),
            }
            if printed.len() > MAX_BYTES {
                return Err(refused("there are more than 64 kB"));
            }
        }
    }
    let status = wait(&mut child.0, deadline, interrupted)?;
    if !status.success() {
        return Err(refused(&format!("the command failed: {status}")));
    }
    String::from_utf8(printed).map_err(|_| refused("the command printed what is no text"))
}

/// Waits for output to read, at most for [`STEP`]; an error after the deadline.
fn readable(output: &impl AsRawFd, deadline: Instant) -> Result<bool> {
    in_time(deadline)?;
    let mut poll = libc::pollfd { fd: output.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor, open for the time of the call.
    Ok(unsafe { libc::poll(&mut poll, 1, STEP.as_millis() as i32) } > 0)
}

fn wait(child: &mut Child, deadline: Instant, mut interrupted: impl FnMut()) -> Result<ExitStatus> {
    loop {
        interrupted();
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => in_time(deadline)?,
            Err(error) => return Err(refused(&format!("the command cannot be waited for: {}", error.kind()))),
        }
        std::thread::sleep(STEP);
    }
}

fn in_time(deadline: Instant) -> Result<()> {
    if Instant::now() < deadline { Ok(()) } else { Err(refused("the command took longer than 10 seconds")) }
}

fn refused(why: &str) -> Error {
    SIGNING_KEY_INVALID.error("checkpoints cannot be signed").detail(format!("The reason: {why}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const LINE: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    // RFC 8410 section 10.3.
    const PEM: &str = "-----BEGIN PRIVATE \
        KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----";

    fn reason(read: Result<Vec<Signer>>) -> String {
        let error = read.unwrap_err();
        assert_eq!(error.kind, &SIGNING_KEY_INVALID);
        error.detail.unwrap()
    }

    fn names(read: Result<Vec<Signer>>) -> Vec<String> {
        read.unwrap().iter().map(|signer| signer.verifier().name().to_owned()).collect()
    }

    fn command(command: &str) -> Result<Vec<Signer>> {
        Source::Command(command.into()).read(None, || ())
    }

    #[test]
    fn keys_of_both_forms_stand_one_after_another() {
        let text = format!("# the new one\n{LINE}\n\n{PEM}\n");
        assert_eq!(names(parse(&text, Some("audit.example"))), ["PeterNeumann", "audit.example"]);
        assert_eq!(names(parse(LINE, None)), ["PeterNeumann"]);
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        let short = &LINE[..60];
        for text in [short, &PEM[..60], "x", &format!("{LINE}\nx"), &PEM.replace("PRIVATE KEY", "PUBLIC KEY")] {
            let told = reason(parse(text, Some("a")));
            assert!(told.contains("of key "), "{told}");
            assert!(!told.contains("AYEKFA") && !told.contains("MC4CAQ"), "the key shows: {told}");
        }
        for (text, name, why) in [
            ("", None, "no key"),
            ("\n# nothing\n", None, "no key"),
            (&format!("{LINE}\n{LINE}"), None, "twice"),
            (PEM, None, "has no name"),
            (PEM, Some("a b"), "white space"),
            (PEM, Some(&"a".repeat(201)), "200 bytes"),
        ] {
            let told = reason(parse(text, name));
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn a_file_is_taken_only_if_others_cannot_read_it() {
        let path = std::env::temp_dir().join(format!("pg_tenancy-signing-{}", std::process::id()));
        fs::write(&path, LINE).unwrap();
        let file = || Source::File(path.clone()).read(None, || ());
        for (mode, good) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false), (0o601, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(file().is_ok(), good, "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, " ".repeat(MAX_BYTES + 1)).unwrap();
        assert!(reason(file()).contains("64 kB"));
        fs::remove_file(&path).unwrap();
        assert!(reason(file()).contains("cannot be read"));
        assert!(reason(Source::File("/tmp".into()).read(None, || ())).contains("not a regular one"));
    }

    #[test]
    fn a_command_is_bounded_in_time_and_size_and_must_succeed() {
        assert_eq!(names(command(&format!("echo '{LINE}'"))), ["PeterNeumann"]);
        assert!(reason(command(&format!("echo '{LINE}'; exit 3"))).contains("exit status: 3"));
        assert!(reason(command("yes")).contains("64 kB"));
        assert!(reason(command("printf '\\377'")).contains("no text"));
        assert!(reason(command("true")).contains("no key"));
    }

    #[test]
    fn a_command_that_is_interrupted_or_late_ends_with_all_its_children() {
        let mark = std::env::temp_dir().join(format!("pg_tenancy-late-{}", std::process::id()));
        let sleeping = format!("(sleep 2; touch {0}) & sleep 2; touch {0}", mark.display());
        let began = Instant::now();
        let run = std::panic::catch_unwind(|| {
            let interrupted = || assert!(began.elapsed() < Duration::from_millis(200), "cancelled");
            Source::Command(sleeping).read(None, interrupted)
        });
        assert!(run.is_err());
        std::thread::sleep(Duration::from_millis(2500));
        assert!(!mark.exists(), "a child lived on");
        assert!(reason(command("sleep 20")).contains("10 seconds"));
    }

    #[test]
    fn the_settings_name_one_place() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(Source::of(some("/a"), None).unwrap(), Source::File("/a".into()));
        assert_eq!(Source::of(None, some("cat")).unwrap(), Source::Command("cat".into()));
        for (file, command) in [(None, None), (some("a"), None), (some("/a"), some("cat"))] {
            assert_eq!(Source::of(file, command).unwrap_err().kind, &SIGNING_KEY_INVALID);
        }
    }
}
