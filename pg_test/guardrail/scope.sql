-- States of guardrails that an organization has for itself: who sets them, what is in force, who sees it.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(55);
SET LOCAL client_min_messages = error;
CREATE FUNCTION pg_temp.state(guardrail text) RETURNS text LANGUAGE sql AS $$ SELECT state FROM tenancy.guardrails() WHERE name = guardrail $$;
SELECT tenancy.create_role('guard', 'sets guardrails'), tenancy.grant_permission('guard', 'guardrail', 'update'), tenancy.set_membership(test.acme(), 'gus', 'guard') \g /dev/null

-- An administrator ------------------------------------------------------------------------------------------------------

SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT test.refused('SELECT tenancy.' || call, state, message, '%', 'refused: ' || call) FROM (VALUES
    ('set_guardrail(''literal_secret'', ''enforce'', ''x'', ''00000000-0000-0000-0000-000000000000'')', '42704', 'there is no organization 00000000-%'),
    ('set_guardrail(''literal_secret'', ''enforce'', ''x'', ''99999999-0000-4000-8000-000000000000'')', '42704', 'there is no organization 99999999-%'),
    ('clear_guardrail(''literal_secret'', ''99999999-0000-4000-8000-000000000000'', ''x'')', '42704', 'there is no organization 99999999-%'),
    ('set_guardrail(''literal_secret'', ''on'', ''x'', test.acme())', '22023', 'a guardrail is off, warn or enforce, not "on"'),
    ('set_guardrail(''nothing'', ''warn'', ''x'', test.acme())', '42704', 'there is no guardrail "nothing"'),
    ('clear_guardrail(''nothing'', NULL, ''x'')', '42704', 'there is no guardrail "nothing"'),
    ('clear_guardrail(''literal_secret'', NULL, NULL)', '22004', '%may not be NULL'),
    ('clear_guardrail(''literal_secret'', NULL, repeat(''x'', 1001))', '22023', 'the reason is blank, longer%'),
    ('set_guardrail(''literal_secret'', ''warn'', E''a\x1b[2J'')', '22023', 'the reason is blank, longer%')) v (call, state, message);
SELECT test.refused(format('SELECT tenancy.%s(%L, %s''x'', test.acme())', 'set_guardrail', name, '''enforce'', '), '22023', 'the guardrail "' || name || '" is of the database%', '%', 'of the database alone: ' || name)
  FROM unnest('{cross_tenant_change,new_tables,protected_tables,row_security_bypass,statement_statistics}'::text[]) name;
SELECT is((SELECT string_agg(name, ',' ORDER BY name) FROM tenancy.guardrails() WHERE scope = 'database'), 'cross_tenant_change,new_tables,protected_tables,row_security_bypass,statement_statistics', 'guardrails() says which these are');
SELECT lives_ok($$ SELECT tenancy.set_guardrail('literal_secret', 'enforce', 'for Acme', test.acme()) $$, 'an administrator sets a state of an organization');
SELECT lives_ok($$ SELECT tenancy.set_guardrail('literal_secret', 'off', 'for all') $$, 'and one of all of them');
SELECT is(pg_temp.state('literal_secret'), 'off', 'without a context that of all is shown');
SELECT tenancy.clear_guardrail('retire_in_use', test.acme(), 'nothing is set'), tenancy.clear_guardrail('retire_in_use', NULL, 'nothing is set') \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.guardrail), 2::bigint, 'what is not set is not cleared');
RESET SESSION AUTHORIZATION;
SELECT test.same($$ SELECT organization, operation, payload -> 'new' ->> 'state', payload -> 'new' ->> 'reason' FROM tenancy.event WHERE table_name = 'guardrail' ORDER BY id $$,
    $$ VALUES (test.acme(), 'insert', 'enforce', 'for Acme'), ('00000000-0000-0000-0000-000000000000'::uuid, 'insert', 'off', 'for all') $$, 'each change is an event of whom it is about');
SELECT test.same('SELECT organization, domain, kind, detail FROM tenancy.alert ORDER BY id',
    $$ VALUES ('00000000-0000-0000-0000-000000000000'::uuid, 'guardrail', 'guardrail_loosened', '{"from": "warn", "to": "off", "reason": "for all", "guardrail": "literal_secret"}'::jsonb) $$, 'what is loosened is an alert, what is stricter is none');

-- In force --------------------------------------------------------------------------------------------------------------

SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
CALL test.sign_in('ada');
SELECT is(pg_temp.state('literal_secret'), 'enforce', 'the stricter one is in force in the organization');
SELECT test.refused($$ SELECT tenancy.put_secret('s', 'a value that stands here') $$, '22023', 'the value stands in the text of the statement', '%', 'where it is enforced it refuses');
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('bob');
SELECT is(pg_temp.state('literal_secret'), 'off', 'and in another one what is in force for all');
ROLLBACK TO SAVEPOINT nobody;

-- A member --------------------------------------------------------------------------------------------------------------

SELECT test.refused('SELECT tenancy.' || call, '28000', 'no organization is authenticated%', '%', 'nothing without a context: ' || call)
  FROM unnest(ARRAY['set_guardrail(''literal_secret'', ''enforce'', ''x'', test.acme())', 'clear_guardrail(''literal_secret'', test.acme(), ''x'')', 'guardrails()']) call;
CALL test.sign_in('vic');
SELECT test.refused($$ SELECT tenancy.set_guardrail('unverified_secret', 'enforce', 'x', test.acme()) $$, '42501', 'role "reader" may not update in domain "guardrail"', '%', 'a viewer sets none');
SELECT lives_ok('SELECT * FROM tenancy.guardrails()', 'and sees them');
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('gus');
SELECT test.refused('SELECT * FROM tenancy.guardrails()', '42501', 'role "guard" may not read in domain "guardrail"', '%', 'whoever may not read does not see them');
SELECT is((SELECT count(*) FROM tenancy.guardrail), 0::bigint, 'nor what is set');
SELECT lives_ok($$ SELECT tenancy.set_guardrail('unverified_secret', 'warn', 'we report health', test.acme()) $$, 'the permission is enough to set one');
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('ada');
SELECT test.refused('SELECT tenancy.' || call, state, message, '%', 'refused: ' || call) FROM (VALUES
    ('set_guardrail(''literal_secret'', ''enforce'', ''x'')', '42501', 'a member sets no guardrail of all organizations'),
    ('clear_guardrail(''literal_secret'', NULL, ''x'')', '42501', 'a member sets no guardrail of all organizations'),
    ('set_guardrail(''literal_secret'', ''enforce'', ''x'', test.bolt())', '42704', 'there is no organization ' || test.bolt()),
    ('clear_guardrail(''literal_secret'', test.bolt(), ''x'')', '42704', 'there is no organization ' || test.bolt()),
    ('set_guardrail(''literal_secret'', ''enforce'', ''x'', ''99999999-0000-4000-8000-000000000000'')', '42704', 'there is no organization 99999999-0000-4000-8000-000000000000'),
    ('set_guardrail(''literal_secret'', ''warn'', ''x'', test.acme())', '42501', 'the guardrail "literal_secret" is in state "enforce" here'),
    ('set_guardrail(''literal_secret'', ''off'', ''x'', test.acme())', '42501', 'the guardrail "literal_secret" is in state "enforce" here'),
    ('clear_guardrail(''literal_secret'', test.acme(), ''x'')', '42501', 'the guardrail "literal_secret" is in state "enforce" here'),
    ('set_guardrail(''operator_reveal'', ''off'', ''x'', test.acme())', '42501', 'the guardrail "operator_reveal" is in state "enforce" here'),
    ('set_guardrail(''new_tables'', ''enforce'', ''x'', test.acme())', '22023', 'the guardrail "new_tables" is of the database%')) v (call, state, message);
SELECT lives_ok($$ SELECT tenancy.set_guardrail('overdue_rotation', 'enforce', 'we rotate', test.acme()) $$, 'an admin makes a guardrail stricter');
SELECT lives_ok($$ SELECT tenancy.set_guardrail('overdue_rotation', 'enforce', 'we rotate', test.acme()) $$, 'and does so again');
SELECT lives_ok($$ SELECT tenancy.set_guardrail('operator_reveal', 'enforce', 'as it is', test.acme()) $$, 'and keeps what is in force');
SELECT lives_ok($$ SELECT tenancy.clear_guardrail('operator_reveal', test.acme(), 'no need') $$, 'which it may clear, because no less is in force then');
SELECT test.same($$ SELECT name, state, changed_by, reason FROM tenancy.guardrails() WHERE changed_by IS NOT NULL ORDER BY name $$,
    $$ VALUES ('literal_secret', 'enforce', 'test_owner', 'for Acme'), ('operator_reveal', 'enforce', 'ada', 'no need'), ('overdue_rotation', 'enforce', 'ada', 'we rotate') $$, 'members see by whom and why, of their organization alone');
SELECT is((SELECT string_agg(DISTINCT organization::text, ',') FROM tenancy.guardrail), test.acme()::text, 'and no row of another one');
SELECT test.refused('UPDATE tenancy.guardrail SET state = ''off''', '42501', 'nobody writes the table itself');
RESET SESSION AUTHORIZATION;
SELECT test.same($$ SELECT operation, payload -> 'new' ->> 'state', payload -> 'new' ->> 'reason', a.subject FROM tenancy.event e JOIN tenancy.event_actor a ON a.id = e.actor
                     WHERE table_name = 'guardrail' AND e.organization = test.acme() AND a.subject IS NOT NULL ORDER BY e.id $$,
    $$ VALUES ('insert', 'enforce', 'we rotate', 'ada'), ('insert', 'enforce', 'as it is', 'ada'), ('update', NULL, 'no need', 'ada') $$, 'each change is an event, and the same again is none');
SELECT is((SELECT count(*) FROM tenancy.alert WHERE organization = test.acme()), 0::bigint, 'nothing of it is an alert');
SELECT lives_ok($$ SELECT tenancy.clear_guardrail('literal_secret', test.acme(), 'for all again') $$, 'an administrator loosens it');
SELECT test.same($$ SELECT kind, detail ->> 'from', detail ->> 'to' FROM tenancy.alert WHERE organization = test.acme() $$, $$ VALUES ('guardrail_loosened', 'enforce', 'off') $$, 'which is an alert of the organization');
SET LOCAL transaction_read_only = on;
SELECT test.refused('SELECT tenancy.' || call, '25006', 'no guardrail can be set on a standby or in a READ ONLY transaction', '%', 'READ ONLY: ' || call)
  FROM unnest(ARRAY['set_guardrail(''literal_secret'', ''enforce'', ''x'')', 'clear_guardrail(''literal_secret'', NULL, ''x'')']) call;
SELECT * FROM finish();
ROLLBACK;
