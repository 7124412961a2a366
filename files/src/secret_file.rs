//! Keys in files that a job outside of the database renews.
//!
//! The keys are public keys that a provider rotates, and HMAC secrets, which must not be stored in the database.
//!
//! Decision: `docs/decisions/10-hmac-secret-files.md`.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pg_tenancy_core::error::{Error, KEY_FILE_INVALID, Result};
use pg_tenancy_core::identity::keys::{KeySet, MAX_KEY_SET_BYTES};
use zeroize::Zeroizing;

/// The longest name of a file, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// The age from which a file's times identify its version.
///
/// A file that was written within this time before it was read may be written again without a change of its times.
const SETTLED: Duration = Duration::from_secs(2);

/// The attributes that distinguish one version of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Modification times of the content (mtime) and of the attributes (ctime), in seconds and nanoseconds.
    times: [(i64, i64); 2],
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            times: [(metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec())],
        }
    }
}

/// A version of a file, for detecting later changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version {
    /// `None` if the attributes of the file could not be read.
    stamp: Option<Stamp>,
    /// Whether the file was older than [`SETTLED`], so that an equal stamp proves equal content.
    settled: bool,
}

impl Version {
    /// Whether the file at `path` is still this version; a version that had not settled never counts as current.
    pub fn is_current(&self, path: &Path) -> bool {
        let now = fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata));
        self.stamp == now && (self.settled || now.is_none())
    }

    /// Whether both values have the same stamp, settled or not.
    pub fn is_that_of(&self, other: &Version) -> bool {
        self.stamp == other.stamp
    }
}

/// The keys of a valid key file.
#[derive(Clone)]
pub struct Keys {
    /// The parsed keys, each pinned to one algorithm.
    pub set: KeySet,
    /// The JWK Set as the file contains it.
    pub text: String,
}

/// The path of a key file: a plain name below the folder.
///
/// Errors: [`KEY_FILE_INVALID`] if no folder is set, or if the name could lead out of the folder.
pub fn path(folder: Option<&str>, name: &str) -> Result<PathBuf> {
    let folder = folder
        .filter(|folder| Path::new(folder).is_absolute())
        .ok_or_else(|| KEY_FILE_INVALID.error("tenancy.jwks_directory does not name a folder by an absolute path"))?;
    let plain = !name.starts_with('.')
        && (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if !plain {
        return Err(KEY_FILE_INVALID.error("the name of a key file has only A-Z a-z 0-9 . _ - and begins with no dot"));
    }
    Ok(Path::new(folder).join(name))
}

/// Reads a key file: its version, and its keys or the error.
///
/// Errors: [`KEY_FILE_INVALID`].
pub fn read(path: &Path) -> (Version, Result<Keys>) {
    let (version, opened) = open(path);
    (version, opened.map_err(|why| refused(&why)).and_then(|(file, metadata)| parse(file, &metadata)))
}

/// Reads a file that contains only a secret: its version, and its text or the reason why it cannot be used.
///
/// The reason is the end of a sentence and contains nothing of the secret. The file may have at most `max_bytes` bytes,
/// and other users of the machine may neither read nor write it.
pub fn read_secret(path: &Path, max_bytes: u64) -> (Version, std::result::Result<Zeroizing<String>, String>) {
    let (version, opened) = open(path);
    (version, opened.and_then(|(file, metadata)| secret(file, &metadata, max_bytes)))
}

fn secret(file: File, metadata: &Metadata, max_bytes: u64) -> std::result::Result<Zeroizing<String>, String> {
    // As Postgres asks of the key of its certificate: what others can read is no secret.
    if metadata.mode() & 0o007 != 0 {
        return Err("every user of the machine may read or write it".into());
    }
    if metadata.len() > max_bytes {
        return Err(format!("it has more than {max_bytes} bytes"));
    }
    // Room for all of it, so that no copy stays behind where it grew.
    let mut text = Zeroizing::new(String::with_capacity(max_bytes as usize + 64));
    let read = file.take(max_bytes).read_to_string(&mut text);
    read.map_err(|error| format!("it cannot be read: {}", error.kind()))?;
    Ok(text)
}

fn open(path: &Path) -> (Version, std::result::Result<(File, Metadata), String>) {
    let opened = open_regular(path);
    let metadata = opened.as_ref().ok().map(|(_, metadata)| metadata);
    let age = metadata.and_then(|metadata| SystemTime::now().duration_since(metadata.modified().ok()?).ok());
    let version = Version { stamp: metadata.map(Stamp::of), settled: age.is_some_and(|age| age > SETTLED) };
    (version, opened)
}

fn open_regular(path: &Path) -> std::result::Result<(File, Metadata), String> {
    // Not blocking, so that a named pipe cannot hold the backend.
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    // Links are followed: that is how files of a mounted secret are replaced at once.
    let file = file.map_err(|error| format!("it cannot be opened: {}", error.kind()))?;
    let metadata = file.metadata().map_err(|error| format!("it cannot be read: {}", error.kind()))?;
    if !metadata.is_file() {
        return Err("it is not a regular file".into());
    }
    Ok((file, metadata))
}

fn parse(file: File, metadata: &Metadata) -> Result<Keys> {
    let mut text = String::new();
    // One byte more than is allowed, so that KeySet::parse sees that it is too much.
    file.take(MAX_KEY_SET_BYTES as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| refused(&format!("it cannot be read: {}", error.kind())))?;
    let set = KeySet::parse(&text).map_err(|error| refused(&error.detail.unwrap_or(error.message)))?;
    if metadata.mode() & 0o002 != 0 {
        return Err(refused("every user of the machine may write it"));
    }
    // As Postgres asks of the key of its certificate: what others can read is no secret.
    if set.has_secrets() && metadata.mode() & 0o007 != 0 {
        return Err(refused("it holds an HMAC secret and every user of the machine may read it"));
    }
    Ok(Keys { set, text })
}

fn refused(why: &str) -> Error {
    let why = why.trim_end_matches('.');
    KEY_FILE_INVALID.error("the key file of the issuer cannot be used").detail(format!("The reason: {why}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const PUBLIC: &str =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    const SECRET: &str = r#"{"keys":[{"kty":"oct","alg":"HS256","kid":"s","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}]}"#;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("pg_tenancy-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Folder(folder)
        }

        /// Writes a file that has settled.
        fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let past = SystemTime::now() - Duration::from_secs(60);
            File::options().append(true).open(&path).unwrap().set_modified(past).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn keys(path: &Path) -> Result<Keys> {
        read(path).1
    }

    fn refusal(path: &Path) -> String {
        let error = keys(path).err().unwrap();
        assert_eq!(error.kind, &KEY_FILE_INVALID);
        error.detail.unwrap()
    }

    #[test]
    fn a_name_leads_nowhere_but_into_the_folder() {
        assert_eq!(path(Some("/etc/keys"), "clerk.json").unwrap(), Path::new("/etc/keys/clerk.json"));
        for name in ["", ".", "..", "../x", "a/b", "/etc/passwd", ".hidden", "a\0b", "a b", "é"] {
            assert!(path(Some("/etc/keys"), name).is_err(), "{name:?}");
        }
        assert!(path(Some("/k"), &"a".repeat(MAX_NAME_BYTES + 1)).is_err());
        assert!(path(None, "a").is_err() && path(Some(""), "a").is_err() && path(Some("keys"), "a").is_err());
    }

    #[test]
    fn a_changed_file_is_noticed_and_an_unchanged_one_is_current() {
        let folder = Folder::new("changed");
        let path = folder.write("a.json", PUBLIC, 0o644);
        let (version, keys) = read(&path);
        assert!(keys.is_ok() && version.is_current(&path));
        folder.write("b.json", &PUBLIC.replace("\"a\"", "\"b\""), 0o644);
        fs::rename(folder.0.join("b.json"), &path).unwrap();
        assert!(!version.is_current(&path), "replaced by another file of the same length and time");
        fs::remove_file(&path).unwrap();
        assert!(!version.is_current(&path), "gone");
        let (missing, keys) = read(&path);
        assert!(keys.is_err() && missing.is_current(&path), "still gone");
    }

    #[test]
    fn a_file_that_was_just_written_is_read_again() {
        let folder = Folder::new("fresh");
        let path = folder.0.join("a.json");
        fs::write(&path, PUBLIC).unwrap();
        let (version, keys) = read(&path);
        assert!(keys.is_ok() && !version.is_current(&path));
    }

    #[test]
    fn a_secret_is_taken_only_from_a_file_that_others_cannot_read() {
        let folder = Folder::new("secret");
        assert!(keys(&folder.write("a", SECRET, 0o640)).is_ok_and(|keys| keys.set.has_secrets()));
        for mode in [0o644, 0o604, 0o641] {
            assert!(refusal(&folder.write("b", SECRET, mode)).contains("every user of the machine"), "{mode:o}");
        }
        assert!(keys(&folder.write("c", PUBLIC, 0o644)).is_ok_and(|keys| !keys.set.has_secrets()));
    }

    #[test]
    fn a_file_that_is_nothing_but_a_secret_is_only_the_servers() {
        let folder = Folder::new("bare-secret");
        let text = |path: &Path| read_secret(path, 100).1.map(|text| text.to_string());
        assert_eq!(text(&folder.write("a", "x\n", 0o600)).as_deref(), Ok("x\n"));
        assert_eq!(text(&folder.write("a", "x\n", 0o640)).as_deref(), Ok("x\n"));
        for mode in [0o644, 0o604, 0o602, 0o601] {
            assert!(text(&folder.write("b", "x\n", mode)).unwrap_err().contains("every user"), "{mode:o}");
        }
        assert!(text(&folder.write("c", &"x".repeat(101), 0o600)).unwrap_err().contains("more than 100 bytes"));
        assert!(text(&folder.0.join("missing")).unwrap_err().contains("cannot be opened"));
        let path = folder.write("a", "x\n", 0o600);
        let (version, _) = read_secret(&path, 100);
        assert!(version.is_current(&path));
    }

    #[test]
    fn no_key_is_taken_from_a_file_that_others_may_write() {
        let folder = Folder::new("writable");
        for (text, mode) in [(PUBLIC, 0o646), (PUBLIC, 0o602), (SECRET, 0o602)] {
            assert!(refusal(&folder.write("a", text, mode)).contains("may write it"), "{mode:o}");
        }
    }

    #[test]
    fn what_is_no_key_set_is_refused_with_the_reason_and_without_its_content() {
        let folder = Folder::new("broken");
        assert!(refusal(&folder.0).contains("not a regular file"));
        assert!(refusal(&folder.0.join("missing")).contains("cannot be opened"));
        assert!(refusal(&folder.write("half", &SECRET[..60], 0o600)).contains("not strict JSON"));
        let short = folder.write("short", r#"{"keys":[{"kty":"oct","alg":"HS256","k":"c2hvcnQ"}]}"#, 0o600);
        assert!(refusal(&short).contains("at least 32 bytes") && !refusal(&short).contains("c2hvcnQ"));
        assert!(refusal(&folder.write("long", &" ".repeat(MAX_KEY_SET_BYTES + 1), 0o600)).contains("256 KiB"));
        fs::write(folder.0.join("bytes"), [0xff, 0xfe]).unwrap();
        assert!(refusal(&folder.0.join("bytes")).contains("cannot be read"));
    }
}
