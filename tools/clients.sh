#!/usr/bin/env bash
# Runs the suites of tests/clients (all of them, or those named) through the pooler of the environment: drivers and
# JOSE libraries as applications have them. Each gets a database of its own, which is dropped afterwards.
source "$(dirname "$0")/lib.sh"

[[ -n ${PGHOST:-} ]] || die 'PGHOST names no server: see tools/cluster.sh env'
[[ -n ${PG_TENANCY_POOLER_PORT:-} ]] || die 'no pooler is named: see tools/pooler.sh start and env'
psql=${PG_TENANCY_BIN:+$PG_TENANCY_BIN/}psql
psql() { "$psql" -XqAt -v ON_ERROR_STOP=1 "$@"; }
drop() { PGOPTIONS='-c client_min_messages=warning' psql -d postgres -c "DROP DATABASE IF EXISTS $PGDATABASE WITH (FORCE)" </dev/null; }
trap drop EXIT

# The package is built and installed from the built file, as an application has it.
node_package() {
    (cd "$ROOT/clients/javascript" && npm pack --silent --pack-destination "$ROOT/target/clients" >/dev/null)
    (cd "$ROOT/target/clients/node" \
        && npm install --no-save --offline --ignore-scripts --no-audit --no-fund --silent ../pg-tenancy-*.tgz)
}

node_suite() {
    local work=$ROOT/target/clients/node
    node_package
    # Beside node_modules, where imports are looked for.
    rm -f "$work"/*.js
    cp "$ROOT"/tests/clients/node/{*.js,types.ts,tsconfig.json} "$ROOT"/examples/sealed_delivery/*.js "$work/"
    rm -rf "$work"/{shop,pages}
    cp -r "$ROOT/examples/shop" "$work/shop"
    cp -r "$ROOT/docs/migrations" "$work/pages"
    (cd "$work" && timeout 300 node --test --test-reporter=tap --test-concurrency=2 ./*.test.js)
}

# The package of clients/python is built first, and the tests use the file that was built.
python_suite() {
    local python=$ROOT/target/clients/python/bin/python wheels=$ROOT/target/clients/wheels
    rm -rf "$wheels"
    "$python" -m pip wheel --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation \
        --wheel-dir "$wheels" "$ROOT/clients/python"
    "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --force-reinstall \
        "$wheels"/pg_tenancy-*.whl
    (cd "$ROOT/tests/clients/python" && export PYTHONPATH=$ROOT/examples/sealed_delivery \
        && timeout 300 "$python" -B -m unittest -v)
}

# Tokens for the suites that make none themselves, and the pooler as libpq's variables name a server.
as_application() {
    local tokens
    tokens=$(PYTHONPATH=$ROOT/clients/python/src "$ROOT/target/clients/python/bin/python" -B "$ROOT/tests/clients/tokens.py")
    eval "$tokens"
    export PGHOST=${PG_TENANCY_POOLER_HOST:?} PGPORT=$PG_TENANCY_POOLER_PORT PGUSER=test_tenancy_application
}

# lacks PROGRAM...: without one of them a suite is skipped, and says so, but in CI it fails.
lacks() {
    local program
    for program in "$@"; do
        if command -v "$program" >/dev/null; then continue; fi
        if [[ -n ${CI:-} ]]; then die "there is no $program: see tools/setup.sh clients"; fi
        say "skipped: no $program"
        return 0
    done
    return 1
}

php_suite() (
    if lacks php; then return; fi
    as_application
    timeout 60 php "$ROOT/tests/clients/php/test.php"
)

ruby_suite() (
    if lacks ruby; then return; fi
    local suite=$ROOT/tests/clients/ruby server=("PGHOST=$PGHOST" "PGPORT=$PGPORT")
    (as_application && timeout 60 ruby "$suite/test.rb" --verbose) || exit 1
    # What permits several members in one transaction counts for new sessions, so these tests come without a pooler.
    psql -c "ALTER DATABASE $PGDATABASE SET tenancy.several_identities = on"
    as_application
    env "${server[@]}" timeout 60 ruby "$suite/transactional_test.rb" --verbose || exit 1
    # pg_dump and psql are those of the server.
    env "${server[@]}" PATH="${PG_TENANCY_BIN:+$PG_TENANCY_BIN:}$PATH" timeout 60 ruby "$suite/migrations_test.rb" --verbose
)

java_suite() (
    if lacks java javac; then return; fi
    local classes=$ROOT/target/clients/java driver=/usr/share/java/postgresql.jar
    rm -rf "$classes"
    javac -Xlint:all -Werror -d "$classes" -cp "$driver" "$ROOT"/tests/clients/java/*.java
    as_application
    timeout 60 java -Xshare:auto -XX:TieredStopAtLevel=1 -cp "$classes:$driver" Clients
)

# The driver is Debian's source, so there is no module to download.
go_suite() (
    local go=$ROOT/target/clients/go
    if lacks "$go/go/bin/go"; then return; fi
    as_application
    cd "$ROOT/tests/clients/go"
    export GOPATH=$go/debian/usr/share/gocode GOCACHE=$go/cache GO111MODULE=off GOTOOLCHAIN=local CGO_ENABLED=0
    timeout 300 "$go/go/bin/go" test -vet=off -count=1 -v
)

# The crates are this suite's alone, so they have a lock file of their own.
rust_suite() (
    as_application
    export CARGO_TARGET_DIR=$ROOT/target/clients/rust
    timeout 600 "${CARGO:-cargo}" test --quiet --locked --manifest-path "$ROOT/tests/clients/rust/Cargo.toml"
)

failed=()
if (($# == 0)); then set -- node python php ruby java go rust; fi
for suite in "$@"; do
    export PGDATABASE=pg_tenancy_${suite}_$$
    drop
    psql -d postgres -c "CREATE DATABASE $PGDATABASE TEMPLATE template0"
    psql -v password="$PGPASSWORD" -f "$ROOT/tests/clients/schema.sql" >/dev/null
    say "Clients: $suite"
    "${suite}_suite" </dev/null || failed+=("$suite")
    drop
done
if ((${#failed[@]})); then die "failed: ${failed[*]}"; fi
