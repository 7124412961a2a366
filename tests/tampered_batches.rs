//! Batches of several events that were tampered with: each change is named as what it is, at its batch or its event.

use crate::common::*;
use crate::rewriting::{Batch, batches, reseal};
use pg_tenancy_core::audit::format::batch::{PackedContent, PackedEvent, pack};
use tokio_postgres::Client;
use uuid::Uuid;

const CUT_OFF: &str = "the packed events of the batch are cut off";
const TOO_LONG: &str = "the packed events of the batch have something after their end";
const BEYOND: &str = "the packed events of the batch announce more than a batch may have";
const COMPRESSED: &str = "the compressed part of the batch does not have the length that it announces";
const INVALID: &str = "the packed events of the batch have a value that is never written";
const COLUMNS: &str = "the columns of the batch are not those of its number of events";
const TIME: &str = "the time of the batch is not that of its first event";
const OTHER: &str = "the events of the batch or their actor are not what was written";
const ERASED: &str = "the payload (old and new values) is missing, and no erasure is recorded";
const NOT_ERASED: &str = "the row in tenancy.erasure names an erasure of the event that did not happen";
const TWICE: &str = "the transaction has an event with the same ordinal already";

/// A transaction of Acme with batches of 128, three, two events and one, another of one event, and one of
/// Globex with three. Returns a superuser for whom the audit is not guarded.
async fn record(database: &Database) -> Client {
    let (client, superuser) = (database.application().await, database.superuser().await);
    let several = |first: i32, last: i32| {
        format!(r#"INSERT INTO "Finding" (id, title) SELECT n, 'a title' FROM generate_series({first}, {last}) n"#)
    };
    let one = several(401, 401);
    for (subject, sql) in [
        ("alice", format!("{}; {}; {}; {one}", several(201, 328), several(331, 333), several(341, 342))),
        ("alice", several(402, 402)),
        ("bob", several(501, 503)),
    ] {
        as_tenant(&client, &database.token(subject)).await;
        run(&client, &sql).await;
        run(&client, "COMMIT").await;
    }
    seal(&superuser).await;
    assert_audit_is_whole(&superuser).await;
    let guards = "DO $$ DECLARE t regclass; BEGIN
        FOR t IN SELECT tgrelid FROM pg_trigger WHERE tgname = 'append_only' AND tgparentid = 0 LOOP
            EXECUTE format('ALTER TABLE %s DISABLE TRIGGER append_only', t);
        END LOOP; END $$";
    run(&superuser, guards).await;
    seal_all(&superuser).await;
    forge_entries(&superuser).await;
    superuser
}

/// The batch that has the insert of this row.
async fn batch_with(client: &Client, row: i32) -> Batch {
    let sql = format!("SELECT batch FROM tenancy.event WHERE operation = 'insert' AND row_key ->> 'id' = '{row}'");
    let id = value(client, &sql).await;
    batches(client).await.into_iter().find(|batch| batch.row.id.to_string() == id).unwrap()
}

/// The position of the first event of the batch.
fn first(batch: &Batch) -> i64 {
    batch.position - i64::from(batch.row.events) + 1
}

fn finding(kind: &str, position: Option<i64>, event: Option<Uuid>, explanation: &str) -> String {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let (position, event) = (text(position.map(|n| n.to_string())), text(event.map(|id| id.to_string())));
    format!("{kind} {position} {event} {explanation}")
}

/// The finding about a whole batch.
fn altered(batch: &Batch, explanation: &str) -> String {
    finding("altered", Some(first(batch)), Some(batch.row.id), explanation)
}

async fn found(client: &Client) -> Vec<String> {
    let sql = r#"SELECT concat_ws(' ', finding, coalesce("position"::text, '-'), coalesce(event::text, '-'),
        explanation)
                   FROM tenancy.verify_audit(whole => true)"#;
    column(client, sql).await
}

/// Begins a change that [`taken_back`] verifies.
async fn begin(client: &Client) {
    run(client, "BEGIN").await;
}

/// What is found of the change, which is taken back; without it nothing is found.
async fn taken_back(client: &Client) -> Vec<String> {
    let found = found(client).await;
    run(client, "ROLLBACK").await;
    assert_eq!(self::found(client).await, Vec::<String>::new(), "the tampering was not taken back");
    found
}

async fn found_after(client: &Client, sql: &str) -> Vec<String> {
    begin(client).await;
    assert!(changed(client, sql).await > 0, "{sql} changed nothing");
    taken_back(client).await
}

/// Writes packed events and the hash over them.
async fn write(client: &Client, batch: &Batch) {
    let sql = "UPDATE tenancy.event_batch SET (organization, ordinal, events, row_key, payload, payload_salt,
                      payload_digest, packed, hash, row_hashes)
                    = ($2, $3, $4, $5::text::json, $6::text::json, $7, $8, $9, $10, $11)
                WHERE id = $1";
    let row = &batch.row;
    let digest = row.payload_digest.map(|digest| digest.to_vec());
    let hash = row.hash.to_vec();
    let done = client
        .execute(
            sql,
            &[
                &row.id,
                &row.organization,
                &row.ordinal,
                &row.events,
                &row.row_key,
                &row.payload,
                &row.payload_salt,
                &digest,
                &row.packed,
                &hash,
                &batch.row_hashes(),
            ],
        )
        .await;
    assert_eq!(done.unwrap(), 1);
}

/// Changes the list of the batch's events.
fn repack(batch: &mut Batch, change: impl FnOnce(&mut Vec<PackedEvent>)) {
    let (events, packed) = {
        let events = batch.row.events().unwrap();
        let mut events = events.list(batch.row.occurred_at).unwrap();
        change(&mut events);
        (events.len() as i32, pack(batch.row.occurred_at, &events))
    };
    (batch.row.events, batch.row.packed) = (events, Some(packed));
}

#[test]
fn packed_events_that_were_changed_are_named_at_their_batch() {
    in_database(async |database| {
        let superuser = record(database).await;
        let (large, small) = (batch_with(&superuser, 201).await, batch_with(&superuser, 341).await);
        assert_eq!([large.row.events, small.row.events], [128, 2]);
        let forms = [&large, &small].map(|batch| batch.row.packed.as_ref().unwrap()[0]);
        assert_eq!(forms, [1, 0], "compressed and plain");
        // What a match that goes on and on makes of a few bytes.
        let bomb = r"substr(packed, 1, 5 + 128 * 17) || '\x1f610100'::bytea || decode(repeat('ff', 5000), 'hex')";
        let length = |length: &str| format!(r"overlay(packed PLACING '\x{length}' FROM 2)");
        let cases: [(&Batch, String, &str); 25] = [
            // The form of the text part.
            (&large, "set_byte(packed, 0, 2)".into(), INVALID),
            (&large, "set_byte(packed, 0, 0)".into(), CUT_OFF),
            (&small, "set_byte(packed, 0, 1)".into(), COMPRESSED),
            // Its length.
            (&large, length("ffffffff"), BEYOND),
            (&large, length("00040001"), BEYOND),
            (&large, length("00040000"), COMPRESSED),
            (&large, length("00000001"), COMPRESSED),
            (&large, length("00000000"), COMPRESSED),
            (&small, length("ffffffff"), BEYOND),
            (&small, length("00040000"), CUT_OFF),
            (&small, length("00000001"), TOO_LONG),
            // A mark, and a salt.
            (&large, "set_byte(packed, 5, 2)".into(), INVALID),
            (&small, "set_byte(packed, 5 + 17, 255)".into(), INVALID),
            (&large, "set_byte(packed, 6, get_byte(packed, 6) # 1)".into(), OTHER),
            (&small, "set_byte(packed, 21, get_byte(packed, 21) # 128)".into(), OTHER),
            // Truncated, and over-long.
            (&large, "''".into(), CUT_OFF),
            (&large, "substr(packed, 1, 4)".into(), CUT_OFF),
            (&large, "substr(packed, 1, 100)".into(), CUT_OFF),
            (&large, "substr(packed, 1, length(packed) - 1)".into(), COMPRESSED),
            (&small, "substr(packed, 1, length(packed) - 1)".into(), CUT_OFF),
            (&large, r"packed || '\x00'".into(), COMPRESSED),
            (&small, r"packed || '\x00'".into(), TOO_LONG),
            (&large, format!("set_byte({bomb}, 0, 1)"), COMPRESSED),
            (&large, format!(r"overlay({bomb} PLACING '\x00040000' FROM 2)"), COMPRESSED),
            // A text that is not UTF-8: the last byte of the last payload.
            (&small, "set_byte(packed, length(packed) - 1, 255)".into(), INVALID),
        ];
        for (batch, value, explanation) in cases {
            let sql = format!("UPDATE tenancy.event_batch SET packed = {value} WHERE id = '{}'", batch.row.id);
            assert_eq!(found_after(&superuser, &sql).await, [altered(batch, explanation)], "{value}");
        }
    });
}

#[test]
fn each_flipped_byte_of_packed_events_is_found_at_their_batch() {
    in_database(async |database| {
        let superuser = record(database).await;
        for (row, step) in [(341, 1), (331, 7), (201, 97)] {
            let batch = batch_with(&superuser, row).await;
            let length = batch.row.packed.as_ref().unwrap().len();
            let mut named = Vec::new();
            for place in (0..length).step_by(step) {
                begin(&superuser).await;
                let sql = format!(
                    "UPDATE tenancy.event_batch SET packed = set_byte(packed, {place}, get_byte(packed, {place}) # {})
                      WHERE id = '{}'",
                    1 << (place % 8),
                    batch.row.id
                );
                run(&superuser, &sql).await;
                let found = found(&superuser).await;
                run(&superuser, "ROLLBACK").await;
                let explained =
                    [CUT_OFF, TOO_LONG, BEYOND, COMPRESSED, INVALID, TIME, OTHER].map(|text| altered(&batch, text));
                // A mark becomes that of an erased payload only where the rest still fits.
                assert!(found.len() == 1 && explained.contains(&found[0]), "byte {place} of {length}: {found:?}");
                named.push(found[0].clone());
            }
            named.sort();
            named.dedup();
            assert!(named.len() > 2, "{named:?}");
        }
        assert_eq!(found(&superuser).await, Vec::<String>::new());
    });
}

#[test]
fn a_changed_column_of_a_batch_of_several_is_named_at_its_batch() {
    in_database(async |database| {
        let superuser = record(database).await;
        let batch = batch_with(&superuser, 331).await;
        for (change, explanation) in [
            ("actor = (SELECT actor FROM tenancy.event_batch WHERE actor <> b.actor LIMIT 1)", OTHER),
            ("transaction = (transaction::text::bigint + 1)::text::xid8", OTHER),
            ("ordinal = ordinal + 1", OTHER),
            ("occurred_at = occurred_at - interval '1 us'", OTHER),
            ("operation = 'delete'", OTHER),
            ("domain = 'other'", OTHER),
            ("table_schema = NULL", OTHER),
            ("table_name = 'other'", OTHER),
            ("result = 'denied'", OTHER),
            ("reason = ''", OTHER),
            ("prev_hash = sha256('')", OTHER),
            ("hash = sha256('')", OTHER),
            ("encoding = 1", "the version of the encoding is not the one that was written"),
            ("row_key = '{}'", COLUMNS),
            ("payload = '{}', payload_salt = decode(repeat('00', 16), 'hex')", COLUMNS),
            ("payload_digest = sha256('')", COLUMNS),
            ("packed = NULL", COLUMNS),
        ] {
            let sql = format!("UPDATE tenancy.event_batch b SET {change} WHERE id = '{}'", batch.row.id);
            assert_eq!(found_after(&superuser, &sql).await, [altered(&batch, explanation)], "{change}");
        }
        // The number of events: the first of them would have another position.
        // Whether the texts were worth compressing depends on the times, which have one byte or more.
        for (events, explanations) in [
            (1, [COLUMNS; 2]),
            (0, [COLUMNS; 2]),
            (-1, [COLUMNS; 2]),
            (2, [COMPRESSED, TOO_LONG]),
            (4, [INVALID, CUT_OFF]),
            (129, [BEYOND; 2]),
            (i32::MAX, [BEYOND; 2]),
        ] {
            let sql = format!("UPDATE tenancy.event_batch SET events = {events} WHERE id = '{}'", batch.row.id);
            let found = found_after(&superuser, &sql).await;
            let named = explanations.map(|explanation| altered(&batch, explanation));
            assert!(found.len() == 1 && named.contains(&found[0]), "{events}: {found:?}");
        }
    });
}

#[test]
fn events_that_were_moved_between_the_two_forms_are_named() {
    in_database(async |database| {
        let superuser = record(database).await;
        // The root over one event is its digest, so the hash stays what it was.
        let mut one = batch_with(&superuser, 401).await;
        repack(&mut one, |_| ());
        assert_eq!(one.row.events, 1);
        (one.row.row_key, one.row.payload, one.row.payload_salt, one.row.payload_digest) = (None, None, None, None);
        begin(&superuser).await;
        write(&superuser, &one).await;
        assert_eq!(taken_back(&superuser).await, [altered(&one, COLUMNS)]);
        // Beside the columns.
        let mut both = batch_with(&superuser, 401).await;
        both.row.packed = one.row.packed.clone();
        begin(&superuser).await;
        write(&superuser, &both).await;
        assert_eq!(taken_back(&superuser).await, [altered(&both, COLUMNS)]);
        // The first of several, alone in the columns, with the hash over it.
        let mut several = batch_with(&superuser, 331).await;
        let of_one = batch_with(&superuser, 402).await.row;
        several.row.events = 1;
        several.row.packed = None;
        (several.row.row_key, several.row.payload) = (of_one.row_key, of_one.payload);
        (several.row.payload_salt, several.row.payload_digest) = (of_one.payload_salt, of_one.payload_digest);
        several.row.hash = several.rehash(&several.row.previous);
        begin(&superuser).await;
        write(&superuser, &several).await;
        let found = taken_back(&superuser).await;
        let rewritten = "the batch was rewritten together with its hash after it was sealed";
        let position = "position does not follow from the entry before and the events";
        let (id, last) = (Some(several.row.id), Some(several.position));
        assert!(found.contains(&finding("altered", last, id, rewritten)), "{found:?}");
        assert!(!found.iter().any(|line| line.ends_with(position)), "the entry is untouched: {found:?}");
    });
}

#[test]
fn an_event_cut_out_of_a_batch_whose_root_and_hash_were_computed_again_is_named() {
    in_database(async |database| {
        let superuser = record(database).await;
        for row in [201, 331] {
            let mut batch = batch_with(&superuser, row).await;
            let place = first(&batch);
            repack(&mut batch, |events| {
                events.remove(1);
            });
            begin(&superuser).await;
            write(&superuser, &batch).await;
            assert_eq!(taken_back(&superuser).await, [finding("altered", Some(place), Some(batch.row.id), OTHER)]);
            batch.row.hash = batch.rehash(&batch.row.previous);
            begin(&superuser).await;
            write(&superuser, &batch).await;
            let rewritten = "the batch was rewritten together with its hash after it was sealed";
            let expected = finding("altered", Some(batch.position), Some(batch.row.id), rewritten);
            assert_eq!(taken_back(&superuser).await, [expected]);
            // With everything but the links of later batches.
            begin(&superuser).await;
            write(&superuser, &batch).await;
            reseal(&superuser).await;
            let missing = "prev_hash names a batch of the same transaction that is missing";
            let found = taken_back(&superuser).await;
            assert!(found.iter().any(|line| line.starts_with("missing ") && line.ends_with(missing)), "{found:?}");
        }
    });
}

/// Puts a copy of the batch in under another id, with the hash over it.
async fn put_in(client: &Client, batch: &Batch, change: impl FnOnce(&mut Batch)) -> Uuid {
    let mut copy = batches(client).await.into_iter().find(|other| other.row.id == batch.row.id).unwrap();
    copy.row.id = Uuid::from_u128(batch.row.id.as_u128() ^ 0xabc_0000_0000_0000);
    let sql = "INSERT INTO tenancy.event_batch SELECT $2, organization, actor, transaction, ordinal, events,
                      occurred_at, operation, domain, table_schema, table_name, result, reason, row_key, payload,
                      payload_salt, payload_digest, packed, row_hashes, encoding, prev_hash, hash
                 FROM tenancy.event_batch WHERE id = $1";
    assert_eq!(client.execute(sql, &[&batch.row.id, &copy.row.id]).await.unwrap(), 1);
    change(&mut copy);
    copy.row.hash = copy.rehash(&copy.row.previous);
    write(client, &copy).await;
    copy.row.id
}

#[test]
fn a_copy_of_a_batch_is_named_with_and_without_an_entry() {
    in_database(async |database| {
        let superuser = record(database).await;
        let unsealed =
            "the batch has no entry in tenancy.seal, although its transaction had ended when the block was made";
        for row in [201, 331, 401] {
            let batch = batch_with(&superuser, row).await;
            begin(&superuser).await;
            let id = put_in(&superuser, &batch, |_| ()).await;
            run(&superuser, "SET TRANSACTION READ ONLY").await;
            assert_eq!(taken_back(&superuser).await, [finding("inserted", None, Some(id), unsealed)]);
            // In the place of the batch, in its entry.
            begin(&superuser).await;
            let id = put_in(&superuser, &batch, |_| ()).await;
            let sql = format!("UPDATE forged SET batch = '{id}' WHERE batch = '{}'", batch.row.id);
            run(&superuser, &sql).await;
            let rewritten = "the batch was rewritten together with its hash after it was sealed";
            let found = taken_back(&superuser).await;
            assert!(found.contains(&finding("altered", Some(batch.position), Some(id), rewritten)), "{found:?}");
            assert!(found.contains(&finding("inserted", None, Some(batch.row.id), unsealed)), "{found:?}");
        }
    });
}

#[test]
fn two_entries_of_one_place_are_named() {
    in_database(async |database| {
        let superuser = record(database).await;
        let (one, next) = (batch_with(&superuser, 341).await, batch_with(&superuser, 401).await);
        // The position of the batch before it. With all hashes over the entries the number of events still tells.
        let sql = format!("UPDATE forged SET events = events + 1 WHERE batch = '{}'", one.row.id);
        let found = found_after(&superuser, &sql).await;
        let events = "the entry in tenancy.seal has another number of events";
        assert!(found.contains(&finding("altered", Some(first(&one)), Some(one.row.id), events)), "{found:?}");
        let chain = "do not lead to the chain value in tenancy.seal";
        assert!(found.iter().any(|line| line.starts_with("altered - - ") && line.ends_with(chain)), "{found:?}");
        // Two entries of one batch.
        begin(&superuser).await;
        run(
            &superuser,
            &format!(
                "UPDATE forged SET (batch, batch_hash) = ('{0}', (SELECT hash FROM tenancy.event_batch WHERE \
                    id = \
                 '{0}')) WHERE batch = '{1}'",
                one.row.id, next.row.id
            ),
        )
        .await;
        reseal(&superuser).await;
        run(&superuser, "SET TRANSACTION READ ONLY").await;
        let found = taken_back(&superuser).await;
        assert!(found.iter().any(|line| line.starts_with("inserted ") && line.ends_with(TWICE)), "{found:?}");
        assert!(found.iter().any(|line| line.contains(&next.row.id.to_string())), "{found:?}");
    });
}

#[test]
fn an_ordinal_twice_is_named_though_the_sealer_sealed_it() {
    for row in [601, 611] {
        in_database(async |database| {
            let superuser = record(database).await;
            let client = database.application().await;
            as_tenant(&client, &database.token("alice")).await;
            for ids in ["601, 603", "611, 613"] {
                run(
                    &client,
                    &format!(r#"INSERT INTO "Finding" (id, title) SELECT n, 'x' FROM generate_series({ids}) n"#),
                )
                .await;
            }
            run(&client, "COMMIT").await;
            // Before it is sealed. Nobody knows yet which of the two the triggers wrote.
            let sql = format!("SELECT batch::text FROM tenancy.event WHERE row_key ->> 'id' = '{row}'");
            let id: Uuid = value(&superuser, &sql).await.parse().unwrap();
            run(&superuser, "BEGIN").await;
            seal(&superuser).await;
            let batch = batches(&superuser).await.into_iter().find(|batch| batch.row.id == id).unwrap();
            run(&superuser, "ROLLBACK").await;
            assert_eq!(batch.row.ordinal, if row == 601 { 1 } else { 4 });
            let copy = Uuid::from_u128(id.as_u128() ^ 0xabc_0000_0000_0000);
            let sql = "INSERT INTO tenancy.event_batch SELECT $2, organization, actor, transaction, ordinal, events,
                              occurred_at, operation, domain, table_schema, table_name, result, reason, row_key, \
                                  payload,
                              payload_salt, payload_digest, packed, row_hashes, encoding, prev_hash, hash
                         FROM tenancy.event_batch WHERE id = $1";
            superuser.execute(sql, &[&id, &copy]).await.unwrap();
            let mut forged = batch;
            forged.row.id = copy;
            forged.row.hash = forged.rehash(&forged.row.previous);
            write(&superuser, &forged).await;
            seal(&superuser).await;
            let found = found(&superuser).await;
            let twice: Vec<&String> = found
                .iter()
                .filter(|line| line.starts_with("inserted ") && line.ends_with(TWICE))
                .filter(|line| line.contains(&id.to_string()) || line.contains(&copy.to_string()))
                .collect();
            assert_eq!(twice.len(), 1, "{row}: {found:?}");
        });
    }
}

#[test]
fn a_batch_of_another_organization_under_ones_own_id_or_entry_is_named() {
    in_database(async |database| {
        let superuser = record(database).await;
        let (own, other) = (batch_with(&superuser, 331).await, batch_with(&superuser, 501).await);
        assert_ne!(own.organization, other.organization);
        let foreign = "the batch belongs to another organization";
        // Under the own id: its events, and its organization too, with the hash over them.
        let mut copy = batch_with(&superuser, 331).await;
        copy.row.packed = other.row.packed.clone();
        begin(&superuser).await;
        write(&superuser, &copy).await;
        assert_eq!(taken_back(&superuser).await, [altered(&own, OTHER)]);
        copy.row.organization = other.organization;
        copy.row.hash = copy.rehash(&copy.row.previous);
        begin(&superuser).await;
        write(&superuser, &copy).await;
        let found = taken_back(&superuser).await;
        assert!(found.contains(&finding("inserted", Some(first(&own)), Some(own.row.id), foreign)), "{found:?}");
        // With everything that follows but the links.
        begin(&superuser).await;
        write(&superuser, &copy).await;
        reseal(&superuser).await;
        let found = taken_back(&superuser).await;
        assert!(found.contains(&finding("inserted", Some(first(&own)), Some(own.row.id), foreign)), "{found:?}");
        // Under the own entry.
        begin(&superuser).await;
        for sql in [format!(
            "UPDATE forged s SET (batch, batch_hash) = (b.id, b.hash) FROM tenancy.event_batch b
                  WHERE b.id = '{}' AND s.batch = '{}'",
            other.row.id, own.row.id
        )] {
            run(&superuser, &sql).await;
        }
        reseal(&superuser).await;
        run(&superuser, "SET TRANSACTION READ ONLY").await;
        let found = taken_back(&superuser).await;
        assert!(found.contains(&finding("inserted", Some(first(&own)), Some(other.row.id), foreign)), "{found:?}");
        assert!(found.iter().any(|line| line.starts_with("inserted - ") && line.contains(&own.row.id.to_string())));
    });
}

#[test]
fn an_erasure_within_a_batch_that_was_forged_or_undone_is_named_at_its_event() {
    in_database(async |database| {
        let superuser = record(database).await;
        for row in [201, 331] {
            let batch = batch_with(&superuser, row).await;
            let event = |place: u128| Uuid::from_u128(batch.row.id.as_u128() + place);
            let at = |place: i64| Some(first(&batch) + place);
            let erase = async |places: &'static [usize]| {
                let mut erased = batch_with(&superuser, row).await;
                repack(&mut erased, |events| {
                    for place in places {
                        events[*place].content = PackedContent::Erased(events[*place].payload_digest());
                    }
                });
                begin(&superuser).await;
                write(&superuser, &erased).await;
            };
            // Without a row in tenancy.erasure.
            erase(&[2]).await;
            assert_eq!(taken_back(&superuser).await, [finding("altered", at(2), Some(event(2)), ERASED)]);
            // A row that names no event that tells.
            let forged = |place: u128| {
                format!(
                    "INSERT INTO tenancy.erasure SELECT id, organization, now(), payload_digest, 'x', NULL, id
                       FROM tenancy.event WHERE id = '{}'",
                    event(place)
                )
            };
            erase(&[2]).await;
            run(&superuser, &forged(2)).await;
            let undone = finding("inserted", None, Some(event(2)), NOT_ERASED);
            let missing = finding("altered", at(2), Some(event(2)), ERASED);
            assert_eq!(taken_back(&superuser).await, [missing, undone.clone()]);
            assert_eq!(found_after(&superuser, &forged(2)).await, [undone]);
        }
        // A genuine one.
        let batch = batch_with(&superuser, 331).await;
        let event = Uuid::from_u128(batch.row.id.as_u128() + 1);
        run(&superuser, &format!("SELECT tenancy.erase_payload('{event}', 'asked for')")).await;
        seal_all(&superuser).await;
        assert_audit_is_whole(&superuser).await;
        let after = batch_with(&superuser, 331).await;
        assert_ne!(after.row.packed, batch.row.packed);
        assert_eq!(after.row.hash, batch.row.hash);
        let (missing, undone) = (
            finding("altered", Some(first(&batch) + 1), Some(event), ERASED),
            finding("inserted", None, Some(event), NOT_ERASED),
        );
        let gone = found_after(&superuser, &format!("DELETE FROM tenancy.erasure WHERE event = '{event}'")).await;
        assert_eq!(gone, std::slice::from_ref(&missing));
        begin(&superuser).await;
        write(&superuser, &batch).await;
        assert_eq!(taken_back(&superuser).await, std::slice::from_ref(&undone), "the payload is back");
        // Its digest, and another event in the name of the same erasure.
        let mut other = batch_with(&superuser, 331).await;
        repack(&mut other, |events| events[1].content = PackedContent::Erased([7; 32]));
        begin(&superuser).await;
        write(&superuser, &other).await;
        assert_eq!(taken_back(&superuser).await, [missing, undone]);
        let mut more = batch_with(&superuser, 331).await;
        repack(&mut more, |events| events[2].content = PackedContent::Erased(events[2].payload_digest()));
        begin(&superuser).await;
        write(&superuser, &more).await;
        let third = Uuid::from_u128(batch.row.id.as_u128() + 2);
        assert_eq!(taken_back(&superuser).await, [finding("altered", Some(first(&batch) + 2), Some(third), ERASED)]);
    });
}

#[test]
fn the_newest_batches_of_an_organization_removed_with_all_of_its_rows_are_missed_by_their_block() {
    in_database(async |database| {
        let superuser = record(database).await;
        for whole in [false, true] {
            begin(&superuser).await;
            // What belongs to the organization, of its newest block or of all.
            let newest = format!("(SELECT max(block) FROM tenancy.seal WHERE organization = '{GLOBEX}')");
            let from = if whole { "0".to_owned() } else { newest };
            run(&superuser, &format!("CREATE TEMP TABLE cut ON COMMIT DROP AS SELECT {from} AS block")).await;
            let of = format!("organization = '{GLOBEX}' AND block >= (SELECT block FROM cut)");
            for sql in [
                format!("DELETE FROM tenancy.event_batch WHERE id IN (SELECT batch FROM tenancy.entry WHERE {of})"),
                format!("DELETE FROM tenancy.seal WHERE {of}"),
                format!("DELETE FROM tenancy.tree_node WHERE organization = '{GLOBEX}'"),
            ] {
                run(&superuser, &sql).await;
            }
            run(&superuser, "DELETE FROM tenancy.verification; SET TRANSACTION READ ONLY").await;
            let found = taken_back(&superuser).await;
            let by_block = |line: &String| line.contains(" of block ") && line.ends_with(" are gone from tenancy.seal");
            assert!(!found.is_empty() && found.iter().all(by_block), "{found:?}");
        }
    });
}

#[test]
fn a_batch_deleted_or_changed_before_its_seal_within_a_transaction_is_missed_by_its_link() {
    for change in [false, true] {
        in_database(async |database| {
            let superuser = record(database).await;
            let client = database.application().await;
            as_tenant(&client, &database.token("alice")).await;
            for ids in ["601, 603", "611, 613", "621, 623"] {
                run(
                    &client,
                    &format!(r#"INSERT INTO "Finding" (id, title) SELECT n, 'x' FROM generate_series({ids}) n"#),
                )
                .await;
            }
            run(&client, "COMMIT").await;
            let middle = "SELECT batch::text FROM tenancy.event WHERE row_key ->> 'id' = '611'";
            let id: Uuid = value(&superuser, middle).await.parse().unwrap();
            if change {
                run(&superuser, "BEGIN").await;
                seal(&superuser).await;
                let mut batch = batches(&superuser).await.into_iter().find(|batch| batch.row.id == id).unwrap();
                run(&superuser, "ROLLBACK").await;
                repack(&mut batch, |events| events[1].row_key = Some("{\"id\":999}"));
                batch.row.hash = batch.rehash(&batch.row.previous);
                write(&superuser, &batch).await;
            } else {
                run(&superuser, &format!("DELETE FROM tenancy.event_batch WHERE id = '{id}'")).await;
            }
            seal_all(&superuser).await;
            let found = found(&superuser).await;
            let missing = "prev_hash names a batch of the same transaction that is missing";
            let last = value(&superuser, "SELECT batch FROM tenancy.event WHERE row_key ->> 'id' = '621'").await;
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with("missing ") && found[0].ends_with(missing), "{found:?}");
            assert!(found[0].contains(&last), "{found:?}");
        });
    }
}

#[test]
fn the_newest_entries_of_an_organization_that_is_verified_alone_are_missed_by_its_head() {
    in_database(async |database| {
        let superuser = record(database).await;
        let alone = format!("SELECT finding || ' ' || explanation FROM tenancy.verify_audit('{GLOBEX}', true)");
        assert_eq!(column(&superuser, &alone).await, Vec::<String>::new());
        begin(&superuser).await;
        let other = batch_with(&superuser, 501).await;
        run(&superuser, &format!("DELETE FROM tenancy.event_batch WHERE id = '{}'", other.row.id)).await;
        run(&superuser, &format!("DELETE FROM forged WHERE batch = '{}'", other.row.id)).await;
        // Else the last verification would tell as well.
        run(&superuser, "DELETE FROM tenancy.verification; SET TRANSACTION READ ONLY").await;
        let found = column(&superuser, &alone).await;
        run(&superuser, "ROLLBACK").await;
        assert!(found.len() == 1 && found[0].contains(" gone from tenancy.seal"), "{found:?}");
    });
}
