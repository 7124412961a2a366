#!/usr/bin/env bash
# Makes a copy of the private installation whose library has a clock that a superuser can set: the feature test_clock.
# It is for tests alone and not optimized. Prints the folder of its programs.
source "$(dirname "$0")/lib.sh"

pg_config=$(private_pg_config)
[[ -n $pg_config ]] || die "there is no private installation of Postgres $PG yet; run: make setup PG=$PG"
server=$(server_dir) pg_config=$(realpath "$pg_config")
original=$server/pg$PG copy=$server/clock-$PG
read -ra flags <<<"${CARGOFLAGS:-}"
(cd "$ROOT" && tools/cargo.sh build --quiet --lib --package pg_tenancy \
    --features "pg$PG,test_clock" "${flags[@]}" >&2)
# Links, but for what is replaced. A server that has the old library mapped keeps it.
rm -rf "$copy"
cp -al "$original" "$copy"
library=$("$pg_config" --pkglibdir)/pg_tenancy.so
library=$copy${library#"$original"}
rm "$library"
install -m 755 "$ROOT/target/debug/libpg_tenancy.so" "$library"
dirname "$copy${pg_config#"$original"}"
