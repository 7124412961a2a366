-- Forged, expired and misdirected tokens, as Postgres answers them. tests/hostile_tokens/ has many more for the pure core.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(52);
SET LOCAL SESSION AUTHORIZATION test_application;

CREATE FUNCTION pg_temp.seconds(from_now integer) RETURNS jsonb LANGUAGE sql AS $$
    SELECT to_jsonb(floor(extract(epoch FROM clock_timestamp()))::bigint + from_now)
$$;
CREATE FUNCTION pg_temp.part(token text, n integer) RETURNS text LANGUAGE sql AS $$ SELECT split_part(token, '.', n) $$;
CREATE TEMP TABLE good AS SELECT test.token('ada') AS token;

SELECT is(tenancy.authenticate(token), test.acme(), 'a good token is accepted') FROM good;
SELECT is(tenancy.authenticate(token), test.acme(), 'and a second time, while it lasts') FROM good;
CALL test.sign_out();

SELECT test.refused(format('SELECT tenancy.authenticate(%L)', token), '28000', message, hint, promise) FROM (
    SELECT NULL AS token, 'the text is not a usable token' AS message, 'Pass the access token exactly%' AS hint, 'NULL is no token' AS promise
    UNION ALL SELECT '', 'the text is not a usable token', 'Pass the access token exactly%', 'the empty text is no token'
    UNION ALL SELECT 'rubbish', 'the text is not a usable token', '%', 'rubbish is no token'
    UNION ALL SELECT 'Bearer ' || token, 'the text is not a usable token', '%', 'a header line is no token' FROM good
    UNION ALL SELECT token || E'\n', 'the text is not a usable token', '%', 'a token with a line break is refused' FROM good
    UNION ALL SELECT token || '.', 'the text is not a usable token', '%', 'a fourth part is refused' FROM good
    UNION ALL SELECT pg_temp.part(token, 1) || '.' || pg_temp.part(token, 2) || '.', 'the text is not a usable token', '%', 'an unsigned token is refused' FROM good
    UNION ALL SELECT pg_temp.part(token, 1) || '.' || pg_temp.part(token, 2), 'the text is not a usable token', '%', 'a token without its third part is refused' FROM good
    UNION ALL SELECT test.token('ada', jsonb_build_object('x', repeat('x', 13000))), 'the text is not a usable token', '%16 KiB%', 'a token over 16 KiB is refused'
    UNION ALL SELECT repeat('a.', 5000000), 'the text is not a usable token', '%', 'ten megabytes are refused'
    UNION ALL SELECT test.token('ada', header => '{"alg": "none"}'), '%', 'Compare the token''s header%', '"alg": "none" is refused'
    UNION ALL SELECT test.token('ada', header => '{"alg": "None"}'), '%', 'Compare the token''s header%', '"alg": "None" is refused'
    UNION ALL SELECT test.token('ada', header => '{"alg": "HS512"}'), '%', '%', 'an algorithm that the issuer does not have is refused'
    UNION ALL SELECT test.token('ada', header => '{"alg": "ES256"}'), '%', '%', 'a public-key algorithm on a secret''s signature is refused'
    UNION ALL SELECT test.token('ada', header => '{"alg": null}'), '%', '%', 'a header without "alg" is refused'
    UNION ALL SELECT test.token('ada', header => '{"crit": ["exp"]}'), '%', 'Compare the token''s header%', 'a critical extension is refused'
    UNION ALL SELECT test.token('ada', header => jsonb_build_object('jwk', test.jwks()::jsonb -> 'keys' -> 0)), '%', 'Compare the token''s header%', 'a key inside the token is refused'
    UNION ALL SELECT test.token('ada', header => '{"jku": "https://evil.test/keys"}'), '%', 'Compare the token''s header%', 'an address of keys inside the token is refused'
    UNION ALL SELECT test.token('ada', header => '{"kid": "k2"}'), 'no key of the issuer fits the token', 'If the provider rotated its keys%', 'an unknown "kid" is refused'
    UNION ALL SELECT test.token('ada', header => '{"kid": "'' OR 1=1 --"}'), '%', '%', 'a "kid" with SQL in it is refused'
    UNION ALL SELECT test.token('ada', header => '{"kid": "../../../dev/null"}'), '%', '%', 'a "kid" with a path in it is refused'
    UNION ALL SELECT test.token('ada', key => 'somebody else''s secret, 32 bytes.'), 'the token''s signature is not valid', '%', 'a token signed with another key is refused'
    UNION ALL SELECT test.token('ada', key => ''), 'the token''s signature is not valid', '%', 'a token signed with an empty key is refused'
    UNION ALL SELECT pg_temp.part(token, 1) || '.' || pg_temp.part(test.token('bob'), 2) || '.' || pg_temp.part(token, 3),
        'the token''s signature is not valid', '%', 'claims of another token under this one''s signature are refused' FROM good
    UNION ALL SELECT left(token, -1) || CASE WHEN right(token, 1) = 'A' THEN 'E' ELSE 'A' END, '%', '%', 'a changed last character is refused' FROM good
    UNION ALL SELECT test.token('ada', '{"iss": "https://evil.test/"}'), '%issuer%', 'Register the issuer with tenancy.set_issuer%', 'an unknown issuer is refused'
    UNION ALL SELECT test.token('ada', '{"iss": "https://issuer.test"}'), '%issuer%', '%', 'an issuer spelled without its last slash is another one'
    UNION ALL SELECT test.token('ada', '{"iss": "'' OR true --"}'), '%issuer%', '%', 'an issuer with SQL in it is refused'
    UNION ALL SELECT test.token('ada', '{"iss": null}'), '%', 'The token needs "iss"%', 'a token without issuer is refused'
    UNION ALL SELECT test.token('ada', '{"aud": "another service"}'), 'the token is meant for another audience', '%audience%', 'a token for another audience is refused'
    UNION ALL SELECT test.token('ada', '{"aud": null}'), '%', 'The token needs "iss"%', 'a token without audience is refused'
    UNION ALL SELECT test.token('ada', '{"aud": []}'), '%', 'The token needs "iss"%', 'a token with an empty list of audiences is refused'
    UNION ALL SELECT test.token('ada', jsonb_build_object('exp', pg_temp.seconds(-1))), 'the token has expired', 'Refresh the session%', 'an expired token is refused'
    UNION ALL SELECT test.token('ada', '{"exp": null}'), '%', 'The token needs "iss"%', 'a token that never ends is refused'
    UNION ALL SELECT test.token('ada', '{"exp": "9999999999"}'), '%', 'The token needs "iss"%', 'an end that is a string is refused'
    UNION ALL SELECT test.token('ada', '{"exp": 1e300}'), '%', 'The token needs "iss"%', 'an end beyond all time is refused'
    UNION ALL SELECT test.token('ada', jsonb_build_object('nbf', pg_temp.seconds(60))), 'the token is not valid yet', 'Check the clocks%', 'a token for later is refused'
    UNION ALL SELECT test.token('ada', jsonb_build_object('iat', pg_temp.seconds(60))), 'the token is not valid yet', 'Check the clocks%', 'a token from the future is refused'
    UNION ALL SELECT test.token('ada', '{"sub": null}'), '%', 'The token needs "iss"%', 'a token without subject is refused'
    UNION ALL SELECT test.token('ada', '{"sub": ""}'), '%', 'The token needs "iss"%', 'an empty subject is refused'
    UNION ALL SELECT test.token('ada', '{"sub": 7}'), '%', 'The token needs "iss"%', 'a subject that is a number is refused'
    UNION ALL SELECT test.token('ada '), '%no active membership here', '%', 'a subject with a space after it is somebody else'
    UNION ALL SELECT test.token('ADA'), '%no active membership here', '%', 'a subject in capitals is somebody else'
) AS refused;

SELECT is(tenancy.whoami(), '{"authenticated": false}', 'none of them left a context');
SELECT is(tenancy.authenticate(test.token('ada', '{"aud": ["another service", "database"]}')), test.acme(), 'one of several audiences is enough');
SELECT is(tenancy.authenticate(test.token('ada', header => '{"kid": null}')), test.acme(), 'without a "kid" the only key of the algorithm serves');
SELECT is(tenancy.authenticate(test.token('ada', header => '{"typ": "at+jwt"}')), test.acme(), 'an access token of RFC 9068 is accepted');

SELECT is(tenancy.authenticate(test.token('ada'), correlation_id => repeat('é', 100)), test.acme(), 'a correlation id of 200 bytes is accepted');
SELECT test.refused($$ SELECT tenancy.authenticate(test.token('ada'), correlation_id => repeat('é', 100) || 'x') $$, '22023',
                    'the correlation id is longer than 200 bytes', '%', 'a longer one is refused');

CREATE FUNCTION pg_temp.words_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; detail text; hint text; context text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' ', message, detail, hint);
END
$$;
SELECT is((SELECT bool_or(strpos(pg_temp.words_of(format('SELECT tenancy.authenticate(%L)', token)), piece) > 0)
             FROM good, unnest(ARRAY[pg_temp.part(token, 2), pg_temp.part(token, 3), 'ada']) piece,
                  LATERAL (VALUES (token || 'x'), (token || '.x'), (test.token('ada', '{"exp": 1}')), (test.token('ada', key => 'x'))) AS bad (bad)),
          false, 'no error repeats a piece of the token or its subject');

RESET SESSION AUTHORIZATION;
SELECT * FROM finish();
ROLLBACK;
