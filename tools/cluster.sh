#!/usr/bin/env bash
# The private clusters below target/server: cluster.sh COMMAND [NAME], where NAME is test, demo, bench or instructions.
#   start     starts it, creating it first where there is none
#   fresh     throws it away and starts a new one
#   restart   restarts it, which takes up a changed LOADING
#   stop      stops it; without NAME, stops every cluster of this checkout
#   destroy   stops it and deletes its data; without NAME, every cluster of this checkout
#   env       prints the shell code that points psql, pg_prove and the tests to it
# LOADING says how the library gets into a server process: demand, session or shared (the preload setting of that name).
# Without it a cluster keeps what it had, and a new one has demand.
source "$(dirname "$0")/lib.sh"

command=${1:-} name=${2:-}
server=$(realpath -m "$ROOT/target/server")

use() {
    local pg_config
    name=$1 state=$server/$1-$PG data=$server/$1-$PG/data
    pg_config=$(private_pg_config)
    [[ -n $pg_config ]] || die "there is no private installation of Postgres $PG yet; run: make setup PG=$PG"
    bin=$(dirname "$(realpath "$pg_config")")
}

running() { as_server "$bin/pg_ctl" status -D "$data" >/dev/null 2>&1; }

# Local connections are trusted, because only the server's user and root can enter the socket's folder. Connections to
# 127.0.0.1 need the password, because every user of the machine can make them.
create() {
    mkdir -p "$state/jwks"
    if ((EUID == 0)); then chown postgres: "$state" "$state/jwks"; fi
    chmod 700 "$state" "$state/jwks"
    head -c 24 /dev/urandom | base64 | as_server tee "$state/password" >/dev/null
    # A socket's path may have 107 bytes.
    if ((${#state} < 85)); then echo "$state"; else as_server mktemp -d /tmp/pg_tenancy.XXXXXX; fi >"$state/socket"
    as_server "$bin/initdb" -D "$data" -U postgres --auth-local=trust --auth-host=scram-sha-256 \
        --pwfile="$state/password" --encoding=UTF8 --locale=C.UTF-8 --no-sync >"$state/initdb.log" \
        || die "initdb failed, see $state/initdb.log"
    as_server tee -a "$data/postgresql.conf" >/dev/null <<<"include = 'pg_tenancy.conf'"
}

loading() { sed -n 's/_preload_libraries = .*//p' "$data/pg_tenancy.conf" 2>/dev/null | grep . || echo demand; }

configure() {
    local socket loading=${LOADING:-$(loading)} key=$state/commitment_key
    socket=$(cat "$state/socket")
    if [[ ! -e $key ]]; then
        head -c 32 /dev/urandom | base64 | as_server tee "$key" >/dev/null
        chmod 600 "$key"
    fi
    # Where checkpoints are signed with it: a key that this cluster alone has.
    if [[ ! -e $state/signing_key ]]; then
        (umask 077 && openssl genpkey -algorithm ed25519 | as_server tee "$state/signing_key" >/dev/null)
        as_server chmod 600 "$state/signing_key"
    fi
    if [[ ! -e $state/secret_keys ]]; then
        for id in first second; do echo "$id $(head -c 32 /dev/urandom | base64)"; done \
            | as_server tee "$state/secret_keys" >/dev/null
        chmod 600 "$state/secret_keys"
    fi
    {
        cat <<EOF
listen_addresses = '127.0.0.1'
port = $1
unix_socket_directories = '$socket'
max_connections = 100
max_prepared_transactions = 10
log_line_prefix = '%m [%p] %q%u@%d '
tenancy.jwks_directory = '$state/jwks'
tenancy.commitment_key_file = '$key'
tenancy.signing_key_file = '$state/signing_key'
tenancy.secret_key_file = '$state/secret_keys'
tenancy.checkpoint_origin = '$name.example'
EOF
        # The tests look at what is not sealed yet, and seal when they mean to; tests/worker.rs has a server of its own.
        # So does the demo, until its chapter on operating controls.
        if [[ $name != bench ]]; then echo 'tenancy.seal_interval = 0'; fi
        # A benchmark pays for durability as production does; the others outlive a killed server, not a power cut.
        case $name in
        bench) printf '%s\n' 'shared_buffers = 512MB' 'max_wal_size = 8GB' 'checkpoint_timeout = 30min' ;;
        # Several tests at a time subscribe, and a table's first copy that found no worker is tried again soon. One
        # copies the server and follows it, while the others write.
        *) printf '%s\n' 'fsync = off' 'full_page_writes = off' 'wal_level = logical' 'max_replication_slots = 50' \
            'max_wal_senders = 50' 'max_logical_replication_workers = 20' 'max_worker_processes = 40' \
            'max_sync_workers_per_subscription = 8' 'wal_retrieve_retry_interval = 100ms' \
            'wal_keep_size = 2GB' ;;
        esac
        case $loading in
        demand) ;;
        session | shared) echo "${loading}_preload_libraries = 'pg_tenancy'" ;;
        *) die "LOADING is demand, session or shared, not '$loading'" ;;
        esac
        # A setting of its own from Postgres 18 on; before, max_replication_slots says it.
        if ((PG >= 18)); then echo 'max_active_replication_origins = 50'; fi
    } | as_server tee "$data/pg_tenancy.conf" >/dev/null
}

start() {
    if running; then return; fi
    if [[ ! -e $data/PG_VERSION ]]; then
        rm -rf "$state"
        create
    fi
    for _ in 1 2 3; do # another program may take the port in between
        configure "$(free_port)"
        # A server would keep what its caller has open, a lock for instance.
        if as_server "$bin/pg_ctl" start -D "$data" -w -t 60 -s -l "$state/server.log" \
            </dev/null 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; then return; fi
    done
    tail -n 20 "$state/server.log" >&2
    die "the $name cluster of Postgres $PG did not start, see $state/server.log"
}

stop() {
    if [[ -e $state/pooler/pid ]]; then PG=$PG "$ROOT/tools/pooler.sh" stop "$name"; fi
    if running; then as_server "$bin/pg_ctl" stop -D "$data" -m "${1:-fast}" -w -s; fi
}

destroy() {
    stop immediate
    if [[ -e $state/socket && $(cat "$state/socket") != "$state" ]]; then rm -rf "$(cat "$state/socket")"; fi
    rm -rf "$state"
}

# Where the programs of lower versions are that have the extension too: what pg_upgrade can come from. It needs more of
# them than the installation of 17 has.
older() {
    local major pg_config
    for ((major = 15; major < PG; major++)); do
        pg_config=$(PG=$major private_pg_config)
        if [[ -n $pg_config && -e $("$pg_config" --sharedir)/extension/pg_tenancy.control \
            && -x $("$pg_config" --bindir)/pg_controldata ]]; then
            dirname "$(realpath "$pg_config")"
        fi
    done | paste -sd:
}

environment() {
    running || die "the $name cluster of Postgres $PG does not run; run: tools/cluster.sh start $name"
    # Settings meant for another server must not reach this one.
    echo 'unset PGHOSTADDR PGSERVICE PGOPTIONS PGPASSFILE PGSSLMODE PGDATABASE PGTZ PGCLIENTENCODING'
    printf 'export %s=%q\n' \
        PGHOST "$(cat "$state/socket")" \
        PGPORT "$(sed -n 's/^port = //p' "$data/pg_tenancy.conf")" \
        PGUSER postgres \
        PGPASSWORD "$(cat "$state/password")" \
        PG_TENANCY_MAJOR "$PG" \
        PG_TENANCY_BIN "$bin" \
        PG_TENANCY_OLDER "$(older)" \
        PG_TENANCY_DATA "$data" \
        PG_TENANCY_JWKS "$state/jwks" \
        PG_TENANCY_RUN "$( ((EUID == 0)) && echo 'runuser -u postgres --')" \
        PG_TENANCY_LOADING "$(loading)"
}

each() {
    local cluster
    for cluster in "$server"/{test,demo,bench,instructions}-[0-9]*; do
        [[ -e $cluster ]] || continue
        PG=${cluster##*-}
        use "$(basename "${cluster%-*}")"
        "$1"
    done
}

case $command in
stop | destroy) if [[ -z $name ]]; then each "$command"; exit; fi ;;
esac
case $name in
test | demo | bench | instructions) use "$name" ;;
*) die "usage: tools/cluster.sh start|fresh|restart|stop|destroy|env test|demo|bench|instructions" ;;
esac
case $command in
start | stop | destroy) "$command" ;;
fresh) destroy && start ;;
restart) stop && start ;;
env) environment ;;
*) die "unknown command '$command'" ;;
esac
