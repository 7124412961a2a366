-- What an event does not tell: values that are too large, and those of secret columns.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(66);

CREATE FUNCTION app.digest(value text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object('sha256', encode(sha256(convert_to(value, 'UTF8')), 'hex'), 'bytes', octet_length(value))
$$;
CREATE VIEW test.newest AS
SELECT payload::jsonb AS payload, row_key::jsonb AS row_key FROM tenancy.event WHERE transaction = pg_current_xact_id() ORDER BY id DESC LIMIT 1;

-- Large values --------------------------------------------------------------------------------------------------------

CREATE TABLE app.document (id integer PRIMARY KEY, organization_id uuid NOT NULL, title text, body text, data jsonb, raw json, bytes bytea, amount numeric, tags text[]);
ALTER TABLE app.document ALTER COLUMN body SET STORAGE EXTERNAL;
DO $$ BEGIN PERFORM tenancy.protect('app.document'); END $$;

SELECT is(current_setting('tenancy.audit_value_limit'), '8kB', 'the limit is 8 kB unless somebody sets another');
INSERT INTO app.document (id, organization_id, body) VALUES (1, test.acme(), repeat('x', 8192));
SELECT is(payload, jsonb_build_object('new', jsonb_build_object('id', 1, 'organization_id', test.acme(), 'body', repeat('x', 8192))), 'a value of exactly the limit is told') FROM test.newest;
INSERT INTO app.document (id, organization_id, title, body) VALUES (2, test.acme(), 'é', repeat('é"', 2731));
SELECT is(payload -> 'new' ->> 'body', NULL, 'one byte more is not') FROM test.newest;
SELECT is(payload -> 'digests', jsonb_build_object('new', jsonb_build_object('body', app.digest(repeat('é"', 2731)))), 'but its SHA-256 and its length in bytes, quotes not escaped') FROM test.newest;
SELECT is(payload -> 'new', jsonb_build_object('id', 2, 'organization_id', test.acme(), 'title', 'é'), 'beside the values that are small') FROM test.newest;

UPDATE app.document SET body = 'short' WHERE id = 2;
SELECT is(payload, jsonb_build_object('old', '{}'::jsonb, 'new', '{"body": "short"}'::jsonb, 'digests', jsonb_build_object('old', jsonb_build_object('body', app.digest(repeat('é"', 2731))))),
          'an update tells each side as it can be told') FROM test.newest;
UPDATE app.document SET body = repeat('y', 20000) WHERE id = 2;
CREATE VIEW test.toast_blocks AS SELECT pg_stat_get_xact_blocks_fetched(reltoastrelid) AS fetched FROM pg_class WHERE oid = 'app.document'::regclass;
CREATE TEMP TABLE before AS SELECT fetched FROM test.toast_blocks;
UPDATE app.document SET title = 'untouched' WHERE id = 2;
SELECT is(fetched, (SELECT fetched FROM before), 'a large value that stays is not even read') FROM test.toast_blocks;
SELECT is(payload, '{"old": {"title": "é"}, "new": {"title": "untouched"}}'::jsonb, 'a large value that stays is not told at all') FROM test.newest;
UPDATE app.document SET body = overlay(body PLACING 'z' FROM 10000) WHERE id = 2;
SELECT is(payload -> 'digests', jsonb_build_object('old', jsonb_build_object('body', app.digest(repeat('y', 20000))),
          'new', jsonb_build_object('body', app.digest(overlay(repeat('y', 20000) PLACING 'z' FROM 10000)))), 'a large value that changes by a byte has two digests') FROM test.newest;
UPDATE app.document SET body = body || '' WHERE id = 2;
SELECT is(payload, '{"old": {}, "new": {}}'::jsonb, 'a large value that is written anew and is the same is no change') FROM test.newest;
DELETE FROM app.document WHERE id = 2;
SELECT is(payload -> 'digests' -> 'old' -> 'body' ->> 'bytes', '20000', 'a deletion tells the digest of what went') FROM test.newest;

SET LOCAL tenancy.audit_value_limit = 40;
SET LOCAL "TimeZone" = 'Asia/Kathmandu';
SET LOCAL bytea_output = 'escape';
INSERT INTO app.document VALUES (3, test.acme(), 't', 'b', jsonb_build_object('b', repeat('j', 40), 'a', 1.10), ('{"n":  "' || repeat('\u00e9', 10) || '"}')::json,
    decode(repeat('00ff', 20), 'hex'), repeat('9', 41)::numeric, array_fill('a"b'::text, '{10}'));
SELECT is(payload -> 'digests' -> 'new' -> column_name, app.digest(text), format('%s is digested as its text', column_name)) FROM test.newest, (VALUES
    ('data', jsonb_build_object('b', repeat('j', 40), 'a', 1.10)::text), ('raw', '{"n":  "' || repeat('\u00e9', 10) || '"}'), ('bytes', '\x' || repeat('00ff', 20)),
    ('amount', repeat('9', 41)), ('tags', array_fill('a"b'::text, '{10}')::text)) AS v (column_name, text);
SELECT is(payload -> 'new', jsonb_build_object('id', 3, 'organization_id', test.acme(), 'title', 't', 'body', 'b'), 'types that cannot be long are told, whatever the limit') FROM test.newest;
SET LOCAL tenancy.audit_value_limit = 0;
INSERT INTO app.document (id, organization_id, body) VALUES (4, test.acme(), repeat('x', 1000000));
SELECT is(length(payload -> 'new' ->> 'body'), 1000000, '0 is no limit') FROM test.newest;
SELECT is((digests, old_values, new_values ->> 'body')::text, (NULL::json, NULL::json, repeat('x', 1000000))::text, 'the audit trail has the digests in a column of their own') FROM tenancy.audit_trail ORDER BY id DESC LIMIT 1;

SET LOCAL SESSION AUTHORIZATION test_application;
SELECT throws_ok($$ SET LOCAL tenancy.audit_value_limit = 1 $$, '42501', NULL, 'the application cannot set the limit');
RESET SESSION AUTHORIZATION;

-- Secret columns ------------------------------------------------------------------------------------------------------

SET LOCAL tenancy.audit_value_limit = '8kB';
CREATE TABLE app.person (id integer PRIMARY KEY, organization_id uuid NOT NULL, name text, email text, pin integer, data jsonb);
SET LOCAL tenancy.commitment_key_file = '';
SELECT test.refused($$ SELECT tenancy.protect('app.person', secret_columns => '{email}') $$, 'F0000', '%names no file', '%openssl rand -base64 32%', 'without a key no column can be made secret');
CREATE FUNCTION test.write_key(key text, mode text DEFAULT '077') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    file text := current_setting('tenancy.jwks_directory') || '/pgtap-key-' || md5(key || mode);
BEGIN
    EXECUTE format('COPY (SELECT %L) TO PROGRAM %L', key, format('umask %s && cat > "%s"', mode, file));
    RETURN set_config('tenancy.commitment_key_file', file, true);
END
$$;
SELECT test.write_key('AAAA') \g /dev/null
SELECT test.refused($$ SELECT tenancy.protect('app.person', secret_columns => '{email}') $$, 'F0000', '%cannot be used', '%', 'nor with a key that is too short');
SELECT test.write_key(encode(repeat('k', 32)::bytea, 'base64'), '022') \g /dev/null
SELECT test.refused($$ SELECT tenancy.protect('app.person', secret_columns => '{email}') $$, 'F0000', '%cannot be used', '%', 'nor with one that everybody may read');
SELECT set_config('tenancy.commitment_key_file', current_setting('data_directory') || '/none', true) \g /dev/null
SELECT test.refused($$ SELECT tenancy.protect('app.person', secret_columns => '{email}') $$, 'F0000', '%cannot be used', '%', 'nor with one that is not there');
SELECT set_config('tenancy.commitment_key_file', 'key', true) \g /dev/null
SELECT test.refused($$ SELECT tenancy.protect('app.person', secret_columns => '{email}') $$, 'F0000', '%cannot be used', '%', 'nor with one that is named by a relative path');
SELECT test.write_key(encode(repeat('k', 32)::bytea, 'base64')) \g /dev/null

SELECT test.refused(format($$ SELECT tenancy.protect('app.person', secret_columns => %L) $$, columns), '22023', message, '%secret_columns%', promise) FROM (VALUES
    ('{nope}', '%no such column', 'a column that is not there cannot be secret'), ('{id}', '%primary key', 'nor one of the primary key'), ('{organization_id}', '%organization', 'nor that of the organization')) v (columns, message, promise);
SELECT test.refused($$ SELECT tenancy.protect('app.person', secret_columns => '{NULL}') $$, '22023', '%NULL', '%', 'nor none');
SELECT isnt(tenancy.protect('app.person', secret_columns => '{pin,email,data,email}'), 0, 'others can');
SELECT is(tenancy.protect('app.person'), 0, 'and stay so when they are not named');
SELECT is(tenancy.protect('app.person', secret_columns => '{data,email,pin}'), 0, 'in whatever order they are named');
SELECT is_empty('SELECT * FROM tenancy.drift()', 'the plan is done');

-- The format of docs/audit-format.md.
CREATE FUNCTION test.field(value bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT int4send(octet_length(value)) || value $$;
CREATE FUNCTION test.commitment(organization uuid, schema text, name text, column_name text, value text, key bytea DEFAULT repeat('k', 32)::bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT encode(test.hmac_sha256(key, test.field('pg_tenancy/commitment/1') || test.field(uuid_send(organization)) || test.field(convert_to(schema, 'UTF8'))
        || test.field(convert_to(name, 'UTF8')) || test.field(convert_to(column_name, 'UTF8')) || test.field(convert_to(value, 'UTF8'))), 'hex')
$$;
CREATE FUNCTION test.key_id(key bytea DEFAULT repeat('k', 32)::bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT left(encode(test.hmac_sha256(key, test.field('pg_tenancy/commitment-key/1')), 'hex'), 16)
$$;

INSERT INTO app.person VALUES (1, test.acme(), 'Ada', 'ada@"é.example', 4711, '{"b": 1, "a": [1.10]}');
SELECT is(payload -> 'new', jsonb_build_object('id', 1, 'organization_id', test.acme(), 'name', 'Ada'), 'what is secret is not among the values') FROM test.newest;
SELECT is(payload -> 'commitments', jsonb_build_object('key', test.key_id(), 'new', jsonb_build_object(
    'email', test.commitment(test.acme(), 'app', 'person', 'email', 'ada@"é.example'), 'pin', test.commitment(test.acme(), 'app', 'person', 'pin', '4711'),
    'data', test.commitment(test.acme(), 'app', 'person', 'data', '{"a": [1.10], "b": 1}'))), 'but committed to, as the documentation says') FROM test.newest;
SELECT is((SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(payload) k), '{commitments,new}', 'and nowhere else') FROM test.newest;
UPDATE app.person SET name = 'Ada L.' WHERE id = 1;
SELECT is(payload, '{"old": {"name": "Ada"}, "new": {"name": "Ada L."}}', 'a secret that stays is not told of') FROM test.newest;
UPDATE app.person SET email = NULL, pin = pin + 1 WHERE id = 1;
SELECT is(payload, jsonb_build_object('old', '{}'::jsonb, 'new', '{}'::jsonb, 'commitments', jsonb_build_object('key', test.key_id(),
    'old', jsonb_build_object('email', test.commitment(test.acme(), 'app', 'person', 'email', 'ada@"é.example'), 'pin', test.commitment(test.acme(), 'app', 'person', 'pin', '4711')),
    'new', jsonb_build_object('email', NULL, 'pin', test.commitment(test.acme(), 'app', 'person', 'pin', '4712')))), 'one that changes is committed to on both sides; NULL is no secret') FROM test.newest;
INSERT INTO app.person VALUES (2, test.acme(), 'Eve', 'ada@"é.example', 4711), (3, test.bolt(), 'Bob', 'ada@"é.example', 4711);
SELECT results_eq($$ SELECT count(DISTINCT payload -> 'commitments' -> 'new' ->> 'pin') FROM tenancy.event WHERE transaction = pg_current_xact_id() AND table_name = 'person' AND operation = 'insert' $$, '{2}'::bigint[],
    'equal values have equal commitments within an organization, and no other can compare');
INSERT INTO app.person (id, organization_id, email) VALUES (4, test.acme(), repeat('large', 4000));
SELECT is(payload -> 'digests', NULL, 'a large secret has no digest, which could be guessed at') FROM test.newest;
UPDATE app.person SET organization_id = test.bolt() WHERE id = 2;
SELECT is((SELECT array_agg((organization, operation, payload -> 'commitments' -> 'old' ->> 'pin', payload -> 'commitments' -> 'new' ->> 'pin')::text ORDER BY id)
             FROM (SELECT * FROM tenancy.event WHERE transaction = pg_current_xact_id() AND table_name = 'person' ORDER BY id DESC LIMIT 2) e),
    ARRAY[(test.acme(), 'delete', test.commitment(test.acme(), 'app', 'person', 'pin', '4711'), NULL)::text, (test.bolt(), 'insert', NULL, test.commitment(test.bolt(), 'app', 'person', 'pin', '4711'))::text],
    'a row that moves is committed to in each organization by itself');
DELETE FROM app.person WHERE id = 3;
SELECT is(payload -> 'old', jsonb_build_object('id', 3, 'organization_id', test.bolt(), 'name', 'Bob'), 'a deletion tells no secret') FROM test.newest;
TRUNCATE app.person;
SELECT results_eq($$ SELECT payload::text FROM tenancy.event WHERE operation = 'truncate' AND transaction = pg_current_xact_id() ORDER BY organization $$, ARRAY['{"rows":2}', '{"rows":1}'], 'nor does TRUNCATE');
SELECT is_empty($$ SELECT FROM tenancy.event e WHERE e.transaction = pg_current_xact_id() AND e.table_name = 'person' AND (e::text LIKE '%example%' OR e::text LIKE '%largelarge%') $$,
    'no event of the table holds a secret');

-- No key, no write.
SELECT test.write_key(encode(repeat('n', 33)::bytea, 'base64')) \g /dev/null
INSERT INTO app.person VALUES (5, test.acme(), 'new key', 'x');
SELECT is(payload -> 'commitments', jsonb_build_object('key', test.key_id(repeat('n', 33)::bytea), 'new', jsonb_build_object('email', test.commitment(test.acme(), 'app', 'person', 'email', 'x', repeat('n', 33)::bytea))),
    'another key has another id') FROM test.newest;
SET LOCAL tenancy.commitment_key_file = '';
SELECT test.refused($$ INSERT INTO app.person VALUES (6, test.acme(), 'no key', 'top secret') $$, 'F0000', '%names no file', '%', 'without a key a secret cannot be written');
SELECT test.refused($$ UPDATE app.person SET email = 'y' WHERE id = 5 $$, 'F0000', '%', '%', 'nor changed');
SELECT test.refused($$ DELETE FROM app.person WHERE id = 5 $$, 'F0000', '%', '%', 'nor deleted');
SELECT lives_ok($$ UPDATE app.person SET name = 'y' WHERE id = 5 $$, 'what is not secret can be');
SELECT test.write_key(encode(repeat('k', 32)::bytea, 'base64')) \g /dev/null

-- A table that changes under it.
SAVEPOINT before;
SELECT test.refused('ALTER TABLE app.person RENAME email TO mail', '42501', '%less protected', '%', 'the guard refuses to rename a secret column');
SET LOCAL tenancy.override_reason = 'to see what holds without the guard';
ALTER TABLE app.person RENAME email TO mail;
SELECT test.refused($$ INSERT INTO app.person VALUES (7, test.acme(), 'x', 'x') $$, '22023', '%email%gone%', '%', 'a renamed column does not cease to be secret: nothing can be written');
SELECT test.refused($$ SELECT tenancy.protect('app.person') $$, '22023', '%no such column', '%', 'nor is it forgotten by protect');
SELECT isnt_empty($$ SELECT FROM tenancy.drift() WHERE "table" = 'app.person'::regclass AND exposed $$, 'and drift tells');
SELECT isnt(tenancy.protect('app.person', secret_columns => '{mail}'), 0, 'until it is named anew');
INSERT INTO app.person VALUES (7, test.acme(), 'x', 'x');
SELECT is(payload -> 'commitments' -> 'new' ->> 'mail', test.commitment(test.acme(), 'app', 'person', 'mail', 'x'), 'and is secret by its new name') FROM test.newest;
ROLLBACK TO before;
SET LOCAL tenancy.override_reason = 'to see what holds without the guard';
UPDATE app.person SET pin = 0;
ALTER TABLE app.person DROP CONSTRAINT person_pkey, ADD PRIMARY KEY (id, pin);
SELECT test.refused($$ INSERT INTO app.person VALUES (8, test.acme(), 'x', 'x', 1) $$, '22023', '%pin%key%', '%', 'a secret column that became part of the key cannot be written');
ROLLBACK TO before;
SET LOCAL tenancy.override_reason = 'to see what holds without the guard';
ALTER TABLE app.person ADD COLUMN lower_email text GENERATED ALWAYS AS (lower(email)) STORED;
SELECT test.refused($$ SELECT tenancy.protect('app.person') $$, '22023', '%lower_email%', '%', 'a column computed from a secret one is told of');
ROLLBACK TO before;
SELECT isnt(tenancy.protect('app.person', secret_columns => '{}'), 0, 'an empty list makes none secret');
UPDATE app.person SET email = 'told' WHERE id = 5;
SELECT is(payload, '{"old": {"email": "x"}, "new": {"email": "told"}}', 'which is told from then on') FROM test.newest;
ROLLBACK TO before;

-- Partitions, and tables protected through another.
CREATE TABLE app.log (id integer, organization_id uuid NOT NULL, secret text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE app.log_1 (secret text, organization_id uuid NOT NULL, id integer NOT NULL);
ALTER TABLE app.log ATTACH PARTITION app.log_1 FOR VALUES FROM (0) TO (10);
SELECT isnt(tenancy.protect('app.log', secret_columns => '{secret}'), 0, 'of a partitioned table');
INSERT INTO app.log VALUES (1, test.acme(), 'hidden');
SELECT is((payload - 'commitments', payload -> 'commitments' -> 'new')::text, (jsonb_build_object('new', jsonb_build_object('id', 1, 'organization_id', test.acme())),
    jsonb_build_object('secret', test.commitment(test.acme(), 'app', 'log_1', 'secret', 'hidden')))::text, 'the column is secret in a partition of other order, under its own name') FROM test.newest;
CREATE TABLE app.note (id integer PRIMARY KEY, finding integer NOT NULL REFERENCES app.finding, secret text);
SELECT isnt(tenancy.protect('app.note', through => 'finding', secret_columns => '{secret}'), 0, 'of a table that is protected through another');
INSERT INTO app.note VALUES (1, 1, 'hidden');
SELECT is((payload - 'commitments', payload -> 'commitments' -> 'new')::text, ('{"new": {"id": 1, "finding": 1}}'::jsonb, jsonb_build_object('secret', test.commitment(test.acme(), 'app', 'note', 'secret', 'hidden')))::text,
    'the column is secret too') FROM test.newest;

-- Who may choose the key.
SET LOCAL SESSION AUTHORIZATION test_application;
SELECT throws_ok($$ SET LOCAL tenancy.commitment_key_file = '/tmp/key' $$, '42501', NULL, 'the application cannot choose the key');
SELECT throws_ok($$ SHOW tenancy.commitment_key_file $$, '42501', NULL, 'nor see where it is');
RESET SESSION AUTHORIZATION;
SET LOCAL ROLE test_owner;
SELECT throws_ok($$ SET LOCAL tenancy.commitment_key_file = '/tmp/key' $$, '42501', NULL, 'nor does the owner of a table');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
