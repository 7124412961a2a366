#!/usr/bin/env bash
# Measures against the server that the environment names; `make bench` starts one. FIGURES chooses some of the figures.
source "$(dirname "$0")/lib.sh"

cd "$ROOT"
read -ra flags <<<"${CARGOFLAGS:-}"
if [[ ${FIGURES:-} != instructions ]]; then
    "${CARGO:-cargo}" bench --quiet --bench figures "${flags[@]}"
fi
if [[ ,${FIGURES:-instructions}, == *,instructions,* ]]; then tools/instructions.sh print; fi
