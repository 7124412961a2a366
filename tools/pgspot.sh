#!/usr/bin/env bash
# Has pgspot judge the extension's script: whether a caller's objects can stand in the place of Postgres' own.
# pgspot.sh SCRIPT
#
# These have no SET search_path, and qualify every operator and function instead:
#   tenancy.actor_for_members,
#   tenancy.rotation_due_at,
#   tenancy.utc_text               with the setting they could not become part of the query of whoever calls them
#   tenancy.backfill_in_batches,
#   tenancy.reseal_secrets,
#   tenancy.rewrap_data_keys       a procedure with the setting cannot COMMIT
# pgspot fails at bodies that the SQL standard has (BEGIN ATOMIC), so it gets them as texts.
source "$(dirname "$0")/lib.sh"

script=$(mktemp)
trap 'rm -f "$script"' EXIT
# shellcheck disable=SC2016 # the dollar signs are SQL
sed -e 's/^BEGIN ATOMIC$/AS $body$/; s/^END;$/$body$;/' "$1" >"$script"
qualified=(
    'tenancy.actor_for_members(actor tenancy.event_actor,organization uuid)'
    'tenancy.backfill_in_batches("table" regclass,organization_column text,expression text,pages integer)'
    'tenancy.reseal_secrets(organization uuid,batch_size integer)'
    'tenancy.rewrap_data_keys(batch_size integer,key text)'
    'tenancy.rotation_due_at(valued_at timestamptz,rotate_every interval)'
    'tenancy.utc_text(at timestamptz)'
)
if ! found=$("$ROOT/target/tools/pgspot/bin/pgspot" "${qualified[@]/#/--proc-without-search-path=}" "$script"); then
    die "pgspot found in $1:"$'\n'"$found"
fi
# It ends well after an error of its own, too.
[[ $found =~ ^[[:space:]]*Errors:\ 0\ Warnings:\ 0\ Unknown:\ 0[[:space:]]*$ ]] || die "pgspot: $found"
