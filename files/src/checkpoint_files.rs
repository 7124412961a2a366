//! Published checkpoints as the files `<directory>/<origin>/<number>` and `latest`, for programs that copy them
//! elsewhere.

use pg_tenancy_core::audit::log::signed_note::Checkpoint;
use pg_tenancy_core::error::{CHECKPOINT_REFUSED, Error, PUBLICATION_FAILED, Result};
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Name of the file with the newest note.
const LATEST: &str = "latest";
/// The most bytes of a file that is read; notes are far smaller.
const MAX_BYTES: u64 = 64 * 1024;

/// The folder of one log.
pub struct Folder(PathBuf);

impl Folder {
    /// The folder for `origin` below `directory`, which must be an absolute path.
    ///
    /// Characters of the origin other than ASCII letters, digits, `.`, `_` and `-` become `_`. Errors:
    /// [`PUBLICATION_FAILED`].
    pub fn new(directory: &str, origin: &str) -> Result<Self> {
        if !Path::new(directory).is_absolute() {
            return Err(PUBLICATION_FAILED.error("tenancy.checkpoint_directory is not an absolute path"));
        }
        Ok(Folder(Path::new(directory).join(safe(origin))))
    }

    /// The number and the text of the note that was published last; `None` if no note was published.
    ///
    /// Errors: [`PUBLICATION_FAILED`].
    pub fn latest(&self) -> Result<Option<(i64, String)>> {
        let Some(note) = self.read(LATEST)? else { return Ok(None) };
        let text = note.split_once("\n\n").map(|(text, _)| format!("{text}\n"));
        let number = text.and_then(|text| i64::try_from(Checkpoint::parse(&text).ok()?.size).ok());
        let number = number.ok_or_else(|| PUBLICATION_FAILED.error("the file \"latest\" holds no checkpoint"))?;
        Ok(Some((number, note)))
    }

    /// Publishes a note. A published note is never replaced, so an existing file must have the same content.
    ///
    /// Errors: [`CHECKPOINT_REFUSED`] if the content differs, [`PUBLICATION_FAILED`] if a file cannot be read or
    /// written.
    pub fn write(&self, number: i64, note: &str) -> Result<()> {
        let name = number.to_string();
        match self.read(&name)? {
            Some(other) if other != note => return Err(other_history(number)),
            Some(_) => {}
            None => {
                self.create().map_err(failed)?;
                self.replace(&name, note).map_err(failed)?;
            }
        }
        if self.latest()?.is_none_or(|(latest, _)| latest < number) {
            self.replace(LATEST, note).map_err(failed)?;
        }
        Ok(())
    }

    fn create(&self) -> std::io::Result<()> {
        match fs::create_dir(&self.0) {
            // Checkpoints are public; the umask of the server would hide them from who carries them on.
            Ok(()) => fs::set_permissions(&self.0, Permissions::from_mode(0o755)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Replaces a file atomically: a reader sees all of the old content or all of the new one, also after a crash.
    fn replace(&self, name: &str, note: &str) -> std::io::Result<()> {
        let temporary = self.0.join(format!(".{name}.tmp"));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(note.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, self.0.join(name))?;
        File::open(&self.0)?.sync_all()
    }

    fn read(&self, name: &str) -> Result<Option<String>> {
        let path = self.0.join(name);
        match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
            Ok(metadata) if !metadata.is_file() || metadata.len() > MAX_BYTES => {
                return Err(PUBLICATION_FAILED.error(format!("the file \"{name}\" holds no checkpoint")));
            }
            Ok(_) => {}
        }
        fs::read_to_string(path).map(Some).map_err(failed)
    }
}

/// The error for a number under which another history was published.
pub fn other_history(number: i64) -> Error {
    let message = format!("checkpoint {number} was handed out already, with other content");
    CHECKPOINT_REFUSED.error(message).detail("The database was set back behind it, or another one writes there.")
}

fn failed(error: std::io::Error) -> Error {
    let why = format!("The reason: {}.", error.kind());
    PUBLICATION_FAILED.error("a checkpoint cannot be written to tenancy.checkpoint_directory").detail(why)
}

/// The name of the folder for an origin.
fn safe(origin: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let name: String = origin.chars().map(safe).collect();
    // No hidden one, nor one that leads up.
    if name.starts_with('.') { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(number: i64) -> String {
        let root = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        format!("a.example/log\n{number}\n{root}\n\n\u{2014} a x\n")
    }

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("pg_tenancy-publish-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn notes_are_handed_out_once_and_the_latest_never_goes_back() {
        let directory = directory("once");
        let folder = Folder::new(directory.to_str().unwrap(), "a.example/log").unwrap();
        assert_eq!(folder.latest().unwrap(), None);
        for number in [1, 2, 3, 2] {
            folder.write(number, &note(number)).unwrap();
        }
        assert_eq!(folder.latest().unwrap(), Some((3, note(3))));
        let other = format!("{}x\n", note(2));
        assert_eq!(folder.write(2, &other).unwrap_err().kind, &CHECKPOINT_REFUSED);
        let mut names: Vec<_> =
            fs::read_dir(directory.join("a.example_log")).unwrap().map(|f| f.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["1", "2", "3", "latest"]);
        for name in names {
            let path = directory.join("a.example_log").join(name);
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o644);
        }
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_a_crash_left_is_written_over() {
        let directory = directory("crash");
        let folder = Folder::new(directory.to_str().unwrap(), "x").unwrap();
        folder.write(1, &note(1)).unwrap();
        fs::write(directory.join("x/.2.tmp"), "half").unwrap();
        folder.write(2, &note(2)).unwrap();
        assert_eq!(folder.latest().unwrap(), Some((2, note(2))));
        fs::write(directory.join("x/latest"), "nothing").unwrap();
        assert_eq!(folder.write(3, &note(3)).unwrap_err().kind, &PUBLICATION_FAILED);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn the_folder_is_below_the_directory() {
        for (origin, name) in
            [("a.example/log", "a.example_log"), ("../../etc", "_.._.._etc"), (".", "_."), ("é/x", "__x")]
        {
            assert_eq!(safe(origin), name);
        }
        assert!(Folder::new("relative", "a").is_err());
        let missing = Folder::new("/nonexistent", "a").unwrap();
        assert_eq!(missing.write(1, &note(1)).unwrap_err().kind, &PUBLICATION_FAILED);
    }
}
