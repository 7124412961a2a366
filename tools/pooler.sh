#!/usr/bin/env bash
# A private PgBouncer in transaction mode before a private cluster: pooler.sh COMMAND NAME, where NAME is test, demo or
# bench.
#   start     starts it before the running cluster; a pooler that already runs is replaced
#   stop      stops it; tools/cluster.sh does so too, whenever it stops the cluster
#   env       prints the shell code that names it to the tests, beside that of tools/cluster.sh
# A user of a database has one server connection (POOL_SIZE=1 by default), so that its clients must share it.
# PGBOUNCER=/path/to/pgbouncer chooses another program than the one of tools/setup.sh.
source "$(dirname "$0")/lib.sh"

command=${1:-} name=${2:-}
case $command-$name in
start-test | start-demo | start-bench | stop-test | stop-demo | stop-bench | env-test | env-demo | env-bench) ;;
*) die "usage: tools/pooler.sh start|stop|env test|demo|bench" ;;
esac
cluster=$(realpath -m "$ROOT/target/server/$name-$PG")
state=$cluster/pooler

program() {
    local candidate
    for candidate in "${PGBOUNCER:-}" /usr/sbin/pgbouncer "$(realpath -m "$ROOT/target/server/pgbouncer/usr/sbin/pgbouncer")"; do
        if [[ -x $candidate ]]; then
            echo "$candidate"
            return
        fi
    done
    die "there is no PgBouncer; run: tools/setup.sh clients"
}

setting() { sed -n "s/^$1 = //p" "$state/pgbouncer.ini"; }

# Prints the process if it is the pooler that was started here, not another one that got its number since.
process() {
    local pid
    pid=$(cat "$state/pid" 2>/dev/null) || return 0
    if tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -Fqx "$state/pgbouncer.ini"; then echo "$pid"; fi
}

# The passwords are the server's: clients prove theirs against what auth_query reads there, so every role that a test
# makes can come. PgBouncer itself enters by the socket, where the cluster trusts its own user.
configure() {
    local socket role
    socket=$(cat "$cluster/socket")
    mkdir -p "$state"
    if ((EUID == 0)); then chown postgres: "$state"; fi
    chmod 700 "$state"
    for role in postgres test_tenancy_session test_tenancy_statement; do
        printf '"%s" "%s"\n' "$role" "$(cat "$cluster/password")"
    done | as_server tee "$state/userlist.txt" >/dev/null
    as_server tee "$state/pgbouncer.ini" >/dev/null <<INI
[databases]
* = host=$socket port=$(sed -n 's/^port = //p' "$cluster/data/pg_tenancy.conf")

; The other modes, for the tests that show what they do. Who is named here must be named in auth_file too.
[users]
test_tenancy_session = pool_mode=session
test_tenancy_statement = pool_mode=statement

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $1
unix_socket_dir = $socket
pool_mode = transaction
default_pool_size = ${POOL_SIZE:-1}
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
auth_type = scram-sha-256
auth_file = $state/userlist.txt
auth_user = postgres
auth_query = SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolname = \$1 AND rolcanlogin
admin_users = postgres
logfile = $state/pgbouncer.log
pidfile = $state/pid
INI
    # Since 1.21 it keeps the protocol's prepared statements apart in transaction mode; before, it knows no such
    # setting.
    if [[ $(printf '1.21\n%s\n' "$2" | sort -V | head -n 1) == 1.21 ]]; then
        as_server tee -a "$state/pgbouncer.ini" >/dev/null <<<'max_prepared_statements = 100'
    fi
}

start() {
    local pgbouncer version
    [[ -e $cluster/data/postmaster.pid ]] || die "the $name cluster of Postgres $PG does not run; run: tools/cluster.sh start $name"
    pgbouncer=$(program)
    version=$("$pgbouncer" --version | sed -n 's/^PgBouncer //p')
    stop
    for _ in 1 2 3; do # another program may take the port in between
        configure "$(free_port)" "$version"
        if as_server "$pgbouncer" --quiet --daemon "$state/pgbouncer.ini" </dev/null && wait_for answers; then return; fi
    done
    tail -n 20 "$state/pgbouncer.log" >&2
    die "the pooler of the $name cluster did not start, see $state/pgbouncer.log"
}

answers() { [[ -n $(process) ]] && (exec 3<>"/dev/tcp/127.0.0.1/$(setting listen_port)") 2>/dev/null; }
gone() { [[ -z $(process) ]]; }

wait_for() {
    for _ in {1..100}; do
        if "$1"; then return; fi
        sleep 0.05
    done
    return 1
}

stop() {
    local pid
    pid=$(process)
    if [[ -z $pid ]]; then return; fi
    # Since 1.23 the first waits for the clients; before, the second was no orderly end.
    kill -TERM "$pid"
    wait_for gone || kill -QUIT "$pid"
    wait_for gone || die "the pooler of the $name cluster, process $pid, does not stop"
}

environment() {
    [[ -n $(process) ]] || die "the pooler of the $name cluster does not run; run: tools/pooler.sh start $name"
    printf 'export %s=%q\n' \
        PG_TENANCY_POOLER_HOST 127.0.0.1 \
        PG_TENANCY_POOLER_PORT "$(setting listen_port)" \
        PG_TENANCY_POOLER_PREPARED "$(setting max_prepared_statements | grep . || echo 0)"
}

case $command in
start | stop) "$command" ;;
env) environment ;;
esac
