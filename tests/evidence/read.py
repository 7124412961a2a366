#!/usr/bin/env python3
"""A second reader of bundles, written from docs/evidence.md and docs/audit-format.md alone.

    read.py BUNDLE KEY       exit status 0 if the bundle is proved by the key

Python's standard library, and `openssl` for Ed25519.
"""

import base64
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import uuid

HERE = pathlib.Path(__file__).parent
SPEC = importlib.util.spec_from_file_location("check", HERE.parent / "audit_vectors" / "check.py")
check = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check)

# RFC 8410 section 4: what stands before the 32 bytes of a public key.
PUBLIC_KEY = bytes.fromhex("302a300506032b6570032100")


def require(condition, what):
    if not condition:
        sys.exit(what)


digest, leaf_hash, node_hash = check.sha256, check.leaf_hash, check.node_hash


def hashes(texts):
    return [bytes.fromhex(text) for text in texts]


def root_from_path(index, size, leaf, path):
    require(0 <= index < size, "a leaf is none of its tree")
    root = check.root_of_path(leaf, index, size, path)
    require(root, "a proof has another length")
    return root


def roots_from_consistency(old, new, proof, old_root, whole=True):
    """RFC 6962 section 2.1.2: the roots of the old and of the new tree."""
    if old == new:
        if whole:
            require(not proof, "a proof is too long")
            return old_root, old_root
        require(len(proof) == 1, "a proof has another length")
        return proof[0], proof[0]
    require(proof, "a proof is too short")
    split = 1
    while split * 2 < new:
        split *= 2
    if old <= split:
        before, after = roots_from_consistency(old, split, proof[:-1], old_root, whole)
        return before, node_hash(after, proof[-1])
    before, after = roots_from_consistency(old - split, new - split, proof[:-1], old_root, False)
    return node_hash(proof[-1], before), node_hash(proof[-1], after)


def fold(subtrees):
    """The root of the perfect subtrees, the largest first."""
    result = subtrees[-1]
    for left in reversed(subtrees[:-1]):
        result = node_hash(left, result)
    return result


class Tree:
    """A tree that grows from its frontier."""

    def __init__(self, size, subtrees):
        self.size, self.subtrees = size, subtrees
        require(len(subtrees) == bin(size).count("1"), "the frontier is of another tree")

    def add(self, leaf):
        size = self.size
        while size % 2:
            leaf, size = node_hash(self.subtrees.pop(), leaf), size // 2
        self.subtrees.append(leaf)
        self.size += 1


def key_bytes(key):
    name, key_id, encoded = key.split("+", 2)
    raw = base64.b64decode(encoded)
    require(raw[0] == 1 and digest(name.encode() + b"\n" + raw)[:4].hex() == key_id, "the key is none")
    return name, bytes.fromhex(key_id), raw[1:]


def signed_by(public, data, signature):
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: pathlib.Path(folder) / name for name in ("key", "data", "signature")}
        for name, content in (("key", PUBLIC_KEY + public), ("data", data), ("signature", signature)):
            paths[name].write_bytes(content)
        command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER", "-inkey", str(paths["key"]),
                   "-in", str(paths["data"]), "-sigfile", str(paths["signature"])]
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def check_note(note, key):
    name, key_id, public = key_bytes(key)
    text, lines = note.rsplit("\n\n", 1)
    for line in lines.splitlines():
        dash, signer, signature = line.split(" ")
        raw = base64.b64decode(signature)
        if dash == "\u2014" and signer == name and raw[:4] == key_id:
            require(signed_by(public, text.encode() + b"\n", raw[4:]), "the signature of the checkpoint is wrong")
            origin, size, root = text.split("\n")[:3]
            return origin, int(size), base64.b64decode(root)
    sys.exit("the checkpoint is not signed by the key")


def check_envelope(envelope, key):
    """DSSE: the statement that the key has signed."""
    kind, payload = envelope["payloadType"], base64.b64decode(envelope["payload"])
    (signature,) = envelope["signatures"]
    require(kind == "application/vnd.in-toto+json" and signature["keyid"] == key, "a statement is signed by another key")
    data = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    require(signed_by(key_bytes(key)[2], data, base64.b64decode(signature["sig"])), "the signature of a statement is wrong")
    return json.loads(payload)


def check_checkpoint(manifest, line, key):
    origin, size, root = check_note(line["note"], key)
    entry = check.record(
        "pg_tenancy/checkpoint/1", line["incarnation"], check.integer(line["number"]), check.integer(line["made_at"]),
        check.integer(line["block"]), bytes.fromhex(line["block_hash"]), check.integer(line["heads"]),
        bytes.fromhex(line["heads_root"]), None if line["previous"] is None else bytes.fromhex(line["previous"]))
    require(size == line["number"], "the note is of another checkpoint")
    require(root_from_path(size - 1, size, leaf_hash(digest(entry)), hashes(line["proof"])) == root,
            "the entry is not in the log")
    require(origin.rsplit("/", 1)[1] == line["incarnation"] == manifest["incarnation"], "another history")
    if line["earlier"]:
        earlier, proof = line["earlier"]["number"], hashes(line["earlier"]["proof"])
        # Without the earlier root the proof can be checked where it tells it: the old tree is no left subtree.
        if proof and earlier & (earlier - 1):
            _, after = roots_from_consistency(earlier, size, proof, None)
            require(after == root, "the proof for the earlier checkpoint is wrong")


def check_head(manifest, checkpoint, head):
    record = check.record("pg_tenancy/head/2", check.identifier(manifest["organization"]), check.integer(head["position"]),
                          check.integer(head["leaves"]), bytes.fromhex(head["chain"]), bytes.fromhex(head["root"]))
    found = root_from_path(head["index"], checkpoint["heads"], leaf_hash(digest(record)), hashes(head["proof"]))
    require(found == bytes.fromhex(checkpoint["heads_root"]), "the head is not in the checkpoint")


def actor_digest(line):
    row = {name: value for name, value in line.items() if name not in ("session_user", "current_user")}
    row["session_user_name"], row["current_user_name"] = line["session_user"], line["current_user"]
    return digest(check.actor({"actor": row}))


def check_batch(line, organization, actors):
    """The hash of a batch, from what it says of itself and of its events."""
    events = line["events"]
    require(1 <= len(events) <= check.MAX_EVENTS, "a batch has too few or too many events")
    require(int(line["id"][-3:], 16) == 0, "the id is none of a batch")
    require(line["encoding"] == 2, "another encoding")
    for event in events:
        require((event["payload"] is None) == (event["salt"] is None), "half of a payload is gone")
        if event["payload"] is not None:
            require(len(bytes.fromhex(event["salt"])) == 16, "a salt has another length")
            require(digest(check.payload(event)).hex() == event["payload_digest"], "a payload is not what was recorded")
    row = dict(line, organization=organization, actor_digest=actors[line["actor"]].hex(), prev_hash=line["previous"],
               events=len(events), root=check.merkle_root(check.event_digests(events)).hex())
    require(digest(check.batch({"batch": row})).hex() == line["hash"], "a batch is not what was recorded")
    return bytes.fromhex(line["hash"])


def check_link(line, before, chains, first):
    """The batch follows the one before in its transaction, or a chain value of before."""
    if line["ordinal"] == 1:
        require(line["previous"] in chains or first > 1, "a batch follows nothing")
    elif before:
        follows = before["ordinal"] + len(before["events"]) == line["ordinal"] and before["hash"] == line["previous"]
        require(follows and before["transaction"] == line["transaction"], "a batch does not follow the one before")
    else:
        require(first > 1 or line["position"] > 1, "a batch follows nothing")


def main(path, key):
    data = pathlib.Path(path).read_bytes()
    require(data.endswith(b"\n"), "cut off")
    raw = data[:-1].split(b"\n")
    lines = [json.loads(line) for line in raw]
    for line, text in zip(lines, raw):
        require(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() == text, "a line has another spelling")
    manifest, checkpoint, head, span = lines[:4]
    require([line["type"] for line in lines[:4]] == ["manifest", "checkpoint", "head", "range"], "a line is missing")
    require(manifest["format"] == "pg_tenancy/bundle/2", "another format")
    check_checkpoint(manifest, checkpoint, key)
    check_head(manifest, checkpoint, head)

    organization, first, last = manifest["organization"], manifest["first"], manifest["last"]
    chain, tree = bytes.fromhex(span["chain"]), Tree(span["leaves"], hashes(span["frontier"]))
    require((first == 1) == (span["leaves"] == 0), "the range contradicts itself")
    if first == 1:
        require(chain == digest(check.genesis({"organization": organization})), "another beginning")
    actors, payloads, events, artifacts, position = {}, {}, 0, 0, first - 1
    registrations, registered, erased, erasures = set(), set(), set(), set()
    batches, before, chains = set(), None, {chain.hex()}
    for line in lines[4:-1]:
        kind = line["type"]
        if kind == "actor":
            actors[line["id"]] = actor_digest(line)
        elif kind == "withheld":
            actors[line["id"]] = bytes.fromhex(line["digest"])
        elif kind in ("batch", "absent"):
            require(line["id"] not in batches, "a batch stands twice")
            batches.add(line["id"])
            if kind == "batch":
                batch_hash, end = check_batch(line, organization, actors), line["position"] + len(line["events"]) - 1
            else:
                batch_hash, end = bytes.fromhex(line["hash"]), line["position"]
            ids = [check.event_id(line["id"], place) for place in range(len(line.get("events", ())))]
            for event_id, event in zip(ids, line.get("events", ())):
                payloads[event_id] = event["payload"]
                if event["payload"] is None:
                    erased.add((event_id, event["payload_digest"]))
                elif line["operation"] == "erase":
                    told = json.loads(event["payload"])["data"]
                    erasures.add((told["event"], told["payload_digest"]))
            if (line.get("operation"), line.get("table_schema"), line.get("table_name")) == ("insert", "tenancy", "evidence"):
                registrations.update(ids)
            leaf = check.batch_leaf(end, batch_hash)
            require(("proof" in line) == ("leaf" in line) != ("chain" in line), "neither a chain value nor a proof, or both")
            if "proof" in line:
                require(end < first or line["position"] > last, "a batch of the range has a proof")
                found = root_from_path(line["leaf"] - 1, head["leaves"], leaf, hashes(line["proof"]))
                require(found.hex() == head["root"], "a batch is not in the history")
                continue
            if kind == "batch":
                require(line["position"] == position + 1, "a position is missing")
                check_link(line, before, chains, first)
                events += len(ids)
            require(position < end <= min(last, position + check.MAX_EVENTS), "a position is missing")
            position, before = end, line if kind == "batch" else None
            chain = digest(check.chain({"head": chain.hex(), "position": end, "batch_hash": batch_hash.hex()}))
            require(chain.hex() == line["chain"], "the chain is broken")
            chains.add(chain.hex())
            tree.add(leaf)
        elif kind == "evidence":
            evidence = line["evidence"]
            record = digest(check.evidence({"evidence": evidence})).hex()
            require(json.loads(payloads[line["registration"]])["new"]["record"] == "\\x" + record, "not what was registered")
            statement = check_envelope(line["envelope"], key)
            require(statement["subject"] == [{"name": evidence["source"], "digest": {"sha256": evidence["digest"]}}]
                    and statement["predicate"]["record"] == record, "a statement says something else")
            registered.add(line["registration"])
            artifacts += 1
        else:
            sys.exit(f"an unknown line: {kind}")
    require(position == last, "positions are missing")
    if tree.size:
        before, after = roots_from_consistency(tree.size, head["leaves"], hashes(span["proof"]), fold(tree.subtrees))
        require(before == fold(tree.subtrees) and after.hex() == head["root"], "not the history that was signed")
    require((last == head["position"]) == (tree.size == head["leaves"]), "another end")
    if last == head["position"]:
        require(chain.hex() == head["chain"], "the chain has another end")
    require(artifacts == manifest["evidence"] and registrations <= registered, "artifacts are missing")

    end = lines[-1]
    require(end["type"] == "end" and end["lines"] == len(lines) - 1, "the end is missing")
    require(digest(data[: len(data) - len(raw[-1]) - 1]).hex() == end["digest"], "the digest is another one")
    statement = check_envelope(end["envelope"], key)
    require(statement["subject"] == [{"name": "bundle", "digest": {"sha256": end["digest"]}}], "the end is of another bundle")
    require(uuid.UUID(statement["predicate"]["organization"]) == uuid.UUID(organization), "another organization")
    require(erased <= erasures, "a payload is gone, and no event tells of it")
    print(f"{events} events, {artifacts} artifacts")


if __name__ == "__main__":
    main(*sys.argv[1:])
