//! Checkpoints on a server of its own: made on a schedule, handed out after the commit, checked by another
//! implementation, under crashes, rotations, restores and promotions.

use crate::common::server::{Folder, Server, as_server, programs, succeeds};
use crate::common::*;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// A server with the library preloaded, a signing key, and a folder for checkpoints.
struct Signing {
    server: Server,
    folder: Folder,
}

/// What most tests want of the worker: checkpoints at once.
const SOON: &str = "-c tenancy.seal_interval=50 -c tenancy.checkpoint_interval=1";
/// No worker in the way.
const BY_HAND: &str = "-c tenancy.seal_interval=0";

impl Signing {
    fn start(name: &str, settings: &str) -> Option<Self> {
        let folder = Folder::create(name)?;
        let server = Server::at(&programs()?, folder.0.join("data"));
        server.initialize();
        let signing = Signing { server, folder };
        succeeds(as_server("mkdir").arg(signing.path("out")));
        signing.write_keys(&[&key("one")]);
        signing.serve(&signing.server, settings);
        Some(signing)
    }

    fn serve(&self, server: &Server, settings: &str) {
        let socket = std::env::var("PGHOST").unwrap();
        server.start(&format!(
            "-c unix_socket_directories={socket} -c shared_preload_libraries=pg_tenancy -c tenancy.signing_key_file={} \
             -c tenancy.checkpoint_directory={} {settings}",
            self.path("keys").display(),
            self.path("out").display(),
        ));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    /// Replaces the file with the keys.
    fn write_keys(&self, keys: &[&str]) {
        self.write("keys", &keys.join("\n"), "600");
    }

    fn write(&self, name: &str, text: &str, mode: &str) {
        let path = self.path(name);
        let script = format!("umask 077; cat >{0}.new && chmod {mode} {0}.new && mv {0}.new {0}", path.display());
        let mut shell = as_server("sh");
        let mut shell = shell.args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success());
    }

    async fn client(&self) -> Client {
        connect(&self.server.config()).await
    }

    /// Waits until the server, which somebody killed, answers again.
    async fn client_again(&self) -> Client {
        for _ in 0..400 {
            if let Ok(client) = try_connect(&self.server.config()).await {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server did not come back");
    }

    /// What was handed out for the newest incarnation: number and note of each file. A checkpoint that comes in between
    /// is waited for.
    async fn files(&self, client: &Client) -> Vec<(i64, String)> {
        for _ in 0..50 {
            let (files, latest) = self.files_and_latest(client).await;
            if files.last().is_some_and(|(_, newest)| *newest == latest) {
                return files;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (files, latest) = self.files_and_latest(client).await;
        assert_eq!(latest, files.last().unwrap().1);
        files
    }

    async fn files_and_latest(&self, client: &Client) -> (Vec<(i64, String)>, String) {
        let origin =
            value(client, "SELECT origin FROM tenancy.checkpoint ORDER BY block DESC, number DESC LIMIT 1").await;
        let folder = self.path("out").join(origin.replace('/', "_"));
        let listed = succeeds(as_server("ls").arg("-A").arg(&folder));
        let numbers = listed.lines().filter_map(|name| name.parse().ok());
        let mut files: Vec<(i64, String)> =
            numbers.map(|number: i64| (number, read(&folder.join(number.to_string())))).collect();
        files.sort();
        (files, read(&folder.join("latest")))
    }

    fn log(&self) -> String {
        read(&self.server.data.join("server.log"))
    }
}

/// Reads a file as the server's user.
fn read(path: &Path) -> String {
    succeeds(as_server("cat").arg(path))
}

/// A new private key in the form of Go's note package.
fn key(name: &str) -> String {
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).unwrap();
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let id = Sha256::new().chain_update(name).chain_update(b"\n\x01").chain_update(pair.public_key()).finalize();
    let id: String = id[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("PRIVATE+KEY+{name}+{id}+{}", STANDARD.encode([&[1], &seed[..]].concat()))
}

fn on_a_server(name: &str, settings: &str, test: impl AsyncFnOnce(&Signing)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match Signing::start(name, settings) {
            Some(server) => test(&server).await,
            None => skipped("no programs of a server to start"),
        }
    });
}

/// Acme, Bolt, and enough others for stored nodes of two levels in the tree over heads.
async fn set_up(client: &Client) {
    run(
        client,
        "CREATE EXTENSION pg_tenancy;
         SELECT tenancy.create_organization('Acme', 'aaaaaaaa-0000-4000-8000-000000000001'),
                tenancy.create_organization('Bolt', 'bbbbbbbb-0000-4000-8000-000000000002');
         SELECT tenancy.create_organization('x', md5('o' || n)::uuid) FROM generate_series(0, 69) n;
         CREATE TABLE finding (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organization_id uuid NOT NULL, \
         title text);
         SELECT tenancy.protect('finding')",
    )
    .await;
}

async fn insert(client: &Client, count: i64) {
    let sql = format!(
        "INSERT INTO finding (organization_id, title)
         SELECT CASE WHEN n % 3 = 0 THEN 'bbbbbbbb-0000-4000-8000-000000000002'
                     WHEN n % 7 = 5 THEN md5('o' || (n + {count}) % 70)::uuid
                     ELSE 'aaaaaaaa-0000-4000-8000-000000000001' END, 'x'
           FROM generate_series(1, {count}) n"
    );
    run(client, &sql).await;
}

const NOTES: &str = "SELECT note FROM tenancy.checkpoint ORDER BY block, number";
const NEWEST: &str = "SELECT coalesce(max(number), 0) FROM tenancy.checkpoint";
const ALL_IS_SIGNED: &str = "SELECT unsealed_events = 0 AND uncheckpointed_events = 0 FROM tenancy.checkpoint_status";

/// All that another implementation needs: what is stored, and proofs out of the functions.
const STATE: &str = "SELECT json_build_object(
    'keys', (SELECT json_agg(k ORDER BY epoch) FROM (SELECT epoch, public_key, first_incarnation, first_checkpoint, \
    last_incarnation, last_checkpoint FROM tenancy.signing_key) k),
    'incarnations', (SELECT json_agg(name ORDER BY first_block) FROM tenancy.incarnation),
    'checkpoints', (SELECT json_agg(json_build_object('incarnation', incarnation, 'number', number, 'made_at', \
    (extract(epoch FROM made_at) * 1000000)::bigint,
        'block', block, 'block_hash', encode(block_hash, 'hex'), 'heads', heads, 'heads_root', encode(heads_root, \
        'hex'), 'prev_digest', encode(prev_digest, 'hex'),
        'digest', encode(digest, 'hex'), 'root', encode(root, 'hex'), 'note', note) ORDER BY block, number) FROM \
        tenancy.checkpoint),
    'heads', (SELECT json_agg(json_build_object('organization', organization, 'block', block, 'position', position, \
    'leaves', leaves, 'chain', encode(chain, 'hex'), 'entries', encode(entries, 'hex'))) FROM tenancy.seal),
    'actors', (SELECT json_agg(a) FROM tenancy.event_actor a),
    'batches', (SELECT json_agg(json_build_object('id', id, 'organization', organization, 'actor', actor, \
    'transaction', transaction::text::bigint, 'ordinal', ordinal, 'events', events, 'occurred_at', \
    (extract(epoch FROM occurred_at) * 1000000)::bigint, 'operation', operation, 'domain', domain, 'table_schema', \
    table_schema, 'table_name', table_name, 'result', result, 'reason', reason, 'row_key', row_key::text, 'payload', \
    payload::text, 'payload_salt', encode(payload_salt, 'hex'), 'payload_digest', encode(payload_digest, 'hex'), \
    'packed', encode(packed, 'hex'), 'prev_hash', encode(prev_hash, 'hex'), 'hash', encode(hash, 'hex'))) FROM \
    tenancy.event_batch),
    'head_proofs', (SELECT json_agg(json_build_object('incarnation', c.incarnation, 'number', c.number, \
    'organization', o, 'place', p.place, 'position', p.position, 'leaves', p.leaves, 'proof', p.proof))
        FROM tenancy.checkpoint c, (SELECT DISTINCT organization AS o FROM tenancy.seal) o, tenancy.head_proof(o, \
        c.number, c.incarnation) p),
    'event_proofs', (SELECT json_agg(json_build_object('batch', e.batch, 'position', p.position, 'leaf', p.leaf, \
    'place', p.place, 'events', p.events, 'data', encode(p.data, 'hex'), 'root', encode(p.root, 'hex'), 'proof', \
    p.proof)) FROM (SELECT e.batch, e.id FROM tenancy.event e JOIN tenancy.entry s ON s.batch = e.batch \
    WHERE e.ordinal % 7 IN (0, 1) OFFSET 0) e, tenancy.event_proof(e.id) p),
    'inclusion_proofs', (SELECT json_agg(json_build_object('organization', s.organization, 'leaf', s.leaf, 'size', \
    h.leaves, 'proof', tenancy.inclusion_proof(s.organization, s.leaf, h.leaves)))
        FROM tenancy.entry s JOIN tenancy.seal h ON h.organization = s.organization AND h.leaves >= s.leaf WHERE \
        s.leaf % 7 IN (0, 1)),
    'consistency_proofs', (SELECT json_agg(json_build_object('organization', a.organization, 'old', a.leaves, \
    'new', b.leaves, 'proof', tenancy.consistency_proof(a.organization, a.leaves, b.leaves)))
        FROM tenancy.seal a JOIN tenancy.seal b ON a.organization = b.organization AND a.leaves <= b.leaves),
    'log_inclusion_proofs', (SELECT json_agg(json_build_object('incarnation', a.incarnation, 'number', a.number, \
    'size', b.number, 'proof', tenancy.checkpoint_inclusion_proof(a.number, b.number, a.incarnation)))
        FROM tenancy.checkpoint a JOIN tenancy.checkpoint b ON a.incarnation = b.incarnation AND a.number <= b.number),
    'log_consistency_proofs', (SELECT json_agg(json_build_object('incarnation', a.incarnation, 'old', a.number, \
    'new', b.number, 'proof', tenancy.checkpoint_consistency_proof(a.number, b.number, a.incarnation)))
        FROM tenancy.checkpoint a JOIN tenancy.checkpoint b ON a.incarnation = b.incarnation AND a.number <= \
        b.number))";

/// Has the second implementation check everything; returns what it says.
async fn checked(client: &Client) -> String {
    let state = value(client, STATE).await;
    let (said, good) = second_opinion(&state);
    assert!(good, "{said}");
    said
}

fn second_opinion(state: &str) -> (String, bool) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit_vectors/checkpoints.py");
    let mut python = Command::new("python3");
    let mut python =
        python.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = python.stdin.take().unwrap();
    let state = state.to_owned();
    let writer = std::thread::spawn(move || drop(input.write_all(state.as_bytes())));
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap();
    (String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(), output.status.success())
}

#[test]
fn checkpoints_are_made_on_a_schedule_and_handed_out() {
    on_a_server(
        "checkpoint-worker",
        "-c tenancy.seal_interval=50 -c tenancy.checkpoint_interval=1500",
        async |signing| {
            let client = signing.client().await;
            let (listener, mut connection) = signing.server.config().connect(NoTls).await.unwrap();
            let mut told = stream::poll_fn(move |context| connection.poll_message(context));
            let (sender, mut notes) = tokio::sync::mpsc::unbounded_channel();
            tokio::spawn(async move {
                while let Some(Ok(message)) = told.next().await {
                    if let AsyncMessage::Notification(note) = message {
                        sender.send((note.channel().to_owned(), note.payload().to_owned())).ok();
                    }
                }
            });
            run(&listener, "LISTEN tenancy_checkpoint").await;

            set_up(&client).await;
            insert(&client, 5).await;
            // The first one at once, the next ones after the interval, and the last block is not forgotten.
            eventually(&client, "SELECT count(*) > 0 FROM tenancy.checkpoint").await;
            for _ in 0..30 {
                insert(&client, 3).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            // Committed right after a checkpoint, and nothing else comes that would remind the worker.
            let before = count(&client, NEWEST).await;
            while count(&client, NEWEST).await == before {
                insert(&client, 1).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            insert(&client, 1).await;
            eventually(&client, ALL_IS_SIGNED).await;
            let made = count(&client, NEWEST).await;
            let gaps = "SELECT coalesce(min(made_at - before) >= '1.4 s', false) FROM
                    (SELECT made_at, lag(made_at) OVER (ORDER BY number) AS before FROM tenancy.checkpoint) c";
            assert_eq!(value(&client, gaps).await, "t");
            assert!((4..=9).contains(&made), "{made} in about six seconds");
            // An idle database is left alone.
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert_eq!(count(&client, NEWEST).await, made);
            assert_eq!(
                count(&client, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_tenancy sealer'").await,
                0
            );

            let stored = column(&client, NOTES).await;
            for note in &stored {
                let (channel, payload) =
                    tokio::time::timeout(Duration::from_secs(5), notes.recv()).await.unwrap().unwrap();
                assert_eq!((channel.as_str(), &payload), ("tenancy_checkpoint", note));
            }
            let files: Vec<String> = signing.files(&client).await.into_iter().map(|(_, note)| note).collect();
            assert_eq!(files, stored);
            checked(&client).await;
            assert_audit_is_whole(&client).await;
        },
    );
}

#[test]
fn a_second_implementation_finds_what_is_altered() {
    on_a_server("checkpoint-second", BY_HAND, async |signing| {
        let client = signing.client().await;
        set_up(&client).await;
        for n in 1..=9 {
            insert(&client, n * 40).await;
            run(&client, "SELECT tenancy.checkpoint()").await;
        }
        let said = checked(&client).await;
        assert!(said.contains("9 checkpoints"), "{said}");
        let state = value(&client, STATE).await;
        let mut state: serde_json::Value = serde_json::from_str(&state).unwrap();
        let mut altered = 0;
        for (list, field) in [
            ("checkpoints", "heads_root"),
            ("checkpoints", "block_hash"),
            ("checkpoints", "root"),
            ("checkpoints", "digest"),
            ("heads", "entries"),
            ("batches", "hash"),
            ("batches", "prev_hash"),
            ("batches", "operation"),
            ("batches", "packed"),
            ("batches", "payload"),
            ("actors", "method"),
            ("heads", "chain"),
        ] {
            // The first one that has the field: a batch of one event has no packed ones, and the other way round.
            let rows = state[list].as_array().unwrap();
            let some = rows.iter().position(|row| !row[field].is_null()).unwrap();
            let text = state[list][some][field].clone();
            state[list][some][field] = serde_json::json!("ab".repeat(32));
            let (said, good) = second_opinion(&state.to_string());
            assert!(!good, "{list}.{field} was altered, and it said {said}");
            state[list][some][field] = text;
            altered += 1;
        }
        for list in [
            "head_proofs",
            "event_proofs",
            "inclusion_proofs",
            "consistency_proofs",
            "log_inclusion_proofs",
            "log_consistency_proofs",
        ] {
            let some = state[list]
                .as_array()
                .unwrap()
                .iter()
                .position(|p| !p["proof"].as_array().unwrap().is_empty())
                .unwrap();
            let hash = state[list][some]["proof"][0].clone();
            state[list][some]["proof"][0] = serde_json::json!(format!("\\x{}", "ab".repeat(32)));
            let (said, good) = second_opinion(&state.to_string());
            assert!(!good, "{list} was altered, and it said {said}");
            state[list][some]["proof"][0] = hash;
            altered += 1;
        }
        assert_eq!(altered, 18);
        assert!(second_opinion(&state.to_string()).1);
    });
}

#[test]
fn keys_are_rotated_and_a_retired_one_never_signs_again() {
    on_a_server("checkpoint-rotate", BY_HAND, async |signing| {
        let client = signing.client().await;
        set_up(&client).await;
        let (one, two) = (key("one"), key("two"));
        let signed_by = "SELECT (regexp_count(note, '— one '), regexp_count(note, '— two ')) FROM tenancy.checkpoint \
            ORDER BY number DESC LIMIT 1";
        for (keys, signatures) in [(vec![&one], "(1,0)"), (vec![&one, &two], "(1,1)"), (vec![&two], "(0,1)")] {
            let keys: Vec<&str> = keys.into_iter().map(String::as_str).collect();
            signing.write_keys(&keys);
            // New keys are something new, though nothing was committed.
            let before = count(&client, NEWEST).await;
            assert_eq!(count(&client, "SELECT tenancy.checkpoint()").await, before + 1);
            assert_eq!(value(&client, signed_by).await, signatures);
        }
        let epochs = "SELECT concat_ws(' ', epoch, name, first_checkpoint, last_checkpoint, retired_at IS NULL) FROM \
            tenancy.signing_key ORDER BY epoch";
        assert_eq!(column(&client, epochs).await, ["1 one 1 2 f", "2 two 2 t"]);
        // The name of the log stays, though its first key is gone.
        assert_eq!(
            value(&client, "SELECT count(DISTINCT origin) || min(split_part(origin, '/', 1)) FROM tenancy.checkpoint")
                .await,
            "1one"
        );
        run(&client, "SELECT tenancy.checkpoint()").await;
        checked(&client).await;
        let events = "SELECT operation || ' ' || (row_key ->> 'epoch') FROM tenancy.audit_trail WHERE table_name = \
            'signing_key' ORDER BY position";
        assert_eq!(column(&client, events).await, ["insert 1", "insert 2", "update 1"]);

        signing.write_keys(&[&two, &one]);
        insert(&client, 1).await;
        let refusal = refused(&client, "SELECT tenancy.checkpoint()").await;
        assert_eq!(refusal.sqlstate, "F0000");
        assert!(refusal.detail.as_ref().unwrap().contains("epoch 1 was retired"), "{refusal:?}");
        signing.write_keys(&[&two]);
        run(&client, "SELECT tenancy.checkpoint()").await;
        assert_audit_is_whole(&client).await;
    });
}

#[test]
fn a_bad_key_stops_no_sealing_and_does_not_fill_the_log() {
    on_a_server("checkpoint-bad", SOON, async |signing| {
        let client = signing.client().await;
        let secret = key("one");
        let broken = &secret[..secret.len() - 6];
        signing.write_keys(&[broken]);
        set_up(&client).await;
        for _ in 0..20 {
            insert(&client, 1).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        eventually(&client, "SELECT unsealed_events = 0 FROM tenancy.checkpoint_status").await;
        assert_eq!(count(&client, NEWEST).await, 0);
        let log = signing.log();
        assert_eq!(log.matches("checkpoints cannot be signed").count(), 1, "{log}");

        for (keys, mode, why) in [
            (broken, "600", "of key 1"),
            (&secret, "644", "every user of the machine may read"),
            ("", "600", "there is no key"),
            (
                "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n",
                "600",
                "tenancy.checkpoint_origin must give it",
            ),
        ] {
            signing.write("keys", keys, mode);
            let refusal = refused(&client, "SELECT tenancy.checkpoint()").await;
            assert_eq!(refusal.sqlstate, "F0000");
            assert!(refusal.detail.as_ref().unwrap().contains(why), "{refusal:?}");
        }
        // The same from a command, which is told from a file.
        run(&client, "ALTER SYSTEM SET tenancy.signing_key_command = 'printf oo%s ps >&2; exit 7'").await;
        run(&client, "SELECT pg_reload_conf()").await;
        eventually(&client, "SELECT current_setting('tenancy.signing_key_command') <> ''").await;
        assert!(refused(&client, "SELECT tenancy.checkpoint()").await.detail.unwrap().contains("both set"));
        let log = signing.log();
        assert!(
            !log.contains(&secret[30..60]) && !log.contains("1O5y") && !log.contains("oops"),
            "a key is in the log"
        );
        signing.write_keys(&[&secret]);
        run(&client, "ALTER SYSTEM RESET tenancy.signing_key_command").await;
        run(&client, "SELECT pg_reload_conf()").await;
        eventually(&client, "SELECT current_setting('tenancy.signing_key_command') = ''").await;
        run(&client, "SELECT tenancy.checkpoint()").await;
        checked(&client).await;
        for setting in ["signing_key_file", "signing_key_command", "checkpoint_directory"] {
            run(&client, "CREATE ROLE nobody; SET ROLE nobody").await;
            assert_eq!(refused(&client, &format!("SHOW tenancy.{setting}")).await.sqlstate, "42501");
            run(&client, "RESET ROLE; DROP ROLE nobody").await;
            assert_eq!(refused(&client, &format!("SET tenancy.{setting} = '/x'")).await.sqlstate, "55P02");
        }
    });
}

#[test]
fn a_key_can_come_from_a_command() {
    on_a_server("checkpoint-command", BY_HAND, async |signing| {
        let client = signing.client().await;
        set_up(&client).await;
        signing.server.stop("fast");
        let socket = std::env::var("PGHOST").unwrap();
        signing.server.start(&format!(
            "-c unix_socket_directories={socket} -c shared_preload_libraries=pg_tenancy -c tenancy.seal_interval=0 \
             -c tenancy.signing_key_command='cat {}' -c tenancy.checkpoint_origin=audit.example/shop",
            signing.path("keys").display()
        ));
        let client = signing.client().await;
        run(&client, "SELECT tenancy.checkpoint()").await;
        assert_eq!(value(&client, "SELECT origin LIKE 'audit.example/shop/%' FROM tenancy.checkpoint").await, "t");
        checked(&client).await;
        // It is interrupted as any statement is.
        run(&client, "ALTER SYSTEM SET tenancy.signing_key_command = 'sleep 9'").await;
        drop(client);
        signing.server.stop("fast");
        signing.server.start(&format!(
            "-c unix_socket_directories={socket} -c shared_preload_libraries=pg_tenancy -c tenancy.seal_interval=0"
        ));
        let client = signing.client().await;
        let began = std::time::Instant::now();
        run(&client, "SET statement_timeout = '300ms'").await;
        assert_eq!(refused(&client, "SELECT tenancy.checkpoint()").await.sqlstate, "57014");
        assert!(began.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn what_was_not_handed_out_is_by_the_next_one() {
    on_a_server("checkpoint-files", BY_HAND, async |signing| {
        let client = signing.client().await;
        set_up(&client).await;
        run(&client, "SELECT tenancy.checkpoint()").await;
        succeeds(as_server("mv").arg(signing.path("out")).arg(signing.path("away")));
        for _ in 0..3 {
            insert(&client, 1).await;
            // A folder that is gone is a warning, and the checkpoint is made.
            run(&client, "SELECT tenancy.checkpoint()").await;
        }
        succeeds(as_server("mv").arg(signing.path("away")).arg(signing.path("out")));
        assert_eq!(signing.files(&client).await.len(), 1);
        // Nothing is new; what is missing is written all the same.
        let made = count(&client, "SELECT tenancy.checkpoint()").await;
        let files = signing.files(&client).await;
        assert_eq!(files.len() as i64, made);
        assert_eq!(files.into_iter().map(|(_, note)| note).collect::<Vec<_>>(), column(&client, NOTES).await);
        assert!(signing.log().contains("a checkpoint cannot be written"));
    });
}

#[test]
fn no_number_is_signed_twice_whatever_is_killed() {
    on_a_server("checkpoint-kill", SOON, async |signing| {
        let client = signing.client().await;
        set_up(&client).await;
        drop(client);
        let mut handed_out: Vec<(i64, String)> = Vec::new();
        for round in 0..6 {
            let client = signing.client_again().await;
            for _ in 0..(10 + round * 5) {
                insert(&client, 2).await;
            }
            // Every other round it is the whole server, as if the power failed.
            if round % 2 == 0 {
                signing.server.stop("immediate");
                signing.serve(&signing.server, SOON);
            } else {
                let pid = value(
                    &client,
                    "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'pg_tenancy %' \
                    ORDER BY backend_start DESC LIMIT 1",
                )
                .await;
                succeeds(Command::new("kill").args(["-9", &pid]));
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            let client = signing.client_again().await;
            insert(&client, 1).await;
            eventually(&client, ALL_IS_SIGNED).await;
            let (mut files, mut notes) = (signing.files(&client).await, column(&client, NOTES).await);
            for _ in 0..50 {
                if files.len() == notes.len() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                (files, notes) = (signing.files(&client).await, column(&client, NOTES).await);
            }
            assert!(files.starts_with(&handed_out), "round {round}: what was handed out changed");
            assert_eq!(files.iter().map(|(_, note)| note.clone()).collect::<Vec<_>>(), notes);
            handed_out = files;
            checked(&client).await;
        }
        assert_audit_is_whole(&signing.client_again().await).await;
    });
}

#[test]
fn a_checkpoint_is_on_disk_before_it_is_handed_out() {
    // Nothing but a synchronous commit writes it out in time.
    let asynchronous = "-c tenancy.seal_interval=0 -c synchronous_commit=off -c wal_writer_delay=10s";
    on_a_server("checkpoint-durable", asynchronous, async |signing| {
        let client = signing.client().await;
        set_up(&client).await;
        for _ in 0..3 {
            let client = signing.client().await;
            insert(&client, 1).await;
            let made = count(&client, "SELECT tenancy.checkpoint()").await;
            insert(&client, 1).await;
            signing.server.stop("immediate");
            signing.serve(&signing.server, asynchronous);
            let client = signing.client().await;
            assert_eq!(count(&client, NEWEST).await, made);
            assert_eq!(signing.files(&client).await.len() as i64, made);
            checked(&client).await;
        }
    });
}

#[test]
fn a_database_that_was_set_back_signs_nothing() {
    on_a_server("checkpoint-back", BY_HAND, async |signing| {
        let client = signing.client().await;
        set_up(&client).await;
        run(&client, "SELECT tenancy.checkpoint()").await;
        drop(client);
        signing.server.stop("fast");
        succeeds(as_server("cp").arg("-a").arg(&signing.server.data).arg(signing.path("copy")));
        signing.serve(&signing.server, BY_HAND);
        let client = signing.client().await;
        insert(&client, 1).await;
        run(&client, "SELECT tenancy.checkpoint()").await;
        let files = signing.files(&client).await;
        drop(client);
        signing.server.stop("fast");
        succeeds(as_server("rm").arg("-rf").arg(&signing.server.data));
        succeeds(as_server("mv").arg(signing.path("copy")).arg(&signing.server.data));
        signing.serve(&signing.server, BY_HAND);
        let client = signing.client().await;
        insert(&client, 2).await;
        let refusal = refused(&client, "SELECT tenancy.checkpoint()").await;
        assert_eq!(refusal.sqlstate, "55000", "{refusal:?}");
        assert_eq!(count(&client, NEWEST).await, 1);
        let latest = files.last().unwrap();
        let folder = value(&client, "SELECT replace(origin, '/', '_') FROM tenancy.checkpoint").await;
        assert_eq!(read(&signing.path("out").join(folder).join("latest")), latest.1);

        // A recovery, even of nothing, begins a new timeline, and so a log of its own.
        drop(client);
        signing.server.stop("fast");
        succeeds(as_server("touch").arg(signing.server.data.join("recovery.signal")));
        signing.serve(&signing.server, &format!("{BY_HAND} -c restore_command=false"));
        let client = signing.client_again().await;
        eventually(&client, "SELECT NOT pg_is_in_recovery()").await;
        assert_eq!(count(&client, "SELECT tenancy.checkpoint()").await, 1);
        assert_eq!(signing.files(&client).await.len(), 1);
        checked(&client).await;
    });
}

#[test]
fn a_promoted_standby_and_a_restored_dump_begin_a_log_of_their_own() {
    on_a_server("checkpoint-promote", SOON, async |signing| {
        let client = signing.client().await;
        set_up(&client).await;
        insert(&client, 5).await;
        eventually(&client, ALL_IS_SIGNED).await;
        let standby = Server::at(&programs().unwrap(), signing.path("standby"));
        let mut copy = standby.program("pg_basebackup");
        copy.args(["-R", "-c", "fast", "-U", "postgres", "-h", &std::env::var("PGHOST").unwrap()]);
        succeeds(copy.args(["-p", &signing.server.port.to_string(), "-D"]).arg(&standby.data));
        signing.serve(&standby, SOON);
        let other = connect(&standby.config()).await;
        assert_eq!(refused(&other, "SELECT tenancy.checkpoint()").await.sqlstate, "25006");
        insert(&client, 5).await;
        eventually(&client, ALL_IS_SIGNED).await;
        let lsn = value(&client, "SELECT pg_current_wal_flush_lsn()").await;
        eventually(&other, &format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'")).await;
        let before = column(&client, NOTES).await;

        run(&other, "SELECT pg_promote()").await;
        insert(&other, 1).await;
        eventually(&other, "SELECT count(DISTINCT incarnation) = 2 FROM tenancy.checkpoint").await;
        eventually(&other, ALL_IS_SIGNED).await;
        // It goes on from what the other one signed, under a name of its own.
        let after = column(&other, NOTES).await;
        assert!(after.len() > before.len() && after.starts_with(&before));
        let linked = "SELECT b.prev_digest = a.digest AND a.number = (SELECT max(number) FROM tenancy.checkpoint \
            WHERE incarnation = a.incarnation)
            FROM tenancy.checkpoint a, tenancy.checkpoint b WHERE b.number = 1 AND b.prev_digest IS NOT NULL AND \
            a.digest = b.prev_digest";
        assert_eq!(value(&other, linked).await, "t");
        assert_eq!(count(&other, "SELECT count(DISTINCT origin) FROM tenancy.checkpoint").await, 2);
        checked(&other).await;
        // The old one goes on too, and nobody takes one for the other.
        insert(&client, 1).await;
        eventually(&client, ALL_IS_SIGNED).await;
        checked(&client).await;
        assert_audit_is_whole(&other).await;

        // A dump has the checkpoints, and what is restored from it begins another one.
        run(&client, "CREATE DATABASE restored TEMPLATE template0").await;
        let socket = std::env::var("PGHOST").unwrap();
        let port = signing.server.port.to_string();
        let dump = signing
            .server
            .program("pg_dump")
            .args(["-U", "postgres", "-h", &socket, "-p", &port, "postgres"])
            .output()
            .unwrap();
        assert!(dump.status.success());
        let mut psql = signing.server.program("psql");
        psql.args(["-U", "postgres", "-h", &socket, "-p", &port, "-d", "restored"]);
        run_script(psql, &dump.stdout);
        let restored = connect(signing.server.config().dbname("restored")).await;
        insert(&restored, 1).await;
        eventually(&restored, "SELECT count(DISTINCT incarnation) = 2 FROM tenancy.checkpoint").await;
        eventually(&restored, ALL_IS_SIGNED).await;
        assert_eq!(value(&restored, linked).await, "t");
        assert_eq!(count(&restored, "SELECT count(*) FROM tenancy.signing_key").await, 1);
        checked(&restored).await;
    });
}

#[test]
fn the_extension_can_go_while_checkpoints_are_made() {
    on_a_server("checkpoint-drop", SOON, async |signing| {
        let client = signing.client().await;
        for _ in 0..5 {
            set_up(&client).await;
            insert(&client, 20).await;
            tokio::time::sleep(Duration::from_millis(120)).await;
            run(&client, "SELECT tenancy.unprotect('finding'); DROP EXTENSION pg_tenancy CASCADE; DROP TABLE finding")
                .await;
        }
        set_up(&client).await;
        insert(&client, 1).await;
        // A checkpoint that the DROP has broken off is tried again after a minute.
        for _ in 0..140 {
            if value(&client, ALL_IS_SIGNED).await == "t" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        eventually(&client, ALL_IS_SIGNED).await;
        checked(&client).await;
        assert!(!signing.log().contains("PANIC") && !signing.log().contains("terminated by signal"));
    });
}
