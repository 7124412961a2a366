//! What sealed secrets cost: revealing and opening a value, wrapping data keys anew, verifying, listing.

use super::{CLIENTS, Pairs, Result, connect, install, median, register, show, timed, token};
use crate::signer::Signer;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{self, HKDF_SHA512};
use futures_util::SinkExt as _;
use pg_tenancy_core::audit::format::hex;
use pg_tenancy_core::secrets::envelope::{self, SecretPlace};
use pg_tenancy_core::secrets::key::{DataKey, KeyId, SecretKey};
use pg_tenancy_core::secrets::key_ring::KeyRing;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::hint::black_box;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use uuid::Uuid;

/// As long as a key of a service account of GCP.
const VALUE_BYTES: usize = 2_400;
const ORGANIZATIONS: u32 = 1_000;
const SECRETS: u32 = 100_000;
/// Secrets of the first organization; the others share the rest.
const OF_THE_FIRST: u32 = 1_000;
const DATA_KEYS: u32 = 100_000;
const WRAPPED_BYTES: usize = 130;
const BATCH: u32 = 1_000;
/// The keys of the cluster's ring.
const KEYS: [&str; 2] = ["first", "second"];

/// What each row of these tables has in common, and no figure depends on.
const AT: &str = "2026-01-01 00:00:00+00";

pub async fn measure(client: &Client, signer: &Signer) -> Result<()> {
    println!();
    opening()?;
    install(client, ORGANIZATIONS).await?;
    register(client, signer).await?;
    let ring: String =
        client.query_one("SELECT pg_read_file(current_setting('tenancy.secret_key_file'))", &[]).await?.get(0);
    let ring = KeyRing::parse(ring.as_bytes())?;
    for key in KEYS {
        client.execute("SELECT tenancy.add_key_encryption_key($1, 'measured')", &[&key]).await?;
    }
    client.execute("SELECT tenancy.set_current_key_encryption_key($1, 'measured')", &[&KEYS[0]]).await?;
    let wrapping = Wrapping { id: KeyId::parse(KEYS[0]).ok_or("no id")?, ring: &ring };
    let start = Instant::now();
    load(client, &wrapping).await?;
    println!("{SECRETS} secrets of {VALUE_BYTES} bytes sealed and copied in: {}", show(start.elapsed()));
    verification(client).await?;
    rewrapping(client, &wrapping).await?;
    list(client, signer).await?;
    posture(client, signer).await?;
    reveals(client, signer).await
}

fn organization(number: u32) -> Uuid {
    // As `install` makes them.
    Uuid::from_u128(u128::from(number))
}

/// The ids of rows that are read in the order of their numbers.
fn id(kind: u32, number: u32) -> Uuid {
    Uuid::from_u128(u128::from(kind) << 120 | 7 << 76 | 2 << 62 | u128::from(number))
}

fn name(number: u32) -> String {
    format!("credential {number}")
}

fn place(secret: Uuid, name: &str) -> SecretPlace<'_> {
    SecretPlace { secret, name, version: 1, kind: "opaque", scope: "read_only" }
}

struct Wrapping<'r> {
    id: KeyId,
    ring: &'r KeyRing,
}

impl Wrapping<'_> {
    /// A line of a COPY into `tenancy.data_key`, of a key in this state.
    fn line(&self, key: &DataKey, state: &str) -> Result<String> {
        let under = self.ring.get(&self.id).ok_or("the ring has no such key")?;
        let wrapped = envelope::wrap(under, &self.id, key).ok_or("not wrapped")?;
        let (id, organization, wrapped) = (key.id, key.organization, hex::encode(&wrapped));
        Ok(format!("{id}\t{organization}\tseal\t{}\t\\N\t\\\\x{wrapped}\t{state}\t{AT}\t{AT}\n", self.id))
    }
}

/// The secrets of all organizations, each with one version. They come in as from a dump.
async fn load(client: &Client, wrapping: &Wrapping<'_>) -> Result<()> {
    let keys: Vec<DataKey> = (1..=ORGANIZATIONS)
        .map(|n| DataKey { id: id(1, n), organization: organization(n), key: SecretKey::generate() })
        .collect();
    let lines = keys.iter().map(|key| wrapping.line(key, "current")).collect::<Result<String>>()?;
    copy(client, "data_key", lines).await?;
    const AT_A_TIME: u32 = 10_000;
    let value = vec![b'v'; VALUE_BYTES];
    for part in 0..SECRETS / AT_A_TIME {
        let (mut secrets, mut versions, mut values) = (String::new(), String::new(), String::new());
        for number in part * AT_A_TIME..(part + 1) * AT_A_TIME {
            let of = if number < OF_THE_FIRST { 0 } else { 1 + number % (ORGANIZATIONS - 1) };
            let (key, secret, name) = (&keys[of as usize], id(2, number), name(number));
            let sealed = envelope::seal(key, &place(secret, &name), &value).ok_or("not sealed")?;
            let digest = hex::encode(&Sha256::digest(&sealed));
            let organization = key.organization;
            writeln!(secrets, "{secret}\t{organization}\t{name}\topaque\tread_only\tsecret\talice\t{AT}\talice")?;
            writeln!(
                versions,
                "{secret}\t{organization}\t1\tcurrent\tread_only\t{}\t\\\\x{digest}\t{AT}\t{AT}\t{AT}",
                key.id
            )?;
            writeln!(values, "{secret}\t1\t\\\\x{}", hex::encode(&sealed))?;
        }
        let columns = "(id, organization, name, kind, scope, domain, owner_subject, created_at, created_by)";
        copy(client, &format!("secret {columns}"), secrets).await?;
        let columns = "(secret, organization, number, state, scope, data_key, sealed_digest, announced_at, valued_at, \
                       promoted_at)";
        copy(client, &format!("secret_version {columns}"), versions).await?;
        copy(client, "sealed_value", values).await?;
    }
    for alone in ["VACUUM ANALYZE tenancy.secret, tenancy.secret_version, tenancy.sealed_value", "CHECKPOINT"] {
        client.batch_execute(alone).await?;
    }
    Ok(())
}

pub async fn copy(client: &Client, table: &str, lines: String) -> Result<()> {
    let mut sink = pin!(client.copy_in(&format!("COPY tenancy.{table} FROM STDIN")).await?);
    sink.send(std::io::Cursor::new(lines.into_bytes())).await?;
    sink.finish().await?;
    Ok(())
}

/// The cipher of a value's key, as HKDF of the library derives it.
fn bare_cipher(key: &SecretKey, salt: &[u8], context: &[u8]) -> Result<LessSafeKey> {
    struct Length;
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            64
        }
    }
    let failed = |_| "the library failed";
    let mut derived = [0; 64];
    let prk = hkdf::Salt::new(HKDF_SHA512, salt).extract(key.bytes());
    prk.expand(&[context], Length).and_then(|okm| okm.fill(&mut derived)).map_err(failed)?;
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &derived[..32]).map_err(failed)?))
}

/// HKDF and AEAD of so many values by the library alone. Each is copied first, because it is opened in place.
fn open_bare(times: u32) -> Result<Duration> {
    let (key, salt, context) = (SecretKey::generate(), [7; 32], [9; 160]);
    let nonce = || Nonce::assume_unique_for_key([0; 12]);
    let mut sealed = vec![b'v'; (4 + VALUE_BYTES).next_multiple_of(64)];
    let cipher = bare_cipher(&key, &salt, &context)?;
    cipher.seal_in_place_append_tag(nonce(), Aad::from(context), &mut sealed).map_err(|_| "not sealed")?;
    let mut buffer = sealed.clone();
    let start = Instant::now();
    for _ in 0..times {
        buffer.copy_from_slice(&sealed);
        let cipher = bare_cipher(&key, &salt, &context)?;
        black_box(cipher.open_in_place(nonce(), Aad::from(context), &mut buffer).map_err(|_| "not opened")?);
    }
    Ok(start.elapsed())
}

fn opening() -> Result<()> {
    const TIMES: u32 = 2_000;
    let key = DataKey { id: id(1, 1), organization: organization(1), key: SecretKey::generate() };
    let (secret, name) = (id(2, 1), name(1));
    let place = place(secret, &name);
    let sealed = envelope::seal(&key, &place, &vec![b'v'; VALUE_BYTES]).ok_or("not sealed")?;
    let mut pairs = Pairs::new();
    for _ in 0..25 {
        let without = open_bare(TIMES)?;
        let start = Instant::now();
        for _ in 0..TIMES {
            black_box(envelope::open(&key, &place, &sealed).map_err(|_| "not opened")?);
        }
        pairs.add(without, start.elapsed());
    }
    pairs.report("opening a value of 2.4 kB, beside bare HKDF and AEAD", TIMES, "(goal: at most 1.5)");
    Ok(())
}

/// Beside a sequential read of the same values, and bare opening of as many.
async fn verification(client: &Client) -> Result<()> {
    // Reads every byte: get_byte fetches what is stored out of line.
    const READ: &str = "SELECT sum(get_byte(sealed, 100)), count(*) FROM tenancy.sealed_value";
    client.batch_execute("SET max_parallel_workers_per_gather = 0").await?;
    let mut pairs = Pairs::new();
    for _ in 0..5 {
        let start = Instant::now();
        let read: i64 = client.query_one(READ, &[]).await?.get(1);
        let without = start.elapsed() + open_bare(read as u32)?;
        let start = Instant::now();
        let found: i64 = client.query_one("SELECT count(*) FROM tenancy.verify_secrets()", &[]).await?.get(0);
        pairs.add(without, start.elapsed());
        assert_eq!((read, found), (i64::from(SECRETS), 0));
    }
    client.batch_execute("RESET max_parallel_workers_per_gather").await?;
    pairs.report("verify_secrets, a value, beside reading and bare opening", SECRETS, "(goal: at most 2)");
    Ok(())
}

/// Beside the UPDATE of as many rows of one column, in the same batches.
async fn rewrapping(client: &Client, wrapping: &Wrapping<'_>) -> Result<()> {
    let mut lines = String::new();
    for n in ORGANIZATIONS..DATA_KEYS {
        let key =
            DataKey { id: id(3, n), organization: organization(1 + n % ORGANIZATIONS), key: SecretKey::generate() };
        lines += &wrapping.line(&key, "old")?;
    }
    copy(client, "data_key", lines).await?;
    client
        .batch_execute(&format!(
            "DROP TABLE IF EXISTS wrapped; CREATE TABLE wrapped (id uuid PRIMARY KEY, wrapped bytea);
             INSERT INTO wrapped SELECT lpad(to_hex(n), 32, '0')::uuid, decode(repeat('5a', {WRAPPED_BYTES}), 'hex')
               FROM generate_series(1, {DATA_KEYS}) n"
        ))
        .await?;
    let update = format!(
        "DO $$ DECLARE next integer := 1; BEGIN
             WHILE next <= {DATA_KEYS} LOOP
                 UPDATE wrapped SET wrapped = decode(repeat('a5', {WRAPPED_BYTES}), 'hex')
                  WHERE id BETWEEN lpad(to_hex(next), 32, '0')::uuid
                               AND lpad(to_hex(next + {BATCH} - 1), 32, '0')::uuid;
                 COMMIT;
                 next := next + {BATCH};
             END LOOP;
         END $$"
    );
    let backend: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    let (mut pairs, mut memory) = (Pairs::new(), Vec::new());
    for round in 0..4 {
        for table in ["wrapped", "tenancy.data_key"] {
            client.batch_execute(&format!("VACUUM ANALYZE {table}")).await?;
        }
        client.batch_execute("CHECKPOINT").await?;
        let start = Instant::now();
        client.batch_execute(&update).await?;
        let without = start.elapsed();
        let key = KEYS[(round + 1) % 2];
        client.execute("SELECT tenancy.set_current_key_encryption_key($1, 'measured')", &[&key]).await?;
        let start = Instant::now();
        client.batch_execute(&format!("CALL tenancy.rewrap_data_keys({BATCH})")).await?;
        pairs.add(without, start.elapsed());
        let sql = "SELECT count(*) FROM tenancy.data_key WHERE key_encryption_key = $1";
        assert_eq!(client.query_one(sql, &[&key]).await?.get::<_, i64>(0), i64::from(DATA_KEYS));
        memory.push(private_memory(backend)?);
    }
    let note = format!("(goal: at most 3; private memory of the session after each run: {} kB)", memory.join(", "));
    pairs.report("rewrap_data_keys, a key, beside UPDATE of 130 bytes", DATA_KEYS, &note);
    Ok(())
}

/// The anonymous memory of a process, in kB.
fn private_memory(process: i32) -> Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").to_owned())
}

/// The metadata of one organization's secrets, beside the same by hand.
async fn list(client: &Client, signer: &Signer) -> Result<()> {
    const TIMES: u32 = 20;
    const LIST: &str = "SELECT id, name, kind, scope, domain, owner_subject, created_at FROM tenancy.secret";
    let by_hand = format!("{LIST} WHERE organization = '{}'", organization(1));
    let member = connect().await?;
    member.batch_execute("BEGIN; SET LOCAL ROLE bench_application").await?;
    member.query("SELECT tenancy.authenticate($1)", &[&token(signer, 0)]).await?;
    assert_eq!(member.query(LIST, &[]).await?.len(), OF_THE_FIRST as usize);
    assert_eq!(client.query(&by_hand, &[]).await?.len(), OF_THE_FIRST as usize);
    let mut pairs = Pairs::new();
    for _ in 0..25 {
        pairs.add(timed(client, &by_hand, TIMES).await?, timed(&member, LIST, TIMES).await?);
    }
    pairs.report("list of 1,000 of 100,000 secrets, beside WHERE by hand", TIMES, "(goal: at most 1.05)");
    member.batch_execute("ROLLBACK").await?;
    Ok(())
}

/// The facts of a posture without what is found of them, as somebody would join them who knows the tables.
const FACTS: &str =
    "SELECT s.id, s.name, s.kind, s.scope, s.domain, s.owner_issuer, s.owner_subject, r.state, c.number,
           c.valued_at, now() - c.valued_at, c.valued_at + coalesce(s.rotate_every, k.rotate_every), c.expires_at,
           v.live, h.healthy, now() - h.checked_at, u.last_used_at, d.key_encryption_key, now() - d.created_at, m.role
      FROM tenancy.secret s
      JOIN tenancy.secret_kind k ON k.name = s.kind
      LEFT JOIN tenancy.secret_version c ON c.secret = s.id AND c.state = 'current'
      LEFT JOIN tenancy.data_key d ON d.id = c.data_key
      LEFT JOIN tenancy.rotation r ON r.secret = s.id AND r.state IN ('open', 'observing')
      LEFT JOIN tenancy.membership m ON m.organization = s.organization AND m.issuer = s.owner_issuer
            AND m.subject = s.owner_subject
     CROSS JOIN LATERAL (SELECT count(*) AS live FROM tenancy.secret_version w
                          WHERE w.secret = s.id AND w.state <> 'retired') v
      LEFT JOIN LATERAL (SELECT i.healthy, i.checked_at FROM tenancy.health_report i
                          WHERE i.secret = s.id AND i.version = c.number
                          ORDER BY i.checked_at DESC LIMIT 1) h ON true
     CROSS JOIN LATERAL (SELECT max(l.last_used_at) AS last_used_at FROM tenancy.secret_use l
                          WHERE l.secret = s.id) u
     WHERE s.destroyed_at IS NULL";

/// The posture of the secrets of an organization of 1,000, and of all, as a member and an auditor see them.
async fn posture(client: &Client, signer: &Signer) -> Result<()> {
    const TIMES: u32 = 5;
    const POSTURE: &str = "SELECT * FROM tenancy.secret_posture";
    let by_hand = format!("{FACTS} AND s.organization = '{}'", organization(1));
    let member = connect().await?;
    member.batch_execute("BEGIN; SET LOCAL ROLE bench_application").await?;
    member.query("SELECT tenancy.authenticate($1)", &[&token(signer, 0)]).await?;
    assert_eq!(member.query(POSTURE, &[]).await?.len(), OF_THE_FIRST as usize);
    assert_eq!(client.query(&by_hand, &[]).await?.len(), OF_THE_FIRST as usize);
    let mut pairs = Pairs::new();
    for _ in 0..25 {
        pairs.add(timed(client, &by_hand, TIMES).await?, timed(&member, POSTURE, TIMES).await?);
    }
    pairs.report("posture of 1,000 of 100,000 secrets, beside its facts joined by hand", TIMES, "(goal: at most 1.3)");
    member.batch_execute("ROLLBACK").await?;
    let all = format!("SELECT count(findings) FROM ({POSTURE}) p");
    let mut pairs = Pairs::new();
    for _ in 0..5 {
        let joined = format!("SELECT count(*), max(live) FROM ({FACTS}) p");
        pairs.add(timed(client, &joined, 1).await?, timed(client, &all, 1).await?);
    }
    pairs.report("posture of 100,000 secrets, beside the same", 1, "");
    Ok(())
}

/// Transactions that authenticate and reveal one value, beside those that insert one row under audit.
async fn reveals(client: &Client, signer: &Signer) -> Result<()> {
    const TIMES: u32 = 200;
    client
        .batch_execute(
            "DROP TABLE IF EXISTS revealed_beside;
             CREATE TABLE revealed_beside (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                 organization_id uuid NOT NULL, title text, cost numeric, at timestamptz NOT NULL DEFAULT now());
             SELECT tenancy.protect('revealed_beside');
             GRANT SELECT, INSERT ON revealed_beside TO bench_application",
        )
        .await?;
    let reveal = format!("SELECT tenancy.reveal_secret('{}', 'measured')", name(17));
    let insert = "INSERT INTO revealed_beside (title, cost) VALUES ('finding', 12.5)";
    let token = token(signer, 0);
    for number in [1, CLIENTS] {
        let mut clients = Vec::new();
        for _ in 0..number {
            let client = connect().await?;
            client.batch_execute("SET ROLE bench_application").await?;
            clients.push(client);
        }
        let mut pairs = Pairs::new();
        for _ in 0..15 {
            let without = transactions(&clients, &token, insert, TIMES).await?;
            pairs.add(without, transactions(&clients, &token, &reveal, TIMES).await?);
        }
        let goal = format!("(goal: at least 0.7 of the rate, here {:.2})", 1.0 / pairs.ratio());
        let each = TIMES * number as u32;
        pairs.report(&format!("reveal of 2.4 kB beside an audited INSERT, {number} clients"), each, &goal);
        println!("  {:.0} reveals a second", f64::from(each) / median(&pairs.with).as_secs_f64());
    }
    Ok(())
}

async fn transactions(clients: &[Client], token: &str, sql: &str, times: u32) -> Result<Duration> {
    let run = |client| async move {
        let client: &Client = client;
        let authenticate = client.prepare("SELECT tenancy.authenticate($1)").await?;
        client.batch_execute("BEGIN").await?;
        client.query(&authenticate, &[&token]).await?;
        let work = client.prepare(sql).await?;
        client.batch_execute("COMMIT").await?;
        let start = Instant::now();
        for _ in 0..times {
            client.batch_execute("BEGIN").await?;
            client.query(&authenticate, &[&token]).await?;
            client.query(&work, &[]).await?;
            client.batch_execute("COMMIT").await?;
        }
        Result::Ok(start.elapsed())
    };
    let start = Instant::now();
    for ran in futures_util::future::join_all(clients.iter().map(run)).await {
        ran?;
    }
    Ok(start.elapsed())
}
