//! Rotations against a model, with a clock that the test sets: several actors, random calls, and after each commit what
//! is stored is what the rules of the core say, and contradicts no invariant.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::common::server::{Folder, Server, as_server, programs, succeeds};
use crate::common::*;
use crate::rotation::VIOLATIONS;
use crate::secrets::with_a_key;
use pg_tenancy_core::secrets::rotation::{
    HealthReport, Refused, Rotation, RotationPolicy, RotationState, Time, Version, VersionState, VersionedSecret,
};
use tokio_postgres::Client;

/// How many calls the model test makes.
const STEPS: u32 = 10_000;
/// After how many steps a secret is destroyed, and another one takes its place.
const LIFE: u32 = 400;
const SECOND: Time = 1_000_000;

/// A server whose library has a clock that the superuser sets.
pub struct ClockServer {
    pub server: Server,
    _folder: Folder,
}

impl ClockServer {
    fn start(name: &str) -> Option<Self> {
        let bin = PathBuf::from(std::env::var_os("PG_TENANCY_CLOCK_BIN")?);
        let folder = Folder::create(name)?;
        let server = Server::at(&bin, folder.0.join("data"));
        server.initialize();
        let keys = folder.0.join("keys");
        let script = r#"umask 077; echo "first $(head -c 32 /dev/urandom | base64)" >"$1""#;
        succeeds(as_server("sh").args(["-c", script, "sh"]).arg(&keys));
        let socket = std::env::var("PGHOST").unwrap();
        server.start(&format!(
            "-c unix_socket_directories={socket} -c shared_preload_libraries=pg_tenancy -c tenancy.seal_interval=0 \
             -c tenancy.secret_key_file={} -c tenancy.jwks_directory={}",
            keys.display(),
            server.data.display()
        ));
        Some(ClockServer { server, _folder: folder })
    }
}

/// Runs a test in a database of a server with a clock.
pub fn with_a_clock(name: &str, test: impl AsyncFnOnce(&Database, &Client)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(clock) = ClockServer::start(name) else {
            skipped("no library with a clock: PG_TENANCY_CLOCK_BIN=$(tools/clock.sh)");
            return;
        };
        let database = Database::create(clock.server.config()).await;
        let superuser = database.superuser().await;
        with_a_key(&superuser).await;
        test(&database, &superuser).await;
    });
}

/// Sets the clock of the session, in seconds since 2001.
pub async fn at(client: &Client, second: i64) {
    run(client, &format!("SET tenancy.test_clock = '{}'", since_2001(second))).await;
}

pub fn since_2001(second: i64) -> Time {
    (978_307_200 + second) * SECOND
}

pub async fn sign_in(client: &Client, database: &Database, subject: &str, organization: uuid::Uuid) {
    let sql = "SELECT tenancy.authenticate_session($1, $2)";
    client.query(sql, &[&database.token(subject), &organization]).await.unwrap();
}

#[test]
fn nobody_sets_the_clock_of_a_released_library() {
    let Some(bin) = programs() else {
        skipped("no programs of a server");
        return;
    };
    let folder = succeeds(as_server(bin.join("pg_config")).arg("--pkglibdir"));
    let library = std::fs::read(PathBuf::from(folder.trim()).join("pg_tenancy.so")).unwrap();
    let has = |name: &[u8]| library.windows(name.len()).any(|bytes| bytes == name);
    assert!(has(b"tenancy.secret_key_file") && !has(b"test_clock"), "the library has no such setting");
    in_database(async |database| {
        let superuser = database.superuser().await;
        let refusal = refused(&superuser, "SET tenancy.test_clock = '978307200000000'").await;
        assert_eq!(refusal.sqlstate, "42602", "{}", refusal.message);
    });
}

#[test]
fn what_time_changes_it_changes_at_the_second() {
    with_a_clock("clock", async |database, superuser| {
        let client = database.superuser().await;
        sign_in(&client, database, "alice", ACME).await;
        at(&client, 0).await;
        let rules = "'90 days', NULL, '1 hour', 2, '1 day'";
        let policy = format!("SELECT tenancy.set_secret_policy('aws', {rules}, NULL, NULL)");
        run(&client, &format!("SELECT tenancy.put_secret('aws', 'one'); {policy}")).await;
        let created = "SELECT extract(epoch FROM created_at)::bigint FROM tenancy.secret";
        assert_eq!(count(superuser, created).await, 978_307_200, "all times are the clock's");
        at(&client, 10).await;
        run(&client, "SELECT tenancy.begin_rotation('aws', 'two')").await;
        let report = "SELECT tenancy.report_health('aws', 2, true)";
        at(&client, 9).await;
        assert_eq!(refused(&client, report).await.sqlstate, "22023", "before the value came");
        at(&client, 10).await;
        assert_eq!(value(&client, report).await, "pending");
        at(&client, 10 + 3601).await;
        assert_eq!(value(&client, report).await, "pending", "the first report is too old by a second");
        at(&client, 10 + 3601 + 3600).await;
        assert_eq!(value(&client, report).await, "verified", "and the second one is not");
        at(&client, 10 + 3601 + 3600 + 3601).await;
        let promote = "SELECT tenancy.promote('aws', 2)";
        let late = refused(&client, promote).await;
        assert!(late.message.starts_with("no health report proves"), "{}", late.message);
        at(&client, 10 + 3601 + 3600 + 3600).await;
        assert_eq!(value(&client, promote).await, "1");
        let promoted = 10 + 3601 + 3600 + 3600;
        let deadline = "SELECT extract(epoch FROM deadline)::bigint - 978307200 FROM tenancy.rotation";
        assert_eq!(count(superuser, deadline).await, promoted + 2 * 86400);
        at(&client, promoted + 1).await;
        assert_eq!(value(&client, report).await, "current");
        let retire = "SELECT tenancy.retire('aws', 1, 'test')";
        at(&client, promoted + 86400 - 1).await;
        assert_eq!(refused(&client, retire).await.message, "version 1 of the secret \"aws\" may still be in use");
        run(&client, "BEGIN").await;
        assert_eq!(value(&client, "SELECT tenancy.report_health('aws', 2, false)").await, "failed", "observed still");
        run(&client, "ROLLBACK").await;
        at(&client, promoted + 86400).await;
        run(&client, "BEGIN").await;
        assert_eq!(value(&client, "SELECT tenancy.report_health('aws', 2, false)").await, "current", "no longer");
        run(&client, "ROLLBACK").await;
        run(&client, retire).await;
        assert_eq!(column(superuser, VIOLATIONS).await, [""; 0]);
    });
}

/// Random numbers that can be had again: SplitMix64.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// Which guardrails of rotations are enforced. The others warn.
#[derive(Clone, Copy)]
struct Guardrails {
    failed_rotation: bool,
    retire_in_use: bool,
}

impl Guardrails {
    /// Changes one of them; returns its name and its state.
    fn change(&mut self, random: &mut Random) -> (&'static str, &'static str) {
        let (name, enforced) = match random.one_in(2) {
            true => ("failed_rotation", &mut self.failed_rotation),
            false => ("retire_in_use", &mut self.retire_in_use),
        };
        *enforced = !*enforced;
        (name, if *enforced { "enforce" } else { "warn" })
    }

    fn apply(self, policy: &mut RotationPolicy) {
        (policy.rolls_back, policy.keeps_in_use) = (self.failed_rotation, self.retire_in_use);
    }
}

/// What a secret should be like.
struct Modelled {
    name: String,
    versions: VersionedSecret,
    policy: RotationPolicy,
    /// Of versions with a value.
    values: BTreeMap<i32, String>,
    /// At which step it is destroyed.
    end: u32,
    /// How often a version stayed for its use alone.
    kept_for_use: u32,
}

/// What a call answers: a value, or an SQLSTATE.
type Answer = Result<String, &'static str>;

fn sqlstate(refused: Refused) -> &'static str {
    match refused {
        Refused::ReportTime => "22023",
        _ => "55000",
    }
}

impl Modelled {
    async fn create(client: &Client, number: u32, now: Time, end: u32, random: &mut Random) -> Self {
        let policy = RotationPolicy {
            max_live_versions: 2 + random.below(3) as i32,
            health_required: 1 + random.below(3) as i32,
            health_max_age: 100 * SECOND,
            observe_for: random.pick(&[0, 50, 150]) * SECOND,
            rolls_back: true,
            keeps_in_use: true,
        };
        let name = format!("secret {number}");
        let sql = format!(
            "SET tenancy.test_clock = '{now}'; SELECT tenancy.put_secret('{name}', 'first of {number}');
             SELECT tenancy.set_secret_policy('{name}', NULL, {}, '100 s', {}, '{} s', NULL, NULL)",
            policy.max_live_versions,
            policy.health_required,
            policy.observe_for / SECOND
        );
        run(client, &sql).await;
        let values = BTreeMap::from([(1, format!("first of {number}"))]);
        Modelled { name, versions: VersionedSecret::new(now), policy, values, end, kept_for_use: 0 }
    }

    /// A value, most often a new one.
    fn some_value(&self, random: &mut Random) -> String {
        if random.one_in(8) {
            let known: Vec<&String> = self.values.values().collect();
            return random.pick(&known).clone();
        }
        format!("value {}", random.next())
    }

    /// A version, most often one that somebody would mean.
    fn some_version(&self, random: &mut Random) -> i32 {
        let newest = self.versions.versions.len() as i32;
        match random.below(10) {
            0 => random.below(newest as u64 + 2) as i32,
            1..4 => (newest - 1).max(1),
            _ => newest,
        }
    }

    /// The number of a call that gets on with the rotation, and the version that it is about.
    fn next_call(&self, random: &mut Random) -> (u64, i32) {
        let (begin, supply, report, promote, retire, reveal) = (0, 3, 5, 11, 16, 20);
        let Some(Rotation { from, to, state }) = self.versions.under_way() else { return (begin, 1) };
        if state == RotationState::Observing {
            return random.pick(&[(report, to), (reveal, from), (retire, from)]);
        }
        match self.versions.version(to).map(|version| version.state) {
            Some(VersionState::Announced) => (supply, to),
            Some(VersionState::Pending) => (report, to),
            Some(VersionState::Verified) => (promote, to),
            _ => (retire, to),
        }
    }

    /// A call, and what it should answer.
    fn call(&mut self, random: &mut Random, now: Time) -> (String, Answer) {
        let (name, policy) = (self.name.clone(), self.policy);
        let none = |_| String::new();
        let (call, version) = match random.one_in(2) {
            true => self.next_call(random),
            false => (random.below(25), self.some_version(random)),
        };
        match call {
            0..3 => {
                let value = (!random.one_in(3)).then(|| self.some_value(random));
                let argument = value.as_ref().map_or_else(|| "NULL".to_owned(), |value| format!("'{value}'"));
                let before = self.versions.clone();
                let mut answer = self.versions.begin(value.is_some(), &policy, now).map_err(sqlstate);
                if let (Ok(number), Some(value)) = (answer, value)
                    && !self.keep_value(number, value)
                {
                    (self.versions, answer) = (before, Err("22023"));
                }
                (format!("begin_rotation('{name}', {argument})"), answer.map(|number| number.to_string()))
            }
            3..5 => {
                let value = self.some_value(random);
                let call = format!("supply_value('{name}', {version}, '{value}')");
                let before = self.versions.clone();
                let mut answer = self.versions.supply(version, now).map_err(sqlstate).map(|_| String::new());
                if answer.is_ok() && !self.keep_value(version, value) {
                    (self.versions, answer) = (before, Err("22023"));
                }
                (call, answer)
            }
            5..11 => {
                let healthy = !random.one_in(8);
                // Most often just now, sometimes late, sometimes of the future, sometimes the same one again.
                let ago = random.pick(&[0, 0, 0, 5, 20, 60, -1]) * SECOND;
                let given = ago != 0 || random.one_in(2);
                let checked_at = now - ago;
                let moment = format!("to_timestamp({})", checked_at / SECOND);
                let moment = if given { moment.as_str() } else { "NULL" };
                let call = format!("report_health('{name}', {version}, {healthy}, checked_at => {moment})");
                let reported = self.versions.report(version, HealthReport { healthy, checked_at }, &policy, now);
                let state = |versions: &VersionedSecret| {
                    versions.version(version).map(|version| version.state.name().to_owned()).unwrap_or_default()
                };
                (call, reported.map_err(sqlstate).map(|_| state(&self.versions)))
            }
            11..15 => {
                let promoted = self.versions.promote(version, &policy, now).map_err(sqlstate);
                let from = |versions: &VersionedSecret| {
                    versions.under_way().map(|rotation| rotation.from.to_string()).unwrap_or_default()
                };
                (format!("promote('{name}', {version})"), promoted.map(|_| from(&self.versions)))
            }
            15 => {
                let rolled_back = self.versions.roll_back(now).map_err(sqlstate);
                let current = self.versions.only(VersionState::Current).map(|version| version.number.to_string());
                (format!("roll_back('{name}', 'test')"), rolled_back.map(|_| current.unwrap_or_default()))
            }
            16..19 => {
                let mut before = self.versions.clone();
                let retired = self.versions.retire(version, &policy, now).map_err(sqlstate);
                let unused = RotationPolicy { keeps_in_use: false, ..policy };
                self.kept_for_use += u32::from(retired.is_err() && before.retire(version, &unused, now).is_ok());
                (format!("retire('{name}', {version}, 'test')"), retired.map(|_| String::new()))
            }
            19 => {
                let abandoned = self.versions.abandon(now).map_err(sqlstate).map(|_| ());
                (format!("abandon_rotation('{name}', 'test')"), abandoned.map(none))
            }
            _ => {
                let current = self.versions.only(VersionState::Current).map(|version| version.number);
                let (argument, version) = match current.filter(|_| random.one_in(3)) {
                    Some(current) => ("NULL".to_owned(), current),
                    None => (version.to_string(), version),
                };
                let known = self.versions.version(version).is_some();
                let revealed = self.versions.reveal(version, now).map_err(|refused| match known {
                    true => sqlstate(refused),
                    false => "42704",
                });
                let value = self.values.get(&version).cloned().unwrap_or_default();
                (format!("reveal_secret('{name}', 'test', {argument})"), revealed.map(|()| value))
            }
        }
    }

    /// Keeps the value of a version; false where a version has it.
    fn keep_value(&mut self, number: i32, value: String) -> bool {
        let known = self.values.values().any(|known| *known == value);
        if !known {
            self.values.insert(number, value);
        }
        !known
    }

    /// What should be stored: versions, reports and the newest rotation.
    fn stored(&self) -> String {
        let version = |version: &Version| format!("{} {}", version.number, version.state.name());
        let versions: Vec<String> = self.versions.versions.iter().map(version).collect();
        let rotation = self.versions.rotation.map_or_else(
            || "none".to_owned(),
            |rotation| format!("{} to {} {}", rotation.from, rotation.to, rotation.state.name()),
        );
        let reports: usize = self.versions.versions.iter().map(|version| version.reports.len()).sum();
        format!("{}; {rotation}; {reports}", versions.join(", "))
    }
}

/// What is stored of a secret, as the model says it.
fn stored(name: &str) -> String {
    format!(
        "SELECT (SELECT string_agg(v.number || ' ' || v.state, ', ' ORDER BY v.number)
                   FROM tenancy.secret_version v WHERE v.secret = s.id)
                || '; ' || coalesce((SELECT format('%s to %s %s', r.from_version, r.to_version, r.state)
                                       FROM tenancy.rotation r WHERE r.secret = s.id
                                      ORDER BY r.to_version DESC LIMIT 1), 'none')
                || '; ' || (SELECT count(*) FROM tenancy.health_report h WHERE h.secret = s.id)
           FROM tenancy.secret s WHERE s.name = '{name}'"
    )
}

#[test]
fn whatever_several_actors_call_what_is_stored_is_what_the_rules_say() {
    let seed = std::env::var("ROTATION_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() & 0xffff_ffff).unwrap()
    });
    println!("again with ROTATION_SEED={seed}");
    with_a_clock("model", async |database, superuser| {
        let mut random = Random(seed);
        let mut actors = Vec::new();
        for subject in ["alice", "carol", "alice"] {
            let client = database.superuser().await;
            sign_in(&client, database, subject, ACME).await;
            actors.push(client);
        }
        let stranger = database.superuser().await;
        sign_in(&stranger, database, "bob", GLOBEX).await;
        let mut now = since_2001(0);
        let mut guardrails = Guardrails { failed_rotation: true, retire_in_use: true };
        let mut secrets = Vec::new();
        for number in 0..3 {
            secrets.push(Modelled::create(&actors[0], number, now, LIFE / 3 * (number + 1), &mut random).await);
        }
        let (mut made, mut told, mut kept_for_use) = (3, 0, 0);
        let mut accepted = BTreeMap::<String, u32>::new();
        for step in 0..STEPS {
            now += random.pick(&[0, 1, 1, 2, 10, 40]) * SECOND;
            let place = random.below(3) as usize;
            let actor = &actors[random.below(3) as usize];
            let secret = &mut secrets[place];
            if step >= secret.end {
                let destroyed = format!("SELECT tenancy.destroy_secret('{}', 'test')", secret.name);
                run(actor, &format!("SET tenancy.test_clock = '{now}'; {destroyed}")).await;
                kept_for_use += secret.kept_for_use;
                *secret = Modelled::create(actor, made, now, step + LIFE, &mut random).await;
                guardrails.apply(&mut secret.policy);
                made += 1;
                continue;
            }
            if random.one_in(100) {
                let (name, state) = guardrails.change(&mut random);
                secrets.iter_mut().for_each(|secret| guardrails.apply(&mut secret.policy));
                run(superuser, &format!("SELECT tenancy.set_guardrail('{name}', '{state}', 'test')")).await;
                continue;
            }
            if random.one_in(30) {
                // The records of reveals go from the journal to the table.
                run(superuser, "SELECT tenancy.seal()").await;
            }
            let before = secret.versions.clone();
            let (call, expected) = secret.call(&mut random, now);
            let (sql, reveals) = (format!("SELECT tenancy.{call}"), call.starts_with("reveal"));
            run(actor, &format!("SET tenancy.test_clock = '{now}'")).await;
            if random.one_in(20) {
                run(&stranger, &format!("SET tenancy.test_clock = '{now}'")).await;
                assert_eq!(refused(&stranger, &sql).await.sqlstate, "42704", "{call}");
                told += i64::from(reveals);
            }
            // A use stays one when its transaction is rolled back.
            let rolled_back = reveals && random.one_in(3);
            if rolled_back {
                run(actor, "BEGIN").await;
            }
            let answer = try_rows(actor, &sql).await;
            if rolled_back {
                run(actor, "ROLLBACK").await;
            }
            told += i64::from(reveals);
            let answer = match &answer {
                Ok(rows) => Ok(rows[0][0].clone().unwrap_or_default()),
                Err(refusal) => Err(refusal.sqlstate.as_str()),
            };
            assert_eq!(answer, expected, "step {step}: {call} at {now} on {before:?}");
            if expected.is_ok() {
                *accepted.entry(call.split('(').next().unwrap().to_owned()).or_default() += 1;
            }
            let found = column(superuser, &format!("{}; {VIOLATIONS}", stored(&secret.name))).await;
            assert_eq!(found, [secret.stored()], "step {step}: {call} at {now} on {before:?}");
        }
        println!("accepted: {accepted:?}; {kept_for_use} versions kept for their use");
        assert!(kept_for_use > 0, "no version was in use when it was to be retired");
        assert_eq!(accepted.len(), 8, "each function has done something: {accepted:?}");
        run(superuser, "SELECT tenancy.seal()").await;
        seal_all(superuser).await;
        let reveals = "SELECT count(*) FROM tenancy.audit_trail WHERE operation = 'reveal'";
        assert_eq!(count(superuser, reveals).await, told, "each reveal, refused or not, is one event");
        let uses = "SELECT sum(uses) FROM tenancy.secret_use";
        assert_eq!(count(superuser, uses).await, i64::from(accepted["reveal_secret"]));
        assert_audit_is_whole(superuser).await;
    });
}
