-- Tables whose organization is a text or a number: every change finds its organization, with a context and without.
BEGIN;
\ir ../helpers/fixture.sql
-- Rows of other organizations under a context: how they are captured, not whether they may be changed.
SELECT tenancy.set_guardrail('cross_tenant_change', 'off', 'a superuser changes rows of all') \g /dev/null
SELECT plan(24);

CREATE TABLE app.by_text (id integer PRIMARY KEY, organization_id text NOT NULL);
CREATE TABLE app.by_varchar (id integer PRIMARY KEY, org_id varchar(40) NOT NULL);
CREATE TABLE app.by_integer (id integer PRIMARY KEY, tenant_id integer NOT NULL);
CREATE TABLE app.by_bigint (id integer PRIMARY KEY, "organizationId" bigint NOT NULL);
SELECT tenancy.protect(t) FROM unnest('{app.by_text,app.by_varchar,app.by_integer,app.by_bigint}'::regclass[]) t \g /dev/null
CREATE TEMP TABLE kind (name text, acme text, bolt text, nobody text);
INSERT INTO kind VALUES ('by_text', 'acme', 'bolt', 'nobody'), ('by_varchar', 'acme', 'bolt', 'nobody'), ('by_integer', '1', '2', '9'), ('by_bigint', '1', '2', '4294967297');
CREATE FUNCTION test.organizations(statement text) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    before bigint := (SELECT count(*) FROM tenancy.event WHERE transaction = pg_current_xact_id());
BEGIN
    EXECUTE statement;
    RETURN ARRAY(SELECT organization FROM tenancy.event WHERE transaction = pg_current_xact_id() ORDER BY occurred_at, ordinal OFFSET before);
END
$$;
SELECT is(test.organizations(format('INSERT INTO app.%I VALUES (1, %L)', name, acme)), ARRAY[test.acme()], name || ': an insert without a context belongs to the row''s organization') FROM kind;
SELECT is(test.organizations(format('INSERT INTO app.%I VALUES (3, %L)', name, nobody)), ARRAY['00000000-0000-0000-0000-000000000000'::uuid], name || ': one of no known organization to the nil UUID') FROM kind;
CALL test.sign_in('bob');
SELECT is(test.organizations(format('INSERT INTO app.%I VALUES (2, %L)', name, bolt)), ARRAY[test.bolt()], name || ': an insert under a context too') FROM kind;
SELECT is(test.organizations(format('UPDATE app.%I SET id = 4 WHERE id = 1', name)), ARRAY[test.acme()], name || ': a superuser''s change of another''s row belongs to the row''s') FROM kind;
CALL test.sign_out();
SELECT is(test.organizations(format('TRUNCATE app.%I', name)) @> ARRAY[test.acme(), test.bolt(), '00000000-0000-0000-0000-000000000000'], true, name || ': TRUNCATE tells each organization') FROM kind;

-- What one row holds keeps nobody from reading the others.
CREATE TABLE app.note (id integer PRIMARY KEY, organization_id uuid NOT NULL, body json);
SELECT tenancy.protect('app.note') \g /dev/null
INSERT INTO app.note VALUES (1, test.acme(), '{"a": "\u0000"}'), (2, test.acme(), '"\ud83d"');
SELECT lives_ok($$ SELECT old_values::text, new_values::text FROM tenancy.audit_trail $$, 'json that cannot become text leaves the audit trail readable');

-- What people do to tables and schemas.
ALTER SCHEMA app RENAME TO renamed;
INSERT INTO renamed.note VALUES (3, test.acme(), '1');
SELECT is((SELECT table_schema FROM tenancy.event WHERE row_key::text = '{"id":3}' AND table_name = 'note'), 'renamed', 'an event names the schema as it is called now');
SELECT test.refused('CREATE INDEX by_expression ON tenancy.event_batch ((domain || operation))', '55000', 'a table of the audit has an index on an expression or with a predicate', 'Drop that index%',
                    'an index that the library cannot keep is not made');
ALTER EVENT TRIGGER tenancy_audit_ddl DISABLE;
CREATE INDEX by_expression ON tenancy.event_batch ((domain || operation));
SELECT test.refused($$ INSERT INTO renamed.note VALUES (4, test.acme(), '1') $$, '55000', 'a table of the audit has an index on an expression or with a predicate', 'Drop that index%',
                    'nor does one that was made behind its back crash the server');

SELECT * FROM finish();
ROLLBACK;
