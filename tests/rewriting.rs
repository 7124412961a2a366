//! A superuser who rewrites history and knows how it is hashed: how far the later hashes must be rewritten, and what
//! still tells in the end.

use std::collections::HashMap;

use crate::common::*;
use pg_tenancy_core::audit::format::batch::{PackedContent, PackedEvent, pack};
use pg_tenancy_core::audit::format::batch_row::BatchRow;
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::history::row_hash::HashedBatch;
use pg_tenancy_core::audit::log::block::{self, Block, Heads};
use pg_tenancy_core::audit::log::chain;
use pg_tenancy_core::audit::log::entries;
use pg_tenancy_core::audit::log::merkle::{self, Frontier, STORED_LEVELS};
use tokio_postgres::Client;
use uuid::Uuid;

/// How far somebody goes. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Rewritten {
    /// The columns of a batch.
    Column,
    /// The hash of the batch, with the root over its events.
    Hash,
    /// The hash in the seal.
    Entry,
    /// All later positions and chain values of the organization.
    Chain,
    /// The trees.
    Trees,
    /// The block.
    Block,
    /// All later blocks.
    Blocks,
    /// The links of all later batches, and so again everything that follows from these.
    Everything,
}

/// A batch, with its place.
pub struct Batch {
    pub row: BatchRow<String, Vec<u8>>,
    actor_digest: Digest,
    pub organization: Uuid,
    leaf: i64,
    pub position: i64,
    block: i64,
    /// That of the row which the entry is in.
    chain: Digest,
}

impl Batch {
    /// The hash of the batch, if it follows `previous`.
    pub fn rehash(&self, previous: &Digest) -> Digest {
        let events = self.row.events().unwrap();
        let events = events.list(self.row.occurred_at).unwrap();
        self.row.header(&self.actor_digest).hash(&merkle::root_of(events.iter().map(PackedEvent::digest)), previous)
    }

    /// The hashes of the keys of its events; what is stored where they cannot be read.
    pub fn row_hashes(&self) -> Option<Vec<u8>> {
        let Ok(events) = self.row.events() else { return self.row.row_hashes.clone() };
        HashedBatch::of(&self.row).row_hashes(&events.list(self.row.occurred_at).unwrap())
    }
}

fn digest(bytes: Vec<u8>) -> Digest {
    bytes.try_into().unwrap()
}

/// All sealed batches, in the order of block, organization and leaf.
pub async fn batches(client: &Client) -> Vec<Batch> {
    let sql = "SELECT e.id, e.organization, e.actor, e.transaction::text, e.ordinal, e.events,
                      (extract(epoch FROM e.occurred_at) * 1000000)::bigint, e.operation, e.domain, e.table_schema,
                      e.table_name, e.result, e.reason, e.row_key::text, e.payload::text, e.payload_salt,
                      e.payload_digest, e.packed, e.row_hashes, e.encoding, e.prev_hash, e.hash, s.organization,
                      s.leaf, s.position, s.block, r.chain
                 FROM tenancy.entry s JOIN tenancy.event_batch e ON e.id = s.batch
                 JOIN tenancy.seal r ON r.organization = s.organization AND r.block = s.block
                ORDER BY s.block, s.organization, s.leaf";
    let actors = actors(client).await;
    let rows = client.query(sql, &[]).await.unwrap();
    let batch = |row: &tokio_postgres::Row| Batch {
        actor_digest: actors[&row.get::<_, Uuid>(2)],
        row: BatchRow {
            id: row.get(0),
            organization: row.get(1),
            actor: row.get(2),
            transaction: row.get::<_, String>(3).parse().unwrap(),
            ordinal: row.get(4),
            events: row.get(5),
            occurred_at: row.get(6),
            operation: row.get(7),
            domain: row.get(8),
            table_schema: row.get(9),
            table_name: row.get(10),
            result: row.get(11),
            reason: row.get(12),
            row_key: row.get(13),
            payload: row.get(14),
            payload_salt: row.get(15),
            payload_digest: row.get::<_, Option<Vec<u8>>>(16).map(digest),
            packed: row.get(17),
            row_hashes: row.get(18),
            encoding: row.get(19),
            previous: digest(row.get(20)),
            hash: digest(row.get(21)),
        },
        organization: row.get(22),
        leaf: row.get(23),
        position: row.get(24),
        block: row.get(25),
        chain: digest(row.get(26)),
    };
    rows.iter().map(batch).collect()
}

/// Computes chains, trees, heads and blocks anew over the batches as they are now, but neither their hashes nor links.
pub async fn reseal(client: &Client) {
    let mut batches = batches(client).await;
    follow(client, &mut batches, usize::MAX, HashMap::new(), Rewritten::Blocks, 1).await;
}

async fn actors(client: &Client) -> HashMap<Uuid, Digest> {
    let sql =
        "SELECT id, method, subject, issuer, role, organization, session_id, correlation_id, reason, session_user_name,
                      current_user_name, client_address, application_name, grant_id FROM tenancy.event_actor";
    let rows = client.query(sql, &[]).await.unwrap();
    let actor = |row: &tokio_postgres::Row| pg_tenancy_core::audit::format::event::Actor {
        id: row.get(0),
        method: row.get(1),
        subject: row.get(2),
        issuer: row.get(3),
        role: row.get(4),
        organization: row.get(5),
        session_id: row.get(6),
        correlation_id: row.get(7),
        reason: row.get(8),
        session_user: row.get(9),
        current_user: row.get(10),
        client_address: row.get(11),
        application_name: row.get(12),
        grant: row.get(13),
    };
    rows.iter().map(actor).map(|actor| (actor.id, actor.digest())).collect()
}

/// What a forger does to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forgery {
    /// Writes another reason for its events.
    Reason,
    /// Writes another payload of its last event.
    Payload,
    /// Cuts its second event out.
    Cut,
}

/// Forges the row, also in its table.
async fn forge(client: &Client, row: &mut BatchRow<String, Vec<u8>>, forgery: Forgery) {
    if forgery == Forgery::Reason {
        row.reason = Some("forged".into());
    } else {
        let events = row.events().unwrap();
        let mut events = events.list(row.occurred_at).unwrap();
        if forgery == Forgery::Cut {
            events.remove(1);
        } else if let Some(PackedEvent { content: PackedContent::Payload { text, .. }, .. }) = events.last_mut() {
            *text = r#"{"new":{"title":"forged"}}"#;
        }
        (row.events, row.packed) = (events.len() as i32, Some(pack(row.occurred_at, &events)));
    }
    let update = "UPDATE tenancy.event_batch SET (reason, events, packed) = ($2, $3, $4) WHERE id = $1";
    client.execute(update, &[&row.id, &row.reason, &row.events, &row.packed]).await.unwrap();
}

/// Forges Acme's batch whose last event has the position, and what follows from it as far as asked for.
async fn rewrite(client: &Client, position: i64, forgery: Forgery, far: Rewritten) {
    let mut batches = batches(client).await;
    // The forger knows what is hashed.
    assert!(batches.iter().all(|batch| batch.rehash(&batch.row.previous) == batch.row.hash));
    let target = batches.iter().position(|batch| batch.organization == ACME && batch.position == position).unwrap();
    let first_block = batches[target].block;
    forge(client, &mut batches[target].row, forgery).await;
    let cut = (forgery == Forgery::Cut).then_some(((ACME, batches[target].row.transaction), 1));
    follow(client, &mut batches, target, cut.into_iter().collect(), far, first_block).await;
}

/// Writes what follows from the batches, as far as asked for. `cut` has how much less later ordinals of a transaction
/// are.
async fn follow(
    client: &Client,
    batches: &mut [Batch],
    target: usize,
    cut: HashMap<(Uuid, u64), i32>,
    far: Rewritten,
    first_block: i64,
) {
    let mut chains: HashMap<Uuid, (Digest, Frontier)> = HashMap::new();
    // What old heads are now, and what the hashes of batches of a transaction are.
    let (mut moved, mut links) = (HashMap::new(), HashMap::new());
    let mut lists: HashMap<(Uuid, i64), Vec<u8>> = HashMap::new();
    let (mut heads, mut nodes, mut events) = (HashMap::new(), HashMap::new(), HashMap::new());
    let mut positions: HashMap<Uuid, i64> = HashMap::new();
    for (n, batch) in batches.iter_mut().enumerate() {
        let organization = batch.organization;
        let old_hash = batch.row.hash;
        if far >= Rewritten::Everything {
            let link = links.get(&batch.row.previous).or_else(|| moved.get(&batch.row.previous)).copied();
            batch.row.previous = link.unwrap_or(batch.row.previous);
            if n > target {
                batch.row.ordinal -= cut.get(&(organization, batch.row.transaction)).unwrap_or(&0);
            }
        }
        if far >= Rewritten::Everything || n == target && far >= Rewritten::Hash {
            batch.row.hash = batch.rehash(&batch.row.previous);
        }
        links.insert(old_hash, batch.row.hash);
        let position = positions.entry(organization).or_default();
        *position += i64::from(batch.row.events);
        if far >= Rewritten::Chain {
            batch.position = *position;
        }
        let (chain, frontier) =
            chains.entry(organization).or_insert_with(|| (chain::genesis(organization), Frontier::default()));
        *chain = chain::extend(chain, batch.position, &batch.row.hash);
        frontier.push(chain::leaf(batch.position, &batch.row.hash), |level, index, hash| {
            if level.is_multiple_of(STORED_LEVELS) {
                nodes.insert((organization, level as i16, index as i64), *hash);
            }
        });
        moved.insert(batch.chain, *chain);
        let list = lists.entry((organization, batch.block)).or_default();
        entries::put(list, &batch.row.id, i64::from(batch.row.events), &batch.row.hash);
        *events.entry(batch.block).or_default() += i64::from(batch.row.events);
        heads.insert((organization, batch.block), (batch.position, batch.leaf, *chain, frontier.to_bytes()));
        let update =
            "UPDATE tenancy.event_batch SET (prev_hash, hash, ordinal, row_hashes) = ($2, $3, $4, $5) WHERE id = $1";
        let (previous, hash) = (batch.row.previous.as_slice(), batch.row.hash.as_slice());
        let row_hashes = batch.row_hashes();
        client.execute(update, &[&batch.row.id, &previous, &hash, &batch.row.ordinal, &row_hashes]).await.unwrap();
    }
    for ((organization, block), list) in &lists {
        if far >= Rewritten::Entry {
            let update = "UPDATE tenancy.seal SET entries = $3 WHERE organization = $1 AND block = $2";
            client.execute(update, &[organization, block, list]).await.unwrap();
        }
    }
    for ((organization, block), (position, _, chain, frontier)) in &heads {
        if far >= Rewritten::Chain {
            let update = "UPDATE tenancy.seal SET (position, chain) = ($3, $4) WHERE organization = $1 AND block = $2";
            client.execute(update, &[organization, block, position, &chain.as_slice()]).await.unwrap();
        }
        if far >= Rewritten::Trees {
            let update = "UPDATE tenancy.seal SET frontier = $3 WHERE organization = $1 AND block = $2";
            client.execute(update, &[organization, block, frontier]).await.unwrap();
        }
    }
    if far >= Rewritten::Trees {
        for ((organization, level, index), hash) in &nodes {
            let update = "UPDATE tenancy.tree_node SET hash = $4 WHERE (organization, level, index) = ($1, $2, $3)";
            client.execute(update, &[organization, level, index, &hash.as_slice()]).await.unwrap();
        }
    }
    if far >= Rewritten::Block {
        let last = if far >= Rewritten::Blocks { i64::MAX } else { first_block };
        rewrite_blocks(client, &heads, &events, first_block, last).await;
        run(client, "SELECT tenancy.rebuild_row_index()").await;
    }
}

/// Position, leaves, chain value and frontier.
type RewrittenHead = (i64, i64, Digest, Vec<u8>);

async fn rewrite_blocks(
    client: &Client,
    heads: &HashMap<(Uuid, i64), RewrittenHead>,
    events: &HashMap<i64, i64>,
    first: i64,
    last: i64,
) {
    let sql = "SELECT number, (extract(epoch FROM sealed_at) * 1000000)::bigint, snapshot::text, incarnation, \
        prev_hash, hash
                 FROM tenancy.block ORDER BY number";
    let mut previous = block::origin();
    for row in client.query(sql, &[]).await.unwrap() {
        let number: i64 = row.get(0);
        let mut of_block: Vec<_> = heads.iter().filter(|((_, block), _)| *block == number).collect();
        of_block.sort_by_key(|((organization, _), _)| *organization);
        let mut digest_of = Heads::default();
        for ((organization, _), (position, leaves, chain, _)) in of_block {
            digest_of.add(*organization, *position, *leaves, chain);
        }
        let mut written = Block {
            number,
            sealed_at: row.get(1),
            snapshot: row.get(2),
            incarnation: row.get(3),
            events: events.get(&number).copied().unwrap_or_default(),
            heads_digest: digest_of.digest(),
            previous: digest(row.get(4)),
        };
        if (first..=last).contains(&number) {
            if number > first {
                written.previous = previous;
            }
            let update = "UPDATE tenancy.block SET heads_digest = $2, prev_hash = $3, hash = $4, events = $5 WHERE \
                number = $1";
            let (heads, before, hash) = (written.heads_digest, written.previous, written.hash());
            client
                .execute(update, &[&number, &heads.as_slice(), &before.as_slice(), &hash.as_slice(), &written.events])
                .await
                .unwrap();
            previous = hash;
        } else {
            previous = digest(row.get(5));
        }
    }
}

/// Two transactions of Acme in the first block, two more in blocks of their own, and others beside them.
async fn record(database: &Database) -> Client {
    let (client, superuser) = (database.application().await, database.superuser().await);
    for (subject, ids) in [("alice", 81..=83), ("bob", 91..=91), ("alice", 84..=84), ("alice", 85..=86)] {
        as_tenant(&client, &database.token(subject)).await;
        for id in ids {
            run(&client, &format!(r#"INSERT INTO "Finding" (id, title) VALUES ({id}, 'x')"#)).await;
        }
        run(&client, "COMMIT").await;
        seal(&superuser).await;
    }
    assert_audit_is_whole(&superuser).await;
    let guards = "DO $$ DECLARE t regclass; BEGIN
        FOR t IN SELECT tgrelid FROM pg_trigger WHERE tgname = 'append_only' AND tgparentid = 0 LOOP
            EXECUTE format('ALTER TABLE %s DISABLE TRIGGER append_only', t);
        END LOOP; END $$";
    run(&superuser, guards).await;
    superuser
}

/// The position of the event in the middle of Acme's first transaction of these.
async fn middle(superuser: &Client) -> i64 {
    let of = "SELECT s.position FROM tenancy.entry s JOIN tenancy.event e ON e.batch = s.batch";
    let row = "operation = 'insert' AND row_key ->> 'id' = '82'";
    count(superuser, &format!("{of} WHERE s.organization = '{ACME}' AND {row}")).await
}

async fn found(superuser: &Client, call: &str) -> Vec<String> {
    let sql = format!(
        r#"SELECT concat_ws(' ', finding, coalesce(left(organization_id::text, 1) || coalesce("position"::text, '-'),
            'block'))
             FROM tenancy.verify_audit({call})"#
    );
    column(superuser, &sql).await
}

/// A transaction of Acme with two batches of several events, and one in a later block that follows it. Returns the
/// positions of the last events of the two.
async fn record_several(database: &Database) -> (Client, i64, i64) {
    let superuser = record(database).await;
    let client = database.application().await;
    as_tenant(&client, &database.token("alice")).await;
    let rows = r#"INSERT INTO "Finding" (id, title) SELECT n, 'x' FROM generate_series(201, 205) n"#;
    run(&client, &format!(r#"{rows}; UPDATE "Finding" SET title = 'y' WHERE id > 200; COMMIT"#)).await;
    seal(&superuser).await;
    run(&superuser, r#"UPDATE "Finding" SET title = 'z' WHERE id > 200"#).await;
    seal(&superuser).await;
    assert_audit_is_whole(&superuser).await;
    let of = |operation: &str| {
        format!(
            "SELECT s.position FROM tenancy.entry s JOIN tenancy.event e ON e.batch = s.batch
              WHERE e.operation = '{operation}' AND e.row_key ->> 'id' = '201' ORDER BY 1 LIMIT 1"
        )
    };
    let (first, second) = (count(&superuser, &of("insert")).await, count(&superuser, &of("update")).await);
    assert_eq!(first + 5, second);
    (superuser, first, second)
}

#[test]
fn whoever_forges_a_batch_of_several_events_is_found_until_everything_after_it_is_rewritten() {
    in_database(async |database| {
        let (superuser, place, next) = record_several(database).await;
        let kept = checkpoint(&superuser).await;
        for forgery in [Forgery::Reason, Forgery::Payload, Forgery::Cut] {
            // The position of the batch after it, once the events are counted anew.
            let moved = if forgery == Forgery::Cut { next - 1 } else { next };
            let (first, block) = (format!("altered a{}", place - 4), "altered block".to_owned());
            let cases = [
                (Rewritten::Column, vec![first]),
                (Rewritten::Hash, vec![format!("altered a{place}")]),
                (Rewritten::Entry, vec!["altered a-".into(), format!("missing a{moved}")]),
                (Rewritten::Chain, vec!["altered a-".into(), format!("missing a{moved}"), block.clone()]),
                (Rewritten::Trees, vec![format!("missing a{moved}"), block]),
                (Rewritten::Block, vec![format!("missing a{moved}"), "forked block".into()]),
                (Rewritten::Blocks, vec![format!("missing a{moved}"), format!("forked a{}", moved + 1)]),
            ];
            for (far, expected) in cases {
                run(&superuser, "BEGIN").await;
                rewrite(&superuser, place, forgery, far).await;
                let found = found(&superuser, "whole => true").await;
                run(&superuser, "ROLLBACK").await;
                for line in expected {
                    assert!(found.contains(&line), "{forgery:?}, {far:?} lacks {line}: {found:?}");
                }
            }
            run(&superuser, "BEGIN").await;
            rewrite(&superuser, place, forgery, Rewritten::Everything).await;
            assert!(found(&superuser, "").await.contains(&"forked block".to_owned()), "{forgery:?}");
            if let Some(kept) = &kept {
                assert_eq!(found_by_note(&superuser, kept).await, ["altered", "forked"], "{forgery:?}");
            }
            for table in ["verification", "checkpoint", "head_leaf", "head_node"] {
                run(&superuser, &format!("DELETE FROM tenancy.{table}")).await;
            }
            assert_eq!(found(&superuser, "whole => true").await, Vec::<String>::new(), "{forgery:?}");
            run(&superuser, "ROLLBACK").await;
        }
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn whoever_rewrites_an_event_is_found_until_everything_after_it_is_rewritten() {
    in_database(async |database| {
        let superuser = record(database).await;
        let place = middle(&superuser).await;
        let at = |finding: &str, position: i64| format!("{finding} a{position}");
        let cases = [
            (Rewritten::Column, vec![at("altered", place)]),
            (Rewritten::Hash, vec![at("altered", place)]),
            (Rewritten::Entry, vec!["altered a-".into(), at("missing", place + 1)]),
            (Rewritten::Chain, vec!["altered a-".into(), at("missing", place + 1), "altered block".into()]),
            (Rewritten::Trees, vec![at("missing", place + 1), at("forked", place + 3), "altered block".into()]),
            (Rewritten::Block, vec![at("missing", place + 1), at("forked", place + 3), "forked block".into()]),
            (Rewritten::Blocks, vec![at("missing", place + 1), at("forked", place + 2), at("forked", place + 3)]),
        ];
        for (far, expected) in cases {
            run(&superuser, "BEGIN").await;
            rewrite(&superuser, place, Forgery::Reason, far).await;
            let found = found(&superuser, "whole => true").await;
            run(&superuser, "ROLLBACK").await;
            for line in expected {
                assert!(found.contains(&line), "{far:?} lacks {line}: {found:?}");
            }
        }
        // The chain alone cannot show this. What was verified before can, as long as nobody takes that away.
        run(&superuser, "BEGIN").await;
        rewrite(&superuser, place, Forgery::Reason, Rewritten::Everything).await;
        assert_eq!(value(&superuser, "SELECT count(*) FROM tenancy.event WHERE reason = 'forged'").await, "1");
        for call in ["", "whole => true"] {
            let found = found(&superuser, call).await;
            assert!(found.contains(&"forked block".to_owned()), "{call}: {found:?}");
        }
        run(&superuser, "DELETE FROM tenancy.verification").await;
        assert_eq!(found(&superuser, "whole => true").await, Vec::<String>::new());
        run(&superuser, "ROLLBACK").await;
    });
}

/// What a note that was kept shows.
async fn found_by_note(superuser: &Client, (note, key): &(String, String)) -> Vec<String> {
    let sql = "SELECT DISTINCT finding FROM tenancy.verify_checkpoint($1, $2) ORDER BY 1";
    superuser.query(sql, &[note, key]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[test]
fn a_checkpoint_shows_what_was_rewritten_from_beginning_to_end() {
    in_database(async |database| {
        let superuser = record(database).await;
        let Some(kept) = checkpoint(&superuser).await else { return };
        assert_audit_is_whole(&superuser).await;
        assert_eq!(found_by_note(&superuser, &kept).await, Vec::<String>::new());
        // Later events are no reason to doubt it.
        run(&superuser, r#"UPDATE "Finding" SET title = 'y'"#).await;
        seal(&superuser).await;
        assert_eq!(found_by_note(&superuser, &kept).await, Vec::<String>::new());
        run(&superuser, "SELECT tenancy.checkpoint()").await;
        assert_eq!(found_by_note(&superuser, &kept).await, Vec::<String>::new());
        assert_audit_is_whole(&superuser).await;
        let place = middle(&superuser).await;
        let disarm = "DELETE FROM tenancy.verification";
        let with_checkpoints = "DELETE FROM tenancy.checkpoint; DELETE FROM tenancy.signing_key;
             DELETE FROM tenancy.head_leaf; DELETE FROM tenancy.head_node";
        run(&superuser, "ALTER TABLE tenancy.signing_key DISABLE TRIGGER ALL").await;

        run(&superuser, "BEGIN").await;
        rewrite(&superuser, place, Forgery::Reason, Rewritten::Everything).await;
        run(&superuser, disarm).await;
        let whole = found(&superuser, "whole => true").await;
        assert!(whole.contains(&"forked block".to_owned()), "the stored checkpoints tell: {whole:?}");
        assert_eq!(found_by_note(&superuser, &kept).await, ["altered", "forked"]);
        run(&superuser, with_checkpoints).await;
        assert_eq!(found(&superuser, "whole => true").await, Vec::<String>::new(), "nothing is left in the database");
        assert_eq!(found_by_note(&superuser, &kept).await, ["truncated"], "and so what was kept outside tells");
        run(&superuser, "ROLLBACK").await;

        // The checkpoints of the rewritten history, signed with the server's own key.
        run(&superuser, "BEGIN").await;
        rewrite(&superuser, place, Forgery::Reason, Rewritten::Everything).await;
        run(&superuser, disarm).await;
        run(&superuser, with_checkpoints).await;
        run(&superuser, "COMMIT").await;
        let again = checkpoint(&superuser).await.unwrap();
        assert_eq!(found(&superuser, "whole => true").await, Vec::<String>::new());
        assert_eq!(found_by_note(&superuser, &again).await, Vec::<String>::new());
        assert_eq!(found_by_note(&superuser, &kept).await, ["forked"]);
    });
}

#[test]
fn a_checkpoint_shows_what_was_cut_off_and_what_is_no_checkpoint_shows_nothing() {
    in_database(async |database| {
        let superuser = record(database).await;
        let Some(kept) = checkpoint(&superuser).await else { return };
        run(&superuser, "BEGIN; DELETE FROM tenancy.verification").await;
        cut_off(&superuser).await;
        let whole = found(&superuser, "whole => true").await;
        assert!(whole.contains(&"truncated block".to_owned()), "{whole:?}");
        assert!(found_by_note(&superuser, &kept).await.contains(&"truncated".to_owned()));
        run(&superuser, "ROLLBACK").await;
        // An event below it, changed without any hash, is found by what was signed over it as well.
        run(&superuser, "BEGIN").await;
        rewrite(&superuser, 1, Forgery::Reason, Rewritten::Column).await;
        assert_eq!(found_by_note(&superuser, &kept).await, ["altered"]);
        run(&superuser, "ROLLBACK").await;
        let (note, key) = &kept;
        let other = note.replacen("\n", "x\n", 1);
        for (note, key) in
            [(other.as_str(), key.as_str()), ("", key), (note, ""), (note, "a+00000000+AAAA"), (&note[1..], key)]
        {
            let error =
                superuser.query("SELECT * FROM tenancy.verify_checkpoint($1, $2)", &[&note, &key]).await.unwrap_err();
            assert_eq!(Refusal::of(&error).sqlstate, "22023", "{note} {key}");
        }
    });
}

#[test]
fn each_changed_column_of_a_stored_checkpoint_is_found() {
    in_database(async |database| {
        let superuser = record(database).await;
        for _ in 0..3 {
            if checkpoint(&superuser).await.is_none() {
                return;
            }
            run(&superuser, r#"UPDATE "Finding" SET title = title || 'y'"#).await;
        }
        run(
            &superuser,
            "ALTER TABLE tenancy.checkpoint DISABLE TRIGGER append_only; ALTER TABLE tenancy.signing_key \
            DISABLE TRIGGER ALL",
        )
        .await;
        assert_audit_is_whole(&superuser).await;
        for change in [
            "UPDATE tenancy.checkpoint SET incarnation = 'x' WHERE number = 2",
            "UPDATE tenancy.checkpoint SET number = 9 WHERE number = 3",
            "UPDATE tenancy.checkpoint SET made_at = now() WHERE number = 2",
            "UPDATE tenancy.checkpoint SET block = block - 1 WHERE number = 3",
            "UPDATE tenancy.checkpoint SET block_hash = sha256('x') WHERE number = 2",
            "UPDATE tenancy.checkpoint SET heads = heads + 1 WHERE number = 2",
            "UPDATE tenancy.checkpoint SET heads_root = sha256('x') WHERE number = 2",
            "UPDATE tenancy.checkpoint SET prev_digest = NULL WHERE number = 2",
            "UPDATE tenancy.checkpoint SET digest = sha256('x') WHERE number = 2",
            "UPDATE tenancy.checkpoint SET root = sha256('x') WHERE number = 2",
            "UPDATE tenancy.checkpoint SET frontier = sha256('x') WHERE number = 2",
            "UPDATE tenancy.checkpoint SET origin = 'x' WHERE number = 2",
            "UPDATE tenancy.checkpoint SET note = translate(note, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', \
                'BCDEFGHIJKLMNOPQRSTUVWXYZA') WHERE number = 2",
            "DELETE FROM tenancy.checkpoint WHERE number = 2",
            "DELETE FROM tenancy.checkpoint WHERE number = 1",
            "DELETE FROM tenancy.signing_key",
            "UPDATE tenancy.signing_key SET public_key = 'x'",
        ] {
            run(&superuser, "BEGIN").await;
            run(&superuser, change).await;
            let found = found(&superuser, "whole => true").await;
            run(&superuser, "ROLLBACK").await;
            assert!(!found.is_empty(), "{change}");
        }
    });
}

#[test]
fn the_newest_blocks_cut_off_with_all_that_belongs_to_them_are_missed_by_the_last_verification() {
    in_database(async |database| {
        let superuser = record(database).await;
        run(&superuser, "BEGIN").await;
        cut_off(&superuser).await;
        for call in ["", "whole => true"] {
            let found = found(&superuser, call).await;
            assert!(found.contains(&"truncated block".to_owned()), "{call}: {found:?}");
        }
        run(&superuser, "DELETE FROM tenancy.verification").await;
        assert_eq!(found(&superuser, "whole => true").await, Vec::<String>::new());
        run(&superuser, "ROLLBACK").await;
    });
}

/// Takes the two newest blocks away, with all that belongs to them.
async fn cut_off(superuser: &Client) {
    let newest = count(superuser, "SELECT max(number) FROM tenancy.block").await;
    let sql = format!(
        "DELETE FROM tenancy.event_batch WHERE id IN (SELECT batch FROM tenancy.entry WHERE block >= {newest} - 1);
         DELETE FROM tenancy.seal WHERE block >= {newest} - 1;
         DELETE FROM tenancy.row_index WHERE last_block >= {newest} - 1;
         DELETE FROM tenancy.block WHERE number >= {newest} - 1"
    );
    run(superuser, &sql).await;
}
