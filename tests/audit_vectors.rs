//! The audit's hashes against `audit_vectors/vectors.json`, which an independent program
//! (`audit_vectors/check.py`) computes from `docs/audit-format.md`.

use pg_tenancy_core::audit::export::evidence::Evidence;
use pg_tenancy_core::audit::format::commitment::{ColumnPath, CommitmentKey};
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::event::{Actor, Header, payload_digest};
use pg_tenancy_core::audit::log::block::{self, Block, Entries};
use pg_tenancy_core::audit::log::chain;
use pg_tenancy_core::audit::log::chain::Entry;
use pg_tenancy_core::audit::log::checkpoint::{self, Head};
use serde_json::Value;
use uuid::Uuid;

fn optional(value: &Value) -> Option<&str> {
    assert!(value.is_string() || value.is_null(), "{value}");
    value.as_str()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn owned(value: &Value) -> Option<String> {
    optional(value).map(str::to_owned)
}

fn id(value: &Value) -> Uuid {
    text(value).parse().unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = text(value);
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn digest(value: &Value) -> Digest {
    bytes(value).try_into().unwrap()
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
    }
    .digest()
}

fn event(row: &Value) -> Digest {
    Header {
        id: id(&row["id"]),
        organization: id(&row["organization"]),
        actor: id(&row["actor"]),
        actor_digest: &digest(&row["actor_digest"]),
        transaction: row["transaction"].as_u64().unwrap(),
        ordinal: row["ordinal"].as_i64().unwrap().try_into().unwrap(),
        occurred_at: row["occurred_at"].as_i64().unwrap(),
        operation: text(&row["operation"]),
        domain: text(&row["domain"]),
        table_schema: optional(&row["table_schema"]),
        table_name: optional(&row["table_name"]),
        row_key: optional(&row["row_key"]),
        result: text(&row["result"]),
        reason: optional(&row["reason"]),
    }
    .hash(&digest(&row["payload_digest"]), &digest(&row["prev_hash"]))
}

fn entries(list: &Value) -> Digest {
    let mut all = Entries::default();
    for row in list.as_array().unwrap() {
        let entry = Entry {
            position: row["position"].as_i64().unwrap(),
            event: id(&row["event"]),
            event_hash: digest(&row["event_hash"]),
            chain: digest(&row["chain"]),
            block: 1,
        };
        all.add(id(&row["organization"]), &entry);
    }
    all.digest()
}

fn block(row: &Value) -> Block {
    Block {
        number: row["number"].as_i64().unwrap(),
        sealed_at: row["sealed_at"].as_i64().unwrap(),
        snapshot: text(&row["snapshot"]).to_owned(),
        incarnation: text(&row["incarnation"]).to_owned(),
        events: row["events"].as_i64().unwrap(),
        entries_digest: digest(&row["entries_digest"]),
        previous: digest(&row["prev_hash"]),
    }
}

fn head(row: &Value) -> Head {
    Head {
        organization: id(&row["organization"]),
        position: row["position"].as_i64().unwrap(),
        chain: digest(&row["chain"]),
        root: digest(&row["root"]),
    }
}

fn checkpoint(row: &Value) -> checkpoint::Entry {
    checkpoint::Entry {
        incarnation: text(&row["incarnation"]).to_owned(),
        number: row["number"].as_i64().unwrap(),
        made_at: row["made_at"].as_i64().unwrap(),
        block: row["block"].as_i64().unwrap(),
        block_hash: digest(&row["block_hash"]),
        heads: row["heads"].as_i64().unwrap(),
        heads_root: digest(&row["heads_root"]),
        previous: row["prev_digest"].as_str().map(|_| digest(&row["prev_digest"])),
    }
}

#[test]
fn every_hash_is_the_one_that_an_independent_program_computes_from_the_documentation() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("audit_vectors/vectors.json")).unwrap();
    assert!(vectors.len() >= 16);
    for vector in &vectors {
        let ours = match text(&vector["kind"]) {
            "actor" => actor(&vector["actor"]),
            "payload" => payload_digest(&bytes(&vector["salt"]), text(&vector["payload"])),
            "event" => event(&vector["event"]),
            "genesis" => chain::genesis(id(&vector["organization"])),
            "chain" => {
                let position = vector["position"].as_i64().unwrap();
                chain::extend(&digest(&vector["head"]), position, &digest(&vector["event_hash"]))
            }
            "origin" => block::origin(),
            "entries" => entries(&vector["entries"]),
            "block" => block(&vector["block"]).hash(),
            "head" => head(&vector["head"]).digest(),
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
