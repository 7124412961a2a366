#!/usr/bin/env bash
# Prints the pg_config to build with, or with --private that of the private installation; PG chooses the version.
source "$(dirname "$0")/lib.sh"

if [[ ${1:-} == --private ]]; then private_pg_config; else build_pg_config; fi
