-- The advisor is right or silent: what it prints works on the schema that has the finding, and what is nobody's business is left alone.
BEGIN;
\ir ../helpers/fixture.sql
\ir ../helpers/leak.sql
SELECT plan(63);
SET LOCAL client_min_messages = error;
SET LOCAL tenancy.override_reason = 'leaks to be found';

SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.shared (id integer PRIMARY KEY, organization_id uuid, n numeric);
CREATE TABLE app.nobody (id integer PRIMARY KEY, organization_id uuid, UNIQUE (id, organization_id));
CREATE TABLE app.pair (a integer, b integer, organization_id uuid NOT NULL, PRIMARY KEY (a, b));
CREATE TABLE app.note (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), organization_id uuid NOT NULL, price numeric UNIQUE, mood text);
INSERT INTO app.shared VALUES (1, test.acme()), (2, NULL);
INSERT INTO app.nobody VALUES (1, test.acme()), (2, NULL);
INSERT INTO app.pair VALUES (1, 1, test.acme()), (2, 2, test.bolt());
SELECT tenancy.protect('app.shared', null_rows => 'shared'), tenancy.protect('app.nobody', null_rows => 'nobody'), tenancy.protect('app.pair'), tenancy.protect('app.note') \g /dev/null
RESET SESSION AUTHORIZATION;

SELECT test.leak(rule, leak, object, severity) FROM (VALUES
    -- Children of parents whose organization may be NULL, of parents with two key columns, and of partitioned tables.
    ('child_table_without_column', 'CREATE TABLE app.child (id integer PRIMARY KEY, up integer REFERENCES app.shared); INSERT INTO app.child VALUES (1, 1), (2, 2), (3, NULL)', 'app.child', 'warning'),
    ('child_table_without_column', 'CREATE TABLE app.child (id integer PRIMARY KEY, up integer REFERENCES app.nobody); INSERT INTO app.child VALUES (1, 1), (2, 2), (3, NULL)', 'app.child', 'warning'),
    ('child_table_without_column', 'CREATE TABLE app.child (a integer, b integer, FOREIGN KEY (a, b) REFERENCES app.pair); INSERT INTO app.child VALUES (1, 1), (2, 2)', 'app.child', 'warning'),
    ('child_table_without_column', 'CREATE TABLE app.child (id integer, up uuid REFERENCES app.note) PARTITION BY RANGE (id)', 'app.child', 'warning'),
    ('foreign_key_across_tenants', 'CREATE TABLE app.child (id integer PRIMARY KEY, organization_id uuid NOT NULL, up integer); INSERT INTO app.child VALUES (1, test.acme(), 1), (2, test.acme(), 2);
         SELECT tenancy.protect(''app.child''); ALTER TABLE app.child ADD CONSTRAINT up FOREIGN KEY (up) REFERENCES app.shared', 'app.child.up', 'warning'),
    ('foreign_key_across_tenants', 'CREATE TABLE app.child (id integer PRIMARY KEY, organization_id uuid NOT NULL, up integer); INSERT INTO app.child VALUES (1, test.acme(), 1);
         SELECT tenancy.protect(''app.child''); ALTER TABLE app.child ADD CONSTRAINT up FOREIGN KEY (up) REFERENCES app.nobody ON DELETE CASCADE', 'app.child.up', 'error'),
    ('foreign_key_across_tenants', 'CREATE TABLE app.child (id integer PRIMARY KEY, organization_id text NOT NULL, up integer); INSERT INTO app.child VALUES (1, ''acme'', 1);
         SELECT tenancy.protect(''app.child''); ALTER TABLE app.child ADD CONSTRAINT up FOREIGN KEY (up) REFERENCES app.finding', 'app.child.up', 'warning'),
    ('foreign_key_across_tenants', 'CREATE TABLE app.child (id integer PRIMARY KEY, finding integer REFERENCES app.finding, up integer); INSERT INTO app.child VALUES (1, 1, 2);
         SELECT tenancy.protect(''app.child'', through => ''finding''); ALTER TABLE app.child ADD CONSTRAINT up FOREIGN KEY (up) REFERENCES app.finding', 'app.child.up', 'warning'),
    ('nullable_organization_column', 'ALTER TABLE app.note ALTER organization_id DROP NOT NULL; INSERT INTO app.note (organization_id) VALUES (NULL)', 'app.note', 'warning'),
    ('unprotected_table', 'CREATE TABLE app.doc (tenant_id smallint); INSERT INTO app.doc VALUES (NULL), (1)', 'app.doc', 'error'),
    -- A key that was dropped altogether.
    ('drift', 'CREATE TABLE app.child (id integer PRIMARY KEY, organization_id uuid NOT NULL, up uuid CONSTRAINT up REFERENCES app.note);
         SELECT tenancy.protect(''app.child''); ALTER TABLE app.child DROP CONSTRAINT up', 'app.child', 'warning')
) AS v (rule, leak, object, severity);

-- Where no statement would do, the words say what to do and nothing fails that is printed as SQL.
CREATE FUNCTION pg_temp.printed(wanted text, leak text, about text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE found text;
BEGIN
    BEGIN
        EXECUTE leak;
        SELECT format('%s: %s %s', a.severity, count(*), CASE WHEN min(a.remediation) LIKE '--%' THEN 'in words' ELSE 'in SQL' END) INTO found
          FROM tenancy.advise() a WHERE a.rule = wanted AND a.object = about GROUP BY a.severity;
        RAISE EXCEPTION USING ERRCODE = 'ZZ999';
    EXCEPTION WHEN SQLSTATE 'ZZ999' THEN RETURN found;
    END;
END
$$;
SELECT is(pg_temp.printed('unique_across_tenants', 'CREATE TABLE app.outside (n numeric REFERENCES app.note (price))', 'app.note_price_key'), 'warning: 1 in words', 'a key that a foreign key points at');
SELECT is(pg_temp.printed('several_organization_columns', 'CREATE TABLE app.two (org_id uuid NOT NULL, tenant_id uuid NOT NULL)', 'app.two'), 'info: 1 in words', 'of two columns none is chosen');
SELECT is(pg_temp.printed('unprotected_table', 'CREATE TABLE app.two (org_id uuid NOT NULL, tenant_id uuid NOT NULL)', 'app.two'), 'error: 1 in words', 'nor where the table is found unprotected');
SELECT is(pg_temp.printed('index_lost_not_leakproof', 'CREATE TABLE app.outside (n numeric REFERENCES app.note (price)); CREATE INDEX by_price ON app.note (organization_id, price)', 'app.by_price'), 'info: 1 in words', 'a column that another points at');
SELECT is(pg_temp.printed('index_lost_not_leakproof', 'CREATE TABLE app.outside (n numeric PRIMARY KEY); ALTER TABLE app.shared ADD FOREIGN KEY (n) REFERENCES app.outside; CREATE INDEX by_n ON app.shared (organization_id, n)', 'app.by_n'), 'info: 1 in words', 'a column that points at another');
SELECT is(pg_temp.printed('index_lost_not_leakproof', 'CREATE VIEW app.seen WITH (security_invoker) AS SELECT n FROM app.shared; CREATE INDEX by_n ON app.shared (organization_id, n)', 'app.by_n'), 'info: 1 in words', 'a column that a view shows');
SELECT is(pg_temp.printed('unique_across_tenants', 'DO $do$ BEGIN FOR n IN 1 .. 9 LOOP EXECUTE format(''CREATE TABLE app.t%s (id text PRIMARY KEY, org_id uuid NOT NULL)'', n); PERFORM tenancy.protect(format(''app.t%s'', n)::regclass); END LOOP; END $do$', 'schema app'),
    'info: 1 in words', 'the ids of text of a schema are one finding');
SELECT is(pg_temp.printed('foreign_key_across_tenants', 'CREATE TABLE app.child (id integer PRIMARY KEY, up integer REFERENCES app.finding, a integer, b integer); SELECT tenancy.protect(''app.child'', through => ''up''); ALTER TABLE app.child ADD CONSTRAINT ab FOREIGN KEY (a, b) REFERENCES app.pair', 'app.child.ab'),
    'warning: 1 in words', 'a key of two columns that cannot carry the organization');

SELECT is(pg_temp.printed('unprotected_table', 'CREATE TABLE app.team (id numeric PRIMARY KEY); CREATE TABLE app.doc (tenant_id numeric NOT NULL REFERENCES app.team)', 'app.doc'), 'error: 1 in words', 'an organization column of another type that is linked to a second one');

-- A good schema with ids of text has no warnings.
SAVEPOINT good;
DO $$
BEGIN
    DROP TABLE app.note, app.pair, app.nobody, app.shared;
    FOR n IN 1 .. 9 LOOP
        EXECUTE format('CREATE TABLE app.t%s (id text PRIMARY KEY, org_id uuid NOT NULL, up text REFERENCES app.t%s)', n, greatest(n - 1, 1));
        PERFORM tenancy.protect(format('app.t%s', n)::regclass);
    END LOOP;
END
$$;
SELECT is_empty($$ SELECT key, detail FROM tenancy.advise('warning') WHERE (object LIKE 'app.%' OR object LIKE 'schema%') AND object <> 'app.finding_pkey' $$, 'a good schema with ids of text has none');
ROLLBACK TO SAVEPOINT good;

-- No finding has a line break, whatever the names.
SAVEPOINT lines;
CREATE TABLE app."a
b" (id integer, org_id uuid NOT NULL);
CREATE FUNCTION app."f
g"() RETURNS integer LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
ALTER TABLE app.note ADD CONSTRAINT "two
lines" UNIQUE (mood);
ALTER TABLE app.pair DISABLE TRIGGER tenancy_audit;
CREATE TABLE app.step (id integer PRIMARY KEY, finding integer REFERENCES app.finding);
SELECT tenancy.protect('app.step', through => 'finding') \g /dev/null
ALTER POLICY tenancy_isolation ON app.step USING (true);
SELECT is((SELECT count(*) > 3 FROM tenancy.advise()), true, 'there are findings');
SELECT is_empty($$ SELECT rule, detail FROM tenancy.advise() WHERE detail ~ '[\n\r]' OR why ~ '[\n\r]' $$, 'and no detail of them has a line break');
SELECT is_empty($$ SELECT problem FROM tenancy.drift() WHERE problem ~ '[\n\r]' $$, 'nor what is adrift');
ROLLBACK TO SAVEPOINT lines;

-- A key that was dropped and one that was renamed.
SAVEPOINT dropped;
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.child (id integer PRIMARY KEY, organization_id uuid NOT NULL, up uuid CONSTRAINT up REFERENCES app.note, side integer CONSTRAINT side REFERENCES app.finding);
RESET SESSION AUTHORIZATION;
SELECT tenancy.protect('app.child') \g /dev/null
SELECT is_empty('SELECT * FROM tenancy.drift()', 'a table with keys that carry the organization is whole');
ALTER TABLE app.child DROP CONSTRAINT up, DROP CONSTRAINT side;
SELECT results_eq($$ SELECT "table"::text, exposed, problem LIKE '%"side", "up"%is gone%' FROM tenancy.drift() $$, $$ VALUES ('app.child', false, true) $$, 'drift names those that were dropped');
ALTER TABLE app.child ADD CONSTRAINT up FOREIGN KEY (up) REFERENCES app.note, ADD CONSTRAINT side FOREIGN KEY (side) REFERENCES app.finding;
SELECT tenancy.protect('app.child') \g /dev/null
SELECT is_empty('SELECT * FROM tenancy.drift()', 'added again, nothing is missing');
SELECT tenancy.unprotect('app.note') \g /dev/null
ALTER TABLE app.child DROP CONSTRAINT up;
SELECT is_empty('SELECT * FROM tenancy.drift()', 'a plain key to a table that is no longer protected may go');
SELECT tenancy.unprotect('app.child') \g /dev/null
ALTER TABLE app.child ADD CONSTRAINT up FOREIGN KEY (up) REFERENCES app.note;
SELECT tenancy.protect('app.child'), tenancy.protect('app.note') \g /dev/null
SELECT is_empty('SELECT * FROM tenancy.drift()', 'a key that became composite with the table it points at is remembered without drift');
ALTER TABLE app.child DROP CONSTRAINT up;
SELECT is((SELECT count(*) FROM tenancy.drift() WHERE "table" = 'app.child'::regclass), 1::bigint, 'and missed when it is dropped');
ROLLBACK TO SAVEPOINT dropped;

-- Temporary tables are nobody's business, however many inherit from each other.
SAVEPOINT temporary;
DO $$
BEGIN
    CREATE TEMP TABLE level_0a (org_id uuid NOT NULL);
    CREATE TEMP TABLE level_0b (org_id uuid NOT NULL);
    FOR n IN 1 .. 24 LOOP
        EXECUTE format('CREATE TEMP TABLE level_%sa () INHERITS (level_%sa, level_%sb)', n, n - 1, n - 1);
        EXECUTE format('CREATE TEMP TABLE level_%sb () INHERITS (level_%sa, level_%sb)', n, n - 1, n - 1);
    END LOOP;
END
$$;
CREATE POLICY tenancy_isolation ON level_0a USING (true);
COMMENT ON POLICY tenancy_isolation ON level_0a IS 'Made by tenancy.protect; tenancy.unprotect takes it back. Before: {"column":"org_id","domain":"x","index":null,"previous_default":null,"row_security":false,"force_row_security":false}';
CREATE TEMP VIEW all_notes AS SELECT * FROM app.note;
CREATE TEMP TABLE heir () INHERITS (app.note);
SET LOCAL statement_timeout = '60s';
SELECT is_empty($$ SELECT * FROM tenancy.drift() $$, 'drift leaves temporary tables alone');
SELECT is_empty($$ SELECT rule, object FROM tenancy.advise() WHERE object LIKE 'pg_temp%' $$, 'so does the advisor');
SELECT is_empty($$ SELECT "table" FROM tenancy.protected_tables() WHERE "table"::text LIKE 'level%' $$, 'no temporary table is protected');
SELECT is(tenancy.protect('app.note'), 0, 'and a temporary child keeps no table from being protected');
-- The same of permanent tables is protected in time.
DO $$
BEGIN
    CREATE TABLE app.level_0a (org_id uuid NOT NULL);
    CREATE TABLE app.level_0b (org_id uuid NOT NULL);
    FOR n IN 1 .. 24 LOOP
        EXECUTE format('CREATE TABLE app.level_%sa () INHERITS (app.level_%sa, app.level_%sb)', n, n - 1, n - 1);
        EXECUTE format('CREATE TABLE app.level_%sb () INHERITS (app.level_%sa, app.level_%sb)', n, n - 1, n - 1);
    END LOOP;
END
$$;
SELECT is((SELECT count(*) FROM tenancy.plan('app.level_0a')) > 400, true, 'a plan of as many permanent ones has each once');
RESET statement_timeout;
ROLLBACK TO SAVEPOINT temporary;

-- Policies of our names without what protect remembers are somebody else's.
SAVEPOINT theirs;
CREATE TABLE app.theirs (id integer, owner text);
ALTER TABLE app.theirs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenancy_isolation ON app.theirs USING (owner = current_user);
CREATE POLICY tenancy_read ON app.theirs USING (owner = current_user);
CREATE FUNCTION app.quiet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER tenancy_audit AFTER INSERT ON app.theirs EXECUTE FUNCTION app.quiet();
RESET tenancy.override_reason;
SELECT is_empty($$ SELECT * FROM tenancy.drift() $$, 'drift leaves them alone');
SELECT is_empty($$ SELECT rule FROM tenancy.advise() WHERE object LIKE 'app.theirs%' $$, 'so does the advisor');
SELECT lives_ok($$ ALTER POLICY tenancy_isolation ON app.theirs USING (true); DROP POLICY tenancy_read ON app.theirs; DROP TRIGGER tenancy_audit ON app.theirs;
                   ALTER TABLE app.theirs NO FORCE ROW LEVEL SECURITY $$, 'and so does the guard');
ROLLBACK TO SAVEPOINT theirs;

-- A schema keeps its guardrail under another name.
SELECT tenancy.protect_schema('app'), tenancy.set_guardrail('new_tables', 'enforce', 'this test'), tenancy.exclude('app.pair', 'the same for all') \g /dev/null
ALTER SCHEMA app RENAME TO renamed;
SELECT is((SELECT string_agg(schema_name, ',') FROM tenancy.protected_schema), 'renamed', 'a schema keeps its guardrail under another name');
SELECT is((SELECT string_agg("table"::text, ',') FROM tenancy.exclusions()), 'renamed.pair', 'and what was excluded in it stays so');
RESET tenancy.override_reason;
CREATE TABLE renamed.late (id integer, org_id uuid NOT NULL);
SELECT is((SELECT relrowsecurity FROM pg_class WHERE oid = 'renamed.late'::regclass), true, 'a table that comes later is protected');

SELECT * FROM finish();
ROLLBACK;
