-- Exceptions: what is asked for, approved, amended and revoked, and what counts. One transaction has one identity, so
-- what needs a second person is in tests/exceptions.rs.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(176);

CREATE FUNCTION test.ago(days interval) RETURNS text LANGUAGE sql AS $$ SELECT format('%L::timestamptz', clock_timestamp() + days) $$;
CREATE FUNCTION test.add(target text, kind text DEFAULT 'finding', reason text DEFAULT 'the bucket holds a public web site', expires text DEFAULT test.ago('30 days'), more text DEFAULT '')
RETURNS text LANGUAGE sql AS $$ SELECT format('SELECT tenancy.add_exception(%L, %L, %L, %s%s)', kind, target, reason, expires, more) $$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA test TO PUBLIC;

-- Kinds --------------------------------------------------------------------------------------------------------------

SELECT results_eq($$ SELECT name, min_reason, max_duration, approvals, broad, notice, on_no_review FROM tenancy.exception_kind WHERE built_in ORDER BY name $$,
    $$ VALUES ('action_override' COLLATE "C", 20, '2160:00:00'::interval, 1, false, '336:00:00'::interval, 'lapse' COLLATE "C"), ('finding', 20, '2160:00:00', 1, false, '336:00:00', 'lapse') $$, 'two kinds come with the extension');
SELECT test.refused(format('SELECT tenancy.define_exception_kind(%L, ''d'', ''{}'', ''why'')', name), '22023', 'the name of a kind of exceptions has%', '%', 'no kind has the name ' || name)
  FROM unnest(ARRAY['', ' ', 'Kind', '1kind', E'kind\n', repeat('k', 64)]) name;
SELECT test.refused('SELECT tenancy.define_exception_kind(' || arguments || ')', '22004', '%may not be NULL', '%', 'no argument may be NULL: ' || arguments)
  FROM unnest(ARRAY['NULL, ''d'', ''{}'', ''why''', '''k'', NULL, ''{}'', ''why''', '''k'', ''d'', NULL, ''why''', '''k'', ''d'', ''{}'', NULL']) arguments;
SELECT test.refused(format('SELECT tenancy.define_exception_kind(''k'', ''d'', %L, ''why'')', settings), '22023', '%', '%', 'no kind has the settings ' || settings)
  FROM unnest(ARRAY['[]', '1', '"x"', '{"min_reason": 0}', '{"min_reason": 501}', '{"min_reason": -1}', '{"min_reason": "20"}', '{"min_reason": 1.5}', '{"min_reason": null}',
    '{"max_duration": "0"}', '{"max_duration": "-1 day"}', '{"max_duration": "3661 days"}', '{"max_duration": "200 years"}', '{"max_duration": "soon"}', '{"max_duration": 90}',
    '{"approvals": 3}', '{"approvals": -1}', '{"broad": 1}', '{"notice": "-1 day"}', '{"on_no_review": "never"}', '{"surprise": 1}', '{"max_durations": "1 day"}']) settings;
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT lives_ok($$ SELECT tenancy.define_exception_kind('risk', 'accepted risks', '{"max_duration": "1 month", "approvals": 0, "broad": true, "min_reason": 10, "notice": "2 days", "on_no_review": "keep"}', 'test') $$, 'an administrator defines a kind for all organizations');
SELECT lives_ok($$ SELECT tenancy.define_exception_kind('finding', 'findings', '{"max_duration": "366 days"}', 'test') $$, 'and a built-in kind anew');
SELECT test.refused($$ SELECT tenancy.define_exception_kind('risk', 'd', '{}', 'why', '00000000-0000-0000-0000-00000000ffff') $$, '42704', 'there is no organization 00000000-%ffff', '%', 'not for an organization that is not there');
SELECT lives_ok(format($$ SELECT tenancy.define_exception_kind('local', 'of Bolt', '{}', 'test', %L) $$, test.bolt()), 'and a kind of one organization');
SELECT test.refused(format($$ SELECT tenancy.define_exception_kind('risk', 'd', %L, 'why', %L) $$, settings, test.acme()), '22023', '% of an organization is not looser than for all organizations', '%', 'an organization is not looser: ' || settings)
  FROM unnest(ARRAY['{"max_duration": "31 days"}', '{"min_reason": 9}']) settings;
RESET SESSION AUTHORIZATION;
SELECT results_eq($$ SELECT reason, new_values ->> 'kind', organization FROM tenancy.audit_trail WHERE operation = 'exception_kind_defined' ORDER BY id $$,
    $$ VALUES ('test', 'risk', '00000000-0000-0000-0000-000000000000'::uuid), ('test', 'finding', '00000000-0000-0000-0000-000000000000'), ('test', 'local', test.bolt()) $$, 'each definition is an event');

-- Without leave ------------------------------------------------------------------------------------------------------

SET LOCAL SESSION AUTHORIZATION test_application;
SELECT test.refused('SELECT ' || call, '28000', 'no organization is authenticated%', '%', 'nothing without a context: ' || call) FROM unnest(ARRAY[
    'tenancy.add_exception(''finding'', ''t'', ''why'', now())', 'tenancy.decide_exception(test.acme(), true, ''why'')', 'tenancy.amend_exception(test.acme(), now())', 'tenancy.revoke_exception(test.acme(), ''why'')',
    'tenancy.is_excepted(''finding'', ''t'')', 'tenancy.excepted(''finding'')', 'tenancy.exception_of(''finding'', ''t'')', 'tenancy.define_exception_kind(''k'', ''d'', ''{}'', ''why'')', '* FROM tenancy.exception_ending', '* FROM tenancy.exception_kind']) call;
SAVEPOINT nobody;
CALL test.sign_in('vic');
SELECT test.refused('SELECT tenancy.' || call, '42501', 'role "reader" may not ' || action || ' in domain "exception"', '%', 'a viewer may not ' || call)
  FROM (VALUES ('add_exception(''finding'', ''t'', ''why'', now())', 'request'), ('decide_exception(test.acme(), true, ''why'')', 'approve'), ('amend_exception(test.acme(), now())', 'request'), ('revoke_exception(test.acme(), ''why'')', 'approve'), ('define_exception_kind(''k'', ''d'', ''{}'', ''why'')', 'define')) refused (call, action);
SELECT results_eq('SELECT name, built_in FROM tenancy.exception_kind ORDER BY 1, 2', $$ VALUES ('action_override' COLLATE "C", true), ('finding', false), ('finding', true), ('risk', false) $$, 'but sees the kinds for all');
SELECT is(tenancy.is_excepted('finding', 't'), false, 'but may ask what is excepted');
SELECT is(tenancy.exception_of('finding', 't'), NULL, 'and why');
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('eve');
SELECT is(tenancy.is_excepted('finding', 't'), false, 'a role without any permission may ask what is excepted');
SELECT test.refused('SELECT tenancy.' || call, '42501', 'role "editor" may not read in domain "exception"', '%', 'but not why: ' || call) FROM unnest('{"exception_of(''finding'', ''t'')","excepted(''finding'')"}'::text[]) call;
ROLLBACK TO SAVEPOINT nobody;

-- Bad input ----------------------------------------------------------------------------------------------------------

CALL test.sign_in('ada');
SELECT test.refused('SELECT tenancy.' || call, '22004', '%may not be NULL', '%', 'no argument may be NULL: ' || call) FROM unnest(ARRAY[
    'add_exception(NULL, ''t'', ''why'', now())', 'add_exception(''finding'', NULL, ''why'', now())', 'add_exception(''finding'', ''t'', NULL, now())', 'add_exception(''finding'', ''t'', ''why'', NULL)', 'add_exception(''finding'', ''t'', ''why'', now(), evidence => NULL)',
    'decide_exception(NULL, true, ''why'')', 'decide_exception(test.acme(), NULL, ''why'')', 'decide_exception(test.acme(), true, NULL)', 'amend_exception(NULL, now())', 'revoke_exception(NULL, ''why'')', 'revoke_exception(test.acme(), NULL)']) call;
SELECT is(tenancy.is_excepted(NULL, 't') OR tenancy.is_excepted('finding', NULL), NULL, 'of NULL nothing is known');
SELECT test.refused(test.add('t', kind), '42704', 'there is no kind of exceptions "' || kind || '"', '%', 'no kind ' || kind) FROM unnest(ARRAY['', 'nothing', 'local']) kind;
SELECT test.refused(test.add(target), '22023', 'the target is blank%', '%', 'no target: ' || left(target, 10)) FROM unnest(ARRAY['', ' ', E'a\x1b[2J', repeat('x', 501)]) target;
SELECT test.refused(test.add('*'), '22023', 'the kind has no exceptions for the target *', '%', 'not every target where the kind has it not');
SELECT test.refused(test.add('t', reason => reason), '22023', 'the reason %', '%', 'no reason: ' || left(reason, 30)) FROM unnest(ARRAY['', repeat(' ', 40), repeat(' ', 20) || '.', 'nineteen characters', E'a\nb is a reason of two lines', 'finding t finding t finding t', repeat('x', 2001)]) reason;
SELECT test.refused(test.add('t', expires => expires), '22023', 'expires_at is %', '%', 'no end ' || expires)
  FROM unnest(ARRAY[test.ago('0'), test.ago('-1 day'), test.ago('367 days'), '''infinity''', '''-infinity''', '''294276-01-01''']) expires;
SELECT test.refused(test.add('t', more => more), sqlstate, message, '%', 'not with ' || more) FROM (VALUES
    (', ''nobody''', '22023', '"nobody" is no active member of the organization'), (', ''ada'', ''https://elsewhere.test/''', '22023', '"ada" is no active member%'), (', owner_issuer => test.issuer()', '22023', 'owner_issuer names the issuer of an owner_subject'),
    (', ticket => ''''', '22023', 'the ticket is blank%'), (', evidence => ARRAY[NULL]::uuid[]', '22023', 'events may not have a NULL in it'), (', evidence => ARRAY[test.acme()]', '42704', 'the organization has no event %')) bad (more, sqlstate, message);
SELECT test.refused('SELECT tenancy.' || call, '42704', 'there is no exception 00000000-%', '%', 'an unknown one: ' || call)
  FROM unnest(ARRAY['decide_exception(''00000000-0000-0000-0000-000000000000'', true, ''why'')', 'amend_exception(''00000000-0000-0000-0000-000000000000'', now())', 'revoke_exception(''00000000-0000-0000-0000-000000000000'', ''why'')']) call;
SELECT test.refused('SELECT tenancy.amend_exception(test.acme())', '22023', 'an amendment changes%', '%', 'an amendment without a change');
SELECT test.refused(format($$ SELECT tenancy.define_exception_kind('k', 'd', '{}', 'why'%s) $$, organization), sqlstate, message, '%', 'a member defines no kind elsewhere: ' || organization)
  FROM (VALUES ('', '42501', 'a kind of exceptions for all organizations%'), (', test.bolt()', '42704', 'there is no organization%'), (', ''00000000-0000-0000-0000-00000000ffff''', '42704', 'there is no organization%')) bad (organization, sqlstate, message);

-- Requests and decisions ---------------------------------------------------------------------------------------------

CREATE TEMPORARY TABLE one AS SELECT tenancy.add_exception('finding', 'S3.1', 'the bucket holds a public web site', now() + interval '30 days', ticket => 'OPS-1', evidence => ARRAY[tenancy.record_event('reviewed', 'finding')]) AS id;
SELECT is(tenancy.add_exception('finding', 'S3.1', e.reason, e.expires_at, ticket => 'OPS-1', evidence => e.evidence), id, 'the same request again is the same one') FROM tenancy.exception e;
SELECT test.refused(test.add('S3.1'), '55000', 'an exception for this kind and target is asked for', '%', 'another one has to wait');
SELECT is(tenancy.is_excepted('finding', 'S3.1'), false, 'a request is no exception');
SELECT test.refused($$ SELECT tenancy.decide_exception((SELECT id FROM one), true, 'I want it') $$, '42501', 'an exception is approved neither by the person who asked%', 'Somebody else%', 'nobody approves what they asked for');
SELECT test.refused($$ SELECT tenancy.amend_exception((SELECT id FROM one), now() + interval '1 day') $$, '55000', '%is asked for', '%', 'a request is not amended');
RESET SESSION AUTHORIZATION;
SELECT tenancy.set_guardrail('self_approved_exception', 'warn', 'test') \g /dev/null
SET LOCAL client_min_messages = error;
SELECT is(tenancy.decide_exception((SELECT id FROM one), true, 'there is nobody else')::text, '', 'unless the guardrail only warns');
SELECT results_eq($$ SELECT new_values ->> 'guardrail' FROM tenancy.audit_trail WHERE operation = 'guardrail' AND result = 'warned' $$, ARRAY['self_approved_exception'], 'which is recorded');
SET LOCAL client_min_messages = warning;
SELECT tenancy.set_guardrail('self_approved_exception', 'off', 'test') \g /dev/null
SET LOCAL SESSION AUTHORIZATION test_application;
SELECT is(tenancy.is_excepted('finding', 'S3.1'), true, 'an exception counts at once');
SELECT is(tenancy.is_excepted(kind, target), false, format('but not for %s %s', kind, target)) FROM (VALUES ('finding', 's3.1'), ('finding', 'S3.1 '), ('finding', '*'), ('risk', 'S3.1'), ('nothing', 'S3.1')) other (kind, target);
SELECT results_eq($$ SELECT target, exception, expires_at FROM tenancy.excepted('finding') $$, $$ SELECT 'S3.1', id, now() + interval '30 days' FROM one $$, 'it is listed');
SELECT results_eq($$ SELECT (tenancy.exception_of('finding', 'S3.1')).* $$, $$ SELECT e.* FROM tenancy.exception e $$, 'and shown as its row');
SELECT results_eq($$ SELECT state, owner_subject, requested_subject, ticket, cardinality(evidence), approvals, active_from IS NULL, ended_at FROM tenancy.exception $$, $$ VALUES ('active' COLLATE "C", 'ada', 'ada', 'OPS-1', 1, 1, false, NULL::timestamptz) $$, 'the requester owns it by default');
SELECT results_eq($$ SELECT subject, reason FROM tenancy.exception_approval $$, $$ VALUES ('ada' COLLATE "C", 'there is nobody else') $$, 'who approved is kept');
SELECT test.refused(format($$ SELECT tenancy.decide_exception((SELECT id FROM one), %s, 'again') $$, approve), '55000', 'exception % is active', '%', 'what is decided is not decided again') FROM unnest('{true,false}'::text[]) approve;
SELECT test.refused(test.add('S3.1'), '55000', 'there is an active exception for this kind and target', '%', 'of one target one is in force');
SELECT is(tenancy.add_exception('finding', 'S3.1', e.reason, e.expires_at, ticket => 'OPS-1', evidence => e.evidence), id, 'the same request again is still the same one') FROM tenancy.exception e;

-- Amendments ---------------------------------------------------------------------------------------------------------

CREATE TEMPORARY TABLE two AS SELECT tenancy.amend_exception(id, now() + interval '60 days', owner_subject => 'vic') AS id FROM one;
SELECT is((SELECT tenancy.amend_exception(id, now() + interval '60 days', owner_subject => 'vic') FROM one), (SELECT id FROM two), 'the same amendment again is the same one');
SELECT test.refused($$ SELECT tenancy.amend_exception((SELECT id FROM one), now() + interval '61 days') $$, '55000', '%is asked for', '%', 'another one has to wait');
SELECT is((SELECT expires_at FROM tenancy.excepted('finding')), now() + interval '30 days', 'a longer time is no mere edit');
SELECT lives_ok($$ SELECT tenancy.decide_exception((SELECT id FROM two), true, 'fine') $$, 'it is approved');
SELECT results_eq($$ SELECT state, end_reason, ended_subject, replaces FROM tenancy.exception ORDER BY id $$, $$ SELECT s, NULL, b, r FROM (VALUES ('superseded' COLLATE "C", 'ada', NULL), ('active', NULL, (SELECT id FROM one))) e (s, b, r) $$, 'and takes the place of the old one');
SELECT is((SELECT expires_at FROM tenancy.excepted('finding')), now() + interval '60 days', 'with its own end');
SELECT test.refused($$ SELECT tenancy.amend_exception((SELECT id FROM one), now() + interval '90 days') $$, '55000', 'exception % is superseded', '%', 'what was superseded is not amended');
SELECT isnt(tenancy.amend_exception(id, now() + interval '90 days'), NULL, 'but what came after it') FROM two;

-- Ends ---------------------------------------------------------------------------------------------------------------

SELECT lives_ok($$ SELECT tenancy.revoke_exception((SELECT id FROM two), 'the bucket is gone') $$, 'an exception is revoked');
SELECT is(tenancy.is_excepted('finding', 'S3.1'), false, 'and counts no more');
SELECT results_eq($$ SELECT state, end_reason FROM tenancy.exception ORDER BY id $$, $$ VALUES ('superseded' COLLATE "C", NULL), ('revoked', 'the bucket is gone'), ('cancelled', 'the bucket is gone') $$, 'nor does what was asked for in its place');
SELECT test.refused($$ SELECT tenancy.revoke_exception((SELECT id FROM two), 'again') $$, '55000', 'exception % is revoked', '%', 'once');
SELECT lives_ok(test.add('denied'), 'a request');
SELECT lives_ok($$ SELECT tenancy.decide_exception(id, false, 'no') FROM tenancy.exception WHERE target = 'denied' $$, 'is denied');
SELECT lives_ok(test.add('cancelled'), 'another one');
SELECT lives_ok($$ SELECT tenancy.revoke_exception(id, 'a mistake') FROM tenancy.exception WHERE target = 'cancelled' $$, 'is cancelled');
SELECT results_eq($$ SELECT target, state, end_reason FROM tenancy.exception WHERE target LIKE '%e_led' OR target = 'denied' ORDER BY 1 $$, $$ VALUES ('cancelled' COLLATE "C", 'cancelled' COLLATE "C", 'a mistake'), ('denied', 'denied', 'no') $$, 'and each says so');
SELECT is((SELECT count(*) FROM tenancy.exception WHERE (ended_at IS NULL) <> (state IN ('requested', 'active'))), 0::bigint, 'whatever has ended has the time of its end');

-- Without approval, and every target ---------------------------------------------------------------------------------

SELECT isnt(tenancy.add_exception('risk', 'db-1', 'an old version is needed', now() + interval '10 days'), NULL, 'where nobody must approve');
SELECT is(tenancy.is_excepted('risk', 'db-1'), true, 'it counts at once');
SELECT is((SELECT count(*) FROM tenancy.alert WHERE kind = 'exception_requested' AND detail ->> 'kind' = 'risk'), 0::bigint, 'and nobody is asked to');
CREATE TEMPORARY TABLE every AS SELECT tenancy.add_exception('risk', '*', 'the whole site is closed', now() + interval '10 days') AS id;
SELECT is(tenancy.is_excepted('risk', 'db-2'), false, 'every target needs one approval more');
SELECT lives_ok($$ SELECT tenancy.decide_exception((SELECT id FROM every), true, 'fine') $$, 'which it gets');
SELECT is(tenancy.is_excepted('risk', 'db-2'), true, 'then it is of every target');
SELECT is((tenancy.exception_of('risk', 'db-2')).id, (SELECT id FROM every), 'as is shown');
SELECT is((tenancy.exception_of('risk', 'db-1')).target, 'db-1', 'but one of the target itself comes first');
SAVEPOINT stricter;
SELECT lives_ok($$ SELECT tenancy.define_exception_kind('risk', 'd', '{"broad": false, "max_duration": "1 microsecond"}', 'stricter', test.acme()) $$, 'a member makes a kind stricter');
SELECT is(tenancy.is_excepted('risk', 'db-2') OR tenancy.is_excepted('risk', 'db-1'), false, 'which counts for what is active');
SELECT is_empty($$ SELECT * FROM tenancy.excepted('risk') $$, 'wherever it is asked');
ROLLBACK TO stricter;
SELECT is(tenancy.is_excepted('risk', 'db-2') AND tenancy.is_excepted('risk', 'db-1'), true, 'and not after a rollback');
SELECT is((SELECT count(*) FROM tenancy.exception_kind WHERE organization = test.acme()), 0::bigint, 'of the kind neither');

-- Ending -------------------------------------------------------------------------------------------------------------

SELECT lives_ok(test.add('soon', 'risk', expires => test.ago('1 day')), 'one that ends soon');
SELECT results_eq($$ SELECT target, owner_subject, remaining < interval '1 day', amended FROM tenancy.exception_ending $$, $$ VALUES ('soon' COLLATE "C", 'ada', true, false) $$, 'is listed as such');
SELECT results_eq($$ SELECT control, state, count FROM tenancy.posture WHERE control LIKE 'controls.exception%' ORDER BY 1 $$, $$ VALUES ('controls.exception_owners', 'ok', 0::bigint), ('controls.exception_requests', 'ok', 0), ('controls.exceptions_ending', 'warn', 1) $$, 'also in the posture');

-- Changes by others --------------------------------------------------------------------------------------------------

RESET SESSION AUTHORIZATION;
SELECT test.refused(statement, '42501', 'the tables of approvals are written by their functions alone', '%', 'a superuser is refused: ' || statement) FROM unnest(ARRAY[
    'UPDATE tenancy.exception SET state = ''active''', 'DELETE FROM tenancy.exception', 'TRUNCATE tenancy.exception CASCADE', 'INSERT INTO tenancy.exception SELECT * FROM tenancy.exception', 'UPDATE tenancy.exception_kind SET broad = true', 'DELETE FROM tenancy.exception_approval']) statement;
SELECT results_eq($$ SELECT operation, reason, new_values ->> 'state' FROM tenancy.audit_trail WHERE organization = test.acme() AND domain = 'exception' AND operation LIKE 'exception\_%' AND new_values ->> 'target' = 'S3.1' ORDER BY id $$,
    $$ SELECT o, r, s FROM (VALUES (1, 'exception_requested', 'the bucket holds a public web site', 'requested'), (2, 'exception_approved', 'there is nobody else', 'active'), (3, 'exception_requested', 'the bucket holds a public web site', 'requested'),
        (4, 'exception_superseded', NULL, 'superseded'), (5, 'exception_approved', 'fine', 'active'), (6, 'exception_requested', 'the bucket holds a public web site', 'requested'), (7, 'exception_revoked', 'the bucket is gone', 'revoked'), (8, 'exception_cancelled', 'the bucket is gone', 'cancelled')) e (n, o, r, s) ORDER BY n $$,
    'each transition is one event');
SELECT is((SELECT count(*) FROM tenancy.alert WHERE kind = 'exception_requested' AND domain = 'exception'), 6::bigint, 'each request for an approval is an alert');
SET LOCAL SESSION AUTHORIZATION test_application;
SET LOCAL transaction_read_only = on;
SELECT test.refused(call, '25006', '%READ ONLY transaction', '%', 'READ ONLY: ' || left(call, 60)) FROM unnest(ARRAY[test.add('late'), 'SELECT tenancy.decide_exception(test.acme(), true, ''why'')', 'SELECT tenancy.amend_exception(test.acme(), now())', 'SELECT tenancy.revoke_exception(test.acme(), ''why'')', 'SELECT tenancy.define_exception_kind(''risk'', ''d'', ''{}'', ''why'', test.acme())']) call;
SELECT is(tenancy.is_excepted('risk', 'db-1'), true, 'but what is excepted may be asked');

SELECT * FROM finish();
ROLLBACK;
