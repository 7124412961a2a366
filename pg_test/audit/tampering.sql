-- Sealing and tampering. Events are sealed once their transaction has committed, so this suite works in a database of its
-- own, over a second connection, and drops it at the end. What a superuser tampers with there is rolled back each time.
\set work pg_tenancy_tampering
SELECT format('port=%s user=%s', current_setting('port'), quote_literal(session_user)) ||
       coalesce(' host=' || quote_literal(split_part(nullif(current_setting('unix_socket_directories'), ''), ',', 1)), '') AS server \gset
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dblink;
SELECT dblink_connect('admin', :'server' || ' dbname=postgres'), dblink_exec('admin', 'SET client_min_messages = warning') \g /dev/null
SELECT dblink_exec('admin', format('DROP DATABASE IF EXISTS %I WITH (FORCE)', :'work')), dblink_exec('admin', format('CREATE DATABASE %I TEMPLATE template0', :'work')) \g /dev/null
SELECT dblink_connect('work', :'server' || ' dbname=' || :'work'), dblink_exec('work', 'SET client_min_messages = warning') \g /dev/null

BEGIN;
SET LOCAL search_path = public;
SELECT plan(62);

SELECT dblink_exec('work', statement) FROM (VALUES
    ('CREATE EXTENSION pg_tenancy'),
    ('CREATE TABLE public.finding (id integer PRIMARY KEY, organization_id uuid NOT NULL, title text)'),
    ($$ DO 'BEGIN PERFORM tenancy.protect(''public.finding''); END' $$),
    ($$ INSERT INTO finding SELECT n, 'aaaaaaaa-0000-4000-8000-000000000001', 'a' || n FROM generate_series(1, 3) n $$),
    ($$ INSERT INTO finding SELECT n, 'bbbbbbbb-0000-4000-8000-000000000002', 'b' || n FROM generate_series(4, 5) n $$),
    ($$ UPDATE finding SET title = 'changed' WHERE id IN (2, 4) $$),
    -- Another actor: a session writes its actor once, as long as it stays the same.
    ('SET application_name = ''cleaner'''),
    ($$ DELETE FROM finding WHERE id = 3 $$),
    ('RESET application_name')
) AS v (statement) \g /dev/null

CREATE FUNCTION pg_temp.answer(query text) RETURNS SETOF text LANGUAGE sql AS $$ SELECT a FROM dblink('work', query) AS d (a text) $$;

-- Sealing -------------------------------------------------------------------------------------------------------------

SELECT is(pg_temp.answer('SELECT count(*) FROM tenancy.seal'), '0', 'committing seals nothing by itself');
-- One event besides those of the rows: the table was protected.
SELECT is(pg_temp.answer('SELECT tenancy.seal()'), '9', 'seal takes every committed event');
-- And one that tells what captures, which the sealer has written itself.
SELECT is(pg_temp.answer('SELECT tenancy.seal()'), '1', 'and takes none twice');
SELECT set_eq($$ SELECT pg_temp.answer('SELECT format(''%s %s'', organization, string_agg(position::text, '','' ORDER BY position)) FROM tenancy.seal WHERE organization <> ''00000000-0000-0000-0000-000000000000'' GROUP BY organization') $$,
              ARRAY['aaaaaaaa-0000-4000-8000-000000000001 1,2,3,4,5', 'bbbbbbbb-0000-4000-8000-000000000002 1,2,3'], 'each organization''s events have places from 1 without gaps');
SELECT results_eq($$ SELECT pg_temp.answer('SELECT format(''%s %s'', operation, row_key) FROM tenancy.audit_trail WHERE organization::text LIKE ''aaaa%'' ORDER BY position') $$,
                  ARRAY['insert {"id":1}', 'insert {"id":2}', 'insert {"id":3}', 'update {"id":2}', 'delete {"id":3}'], 'in the order in which they happened');
SELECT is(pg_temp.answer('SELECT count(*) || '' '' || max(events) FROM tenancy.block'), '2 9', 'a run of the sealer is a block');
SELECT is(pg_temp.answer($$ SELECT count(*) FROM (SELECT s.chain, sha256(NULL) FROM tenancy.seal s GROUP BY 1) c $$), '10', 'no two places have the same chain value');
SELECT is(pg_temp.answer($$
    SELECT count(*) FROM tenancy.event e WHERE ordinal = 1 AND NOT EXISTS (SELECT FROM tenancy.seal s WHERE s.organization = e.organization AND s.chain = e.prev_hash)
       AND e.prev_hash <> (SELECT prev_hash FROM tenancy.event f WHERE f.organization = e.organization ORDER BY occurred_at LIMIT 1) $$), '0',
    'a transaction''s first event follows a sealed head, or the beginning');
SELECT is_empty($$ SELECT pg_temp.answer('SELECT finding FROM tenancy.verify_audit()') $$, 'an untouched audit verifies');

SELECT dblink_exec('work', 'BEGIN') \g /dev/null
SELECT dblink_exec('work', $$ INSERT INTO finding VALUES (6, 'aaaaaaaa-0000-4000-8000-000000000001', 'late') $$) \g /dev/null
SELECT is(pg_temp.answer('SELECT tenancy.seal()'), '0', 'the sealer leaves the events of its own transaction for later');
SELECT is_empty($$ SELECT pg_temp.answer('SELECT finding FROM tenancy.verify_audit()') $$, 'which is no finding');
SELECT dblink_exec('work', 'COMMIT') \g /dev/null
SELECT is(pg_temp.answer('SELECT tenancy.seal()'), '1', 'and takes them after its commit');
SELECT is(pg_temp.answer('SELECT (SELECT prev_hash FROM tenancy.event WHERE row_key ->> ''id'' = ''6'') = (SELECT chain FROM tenancy.seal WHERE organization::text LIKE ''aaaa%'' AND position = 5)'), 't',
          'an event written after a seal follows the sealed head');

-- Nobody is told ------------------------------------------------------------------------------------------------------------

SELECT dblink_exec('work', 'LISTEN tenancy; LISTEN pg_tenancy; LISTEN audit; LISTEN event') \g /dev/null
SELECT dblink_exec('work', $$ INSERT INTO finding VALUES (7, 'bbbbbbbb-0000-4000-8000-000000000002', 'x') $$) \g /dev/null
SELECT is_empty($$ SELECT * FROM dblink_get_notify('work') $$, 'a change notifies no listener');
SELECT is(pg_temp.answer('SELECT tenancy.seal()'), '1', '(it is sealed)');

-- Tampering -----------------------------------------------------------------------------------------------------------------

-- Runs the damage in a transaction with the guards off, verifies in it, and takes it back. Findings as "finding place key".
CREATE FUNCTION pg_temp.found_after(damage text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    found text[];
BEGIN
    PERFORM dblink_exec('work', 'BEGIN; ALTER TABLE tenancy.event DISABLE TRIGGER USER; ALTER TABLE tenancy.event_actor DISABLE TRIGGER USER; ALTER TABLE tenancy.seal DISABLE TRIGGER USER; ALTER TABLE tenancy.block DISABLE TRIGGER USER; ALTER TABLE tenancy.head DISABLE TRIGGER USER');
    PERFORM dblink_exec('work', damage);
    found := ARRAY(SELECT pg_temp.answer('SELECT concat_ws('' '', finding, coalesce(left(organization_id::text, 1) || coalesce(position::text, ''-''), ''block '' || block), table_name, row_key) FROM tenancy.verify_audit(whole => true)'));
    PERFORM dblink_exec('work', 'ROLLBACK');
    RETURN found;
END
$$;
-- Where an event stands: e('a2') is the second of the organization that begins with an a.
SELECT dblink_exec('work', $$ CREATE FUNCTION e(place text) RETURNS uuid LANGUAGE sql AS
    'SELECT event FROM tenancy.seal WHERE left(organization::text, 1) || position = place' $$) \g /dev/null

SELECT is(pg_temp.found_after(damage), found, promise) FROM (VALUES
    (1, $$ UPDATE tenancy.event SET domain = domain $$, '{}'::text[], 'nothing done, nothing found'),
    (2, $$ UPDATE tenancy.event SET payload = '{"new":{"id":2,"title":"never"}}' WHERE id = e('a2') $$, ARRAY['altered a2 public.finding {"id":2}'], 'a changed payload is found, and the row it is about'),
    (3, $$ UPDATE tenancy.event SET payload = (payload::text || ' ')::json WHERE id = e('a2') $$, ARRAY['altered a2 public.finding {"id":2}'], 'one more space in a payload is found'),
    (4, $$ UPDATE tenancy.event SET payload = NULL WHERE id = e('a2') $$, ARRAY['altered a2 public.finding {"id":2}'], 'a payload taken away is found'),
    (5, $$ UPDATE tenancy.event SET payload_salt = '\x00' WHERE id = e('a2') $$, ARRAY['altered a2 public.finding {"id":2}'], 'a changed salt is found'),
    (6, $$ UPDATE tenancy.event SET payload_digest = sha256('x') WHERE id = e('a2') $$, ARRAY['altered a2 public.finding {"id":2}'], 'a changed digest is found'),
    (7, $$ UPDATE tenancy.event SET domain = 'other' WHERE id = e('b2') $$, ARRAY['altered b2 public.finding {"id":5}'], 'a changed domain is found'),
    (8, $$ UPDATE tenancy.event SET operation = 'update' WHERE id = e('a1') $$, ARRAY['altered a1 public.finding {"id":1}'], 'a changed operation is found'),
    (9, $$ UPDATE tenancy.event SET occurred_at = occurred_at + interval '1 microsecond' WHERE id = e('a1') $$, ARRAY['altered a1 public.finding {"id":1}'], 'a time changed by a microsecond is found'),
    (10, $$ UPDATE tenancy.event SET table_name = 'other' WHERE id = e('a1') $$, ARRAY['altered a1 public.other {"id":1}'], 'a changed table is found'),
    (11, $$ UPDATE tenancy.event SET table_schema = 'other' WHERE id = e('a1') $$, ARRAY['altered a1 other.finding {"id":1}'], 'a changed schema is found'),
    (12, $$ UPDATE tenancy.event SET row_key = '{"id":99}' WHERE id = e('a1') $$, ARRAY['altered a1 public.finding {"id":99}'], 'a changed key is found'),
    (13, $$ UPDATE tenancy.event SET result = 'denied' WHERE id = e('a1') $$, ARRAY['altered a1 public.finding {"id":1}'], 'a changed result is found'),
    (14, $$ UPDATE tenancy.event SET reason = '' WHERE id = e('a1') $$, ARRAY['altered a1 public.finding {"id":1}'], 'a reason put in is found'),
    (15, $$ UPDATE tenancy.event SET transaction = '1' WHERE id = e('a1') $$, ARRAY['altered a1 public.finding {"id":1}'], 'a changed transaction is found'),
    (16, $$ UPDATE tenancy.event SET organization = 'bbbbbbbb-0000-4000-8000-000000000002' WHERE id = e('a1') $$, ARRAY['altered a1 public.finding {"id":1}'], 'an event given to another organization is found'),
    (17, $$ UPDATE tenancy.event_actor SET subject = 'somebody' WHERE id = (SELECT actor FROM tenancy.event WHERE id = e('a5')) $$, ARRAY['altered a5 public.finding {"id":3}'], 'a changed actor is found'),
    (18, $$ UPDATE tenancy.event_actor SET session_user_name = 'innocent' WHERE id = (SELECT actor FROM tenancy.event WHERE id = e('a5')) $$, ARRAY['altered a5 public.finding {"id":3}'], 'a changed database user is found'),
    (19, $$ UPDATE tenancy.event SET actor = (SELECT actor FROM tenancy.event WHERE id = e('a1')) WHERE id = e('a5') $$, ARRAY['altered a5 public.finding {"id":3}'], 'an event given to another actor is found'),
    (20, $$ DELETE FROM tenancy.event_actor WHERE id = (SELECT actor FROM tenancy.event WHERE id = e('a5')) $$, ARRAY['missing a5 public.finding {"id":3}'], 'a deleted actor is found'),
    (21, $$ DELETE FROM tenancy.event WHERE id = e('a4') $$, ARRAY['missing a4'], 'a deleted event is found'),
    (22, $$ WITH gone AS (DELETE FROM tenancy.seal WHERE event = e('a4') RETURNING event) DELETE FROM tenancy.event USING gone WHERE id = event $$, ARRAY['missing block 1', 'missing a5 public.finding {"id":3}'],
        'an event deleted together with its place is found at the next one'),
    (23, $$ DELETE FROM tenancy.seal WHERE event = e('a4') $$, ARRAY['missing block 1', 'missing a5 public.finding {"id":3}', 'inserted a- public.finding {"id":2}'], 'a deleted place is found, and the event without one'),
    (24, $$ DELETE FROM tenancy.seal WHERE event = e('a6') $$, ARRAY['missing block 3', 'missing a-', 'inserted a- public.finding {"id":6}'], 'a place deleted at the end leaves an event that no seal knows'),
    (25, $$ INSERT INTO tenancy.event SELECT (left(id::text, 24) || right(gen_random_uuid()::text, 12))::uuid, organization, actor, transaction, ordinal + 1, occurred_at, operation, domain, table_schema, table_name, row_key, result, reason, payload, payload_salt, payload_digest, encoding, hash, sha256('x')
             FROM tenancy.event WHERE id = e('a5') $$, ARRAY['inserted a- public.finding {"id":3}'], 'an event put in is found'),
    (26, $$ UPDATE tenancy.event SET hash = sha256('x') WHERE id = e('a5') $$, ARRAY['altered a5 public.finding {"id":3}'], 'a rewritten hash is found'),
    (27, $$ UPDATE tenancy.event SET prev_hash = sha256('x') WHERE id = e('a5') $$, ARRAY['altered a5 public.finding {"id":3}'], 'a rewritten link is found'),
    (28, $$ UPDATE tenancy.event SET ordinal = 2 WHERE id = e('a5') $$, ARRAY['altered a5 public.finding {"id":3}'], 'a changed ordinal is found'),
    (29, $$ UPDATE tenancy.seal SET event_hash = sha256('x') WHERE event = e('a6') $$, ARRAY['altered block 3', 'altered a6 public.finding {"id":6}'], 'a rewritten hash in the seal is found'),
    (30, $$ UPDATE tenancy.seal SET chain = sha256('x') WHERE event = e('a6') $$, ARRAY['altered block 3', 'altered a6 public.finding {"id":6}'], 'a rewritten chain value is found'),
    (31, $$ UPDATE tenancy.seal SET event = gen_random_uuid() WHERE event = e('a6') $$, ARRAY['altered block 3', 'missing a6', 'inserted a- public.finding {"id":6}'], 'a place that names no event is found'),
    (32, $$ UPDATE tenancy.event SET id = (left(id::text, 24) || right(gen_random_uuid()::text, 12))::uuid WHERE id = e('a6') $$, ARRAY['missing a6', 'inserted a- public.finding {"id":6}'], 'an event under another id is found'),
    (33, $$ DELETE FROM tenancy.seal WHERE event = e('a1') $$, ARRAY['missing block 1', 'missing a2 public.finding {"id":2}', 'inserted a- public.finding {"id":1}'], 'a chain without its beginning is found'),
    (34, $$ WITH gone AS (DELETE FROM tenancy.seal WHERE event = e('a6') RETURNING event) DELETE FROM tenancy.event USING gone WHERE id = event $$, ARRAY['missing block 3', 'missing a-'], 'the newest event of a chain, deleted together with its place, is found'),
    (35, $$ UPDATE tenancy.event SET payload = NULL, payload_salt = NULL WHERE id = e('a2') $$, ARRAY['altered a2 public.finding {"id":2}'], 'a payload taken away with its salt is found'),
    (36, $$ UPDATE tenancy.event SET encoding = 2 WHERE id = e('a2') $$, ARRAY['altered a2 public.finding {"id":2}'], 'another version of the encoding is found'),
    (37, $$ UPDATE tenancy.block SET events = events + 1 WHERE number = 3 $$, ARRAY['altered block 3'], 'another count of a block is found'),
    (38, $$ UPDATE tenancy.block SET sealed_at = sealed_at + interval '1 microsecond' WHERE number = 3 $$, ARRAY['altered block 3'], 'another time of a block is found'),
    (39, $$ UPDATE tenancy.block SET snapshot = '1:1:' WHERE number = 3 $$, ARRAY['altered block 3'], 'another snapshot of a block is found'),
    (40, $$ UPDATE tenancy.seal SET block = 4 WHERE event = e('a6') $$, ARRAY['reordered a6 public.finding {"id":6}'], 'a place moved to another block is found'),
    (41, $$ DELETE FROM tenancy.block WHERE number = 3 $$, ARRAY['missing block 4'], 'a deleted block is found by the gap'),
    (43, $$ ALTER TABLE tenancy.event DROP CONSTRAINT event_hash_check; UPDATE tenancy.event SET hash = '\x00' WHERE id = e('a2') $$, ARRAY['altered a2 public.finding {"id":2}'], 'a hash of another length is found, and hides nothing else'),
    (42, $$ DELETE FROM tenancy.block WHERE number = 4 $$, ARRAY['truncated block 4'], 'the newest block, deleted, is found by its heads')
) AS v (n, damage, found, promise) ORDER BY n;

SELECT cmp_ok(cardinality(pg_temp.found_after($$
    UPDATE tenancy.seal SET position = -position WHERE event IN (e('a1'), e('a2')); UPDATE tenancy.seal SET position = 3 + position WHERE position < 0
$$)), '>', 0, 'two events that changed places are found');
SELECT is_empty($$ SELECT pg_temp.answer('SELECT finding FROM tenancy.verify_audit()') $$, 'with the damage taken back the audit verifies again');

SELECT dblink_exec('work', 'BEGIN; ALTER TABLE tenancy.event DISABLE TRIGGER USER; UPDATE tenancy.event SET payload = ''{}'' WHERE id = e(''a2'')') \g /dev/null
SELECT is_empty($$ SELECT pg_temp.answer('SELECT finding FROM tenancy.verify_audit(''bbbbbbbb-0000-4000-8000-000000000002'', whole => true)') $$, 'verifying one organization tells nothing of another');
SELECT is(pg_temp.answer('SELECT count(*) FROM tenancy.verify_audit(''aaaaaaaa-0000-4000-8000-000000000001'', whole => true)'), '1', 'and all of that one');
SELECT dblink_exec('work', 'ROLLBACK') \g /dev/null

SELECT * FROM finish();
ROLLBACK;

SELECT dblink_disconnect('work') \g /dev/null
SELECT dblink_exec('admin', format('DROP DATABASE %I WITH (FORCE)', :'work')), dblink_disconnect('admin') \g /dev/null
