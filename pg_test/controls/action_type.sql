-- Action types: what is asked for, approved and withdrawn, and what becomes of it by itself. One transaction has one
-- identity, so what needs a second person is in tests/action_types.rs.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(91);

-- Adding -------------------------------------------------------------------------------------------------------------

SELECT test.refused(format($$ SELECT tenancy.add_action_type(%L, 'why') $$, name), '22023', 'the name of an action type has%', '%', 'no action type has the name ' || name)
  FROM unnest(ARRAY['', ' ', 'Stop', '1stop', '-stop', 'stop it', E'stop\n', 'stöp', repeat('a', 64)]) name;
SELECT test.refused(format($$ SELECT tenancy.add_action_type('stop', %L) $$, description), '22023', 'the description is blank, longer than 1000 bytes%', '%', 'a description says something')
  FROM unnest(ARRAY['', E' \t', repeat('x', 1001), E'a\x1b[2Jb']) description;
SELECT test.refused('SELECT tenancy.' || call, '22004', '%may not be NULL', '%', 'no argument may be NULL: ' || call)
  FROM unnest(ARRAY['add_action_type(NULL, ''why'')', 'add_action_type(''stop'', NULL)']) call;
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT lives_ok($$ SELECT tenancy.add_action_type('instance.stop', 'stops an instance') $$, 'an administrator adds an action type');
SELECT lives_ok($$ SELECT tenancy.add_action_type('disk:delete', 'deletes a disk') $$, 'and another one');
SELECT test.refused($$ SELECT tenancy.add_action_type('instance.stop', 'another') $$, '23505', 'there is an action type "instance.stop" already', '%a new name%', 'a name is given once');
RESET SESSION AUTHORIZATION;
SELECT results_eq($$ SELECT reason, new_values ->> 'action_type', new_values ->> 'description', organization FROM tenancy.audit_trail WHERE operation = 'action_type_added' ORDER BY id $$,
    $$ VALUES (NULL, 'instance.stop', 'stops an instance', '00000000-0000-0000-0000-000000000000'::uuid), (NULL, 'disk:delete', 'deletes a disk', '00000000-0000-0000-0000-000000000000') $$, 'each addition is an event');

-- Without leave ------------------------------------------------------------------------------------------------------

SET LOCAL SESSION AUTHORIZATION test_application;
SELECT throws_ok($$ SELECT tenancy.add_action_type('mine', 'mine') $$, '42501', NULL, 'an application adds none');
SELECT is((SELECT count(*) FROM tenancy.action_type), 2::bigint, 'and sees them');
SELECT test.refused('SELECT tenancy.' || call, '28000', 'no organization is authenticated%', '%', 'nothing without a context: ' || call)
  FROM unnest(ARRAY['request_action_type(''instance.stop'', ''why'')', 'decide_action_type(test.acme(), true, ''why'')', 'withdraw_action_type(''instance.stop'', ''why'')', 'action_approval()']) call;
SAVEPOINT nobody;
CALL test.sign_in('vic');
SELECT test.refused('SELECT tenancy.' || call, '42501', 'role "reader" may not ' || action || ' in domain "action"', '%', 'a reader may not ' || call)
  FROM (VALUES ('request_action_type(''instance.stop'', ''why'')', 'request'), ('decide_action_type(test.acme(), true, ''why'')', 'approve'), ('withdraw_action_type(''instance.stop'', ''why'')', 'request')) refused (call, action);
SELECT is(tenancy.action_approval('instance.stop'), NULL, 'but may ask what is approved');
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('eve');
SELECT test.refused('SELECT tenancy.action_approval()', '42501', 'role "editor" may not read in domain "action"', '%', 'a role without the permission may not');
ROLLBACK TO SAVEPOINT nobody;

-- Bad input ----------------------------------------------------------------------------------------------------------

CALL test.sign_in('ada');
SELECT test.refused('SELECT tenancy.' || call, '22004', '%may not be NULL', '%', 'no argument may be NULL: ' || call) FROM unnest(ARRAY[
    'request_action_type(NULL, ''why'')', 'request_action_type(''instance.stop'', NULL)', 'request_action_type(''instance.stop'', ''why'', NULL)',
    'decide_action_type(NULL, true, ''why'')', 'decide_action_type(test.acme(), NULL, ''why'')', 'decide_action_type(test.acme(), true, NULL)', 'withdraw_action_type(NULL, ''why'')', 'withdraw_action_type(''instance.stop'', NULL)']) call;
SELECT test.refused(format($$ SELECT tenancy.request_action_type('instance.stop', %L) $$, reason), '22023', 'the reason is blank, longer%', '%', 'a reason says something')
  FROM unnest(ARRAY['', E'\t', repeat('x', 1001), E'a\u0085b']) reason;
SELECT test.refused(format($$ SELECT tenancy.request_action_type('instance.stop', 'why', %L) $$, time), '22023', 'valid_for is more than 0 and at most 366 days', '%', 'no approval is valid for ' || time)
  FROM unnest('{0,-1 day,1 month -31 days,367 days,13 months,178000000 years}'::text[]) time;
SELECT test.refused($$ SELECT tenancy.request_action_type('nothing', 'why') $$, '42704', 'there is no action type "nothing"', '%', 'an unknown action type is not asked for');
SELECT test.refused($$ SELECT tenancy.withdraw_action_type('nothing', 'why') $$, '42704', 'there is no action type "nothing"', '%', 'nor withdrawn');
SELECT test.refused($$ SELECT tenancy.decide_action_type('00000000-0000-0000-0000-000000000000', true, 'why') $$, '42704', 'there is no request 00000000-%', '%', 'an unknown request is not decided');
SELECT test.refused($$ SELECT tenancy.withdraw_action_type('instance.stop', 'why') $$, '55000', 'the action type "instance.stop" is neither approved nor requested', '%', 'and what is not approved is not withdrawn');

-- Requesting and deciding --------------------------------------------------------------------------------------------

CREATE TEMPORARY TABLE asked AS SELECT tenancy.request_action_type('instance.stop', 'idle instances') AS id;
SELECT is(tenancy.request_action_type('instance.stop', 'idle instances'), (SELECT id FROM asked), 'the same request again is the same request');
SELECT test.refused($$ SELECT tenancy.request_action_type('instance.stop', 'other instances') $$, '55000', 'a request for the action type "instance.stop" is open', '%', 'another one has to wait');
SELECT isnt(tenancy.request_action_type('disk:delete', 'why', '366 days'), NULL, 'but not one for another action type');
SELECT is(tenancy.action_approval(), NULL, 'a request is no approval');
SELECT test.refused($$ SELECT tenancy.decide_action_type((SELECT id FROM asked), true, 'I want it') $$, '42501', 'a request is not approved by the person who made it', 'Somebody else%', 'nobody approves what they asked for');
RESET SESSION AUTHORIZATION;
SELECT tenancy.set_guardrail('self_approved_action', 'warn', 'test') \g /dev/null
SET LOCAL client_min_messages = error;
SELECT is(tenancy.decide_action_type((SELECT id FROM asked), true, 'there is nobody else')::text, '', 'unless the guardrail only warns');
SELECT results_eq($$ SELECT new_values ->> 'guardrail' FROM tenancy.audit_trail WHERE operation = 'guardrail' AND result = 'warned' $$, ARRAY['self_approved_action'], 'which is recorded');
SET LOCAL client_min_messages = warning;
SELECT tenancy.set_guardrail('self_approved_action', 'off', 'test') \g /dev/null
SET LOCAL SESSION AUTHORIZATION test_application;
SELECT is(tenancy.action_approval('instance.stop'), (SELECT id FROM asked), 'an approval is in force at once');
SELECT is(tenancy.action_approval(), (SELECT id FROM asked), 'and is one of any action type');
SELECT is(tenancy.action_approval('disk:delete'), NULL, 'but not of another');
SELECT test.refused(format($$ SELECT tenancy.decide_action_type((SELECT id FROM asked), %s, 'again') $$, approve), '55000', 'request % is approved', '%', 'what is decided is not decided again')
  FROM unnest('{true,false}'::text[]) approve;
SELECT is(tenancy.action_approval('instance.stop'), (SELECT id FROM asked), 'and stays as it was');
SELECT results_eq($$ SELECT ends_at - decided_at, decided_subject, requested_subject, decide_before - requested_at FROM tenancy.action_type_request WHERE state = 'approved' $$,
    $$ VALUES ('90 days'::interval, 'ada', 'ada', '30 days'::interval) $$, 'the time counts from the approval');

-- An approval is renewed before its end.
CREATE TEMPORARY TABLE longer AS SELECT tenancy.request_action_type('instance.stop', 'a year of it', '365 days') AS id;
SELECT is(tenancy.action_approval('instance.stop'), (SELECT id FROM asked), 'a new request leaves the approval as it is');
SELECT lives_ok($$ SELECT tenancy.decide_action_type((SELECT id FROM longer), true, 'fine') $$, 'and is approved');
SELECT is(tenancy.action_approval('instance.stop'), (SELECT id FROM longer), 'then the one that lasts longest counts');

-- Ends ---------------------------------------------------------------------------------------------------------------

SELECT lives_ok($$ SELECT tenancy.withdraw_action_type('instance.stop', 'the incident') $$, 'a withdrawal');
SELECT is(tenancy.action_approval(), NULL, 'ends every approval of the action type');
SELECT results_eq($$ SELECT state, withdrawn_subject, withdrawal_reason FROM tenancy.action_type_request WHERE action_type = 'instance.stop' ORDER BY id $$,
    $$ VALUES ('withdrawn' COLLATE "C", 'ada', 'the incident'), ('withdrawn', 'ada', 'the incident') $$, 'and says by whom and why');
SELECT test.refused($$ SELECT tenancy.withdraw_action_type('instance.stop', 'the incident') $$, '55000', '%neither approved nor requested', '%', 'a second one changes nothing');
SELECT test.refused($$ SELECT tenancy.decide_action_type((SELECT id FROM longer), true, 'again') $$, '55000', 'request % is withdrawn', '%', 'nor does a decision');
SELECT lives_ok($$ SELECT tenancy.decide_action_type((SELECT id FROM tenancy.action_type_request WHERE action_type = 'disk:delete'), false, 'no') $$, 'a request is denied');
SELECT is(tenancy.action_approval('disk:delete'), NULL, 'and not in force');
CREATE TEMPORARY TABLE short AS SELECT tenancy.request_action_type('disk:delete', 'quickly', '1 microsecond') AS id;
SELECT lives_ok($$ SELECT tenancy.decide_action_type((SELECT id FROM short), true, 'for a moment') $$, 'a moment is approved');
SELECT is(tenancy.action_approval('disk:delete'), NULL, 'and over');
SELECT test.refused($$ SELECT tenancy.withdraw_action_type('disk:delete', 'why') $$, '55000', '%neither approved nor requested', '%', 'what is over is not withdrawn');
SELECT isnt(tenancy.request_action_type('disk:delete', 'again'), NULL, 'the next request');
SELECT is((SELECT state FROM tenancy.action_type_request r JOIN short USING (id)), 'expired' COLLATE "C", 'notes that it is over');
RESET SESSION AUTHORIZATION;
SELECT results_eq($$ SELECT operation, reason, organization, domain, result FROM tenancy.audit_trail WHERE operation LIKE 'action\_%' AND operation <> 'action_type_added' ORDER BY id $$,
    $$ SELECT o, r, test.acme(), 'secret', 'success' FROM (VALUES (1, 'action_requested', 'idle instances'), (2, 'action_requested', 'why'), (3, 'action_approved', 'there is nobody else'), (4, 'action_requested', 'a year of it'), (5, 'action_approved', 'fine'),
        (6, 'action_withdrawn', 'the incident'), (7, 'action_withdrawn', 'the incident'), (8, 'action_denied', 'no'), (9, 'action_requested', 'quickly'), (10, 'action_approved', 'for a moment'), (11, 'action_expired', NULL), (12, 'action_requested', 'again')) e (n, o, r) ORDER BY n $$,
    'each transition is one event');

-- Changes by others --------------------------------------------------------------------------------------------------

SELECT test.refused(statement, '42501', 'the tables of approvals are written by their functions alone', '%least-privilege%', 'a superuser is refused: ' || statement) FROM unnest(ARRAY[
    'UPDATE tenancy.action_type_request SET state = ''approved''', 'DELETE FROM tenancy.action_type_request', 'TRUNCATE tenancy.action_type_request', 'INSERT INTO tenancy.action_type_request SELECT * FROM tenancy.action_type_request', 'DELETE FROM tenancy.action_type']) statement;
SET LOCAL transaction_read_only = on;
SELECT test.refused('SELECT tenancy.' || call, '25006', 'nothing can be approved on a standby or in a READ ONLY transaction', '%', 'READ ONLY: ' || call)
  FROM unnest(ARRAY['add_action_type(''new'', ''new'')', 'request_action_type(''instance.stop'', ''why'')', 'decide_action_type(test.acme(), true, ''why'')', 'withdraw_action_type(''instance.stop'', ''why'')']) call;

SELECT * FROM finish();
ROLLBACK;
