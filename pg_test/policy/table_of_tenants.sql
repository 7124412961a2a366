-- The table whose rows organizations are named by: protected by its key, found where it is not, and open to a sign-up.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(37);
GRANT CREATE ON SCHEMA app TO test_owner;
SELECT tenancy.create_organization('team_a', 'aaaaaaaa-0000-4000-8000-00000000000a', 'team_a', 71), tenancy.create_organization('team_b', 'bbbbbbbb-0000-4000-8000-00000000000b', 'team_b', 72) \g /dev/null
SELECT tenancy.grant_permission('reader', 'team', 'read') \g /dev/null
SELECT tenancy.set_membership('aaaaaaaa-0000-4000-8000-00000000000a', 'ann', 'admin'), tenancy.set_membership('aaaaaaaa-0000-4000-8000-00000000000a', 'val', 'reader'),
       tenancy.set_membership('bbbbbbbb-0000-4000-8000-00000000000b', 'ben', 'admin') \g /dev/null
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.team (id text PRIMARY KEY, name text);
CREATE TABLE app.doc (id integer PRIMARY KEY, tenant_id text NOT NULL REFERENCES app.team ON UPDATE CASCADE ON DELETE CASCADE, title text);
CREATE INDEX ON app.doc (tenant_id);
INSERT INTO app.team VALUES ('team_a', 'A'), ('team_b', 'B');
INSERT INTO app.doc VALUES (1, 'team_a', 'a''s'), (2, 'team_b', 'b''s secret');
-- Left out, so that there is something to see.
SELECT tenancy.exclude('app.team', 'for the control'), tenancy.protect('app.doc'), tenancy.include('app.team') \g /dev/null
GRANT SELECT, INSERT, UPDATE, DELETE ON app.team, app.doc TO test_application;
RESET SESSION AUTHORIZATION;
CREATE PROCEDURE pg_temp.as_member(who text) LANGUAGE plpgsql AS $$ BEGIN PERFORM tenancy.authenticate(test.token(who), 'aaaaaaaa-0000-4000-8000-00000000000a'); END $$;
-- The row trigger has a wall of its own against this; here it is the policies that hold.
SELECT tenancy.set_guardrail('cross_tenant_change', 'off', 'to see the policies hold') \g /dev/null

-- The control ---------------------------------------------------------------------------------------------------------------

SAVEPOINT whole;
SET LOCAL SESSION AUTHORIZATION test_application;
CALL pg_temp.as_member('ann');
SELECT results_eq('SELECT name FROM app.team ORDER BY 1', $$ VALUES ('A'), ('B') $$, 'unprotected, every team is read');
UPDATE app.team SET id = 'old' WHERE id = 'team_a';
UPDATE app.team SET id = 'team_a' WHERE id = 'team_b';
SELECT results_eq('SELECT title FROM app.doc', $$ VALUES ('b''s secret'::text) $$, 'and A reads B''s documents');
RESET SESSION AUTHORIZATION;
ROLLBACK TO SAVEPOINT whole;

-- Found and protected as the advisor prints it -------------------------------------------------------------------------------

SELECT results_eq($$ SELECT severity, object, remediation FROM tenancy.advise() WHERE rule IN ('table_of_tenants', 'action_from_outside') $$,
    $$ VALUES ('error', 'app.team', 'SELECT tenancy.protect(''app.team'', organization_column => ''id'')') $$, 'the advisor finds the table');
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT cmp_ok(tenancy.protect('app.team', organization_column => 'id'), '>', 0, 'what it prints protects it');
SELECT is(tenancy.protect('app.team') + tenancy.protect('app.doc'), 0, 'and is all');
SELECT is_empty('SELECT * FROM tenancy.drift()', 'nothing has drifted');
SELECT is_empty($$ SELECT * FROM tenancy.advise('warning') WHERE object ~ '^app.(team|doc)' AND rule <> 'unique_across_tenants' $$, 'and nothing is left to find');
SELECT is((SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'app.doc'::regclass AND contype = 'f'),
    'FOREIGN KEY (tenant_id) REFERENCES app.team(id) ON UPDATE CASCADE ON DELETE CASCADE', 'the foreign key stays, for it is the organization');
SELECT is((SELECT count(*) FROM pg_trigger WHERE tgfoid = 'tenancy.check_reference()'::regprocedure), 0::bigint, 'and needs no check');
RESET SESSION AUTHORIZATION;

-- The attack ----------------------------------------------------------------------------------------------------------------

SAVEPOINT protected;
SET LOCAL SESSION AUTHORIZATION test_application;
CALL pg_temp.as_member('ann');
SELECT results_eq('SELECT name FROM app.team', $$ VALUES ('A'::text) $$, 'a member reads the own team');
SELECT test.refused($$ UPDATE app.team SET id = 'old' WHERE id = 'team_a' $$, '42501', 'the name of the own organization cannot be changed');
WITH n AS (UPDATE app.team SET id = 'team_a' WHERE id = 'team_b' RETURNING 1) SELECT is(count(*), 0::bigint, 'nor that of another') FROM n;
WITH n AS (DELETE FROM app.team WHERE id = 'team_b' RETURNING 1) SELECT is(count(*), 0::bigint, 'another is not deleted') FROM n;
SELECT test.refused($$ INSERT INTO app.team VALUES ('team_c', 'C') $$, '42501', 'a member founds no team');
SELECT test.refused($$ MERGE INTO app.team t USING (VALUES ('team_a')) v (id) ON t.id = v.id WHEN MATCHED THEN UPDATE SET id = 'team_b' $$, '42501', 'nor by MERGE');
WITH n AS (UPDATE app.team SET name = 'A and sons' RETURNING 1) SELECT is(count(*), 1::bigint, 'whoever may update the own team does') FROM n;
SELECT lives_ok($$ INSERT INTO app.doc (id, title) VALUES (3, 'new') $$, 'documents come as before');
SELECT lives_ok('DELETE FROM app.team', 'whoever may delete the own team does');
SELECT results_eq('SELECT count(*) FROM app.doc', '{0}'::bigint[], 'and its documents go with it');
RESET SESSION AUTHORIZATION;
SELECT is((SELECT string_agg(d.title, ',') FROM app.doc d), 'b''s secret', 'the others'' stay');
ROLLBACK TO SAVEPOINT protected;
SET LOCAL SESSION AUTHORIZATION test_application;
CALL pg_temp.as_member('val');
SELECT test.refused($$ UPDATE app.team SET name = 'x' $$, '42501', 'whoever may only read does not');
ROLLBACK TO SAVEPOINT protected;

-- A sign-up, as docs/isolation.md has it ---------------------------------------------------------------------------------------

CREATE ROLE test_sign_up IN ROLE tenancy_operator, tenancy_admin;
GRANT USAGE ON SCHEMA app TO test_sign_up;
GRANT SELECT, INSERT ON app.team TO test_sign_up;
SET LOCAL SESSION AUTHORIZATION test_sign_up;
SELECT test.refused($$ INSERT INTO app.team VALUES ('team_c', 'C') $$, '28000', 'without an organization no team is founded');
SELECT tenancy.assume_organization(tenancy.create_organization('C', text_id => 'team_c'), 'sign-up') \g /dev/null
SELECT test.refused($$ INSERT INTO app.team VALUES ('team_b2', 'C') $$, '42501', 'nor one of another name');
SELECT lives_ok($$ INSERT INTO app.team (name) VALUES ('C') $$, 'the new organization''s row is written');
SELECT results_eq('SELECT id FROM app.team', $$ VALUES ('team_c'::text) $$, 'with its name');
SELECT lives_ok($$ SELECT tenancy.set_membership(tenancy.org_id(), 'cat', 'admin') $$, 'and it has a first member');
RESET SESSION AUTHORIZATION;
ROLLBACK TO SAVEPOINT protected;
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT cmp_ok(tenancy.unprotect('app.team'), '>', 0, 'unprotect takes it back');
SELECT is((SELECT count(*) FROM pg_policy WHERE polrelid = 'app.team'::regclass) + (SELECT count(*) FROM pg_trigger WHERE tgrelid = 'app.team'::regclass AND NOT tgisinternal)
          + (SELECT count(*) FROM pg_attrdef WHERE adrelid = 'app.team'::regclass), 0::bigint, 'without a rest');

-- Identity: the number is given by the sign-up.
CREATE TABLE app.firm (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text);
CREATE TABLE app.bill (id integer PRIMARY KEY, org_id bigint NOT NULL REFERENCES app.firm);
SELECT tenancy.protect('app.bill') \g /dev/null
SELECT results_eq($$ SELECT remediation FROM tenancy.advise() WHERE rule = 'table_of_tenants' AND object = 'app.firm' $$,
    $$ VALUES ('ALTER TABLE app.firm ALTER COLUMN id DROP IDENTITY; SELECT tenancy.protect(''app.firm'', organization_column => ''id'')') $$, 'an identity goes first');
SELECT lives_ok($$ ALTER TABLE app.firm ALTER COLUMN id DROP IDENTITY; SELECT tenancy.protect('app.firm', organization_column => 'id') $$, 'which works');
RESET SESSION AUTHORIZATION;
-- Taken along by the table that points at it, unless it is excluded or somebody else's.
RESET SESSION AUTHORIZATION;
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.agency (id uuid PRIMARY KEY);
CREATE TABLE app.mandate (id integer PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES app.agency);
SELECT is((SELECT count(*) > 0 FROM tenancy.plan('app.mandate') WHERE sql LIKE '%app.agency%POLICY%' OR sql LIKE '%POLICY%ON app.agency %'), true, 'the plan of a table shows what it does to that of tenants');
SELECT cmp_ok(tenancy.protect('app.mandate'), '>', 20, 'protect does both');
SELECT is((SELECT organization_column FROM tenancy.protected_tables() WHERE "table" = 'app.agency'::regclass), 'id', 'the table of tenants by its key');
SELECT is(tenancy.protect('app.mandate'), 0, 'once');
CREATE TABLE app.club (id uuid PRIMARY KEY);
CREATE TABLE app.card (id integer PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES app.club);
SELECT tenancy.exclude('app.club', 'everybody reads it'), tenancy.protect('app.card') \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.protected_tables() WHERE "table" = 'app.club'::regclass), 0::bigint, 'one that is excluded stays');
RESET SESSION AUTHORIZATION;
CREATE TABLE app.guild (id uuid PRIMARY KEY);
GRANT REFERENCES, SELECT ON app.guild TO test_owner;
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.member (id integer PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES app.guild);
SELECT is((SELECT count(DISTINCT state) FROM tenancy.plan('app.member') WHERE sql LIKE '%POLICY%ON app.guild %' AND state = 'manual'), 1::bigint, 'somebody else''s is left to them, which the plan says');
SELECT tenancy.protect('app.member') \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.protected_tables() WHERE "table" = 'app.guild'::regclass), 0::bigint, 'and stays');
RESET SESSION AUTHORIZATION;

SELECT * FROM finish();
ROLLBACK;
