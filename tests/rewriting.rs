//! A superuser who rewrites history and knows how it is hashed: how far the later hashes must be rewritten, and what
//! still tells in the end.

use std::collections::HashMap;

use crate::common::*;
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::event::Header;
use pg_tenancy_core::audit::log::block::{self, Block, Entries};
use pg_tenancy_core::audit::log::chain::{self, Entry};
use pg_tenancy_core::audit::log::merkle::{self, Frontier};
use tokio_postgres::Client;
use uuid::Uuid;

/// How far somebody goes. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Rewritten {
    /// The reason of an event.
    Column,
    /// Its hash.
    Hash,
    /// Its hash in the seal.
    Entry,
    /// All later chain values of the organization.
    Chain,
    /// The same in `tenancy.head`.
    Heads,
    /// The trees.
    Trees,
    /// The block.
    Block,
    /// All later blocks.
    Blocks,
    /// The links of all later events, and so again everything that follows from these.
    Everything,
}

/// An event, with its place.
struct Event {
    id: Uuid,
    organization: Uuid,
    position: i64,
    block: i64,
    actor: Uuid,
    actor_digest: Digest,
    transaction: u64,
    ordinal: i32,
    occurred_at: i64,
    texts: [Option<String>; 7],
    payload_digest: Digest,
    previous: Digest,
    hash: Digest,
    chain: Digest,
}

impl Event {
    fn rehash(&self, previous: &Digest) -> Digest {
        let [operation, domain, table_schema, table_name, row_key, result, reason] = &self.texts;
        let header = Header {
            id: self.id,
            organization: self.organization,
            actor: self.actor,
            actor_digest: &self.actor_digest,
            transaction: self.transaction,
            ordinal: self.ordinal,
            occurred_at: self.occurred_at,
            operation: operation.as_deref().unwrap(),
            domain: domain.as_deref().unwrap(),
            table_schema: table_schema.as_deref(),
            table_name: table_name.as_deref(),
            row_key: row_key.as_deref(),
            result: result.as_deref().unwrap(),
            reason: reason.as_deref(),
        };
        header.hash(&self.payload_digest, previous)
    }
}

fn digest(bytes: Vec<u8>) -> Digest {
    bytes.try_into().unwrap()
}

/// All sealed events, in the order of block, organization and position.
async fn events(client: &Client) -> Vec<Event> {
    let sql = "SELECT e.id, s.organization, s.position, s.block, e.actor, e.transaction::text, e.ordinal,
                      (extract(epoch FROM e.occurred_at) * 1000000)::bigint, e.operation, e.domain, e.table_schema, \
                      e.table_name, e.row_key::text,
                      e.result, e.reason, e.payload_digest, e.prev_hash, e.hash, s.chain
                 FROM tenancy.seal s JOIN tenancy.event e ON e.id = s.event ORDER BY s.block, s.organization, \
                 s.position";
    let actors = actors(client).await;
    let rows = client.query(sql, &[]).await.unwrap();
    let event = |row: &tokio_postgres::Row| Event {
        id: row.get(0),
        organization: row.get(1),
        position: row.get(2),
        block: row.get(3),
        actor: row.get(4),
        actor_digest: actors[&row.get::<_, Uuid>(4)],
        transaction: row.get::<_, String>(5).parse().unwrap(),
        ordinal: row.get(6),
        occurred_at: row.get(7),
        texts: std::array::from_fn(|n| row.get(8 + n)),
        payload_digest: digest(row.get(15)),
        previous: digest(row.get(16)),
        hash: digest(row.get(17)),
        chain: digest(row.get(18)),
    };
    let events: Vec<Event> = rows.iter().map(event).collect();
    // The forger knows what is hashed.
    assert!(events.iter().all(|event| event.rehash(&event.previous) == event.hash));
    events
}

async fn actors(client: &Client) -> HashMap<Uuid, Digest> {
    let sql =
        "SELECT id, method, subject, issuer, role, organization, session_id, correlation_id, reason, session_user_name,
                      current_user_name, client_address, application_name FROM tenancy.event_actor";
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
    };
    rows.iter().map(actor).map(|actor| (actor.id, actor.digest())).collect()
}

/// Writes another reason into Acme's event at the position, and what follows from it as far as asked for.
async fn rewrite(client: &Client, position: i64, far: Rewritten) {
    let mut events = events(client).await;
    let target = events.iter().position(|event| event.organization == ACME && event.position == position).unwrap();
    let (id, first_block) = (events[target].id, events[target].block);
    events[target].texts[6] = Some("forged".into());
    client.execute("UPDATE tenancy.event SET reason = 'forged' WHERE id = $1", &[&id]).await.unwrap();
    let mut chains: HashMap<Uuid, (Digest, Frontier)> = HashMap::new();
    // What old heads are now, and what the hashes of events of a transaction are.
    let (mut moved, mut links) = (HashMap::new(), HashMap::new());
    let mut entries: HashMap<i64, Entries> = HashMap::new();
    let mut heads = HashMap::new();
    for (n, event) in events.iter_mut().enumerate() {
        let organization = event.organization;
        if far >= Rewritten::Everything {
            let key = (organization, event.transaction, event.ordinal - 1);
            let link = links.get(&key).or_else(|| moved.get(&event.previous)).copied();
            event.previous = link.unwrap_or(event.previous);
        }
        if far >= Rewritten::Everything || n == target && far >= Rewritten::Hash {
            event.hash = event.rehash(&event.previous);
        }
        links.insert((organization, event.transaction, event.ordinal), event.hash);
        let (chain, frontier) =
            chains.entry(organization).or_insert_with(|| (chain::genesis(organization), Frontier::default()));
        *chain = chain::extend(chain, event.position, &event.hash);
        frontier.push(merkle::leaf_hash(&event.hash), |_, _, _| ());
        moved.insert(event.chain, *chain);
        let written = Entry {
            position: event.position,
            event: event.id,
            event_hash: event.hash,
            chain: *chain,
            block: event.block,
        };
        entries.entry(event.block).or_default().add(organization, &written);
        heads.insert((organization, event.block), (*chain, frontier.to_bytes()));
        let update = "UPDATE tenancy.event SET prev_hash = $2, hash = $3 WHERE id = $1";
        client.execute(update, &[&event.id, &event.previous.as_slice(), &event.hash.as_slice()]).await.unwrap();
        if far >= Rewritten::Entry {
            let update = "UPDATE tenancy.seal SET event_hash = $2 WHERE event = $1";
            client.execute(update, &[&event.id, &event.hash.as_slice()]).await.unwrap();
        }
        if far >= Rewritten::Chain {
            let update = "UPDATE tenancy.seal SET chain = $2 WHERE event = $1";
            client.execute(update, &[&event.id, &chain.as_slice()]).await.unwrap();
        }
    }
    for ((organization, block), (chain, frontier)) in &heads {
        let place: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [organization, block, &chain.as_slice()];
        if far >= Rewritten::Heads {
            let update = "UPDATE tenancy.head SET chain = $3 WHERE organization = $1 AND block = $2";
            client.execute(update, &place).await.unwrap();
        }
        if far >= Rewritten::Trees {
            let update = "UPDATE tenancy.head SET frontier = $3 WHERE organization = $1 AND block = $2";
            client.execute(update, &[organization, block, frontier]).await.unwrap();
        }
    }
    if far >= Rewritten::Block {
        let last = if far >= Rewritten::Blocks { i64::MAX } else { first_block };
        rewrite_blocks(client, entries, first_block, last).await;
    }
}

async fn rewrite_blocks(client: &Client, mut entries: HashMap<i64, Entries>, first: i64, last: i64) {
    let sql = "SELECT number, (extract(epoch FROM sealed_at) * 1000000)::bigint, snapshot::text, incarnation, events, \
        prev_hash, hash
                 FROM tenancy.block ORDER BY number";
    let mut previous = block::origin();
    for row in client.query(sql, &[]).await.unwrap() {
        let mut written = Block {
            number: row.get(0),
            sealed_at: row.get(1),
            snapshot: row.get(2),
            incarnation: row.get(3),
            events: row.get(4),
            entries_digest: entries.remove(&row.get::<_, i64>(0)).unwrap_or_default().digest(),
            previous: digest(row.get(5)),
        };
        let number = written.number;
        if (first..=last).contains(&number) {
            if number > first {
                written.previous = previous;
            }
            let update = "UPDATE tenancy.block SET entries_digest = $2, prev_hash = $3, hash = $4 WHERE number = $1";
            let (entries, before, hash) = (written.entries_digest, written.previous, written.hash());
            client
                .execute(update, &[&number, &entries.as_slice(), &before.as_slice(), &hash.as_slice()])
                .await
                .unwrap();
            previous = hash;
        } else {
            previous = digest(row.get(6));
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
    let of = "SELECT s.position FROM tenancy.seal s JOIN tenancy.event e ON e.id = s.event";
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

#[test]
fn whoever_rewrites_an_event_is_found_until_everything_after_it_is_rewritten() {
    in_database(async |database| {
        let superuser = record(database).await;
        let place = middle(&superuser).await;
        let at = |finding: &str, position: i64| format!("{finding} a{position}");
        let cases = [
            (Rewritten::Column, vec![at("altered", place)]),
            (Rewritten::Hash, vec![at("altered", place)]),
            (Rewritten::Entry, vec![at("altered", place), at("missing", place + 1), "altered block".into()]),
            (Rewritten::Chain, vec!["altered a-".into(), at("missing", place + 1), "altered block".into()]),
            (Rewritten::Heads, vec!["altered a-".into(), at("missing", place + 1), "altered block".into()]),
            (Rewritten::Trees, vec![at("missing", place + 1), at("forked", place + 3), "altered block".into()]),
            (Rewritten::Block, vec![at("missing", place + 1), at("forked", place + 3), "forked block".into()]),
            (Rewritten::Blocks, vec![at("missing", place + 1), at("forked", place + 2), at("forked", place + 3)]),
        ];
        for (far, expected) in cases {
            run(&superuser, "BEGIN").await;
            rewrite(&superuser, place, far).await;
            let found = found(&superuser, "whole => true").await;
            run(&superuser, "ROLLBACK").await;
            for line in expected {
                assert!(found.contains(&line), "{far:?} lacks {line}: {found:?}");
            }
        }
        // The chain alone cannot show this. What was verified before can, as long as nobody takes that away.
        run(&superuser, "BEGIN").await;
        rewrite(&superuser, place, Rewritten::Everything).await;
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
        rewrite(&superuser, place, Rewritten::Everything).await;
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
        rewrite(&superuser, place, Rewritten::Everything).await;
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
        rewrite(&superuser, 1, Rewritten::Column).await;
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
        "DELETE FROM tenancy.event WHERE id IN (SELECT event FROM tenancy.seal WHERE block >= {newest} - 1);
         DELETE FROM tenancy.seal WHERE block >= {newest} - 1; DELETE FROM tenancy.head WHERE block >= {newest} - 1;
         DELETE FROM tenancy.block WHERE number >= {newest} - 1"
    );
    run(superuser, &sql).await;
}
