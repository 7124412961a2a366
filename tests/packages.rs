//! The Debian packages, by dpkg itself: installed, used by a server, upgraded and removed. It works in a root of the
//! test's own, with a copy of Debian's Postgres, so the machine's installation stays as it is. Also what PGXN and the
//! image for containers say of this version.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::server::{Folder, Server, succeeds};
use crate::common::*;
use serde_json::Value;
use tokio_postgres::Client;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Where tools/test.sh has put the packages of this version, if the server of the tests is Debian's.
fn packages() -> Option<PathBuf> {
    if !Path::new(&format!("/usr/lib/postgresql/{}/bin/postgres", major())).exists() {
        println!("not run: Debian's Postgres {} is not installed", major());
        return None;
    }
    let Some(folder) = std::env::var_os("PG_TENANCY_PACKAGES") else {
        skipped("PG_TENANCY_PACKAGES does not say where tools/deb.sh has put packages");
        return None;
    };
    if !fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0) {
        skipped("only root runs dpkg");
        return None;
    }
    Some(folder.into())
}

/// The file of a package.
fn package(folder: &Path, name: &str) -> PathBuf {
    let is_it = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{name}_"));
    let mut files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(is_it);
    let file = files.next().unwrap_or_else(|| panic!("no {name} in {folder:?}"));
    assert_eq!(files.next(), None, "two of {name}");
    file
}

fn extension() -> String {
    format!("postgresql-{}-pg-tenancy", major())
}

/// A root for dpkg, whose database knows the packages named as the machine's knows them. Its end deletes it.
struct DebianRoot(PathBuf);

impl DebianRoot {
    fn create(name: &str, installed: &[&str]) -> Self {
        let data = PathBuf::from(std::env::var_os("PG_TENANCY_DATA").unwrap());
        let root = DebianRoot(data.parent().unwrap().join(format!("{name}-{}", std::process::id())));
        fs::create_dir(&root.0).unwrap();
        fs::set_permissions(&root.0, fs::Permissions::from_mode(0o755)).unwrap();
        let database = root.0.join("var/lib/dpkg");
        for folder in ["info", "updates", "triggers"] {
            fs::create_dir_all(database.join(folder)).unwrap();
        }
        let status = installed.iter().map(|name| succeeds(Command::new("dpkg-query").args(["--status", name])) + "\n");
        fs::write(database.join("status"), status.collect::<String>()).unwrap();
        root
    }

    fn dpkg(&self, arguments: &[&str]) -> String {
        // Of Debian's own programs, some are outside of a user's PATH.
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
        let mut dpkg = Command::new("dpkg");
        succeeds(dpkg.env("PATH", path).arg("--root").arg(&self.0).args(arguments))
    }

    fn install(&self, file: &Path) {
        self.dpkg(&["--install", file.to_str().unwrap()]);
    }

    /// Every file and folder but those of dpkg's database.
    fn files(&self) -> Vec<String> {
        let mut find = Command::new("find");
        let found = succeeds(find.current_dir(&self.0).args([".", "-path", "./var", "-prune", "-o", "-print"]));
        let mut files: Vec<String> = found.lines().map(str::to_owned).collect();
        files.sort();
        files
    }
}

impl Drop for DebianRoot {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Makes of the package one as it was in an older version: its SQL, and the present library.
fn older(file: &Path, version: &str, folder: &Path) -> PathBuf {
    let tree = folder.join("older");
    succeeds(Command::new("dpkg-deb").arg("--raw-extract").args([file, &tree]));
    let scripts = tree.join(format!("usr/share/postgresql/{}/extension", major()));
    let is_newer = |name: &str| name.starts_with("pg_tenancy--") && name != format!("pg_tenancy--{version}.sql");
    for entry in fs::read_dir(&scripts).unwrap() {
        let entry = entry.unwrap();
        if is_newer(entry.file_name().to_str().unwrap()) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let replace = |path: PathBuf, from: &str, to: &str| {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| if line.starts_with(from) { to } else { line });
        fs::write(path, lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    };
    replace(scripts.join("pg_tenancy.control"), "default_version", &format!("default_version = '{version}'"));
    replace(tree.join("DEBIAN/control"), "Version:", &format!("Version: {version}-1"));
    fs::remove_file(tree.join("DEBIAN/md5sums")).unwrap();
    let made = folder.join(format!("older_{version}.deb"));
    succeeds(Command::new("dpkg-deb").args(["-Zgzip", "-z1", "--build"]).args([&tree, &made]));
    fs::remove_dir_all(tree).unwrap();
    made
}

/// A tenant's rows are its own, and nobody without a token sees one.
async fn use_it(superuser: &Client, client: &Client, issuer: &Issuer) {
    assert_eq!(refused(client, r#"SELECT FROM "Finding""#).await.sqlstate, "28000");
    for (subject, findings) in [("alice", 5), ("bob", 7)] {
        as_tenant(client, &issuer.token(subject)).await;
        assert_eq!(count(client, r#"SELECT count(*) FROM "Finding""#).await, findings);
        run(client, r#"UPDATE "Finding" SET title = title || '.'; COMMIT"#).await;
    }
    seal(superuser).await;
    assert_audit_is_whole(superuser).await;
}

#[test]
fn a_server_lives_through_install_upgrade_and_removal_of_the_package() {
    let Some(folder) = packages() else { return };
    let (newest, oldest) = (package(&folder, &extension()), "0.1.0");
    let root = DebianRoot::create("debian", &[&format!("postgresql-{}", major()), "libc6", "libgcc-s1"]);
    let scratch = Folder::create("packages").unwrap();
    for place in ["lib", "share"] {
        let from = format!("/usr/{place}/postgresql/{}", major());
        let to = root.0.join(&from[1..]);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        succeeds(Command::new("cp").args(["-a", &from]).arg(&to));
        succeeds(Command::new("find").arg(&to).args(["-name", "pg_tenancy*", "-delete"]));
    }
    let without = root.files();

    let server = Server::at(&root.0.join(format!("usr/lib/postgresql/{}/bin", major())), scratch.0.join("data"));
    let jwks = std::env::var("PG_TENANCY_JWKS").unwrap();
    let options = format!(
        "-c unix_socket_directories={} -c tenancy.jwks_directory={jwks} -c tenancy.seal_interval=0 \
         -c shared_preload_libraries=",
        std::env::var("PGHOST").unwrap()
    );
    let preloading = format!("{options}pg_tenancy");
    server.initialize();

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        root.install(&older(&newest, oldest, &scratch.0));
        server.start(&preloading);
        let database = Database::create(server.config()).await;
        let (superuser, client) = (database.superuser().await, database.application().await);
        let version = "SELECT extversion FROM pg_extension WHERE extname = 'pg_tenancy'";
        assert_eq!(value(&superuser, version).await, oldest);
        use_it(&superuser, &client, &database.issuer).await;

        // Sessions outlive an upgrade of the package, and a restart brings the new library before the update.
        root.install(&newest);
        assert_eq!(root.dpkg(&["--verify", &extension()]), "");
        use_it(&superuser, &client, &database.issuer).await;
        drop((superuser, client));
        server.stop("fast");
        server.start(&preloading);
        let (superuser, client) = (database.superuser().await, database.application().await);
        use_it(&superuser, &client, &database.issuer).await;
        run(&superuser, "ALTER EXTENSION pg_tenancy UPDATE").await;
        assert_eq!(value(&superuser, version).await, env!("CARGO_PKG_VERSION"));
        use_it(&superuser, &client, &database.issuer).await;

        // Removed all the same, it leaves no file. Tables that are still protected are closed, until it is back.
        root.dpkg(&["--remove", &extension()]);
        assert_eq!(root.files(), without);
        drop((superuser, client));
        server.stop("fast");
        server.start(&format!("{options}''"));
        let (superuser, client) = (database.superuser().await, database.application().await);
        assert_eq!(refused(&client, r#"SELECT FROM "Finding""#).await.sqlstate, "58P01");
        assert_eq!(count(&superuser, r#"SELECT count(*) FROM "Finding""#).await, 12);
        root.install(&newest);
        use_it(&superuser, &client, &database.issuer).await;

        // As README.Debian says: unprotect, drop, remove.
        let leave = "SELECT tenancy.unprotect('\"Finding\"'), tenancy.unprotect('cloud_account');
                     DROP EXTENSION pg_tenancy";
        run(&superuser, leave).await;
        root.dpkg(&["--purge", &extension()]);
        assert_eq!(root.files(), without);
        let client = database.application().await;
        assert_eq!(count(&client, r#"SELECT count(*) FROM "Finding""#).await, 12);
    });
}

#[test]
fn the_files_are_where_the_pg_config_of_debian_looks() {
    let Some(folder) = packages() else { return };
    let listed = succeeds(Command::new("dpkg-deb").arg("--contents").arg(package(&folder, &extension())));
    let pg_config = format!("/usr/lib/postgresql/{}/bin/pg_config", major());
    if !Path::new(&pg_config).exists() {
        println!("not run: there is no {pg_config}");
        return;
    }
    for (asked, file) in [
        ("--pkglibdir", "pg_tenancy.so".to_owned()),
        ("--sharedir", "extension/pg_tenancy.control".to_owned()),
        ("--sharedir", format!("extension/pg_tenancy--{}.sql", env!("CARGO_PKG_VERSION"))),
    ] {
        let place = succeeds(Command::new(&pg_config).arg(asked));
        let path = format!(".{}/{file}", place.trim());
        assert!(listed.lines().any(|line| line.ends_with(&path)), "no {path}: {listed}");
    }
}

#[test]
fn the_verifier_needs_no_other_package_and_runs_in_an_empty_root() {
    let Some(folder) = packages() else { return };
    let root = DebianRoot::create("auditor", &[]);
    root.install(&package(&folder, "pg-tenancy-verify"));
    fs::copy(Path::new(ROOT).join("tests/evidence/sample.jsonl"), root.0.join("sample.jsonl")).unwrap();
    let verify = |arguments: &[&str]| {
        let mut chroot = Command::new("chroot");
        chroot.arg(&root.0).arg("/usr/bin/pg-tenancy-verify").args(arguments).output().unwrap()
    };
    let done = verify(&["/sample.jsonl"]);
    // It agrees with itself, and no key was named.
    assert_eq!(done.status.code(), Some(3), "{}", String::from_utf8_lossy(&done.stderr));

    // The manual names each option that the program does, and each exit status.
    let help = String::from_utf8(verify(&["--help"]).stdout).unwrap();
    let manual =
        Command::new("gunzip").arg("-c").arg(root.0.join("usr/share/man/man1/pg-tenancy-verify.1.gz")).output();
    let manual = String::from_utf8(manual.unwrap().stdout).unwrap();
    let options =
        help.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter_map(|word| word.strip_prefix("--"));
    let missing: Vec<&str> = options.filter(|option| !manual.contains(&format!("Fl -{option}"))).collect();
    assert!(missing.is_empty() && help.contains("--json"), "the manual lacks {missing:?}");
    for status in help.lines().filter_map(|line| line.strip_prefix("  ")?.split_once("  ")?.0.parse::<u8>().ok()) {
        assert!(manual.contains(&format!(".It {status}\n")), "the manual lacks status {status}");
    }
}

#[test]
fn the_line_tables_are_where_debuggers_look_for_those_of_the_library() {
    let Some(folder) = packages() else { return };
    let root = DebianRoot::create("debug", &[&format!("postgresql-{}", major()), "libc6", "libgcc-s1"]);
    root.install(&package(&folder, &extension()));
    root.install(&package(&folder, &format!("{}-dbgsym", extension())));
    let library = root.0.join(format!("usr/lib/postgresql/{}/lib/pg_tenancy.so", major()));
    let notes = succeeds(Command::new("readelf").arg("--notes").arg(&library));
    let id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).expect("a build id").to_owned();
    let tables = root.0.join(format!("usr/lib/debug/.build-id/{}/{}.debug", &id[..2], &id[2..]));
    assert!(tables.exists(), "no {tables:?}");
    assert!(!succeeds(Command::new("readelf").args(["--sections", "--wide"]).arg(&library)).contains(".debug_line"));
    if std::env::var("CARGO_PROFILE_RELEASE_DEBUG").as_deref() == Ok("none") {
        println!("the library was built without line tables");
        return;
    }
    let symbols = succeeds(Command::new("readelf").args(["--dyn-syms", "--wide"]).arg(&library));
    let start = symbols.lines().find(|line| line.ends_with(" _PG_init")).expect("_PG_init");
    let address = start.split_whitespace().nth(1).unwrap();
    let line = succeeds(Command::new("addr2line").arg("--exe").arg(&tables).arg(address));
    assert!(line.contains("src/lib.rs:"), "_PG_init is said to be at {line}");
}

#[test]
fn the_same_files_make_the_same_packages() {
    let Some(folder) = packages() else { return };
    let again = std::env::temp_dir().join(database_name());
    let built = Path::new(ROOT).join("target");
    let mut deb = Command::new(Path::new(ROOT).join("tools/deb.sh"));
    let (build, sql) = (built.join(format!("build-{}", major())), built.join("sql"));
    deb.arg(&again).args([build.join("pg_tenancy.so"), sql, build.join("pg-tenancy-verify")]);
    // At another time of day, and in another time zone.
    deb.env("DEB_COMPRESSION", "gzip -z1").env("TZ", "Asia/Tokyo").env("PG", major().to_string());
    succeeds(&mut deb);
    for name in [extension(), format!("{}-dbgsym", extension()), "pg-tenancy-verify".into()] {
        let (one, other) = (package(&folder, &name), package(&again, &name));
        assert_eq!(one.file_name(), other.file_name());
        assert!(fs::read(&one).unwrap() == fs::read(&other).unwrap(), "{name} differs: {one:?} {other:?}");
    }
    fs::remove_dir_all(again).unwrap();
}

/// What the specification allows, version 1.0.0: https://pgxn.org/meta/spec.txt
#[test]
fn the_metadata_for_pgxn_is_valid_and_of_this_version() {
    let text = fs::read_to_string(Path::new(ROOT).join("META.json")).unwrap();
    let meta: Value = serde_json::from_str(&text).unwrap();
    let meta = meta.as_object().unwrap();
    let of = |key: &str| meta.get(key).and_then(Value::as_str).unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((of("name"), of("version"), of("license")), ("pg_tenancy", version, "postgresql"));
    assert!(!of("abstract").is_empty() && !of("maintainer").is_empty());
    assert!(["stable", "testing", "unstable"].contains(&of("release_status")));
    assert_eq!(meta["meta-spec"]["version"], "1.0.0");
    let known = ["name", "version", "abstract", "maintainer", "license", "provides", "meta-spec", "description"];
    let known = known.into_iter().chain(["generated_by", "tags", "no_index", "prereqs", "release_status", "resources"]);
    let known: Vec<&str> = known.collect();
    let unknown: Vec<&String> = meta.keys().filter(|key| !known.contains(&key.as_str())).collect();
    assert!(unknown.is_empty(), "no key of the specification: {unknown:?}");

    let provided = meta["provides"].as_object().unwrap();
    assert_eq!(provided.keys().collect::<Vec<_>>(), ["pg_tenancy"]);
    for extension in provided.values() {
        assert_eq!(extension["version"], version);
        for file in ["file", "docfile"] {
            let path = extension[file].as_str().unwrap();
            assert!(Path::new(ROOT).join(path).exists(), "META.json names {path}");
        }
    }
    for (phase, relations) in meta["prereqs"].as_object().unwrap() {
        assert!(["configure", "build", "test", "runtime", "develop"].contains(&phase.as_str()), "{phase}");
        for (relation, required) in relations.as_object().unwrap() {
            assert!(["requires", "recommends", "suggests", "conflicts"].contains(&relation.as_str()), "{relation}");
            for (name, least) in required.as_object().unwrap() {
                let three_parts = |text: &str| text.split('.').filter(|part| part.parse::<u32>().is_ok()).count() == 3;
                assert!(least == 0 || least.as_str().is_some_and(three_parts), "{name}: {least}");
            }
        }
    }
    for tag in meta["tags"].as_array().unwrap() {
        let tag = tag.as_str().unwrap();
        assert!(!tag.is_empty() && tag.len() < 256 && !tag.contains(['/', '\\']), "{tag}");
    }
}

#[test]
fn the_image_is_built_with_the_toolchain_of_the_project() {
    let read = |name: &str| fs::read_to_string(Path::new(ROOT).join(name)).unwrap();
    let after = |text: &str, start: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_else(|| panic!("no {start}"));
        line.trim_matches('"').to_owned()
    };
    assert_eq!(after(&read("Dockerfile"), "ARG RUST_VERSION="), after(&read("rust-toolchain.toml"), "channel = \""));
}
