#!/usr/bin/env python3
"""Checks checkpoints from docs/audit-format.md alone, with nothing but Python's standard library.

Reads JSON from standard input (tests/checkpoint.rs has its query): public keys, checkpoints, heads, batches with their
entries and actors, and proofs that the extension's functions gave. Recomputes every hash from the stored events, every
chain from its genesis and every tree from its leaves, by the definition of RFC 6962, and verifies signatures (RFC
8032) and proofs (RFC 9162). Exit status 1 and a line that says what is wrong.
"""

import base64
import hashlib
import json
import sys
import uuid

import check
from check import leaf_hash as leaf, node_hash as node, sha256

# Ed25519, RFC 8032 section 5.1 ---------------------------------------------------------------------------------------

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def recover_x(y, sign):
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P != 0:
        x = x * ROOT_OF_MINUS_ONE % P
    if y >= P or (x * x - square) % P != 0 or (x == 0 and sign):
        return None
    return x if x & 1 == sign else P - x


def point(encoded):
    number = int.from_bytes(encoded, "little")
    y, sign = number & (2**255 - 1), number >> 255
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


def add(a, b):
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    c, d = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = f - e, d - c, d + c, f + e
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def multiply(scalar, a):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = add(result, a)
        a, scalar = add(a, a), scalar >> 1
    return result


BASE_Y = 4 * pow(5, -1, P) % P
BASE = (recover_x(BASE_Y, 0), BASE_Y, 1, recover_x(BASE_Y, 0) * BASE_Y % P)


def signed(public, message, signature):
    key, r = point(public), point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or key is None or r is None or s >= ORDER:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    left, right = multiply(s, BASE), add(r, multiply(h, key))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# Trees, RFC 6962 section 2.1 and RFC 9162 section 2.1 ------------------------------------------------------------------


def largest_power_below(size):
    return 1 << ((size - 1).bit_length() - 1)


class Tree:
    """A tree by its definition; what was computed of it is kept."""

    def __init__(self, leaves):
        self.leaves, self.known = leaves, {}

    def root(self, size=None, start=0):
        size = len(self.leaves) if size is None else size
        if size == 0:
            return sha256(b"")
        if size == 1:
            return self.leaves[start]
        if (start, size) not in self.known:
            k = largest_power_below(size)
            self.known[start, size] = node(self.root(k, start), self.root(size - k, start + k))
        return self.known[start, size]


def included(hashed, index, size, proof, root):
    """RFC 9162 section 2.1.3.2, word for word."""
    if index >= size:
        return False
    fn, sn, r = index, size - 1, hashed
    for p in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = node(p, r)
            while not fn & 1 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node(r, p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root


def consistent(first, second, proof, first_root, second_root):
    """RFC 9162 section 2.1.4.2, word for word, and its trivial cases."""
    if first == second:
        return not proof and first_root == second_root
    if first & (first - 1) == 0:
        proof = [first_root] + proof
    if not proof:
        return False
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = proof[0]
    for c in proof[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node(c, fr), node(c, sr)
            while not fn & 1 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == first_root and sr == second_root


# Notes, c2sp.org/signed-note and c2sp.org/tlog-checkpoint --------------------------------------------------------------


def public_key(text):
    name, key_id, key = text.split("+", 2)
    raw = base64.b64decode(key)
    demand(raw[0] == 1 and len(raw) == 33, f"{name} is no Ed25519 key")
    demand(sha256(name.encode() + b"\n" + raw)[:4].hex() == key_id, f"the id of key {name} is not that of the key")
    return name, bytes.fromhex(key_id), raw[1:]


def signers(note, keys):
    """The epochs of the keys that signed the note, and its text. A wrong signature of a known key is an error."""
    text, _, lines = note.partition("\n\n")
    text += "\n"
    found = set()
    for line in lines.splitlines():
        dash, name, signature = line.split(" ")
        demand(dash == "\u2014", "a line of the note is no signature")
        signature = base64.b64decode(signature)
        for epoch, key in keys.items():
            if (name, signature[:4]) == key[:2]:
                demand(signed(key[2], text.encode(), signature[4:]), f"the signature of epoch {epoch} is wrong")
                found.add(epoch)
    return text, found


# What is checked -------------------------------------------------------------------------------------------------------


def demand(good, otherwise):
    if not good:
        sys.exit(otherwise)


def hashes(proof):
    return [bytes.fromhex(text.removeprefix("\\x")) for text in proof]


def batch_events(row):
    """The events of a row of tenancy.event_batch."""
    if row["packed"] is not None:
        return check.unpack(bytes.fromhex(row["packed"]), row["events"], row["occurred_at"])
    event = {"occurred_at": row["occurred_at"], "row_key": row["row_key"]}
    if row["payload"] is None:
        return [event | {"payload_digest": row["payload_digest"]}]
    return [event | {"payload": row["payload"], "salt": row["payload_salt"]}]


def check_batches(state):
    """Each batch has the hash of its entry, and entries make chains; returns the digests of events, and the entries."""
    actors = {row["id"]: sha256(check.actor({"actor": row})).hex() for row in state["actors"]}
    digests, heads = {}, {}
    for row in state["batches"]:
        what = f"batch {row['id']}"
        try:
            events = batch_events(row)
        except check.Malformed as error:
            sys.exit(f"{what} cannot be read: {error}")
        demand(len(events) == row["events"] and events[0]["occurred_at"] == row["occurred_at"], f"{what} differs")
        digests[row["id"]] = check.event_digests(events)
        root = check.merkle_root(digests[row["id"]]).hex()
        header = row | {"actor_digest": actors[row["actor"]], "root": root}
        demand(row["hash"] == sha256(check.batch({"batch": header})).hex(), f"{what} has another hash")
    hashes_of = {row["id"]: (row["hash"], row["events"]) for row in state["batches"]}
    entries = []
    for row in sorted(state["heads"], key=lambda row: row["leaves"]):
        organization, what = row["organization"], f"the row of block {row['block']} of {row['organization']}"
        genesis = sha256(check.genesis({"organization": organization})).hex()
        number, position, chain = heads.get(organization, (0, 0, genesis))
        computed = check.seal({"seal": row, "chain_before": chain})
        demand(computed["seal"]["chain"] == row["chain"], f"{what} does not continue the chain")
        for entry in computed["entries"]:
            number, position = number + 1, position + entry["events"]
            demand((entry["leaf"], entry["position"]) == (number, position), f"{what} has another place")
            of_batch = (entry["batch_hash"], entry["events"])
            demand(of_batch == hashes_of[entry["batch"]], f"{what} has another batch")
            entries.append(entry | {"organization": organization})
        heads[organization] = (row["leaves"], row["position"], row["chain"])
        demand(heads[organization][:2] == (number, position), f"{what} ends at another place")
    return digests, entries


def head_digest(row, root):
    return sha256(check.head({"head": row | {"root": root.hex()}}))


def heads_at(state, trees, block):
    newest, first = {}, {}
    for head in state["heads"]:
        first[head["organization"]] = min(head["block"], first.get(head["organization"], head["block"]))
        known = newest.get(head["organization"])
        if head["block"] <= block and (known is None or known["block"] < head["block"]):
            newest[head["organization"]] = head
    place = lambda head: (first[head["organization"]], uuid.UUID(head["organization"]).bytes)
    ordered = sorted(newest.values(), key=place)
    digests = {
        head["organization"]: head_digest(head, trees[head["organization"]].root(head["leaves"])) for head in ordered
    }
    return {head["organization"]: (head["position"], head["leaves"]) for head in ordered}, digests


def in_use(key, order, place):
    """Whether a key signs the checkpoint at this place in `order`, by its first and last one."""
    first = order.index((key["first_incarnation"], key["first_checkpoint"]))
    last = len(order) if key["last_checkpoint"] is None else order.index((key["last_incarnation"], key["last_checkpoint"]))
    return first <= place <= last


def check_checkpoints(state, trees, logs):
    keys = {key["epoch"]: public_key(key["public_key"]) for key in state["keys"]}
    order = [(row["incarnation"], row["number"]) for row in state["checkpoints"]]
    previous = None
    for place, row in enumerate(state["checkpoints"]):
        what = f"checkpoint {row['number']} of {row['incarnation']}"
        places, digests = heads_at(state, trees, row["block"])
        demand(row["heads"] == len(digests), f"{what} counts other heads")
        heads = Tree([leaf(digest) for digest in digests.values()])
        demand(row["heads_root"] == heads.root().hex(), f"{what} has another root of the heads")
        demand(row["prev_digest"] == previous, f"{what} does not follow the one before")
        digest = sha256(check.checkpoint({"checkpoint": row}))
        demand(row["digest"] == digest.hex(), f"{what} has another digest")
        log = logs.setdefault(row["incarnation"], [])
        log.append(leaf(digest))
        demand(len(log) == row["number"], f"{what} is not the next one")
        root = Tree(log).root()
        demand(row["root"] == root.hex(), f"{what} has another root")
        text, found = signers(row["note"], keys)
        expected = {key["epoch"] for key in state["keys"] if in_use(key, order, place)}
        demand(found == expected, f"{what} is signed by the keys {found}, not {expected}")
        origin, size, signed_root = text.split("\n")[:3]
        demand(origin.endswith("/" + row["incarnation"]), f"{what} has another origin")
        demand((size, signed_root) == (str(row["number"]), base64.b64encode(root).decode()), f"{what} has another text")
        previous = row["digest"]
        for proof in state["head_proofs"] or []:
            if (proof["incarnation"], proof["number"]) == order[place]:
                organization = proof["organization"]
                stated = (proof["position"], proof["leaves"])
                demand(stated == places[organization], f"{what}: another place is proved")
                good = included(
                    leaf(digests[organization]), proof["place"] - 1, row["heads"], hashes(proof["proof"]), heads.root()
                )
                demand(good, f"{what}: the proof of a head is wrong")


def check_proofs(state, digests, entries, trees, logs):
    ends = {seal["batch"]: (seal["leaf"], seal["position"]) for seal in entries}
    for proof in state["event_proofs"] or []:
        leaves, place = digests[proof["batch"]], proof["place"] - 1
        what = f"event {place} of batch {proof['batch']}"
        stated = (proof["leaf"], proof["position"] - proof["place"] + proof["events"])
        demand(stated == ends[proof["batch"]] and proof["events"] == len(leaves), f"{what} has another place")
        demand(leaf(bytes.fromhex(proof["data"])) == leaves[place], f"{what} has other data")
        root = bytes.fromhex(proof["root"])
        good = included(leaves[place], place, len(leaves), hashes(proof["proof"]), root)
        demand(good and root == check.merkle_root(leaves), f"{what} is not proved")
    logs = {name: Tree(leaves) for name, leaves in logs.items()}
    for proof in state["inclusion_proofs"] or []:
        tree, index, size = trees[proof["organization"]], proof["leaf"] - 1, proof["size"]
        good = included(tree.leaves[index], index, size, hashes(proof["proof"]), tree.root(size))
        demand(good, f"inclusion of {index} in {size} is not proved")
    for proof in state["log_inclusion_proofs"] or []:
        tree, index, size = logs[proof["incarnation"]], proof["number"] - 1, proof["size"]
        good = included(tree.leaves[index], index, size, hashes(proof["proof"]), tree.root(size))
        demand(good, f"inclusion of checkpoint {index + 1} in {size} is not proved")
    for list_name, of in [("consistency_proofs", trees), ("log_consistency_proofs", logs)]:
        for proof in state[list_name] or []:
            tree, old, new = of[proof.get("organization") or proof["incarnation"]], proof["old"], proof["new"]
            good = consistent(old, new, hashes(proof["proof"]), tree.root(old), tree.root(new))
            demand(good, f"{list_name}: {old} to {new} is not proved")


def main():
    state = json.load(sys.stdin)
    (digests, entries), leaves = check_batches(state), {}
    for seal in entries:
        leaves.setdefault(seal["organization"], []).append(
            check.batch_leaf(seal["position"], bytes.fromhex(seal["batch_hash"]))
        )
    trees, logs = {organization: Tree(hashed) for organization, hashed in leaves.items()}, {}
    check_checkpoints(state, trees, logs)
    check_proofs(state, digests, entries, trees, logs)
    proofs = sum(len(state[name] or []) for name in state if name.endswith("_proofs"))
    print(f"{len(state['batches'])} batches, {len(state['checkpoints'])} checkpoints, {len(state['keys'])} keys, {proofs} proofs")


if __name__ == "__main__":
    main()
