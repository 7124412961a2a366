-- Rows rebuilt from their events.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(73);

CREATE FUNCTION test.history(name regclass, key jsonb) RETURNS TABLE (line text) LANGUAGE sql AS $$
    SELECT concat_ws(' ', h.operation, coalesce(h."row"::text, '-'), CASE WHEN NOT h.complete THEN 'incomplete' END, nullif(h.undisclosed::text, '{}')) FROM tenancy.row_history(name, key) WITH ORDINALITY h ORDER BY ordinality
$$;
CREATE TABLE app.item (id integer PRIMARY KEY, organization_id uuid NOT NULL, title text, amount numeric, data jsonb, raw json);
DO $$ BEGIN PERFORM tenancy.protect('app.item'); END $$;
CREATE TEMP TABLE moment (name text, at timestamptz);
CREATE FUNCTION test.at(wanted text) RETURNS timestamptz LANGUAGE sql AS $$ SELECT at FROM moment WHERE name = wanted $$;
CREATE PROCEDURE test.mark(name text) LANGUAGE sql AS $$ INSERT INTO moment VALUES (name, clock_timestamp()); SELECT pg_sleep(0.001) $$;

CALL test.mark('before');
INSERT INTO app.item VALUES (1, test.acme(), 'one', 12345678901234567890.10, '{"a": [1.50]}');
CALL test.mark('inserted');
SAVEPOINT s;
UPDATE app.item SET title = 'rolled back';
ROLLBACK TO s;
UPDATE app.item SET title = NULL, amount = 2 WHERE id = 1;
CALL test.mark('updated');
DELETE FROM app.item WHERE id = 1;
CALL test.mark('deleted');
INSERT INTO app.item VALUES (1, test.acme(), 'again');

SELECT results_eq($$ SELECT * FROM test.history('app.item', '{"id": 1}') $$, ARRAY[
    format('insert {"id": 1, "data": {"a": [1.50]}, "title": "one", "amount": 12345678901234567890.10, "organization_id": "%s"}', test.acme()),
    format('update {"id": 1, "data": {"a": [1.50]}, "amount": 2, "organization_id": "%s"}', test.acme()),
    'delete -', format('insert {"id": 1, "title": "again", "organization_id": "%s"}', test.acme())], 'the row after each of its events, what was rolled back not among them');
SELECT is(tenancy.row_as_of('app.item', '{"id": 1}', test.at('before')), NULL, 'before it was inserted there was no row');
SELECT is(tenancy.row_as_of('app.item', '{"id": 1}', test.at('inserted')), jsonb_build_object('id', 1, 'organization_id', test.acme(), 'title', 'one', 'amount', 12345678901234567890.10, 'data', '{"a": [1.50]}'::jsonb), 'then what was inserted, to the last digit');
SELECT is(tenancy.row_as_of('app.item', '{ "id" : 1.0 }', test.at('updated')) ->> 'amount', '2', 'then what it was changed to; keys are compared by value');
SELECT is(tenancy.row_as_of('app.item', '{"id": 1}', test.at('deleted')), NULL, 'then nothing');
SELECT is(tenancy.row_as_of('app.item', '{"id": 1}', 'infinity') ->> 'title', 'again', 'and what is there now');
SELECT is(tenancy.row_as_of('app.item', '{"id": 1}', '-infinity'), NULL, 'and nothing at the beginning of time');
SELECT is_empty($$ SELECT * FROM tenancy.row_history('app.item', '{"id": 2}') $$, 'a row that never was has no history');
SELECT test.refused($$ SELECT tenancy.row_as_of('app.item', '{"id": 2}', now()) $$, '55000', '%do not tell%', '%partial => true%', 'which is no proof that it was not there');
SELECT test.same($$ SELECT old_values, new_values, subject, session_user_name, method, "position" FROM tenancy.row_history('app.item', '{"id": 1}') LIMIT 2 OFFSET 1 $$,
    $$ VALUES ('{"title": "one", "amount": 12345678901234567890.10}'::jsonb, '{"title": null, "amount": 2}'::jsonb, NULL::text, session_user::text, 'none', NULL::bigint),
              (jsonb_build_object('id', 1, 'organization_id', test.acme(), 'amount', 2, 'data', '{"a": [1.50]}'::jsonb), NULL, NULL, session_user, 'none', NULL) $$, 'each event with its values and its actor');

-- Keys and organizations that change.
INSERT INTO app.item VALUES (10, test.acme(), 'ten');
CALL test.mark('ten');
UPDATE app.item SET id = 11, title = 'eleven' WHERE id = 10;
CALL test.mark('eleven');
UPDATE app.item SET organization_id = test.bolt() WHERE id = 11;
SELECT results_eq($$ SELECT * FROM test.history('app.item', '{"id": 10}') $$, ARRAY[format('insert {"id": 10, "title": "ten", "organization_id": "%s"}', test.acme()), 'update -'], 'a row leaves its key');
SELECT results_eq($$ SELECT * FROM test.history('app.item', '{"id": 11}') $$, ARRAY[format('update {"id": 11, "title": "eleven", "organization_id": "%s"}', test.acme()), 'delete -',
    format('insert {"id": 11, "title": "eleven", "organization_id": "%s"}', test.bolt())], 'and is followed to the next, and to another organization');
SELECT is(tenancy.row_as_of('app.item', '{"id": 11}', test.at('ten')), NULL, 'it was not there under the new key before');
SELECT is(tenancy.row_as_of('app.item', '{"id": 10}', test.at('eleven')), NULL, 'nor under the old one after');

-- What is not told.
SET LOCAL tenancy.audit_value_limit = 20;
INSERT INTO app.item VALUES (20, test.acme(), repeat('x', 21), 1);
SELECT results_eq($$ SELECT * FROM test.history('app.item', '{"id": 20}') $$, ARRAY[format('insert {"id": 20, "amount": 1, "organization_id": "%s"} incomplete {title}', test.acme())], 'a large value is named and not told');
SELECT test.refused($$ SELECT tenancy.row_as_of('app.item', '{"id": 20}', 'infinity') $$, '55000', '%do not tell%', '%', 'the row is not passed off as whole');
SELECT is(tenancy.row_as_of('app.item', '{"id": 20}', 'infinity', partial => true), jsonb_build_object('id', 20, 'amount', 1, 'organization_id', test.acme()), 'unless what is known is asked for');
UPDATE app.item SET title = 'short' WHERE id = 20;
SELECT is(tenancy.row_as_of('app.item', '{"id": 20}', 'infinity') ->> 'title', 'short', 'once it is told the row is whole');
SET LOCAL tenancy.audit_value_limit = 0;
DO $$ BEGIN PERFORM tenancy.protect('app.item', secret_columns => '{data}'); END $$;
INSERT INTO app.item VALUES (21, test.acme(), 't', 1, '"secret"');
SELECT is((SELECT h::text LIKE '%secret"%' FROM tenancy.row_history('app.item', '{"id": 21}') h), false, 'a secret is not in the history of its row');
SELECT results_eq($$ SELECT undisclosed FROM tenancy.row_history('app.item', '{"id": 21}') $$, $$ VALUES ('{data}'::text[]) $$, 'but named');
INSERT INTO app.item (id, organization_id, raw) VALUES (22, test.acme(), '[1e400000, "é"]');
SELECT is(tenancy.row_as_of('app.item', '{"id": 22}', 'infinity') ->> 'raw', '[1e400000, "é"]', 'JSON that jsonb cannot hold becomes a text');

-- A history that began before protection: rows 1 to 5 of the fixture were never told of.
UPDATE app.finding SET severity = 4 WHERE id = 1;
SELECT results_eq($$ SELECT * FROM test.history('app.finding', '{"id": 1}') $$, ARRAY['update {"severity": 4} incomplete'], 'of a row from before protection an update tells what it changed');
SELECT test.refused($$ SELECT tenancy.row_as_of('app.finding', '{"id": 1}', 'infinity') $$, '55000', '%', '%', 'which is not the row');
DELETE FROM app.finding WHERE id = 1;
SELECT results_eq($$ SELECT * FROM test.history('app.finding', '{"id": 1}') $$, ARRAY[format('update {"id": 1, "title": "open bucket", "severity": 4, "organization_id": "%s"}', test.acme()), 'delete -'],
    'its deletion tells all of it, and what it was before');
SELECT is(tenancy.row_as_of('app.finding', '{"id": 1}', test.at('before')) ->> 'severity', '3', 'and before its first event');

-- A table that changes.
INSERT INTO app.item VALUES (30, test.acme(), 'thirty');
SET LOCAL tenancy.override_reason = 'to change the table';
ALTER TABLE app.item ADD COLUMN later integer DEFAULT 7, DROP COLUMN amount;
SELECT is((SELECT complete FROM tenancy.row_history('app.item', '{"id": 30}')), false, 'a column that was added with a default may have a value without an event');
UPDATE app.item SET later = 8 WHERE id = 30;
SELECT is((SELECT complete FROM tenancy.row_history('app.item', '{"id": 30}') LIMIT 1 OFFSET 1), false, 'and shows by its old value that it did');
INSERT INTO app.item (id, organization_id, title) VALUES (31, test.acme(), 'after');
SELECT is(tenancy.row_as_of('app.item', '{"id": 31}', 'infinity') ->> 'later', '7', 'a row from after tells it');
SELECT is((SELECT complete FROM tenancy.row_history('app.item', '{"id": 1}') LIMIT 1), false, 'a value of a column that is gone makes a row incomplete by today''s columns');

-- Partitions, and TRUNCATE.
CREATE TABLE app.log (id integer, organization_id uuid NOT NULL, note text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE app.log_1 PARTITION OF app.log FOR VALUES FROM (0) TO (10);
CREATE TABLE app.log_2 PARTITION OF app.log FOR VALUES FROM (10) TO (20);
DO $$ BEGIN PERFORM tenancy.protect('app.log'); END $$;
INSERT INTO app.log VALUES (1, test.acme(), 'a'), (11, test.acme(), 'b');
UPDATE app.log SET id = 12 WHERE id = 1;
TRUNCATE app.log_1;
SELECT is(tenancy.row_as_of('app.log', '{"id": 12}', 'infinity') ->> 'note', 'a', 'a row is followed into another partition, which the truncation of the first leaves alone');
TRUNCATE app.log;
SELECT results_eq($$ SELECT * FROM test.history('app.log', '{"id": 11}') $$, ARRAY[format('insert {"id": 11, "note": "b", "organization_id": "%s"}', test.acme()), 'truncate -'], 'TRUNCATE is the end of a row');

-- Triggers of the application that change the row again. Their name sorts before the audit's, so what they do is told first.
CREATE TABLE app.counted (id integer PRIMARY KEY, organization_id uuid NOT NULL, a integer, b integer);
DO $$ BEGIN PERFORM tenancy.protect('app.counted'); END $$;
INSERT INTO app.counted VALUES (1, test.acme(), 0, 0), (2, test.acme(), 0, 0);
CREATE FUNCTION test.again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO app.counted VALUES (OLD.id, OLD.organization_id, 100, 100);
    ELSIF NEW.a < 3 THEN
        UPDATE app.counted SET a = a + 1 WHERE id = NEW.id;
    ELSIF NEW.a = 50 AND NEW.id = 1 THEN
        UPDATE app.counted SET a = 51 WHERE id = 2;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER a_first AFTER INSERT OR UPDATE OR DELETE ON app.counted FOR EACH ROW EXECUTE FUNCTION test.again();
INSERT INTO app.counted VALUES (3, test.acme(), 1, 0);
SELECT is((SELECT min(ordinal) < max(ordinal) FILTER (WHERE operation = 'insert') FROM tenancy.event WHERE table_name = 'counted' AND row_key ->> 'id' = '3'), true, 'the insertion was told last');
SELECT results_eq($$ SELECT operation, "row" ->> 'a', complete FROM tenancy.row_history('app.counted', '{"id": 3}') $$,
    $$ VALUES ('insert', '1', true), ('update', '2', true), ('update', '3', true) $$, 'what a trigger made of a new row comes after it');
SELECT is(tenancy.row_as_of('app.counted', '{"id": 3}', 'infinity'), (SELECT to_jsonb(c) FROM app.counted c WHERE id = 3), 'and is what the table holds');
UPDATE app.counted SET a = 1 WHERE id = 3;
SELECT is(tenancy.row_as_of('app.counted', '{"id": 3}', 'infinity'), (SELECT to_jsonb(c) FROM app.counted c WHERE id = 3), 'after an update as well');
DELETE FROM app.counted WHERE id = 3;
SELECT is(tenancy.row_as_of('app.counted', '{"id": 3}', 'infinity'), (SELECT to_jsonb(c) FROM app.counted c WHERE id = 3), 'and after a deletion, upon which the row is put back');
UPDATE app.counted SET a = 50 WHERE id IN (1, 2);
SELECT is(tenancy.row_as_of('app.counted', format('{"id": %s}', id)::jsonb, 'infinity'), to_jsonb(c), 'another row of the statement may be what the trigger changes') FROM app.counted c WHERE id < 3 ORDER BY id;
-- Capture that was off: what the next event finds is not what was told before.
INSERT INTO app.counted VALUES (4, test.acme(), 100, 0);
ALTER TABLE app.counted DISABLE TRIGGER ALL;
UPDATE app.counted SET b = 1 WHERE id = 4;
ALTER TABLE app.counted ENABLE TRIGGER ALL;
DELETE FROM app.counted WHERE id = 4;
SELECT is((SELECT complete FROM tenancy.row_history('app.counted', '{"id": 4}') LIMIT 1), false, 'a state is not passed off as complete if the next event came upon another');

-- A table whose rows have no key.
CREATE TABLE app.keyless (organization_id uuid NOT NULL, a integer);
DO $$ BEGIN PERFORM tenancy.protect('app.keyless'); END $$;
INSERT INTO app.keyless VALUES (test.acme(), 1);
SELECT test.refused($$ SELECT * FROM tenancy.row_history('app.keyless', '{"a": 1}') $$, '42P17', '%"keyless"%no primary key%', '%Add a primary key%', 'a table without a primary key has no histories, and is not told to have empty ones');
SELECT test.refused($$ SELECT tenancy.row_as_of('app.keyless', '{"a": 1}', now(), true) $$, '42P17', '%"keyless"%no primary key%', '%', 'nor rows as of a time');

-- Who may.
SELECT test.refused('SELECT * FROM tenancy.' || call, state, '%', '%', 'refused: ' || call) FROM (VALUES
    ('row_history(NULL, ''{}'')', '22004'), ('row_history(''app.item'', NULL)', '22004'), ('row_history(''app.item'', ''1'')', '22023'), ('row_history(''app.item'', ''[{"id": 1}]'')', '22023'),
    ('row_as_of(NULL, ''{}'', now())', '22004'), ('row_as_of(''app.item'', NULL, now())', '22004'), ('row_as_of(''app.item'', ''{"id": 1}'', NULL)', '22004'), ('row_as_of(''app.item'', ''{"id": 1}'', now(), NULL)', '22004')) v (call, state);
CREATE TEMP TABLE seen AS SELECT * FROM tenancy.row_history('app.item', '{"id": 11}');
GRANT USAGE ON SCHEMA app TO test_auditor;
SET LOCAL SESSION AUTHORIZATION test_stranger;
SELECT throws_ok($$ SELECT * FROM tenancy.row_history('app.item', '{"id": 1}') $$, '42501', NULL, 'a stranger may not');
RESET SESSION AUTHORIZATION;
SET LOCAL SESSION AUTHORIZATION test_auditor;
SELECT is((SELECT count(*) FROM tenancy.row_history('app.item', '{"id": 11}')), 3::bigint, 'an auditor sees the events of every organization');
RESET SESSION AUTHORIZATION;
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
SELECT test.refused($$ SELECT * FROM tenancy.row_history('app.item', '{"id": 1}') $$, '28000', '%', '%tenancy.authenticate%', 'an application without a context sees nothing');
CALL test.sign_in('eve');
SELECT test.refused($$ SELECT * FROM tenancy.row_history('app.item', '{"id": 1}') $$, '42501', '%', '%', 'nor with one whose role may not read the audit');
SELECT test.refused($$ SELECT tenancy.row_as_of('app.item', '{"id": 1}', now()) $$, '42501', '%', '%', 'not by row_as_of either');
ROLLBACK TO nobody;
CALL test.sign_in('ada');
SELECT results_eq($$ SELECT operation FROM tenancy.row_history('app.item', '{"id": 11}') $$, ARRAY['update', 'delete'], 'a member with the permission sees the events of the own organization and no others');
SELECT is(tenancy.row_as_of('app.item', '{"id": 11}', 'infinity'), NULL, 'for whom a row that has moved away is gone');
ROLLBACK TO nobody;
CALL test.sign_in('bob');
SELECT results_eq($$ SELECT operation, "row" ->> 'title' FROM tenancy.row_history('app.item', '{"id": 11}') $$, $$ VALUES ('insert', 'eleven') $$, 'and begins where it came');
SELECT is_empty($$ SELECT * FROM tenancy.row_history('app.item', '{"id": 1}') $$, 'of another organization''s rows there is nothing');
SELECT test.refused($$ SELECT tenancy.row_as_of('app.item', '{"id": 1}', 'infinity') $$, '55000', '%', '%', 'as of a row that never was');
ROLLBACK TO nobody;
RESET SESSION AUTHORIZATION;
SELECT results_eq($$ SELECT operation FROM tenancy.row_history('app.item', '{"id": 11}') $$, 'SELECT operation FROM seen', 'a superuser sees what there was before');

-- Another name, schema, column, and another table under the name --------------------------------------------------------------

RESET tenancy.override_reason;
CREATE TABLE app.first (id integer PRIMARY KEY, organization_id uuid NOT NULL, title text, amount numeric);
CREATE TABLE app.second (id integer PRIMARY KEY, organization_id uuid NOT NULL, title text);
DO $$ BEGIN PERFORM tenancy.protect(name) FROM unnest('{app.first,app.second}'::regclass[]) name; END $$;
INSERT INTO app.first VALUES (1, test.acme(), 'of the first', 10.60);
INSERT INTO app.second VALUES (1, test.acme(), 'of the second');
CALL test.mark('before the names');
ALTER TABLE app.first RENAME COLUMN id TO key;
ALTER TABLE app.first RENAME COLUMN title TO label;
UPDATE app.first SET label = 'under another column';
ALTER TABLE app.first RENAME TO last;
UPDATE app.last SET label = 'under another name';
CREATE SCHEMA moved;
ALTER TABLE app.last SET SCHEMA moved;
UPDATE moved.last SET label = 'in another schema';
ALTER SCHEMA moved RENAME TO named;
UPDATE named.last SET label = 'in a schema of another name';
SELECT results_eq($$ SELECT "row" ->> 'label' FROM tenancy.row_history('named.last', '{"key": 1}') $$,
    '{of the first,under another column,under another name,in another schema,in a schema of another name}'::text[], 'a row keeps its history under another table, column and schema');
SELECT is(tenancy.row_as_of('named.last', '{"key": 1}', test.at('before the names')), jsonb_build_object('key', 1, 'organization_id', test.acme(), 'label', 'of the first', 'amount', 10.60), 'told by the names of today');
ALTER TABLE app.second RENAME TO between;
ALTER TABLE named.last SET SCHEMA app;
ALTER TABLE app.last RENAME TO second;
SELECT results_eq($$ SELECT h."row" ->> 'label' FROM tenancy.row_history('app.second', '{"key": 1}') h LIMIT 1 $$, '{of the first}'::text[], 'a table that takes the name of another has its own history');
SELECT results_eq($$ SELECT h."row" ->> 'title' FROM tenancy.row_history('app.between', '{"id": 1}') h $$, '{of the second}'::text[], 'and the other one its own');
DROP TABLE app.between;
CREATE TABLE app.between (id integer PRIMARY KEY, organization_id uuid NOT NULL, title text);
SELECT is_empty($$ SELECT FROM tenancy.row_history('app.between', '{"id": 1}') $$, 'a table that is made anew has none');

-- Values that ALTER TABLE changes.
SELECT test.refused('ALTER TABLE app.second ALTER COLUMN amount TYPE integer USING amount + 1000', '42501', '%would change values of app.second in every organization''s rows%', '%override_reason%', 'a rewrite that changes values needs a reason');
SELECT lives_ok('ALTER TABLE app.second ALTER COLUMN label TYPE varchar', 'one that rewrites nothing needs none');
SAVEPOINT rewritten;
SET LOCAL tenancy.override_reason = 'TICKET-5';
ALTER TABLE app.second ALTER COLUMN amount TYPE integer USING amount + 1000;
RESET tenancy.override_reason;
CALL test.mark('rewritten');
SELECT is((SELECT string_agg(h.operation || coalesce(' ' || nullif(h.undisclosed::text, '{}'), ''), ', ') FROM tenancy.row_history('app.second', '{"key": 1}') h), 'insert, update, update, update, update, rewrite {amount}', 'the history of each row has it');
SELECT test.refused($$ SELECT tenancy.row_as_of('app.second', '{"key": 1}', test.at('rewritten')) $$, '55000', '%do not tell all%', '%', 'what a row was after it is not told');
SELECT is(tenancy.row_as_of('app.second', '{"key": 1}', test.at('before the names')) ->> 'amount', '10.60', 'what it was before is');
UPDATE app.second SET amount = 5;
SELECT is(tenancy.row_as_of('app.second', '{"key": 1}', 'infinity') ->> 'amount', '5', 'and what it became by a statement');
SELECT results_eq($$ SELECT organization, table_name, payload -> 'new' ->> 'columns' FROM tenancy.event WHERE operation = 'rewrite' $$, $$ VALUES ('00000000-0000-0000-0000-000000000000'::uuid, 'second', '["amount"]') $$, 'it is an event with the columns');
ALTER TABLE app.second ADD COLUMN token uuid DEFAULT gen_random_uuid();
SELECT is((SELECT h.undisclosed FROM tenancy.row_history('app.second', '{"key": 1}') WITH ORDINALITY h ORDER BY h.ordinality DESC LIMIT 1), '{token}'::text[], 'a new column with a value in each row is not told either');

SELECT * FROM finish();
ROLLBACK;
