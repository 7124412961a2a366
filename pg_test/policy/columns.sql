-- The organization column: nullable ones, ones that protect adds and fills.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(44);
SET LOCAL SESSION AUTHORIZATION test_owner;

-- What a NULL means must be said --------------------------------------------------------------------------------------

CREATE TABLE app.price (id integer PRIMARY KEY, organization_id uuid, cents integer NOT NULL DEFAULT 0);
INSERT INTO app.price VALUES (1, test.acme(), 10), (2, test.bolt(), 20), (3, NULL, 30);
GRANT SELECT, INSERT, UPDATE, DELETE ON app.price TO test_application;
SELECT test.refused($$ SELECT tenancy.protect('app.price') $$, '42804', '%may be NULL%', '%', 'a nullable column is refused until somebody says what NULL means');
SELECT test.refused($$ SELECT tenancy.protect('app.price', null_rows => 'everybody') $$, '22023', '%null_rows%', '%', 'in one of two words');
SELECT is((SELECT relrowsecurity FROM pg_class WHERE oid = 'app.price'::regclass), false, 'and nothing was done');

-- Shared rows: everybody reads them, no tenant writes them.
SELECT is(tenancy.protect('app.price', null_rows => 'shared') > 0, true, 'with shared rows the table can be protected');
SELECT is(tenancy.protect('app.price'), 0, 'and the meaning is remembered');
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
CALL test.sign_in('ada');
SELECT results_eq('SELECT id FROM app.price ORDER BY 1', '{1,3}'::integer[], 'a tenant reads its own rows and the shared ones');
SELECT results_eq('WITH changed AS (UPDATE app.price SET cents = 0 RETURNING id) SELECT id FROM changed', '{1}'::integer[], 'it changes its own');
SELECT results_eq('WITH gone AS (DELETE FROM app.price RETURNING id) SELECT id FROM gone', '{1}'::integer[], 'it deletes its own');
SELECT test.refused($$ INSERT INTO app.price VALUES (4, NULL, 1) $$, '42501', 'it adds no shared row');
SELECT test.refused($$ INSERT INTO app.price VALUES (4, test.bolt(), 1) $$, '42501', 'nor another tenant''s');
INSERT INTO app.price VALUES (4, DEFAULT, 1);
SELECT test.refused($$ UPDATE app.price SET organization_id = NULL WHERE id = 4 $$, '42501', 'it does not give a row to everybody');
SELECT is_empty('SELECT FROM app.price WHERE id = 3 FOR UPDATE', 'it does not lock a shared row');
SELECT test.refused($$ INSERT INTO app.price VALUES (3, DEFAULT, 1) ON CONFLICT (id) DO UPDATE SET cents = 7 $$, '42501', 'nor changes it by ON CONFLICT');
SELECT results_eq($$ SELECT cents FROM app.price WHERE id = 3 $$, '{30}'::integer[], 'the shared row is as it was');
ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('bob');
SELECT results_eq('SELECT id FROM app.price ORDER BY 1', '{2,3}'::integer[], 'another tenant reads the same shared rows');
ROLLBACK TO SAVEPOINT nobody;
RESET SESSION AUTHORIZATION;

-- Another meaning, later.
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT is(tenancy.protect('app.price', null_rows => 'nobody') > 0, true, 'the meaning can be changed');
SELECT is((SELECT count(*) FROM pg_policy WHERE polrelid = 'app.price'::regclass), 8::bigint, 'and the policies are as many');
SELECT is(tenancy.protect('app.price'), 0, 'which is remembered');
SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('ada');
SELECT results_eq('SELECT id FROM app.price ORDER BY 1', '{1}'::integer[], 'a row of nobody is read by nobody');
SELECT test.refused($$ INSERT INTO app.price VALUES (4, NULL, 1) $$, '42501', 'nor written');
ROLLBACK TO SAVEPOINT nobody;
RESET SESSION AUTHORIZATION;
UPDATE app.price SET cents = 31 WHERE id = 3;
SELECT is((SELECT organization FROM tenancy.event WHERE table_name = 'price' AND payload ->> 'new' LIKE '%31%'),
          '00000000-0000-0000-0000-000000000000'::uuid, 'a change of such a row by a DBA is an event of no organization');
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT is(tenancy.unprotect('app.price') > 0, true, 'it can be taken back');
SELECT is_empty($$ SELECT FROM pg_policy WHERE polrelid = 'app.price'::regclass $$, 'with every policy');

-- A column that protect adds and fills --------------------------------------------------------------------------------

CREATE TABLE app.comment (id integer PRIMARY KEY, finding_id integer NOT NULL, text text);
INSERT INTO app.comment SELECT n, 1 + n % 5, 'comment ' || n FROM generate_series(1, 10) n;
GRANT SELECT, INSERT ON app.comment TO test_application;
CREATE TEMP TABLE planned AS
    SELECT * FROM tenancy.plan('app.comment', 'organization_id', backfill => '(SELECT f.organization_id FROM app.finding f WHERE f.id = finding_id)');
SELECT results_eq('SELECT sql FROM planned WHERE step <= 3 ORDER BY step', ARRAY[
    'ALTER TABLE app.comment ADD COLUMN "organization_id" uuid',
    'SELECT tenancy.backfill(''app.comment'', ''organization_id'', ''(SELECT f.organization_id FROM app.finding f WHERE (f.id = comment.finding_id))'')',
    'ALTER TABLE app.comment ALTER COLUMN "organization_id" SET NOT NULL'], 'the column is added with the type of the expression, filled, and made NOT NULL');
SELECT is((SELECT count(*) FROM pg_attribute WHERE attrelid = 'app.comment'::regclass AND attname = 'organization_id'), 0::bigint, 'planning adds nothing');
SELECT is(tenancy.protect('app.comment', 'organization_id', backfill => '(SELECT f.organization_id FROM app.finding f WHERE f.id = finding_id)'),
          (SELECT count(*)::integer FROM planned), 'an owner whom the parent''s policies bind can fill it from there, acting for no tenant');
SELECT is(tenancy.protect('app.comment'), 0, 'and all is done');
SELECT is((SELECT count(*) FROM tenancy.plan('app.comment', backfill => 'NULL::uuid') WHERE state <> 'done'), 0::bigint, 'with the back-fill too');
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
CALL test.sign_in('ada');
SELECT results_eq('SELECT id FROM app.comment ORDER BY 1', '{1,2,5,6,7,10}'::integer[], 'each row has the organization of its parent');
INSERT INTO app.comment VALUES (11, 1, 'mine');
SELECT is((SELECT organization_id FROM app.comment WHERE id = 11), test.acme(), 'and new ones that of their writer');
ROLLBACK TO SAVEPOINT nobody;
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT is(tenancy.unprotect('app.comment') > 0, true, 'it can be taken back');
SELECT is((SELECT attnotnull FROM pg_attribute WHERE attrelid = 'app.comment'::regclass AND attname = 'organization_id'), false,
          'the column stays, and may be NULL as before');
RESET SESSION AUTHORIZATION;
SELECT is((SELECT count(organization_id) FROM app.comment), 10::bigint, 'with what it holds');
SET LOCAL SESSION AUTHORIZATION test_owner;

-- What cannot be filled is refused whole.
CREATE TABLE app.orphan (id integer PRIMARY KEY, "organizationId" text);
INSERT INTO app.orphan VALUES (1, 'acme'), (2, NULL);
SELECT test.refused($$ SELECT tenancy.protect('app.orphan', backfill => 'CASE WHEN id > 2 THEN ''bolt'' END') $$, '23502', 'a row that stays without an organization is refused');
SELECT is((SELECT relrowsecurity FROM pg_class WHERE oid = 'app.orphan'::regclass), false, 'and nothing is half done');
SELECT test.refused($$ SELECT tenancy.protect('app.orphan', backfill => 'nothing') $$, '42703', 'an expression must be one of the table');
SELECT test.refused($$ SELECT tenancy.protect('app.orphan', backfill => '1); DROP TABLE app.orphan; SELECT (2') $$, '22023', '%one expression%', '%', 'and one expression');
SELECT test.refused($$ SELECT tenancy.protect('app.orphan', 'owner', backfill => 'now()') $$, '42804', '%timestamp with time zone%', '%', 'of a type that can hold an organization');
SELECT test.refused($$ SELECT tenancy.protect('app.orphan', 'owner', backfill => 'id', null_rows => 'shared') $$, '22023', '%exclude each other%', '%', 'without rows that have none');
SELECT test.refused($$ SELECT tenancy.protect('app.orphan', backfill => '''bolt''', through => 'id') $$, '22023', '%through%', '%', 'not through a parent as well');
SELECT is(tenancy.protect('app.orphan', backfill => '''bolt''') > 0, true, 'a column that is there is filled where it is NULL');
RESET SESSION AUTHORIZATION;
SELECT results_eq('SELECT "organizationId" FROM app.orphan ORDER BY id', ARRAY['acme', 'bolt'], 'and only there');

-- Batches -------------------------------------------------------------------------------------------------------------

CREATE TABLE app.big (id integer, organization_id integer, filler text);
INSERT INTO app.big SELECT n, NULL, repeat('x', 500) FROM generate_series(1, 200) n;
SELECT is(tenancy.backfill('app.big', 'organization_id', 'id % 2', 0, 3) BETWEEN 30 AND 60, true, 'a batch fills the rows of its pages');
SELECT test.refused($$ SELECT tenancy.backfill('app.big', 'organization_id', 'id', -1, 3) $$, '22023', '%', '%', 'a batch has a beginning and a size');

SELECT * FROM finish();
ROLLBACK;
