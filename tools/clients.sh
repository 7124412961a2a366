#!/usr/bin/env bash
# Runs the suites of tests/clients (node, python, or those named) through the pooler of the environment: drivers and
# JOSE libraries as applications have them. Each gets a database of its own, which is dropped afterwards.
source "$(dirname "$0")/lib.sh"

[[ -n ${PGHOST:-} ]] || die 'PGHOST names no server: see tools/cluster.sh env'
[[ -n ${PG_TENANCY_POOLER_PORT:-} ]] || die 'no pooler is named: see tools/pooler.sh start and env'
psql=${PG_TENANCY_BIN:+$PG_TENANCY_BIN/}psql
psql() { "$psql" -XqAt -v ON_ERROR_STOP=1 "$@"; }
drop() { PGOPTIONS='-c client_min_messages=warning' psql -d postgres -c "DROP DATABASE IF EXISTS $PGDATABASE WITH (FORCE)" </dev/null; }
trap drop EXIT

node_suite() {
    # Beside node_modules, where imports are looked for.
    cp "$ROOT"/tests/clients/node/*.js "$ROOT"/examples/sealed_delivery/*.js "$ROOT/target/clients/node/"
    (cd "$ROOT/target/clients/node" && timeout 120 node --test --test-reporter=tap clients.test.js)
}

python_suite() {
    (cd "$ROOT/tests/clients/python" && export PYTHONPATH=$ROOT/examples/sealed_delivery \
        && timeout 120 "$ROOT/target/clients/python/bin/python" -B -m unittest -v test_clients)
}

failed=()
if (($# == 0)); then set -- node python; fi
for suite in "$@"; do
    export PGDATABASE=pg_tenancy_${suite}_$$
    drop
    psql -d postgres -c "CREATE DATABASE $PGDATABASE TEMPLATE template0"
    psql -v password="$PGPASSWORD" -f "$ROOT/tests/clients/schema.sql" >/dev/null
    say "Clients: $suite"
    "${suite}_suite" </dev/null || failed+=("$suite")
    drop
done
if ((${#failed[@]})); then die "failed: ${failed[*]}"; fi
