#!/usr/bin/env bash
# Checks what the dependencies are licensed under and where they come from, and, where a copy of the advisory database
# is at hand, whether any of them has a known vulnerability.
source "$(dirname "$0")/lib.sh"

cd "$ROOT"
deny=$(command -v cargo-deny || echo target/tools/cargo-deny)
"$deny" --all-features --target x86_64-unknown-linux-gnu check --hide-inclusion-graph licenses bans sources
if [[ -d ${CARGO_HOME:-$HOME/.cargo}/advisory-db || -d ${CARGO_HOME:-$HOME/.cargo}/advisory-dbs ]]; then
    "$deny" --all-features check --disable-fetch advisories
else
    say "No advisory database here, so vulnerabilities were not looked up. To fetch one: cargo deny fetch db"
fi
