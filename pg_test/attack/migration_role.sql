-- A migration role as attacker: it owns the tables, is a member of tenancy_admin and no superuser. It gets at no row of
-- an organization but by tenancy.begin_maintenance, which is recorded, and takes nothing of the protection away.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(41);
SET LOCAL client_min_messages = error;

CREATE TABLE app.expected AS SELECT organization_id, count(*) FROM app.finding GROUP BY 1;
GRANT SELECT ON app.expected TO PUBLIC;
SET LOCAL SESSION AUTHORIZATION test_owner;

-- Rows of organizations, by what an owner can make -----------------------------------------------------------------------

CREATE TABLE app.loot (LIKE app.finding);
CREATE VIEW app.window_on AS SELECT * FROM app.finding;
CREATE FUNCTION app.look() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM app.finding';
CREATE POLICY open ON app.finding USING (true) WITH CHECK (true);
SELECT test.refused(statement, '28000', 'no row without a context: ' || statement) FROM unnest(ARRAY[
    'SELECT count(*) FROM app.finding', 'SELECT count(*) FROM app.window_on', 'SELECT app.look()',
    'TABLE app.finding', 'CREATE TABLE app.copy AS SELECT * FROM app.finding',
    'CREATE MATERIALIZED VIEW app.kept AS SELECT * FROM app.finding',
    'INSERT INTO app.loot SELECT * FROM app.finding', 'UPDATE app.finding SET title = title', 'DELETE FROM app.finding',
    'SELECT * FROM app.finding FOR UPDATE',
    'DO $x$ BEGIN PERFORM count(*) FROM app.finding; END $x$']) statement;
SELECT test.refused('SET LOCAL row_security = off; SELECT count(*) FROM app.finding', '42501', 'nor with row_security = off');

-- A parent without policies would show them.
CREATE TABLE app.parted (LIKE app.finding) PARTITION BY LIST (id);
CREATE TABLE app.protected_parent (LIKE app.finding);
SELECT tenancy.protect('app.protected_parent') \g /dev/null
SELECT test.refused(statement, '42501', '% would leave table app.finding less protected', 'tenancy.unprotect(table)%', 'refused: ' || statement) FROM unnest(ARRAY[
    'ALTER TABLE app.finding INHERIT app.loot',
    'ALTER TABLE app.finding INHERIT app.protected_parent, INHERIT app.loot',
    'ALTER TABLE app.parted ATTACH PARTITION app.finding DEFAULT']) statement;
SELECT test.refused('CREATE TABLE app.top (LIKE app.finding); ALTER TABLE app.protected_parent INHERIT app.top', '42501',
    '% would leave table app.protected_parent less protected', '%', 'whatever inherits what');
SELECT lives_ok('ALTER TABLE app.finding INHERIT app.protected_parent; ALTER TABLE app.finding NO INHERIT app.protected_parent',
    'a protected parent is none of it');

-- What protects them -----------------------------------------------------------------------------------------------------

SELECT test.refused(statement, '42501', 'refused: ' || statement) FROM unnest(ARRAY[
    'ALTER TABLE app.finding NO FORCE ROW LEVEL SECURITY', 'ALTER TABLE app.finding DISABLE ROW LEVEL SECURITY',
    'DROP POLICY tenancy_isolation ON app.finding', 'ALTER POLICY tenancy_isolation ON app.finding USING (true)',
    'ALTER TABLE app.finding DISABLE TRIGGER tenancy_audit', 'ALTER TABLE app.finding DROP COLUMN organization_id',
    'ALTER TABLE app.finding RENAME organization_id TO tenant', 'ALTER TABLE app.finding ALTER organization_id DROP NOT NULL',
    'ALTER EVENT TRIGGER tenancy_guard_ddl DISABLE', 'CREATE OR REPLACE FUNCTION tenancy.org_id() RETURNS uuid LANGUAGE sql AS ''SELECT NULL::uuid''',
    'ALTER FUNCTION tenancy.org_id() OWNER TO test_owner', 'CREATE FUNCTION tenancy.mine() RETURNS integer LANGUAGE sql AS ''SELECT 1''',
    'SET LOCAL session_replication_role = replica', 'DROP EXTENSION pg_tenancy CASCADE', 'ALTER EXTENSION pg_tenancy UPDATE',
    'SET LOCAL tenancy.context = ''{}''', 'SET LOCAL tenancy.several_identities = on',
    'INSERT INTO tenancy.membership (organization, issuer, subject, role) SELECT id, ''x'', ''mallory'', ''admin'' FROM tenancy.organization',
    'DELETE FROM tenancy.event_batch', 'TRUNCATE tenancy.event_batch', 'SELECT tenancy.drop_roles()']) statement;

-- What it may, and what is seen of it ------------------------------------------------------------------------------------

RESET SESSION AUTHORIZATION;
SELECT is((SELECT count(*) FROM tenancy.event WHERE operation = 'create_policy' AND payload::text LIKE '%open on app.finding%'), 1::bigint,
    'a policy of the owner''s own is an event');
GRANT SELECT ON app.window_on TO test_application;
GRANT EXECUTE ON FUNCTION app.look() TO test_application;
SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('ada');
SELECT is((SELECT count(*) FROM app.window_on), (SELECT count FROM app.expected WHERE organization_id = tenancy.org_id()), 'a view of the owner shows a member the own rows');
SELECT is(app.look(), (SELECT count FROM app.expected WHERE organization_id = tenancy.org_id()), 'so does a function, with a policy for everybody beside those of protect');

SELECT * FROM finish();
ROLLBACK;
