//! The audit's hashes against `audit_vectors/vectors.json`, which an independent program
//! (`audit_vectors/check.py`) computes from `docs/audit-format.md`.

use pg_tenancy_core::audit::export::evidence::Evidence;
use pg_tenancy_core::audit::format::batch::{Malformed, Packed, PackedContent, PackedEvent, pack};
use pg_tenancy_core::audit::format::commitment::{ColumnPath, CommitmentKey};
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::event::{
    Actor, Header, batch_of, event_digest, event_id, payload_digest, place_of,
};
use pg_tenancy_core::audit::format::hex;
use pg_tenancy_core::audit::log::block::{self, Block, Heads};
use pg_tenancy_core::audit::log::chain;
use pg_tenancy_core::audit::log::checkpoint::{self, Head};
use pg_tenancy_core::audit::log::entries::{self, EntriesDigest, Entry};
use pg_tenancy_core::audit::log::merkle;
use serde_json::Value;
use uuid::Uuid;

fn optional(value: &Value) -> Option<&str> {
    assert!(value.is_string() || value.is_null(), "{value}");
    value.as_str()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn owned(value: &Value) -> Option<String> {
    optional(value).map(str::to_owned)
}

pub fn id(value: &Value) -> Uuid {
    text(value).parse().unwrap()
}

pub fn bytes(value: &Value) -> Vec<u8> {
    let text = text(value);
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn digest(value: &Value) -> Digest {
    bytes(value).try_into().unwrap()
}

fn digests(list: &Value) -> Vec<Digest> {
    list.as_array().unwrap().iter().map(digest).collect()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

fn small(value: &Value) -> i32 {
    number(value).try_into().unwrap()
}

fn actor(row: &Value) -> Digest {
    Actor {
        id: id(&row["id"]),
        method: text(&row["method"]).to_owned(),
        subject: owned(&row["subject"]),
        issuer: owned(&row["issuer"]),
        role: owned(&row["role"]),
        organization: optional(&row["organization"]).map(|text| text.parse().unwrap()),
        session_id: owned(&row["session_id"]),
        correlation_id: owned(&row["correlation_id"]),
        reason: owned(&row["reason"]),
        session_user: text(&row["session_user_name"]).to_owned(),
        current_user: text(&row["current_user_name"]).to_owned(),
        client_address: owned(&row["client_address"]),
        application_name: owned(&row["application_name"]),
        grant: row.get("grant_id").map(id),
    }
    .digest()
}

fn event(row: &Value) -> Digest {
    let payload_digest = digest(&row["payload_digest"]);
    event_digest(number(&row["occurred_at"]), optional(&row["row_key"]), &payload_digest)
}

fn batch(row: &Value, root: &Digest) -> Digest {
    Header {
        id: id(&row["id"]),
        organization: id(&row["organization"]),
        actor: id(&row["actor"]),
        actor_digest: &digest(&row["actor_digest"]),
        transaction: row["transaction"].as_u64().unwrap(),
        ordinal: small(&row["ordinal"]),
        events: small(&row["events"]),
        operation: text(&row["operation"]),
        domain: text(&row["domain"]),
        table_schema: optional(&row["table_schema"]),
        table_name: optional(&row["table_name"]),
        result: text(&row["result"]),
        reason: optional(&row["reason"]),
    }
    .hash(root, &digest(&row["prev_hash"]))
}

fn packed_event(row: &Value) -> PackedEvent<'_> {
    let content = match row.get("payload_digest") {
        Some(erased) => PackedContent::Erased(digest(erased)),
        None => PackedContent::Payload { salt: bytes(&row["salt"]).try_into().unwrap(), text: text(&row["payload"]) },
    };
    PackedEvent { occurred_at: number(&row["occurred_at"]), row_key: optional(&row["row_key"]), content }
}

fn packed_events(vector: &Value) -> Vec<PackedEvent<'_>> {
    vector["events"].as_array().unwrap().iter().map(packed_event).collect()
}

/// Packed events are read as they are listed, and have these digests and this root.
fn assert_packed(vector: &Value) {
    let (events, time, name) = (packed_events(vector), number(&vector["occurred_at"]), text(&vector["name"]));
    let stored = bytes(&vector["packed"]);
    let packed = Packed::open(&stored, events.len() as i32).unwrap();
    assert_eq!(packed.events(time).unwrap(), events, "{name}");
    // Each compressor has its own choice of matches; what is not compressed has one form.
    let again = pack(time, &events);
    assert!(stored[0] == 1 || again == stored, "{name}");
    assert_eq!(Packed::open(&again, events.len() as i32).unwrap().events(time).unwrap(), events, "{name}");
    let own: Vec<Digest> = events.iter().map(PackedEvent::digest).collect();
    assert_eq!(own, digests(&vector["digests"]), "{name}");
    assert_eq!(merkle::root_of(own), digest(&vector["root"]), "{name}");
}

fn refusal(vector: &Value) -> &'static str {
    let (stored, count) = (bytes(&vector["packed"]), small(&vector["count"]));
    match Packed::open(&stored, count).and_then(|packed| packed.events(0).map(|events| events.len())) {
        Ok(events) => panic!("{} gave {events} events", vector["name"]),
        Err(Malformed::CutOff) => "cut off",
        Err(Malformed::TooLong) => "too long",
        Err(Malformed::Beyond) => "beyond",
        Err(Malformed::Compressed) => "compressed",
        Err(Malformed::Invalid) => "invalid",
        Err(Malformed::Columns) => "columns",
    }
}

fn tree(list: &Value) -> Digest {
    let leaf = |row: &Value| chain::leaf(number(&row["position"]), &digest(&row["batch_hash"]));
    merkle::root_of(list.as_array().unwrap().iter().map(leaf))
}

/// An event is proved by its batch, and that by the head of its organization; another event is not.
fn assert_event_proof(vector: &Value) {
    let (row, place) = (&vector["batch"], number(&vector["place"]));
    let event = packed_event(&vector["event"]);
    let (own, root) = (event.digest(), digest(&vector["batch_root"]));
    let later = PackedEvent { occurred_at: event.occurred_at + 1, ..event };
    let (events, path) = (number(&row["events"]) as u64, digests(&vector["batch_path"]));
    let in_batch = |leaf: &Digest, place: i64| merkle::verify_inclusion(leaf, place as u64, events, &path, &root);
    assert_eq!(own, digest(&vector["event_digest"]));
    assert!(in_batch(&own, place) && !in_batch(&own, place + 1) && !in_batch(&later.digest(), place));
    let hash = batch(row, &root);
    assert_eq!(hash, digest(&vector["batch_hash"]));
    let head = head(&vector["head"], &vector["tree_root"]);
    let (leaf, leaves, path) = (number(&vector["leaf"]) as u64 - 1, head.leaves as u64, digests(&vector["tree_path"]));
    let in_tree = |leaf_hash: &Digest| merkle::verify_inclusion(leaf_hash, leaf, leaves, &path, &head.root);
    let position = number(&vector["position"]);
    assert!(in_tree(&chain::leaf(position, &hash)) && !in_tree(&chain::leaf(position - 1, &hash)));
    assert_eq!(position - events as i64 + place + 1, number(&vector["event_position"]));
    assert_eq!(head.digest(), digest(&vector["head_digest"]));
}

fn entry(row: &Value) -> Entry {
    Entry {
        leaf: number(&row["leaf"]),
        position: number(&row["position"]),
        events: row["events"].as_i64().unwrap_or(1),
        batch: id(&row["batch"]),
        batch_hash: digest(&row["batch_hash"]),
        block: 1,
    }
}

fn entries(list: &Value) -> Digest {
    let mut all = EntriesDigest::default();
    list.as_array().unwrap().iter().for_each(|row| all.add(id(&row["organization"]), &entry(row)));
    all.digest()
}

/// A row of the seal has these entries, which lead from the chain value before to that of the row.
fn assert_seal(vector: &Value) {
    let (row, mut chain) = (&vector["seal"], digest(&vector["chain_before"]));
    let (position, leaves) = (number(&row["position"]), number(&row["leaves"]));
    let read: Vec<Entry> = entries::entries(1, position, leaves, &bytes(&row["entries"])).unwrap().collect();
    let expected: Vec<Entry> = vector["entries"].as_array().unwrap().iter().map(entry).collect();
    assert_eq!(read, expected);
    read.iter().for_each(|entry| chain = entry.extend(&chain));
    assert_eq!(chain, digest(&row["chain"]));
    let mut list = Vec::new();
    read.iter().for_each(|entry| entries::put(&mut list, &entry.batch, entry.events, &entry.batch_hash));
    assert_eq!(list, bytes(&row["entries"]));
}

fn heads(list: &Value) -> Digest {
    let mut heads = Heads::default();
    for row in list.as_array().unwrap() {
        let (position, leaves) = (number(&row["position"]), number(&row["leaves"]));
        heads.add(id(&row["organization"]), position, leaves, &digest(&row["chain"]));
    }
    heads.digest()
}

fn block(row: &Value) -> Block {
    Block {
        number: number(&row["number"]),
        sealed_at: number(&row["sealed_at"]),
        snapshot: text(&row["snapshot"]).to_owned(),
        incarnation: text(&row["incarnation"]).to_owned(),
        events: number(&row["events"]),
        heads_digest: digest(&row["heads_digest"]),
        previous: digest(&row["prev_hash"]),
    }
}

fn head(row: &Value, root: &Value) -> Head {
    Head {
        organization: id(&row["organization"]),
        position: number(&row["position"]),
        leaves: number(&row["leaves"]),
        chain: digest(&row["chain"]),
        root: digest(root),
    }
}

fn checkpoint(row: &Value) -> checkpoint::Entry {
    checkpoint::Entry {
        incarnation: text(&row["incarnation"]).to_owned(),
        number: number(&row["number"]),
        made_at: number(&row["made_at"]),
        block: number(&row["block"]),
        block_hash: digest(&row["block_hash"]),
        heads: number(&row["heads"]),
        heads_root: digest(&row["heads_root"]),
        previous: row["prev_digest"].as_str().map(|_| digest(&row["prev_digest"])),
    }
}

#[test]
fn every_hash_is_the_one_that_an_independent_program_computes_from_the_documentation() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("audit_vectors/vectors.json")).unwrap();
    assert!(vectors.len() >= 45);
    for vector in &vectors {
        let ours = match text(&vector["kind"]) {
            "actor" => actor(&vector["actor"]),
            "payload" => payload_digest(&bytes(&vector["salt"]).try_into().unwrap(), text(&vector["payload"])),
            "event" => event(&vector["event"]),
            "batch" => batch(&vector["batch"], &digest(&vector["batch"]["root"])),
            "packed" => {
                assert_packed(vector);
                continue;
            }
            "malformed" => {
                assert_eq!(refusal(vector), text(&vector["refused"]), "{}", vector["name"]);
                continue;
            }
            "tree" => {
                assert_eq!(tree(&vector["batches"]), digest(&vector["root"]), "{}", vector["name"]);
                continue;
            }
            "place" => {
                let (batch, event) = (id(&vector["batch"]), id(&vector["event"]));
                assert_eq!(event_id(batch, small(&vector["place"])), event, "{}", vector["name"]);
                assert_eq!((batch_of(event), place_of(event)), (batch, small(&vector["place"])));
                continue;
            }
            "event_proof" => {
                assert_event_proof(vector);
                continue;
            }
            "genesis" => chain::genesis(id(&vector["organization"])),
            "chain" => {
                let position = number(&vector["position"]);
                chain::extend(&digest(&vector["head"]), position, &digest(&vector["batch_hash"]))
            }
            "origin" => block::origin(),
            "entries" => entries(&vector["entries"]),
            "heads" => heads(&vector["heads"]),
            "seal" => {
                assert_seal(vector);
                continue;
            }
            "block" => block(&vector["block"]).hash(),
            "head" => head(&vector["head"], &vector["head"]["root"]).digest(),
            "checkpoint" => checkpoint(&vector["checkpoint"]).digest(),
            "commitment_key" => {
                let key = CommitmentKey::parse(text(&vector["key"])).unwrap();
                assert_eq!(key.id(), &text(&vector["hmac_sha256"])[..16]);
                continue;
            }
            "commitment" => {
                let key = CommitmentKey::parse(text(&vector["key"])).unwrap();
                let place = &vector["place"];
                let place = ColumnPath {
                    organization: id(&place["organization"]),
                    table_schema: text(&place["table_schema"]),
                    table_name: text(&place["table_name"]),
                    column: text(&place["column"]),
                };
                let commitment = key.commit(&place, text(&vector["value"]).as_bytes());
                assert_eq!(commitment, digest(&vector["hmac_sha256"]), "{}", vector["name"]);
                continue;
            }
            "evidence" => serde_json::from_value::<Evidence>(vector["evidence"].clone()).unwrap().record(),
            kind => panic!("no such kind: {kind}"),
        };
        assert_eq!(ours, digest(&vector["sha256"]), "{}", vector["name"]);
    }
}

/// For a new vector of the kind `packed`: what the events are packed to.
#[test]
#[ignore = "prints, and checks nothing"]
fn packed_events_of_the_vectors() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("audit_vectors/vectors.json")).unwrap();
    for vector in vectors.iter().filter(|vector| vector["kind"] == "packed") {
        let packed = pack(number(&vector["occurred_at"]), &packed_events(vector));
        println!("{}: {}", text(&vector["name"]), hex::encode(&packed));
    }
}
