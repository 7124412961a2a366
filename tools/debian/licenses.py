#!/usr/bin/env python3
"""Prints the crates that a package of this workspace is linked with: licences, and the notices that they ask to keep.

licenses.py PACKAGE: in the order of their names; a text that several crates have stands there once.
"""

import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CARGO = os.environ.get("CARGO", "cargo")
FEATURES = {"pg_tenancy": f"pg{os.environ.get('PG', '15')}"}
NOTICE = re.compile(r"^(licen[sc]e|copying|copyright|notice|unlicense)", re.IGNORECASE)


def run(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def linked(package):
    """Names and versions: no build scripts, no macros, no tests."""
    command = [CARGO, "tree", "--quiet", "--locked", "--offline", "--package", package, "--edges", "normal,no-proc-macro",
               "--prefix", "none", "--format", "{p}", "--no-dedupe"]
    if package in FEATURES:
        command += ["--features", FEATURES[package]]
    return {tuple(line.split(" ")[:2]) for line in run(*command).replace(" v", " ").splitlines()}


def notices(folder):
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if NOTICE.match(name) and os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                yield name, "\n".join(line.rstrip() for line in file.read().strip().splitlines())


def main():
    # Crates for other systems were perhaps never downloaded.
    host = re.search(r"^host: (.*)$", run("rustc", "-vV"), re.MULTILINE)[1]
    metadata = json.loads(run(CARGO, "metadata", "--quiet", "--locked", "--offline", "--format-version", "1",
                              "--filter-platform", host, "--features", FEATURES["pg_tenancy"]))
    names = linked(sys.argv[1])
    crates = [crate for crate in metadata["packages"] if (crate["name"], crate["version"]) in names and crate["source"]]
    crates.sort(key=lambda crate: (crate["name"], crate["version"]))
    texts = {}
    for crate in crates:
        folder = os.path.dirname(crate["manifest_path"])
        print(f"{crate['name']} {crate['version']}: {crate['license'] or 'see its notice'}")
        # What AWS-LC itself asks for is in the folder of its sources.
        for place in [folder, os.path.join(folder, "aws-lc")]:
            if os.path.isdir(place):
                for name, text in notices(place):
                    texts.setdefault(text, []).append(f"{crate['name']} {crate['version']}, {name}")
    for text, of in texts.items():
        print("\n" + "-" * 79 + "\n" + "\n".join(of) + "\n\n" + text)


main()
