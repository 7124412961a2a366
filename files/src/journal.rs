//! A journal: records that are durable before their writer goes on, whatever becomes of its transaction.
//!
//! Any number of processes append; one at a time reads and says up to where it needs the records no more. A folder has
//! numbered segments, of which the highest is written to. A record that a crash cut off was never told to be durable,
//! so readers skip it.
//!
//! Where the reader stands is the caller's to store, in the transaction that stores what it read: each record is then
//! taken in exactly once.

use pg_tenancy_core::audit::format::encoding::Record;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The most bytes of a record.
pub const MAX_RECORD: usize = 64 * 1024;

/// The size from which the next segment is begun.
const SEGMENT_BYTES: u64 = 1024 * 1024;

/// What a record begins with. A reader that meets something else looks for it.
const MAGIC: [u8; 4] = *b"\xffpgJ";
/// Magic, length as 32-bit big-endian number, digest.
const FRAME_BYTES: usize = 4 + 4 + 32;

/// A place between two records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The number of the segment, from 0.
    pub segment: u64,
    /// The offset in the segment, in bytes.
    pub offset: u64,
}

/// The journal in a folder.
pub struct Journal {
    folder: PathBuf,
}

/// A lock on a segment, for as long as the file is open.
struct Locked(File);

impl Journal {
    /// The journal in this folder, which the first [`Self::append`] makes.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Journal { folder: folder.into() }
    }

    /// Appends a record of at most [`MAX_RECORD`] bytes. When this returns, the record survives a crash.
    ///
    /// An error leaves at most a part of a record, which nobody reads.
    pub fn append(&self, record: &[u8]) -> io::Result<()> {
        if record.len() > MAX_RECORD {
            return Err(io::Error::new(ErrorKind::InvalidInput, "a record of the journal is too long"));
        }
        let mut frame = Vec::with_capacity(FRAME_BYTES + record.len());
        frame.extend_from_slice(&MAGIC);
        frame.extend_from_slice(&(record.len() as u32).to_be_bytes());
        frame.extend_from_slice(&digest(record));
        frame.extend_from_slice(record);
        let segment = self.writable()?;
        (&segment.0).write_all(&frame)?;
        // Not under the lock: writers that wait for the disk wait together.
        let file = segment.unlocked()?;
        file.sync_data()
    }

    /// Hands over the records from a position on, each with the position after it, until `each` returns false.
    ///
    /// What is handed over is durable: a crash takes no record away that was read.
    pub fn read(&self, from: Position, mut each: impl FnMut(&[u8], Position) -> bool) -> io::Result<()> {
        for segment in self.segments()?.into_iter().filter(|segment| *segment >= from.segment) {
            let file = match File::open(self.path(segment)) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened?,
            };
            file.sync_data()?;
            let bytes = file.metadata()?.len();
            let mut offset = if segment == from.segment { from.offset } else { 0 };
            while let Some((record, after)) = next_record(&file, offset, bytes)? {
                if !each(&record, Position { segment, offset: after }) {
                    return Ok(());
                }
                offset = after;
            }
        }
        Ok(())
    }

    /// Deletes the segments that end before a position; the newest one stays.
    pub fn forget(&self, until: Position) -> io::Result<()> {
        let segments = self.segments()?;
        let newest = segments.last().copied();
        for segment in segments.into_iter().filter(|segment| *segment < until.segment && Some(*segment) != newest) {
            match fs::remove_file(self.path(segment)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Deletes the journal. Nobody may append to it any more, and all of it was read.
    pub fn delete(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The newest segment, locked, with room for a record.
    fn writable(&self) -> io::Result<Locked> {
        loop {
            let Some(segment) = self.segments()?.pop() else {
                self.create()?;
                continue;
            };
            let opened = OpenOptions::new().append(true).open(self.path(segment));
            let file = match opened {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let locked = Locked::new(file)?;
            // Meanwhile another writer may have begun the next one, or the reader deleted this one.
            let (here, there) = (locked.0.metadata()?, fs::metadata(self.path(segment)));
            let same = there.is_ok_and(|there| (there.dev(), there.ino()) == (here.dev(), here.ino()));
            if !same || self.path(segment + 1).exists() {
                continue;
            }
            if here.len() < SEGMENT_BYTES {
                return Ok(locked);
            }
            self.begin(segment + 1)?;
        }
    }

    /// Makes the folder, and the one around it, which journals share.
    fn create(&self) -> io::Result<()> {
        match create_folder(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if let Some(around) = self.folder.parent() {
                    create_folder(around)?;
                }
                create_folder(&self.folder)?;
            }
            created => created?,
        }
        self.begin(0)
    }

    fn begin(&self, segment: u64) -> io::Result<()> {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path(segment));
        match made {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => sync_folder(&self.folder),
        }
    }

    /// The numbers of the segments, sorted; none where the folder is not there yet.
    fn segments(&self) -> io::Result<Vec<u64>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut segments = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_suffix(".journal")).filter(|name| name.len() == 16);
            segments.extend(digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()));
        }
        segments.sort_unstable();
        Ok(segments)
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.folder.join(format!("{segment:016x}.journal"))
    }
}

impl Locked {
    /// Waits for the lock; the end of the process gives it back.
    fn new(file: File) -> io::Result<Self> {
        flock(&file, libc::LOCK_EX)?;
        Ok(Locked(file))
    }

    fn unlocked(self) -> io::Result<File> {
        flock(&self.0, libc::LOCK_UN)?;
        Ok(self.0)
    }
}

fn flock(file: &File, operation: i32) -> io::Result<()> {
    loop {
        // SAFETY: a descriptor that is open for the time of the call.
        if unsafe { libc::flock(file.as_raw_fd(), operation) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        // A signal: what holds the lock writes a few bytes, so it is waited for again.
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn create_folder(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    folder.parent().map_or(Ok(()), sync_folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn digest(record: &[u8]) -> [u8; 32] {
    Record::new("pg_tenancy/journal/1").bytes(record).digest()
}

/// The first whole record from an offset on, and the offset behind it.
fn next_record(file: &File, mut offset: u64, bytes: u64) -> io::Result<Option<(Vec<u8>, u64)>> {
    while offset + FRAME_BYTES as u64 <= bytes {
        let mut frame = [0; FRAME_BYTES];
        file.read_exact_at(&mut frame, offset)?;
        if let Some(record) = record_at(file, &frame, offset, bytes)? {
            let after = offset + (FRAME_BYTES + record.len()) as u64;
            return Ok(Some((record, after)));
        }
        // What was cut off: the next record begins somewhere behind it.
        let next = frame[1..].windows(MAGIC.len()).position(|window| window == MAGIC);
        offset += next.map_or(FRAME_BYTES + 1 - MAGIC.len(), |place| place + 1) as u64;
    }
    Ok(None)
}

fn record_at(file: &File, frame: &[u8; FRAME_BYTES], offset: u64, bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let (magic, rest) = frame.split_at(4);
    let (length, expected) = rest.split_at(4);
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let begin = offset + FRAME_BYTES as u64;
    if magic != MAGIC || length > MAX_RECORD || begin + length as u64 > bytes {
        return Ok(None);
    }
    let mut record = vec![0; length];
    file.read_exact_at(&mut record, begin)?;
    Ok((digest(&record)[..] == *expected).then_some(record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::{Duration, Instant};

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("pg_tenancy-journal-{name}-{}", std::process::id()));
            fs::remove_dir_all(&folder).ok();
            Folder(folder)
        }

        fn journal(&self) -> Journal {
            Journal::at(&self.0)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    fn all(journal: &Journal, from: Position) -> (Vec<String>, Position) {
        let (mut records, mut end) = (Vec::new(), from);
        journal
            .read(from, |record, after| {
                records.push(String::from_utf8(record.to_vec()).unwrap());
                end = after;
                true
            })
            .unwrap();
        (records, end)
    }

    #[test]
    fn records_are_read_in_order_from_where_the_reader_stands() {
        let folder = Folder::new("order");
        let journal = folder.journal();
        assert_eq!(all(&journal, Position::default()), (vec![], Position::default()));
        for record in ["one", "", "three"] {
            journal.append(record.as_bytes()).unwrap();
        }
        let (records, end) = all(&journal, Position::default());
        assert_eq!(records, ["one", "", "three"]);
        assert_eq!(all(&journal, end), (vec![], end));
        journal.append(b"four").unwrap();
        assert_eq!(all(&journal, end).0, ["four"]);
        let mut first = None;
        journal.read(Position::default(), |record, _| first.replace(record.to_vec()).is_some()).unwrap();
        assert_eq!(first.as_deref(), Some(&b"one"[..]));
        assert!(journal.append(&vec![0; MAX_RECORD + 1]).is_err());
        let mode = fs::metadata(folder.0.join("0000000000000000.journal")).unwrap().mode();
        assert_eq!((mode & 0o777, fs::metadata(&folder.0).unwrap().mode() & 0o777), (0o600, 0o700));
    }

    #[test]
    fn a_record_that_was_cut_off_is_skipped_wherever_it_ends() {
        let whole = {
            let folder = Folder::new("whole");
            folder.journal().append(b"cut off \xffpgJ in between").unwrap();
            fs::read(folder.0.join("0000000000000000.journal")).unwrap()
        };
        for length in 0..whole.len() {
            let folder = Folder::new("cut");
            folder.journal().append(b"before").unwrap();
            let path = folder.0.join("0000000000000000.journal");
            OpenOptions::new().append(true).open(path).unwrap().write_all(&whole[..length]).unwrap();
            folder.journal().append(b"after").unwrap();
            assert_eq!(all(&folder.journal(), Position::default()).0, ["before", "after"], "cut to {length} bytes");
        }
        for place in 0..whole.len() {
            let folder = Folder::new("altered");
            folder.journal().append(b"before").unwrap();
            let mut altered = whole.clone();
            altered[place] ^= 1;
            let path = folder.0.join("0000000000000000.journal");
            OpenOptions::new().append(true).open(path).unwrap().write_all(&altered).unwrap();
            folder.journal().append(b"after").unwrap();
            assert_eq!(all(&folder.journal(), Position::default()).0, ["before", "after"], "byte {place} altered");
        }
    }

    #[test]
    fn segments_follow_each_other_and_are_deleted_once_they_were_read() {
        let folder = Folder::new("segments");
        let journal = folder.journal();
        let record = |n: usize| format!("{n} {}", "x".repeat(60_000));
        let many = 3 * SEGMENT_BYTES as usize / 60_000;
        (0..many).for_each(|n| journal.append(record(n).as_bytes()).unwrap());
        let segments = journal.segments().unwrap();
        assert_eq!(segments, [0, 1, 2]);
        let (records, end) = all(&journal, Position::default());
        assert!(records.iter().enumerate().all(|(n, read)| *read == record(n)) && records.len() == many);
        journal.forget(Position { segment: 1, offset: 5 }).unwrap();
        assert_eq!(journal.segments().unwrap(), [1, 2]);
        journal.forget(Position { segment: 9, offset: 0 }).unwrap();
        assert_eq!(journal.segments().unwrap(), [2], "the newest stays, so that no number is used again");
        assert_eq!(all(&journal, end).0.len(), 0);
    }

    #[test]
    fn a_journal_makes_its_folder_and_the_one_around_it_and_is_deleted_as_a_whole() {
        let around = Folder::new("around");
        let [one, other] = ["one", "other"].map(|name| Journal::at(around.0.join(name)));
        for journal in [&one, &other] {
            journal.append(b"record").unwrap();
        }
        assert_eq!(fs::metadata(&around.0).unwrap().mode() & 0o777, 0o700);
        one.delete().unwrap();
        one.delete().unwrap();
        assert_eq!(all(&one, Position::default()).0.len(), 0);
        assert_eq!(all(&other, Position::default()).0, ["record"]);
        let deep = Journal::at(around.0.join("no/such/folder"));
        assert_eq!(deep.append(b"record").unwrap_err().kind(), ErrorKind::NotFound);
        std::os::unix::fs::symlink("/dev/full", around.0.join("other/0000000000000001.journal")).unwrap();
        assert_eq!(other.append(b"record").unwrap_err().kind(), ErrorKind::StorageFull);
    }

    /// What a process of its own does: appends until it is killed, and tells after each record that it is durable.
    #[test]
    #[ignore = "the writer of the test below"]
    fn writer() {
        let (folder, name) = (std::env::var("JOURNAL").unwrap(), std::env::var("WRITER").unwrap());
        let (journal, told) = (Journal::at(&folder), PathBuf::from(format!("{folder}.{name}")));
        let mut told = OpenOptions::new().append(true).create(true).open(told).unwrap();
        for n in 0.. {
            let record = format!("{name} {n} {}", "y".repeat(n * 37 % 5000));
            journal.append(record.as_bytes()).unwrap();
            told.write_all(format!("{name} {n}\n").as_bytes()).unwrap();
        }
    }

    #[test]
    fn what_killed_processes_were_told_is_there_exactly_once() {
        let folder = Folder::new("killed");
        let journal = folder.journal();
        let (mut taken, mut position) = (Vec::new(), Position::default());
        for round in 0..6 {
            let mut writers: Vec<_> = (0..3)
                .map(|n| {
                    Command::new(std::env::current_exe().unwrap())
                        .args(["--ignored", "--exact", "journal::tests::writer"])
                        .env("JOURNAL", &folder.0)
                        .env("WRITER", format!("{round}-{n}"))
                        .stdout(std::process::Stdio::null())
                        .spawn()
                        .unwrap()
                })
                .collect();
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(150) {
                let (records, end) = all(&journal, position);
                taken.extend(records);
                position = end;
                journal.forget(position).unwrap();
            }
            for writer in &mut writers {
                writer.kill().unwrap();
                writer.wait().unwrap();
            }
        }
        let (records, _) = all(&journal, position);
        taken.extend(records);
        let mut names: Vec<String> = taken.iter().map(|record| record.rsplit_once(' ').unwrap().0.to_owned()).collect();
        names.sort_unstable();
        let all_names = names.len();
        names.dedup();
        assert_eq!(names.len(), all_names, "a record was read twice");
        let mut told = 0;
        for round in 0..6 {
            for n in 0..3 {
                let path = PathBuf::from(format!("{}.{round}-{n}", folder.0.display()));
                let text = fs::read_to_string(&path).unwrap_or_default();
                fs::remove_file(path).ok();
                for line in text.lines() {
                    told += 1;
                    assert!(names.binary_search(&line.to_owned()).is_ok(), "{line} was told and is gone");
                }
            }
        }
        assert!(told > 50, "only {told} records were written");
    }
}
