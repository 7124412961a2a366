#!/usr/bin/env bash
# Runs cargo for the library of Postgres $PG: cargo.sh ARGUMENT...
# Where the installation has no header files, pgrx takes the bindings that it carries for docs.rs: of one minor release
# of each version, whose structures are those of the others.
source "$(dirname "$0")/lib.sh"

pg_config=$(build_pg_config)
export PGRX_PG_CONFIG_PATH=$pg_config
if [[ ! -e $("$pg_config" --includedir-server)/pg_config.h ]]; then
    export DOCS_RS=1 RUSTC_WRAPPER=$ROOT/tools/rustc.sh
fi
exec "${CARGO:-cargo}" "$@"
