-- Capture: each change of a row of a protected table is one event, written in its transaction and as it was.
BEGIN;
\ir ../helpers/fixture.sql
-- Rows of other organizations under a context: how they are captured, not whether they may be changed.
SELECT tenancy.set_guardrail('cross_tenant_change', 'off', 'a superuser changes rows of all') \g /dev/null
SELECT plan(72);

-- The events of this suite's rows: those before are of the members and tables of the fixture.
-- tenancy.event asks for the rights of whoever reads it.
CREATE FUNCTION test.events() RETURNS SETOF tenancy.event LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM tenancy.event WHERE transaction = pg_current_xact_id()';
CREATE VIEW test.event AS
SELECT row_number() OVER (ORDER BY e.occurred_at, e.ordinal) AS n, e.*, a.subject, a.role, a.method, a.issuer, a.session_id, a.correlation_id,
       a.session_user_name, a.current_user_name, a.organization AS actor_organization, a.application_name,
       (e.payload -> 'old')::jsonb AS old, (e.payload -> 'new')::jsonb AS new
  FROM test.events() e JOIN tenancy.event_actor a ON a.id = e.actor
 WHERE e.transaction = pg_current_xact_id() AND e.table_schema = 'app' AND e.domain <> 'schema';
CREATE FUNCTION test.newest() RETURNS SETOF test.event LANGUAGE sql AS $$ SELECT * FROM test.event ORDER BY n DESC LIMIT 1 $$;
CREATE FUNCTION test.change(statement text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    before bigint := (SELECT count(*) FROM test.event);
BEGIN
    EXECUTE statement;
    RETURN (SELECT count(*) FROM test.event) - before;
END
$$;
GRANT SELECT ON test.event, tenancy.event, tenancy.event_actor TO PUBLIC;

SELECT is((SELECT count(*) FROM test.event), 0::bigint, 'protecting a table writes no event for the rows that are there');

SELECT count(*) FILTER (WHERE organization = test.acme()) AS earlier, count(*) FILTER (WHERE organization = test.bolt()) + 1 AS next_of_bolt FROM tenancy.event WHERE transaction = pg_current_xact_id() \gset
SET LOCAL application_name = 'suite';
SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('ada', correlation_id => 'request 7');

-- One per row ---------------------------------------------------------------------------------------------------------

SELECT is(test.change(statement), events, promise) FROM (VALUES
    (1, $$ INSERT INTO app.finding (id, title) VALUES (10, 'one') $$, 1::bigint, 'an insert is an event'),
    (2, $$ INSERT INTO app.finding (id, title) VALUES (11, 'a'), (12, 'b'), (13, 'c') $$, 3, 'an insert of three rows is three events'),
    (3, $$ UPDATE app.finding SET severity = 2 WHERE id = 10 $$, 1, 'an update is an event'),
    (4, $$ UPDATE app.finding SET severity = 3 WHERE id > 10 $$, 3, 'an update of three rows is three events'),
    (5, $$ UPDATE app.finding SET severity = 3 WHERE id = 999 $$, 0, 'an update of no row is no event'),
    (6, $$ DELETE FROM app.finding WHERE id = 13 $$, 1, 'a delete is an event'),
    (7, $$ INSERT INTO app.finding (id, title) VALUES (10, 'x') ON CONFLICT DO NOTHING $$, 0, 'an insert that does nothing is no event'),
    (8, $$ INSERT INTO app.finding (id, title) VALUES (10, 'x') ON CONFLICT (id) DO UPDATE SET title = 'y' $$, 1, 'an insert that updates is one event'),
    (9, $$ MERGE INTO app.finding f USING (VALUES (10), (11), (14)) v (id) ON f.id = v.id WHEN MATCHED AND f.id = 10 THEN DELETE
           WHEN MATCHED THEN UPDATE SET title = 'm' WHEN NOT MATCHED THEN INSERT (id, title) VALUES (v.id, 'm') $$, 3, 'MERGE writes an event for each row'),
    (10, $$ WITH d AS (DELETE FROM app.finding WHERE id = 14 RETURNING *) INSERT INTO app.finding SELECT id + 1, organization_id, title FROM d $$, 2, 'a CTE that changes rows writes its events'),
    (11, $$ SELECT * FROM app.finding $$, 0, 'reading is no event')
) AS v (n, statement, events, promise) ORDER BY n;
SELECT is((SELECT array_agg(ordinal ORDER BY n) FROM test.event), (SELECT array_agg(i) FROM generate_series(:earlier + 1, :earlier + 15) i),
          'the events of the transaction are numbered without gaps');
SELECT is((SELECT count(*) FROM (SELECT prev_hash, lag(hash) OVER (ORDER BY ordinal) AS before FROM test.event WHERE place = 0) e WHERE prev_hash <> before), 0::bigint,
          'each batch names the hash of the one before');
SELECT is((SELECT count(*) FROM (SELECT batch, lag(batch) OVER own AS before, place, lag(place) OVER own AS place_before FROM test.event WINDOW own AS (ORDER BY ordinal)) e
            WHERE place > 0 AND (batch, place) IS DISTINCT FROM (before, place_before + 1)), 0::bigint, 'the events of a batch follow each other');
SELECT is((SELECT max(batch_events) FROM test.event), 3, 'rows of one statement share a batch');
SELECT is((SELECT count(DISTINCT id) FROM test.event), 15::bigint, 'no two events have the same id');
SELECT is((SELECT count(*) FROM test.event WHERE tenancy.batch_of(id) <> batch), 0::bigint, 'whose id tells the batch');
SELECT is((SELECT count(DISTINCT hash) FROM test.event), (SELECT count(DISTINCT batch) FROM test.event), 'no two batches have the same hash');
SELECT is((SELECT count(DISTINCT actor) FROM test.event), 1::bigint, 'events of one actor share one row of event_actor');

-- What it says --------------------------------------------------------------------------------------------------------

INSERT INTO app.finding (id, title) VALUES (20, 'it''s "new"');
SELECT is(to_jsonb(e) - '{n,id,actor,occurred_at,payload,payload_salt,payload_digest,batch,batch_events,place,prev_hash,hash,transaction}'::text[], jsonb_build_object(
    'organization', test.acme(), 'ordinal', :earlier + 16, 'operation', 'insert', 'domain', 'finding', 'table_schema', 'app', 'table_name', 'finding',
    'row_key', '{"id": 20}'::jsonb, 'result', 'success', 'reason', NULL, 'encoding', 2,
    'subject', 'ada', 'role', 'admin', 'method', 'token', 'issuer', test.issuer(), 'session_id', 'session of ada', 'correlation_id', 'request 7',
    'session_user_name', 'test_application', 'current_user_name', 'test_application', 'actor_organization', test.acme(), 'application_name', 'suite',
    'old', NULL, 'new', jsonb_build_object('id', 20, 'organization_id', test.acme(), 'title', 'it''s "new"')),
    'an event tells organization, operation, table, key, values, actor, role, session, correlation id and database users') FROM test.newest() e;
SELECT is((SELECT transaction FROM test.newest()), pg_current_xact_id(), 'an event tells the transaction');
SELECT ok((SELECT occurred_at BETWEEN now() AND clock_timestamp() FROM test.newest()), 'an event tells the time');
SELECT is((SELECT (octet_length(hash), octet_length(prev_hash), octet_length(payload_digest), octet_length(payload_salt)) FROM test.newest()), (32, 32, 32, 16),
          'hashes have 32 bytes and the salt 16');
SELECT is((SELECT substr(id::text, 15, 1) FROM test.newest()), '7', 'the id is a time-ordered UUID');

UPDATE app.finding SET severity = 4 WHERE id = 20;
SELECT test.same('SELECT operation, old, new, row_key::text FROM test.newest()', $$ VALUES ('update', '{"severity": null}'::jsonb, '{"severity": 4}'::jsonb, '{"id":20}') $$,
                  'an update tells the old and new values of the columns that changed, and of no others');
UPDATE app.finding SET severity = NULL, title = title WHERE id = 20;
SELECT test.same('SELECT old, new FROM test.newest()', $$ VALUES ('{"severity": 4}'::jsonb, '{"severity": null}'::jsonb) $$, 'a value that became NULL is told as null');
UPDATE app.finding SET title = title WHERE id = 20;
SELECT test.same('SELECT old, new FROM test.newest()', $$ VALUES ('{}'::jsonb, '{}'::jsonb) $$, 'an update that changed nothing says so');
UPDATE app.finding SET id = 21 WHERE id = 20;
SELECT test.same('SELECT old, new, row_key::text FROM test.newest()', $$ VALUES ('{"id": 20}'::jsonb, '{"id": 21}'::jsonb, '{"id":21}') $$, 'a changed key is told, and the event names the new one');
DELETE FROM app.finding WHERE id = 21;
SELECT test.same('SELECT operation, old, new, row_key::text FROM test.newest()',
                  $$ VALUES ('delete', jsonb_build_object('id', 21, 'organization_id', test.acme(), 'title', 'it''s "new"'), NULL::jsonb, '{"id":21}') $$,
                  'a delete tells the values that are gone');

-- Actors --------------------------------------------------------------------------------------------------------------

CALL test.sign_in('ada', correlation_id => 'request 8');
INSERT INTO app.finding (id, title) VALUES (22, 'by ada again');
SELECT test.same('SELECT subject, role, correlation_id FROM test.newest()', $$ VALUES ('ada', 'admin', 'request 8') $$, 'another sign-in is another actor');
RESET SESSION AUTHORIZATION;
CALL test.sign_out();
INSERT INTO app.finding VALUES (23, test.bolt(), 'by the superuser');
SELECT test.same('SELECT organization, subject, role, method, correlation_id, session_user_name, actor_organization FROM test.newest()',
                  $$ SELECT test.bolt(), NULL::text, NULL::text, 'none', NULL::text, session_user::text, NULL::uuid $$,
                  'a superuser without a context is recorded as the database user that it is');
SELECT is((SELECT ordinal FROM test.newest()), :next_of_bolt, 'the events of another organization are numbered by themselves');
CALL test.sign_in('ada');
UPDATE app.finding SET title = 'changed across' WHERE id = 23;
SELECT test.same('SELECT organization, subject, actor_organization FROM test.newest()', $$ SELECT test.bolt(), 'ada', test.acme() $$,
                  'a superuser who acts for one organization on another''s row: the event belongs to the row''s, and tells the actor''s');
SELECT is(test.change($$ UPDATE app.finding SET organization_id = test.acme() WHERE id = 23 $$), 2::bigint, 'moving a row to another organization is two events');
SELECT set_eq($$ SELECT operation, organization FROM test.event WHERE table_name = 'finding' AND row_key ->> 'id' = '23' AND operation <> 'update' $$,
              $$ VALUES ('insert', test.bolt()), ('delete', test.bolt()), ('insert', test.acme()) $$, 'each organization''s events tell its side of it');
CALL test.sign_out();

SET LOCAL ROLE test_owner;
CALL test.sign_in('ada');
INSERT INTO app.finding (id, title) VALUES (24, 'x');
SELECT test.same('SELECT current_user_name FROM test.newest()', $$ VALUES ('test_owner') $$, 'SET ROLE shows in the event');
RESET ROLE;
SELECT is((SELECT session_user_name FROM test.newest()), session_user::text, 'and so does who logged in');

-- Savepoints and rollback ---------------------------------------------------------------------------------------------

CREATE TEMP TABLE mark AS SELECT count(*) AS events, max(ordinal) AS ordinal FROM test.event WHERE organization = test.acme();
SAVEPOINT a;
INSERT INTO app.finding (id, organization_id, title) VALUES (30, test.acme(), 'undone');
SAVEPOINT b;
INSERT INTO app.finding (id, organization_id, title) VALUES (31, test.acme(), 'undone');
RELEASE SAVEPOINT b;
ROLLBACK TO SAVEPOINT a;
SELECT is((SELECT count(*) FROM test.event WHERE organization = test.acme()), events, 'a rolled-back savepoint takes its events back') FROM mark;
INSERT INTO app.finding (id, organization_id, title) VALUES (30, test.acme(), 'kept');
SELECT is((SELECT e.ordinal FROM test.newest() e), mark.ordinal + 1, 'the next event closes the gap') FROM mark;
SELECT is((SELECT count(*) FROM (SELECT prev_hash, lag(hash) OVER (ORDER BY ordinal) AS before FROM test.event WHERE organization = test.acme() AND place = 0) e WHERE prev_hash <> before), 0::bigint,
          'and follows the last one that stayed');
SELECT throws_ok($$ INSERT INTO app.finding (id, organization_id, title) VALUES (32, test.acme(), 'x'), (30, test.acme(), 'x') $$, '23505', NULL, 'a statement that fails');
SELECT is((SELECT count(*) FROM test.event WHERE row_key ->> 'id' = '32'), 0::bigint, 'leaves no event');
SAVEPOINT c;
CALL test.sign_in('ada', correlation_id => 'request 9');
SELECT lives_ok($$ INSERT INTO app.finding (id, organization_id, title) VALUES (33, test.acme(), 'x') $$, '(an actor inside a savepoint)');
ROLLBACK TO SAVEPOINT c;
CALL test.sign_in('ada', correlation_id => 'request 9');
INSERT INTO app.finding (id, organization_id, title) VALUES (33, test.acme(), 'x');
SELECT is((SELECT correlation_id FROM test.newest()), 'request 9', 'an actor that went with a savepoint is written again');
CALL test.sign_out();

-- Replication role, COPY, TRUNCATE ------------------------------------------------------------------------------------

SET LOCAL session_replication_role = replica;
SELECT is(test.change($$ DELETE FROM app.finding WHERE id = 33 $$), 1::bigint, 'session_replication_role = replica keeps no event from being written');
SET LOCAL session_replication_role = origin;
COPY app.finding FROM STDIN;
40	aaaaaaaa-0000-4000-8000-000000000001	copied	\N
41	bbbbbbbb-0000-4000-8000-000000000002	copied	\N
\.
SELECT is((SELECT count(*) FROM test.event WHERE row_key ->> 'id' IN ('40', '41')), 2::bigint, 'COPY writes an event for each row');
CREATE TEMP TABLE rows_before AS SELECT organization_id, count(*) FROM app.finding GROUP BY 1;
SELECT is(test.change('TRUNCATE app.finding'), 2::bigint, 'TRUNCATE is an event for each organization that loses rows');
SELECT test.same($$ SELECT e.organization, e.operation, e.payload::text, e.row_key::text FROM test.event e WHERE operation = 'truncate' ORDER BY 1 $$,
                  $$ SELECT organization_id, 'truncate', format('{"rows":%s}', count), NULL FROM rows_before ORDER BY 1 $$, 'it tells how many rows each lost');
SELECT is(test.change('TRUNCATE app.finding'), 0::bigint, 'TRUNCATE of an empty table is no event');
CALL test.sign_in('ada');
SELECT test.refused('TRUNCATE app.finding', '42501', 'TRUNCATE of "finding" would remove the rows of every organization', 'Delete the organization''s own rows instead%',
                    'under a context even a superuser''s TRUNCATE is refused');
CALL test.sign_out();
GRANT TRUNCATE ON app.finding TO test_application;
SET LOCAL SESSION AUTHORIZATION test_application;
SELECT test.refused('TRUNCATE app.finding', '42501', 'TRUNCATE of "finding"%', '%', 'an application that was granted TRUNCATE is refused, without a context too');
RESET SESSION AUTHORIZATION;

-- Tables that change --------------------------------------------------------------------------------------------------

ALTER TABLE app.finding ADD COLUMN note text DEFAULT 'none', DROP COLUMN title;
INSERT INTO app.finding (id, organization_id) VALUES (50, test.acme());
SELECT is((SELECT new FROM test.newest()), jsonb_build_object('id', 50, 'organization_id', test.acme(), 'note', 'none'), 'columns added and dropped since are told as they are now');
ALTER TABLE app.finding RENAME COLUMN note TO remark;
ALTER TABLE app.finding RENAME TO observation;
UPDATE app.observation SET remark = 'r';
SELECT test.same('SELECT table_name, new, domain FROM test.newest()', $$ VALUES ('observation', '{"remark": "r"}'::jsonb, 'finding') $$, 'a renamed table and column are told by their new names');
SET LOCAL tenancy.override_reason = 'a column that loses its name';
ALTER TABLE app.observation RENAME COLUMN organization_id TO org;
SELECT test.refused($$ UPDATE app.observation SET remark = 's' $$, '42703', 'table "observation" has no column "organization_id", by which it was protected', '%',
                    'once the organization column is renamed nothing is written unrecorded');
ALTER TABLE app.observation RENAME COLUMN org TO organization_id;
CREATE TABLE app.keyless (organization_id uuid NOT NULL, n integer);
CREATE TABLE app.two_keys (b text, a integer, organization_id uuid NOT NULL, PRIMARY KEY (a, b));
SELECT tenancy.protect(t) FROM unnest('{app.keyless,app.two_keys}'::regclass[]) t \g /dev/null
INSERT INTO app.keyless VALUES (test.acme(), 1);
SELECT is((SELECT row_key FROM test.newest())::text, NULL, 'a table without a primary key has events without a key');
INSERT INTO app.two_keys VALUES ('x', 1, test.acme());
SELECT is((SELECT row_key FROM test.newest())::jsonb, '{"a": 1, "b": "x"}', 'a key of two columns is told whole');

-- Nobody writes there by hand -----------------------------------------------------------------------------------------

SELECT test.refused(format(statement, name), '42501', '%tenancy.' || name || '%', 'What was recorded stays recorded%', format('a superuser''s %s is refused', format(statement, name)))
  FROM unnest('{event_batch,event_actor,block,seal}'::text[]) name,
       unnest(ARRAY['UPDATE tenancy.%1$s SET %1$s = %1$s WHERE false', 'DELETE FROM tenancy.%s', 'TRUNCATE tenancy.%s']) statement
 WHERE statement NOT LIKE 'UPDATE%';
SELECT test.refused(statement, '42501', '%', 'What was recorded stays recorded%', format('a superuser''s %s is refused', statement))
  FROM unnest(ARRAY['UPDATE tenancy.event_batch SET domain = domain', 'UPDATE tenancy.event_batch SET domain = domain WHERE false', 'UPDATE tenancy.event_actor SET subject = NULL',
                    'UPDATE tenancy.block SET events = 0', 'UPDATE tenancy.seal SET position = 0',
                    'MERGE INTO tenancy.event_batch e USING tenancy.event_batch f ON e.id = f.id WHEN MATCHED THEN DELETE']) statement;
SET LOCAL session_replication_role = replica;
SELECT test.refused('DELETE FROM tenancy.event_batch', '42501', '%', 'What was recorded stays recorded%', 'session_replication_role = replica does not help');
SET LOCAL session_replication_role = origin;

SELECT * FROM finish();
ROLLBACK;
