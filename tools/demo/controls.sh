# shellcheck shell=bash disable=SC2016,SC2154
# The chapter on operating controls, sourced by tools/demo.sh: how an organization gets out of the ordinary, for a time,
# for a reason and under other eyes. Statements of members are transactions of their own.

# Runs a statement of a member in a session of its own.
in_another_session() {
    "$psql" -XAtq -U finops_app -v ON_ERROR_STOP=1 <<<"\\set token '${token[$1]}'
BEGIN;
SELECT tenancy.authenticate(:'token') \\g /dev/null
$2;
COMMIT;"
}

# Shows a statement of a member that another session runs while the transaction of this one is open.
meanwhile() {
    printf '  %s%s>%s %s%s;%s %s-- in another session%s\n' "$cyan" "$1" "$plain" "$bold" "$2" "$plain" "$dim" "$plain"
    mapfile -t answer < <(in_another_session "$1" "${2//":'grant'"/"'$grant'"}" 2>&1)
    [[ ${answer[*]} != *ERROR* ]] || failed "$1 does it (got: ${answer[*]})"
}

# A statement of a member that is not shown.
unseen() {
    quietly "BEGIN;
SELECT tenancy.authenticate(:'$1') \\g /dev/null
$2 \\g /dev/null
COMMIT;"
}

# Waits until a condition holds, which is asked for as the database role of the story.
until_true() {
    local tries
    for ((tries = 0; tries < 600; tries++)); do
        quietly "SELECT 'reached' WHERE $1;"
        if [[ ${answer[*]} == *reached* ]]; then return; fi
        sleep 0.05
    done
    failed "this comes true: $1"
}

# Keeps the value that the last statement answered, here and as a variable of psql.
keep_as() {
    read -r "$1" <<<"${answer[2]}"
    quietly "\\set $1 ${!1}"
}

begin_of_chapter=$(date -u +'%F %T+00')
# From here on the background worker seals, and writes what statements under break-glass do.
as dba "$PGUSER"
quietly "ALTER SYSTEM SET tenancy.seal_interval = '200ms';"
quietly 'SELECT pg_reload_conf() \g /dev/null'

heading 'A guardrail is tried before it is enforced' \
    'In the state warn it is done, with a WARNING and an event. This one is about values within statements.'
put() { echo "SELECT tenancy.put_secret('$1', 'ghp_$(openssl rand -hex 8)')"; }
as carol finops_app
member carol "$(put github-deploy)"
shows 'WARNING' 'stored, with a warning'
as auditor finops_auditor
quietly 'SELECT tenancy.seal() \g /dev/null'
ask "SELECT hits, subjects FROM tenancy.guardrail_trial('literal_secret') WHERE organization = '$northwind'"
shows ' 1 [|] +1' 'the trial tells what would have been refused, and of how many persons'
as carol finops_app
member carol "SELECT tenancy.set_guardrail('literal_secret', 'enforce', 'the trial found one place', tenancy.org_id())"
refused 00000 'an admin enforces it for Northwind'
member carol "$(put github-release)"
refused 22023 'now it is refused'
member carol "SELECT tenancy.clear_guardrail('literal_secret', tenancy.org_id(), 'too strict')"
refused 42501 'and nobody of Northwind takes that back'

heading 'Break-glass: for a reason, for a while, approved by somebody else' \
    'It is night. The program that seals is gone with a laptop, and a new key has to be stored.' \
    'Erin is there too, as a controller: a role of Northwind alone that reads and signs off.' \
    'The sign-off is due after a second for this demo; three days are the default.'
unseen carol "SELECT tenancy.define_role('controller', '{*:read, break_glass:sign_off}'),
    tenancy.add_member('erin', 'controller', 'https://sso.example.com'),
    tenancy.add_member('frank', 'viewer', 'https://sso.example.com')"
unseen dan "SELECT tenancy.set_break_glass_policy('{\"sign_off_within\": \"1 second\"}', 'a demo', tenancy.org_id())"
member carol "SELECT tenancy.request_break_glass('the laptop that seals is lost, the import stands still', 'OPS-41',
    duration => '30 minutes', overrides => '{literal_secret}')"
shows '[0-9a-f-]{36}' 'asked for'
keep_as grant
member carol "SELECT tenancy.approve_break_glass(:'grant', 'it is urgent')"
refused 42501 'her own approval is refused'
member dan "SELECT tenancy.approve_break_glass(:'grant', 'I have called her')"
refused 00000 'Dan approves'
as carol finops_app
request carol
ask "SELECT tenancy.break_glass(:'grant')"
refused 00000 'the half hour begins, for transactions that ask for it'
ask 'SELECT count(*) AS high FROM "Finding" WHERE severity = '"'high'"
rows_are '[1-9][0-9]*' 'a read'
ask "UPDATE \"Finding\" SET status = 'approved' WHERE id = 5"
refused 00000 'a change'
ask "$(put github-release)"
refused 00000 'and what the guardrail refused before'
ask 'COMMIT'

heading 'It ends at once, in the middle of a transaction'
request carol
ask "SELECT tenancy.break_glass(:'grant')"
ask 'SELECT count(*) AS accounts FROM cloud_account'
rows_are 12 'she goes on'
meanwhile dan "SELECT tenancy.end_break_glass(:'grant', 'the key is stored, that is enough')"
ask 'SELECT count(*) AS findings FROM "Finding"'
refused 42501 'the next statement of the open transaction is refused'
ask 'ROLLBACK'

heading 'What was done is reported, and a third person signs it off'
as auditor finops_auditor
until_true "4 <= (SELECT count(*) FROM tenancy.audit_trail
    WHERE grant_id = '$grant' AND operation = 'statement')
    AND NOT EXISTS (SELECT FROM tenancy.audit_trail WHERE grant_id = '$grant' AND \"position\" IS NULL)"
until_true "EXISTS (SELECT FROM tenancy.posture WHERE organization = '$northwind' AND state = 'fail'
    AND control = 'controls.break_glass_unsigned')"
ask "SELECT state, count, meaning FROM tenancy.posture
 WHERE control = 'controls.break_glass_unsigned' AND organization = '$northwind'"
shows 'fail +[|] +1 ' 'the sign-off is overdue'
as erin finops_app
member erin "SELECT s->>'command' AS command, s->'tables'->0->>'table' AS \"table\", s->>'rows' AS rows,
       s->>'result' AS result
  FROM jsonb_array_elements(tenancy.break_glass_report(:'grant')->'report'->'statements') s
 ORDER BY command, \"table\""
shows 'SELECT +[|] Finding +[|] 1 .*SELECT +[|] cloud_account +[|] 1 .*UPDATE +[|] Finding +[|] 1 ' \
    'each statement, also of the transaction that was rolled back'
member erin "SELECT e->>'operation' AS operation,
       coalesce((e->>'new')::json->>'guardrail', concat_ws(' becomes ', e->>'old', e->>'new')) AS what
  FROM jsonb_array_elements(tenancy.break_glass_report(:'grant')->'report'->'events') e
 WHERE e->>'operation' IN ('update', 'guardrail')"
shows 'update .*"resolved".* becomes .*"approved".*guardrail .*literal_secret' \
    'the change, and the guardrail that was passed'
member carol "SELECT tenancy.sign_off_break_glass(:'grant', 'appropriate', 'nothing to see here')"
refused 42501 'who used it does not sign it off'
member erin "SELECT tenancy.sign_off_break_glass(:'grant', 'appropriate', 'one key and one row, see OPS-41')"
refused 00000 'Erin does; the event has the digest of the report'

heading 'An exception has a reason, a second person and an end' \
    'One function decides for every reader whether a finding is excepted.'
list="SELECT id, title FROM \"Finding\"
 WHERE id IN (7, 8, 9) AND NOT tenancy.is_excepted('finding', id::text) ORDER BY id"
member carol "SELECT tenancy.add_exception('finding', '7', 'finding 7', now() + interval '60 days')"
refused 22023 'this is no reason'
member carol "SELECT tenancy.add_exception('finding', '7', 'A spare for the move in May, see OPS-44',
    now() + interval '60 days')"
shows '[0-9a-f-]{36}' 'asked for'
keep_as exception
member dan "SELECT tenancy.decide_exception(:'exception', true, 'the move is planned')"
refused 00000 'Dan approves, not who asks'
ends=$(date -u -d '+5 seconds' +'%F %T+00')
member carol "SELECT tenancy.add_exception('finding', '8', 'It is deleted in a moment, see OPS-45', '$ends')"
keep_as short_one
unseen dan "SELECT tenancy.decide_exception(:'short_one', true, 'for that moment')"
member alice "$list"
shows ' 9 ' 'Alice has one of three findings left'
[[ ${answer[*]} != *' 7 '* && ${answer[*]} != *' 8 '* ]] || failed 'the other two are excepted'
until_true "now() >= '$ends'"
member alice "$list"
shows ' 8 .* 9 ' 'at the end of the shorter one she has two: no job is needed for that'

heading 'A review decides about what was seen'
member carol "SELECT tenancy.open_review('memberships', 'Access review Q4', now() + interval '14 days')"
shows '[0-9a-f-]{36}' 'a snapshot of every membership'
keep_as review
unseen carol "SELECT tenancy.change_member('frank', status => 'suspended', issuer => 'https://sso.example.com')"
member dan "SELECT number, what->>'subject' AS member, snapshot::json->>'role' AS role,
       snapshot::json->>'status' AS status
  FROM tenancy.review_item WHERE review = :'review' ORDER BY number"
shows 'frank +[|] viewer +[|] active' 'Frank is an active viewer there'
declare -A item
for line in "${answer[@]}"; do
    if [[ $line =~ ^\ *([0-9]+)\ \|\ ([a-z]+) ]]; then item[${BASH_REMATCH[2]}]=${BASH_REMATCH[1]}; fi
done
member dan "SELECT tenancy.decide(:'review', ${item[frank]}, 'keep', 'he moves our servers')"
refused 40001 'he was suspended meanwhile, which is not what Dan decides about'
member dan "SELECT tenancy.refresh_item(:'review', ${item[frank]})"
member dan "SELECT tenancy.decide(:'review', ${item[frank]}, 'revoke', 'left in November')"
refused 00000 'with the new state in the snapshot he decides anew'
others="{${item[alice]}, ${item[carol]}, ${item[erin]}}"
unseen dan "SELECT tenancy.decide_many(:'review', '$others', 'keep', 'still here')"
unseen carol "SELECT tenancy.decide(:'review', ${item[dan]}, 'keep', 'still here')"
member carol "SELECT * FROM tenancy.close_review(:'review') ORDER BY item"
shows "${item[frank]} [|] applied" 'the close does what was decided, in one transaction'

ends=$(date -u -d '+2 seconds' +'%F %T+00')
member carol "SELECT tenancy.open_review('exceptions', 'Exceptions Q4', '$ends') AS other_review"
keep_as other_review
until_true "now() >= '$ends'"
member carol "SELECT * FROM tenancy.close_review(:'other_review') ORDER BY item"
shows 'lapsed' 'an exception that nobody decides about ends with its review'
member alice "$list"
shows ' 7 .* 8 .* 9 ' 'so Alice has the finding back'

heading 'An auditor proves the review and the night without the database' \
    'Erin hands two reports over. The bundle is the audit of this chapter.'
report() { in_another_session erin "SELECT $1" >"$tokens/$2"; }
run "psql -c \"SELECT tenancy.review_report('$review')\" >review.json" \
    report "tenancy.review_report('$review')" review.json
run "psql -c \"SELECT tenancy.break_glass_report('$grant')\" >night.json" \
    report "tenancy.break_glass_report('$grant')" night.json
as dba "$PGUSER"
quietly 'SELECT tenancy.settle_due() \g /dev/null' # after which nothing is left that the worker would record
as auditor finops_auditor
quietly 'SELECT tenancy.seal() \g /dev/null'
ask 'SELECT tenancy.checkpoint() AS number'
rows_are '[1-9][0-9]*' 'it covers everything so far'
quietly 'SELECT public_key AS key FROM tenancy.signing_key ORDER BY epoch DESC LIMIT 1 \gset'
send '\echo :key'
key=${answer[0]}
export_bundle() {
    "$psql" -XAtq -U finops_auditor \
        -c "SELECT tenancy.export_evidence('$northwind', '$begin_of_chapter')" >"$tokens/bundle.jsonl"
}
verify() { (cd "$tokens" && "$verifier" bundle.jsonl --key "$key" "$@"); }
run "psql -c \"SELECT tenancy.export_evidence('$northwind', '$begin_of_chapter')\" >bundle.jsonl" export_bundle
[[ -z ${answer[*]} ]] || failed 'the bundle is exported'
run 'pg-tenancy-verify bundle.jsonl --key "$key" --report review.json --report night.json' \
    verify --report review.json --report night.json
shows 'PROVED, by the keys .*review.json is the report of .*night.json is the report of ' \
    'signed, complete, and both reports are those of that time'
forge() {
    sed 's/"decision": "revoke"/"decision": "keep"/' "$tokens/review.json" >"$tokens/forged.json"
    ! cmp -s "$tokens/review.json" "$tokens/forged.json" || echo 'nothing is forged'
}
run "sed 's/\"decision\": \"revoke\"/\"decision\": \"keep\"/' review.json >forged.json" forge
[[ -z ${answer[*]} ]] || failed 'the report says that Frank was to go'
verify_forged() { verify --report forged.json | grep forged.json; }
run 'pg-tenancy-verify bundle.jsonl --key "$key" --report forged.json | grep forged.json' verify_forged
shows 'no event here has its digest' 'a report that somebody has changed is found out'
