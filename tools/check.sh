#!/usr/bin/env bash
# check.sh ONE: runs one suite (pg_test/context/context.sql) or the tests of that name (context::a_name, or a part of
# it) against the private cluster of the tests, which is started with the library as it is built now.
source "$(dirname "$0")/lib.sh"

one=${1:-}
[[ -n $one ]] || die "name a suite or a test: make check ONE=pg_test/context/context.sql, make check ONE=context::a_name"
cd "$ROOT"
LOADING=${LOADING:-shared} tools/cluster.sh restart test
eval "$(tools/cluster.sh env test)"
if [[ $one == pg_test/* ]]; then exec tools/installcheck.sh "$one"; fi
read -ra flags <<<"${CARGOFLAGS:-}"
if [[ $one == pooler* || $one == clients* ]]; then
    tools/pooler.sh start test
    eval "$(tools/pooler.sh env test)"
fi
if [[ $one == rotation* ]]; then
    PG_TENANCY_CLOCK_BIN=$(tools/clock.sh)
    export PG_TENANCY_CLOCK_BIN
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"${CARGO:-cargo}" test "${flags[@]}" "$one" 2>&1 | tee "$log"
# A name that no test has would pass.
grep -qE '^test result: .* [1-9][0-9]* passed' "$log" || die "no test is called $one"
