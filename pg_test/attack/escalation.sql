-- Escalation: the owner of a table, an administrator of tenants but no superuser, gets nothing run as somebody else.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(3);

-- A superuser takes back the protection of a table whose owner has rewritten what was remembered.
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.trap (organization_id uuid NOT NULL);
SELECT tenancy.protect('app.trap') \g /dev/null
COMMENT ON POLICY tenancy_isolation ON app.trap IS 'Made by tenancy.protect; tenancy.unprotect takes it back. Before: {"column":"organization_id","domain":"trap","index":null,"previous_default":"gen_random_uuid(); ALTER ROLE test_owner SUPERUSER","row_security":false,"force_row_security":false}';
RESET SESSION AUTHORIZATION;
SAVEPOINT before;
DO $$ BEGIN PERFORM tenancy.unprotect('app.trap'); EXCEPTION WHEN OTHERS THEN NULL; END $$;
SELECT is((SELECT rolsuper FROM pg_roles WHERE rolname = 'test_owner'), false, 'what unprotect remembers runs no other statement');
ROLLBACK TO SAVEPOINT before;

-- TRUNCATE counts rows of every organization; a cast of the owner's must not run with more rights than the owner.
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TYPE app.kind AS ENUM ('a');
CREATE FUNCTION app.spy(app.kind) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'as %', current_user USING ERRCODE = 'P0042'; END $$;
CREATE CAST (app.kind AS text) WITH FUNCTION app.spy(app.kind);
CREATE TABLE app.trap2 (organization_id app.kind NOT NULL);
INSERT INTO app.trap2 VALUES ('a');
CREATE TRIGGER t BEFORE TRUNCATE ON app.trap2 EXECUTE FUNCTION tenancy.audit_truncate('organization_id', 'x');
CREATE FUNCTION pg_temp.words_of(statement text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE statement; RETURN 'no error'; EXCEPTION WHEN OTHERS THEN RETURN SQLERRM; END $$;
SELECT isnt(pg_temp.words_of('TRUNCATE app.trap2'), 'as ' || (SELECT rolname FROM pg_roles WHERE oid = 10), 'the owner''s own cast never runs as the superuser');

-- An event tells of a protected table, not of one that somebody made up.
CREATE TEMP TABLE finding (id integer PRIMARY KEY, organization_id uuid);
SELECT isnt(pg_temp.words_of($$ CREATE TRIGGER t AFTER INSERT ON pg_temp.finding FOR EACH ROW EXECUTE FUNCTION tenancy.audit_row('organization_id', 'finding');
    INSERT INTO pg_temp.finding VALUES (1, test.bolt()) $$), 'no error', 'a temporary table writes no event');
RESET SESSION AUTHORIZATION;

SELECT * FROM finish();
ROLLBACK;
