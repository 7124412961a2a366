#!/usr/bin/env bash
# Measures against the server that the environment names; `make bench` starts one.
source "$(dirname "$0")/lib.sh"

cd "$ROOT"
read -ra flags <<<"${CARGOFLAGS:-}"
exec "${CARGO:-cargo}" bench --quiet --bench figures "${flags[@]}"
