-- Roles: what a member may do with the organization's rows.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(29);

-- Roles of the application: one that may write but not read, one that may nothing.
SELECT tenancy.create_role('collector'), tenancy.grant_permission('collector', 'finding', 'create'), tenancy.create_role('nothing'),
       tenancy.set_membership(test.acme(), 'cora', 'collector'), tenancy.set_membership(test.acme(), 'ned', 'nothing') \g /dev/null
SET LOCAL SESSION AUTHORIZATION test_application;

CREATE FUNCTION pg_temp.attempts(subject text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    statement text;
    answer jsonb := '{}';
BEGIN
    PERFORM tenancy.authenticate(test.token(subject), test.acme());
    FOREACH statement IN ARRAY ARRAY['SELECT count(*) FROM app.finding', 'INSERT INTO app.finding (id, title) VALUES (10, ''x'')',
            'UPDATE app.finding SET severity = 0 WHERE id = 1', 'DELETE FROM app.finding WHERE id = 2'] LOOP
        BEGIN
            EXECUTE statement;
            answer := answer || jsonb_build_object(lower(split_part(statement, ' ', 1)), 'done');
        EXCEPTION WHEN insufficient_privilege THEN
            answer := answer || jsonb_build_object(lower(split_part(statement, ' ', 1)), SQLERRM);
        END;
    END LOOP;
    RETURN answer;
END
$$;

SAVEPOINT before;
SELECT is(pg_temp.attempts('ada'), '{"select": "done", "insert": "done", "update": "done", "delete": "done"}', 'a role with every permission may do everything');
ROLLBACK TO SAVEPOINT before;
SELECT is(pg_temp.attempts('eve'), '{"select": "done", "insert": "done", "update": "done", "delete": "done"}', 'a role with the domain''s four permissions may do all four');
ROLLBACK TO SAVEPOINT before;
SELECT is(pg_temp.attempts('vic'), '{"select": "done", "insert": "role \"reader\" may not create in domain \"finding\"",
    "update": "role \"reader\" may not update in domain \"finding\"", "delete": "role \"reader\" may not delete in domain \"finding\""}',
    'a role that may read may only read, and is told so');
ROLLBACK TO SAVEPOINT before;

CALL test.sign_in('vic');
SELECT test.refused($$ UPDATE app.finding SET severity = 0 $$, '42501', 'role "reader" may not update in domain "finding"', 'An admin of the organization can change your role; tenancy.whoami() shows what it permits.',
                    'a refusal names role, action and domain, and the next step');
SELECT test.refused(statement, '42501', 'role "reader" may not%', '%', 'a reader is refused: ' || statement) FROM unnest(ARRAY[
    'DELETE FROM app.finding', 'UPDATE app.finding SET severity = 0 WHERE id = 1 RETURNING *', 'SELECT * FROM app.finding FOR UPDATE', 'SELECT * FROM app.finding FOR SHARE',
    $$ INSERT INTO app.finding (id, title) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET title = 'x' $$, $$ WITH d AS (DELETE FROM app.finding RETURNING *) SELECT * FROM d $$,
    $$ MERGE INTO app.finding f USING (VALUES (1)) v (id) ON f.id = v.id WHEN MATCHED THEN DELETE $$]) statement;
SELECT is((SELECT count(*) FROM app.finding), 3::bigint, 'and every row is there still');
SELECT is(tenancy.allowed('finding', 'read'), true, 'allowed tells what is');
SELECT is(tenancy.allowed('finding', 'update'), false, 'allowed tells what is not');
SELECT is(tenancy.allowed('finding', 'READ'), false, 'actions are spelled exactly');
SELECT is(tenancy.allowed('anything at all', 'read'), true, 'a star stands for every domain');
SELECT is(tenancy.allowed('finding', '*'), false, 'asking for a star needs a star');
SELECT is(tenancy.authorize('report', 'read'), true, 'authorize passes what is allowed');
SELECT test.refused($$ SELECT tenancy.authorize('report', 'approve') $$, '42501', 'role "reader" may not approve in domain "report"', '%', 'authorize guards actions of the application''s own');

ROLLBACK TO SAVEPOINT before;
CALL test.sign_in('eve');
SELECT test.refused($$ SELECT tenancy.authorize('invoice', 'read') $$, '42501', 'role "editor" may not read in domain "invoice"', '%', 'permissions of one domain count in no other');

ROLLBACK TO SAVEPOINT before;
CALL test.sign_in('cora');
SELECT lives_ok($$ INSERT INTO app.finding (id, title) VALUES (10, 'x') $$, 'who may create may insert');
SELECT test.refused($$ INSERT INTO app.finding (id, title) VALUES (11, 'x') RETURNING id $$, '42501', 'role "collector" may not read in domain "finding"', '%', 'but not read what RETURNING shows');
SELECT test.refused('SELECT FROM app.finding', '42501', 'role "collector" may not read in domain "finding"', '%', 'nor anything else');
ROLLBACK TO SAVEPOINT before;
CALL test.sign_in('ned');
SELECT is(pg_temp.attempts('ned') -> 'select', '"role \"nothing\" may not read in domain \"finding\""', 'a role without permissions may nothing');

-- The same statement under another role: nothing is remembered.
ROLLBACK TO SAVEPOINT before;
PREPARE change AS UPDATE app.finding SET severity = 0 WHERE id = 1;
SET LOCAL plan_cache_mode = force_generic_plan;
CREATE FUNCTION pg_temp.ask() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN tenancy.authorize('finding', 'update'); END $$;
SAVEPOINT prepared;
CALL test.sign_in('eve');
SELECT lives_ok('EXECUTE change', 'a prepared statement serves who may');
ROLLBACK TO SAVEPOINT prepared;
CALL test.sign_in('vic');
SELECT test.refused('EXECUTE change', '42501', 'role "reader" may not update%', '%', 'and refuses who may not');
ROLLBACK TO SAVEPOINT prepared;
CALL test.sign_in('eve');
SELECT is(pg_temp.ask(), true, 'a function that asked for one role');
ROLLBACK TO SAVEPOINT prepared;
CALL test.sign_in('vic');
SELECT test.refused('SELECT pg_temp.ask()', '42501', 'role "reader" may not update%', '%', 'asks again for another');
RESET SESSION AUTHORIZATION;
SELECT tenancy.revoke_permission('reader', '*', 'read') \g /dev/null
SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('vic');
SELECT test.refused('SELECT FROM app.finding', '42501', 'role "reader" may not read%', '%', 'a revoked permission is gone with the next authentication');

RESET SESSION AUTHORIZATION;
SELECT * FROM finish();
ROLLBACK;
