//! Sealed values and wrapped keys against `secret_vectors/vectors.json`, which an independent program
//! (`secret_vectors/check.py`) writes and reads by `docs/secret-format.md`.

use pg_tenancy_core::audit::format::hex;
use pg_tenancy_core::secrets::delivery::{Delivery, Submission, accept, deliver, public_key, receive, submit};
use pg_tenancy_core::secrets::envelope::{NotOpened, SecretPlace, fingerprint, open, seal_with, unwrap, wrap_with};
use pg_tenancy_core::secrets::key::{DataKey, KeyId, SecretKey};
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Stdio};
use uuid::Uuid;

use crate::audit_vectors::{bytes, id, text};
use crate::common::python;

fn vectors() -> Value {
    serde_json::from_str(include_str!("secret_vectors/vectors.json")).unwrap()
}

fn key(value: &Value) -> SecretKey {
    SecretKey::new(&bytes(value).try_into().unwrap())
}

fn data_key(vector: &Value) -> DataKey {
    DataKey { id: id(&vector["data_key"]), organization: id(&vector["organization"]), key: key(&vector["key"]) }
}

fn place(vector: &Value) -> SecretPlace<'_> {
    SecretPlace {
        secret: id(&vector["secret"]),
        name: text(&vector["name"]),
        version: vector["version"].as_i64().unwrap().try_into().unwrap(),
        kind: text(&vector["kind"]),
        scope: text(&vector["scope"]),
    }
}

fn why(not_opened: NotOpened) -> &'static str {
    match not_opened {
        NotOpened::Malformed => "malformed",
        NotOpened::OtherKey => "other key",
        NotOpened::NotCommitted => "not committed",
        NotOpened::Altered => "altered",
    }
}

/// What opens, and the envelope that the same salt gives for it.
fn opened(vector: &Value) -> Result<(Vec<u8>, Vec<u8>), NotOpened> {
    let envelope = bytes(&vector["envelope"]);
    let salt = || envelope[18..50].try_into().unwrap();
    if vector["what"] == "value" {
        let value = open(&data_key(vector), &place(vector), &envelope)?.value().to_vec();
        let again = seal_with(&data_key(vector), &place(vector), &value, salt()).unwrap();
        return Ok((value, again));
    }
    let key_id = KeyId::parse(text(&vector["key_encryption_key"])).ok_or(NotOpened::NotCommitted)?;
    let ring_key = key(&vector["key"]);
    let opened = unwrap(&ring_key, &key_id, id(&vector["organization"]), id(&vector["data_key"]), &envelope)?;
    Ok((opened.key.bytes().to_vec(), wrap_with(&ring_key, &key_id, &opened, salt()).unwrap()))
}

#[test]
fn every_vector_opens_or_is_refused_as_the_other_program_says() {
    let vectors = vectors();
    let sealed = vectors["sealed"].as_array().unwrap();
    let mut good = 0;
    for vector in sealed {
        match opened(vector) {
            Ok((value, again)) => {
                good += 1;
                assert_eq!(hex::encode(&value), vector["outcome"], "{}", vector["comment"]);
                assert_eq!(hex::encode(&again), vector["envelope"], "{}", vector["comment"]);
            }
            Err(not_opened) => assert_eq!(why(not_opened), vector["outcome"], "{}", vector["comment"]),
        }
    }
    assert!(good >= 30 && sealed.len() - good >= 60, "{good} of {}", sealed.len());
}

#[test]
fn fingerprints_are_those_of_the_other_program() {
    for vector in vectors()["fingerprints"].as_array().unwrap() {
        let print = fingerprint(&key(&vector["key"]), id(&vector["organization"]), &bytes(&vector["value"]));
        assert_eq!(hex::encode(&print), vector["fingerprint"]);
    }
}

/// The script beside the vectors, to be run; `None` where its package is not installed.
fn script() -> Option<Command> {
    let mut script = Command::new(python()?);
    script.arg("-B").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/secret_vectors/check.py"));
    Some(script)
}

#[test]
fn the_other_program_reads_and_writes_the_same() {
    let Some(mut script) = script() else { return };
    let checked = script.output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn messages_are_exchanged_with_the_other_program() {
    let Some(mut script) = script() else { return };
    let (organization, name) = (Uuid::from_u128(7), "aws \"Prüfung\"");
    let delivery = Delivery { organization, name, version: 3, purpose: "nightly import" };
    let submission = Submission { organization, name };
    let mut sent = Vec::new();
    for number in 0..20 {
        let key = SecretKey::generate();
        let value: Vec<u8> = (0..number * 97).map(|byte| byte as u8).collect();
        let recipient = public_key(&key).unwrap();
        let deliver_it = number % 2 == 0;
        let message =
            if deliver_it { deliver(&recipient, &delivery, &value) } else { submit(&recipient, &submission, &value) };
        let line = json!({
            "what": if deliver_it { "delivery" } else { "submission" }, "key": hex::encode(key.bytes()),
            "organization": organization, "name": name, "version": 3, "purpose": "nightly import",
            "message": hex::encode(&message.unwrap()),
        });
        sent.push((key, value, recipient, deliver_it, line));
    }
    let mut running = script.arg("--exchange").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = running.stdin.take().unwrap();
    sent.iter().for_each(|(.., line)| writeln!(input, "{line}").unwrap());
    drop(input);
    let answered = running.wait_with_output().unwrap();
    let answers = String::from_utf8(answered.stdout).unwrap();
    assert_eq!(answers.lines().count(), sent.len());
    for (line, (key, value, recipient, delivered, _)) in answers.lines().zip(sent) {
        let answer: Value = serde_json::from_str(line).unwrap();
        assert_eq!(answer["value"], hex::encode(&value));
        assert_eq!(answer["public_key"], hex::encode(&recipient));
        let message = bytes(&answer["message"]);
        let opened = if delivered { receive(&key, &delivery, &message) } else { accept(&key, &submission, &message) };
        assert_eq!(opened.unwrap()[..], value);
    }
}
