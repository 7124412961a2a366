-- A statement that meets no row is refused as one that does.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(41);
CREATE TABLE app.part (id integer, organization_id uuid NOT NULL) PARTITION BY RANGE (id);
CREATE TABLE app.part_1 PARTITION OF app.part FOR VALUES FROM (0) TO (9);
CREATE TABLE app.child (id integer, finding integer REFERENCES app.finding);
CREATE TABLE app.plain (id integer);
SELECT tenancy.protect('app.part', domain => 'finding'), tenancy.protect('app.child', through => 'finding', domain => 'finding') \g /dev/null
CREATE VIEW app.invoked WITH (security_invoker = true) AS SELECT * FROM app.finding;
CREATE VIEW app.owned AS SELECT * FROM app.finding;
CREATE FUNCTION app.remove() RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN DELETE FROM app.finding WHERE id = -5; GET DIAGNOSTICS n = ROW_COUNT; RETURN n; END $$;
CREATE FUNCTION app.remove_all() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'DELETE FROM app.finding WHERE id = -5';
GRANT SELECT, INSERT, UPDATE, DELETE ON app.part, app.part_1, app.child, app.plain, app.invoked, app.owned TO test_application;
SELECT tenancy.create_role('collector'), tenancy.grant_permission('collector', 'finding', 'create'), tenancy.set_membership(test.acme(), 'cora', 'collector') \g /dev/null
SELECT tenancy.set_guardrail('statement_statistics', 'off', 'the test reads plans') \g /dev/null
SET LOCAL SESSION AUTHORIZATION test_application;
PREPARE remove (integer) AS DELETE FROM app.finding WHERE id = $1;
SAVEPOINT nobody;
CALL test.sign_in('eve');
SELECT lives_ok('EXECUTE remove (-5)', 'who may deletes nothing');
-- Planning an INSERT asks for no permission.
SELECT lives_ok('INSERT INTO app.finding (id, title) SELECT 1, ''x'' WHERE false', 'and inserts nothing');
ROLLBACK TO SAVEPOINT nobody;

CALL test.sign_in('vic');
SELECT test.refused('INSERT INTO app.finding (id, title) SELECT 1, ''x'' WHERE false', '42501', 'role "reader" may not create in domain "finding"', '%', 'which does not hold for the next identity');
CREATE TEMP TABLE statement AS SELECT * FROM unnest(ARRAY[
    'DELETE FROM app.finding WHERE id = -5', 'UPDATE app.finding SET severity = 0 WHERE id = -5', 'UPDATE app.finding SET severity = 0 WHERE false', 'INSERT INTO app.finding (id, title) SELECT 1, ''x'' WHERE false',
    'SELECT FROM app.finding WHERE id = -5 FOR UPDATE', 'SELECT FROM app.finding WHERE id = -5 FOR KEY SHARE', 'MERGE INTO app.finding f USING (VALUES (-5)) v (id) ON f.id = v.id WHEN MATCHED THEN DELETE',
    'INSERT INTO app.finding (id, title) SELECT -5, ''x'' WHERE false ON CONFLICT (id) DO UPDATE SET title = ''x''', 'WITH gone AS (DELETE FROM app.finding WHERE id = -5 RETURNING id) SELECT FROM gone',
    'DELETE FROM app.part WHERE id = 5', 'DELETE FROM app.part_1 WHERE id = 5', 'DELETE FROM app.child WHERE id = -5', 'INSERT INTO app.child SELECT 1, 1 WHERE false', 'DELETE FROM app.invoked WHERE id = -5',
    'DELETE FROM app.plain USING app.finding f WHERE f.id = plain.id AND false; DELETE FROM app.finding WHERE id = -5', 'SELECT app.remove()', 'EXECUTE remove (-5)', 'EXPLAIN ANALYZE DELETE FROM app.finding WHERE id = -5']) statement;
SELECT test.refused(statement, '42501', 'role "reader" may not % in domain "finding"', '%', 'refused: ' || statement) FROM statement;
SELECT lives_ok('SELECT FROM app.finding WHERE id = -5', 'what the role may is done');
SELECT lives_ok('DELETE FROM app.plain', 'a table that is not protected asks nothing');
SELECT lives_ok('SELECT app.remove_all()', 'nor does row-level security ask a superuser''s function');
SELECT lives_ok('DELETE FROM app.owned WHERE id = -5', 'nor a superuser''s view');
SET LOCAL plan_cache_mode = force_generic_plan;
SELECT test.refused('EXECUTE remove (-5)', '42501', 'role "reader" may not delete in domain "finding"', '%', 'a generic plan is refused');
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('eve');
SELECT lives_ok('EXECUTE remove (-5)', 'and serves who may');
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('cora');
SELECT test.refused('SELECT FROM app.finding WHERE id = -5', '42501', 'role "collector" may not read%', '%', 'who may not read is told without a row');
SELECT test.refused('DECLARE c CURSOR FOR SELECT FROM app.finding WHERE id = -5', '42501', 'role "collector" may not read%', '%', 'a cursor too');
SELECT lives_ok('INSERT INTO app.finding (id, title) VALUES (77, ''x'')', 'what it may is done');

-- A statement that brings its own identity has none yet where the executor asks.
ROLLBACK TO SAVEPOINT nobody;
PREPARE itself (text) AS WITH a AS MATERIALIZED (SELECT tenancy.authenticate($1, test.acme()) AS organization) DELETE FROM app.finding f USING a WHERE a.organization IS NOT NULL RETURNING f.id;
PREPARE looks (text) AS WITH a AS MATERIALIZED (SELECT tenancy.authenticate($1, test.acme()) AS organization) SELECT f.id FROM a, app.finding f WHERE a.organization IS NOT NULL;
CREATE FUNCTION pg_temp.state(statement text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE statement; RETURN 'done'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$;
SET LOCAL plan_cache_mode = force_generic_plan;
SAVEPOINT nobody_prepared;
CALL test.sign_in('eve');
SELECT is(pg_temp.state(format('EXECUTE itself (%L)', test.token('eve'))), 'done', 'a statement that authenticates itself is planned and kept');
SELECT is(pg_temp.state(format('EXECUTE looks (%L)', test.token('eve'))), 'done', 'and one that reads');
ROLLBACK TO SAVEPOINT nobody_prepared;
SELECT is(pg_temp.state(format('EXECUTE itself (%L)', test.token('vic'))) IN ('42501', '28000'), true, 'it asks for the permission of whom it brings');
SELECT is(pg_temp.state(format('EXECUTE looks (%L)', test.token('cora'))) IN ('42501', '28000'), true, 'to read as well');
SELECT is((SELECT count(*) FROM pg_prepared_statements WHERE name IN ('itself', 'looks') AND generic_plans > 0), 2::bigint, 'by the plan that was kept');

-- A cursor goes on as long as the access.
ROLLBACK TO SAVEPOINT nobody;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
CALL test.sign_in('eve');
DECLARE opened NO SCROLL CURSOR FOR SELECT id FROM app.finding;
SELECT results_eq('FETCH 1 FROM opened', '{1}'::integer[], 'a cursor shows rows');
CALL test.sign_out();
SELECT throws_ok('FETCH 1 FROM opened', '28000', NULL, 'and none once the access is over');

-- A policy that changes is read anew.
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('eve');
SELECT lives_ok('INSERT INTO app.finding (id, title) SELECT 1, ''x'' WHERE false', 'a permission is found');
RESET SESSION AUTHORIZATION;
SELECT tenancy.protect('app.finding', domain => 'elsewhere') \g /dev/null
SET LOCAL SESSION AUTHORIZATION test_application;
SELECT test.refused('INSERT INTO app.finding (id, title) SELECT 1, ''x'' WHERE false', '42501', 'role "editor" may not % in domain "elsewhere"', '%', 'another domain counts at once');
-- And without a context as ever.
ROLLBACK TO SAVEPOINT nobody;
SELECT throws_ok('SELECT FROM app.finding', '28000', NULL, 'without a context there is another error');
RESET SESSION AUTHORIZATION;
SELECT lives_ok('DELETE FROM app.finding WHERE id = -5', 'a superuser is asked for nothing');
SELECT * FROM finish();
ROLLBACK;
