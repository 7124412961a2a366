#!/usr/bin/env bash
# Shows what pg_tenancy does, statement by statement, and checks everything it shows: `make demo` runs it in a private
# server. PGHOST, PGPORT and PGUSER name a server with the extension installed and a superuser of it; the database
# finops must not exist there. The exit status is 1 as soon as something is not as promised.
source "$(dirname "$0")/lib.sh"

psql=${PG_TENANCY_BIN:+$PG_TENANCY_BIN/}psql
example=$ROOT/examples/finops
tokens=$ROOT/target/demo-$PG
export PGDATABASE=finops PGAPPNAME=demo PGCLIENTENCODING=UTF8 PSQLRC=/dev/null PAGER=

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' cyan=$'\e[36m' dim=$'\e[2m' plain=$'\e[0m'
else
    bold='' red='' green='' cyan='' dim='' plain=''
fi

# --- Tokens: keys and signatures of two identity providers, made by examples/sign_token.rs ---------------------------

read -ra flags <<<"${CARGOFLAGS:-}"
programs=$ROOT/target/build/release/examples
verifier=${programs%/examples}/pg-tenancy-verify
if [[ ! -x $programs/sign_token || ! -x $programs/seal_value || ! -x $verifier ]]; then
    echo 'Building what signs, seals and verifies for the demo'
fi
(cd "$ROOT" && "${CARGO:-cargo}" build --quiet --release --example sign_token --example seal_value \
    --target-dir target/build "${flags[@]}" \
    && "${CARGO:-cargo}" build --quiet --release --package pg-tenancy-verify --target-dir target/build "${flags[@]}")
sign() { "$programs/sign_token" "$@"; }
base64url() { base64 -w 0 | tr '+/' '-_' | tr -d '='; }

begin_of_story=${EPOCHREALTIME/./}
"$psql" -q -v ON_ERROR_STOP=1 -d postgres -c 'CREATE DATABASE finops TEMPLATE template0 ENCODING UTF8'
rm -rf "$tokens"
(umask 077 && mkdir -p "$tokens")
sign key ES256 sso-2026 "$tokens/sso-es256.key"
sign key EdDSA sso-2027 "$tokens/sso-eddsa.key"
sign key HS256 supabase "$tokens/supabase.key"
sign key ES256 sso-2026 "$tokens/mallory.key" # another key under the same name
sign jwks "$tokens/sso-es256.key" "$tokens/sso-eddsa.key" >"$tokens/sso.jwks"
# An HMAC key is a secret: it goes into a file that only the server reads, never through SQL.
# shellcheck disable=SC2086,SC2016 # PG_TENANCY_RUN is a command with its arguments, or nothing; $1 is its shell's
sign jwks "$tokens/supabase.key" | $PG_TENANCY_RUN sh -c 'umask 077 && cat >"$1"' - "$PG_TENANCY_JWKS/supabase.json"

northwind=11111111-1111-4111-8111-111111111111
sso='"iss": "https://sso.example.com", "aud": "finops"'
supabase='"iss": "https://finops.supabase.example/auth/v1", "aud": "authenticated"'

declare -A token
token[alice]=$(sign token "$tokens/sso-es256.key" "{$sso, \"sub\": \"alice\", \"org_id\": \"$northwind\"}" 43200)
token[bob]=$(sign token "$tokens/sso-eddsa.key" "{$sso, \"sub\": \"bob\", \"org_id\": \"contoso\"}" 43200)
for name in carol dan erin; do
    token[$name]=$(sign token "$tokens/sso-es256.key" "{$sso, \"sub\": \"$name\", \"org_id\": \"$northwind\"}" 43200)
done
token[victor]=$(sign token "$tokens/supabase.key" \
    "{$supabase, \"sub\": \"victor\", \"app_metadata\": {\"org_id\": \"initech\"}}" 43200)
token[expired]=$(sign token "$tokens/sso-es256.key" "{$sso, \"sub\": \"alice\", \"org_id\": \"$northwind\"}" -300)
token[mallory]=$(sign token "$tokens/mallory.key" "{$sso, \"sub\": \"bob\", \"org_id\": \"contoso\"}")
claims=${token[mallory]#*.} claims=${claims%.*}
token[altered]=${token[alice]%%.*}.$claims.${token[alice]##*.} # Bob's claims between Alice's header and signature
token[unsigned]=$(printf '{"alg":"none","typ":"JWT"}' | base64url).$claims.${token[alice]##*.}
(umask 077 && printf '%s' "${token[alice]}" >"$tokens/alice.jwt")

# --- The conversation with the server: one psql for the whole story --------------------------------------------------

coproc SERVER { exec "$psql" 2>&1; }
server_pid=${SERVER_PID:?}
trap 'touch "$tokens/enough"; kill "$server_pid" 2>/dev/null || true' EXIT

checks=0 who=dba answer=() state='' took=0 scene=0

# Sends lines to psql, and waits for its answer: $answer, $state (the SQLSTATE) and $took (microseconds).
send() {
    local line start=${EPOCHREALTIME/./}
    answer=() state=''
    printf '%s\n\\echo --done-- :SQLSTATE\n' "$1" >&"${SERVER[1]}"
    while IFS= read -r line <&"${SERVER[0]}"; do
        if [[ $line == '--done-- '* ]]; then
            state=${line#--done-- }
            break
        fi
        answer+=("$line")
    done
    took=$((${EPOCHREALTIME/./} - start))
    [[ -n $state ]] || die "psql ended unexpectedly: ${answer[*]}"
}

# For what happens behind the scenes; psql ends at an error, and so does the demo.
quietly() { send $'\\set ON_ERROR_STOP on\n'"$1"$'\n\\set ON_ERROR_STOP off'; }

failed() {
    printf '\n%sNOT AS PROMISED:%s %s\n' "$red$bold" "$plain" "$1" >&2
    exit 1
}

# The rest of the story is told as this database role.
as() {
    who=$1
    quietly "\\connect - ${2:-$1}"
}

short() { printf '%.16s...%s' "$1" "${1: -6}"; }

# Shows a statement and what the server answers.
ask() {
    local sql=$1 shown=$1 name line indent lines=()
    for name in "${!token[@]}"; do shown=${shown//":'$name'"/"'$(short "${token[$name]}")'"}; done
    printf -v indent '%*s' $((${#who} + 2)) ''
    printf '  %s%s>%s %s%s;%s\n' "$cyan" "$who" "$plain" "$bold" "${shown//$'\n'/$'\n'"  $indent"}" "$plain"
    send "$sql;"
    for line in "${answer[@]}"; do
        # Not what says only that the statement was run, and of a record's frame only its number.
        case $line in
        '' | BEGIN | COMMIT | ROLLBACK | SET | RESET | 'ALTER TABLE' | 'CREATE EXTENSION') ;;
        '-[ RECORD '*) lines+=("${line%%]*}]") ;;
        ERROR:*) lines+=("${line/ERROR:/ERROR $state:}") ;;
        *) lines+=("$line") ;;
        esac
    done
    # One value alone stands in one line.
    if ((${#lines[@]} >= 3)) && [[ ${lines[1]} =~ ^-+$ ]]; then
        read -r name <<<"${lines[0]}"
        read -r line <<<"${lines[2]}"
        lines=("$name = $line" "${lines[@]:3}")
    fi
    for line in "${lines[@]}"; do
        [[ -n $line ]] || continue
        fold -s -w 92 <<<"$line" | sed "s/^ERROR.*/$red&$plain/; s/^/      /; s/ *\$//"
    done
}

# Shows a command of the shell, whose first argument is how it is shown, and what it prints.
run() {
    printf '  %sshell>%s %s%s%s\n' "$cyan" "$plain" "$bold" "$1" "$plain"
    mapfile -t answer < <("${@:2}" 2>&1)
    state=00000
    if ((${#answer[@]})); then printf '%s\n' "${answer[@]}" | fold -s -w 92 | sed 's/^/      /'; fi
}

heading() {
    scene=$((scene + 1))
    printf '\n%s%d. %s%s\n' "$bold" $scene "$1" "$plain"
    shift
    if (($#)); then printf '   %s\n' "$@"; fi
    printf '\n'
}

# Checks what the last statement answered; the words are what was promised.
ok() {
    checks=$((checks + 1))
    printf '      %s[ok] %s%s\n' "$green" "$1" "$plain"
}

shows() {
    local text
    text=$(printf '%s\n' "${answer[@]}")
    [[ $state == 00000 ]] || failed "$2 (got SQLSTATE $state)"
    [[ $text =~ $1 ]] || failed "$2 (looked for: $1)"
    ok "$2"
}

refused() {
    [[ $state == "$1" ]] || failed "$2 (wanted SQLSTATE $1, got $state)"
    ok "$2"
}

rows_are() { shows "(^|[^0-9])$1([^0-9]|$)" "$2"; }

seconds() { printf '%d.%02d s' $(($1 / 1000000)) $(($1 % 1000000 / 10000)); }

# Begins a transaction and authenticates, as each request of the application does.
request() {
    ask 'BEGIN'
    local correlation=${2:+", correlation_id => '$2'"}
    ask "SELECT tenancy.authenticate(:'$1'$correlation)"
    [[ $state == 00000 ]] || failed "$1's token was not accepted"
}

# Shows a statement of a member, which is a transaction of its own.
member() {
    who=$1
    quietly "BEGIN;
SELECT tenancy.authenticate(:'$1') \\g /dev/null"
    ask "$2"
    local answered=("${answer[@]}") ended=$state
    send 'COMMIT;'
    answer=("${answered[@]}") state=$ended
}

for name in "${!token[@]}"; do quietly "\\set $name ${token[$name]}"; done
quietly '\pset footer off
\set SHOW_CONTEXT never'

# --- The story -------------------------------------------------------------------------------------------------------

version=$("$psql" -XAt -d postgres -c "SELECT 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1)")
printf '%spg_tenancy on %s%s\n' "$bold" "$version" "$plain"
printf 'Three organizations share the tables of a FinOps product. Who asks, and with what:\n\n'
printf '  %-8s %-18s %-9s %-7s %s\n' \
    who organization role signed token \
    alice 'Northwind Traders' analyst ES256 "$(short "${token[alice]}")" \
    carol 'Northwind Traders' admin ES256 "$(short "${token[carol]}")" \
    dan 'Northwind Traders' admin ES256 "$(short "${token[dan]}")" \
    bob 'Contoso Health' admin EdDSA "$(short "${token[bob]}")" \
    victor 'Initech Bank' viewer HS256 "$(short "${token[victor]}")"

heading 'The DBA installs it, and protects tables that are full already' \
    'In examples/finops, schema.sql is the product without it, and tenancy.sql brings it in.'
quietly "\\i '$example/schema.sql'"
load_time=$took
printf '  %sLoaded 100,000 findings, 20 cloud accounts and their remediation actions in %s.%s\n' \
    "$dim" "$(seconds "$load_time")" "$plain"
ask 'CREATE EXTENSION pg_tenancy'
refused 00000 'installed'
quietly "\\set jwks_sso \`cat '$tokens/sso.jwks'\`"
quietly "\\i '$example/tenancy.sql'"
as owner finops_owner
protect_time=0
for table in cloud_account '"Finding"' remediation_action; do
    ask "SELECT tenancy.protect('$table') AS statements_run"
    shows '[1-9]' "protected in $(seconds "$took")"
    protect_time=$((protect_time + took))
done
ask "SELECT tenancy.protect('\"Finding\"') AS statements_run"
rows_are 0 'calling it again changes nothing'

heading 'Every tenant sees its own rows, all of them and no others' \
    'One connection as the database role finops_app, a transaction for each request, as with a pooler.' \
    'The queries do not name the organization.'
declare -A findings=([alice]=60000 [bob]=30000 [victor]=10000)
declare -A accounts=([alice]=12 [bob]=6 [victor]=2)
as app finops_app
for name in alice bob victor; do
    request $name
    ask 'SELECT count(*) AS findings, (SELECT count(*) FROM cloud_account) AS accounts FROM "Finding"'
    shows "^ *findings .* ${findings[$name]} [|] +${accounts[$name]}\$" \
        "$name sees ${findings[$name]} of 100000 findings and ${accounts[$name]} of 20 accounts"
    ask 'COMMIT'
done
printf '\n'
request bob
ask "SELECT count(*) FROM \"Finding\"
  WHERE \"organizationId\" = '$northwind'"
rows_are 0 "asking for Northwind's rows by name finds none"
ask "UPDATE \"Finding\" SET \"organizationId\" = '$northwind'
  WHERE id = (SELECT min(id) FROM \"Finding\")"
refused 42501 'a row cannot be moved to another organization'
ask 'ROLLBACK'

heading 'No token, no access' 'The connection is the same as before; a transaction leaves nothing behind.'
ask 'SELECT count(*) FROM "Finding"'
refused 28000 'refused without a token'
ask "SET tenancy.context = '{\"organization\": \"$northwind\"}'"
refused 42501 'nobody can set the context by hand'
ask 'SET row_security = off'
ask 'SELECT count(*) FROM "Finding"'
refused 42501 'nor switch row-level security off'
ask 'RESET row_security'

heading 'A forged or expired token is refused' 'Mallory wants to be Bob.'
ask "SELECT tenancy.authenticate(:'mallory')"
refused 28000 "Bob's claims, signed with a key of Mallory's that has the name of the real one"
ask "SELECT tenancy.authenticate(:'altered')"
refused 28000 "Bob's claims under the signature of Alice's token"
ask "SELECT tenancy.authenticate(:'unsigned')"
refused 28000 'the same with "alg": "none"'
ask "SELECT tenancy.authenticate(:'expired')"
refused 28000 "Alice's own token, five minutes after its end"

heading 'A viewer reads and does not write' 'What a role may do stands in the permission matrix; the server asks it.'
request victor
ask "UPDATE \"Finding\" SET status = 'suppressed' WHERE severity = 'high'"
refused 42501 'refused, and the error says what is missing'
ask 'ROLLBACK'

heading 'Every change is recorded: who, what, before, after' 'The event is written in the same transaction as the change.'
as auditor finops_auditor
quietly 'SELECT tenancy.seal() \g /dev/null' # the setup's own changes
quietly 'SELECT tenancy.seal() \g /dev/null' # and what the first run has written of what captures
as app finops_app
request alice req-7f3a91
ask "UPDATE \"Finding\" SET status = 'approved' WHERE id = 1"
ask "INSERT INTO remediation_action (finding_id, kind) VALUES (1, 'resize')
  RETURNING organization_id"
shows "$northwind" 'the new row got its organization by itself'
ask 'COMMIT'
as auditor finops_auditor
ask "SELECT tenancy.seal() AS events_sealed"
rows_are 2 'both events got their place in the chain of Northwind'
quietly '\x on'
ask "SELECT \"position\", operation, table_name, row_key, subject, role, old_values, new_values,
       left(encode(prev_hash, 'hex'), 24) AS prev_hash,
       left(encode(hash, 'hex'), 24) AS hash
  FROM tenancy.audit_trail WHERE correlation_id = 'req-7f3a91' ORDER BY \"position\""
shows 'subject .* alice.*old_values .*"status":"open".*new_values .*"status":"approved"' 'actor, before and after'
text=$(printf '%s\n' "${answer[@]}")
mapfile -t previous < <(sed -n 's/^prev_hash *| *//p' <<<"$text")
mapfile -t hashes < <(sed -n 's/^hash *| *//p' <<<"$text")
[[ ${#hashes[@]} == 2 && ${previous[1]} == "${hashes[0]}" ]] || failed 'the second event does not follow the first'
ok 'the second event holds the hash of the first'
quietly '\x off'
ask 'SELECT count(*) AS findings_of_verify_audit FROM tenancy.verify_audit(whole => true)'
verify_time=$took
rows_are 0 'everything that was written is there, unaltered'

heading 'A superuser who rewrites history is found out' 'No database can keep its superuser from it. The chain shows it.'
as dba "$PGUSER"
quietly "SELECT id AS event FROM tenancy.audit_trail WHERE correlation_id = 'req-7f3a91' AND operation = 'update' \\gset"
send '\echo :event'
event="'${answer[0]}'"
rewrite() { echo "UPDATE tenancy.event_batch SET payload = replace(payload::text, '$1', '$2')::json
  WHERE id = $event"; }
ask "$(rewrite approved suppressed)"
refused 42501 'the guard refuses superusers too'
ask 'ALTER TABLE tenancy.event_batch DISABLE TRIGGER append_only'
ask "$(rewrite approved suppressed)"
refused 00000 'without the guard, the row is changed'
ask 'ALTER TABLE tenancy.event_batch ENABLE ALWAYS TRIGGER append_only'
quietly '\x on'
ask 'SELECT finding, "position", table_name, row_key, explanation FROM tenancy.verify_audit(whole => true)'
shows 'RECORD 1.*altered.*public.Finding.*"id":1.*payload' 'verify_audit() names the row and what is wrong with it'
[[ ${answer[*]} != *'RECORD 2'* ]] || failed 'verify_audit() names more than the one row'
quietly '\x off'
ask "UPDATE tenancy.event_batch SET payload = payload WHERE id = $event"
refused 42501 'the guard is on again'

quietly "BEGIN;
ALTER TABLE tenancy.event_batch DISABLE TRIGGER append_only;
$(rewrite suppressed approved);
ALTER TABLE tenancy.event_batch ENABLE ALWAYS TRIGGER append_only;
COMMIT;"
ask 'SELECT count(*) AS findings_of_verify_audit FROM tenancy.verify_audit(whole => true)'
rows_are 0 'with the original bytes put back, everything verifies'

heading 'A signed checkpoint, for somebody else to keep' 'Whoever also recomputes every hash is found by the one that an outsider holds.'
as auditor finops_auditor
ask 'SELECT tenancy.checkpoint() AS number'
quietly '\pset format unaligned'
ask 'SELECT note FROM tenancy.checkpoint ORDER BY block DESC, number DESC LIMIT 1'
shows "demo.example/[0-9a-f]{32}.*— demo.example " \
    'a signed note: the log, its size, its root, a signature by a key outside of the database'
quietly '\pset format aligned'
ask "SELECT tenancy.verify_inclusion(int8send(e.\"position\") || e.batch_hash, e.leaf, h.leaves,
           tenancy.inclusion_proof(e.organization, e.leaf, h.leaves), h.root)
   AND tenancy.verify_inclusion(h.digest, h.place, h.heads, h.proof, c.heads_root)
   AND tenancy.verify_inclusion(c.digest, c.number, c.number, tenancy.checkpoint_inclusion_proof(c.number), c.root) AS proved
  FROM tenancy.entry e, tenancy.head_proof(e.organization) h,
       (SELECT * FROM tenancy.checkpoint ORDER BY block DESC, number DESC LIMIT 1) c
 WHERE e.batch = tenancy.batch_of($event)"
shows ' t' "Alice's change is under that signature, and nothing is told of other organizations"

source "$ROOT/tools/demo/secrets.sh"
source "$ROOT/tools/demo/controls.sh"

cat <<END

${bold}Shown: $checks things, each of them checked${plain}
  100,000 rows loaded                        $(seconds "$load_time")
  three full tables protected                $(seconds "$protect_time")
  audit verified                             $(seconds "$verify_time")
  the whole story                            $(seconds $((${EPOCHREALTIME/./} - begin_of_story)))

${bold}Try it by hand${plain}, as the application with Alice's token (good for 12 hours); the server keeps running:

$(printf '%q' "$psql") -U finops_app -d finops \\
  -h $(printf '%q' "$PGHOST") -p $PGPORT \\
  -v alice="\$(cat $(printf '%q' "$tokens/alice.jwt"))"

  BEGIN;
  SELECT tenancy.authenticate(:'alice');
  SELECT jsonb_pretty(tenancy.whoami());
  SELECT severity, count(*), sum("monthlySavings") FROM "Finding" GROUP BY severity;
  COMMIT;

  make psql     opens psql as the superuser; \\c finops, then SELECT * FROM tenancy.audit_trail;
  make stop     stops the server
END
