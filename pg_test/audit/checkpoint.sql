-- Checkpoints: who may make them, what they hold, and what no rollback and no key may do. Events are sealed once their
-- transaction has committed, so this suite works in a database of its own, over a second connection, and drops it at the end.
\set work pg_tenancy_checkpoint
SELECT format('port=%s user=%s', current_setting('port'), quote_literal(session_user)) ||
       coalesce(' host=' || quote_literal(split_part(nullif(current_setting('unix_socket_directories'), ''), ',', 1)), '') AS server \gset
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dblink;
SELECT dblink_connect('admin', :'server' || ' dbname=postgres'), dblink_exec('admin', 'SET client_min_messages = warning') \g /dev/null
SELECT dblink_exec('admin', format('DROP DATABASE IF EXISTS %I WITH (FORCE)', :'work')), dblink_exec('admin', format('CREATE DATABASE %I TEMPLATE template0', :'work')) \g /dev/null
SELECT dblink_connect('work', :'server' || ' dbname=' || :'work'), dblink_exec('work', 'SET client_min_messages = warning') \g /dev/null
SELECT nullif(current_setting('tenancy.signing_key_file', true), '') IS NULL AS without_key \gset
\if :without_key
\echo '1..0 # SKIP the server has no tenancy.signing_key_file'
\else

BEGIN;
SET LOCAL search_path = public;
SELECT plan(47);

CREATE FUNCTION pg_temp.answer(query text) RETURNS SETOF text LANGUAGE sql AS $$ SELECT a FROM dblink('work', query) AS d (a text) $$;
CREATE PROCEDURE pg_temp.run(statement text) LANGUAGE plpgsql AS $$ BEGIN PERFORM dblink_exec('work', statement); END $$;

CALL pg_temp.run('CREATE EXTENSION pg_tenancy');
SELECT is(pg_temp.answer('SELECT tenancy.checkpoint()'), '0', 'where nothing was ever sealed there is nothing to sign');
SELECT is(pg_temp.answer('SELECT number::text FROM tenancy.checkpoint'), NULL, 'and nothing is written');
SELECT dblink_exec('work', statement) FROM (VALUES
    ($$ DO 'BEGIN PERFORM tenancy.create_organization(''Acme'', ''aaaaaaaa-0000-4000-8000-000000000001''), tenancy.create_organization(''Bolt'', ''bbbbbbbb-0000-4000-8000-000000000002''); END' $$),
    ('CREATE TABLE public.finding (id integer PRIMARY KEY, organization_id uuid NOT NULL, title text)'),
    ($$ DO 'BEGIN PERFORM tenancy.protect(''public.finding''); END' $$)
) AS v (statement) \g /dev/null
CALL pg_temp.run($$ INSERT INTO finding SELECT n, 'aaaaaaaa-0000-4000-8000-000000000001', 'a' || n FROM generate_series(1, 300) n $$);
CALL pg_temp.run($$ INSERT INTO finding SELECT n, 'bbbbbbbb-0000-4000-8000-000000000002', 'b' || n FROM generate_series(301, 305) n $$);

-- What it holds -------------------------------------------------------------------------------------------------------

SELECT is(pg_temp.answer('SELECT tenancy.checkpoint()'), '1', 'the first checkpoint has the number 1');
SELECT is(pg_temp.answer('SELECT count(*) FROM tenancy.seal s JOIN tenancy.event e ON e.id = s.event WHERE e.domain = ''finding'''), '305', 'it seals first');
SELECT is(pg_temp.answer('SELECT heads || '' '' || (prev_digest IS NULL) || '' '' || (root = sha256(''\x00'' || digest)) FROM tenancy.checkpoint'), '3 true true',
          'it is over the heads of both organizations and of nobody, and the first leaf of its log');
SELECT is(pg_temp.answer('SELECT (c.block, c.block_hash) = (b.number, b.hash) AND c.incarnation = b.incarnation FROM tenancy.checkpoint c, tenancy.block b'), 't', 'it names the newest block');
SELECT is(pg_temp.answer($$ SELECT split_part(note, E'\n\n', 1) = origin || E'\n1\n' || encode(root, 'base64') FROM tenancy.checkpoint $$), 't', 'the note has origin, number and root');
SELECT is(pg_temp.answer($$ SELECT origin = current_setting('tenancy.checkpoint_origin') || '/' || incarnation FROM tenancy.checkpoint $$), 't', 'the origin is the database''s and its incarnation''s');
SELECT is(pg_temp.answer($$ SELECT substring(decode(split_part(split_part(c.note, E'\n\n— ', 2), ' ', 2), 'base64') FROM 1 FOR 4) = k.key_id
    AND k.name = split_part(split_part(c.note, E'\n\n— ', 2), ' ', 1) FROM tenancy.checkpoint c, tenancy.signing_key k $$), 't', 'the signature names the key');
SELECT is(pg_temp.answer($$ SELECT concat_ws(' ', epoch, first_checkpoint, first_incarnation = (SELECT name FROM tenancy.incarnation), retired_at) FROM tenancy.signing_key $$), '1 1 t',
          'a key that is first used is the first epoch');
SELECT is(pg_temp.answer($$ SELECT operation || ' ' || domain || ' ' || row_key FROM tenancy.audit_trail WHERE table_name = 'signing_key' AND organization = '00000000-0000-0000-0000-000000000000' $$),
          'insert audit {"epoch":1}', 'and an audit event');
SELECT is(pg_temp.answer('SELECT tenancy.checkpoint()'), '2', 'that event is something new');
SELECT is(pg_temp.answer('SELECT tenancy.checkpoint()'), '2', 'where nothing is new no checkpoint is made');
SELECT is(pg_temp.answer('SELECT count(*) || '' '' || max(number) FROM tenancy.checkpoint'), '2 2', 'and nothing is written');
SELECT is(pg_temp.answer('SELECT count(*) FROM tenancy.checkpoint b JOIN tenancy.checkpoint a ON a.number = b.number - 1 AND a.digest = b.prev_digest'), '1', 'each names the one before');
SELECT is(pg_temp.answer($$ SELECT (b.root = sha256('\x01' || sha256('\x00' || a.digest) || sha256('\x00' || b.digest)))::text FROM tenancy.checkpoint a, tenancy.checkpoint b WHERE (a.number, b.number) = (1, 2) $$), 'true',
          'the signed root is that of RFC 6962 over the entries');
SELECT is(pg_temp.answer('SELECT concat_ws('' '', number, checkpointed_block = sealed_block, uncheckpointed_events, unsealed_events, age < ''1 minute'') FROM tenancy.checkpoint_status'), '2 t 0 0 t', 'the status says that nothing is left');
CALL pg_temp.run($$ DELETE FROM finding WHERE id < 3 $$);
SELECT is(pg_temp.answer('SELECT concat_ws('' '', uncheckpointed_events, unsealed_events) FROM tenancy.checkpoint_status'), '0 2', 'what was committed since is not sealed');
SELECT is(pg_temp.answer('SELECT tenancy.seal()'), '2', '(it is sealed)');
SELECT is(pg_temp.answer('SELECT concat_ws('' '', uncheckpointed_events, unsealed_events) FROM tenancy.checkpoint_status'), '2 0', 'what was sealed since is in no checkpoint');

-- No signature of what does not stay -----------------------------------------------------------------------------------

CALL pg_temp.run('LISTEN tenancy_checkpoint');
CALL pg_temp.run('BEGIN');
SELECT is(pg_temp.answer('SELECT tenancy.checkpoint()'), '3', 'in an open transaction the number is told');
SELECT is(pg_temp.answer('SELECT max(number) FROM tenancy.checkpoint'), '2', 'and no signature is to be seen');
CALL pg_temp.run('SET CONSTRAINTS ALL IMMEDIATE');
SELECT is(pg_temp.answer('SELECT max(number) FROM tenancy.checkpoint'), '2', 'by no means');
CALL pg_temp.run('ROLLBACK');
SELECT is(pg_temp.answer('SELECT max(number) FROM tenancy.checkpoint'), '2', 'what is rolled back was never signed');
CALL pg_temp.run('BEGIN; SAVEPOINT s');
SELECT is(pg_temp.answer('SELECT tenancy.checkpoint()'), '3', '(in a savepoint)');
CALL pg_temp.run('ROLLBACK TO s; COMMIT');
SELECT is(pg_temp.answer('SELECT max(number) FROM tenancy.checkpoint'), '2', 'nor what a savepoint took back');
SELECT is((SELECT count(*) FROM dblink_get_notify('work')), 0::bigint, 'nobody was told of any of these');
CALL pg_temp.run('BEGIN; SAVEPOINT s');
SELECT pg_temp.answer('SELECT tenancy.checkpoint()') \g /dev/null
CALL pg_temp.run('RELEASE s; SAVEPOINT other; ROLLBACK TO other');
SELECT is(pg_temp.answer('SELECT tenancy.checkpoint()'), '3', 'asked for twice in a transaction it is the same one');
CALL pg_temp.run('COMMIT');
SELECT is((SELECT string_agg(extra, '|') FROM dblink_get_notify('work')), pg_temp.answer('SELECT note FROM tenancy.checkpoint WHERE number = 3'), 'who listens gets the note of what is committed');
CALL pg_temp.run($$ DELETE FROM finding WHERE id = 3 $$);
CALL pg_temp.run('BEGIN');
SELECT pg_temp.answer('SELECT tenancy.checkpoint()') \g /dev/null
SELECT throws_ok($$ CALL pg_temp.run('PREPARE TRANSACTION ''p''') $$, '0A000', NULL, 'a checkpoint is not prepared for two-phase commit');
CALL pg_temp.run('ROLLBACK');
SELECT is(pg_temp.answer('SELECT max(number) FROM tenancy.checkpoint'), '3', 'and is not made');
SELECT throws_ok($$ SELECT pg_temp.answer('BEGIN READ ONLY; SELECT tenancy.checkpoint()') $$, '25006', NULL, 'a READ ONLY transaction makes none');
CALL pg_temp.run('ROLLBACK');
CALL pg_temp.run('BEGIN ISOLATION LEVEL REPEATABLE READ');
SELECT pg_temp.answer('SELECT count(*) FROM tenancy.checkpoint') \g /dev/null
SELECT dblink_connect('second', :'server' || ' dbname=' || :'work') \g /dev/null
SELECT is((SELECT a FROM dblink('second', 'SELECT tenancy.checkpoint()') AS d (a text)), '4', '(somebody else makes one)');
SELECT is((SELECT a FROM dblink('second', $$ INSERT INTO finding VALUES (999, 'aaaaaaaa-0000-4000-8000-000000000001', 'z') RETURNING 'x' $$) AS d (a text)), 'x', '(and changes something)');
SELECT is(pg_temp.answer('SELECT tenancy.checkpoint()'), '5', 'an old snapshot does not hide the newest checkpoint');
CALL pg_temp.run('COMMIT');
SELECT is(pg_temp.answer('SELECT count(*) || '' '' || max(number) FROM tenancy.checkpoint'), '5 5', 'so no number is signed twice');

-- Nobody changes them -------------------------------------------------------------------------------------------------

SELECT throws_ok(format('CALL pg_temp.run(%L)', statement), '42501', NULL, 'refused to a superuser: ' || statement) FROM unnest(ARRAY[
    'UPDATE tenancy.checkpoint SET note = ''x''', 'DELETE FROM tenancy.checkpoint', 'TRUNCATE tenancy.checkpoint',
    'UPDATE tenancy.signing_key SET public_key = ''x''', 'DELETE FROM tenancy.signing_key', 'TRUNCATE tenancy.signing_key',
    'UPDATE tenancy.signing_key SET retired_at = now(), last_incarnation = '''', last_checkpoint = 1, name = ''x''']) statement;
CALL pg_temp.run('SET ROLE tenancy_auditor');
SELECT is(pg_temp.answer('SELECT tenancy.checkpoint()'), '5', 'an auditor may make checkpoints');
SELECT is(pg_temp.answer('SELECT number FROM tenancy.checkpoint_status'), '5', 'and see how they stand');
CALL pg_temp.run('SET ROLE tenancy_admin');
SELECT is(pg_temp.answer('SELECT tenancy.checkpoint()'), '5', 'an administrator may make them');
CALL pg_temp.run('SET ROLE tenancy_application');
SELECT throws_ok($$ SELECT pg_temp.answer('SELECT tenancy.checkpoint()') $$, '42501', NULL, 'an application may not');
CALL pg_temp.run('RESET ROLE');
SELECT is_empty($$ SELECT pg_temp.answer('SELECT finding FROM tenancy.verify_audit()') $$, 'the audit verifies');

SELECT * FROM finish();
ROLLBACK;
\endif
SELECT dblink_disconnect(c) FROM unnest(dblink_get_connections()) c WHERE c <> 'admin' \g /dev/null
SELECT dblink_exec('admin', format('DROP DATABASE IF EXISTS %I WITH (FORCE)', :'work')) \g /dev/null
