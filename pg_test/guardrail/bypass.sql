-- Superusers and roles with BYPASSRLS: recorded or refused, as the guardrail says.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(33);
SET LOCAL client_min_messages = error;
CREATE ROLE test_job BYPASSRLS;
GRANT USAGE ON SCHEMA app, tenancy TO test_job;
GRANT SELECT, INSERT, UPDATE, DELETE ON app.finding TO test_job;
GRANT tenancy_operator TO test_job;
CREATE TABLE app.plain (id integer PRIMARY KEY, finding integer REFERENCES app.finding ON DELETE CASCADE);
GRANT ALL ON app.plain TO test_job;
CREATE VIEW app.everything AS SELECT * FROM app.finding;
GRANT SELECT ON app.everything TO test_application;
CREATE FUNCTION app.total() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'SELECT count(*) FROM app.finding';
CREATE FUNCTION pg_temp.bypasses() RETURNS TABLE (operation text, reason text, name text) LANGUAGE sql AS $$
    SELECT e.operation, e.reason, e.table_schema || '.' || e.table_name FROM tenancy.event e WHERE e.domain = 'guardrail' AND e.table_name = 'finding' ORDER BY e.ordinal
$$;

SELECT is((SELECT count(*) FROM app.finding), 5::bigint, 'off, a superuser reads what it likes');
SELECT is_empty('SELECT * FROM pg_temp.bypasses()', 'and nothing is recorded');

SELECT tenancy.set_guardrail('row_security_bypass', 'warn', 'test') \g /dev/null
SAVEPOINT warned;
SELECT is((SELECT count(*) FROM app.finding), 5::bigint, 'warned of, it reads still');
SELECT is((SELECT count(*) FROM app.finding), 5::bigint, 'again');
SELECT test.same('SELECT * FROM pg_temp.bypasses()', $$ VALUES ('guardrail', 'bypass_refused: no policy binds this role: it would see every organization''s rows of app.finding', 'app.finding') $$, 'which is recorded, once for a table in a transaction');
ROLLBACK TO SAVEPOINT warned;
SELECT is_empty('SELECT * FROM pg_temp.bypasses()', 'a savepoint takes the record back');
UPDATE app.finding SET severity = 0 WHERE id = 1;
SELECT is((SELECT count(*) FROM pg_temp.bypasses()), 1::bigint, 'and the next access is recorded anew');
ROLLBACK TO SAVEPOINT warned;

SELECT tenancy.set_guardrail('row_security_bypass', 'enforce', 'test') \g /dev/null
SAVEPOINT enforced;
CREATE TEMP TABLE attempts AS SELECT * FROM unnest(ARRAY['SELECT * FROM app.finding', 'SELECT count(*) FROM app.finding', 'TABLE app.finding', 'INSERT INTO app.finding VALUES (9, test.acme(), ''x'')',
    'UPDATE app.finding SET severity = 0', 'DELETE FROM app.finding', 'MERGE INTO app.finding USING (VALUES (1)) v (n) ON id = n WHEN MATCHED THEN DELETE', 'SELECT 1 WHERE EXISTS (SELECT FROM app.finding)',
    'WITH d AS (DELETE FROM app.finding RETURNING *) SELECT * FROM d', 'COPY app.finding TO STDOUT', 'COPY (SELECT * FROM app.finding) TO STDOUT', 'CREATE TABLE app.copy AS SELECT * FROM app.finding',
    'DO $x$ BEGIN PERFORM count(*) FROM app.finding; END $x$', 'SELECT * FROM app.everything', 'DECLARE c CURSOR FOR SELECT * FROM app.finding', 'EXPLAIN ANALYZE SELECT * FROM app.finding']) statement;
GRANT SELECT ON attempts TO test_job;
SELECT test.refused(statement, '42501', '%every organization''s rows of app.finding', 'Assume the organization%', 'refused to a superuser: ' || statement) FROM attempts WHERE statement NOT LIKE 'COPY%';
SELECT lives_ok('SELECT * FROM app.plain; SELECT * FROM tenancy.event; SELECT tenancy.seal(); ANALYZE app.finding; SELECT tenancy.protect(''app.finding'')', 'other tables, maintenance and the extension''s own are not its concern');
SET LOCAL SESSION AUTHORIZATION test_job;
SELECT test.refused('SELECT * FROM app.finding', '42501', '%every organization''s rows of app.finding', '%', 'refused to a role with BYPASSRLS');
INSERT INTO app.plain VALUES (1, 1);
SELECT pass('a check of a foreign key is not its concern');
SELECT tenancy.assume_organization(test.acme(), 'job') \g /dev/null
SELECT lives_ok('SELECT * FROM app.finding', 'with an assumed organization it may');
ROLLBACK TO SAVEPOINT enforced;
RESET SESSION AUTHORIZATION;
SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('ada');
SELECT results_eq('SELECT id FROM app.finding ORDER BY 1', '{1,2,3}'::integer[], 'a tenant is bound by the policies, and not by the guardrail');
ROLLBACK TO SAVEPOINT enforced;
SET LOCAL SESSION AUTHORIZATION test_application;
SELECT test.refused('SELECT * FROM app.everything', '42501', '%every organization''s rows of app.finding', '%', 'a view of a superuser opens nothing to an application');
SELECT test.refused('SELECT app.total()', '42501', '%every organization''s rows of app.finding', '%', 'nor does a function of one');
RESET SESSION AUTHORIZATION;

SET LOCAL tenancy.override_reason = 'dump of the night';
SELECT is((SELECT count(*) FROM app.finding), 5::bigint, 'for a reason it may');
SELECT is((SELECT count(*) FROM app.finding), 5::bigint, 'again');
SELECT test.same('SELECT * FROM pg_temp.bypasses()', $$ VALUES ('override', 'dump of the night', 'app.finding') $$, 'which is recorded once, with the reason');
ROLLBACK TO SAVEPOINT enforced;
SET LOCAL tenancy.override_reason = 'dump of the night';
SET LOCAL transaction_read_only = on;
SELECT is((SELECT count(*) FROM app.finding), 5::bigint, 'where nothing can be written the log has it');
ROLLBACK TO SAVEPOINT enforced;
SELECT is_empty('SELECT * FROM pg_temp.bypasses()', 'and no event');

SELECT * FROM finish();
ROLLBACK;
