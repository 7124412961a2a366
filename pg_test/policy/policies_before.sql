-- Policies that were there before stay as narrow as they were; tables of the earlier layout are brought up.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(47);
GRANT CREATE ON DATABASE :"DBNAME" TO test_owner;
SET LOCAL SESSION AUTHORIZATION test_owner;

-- What they show -----------------------------------------------------------------------------------------------------------

CREATE TABLE app.note (id integer PRIMARY KEY, organization_id uuid NOT NULL, owner text NOT NULL);
INSERT INTO app.note VALUES (1, test.acme(), 'ann'), (2, test.acme(), 'bob'), (3, test.bolt(), 'ann');
CREATE POLICY own ON app.note USING (owner = current_setting('app.person', true));
ALTER TABLE app.note ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON app.note TO test_application;
SET LOCAL app.person = 'ann';
SET LOCAL SESSION AUTHORIZATION test_application;
SELECT results_eq('SELECT id FROM app.note ORDER BY 1', '{1,3}'::integer[], 'before protect a policy shows a person''s rows');
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT tenancy.protect('app.note') \g /dev/null
SELECT is_empty($$ SELECT FROM pg_policy WHERE polrelid = 'app.note'::regclass AND polpermissive AND polname <> 'own' $$, 'protect makes no permissive policy where there is one for each command');
SELECT is(tenancy.protect('app.note'), 0, 'and nothing is left to do');
SELECT is_empty($$ SELECT FROM tenancy.drift() WHERE "table" = 'app.note'::regclass $$, 'and nothing has drifted');
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
CALL test.sign_in('ada');
SELECT results_eq('SELECT id FROM app.note', '{1}'::integer[], 'after it the policy shows the person''s rows of the organization');
SELECT results_eq('UPDATE app.note SET owner = owner RETURNING id', '{1}'::integer[], 'and no other is changed');
SELECT results_eq('DELETE FROM app.note RETURNING id', '{1}'::integer[], 'and no other is deleted');
SELECT throws_ok($$ INSERT INTO app.note (id, owner) VALUES (4, 'bob') $$, '42501', NULL, 'a row of another person is refused');
SELECT lives_ok($$ INSERT INTO app.note (id, owner) VALUES (4, 'ann') $$, 'an own one is taken');
ROLLBACK TO SAVEPOINT nobody;
SELECT throws_ok('SELECT FROM app.note', '28000', NULL, 'without a context nothing is shown');
RESET SESSION AUTHORIZATION;
-- The control: what a permissive policy beside it opens.
CREATE POLICY tenancy_read ON app.note FOR SELECT USING (true);
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
CALL test.sign_in('ada');
SELECT results_eq('SELECT id FROM app.note ORDER BY 1', '{1,2}'::integer[], 'a permissive policy for all would show the organization''s');
ROLLBACK TO SAVEPOINT nobody;
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT is((SELECT exposed FROM tenancy.drift() WHERE "table" = 'app.note'::regclass), false, 'which is drift, though no hole in isolation');
SELECT is(tenancy.protect('app.note'), 1, 'that protect takes away');
SELECT is_empty($$ SELECT FROM pg_policy WHERE polrelid = 'app.note'::regclass AND polname = 'tenancy_read' $$, 'and only that');

-- One for a command leaves the others to the permission.
CREATE TABLE app.memo (id integer PRIMARY KEY, organization_id uuid NOT NULL, owner text NOT NULL);
CREATE POLICY own ON app.memo FOR SELECT TO test_application USING (owner = current_setting('app.person', true));
CREATE POLICY narrow ON app.memo AS RESTRICTIVE FOR DELETE USING (owner <> 'nobody');
SELECT tenancy.protect('app.memo') \g /dev/null
SELECT is((SELECT string_agg(polname, ',' ORDER BY polname) FROM pg_policy WHERE polrelid = 'app.memo'::regclass AND polpermissive), 'own,tenancy_create,tenancy_delete,tenancy_update',
                  'a restrictive policy lets nothing through, and one for a role is one');
SELECT tenancy.unprotect('app.memo') \g /dev/null
SELECT is((SELECT string_agg(polname, ',' ORDER BY polname) FROM pg_policy WHERE polrelid = 'app.memo'::regclass), 'narrow,own', 'unprotect leaves theirs');

-- The permission is asked whatever theirs say.
CREATE TABLE app.open_note (id integer PRIMARY KEY, organization_id uuid NOT NULL);
CREATE POLICY own ON app.open_note USING (true);
SELECT tenancy.protect('app.open_note') \g /dev/null
INSERT INTO app.open_note SELECT 1, test.acme() WHERE false;
GRANT SELECT, INSERT, UPDATE, DELETE ON app.open_note TO test_application;
RESET SESSION AUTHORIZATION;
INSERT INTO app.open_note VALUES (1, test.acme());
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
CALL test.sign_in('vic');
SELECT results_eq('SELECT id FROM app.open_note', '{1}'::integer[], 'who may read reads');
SELECT test.refused(statement, '42501', 'role "reader" may not%', '%', 'a permissive policy of other hands gives no permission: ' || statement)
  FROM unnest(ARRAY['UPDATE app.open_note SET id = 2', 'DELETE FROM app.open_note', 'INSERT INTO app.open_note (id) VALUES (2)', 'SELECT FROM app.open_note FOR UPDATE']) statement;
ROLLBACK TO SAVEPOINT nobody;
RESET SESSION AUTHORIZATION;

-- The earlier layout -------------------------------------------------------------------------------------------------------

SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.old (id integer PRIMARY KEY, organization_id uuid NOT NULL DEFAULT '00000000-0000-4000-8000-00000000000f');
SELECT tenancy.protect('app.old', domain => 'finding') \g /dev/null
CREATE TEMP TABLE mark AS SELECT obj_description(oid, 'pg_policy') AS comment FROM pg_policy WHERE polrelid = 'app.old'::regclass AND polname = 'tenancy_isolation';
SET LOCAL tenancy.override_reason = 'back to the earlier layout';
SELECT format('DROP POLICY %I ON app.old', polname) FROM pg_policy WHERE polrelid = 'app.old'::regclass \gexec
CREATE POLICY tenancy_isolation ON app.old AS RESTRICTIVE USING (organization_id = tenancy.org_id()) WITH CHECK (organization_id = tenancy.org_id());
CREATE POLICY tenancy_read ON app.old FOR SELECT USING (tenancy.authorize('finding', 'read'));
CREATE POLICY tenancy_create ON app.old FOR INSERT WITH CHECK (tenancy.authorize('finding', 'create'));
CREATE POLICY tenancy_update ON app.old FOR UPDATE USING (tenancy.authorize('finding', 'update')) WITH CHECK (tenancy.authorize('finding', 'update'));
CREATE POLICY tenancy_delete ON app.old FOR DELETE USING (tenancy.authorize('finding', 'delete'));
SELECT format('COMMENT ON POLICY tenancy_isolation ON app.old IS %L', comment) FROM mark \gexec
SELECT is((SELECT exposed FROM tenancy.drift() WHERE "table" = 'app.old'::regclass), true, 'a table of the earlier layout is shown by drift');
SELECT results_eq($$ SELECT sql FROM tenancy.plan('app.old') WHERE state = 'todo' AND sql LIKE '%before%' ORDER BY step $$,
    $$ VALUES ('ALTER POLICY tenancy_isolation ON app.old RENAME TO tenancy_isolation_before'), ('DROP POLICY tenancy_isolation_before ON app.old') $$, 'it is isolated at each step between');
-- Step by step, and broken off after each.
CREATE FUNCTION pg_temp.upgrade() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    statement text;
BEGIN
    LOOP
        SELECT sql INTO statement FROM tenancy.plan('app.old') WHERE state = 'todo' ORDER BY step LIMIT 1;
        EXIT WHEN NOT FOUND;
        EXECUTE statement;
        RETURN NEXT (SELECT string_agg(polname, ',') FROM pg_policy p WHERE polrelid = 'app.old'::regclass AND NOT polpermissive AND polcmd IN ('*', 'r'));
    END LOOP;
END
$$;
SAVEPOINT old;
SELECT is((SELECT count(*) FROM pg_temp.upgrade() isolated WHERE isolated IS NULL), 0::bigint, 'at each step some policy isolates what is read');
SELECT is((SELECT obj_description(oid, 'pg_policy') FROM pg_policy WHERE polrelid = 'app.old'::regclass AND polname = 'tenancy_isolation'), comment, 'what was there before is remembered') FROM mark;
ROLLBACK TO SAVEPOINT old;
SELECT ok(tenancy.protect('app.old') > 0, 'protect brings it up at once');
SELECT is(tenancy.protect('app.old'), 0, 'and leaves nothing to do');
SELECT is((SELECT obj_description(oid, 'pg_policy') FROM pg_policy WHERE polrelid = 'app.old'::regclass AND polname = 'tenancy_isolation'), comment, 'and remembers what was there before') FROM mark;
SELECT is((SELECT count(*) FROM pg_policy WHERE polrelid = 'app.old'::regclass), 8::bigint, 'it has the policies of the layout of today');
SELECT is((SELECT string_agg(DISTINCT pg_get_expr(polqual, polrelid), ',') FROM pg_policy WHERE polrelid = 'app.old'::regclass AND polpermissive AND polqual IS NOT NULL), '(''tenancy.org_id(text,text)''::regprocedure IS NOT NULL)', 'permissive ones let all through');
SET LOCAL tenancy.override_reason = '';
SELECT test.refused('ALTER POLICY tenancy_read ON app.old RENAME TO other', '42501', '%less protected', '%', 'a permissive policy of protect keeps its name');
RESET SESSION AUTHORIZATION;

-- An answer belongs to its arguments -----------------------------------------------------------------------------------------

CREATE FUNCTION pg_temp.may(actions text[]) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    action text;
    passed text[] := '{}';
BEGIN
    FOREACH action IN ARRAY actions LOOP
        BEGIN
            IF tenancy.authorize('invoice', action) THEN
                passed := passed || action;
            END IF;
        EXCEPTION WHEN insufficient_privilege THEN
            NULL;
        END;
    END LOOP;
    RETURN passed;
END
$$;
CREATE FUNCTION pg_temp.may_in(domains text[]) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    passed text[] := '{}';
    answer uuid;
BEGIN
    FOR n IN 1 .. array_length(domains, 1) LOOP
        BEGIN
            answer := tenancy.org_id(domains[n], 'create');
            passed := passed || domains[n];
        EXCEPTION WHEN insufficient_privilege THEN
            NULL;
        END;
    END LOOP;
    RETURN passed;
END
$$;
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
CALL test.sign_in('vic');
SELECT is(pg_temp.may('{read,delete,pay-out}'), '{read}', 'PL/pgSQL that asks in a loop is answered each time');
SELECT is(pg_temp.may('{read,delete,read,pay-out,read}'), '{read,read,read}', 'in any order');
SELECT throws_ok($$ DO $x$ DECLARE a text; BEGIN FOREACH a IN ARRAY ARRAY['read', 'delete'] LOOP IF tenancy.authorize('invoice', a) THEN NULL; END IF; END LOOP; END $x$ $$, '42501',
                 'role "reader" may not delete in domain "invoice"', 'without a handler too');
SELECT throws_ok($$ SELECT tenancy.authorize('invoice', a) FROM (VALUES ('read'), ('delete')) v (a) $$, '42501', 'role "reader" may not delete in domain "invoice"', 'and in SQL');
PREPARE asked (text) AS SELECT tenancy.authorize('invoice', $1);
SET LOCAL plan_cache_mode = force_generic_plan;
SELECT lives_ok($$ EXECUTE asked ('read') $$, 'a prepared question');
SELECT throws_ok($$ EXECUTE asked ('delete') $$, '42501', 'role "reader" may not delete in domain "invoice"', 'is another question with another value');
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('eve');
SELECT is(pg_temp.may_in('{finding,invoice,finding}'), '{finding,finding}', 'so it is by tenancy.org_id and domain');
SELECT throws_ok($$ SELECT tenancy.org_id('finding', 'read,manage') $$, '42501', 'role "editor" may not manage in domain "finding"', 'of several actions each is asked for');
SELECT throws_ok($$ SELECT tenancy.authorize('finding', 'read,update') $$, '42501', 'role "editor" may not read,update in domain "finding"', 'a permission of the application may have any name');
CREATE FUNCTION pg_temp.questions(statement text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    line text;
    questions text[] := '{}';
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (VERBOSE, COSTS OFF) ' || statement LOOP
        questions := questions || ARRAY(SELECT m[1] FROM regexp_matches(line, $r$org_id\('finding'::text, '([a-z,]*)'::text\)$r$, 'g') m);
    END LOOP;
    RETURN questions;
END
$$;
SELECT is(cardinality(questions) = 1 AND string_to_array(questions[1], ',') @> actions AND string_to_array(questions[1], ',') <@ actions, true, 'one question of ' || statement)
  FROM (VALUES ('SELECT FROM app.finding WHERE id = 1', '{read}'::text[]), ('UPDATE app.finding SET severity = 1 WHERE id = 1', '{read,update}'), ('DELETE FROM app.finding WHERE id = 1', '{read,delete}'),
               ('UPDATE app.finding SET severity = 1', '{update}'), ('SELECT FROM app.finding FOR UPDATE', '{read,update}'), ('WITH d AS (DELETE FROM app.finding RETURNING id) SELECT FROM d', '{read,delete}')) v (statement, actions),
       pg_temp.questions(statement) questions;
SELECT throws_ok($$ SELECT tenancy.org_id(NULL, 'read') $$, '22004', 'domain may not be NULL', 'a NULL is no question');
RESET SESSION AUTHORIZATION;

SELECT * FROM finish();
ROLLBACK;
