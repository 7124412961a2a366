-- tenancy.begin_maintenance: for one transaction the owner of tables acts for all organizations.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(57);
SET LOCAL client_min_messages = error;

CREATE ROLE test_other_owner;
GRANT CREATE, USAGE ON SCHEMA app TO test_other_owner;
GRANT tenancy_admin, tenancy_operator TO test_other_owner;
CREATE TABLE app.elsewhere (id integer PRIMARY KEY, organization_id uuid NOT NULL, title text);
ALTER TABLE app.elsewhere OWNER TO test_other_owner;
INSERT INTO app.elsewhere VALUES (1, test.acme(), 'e'), (2, test.bolt(), 'f');
GRANT SELECT, UPDATE ON app.elsewhere TO test_owner;
SELECT tenancy.protect('app.elsewhere') \g /dev/null
SET LOCAL SESSION AUTHORIZATION test_other_owner;
CREATE FUNCTION app.count_elsewhere() RETURNS bigint SECURITY DEFINER LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM app.elsewhere); END $$;
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE VIEW app.titles AS SELECT id, title FROM app.finding;
CREATE VIEW app.invoker WITH (security_invoker = true) AS SELECT id, title FROM app.finding;
CREATE FUNCTION app.count_findings() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM app.finding); END $$;
CREATE MATERIALIZED VIEW app.summary AS SELECT organization_id, count(*) FROM app.finding GROUP BY 1 WITH NO DATA;
CREATE TABLE app.work (id integer PRIMARY KEY, organization_id uuid NOT NULL, done boolean NOT NULL DEFAULT false);
DO $$ BEGIN PERFORM tenancy.protect('app.work', actions => '{"approve": {"columns": ["done"]}}'); END $$;
GRANT SELECT ON app.titles, app.invoker TO test_application;
PREPARE all_findings AS SELECT count(*) FROM app.finding;

-- Without it ---------------------------------------------------------------------------------------------------------------

CREATE TEMP TABLE statements AS SELECT * FROM unnest(ARRAY['SELECT * FROM app.finding', 'EXECUTE all_findings', 'UPDATE app.finding SET severity = 0', 'DELETE FROM app.finding', 'SELECT * FROM app.titles',
    'SELECT * FROM app.invoker', 'SELECT app.count_findings()', 'REFRESH MATERIALIZED VIEW app.summary', 'CREATE TABLE app.copied AS SELECT * FROM app.finding', 'SELECT * INTO app.copied FROM app.finding',
    'CREATE MATERIALIZED VIEW app.more AS SELECT * FROM app.finding', 'MERGE INTO app.finding f USING (VALUES (1)) v (id) ON f.id = v.id WHEN MATCHED THEN UPDATE SET severity = 0']) statement;
SELECT test.refused(statement, '28000', 'no organization is authenticated%', '%tenancy.begin_maintenance(reason)%', 'the owner is told of it: ' || statement) FROM statements;
RESET SESSION AUTHORIZATION;
SELECT test.refused('REFRESH MATERIALIZED VIEW app.summary', '28000', '%', '%tenancy.begin_maintenance(reason)%', 'so is a superuser who refreshes what the owner owns');
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT is_empty(statement, 'without rows nobody is asked for anything: ' || statement) FROM unnest(ARRAY['SELECT * FROM app.finding LIMIT 0', 'SELECT * FROM app.titles LIMIT 0', 'SELECT * FROM app.finding f JOIN app.work w USING (id) LIMIT 0',
    'SELECT (SELECT max(id) FROM app.work), * FROM app.finding FETCH FIRST 0 ROWS ONLY', 'WITH f AS (SELECT * FROM app.finding) SELECT * FROM f LIMIT 0']) statement;
SELECT test.refused('SELECT * FROM app.finding LIMIT 1', '28000', '%', '%', 'control: with rows it is');
SELECT test.refused(format('SELECT tenancy.begin_maintenance(%L)', reason), '22004', '%', '%', 'there is a reason') FROM unnest(ARRAY[NULL, '', '  ']) reason;
SELECT test.refused(format('SELECT tenancy.begin_maintenance(%L)', repeat('x', 1001)), '22023', '%', '%', 'of at most 1000 bytes');
SET LOCAL SESSION AUTHORIZATION test_application;
SELECT test.refused($$ SELECT tenancy.begin_maintenance('I would like to') $$, '42501', '%', '%', 'the application may not begin it');
SET LOCAL SESSION AUTHORIZATION test_owner;
SAVEPOINT nobody;
CALL test.sign_in('bob');
SELECT test.refused($$ SELECT tenancy.begin_maintenance('more than mine') $$, '28000', '%', '%', 'nobody who has an identity');
SELECT tenancy.sign_out() \g /dev/null
SELECT test.refused($$ SELECT tenancy.begin_maintenance('more than mine') $$, '28000', '%', '%', 'or had one in this transaction');
ROLLBACK TO SAVEPOINT nobody;

-- Within it ----------------------------------------------------------------------------------------------------------------

SELECT tenancy.begin_maintenance('TICKET-9: severities from 0') \g /dev/null
SELECT is((SELECT count(*) FROM app.finding), 5::bigint, 'the owner sees the rows of all organizations');
EXECUTE all_findings \gset prepared_
SELECT is(:prepared_count, 5, 'by a statement that was prepared before, too');
SELECT is(app.count_findings(), 5::bigint, 'and in a function');
SELECT is((SELECT count(*) FROM app.titles) + (SELECT count(*) FROM app.invoker), 10::bigint, 'through views');
UPDATE app.finding SET severity = severity - 1;
INSERT INTO app.finding VALUES (6, test.bolt(), 'new', 1);
INSERT INTO app.finding VALUES (6, test.bolt(), 'new', 1) ON CONFLICT (id) DO UPDATE SET title = 'twice';
MERGE INTO app.finding f USING (VALUES (4), (7)) v (id) ON f.id = v.id WHEN MATCHED THEN UPDATE SET severity = 100 WHEN NOT MATCHED THEN INSERT VALUES (v.id, test.acme(), 'merged', 0);
WITH gone AS (DELETE FROM app.finding WHERE id = 7 RETURNING id) INSERT INTO app.work SELECT id, test.acme() FROM gone;
UPDATE app.titles SET title = 'through a view' WHERE id = 5;
UPDATE app.work SET done = true;
COPY app.finding FROM stdin (FORMAT csv);
8,aaaaaaaa-0000-4000-8000-000000000001,copied,4
\.
SELECT results_eq('SELECT id, organization_id, title, severity FROM app.finding ORDER BY id', $$ VALUES (1, test.acme(), 'open bucket', 2), (2, test.acme(), 'old key', 4), (3, test.acme(), 'idle disk', 0),
    (4, test.bolt(), 'bolt''s secret', 100), (5, test.bolt(), 'through a view', 8), (6, test.bolt(), 'twice', 1), (8, test.acme(), 'copied', 4) $$, 'what it does is done for every organization');
SELECT is((SELECT done FROM app.work), true, 'a custom action needs no permission');
SELECT test.refused($$ INSERT INTO app.finding (id, title) VALUES (9, 'whose?') $$, '28000', '%', '%', 'a new row is told its organization');
SELECT test.refused($$ INSERT INTO app.finding VALUES (9, NULL, 'whose?') $$, '23502', 'NULL is none');
SELECT lives_ok('REFRESH MATERIALIZED VIEW app.summary', 'a materialized view is filled');
SELECT is((SELECT sum(count) FROM app.summary), 7::numeric, 'from all organizations');
SELECT lives_ok('CREATE TABLE app.copied AS SELECT * FROM app.finding', 'a table is made');
SELECT is((SELECT count(*) FROM app.copied), 7::bigint, 'of all of them');
DECLARE open CURSOR FOR SELECT id FROM app.finding ORDER BY id;
FETCH 2 FROM open \g /dev/null
FETCH 1 FROM open \gset fetched_
SELECT is(:fetched_id, 3, 'a cursor goes on');
SELECT test.refused('DECLARE kept CURSOR WITH HOLD FOR SELECT * FROM app.finding', '55000', '%', '%', 'and may not stay behind');
SELECT test.refused($$ CALL test.sign_in('bob') $$, '28000', 'this transaction acts for all organizations%', '%', 'no identity comes to it');

-- Not what is somebody else's.
SELECT test.refused('SELECT * FROM app.elsewhere', '28000', '%', '%', 'a table of another owner is not lifted');
SELECT test.refused('SELECT * FROM app.finding JOIN app.elsewhere USING (id)', '28000', '%', '%', 'nor beside one that is');
SELECT test.refused('SELECT app.count_elsewhere()', '28000', '%', '%', 'nor by that owner''s function');
RESET SESSION AUTHORIZATION;
CREATE VIEW app.by_other AS SELECT * FROM app.elsewhere;
ALTER VIEW app.by_other OWNER TO test_other_owner;
GRANT SELECT ON app.by_other TO test_owner;
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT test.refused('SELECT * FROM app.by_other', '28000', '%', '%', 'nor by that owner''s view');
RESET SESSION AUTHORIZATION;
SET LOCAL SESSION AUTHORIZATION test_application;
SELECT test.refused('SELECT * FROM app.finding', '28000', '%', '%', 'another role has nothing of it');
RESET SESSION AUTHORIZATION;
GRANT test_other_owner TO test_owner;
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT is((SELECT count(*) FROM app.elsewhere), 2::bigint, 'a member of the owner has its rights');
RESET SESSION AUTHORIZATION;
REVOKE test_other_owner FROM test_owner;

-- What is left of it.
SELECT results_eq($$ SELECT organization, operation, domain, reason, payload -> 'new' ->> 'role' FROM tenancy.event WHERE operation = 'maintenance' $$,
    $$ VALUES ('00000000-0000-0000-0000-000000000000'::uuid, 'maintenance', 'operator', 'TICKET-9: severities from 0', 'test_owner') $$, 'the beginning is an event');
SELECT results_eq($$ SELECT e.organization, e.operation, count(*) FROM tenancy.event e JOIN tenancy.event_actor a ON a.id = e.actor
                     WHERE a.method = 'maintenance' AND a.reason = 'TICKET-9: severities from 0' AND e.table_name = 'finding' AND e.row_key IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2 $$,
    $$ VALUES (test.acme(), 'delete', 1::bigint), (test.acme(), 'insert', 2), (test.acme(), 'update', 3), (test.bolt(), 'insert', 1), (test.bolt(), 'update', 5) $$, 'every row is in the audit, under its organization, with the reason');
SET LOCAL SESSION AUTHORIZATION test_owner;
ROLLBACK TO SAVEPOINT nobody;
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT test.refused('SELECT * FROM app.finding', '28000', '%', '%', 'a rollback to a savepoint ends it');
SELECT test.refused('EXECUTE all_findings', '28000', '%', '%', 'for what was planned in it as well');
SELECT test.refused('SELECT app.count_findings()', '28000', '%', '%', 'and inside of functions');
SAVEPOINT inner_scope;
SELECT tenancy.begin_maintenance('released') \g /dev/null
RELEASE SAVEPOINT inner_scope;
SELECT is((SELECT count(*) FROM app.finding), 5::bigint, 'a released savepoint keeps it');
ROLLBACK TO SAVEPOINT nobody;

-- Superusers.
RESET SESSION AUTHORIZATION;
SELECT tenancy.set_guardrail('row_security_bypass', 'enforce', 'test') \g /dev/null
SELECT test.refused('SELECT * FROM app.finding', '42501', '%', '%', 'a superuser whom the guardrail refuses');
SELECT tenancy.begin_maintenance('by a superuser') \g /dev/null
SELECT is((SELECT count(*) FROM app.finding), 5::bigint, 'has said why');
SELECT lives_ok('REFRESH MATERIALIZED VIEW app.summary', 'and refreshes what the owner owns');
SELECT is((SELECT sum(count) FROM app.summary), 5::numeric, 'with all rows');

SELECT * FROM finish();
ROLLBACK;
