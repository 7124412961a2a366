-- Foreign keys that cannot carry the organization: of tables that have no column for it, or one that may be NULL.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(42);
SET LOCAL client_min_messages = error;
SET LOCAL SESSION AUTHORIZATION test_owner;

CREATE TABLE app.person (id bigint PRIMARY KEY, organization_id uuid NOT NULL, name text);
CREATE TABLE app.version (id integer PRIMARY KEY, finding integer NOT NULL REFERENCES app.finding ON DELETE CASCADE);
CREATE TABLE app.file (
    id integer PRIMARY KEY,
    version integer NOT NULL REFERENCES app.version ON DELETE CASCADE,
    "Reviewer" integer REFERENCES app.person ON DELETE SET NULL,
    before integer CONSTRAINT "a key; whose ""name"" is longer than what a trigger has room for" REFERENCES app.file,
    later integer REFERENCES app.person DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE app.card (id integer PRIMARY KEY, organization_id uuid NOT NULL, file integer REFERENCES app.file);
CREATE TABLE app.template (id integer PRIMARY KEY, organization_id uuid);
CREATE TABLE app.draft (id integer PRIMARY KEY, organization_id uuid);
CREATE TABLE app.letter (id integer PRIMARY KEY, organization_id uuid NOT NULL, template integer REFERENCES app.template, draft integer REFERENCES app.draft);
CREATE TABLE app.stamp (id integer PRIMARY KEY, template integer REFERENCES app.template);
INSERT INTO app.person VALUES (1, test.acme(), 'a'), (2, test.bolt(), 'b'), (3, test.acme(), 'c');
INSERT INTO app.version VALUES (1, 1), (2, 4), (3, 2);
INSERT INTO app.file VALUES (1, 1, 1, NULL), (2, 2, 2, NULL);
INSERT INTO app.card VALUES (1, test.acme(), 1);
INSERT INTO app.template VALUES (1, test.acme()), (2, test.bolt()), (3, NULL);
INSERT INTO app.draft VALUES (1, test.acme()), (2, test.bolt()), (3, NULL);
INSERT INTO app.letter VALUES (1, test.acme(), 1, 1), (2, test.bolt(), 3, 2);
INSERT INTO app.stamp VALUES (1, 1), (2, 2), (3, 3);
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA app TO test_application;
CREATE FUNCTION pg_temp.schema() RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_agg(s ORDER BY s) FROM (
        SELECT conrelid::regclass || conname || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'app'::regnamespace
         UNION ALL
        SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = 'app'::regnamespace AND NOT tgisinternal AND c.relname <> 'finding') x (s)
$$;
CREATE TEMP TABLE before AS SELECT pg_temp.schema() AS schema;
SELECT tenancy.protect('app.person'), tenancy.protect('app.version', through => 'finding'), tenancy.protect('app.file', through => 'version'), tenancy.protect('app.card'),
       tenancy.protect('app.template', null_rows => 'shared'), tenancy.protect('app.draft', null_rows => 'nobody'), tenancy.protect('app.letter'), tenancy.protect('app.stamp', through => 'template') \g /dev/null
RESET SESSION AUTHORIZATION;
SELECT is_empty($$ SELECT object, detail FROM tenancy.advise() WHERE rule = 'foreign_key_across_tenants' $$, 'no foreign key between protected tables is left alone');
SELECT is_empty('SELECT * FROM tenancy.drift()', 'and nothing is adrift');
SELECT results_eq($$ SELECT count(*) FROM pg_trigger WHERE tgfoid = 'tenancy.check_reference()'::regprocedure $$, '{5}'::bigint[], 'those that cannot carry the organization are checked');
SELECT is((SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'letter_draft_fkey'),
    'FOREIGN KEY (draft, organization_id) REFERENCES app.draft(id, organization_id)', 'a column that may be NULL on the other side is carried where NULL is nobody''s');

CREATE FUNCTION test.words(statement text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE state text; words text; detail text; hint text; "constraint" text; "table" text; context text;
BEGIN
    EXECUTE statement;
    SET CONSTRAINTS ALL IMMEDIATE;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, words = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
        "constraint" = CONSTRAINT_NAME, "table" = TABLE_NAME, context = PG_EXCEPTION_CONTEXT;
    RETURN jsonb_build_array(state, words, detail, hint, "constraint", "table", replace(context, '99', '2'));
END
$$;

-- The attack, and that it works without the wall.
SAVEPOINT walls;
SET LOCAL tenancy.override_reason = 'the control of this test';
ALTER TABLE app.file DISABLE TRIGGER "0_tenancy_reference_file_Reviewer_fkey";
RESET tenancy.override_reason;
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
CALL test.sign_in('ada');
SELECT lives_ok($$ INSERT INTO app.file VALUES (9, 1, 2) $$, 'without the trigger a row can point at another tenant''s');
ROLLBACK TO SAVEPOINT nobody;
RESET SESSION AUTHORIZATION;
ROLLBACK TO SAVEPOINT walls;
SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('ada');
SELECT test.refused($$ INSERT INTO app.file VALUES (9, 1, 2) $$, '23503', '%', '%', 'with it it cannot');
SELECT test.refused($$ UPDATE app.file SET "Reviewer" = 2 $$, '23503', '%', '%', 'nor be changed to');
SELECT test.refused($$ INSERT INTO app.file VALUES (9, 1, NULL, 2) $$, '23503', '%', '%', 'nor point at one of its own table');
SELECT test.refused($$ INSERT INTO app.card (id, file) VALUES (9, 2) $$, '23503', '%', '%', 'nor from a table that has a column');
SELECT test.refused($$ INSERT INTO app.letter (id, template) VALUES (9, 2) $$, '23503', '%', '%', 'nor at a row of a table where others may be NULL');
SELECT test.refused($$ INSERT INTO app.letter (id, draft) VALUES (9, 2) $$, '23503', '%', '%', 'of either kind');
SELECT test.refused($$ INSERT INTO app.letter (id, draft) VALUES (9, 3) $$, '23503', '%', '%', 'nor at what is nobody''s');
SELECT test.refused($$ INSERT INTO app.stamp VALUES (9, 2) $$, '42501', 'nor hang below one');
SELECT lives_ok($$ INSERT INTO app.letter (id, template) VALUES (9, 3), (8, 1) $$, 'what is everybody''s can be pointed at, and what is its own');
SELECT lives_ok($$ INSERT INTO app.file VALUES (9, 3, 3, NULL), (10, 3, 1, 9) $$, 'so can rows of the same statement');
SELECT lives_ok($$ UPDATE app.file SET "Reviewer" = NULL WHERE id = 9; UPDATE app.file SET version = 1, "Reviewer" = 1 WHERE id = 9 $$, 'and rows may change');
SELECT lives_ok($$ DELETE FROM app.person WHERE id = 3 $$, 'a referential action passes');
SELECT results_eq('SELECT id FROM app.stamp ORDER BY 1', '{1,3}'::integer[], 'what hangs below a shared row is read by all');
SELECT test.refused($$ INSERT INTO app.stamp VALUES (9, 3) $$, '42501', 'and written by nobody');

-- No word tells whether another tenant has the row.
SELECT is(test.words('INSERT INTO app.file VALUES (29, 1, 2)'), test.words('INSERT INTO app.file VALUES (29, 1, 99)'), 'from a table without a column');
SELECT is(test.words('INSERT INTO app.file VALUES (29, 1, NULL, 2)'), test.words('INSERT INTO app.file VALUES (29, 1, NULL, 99)'), 'to the same table');
SELECT is(test.words('INSERT INTO app.file VALUES (29, 1, NULL, NULL, 2)'), test.words('INSERT INTO app.file VALUES (29, 1, NULL, NULL, 99)'), 'with a deferred key');
SELECT is(test.words('INSERT INTO app.card (id, file) VALUES (29, 2)'), test.words('INSERT INTO app.card (id, file) VALUES (29, 99)'), 'from a table with one');
SELECT is(test.words('INSERT INTO app.letter (id, template) VALUES (29, 2)'), test.words('INSERT INTO app.letter (id, template) VALUES (29, 99)'), 'where it may be NULL');
SELECT is(test.words('INSERT INTO app.file VALUES (29, 1, NULL, NULL, 2)') ->> 0, '23503', 'a deferred key is checked in the end');
SELECT lives_ok($$ INSERT INTO app.file VALUES (30, 1, NULL, NULL, 30); INSERT INTO app.person (id) VALUES (30); SET CONSTRAINTS ALL IMMEDIATE $$, 'and may wait for its row');
RESET SESSION AUTHORIZATION;
ROLLBACK TO SAVEPOINT walls;

-- A DBA and an owner are bound by it as by every foreign key.
SELECT test.refused($$ INSERT INTO app.file VALUES (9, 1, 2) $$, '23503', '%', '%', 'without a context it counts too');
SELECT test.refused($$ UPDATE app.file SET version = 2 WHERE id = 1 $$, '23503', '%', '%', 'also when the row itself moves');

-- What is there already stops it.
SET LOCAL tenancy.override_reason = 'a hole to be found';
ALTER TABLE app.file DISABLE TRIGGER "0_tenancy_reference_file_Reviewer_fkey";
RESET tenancy.override_reason;
SELECT results_eq($$ SELECT object, severity FROM tenancy.advise() WHERE rule IN ('foreign_key_across_tenants', 'drift') ORDER BY rule, object COLLATE "C" $$,
    $$ VALUES ('app.file', 'error'), ('app.person', 'error'), ('app.file."file_Reviewer_fkey"', 'error') $$, 'a check that was switched off is found');
INSERT INTO app.file VALUES (9, 1, 2);
SELECT test.refused($$ SELECT tenancy.protect('app.file') $$, '23503', '%', '%', 'and is not switched on over a reference across organizations');
DELETE FROM app.file WHERE id = 9;
SELECT is(tenancy.protect('app.file') > 0, true, 'without one it is');
SELECT is_empty('SELECT * FROM tenancy.drift()', 'and all is well again');
SELECT test.refused($$ SELECT tenancy.check_references('app.file', 'nothing') $$, '42704', '%', '%', 'a key that no trigger checks is not looked at');
SELECT test.refused($$ SELECT tenancy.check_references('app.file', NULL) $$, '22004', '%', '%', 'nor none');
GRANT EXECUTE ON FUNCTION tenancy.check_references(regclass, text) TO test_stranger;
GRANT USAGE ON SCHEMA tenancy TO test_stranger;
SET LOCAL SESSION AUTHORIZATION test_stranger;
SELECT test.refused($$ SELECT tenancy.check_references('app.file', 'file_Reviewer_fkey') $$, '42501', '%', '%', 'nor one of a table of others');
RESET SESSION AUTHORIZATION;

-- Rows whose organization is not registered are told apart by their names.
CREATE TABLE app.old (id integer PRIMARY KEY, tenant_id text);
CREATE TABLE app.older (id integer PRIMARY KEY, tenant_id text, old integer REFERENCES app.old);
INSERT INTO app.old VALUES (1, 'one'), (2, 'two');
INSERT INTO app.older VALUES (1, 'one', 1);
SELECT is(tenancy.protect('app.old', null_rows => 'shared') + tenancy.protect('app.older', null_rows => 'shared') > 0, true, 'organizations that are not registered');
SELECT test.refused($$ INSERT INTO app.older VALUES (2, 'one', 2) $$, '23503', '%', '%', 'are not one and the same');
SELECT lives_ok($$ INSERT INTO app.older VALUES (2, 'two', 2), (3, NULL, 2) $$, 'and a row of nobody is not checked');

-- From a partitioned table.
CREATE TABLE app.parted (id integer, tenant_id text, old integer REFERENCES app.old) PARTITION BY RANGE (id);
CREATE TABLE app.parted_1 PARTITION OF app.parted FOR VALUES FROM (0) TO (10);
INSERT INTO app.parted VALUES (1, 'one', 2);
SELECT test.refused($$ SELECT tenancy.protect('app.parted', null_rows => 'nobody') $$, '23503', '%', '%', 'the rows of partitions are looked at');
DELETE FROM app.parted;
SELECT is(tenancy.protect('app.parted', null_rows => 'nobody') > 0 AND tenancy.protect('app.parted') = 0, true, 'a partitioned table is checked');
SELECT test.refused($$ INSERT INTO app.parted_1 VALUES (1, 'one', 2) $$, '23503', '%', '%', 'in each partition');

-- Taking it back.
DROP TABLE app.parted, app.older, app.old;
SELECT tenancy.unprotect('app.person'), tenancy.unprotect('app.stamp'), tenancy.unprotect('app.file'), tenancy.unprotect('app.version'), tenancy.unprotect('app.letter'),
       tenancy.unprotect('app.template'), tenancy.unprotect('app.draft'), tenancy.unprotect('app.card') \g /dev/null
SELECT is(pg_temp.schema(), (SELECT schema FROM before), 'unprotect leaves nothing of it');

SELECT * FROM finish();
ROLLBACK;
