//! Commands that hand over keys, run as Postgres runs `ssl_passphrase_command`: through the shell, by the server's
//! user.
//!
//! A command runs in a process group of its own, for a limited time, and its output is bounded. Its standard error is
//! discarded because it may contain secrets, which must not reach the log.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

/// The longest run time of a command.
const PATIENCE: Duration = Duration::from_secs(10);
/// The interval at which a running command is polled.
const STEP: Duration = Duration::from_millis(50);
/// The bytes that are read or written at a time.
const CHUNK: usize = 4096;

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

/// What a command still has to be given on its standard input.
struct Input<'a> {
    pipe: ChildStdin,
    rest: &'a [u8],
}

/// Runs a command and returns its standard output, which may have at most `max_bytes` bytes.
///
/// `input` is its standard input. The function calls `interrupted` repeatedly while the command runs, and kills the
/// command if `interrupted` unwinds. The error is the reason, which contains nothing of the output.
pub fn run(
    command: &str,
    input: Option<&[u8]>,
    max_bytes: usize,
    mut interrupted: impl FnMut(),
) -> Result<Zeroizing<Vec<u8>>, String> {
    let child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let mut child = Running(child.map_err(|error| format!("the command cannot be run: {}", error.kind()))?);
    let deadline = Instant::now() + PATIENCE;
    let mut input = child.0.stdin.take().zip(input).map(|(pipe, rest)| Input { pipe, rest });
    if let Some(input) = &input {
        not_blocking(&input.pipe);
    }
    // Room for all of it, so that no copy stays behind where it grew.
    let mut printed = Zeroizing::new(Vec::with_capacity(max_bytes.saturating_add(CHUNK)));
    if let Some(mut output) = child.0.stdout.take() {
        loop {
            interrupted();
            in_time(deadline)?;
            let readable = wait_for_either(input.as_ref().map(|input| &input.pipe), &output);
            input = input.and_then(feed);
            if !readable {
                continue;
            }
            match read_chunk(&mut output, &mut printed) {
                Ok(0) => break,
                Ok(_) if printed.len() > max_bytes => {
                    return Err(format!("the command printed more than {} kB", max_bytes / 1024));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("the command cannot be read: {}", error.kind())),
            }
        }
    }
    // It has printed all it will, whatever it has not read.
    drop(input);
    let status = wait(&mut child.0, deadline, interrupted)?;
    if status.success() { Ok(printed) } else { Err(format!("the command failed: {status}")) }
}

/// Has writes to a pipe return at once when it is full, so that a command which does not read cannot hold the backend.
fn not_blocking(pipe: &impl AsRawFd) {
    // SAFETY: reads and sets flags of a descriptor that is open.
    unsafe {
        let flags = libc::fcntl(pipe.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK);
    }
}

/// Waits at most for [`STEP`], until the output can be read or the input written; true for the output.
fn wait_for_either(input: Option<&ChildStdin>, output: &impl AsRawFd) -> bool {
    let poll = |descriptor, events| libc::pollfd { fd: descriptor, events, revents: 0 };
    // A negative descriptor is one that poll leaves out.
    let mut polls = [poll(output.as_raw_fd(), libc::POLLIN), poll(input.map_or(-1, AsRawFd::as_raw_fd), libc::POLLOUT)];
    // SAFETY: two descriptors, open for the time of the call.
    let ready = unsafe { libc::poll(polls.as_mut_ptr(), 2, STEP.as_millis() as i32) };
    ready > 0 && polls[0].revents != 0
}

/// Writes what the pipe takes; `None` when all is written, or when the command does not read on.
fn feed(mut input: Input) -> Option<Input> {
    while !input.rest.is_empty() {
        match input.pipe.write(&input.rest[..input.rest.len().min(CHUNK)]) {
            Ok(0) => return None,
            Ok(count) => input.rest = &input.rest[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(input),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    None
}

fn read_chunk(output: &mut impl Read, printed: &mut Vec<u8>) -> std::io::Result<usize> {
    let before = printed.len();
    printed.resize(before + CHUNK, 0);
    let read = output.read(&mut printed[before..]);
    printed.truncate(before + read.as_ref().copied().unwrap_or(0));
    read
}

fn wait(child: &mut Child, deadline: Instant, mut interrupted: impl FnMut()) -> Result<ExitStatus, String> {
    loop {
        interrupted();
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => in_time(deadline)?,
            Err(error) => return Err(format!("the command cannot be waited for: {}", error.kind())),
        }
        std::thread::sleep(STEP);
    }
}

fn in_time(deadline: Instant) -> Result<(), String> {
    if Instant::now() < deadline { Ok(()) } else { Err("the command took longer than 10 seconds".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 64 * 1024;

    fn printed(command: &str, input: Option<&[u8]>) -> Result<Vec<u8>, String> {
        run(command, input, MOST, || ()).map(|printed| printed.to_vec())
    }

    #[test]
    fn a_command_is_bounded_in_time_and_size_and_must_succeed() {
        assert_eq!(printed("printf a; printf b", None).unwrap(), b"ab");
        assert_eq!(printed("cat", None).unwrap(), b"", "there is no standard input");
        assert!(printed("echo a; exit 3", None).unwrap_err().contains("exit status: 3"));
        assert!(printed("kill -9 $$", None).unwrap_err().contains("signal: 9"));
        assert!(printed("yes", None).unwrap_err().contains("64 kB"));
        assert!(printed("head -c 65537 /dev/zero", None).unwrap_err().contains("64 kB"));
        assert_eq!(printed("head -c 65536 /dev/zero", None).unwrap().len(), MOST);
    }

    #[test]
    fn what_a_command_says_about_its_failure_is_not_told() {
        let told = printed("echo secret; echo secret >&2; exit 1", None).unwrap_err();
        assert!(!told.contains("secret"), "{told}");
    }

    #[test]
    fn a_command_gets_its_input_while_its_output_is_read() {
        // More than a pipe holds, in both directions.
        let input = vec![b'x'; 1 << 20];
        let echoed = run("cat", Some(&input), 1 << 20, || ()).unwrap();
        assert!(*echoed == input);
        assert_eq!(printed("echo early", Some(&input)).unwrap(), b"early\n", "a command need not read");
        assert_eq!(printed("exec <&-; echo closed", Some(&input)).unwrap(), b"closed\n");
    }

    #[test]
    fn a_command_that_neither_reads_nor_ends_is_ended() {
        let began = Instant::now();
        let told = printed("sleep 20", Some(&[b'x'; 1 << 20])).unwrap_err();
        assert!(told.contains("10 seconds") && began.elapsed() < Duration::from_secs(15), "{told}");
    }

    #[test]
    fn a_command_that_is_interrupted_ends_with_all_its_children() {
        let mark = std::env::temp_dir().join(format!("pg_tenancy-late-{}", std::process::id()));
        let sleeping = format!("(sleep 2; touch {0}) & sleep 2; touch {0}", mark.display());
        let began = Instant::now();
        let run = std::panic::catch_unwind(|| {
            let interrupted = || assert!(began.elapsed() < Duration::from_millis(200), "cancelled");
            run(&sleeping, None, MOST, interrupted)
        });
        assert!(run.is_err());
        std::thread::sleep(Duration::from_millis(2500));
        assert!(!mark.exists(), "a child lived on");
    }
}
