-- What the suites share: tokens signed here, two organizations with members, a protected table, and assertions on
-- errors. Included inside the transaction of a suite, with whose ROLLBACK all of it goes.

CREATE SCHEMA test;
GRANT USAGE ON SCHEMA test TO PUBLIC;
SET LOCAL search_path = test, public;
SET LOCAL client_min_messages = warning;

-- Tokens -------------------------------------------------------------------------------------------------------------

CREATE FUNCTION test.base64url(bytes bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT translate(encode(bytes, 'base64'), E'+/=\n', '-_')
$$;

-- RFC 2104, for keys of at most 64 bytes.
CREATE FUNCTION test.hmac_sha256(key bytea, message bytea) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    inner_pad bytea := key || decode(repeat('00', 64 - length(key)), 'hex');
    outer_pad bytea := inner_pad;
BEGIN
    FOR i IN 0 .. 63 LOOP
        inner_pad := set_byte(inner_pad, i, get_byte(inner_pad, i) # 54);
        outer_pad := set_byte(outer_pad, i, get_byte(outer_pad, i) # 92);
    END LOOP;
    RETURN sha256(outer_pad || sha256(inner_pad || message));
END
$$;

CREATE FUNCTION test.issuer() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'https://issuer.test/' $$;
CREATE FUNCTION test.signing_key() RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT 'an issuer''s secret of 32 bytes..'::bytea $$;

CREATE FUNCTION test.jwks(key bytea DEFAULT test.signing_key(), kid text DEFAULT 'k1') RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT json_build_object('keys', json_build_array(
        json_build_object('kty', 'oct', 'alg', 'HS256', 'kid', kid, 'k', test.base64url(key))))::text
$$;

-- Puts a JWK Set into a key file and returns the name for tenancy.set_issuer. HMAC keys are taken from nowhere else.
CREATE FUNCTION test.key_file(jwks text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    folder text := nullif(current_setting('tenancy.jwks_directory', true), '');
    name text := 'pgtap-' || md5(jwks) || '.json';
BEGIN
    IF folder IS NULL THEN
        RAISE EXCEPTION 'the suites need a folder that the server may write to in tenancy.jwks_directory';
    END IF;
    -- In one step: suites that run side by side have the same file.
    EXECUTE format('COPY (SELECT %L) TO PROGRAM %L', jwks,
        format('umask 077 && cat > "%1$s/%2$s.%3$s" && mv "%1$s/%2$s.%3$s" "%1$s/%2$s"', folder, name, pg_backend_pid()));
    RETURN name;
END
$$;

-- The public key of RFC 8037 appendix A.2.
CREATE FUNCTION test.public_jwks() RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
$$;

-- A good token for the subject. Members of claims and header replace the usual ones; null takes one away.
CREATE FUNCTION test.token(subject text, claims jsonb DEFAULT '{}', header jsonb DEFAULT '{}', key bytea DEFAULT test.signing_key())
RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    now_seconds bigint := floor(extract(epoch FROM clock_timestamp()));
    input text;
BEGIN
    header := jsonb_strip_nulls(jsonb_build_object('alg', 'HS256', 'typ', 'JWT', 'kid', 'k1') || header);
    claims := jsonb_strip_nulls(jsonb_build_object(
        'iss', test.issuer(), 'aud', 'database', 'sub', subject, 'sid', 'session of ' || subject,
        'iat', now_seconds, 'exp', now_seconds + 3600) || claims);
    input := test.base64url(convert_to(header::text, 'UTF8')) || '.' || test.base64url(convert_to(claims::text, 'UTF8'));
    RETURN input || '.' || test.base64url(test.hmac_sha256(key, convert_to(input, 'UTF8')));
END
$$;

-- Authenticates without a row in the output.
CREATE PROCEDURE test.sign_in(subject text, organization uuid DEFAULT NULL, correlation_id text DEFAULT NULL) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tenancy.authenticate(test.token(subject), organization, correlation_id);
END
$$;

CREATE PROCEDURE test.sign_out() LANGUAGE plpgsql AS $$ BEGIN PERFORM tenancy.sign_out(); END $$;

-- Assertions ---------------------------------------------------------------------------------------------------------

-- The statement fails with the SQLSTATE, and with message and hint that are LIKE the patterns.
CREATE FUNCTION test.refused(statement text, expected_state text, message_pattern text, hint_pattern text, promise text)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text;
    message text;
    hint text;
    good boolean;
BEGIN
    BEGIN
        EXECUTE statement;
    EXCEPTION WHEN OTHERS OR assert_failure THEN
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    END;
    good := coalesce(state LIKE expected_state AND message LIKE message_pattern AND hint LIKE hint_pattern, false);
    RETURN ok(good, promise) || CASE WHEN good THEN '' ELSE E'\n' || diag(
        format(E'  statement: %s\n   expected: %s %s\n       hint: %s\n      found: %s %s\n       hint: %s', statement,
               expected_state, message_pattern, hint_pattern, coalesce(state, 'no error'), message, hint)) END;
END
$$;

-- As above, for errors of Postgres itself, whose words are not ours.
CREATE FUNCTION test.refused(statement text, expected_state text, promise text)
RETURNS text LANGUAGE sql AS $$ SELECT test.refused(statement, expected_state, '%', '%', promise) $$;

-- Both queries give the same rows in the same order, compared by their values as JSON: neither names, nor types, nor
-- collations of the columns matter.
CREATE FUNCTION test.rows(query text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    found jsonb;
BEGIN
    EXECUTE format('SELECT coalesce(jsonb_agg((SELECT jsonb_agg(c.value) FROM json_each(row_to_json(r)) c)), ''[]'') FROM (%s) r', query) INTO found;
    RETURN found;
END
$$;
CREATE FUNCTION test.same(query text, expected text, promise text) RETURNS text LANGUAGE sql AS $$
    SELECT is(test.rows(query), test.rows(expected), promise)
$$;

-- Who is there -------------------------------------------------------------------------------------------------------

CREATE FUNCTION test.acme() RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT 'aaaaaaaa-0000-4000-8000-000000000001'::uuid $$;
CREATE FUNCTION test.bolt() RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT 'bbbbbbbb-0000-4000-8000-000000000002'::uuid $$;

DO $$
BEGIN
    PERFORM tenancy.set_issuer(test.issuer(), '{database}', jwks_file => test.key_file(test.jwks()), leeway_seconds => 0);
    PERFORM tenancy.create_organization('Acme Inc.', test.acme(), 'acme', 1);
    PERFORM tenancy.create_organization('Bolt Ltd.', test.bolt(), 'bolt', 2);
    PERFORM tenancy.create_role('editor');
    PERFORM tenancy.create_role('reader');
    PERFORM tenancy.grant_permission('editor', 'finding', 'read', 'create', 'update', 'delete');
    PERFORM tenancy.grant_permission('reader', '*', 'read');
    PERFORM tenancy.set_membership(test.acme(), 'ada', 'admin');
    PERFORM tenancy.set_membership(test.acme(), 'eve', 'editor');
    PERFORM tenancy.set_membership(test.acme(), 'vic', 'reader');
    PERFORM tenancy.set_membership(test.bolt(), 'bob', 'admin');
    PERFORM tenancy.set_membership(test.acme(), 'mia', 'reader');
    PERFORM tenancy.set_membership(test.bolt(), 'mia', 'admin');
END
$$;

\ir roles.sql

-- What is there: a table of findings, three of Acme and two of Bolt ---------------------------------------------------

CREATE SCHEMA app AUTHORIZATION test_owner;
GRANT USAGE ON SCHEMA app TO test_application, test_stranger;
SET LOCAL ROLE test_owner;
CREATE TABLE app.finding (
    id integer PRIMARY KEY,
    organization_id uuid NOT NULL,
    title text NOT NULL,
    severity integer
);
GRANT SELECT, INSERT, UPDATE, DELETE ON app.finding TO test_application, test_stranger;
INSERT INTO app.finding VALUES
    (1, test.acme(), 'open bucket', 3), (2, test.acme(), 'old key', 5), (3, test.acme(), 'idle disk', 1),
    (4, test.bolt(), 'bolt''s secret', 7), (5, test.bolt(), 'bolt''s other secret', 9);
DO $$ BEGIN PERFORM tenancy.protect('app.finding'); END $$;
RESET ROLE;
