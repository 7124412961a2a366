-- What an event does not tell: values that are too large.
BEGIN;
\ir helpers/fixture.sql
SELECT plan(20);

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

SELECT * FROM finish();
ROLLBACK;
