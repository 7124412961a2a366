-- Tables that lead to the organization by several foreign keys: file -> version -> page, and what else they point at.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(31);
SET LOCAL client_min_messages = error;
SET LOCAL SESSION AUTHORIZATION test_owner;

CREATE TABLE app.page (id bigint PRIMARY KEY, organization_id uuid NOT NULL, title text);
CREATE TABLE app.version (id uuid PRIMARY KEY, "pageId" bigint NOT NULL REFERENCES app.page ON DELETE CASCADE);
CREATE TABLE app."File" (id integer PRIMARY KEY, version uuid NOT NULL REFERENCES app.version ON DELETE CASCADE, name text);
CREATE TABLE app.line (id integer PRIMARY KEY, file integer REFERENCES app."File" ON DELETE CASCADE, words text);
INSERT INTO app.page VALUES (1, test.acme(), 'a'), (2, test.bolt(), 'b');
INSERT INTO app.version VALUES ('00000000-0000-4000-8000-000000000001', 1), ('00000000-0000-4000-8000-000000000002', 2);
INSERT INTO app."File" VALUES (1, '00000000-0000-4000-8000-000000000001', 'a'), (2, '00000000-0000-4000-8000-000000000002', 'b');
INSERT INTO app.line VALUES (1, 1, 'a'), (2, 2, 'b');
GRANT SELECT, INSERT, UPDATE, DELETE ON app.page, app.version, app."File", app.line TO test_application;
SELECT tenancy.protect('app.page') \g /dev/null

RESET SESSION AUTHORIZATION;
-- What the advisor prints is run until it is silent.
CREATE FUNCTION pg_temp.follow() RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE finding record; done text[] := '{}';
BEGIN
    FOR round IN 1 .. 9 LOOP
        SELECT * INTO finding FROM tenancy.advise('warning') WHERE object LIKE 'app.%' AND remediation NOT LIKE '--%' AND rule <> 'unique_across_tenants' ORDER BY key LIMIT 1;
        EXIT WHEN NOT FOUND;
        EXECUTE finding.remediation;
        done := done || finding.key;
    END LOOP;
    RETURN done;
END
$$;
-- The attack works as long as only the first table is protected.
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
CALL test.sign_in('ada');
SELECT results_eq('SELECT id FROM app.line ORDER BY 1', '{1,2}'::integer[], 'without protection a tenant reads the rows of another');
ROLLBACK TO SAVEPOINT nobody;
RESET SESSION AUTHORIZATION;

RESET SESSION AUTHORIZATION;
SELECT is(pg_temp.follow(), '{child_table_without_column:app.version,"child_table_without_column:app.\"File\"",child_table_without_column:app.line}'::text[], 'the advisor finds one table after the other');
SELECT is_empty($$ SELECT rule, object FROM tenancy.advise('warning') WHERE object LIKE 'app.%' AND rule <> 'unique_across_tenants' $$, 'and is silent then');
SELECT results_eq($$ SELECT "table"::text, organization_column, through FROM tenancy.protected_tables() WHERE through IS NOT NULL ORDER BY 1 $$,
    $$ VALUES ('app."File"', 'version', 'File_version_fkey'), ('app.line', 'file', 'line_file_fkey'), ('app.version', 'pageId', 'version_pageId_fkey') $$, 'each is protected through its foreign key');
SELECT results_eq($$ SELECT count(*) FROM tenancy.plan('app.line') WHERE state <> 'done' $$, '{0}'::bigint[], 'the policies are recognized as what they are');
SELECT is_empty('SELECT * FROM tenancy.drift()', 'and nothing is adrift');

SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT authorized;
SELECT test.refused('SELECT * FROM app.line', '28000', 'without a context refused');
ROLLBACK TO SAVEPOINT authorized;
CALL test.sign_in('ada');
SELECT results_eq('SELECT id FROM app.line ORDER BY 1', '{1}'::integer[], 'a tenant sees the rows that lead to it');
SELECT results_eq('SELECT id FROM app."File" ORDER BY 1', '{1}'::integer[], 'at each step');
SELECT is_empty('SELECT FROM app.line WHERE id = 2', 'and no other by its key');
SELECT test.refused($$ INSERT INTO app.line VALUES (9, 2) $$, '42501', 'it adds no row to another tenant''s file');
SELECT test.refused($$ UPDATE app.line SET file = 2 WHERE id = 1 $$, '42501', 'it moves no row there');
SELECT test.refused($$ UPDATE app."File" SET version = '00000000-0000-4000-8000-000000000002' $$, '42501', 'nor what the row stands on');
UPDATE app.line SET words = 'changed';
INSERT INTO app.line VALUES (3, 1, 'new');
DELETE FROM app.line WHERE id = 3;
DELETE FROM app.page;
SELECT is_empty('SELECT FROM app.line', 'a cascade goes all the way');
RESET SESSION AUTHORIZATION;
SELECT results_eq('SELECT id FROM app.line', '{2}'::integer[], 'and no further');
SELECT results_eq($$ SELECT operation, organization, count(*) FROM tenancy.event WHERE table_name = 'line' AND domain = 'line' GROUP BY 1, 2 ORDER BY 1 $$,
    $$ VALUES ('delete', test.acme(), 2::bigint), ('insert', test.acme(), 1), ('update', test.acme(), 1) $$, 'every change is an event of the organization at the end of the way');
ROLLBACK TO SAVEPOINT authorized;

-- Permissions are asked for on the way up and never for what hangs below.
RESET SESSION AUTHORIZATION;
SELECT tenancy.create_role('page_reader'), tenancy.grant_permission('page_reader', 'page', 'read'), tenancy.grant_permission('page_reader', 'version', 'read'), tenancy.set_membership(test.acme(), 'rea', 'page_reader') \g /dev/null
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
CALL test.sign_in('rea');
SELECT results_eq('SELECT count(*) FROM app.page', '{1}'::bigint[], 'who may read pages reads them without a permission for files');
SELECT results_eq('SELECT count(*) FROM app.version', '{1}'::bigint[], 'and versions');
SELECT test.refused('SELECT * FROM app."File"', '42501', '%may not read in domain "file"%', '%', 'but no files');
ROLLBACK TO SAVEPOINT nobody;
RESET SESSION AUTHORIZATION;
SELECT tenancy.grant_permission('page_reader', 'file', 'read'), tenancy.revoke_permission('page_reader', 'page', 'read') \g /dev/null
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
CALL test.sign_in('rea');
SELECT test.refused('SELECT * FROM app."File"', '42501', '%may not read in domain "page"%', '%', 'who may not read the pages may not read what hangs on them');
ROLLBACK TO SAVEPOINT nobody;

-- A DBA's changes find their organization; so does TRUNCATE.
RESET SESSION AUTHORIZATION;
UPDATE app.line SET words = 'by hand' WHERE id = 2;
SELECT is((SELECT organization FROM tenancy.event WHERE table_name = 'line' AND domain = 'line'), test.bolt(), 'that of a DBA''s change is found by the keys');
SAVEPOINT truncated;
TRUNCATE app.line;
SELECT results_eq($$ SELECT organization FROM tenancy.event WHERE table_name = 'line' AND operation = 'truncate' ORDER BY 1 $$, $$ VALUES (test.acme()), (test.bolt()) $$, 'so are those that lose rows to TRUNCATE');
ROLLBACK TO SAVEPOINT truncated;

-- A table on the way that loses its protection leaves those below closed, and drift tells.
SAVEPOINT opened;
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT is(tenancy.unprotect('app.version') > 0, true, 'a table on the way can be unprotected');
SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('ada');
SELECT results_eq('SELECT id FROM app.line ORDER BY 1', '{1}'::integer[], 'the policies of those below name the organization too');
RESET SESSION AUTHORIZATION;
SELECT results_eq('SELECT DISTINCT "table"::text, exposed FROM tenancy.drift() ORDER BY 1', $$ VALUES ('app."File"', true), ('app.line', true) $$, 'which are told of');
ROLLBACK TO SAVEPOINT opened;

-- Ways that lead nowhere.
RESET SESSION AUTHORIZATION;
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.loose (id integer PRIMARY KEY, file integer, of bigint REFERENCES app.page, other integer REFERENCES app.line);
SELECT test.refused($$ SELECT tenancy.protect('app.loose', through => 'file') $$, '42809', '%', '%', 'a column without a foreign key is no way');
ALTER TABLE app.line ADD loose integer REFERENCES app.loose;
SELECT is(tenancy.protect('app.loose', through => 'other') > 0, true, 'any step may follow another');
SELECT is_empty('SELECT * FROM tenancy.drift()', 'and two tables may point at each other');
DO $$
BEGIN
    FOR n IN 1 .. 4 LOOP
        EXECUTE format('CREATE TABLE app.deep_%s (id integer PRIMARY KEY, up integer REFERENCES app.%s)', n, CASE n WHEN 1 THEN 'loose' ELSE 'deep_' || n - 1 END);
    END LOOP;
END
$$;
SELECT is(tenancy.protect('app.deep_1', through => 'up') + tenancy.protect('app.deep_2', through => 'up') > 0, true, 'a way may have six steps');
SELECT test.refused($$ SELECT tenancy.protect('app.deep_3', through => 'up') $$, '42809', '%', '%', 'and no more');
SELECT is_empty($$ SELECT * FROM tenancy.plan('app.deep_2') WHERE state <> 'done' $$, 'the longest is recognized too');

SELECT * FROM finish();
ROLLBACK;
