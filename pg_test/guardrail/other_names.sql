-- Organization columns of other names: found by use, named once for a schema, known to guardrail and advisor.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(30);
GRANT CREATE ON DATABASE :"DBNAME" TO test_owner;
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE FUNCTION pg_temp.protected(name text) RETURNS text LANGUAGE sql AS $$
    SELECT p.organization_column FROM tenancy.protected_tables() p WHERE p."table" = to_regclass(name)
$$;

-- One known name in most tables, and the table that it points at.
CREATE SCHEMA one;
CREATE TABLE one.team (id uuid PRIMARY KEY, name text);
CREATE TABLE one.doc (id uuid PRIMARY KEY, "teamId" uuid NOT NULL REFERENCES one.team ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE one.page (id uuid PRIMARY KEY, "teamId" uuid NOT NULL REFERENCES one.team, doc uuid REFERENCES one.doc);
SELECT results_eq($$ SELECT * FROM tenancy.organization_columns('one') $$, $$ VALUES ('teamId'::text, 2::bigint, true) $$, 'a column is found by use');
SELECT results_eq($$ SELECT object, severity, remediation FROM tenancy.advise() WHERE object LIKE 'one.%' ORDER BY 1 $$,
    $$ VALUES ('one.doc', 'error', 'SELECT tenancy.protect(''one.doc'', organization_column => ''teamId'')'), ('one.page', 'error', 'SELECT tenancy.protect(''one.page'', organization_column => ''teamId'')') $$,
    'the advisor finds the tables of a schema where nothing is protected');
SELECT test.same($$ SELECT "table"::text, steps > 0, problem FROM tenancy.protect_schema('one') $$,
    $$ VALUES ('one.doc', true, NULL), ('one.page', true, NULL), ('one.team', true, NULL) $$, 'protect_schema protects them and the table of tenants');
SELECT is(pg_temp.protected('one.team'), 'id', 'that by its key');
SELECT is((SELECT organization_column FROM tenancy.protected_schema WHERE schema_name = 'one'), 'teamId', 'the name is remembered');
SELECT is_empty($$ SELECT "table" FROM tenancy.protect_schema('one') WHERE steps > 0 OR problem IS NOT NULL $$, 'a second time there is nothing to do');
SELECT is_empty($$ SELECT * FROM tenancy.advise('error') WHERE object LIKE 'one.%' $$, 'and the advisor has no error');
CREATE TABLE one.later (id uuid PRIMARY KEY, "teamId" uuid NOT NULL);
SELECT is(pg_temp.protected('one.later'), NULL, 'a table that comes is warned of');
SELECT results_eq($$ SELECT rule, remediation FROM tenancy.advise('error') WHERE object = 'one.later' $$, $$ VALUES ('unprotected_table', 'SELECT tenancy.protect(''one.later'')') $$, 'and found');
SELECT tenancy.set_guardrail('new_tables', 'enforce', 'test') \g /dev/null
CREATE TABLE one.latest (id uuid PRIMARY KEY, "teamId" uuid NOT NULL, tenant_id uuid);
SELECT is(pg_temp.protected('one.latest'), 'teamId', 'or protected, by the column of the schema');
SELECT is(tenancy.protect('one.latest'), 0, 'completely');
ALTER SCHEMA one RENAME TO renamed;
CREATE TABLE renamed.more (id uuid PRIMARY KEY, "teamId" uuid NOT NULL);
SELECT is(pg_temp.protected('renamed.more'), 'teamId', 'also where the schema has another name now');
SELECT tenancy.set_guardrail('new_tables', 'warn', 'test') \g /dev/null

-- Named by the caller.
CREATE SCHEMA two;
CREATE TABLE two.a (id integer PRIMARY KEY, owner_key text NOT NULL);
CREATE TABLE two.b (id integer PRIMARY KEY);
SELECT results_eq($$ SELECT "table"::text, steps, problem LIKE 'no table of schema "two" has an organization column%organization_column => ...)' FROM tenancy.protect_schema('two') $$,
    $$ VALUES (NULL::text, 0, true) $$, 'a schema where nothing is found says so');
SELECT results_eq($$ SELECT "table"::text, steps > 0, problem FROM tenancy.protect_schema('two', organization_column => 'owner_key') $$, $$ VALUES ('two.a', true, NULL::text) $$, 'a name that is given is taken');
SELECT tenancy.set_guardrail('new_tables', 'enforce', 'test') \g /dev/null
CREATE TABLE two.later (owner_key text NOT NULL);
SELECT is(pg_temp.protected('two.later'), 'owner_key', 'by the guardrail too');
SELECT tenancy.set_guardrail('new_tables', 'warn', 'test') \g /dev/null
SELECT tenancy.unprotect_schema('two') \g /dev/null
CREATE TABLE two.other (owner_key text NOT NULL);
SELECT results_eq($$ SELECT rule, remediation FROM tenancy.advise('error') WHERE object = 'two.other' $$,
    $$ VALUES ('unprotected_table', 'SELECT tenancy.protect(''two.other'', organization_column => ''owner_key'')') $$, 'a table with the column that others are protected by is a finding');

-- A column that many tables have and that no one knows is asked about.
CREATE SCHEMA three;
CREATE TABLE three.person (id integer PRIMARY KEY);
CREATE TABLE three.a (made_by integer NOT NULL REFERENCES three.person);
CREATE TABLE three.b (made_by integer NOT NULL REFERENCES three.person);
SELECT results_eq($$ SELECT * FROM tenancy.organization_columns('three') $$, $$ VALUES ('made_by'::text, 2::bigint, false) $$, 'a column that points at one table could be meant');
SELECT results_eq($$ SELECT "table"::text, problem LIKE '%(made_by is in most of them)%' FROM tenancy.protect_schema('three') $$, $$ VALUES (NULL::text, true) $$, 'and is named, not chosen');
SELECT is(pg_temp.protected('three.a'), NULL, 'nothing is protected by it');
SELECT is_empty($$ SELECT * FROM tenancy.advise('error') WHERE object LIKE 'three.%' $$, 'the advisor does not take it for one');

-- Two candidates.
CREATE SCHEMA four;
CREATE TABLE four.a (account_id uuid NOT NULL, workspace_id uuid NOT NULL);
CREATE TABLE four.b (account_id uuid NOT NULL, workspace_id uuid NOT NULL);
SELECT test.refused($$ SELECT * FROM tenancy.protect_schema('four') $$, '42702', 'tables of schema "four" have the columns account_id and workspace_id: which is the organization?', '%tenancy.protect_schema(''four'', organization_column => ...)%', 'of two names in a schema none is chosen');
SELECT results_eq($$ SELECT object, remediation LIKE '-- say which%' FROM tenancy.advise('error') WHERE object LIKE 'four.%' ORDER BY 1 $$, $$ VALUES ('four.a', true), ('four.b', true) $$, 'nor by the advisor');
SELECT results_eq($$ SELECT "table"::text, problem FROM tenancy.protect_schema('four', 'workspace_id') $$, $$ VALUES ('four.a', NULL::text), ('four.b', NULL) $$, 'the one that is named is taken');
SELECT is(pg_temp.protected('four.b'), 'workspace_id', 'and no other');
CREATE SCHEMA five;
CREATE TABLE five.a (tenant_id uuid NOT NULL, organization_id uuid NOT NULL);
CREATE TABLE five.b (tenant_id uuid NOT NULL);
SELECT results_eq($$ SELECT "table"::text, problem FROM tenancy.protect_schema('five') $$,
    $$ VALUES ('five.a', 'table five.a has the columns organization_id and tenant_id: which is the organization?'), ('five.b', NULL) $$, 'of two usual names in a table none is chosen');
SELECT is(pg_temp.protected('five.a'), NULL, 'the table is left as it was');
SELECT is((SELECT count(*) FROM tenancy.plan('five.a', 'tenant_id')) > 0, true, 'and can be protected by name');
SELECT tenancy.set_guardrail('new_tables', 'enforce', 'test') \g /dev/null
CREATE TABLE five.c (tenant_id uuid NOT NULL, organization_id uuid NOT NULL);
SELECT is(pg_temp.protected('five.c'), NULL, 'the guardrail chooses none either, and waits until the commit');
SELECT tenancy.protect('five.c', 'organization_id') \g /dev/null
SELECT is(pg_temp.protected('five.c'), 'organization_id', 'for a call that names it');
SELECT is_empty($$ SELECT * FROM tenancy.drift() $$, 'after all this nothing has drifted');
RESET SESSION AUTHORIZATION;
SELECT * FROM finish();
ROLLBACK;
