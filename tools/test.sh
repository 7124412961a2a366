#!/usr/bin/env bash
# Runs every test against a fresh private cluster: the SQL suites once for each way of LOADING the library, and once the
# Rust tests (those of the crates and the integration tests in tests/) and the client suites (tests/clients), both with
# a private PgBouncer before the cluster. TESTS=server leaves out the tests of the crates that know no server,
# TESTS=short all Rust tests and the client suites but one. A failure does not keep the rest from running.
source "$(dirname "$0")/lib.sh"

failed=()
trap '"$ROOT/tools/cluster.sh" stop test' EXIT

cluster() {
    LOADING=$1 "$ROOT/tools/cluster.sh" "$2" test
    eval "$("$ROOT/tools/cluster.sh" env test)"
}

loadings=${LOADING:-demand,session,shared}
command=fresh
for loading in ${loadings//,/ }; do
    cluster "$loading" "$command"
    command=restart
    say "SQL suites on Postgres $PG, library loaded: $loading"
    "$ROOT/tools/installcheck.sh" || failed+=("SQL suites ($loading)")
done

finish() {
    if ((${#failed[@]})); then die "failed on Postgres $PG: $(printf '%s; ' "${failed[@]}")"; fi
    say "$1 on Postgres $PG"
    exit
}

"$ROOT/tools/pooler.sh" start test
eval "$("$ROOT/tools/pooler.sh" env test)"
case ${TESTS:-all} in
short)
    "$ROOT/tools/clients.sh" python || failed+=("clients")
    finish "The SQL suites and one of the client suites passed"
    ;;
all) programs=() ;;
server) programs=(--test promises) ;;
*) die "TESTS is all, server or short, not '$TESTS'" ;;
esac
[[ -x $PG_TENANCY_BIN/pg_dump ]] \
    || die "the Rust tests need pg_dump, which this installation does not have; run: make test PG=$PG TESTS=short"

# With shared_preload_libraries, as production runs it, unless LOADING left that out.
say "Rust tests on Postgres $PG, library loaded: $loading"
read -ra flags <<<"${CARGOFLAGS:-}"
PG_TENANCY_CLOCK_BIN=$("$ROOT/tools/clock.sh") || failed+=("the library with a clock of its own")
export PG_TENANCY_CLOCK_BIN
# Packages are tried with Debian's server.
if [[ -x /usr/lib/postgresql/$PG/bin/postgres ]]; then
    export PG_TENANCY_PACKAGES=$ROOT/target/debs-$PG
    rm -rf "$PG_TENANCY_PACKAGES"
    DEB_COMPRESSION='gzip -z1' make --no-print-directory -C "$ROOT" deb DEBS="$PG_TENANCY_PACKAGES" \
        || failed+=("Debian packages")
fi
# Many tests wait for a server of their own, so there are more of them at a time than processors.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) * 2))}
(cd "$ROOT" && "${CARGO:-cargo}" test --quiet --no-fail-fast "${flags[@]}" "${programs[@]}") \
    || failed+=("Rust tests")
"$ROOT/tools/clients.sh" || failed+=("clients")

finish "All tests passed"
