#!/usr/bin/env bash
# suite.sh SUITE: runs one pgTAP suite in a new copy of the database PG_TENANCY_TEMPLATE, for tools/installcheck.sh.
set -euo pipefail

export PGDATABASE=${PG_TENANCY_TEMPLATE}_$$
admin() { PGOPTIONS='-c client_min_messages=error' "$PSQL" -XqAt -d postgres -v ON_ERROR_STOP=1 -c "$1" </dev/null; }

# A copy waits for nobody, but two at a time are refused where one has just connected to the template.
for attempt in {1..20}; do
    if admin "CREATE DATABASE $PGDATABASE TEMPLATE $PG_TENANCY_TEMPLATE" 2>/dev/null; then break; fi
    if ((attempt == 20)); then admin "CREATE DATABASE $PGDATABASE TEMPLATE $PG_TENANCY_TEMPLATE"; fi
    sleep 0.2
done
trap 'admin "DROP DATABASE $PGDATABASE WITH (FORCE)"' EXIT
"$PSQL" --no-psqlrc --no-align --quiet --tuples-only --set ON_ERROR_STOP=1 --pset pager=off --file "$1"
