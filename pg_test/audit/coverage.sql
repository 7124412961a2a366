-- Gaps: capture that was switched off shows when the sealer looks next, unless an event says who did it. Works in a database of
-- its own over a second connection, as a superuser, and drops it at the end.
\set work pg_tenancy_gaps
SELECT format('port=%s user=%s', current_setting('port'), quote_literal(session_user)) ||
       coalesce(' host=' || quote_literal(split_part(nullif(current_setting('unix_socket_directories'), ''), ',', 1)), '') AS server \gset
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dblink;
SELECT dblink_connect('admin', :'server' || ' dbname=postgres'), dblink_exec('admin', 'SET client_min_messages = warning') \g /dev/null
SELECT dblink_exec('admin', format('DROP DATABASE IF EXISTS %I WITH (FORCE)', :'work')), dblink_exec('admin', format('CREATE DATABASE %I TEMPLATE template0', :'work')) \g /dev/null
SELECT dblink_connect('work', :'server' || ' dbname=' || :'work'), dblink_exec('work', 'SET client_min_messages = warning') \g /dev/null

BEGIN;
SET LOCAL search_path = public;
SELECT plan(37);

CREATE FUNCTION pg_temp.answer(query text) RETURNS SETOF text LANGUAGE sql AS $$ SELECT a FROM dblink('work', query) AS d (a text) $$;
CREATE PROCEDURE pg_temp.run(VARIADIC statements text[]) LANGUAGE plpgsql AS $$
DECLARE
    statement text;
BEGIN
    FOREACH statement IN ARRAY statements LOOP PERFORM dblink_exec('work', statement); END LOOP;
END
$$;
-- What the sealer finds after the statements: the new gaps, as "object: reason", in the order of the objects.
CREATE FUNCTION pg_temp.gaps(VARIADIC statements text[] DEFAULT '{}') RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    before bigint := pg_temp.answer('SELECT count(*) FROM tenancy.event WHERE operation = ''gap''');
BEGIN
    CALL pg_temp.run(VARIADIC statements);
    PERFORM pg_temp.answer('SELECT tenancy.seal()');
    RETURN ARRAY(SELECT pg_temp.answer(format('SELECT coalesce(table_schema || ''.'', '''') || (payload -> ''new'' ->> ''name'') || '': '' || reason FROM tenancy.event WHERE operation = ''gap'' ORDER BY id OFFSET %s', before)) ORDER BY 1);
END
$$;
-- Statements that no event trigger hears of.
CREATE FUNCTION pg_temp.unheard(VARIADIC statements text[]) RETURNS text[] LANGUAGE sql AS $$
    SELECT ARRAY['UPDATE pg_event_trigger SET evtenabled = ''D'''] || statements || ARRAY['UPDATE pg_event_trigger SET evtenabled = ''A''']
$$;
CREATE FUNCTION pg_temp.with_event_triggers(VARIADIC gaps text[]) RETURNS text[] LANGUAGE sql AS $$
    SELECT array_agg(g ORDER BY g) FROM unnest(gaps || ARRAY(SELECT t || ': its capture was changed, or switched off and on again' FROM unnest(ARRAY['tenancy_audit_ddl', 'tenancy_audit_drop', 'tenancy_guard_ddl', 'tenancy_guard_drop', 'tenancy_guard_rewrite']) t)) g
$$;

CALL pg_temp.run('CREATE EXTENSION pg_tenancy', 'SET tenancy.override_reason = ''a test''',
    'CREATE TABLE public.finding (id integer PRIMARY KEY, organization_id uuid NOT NULL)',
    'CREATE TABLE public.cost (id integer NOT NULL, organization_id uuid NOT NULL) PARTITION BY RANGE (id)', 'CREATE TABLE public.cost_1 PARTITION OF public.cost FOR VALUES FROM (0) TO (9)',
    'DO ''BEGIN PERFORM tenancy.protect(''''public.finding''''), tenancy.protect(''''public.cost''''); END''',
    'INSERT INTO public.finding VALUES (1, ''aaaaaaaa-0000-4000-8000-000000000001'')');

SELECT is(pg_temp.gaps(), '{}'::text[], 'the first look finds no gap');
SELECT is(pg_temp.answer('SELECT count(*) > 30 AND bool_and(state <> '''') FROM tenancy.coverage'), 't', 'and remembers what there is');
SELECT is(pg_temp.answer('SELECT string_agg(name, '' '' ORDER BY name) FROM tenancy.coverage WHERE name ~ ''^(finding|cost)'''), 'cost cost_1 finding', 'of protected tables and their partitions');
SELECT pg_temp.answer('SELECT count(*) FROM tenancy.coverage') AS rows \gset
SELECT is(pg_temp.gaps('INSERT INTO public.finding VALUES (2, ''aaaaaaaa-0000-4000-8000-000000000001'')'), '{}'::text[], 'a change of rows changes nothing of it');
SELECT is(pg_temp.answer('SELECT count(*) FROM tenancy.coverage'), :'rows', 'and writes nothing');

-- What has an event is no gap.
SELECT is(pg_temp.gaps('ALTER TABLE public.finding DISABLE TRIGGER tenancy_audit'), '{}'::text[], 'capture that was switched off has an event');
SELECT is(pg_temp.answer('SELECT operation || '' '' || table_name FROM tenancy.event WHERE operation ~ ''^capture'' ORDER BY id DESC LIMIT 1'), 'capture_off finding', 'which says so');
SELECT is(pg_temp.gaps('ALTER TABLE public.finding ENABLE ALWAYS TRIGGER tenancy_audit'), '{}'::text[], 'and so has capture that is on again');
SELECT is(pg_temp.answer('SELECT operation || '' '' || table_name FROM tenancy.event WHERE operation ~ ''^capture'' ORDER BY id DESC LIMIT 1'), 'capture_on finding', 'which says so');
SELECT is(pg_temp.gaps('CREATE TABLE public.cost_2 PARTITION OF public.cost FOR VALUES FROM (10) TO (19)', 'ALTER TABLE public.cost DETACH PARTITION public.cost_1', 'ALTER TABLE public.finding RENAME TO found',
    'ALTER TABLE public.found RENAME TO finding', 'ALTER SCHEMA public RENAME TO other', 'ALTER SCHEMA other RENAME TO public'), '{}'::text[], 'nor are partitions that come and go, and other names');
SELECT is(pg_temp.gaps('ALTER TABLE public.cost ATTACH PARTITION public.cost_1 FOR VALUES FROM (0) TO (9)', 'DROP TABLE public.cost_2', 'DO ''BEGIN PERFORM tenancy.unprotect(''''public.cost''''); END'''), '{}'::text[], 'nor is what unprotect takes back');
SELECT is(pg_temp.gaps('DO ''BEGIN PERFORM tenancy.protect(''''public.cost''''); END'''), '{}'::text[], 'nor what protect makes again');
SELECT is(pg_temp.gaps('VACUUM FULL pg_trigger', 'VACUUM FREEZE pg_trigger'), '{}'::text[], 'nor what Postgres does to its catalogs');
SELECT is(pg_temp.gaps('CREATE TEMP TABLE mine (org_id uuid)', 'CREATE POLICY tenancy_isolation ON mine USING (true)',
    'CREATE TABLE public.theirs (owner text)', 'CREATE POLICY tenancy_isolation ON public.theirs USING (true)'), '{}'::text[], 'nor are temporary tables, and policies that only have the name');

-- What has none is.
SELECT is(pg_temp.gaps(VARIADIC pg_temp.unheard('ALTER TABLE public.finding DISABLE TRIGGER tenancy_audit', 'DELETE FROM public.finding WHERE id = 2', 'ALTER TABLE public.finding ENABLE ALWAYS TRIGGER tenancy_audit')),
    pg_temp.with_event_triggers('public.finding: its capture was changed, or switched off and on again'), 'capture switched off and on between two looks is a gap, and so are the event triggers that did not hear of it');
SELECT is(pg_temp.answer('SELECT count(*) FROM tenancy.event WHERE operation = ''delete'' AND table_name = ''finding'''), '0', '(a row went without an event)');
SELECT is(pg_temp.answer('SELECT result || '' '' || ((payload -> ''new'' ->> ''since_block'')::bigint > 0)::text FROM tenancy.event WHERE operation = ''gap'' LIMIT 1'), 'failed true', 'a gap says since when it may have been');
SELECT is(pg_temp.gaps(), '{}'::text[], 'and is told once');

-- An event explains only what it names, and only between the look before it and the one after it.
SELECT is(pg_temp.gaps('CREATE POLICY later ON public.finding AS RESTRICTIVE USING (true)', 'DROP POLICY later ON public.finding', 'ALTER TABLE public.finding ADD note text'), '{}'::text[], 'statements that change no trigger change nothing of it');
SELECT is(pg_temp.gaps('UPDATE pg_trigger SET tgenabled = ''D'' WHERE tgrelid = ''public.finding''::regclass AND NOT tgisinternal', 'UPDATE pg_trigger SET tgenabled = ''A'' WHERE tgrelid = ''public.finding''::regclass AND NOT tgisinternal'),
    '{"public.finding: its capture was changed, or switched off and on again"}'::text[], 'and explain no later switching');
SELECT is(pg_temp.gaps('ALTER TABLE public.finding DROP note', 'CREATE POLICY later ON public.finding AS RESTRICTIVE USING (true)', 'DROP POLICY later ON public.finding', 'UPDATE pg_trigger SET tgenabled = ''A'' WHERE tgrelid = ''public.finding''::regclass AND NOT tgisinternal'),
    '{"public.finding: its capture was changed, or switched off and on again"}'::text[], 'nor one of the same time');
SELECT is(pg_temp.gaps('CREATE SCHEMA other', 'CREATE TABLE other.finding (id integer PRIMARY KEY, organization_id uuid NOT NULL)', 'DO ''BEGIN PERFORM tenancy.protect(''''other.finding''''); END''', 'ALTER TABLE other.finding DISABLE TRIGGER tenancy_audit', 'ALTER TABLE other.finding ENABLE ALWAYS TRIGGER tenancy_audit',
    'UPDATE pg_trigger SET tgenabled = ''A'' WHERE tgrelid = ''public.finding''::regclass AND NOT tgisinternal'),
    '{"public.finding: its capture was changed, or switched off and on again"}'::text[], 'nor does one about a table of the same name elsewhere');
SELECT is(pg_temp.gaps('UPDATE pg_trigger SET tgenabled = ''D'' WHERE tgrelid = ''public.finding''::regclass AND NOT tgisinternal'), '{public.finding: it does not capture every change}'::text[], 'an edit of the catalogs is a gap');
SELECT is(pg_temp.gaps('UPDATE pg_trigger SET tgenabled = ''A'' WHERE tgrelid = ''public.finding''::regclass AND NOT tgisinternal'), '{"public.finding: its capture was changed, or switched off and on again"}'::text[], 'and so is the one that hides it');
SELECT is(pg_temp.gaps('UPDATE pg_event_trigger SET evtenabled = ''D'' WHERE evtname = ''tenancy_audit_drop'''), '{tenancy_audit_drop: it does not capture every change}'::text[], 'an event trigger that is off is a gap');
SELECT is(pg_temp.gaps('ALTER EVENT TRIGGER tenancy_audit_drop ENABLE ALWAYS'), '{}'::text[], 'the statement that enables it has an event');
SELECT is(pg_temp.gaps(VARIADIC pg_temp.unheard('ALTER TABLE tenancy.event DISABLE TRIGGER append_only', 'DELETE FROM tenancy.event WHERE operation = ''insert''', 'ALTER TABLE tenancy.event ENABLE ALWAYS TRIGGER append_only')),
    pg_temp.with_event_triggers('tenancy.event: its capture was changed, or switched off and on again'), 'so is a table of the audit that was open for a while');
SELECT is(pg_temp.gaps(VARIADIC pg_temp.unheard('DROP TABLE public.finding')), pg_temp.with_event_triggers('public.finding: its capture is gone'), 'so is a protected table that went unheard');
SELECT is(pg_temp.gaps(VARIADIC pg_temp.unheard('CREATE OR REPLACE FUNCTION tenancy.refuse_change() RETURNS trigger LANGUAGE plpgsql AS ''BEGIN RETURN NULL; END''')),
    pg_temp.with_event_triggers('refuse_change: its capture was changed, or switched off and on again'), 'so is a function that was replaced');

-- session_replication_role switches nothing off.
CALL pg_temp.run('SET session_replication_role = replica');
SELECT is(pg_temp.gaps('INSERT INTO public.cost VALUES (1, ''aaaaaaaa-0000-4000-8000-000000000001'')', 'TRUNCATE public.cost', 'ALTER TABLE public.cost ADD note text'), '{}'::text[], 'under session_replication_role = replica there is no gap');
SELECT is(pg_temp.answer('SELECT string_agg(operation, '' '' ORDER BY id) FROM (SELECT operation, id FROM tenancy.event WHERE table_name LIKE ''cost%'' ORDER BY id DESC LIMIT 3) e'), 'insert truncate alter_table', 'because rows, TRUNCATE and DDL have their events');

-- What the sealer has seen is bound into the chain: a row that is written, changed or deleted by hand is found.
CREATE FUNCTION pg_temp.found_after(damage text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    found text[];
BEGIN
    PERFORM dblink_exec('work', 'BEGIN; ALTER TABLE tenancy.coverage DISABLE TRIGGER ALL; ALTER TABLE tenancy.event DISABLE TRIGGER ALL');
    PERFORM dblink_exec('work', damage);
    found := ARRAY(SELECT pg_temp.answer('SELECT DISTINCT finding || '' '' || explanation FROM tenancy.verify_audit(whole => true) WHERE explanation ~ ''coverage'''));
    PERFORM dblink_exec('work', 'ROLLBACK');
    RETURN found;
END
$$;
SELECT is(pg_temp.found_after(damage), ARRAY[finding], 'found: ' || damage) FROM (VALUES
    ('INSERT INTO tenancy.coverage SELECT object, gen_random_uuid(), now(), incarnation, block, snapshot, schema, name, state, gen_random_uuid() FROM tenancy.coverage WHERE object = ''all'' LIMIT 1', 'inserted no event tells of rows in tenancy.coverage that name it'),
    ('INSERT INTO tenancy.coverage SELECT object, gen_random_uuid(), now(), incarnation, block, snapshot, schema, name, state, event FROM tenancy.coverage WHERE object = ''all'' LIMIT 1', 'altered the rows of tenancy.coverage are not those that the event tells of'),
    ('UPDATE tenancy.coverage SET state = ''x'' WHERE object = ''all''', 'altered the rows of tenancy.coverage are not those that the event tells of'),
    ('DELETE FROM tenancy.coverage WHERE object <> ''all''', 'altered the rows of tenancy.coverage are not those that the event tells of'),
    ('DELETE FROM tenancy.coverage', 'missing the rows of tenancy.coverage that the event tells of are gone'),
    ('DELETE FROM tenancy.event WHERE operation = ''coverage''', 'inserted no event tells of rows in tenancy.coverage that name it')) AS v (damage, finding);

SELECT * FROM finish();
ROLLBACK;
SELECT dblink_disconnect('work'), dblink_exec('admin', format('DROP DATABASE %I WITH (FORCE)', :'work')), dblink_disconnect('admin') \g /dev/null
