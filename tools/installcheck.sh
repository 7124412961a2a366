#!/usr/bin/env bash
# Runs the pgTAP suites (all of pg_test/, or those named) against the server that the usual PG* variables name, in a
# database of its own that is dropped afterwards. The server needs pgTAP and an installed pg_tenancy.
source "$(dirname "$0")/lib.sh"

cd "$ROOT"
suites=("$@")
if ((${#suites[@]} == 0)); then
    shopt -s nullglob
    suites=(pg_test/*.sql)
    if ((${#suites[@]} == 0)); then
        say "pg_test/ holds no suite yet"
        exit
    fi
fi

psql=${PG_TENANCY_BIN:+$PG_TENANCY_BIN/}psql
export PGDATABASE=pg_tenancy_check_$$
admin() { PGOPTIONS='-c client_min_messages=warning' "$psql" -XqAt -v ON_ERROR_STOP=1 "$@" </dev/null; }

admin -d postgres -c "CREATE DATABASE $PGDATABASE TEMPLATE template0"
trap 'admin -d postgres -c "DROP DATABASE $PGDATABASE WITH (FORCE)"' EXIT
admin -c 'CREATE EXTENSION pgtap' -c 'CREATE EXTENSION pg_tenancy'
pg_prove --psql-bin "$psql" --dbname "$PGDATABASE" "${suites[@]}"
