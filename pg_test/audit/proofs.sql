-- Proofs out of the trees. In a database of its own, as checkpoint.sql: events are sealed once they are committed.
\set work pg_tenancy_proofs
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
SELECT plan(45);

CREATE FUNCTION pg_temp.answer(query text) RETURNS SETOF text LANGUAGE sql AS $$ SELECT a FROM dblink('work', query) AS d (a text) $$;
CREATE PROCEDURE pg_temp.run(statement text) LANGUAGE plpgsql AS $$ BEGIN PERFORM dblink_exec('work', statement); END $$;
CALL pg_temp.run('CREATE EXTENSION pg_tenancy');
SELECT is(pg_temp.answer('SELECT tenancy.tree_root(''aaaaaaaa-0000-4000-8000-000000000001'') = sha256('''')'), 't', 'an organization without events has the empty tree');
SELECT throws_ok($$ SELECT pg_temp.answer('SELECT tenancy.checkpoint_inclusion_proof(1)') $$, '42704', NULL, 'without a checkpoint there is no proof of one');
CALL pg_temp.run($$ DO 'BEGIN PERFORM tenancy.create_organization(''Acme'', ''aaaaaaaa-0000-4000-8000-000000000001''), tenancy.create_organization(''Bolt'', ''bbbbbbbb-0000-4000-8000-000000000002''),
    tenancy.create_organization(''Coil'', ''cccccccc-0000-4000-8000-000000000003''); END' $$);
CALL pg_temp.run('CREATE TABLE public.finding (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organization_id uuid NOT NULL)');
CALL pg_temp.run($$ DO 'BEGIN PERFORM tenancy.protect(''public.finding''); END' $$);
-- More than a node of the second stored level (65,536) of one organization, some of another.
CALL pg_temp.run($$ INSERT INTO finding (organization_id) SELECT 'aaaaaaaa-0000-4000-8000-000000000001' FROM generate_series(1, 66000) $$);
DO $$
BEGIN
    FOR n IN 1 .. 20 LOOP
        CALL pg_temp.run(format('INSERT INTO finding (organization_id) SELECT ''bbbbbbbb-0000-4000-8000-000000000002'' FROM generate_series(1, %s)', 5 * n));
        PERFORM pg_temp.answer('SELECT tenancy.checkpoint()');
    END LOOP;
END
$$;
CALL pg_temp.run($$ CREATE FUNCTION root_by_definition(hashes bytea[]) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS '
DECLARE size int := cardinality(hashes); half int := 1;
BEGIN
    IF size = 1 THEN RETURN sha256(''\x00'' || hashes[1]); END IF;
    WHILE half * 2 < size LOOP half := half * 2; END LOOP;
    RETURN sha256(''\x01'' || root_by_definition(hashes[1:half]) || root_by_definition(hashes[half + 1:size]));
END' $$);

-- Events --------------------------------------------------------------------------------------------------------------

SELECT is(pg_temp.answer($$ SELECT bool_and(tenancy.tree_root('bbbbbbbb-0000-4000-8000-000000000002', n) = root_by_definition((
    SELECT array_agg(event_hash ORDER BY position) FROM tenancy.seal WHERE organization = 'bbbbbbbb-0000-4000-8000-000000000002' AND position <= n)))
    FROM unnest('{1,2,3,7,8,9,255,256,257,258,300,511,512,513,767,768,769,1000}'::int[]) n $$), 't', 'the root of any size is that of the definition, whatever is stored of the tree');
SELECT is(pg_temp.answer($$ SELECT bool_and(h.frontier <> '' AND tenancy.verify_consistency(h.position, tenancy.tree_root(h.organization, h.position), n.position, tenancy.tree_root(h.organization, n.position),
    tenancy.consistency_proof(h.organization, h.position, n.position))) FROM tenancy.head h JOIN tenancy.head n ON n.organization = h.organization AND n.position >= h.position $$), 't', 'each tree that a block left continues the ones before');
SELECT is(pg_temp.answer($$ SELECT bool_and(tenancy.verify_inclusion(s.event_hash, s.position, n, tenancy.inclusion_proof(s.organization, s.position, n), tenancy.tree_root(s.organization, n)))
    FROM generate_series(1, 700, 1) n JOIN tenancy.seal s ON s.organization = 'bbbbbbbb-0000-4000-8000-000000000002' AND s.position <= n AND (s.position % 61 = n % 61 OR s.position = n) $$), 't',
    'in trees of hundreds of sizes each event is proved');
SELECT is(pg_temp.answer($$ SELECT bool_and(tenancy.verify_consistency(o, tenancy.tree_root(b, o), n, tenancy.tree_root(b, n), tenancy.consistency_proof(b, o, n)))
    FROM (SELECT 'bbbbbbbb-0000-4000-8000-000000000002'::uuid AS b) b, generate_series(0, 700, 3) o, generate_series(o, 700, 41) n $$), 't', 'and that each continues the others');
SELECT is(pg_temp.answer($$ SELECT bool_and(tenancy.verify_inclusion(s.event_hash, s.position, n, tenancy.inclusion_proof(s.organization, s.position, n), tenancy.tree_root(s.organization, n)))
    FROM unnest('{66001,65536,65537,65535,65000}'::int[]) n JOIN tenancy.seal s ON s.organization = 'aaaaaaaa-0000-4000-8000-000000000001' AND s.position IN (1, 256, 257, 32768, 65000, 65535, 65536, 65537, 66001) AND s.position <= n $$), 't',
    'in a long history too');
SELECT is(pg_temp.answer($$ SELECT cardinality(tenancy.inclusion_proof('aaaaaaaa-0000-4000-8000-000000000001', 40000, 65536)) $$), '16', 'with as many hashes as the tree is high');
SELECT is(pg_temp.answer($$ SELECT tenancy.inclusion_proof('cccccccc-0000-4000-8000-000000000003', 1) $$), '{}', 'the only event of an organization needs none');
SELECT is(pg_temp.answer($$ SELECT tenancy.inclusion_proof('bbbbbbbb-0000-4000-8000-000000000002', 5) = tenancy.inclusion_proof('bbbbbbbb-0000-4000-8000-000000000002', 5, 1051) $$), 't', 'the size is that of all, unless another is named');
SELECT is(pg_temp.answer($$ SELECT bool_or(tenancy.verify_inclusion(s.event_hash, s.position, 300, tenancy.inclusion_proof(s.organization, 77, 300), tenancy.tree_root(s.organization, 300)))
    FROM tenancy.seal s WHERE s.organization = 'bbbbbbbb-0000-4000-8000-000000000002' AND s.position <> 77 $$), 'f', 'the proof of one event proves no other');
SELECT is(pg_temp.answer('SELECT ' || wrong), 'f', 'no proof: ' || wrong) FROM unnest(ARRAY[
    $$ tenancy.verify_inclusion('x', 0, 1, '{}', sha256('\x0078')) $$, $$ tenancy.verify_inclusion('x', -1, 1, '{}', sha256('\x0078')) $$, $$ tenancy.verify_inclusion('x', 2, 1, '{}', sha256('\x0078')) $$,
    $$ tenancy.verify_inclusion('x', 1, 1, '{NULL}', sha256('\x0078')) $$, $$ tenancy.verify_inclusion('x', 1, 1, '{"\\x00"}', sha256('\x0078')) $$, $$ tenancy.verify_inclusion('x', 1, 1, '{}', 'x') $$,
    $$ tenancy.verify_consistency(-1, sha256(''), 1, sha256('\x0078'), '{}') $$, $$ tenancy.verify_consistency(2, sha256(''), 1, sha256('\x0078'), '{}') $$, $$ tenancy.verify_consistency(1, 'x', 1, 'x', '{}') $$]) wrong;
SELECT is(pg_temp.answer($$ SELECT tenancy.verify_inclusion('x', 1, 1, '{}', sha256('\x0078')) $$), 't', '(as against this one)');
SELECT is(pg_temp.answer($$ SELECT tenancy.verify_inclusion(NULL, 1, 1, '{}', sha256('\x0078')) $$), NULL, 'of what is not known nothing is said');
SELECT throws_ok(format('SELECT pg_temp.answer(%L)', 'SELECT tenancy.' || call), code, NULL, 'refused: ' || call) FROM (VALUES
    ('22004', 'inclusion_proof(NULL, 1)'), ('22004', 'inclusion_proof(''bbbbbbbb-0000-4000-8000-000000000002'', NULL)'), ('22004', 'consistency_proof(''bbbbbbbb-0000-4000-8000-000000000002'', NULL)'),
    ('22004', 'head_proof(NULL)'), ('22004', 'tree_root(NULL)'), ('22004', 'checkpoint_inclusion_proof(NULL)'),
    ('22023', 'inclusion_proof(''bbbbbbbb-0000-4000-8000-000000000002'', 0)'), ('22023', 'inclusion_proof(''bbbbbbbb-0000-4000-8000-000000000002'', 10, 9)'), ('22023', 'inclusion_proof(''bbbbbbbb-0000-4000-8000-000000000002'', 1, 1052)'),
    ('22023', 'inclusion_proof(''dddddddd-0000-4000-8000-000000000003'', 1)'), ('22023', 'consistency_proof(''bbbbbbbb-0000-4000-8000-000000000002'', 10, 9)'), ('22023', 'consistency_proof(''bbbbbbbb-0000-4000-8000-000000000002'', -1)'),
    ('22023', 'checkpoint_inclusion_proof(1, 99)'), ('42704', 'head_proof(''bbbbbbbb-0000-4000-8000-000000000002'', 99)')) v (code, call);

-- Heads and checkpoints -----------------------------------------------------------------------------------------------

SELECT is(pg_temp.answer($$ SELECT count(*) || ' ' || bool_and(tenancy.verify_inclusion(p.digest, p.place, p.heads, p.proof, c.heads_root) AND p.root = tenancy.tree_root(o, p.position) AND p.heads = c.heads)
    FROM tenancy.checkpoint c, (SELECT DISTINCT organization AS o FROM tenancy.head) o, tenancy.head_proof(o, c.number) p $$), '80 true', 'each organization is shown its head in each checkpoint');
SELECT is_empty($$ SELECT pg_temp.answer('SELECT place FROM tenancy.head_proof(''dddddddd-0000-4000-8000-000000000003'')') $$, 'who has no event has none');
SELECT is(pg_temp.answer($$ SELECT bool_and(tenancy.verify_inclusion(a.digest, a.number, b.number, tenancy.checkpoint_inclusion_proof(a.number, b.number), b.root)
    AND tenancy.verify_consistency(a.number, a.root, b.number, b.root, tenancy.checkpoint_consistency_proof(a.number, b.number, b.incarnation))) FROM tenancy.checkpoint a JOIN tenancy.checkpoint b ON a.number <= b.number $$), 't',
    'each checkpoint is in each later one, which continues it');
SELECT is(pg_temp.answer($$ SELECT bool_or(tenancy.verify_consistency(a.number, sha256(a.root), b.number, b.root, tenancy.checkpoint_consistency_proof(a.number, b.number))) FROM tenancy.checkpoint a JOIN tenancy.checkpoint b ON a.number < b.number $$), 'f',
    'and none that another root was signed for');

CALL pg_temp.run('SET ROLE tenancy_admin');
SELECT is(pg_temp.answer($$ SELECT cardinality(tenancy.inclusion_proof('bbbbbbbb-0000-4000-8000-000000000002', 1, 1000)) $$), '10', 'who may not read the events may still prove them');
CALL pg_temp.run('SET ROLE tenancy_application');
SELECT throws_ok(format('SELECT pg_temp.answer(%L)', 'SELECT tenancy.' || call), '42501', NULL, 'an application may not call ' || call) FROM unnest(ARRAY[
    'inclusion_proof(''bbbbbbbb-0000-4000-8000-000000000002'', 1)', 'head_proof(''bbbbbbbb-0000-4000-8000-000000000002'')', 'tree_root(''bbbbbbbb-0000-4000-8000-000000000002'')', 'checkpoint_consistency_proof(1)']) call;
CALL pg_temp.run('RESET ROLE');

SELECT * FROM finish();
ROLLBACK;
\endif
SELECT dblink_disconnect(c) FROM unnest(dblink_get_connections()) c WHERE c <> 'admin' \g /dev/null
SELECT dblink_exec('admin', format('DROP DATABASE IF EXISTS %I WITH (FORCE)', :'work')) \g /dev/null
