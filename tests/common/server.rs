//! Programs of the server's installation, and servers of a test's own beside the one of the environment.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::try_connect;
use tokio_postgres::{Client, Config};

/// Where the programs of the environment's server are; `None` where nobody named the folder.
pub fn programs() -> Option<PathBuf> {
    std::env::var_os("PG_TENANCY_BIN").map(PathBuf::from)
}

/// A program, run as the user that the server runs as, without settings meant for another server.
pub fn as_server(program: impl AsRef<Path>) -> Command {
    let run = std::env::var("PG_TENANCY_RUN").unwrap_or_default();
    let mut words = run.split_whitespace();
    let mut command = match words.next() {
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(program.as_ref());
            command
        }
        None => Command::new(program.as_ref()),
    };
    for setting in ["PGHOST", "PGPORT", "PGPASSWORD", "PGDATABASE", "PGOPTIONS"] {
        command.env_remove(setting);
    }
    command.current_dir("/");
    command
}

/// Runs a program that must succeed; returns what it printed.
pub fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}

/// Runs a program that must fail; returns its complaint.
pub fn fails(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{command:?} did not fail: {complaint}");
    complaint
}

/// A folder of the server's user beside the data of the environment's server. Its end deletes it.
pub struct Folder(pub PathBuf);

impl Folder {
    /// `None` where the server is not one that the tests may put anything beside.
    pub fn create(name: &str) -> Option<Self> {
        let data = PathBuf::from(std::env::var_os("PG_TENANCY_DATA")?);
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = Folder(data.parent()?.join(format!("{name}-{}-{number}", std::process::id())));
        succeeds(as_server("mkdir").args(["-m", "700"]).arg(&folder.0));
        Some(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        as_server("rm").arg("-rf").arg(&self.0).status().ok();
    }
}

/// Kills a process of a server at once.
pub fn kill(pid: &str) {
    as_server("kill").args(["-9", pid]).status().unwrap();
}

/// Waits until a crash has taken this connection along: until then the postmaster may still take new ones and end them.
pub async fn lose(client: Client) {
    for _ in 0..400 {
        if client.simple_query("SELECT 1").await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the connection is still there");
}

/// A superuser's connection to a server that comes back.
pub async fn reconnect(config: &Config) -> Client {
    for _ in 0..400 {
        if let Ok(client) = try_connect(config).await {
            return client;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server did not come back");
}

/// A server of the test's own, whose socket is beside that of the environment's. Its end stops it.
pub struct Server {
    /// Where its programs are.
    pub bin: PathBuf,
    pub data: PathBuf,
    pub port: u16,
}

impl Server {
    /// For the data in that folder, which may have to be made yet.
    pub fn at(bin: &Path, data: PathBuf) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Server { bin: bin.to_owned(), data, port }
    }

    /// A program of this server's version.
    pub fn program(&self, name: &str) -> Command {
        as_server(self.bin.join(name))
    }

    /// Makes an empty cluster like that of the environment.
    pub fn initialize(&self) {
        let mut initdb = self.program("initdb");
        initdb.args(["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        // From Postgres 18 on checksums are the default, and pg_upgrade wants both clusters alike.
        if succeeds(self.program("initdb").arg("--help")).contains("--no-data-checksums") {
            initdb.arg("--no-data-checksums");
        }
        succeeds(initdb.arg("-D").arg(&self.data));
    }

    /// Starts it and waits until it answers. `options` are those of the `postgres` program.
    pub fn start(&self, options: &str) {
        let options = format!("-c port={} -c listen_addresses= -c fsync=off {options}", self.port);
        let mut start = self.program("pg_ctl");
        start.args(["start", "-w", "-t", "60", "-s", "-o", &options, "-D"]).arg(&self.data);
        start.arg("-l").arg(self.data.join("server.log"));
        // The server keeps what its parent printed to, and would keep a pipe open.
        start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(start.status().unwrap().success(), "the server did not start: {start:?}");
    }

    pub fn stop(&self, mode: &str) {
        self.program("pg_ctl").args(["stop", "-m", mode, "-s", "-D"]).arg(&self.data).output().ok();
    }

    /// Kills the postmaster, and waits until its last process is gone: as long as one is there no other can start.
    pub async fn kill_postmaster(&self) {
        let pid = self.postmaster();
        let children = self.children();
        kill(&pid);
        self.wait_for_the_end(&pid, &children).await;
    }

    /// The id of the postmaster's process.
    pub fn postmaster(&self) -> String {
        succeeds(as_server("head").arg("-1").arg(self.data.join("postmaster.pid"))).trim().to_owned()
    }

    /// The ids of its processes.
    pub fn children(&self) -> Vec<String> {
        let children = Command::new("pgrep").args(["-P", &self.postmaster()]).output().unwrap();
        String::from_utf8(children.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
    }

    /// Waits until a postmaster that was killed and all its processes are gone.
    pub async fn wait_for_the_end(&self, postmaster: &str, children: &[String]) {
        let alive = |pid: &str| Path::new("/proc").join(pid).exists();
        for _ in 0..800 {
            if !children.iter().map(String::as_str).chain([postmaster]).any(alive) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("processes of the server outlived its postmaster");
    }

    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host_path(std::env::var("PGHOST").unwrap()).port(self.port).user("postgres").dbname("postgres");
        config
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop("immediate");
    }
}
