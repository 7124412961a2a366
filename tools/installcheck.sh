#!/usr/bin/env bash
# Runs the pgTAP suites (all of pg_test/, or those named) against the server that the usual PG* variables name, as many
# side by side as there are processors. Each runs in a database of its own, which is dropped afterwards. The server
# needs pgTAP and an installed pg_tenancy.
source "$(dirname "$0")/lib.sh"

cd "$ROOT"
suites=("$@")
# The largest first, so that none of them is left for the end.
if ((${#suites[@]} == 0)); then mapfile -t suites < <(ls -S pg_test/[!h]*/*.sql); fi

export PSQL=${PG_TENANCY_BIN:+$PG_TENANCY_BIN/}psql PG_TENANCY_TEMPLATE=pg_tenancy_check_$$
admin() { PGOPTIONS='-c client_min_messages=error' "$PSQL" -XqAt -v ON_ERROR_STOP=1 "$@" </dev/null; }

admin -d postgres -c "CREATE DATABASE $PG_TENANCY_TEMPLATE TEMPLATE template0"
finish() {
    admin -d postgres -c "DROP DATABASE $PG_TENANCY_TEMPLATE WITH (FORCE)"
    # Other suites may be running on the same server.
    admin -d postgres -c 'DROP ROLE IF EXISTS test_application, test_owner, test_auditor, test_custodian, test_stranger' 2>/dev/null || true
}
trap finish EXIT
admin -d "$PG_TENANCY_TEMPLATE" -c 'CREATE EXTENSION pgtap' -c 'CREATE EXTENSION pg_tenancy' -f pg_test/helpers/roles.sql
prove --comments --jobs "$(nproc)" --exec tools/suite.sh "${suites[@]}"
