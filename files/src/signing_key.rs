//! The keys that sign checkpoints: read from a file or from the output of a command, and never stored in the database.

use pg_tenancy_core::audit::log::signed_note::Signer;
use pg_tenancy_core::error::{Error, Result, SIGNING_KEY_INVALID};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::command;
use zeroize::Zeroizing;

/// The most bytes of a file, or of the output of a command.
const MAX_BYTES: usize = 64 * 1024;
/// The most keys: a note must fit into the payload of a NOTIFY.
const MAX_KEYS: usize = 8;
/// The longest name of a key, in bytes.
pub const MAX_NAME_BYTES: usize = 200;

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

fn read_file(path: &Path) -> Result<Zeroizing<String>> {
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
    // Room for all of it, so that no copy stays behind where it grew.
    let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES + 64));
    file.take(MAX_BYTES as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() > MAX_BYTES { Err(refused("there are more than 64 kB")) } else { Ok(text) }
}

/// The keys that a command prints.
fn run(command: &str, interrupted: impl FnMut()) -> Result<Zeroizing<String>> {
    let mut printed = command::run(command, None, MAX_BYTES, interrupted).map_err(|why| refused(&why))?;
    match String::from_utf8(std::mem::take(&mut *printed)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(refused("the command printed what is no text"))
        }
    }
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
    fn a_command_prints_keys_and_must_succeed() {
        assert_eq!(names(command(&format!("echo '{LINE}'"))), ["PeterNeumann"]);
        assert!(reason(command(&format!("echo '{LINE}'; exit 3"))).contains("exit status: 3"));
        assert!(reason(command("yes")).contains("64 kB"));
        assert!(reason(command("printf '\\377'")).contains("no text"));
        assert!(reason(command("true")).contains("no key"));
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
