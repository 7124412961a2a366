-- The guardrails on DDL: tables that come, protection that goes.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(87);
SET LOCAL client_min_messages = error;

-- Guardrails and their states -------------------------------------------------------------------------------------------

SELECT test.same('SELECT name, state, default_state FROM tenancy.guardrails()',
    $$ VALUES ('cross_tenant_change', 'enforce', 'enforce'), ('dormant_member', 'off', 'off'), ('failed_rotation', 'enforce', 'enforce'), ('grant_under_elevation', 'enforce', 'enforce'), ('last_admin', 'enforce', 'enforce'), ('literal_secret', 'warn', 'warn'), ('new_tables', 'warn', 'warn'), ('operator_reveal', 'enforce', 'enforce'), ('overdue_review', 'warn', 'warn'), ('overdue_rotation', 'warn', 'warn'), ('protected_tables', 'enforce', 'enforce'), ('retire_in_use', 'enforce', 'enforce'), ('row_security_bypass', 'off', 'off'), ('self_approved_action', 'enforce', 'enforce'), ('self_approved_break_glass', 'enforce', 'enforce'), ('self_approved_exception', 'enforce', 'enforce'), ('statement_statistics', 'enforce', 'enforce'), ('unrecorded_break_glass', 'enforce', 'enforce'), ('unrecorded_reveal', 'enforce', 'enforce'), ('unreviewed_exception', 'warn', 'warn'), ('unsigned_break_glass', 'warn', 'warn'), ('unverified_secret', 'off', 'off') $$, 'the guardrails begin with their defaults');
SELECT test.refused(format('SELECT tenancy.set_guardrail(%L, %L, %L)', name, state, reason), code, '%', '%', format('refused: %s %s %s', name, state, reason)) FROM (VALUES
    ('nothing', 'off', 'x', '42704'), ('new_tables', 'on', 'x', '22023'), ('new_tables', 'off', ' ', '22023'), ('new_tables', 'off', NULL, '22004'), (NULL, 'off', 'x', '22004'), ('new_tables', NULL, 'x', '22004')) AS v (name, state, reason, code);
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT tenancy.set_guardrail('new_tables', 'enforce', 'all know of tenants') \g /dev/null
SELECT test.refused($$ DELETE FROM tenancy.guardrail $$, '42501', 'nobody writes the table itself');
RESET SESSION AUTHORIZATION;
SELECT results_eq($$ SELECT organization, operation, domain, table_name, payload -> 'new' ->> 'reason' FROM tenancy.event WHERE table_name = 'guardrail' $$,
    $$ VALUES ('00000000-0000-0000-0000-000000000000'::uuid, 'insert', 'guardrail', 'guardrail', 'all know of tenants') $$, 'a change of a guardrail is an event, with its reason');
SELECT results_eq($$ SELECT state, reason, changed_by FROM tenancy.guardrail $$, $$ VALUES ('enforce', 'all know of tenants', 'test_owner') $$, 'it is known who changed it');
SELECT test.refused($$ DELETE FROM tenancy.guardrail $$, '42501', 'the tables of approvals are written by their functions alone', '%', 'nor does a superuser');
SELECT tenancy.clear_guardrail('new_tables', NULL, 'test') \g /dev/null
SELECT results_eq($$ SELECT state, reason FROM tenancy.guardrail $$, $$ VALUES (NULL::text, 'test') $$, 'it is known why it was cleared');

-- Protection that goes --------------------------------------------------------------------------------------------------

CREATE TABLE app.bystander (id integer PRIMARY KEY, organization_id uuid NOT NULL);
CREATE POLICY own ON app.bystander USING (true);
CREATE POLICY own ON app.finding AS PERMISSIVE FOR SELECT USING (true);
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER own AFTER INSERT ON app.finding FOR EACH ROW EXECUTE FUNCTION app.touch();
CREATE TEMP TABLE damage AS SELECT * FROM unnest(ARRAY[
    'ALTER TABLE app.finding DISABLE ROW LEVEL SECURITY', 'ALTER TABLE app.finding NO FORCE ROW LEVEL SECURITY',
    'ALTER TABLE app.finding ADD COLUMN x integer, DISABLE ROW LEVEL SECURITY',
    'DROP POLICY tenancy_isolation ON app.finding', 'DROP POLICY tenancy_read ON app.finding', 'ALTER POLICY tenancy_isolation ON app.finding USING (true)',
    'ALTER POLICY tenancy_update ON app.finding TO test_owner', 'ALTER POLICY tenancy_isolation ON app.finding RENAME TO other', 'ALTER POLICY tenancy_delete ON app.finding RENAME TO other',
    'DROP TRIGGER tenancy_audit ON app.finding', 'DROP TRIGGER tenancy_audit_truncate ON app.finding', 'ALTER TRIGGER tenancy_audit ON app.finding RENAME TO other',
    'ALTER TABLE app.finding DISABLE TRIGGER tenancy_audit', 'ALTER TABLE app.finding DISABLE TRIGGER ALL', 'ALTER TABLE app.finding DISABLE TRIGGER USER',
    'ALTER TABLE app.finding ENABLE TRIGGER tenancy_audit', 'ALTER TABLE app.finding ENABLE TRIGGER ALL', 'ALTER TABLE app.finding ENABLE REPLICA TRIGGER tenancy_audit',
    'CREATE OR REPLACE TRIGGER tenancy_audit AFTER INSERT ON app.finding FOR EACH ROW EXECUTE FUNCTION app.touch()',
    'ALTER TABLE app.finding DROP COLUMN organization_id CASCADE', 'ALTER TABLE app.finding RENAME COLUMN organization_id TO tenant', 'ALTER TABLE app.finding ALTER COLUMN organization_id DROP NOT NULL',
    'DO $x$ BEGIN EXECUTE ''ALTER TABLE app.finding DISABLE ROW LEVEL SECURITY''; END $x$']) statement;
GRANT SELECT ON damage TO test_owner;
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT test.refused(statement, '42501', '% would leave table app.finding less protected', 'tenancy.unprotect(table)%', 'refused: ' || statement) FROM damage;
RESET SESSION AUTHORIZATION;
SELECT test.refused('ALTER TABLE app.finding DISABLE ROW LEVEL SECURITY', '42501', '%less protected', '%', 'refused to a superuser');
SET LOCAL session_replication_role = replica;
SELECT test.refused('ALTER TABLE app.finding DISABLE ROW LEVEL SECURITY', '42501', '%less protected', '%', 'and under session_replication_role = replica');
RESET session_replication_role;
SELECT is((SELECT count(*) FROM tenancy.plan('app.finding') WHERE state <> 'done'), 0::bigint, 'nothing of it has happened');

-- What is no damage.
SELECT lives_ok(statement, 'allowed: ' || statement) FROM unnest(ARRAY[
    'ALTER TABLE app.finding ADD COLUMN note text', 'ALTER TABLE app.finding DROP COLUMN note', 'CREATE POLICY more ON app.finding AS RESTRICTIVE USING (true)', 'ALTER POLICY more ON app.finding USING (false)',
    'DROP POLICY more ON app.finding', 'DROP POLICY own ON app.finding', 'ALTER TABLE app.finding DISABLE TRIGGER own', 'DROP TRIGGER own ON app.finding', 'ALTER TABLE app.finding ENABLE ROW LEVEL SECURITY',
    'ALTER TABLE app.finding ENABLE ALWAYS TRIGGER tenancy_audit', 'ALTER TABLE app.bystander DISABLE ROW LEVEL SECURITY', 'DROP POLICY own ON app.bystander', 'ALTER TABLE app.finding RENAME TO found', 'ALTER TABLE app.found RENAME TO finding']) statement;
SET LOCAL search_path = tenancy, app, test, public;
SET LOCAL quote_all_identifiers = on;
SELECT lives_ok('ALTER TABLE finding ADD CONSTRAINT positive CHECK (severity > 0); ALTER TABLE finding DROP CONSTRAINT positive', 'whatever the session''s settings, what is whole is whole');
SELECT is((SELECT count(*) FROM tenancy.plan('app.finding') WHERE state <> 'done'), 0::bigint, 'to the plan as well');
RESET quote_all_identifiers;
SET LOCAL search_path = test, public;
SAVEPOINT whole;
SELECT lives_ok('DROP TABLE app.finding', 'a table may be dropped with its protection');
ROLLBACK TO SAVEPOINT whole;
SELECT lives_ok($$ SELECT tenancy.unprotect('app.finding') $$, 'and unprotected');
ROLLBACK TO SAVEPOINT whole;
SELECT lives_ok('DROP EXTENSION pg_tenancy CASCADE', 'and the extension dropped with all of it');
ROLLBACK TO SAVEPOINT whole;

-- Warned of, off, and for a reason.
SELECT tenancy.set_guardrail('protected_tables', 'warn', 'test') \g /dev/null
SELECT lives_ok('ALTER TABLE app.finding DISABLE ROW LEVEL SECURITY', 'where it only warns it is done');
SELECT is(tenancy.protect('app.finding'), 1, 'and can be mended');
SELECT tenancy.set_guardrail('protected_tables', 'off', 'test') \g /dev/null
SELECT lives_ok('DROP POLICY tenancy_read ON app.finding', 'where it is off as well');
ROLLBACK TO SAVEPOINT whole;
SET LOCAL tenancy.override_reason = ' ';
SELECT test.refused('DROP POLICY tenancy_read ON app.finding', '42501', '%less protected', '%', 'a blank is no reason');
SET LOCAL tenancy.override_reason = 'TICKET-17';
SELECT lives_ok('DROP POLICY tenancy_read ON app.finding', 'for a reason it is done');
SELECT results_eq($$ SELECT organization, operation, reason, table_schema || '.' || table_name, payload -> 'new' ->> 'statement' FROM tenancy.event WHERE operation = 'override' $$,
    $$ VALUES ('00000000-0000-0000-0000-000000000000'::uuid, 'override', 'TICKET-17', 'app.finding', 'DROP POLICY') $$, 'and recorded with it');
ROLLBACK TO SAVEPOINT whole;

-- Tables that come ------------------------------------------------------------------------------------------------------

SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT test.refused($$ SELECT tenancy.protect_schema('nowhere') $$, '3F000', '%', '%', 'a schema must be there');
SELECT test.refused($$ SELECT tenancy.protect_schema('pg_catalog') $$, '3F000', '%', '%', 'and be one of the application');
SELECT test.refused($$ SELECT tenancy.exclude('app.finding', '') $$, '22004', '%', '%', 'an exclusion has a reason');
CREATE TABLE app.shared (id integer PRIMARY KEY, org_id uuid NOT NULL);
CREATE TABLE app.nullable (id integer PRIMARY KEY, tenant_id uuid);
CREATE TABLE app.plain (id integer PRIMARY KEY);
CREATE TABLE app.account (id integer PRIMARY KEY, "organizationId" uuid NOT NULL);
SELECT tenancy.exclude('app.shared', 'the same for all') \g /dev/null
RESET SESSION AUTHORIZATION;
ALTER TABLE app.bystander OWNER TO test_owner;
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT test.same($$ SELECT "table"::text, steps > 0, problem FROM tenancy.protect_schema('app') $$, $$ VALUES
    ('app.account', true, NULL), ('app.bystander', true, NULL), ('app.finding', false, NULL), ('app.nullable', false, 'column "tenant_id" of app.nullable may be NULL'), ('app.shared', false, 'excluded: the same for all') $$,
    'a schema is protected table by table, and what is not is told');
SELECT is((SELECT relrowsecurity FROM pg_class WHERE oid = 'app.nullable'::regclass), false, 'a table with a problem is left as it was');

CREATE FUNCTION pg_temp.protected(name text) RETURNS boolean LANGUAGE sql AS $$
    SELECT EXISTS (SELECT FROM pg_policy WHERE polrelid = to_regclass(name) AND obj_description(oid, 'pg_policy') LIKE 'Made by tenancy.protect%')
$$;
CREATE TABLE app.warned (id integer PRIMARY KEY, org_id uuid NOT NULL);
SELECT is(pg_temp.protected('app.warned'), false, 'by default a new table is only warned of');
SELECT tenancy.set_guardrail('new_tables', 'enforce', 'test') \g /dev/null
CREATE TABLE app.by_create (id integer PRIMARY KEY, org_id uuid NOT NULL);
SELECT is(pg_temp.protected('app.by_create'), true, 'enforced, CREATE TABLE protects');
CREATE TABLE app.by_column (id integer PRIMARY KEY);
SELECT is(pg_temp.protected('app.by_column'), false, 'a table without the column is none of it');
ALTER TABLE app.by_column ADD COLUMN organization_id uuid NOT NULL;
SELECT is(pg_temp.protected('app.by_column'), true, 'until it gets one');
CREATE TABLE app.by_name (id integer PRIMARY KEY, owner uuid NOT NULL);
ALTER TABLE app.by_name RENAME COLUMN owner TO tenant_id;
SELECT is(pg_temp.protected('app.by_name'), true, 'by a new name too');
RESET SESSION AUTHORIZATION;
CREATE SCHEMA other AUTHORIZATION test_owner;
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE other.elsewhere (id integer PRIMARY KEY, org_id uuid NOT NULL);
SELECT is(pg_temp.protected('other.elsewhere'), false, 'other schemas are none of it');
ALTER TABLE other.elsewhere SET SCHEMA app;
SELECT is(pg_temp.protected('app.elsewhere'), true, 'until the table moves');
CREATE TEMP TABLE temporary (id integer, org_id uuid NOT NULL);
SELECT pass('temporary tables are none of it');
CREATE TABLE app.parted (id integer, organization_id uuid NOT NULL) PARTITION BY RANGE (id);
CREATE TABLE app.part_1 PARTITION OF app.parted FOR VALUES FROM (0) TO (10);
SELECT is(pg_temp.protected('app.part_1'), true, 'partitions come protected');
SELECT tenancy.set_guardrail('new_tables', 'off', 'test') \g /dev/null
CREATE TABLE app.part_2 PARTITION OF app.parted FOR VALUES FROM (10) TO (20);
SELECT is(pg_temp.protected('app.part_2'), true, 'whatever the guardrail says');
CREATE TABLE app.part_3 (id integer, organization_id uuid NOT NULL);
ALTER TABLE app.parted ATTACH PARTITION app.part_3 FOR VALUES FROM (20) TO (30);
SELECT is(pg_temp.protected('app.part_3') AND tenancy.protect('app.parted') = 0, true, 'attached ones too');
ALTER TABLE app.parted DETACH PARTITION app.part_3;
SELECT is(tenancy.protect('app.part_3'), 0, 'and detached ones stay so, audit and all');
CREATE TABLE app.heir () INHERITS (app.by_create);
SELECT is(pg_temp.protected('app.heir'), true, 'children by inheritance as well');
CREATE TABLE app.off (id integer PRIMARY KEY, org_id uuid NOT NULL);
SELECT is(pg_temp.protected('app.off'), false, 'where the guardrail is off nothing happens');
SELECT tenancy.unprotect_schema('app') \g /dev/null
SELECT tenancy.set_guardrail('new_tables', 'enforce', 'test') \g /dev/null
CREATE TABLE app.forgotten (id integer PRIMARY KEY, org_id uuid NOT NULL);
SELECT is(pg_temp.protected('app.forgotten'), false, 'nor in a schema that is no longer looked at');
SELECT tenancy.include('app.shared') \g /dev/null
SELECT is_empty('SELECT FROM tenancy.exclusions()', 'an exclusion can be taken back');
RESET SESSION AUTHORIZATION;

-- A role that may not protect.
CREATE ROLE test_migrator;
GRANT CREATE, USAGE ON SCHEMA app TO test_migrator;
SELECT tenancy.protect_schema('app') \g /dev/null
SET LOCAL SESSION AUTHORIZATION test_migrator;
SELECT test.refused('CREATE TABLE app.mine (id integer, org_id uuid NOT NULL)', '55000', 'table app.mine has an organization column and is not protected', '%', 'a role without tenancy_admin cannot leave a table unprotected');
RESET SESSION AUTHORIZATION;
ALTER TABLE app.parted OWNER TO test_migrator;
CREATE TABLE other.loose (id integer, organization_id uuid NOT NULL);
ALTER TABLE other.loose OWNER TO test_migrator;
GRANT USAGE ON SCHEMA other TO test_migrator;
SET LOCAL SESSION AUTHORIZATION test_migrator;
SELECT test.refused(statement, '55000', 'a partition of app.parted would not be protected', '%', 'nor add a partition: ' || statement) FROM unnest(ARRAY[
    'CREATE TABLE app.part_9 PARTITION OF app.parted FOR VALUES FROM (90) TO (99)', 'ALTER TABLE app.parted ATTACH PARTITION other.loose FOR VALUES FROM (90) TO (99)']) statement;
RESET SESSION AUTHORIZATION;

SELECT * FROM finish();
ROLLBACK;
