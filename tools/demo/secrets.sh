# shellcheck shell=bash disable=SC2016,SC2154
# The chapter on secrets, sourced by tools/demo.sh: credentials that a dump, the WAL and a DBA without the key cannot
# read. Statements of members are transactions of their own.

ring=${PG_TENANCY_JWKS%/*}/demo.keys

# As the server's user, whom the ring belongs to.
as_keeper() {
    # shellcheck disable=SC2086 # a command with its arguments, or nothing
    $PG_TENANCY_RUN sh -c "umask 077; $1" - "$ring" "$PG_TENANCY_DATA"
}

new_access_key() { printf '{"access_key_id":"AKIA%s","secret_access_key":"%s"}' "$(openssl rand -hex 8)" "$1"; }

# Seals a value for a secret of Northwind, on this side of the connection.
seal() { printf %s "$2" | "$programs/seal_value" "$northwind" "$1" "$key_id" "$public_key"; }

# The statement has it as :'sealed'.
seal_for() { quietly "\\set sealed $(seal "$@")"; }

# An installation without pg_dump shows the rest.
dumps() { command -v "${PG_TENANCY_BIN:+$PG_TENANCY_BIN/}pg_dump" >/dev/null; }
in_dump() { "${PG_TENANCY_BIN:+$PG_TENANCY_BIN/}pg_dump" -d finops --inserts | grep -c -F -e "$1"; }
in_wal() { as_keeper 'cat "$2"/pg_wal/0*' | grep -a -o -F -e "$1" | wc -l; }

# How often the reader in the background had this value.
reads() { grep -c -F -e "$1" "$tokens/reads" || true; }

reads_go_on() {
    local wanted=$(($(reads "$1") + 10)) tries
    for ((tries = 0; tries < 600; tries++)); do
        if (($(reads "$1") >= wanted)); then return; fi
        sleep 0.05
    done
    failed "reads go on (the last of them: $(tail -n 3 "$tokens/reads"))"
}

heading 'A key ring, which the database does not have' \
    'Organizations hand credentials over. They are sealed under keys that stand in a file, or in a KMS.'
add_key() { as_keeper "echo $1 \$(head -c 32 /dev/urandom | base64) >>\"\$1\""; }
run 'echo "2026-a $(openssl rand -base64 32)" >>secret.keys' add_key 2026-a
as dba "$PGUSER"
quietly "LOAD 'pg_tenancy';" # where the setting is known
quietly "ALTER SYSTEM SET tenancy.secret_key_file = '$ring';"
quietly 'SELECT pg_reload_conf() \g /dev/null'
until [[ ${answer[*]} == *"$ring"* ]]; do quietly 'SHOW tenancy.secret_key_file;'; done
as custodian finops_custodian
ask "SELECT tenancy.add_key_encryption_key('2026-a', reason => 'the first key')"
refused 00000 'registered: the key has wrapped a canary, and unwraps it'
ask "SELECT tenancy.set_current_key_encryption_key('2026-a', reason => 'the first key')"
refused 00000 'new data keys are wrapped under it'
ask 'SELECT * FROM tenancy.data_key'
refused 42501 'who manages keys reads none of them, wrapped or not'

heading 'A credential, stored sealed' 'Carol seals it before it is sent: no statement, parameter or log has it.'
first=$(openssl rand -hex 12)
as carol finops_app
quietly '\x on'
member carol "SELECT key_id, encode(public_key, 'hex') AS public_key FROM tenancy.secret_recipient()"
shows 'key_id +[|] [0-9a-f-]{36}.*public_key [|] [0-9a-f]{64}' 'the public key of Northwind'
key_id=${answer[1]##* } public_key=${answer[2]##* }
quietly '\x off'
run "seal_value northwind aws-billing \$key_id \$public_key <aws-billing.json  # ${first:0:4}..." \
    seal aws-billing "$(new_access_key "$first")"
quietly "\\set sealed ${answer[0]}"
member carol "SELECT tenancy.put_secret('aws-billing', :'sealed', kind => 'aws_access_key', sealed => true)"
shows '[0-9a-f-]{36}' 'stored'
member carol "SELECT tenancy.reveal_secret('aws-billing', purpose => 'nightly cost import')"
shows "$first" 'and revealed for a purpose'
member alice "SELECT tenancy.reveal_secret('aws-billing', purpose => 'I am curious')"
refused 42704 "an analyst does not learn that it exists"
as auditor finops_auditor
quietly 'SELECT tenancy.seal() \g /dev/null'
ask "SELECT subject, result, new_values->>'purpose' AS purpose FROM tenancy.audit_trail
 WHERE operation = 'reveal' ORDER BY \"position\""
shows 'carol .*nightly cost import.*alice .*I am curious' 'both are recorded, with their purposes'

heading 'A dump and the WAL hold nothing of it' 'The same search finds the name of the secret, so it looks where it should.'
if dumps; then
    run "pg_dump finops | grep -c '$first'" in_dump "$first"
    rows_are 0 'not in a dump'
    run "pg_dump finops | grep -c aws-billing" in_dump aws-billing
    shows '^[1-9]' 'the name is in the dump'
fi
run "cat pg_wal/* | grep -a -o '$first' | wc -l" in_wal "$first"
rows_are 0 'not in the WAL'
run "cat pg_wal/* | grep -a -o aws-billing | wc -l" in_wal aws-billing
shows '^[1-9]' 'and the name is in the WAL'

heading 'A rotation that fails its health check changes nothing' \
    'Two seconds of observation are for this demo; a day is the default.'
as carol finops_app
member carol "SELECT tenancy.set_secret_policy('aws-billing', rotate_every => '30 days', max_live_versions => NULL,
    health_max_age => NULL, health_required => NULL, observe_for => '2 seconds', owner_subject => NULL,
    owner_issuer => NULL)"
refused 00000 'rules of its own'
second=$(openssl rand -hex 12)
seal_for aws-billing "$(new_access_key "$second")"
member carol "SELECT tenancy.begin_rotation('aws-billing', :'sealed', reason => 'monthly', sealed => true)"
rows_are 2 'version 2 is pending'
member carol "SELECT tenancy.report_health('aws-billing', 2, false, 'AWS says AccessDenied')"
shows 'failed' 'the collector has tried it: it does not work'
member carol "SELECT tenancy.promote('aws-billing', 2)"
refused 55000 'so it cannot be promoted'
member carol "SELECT tenancy.reveal_secret('aws-billing', 'nightly cost import')"
shows "$first" 'the collector still gets version 1'
member carol "SELECT tenancy.abandon_rotation('aws-billing', 'the key was made without its policy')"
refused 00000 'given up'
member carol "SELECT tenancy.retire('aws-billing', 2, 'deleted at AWS')"
refused 00000 'and its value deleted'

heading 'The next one is promoted, observed and retired'
third=$(openssl rand -hex 12)
seal_for aws-billing "$(new_access_key "$third")"
member carol "SELECT tenancy.begin_rotation('aws-billing', :'sealed', reason => 'monthly', sealed => true)"
rows_are 3 'version numbers are never used again'
member carol "SELECT tenancy.report_health('aws-billing', 3, true, 'lists buckets')"
shows 'verified' 'it works'
member carol "SELECT tenancy.promote('aws-billing', 3)"
rows_are 1 'version 1 is the previous one'
member carol "SELECT tenancy.reveal_secret('aws-billing', 'nightly cost import')"
shows "$third" 'the collector gets version 3'
member carol "SELECT tenancy.report_health('aws-billing', 3, true, 'the import ran with it')"
shows 'current' 'it works where it is used'
member carol "SELECT tenancy.retire('aws-billing', 1, 'rotated')"
refused 55000 'version 1 stays while version 3 is observed'
member carol 'SELECT pg_sleep(2)'
member carol "SELECT tenancy.retire('aws-billing', 1, 'rotated')"
refused 00000 'two seconds later its value is deleted'
member carol "SELECT number, state FROM tenancy.secret_version ORDER BY number"
shows '1 [|] retired.*2 [|] retired.*3 [|] current' 'what was, stays known'
member carol "SELECT tenancy.reveal_secret('aws-billing', 'nightly cost import', version => 1)"
refused 55000 'a value that was deleted is revealed to nobody'

heading 'A credential that can change something needs a second person' 'The owner of the product names the types of actions.'
as owner finops_owner
ask "SELECT tenancy.add_action_type('instance.stop', 'stops an instance that is idle')"
refused 00000 'in force for nobody yet'
as carol finops_app
writing=$(openssl rand -hex 12)
seal_for aws-stop "$(new_access_key "$writing")"
put_write="SELECT tenancy.put_secret('aws-stop', :'sealed', kind => 'aws_access_key', scope => 'write', sealed => true)"
member carol "$put_write"
refused 42501 'refused: nobody has approved an action'
member carol "SELECT tenancy.request_action_type('instance.stop', 'idle instances of the test account', '30 days')"
shows '[0-9a-f-]{36}' 'asked for'
read -r request <<<"${answer[2]}"
quietly "\\set request $request"
member carol "SELECT tenancy.decide_action_type(:'request', true, 'I need it')"
refused 42501 'who asks does not approve'
member dan "SELECT tenancy.decide_action_type(:'request', true, 'agreed for the test account')"
refused 00000 'Dan does'
member carol "$put_write"
shows '[0-9a-f-]{36}' 'now it is stored'
member carol "SELECT tenancy.reveal_secret('aws-stop', 'stop idle instances')"
refused 42501 'revealed for a named action only'
member carol "SELECT tenancy.reveal_secret('aws-stop', 'stop idle instances', action_type => 'instance.stop')"
shows "$writing" 'with the approved one it is'
member dan "SELECT tenancy.withdraw_action_type('instance.stop', 'an instance in use was stopped')"
refused 00000 'withdrawn'
member carol "SELECT tenancy.reveal_secret('aws-stop', 'stop idle instances', action_type => 'instance.stop')"
refused 42501 'which counts from the next statement on'

heading 'The key-encryption key is changed while reads go on' 'Another session reveals without a pause, from before to after.'
{
    echo "\\set token '${token[carol]}'"
    while [[ ! -e $tokens/enough ]]; do
        echo "BEGIN; SELECT tenancy.authenticate(:'token') \\g /dev/null
SELECT tenancy.reveal_secret('aws-billing', 'nightly cost import'); COMMIT;"
    done
} | "$psql" -XAtq -U finops_app >"$tokens/reads" 2>&1 &
reader=$!
reads_go_on "$third"
run 'echo "2027-a $(openssl rand -base64 32)" >>secret.keys' add_key 2027-a
as custodian finops_custodian
ask "SELECT tenancy.add_key_encryption_key('2027-a', reason => 'yearly change')"
ask "SELECT tenancy.set_current_key_encryption_key('2027-a', reason => 'yearly change')"
ask "SELECT tenancy.retire_key_encryption_key('2026-a', reason => 'yearly change')"
refused 55000 'the old key is still needed'
ask 'CALL tenancy.rewrap_data_keys()'
refused 00000 'each data key is wrapped anew; no value is touched'
ask "SELECT tenancy.retire_key_encryption_key('2026-a', reason => 'yearly change')"
refused 00000 'now it is not'
ask 'SELECT id, state, is_current, data_keys, available FROM tenancy.key_status() ORDER BY id'
shows '2026-a [|] retired +[|] f +[|] +0 .*2027-a [|] enabled +[|] t +[|] +[1-9][0-9]* [|] yes' \
    'everything is under the new key'
reads_go_on "$third"
touch "$tokens/enough"
wait "$reader" || true
count=$(reads "$third")
other=$(grep -v -m 1 -F -e "$third" "$tokens/reads" || true)
[[ -z $other ]] || failed "reads went on (but one of them: $other)"
ok "$count reads meanwhile, and none of them failed"

heading 'What somebody should mend' 'Each secret is judged, and so is each control of the extension.'
quietly '\connect - finops_app'
member carol 'SELECT name, severity, findings, rotation_due_at::date FROM tenancy.secret_posture ORDER BY name'
shows 'aws-billing [|] info .*aws-stop +[|] warning +[|] .unverified' 'a rotated credential beside one that nobody has tried'
as auditor finops_auditor
ask "SELECT control, state, count, mend FROM tenancy.posture WHERE control IN ('secrets.health', 'keys.data_keys')
 AND (organization IS NULL OR organization = '$northwind') ORDER BY control"
shows 'keys.data_keys [|] ok .*secrets.health [|] warn' 'an auditor sees every organization, and the database'

if dumps; then
    heading 'A restore without the key says which one is missing' \
        'The ring has another key for that while, as on a server that nobody gave the key to.'
    restore() {
        local bin=${PG_TENANCY_BIN:+$PG_TENANCY_BIN/}
        "$psql" -q -d postgres -c 'CREATE DATABASE finops_restored TEMPLATE template0 ENCODING UTF8' \
            && "${bin}pg_dump" -d finops -Fc | "${bin}pg_restore" -d finops_restored --exit-on-error
    }
    run 'pg_dump -Fc finops | pg_restore -d finops_restored' restore
    [[ -z ${answer[*]} ]] || failed 'the dump is restored'
    run 'mv secret.keys secret.keys.kept; echo "other $(openssl rand -base64 32)" >secret.keys' \
        as_keeper 'mv "$1" "$1.kept"; echo "other $(head -c 32 /dev/urandom | base64)" >"$1"'
    quietly '\connect finops_restored finops_app'
    member bob 'SELECT count(*) FROM "Finding"'
    rows_are 30000 'what needs no key works'
    member carol "SELECT tenancy.reveal_secret('aws-billing', 'nightly cost import')"
    refused F0000 'a credential does not open'
    [[ ${answer[*]} == *2027-a* ]] || failed 'the error names the key that is missing'
    ok 'the error names the key that is missing'
    as custodian finops_custodian
    ask 'SELECT id, state, data_keys, available, detail FROM tenancy.key_status() WHERE is_current'
    shows '2027-a .*missing' 'key_status() says it of every key'
    ask 'SELECT name, version, outcome, detail FROM tenancy.verify_secrets() ORDER BY name'
    shows 'aws-billing [|] +3 [|] key_missing .*aws-stop .*key_missing' 'verify_secrets() says it of every value'
    run 'mv secret.keys.kept secret.keys' as_keeper 'mv "$1.kept" "$1"'
    ask 'SELECT count(*) AS values_that_do_not_open FROM tenancy.verify_secrets()'
    rows_are 0 'with the key, everything opens'
    quietly '\connect finops finops_app'
    quietly "\\connect - $PGUSER"
    "$psql" -q -d postgres -c 'DROP DATABASE finops_restored'
fi
quietly "\\connect - $PGUSER"
