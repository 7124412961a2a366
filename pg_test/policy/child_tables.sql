-- Child tables without an organization column: scoped through a foreign key.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(28);
SET LOCAL SESSION AUTHORIZATION test_owner;

CREATE TABLE app."Step" (id integer PRIMARY KEY, finding integer NOT NULL REFERENCES app.finding ON DELETE CASCADE, done boolean DEFAULT false);
INSERT INTO app."Step" VALUES (1, 1), (2, 2), (3, 4), (4, 5);
GRANT SELECT, INSERT, UPDATE, DELETE ON app."Step" TO test_application;
SELECT tenancy.grant_permission('editor', 'step', 'read', 'create', 'update', 'delete') \g /dev/null

SELECT test.refused($$ SELECT tenancy.protect('app."Step"') $$, '42703', '%no organization column%', '%', 'without the column a way must be named');
SELECT test.refused($$ SELECT tenancy.protect('app."Step"', through => 'nothing') $$, '42809', '%', '%', 'a way that is there');
SELECT is(tenancy.protect('app."Step"', through => 'finding') > 0, true, 'a column with a foreign key is a way');
SELECT is(tenancy.protect('app."Step"'), 0, 'and is remembered');
SELECT is((SELECT count(*) FROM tenancy.plan('app."Step"') WHERE state <> 'done'), 0::bigint, 'the policy is recognized as what it is');
SELECT test.refused($$ SELECT tenancy.protect('app."Step"', 'finding') $$, '22023', '%', '%', 'another way needs unprotect first');

SET LOCAL SESSION AUTHORIZATION test_application;
SELECT test.refused('SELECT * FROM app."Step"', '28000', 'without a context refused');
SAVEPOINT nobody;
CALL test.sign_in('eve');
SELECT results_eq('SELECT id FROM app."Step" ORDER BY 1', '{1,2}'::integer[], 'a tenant sees the rows of its parents');
SELECT is_empty('SELECT FROM app."Step" WHERE id = 3', 'and no other by its key');
SELECT is((SELECT count(*) FROM app."Step" s LEFT JOIN app.finding f ON f.id = s.finding), 2::bigint, 'nor by a join');
SELECT test.refused($$ INSERT INTO app."Step" VALUES (9, 4) $$, '42501', 'it adds no row to another tenant''s parent');
SELECT test.refused($$ INSERT INTO app."Step" VALUES (9, 99) $$, '42501', 'which looks like a parent that is not there');
SELECT test.refused($$ UPDATE app."Step" SET finding = 4 WHERE id = 1 $$, '42501', 'it moves no row there');
SELECT results_eq('WITH changed AS (UPDATE app."Step" SET done = true RETURNING id) SELECT id FROM changed ORDER BY 1', '{1,2}'::integer[], 'it changes its own');
INSERT INTO app.finding (id, title) VALUES (20, 'new');
INSERT INTO app."Step" VALUES (20, 20);
INSERT INTO app."Step" VALUES (21, 1);
DELETE FROM app."Step" WHERE id = 21;
DELETE FROM app.finding WHERE id = 20;
SELECT is_empty('SELECT FROM app."Step" WHERE id = 20', 'a cascade removes them');
RESET SESSION AUTHORIZATION;
SELECT results_eq($$ SELECT organization, operation, count(*), max(domain) FROM tenancy.event WHERE table_name = 'Step' AND domain = 'step' GROUP BY 1, 2 ORDER BY 2 $$,
    $$ VALUES (test.acme(), 'delete', 2::bigint, 'step'), (test.acme(), 'insert', 2, 'step'), (test.acme(), 'update', 2, 'step') $$, 'every change is an event of the parent''s organization');
ROLLBACK TO SAVEPOINT nobody;
RESET SESSION AUTHORIZATION;
UPDATE app."Step" SET done = true WHERE id = 4;
SELECT is((SELECT organization FROM tenancy.event WHERE table_name = 'Step' AND domain = 'step'), test.bolt(), 'that of a DBA''s change is found through the key');
TRUNCATE app."Step";
SELECT results_eq($$ SELECT organization, (payload ->> 'rows')::integer FROM tenancy.event WHERE table_name = 'Step' AND operation = 'truncate' ORDER BY 1 $$,
    $$ VALUES (test.acme(), 2), (test.bolt(), 2) $$, 'so are those that lose rows to TRUNCATE');

-- Reading a child needs the parent.
SELECT tenancy.create_role('stepper'), tenancy.grant_permission('stepper', 'step', 'read'), tenancy.set_membership(test.acme(), 'sten', 'stepper') \g /dev/null
INSERT INTO app."Step" VALUES (1, 1), (2, 2), (3, 4), (4, 5);
SAVEPOINT nobody;
SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('sten');
SELECT test.refused('SELECT * FROM app."Step"', '42501', '%may not read in domain "finding"', '%', 'who may not read the parent may not read the child');
ROLLBACK TO SAVEPOINT nobody;

-- Ways that lead nowhere.
RESET SESSION AUTHORIZATION;
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.catalog (id integer PRIMARY KEY);
CREATE TABLE app.item (id integer PRIMARY KEY, catalog integer REFERENCES app.catalog, finding bigint REFERENCES app.finding, step integer REFERENCES app."Step");
SELECT test.refused($$ SELECT tenancy.protect('app.item', through => 'catalog') $$, '42809', '%', '%', 'a parent that is not protected is no way');
SELECT test.refused($$ SELECT tenancy.protect('app.item', through => 'finding') $$, '42809', '%', '%', 'nor one whose key is of another type');
SELECT test.refused($$ SELECT tenancy.protect('app.item', through => 'item_pkey') $$, '42809', '%', '%', 'nor a key that points at nothing');
SELECT is((SELECT relrowsecurity FROM pg_class WHERE oid = 'app.item'::regclass), false, 'and nothing was done');

-- A parent that is unprotected leaves the child closed.
SELECT is(tenancy.unprotect('app."Step"') > 0, true, 'a child can be unprotected');
SELECT is_empty($$ SELECT FROM pg_policy WHERE polrelid = 'app."Step"'::regclass $$, 'with every policy');
SELECT is(tenancy.protect('app."Step"', through => 'Step_finding_fkey') > 0, true, 'the way can be named by the key too');
SELECT is(tenancy.unprotect('app.finding') > 0, true, 'a parent can be unprotected before its child');
SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('ada');
SELECT results_eq('SELECT id FROM app."Step" ORDER BY 1', '{1,2}'::integer[], 'the child''s own policy names the organization too');

SELECT * FROM finish();
ROLLBACK;
