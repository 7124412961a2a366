//! The file of a page, which is there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Refuses a path that a page must not be written to: no regular file, or one that is read.
///
/// Errors: what is wrong with it, for people.
pub fn check(target: &Path, inputs: &[PathBuf]) -> Result<(), String> {
    let refused = |why: &str| Err(format!("{}: {why}", target.display()));
    if target.file_name().is_none() {
        return refused("names no file");
    }
    let Ok(there) = fs::metadata(target) else {
        return match fs::symlink_metadata(target) {
            Ok(_) => refused("is a link to nothing"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => refused(&error.to_string()),
        };
    };
    if !there.is_file() {
        return refused("is there and is no file");
    }
    let same = |input: &PathBuf| {
        fs::metadata(input).is_ok_and(|input| (input.dev(), input.ino()) == (there.dev(), there.ino()))
    };
    match inputs.iter().any(same) {
        true => refused("is read, and a page would take its place"),
        false => Ok(()),
    }
}

/// Writes a file beside the target and gives it the target's name.
///
/// Errors: what went wrong, for people; the target is as it was then.
pub fn write(target: &Path, content: &str) -> Result<(), String> {
    let said = |error: io::Error| format!("{}: {error}", target.display());
    let (partial, mut file) = create_beside(target).map_err(said)?;
    let written = file.write_all(content.as_bytes()).and_then(|()| file.sync_all());
    written.and_then(|()| fs::rename(&partial, target)).map_err(|error| {
        fs::remove_file(&partial).ok();
        said(error)
    })
}

/// A new file in the folder of the target.
fn create_beside(target: &Path) -> io::Result<(PathBuf, File)> {
    let mut number = 0;
    loop {
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{}.{number}.partial", std::process::id()));
        let partial = target.with_file_name(name);
        match OpenOptions::new().write(true).create_new(true).open(&partial) {
            Ok(file) => return Ok((partial, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 100 => number += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("pg-tenancy-verify-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn names(&self) -> Vec<String> {
            let names = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn an_input_is_never_the_target_whatever_it_is_called() {
        let folder = Folder::new("inputs");
        let at = |name: &str| folder.0.join(name);
        let bundle = at("bundle");
        fs::write(&bundle, "bundle").unwrap();
        symlink(&bundle, at("link")).unwrap();
        symlink(at("gone"), at("dangling")).unwrap();
        fs::hard_link(&bundle, at("hard")).unwrap();
        fs::write(at("old"), "page").unwrap();
        let inputs = [PathBuf::from("-"), at("not there"), bundle.clone()];
        let around = folder.0.join("..").join(folder.0.file_name().unwrap()).join("bundle");
        for refused in [bundle, at("link"), at("hard"), at("dangling"), around, folder.0.clone(), "/dev/null".into()] {
            assert!(check(&refused, &inputs).is_err(), "{}", refused.display());
        }
        assert!(check(Path::new("/"), &inputs).is_err() && check(Path::new(""), &inputs).is_err());
        assert_eq!(check(&at("new"), &inputs), Ok(()));
        assert_eq!(check(&at("old"), &inputs), Ok(()));
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let folder = Folder::new("whole");
        let target = folder.0.join("page.html");
        write(&target, "one").unwrap();
        write(&target, "two").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "two");
        assert_eq!(folder.names(), ["page.html"]);
        // A folder in its place: the name cannot be given.
        fs::create_dir(folder.0.join("taken")).unwrap();
        fs::write(folder.0.join("taken/x"), "").unwrap();
        assert!(write(&folder.0.join("taken"), "three").is_err());
        assert!(write(&folder.0.join("nowhere/page.html"), "three").is_err());
        assert_eq!(folder.names(), ["page.html", "taken"]);
    }
}
