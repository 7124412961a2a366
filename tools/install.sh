#!/usr/bin/env bash
# Puts the built extension where PG_CONFIG points, below DESTDIR if set:
# install.sh LIBRARY SQL_FOLDER [PROGRAM]
# The line tables of LIBRARY are in LIBRARY.debug.
# With --uninstall alone it takes the same files away.
source "$(dirname "$0")/lib.sh"

PG_CONFIG=$(build_pg_config)
library_dir=${DESTDIR:-}$("$PG_CONFIG" --pkglibdir)
extension_dir=${DESTDIR:-}$("$PG_CONFIG" --sharedir)/extension
doc_dir=${DESTDIR:-}$("$PG_CONFIG" --docdir)/extension/pg_tenancy
bin_dir=${DESTDIR:-}$("$PG_CONFIG" --bindir)

writable() {
    local dir=$1
    until [[ -e $dir ]]; do dir=$(dirname "$dir"); done
    [[ -w $dir ]]
}

sudo=()
if ! { writable "$library_dir" && writable "$extension_dir" && writable "$doc_dir" && writable "$bin_dir"; }; then
    command -v sudo >/dev/null || die "$library_dir cannot be written by this user, and there is no sudo"
    sudo=(sudo)
fi

if [[ $1 == --uninstall ]]; then
    "${sudo[@]}" rm -rf "$library_dir"/pg_tenancy.so{,.debug} "$extension_dir/pg_tenancy.control" \
        "$extension_dir"/pg_tenancy--*.sql "$doc_dir" "$bin_dir/pg-tenancy-verify"
    exit
fi

# `install` replaces a file instead of writing into it, so a server that has the old library mapped keeps it.
put() { "${sudo[@]}" install -D -m "$1" -t "$2" "${@:3}"; }

"${sudo[@]}" install -D -m 755 "$1" "$library_dir/pg_tenancy.so"
put 644 "$library_dir" "$1.debug"
put 644 "$extension_dir" "$ROOT/pg_tenancy.control" "$2"/pg_tenancy--*.sql
if [[ -n ${3:-} ]]; then put 755 "$bin_dir" "$3"; fi
for file in "$ROOT"/{LICENSE,README.md,CHANGELOG.md}; do
    if [[ -e $file ]]; then put 644 "$doc_dir" "$file"; fi
done
