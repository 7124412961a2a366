-- What tells of other organizations' rows by their number: EXPLAIN ANALYZE and the server's counters.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(27);
CREATE FUNCTION app.counted() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$ SELECT pg_stat_get_xact_numscans('app.finding'::regclass) $$;
GRANT EXECUTE ON FUNCTION app.counted() TO test_application;
CREATE ROLE test_other;
GRANT test_other TO test_application;
GRANT USAGE ON SCHEMA app, tenancy, test TO test_other;
GRANT SELECT ON app.finding TO test_other;
CREATE FUNCTION pg_temp.removed() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    line text;
    removed bigint := 0;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS off, TIMING off) SELECT * FROM app.finding' LOOP
        removed := removed + coalesce(substring(line FROM 'Rows Removed by Filter: (\d+)')::bigint, 0);
    END LOOP;
    RETURN removed;
END $$;
CREATE TEMP TABLE attempt AS SELECT * FROM unnest(ARRAY[
    'EXPLAIN ANALYZE SELECT * FROM app.finding', 'EXPLAIN (ANALYZE) SELECT * FROM app.finding', 'EXPLAIN (ANALYZE off, ANALYZE on) SELECT 1', 'EXPLAIN (FORMAT json, ANALYZE 1) SELECT 1',
    'DO $x$ BEGIN EXECUTE ''EXPLAIN ANALYZE SELECT 1''; END $x$',
    'SELECT * FROM pg_stat_xact_user_tables', 'SELECT * FROM pg_stat_user_tables', 'SELECT * FROM pg_statio_user_tables', 'SELECT * FROM pg_stat_user_indexes', 'SELECT * FROM pg_stat_activity',
    'SELECT * FROM pg_stat_get_activity(NULL)', 'SELECT pg_stat_get_backend_activity(1)', 'SELECT pg_stat_get_xact_numscans(''app.finding''::regclass)', 'SELECT pg_stat_get_live_tuples(''app.finding''::regclass)',
    'DO $x$ BEGIN IF pg_stat_get_numscans(''app.finding''::regclass) > 0 THEN NULL; END IF; END $x$']) statement;
GRANT SELECT ON attempt TO test_application, test_other;

SELECT tenancy.set_guardrail('statement_statistics', 'off', 'to see the attack work') \g /dev/null
SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('ada');
SELECT cmp_ok(pg_temp.removed(), '>', 0::bigint, 'without the guardrail a tenant counts rows of others');
SELECT cmp_ok((SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'finding'), '>', (SELECT count(*) FROM app.finding), 'and the counters count them');
RESET SESSION AUTHORIZATION;
SELECT tenancy.clear_guardrail(name, NULL, 'test') FROM tenancy.guardrail \g /dev/null

SET LOCAL SESSION AUTHORIZATION test_application;
SELECT test.refused(statement, '42501', '%would tell of other organizations'' rows', '%', 'refused: ' || statement) FROM attempt;
SELECT lives_ok('EXPLAIN SELECT * FROM app.finding', 'estimates remain');
SELECT lives_ok('EXPLAIN (ANALYZE on, ANALYZE off) SELECT 1', 'the last option counts, as for Postgres');
SELECT lives_ok('SELECT app.counted()', 'a function of another role decides for itself');
PREPARE p AS SELECT * FROM app.finding;
SELECT test.refused('EXPLAIN ANALYZE EXECUTE p', '42501', '%would tell of%', '%', 'a prepared statement is none the better');
SET LOCAL ROLE test_other;
SELECT test.refused('EXPLAIN ANALYZE SELECT 1', '42501', '%would tell of%', '%', 'nor is another role that it takes');
SELECT test.refused('SELECT * FROM pg_stat_user_tables', '42501', '%would tell of%', '%', 'nor for the counters');
RESET ROLE;
SET LOCAL tenancy.override_reason = 'x';
SELECT test.refused('EXPLAIN ANALYZE SELECT 1', '42501', '%would tell of%', '%', 'no reason passes it');
RESET SESSION AUTHORIZATION;
SELECT lives_ok('EXPLAIN ANALYZE SELECT 1', 'a superuser explains');
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT lives_ok('SELECT * FROM pg_stat_user_tables', 'an owner who is no application reads the counters');
RESET SESSION AUTHORIZATION;
SELECT tenancy.set_guardrail('statement_statistics', 'warn', 'test') \g /dev/null
SET LOCAL client_min_messages = error;
SET LOCAL SESSION AUTHORIZATION test_application;
SELECT lives_ok('EXPLAIN ANALYZE SELECT 1', 'warned of, it runs');
SELECT * FROM finish();
ROLLBACK;
