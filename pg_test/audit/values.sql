-- Values: every type is told, and told the same whatever the settings of the session.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(90);

CREATE TYPE app.mood AS ENUM ('sad', 'it''s "fine"');
CREATE DOMAIN app.percent AS numeric CHECK (VALUE BETWEEN 0 AND 100);
CREATE DOMAIN app.moment AS timestamptz;
CREATE TYPE app.pair AS (a integer, at timestamptz, b bytea);
CREATE TABLE app.everything (
    id bigint PRIMARY KEY, organization_id uuid NOT NULL,
    c_boolean boolean, c_smallint smallint, c_integer integer, c_bigint bigint, c_real real, c_double double precision, c_numeric numeric,
    c_text text, c_varchar varchar(10), c_char char(5), c_name name, c_quoted "char", c_bytea bytea, c_uuid uuid,
    c_date date, c_time time, c_timetz timetz, c_timestamp timestamp, c_timestamptz timestamptz, c_interval interval,
    c_json json, c_jsonb jsonb, c_inet inet, c_cidr cidr, c_macaddr macaddr, c_bit bit(3), c_varbit bit varying,
    c_point point, c_box box, c_path path, c_tsvector tsvector, c_tsquery tsquery, c_oid oid, c_regclass regclass, c_xid8 xid8, c_lsn pg_lsn,
    c_int4range int4range, c_tstzrange tstzrange, c_multirange tstzmultirange,
    c_enum app.mood, c_domain app.percent, c_moment app.moment, c_composite app.pair,
    c_integers integer[], c_texts text[], c_times timestamptz[], c_matrix double precision[][], c_enums app.mood[], c_pairs app.pair[],
    c_generated integer GENERATED ALWAYS AS (c_integer * 2) STORED
);
DO $$ BEGIN PERFORM tenancy.protect('app.everything'); END $$;

CREATE VIEW test.newest AS
SELECT payload -> 'new' AS new, payload -> 'old' AS old, row_key, payload FROM tenancy.event WHERE transaction = pg_current_xact_id() AND table_schema = 'app' AND domain <> 'schema' ORDER BY occurred_at DESC, ordinal DESC LIMIT 1;

INSERT INTO app.everything VALUES (
    9223372036854775807, test.acme(), true, -32768, 1000, -9223372036854775808, 0.1, 0.1, 123456789012345678901234567890.123456789,
    E'quote " back\\slash \t tab \n line \u0001 é 漢 😀', 'varchar', 'ab', 'name', 'x', '\x00ff5c22', 'ABCDEF00-0000-4000-8000-00000000000a',
    '2026-02-28', '12:34:56.789', '12:34:56+02', '2026-02-28 12:34:56.123456', '2026-02-28 12:34:56.123456+02', '1 year 2 mons 3 days 04:05:06.7',
    '{ "b":1,  "a":[1.0, null], "b":2 }', '{"b": 1, "a": 1.10}', '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', B'101', B'1',
    '(0.1,2)', '((0,0),(1,1))', '[(0,0),(1,1)]', 'a b:3A', 'a & b', 4294967295, 'app.finding', '18446744073709551615', '16/B374D848',
    '[1,10)', '[2026-01-01 00:00+00,2026-01-02 00:00+00)', '{[2026-01-01 00:00+00,2026-01-02 00:00+00)}',
    'it''s "fine"', 12.50, '2026-02-28 12:34:56+00', ROW(1, '2026-02-28 12:34:56+00', '\x01'),
    '{1,NULL,3}', '{"a,b",NULL,"NULL","\""}', '{2026-02-28 12:34:56+00}', '{{1,0.1},{NaN,Infinity}}', '{sad}', ARRAY[ROW(1, NULL, NULL)::app.pair]
);

SELECT is(new ->> column_name, value, promise) FROM test.newest, (VALUES
    ('id', '9223372036854775807', 'a bigint loses no digit'), ('c_boolean', 'true', 'boolean'), ('c_smallint', '-32768', 'smallint'), ('c_integer', '1000', 'integer'),
    ('c_bigint', '-9223372036854775808', 'bigint'), ('c_real', '0.1', 'real is told by its shortest digits'), ('c_double', '0.1', 'double precision is told by its shortest digits'),
    ('c_numeric', '123456789012345678901234567890.123456789', 'numeric loses no digit'), ('c_text', E'quote " back\\slash \t tab \n line \u0001 é 漢 😀', 'text is told as it is, escapes and all'),
    ('c_varchar', 'varchar', 'varchar'), ('c_char', 'ab   ', 'char with its padding'), ('c_name', 'name', 'name'), ('c_quoted', 'x', '"char"'), ('c_bytea', '\x00ff5c22', 'bytea in hex'),
    ('c_uuid', 'abcdef00-0000-4000-8000-00000000000a', 'uuid'), ('c_date', '2026-02-28', 'date'), ('c_time', '12:34:56.789', 'time'), ('c_timetz', '12:34:56+02:00', 'time with its zone'),
    ('c_timestamp', '2026-02-28T12:34:56.123456', 'timestamp in ISO 8601'), ('c_timestamptz', '2026-02-28T10:34:56.123456+00:00', 'timestamptz in UTC'),
    ('c_interval', 'P1Y2M3DT4H5M6.7S', 'interval in ISO 8601'), ('c_json', '{ "b":1,  "a":[1.0, null], "b":2 }', 'json byte for byte'), ('c_jsonb', '{"a": 1.10, "b": 1}', 'jsonb'),
    ('c_inet', '10.0.0.1/8', 'inet'), ('c_cidr', '10.0.0.0/8', 'cidr'), ('c_macaddr', '08:00:2b:01:02:03', 'macaddr'), ('c_bit', '101', 'bit'), ('c_varbit', '1', 'bit varying'),
    ('c_point', '(0.1,2)', 'point'), ('c_tsvector', '''a'' ''b'':3A', 'tsvector'), ('c_tsquery', '''a'' & ''b''', 'tsquery'), ('c_oid', '4294967295', 'oid'), ('c_regclass', 'app.finding', 'regclass with its schema'),
    ('c_xid8', '18446744073709551615', 'xid8'), ('c_lsn', '16/B374D848', 'pg_lsn'), ('c_int4range', '[1,10)', 'a range'), ('c_tstzrange', '["2026-01-01 00:00:00+00","2026-01-02 00:00:00+00")', 'a range of times in UTC'),
    ('c_multirange', '{["2026-01-01 00:00:00+00","2026-01-02 00:00:00+00")}', 'a multirange'), ('c_enum', 'it''s "fine"', 'an enum by its label'), ('c_domain', '12.50', 'a domain as its base type'),
    ('c_moment', '2026-02-28T12:34:56+00:00', 'a domain over a time in UTC'), ('c_composite', '(1,"2026-02-28 12:34:56+00","\\x01")', 'a composite value'), ('c_integers', '{1,NULL,3}', 'an array with a NULL'),
    ('c_texts', '{"a,b",NULL,"NULL","\""}', 'an array of texts'), ('c_times', '{"2026-02-28 12:34:56+00"}', 'an array of times in UTC'), ('c_matrix', '{{1,0.1},{NaN,Infinity}}', 'an array of two dimensions'),
    ('c_enums', '{sad}', 'an array of enums'), ('c_pairs', '{"(1,,)"}', 'an array of composite values'), ('c_generated', '2000', 'a generated column')
) AS v (column_name, value, promise);
SELECT is(json_typeof(new -> column_name), type, format('%s is a JSON %s', column_name, type)) FROM test.newest, (VALUES
    ('c_boolean', 'boolean'), ('c_integer', 'number'), ('c_double', 'number'), ('c_numeric', 'number'), ('c_text', 'string'), ('c_json', 'object'), ('c_jsonb', 'object'), ('c_domain', 'number')) v (column_name, type);
SELECT is((SELECT count(*) FROM test.newest, json_object_keys(new)), (SELECT count(*) FROM pg_attribute WHERE attrelid = 'app.everything'::regclass AND attnum > 0 AND NOT attisdropped),
          'no column is left out');

-- Settings ------------------------------------------------------------------------------------------------------------

CREATE TEMP TABLE told AS SELECT (new::jsonb - 'id')::text AS new, (new -> 'c_json')::text AS json FROM test.newest;
CREATE TEMP TABLE setting (n serial, settings text);
INSERT INTO setting (settings) VALUES
    ('{"TimeZone": "Asia/Kathmandu"}'), ('{"TimeZone": "America/St_Johns", "DateStyle": "German, DMY"}'), ('{"DateStyle": "SQL, MDY"}'), ('{"DateStyle": "Postgres"}'),
    ('{"IntervalStyle": "postgres_verbose"}'), ('{"IntervalStyle": "sql_standard"}'), ('{"extra_float_digits": "-15"}'), ('{"extra_float_digits": "0"}'), ('{"bytea_output": "escape"}'),
    ('{"search_path": "app, public"}'), ('{"search_path": ""}'), ('{"standard_conforming_strings": "off", "escape_string_warning": "off", "backslash_quote": "on"}'), ('{"xmloption": "content"}'),
    ('{"array_nulls": "off"}'), ('{"client_encoding": "LATIN1"}');
CREATE FUNCTION test.told_under(settings jsonb, id bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT jsonb_object_keys(settings) LOOP
        PERFORM pg_catalog.set_config(name, settings ->> name, true);
    END LOOP;
    EXECUTE pg_catalog.format('INSERT INTO app.everything SELECT %s, %s FROM app.everything WHERE id = 9223372036854775807', id, (
        SELECT pg_catalog.string_agg(pg_catalog.quote_ident(attname), ',' ORDER BY attnum) FROM pg_catalog.pg_attribute
         WHERE attrelid = 'app.everything'::pg_catalog.regclass AND attnum > 1 AND NOT attisdropped AND attgenerated = ''));
    RETURN (SELECT (n.new::jsonb - 'id')::text FROM test.newest n);
END
$$;
ALTER TABLE app.everything ALTER c_generated DROP EXPRESSION;
CREATE FUNCTION test.told_alone(settings jsonb, id bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    -- The exception ends the subtransaction, and with it the settings.
    BEGIN
        answer := test.told_under(settings, id);
        RAISE EXCEPTION 'back' USING ERRCODE = 'P0099';
    EXCEPTION WHEN SQLSTATE 'P0099' THEN
        RETURN answer;
    END;
END
$$;
SELECT is(test.told_alone(settings::jsonb, n), told.new, 'values are told the same under ' || settings) FROM setting, told ORDER BY n;
SELECT results_eq($$ SELECT current_setting('DateStyle'), current_setting('IntervalStyle'), current_setting('search_path') $$,
                  $$ VALUES ('ISO, MDY', 'postgres', 'test, public') $$, 'the session''s own settings are put back');
SET LOCAL "DateStyle" = 'German, DMY';
INSERT INTO app.everything (id, organization_id, c_interval) VALUES (2, test.acme(), '1 day');
SELECT is(current_setting('DateStyle'), 'German, DMY', 'also those that were set in the transaction');
RESET "DateStyle";

-- Each type alone: a row without a type that reads settings is told without changing them. The key reads one, too.
CREATE TABLE test.alone (n serial, type text, sample text);
INSERT INTO test.alone (type, sample)
SELECT format_type(atttypid, atttypmod), quote_literal(v.value) FROM app.everything e, json_each_text(row_to_json(e)) v
  JOIN pg_attribute a ON a.attrelid = 'app.everything'::regclass AND a.attname = v.key
 WHERE e.id = 9223372036854775807 AND a.attname LIKE 'c\_%' AND a.atttypid NOT IN ('app.mood[]'::regtype, 'app.pair'::regtype, 'app.pair[]'::regtype, 'integer[]'::regtype, 'text[]'::regtype, 'timestamptz[]'::regtype, 'float8[]'::regtype);
INSERT INTO test.alone (type, sample) VALUES
    ('app.mood[]', '''{sad,NULL}'''), ('app.pair', 'ROW(1, ''2026-02-28 12:34:56+00'', ''a'')::app.pair'), ('app.pair[]', 'ARRAY[ROW(1, ''2026-02-28 12:34:56+00'', ''a'')::app.pair]'), ('integer[]', '''{1,NULL,3}'''),
    ('text[]', '''{"a,b",NULL,"NULL"}'''), ('timestamptz[]', '''{2026-02-28 12:34:56+00}'''), ('float8[]', '''{{1,0.1},{NaN,Infinity}}'''), ('real[]', '''{0.1}'''), ('numeric[]', '''{0.10}'''),
    ('bytea[]', 'ARRAY[''a''::bytea]'), ('date[]', '''{2026-02-28}'''), ('interval[]', '''{1 day}'''), ('inet[]', '''{10.0.0.1}'''), ('uuid[]', '''{abcdef00-0000-4000-8000-00000000000a}'''), ('jsonb[]', '''{1}'''),
    ('macaddr8', '''08:00:2b:01:02:03:04:05'''), ('money', '''1000'''), ('regtype', '''app.mood''');
DO $$
DECLARE
    alone record;
BEGIN
    FOR alone IN SELECT * FROM test.alone LOOP
        EXECUTE format('CREATE TABLE app.alone_%s (id bytea PRIMARY KEY, organization_id uuid NOT NULL, value %s)', alone.n, alone.type);
        PERFORM tenancy.protect(format('app.alone_%s', alone.n)::regclass);
        EXECUTE format('INSERT INTO app.alone_%s SELECT sha256(''sample''), test.acme(), %s', alone.n, alone.sample);
    END LOOP;
END
$$;
CREATE FUNCTION test.each_alone(settings jsonb) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    answer text[];
    name text;
    number integer;
BEGIN
    BEGIN
        FOR name IN SELECT pg_catalog.jsonb_object_keys(settings) LOOP
            PERFORM pg_catalog.set_config(name, settings ->> name, true);
        END LOOP;
        FOR number IN SELECT n FROM test.alone ORDER BY n LOOP
            EXECUTE pg_catalog.format('INSERT INTO app.alone_%s SELECT pg_catalog.sha256(''copy''), organization_id, value FROM app.alone_%1$s', number);
            answer := answer || (SELECT pg_catalog.concat(n.row_key, n.payload) FROM test.newest n);
        END LOOP;
        RAISE EXCEPTION 'back' USING ERRCODE = 'P0099';
    EXCEPTION WHEN SQLSTATE 'P0099' THEN
        RETURN answer;
    END;
END
$$;
CREATE TEMP TABLE told_alone AS SELECT test.each_alone('{}') AS told;
SELECT is((SELECT count(told.value) FROM told_alone, unnest(told_alone.told) told(value) WHERE told.value LIKE '{"id":"\\\\x%"value":%'), (SELECT count(*) FROM test.alone), 'each type is told alone');
SELECT is((SELECT string_agg(a.type || ' under ' || s.settings, ', ') FROM setting s, test.each_alone(s.settings::jsonb) answer, told_alone t, test.alone a WHERE answer[a.n] IS DISTINCT FROM t.told[a.n]), NULL,
          'each type alone is told the same whatever the settings');

-- As Postgres' own JSON -------------------------------------------------------------------------------------------------

CREATE TABLE app.plain (
    id integer PRIMARY KEY, organization_id uuid NOT NULL, a timestamp, b timestamptz, c date, d time, e text, f smallint, g bigint, h uuid, i boolean, j numeric, k jsonb
);
SELECT tenancy.protect('app.plain') \g /dev/null
INSERT INTO app.plain
SELECT n, test.acme(), moment, moment AT TIME ZONE 'UTC', moment::date, moment::time, repeat(chr(1 + n % 200) || '"\é', n % 5), (random() * 65535 - 32768)::smallint, ((random() - 0.5) * 2 ^ (n % 64))::bigint,
       gen_random_uuid(), n % 2 = 0, ((random() - 0.5) * 10 ^ (n % 20))::numeric, to_jsonb(chr(1 + n % 200))
  FROM generate_series(1, 3000) n,
       LATERAL (SELECT date_trunc((ARRAY['microsecond', 'millisecond', 'second', 'day', 'year'])[1 + n % 5], timestamp '0001-01-01 BC' + random() * interval '10100 years')) random (moment);
INSERT INTO app.plain (id, organization_id, a, b)
SELECT 10000 + n, test.acme(), moment, moment AT TIME ZONE 'UTC'
  FROM unnest(ARRAY['-infinity', 'infinity', '4713-01-01 BC', '0001-12-31 23:59:59.999999 BC', '0001-01-01', '0001-01-01 00:00:00.000001', '1582-10-15', '1900-02-28 23:59:59.9', '1900-03-01', '1969-12-31 23:59:59.999999',
                    '1999-12-31 23:59:59.999999', '2000-01-01', '2000-02-29 10:20:30.10', '2000-03-01', '2024-02-29', '2100-02-28', '2100-03-01', '9999-12-31 23:59:59.999999', '10000-01-01', '294276-12-31']::timestamp[])
       WITH ORDINALITY AS edge (moment, n);
SET LOCAL "TimeZone" = 'UTC';
SELECT is((SELECT string_agg(told.key || ' ' || told.value, ', ') FROM tenancy.event e JOIN app.plain p ON p.id = (e.row_key ->> 'id')::integer, json_each(e.payload -> 'new') told
            WHERE e.table_name = 'plain' AND told.value::text IS DISTINCT FROM (row_to_json(p) -> told.key)::text), NULL, 'values are told byte for byte as by to_json');
SELECT is((SELECT count(*) FROM tenancy.event e, json_each(e.payload -> 'new') WHERE e.table_name = 'plain' AND e.operation = 'insert'), 3000 * 13 + 20 * 4::bigint, 'all of them');
RESET "TimeZone";

-- What is not a number, and what is nothing ------------------------------------------------------------------------------

INSERT INTO app.everything (id, organization_id, c_real, c_double, c_numeric, c_date, c_timestamp, c_timestamptz, c_tstzrange, c_text, c_bytea, c_integers, c_jsonb, c_json)
VALUES (3, test.acme(), 'NaN', '-Infinity', 'Infinity', 'infinity', '-infinity', 'infinity', 'empty', '', '', '{}', 'null', 'null');
SELECT is((new::jsonb - '{id,organization_id}'::text[]), '{"c_real": "NaN", "c_double": "-Infinity", "c_numeric": "Infinity", "c_date": "infinity", "c_timestamp": "-infinity",
    "c_timestamptz": "infinity", "c_tstzrange": "empty", "c_text": "", "c_bytea": "\\x", "c_integers": "{}", "c_jsonb": null, "c_json": null}',
    'what JSON has no word for is a string; empty values are told; NULLs are left out') FROM test.newest;
UPDATE app.everything SET c_numeric = 'NaN', c_double = '-0', c_real = 1e-40, c_date = '0044-03-15 BC', c_timestamptz = '294276-12-31 23:59:59.999999+00' WHERE id = 3;
SELECT is(new::text, '{"c_real":1e-40,"c_double":-0.0,"c_numeric":"NaN","c_date":"0044-03-15 BC","c_timestamptz":"294276-12-31T23:59:59.999999+00:00"}', 'the edges of the types are told') FROM test.newest;
UPDATE app.everything SET c_double = 0 WHERE id = 3;
SELECT is(new::jsonb -> 'c_double', '0', 'minus zero and zero are different values') FROM test.newest;
UPDATE app.everything SET c_numeric = 1.10 WHERE id = 3;
UPDATE app.everything SET c_numeric = 1.1 WHERE id = 3;
SELECT is((old ->> 'c_numeric', new ->> 'c_numeric')::text, '(1.10,1.1)', 'a change of scale is a change') FROM test.newest;
SAVEPOINT unreadable;
INSERT INTO app.everything (id, organization_id, c_json) VALUES (4, test.acme(), '{"a": "\u0000"}');
SELECT is((SELECT count(*) FROM tenancy.event WHERE transaction = pg_current_xact_id() AND payload::text LIKE '%"c_json":"{\\"a\\": \\"\\\\u0000\\"}"%'), 1::bigint,
          'json that nothing could read back is told as a string');
ROLLBACK TO SAVEPOINT unreadable;
UPDATE app.everything SET c_json = E'{"a":\n 1}' WHERE id = 3;
SELECT is((new -> 'c_json')::text, E'{"a":\n 1}', 'json with line breaks is told') FROM test.newest;

-- Large values --------------------------------------------------------------------------------------------------------

CREATE TABLE app.document (id integer PRIMARY KEY, organization_id uuid NOT NULL, title text, body text, plain text);
ALTER TABLE app.document ALTER body SET STORAGE EXTERNAL, ALTER plain SET STORAGE EXTENDED;
SELECT tenancy.protect('app.document') \g /dev/null
SET LOCAL tenancy.audit_value_limit = 0;
INSERT INTO app.document VALUES (1, test.acme(), 't', repeat('0123456789', 30000), repeat('abc', 100000));
SELECT is(length(new ->> 'body') + length(new ->> 'plain'), 600000, 'values that are stored apart are told whole') FROM test.newest;
UPDATE app.document SET title = 'u';
SELECT is(payload::text, '{"old":{"title":"t"},"new":{"title":"u"}}', 'an update that leaves them alone does not repeat them') FROM test.newest;
UPDATE app.document SET body = body || '';
SELECT is(payload::text, '{"old":{},"new":{}}', 'nor one that writes the same value again') FROM test.newest;
UPDATE app.document SET body = 'short';
SELECT is((length(old ->> 'body'), new ->> 'body')::text, '(300000,short)', 'an update that changes one tells old and new') FROM test.newest;

-- Names of columns ----------------------------------------------------------------------------------------------------

CREATE TABLE app.odd (id integer, "organizationId" uuid NOT NULL, "quote""d" text, "back\slash" text, "new" text, "漢" text, PRIMARY KEY ("quote""d", id));
SELECT tenancy.protect('app.odd') \g /dev/null
INSERT INTO app.odd VALUES (1, test.acme(), 'a', 'b', 'c', 'd');
SELECT is((new::jsonb - 'organizationId', row_key)::text, ('{"id": 1, "new": "c", "漢": "d", "quote\"d": "a", "back\\slash": "b"}'::jsonb, '{"id":1,"quote\"d":"a"}'::json)::text, 'names of columns are told as they are') FROM test.newest;

SELECT * FROM finish();
ROLLBACK;
