-- Columns that are named: any column of a fitting type can hold the organization, whatever it is called.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(87);
GRANT CREATE ON DATABASE :"DBNAME" TO test_owner;
SET LOCAL SESSION AUTHORIZATION test_owner;

CREATE TABLE app.several (tenant_id uuid NOT NULL, organization_id uuid NOT NULL, owner uuid NOT NULL);
SELECT is((SELECT sql FROM tenancy.plan('app.several', 'owner') WHERE step = 2), 'ALTER TABLE app.several ALTER COLUMN owner SET DEFAULT tenancy.org_id()', 'any column can be named');
SELECT is(tenancy.protect('app.several', 'owner'), 17, 'a named column can be protected');
SELECT is(tenancy.protect('app.several', 'owner'), 0, 'twice as well');
SELECT is(tenancy.protect('app.several'), 0, 'and need not be named again');
SELECT test.refused($$ SELECT tenancy.protect('app.several', 'tenant_id') $$, '22023', 'app.several is protected by column "owner" already', '%', 'another column is refused while the table is protected');
SELECT test.refused($$ SELECT tenancy.protect('app.finding', 'nothing') $$, '42703', 'table app.finding has no column "nothing"', 'Name it%', 'a column that is not there is refused by its name');
SELECT test.refused($$ SELECT tenancy.protect('app.finding', '') $$, '42703', 'table app.finding has no column ""', 'Name it%', 'the empty name too');

CREATE TEMP TABLE nasty (n integer PRIMARY KEY, name text);
INSERT INTO nasty VALUES (1, 'select'), (2, 'Mixed Case'), (3, 'quote''s'), (4, 'double"quote'), (5, 'semi;colon--'), (6, 'ünïcödé 漢字 😀'), (7, repeat('x', 63)), (8, repeat('ö', 31)),
    (9, 'dollar$$quote$x$'), (10, '''); DROP TABLE app.finding; --'), (11, 'percent%s%I'), (12, 'a.b'), (13, ' lead and trail '), (14, E'line\nbreak'), (15, 'Zebra');
SELECT format('CREATE TABLE app.%I (id integer PRIMARY KEY, %I uuid NOT NULL)', 'n' || n, name) FROM nasty \gexec
SELECT is(tenancy.protect(format('app.n%s', n)::regclass, name::name), 17, format('a column with the name %s can hold the organization', to_json(name))) FROM nasty;
SELECT is(tenancy.protect(format('app.n%s', n)::regclass), 0, format('protecting by %s twice does nothing the second time', to_json(name))) FROM nasty;
CALL test.sign_in('ada');
SELECT lives_ok(format('INSERT INTO app.n%s (id) VALUES (1)', n), format('a row finds its organization by %s', to_json(name))) FROM nasty;
SELECT is((SELECT count(*) FROM tenancy.plan(format('app.n%s', n)::regclass)), 17::bigint, format('%s can be planned again', to_json(name))) FROM nasty;
SELECT is(tenancy.unprotect(format('app.n%s', n)::regclass), 14, format('the protection by %s can be taken back', to_json(name))) FROM nasty;
CREATE TABLE app.back ("back\slash" uuid NOT NULL);
SELECT test.refused($$ SELECT tenancy.protect('app.back', 'back\slash') $$, '42804', 'the name of the organization column holds a backslash', '%', 'a backslash in the name of the column is refused');

-- What was there before outlives a repair.
CREATE TABLE app.damaged (organization_id uuid NOT NULL DEFAULT '00000000-0000-4000-8000-00000000000f');
SELECT tenancy.protect('app.damaged') \g /dev/null
SET LOCAL tenancy.override_reason = 'damage to be repaired';
ALTER POLICY tenancy_isolation ON app.damaged USING (true);
SELECT tenancy.protect('app.damaged') \g /dev/null
SELECT is(tenancy.protect('app.damaged'), 0, 'a repaired isolation policy leaves nothing to do');
SELECT tenancy.unprotect('app.damaged') \g /dev/null
SELECT is((SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 'app.damaged'::regclass), '''00000000-0000-4000-8000-00000000000f''::uuid', 'after a repair unprotect still knows the default of before');
SELECT is((SELECT relrowsecurity OR relforcerowsecurity FROM pg_class WHERE oid = 'app.damaged'::regclass), false, 'and that there was no row-level security');
SELECT is_empty($$ SELECT FROM pg_index WHERE indrelid = 'app.damaged'::regclass $$, 'and that the index is its own');

RESET SESSION AUTHORIZATION;
SELECT * FROM finish();
ROLLBACK;
