#!/usr/bin/env bash
# The RUSTC_WRAPPER of tools/cargo.sh: has pgrx-pg-sys compiled with the bindings that it carries.
if [[ " $* " == *' --crate-name pgrx_pg_sys '* ]]; then set -- "$@" --cfg docsrs; fi
exec "$@"
