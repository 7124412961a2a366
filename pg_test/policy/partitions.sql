-- Partitions and inheritance children: protected however they are named, and whenever they come.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(39);
SET LOCAL SESSION AUTHORIZATION test_owner;

CREATE TABLE app.cost (id integer, organization_id uuid NOT NULL, day date NOT NULL, cents integer, PRIMARY KEY (id, day, organization_id)) PARTITION BY RANGE (day);
CREATE TABLE app.cost_2025 PARTITION OF app.cost FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE app.cost_2026 PARTITION OF app.cost FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY LIST (organization_id);
CREATE TABLE app.cost_2026_acme PARTITION OF app.cost_2026 FOR VALUES IN ('aaaaaaaa-0000-4000-8000-000000000001');
CREATE TABLE app.cost_2026_rest PARTITION OF app.cost_2026 DEFAULT;
INSERT INTO app.cost VALUES (1, test.acme(), '2025-06-01', 10), (2, test.acme(), '2026-06-01', 20), (3, test.bolt(), '2025-06-01', 30), (4, test.bolt(), '2026-06-01', 40);
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON app.cost, app.cost_2025, app.cost_2026, app.cost_2026_acme, app.cost_2026_rest TO test_application;

SELECT test.refused($$ SELECT tenancy.protect('app.cost_2025') $$, '42809', '%is part of app.cost%', '%', 'a partition alone cannot be protected');
CREATE TEMP TABLE planned AS SELECT * FROM tenancy.plan('app.cost');
SELECT is(tenancy.protect('app.cost'), (SELECT count(*)::integer FROM planned WHERE state = 'todo'), 'a partitioned table is protected with its partitions');
SELECT is(tenancy.protect('app.cost'), 0, 'and all is done');
SELECT is((SELECT count(*) FROM pg_policy WHERE polrelid IN (SELECT relid FROM pg_partition_tree('app.cost'))), 40::bigint, 'each of the five has its policies');
SELECT is((SELECT count(*) FROM pg_class WHERE oid IN (SELECT relid FROM pg_partition_tree('app.cost')) AND relrowsecurity AND relforcerowsecurity), 5::bigint, 'enabled and forced');
SELECT is_empty($$ SELECT FROM pg_trigger WHERE tgrelid IN (SELECT relid FROM pg_partition_tree('app.cost')) AND NOT tgisinternal AND tgenabled <> 'A' $$, 'each trigger fires always, clones too');
SELECT is((SELECT count(*) FROM pg_inherits i JOIN pg_index x ON x.indexrelid = i.inhrelid WHERE i.inhparent = 'app.cost_tenancy_idx'::regclass), 2::bigint, 'the index is one of the partitioned table');

SET LOCAL SESSION AUTHORIZATION test_application;
SELECT test.refused(format('SELECT * FROM %s', relid), '28000', 'without a context refused: ' || relid) FROM pg_partition_tree('app.cost');
SAVEPOINT nobody;
CALL test.sign_in('ada');
SELECT results_eq('SELECT id FROM app.cost ORDER BY 1', '{1,2}'::integer[], 'a tenant sees its rows in the whole');
SELECT results_eq('SELECT id FROM app.cost_2025', '{1}'::integer[], 'and in a partition by its name');
SELECT results_eq('SELECT id FROM app.cost_2026', '{2}'::integer[], 'and in a partition of partitions');
SELECT is_empty('SELECT FROM app.cost_2026_rest', 'and none where it has none');
SELECT test.refused($$ INSERT INTO app.cost_2025 VALUES (9, test.bolt(), '2025-01-01') $$, '42501', 'it adds none of another tenant to a partition');
SELECT test.refused($$ TRUNCATE app.cost_2025 $$, '42501', 'nor truncates one');
SELECT test.refused($$ TRUNCATE app.cost $$, '42501', 'nor all');
INSERT INTO app.cost (id, day) VALUES (5, '2025-02-02'), (6, '2026-02-02');
INSERT INTO app.cost_2025 (id, day) VALUES (7, '2025-03-03');
SELECT is((SELECT count(*) FROM app.cost WHERE organization_id = test.acme()), 5::bigint, 'new rows are its own');
UPDATE app.cost SET day = day + 365 WHERE id = 5;
SELECT is((SELECT tableoid::regclass::text FROM app.cost WHERE id = 5), 'app.cost_2026_acme', 'a row may move to another partition');
DELETE FROM app.cost WHERE id = 6;
RESET SESSION AUTHORIZATION;
SELECT results_eq($$ SELECT operation, table_name, count(*) FROM tenancy.event WHERE table_name LIKE 'cost%' AND domain <> 'schema' GROUP BY 1, 2 ORDER BY 1, 2 $$,
    $$ VALUES ('delete', 'cost_2025', 1::bigint), ('delete', 'cost_2026_acme', 1), ('insert', 'cost_2025', 2), ('insert', 'cost_2026_acme', 2) $$,
    'every change is an event of the partition it was in, once');
ROLLBACK TO SAVEPOINT nobody;

-- Partitions that come and go.
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.cost_2027 PARTITION OF app.cost FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
SELECT is(tenancy.protect('app.cost'), 0, 'a partition made later is protected with the rest');
CREATE TABLE app.cost_2028 (id integer NOT NULL, organization_id uuid NOT NULL, day date NOT NULL, cents integer);
SELECT is(tenancy.protect('app.cost_2028') > 0, true, 'a table that was protected by itself');
ALTER TABLE app.cost ATTACH PARTITION app.cost_2028 FOR VALUES FROM ('2028-01-01') TO ('2029-01-01');
SELECT is(tenancy.protect('app.cost'), 0, 'can be attached');
SELECT is((SELECT array_agg(tgname ORDER BY tgname) FROM pg_trigger WHERE tgrelid = 'app.cost_2028'::regclass AND NOT tgisinternal),
          '{tenancy_audit_of_partitions,tenancy_audit_truncate}'::name[], 'and writes each event once');
ALTER TABLE app.cost DETACH PARTITION app.cost_2028;
SELECT is(tenancy.protect('app.cost_2028'), 0, 'and detached, and is protected by itself again');
SELECT is((SELECT array_agg(tgname ORDER BY tgname) FROM pg_trigger WHERE tgrelid = 'app.cost_2028'::regclass AND NOT tgisinternal),
          '{tenancy_audit,tenancy_audit_truncate}'::name[], 'with a trigger of its own');

SELECT is(tenancy.unprotect('app.cost') > 0, true, 'the protection can be taken back');
SELECT is_empty($$ SELECT FROM pg_policy WHERE polrelid IN (SELECT relid FROM pg_partition_tree('app.cost')) $$, 'with every policy');
SELECT is_empty($$ SELECT FROM pg_trigger WHERE tgrelid IN (SELECT relid FROM pg_partition_tree('app.cost')) AND NOT tgisinternal $$, 'with every trigger');
SELECT is_empty($$ SELECT FROM pg_class WHERE oid IN (SELECT relid FROM pg_partition_tree('app.cost')) AND (relrowsecurity OR relforcerowsecurity) $$, 'and row-level security');
SELECT is_empty($$ SELECT FROM pg_index WHERE indrelid IN (SELECT relid FROM pg_partition_tree('app.cost')) AND indkey[0] = 2 $$, 'and the index');
SELECT is(tenancy.protect('app.cost') > 0 AND tenancy.protect('app.cost') = 0, true, 'and made anew');

-- Inheritance.
CREATE TABLE app.resource (id integer PRIMARY KEY, organization_id uuid NOT NULL);
CREATE TABLE app.bucket (name text) INHERITS (app.resource);
INSERT INTO app.resource VALUES (1, test.acme()), (2, test.bolt());
INSERT INTO app.bucket VALUES (3, test.acme(), 'a'), (4, test.bolt(), 'b');
GRANT SELECT, INSERT ON app.resource, app.bucket TO test_application;
SELECT test.refused($$ SELECT tenancy.protect('app.bucket') $$, '42809', '%is part of app.resource%', '%', 'a child alone cannot be protected');
SELECT is(tenancy.protect('app.resource') > 0 AND tenancy.protect('app.resource') = 0, true, 'a parent is protected with its children');
SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('ada');
SELECT results_eq('SELECT id FROM app.resource ORDER BY 1', '{1,3}'::integer[], 'a tenant sees its rows through the parent');
SELECT results_eq('SELECT id FROM app.bucket ORDER BY 1', '{3}'::integer[], 'and in the child');
INSERT INTO app.bucket VALUES (5);
RESET SESSION AUTHORIZATION;
SELECT is((SELECT count(*) FROM tenancy.event WHERE table_name = 'bucket' AND organization = test.acme()), 1::bigint, 'and its changes are events');

SELECT * FROM finish();
ROLLBACK;
