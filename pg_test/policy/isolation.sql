-- Isolation: a tenant sees and changes its own rows, in whatever words it asks.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(87);
SET LOCAL SESSION AUTHORIZATION test_application;

-- No context ----------------------------------------------------------------------------------------------------------

SELECT test.refused(statement, '28000', 'no organization is authenticated%', 'Call tenancy.authenticate(token) first%', 'without a context refused: ' || statement)
  FROM unnest(ARRAY[
    'SELECT * FROM app.finding', 'SELECT count(*) FROM app.finding', 'SELECT FROM app.finding WHERE id = 4',
    $$INSERT INTO app.finding VALUES (9, test.acme(), 'x')$$, $$INSERT INTO app.finding (id, title) VALUES (9, 'x')$$,
    $$UPDATE app.finding SET title = 'x'$$, 'DELETE FROM app.finding']) statement;
RESET SESSION AUTHORIZATION;
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT test.refused('SELECT * FROM app.finding', '28000', 'no organization is authenticated%', '%', 'without a context the owner of the table is refused too');
SELECT test.refused('DELETE FROM app.finding', '28000', 'no organization is authenticated%', '%', 'the owner cannot delete either');
RESET SESSION AUTHORIZATION;
SET LOCAL SESSION AUTHORIZATION test_stranger;
SELECT test.refused('SELECT * FROM app.finding', '42501', '%', '%', 'a database role without tenancy_application is refused, table privileges or not');
RESET SESSION AUTHORIZATION;
SET LOCAL SESSION AUTHORIZATION test_owner;
SAVEPOINT as_bob;
CALL test.sign_in('bob');
SELECT results_eq('SELECT id FROM app.finding ORDER BY 1', '{4,5}'::integer[], 'with a context the owner sees that organization''s rows and no other''s');
ROLLBACK TO SAVEPOINT as_bob;
RESET SESSION AUTHORIZATION;
SET LOCAL SESSION AUTHORIZATION test_application;

-- Reading -------------------------------------------------------------------------------------------------------------

CALL test.sign_in('ada');
SELECT results_eq('SELECT id FROM app.finding ORDER BY 1', '{1,2,3}'::integer[], 'a tenant sees its own rows');
SELECT is_empty('SELECT FROM app.finding WHERE id = 4', 'a row of another tenant is not found by its key');
SELECT is_empty('SELECT FROM app.finding WHERE organization_id = test.bolt()', 'nor by its organization');
SELECT is_empty('SELECT FROM app.finding WHERE organization_id <> test.acme() OR true AND id > 3', 'nor by any condition');
SELECT is((SELECT count(*) FROM app.finding), 3::bigint, 'an aggregate counts its own rows');
SELECT is((SELECT max(severity) FROM app.finding), 5, 'an aggregate knows no value of another tenant');
SELECT results_eq('SELECT organization_id, sum(severity) FROM app.finding GROUP BY ROLLUP (1) ORDER BY 1', $$ VALUES (test.acme(), 9::bigint), (NULL, 9) $$,
                  'grouping sets count its own rows');
SELECT is((SELECT string_agg(title, ',' ORDER BY id) FROM (SELECT * FROM app.finding OFFSET 0) f), 'open bucket,old key,idle disk', 'a sub-query reads its own rows');
SELECT is((SELECT count(*) FROM app.finding a CROSS JOIN app.finding b), 9::bigint, 'a join meets its own rows');
SELECT is((SELECT count(*) FROM app.finding a FULL JOIN generate_series(1, 5) n ON n = a.id), 5::bigint, 'an outer join fills in nothing of another tenant');
SELECT is((SELECT count(title) FROM generate_series(1, 5) n LEFT JOIN app.finding a ON n = a.id), 3::bigint, 'nor does a left join');
SELECT is((SELECT count(*) FROM generate_series(1, 5) n WHERE EXISTS (SELECT FROM app.finding WHERE id = n)), 3::bigint, 'EXISTS betrays no row');
SELECT is((SELECT count(*) FROM generate_series(1, 5) n WHERE n NOT IN (SELECT id FROM app.finding)), 2::bigint, 'NOT IN betrays no row');
SELECT is((SELECT array_agg(t.title) FROM generate_series(1, 5) n, LATERAL (SELECT title FROM app.finding WHERE id = n) t), ARRAY['open bucket', 'old key', 'idle disk'], 'LATERAL reads its own rows');
SELECT is((WITH all_rows AS MATERIALIZED (SELECT * FROM app.finding) SELECT count(*) FROM all_rows), 3::bigint, 'a materialized CTE holds its own rows');
SELECT is((WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT count(*) FROM r JOIN app.finding f ON f.id = n), 3::bigint, 'a recursive CTE reads its own rows');
SELECT is((SELECT count(*) FROM (SELECT id FROM app.finding UNION ALL SELECT id FROM app.finding) u), 6::bigint, 'UNION reads its own rows');
SELECT is((SELECT count(*) FROM (SELECT rank() OVER (ORDER BY severity DESC) AS place, id FROM app.finding) w WHERE place = 1 AND id = 2), 1::bigint, 'a window ranks its own rows');
SELECT is((SELECT count(*) FROM app.finding TABLESAMPLE SYSTEM (100)), 3::bigint, 'a sample is of its own rows');
SELECT is((SELECT count(*) FROM app.finding WHERE ctid IN (SELECT format('(0,%s)', n)::tid FROM generate_series(1, 100) n)), 3::bigint, 'a row''s place gives no way around');
SELECT results_eq('SELECT id FROM app.finding ORDER BY 1 FOR UPDATE', '{1,2,3}'::integer[], 'locking rows locks its own');
SELECT is(ts_stat::text LIKE '%bolt%', false, 'nor do functions that run queries show others') FROM (SELECT string_agg(word, ' ') AS ts_stat FROM ts_stat('SELECT to_tsvector(title) FROM app.finding')) w;

-- Functions of the caller must not see rows before the policy has.
CREATE TEMP TABLE seen (title text);
CREATE FUNCTION pg_temp.cheap_spy(title text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
    INSERT INTO seen VALUES (title);
    RETURN true;
END
$$;
SELECT is((SELECT count(*) FROM app.finding WHERE pg_temp.cheap_spy(title)), 3::bigint, 'a cheap function in the WHERE clause');
SELECT is((SELECT count(*) FROM seen WHERE title LIKE 'bolt%'), 0::bigint, 'is not shown the rows of others');
SELECT lives_ok('SELECT 1 / (severity - 7) FROM app.finding WHERE 1 / (severity - 7) <> 99', 'an error cannot be provoked by another tenant''s value');
SET LOCAL row_security = off;
SELECT test.refused('SELECT * FROM app.finding', '42501', '%would be affected by row-level security%', '%', 'row_security = off shows nothing, it refuses');
SET LOCAL row_security = on;

-- Plans of every kind.
SELECT is((SELECT count(*) FROM app.finding WHERE id > 0), 3::bigint, format('the rows are the same with %s', setting))
  FROM unnest('{enable_seqscan,enable_indexscan,enable_bitmapscan}'::text[]) setting, set_config(setting, 'off', true);
SELECT set_config(setting, 'on', true) FROM unnest('{enable_seqscan,enable_indexscan,enable_bitmapscan}'::text[]) setting \g /dev/null

-- Writing -------------------------------------------------------------------------------------------------------------

SELECT results_eq($$ INSERT INTO app.finding (id, title) VALUES (10, 'new') RETURNING organization_id $$, ARRAY[test.acme()], 'the organization of a new row is that of the transaction');
SELECT lives_ok($$ INSERT INTO app.finding VALUES (11, test.acme(), 'named') $$, 'it may be named');
SELECT throws_ok($$ INSERT INTO app.finding VALUES (12, test.bolt(), 'x') $$, '42501', NULL, 'a row for another organization is refused');
SELECT throws_ok($$ INSERT INTO app.finding SELECT 12, test.bolt(), 'x' $$, '42501', NULL, 'so is one from a query');
SELECT results_eq($$ WITH w AS (INSERT INTO app.finding VALUES (12, NULL, 'x') RETURNING organization_id), gone AS (SELECT * FROM w) SELECT * FROM gone $$, ARRAY[test.acme()], 'a row for no organization is the transaction''s too');
DELETE FROM app.finding WHERE id = 12;
SELECT throws_ok($$ WITH moved AS (INSERT INTO app.finding VALUES (12, test.bolt(), 'x') RETURNING *) SELECT * FROM moved $$, '42501', NULL, 'so is one in a CTE');
SELECT throws_ok($$ UPDATE app.finding SET organization_id = test.bolt() WHERE id = 1 $$, '42501', NULL, 'a row cannot be moved to another organization');
SELECT throws_ok($$ INSERT INTO app.finding VALUES (1, test.acme(), 'x') ON CONFLICT (id) DO UPDATE SET organization_id = test.bolt() $$, '42501', NULL, 'nor by ON CONFLICT');
SELECT throws_ok($$ INSERT INTO app.finding (id, title) VALUES (4, 'mine now') ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title $$, '42501', NULL,
                 'ON CONFLICT cannot change another tenant''s row');
SELECT throws_ok($$ INSERT INTO app.finding (id, title) VALUES (4, 'x') ON CONFLICT (id) DO UPDATE SET title = app.finding.title RETURNING title $$, '42501', NULL,
                 'ON CONFLICT cannot return another tenant''s row');
SELECT results_eq($$ INSERT INTO app.finding (id, title) VALUES (1, 'again') ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title RETURNING title $$, ARRAY['again'], 'ON CONFLICT changes its own row');
SELECT is_empty($$ INSERT INTO app.finding (id, title) VALUES (4, 'x') ON CONFLICT DO NOTHING RETURNING * $$, 'ON CONFLICT DO NOTHING returns nothing of another tenant');
SELECT is_empty($$ UPDATE app.finding SET title = 'x' WHERE id = 4 RETURNING * $$, 'an update finds no row of another tenant');
SELECT results_eq($$ UPDATE app.finding SET severity = 0 RETURNING id $$, '{2,3,10,11,1}'::integer[], 'an update of all rows changes its own');
SELECT is_empty($$ UPDATE app.finding f SET title = g.title FROM app.finding g WHERE g.id = 4 RETURNING * $$, 'an update cannot read another tenant''s row');
SELECT is_empty($$ DELETE FROM app.finding WHERE id = 4 RETURNING * $$, 'a delete finds no row of another tenant');
SELECT is_empty($$ DELETE FROM app.finding USING app.finding g WHERE g.id = 5 RETURNING * $$, 'nor does it read one');
SELECT throws_ok($$ MERGE INTO app.finding f USING (VALUES (4)) v (id) ON f.id = v.id WHEN MATCHED THEN UPDATE SET title = 'x' WHEN NOT MATCHED THEN INSERT (id, title) VALUES (4, 'x') $$,
                 '23505', NULL, 'MERGE does not match another tenant''s row');
SELECT throws_ok($$ MERGE INTO app.finding f USING (VALUES (1)) v (id) ON f.id = v.id WHEN MATCHED THEN UPDATE SET organization_id = test.bolt() $$, '42501', NULL, 'MERGE moves no row');
SELECT throws_ok($$ MERGE INTO app.finding f USING (VALUES (12)) v (id) ON f.id = v.id WHEN NOT MATCHED THEN INSERT VALUES (12, test.bolt(), 'x') $$, '42501', NULL, 'MERGE inserts for no other');
SELECT lives_ok($$ MERGE INTO app.finding f USING (VALUES (10), (20)) v (id) ON f.id = v.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, title) VALUES (v.id, 'merged') $$, 'MERGE works on its own rows');
SELECT results_eq('SELECT id FROM app.finding ORDER BY 1', '{1,2,3,11,20}'::integer[], 'and on no others');
SELECT throws_ok('TRUNCATE app.finding', '42501', NULL, 'an application cannot truncate');
SELECT results_eq('DELETE FROM app.finding RETURNING id', '{2,3,11,1,20}'::integer[], 'a delete of all rows deletes its own');
RESET SESSION AUTHORIZATION;
SELECT results_eq('SELECT id, title, severity FROM app.finding WHERE organization_id = test.bolt() ORDER BY 1', $$ VALUES (4, 'bolt''s secret', 7), (5, 'bolt''s other secret', 9) $$,
                  'after all this the other tenant''s rows are as they were');

-- Whatever else somebody makes ----------------------------------------------------------------------------------------

SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE POLICY careless ON app.finding USING (true) WITH CHECK (true);
CREATE VIEW app.finding_view AS SELECT * FROM app.finding;
CREATE FUNCTION app.all_findings() RETURNS SETOF app.finding LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'SELECT * FROM app.finding';
GRANT SELECT ON app.finding_view TO test_application;
CALL test.sign_out();
RESET SESSION AUTHORIZATION;
INSERT INTO app.finding VALUES (1, test.acme(), 'acme''s', 1);
SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('ada');
SELECT results_eq('SELECT id FROM app.finding', '{1}'::integer[], 'a permissive policy USING (true) opens nothing');
SELECT throws_ok($$ INSERT INTO app.finding VALUES (12, test.bolt(), 'x') $$, '42501', NULL, 'nor does it let rows be written for others');
SELECT results_eq('SELECT id FROM app.finding_view', '{1}'::integer[], 'a view of the table''s owner shows the tenant''s rows');
SELECT results_eq('SELECT id FROM app.all_findings()', '{1}'::integer[], 'so does a SECURITY DEFINER function of the table''s owner');
CALL test.sign_out();
SELECT throws_ok('SELECT * FROM app.finding_view', '28000', NULL, 'without a context the view is refused');
SELECT throws_ok('SELECT * FROM app.all_findings()', '28000', NULL, 'without a context the function is refused');

-- Every type of column ------------------------------------------------------------------------------------------------

RESET SESSION AUTHORIZATION;
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.by_text (id integer, organization_id text NOT NULL);
CREATE TABLE app.by_varchar (id integer, org_id varchar(40) NOT NULL);
CREATE TABLE app.by_integer (id integer, tenant_id integer NOT NULL);
CREATE TABLE app.by_bigint (id integer, "organizationId" bigint NOT NULL);
INSERT INTO app.by_text VALUES (1, 'acme'), (2, 'bolt'), (3, 'nobody');
INSERT INTO app.by_varchar VALUES (1, 'acme'), (2, 'bolt'), (3, 'nobody');
INSERT INTO app.by_integer VALUES (1, 1), (2, 2), (3, 3);
INSERT INTO app.by_bigint VALUES (1, 1), (2, 2), (3, 4294967297);
SELECT tenancy.protect(t) FROM unnest('{app.by_text,app.by_varchar,app.by_integer,app.by_bigint}'::regclass[]) t \g /dev/null
GRANT ALL ON ALL TABLES IN SCHEMA app TO test_application;
RESET SESSION AUTHORIZATION;
SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('ada');
SELECT results_eq(format('SELECT id FROM app.%I', t), '{1}'::integer[], format('%s shows the tenant''s rows', t)) FROM unnest('{by_text,by_varchar,by_integer,by_bigint}'::text[]) t;
SELECT results_eq(format('INSERT INTO app.%I (id) VALUES (5) RETURNING id', t), '{5}'::integer[], format('%s fills the organization in', t)) FROM unnest('{by_text,by_varchar,by_integer,by_bigint}'::text[]) t;
SELECT throws_ok(format('INSERT INTO app.%I VALUES (6, %L)', t, other), '42501', NULL, format('%s refuses another tenant''s row', t))
  FROM (VALUES ('by_text', 'bolt'), ('by_varchar', 'bolt'), ('by_integer', '2'), ('by_bigint', '2')) v (t, other);
SELECT results_eq(format('SELECT count(*) FROM app.%I', t), '{2}'::bigint[], format('%s has kept them apart', t)) FROM unnest('{by_text,by_varchar,by_integer,by_bigint}'::text[]) t;
RESET SESSION AUTHORIZATION;

SELECT * FROM finish();
ROLLBACK;
