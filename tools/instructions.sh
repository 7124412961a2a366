#!/usr/bin/env bash
# Counts the instructions of the operations in benches/instructions/operations.txt, in one backend without a server
# under valgrind, and reads or writes benches/instructions.txt:
#   compare    prints both; fails if an operation has grown by more than 5 %, or has no line
#   record     writes what differs by more than 5 %; WHY says why, where an operation has grown
#   print      prints both
# KEEP=folder keeps the profiles, for callgrind_annotate.
source "$(dirname "$0")/lib.sh"

folder=$ROOT/benches/instructions
work=${KEEP:-$(as_server mktemp -d /tmp/pg_tenancy_instructions.XXXXXX)}
stop() {
    "$ROOT/tools/cluster.sh" destroy instructions
    if [[ -z ${KEEP:-} ]]; then rm -rf "$work"; fi
}
trap stop EXIT
mkdir -p "$work"
if ((EUID == 0)); then chown postgres: "$work"; fi

LOADING=shared "$ROOT/tools/cluster.sh" fresh instructions
eval "$("$ROOT/tools/cluster.sh" env instructions)"
psql=$PG_TENANCY_BIN/psql bin=$PG_TENANCY_BIN data=$PG_TENANCY_DATA
key_set=$(python3 "$ROOT/tools/instructions.py" key_set)
"$psql" -X -q -d postgres -v jwks="$key_set" -f "$folder/setup.sql"
"$ROOT/tools/cluster.sh" stop instructions

# A key file that was written a moment ago is read again each time.
touch -d '1 hour ago' "$PG_TENANCY_JWKS"/*

# The profile is written each time that the backend is ready for the next statement, and counting begins anew.
# shellcheck disable=SC2024
python3 "$ROOT/tools/instructions.py" statements "$folder/operations.txt" >"$work/statements"
as_server valgrind --quiet --tool=callgrind --callgrind-out-file="$work/profile" \
    --dump-before=ReadyForQuery "$bin/postgres" --single -D "$data" postgres <"$work/statements" >"$work/log" 2>&1 \
    || { tail -n 20 "$work/log" >&2; die "the backend failed"; }
if grep -m 5 -E 'ERROR:|FATAL:|PANIC:' "$work/log" >&2; then die "a statement failed"; fi

python3 "$ROOT/tools/instructions.py" "${1:-compare}" "$PG" "$work/profile" "$ROOT/benches/instructions.txt"
