-- SQL injection: somebody runs any SQL at all as the application's database role, with a token of Acme and none of Bolt.
BEGIN;
\ir ../helpers/fixture.sql
-- One for each function that can be called, and the others.
SELECT plan(116 + (SELECT count(*)::integer FROM pg_proc p WHERE p.pronamespace = 'tenancy'::regnamespace AND p.provariadic = 0 AND p.prorettype <> ALL ('{trigger,internal}'::regtype[])));
GRANT CREATE ON SCHEMA app TO test_application;
CREATE TEMP TABLE bolts_token AS SELECT test.token('bob') AS token;
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
CALL test.sign_in('ada');

-- Forging the context -------------------------------------------------------------------------------------------------

SELECT throws_ok(statement, CASE WHEN statement LIKE '%tenancy.anything%' OR statement LIKE '%''tenancy.org''%' THEN '42602' ELSE '42501' END, NULL, 'refused: ' || statement) FROM unnest(ARRAY[
    $$ SET tenancy.context = '{}' $$, $$ SET SESSION tenancy.context = '{}' $$, $$ SET LOCAL tenancy.context = '{}' $$, $$ SET tenancy.context TO DEFAULT $$, $$ RESET tenancy.context $$,
    $$ SET "TENANCY.Context" = '{}' $$, $$ SELECT set_config('tenancy.context', '{}', true) $$, $$ SELECT set_config('tenancy.context', '{}', false) $$, $$ SELECT set_config('tenancy.context', '', true) $$,
    $$ SELECT set_config('Tenancy.CONTEXT', '{}', true) $$,
    $$ SET tenancy.anything = '1' $$, $$ SELECT set_config('tenancy.org', 'x', true) $$,
    $$ ALTER ROLE test_application SET tenancy.context = '{}' $$, $$ ALTER ROLE test_application SET tenancy.context FROM CURRENT $$, $$ ALTER ROLE CURRENT_USER IN DATABASE postgres SET tenancy.context = '{}' $$,
    $$ ALTER DATABASE postgres SET tenancy.context = '{}' $$,
    $$ CREATE FUNCTION pg_temp.f() RETURNS uuid LANGUAGE sql SET tenancy.context = '{}' AS 'SELECT tenancy.org_id()' $$,
    $$ CREATE FUNCTION pg_temp.f() RETURNS uuid LANGUAGE sql SET tenancy.context FROM CURRENT AS 'SELECT tenancy.org_id()' $$,
    $$ DO 'BEGIN PERFORM set_config(''tenancy.context'', ''{}'', true); END' $$,
    $$ LOAD 'pg_tenancy_other' $$, $$ SHOW tenancy.context $$, $$ SELECT current_setting('tenancy.context') $$, $$ SELECT current_setting('tenancy.context', true) $$,
    $$ GRANT SET ON PARAMETER tenancy.context TO test_application $$, $$ GRANT tenancy_admin TO test_application $$, $$ SET ROLE tenancy_admin $$, $$ SET ROLE test_owner $$,
    $$ ALTER TABLE app.finding DISABLE ROW LEVEL SECURITY $$, $$ DROP POLICY tenancy_isolation ON app.finding $$, $$ CREATE POLICY mine ON app.finding USING (true) $$,
    $$ ALTER TABLE app.finding DISABLE TRIGGER ALL $$, $$ DROP TRIGGER tenancy_audit ON app.finding $$, $$ SET session_replication_role = replica $$, $$ ALTER TABLE app.finding ALTER organization_id DROP DEFAULT $$
]) statement;
SELECT is_empty($$ SELECT name FROM pg_settings WHERE name LIKE 'tenancy.%' AND name NOT IN ('tenancy.audit_retention', 'tenancy.audit_value_limit', 'tenancy.checkpoint_interval', 'tenancy.checkpoint_origin', 'tenancy.dormant_after', 'tenancy.exception_cache', 'tenancy.issuer_cache_size', 'tenancy.key_cache_lifetime', 'tenancy.key_cache_size', 'tenancy.max_unsealed_events', 'tenancy.override_reason', 'tenancy.seal_batch', 'tenancy.seal_interval', 'tenancy.settle_interval', 'tenancy.several_identities', 'tenancy.token_cache_size') $$, 'the context does not show in pg_settings');
SELECT is(tenancy.org_id(), test.acme(), 'after all this the context is what it was');
SELECT results_eq('SELECT id FROM app.finding ORDER BY 1', '{1,2,3}'::integer[], 'and shows what it did');
RESET ALL;
SET LOCAL search_path = test, public;
SELECT is(tenancy.whoami(), '{"authenticated": false}', 'RESET ALL can only end the context');
SELECT throws_ok('SELECT * FROM app.finding', '28000', NULL, 'which closes the tables');

SELECT throws_ok($$ SELECT token FROM bolts_token $$, '42501', NULL, '(the attacker has no token of Bolt)');
SELECT test.refused(format('SELECT tenancy.authenticate(%L, %L)', test.token('ada'), test.bolt()), '28000', '%', '%', 'another organization cannot be asked for with the own token');
SELECT test.refused(format('SELECT tenancy.authenticate(%L)', test.token('ada', '{"org_id": "bolt"}', key => 'guessed')), '28000', '%', '%', 'nor with a token made up');

-- Savepoints ----------------------------------------------------------------------------------------------------------

CALL test.sign_in('ada');
SAVEPOINT s;
CALL test.sign_out();
ROLLBACK TO SAVEPOINT s;
SELECT is(tenancy.org_id(), test.acme(), 'a rollback restores the own context, no other');

-- Prepared statements and cursors ------------------------------------------------------------------------------------------

ROLLBACK TO SAVEPOINT nobody;
CREATE FUNCTION pg_temp.kept() RETURNS integer[] LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT array_agg(id ORDER BY id) FROM app.finding); END $$;
CREATE TEMP VIEW kept_view AS SELECT * FROM app.finding;
SAVEPOINT nobody;
CALL test.sign_in('ada');
SET LOCAL plan_cache_mode = force_generic_plan;
PREPARE all_rows AS SELECT array_agg(id ORDER BY id) FROM app.finding;
PREPARE one_row (integer) AS SELECT title FROM app.finding WHERE id = $1;
SELECT results_eq('EXECUTE all_rows', $$ VALUES ('{1,2,3}'::integer[]) $$, 'a prepared statement answers for the tenant that planned it');
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('bob');
SET LOCAL plan_cache_mode = force_generic_plan;
SELECT results_eq('EXECUTE all_rows', $$ VALUES ('{4,5}'::integer[]) $$, 'and for another when executed by it, never for the first');
SELECT is_empty('EXECUTE one_row (1)', 'with a parameter too');
CALL test.sign_out();
SELECT throws_ok('EXECUTE all_rows', '28000', NULL, 'and for nobody without a context');
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('ada');
SET LOCAL plan_cache_mode = force_custom_plan;
SELECT is_empty('EXECUTE one_row (4)', 'planned anew it answers the same');
SET LOCAL plan_cache_mode = auto;
SELECT is(pg_temp.kept(), '{1,2,3}', 'a plan kept by PL/pgSQL answers for the tenant');
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('bob');
SELECT is(pg_temp.kept(), '{4,5}', 'and for another one');
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('ada');
DECLARE walk CURSOR FOR SELECT id FROM app.finding ORDER BY id;
SELECT results_eq('FETCH 1 FROM walk', '{1}'::integer[], 'a cursor shows the tenant''s rows');
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('bob');
CREATE FUNCTION pg_temp.rest_of(name refcursor) RETURNS integer[] LANGUAGE plpgsql AS $$
DECLARE
    ids integer[] := '{}'; id integer;
BEGIN
    LOOP
        FETCH name INTO id;
        EXIT WHEN NOT FOUND;
        ids := ids || id;
    END LOOP;
    RETURN ids;
EXCEPTION WHEN invalid_cursor_name THEN
    RETURN '{}';
END
$$;
SELECT is(pg_temp.rest_of('walk') && '{4,5}', false, 'a cursor opened by one tenant shows no row of another');
CALL test.sign_out();
SELECT throws_ok('DECLARE closed CURSOR FOR SELECT id FROM app.finding', '28000', NULL, 'without a context no cursor can be opened');
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('ada');
SELECT count(*) FROM kept_view \g /dev/null
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('bob');
SELECT results_eq('SELECT id FROM kept_view ORDER BY 1', '{4,5}'::integer[], 'a temporary view belongs to no tenant');
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('ada');
CREATE TEMP TABLE copied AS SELECT * FROM app.finding;
SELECT results_eq('SELECT id FROM copied ORDER BY 1', '{1,2,3}'::integer[], 'a copy holds what its maker could see');

-- Names that shadow ---------------------------------------------------------------------------------------------------

CREATE FUNCTION pg_temp.org_id() RETURNS uuid LANGUAGE sql AS 'SELECT test.bolt()';
CREATE FUNCTION app.org_id() RETURNS uuid LANGUAGE sql AS 'SELECT test.bolt()';
CREATE FUNCTION app.authorize(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION app.always(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR app.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = app.always);
CREATE FUNCTION app.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '-infinity'::timestamptz $$;
CREATE TEMP TABLE membership AS SELECT test.bolt() AS organization, test.issuer() AS issuer, 'ada' AS subject, 'admin' AS role, 'active' AS status;
CREATE TEMP TABLE issuer (issuer text, jwks json);
CREATE TEMP TABLE event (id uuid);
SET LOCAL search_path = pg_temp, app, pg_catalog, test, public;
SELECT is(tenancy.authenticate(test.token('ada')), test.acme(), 'own tables, functions and operators first in the search_path do not mislead authenticate');
SELECT is((SELECT array_agg(id ORDER BY id) FROM app.finding), '{1,2,3}', 'nor the policies');
UPDATE app.finding SET severity = 6 WHERE id = 1;
SELECT test.refused($$ INSERT INTO app.finding VALUES (60, test.bolt(), 'x') $$, '42501', '%row-level security%', '%', 'nor the check of new rows');
SELECT test.refused($$ SELECT tenancy.authenticate(test.token('ada', '{"exp": 1}')) $$, '28000', 'the token has expired', '%', 'nor the clock');
SELECT is((SELECT count(*) FROM pg_temp.event), 0::bigint, 'an own table "event" gets no event');
SET LOCAL search_path = test, public;
RESET SESSION AUTHORIZATION;
SELECT is((SELECT count(*) FROM tenancy.event WHERE transaction = pg_current_xact_id() AND row_key ->> 'id' = '1'), 1::bigint, 'the change is recorded where it belongs');
SELECT throws_ok($$ CREATE SCHEMA tenancy $$, '42P06', NULL, '(there is one schema of that name)');
SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('ada');

-- Writing or changing events -----------------------------------------------------------------------------------------------

SELECT throws_ok(format(statement, name), '42501', NULL, format('refused: ' || statement, name)) FROM unnest('{event_batch,event_actor,block,seal}'::text[]) name, unnest(ARRAY[
    'INSERT INTO tenancy.%1$s SELECT * FROM tenancy.%1$s', 'UPDATE tenancy.%1$s SET id = NULL', 'DELETE FROM tenancy.%s', 'TRUNCATE tenancy.%s', 'LOCK tenancy.%s',
    'ALTER TABLE tenancy.%s DISABLE TRIGGER ALL', 'DROP TRIGGER append_only ON tenancy.%s', 'CREATE RULE r AS ON INSERT TO tenancy.%s DO INSTEAD NOTHING', 'ALTER TABLE tenancy.%s OWNER TO test_application'])
    statement WHERE statement NOT LIKE 'UPDATE%';
SELECT throws_ok($$ UPDATE tenancy.event_batch SET domain = 'x' $$, '42501', NULL, 'refused: UPDATE of events');
CREATE TEMP TABLE own (id integer, organization_id uuid);
SELECT throws_ok(format('CREATE TRIGGER t %s EXECUTE FUNCTION tenancy.%s', clause, call), '42501', NULL, format('an own table cannot have the trigger function %s', call)) FROM (VALUES
    ('AFTER INSERT ON own FOR EACH ROW', 'audit_row(''organization_id'', ''finding'')'), ('BEFORE TRUNCATE ON own', 'audit_truncate(''organization_id'', ''finding'')'), ('BEFORE DELETE ON own', 'refuse_change()')) v (clause, call);
SELECT throws_ok($$ CREATE TABLE app.child () INHERITS (app.finding) $$, '42501', NULL, 'a child of the protected table cannot be made');
SELECT throws_ok($$ CREATE RULE r AS ON SELECT TO app.finding DO INSTEAD SELECT 1 $$, '42501', NULL, 'nor a rule');
SELECT throws_ok($$ CREATE INDEX ON app.finding (title) $$, '42501', NULL, 'nor an index');
SELECT throws_ok($$ CREATE STATISTICS app.s ON id, title FROM app.finding $$, '42501', NULL, 'nor statistics');
SELECT is_empty($$ SELECT FROM pg_stats WHERE tablename = 'finding' $$, 'the statistics of the table do not show');

-- COPY ----------------------------------------------------------------------------------------------------------------

CREATE TEMP TABLE export AS SELECT id FROM app.finding;
SELECT is((SELECT count(*) FROM export), 3::bigint, 'CREATE TABLE AS takes the tenant''s rows');
SELECT throws_ok($$ COPY app.finding TO PROGRAM 'cat' $$, '42501', NULL, 'no program of the server can be run');
SELECT throws_ok($$ COPY app.finding TO '/tmp/pg_tenancy_finding' $$, '42501', NULL, 'no file of the server can be written');
SELECT throws_ok($$ SELECT lo_export(lo_from_bytea(0, 'x'), '/tmp/pg_tenancy_finding') $$, '42501', NULL, 'nor by a large object');
\o /dev/null
COPY (SELECT id FROM app.finding) TO STDOUT;
\o

-- Every function of the extension with nothing and with rubbish -------------------------------------------------------------

CREATE TEMP TABLE call (n serial, text text);
INSERT INTO call (text) SELECT format('SELECT tenancy.%I(%s)', p.proname, (SELECT string_agg(format('%s => NULL::%s', quote_ident(p.proargnames[i]), format_type(p.proargtypes[i - 1], NULL)), ', ') FROM generate_series(1, p.pronargs) i))
  FROM pg_proc p WHERE p.pronamespace = 'tenancy'::regnamespace AND p.provariadic = 0 AND p.prorettype <> ALL ('{trigger,internal}'::regtype[]);
INSERT INTO call (text) SELECT format('SELECT tenancy.%s', c) FROM unnest(ARRAY[
    'authenticate(repeat(''.'', 1000000))', 'authenticate(E''\x01'')', 'authenticate(''a.b.c'', test.bolt(), repeat(''x'', 201))', 'allowed('''', '''')', 'allowed(repeat(''x'', 100000), ''*'')', 'authorize(''*'', ''*'')',
    'allowed(''finding'', ''read'' || chr(10))', 'whoami()']) c;
CREATE FUNCTION pg_temp.survives(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'fine';
EXCEPTION WHEN OTHERS THEN
    RETURN CASE WHEN SQLSTATE LIKE 'XX%' THEN SQLSTATE || ' ' || SQLERRM ELSE 'fine' END;
END
$$;
SELECT is(pg_temp.survives(text), 'fine', 'no internal error: ' || left(text, 100)) FROM call ORDER BY n;

CALL test.sign_out();
RESET SESSION AUTHORIZATION;
SELECT results_eq('SELECT id, title, severity FROM app.finding WHERE organization_id = test.bolt() ORDER BY 1', $$ VALUES (4, 'bolt''s secret', 7), (5, 'bolt''s other secret', 9) $$, 'after all this Bolt''s rows are as they were');

SELECT * FROM finish();
ROLLBACK;
