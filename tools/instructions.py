#!/usr/bin/env python3
"""The parts of tools/instructions.sh that read and write text.

    instructions.py key_set                            prints the key set of the tokens' issuer
    instructions.py statements OPERATIONS              prints the statements for the backend, a line each
    instructions.py print PG PROFILE FILE              prints the figures beside those of FILE
    instructions.py compare PG PROFILE FILE            also fails if FILE does not allow them
    instructions.py record PG PROFILE FILE             writes them into FILE, with the reason in $WHY
"""

import base64
import hashlib
import hmac
import json
import os
import re
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

OPERATIONS = Path(__file__).resolve().parent.parent / "benches" / "instructions" / "operations.txt"
KEY = bytes([42]) * 64
TENANT = "00000000-0000-0000-0000-000000000001"
TOLERANCE = 1.05
HEADING = re.compile(r"\[(.+); x(\d+); /(\d+)\]")
# 15     74,300  SELECT by key, by hand  -- why it grew
LINE = re.compile(r"(\d+) +([\d,]+)  (.+?)(?:  -- (.+))?")


def fail(message):
    sys.exit(f"error: {message}")


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def key_set():
    return json.dumps({"keys": [{"kty": "oct", "kid": "k1", "alg": "HS256", "k": base64url(KEY)}]})


def token(number):
    now = int(time.time())
    header = {"typ": "JWT", "alg": "HS256", "kid": "k1"}
    claims = {
        "iss": "https://idp.example/", "aud": "bench", "sub": "alice", "org_id": TENANT, "iat": now, "exp": now + 3600,
        "email": "alice@acme.example", "sid": "b4d2b0a6-5b5c-4c9e-9a53-2f6b9a1b7c11", "jti": f"{number:06}",
    }
    signed = ".".join(base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    return f"{signed}.{base64url(hmac.new(KEY, signed.encode(), hashlib.sha256).digest())}"


class Step(NamedTuple):
    """A statement; `run` numbers the runs of all operations, and is None where the statement is not counted."""

    statement: str
    operation: str | None = None
    divisor: int = 1
    run: int | None = None


def expand(text):
    """The statements in the order in which they run."""
    known, number = token(0), 0
    operation, lines, times, divisor = None, [], 1, 1

    def spell(statement):
        # Rows of the tenant have keys that end with 01 to 39.
        key = number // 39 * 100 + number % 39 + 1
        statement = re.sub(r"\bNEW_TOKEN\b", lambda _: token(number), statement)
        return re.sub(r"\bKEY\b", str(key), re.sub(r"\bTOKEN\b", known, statement))

    for line in [*text.replace("\\\n", "\\").splitlines(), ""]:
        if line.startswith("#"):
            continue
        if heading := HEADING.fullmatch(line):
            operation, times, divisor = heading[1], int(heading[2]), int(heading[3])
        elif line and operation:
            lines.append(line)
        elif line:
            yield Step(spell(line))
        elif operation:
            for _ in range(times):
                number += 1
                for one in lines:
                    statement = spell(one.removeprefix("- "))
                    yield Step(statement) if one.startswith("- ") else Step(statement, operation, divisor, number)
            operation, lines = None, []


def measured(profile):
    """The instructions of each operation."""
    steps = list(expand(OPERATIONS.read_text()))
    # The first part of the profile is the start of the backend, and the last one, which has no number, its end.
    if (parts := len(list(profile.parent.glob(f"{profile.name}.*")))) != len(steps) + 1:
        fail(f"{len(steps)} statements left {parts} parts of a profile: is ReadyForQuery no function of this Postgres?")
    runs, divisors = {}, {}
    for number, step in enumerate(steps, start=2):
        if step.operation:
            total = re.search(r"^totals: (\d+)$", Path(f"{profile}.{number}").read_text(), re.MULTILINE)
            sums = runs.setdefault(step.operation, {})
            sums[step.run] = sums.get(step.run, 0) + int(total[1])
            divisors[step.operation] = step.divisor
    return {name: round(statistics.median(sums.values()) / divisors[name]) for name, sums in runs.items()}


class Figures:
    """The file: for each version and operation the figures in the order in which they were recorded."""

    def __init__(self, path):
        self.path = path
        text = path.read_text()
        self.head = [line for line in text.splitlines() if line.startswith("#")]
        self.rows = {}
        for line in text.splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            if not (found := LINE.fullmatch(line)):
                fail(f"{path.name}: not a line of this file: {line}")
            version, count, name, why = found.groups()
            self.rows.setdefault((int(version), name), []).append((int(count.replace(",", "")), why))

    def unexplained(self):
        """The lines that are more than the tolerance above the one before, and do not say why."""
        for (version, name), rows in self.rows.items():
            for (before, _), (count, why) in zip(rows, rows[1:]):
                if count > before * TOLERANCE and not why:
                    yield f"{version}, {name}: from {before:,} to {count:,}, and the line does not say why"

    def last(self, version, name):
        return self.rows.get((version, name), [(None, None)])[-1][0]

    def record(self, version, name, count, why):
        rows = self.rows.setdefault((version, name), [])
        if not rows:
            rows.append((count, None))
        elif count > rows[-1][0] * TOLERANCE:
            rows.append((count, why))
        elif count * TOLERANCE < rows[-1][0]:
            # Better than before it grew: what grew no longer matters.
            while len(rows) > 1 and count <= rows[-2][0] * TOLERANCE:
                rows.pop()
            rows[-1] = (count, rows[-1][1] if len(rows) > 1 else None)

    def write(self, order):
        place = {name: number for number, name in enumerate(order)}
        lines = list(self.head)
        version = None
        known = [key for key in self.rows if key[1] in place]
        for key in sorted(known, key=lambda key: (key[0], place[key[1]])):
            if key[0] != version:
                lines.append("")
            version = key[0]
            for count, why in self.rows[key]:
                lines.append(f"{version} {count:>10,}  {key[1]}" + (f"  -- {why}" if why else ""))
        self.path.write_text("\n".join(lines) + "\n")


def show(version, found, figures):
    print(f"{f'instructions of the server, Postgres {version}':<50} {'recorded':>11} {'now':>11} {'change':>8}")
    for name, count in found.items():
        before = figures.last(version, name)
        change = f"{count / before - 1:+.1%}" if before else "new"
        lower = "  lower, not recorded" if before and count * TOLERANCE < before else ""
        print(f"{name:<50} {before or 0:>11,} {count:>11,} {change:>8}{lower}")


def compare(version, found, figures):
    wrong = list(figures.unexplained())
    for name, count in found.items():
        before = figures.last(version, name)
        if before is None:
            wrong.append(f"{version}, {name}: no line")
        elif count > before * TOLERANCE:
            wrong.append(f"{version}, {name}: grown from {before:,} to {count:,} ({count / before - 1:+.1%})")
    wrong += [f"{version}, {name}: no such operation" for of, name in figures.rows if of == version and name not in found]
    if wrong:
        wrong.append("If it is meant to be so: make instructions RECORD=yes WHY='...', which adds a line that says why")
        fail("\n  ".join([f"{figures.path.name} does not allow this:", *wrong]))


def record(version, found, figures, why):
    grown = [name for name, count in found.items() if count > (figures.last(version, name) or count) * TOLERANCE]
    if grown and not why:
        fail("\n  ".join(["say by WHY='...' why these have grown:", *grown]))
    for name, count in found.items():
        figures.record(version, name, count, why)
    figures.write(list(found))


match sys.argv[1:]:
    case ["key_set"]:
        print(key_set())
    case ["statements", operations]:
        print("\n".join(step.statement.replace("\\", "\\\n") for step in expand(Path(operations).read_text())))
    case [("print" | "compare" | "record") as command, version, profile, file]:
        version, found, figures = int(version), measured(Path(profile)), Figures(Path(file))
        show(version, found, figures)
        if command == "compare":
            compare(version, found, figures)
        elif command == "record":
            record(version, found, figures, os.environ.get("WHY"))
    case _:
        fail(__doc__)
