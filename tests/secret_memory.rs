//! What is left of keys and values in the memory of the process that used them, after a call and after COMMIT.
//!
//! The tests read `/proc/PID/mem`, so they need root, or a system that lets a user read the memory of his processes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::process::Stdio;

use crate::common::server::{as_server, succeeds};
use crate::common::*;
use crate::secret_keys::{Keys, add, administrator, on_a_server};
use crate::secrets::Recipient;
use aws_lc_rs::{hkdf, hmac};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use futures_util::future::join;
use jsonwebtoken::Algorithm;
use pg_tenancy_core::audit::format::encoding::record;
use pg_tenancy_core::secrets::delivery;
use pg_tenancy_core::secrets::envelope;
use pg_tenancy_core::secrets::key::{KeyId, SecretKey};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// A stand-in for a service, which keeps nothing of a key readable.
const SERVICE: &str = r#"[ "$1" = wrap ] || decrypt=-d
while read -r id organization key; do
    echo "$id $(printf %s "$key" | openssl enc $decrypt -aes-256-cbc -k test -base64 -A)"
done"#;

const PAGE: usize = 4096;

/// What is looked for: its pieces, because a copy may be overwritten in part.
#[derive(Default)]
struct Sought(BTreeMap<String, Vec<Vec<u8>>>);

impl Sought {
    /// A key: as its bytes, and as the base64 that files and commands have.
    fn key(&mut self, name: &str, key: &[u8]) {
        self.0.insert(name.to_owned(), key.chunks(16).map(<[u8]>::to_vec).collect());
        let text = BASE64_STANDARD.encode(key);
        self.0.insert(format!("{name} in base64"), text.as_bytes().chunks_exact(22).map(<[u8]>::to_vec).collect());
    }

    fn value(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.as_bytes().chunks_exact(32).map(<[u8]>::to_vec).collect());
    }
}

/// A part of the memory of a process.
struct Part {
    mapping: String,
    /// Locked, left out of core dumps and not inherited.
    locked: bool,
    bytes: Vec<u8>,
}

/// The memory of a process at one moment, but for pages of zeros.
struct Image(Vec<Part>);

impl Image {
    fn of(pid: &str) -> Self {
        let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
        let maps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
        let mut parts = Vec::new();
        let mut mapping = None;
        for line in maps.lines() {
            if let Some(flags) = line.strip_prefix("VmFlags:") {
                let locked = ["lo", "dd", "dc"].iter().all(|flag| flags.split_whitespace().any(|is| is == *flag));
                let (name, at, end): (String, u64, u64) = mapping.take().unwrap();
                // The others hold programs and what never changes.
                if name.contains(" rw") {
                    read(&memory, at, end, |bytes| parts.push(Part { mapping: name.clone(), locked, bytes }));
                }
            } else if let Some((at, end)) = line.split_whitespace().next().and_then(|range| range.split_once('-')) {
                let number = |text| u64::from_str_radix(text, 16);
                mapping = number(at).ok().zip(number(end).ok()).map(|(at, end)| (line.to_owned(), at, end));
            }
        }
        Image(parts)
    }

    /// How often each thing is there, in locked memory and elsewhere, where it is there at all; and where.
    fn find(&self, sought: &Sought) -> BTreeMap<String, Found> {
        let mut pieces: Vec<(&String, &Vec<u8>)> = Vec::new();
        for (name, parts) in &sought.0 {
            pieces.extend(parts.iter().map(|piece| (name, piece)));
        }
        // By the two bytes that a piece begins with.
        let mut beginning = vec![Vec::new(); 1 << 16];
        for (n, (_, piece)) in pieces.iter().enumerate() {
            beginning[usize::from(piece[0]) << 8 | usize::from(piece[1])].push(n);
        }
        let mut counts = vec![(0, 0); pieces.len()];
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        for part in &self.0 {
            for at in 0..part.bytes.len() - 1 {
                for n in &beginning[usize::from(part.bytes[at]) << 8 | usize::from(part.bytes[at + 1])] {
                    let (name, piece) = pieces[*n];
                    if part.bytes[at..].starts_with(piece) {
                        let found = found.entry(name.clone()).or_default();
                        found.places.push(part.mapping.clone());
                        let (count, copies) = match part.locked {
                            true => (&mut counts[*n].0, &mut found.locked),
                            false => (&mut counts[*n].1, &mut found.elsewhere),
                        };
                        *count += 1;
                        *copies = (*copies).max(*count);
                    }
                }
            }
        }
        found
    }
}

/// Copies of something.
#[derive(Debug, Default)]
struct Found {
    locked: usize,
    elsewhere: usize,
    places: Vec<String>,
}

/// Reads a mapping, and passes on what lies between pages of zeros.
fn read(memory: &File, start: u64, end: u64, mut take: impl FnMut(Vec<u8>)) {
    let mut bytes = vec![0; (end - start) as usize];
    // A mapping of the kernel cannot be read.
    if memory.read_exact_at(&mut bytes, start).is_err() {
        return;
    }
    let mut together = Vec::new();
    for page in bytes.chunks(PAGE) {
        if *page != [0; PAGE][..page.len()] {
            together.extend_from_slice(page);
        } else if !together.is_empty() {
            take(std::mem::take(&mut together));
        }
    }
    if !together.is_empty() {
        take(together);
    }
}

/// A text that nothing else has.
fn random_text(bytes: usize) -> String {
    let mut random = vec![0; bytes / 2];
    aws_lc_rs::rand::fill(&mut random).unwrap();
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A server with keys that are looked for.
struct Host<'a> {
    keys: &'a Keys,
    /// A superuser of another session than the one that is looked into.
    client: &'a Client,
    issuer: Issuer,
    ring: BTreeMap<String, [u8; 32]>,
}

fn on_a_host(name: &str, test: impl AsyncFnOnce(&Host)) {
    on_a_server(name, async |keys, client| {
        let pid = value(client, "SELECT pg_backend_pid()").await;
        if File::open(format!("/proc/{pid}/mem")).is_err() {
            skipped("the memory of the server's processes cannot be read");
            return;
        }
        let mut host = Host { keys, client, issuer: Issuer::generate(), ring: BTreeMap::new() };
        for id in ["a", "b"] {
            let mut key = [0; 32];
            aws_lc_rs::rand::fill(&mut key).unwrap();
            host.ring.insert(id.to_owned(), key);
        }
        let line = |(id, key): (&String, &[u8; 32])| format!("{id} {}\n", BASE64_STANDARD.encode(key));
        keys.write("keys", &host.ring.iter().map(line).collect::<String>());
        // A file that was just written is read again with each use.
        succeeds(as_server("touch").args(["-d", "1 minute ago"]).arg(keys.path("keys")));
        keys.write("service", SERVICE);
        add(client, "a", "ring").await;
        administrator(client, &host.issuer).await;
        test(&host).await;
    });
}

impl Host<'_> {
    async fn session(&self) -> Session {
        let client = self.keys.client().await;
        let pid = value(&client, "SELECT pg_backend_pid()").await;
        let session = Session { client, pid, token: self.issuer.sign(Algorithm::ES256, &self.issuer.claims("alice")) };
        // A server that is not linked with "-z now", as that of Postgres 18 here, binds what an error calls at the
        // first one, which saves registers on the stack.
        if major() >= 18 {
            as_tenant(&session.client, &session.token).await;
            refused(&session.client, "SELECT tenancy.reveal_secret('no name', 'test')").await;
            run(&session.client, "ROLLBACK").await;
        }
        session
    }

    /// All keys that there are now: those of the ring, those that are stored, and those that were derived from them.
    async fn seek_keys(&self, sought: &mut Sought) {
        for (id, key) in &self.ring {
            sought.key(&format!("ring key {id}"), key);
        }
        let sql = "SELECT id, organization, purpose, key_encryption_key, wrapped FROM tenancy.data_key
                    WHERE wrapped IS NOT NULL";
        let mut data_keys = BTreeMap::new();
        for row in self.client.query(sql, &[]).await.unwrap() {
            let (id, organization, purpose): (Uuid, Uuid, String) = (row.get(0), row.get(1), row.get(2));
            let (under, wrapped): (String, Vec<u8>) = (row.get(3), row.get(4));
            let key = match self.ring.get(&under) {
                Some(ring_key) => {
                    let context = [&[1][..], id.as_bytes(), organization.as_bytes(), under.as_bytes()];
                    let context = record("pg_tenancy/data-key/1", &context);
                    seek_derived(sought, &format!("of data key {id}"), ring_key, &wrapped, &context);
                    let under = KeyId::parse(&under).unwrap();
                    let ring_key = SecretKey::new(ring_key);
                    *envelope::unwrap(&ring_key, &under, organization, id, &wrapped).unwrap().key.bytes()
                }
                None => self.unwrap_by_the_service(id, organization, &wrapped),
            };
            sought.key(&format!("{purpose} key {id}"), &key);
            data_keys.insert(id, key);
        }
        let sql = "SELECT s.id, s.organization, s.name, s.kind, v.number, v.scope, v.data_key, x.sealed
                     FROM tenancy.sealed_value x JOIN tenancy.secret s ON s.id = x.secret
                     JOIN tenancy.secret_version v ON (v.secret, v.number) = (x.secret, x.number)";
        for row in self.client.query(sql, &[]).await.unwrap() {
            let (secret, organization, name): (Uuid, Uuid, String) = (row.get(0), row.get(1), row.get(2));
            let (kind, number, scope): (String, i32, String) = (row.get(3), row.get(4), row.get(5));
            let (data_key, sealed): (Uuid, Vec<u8>) = (row.get(6), row.get(7));
            let ids = [data_key, organization, secret];
            let mut context: Vec<&[u8]> = vec![&[1]];
            context.extend(ids.iter().map(|id| &id.as_bytes()[..]));
            let version = i64::from(number).to_be_bytes();
            context.extend([name.as_bytes(), &version, kind.as_bytes(), scope.as_bytes()]);
            let context = record("pg_tenancy/secret/1", &context);
            seek_derived(sought, &format!("of {name} {number}"), &data_keys[&data_key], &sealed, &context);
        }
    }

    fn unwrap_by_the_service(&self, id: Uuid, organization: Uuid, wrapped: &[u8]) -> [u8; 32] {
        let mut service = as_server("sh");
        service.arg(self.keys.path("service")).args(["unwrap", "kms"]);
        let mut service = service.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let line = format!("{id} {organization} {}\n", BASE64_STANDARD.encode(wrapped));
        service.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
        let answer = String::from_utf8(service.wait_with_output().unwrap().stdout).unwrap();
        BASE64_STANDARD.decode(answer.trim().split(' ').nth(1).unwrap()).unwrap().try_into().unwrap()
    }
}

/// The key that an envelope is sealed under, and what it is derived from.
fn seek_derived(sought: &mut Sought, of: &str, key: &[u8; 32], envelope: &[u8], context: &[u8]) {
    struct Length;
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            64
        }
    }
    let salt = &envelope[18..50];
    let mut derived = [0; 64];
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA512, salt).extract(key);
    extracted.expand(&[context], Length).unwrap().fill(&mut derived).unwrap();
    assert_eq!(derived[32..], envelope[50..82], "the commitment {of}");
    sought.key(&format!("value key {of}"), &derived[..32]);
    let extracted = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, salt), key);
    sought.key(&format!("extracted key {of}"), extracted.as_ref());
}

/// A connection, and the process that serves it.
struct Session {
    client: Client,
    pid: String,
    token: String,
}

/// What is run, and how it ends.
struct Step {
    name: String,
    sql: String,
    parameters: Vec<Box<dyn ToSql + Sync>>,
    sqlstate: Option<&'static str>,
}

fn step(name: &str, sql: &str) -> Step {
    Step { name: name.to_owned(), sql: sql.to_owned(), parameters: vec![], sqlstate: None }
}

impl Step {
    fn with(mut self, parameter: impl ToSql + Sync + 'static) -> Self {
        self.parameters.push(Box::new(parameter));
        self
    }

    fn fails(self, sqlstate: &'static str) -> Self {
        Step { sqlstate: Some(sqlstate), ..self }
    }
}

impl Session {
    /// Runs a step in a transaction of alice; returns the memory after the call.
    async fn transaction(&self, step: &Step) -> Image {
        as_tenant(&self.client, &self.token).await;
        let image = self.call(step).await;
        run(&self.client, if step.sqlstate.is_some() { "ROLLBACK" } else { "COMMIT" }).await;
        image
    }

    async fn call(&self, step: &Step) -> Image {
        let parameters: Vec<&(dyn ToSql + Sync)> = step.parameters.iter().map(|parameter| &**parameter).collect();
        let done = self.client.query(&step.sql, &parameters).await.map_err(|error| Refusal::of(&error));
        match (&done, step.sqlstate) {
            (Ok(_), None) => (),
            (Err(refusal), Some(sqlstate)) if refusal.sqlstate == sqlstate => (),
            _ => panic!("{}: {done:?}", step.name),
        }
        Image::of(&self.pid)
    }
}

/// What a session does, and its memory after each step.
struct Looks<'a> {
    host: &'a Host<'a>,
    session: Session,
    sought: Sought,
    images: Vec<Look>,
    /// Whether the session forgets its keys at the end of each step.
    forgets: bool,
}

struct Look {
    when: String,
    /// How often locked memory may have a key.
    kept: usize,
    image: Image,
}

impl Looks<'_> {
    fn new_value(&mut self, name: &str) -> String {
        let value = random_text(2400);
        self.sought.value(&format!("value {name}"), &value);
        value
    }

    /// Runs a step in a transaction of alice.
    async fn after(&mut self, step: &Step) {
        let image = self.session.transaction(step).await;
        self.images.push(Look { when: format!("after {}", step.name), kept: 1, image });
        self.after_the_end_of(step).await;
    }

    /// Runs a step that needs no organization, or commits by itself.
    async fn after_management(&mut self, step: &Step) {
        self.session.call(step).await;
        self.after_the_end_of(step).await;
    }

    async fn after_the_end_of(&mut self, step: &Step) {
        if self.forgets {
            run(&self.session.client, "SELECT tenancy.forget_keys()").await;
        }
        let (kept, image) = (usize::from(!self.forgets), Image::of(&self.session.pid));
        self.images.push(Look { when: format!("after the end of {}", step.name), kept, image });
        self.host.seek_keys(&mut self.sought).await;
    }

    /// Checks that nothing was anywhere but in locked memory, and there no more often than it may; returns what was
    /// found there.
    fn assert_kept_alone(&self) -> BTreeSet<String> {
        let (mut kept, mut unexpected) = (BTreeSet::new(), Vec::new());
        for look in &self.images {
            for (name, found) in look.image.find(&self.sought) {
                if found.elsewhere > 0 || found.locked > look.kept {
                    unexpected.push(format!("{name} {}: {found:?}", look.when));
                }
                kept.insert(name);
            }
        }
        assert!(unexpected.is_empty(), "{} findings:\n{}", unexpected.len(), unexpected.join("\n"));
        kept
    }
}

/// Uses secrets in all ways, with values that are sealed on their way.
async fn use_sealed(looks: &mut Looks<'_>) {
    as_tenant(&looks.session.client, &looks.session.token).await;
    let recipient = Recipient::of(&looks.session.client).await;
    run(&looks.session.client, "COMMIT").await;
    let private_key = SecretKey::generate();
    let public_key = delivery::public_key(&private_key).unwrap().to_vec();
    let put = "SELECT tenancy.put_secret($1, $2, $3, sealed => true)";
    let reveal = "SELECT tenancy.reveal_secret($1, 'test', recipient => $2)";
    let begin = "SELECT tenancy.begin_rotation($1, $2, sealed => true)";

    let value = looks.new_value("stored");
    let sealed = recipient.sealed(ACME, "aws", &value);
    looks.after(&step("put", put).with("aws").with(sealed.clone()).with("opaque")).await;
    looks.after(&step("put of a name that is taken", put).with("aws").with(sealed).with("opaque").fails("23505")).await;
    looks.after(&step("reveal", reveal).with("aws").with(public_key.clone())).await;
    looks.after(&step("reveal to a point of low order", reveal).with("aws").with(vec![0u8; 32]).fails("22023")).await;
    let half = format!(r#"{{"access_key_id": "a\n", "note": "{}"}}"#, looks.new_value("refused"));
    let half = step("put of half a value", put).with("half").with(recipient.sealed(ACME, "half", &half));
    looks.after(&half.with("aws_access_key").fails("22023")).await;
    let whole = format!(r#"{{"access_key_id": "a\n", "secret_access_key": "{}\n"}}"#, looks.new_value("of a kind"));
    let whole = step("put of a kind", put).with("kind").with(recipient.sealed(ACME, "kind", &whole));
    looks.after(&whole.with("aws_access_key")).await;
    let large = random_text(60_000);
    looks.sought.value("large value", &large);
    looks
        .after(
            &step("put of a large value", put)
                .with("large")
                .with(recipient.sealed(ACME, "large", &large))
                .with("opaque"),
        )
        .await;
    looks.after(&step("reveal of a large value", reveal).with("large").with(public_key)).await;

    let unchanged =
        step("begin_rotation with the same value", begin).with("aws").with(recipient.sealed(ACME, "aws", &value));
    looks.after(&unchanged.fails("22023")).await;
    let value = looks.new_value("rotated");
    looks.after(&step("begin_rotation", begin).with("aws").with(recipient.sealed(ACME, "aws", &value))).await;
    looks.after(&step("begin_rotation without a value", "SELECT tenancy.begin_rotation('large')")).await;
    let supply = step("supply_value", "SELECT tenancy.supply_value('large', 2, $1, sealed => true)");
    let value = looks.new_value("supplied");
    looks.after(&supply.with(recipient.sealed(ACME, "large", &value))).await;

    // It waits where the sealed value is to be written.
    let value = looks.new_value("cancelled");
    let cancelled =
        step("put that is cancelled", put).with("no").with(recipient.sealed(ACME, "no", &value)).with("opaque");
    let (client, pid) = (looks.host.client, looks.session.pid.clone());
    run(client, "BEGIN; LOCK TABLE tenancy.sealed_value IN SHARE MODE").await;
    let cancel = async {
        let waits = format!("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = {pid}");
        eventually(client, &waits).await;
        run(client, &format!("SELECT pg_cancel_backend({pid}); COMMIT")).await;
    };
    join(looks.after(&cancelled.fails("57014")), cancel).await;
}

/// Has the keys changed below the values.
async fn change_keys(looks: &mut Looks<'_>) {
    let rotate = format!("SELECT tenancy.rotate_data_key('{ACME}', 'test')");
    for sql in [
        "SELECT tenancy.key_status()",
        &rotate,
        "CALL tenancy.reseal_secrets()",
        "SELECT tenancy.verify_secrets()",
        "SELECT tenancy.add_key_encryption_key('b', 'test'), tenancy.set_current_key_encryption_key('b', 'test')",
        "CALL tenancy.rewrap_data_keys()",
        "SELECT tenancy.add_key_encryption_key('kms', 'test', 'command'),
                tenancy.set_current_key_encryption_key('kms', 'test')",
        "CALL tenancy.rewrap_data_keys()",
        "SELECT tenancy.verify_secrets()",
    ] {
        looks.after_management(&step(sql, sql)).await;
    }
}

#[test]
fn sealed_delivery_leaves_no_value_in_memory_and_keys_in_locked_memory_alone() {
    for forgets in [false, true] {
        on_a_host("memory-sealed", async |host| {
            let session = host.session().await;
            let mut looks = Looks { host, session, sought: Sought::default(), images: Vec::new(), forgets };
            use_sealed(&mut looks).await;
            change_keys(&mut looks).await;
            let kept = looks.assert_kept_alone();
            for kind in ["ring key a", "ring key b", "seal key", "fingerprint key", "recipient key"] {
                assert!(kept.iter().any(|name| name.starts_with(kind)), "the search finds a kept {kind}: {kept:?}");
            }
        });
    }
}

/// Runs the step in a session of its own, and counts the copies of the value after the call and after the transaction.
async fn copies(host: &Host<'_>, step: &Step, value: &str) -> [usize; 2] {
    let mut sought = Sought::default();
    sought.value("value", value);
    let session = host.session().await;
    let images = [session.transaction(step).await, Image::of(&session.pid)];
    images.map(|image| image.find(&sought).get("value").map_or(0, |found| found.elsewhere))
}

#[test]
fn a_value_in_the_clear_has_no_more_copies_in_memory_than_postgres_makes_of_any_text() {
    on_a_host("memory-clear", async |host| {
        // As volatile as ours, so that they are called when ours are, and not while the statement is planned.
        let functions = "CREATE FUNCTION takes(text, text) RETURNS integer VOLATILE LANGUAGE internal AS 'textpos';
                         CREATE FUNCTION returns(text) RETURNS text VOLATILE LANGUAGE internal AS 'text_reverse'";
        run(host.client, functions).await;
        let value = random_text(2400);
        let json = format!(r#"{{"access_key_id": "{value}"}}"#);
        let clear = |sql| step(sql, sql).with("clear").with(value.clone());
        let takes = clear("SELECT takes($1, $2)");
        let refuses = clear("SELECT takes($1, $2) / 0").fails("22012");
        let returns = step("returns", "SELECT returns($1)").with(value.chars().rev().collect::<String>());
        let put = "SELECT tenancy.put_secret($1, $2)";
        let of_a_kind = "SELECT tenancy.put_secret($1, $2, 'aws_access_key')";
        let pairs = [
            (clear(put), &takes),
            (step("reveal_secret", "SELECT tenancy.reveal_secret($1, 'test')").with("clear"), &returns),
            (clear(put).fails("23505"), &refuses),
            (step("half a value", of_a_kind).with("half").with(json).fails("22023"), &refuses),
            (clear("SELECT tenancy.begin_rotation($1, $2)").fails("22023"), &refuses),
        ];
        for (ours, postgres) in pairs {
            let [ours_has, postgres_has] = [copies(host, &ours, &value).await, copies(host, postgres, &value).await];
            println!(
                "copies after call and transaction: {} {ours_has:?}, {} {postgres_has:?}",
                ours.name, postgres.name
            );
            assert!(postgres_has[0] > 0, "the search finds what Postgres has");
            assert!(ours_has[0] <= postgres_has[0] && ours_has[1] <= postgres_has[1], "{}: {ours_has:?}", ours.name);
        }
    });
}
