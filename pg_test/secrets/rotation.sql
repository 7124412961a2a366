-- Rotations of secrets: what leads from one state to the next, what is refused, who may do what, and what is recorded.
-- Several members and sessions, and time that passes, are in tests/rotation.rs.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(180);

DO $$ BEGIN
    PERFORM tenancy.add_key_encryption_key('first', 'test'), tenancy.set_current_key_encryption_key('first', 'test');
    PERFORM tenancy.grant_permission('editor', 'secret', 'read', 'report');
END $$;
CREATE FUNCTION test.states(secret text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(number || ' ' || state, ', ' ORDER BY number) FROM tenancy.secret_version v JOIN tenancy.secret s ON s.id = v.secret WHERE s.name = states.secret
$$;
CREATE FUNCTION test.rotations(secret text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s to %s %s', from_version, to_version, state), ', ' ORDER BY to_version) FROM tenancy.rotation r JOIN tenancy.secret s ON s.id = r.secret WHERE s.name = rotations.secret
$$;
CREATE FUNCTION test.sealed(secret text) RETURNS text LANGUAGE sql SECURITY DEFINER AS $$
    SELECT string_agg(number::text, ', ' ORDER BY number) FROM tenancy.sealed_value v JOIN tenancy.secret s ON s.id = v.secret WHERE s.name = sealed.secret
$$;
CALL test.sign_in('ada', test.acme());
SET LOCAL ROLE test_application;
SELECT isnt(tenancy.put_secret('aws', 'MARK-1'), NULL, 'a credential is stored');

-- Arguments ------------------------------------------------------------------------------------------------------------

SELECT test.refused('SELECT tenancy.' || call, '22004', '%may not be NULL', '%', 'no argument may be NULL: ' || call) FROM unnest(ARRAY[
    'begin_rotation(NULL)', 'begin_rotation(''aws'', ''v'', sealed => NULL)', 'supply_value(''aws'', 2, ''v'', sealed => NULL)', 'supply_value(NULL, 2, ''v'')', 'supply_value(''aws'', NULL, ''v'')', 'supply_value(''aws'', 2, NULL)', 'report_health(NULL, 1, true)', 'report_health(''aws'', NULL, true)',
    'report_health(''aws'', 1, NULL)', 'promote(NULL, 2)', 'promote(''aws'', NULL)', 'roll_back(NULL, ''why'')', 'roll_back(''aws'', NULL)', 'retire(NULL, 1, ''why'')', 'retire(''aws'', NULL, ''why'')',
    'retire(''aws'', 1, NULL)', 'abandon_rotation(NULL, ''why'')', 'abandon_rotation(''aws'', NULL)', 'set_secret_policy(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)']) call;
SELECT test.refused(format('SELECT tenancy.' || call, text), '22023', '% is blank, or longer than 1000 bytes', '%', 'a text says something: ' || call)
  FROM unnest(ARRAY['begin_rotation(''aws'', ''v'', reason => %L)', 'begin_rotation(''aws'', ''v'', provider_key_id => %L)', 'supply_value(''aws'', 2, ''v'', provider_key_id => %L)', 'report_health(''aws'', 1, true, %L)',
    'roll_back(''aws'', %L)', 'retire(''aws'', 1, %L)', 'abandon_rotation(''aws'', %L)']) call, unnest(ARRAY['', E' \t', repeat('x', 1001)]) text;
SELECT test.refused('SELECT tenancy.' || call, '22023', 'expires_at is in the past', '%', 'nothing is stored that has expired: ' || call) FROM unnest(ARRAY['begin_rotation(''aws'', ''v'', expires_at => clock_timestamp())', 'supply_value(''aws'', 2, ''v'', expires_at => ''-infinity'')']) call;
SELECT test.refused(format('SELECT tenancy.begin_rotation(''aws'', %s)', value), '22023', 'a value has 1 to 65536 bytes', '%', 'no value is like this') FROM unnest(ARRAY[$$''$$, $$repeat('x', 65537)$$]) value;
SELECT test.refused($$ SELECT tenancy.begin_rotation('aws', 'MARK-1') $$, '22023', 'version 1 has the same value', '%make a new credential%', 'a value that is there is no new one');
SELECT is(test.states('aws'), '1 current', 'nothing of this has changed anything');
SELECT is(test.rotations('aws'), NULL, 'nor begun');

-- From the announcement to the completion --------------------------------------------------------------------------------

SELECT test.refused('SELECT tenancy.' || call, '55000', message, '%docs/secrets.md%', 'without a rotation: ' || call) FROM (VALUES
    ('supply_value(''aws'', 2, ''v'')', 'no rotation of the secret "aws" is open'), ('promote(''aws'', 1)', 'no rotation of the secret "aws" is open'), ('roll_back(''aws'', ''why'')', 'no rotation of the secret "aws" is observing'),
    ('abandon_rotation(''aws'', ''why'')', 'no rotation of the secret "aws" is open'), ('retire(''aws'', 1, ''why'')', 'version 1 of the secret "aws" is in another state%'), ('retire(''aws'', 2, ''why'')', 'version 2 of the secret "aws" is in another state%'),
    ('report_health(''aws'', 2, true)', 'version 2 of the secret "aws" is in another state%'), ('report_health(''aws'', -1, true)', 'version -1 of the secret "aws" is in another state%')) c (call, message);
SELECT is(tenancy.begin_rotation('aws', reason => 'the yearly one', provider_key_id => 'AKIA', expires_at => 'infinity'), 2, 'a rotation begins with an announcement');
SELECT is(test.states('aws'), '1 current, 2 announced', 'the current version stays');
SELECT is(test.sealed('aws'), '1', 'and there is no new value yet');
SELECT test.same($$ SELECT from_version, to_version, state, reason, begun_by, deadline - begun_at, promoted_at, ended_at, end_reason FROM tenancy.rotation $$,
    $$ VALUES (1, 2, 'open', 'the yearly one', 'ada', interval '1 day', NULL::timestamptz, NULL::timestamptz, NULL::text) $$, 'the rotation is there to read');
SELECT test.refused('SELECT tenancy.' || call, '55000', 'a rotation of the secret "aws" is under way', '%tenancy.promote%', 'there is no second one: ' || call) FROM unnest(ARRAY['begin_rotation(''aws'')', 'begin_rotation(''aws'', ''MARK-2'')']) call;
SELECT test.refused('SELECT tenancy.' || call, '55000', message, '%', 'nothing is done with what is not there: ' || call) FROM (VALUES ('report_health(''aws'', 2, true)', 'version 2 of the secret "aws" is in another state%'),
    ('promote(''aws'', 2)', '%in another state%'), ('promote(''aws'', 1)', '%in another state%'), ('supply_value(''aws'', 1, ''v'')', '%in another state%'), ('retire(''aws'', 2, ''why'')', '%in another state%')) c (call, message);
SELECT test.refused($$ SELECT tenancy.supply_value('aws', 2, 'MARK-1') $$, '22023', 'version 1 has the same value', '%', 'the value of another version is no new one');
SELECT lives_ok($$ SELECT tenancy.supply_value('aws', 2, 'MARK-2') $$, 'the value comes');
SELECT is(test.states('aws'), '1 current, 2 pending', 'and is proved by nothing');
SELECT is(test.sealed('aws'), '1, 2', 'but stored');
SELECT test.same($$ SELECT provider_key_id, expires_at, valued_at > announced_at, octet_length(sealed_digest) FROM tenancy.secret_version WHERE number = 2 $$, $$ VALUES ('AKIA', 'infinity'::timestamptz, true, 32) $$, 'what was announced is kept');
SELECT test.refused($$ SELECT tenancy.supply_value('aws', 2, 'MARK-3') $$, '55000', 'version 2 of the secret "aws" is in another state%', '%', 'a value comes once');
SELECT test.refused($$ SELECT tenancy.promote('aws', 2) $$, '55000', 'no health report proves what this needs of version 2 of the secret "aws"', '%tenancy.report_health%', 'an unproved version is not promoted');
SELECT test.refused(format('SELECT tenancy.report_health(''aws'', 2, true, checked_at => %L)', moment), '22023', 'checked_at is in the future, or before the value came', '%', 'a report is of the time of the value: ' || moment)
  FROM unnest(ARRAY[clock_timestamp() + '1 minute', 'infinity', '-infinity', transaction_timestamp() - interval '1 day']) moment;
SELECT is(tenancy.report_health('aws', 1, true), 'current', 'a report of the current version');
SELECT test.refused($$ SELECT tenancy.promote('aws', 2) $$, '55000', 'no health report proves%', '%', 'says nothing of another one');
SELECT lives_ok($$ SELECT tenancy.set_secret_policy('aws', NULL, NULL, '1 hour', 2, '0', NULL, NULL) $$, 'two reports are to prove it');
SELECT is(tenancy.report_health('aws', 2, true, 'it lists buckets', (SELECT valued_at FROM tenancy.secret_version WHERE number = 2)), 'pending', 'one is too few');
SELECT is(tenancy.report_health('aws', 2, true, 'it lists buckets', (SELECT valued_at FROM tenancy.secret_version WHERE number = 2)), 'pending', 'and is one however often it comes');
SELECT is(tenancy.report_health('aws', 2, true), 'verified', 'two prove it');
SELECT is((SELECT count(*) FROM tenancy.health_report), 3::bigint, 'each report is there to read');
SELECT test.same($$ SELECT healthy, detail, reported_by, reported_at > checked_at FROM tenancy.health_report WHERE version = 2 ORDER BY id LIMIT 1 $$, $$ VALUES (true, 'it lists buckets', 'ada', true) $$, 'with what it says');
SELECT is(tenancy.promote('aws', 2), 1, 'it is promoted');
SELECT is(test.states('aws'), '1 previous, 2 current', 'and the version before is previous');
SELECT is(tenancy.promote('aws', 2), 1, 'the same call again says the same');
SELECT test.refused($$ SELECT tenancy.abandon_rotation('aws', 'why') $$, '55000', 'no rotation of the secret "aws" is open', '%', 'what is promoted is not abandoned');
SELECT test.refused($$ SELECT tenancy.begin_rotation('aws', 'MARK-3') $$, '55000', '%is under way', '%', 'nor does another one begin');
SELECT test.refused($$ SELECT tenancy.retire('aws', 1, 'over') $$, '55000', 'no health report proves what this needs of version 1%', '%', 'a report of before the promotion does not count');
SELECT is(test.sealed('aws'), '1, 2', 'the old value is still there');
SELECT is(tenancy.report_health('aws', 2, true), 'current', 'it works after the promotion');
SELECT lives_ok($$ SELECT tenancy.retire('aws', 1, 'over') $$, 'the version before is retired');
SELECT lives_ok($$ SELECT tenancy.retire('aws', 1, 'over') $$, 'the same call again changes nothing');
SELECT is(test.states('aws'), '1 retired, 2 current', 'the new version is the only one');
SELECT is(test.sealed('aws'), '2', 'the old value is gone');
SELECT test.same($$ SELECT state, promoted_at IS NOT NULL, ended_at > promoted_at, end_reason FROM tenancy.rotation $$, $$ VALUES ('completed', true, true, 'over') $$, 'the rotation is complete');
SELECT test.refused('SELECT tenancy.' || call, '55000', '%', '%', 'and nothing follows: ' || call) FROM unnest(ARRAY['promote(''aws'', 2)', 'roll_back(''aws'', ''why'')', 'abandon_rotation(''aws'', ''why'')', 'report_health(''aws'', 1, true)', 'supply_value(''aws'', 2, ''v'')']) call;
SELECT test.refused($$ SELECT tenancy.begin_rotation('aws', 'MARK-1') $$, '22023', 'version 1 has the same value', '%', 'nor does a retired value come back');

-- Failing --------------------------------------------------------------------------------------------------------------

SELECT is(tenancy.begin_rotation('aws', 'MARK-3'), 3, 'no number is used again');
SELECT is(tenancy.report_health('aws', 3, false, 'access denied'), 'failed', 'a value that does not work is failed');
SELECT is(tenancy.report_health('aws', 3, true), 'failed', 'for good');
SELECT test.refused($$ SELECT tenancy.promote('aws', 3) $$, '55000', 'version 3 of the secret "aws" is in another state%', '%', 'and never promoted');
SELECT lives_ok($$ SELECT tenancy.abandon_rotation('aws', 'the provider is down') $$, 'its rotation is abandoned');
SELECT is(test.states('aws'), '1 retired, 2 current, 3 failed', 'the version stays, because its credential does');
SELECT test.refused($$ SELECT tenancy.begin_rotation('aws', 'MARK-4') $$, '55000', 'the secret "aws" may have 2 versions that are not retired', '%', 'and counts as one that lives');
SELECT lives_ok($$ SELECT tenancy.retire('aws', 3, 'deleted there') $$, 'until it is retired');
SELECT is(tenancy.begin_rotation('aws', 'MARK-4'), 4, 'then another one begins');
SELECT lives_ok($$ SELECT tenancy.abandon_rotation('aws', 'not today') $$, 'and is abandoned before it is proved');
SELECT test.refused($$ SELECT tenancy.abandon_rotation('aws', 'not today') $$, '55000', 'no rotation of the secret "aws" is open', '%', 'once');
SELECT is(test.states('aws'), '1 retired, 2 current, 3 retired, 4 retired', 'its version is retired');
SELECT is(test.sealed('aws'), '2', 'with its value');
SELECT is(tenancy.begin_rotation('aws', 'MARK-5'), 5, 'one fails');
SELECT is(tenancy.report_health('aws', 5, false), 'failed', 'at once');
SELECT lives_ok($$ SELECT tenancy.retire('aws', 5, 'deleted there') $$, 'and is retired');
SELECT is(test.rotations('aws'), '1 to 2 completed, 2 to 3 abandoned, 2 to 4 abandoned, 2 to 5 abandoned', 'which ends its rotation');

-- Rolling back ---------------------------------------------------------------------------------------------------------

SELECT lives_ok($$ SELECT tenancy.set_secret_policy('aws', NULL, NULL, NULL, NULL, '1 day', NULL, NULL) $$, 'one report, a day of observation');
SELECT is(tenancy.begin_rotation('aws', 'MARK-6'), 6, 'a rotation');
SELECT is(tenancy.report_health('aws', 6, true), 'verified', 'that one report verifies');
SELECT is(tenancy.promote('aws', 6), 2, 'is promoted');
SELECT is(tenancy.report_health('aws', 6, true), 'current', 'it works');
SELECT test.refused($$ SELECT tenancy.retire('aws', 2, 'over') $$, '55000', 'version 2 of the secret "aws" may still be in use', '%observe_for%', 'but is observed');
SAVEPOINT observed;
SELECT is(tenancy.roll_back('aws', 'too slow'), 2, 'it is rolled back');
SELECT is(right(test.states('aws'), 52), '2 current, 3 retired, 4 retired, 5 retired, 6 failed', 'and the version before is current');
SELECT test.refused($$ SELECT tenancy.roll_back('aws', 'too slow') $$, '55000', 'no rotation of the secret "aws" is observing', '%', 'once');
SELECT test.same($$ SELECT state, end_reason FROM tenancy.rotation ORDER BY to_version DESC LIMIT 1 $$, $$ VALUES ('rolled_back', 'too slow') $$, 'which the rotation tells');
ROLLBACK TO observed;
SELECT is(tenancy.report_health('aws', 6, false, 'throttled'), 'failed', 'a negative report rolls it back');
SELECT is(right(test.states('aws'), 52), '2 current, 3 retired, 4 retired, 5 retired, 6 failed', 'by itself');
SELECT test.same($$ SELECT state, end_reason FROM tenancy.rotation ORDER BY to_version DESC LIMIT 1 $$, $$ VALUES ('rolled_back', 'a health report was negative') $$, 'which the rotation tells');
ROLLBACK TO observed;
RESET ROLE;
DO $$ BEGIN PERFORM tenancy.set_guardrail('failed_rotation', 'warn', 'test'); END $$;
SET LOCAL ROLE test_application;
SELECT is(tenancy.report_health('aws', 6, false, 'throttled'), 'current', 'not where the guardrail only warns');
SELECT test.refused($$ SELECT tenancy.retire('aws', 2, 'over') $$, '55000', 'no health report proves%', '%', 'but what fails is no reason to retire the other');
ROLLBACK TO observed;
SELECT lives_ok($$ SELECT tenancy.set_secret_policy('aws', NULL, NULL, NULL, NULL, '0', NULL, NULL) $$, 'the observation ends');
SELECT is(tenancy.report_health('aws', 6, false), 'current', 'what fails later is not rolled back');
SELECT is(tenancy.roll_back('aws', 'late'), 2, 'but by hand');
ROLLBACK TO observed;

-- Rules and owners -----------------------------------------------------------------------------------------------------

SELECT test.refused(format('SELECT tenancy.set_secret_policy(''aws'', %s)', rules), '22023', message || ' is out of its range', '%', 'no rule is like this: ' || rules) FROM (VALUES
    ('''0'', NULL, NULL, NULL, NULL, NULL, NULL', 'rotate_every'), ('''-1 day'', NULL, NULL, NULL, NULL, NULL, NULL', 'rotate_every'), ('''101 years'', NULL, NULL, NULL, NULL, NULL, NULL', 'rotate_every'),
    ('NULL, 1, NULL, NULL, NULL, NULL, NULL', 'max_live_versions'), ('NULL, 101, NULL, NULL, NULL, NULL, NULL', 'max_live_versions'), ('NULL, NULL, ''0'', NULL, NULL, NULL, NULL', 'health_max_age'),
    ('NULL, NULL, ''178000000 years'', NULL, NULL, NULL, NULL', 'health_max_age'), ('NULL, NULL, NULL, 0, NULL, NULL, NULL', 'health_required'), ('NULL, NULL, NULL, 101, NULL, NULL, NULL', 'health_required'),
    ('NULL, NULL, NULL, NULL, ''-1 second'', NULL, NULL', 'observe_for'), ('NULL, NULL, NULL, NULL, ''101 years'', NULL, NULL', 'observe_for')) r (rules, message);
SELECT test.refused(format('SELECT tenancy.set_secret_policy(''aws'', NULL, NULL, NULL, NULL, NULL, %s)', owner), '22023', message, '%', 'no owner is like this: ' || owner) FROM (VALUES
    ('''nobody'', NULL', '"nobody" is no active member of the organization'), ('''bob'', NULL', '"bob" is no active member of the organization'), ('''eve'', ''https://other.test/''', '"eve" is no active member of the organization'),
    ('NULL, ''https://issuer.test/''', 'owner_issuer names%')) o (owner, message);
SELECT lives_ok($$ SELECT tenancy.set_secret_policy('aws', '30 days', 3, '2 hours', 1, '0', 'eve', NULL) $$, 'rules and an owner');
SELECT test.same($$ SELECT rotate_every, max_live_versions, health_max_age, health_required, observe_for, owner_subject, owner_issuer FROM tenancy.secret WHERE name = 'aws' $$,
    $$ VALUES (interval '30 days', 3, interval '2 hours', 1, interval '0', 'eve', test.issuer()) $$, 'are there to read');
SELECT lives_ok($$ SELECT tenancy.retire('aws', 2, 'over') $$, 'and count at the next call');
SELECT is(tenancy.begin_rotation('aws', 'MARK-7'), 7, 'a second live version');
SELECT is(tenancy.report_health('aws', 7, false), 'failed', 'that fails');
SELECT lives_ok($$ SELECT tenancy.abandon_rotation('aws', 'why') $$, 'and stays');
SELECT is(tenancy.begin_rotation('aws', 'MARK-8'), 8, 'leaves room for a third');
SELECT lives_ok($$ SELECT tenancy.set_secret_policy('aws', NULL, NULL, NULL, NULL, NULL, NULL, NULL) $$, 'NULL takes the rules back');
SELECT test.same($$ SELECT rotate_every, max_live_versions, health_max_age, health_required, observe_for, owner_subject FROM tenancy.secret WHERE name = 'aws' $$,
    $$ VALUES (NULL::interval, NULL::integer, NULL::interval, NULL::integer, NULL::interval, 'eve') $$, 'and leaves the owner');

-- Changes by others ---------------------------------------------------------------------------------------------------

SELECT throws_ok(statement, '42501', NULL, 'an application may not: ' || statement) FROM unnest(ARRAY['UPDATE tenancy.rotation SET state = ''completed''', 'DELETE FROM tenancy.health_report']) statement;
RESET ROLE;
SELECT test.refused(statement, '42501', 'the tables of keys and secrets are written by their functions alone', '%', 'a superuser is refused: ' || statement) FROM unnest(ARRAY[
    'UPDATE tenancy.rotation SET state = ''completed''', 'DELETE FROM tenancy.health_report', 'TRUNCATE tenancy.rotation, tenancy.health_report', 'INSERT INTO tenancy.health_report SELECT * FROM tenancy.health_report', 'UPDATE tenancy.health_report SET healthy = true']) statement;

-- Events ---------------------------------------------------------------------------------------------------------------

SET LOCAL ROLE test_application;
SELECT lives_ok($$ SELECT tenancy.abandon_rotation('aws', 'the last') $$, 'the last rotation ends');
SELECT isnt(tenancy.put_secret('gcp', 'v'), NULL, 'another secret');
SELECT is(tenancy.begin_rotation('gcp', 'w'), 2, 'with a rotation');
SELECT is(tenancy.destroy_secret('gcp', 'closed'), 2, 'a secret is destroyed in the middle of a rotation');
RESET ROLE;
SELECT is(test.rotations('gcp'), '1 to 2 abandoned', 'which ends the rotation');
SELECT test.same($$ SELECT operation, reason, new_values ->> 'version', coalesce(new_values ->> 'changed', new_values ->> 'from_version') FROM tenancy.audit_trail WHERE domain = 'secret' AND result = 'success' AND new_values ->> 'name' = 'aws' AND operation NOT IN ('put', 'policy', 'health') ORDER BY id LIMIT 8 $$, $$ VALUES
    ('begin_rotation', 'the yearly one', '2', '1'), ('supply', NULL, '2', NULL), ('promote', NULL, '2', '1'), ('retire', 'over', '1', '{"1":"retired"}'), ('begin_rotation', NULL, '3', '2'), ('abandon', 'the provider is down', '3', '{}'),
    ('retire', 'deleted there', '3', '{"3":"retired"}'), ('begin_rotation', NULL, '4', '2') $$, 'each change is one event, and a call that changes nothing is none');
SELECT test.same($$ SELECT organization, subject, new_values ->> 'version', new_values ->> 'healthy', new_values ->> 'state' FROM tenancy.audit_trail WHERE operation = 'health' ORDER BY id LIMIT 3 $$, $$ VALUES
    (test.acme(), 'ada', '1', 'true', 'current'), (test.acme(), 'ada', '2', 'true', 'pending'), (test.acme(), 'ada', '2', 'true', 'verified') $$, 'a report too');
SELECT is_empty($$ SELECT FROM tenancy.event WHERE payload::text LIKE '%MARK%' $$, 'no event has a value');
SELECT is_empty($$ SELECT FROM tenancy.audit_trail e JOIN tenancy.secret_version v ON v.number = (new_values ->> 'version')::integer AND v.secret = (new_values ->> 'secret')::uuid WHERE operation IN ('begin_rotation', 'supply') AND new_values ->> 'sealed_digest' <> encode(v.sealed_digest, 'hex') $$, 'but the digest of what was sealed');

SELECT * FROM finish();
ROLLBACK;
