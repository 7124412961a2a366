-- plan, protect and unprotect: everything printed first, nothing done twice, all of it taken back.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(163);
GRANT CREATE ON DATABASE :"DBNAME" TO test_owner;
SET LOCAL SESSION AUTHORIZATION test_owner;

-- The plan ------------------------------------------------------------------------------------------------------------

CREATE TABLE app."Invoice" (id integer PRIMARY KEY, "organizationId" uuid NOT NULL);

SELECT is_empty($$ SELECT * FROM tenancy.plan('app."Invoice"') WHERE state <> 'todo' $$, 'of a new table everything is to do');
SELECT is(array_agg(sql ORDER BY step), ARRAY[
    'CREATE INDEX "Invoice_tenancy_idx" ON app."Invoice" ("organizationId")',
    'ALTER TABLE app."Invoice" ALTER COLUMN "organizationId" SET DEFAULT tenancy.org_id()',
    'CREATE POLICY tenancy_isolation ON app."Invoice" AS RESTRICTIVE FOR SELECT TO PUBLIC USING (("organizationId" = tenancy.org_id(''invoice''::text, ''read''::text)))',
    'CREATE POLICY tenancy_isolation_create ON app."Invoice" AS RESTRICTIVE FOR INSERT TO PUBLIC WITH CHECK (("organizationId" = tenancy.org_id(''invoice''::text, ''create''::text)))',
    'CREATE POLICY tenancy_isolation_update ON app."Invoice" AS RESTRICTIVE FOR UPDATE TO PUBLIC USING (("organizationId" = tenancy.org_id(''invoice''::text, ''update''::text))) WITH CHECK (("organizationId" = tenancy.org_id(''invoice''::text, ''update''::text)))',
    'CREATE POLICY tenancy_isolation_delete ON app."Invoice" AS RESTRICTIVE FOR DELETE TO PUBLIC USING (("organizationId" = tenancy.org_id(''invoice''::text, ''delete''::text)))',
    'CREATE POLICY tenancy_read ON app."Invoice" AS PERMISSIVE FOR SELECT TO PUBLIC USING ((''tenancy.org_id(text,text)''::regprocedure IS NOT NULL))',
    'CREATE POLICY tenancy_create ON app."Invoice" AS PERMISSIVE FOR INSERT TO PUBLIC WITH CHECK ((''tenancy.org_id(text,text)''::regprocedure IS NOT NULL))',
    'CREATE POLICY tenancy_update ON app."Invoice" AS PERMISSIVE FOR UPDATE TO PUBLIC USING ((''tenancy.org_id(text,text)''::regprocedure IS NOT NULL)) WITH CHECK ((''tenancy.org_id(text,text)''::regprocedure IS NOT NULL))',
    'CREATE POLICY tenancy_delete ON app."Invoice" AS PERMISSIVE FOR DELETE TO PUBLIC USING ((''tenancy.org_id(text,text)''::regprocedure IS NOT NULL))',
    'ALTER TABLE app."Invoice" ENABLE ROW LEVEL SECURITY',
    'ALTER TABLE app."Invoice" FORCE ROW LEVEL SECURITY',
    'CREATE TRIGGER tenancy_audit AFTER INSERT OR DELETE OR UPDATE ON app."Invoice" FOR EACH ROW EXECUTE FUNCTION tenancy.audit_row(''organizationId'', ''invoice'')',
    'ALTER TABLE app."Invoice" ENABLE ALWAYS TRIGGER tenancy_audit',
    'CREATE TRIGGER tenancy_audit_truncate BEFORE TRUNCATE ON app."Invoice" FOR EACH STATEMENT EXECUTE FUNCTION tenancy.audit_truncate(''organizationId'', ''invoice'')',
    'ALTER TABLE app."Invoice" ENABLE ALWAYS TRIGGER tenancy_audit_truncate'
], 'the plan lists every statement') FROM tenancy.plan('app."Invoice"') WHERE sql NOT LIKE 'COMMENT %';
SELECT is((SELECT count(*) FROM tenancy.plan('app."Invoice"') WHERE '' IN (why, lock) OR why IS NULL OR lock IS NULL OR NOT in_transaction), 0::bigint,
          'every step says why, under which lock, and may run in a transaction');
SELECT is(array_agg(step), (SELECT array_agg(n) FROM generate_series(1, 17) n), 'the steps are numbered') FROM tenancy.plan('app."Invoice"');
SELECT is((SELECT relrowsecurity FROM pg_class WHERE oid = 'app."Invoice"'::regclass), false, 'planning changes nothing');
SELECT is_empty($$ SELECT FROM pg_policy WHERE polrelid = 'app."Invoice"'::regclass $$, 'planning makes no policy');

CREATE TEMP TABLE planned AS SELECT * FROM tenancy.plan('app."Invoice"');
SELECT is(tenancy.protect('app."Invoice"'), (SELECT count(*)::integer FROM planned), 'protect runs as many statements as the plan had to do');
SELECT is(array_agg(sql ORDER BY step), (SELECT array_agg(sql ORDER BY step) FROM planned WHERE sql LIKE 'CREATE POLICY%'),
          'the plan of a protected table has the same policies') FROM tenancy.plan('app."Invoice"') WHERE sql LIKE 'CREATE POLICY%';
SELECT is_empty($$ SELECT * FROM tenancy.plan('app."Invoice"') WHERE state <> 'done' $$, 'of a protected table everything is done');

-- A plan run by hand, statement by statement, is the same as protect.
CREATE TABLE app.by_hand (id integer PRIMARY KEY, org_id uuid NOT NULL);
DO $$
DECLARE
    statement text;
BEGIN
    FOR statement IN SELECT sql FROM tenancy.plan('app.by_hand') ORDER BY step LOOP
        EXECUTE statement;
    END LOOP;
END
$$;
SELECT is(tenancy.protect('app.by_hand'), 0, 'a plan run by hand leaves protect nothing to do');
SELECT is((SELECT count(*) FROM tenancy.plan('app.by_hand') WHERE state <> 'done'), 0::bigint, 'and the plan says so');

-- Columns -------------------------------------------------------------------------------------------------------------

SELECT format('CREATE TABLE app.%I (id integer PRIMARY KEY, %I %s NOT NULL)', 't_' || n, column_name, type)
  FROM (VALUES (1, 'organizationId', 'uuid'), (2, 'organization_id', 'text'), (3, 'org_id', 'varchar(40)'), (4, 'tenant_id', 'integer'),
               (5, 'organizationId', 'bigint'), (6, 'tenant_id', 'character varying'), (7, 'org_id', 'uuid')) AS v (n, column_name, type) \gexec
SELECT is(tenancy.protect(format('app.t_%s', n)::regclass), 17, format('a column of type %s can be protected', type))
  FROM (VALUES (1, 'uuid'), (2, 'text'), (3, 'varchar(40)'), (4, 'integer'), (5, 'bigint'), (6, 'character varying')) AS v (n, type);
SELECT is(tenancy.protect(format('app.t_%s', n)::regclass), 0, format('protecting a column of type %s twice does nothing the second time', type))
  FROM (VALUES (1, 'uuid'), (2, 'text'), (3, 'varchar(40)'), (4, 'integer'), (5, 'bigint'), (6, 'character varying')) AS v (n, type);
SELECT is((SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = format('app.t_%s', n)::regclass), function || '()', format('%s is the default of its type', function))
  FROM (VALUES (1, 'tenancy.org_id'), (2, 'tenancy.org_id_text'), (3, 'tenancy.org_id_text'), (4, 'tenancy.org_id_bigint'), (5, 'tenancy.org_id_bigint')) AS v (n, function);

CREATE TABLE app.several (tenant_id uuid NOT NULL, organization_id uuid NOT NULL, owner uuid NOT NULL);
SELECT test.refused($$ SELECT tenancy.protect('app.several') $$, '42702', 'table app.several has the columns organization_id and tenant_id: which is the organization?', '%organization_column => ...%',
          'of several usual columns none is chosen');
SELECT tenancy.protect('app.several', 'organization_id') \g /dev/null
SELECT is(tenancy.protect('app.several', domain => 'billing'), 9, 'another domain replaces what names the domain, and nothing else');
SELECT is(tenancy.protect('app.several'), 0, 'the domain need not be named again');
SELECT is((SELECT count(*) FROM tenancy.plan('app.several') WHERE sql LIKE '%''billing''%'), 6::bigint, 'the domain stays as it was named');

-- Domains that follow from the name.
SELECT is((SELECT substring(sql FROM $re$org_id\('(.*)'::text, 'read'$re$) FROM tenancy.plan('app.by_hand') WHERE sql LIKE '%POLICY tenancy_isolation ON%FOR SELECT%'), 'by_hand',
          'a name in snake case is the domain');
CREATE TABLE app."CloudAccount2Link" ("organizationId" uuid NOT NULL);
SELECT is((SELECT substring(sql FROM $re$org_id\('(.*)'::text, 'read'$re$) FROM tenancy.plan('app."CloudAccount2Link"') WHERE sql LIKE '%POLICY tenancy_isolation ON%FOR SELECT%'), 'cloud_account2_link',
          'a name in camel case becomes snake case');

-- Nasty names ---------------------------------------------------------------------------------------------------------

CREATE TEMP TABLE nasty (n integer PRIMARY KEY, name text, domain text);
INSERT INTO nasty VALUES
    (1, 'select'), (2, 'Mixed Case'), (3, 'quote''s'), (4, 'double"quote'), (5, 'semi;colon--'), (6, 'ünïcödé 漢字 😀'),
    (7, repeat('x', 63)), (8, repeat('ö', 31)), (9, 'dollar$$quote$x$'), (10, '''); DROP TABLE app.finding; --'), (11, 'percent%s%I'),
    (12, 'a.b'), (13, ' lead and trail '), (14, E'line\nbreak'), (15, 'back\slash');
UPDATE nasty SET domain = 'nasty' WHERE n IN (14, 15);
SELECT format('CREATE SCHEMA %I CREATE TABLE %1$I (%1$I integer PRIMARY KEY, organization_id uuid NOT NULL)', name) FROM nasty \gexec
SELECT is(tenancy.protect(format('%1$I.%1$I', name)::regclass, domain => domain), 17,
          format('a table with the name %s can be protected', to_json(name))) FROM nasty;
SELECT is(tenancy.protect(format('%1$I.%1$I', name)::regclass), 0, format('protecting %s twice does nothing the second time', to_json(name))) FROM nasty;
SELECT is((SELECT count(*) FROM pg_policy WHERE polrelid = format('%1$I.%1$I', name)::regclass), 8::bigint, format('%s has its eight policies', to_json(name))) FROM nasty;
SELECT is(tenancy.unprotect(format('%1$I.%1$I', name)::regclass), 14, format('the protection of %s can be taken back', to_json(name))) FROM nasty;
SELECT is((SELECT count(*) FROM pg_index WHERE indrelid = format('%1$I.%1$I', name)::regclass), 1::bigint, format('the index on %s is gone with it', to_json(name))) FROM nasty;

-- Two tables whose names agree in what an index name keeps of them.
SELECT format('CREATE TABLE app.%I (org_id uuid NOT NULL)', repeat('y', 60) || n) FROM generate_series(1, 3) n \gexec
SELECT is(tenancy.protect(format('app.%I', repeat('y', 60) || n)::regclass), 17, 'indexes of tables with long names do not collide') FROM generate_series(1, 3) n;
SELECT is(tenancy.protect(format('app.%I', repeat('y', 60) || n)::regclass), 0, 'nor when protected again') FROM generate_series(1, 3) n;

-- Taking it back ------------------------------------------------------------------------------------------------------

CREATE FUNCTION pg_temp.look(wanted regclass) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object(
        'rls', relrowsecurity, 'force', relforcerowsecurity,
        'default', (SELECT jsonb_agg(pg_get_expr(adbin, adrelid) ORDER BY adnum) FROM pg_attrdef WHERE adrelid = c.oid),
        'policies', (SELECT jsonb_agg(jsonb_build_array(polname, polcmd, polpermissive, pg_get_expr(polqual, polrelid)) ORDER BY polname) FROM pg_policy WHERE polrelid = c.oid),
        'triggers', (SELECT jsonb_agg(pg_get_triggerdef(oid) ORDER BY tgname) FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal),
        'indexes', (SELECT jsonb_agg(pg_get_indexdef(indexrelid) ORDER BY indexrelid) FROM pg_index WHERE indrelid = c.oid))
      FROM pg_class c WHERE c.oid = wanted
$$;
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TABLE app.bare (id integer, organization_id uuid NOT NULL);
CREATE TABLE app.dressed (id integer PRIMARY KEY, organization_id uuid NOT NULL DEFAULT '00000000-0000-4000-8000-00000000000f'::uuid, status text DEFAULT 'it''s \ new');
CREATE INDEX own_idx ON app.dressed (organization_id, id);
CREATE POLICY own_policy ON app.dressed FOR SELECT USING (status <> 'hidden');
ALTER TABLE app.dressed ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.dressed FORCE ROW LEVEL SECURITY;
CREATE TRIGGER own_trigger BEFORE UPDATE ON app.dressed FOR EACH ROW EXECUTE FUNCTION app.touch();
CREATE SEQUENCE app.counter;
CREATE TABLE app.numbered (tenant_id bigint NOT NULL DEFAULT nextval('app.counter'));
CREATE TABLE app.texty (organization_id text NOT NULL DEFAULT E'back\\slash and ''quote''');
CREATE TEMP TABLE before AS SELECT t, pg_temp.look(t) AS look FROM unnest('{app.bare, app.dressed, app.numbered, app.texty}'::regclass[]) t;
SELECT is(tenancy.protect(t) > 0, true, format('%s is protected', t)) FROM before;
SELECT is((SELECT count(*) FROM pg_index WHERE indrelid = 'app.dressed'::regclass), 2::bigint, 'where an index by organization was there, none is made');
SELECT ok(EXISTS (SELECT FROM pg_policy WHERE polrelid = 'app.dressed'::regclass AND polname = 'own_policy'), 'the table''s own policies survive');
SELECT is(tenancy.protect(t), 0, format('%s is protected already', t)) FROM before;
SELECT is(tenancy.unprotect(t) > 0, true, format('the protection of %s is taken back', t)) FROM before;
SELECT is(pg_temp.look(t), look, format('%s is as it was before', t)) FROM before;
SELECT is(tenancy.unprotect(t), 0, format('taking back the protection of %s twice does nothing the second time', t)) FROM before;
SELECT is(tenancy.protect(t) > 0 AND tenancy.protect(t) = 0 AND tenancy.unprotect(t) > 0, true, format('%s can be protected and unprotected again', t)) FROM before;
SELECT is(pg_temp.look(t), look, format('%s is again as it was before', t)) FROM before;

SELECT tenancy.protect('app.bare') \g /dev/null
ALTER TABLE app.bare ALTER COLUMN organization_id SET DEFAULT gen_random_uuid();
SELECT is(tenancy.protect('app.bare'), 1, 'a default that somebody changed is put back by protect');
ALTER TABLE app.bare ALTER COLUMN organization_id SET DEFAULT gen_random_uuid();
SELECT tenancy.unprotect('app.bare') \g /dev/null
SELECT is(pg_temp.look('app.bare') ->> 'default', '["gen_random_uuid()"]', 'a default that somebody set since is kept by unprotect');
ALTER TABLE app.bare ALTER COLUMN organization_id DROP DEFAULT;

-- Repair --------------------------------------------------------------------------------------------------------------

SELECT tenancy.protect('app.bare') \g /dev/null
SET LOCAL tenancy.override_reason = 'damage to be repaired';
CREATE FUNCTION pg_temp.repairs(damage text) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE damage;
    RETURN tenancy.protect('app.bare');
END
$$;
SELECT is(pg_temp.repairs(damage), steps, format('protect repairs %s', damage)) FROM (VALUES
    ('ALTER TABLE app.bare NO FORCE ROW LEVEL SECURITY', 1),
    ('ALTER TABLE app.bare DISABLE ROW LEVEL SECURITY', 1),
    ('DROP POLICY tenancy_read ON app.bare', 1),
    ('ALTER POLICY tenancy_update ON app.bare WITH CHECK (false)', 1),
    ('ALTER POLICY tenancy_isolation_update ON app.bare WITH CHECK (true)', 1),
    ('DROP POLICY tenancy_isolation_delete ON app.bare', 1),
    ('ALTER POLICY tenancy_delete ON app.bare TO test_application', 1),
    ('DROP POLICY tenancy_delete ON app.bare; CREATE POLICY tenancy_delete ON app.bare USING (true)', 2),
    ('ALTER TABLE app.bare DISABLE TRIGGER tenancy_audit', 1),
    ('ALTER TABLE app.bare ENABLE REPLICA TRIGGER tenancy_audit', 1),
    ('DROP TRIGGER tenancy_audit ON app.bare', 2),
    ('DROP TRIGGER tenancy_audit ON app.bare; CREATE TRIGGER tenancy_audit AFTER INSERT ON app.bare FOR EACH ROW EXECUTE FUNCTION app.touch()', 2),
    ('ALTER TABLE app.bare DISABLE TRIGGER tenancy_audit_truncate', 1)
) AS v (damage, steps);
SELECT is(tenancy.protect('app.bare'), 0, 'and after each repair nothing is left to do');

-- Who may -------------------------------------------------------------------------------------------------------------

RESET SESSION AUTHORIZATION;
CREATE ROLE test_other_admin IN ROLE tenancy_admin;
GRANT USAGE ON SCHEMA app TO test_other_admin;
SET LOCAL SESSION AUTHORIZATION test_other_admin;
SELECT test.refused($$ SELECT tenancy.unprotect('app.finding') $$, '42501', 'must be owner of%', '%', 'only the owner of a table can take its protection back');
SELECT test.refused($$ SELECT tenancy.protect('app.finding', domain => 'other') $$, '42501', 'must be owner of%', '%', 'only the owner of a table can protect it');
RESET SESSION AUTHORIZATION;

SELECT * FROM finish();
ROLLBACK;
