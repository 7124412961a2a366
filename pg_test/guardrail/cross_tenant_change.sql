-- Rows of other organizations that are reached past row-level security: by referential actions, functions and rules.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(44);
GRANT CREATE ON DATABASE :"DBNAME" TO test_owner;
GRANT CREATE ON SCHEMA app TO test_owner;
SELECT tenancy.create_organization('team_a', 'aaaaaaaa-0000-4000-8000-00000000000a', 'team_a', 71), tenancy.create_organization('team_b', 'bbbbbbbb-0000-4000-8000-00000000000b', 'team_b', 72) \g /dev/null
SELECT tenancy.set_membership('aaaaaaaa-0000-4000-8000-00000000000a', 'ann', 'admin'), tenancy.set_membership('bbbbbbbb-0000-4000-8000-00000000000b', 'ben', 'admin') \g /dev/null
CREATE PROCEDURE pg_temp.as_ann() LANGUAGE plpgsql AS $$ BEGIN PERFORM tenancy.authenticate(test.token('ann'), 'aaaaaaaa-0000-4000-8000-00000000000a'); END $$;
SET LOCAL SESSION AUTHORIZATION test_owner;

-- As Prisma writes it: the table of tenants is not protected, and what points at it cascades.
CREATE TABLE app.team (id text PRIMARY KEY);
CREATE TABLE app.person (id text PRIMARY KEY);
CREATE TABLE app.doc (id integer PRIMARY KEY, tenant_id text NOT NULL REFERENCES app.team ON UPDATE CASCADE ON DELETE CASCADE, title text,
                      owner text REFERENCES app.person ON UPDATE CASCADE ON DELETE SET NULL, reader text DEFAULT 'nobody' REFERENCES app.person ON DELETE SET DEFAULT);
CREATE TABLE app.task (id integer PRIMARY KEY, tenant_id text NOT NULL, owner text REFERENCES app.person ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE app.page (id integer PRIMARY KEY, doc_id integer NOT NULL REFERENCES app.doc ON DELETE CASCADE);
INSERT INTO app.team VALUES ('team_a'), ('team_b');
INSERT INTO app.person VALUES ('pat'), ('quin'), ('nobody');
INSERT INTO app.doc VALUES (1, 'team_a', 'a''s', NULL, 'nobody'), (2, 'team_b', 'b''s secret', 'pat', 'quin');
INSERT INTO app.task VALUES (1, 'team_a', NULL), (2, 'team_b', 'pat');
INSERT INTO app.page VALUES (1, 1), (2, 2);
SELECT tenancy.exclude('app.team', 'for the control') \g /dev/null
SELECT tenancy.protect('app.doc', 'tenant_id'), tenancy.protect('app.task', 'tenant_id'), tenancy.protect('app.page', through => 'doc_id') \g /dev/null
SELECT tenancy.include('app.team') \g /dev/null
GRANT SELECT, INSERT, UPDATE, DELETE ON app.team, app.person, app.doc, app.task, app.page TO test_application;
CREATE FUNCTION pg_temp.everything() RETURNS text LANGUAGE sql AS $$
    SELECT (SELECT string_agg(d::text, ' ' ORDER BY d) FROM app.doc d) || (SELECT string_agg(t::text, ' ' ORDER BY t) FROM app.task t) || (SELECT string_agg(p::text, ' ' ORDER BY p) FROM app.page p)
$$;
RESET SESSION AUTHORIZATION;
CREATE TEMP TABLE before AS SELECT pg_temp.everything() AS everything;
CREATE TEMP TABLE attack (n integer, statement text);
INSERT INTO attack VALUES
    (1, 'UPDATE app.team SET id = ''old'' WHERE id = ''team_a''; UPDATE app.team SET id = ''team_a'' WHERE id = ''team_b'''),
    (2, 'UPDATE app.team SET id = ''team_c'' WHERE id = ''team_b'''),
    (3, 'DELETE FROM app.team WHERE id = ''team_b'''),
    (4, 'DELETE FROM app.person WHERE id = ''pat'''),
    (5, 'DELETE FROM app.person WHERE id = ''quin'''),
    (6, 'UPDATE app.person SET id = ''other'' WHERE id = ''pat'''),
    (7, 'WITH gone AS (DELETE FROM app.team WHERE id = ''team_b'' RETURNING id) SELECT count(*) FROM gone'),
    (8, 'MERGE INTO app.team t USING (VALUES (''team_b'')) v (id) ON t.id = v.id WHEN MATCHED THEN DELETE'),
    (9, 'DO $d$ BEGIN DELETE FROM app.team WHERE id = ''team_b''; END $d$');
GRANT SELECT ON attack TO PUBLIC;

-- The control ---------------------------------------------------------------------------------------------------------------

SAVEPOINT controlled;
SELECT tenancy.set_guardrail('cross_tenant_change', 'off', 'to see the attack work') \g /dev/null
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT attacked;
CALL pg_temp.as_ann();
UPDATE app.team SET id = 'old' WHERE id = 'team_a';
UPDATE app.team SET id = 'team_a' WHERE id = 'team_b';
SELECT results_eq('SELECT id FROM app.doc ORDER BY 1', '{2}'::integer[], 'without the wall A takes B''s documents for its own');
ROLLBACK TO SAVEPOINT attacked;
CALL pg_temp.as_ann();
DELETE FROM app.team WHERE id = 'team_b';
RESET SESSION AUTHORIZATION;
SELECT is((SELECT string_agg(id::text, ',') FROM app.doc), '1', 'and empties B''s');
SELECT is((SELECT string_agg(id::text, ',') FROM app.page), '1', 'with what hangs on them');
ROLLBACK TO SAVEPOINT controlled;

-- The wall ------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION pg_temp.refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    kind text := 'not refused';
BEGIN
    BEGIN
        EXECUTE statement;
    EXCEPTION WHEN insufficient_privilege THEN
        kind := SQLERRM;
    END;
    RETURN kind;
END
$$;
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
SELECT is(pg_temp.refused(statement) LIKE 'a row of % would be changed without an organization', true, 'without a context refused: ' || statement) FROM attack ORDER BY n;
CALL pg_temp.as_ann();
SELECT is(pg_temp.refused(statement) LIKE 'a row of another organization would be changed in %', true, 'refused: ' || statement) FROM attack ORDER BY n;
SET LOCAL tenancy.override_reason = 'an application may say what it likes';
SELECT is(pg_temp.refused(statement) LIKE 'a row of another organization would be changed in %', true, 'a reason of the application counts for nothing: ' || statement) FROM attack WHERE n = 3;
RESET tenancy.override_reason;
CALL test.sign_out();
SELECT is(pg_temp.refused(statement) LIKE 'a row of % would be changed without an organization', true, 'signing out opens nothing: ' || statement) FROM attack WHERE n = 3;
ROLLBACK TO SAVEPOINT nobody;
RESET SESSION AUTHORIZATION;
SELECT is(pg_temp.everything(), everything, 'after all this every row is as it was') FROM before;

-- What is one's own goes on.
SET LOCAL SESSION AUTHORIZATION test_application;
CALL pg_temp.as_ann();
INSERT INTO app.person VALUES ('mine');
UPDATE app.doc SET owner = 'mine' WHERE id = 1;
SELECT lives_ok('DELETE FROM app.person WHERE id = ''mine''', 'a referential action on one''s own rows');
SELECT results_eq('SELECT owner IS NULL FROM app.doc', '{true}'::boolean[], 'is done');
SELECT lives_ok('DELETE FROM app.doc WHERE id = 1', 'a cascade to children of one''s own row');
SELECT is((SELECT count(*) FROM app.page), 0::bigint, 'is done');
ROLLBACK TO SAVEPOINT nobody;

-- A row that all share is nobody's to change.
RESET SESSION AUTHORIZATION;
CREATE TABLE app.price (id integer PRIMARY KEY, tenant_id text, owner text REFERENCES app.person ON UPDATE CASCADE ON DELETE SET NULL);
INSERT INTO app.person VALUES ('shared');
INSERT INTO app.price VALUES (1, NULL, 'shared');
DO $$ BEGIN PERFORM tenancy.protect('app.price', null_rows => 'shared'); END $$;
GRANT SELECT ON app.price TO test_application;
SET LOCAL SESSION AUTHORIZATION test_application;
CALL pg_temp.as_ann();
SELECT is((SELECT count(*) FROM app.price), 1::bigint, 'a shared row is read');
SELECT is(pg_temp.refused(statement) LIKE 'a row of another organization would be changed in "app"."price"', true, 'refused: ' || statement)
  FROM unnest(ARRAY['DELETE FROM app.person WHERE id = ''shared''', 'UPDATE app.person SET id = ''new'' WHERE id = ''shared''']) statement;
ROLLBACK TO SAVEPOINT nobody;

-- Owners' functions and rules.
RESET SESSION AUTHORIZATION;
CREATE FUNCTION app.rename(wanted integer, name text) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'UPDATE app.doc SET title = name WHERE id = wanted';
CREATE FUNCTION app.give(wanted integer, team text) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'UPDATE app.doc SET tenant_id = team WHERE id = wanted';
CREATE FUNCTION app.add(wanted integer, team text) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'INSERT INTO app.doc VALUES (wanted, team, ''x'')';
CREATE FUNCTION app.add_page(wanted integer) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'INSERT INTO app.page VALUES (9, wanted)';
CREATE FUNCTION app.orphans() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'DELETE FROM app.page WHERE doc_id = 2; DELETE FROM app.doc WHERE id = 2';
CREATE TABLE app.inbox (doc integer);
CREATE RULE drop_doc AS ON INSERT TO app.inbox DO INSTEAD DELETE FROM app.doc WHERE id = NEW.doc;
GRANT INSERT ON app.inbox TO test_application;
SET LOCAL SESSION AUTHORIZATION test_application;
CALL pg_temp.as_ann();
SELECT lives_ok('SELECT app.rename(1, ''b'')', 'a function of a superuser changes one''s own row');
SELECT is(pg_temp.refused(statement) LIKE 'a row of another organization would be changed in %', true, 'refused: ' || statement)
  FROM unnest(ARRAY['SELECT app.rename(2, ''a'')', 'SELECT app.give(1, ''team_b'')', 'SELECT app.give(2, ''team_a'')', 'SELECT app.add(3, ''team_b'')', 'SELECT app.add_page(2)', 'SELECT app.orphans()', 'INSERT INTO app.inbox VALUES (2)']) statement;
SELECT lives_ok('INSERT INTO app.inbox VALUES (1)', 'a rule on one''s own row');
ROLLBACK TO SAVEPOINT nobody;
RESET SESSION AUTHORIZATION;
-- Replication switched off what it can.
SET LOCAL session_replication_role = replica;
CALL pg_temp.as_ann();
SELECT is(pg_temp.refused('UPDATE app.doc SET title = ''x'' WHERE id = 2') LIKE 'a row of another organization %', true, 'a superuser under a context is refused too, under session_replication_role = replica');
SET LOCAL tenancy.override_reason = 'moved to another team';
SELECT is(pg_temp.refused('UPDATE app.doc SET title = ''x'' WHERE id = 2'), 'not refused', 'and passes for a reason');
RESET tenancy.override_reason;
RESET session_replication_role;
CALL test.sign_out();
ROLLBACK TO SAVEPOINT controlled;

-- Without a context as ever.
SELECT lives_ok('DELETE FROM app.team WHERE id = ''team_b''', 'a superuser without a context is not held');
ROLLBACK TO SAVEPOINT controlled;
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT lives_ok('DELETE FROM app.team WHERE id = ''team_b''', 'nor is the owner of the tables');
RESET SESSION AUTHORIZATION;

SELECT * FROM finish();
ROLLBACK;
