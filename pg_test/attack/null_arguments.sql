-- NULL where none is meant, and values that cannot be: refused as bad input is, not as a failure of the extension.
BEGIN;
\ir ../helpers/fixture.sql
SELECT no_plan();

SELECT test.refused('SELECT ' || call, '22%', '%', '%_%', 'refused with a hint: ' || call) FROM unnest(ARRAY[
    'tenancy.set_issuer(NULL, ''{a}'', test.public_jwks())', 'tenancy.set_issuer(''x'', NULL, test.public_jwks())', 'tenancy.set_issuer(''x'', ''{a}'', NULL)', 'tenancy.set_issuer(''x'', ''{NULL}'', test.public_jwks())',
    'tenancy.set_issuer(''x'', ''{a}'', test.public_jwks(), ''{NULL}'')', 'tenancy.set_issuer(''x'', ''{a}'', test.public_jwks(), leeway_seconds => NULL)',
    'tenancy.protect(NULL)', 'tenancy.plan(NULL)', 'tenancy.verify_audit(whole => NULL)']) call;

-- Every function, by name and types, with every value of its arguments in turn ---------------------------------------

-- What is tried for a type; the first is what the other arguments have meanwhile.
CREATE FUNCTION test.tried("type" regtype) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT array_append(CASE "type"
        WHEN 'text'::regtype THEN ARRAY['x', '', ' ', E'\n''";', '1', '[]', '{"a":', repeat('x', 100000)]
        WHEN 'name'::regtype THEN ARRAY['x', '', repeat('x', 63)]
        WHEN 'boolean'::regtype THEN ARRAY['false', 'true']
        WHEN 'smallint'::regtype THEN ARRAY['1', '-1', '0', '-32768', '32767']
        WHEN 'integer'::regtype THEN ARRAY['1', '-1', '0', '-2147483648', '2147483647']
        WHEN 'bigint'::regtype THEN ARRAY['1', '-1', '0', '-9223372036854775808', '9223372036854775807']
        WHEN 'double precision'::regtype THEN ARRAY['1', '-1', '0', 'NaN', 'Infinity', '-Infinity', '1e308']
        WHEN 'numeric'::regtype THEN ARRAY['1', '-1', 'NaN', 'Infinity', '-Infinity']
        WHEN 'oid'::regtype THEN ARRAY['app.finding'::regclass::oid::text, '0', '4294967295']
        WHEN 'regclass'::regtype THEN ARRAY['app.finding'::regclass::oid::text, '0', '4294967295', 'pg_class'::regclass::oid::text]
        WHEN 'uuid'::regtype THEN ARRAY[test.acme()::text, '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff']
        WHEN 'date'::regtype THEN ARRAY['2026-01-01', 'infinity', '-infinity', '4713-01-01 BC', '5874897-12-31']
        WHEN 'timestamptz'::regtype THEN ARRAY['2026-01-01', 'infinity', '-infinity', '4713-01-01 00:00+00 BC', '294276-12-31 23:59:59+00']
        WHEN 'timestamp'::regtype THEN ARRAY['2026-01-01', 'infinity', '-infinity', '4713-01-01 00:00 BC', '294276-12-31 23:59:59']
        WHEN 'interval'::regtype THEN ARRAY['1 day', '-1 day', '0', '178000000 years', '-178000000 years']
        WHEN 'bytea'::regtype THEN ARRAY['\x', '\x00', '\x' || repeat('ff', 32), '\x' || repeat('00', 100000)]
        WHEN 'json'::regtype THEN ARRAY['{}', 'null', '[]', '1e400', '"x"', repeat('[', 1000) || repeat(']', 1000)]
        WHEN 'jsonb'::regtype THEN ARRAY['{}', 'null', '[]', '1e400', '"x"', '{"a": null}', repeat('[', 1000) || repeat(']', 1000)]
        WHEN 'xid8'::regtype THEN ARRAY['3', '0', '18446744073709551615']
        WHEN 'text[]'::regtype THEN ARRAY['{x}', '{}', '{NULL}', '{""}', '{{a,b},{c,d}}', '[-5:-4]={a,b}']
        WHEN 'integer[]'::regtype THEN ARRAY['{1}', '{}', '{NULL}', '{{1,2},{3,4}}', '[-5:-4]={1,2}']
        WHEN 'uuid[]'::regtype THEN ARRAY['{}', '{NULL}', '{{00000000-0000-0000-0000-000000000000}}']
        WHEN 'bytea[]'::regtype THEN ARRAY['{}', '{NULL}', '{"\\x00"}', '{{"\\x00"}}']
        WHEN 'regclass[]'::regtype THEN ARRAY['{}', '{NULL}', '{0}', '{4294967295}']
        WHEN 'tenancy.event_actor'::regtype THEN ARRAY['(,,,,,,,,,,,,)', '(00000000-0000-0000-0000-000000000000,assumed,x,,,,,,,x,x,,)']
        WHEN 'record'::regtype THEN ARRAY[]::text[]
        ELSE ARRAY[]::text[] END, NULL)
$$;

-- Calls of a function: each value in each place, and NULL in all of them.
CREATE FUNCTION test.calls(function regprocedure) RETURNS SETOF text LANGUAGE sql STABLE AS $$
    WITH argument AS (
        SELECT a.number, a."type"::regtype AS "type", (test.tried(a."type"))[1] AS usual, p.provariadic <> 0 AND a.number = p.pronargs AS variadic
          FROM pg_proc p, unnest(p.proargtypes::oid[]) WITH ORDINALITY a ("type", number) WHERE p.oid = function
    ), variant (place, value) AS (
        SELECT number, value FROM argument, unnest(test.tried("type")) value
         UNION ALL
        SELECT 0, NULL
    )
    SELECT DISTINCT format('%s %s(%s)', CASE WHEN p.prokind = 'p' THEN 'CALL' WHEN p.proretset THEN 'SELECT * FROM' ELSE 'SELECT' END, p.oid::regproc,
                  (SELECT string_agg(format('%s%L::%s', CASE WHEN a.variadic THEN 'VARIADIC ' END,
                                            CASE WHEN v.place = 0 THEN NULL WHEN v.place = a.number THEN v.value ELSE a.usual END, a."type"), ', ' ORDER BY a.number)
                     FROM argument a))
      FROM variant v, pg_proc p WHERE p.oid = function
$$;

-- The calls that end in a failure of the extension or the server, and not in a result or an error of its own.
CREATE FUNCTION test.failures(function regprocedure) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    call text;
    failures text[] := '{}';
    state text;
    message text;
BEGIN
    FOR call IN SELECT test.calls(function) LOOP
        BEGIN
            EXECUTE call;
            -- Nothing stays of a call that went well.
            RAISE EXCEPTION USING ERRCODE = 'ZZ000';
        EXCEPTION WHEN OTHERS OR assert_failure THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
            IF state LIKE 'XX%' THEN
                failures := failures || format('%s %s: %s', state, left(message, 200), left(call, 300));
            END IF;
        END;
    END LOOP;
    RETURN failures;
END
$$;

-- Triggers are called by Postgres alone, which refuses anybody else.
CREATE FUNCTION test.functions() RETURNS SETOF regprocedure LANGUAGE sql STABLE AS $$
    SELECT oid::regprocedure FROM pg_proc
     WHERE pronamespace = 'tenancy'::regnamespace AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype) AND prokind IN ('f', 'p')
       AND NOT 'internal'::regtype = ANY (proargtypes)
     ORDER BY oid::regprocedure::text
$$;

SELECT cmp_ok((SELECT count(*) FROM test.functions()), '>', 80::bigint, 'the functions of the schema are found');
SELECT is((SELECT array_agg(DISTINCT t::regtype) FROM test.functions() f, pg_proc p, unnest(p.proargtypes::oid[]) t WHERE p.oid = f AND t <> 'internal'::regtype AND cardinality(test.tried(t)) = 1),
          NULL, 'there are values to try for each type of an argument');

-- The control: a failure is seen.
CREATE FUNCTION test.fails(a text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN IF a IS NULL THEN RAISE EXCEPTION USING ERRCODE = 'XX000'; END IF; RETURN a; END $$;
SELECT is(cardinality(test.failures('test.fails(text)')), 1, 'a function that fails with NULL is found');

SET LOCAL statement_timeout = '60s';
SELECT is(test.failures(function), '{}', function || ' fails with no value') FROM test.functions() function;

-- The same for a member: other ways through the code.
CALL test.sign_in('ada', test.acme());
SELECT is(test.failures(function), '{}', function || ' fails with no value under a context') FROM test.functions() function
 WHERE function::text NOT LIKE 'tenancy.sign_out%';

SELECT * FROM finish();
ROLLBACK;
