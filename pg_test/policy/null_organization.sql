-- NULL in the organization column: what an object-relational mapper sends for a column that it was not given.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(29);
SET LOCAL client_min_messages = error;
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.as_text (id integer PRIMARY KEY, organization_id text NOT NULL);
CREATE TABLE app.as_varchar (id integer PRIMARY KEY, organization_id varchar(36) NOT NULL);
CREATE TABLE app.as_integer (id integer PRIMARY KEY, organization_id integer NOT NULL);
CREATE TABLE app.as_bigint (id integer PRIMARY KEY, organization_id bigint NOT NULL);
CREATE TABLE app.shared (id integer PRIMARY KEY, organization_id uuid);
CREATE TABLE app.part (id integer, organization_id uuid NOT NULL) PARTITION BY RANGE (id);
CREATE TABLE app.part_1 PARTITION OF app.part FOR VALUES FROM (0) TO (100);
CREATE VIEW app.seen WITH (security_invoker = true) AS SELECT * FROM app.finding;
DO $$
BEGIN
    PERFORM tenancy.protect(name) FROM unnest('{app.as_text,app.as_varchar,app.as_integer,app.as_bigint,app.part}'::regclass[]) name;
    PERFORM tenancy.protect('app.shared', null_rows => 'shared');
END
$$;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA app TO test_application;
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
SELECT test.refused($$ INSERT INTO app.finding VALUES (10, NULL, 'x') $$, '28000', '%', '%', 'nobody''s NULL is refused as ever');
PREPARE write (integer, uuid) AS INSERT INTO app.finding VALUES ($1, $2, 'x') RETURNING organization_id;
PREPARE save (uuid) AS UPDATE app.finding SET organization_id = $1, severity = 1 WHERE id = 1 RETURNING organization_id;
CALL test.sign_in('ada');

CREATE FUNCTION pg_temp.written(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE 'WITH w AS (' || statement || ' RETURNING organization_id) SELECT string_agg(DISTINCT organization_id::text, '','') FROM w' INTO found;
    RETURN found;
END
$$;
SELECT is(pg_temp.written(statement), test.acme()::text, 'filled in: ' || statement) FROM unnest(ARRAY[
    $$INSERT INTO app.finding VALUES (10, NULL, 'x')$$,
    $$INSERT INTO app.finding (organization_id, id, title) VALUES (NULL, 11, 'x'), (DEFAULT, 12, 'x'), ('aaaaaaaa-0000-4000-8000-000000000001', 13, 'x')$$,
    $$INSERT INTO app.finding SELECT g, NULL, 'x' FROM generate_series(14, 16) g$$,
    $$INSERT INTO app.finding SELECT g, nullif(test.acme(), test.acme()), 'x' FROM generate_series(17, 18) g$$,
    $$INSERT INTO app.seen VALUES (19, NULL, 'x')$$,
    $$UPDATE app.finding SET organization_id = NULL WHERE id = 1$$,
    $$UPDATE app.finding SET (organization_id, severity) = (NULL, 2) WHERE id = 1$$,
    $$INSERT INTO app.finding VALUES (1, NULL, 'x') ON CONFLICT (id) DO UPDATE SET organization_id = EXCLUDED.organization_id$$,
    $$INSERT INTO app.finding VALUES (1, NULL, 'x') ON CONFLICT (id) DO UPDATE SET organization_id = NULL$$,
    $$INSERT INTO app.part VALUES (1, NULL)$$, $$INSERT INTO app.part_1 VALUES (2, NULL)$$]) statement;
SELECT is(pg_temp.written(statement), 'acme', 'filled in: ' || statement) FROM unnest(ARRAY[$$INSERT INTO app.as_text VALUES (1, NULL)$$, $$INSERT INTO app.as_varchar VALUES (1, NULL)$$]) statement;
SELECT is(pg_temp.written(statement), '1', 'filled in: ' || statement) FROM unnest(ARRAY[$$INSERT INTO app.as_integer VALUES (1, NULL)$$, $$INSERT INTO app.as_bigint VALUES (1, NULL), (2, 1)$$]) statement;
MERGE INTO app.finding f USING (VALUES (1, NULL::uuid), (20, NULL)) v (id, o) ON f.id = v.id WHEN MATCHED THEN UPDATE SET organization_id = v.o WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.o, 'merged');
SELECT results_eq('SELECT id, organization_id FROM app.finding WHERE id IN (1, 20) ORDER BY id', $$ VALUES (1, test.acme()), (20, test.acme()) $$, 'by MERGE');
WITH w AS (INSERT INTO app.finding VALUES (21, NULL, 'x') RETURNING organization_id) SELECT is(organization_id, test.acme(), 'in a common table expression') FROM w;
SET LOCAL plan_cache_mode = force_generic_plan;
EXECUTE write(22, NULL) \gset prepared_
SELECT is(:'prepared_organization_id', test.acme()::text, 'a parameter of a generic plan');
EXECUTE save(NULL) \gset saved_
SELECT is(:'saved_organization_id', test.acme()::text, 'of an UPDATE that writes every column');
SET LOCAL plan_cache_mode = force_custom_plan;
EXECUTE write(23, NULL) \gset custom_
SELECT is(:'custom_organization_id', test.acme()::text, 'and of a plan made for it');

SELECT test.refused('INSERT INTO app.shared VALUES (1, NULL)', '42501', '%row-level security%', '%', 'where NULL has a meaning no tenant writes it');
SELECT test.refused(statement, '42501', '%row-level security%', '%', 'somebody else''s is refused as ever: ' || statement) FROM unnest(ARRAY['EXECUTE write(24, ''bbbbbbbb-0000-4000-8000-000000000002'')',
    'EXECUTE save(''bbbbbbbb-0000-4000-8000-000000000002'')', $$INSERT INTO app.finding VALUES (24, NULL, 'x'), (25, test.bolt(), 'x')$$, $$INSERT INTO app.as_integer VALUES (24, 2)$$]) statement;
CREATE TEMP TABLE unprotected (id integer, organization_id uuid);
INSERT INTO unprotected VALUES (1, NULL);
SELECT is((SELECT organization_id FROM unprotected), NULL, 'other tables are none of it');
ROLLBACK TO SAVEPOINT nobody;
SAVEPOINT reader;
CALL test.sign_in('vic');
SELECT test.refused($$ INSERT INTO app.finding VALUES (10, NULL, 'x') $$, '42501', 'role "reader" may not create%', '%', 'a role that may not is told so');
ROLLBACK TO SAVEPOINT reader;
RESET SESSION AUTHORIZATION;
SELECT test.refused($$ INSERT INTO app.finding VALUES (10, NULL, 'x') $$, '23502', 'a superuser''s NULL is Postgres'' own matter');

SELECT * FROM finish();
ROLLBACK;
