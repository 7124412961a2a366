-- A guardrail that only warns: what is recorded of each, and what guardrail_trial says of it. unrecorded_reveal, which
-- takes a disk that is full, is in tests/reveal_record.rs, retire_in_use, which takes time, in tests/guard.rs, and
-- those of reviews in tests/reviews.rs. dormant_member, which needs a worker, is in tests/dormant_members.rs.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(62);
SET LOCAL client_min_messages = error;
SELECT tenancy.add_key_encryption_key('first', 'test'), tenancy.set_current_key_encryption_key('first', 'test'), tenancy.grant_permission('editor', 'secret', 'read', 'create', 'update', 'reveal'),
       tenancy.add_action_type('instance.stop', 'stops an instance') \g /dev/null
GRANT CREATE ON SCHEMA app TO test_owner;
SELECT tenancy.protect_schema('app') \g /dev/null
CREATE FUNCTION pg_temp.warned() RETURNS TABLE (organization uuid, guardrail text, statement text, name text, object text) LANGUAGE sql AS $$
    SELECT e.organization, e.payload -> 'new' ->> 'guardrail', e.payload -> 'new' ->> 'statement', e.table_schema || '.' || e.table_name, e.payload -> 'new' ->> 'object'
      FROM tenancy.event e WHERE e.operation = 'guardrail' AND e.domain = 'guardrail' AND e.result = 'warned' ORDER BY e.organization, e.ordinal
$$;
-- Each is done in its own savepoint, by whom it concerns: in warn, where it is done and recorded once, and off, where it is done.
CREATE TABLE test.deed (guardrail text, who text, role text, prepared text, deed text, expected text[]);
INSERT INTO test.deed VALUES
    ('cross_tenant_change', 'ada', 'postgres', NULL, 'UPDATE app.finding SET severity = 0 WHERE id >= 4', ARRAY[test.acme()::text, 'change', 'app.finding', NULL]),
    ('failed_rotation', 'ada', 'test_application', 'SELECT tenancy.put_secret(''s'', lower(''ONE'')), tenancy.begin_rotation(''s'', lower(''TWO'')), tenancy.report_health(''s'', 2, true), tenancy.promote(''s'', 2)',
        'SELECT tenancy.report_health(''s'', 2, false)', ARRAY[test.acme()::text, 'report_health', NULL, 's']),
    ('last_admin', NULL, 'postgres', NULL, 'DELETE FROM tenancy.membership WHERE organization = test.bolt()', ARRAY[test.bolt()::text, 'membership', NULL, test.bolt()::text]),
    ('new_tables', NULL, 'test_owner', NULL, 'CREATE TABLE app.later (id integer PRIMARY KEY, org_id uuid NOT NULL)', ARRAY['00000000-0000-0000-0000-000000000000', 'CREATE TABLE', 'app.later', NULL]),
    ('operator_reveal', 'operator', 'postgres', 'SELECT tenancy.put_secret(''s'', lower(''ONE''))', 'SELECT tenancy.reveal_secret(''s'', ''test'')', ARRAY[test.acme()::text, 'reveal_secret', NULL, 's']),
    ('overdue_rotation', 'eve', 'test_application', 'SELECT tenancy.put_secret(''old'', lower(''OLD'')), tenancy.set_secret_policy(''old'', ''1 microsecond'', NULL, NULL, NULL, NULL, NULL, NULL)',
        'SELECT tenancy.reveal_secret(''old'', ''test'')', ARRAY[test.acme()::text, 'reveal_secret', NULL, 'old']),
    ('protected_tables', NULL, 'test_owner', NULL, 'ALTER TABLE app.finding DISABLE ROW LEVEL SECURITY', ARRAY['00000000-0000-0000-0000-000000000000', 'ALTER TABLE', 'app.finding', NULL]),
    ('row_security_bypass', NULL, 'postgres', NULL, 'SELECT count(*) FROM app.finding', ARRAY['00000000-0000-0000-0000-000000000000', 'bypass', 'app.finding', NULL]),
    ('self_approved_action', 'ada', 'test_application', NULL, 'SELECT tenancy.decide_action_type(tenancy.request_action_type(''instance.stop'', ''why''), true, ''alone'')', ARRAY[test.acme()::text, 'decide_action_type', NULL, '%']),
    ('self_approved_exception', 'ada', 'test_application', NULL, 'SELECT tenancy.decide_exception(tenancy.add_exception(''finding'', ''t'', ''a reason that says enough'', now() + interval ''1 day''), true, ''alone'')', ARRAY[test.acme()::text, 'decide_exception', NULL, '%']),
    ('statement_statistics', NULL, 'test_application', NULL, 'EXPLAIN ANALYZE SELECT 1', ARRAY['00000000-0000-0000-0000-000000000000', 'EXPLAIN ANALYZE', NULL, NULL]),
    ('unverified_secret', 'eve', 'test_application', 'SELECT tenancy.put_secret(''old'', lower(''OLD''))',
        'SELECT tenancy.reveal_secret(''old'', ''test'')', ARRAY[test.acme()::text, 'reveal_secret', NULL, 'old']);
SELECT bag_eq('SELECT guardrail FROM test.deed UNION ALL SELECT unnest(''{dormant_member,grant_under_elevation,literal_secret,retire_in_use,unrecorded_reveal,self_approved_break_glass,unrecorded_break_glass,unsigned_break_glass,overdue_review,unreviewed_exception}''::text[])', 'SELECT name FROM tenancy.guardrails()', 'there is a deed for each guardrail, but for those below and elsewhere');

CREATE PROCEDURE test.sign_in_as(who text) LANGUAGE plpgsql AS $$
BEGIN
    IF who = 'operator' THEN
        PERFORM tenancy.assume_organization(test.acme(), 'test', 'admin');
    ELSIF who IS NOT NULL THEN
        PERFORM tenancy.authenticate(test.token(who));
    END IF;
END
$$;
-- An error with which a savepoint of PL/pgSQL takes everything back, and brings out what was seen.
CREATE FUNCTION test.doing(d test.deed, state text, times integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    seen text;
BEGIN
    BEGIN
        PERFORM tenancy.set_guardrail('literal_secret', 'off', 'test'), tenancy.set_guardrail('overdue_rotation', 'off', 'test'), tenancy.set_guardrail(d.guardrail, state, 'test');
        EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', d.role);
        CALL test.sign_in_as(d.who);
        IF d.prepared IS NOT NULL THEN EXECUTE d.prepared; END IF;
        BEGIN
            FOR time IN 1 .. times LOOP EXECUTE d.deed; END LOOP;
            RESET SESSION AUTHORIZATION;
            SELECT coalesce(string_agg(format('%s|%s|%s|%s|%s', w.guardrail, w.organization, w.statement, w.name, w.object), '; '), 'done') INTO seen FROM pg_temp.warned() w;
        EXCEPTION WHEN OTHERS THEN
            seen := SQLSTATE;
        END;
        RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = seen;
    EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
        RETURN SQLERRM;
    END;
END
$$;
SELECT ok(did LIKE format('%s|%s|%s|%s|%s', d.guardrail, d.expected[1], d.expected[2], d.expected[3], d.expected[4]), format('%s warns, and records it: %s', d.guardrail, did))
  FROM test.deed d, test.doing(d, 'warn', 1) did ORDER BY d.guardrail;
SELECT is(test.doing(d, 'off', 1), 'done', d.guardrail || ' does nothing where it is off') FROM test.deed d ORDER BY d.guardrail;
-- The others protect the table, and make the version before current again.
SELECT ok(did IN ('42501', '55000', '22023'), format('%s refuses where it is enforced: %s', d.guardrail, did)) FROM test.deed d, test.doing(d, 'enforce', 1) did
 WHERE d.guardrail NOT IN ('failed_rotation', 'new_tables') ORDER BY d.guardrail;
SELECT is(test.doing(d, 'enforce', 1), 'done', d.guardrail || ' warns of nothing where it is enforced') FROM test.deed d WHERE d.guardrail IN ('failed_rotation', 'new_tables') ORDER BY d.guardrail;
SELECT ok(did LIKE d.guardrail || '|%' AND did NOT LIKE '%; %', format('%s records the same once in a transaction: %s', d.guardrail, did)) FROM test.deed d, test.doing(d, 'warn', 3) did
 WHERE d.guardrail IN ('cross_tenant_change', 'operator_reveal', 'overdue_rotation', 'protected_tables', 'row_security_bypass', 'statement_statistics', 'unverified_secret') ORDER BY d.guardrail;

-- A literal stands in the statement of the client.
SAVEPOINT literal;
SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('ada');
SELECT tenancy.put_secret('s', 'a value that stands here') \g /dev/null
RESET SESSION AUTHORIZATION;
SELECT test.same('SELECT * FROM pg_temp.warned()', $$ VALUES (test.acme(), 'literal_secret', 'store', NULL, 's') $$, 'literal_secret warns, and records it without the value');
ROLLBACK TO SAVEPOINT literal;

-- What a savepoint takes back is recorded anew.
SELECT tenancy.set_guardrail('row_security_bypass', 'warn', 'test'), tenancy.set_guardrail('statement_statistics', 'warn', 'test') \g /dev/null
SAVEPOINT first;
SET LOCAL SESSION AUTHORIZATION test_application;
EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT 1 \g /dev/null
RESET SESSION AUTHORIZATION;
SELECT is((SELECT count(*) FROM pg_temp.warned()), 1::bigint, 'it is recorded');
ROLLBACK TO SAVEPOINT first;
SELECT is_empty('SELECT * FROM pg_temp.warned()', 'a savepoint takes the event back');
SET LOCAL SESSION AUTHORIZATION test_application;
EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT 1 \g /dev/null
EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT 1 \g /dev/null
RESET SESSION AUTHORIZATION;
SELECT is((SELECT count(*) FROM pg_temp.warned()), 1::bigint, 'and the next one is recorded, once');

-- The trial.
SELECT count(*) FROM app.finding \g /dev/null
SELECT test.same($$ SELECT organization, hits, subjects, first_at = last_at, example = (SELECT id FROM tenancy.event WHERE reason LIKE 'statistics_refused: EXPLAIN ANALYZE would tell of%') FROM tenancy.guardrail_trial('statement_statistics') $$,
    $$ VALUES ('00000000-0000-0000-0000-000000000000'::uuid, 1, 1, true, true) $$, 'the trial tells what would have been refused');
SELECT is((SELECT hits FROM tenancy.guardrail_trial('row_security_bypass')), 1::bigint, 'of each guardrail');
SELECT is_empty($$ SELECT * FROM tenancy.guardrail_trial('new_tables') $$, 'nothing of one that was not hit');
SELECT is_empty($$ SELECT * FROM tenancy.guardrail_trial('statement_statistics', '1 microsecond') $$, 'and of a time alone');
SELECT test.same('SELECT name, hits FROM tenancy.guardrails() WHERE hits > 0 ORDER BY name', $$ VALUES ('row_security_bypass', 1), ('statement_statistics', 1) $$, 'guardrails() has the number');
SELECT test.refused('SELECT * FROM tenancy.guardrail_trial(' || arguments || ')', state, message, '%', 'refused: ' || arguments) FROM (VALUES
    ('''nothing''', '42704', 'there is no guardrail "nothing"'), ('NULL', '22004', '%may not be NULL'), ('''new_tables'', NULL', '22004', '%may not be NULL'), ('''new_tables'', ''0''', '22023', 'since is more than 0%'),
    ('''new_tables'', ''-1 month''', '22023', 'since is more than 0%')) v (arguments, state, message);
SELECT lives_ok($$ SELECT * FROM tenancy.guardrail_trial('new_tables', '178000000 years') $$, 'since ever');
SET LOCAL SESSION AUTHORIZATION test_auditor;
SELECT is((SELECT hits FROM tenancy.guardrail_trial('statement_statistics')), 1::bigint, 'auditors see it');
SET LOCAL SESSION AUTHORIZATION test_application;
SELECT test.refused('SELECT * FROM tenancy.guardrail_trial(''new_tables'')', '28000', 'no organization is authenticated%', '%', 'nobody else without a context');
CALL test.sign_in('eve');
SELECT test.refused('SELECT * FROM tenancy.guardrail_trial(''new_tables'')', '42501', 'role "editor" may not read in domain "guardrail"', '%', 'nor without the permission');
SELECT * FROM finish();
ROLLBACK;
