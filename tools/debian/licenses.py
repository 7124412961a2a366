#!/usr/bin/env python3
"""Prints the crates that a package of this workspace is linked with: licences, and the notices that they ask to keep.

licenses.py PACKAGE: in the order of their names. A text that several crates have stands there once.
"""

import glob
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
REGISTRY = os.path.join(os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo"), "registry", "src", "*")
FEATURES = {"pg_tenancy": f"pg{os.environ.get('PG', '15')}"}
NOTICE = re.compile(r"^(licen[sc]e|copying|copyright|notice|unlicense)", re.IGNORECASE)


def linked(package):
    """Name, version and licence of each crate: no build scripts, no macros, no tests, none of this workspace."""
    command = [os.environ.get("CARGO", "cargo"), "tree", "--quiet", "--locked", "--offline", "--package", package,
               "--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe", "--format", "{p}\t{l}"]
    if package in FEATURES:
        command += ["--features", FEATURES[package]]
    tree = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    crates = set()
    for line in tree.splitlines():
        crate, license = line.split("\t")
        if f"({ROOT}" not in crate:
            name, version = crate.split(" ")[:2]
            crates.add((name, version.lstrip("v"), license))
    return sorted(crates)


def sources(name, version):
    folders = glob.glob(os.path.join(REGISTRY, f"{name}-{version}"))
    if not folders:
        sys.exit(f"error: cargo has no sources of {name} {version} in {REGISTRY}")
    # What AWS-LC itself asks for is in the folder of its own sources.
    return [folder for folder in (folders[0], os.path.join(folders[0], "aws-lc")) if os.path.isdir(folder)]


def notices(folder):
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if NOTICE.match(name) and os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                yield name, "\n".join(line.rstrip() for line in file.read().strip().splitlines())


def main():
    texts = {}
    for name, version, license in linked(sys.argv[1]):
        print(f"{name} {version}: {license or 'see its notice'}")
        for folder in sources(name, version):
            for file, text in notices(folder):
                texts.setdefault(text, []).append(f"{name} {version}, {file}")
    for text, of in texts.items():
        print("\n" + "-" * 79 + "\n" + "\n".join(of) + "\n\n" + text)


main()
