-- Single sign-on: from a draft to enforcement, what is refused on the way, who gets in then, and what the audit says of it.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(247);

-- Acme signs in through an issuer of its own; a spare one is for the break-glass admin.
CREATE FUNCTION test.sso_key() RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT 'the key of acme''s own provider...'::bytea $$;
CREATE FUNCTION test.sso_token(subject text, claims jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
    SELECT test.token(subject, jsonb_build_object('iss', 'https://sso.test/') || claims, key => test.sso_key())
$$;
DO $$
BEGIN
    PERFORM tenancy.set_issuer('https://sso.test/', '{database}', jwks_file => test.key_file(test.jwks(test.sso_key())), leeway_seconds => 0);
    PERFORM tenancy.set_membership(test.acme(), 'sso-ada', 'admin', 'https://sso.test/');
    PERFORM tenancy.set_membership(test.acme(), 'sso-eve', 'editor', 'https://sso.test/');
    PERFORM tenancy.set_membership(test.bolt(), 'sso-bob', 'editor', 'https://sso.test/');
END
$$;

-- How a token gets in; its identity is taken back.
CREATE FUNCTION test.way_in(token text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    BEGIN
        PERFORM tenancy.authenticate(token);
        answer := tenancy.whoami() ->> 'method';
        RAISE EXCEPTION USING ERRCODE = 'TT000';
    EXCEPTION WHEN SQLSTATE 'TT000' THEN NULL;
    END;
    RETURN answer;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
CREATE FUNCTION test.detail_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; detail text; hint text;
BEGIN
    EXECUTE statement;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws('|', message, detail, hint);
END
$$;
CREATE FUNCTION test.shut() RETURNS text LANGUAGE sql AS $$ SELECT '28000 the organization requires single sign-on' $$;

-- The connection that the suite is about, and the newest event of it.
CREATE FUNCTION test.c() RETURNS uuid LANGUAGE sql AS $$ SELECT id FROM tenancy.sso_connection WHERE name = 'Acme SSO' $$;
CREATE FUNCTION test.version() RETURNS bigint LANGUAGE sql AS $$ SELECT version FROM tenancy.sso_connection WHERE id = test.c() $$;
CREATE FUNCTION test.state() RETURNS text LANGUAGE sql AS $$ SELECT state FROM tenancy.sso_connection WHERE id = test.c() $$;

CREATE FUNCTION test.good(subject text, claims jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
    SELECT test.sso_token(subject, '{"amr": ["pwd", "hwk"], "email": "Who@acme.example", "email_verified": true}' || claims)
$$;
-- Alters the signature's first character, which no encoding leaves unused.
CREATE FUNCTION test.forged(token text) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(token, '\.(.)([^.]*)$', CASE WHEN token ~ '\.A[^.]*$' THEN '.B\2' ELSE '.A\2' END)
$$;
CREATE FUNCTION test.tried(token text) RETURNS text LANGUAGE sql AS $$ SELECT succeeded || ': ' || reason FROM tenancy.test_sso(test.c(), token) $$;
-- tenancy.event asks for the rights of whoever reads it.
CREATE FUNCTION test.events() RETURNS SETOF tenancy.event LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM tenancy.event WHERE transaction = pg_current_xact_id()';
CREATE VIEW test.event AS
SELECT row_number() OVER (ORDER BY e.occurred_at, e.ordinal) AS n, e.operation, e.table_name, e.organization, e.domain, e.row_key, a.method, a.subject, a.session_user_name,
       (e.payload -> 'old')::jsonb AS old, (e.payload -> 'new')::jsonb AS new
  FROM test.events() e JOIN tenancy.event_actor a ON a.id = e.actor
 WHERE e.transaction = pg_current_xact_id() AND e.domain = 'sso';
GRANT SELECT ON test.event, tenancy.event, tenancy.event_actor TO test_owner;

SET LOCAL SESSION AUTHORIZATION test_owner;

-- Drafting --------------------------------------------------------------------------------------------------------------

SELECT isnt(tenancy.create_sso_connection(test.acme(), 'Acme SSO', 'https://sso.test/', accepted_amr => '{mfa,hwk}'), NULL, 'a connection is created and its id returned');
SELECT test.same($$ SELECT state, accepted_amr, accepted_acr, accepted_aal, version, break_glass_subject FROM tenancy.sso_connection $$,
                 $$ VALUES ('draft', '{mfa,hwk}'::text[], '{}'::text[], '{}'::text[], 1, NULL) $$, 'it is a draft that asks for what was given');
SELECT is(test.way_in(test.token('ada')), 'token', 'a draft binds nobody');
SELECT test.refused(format('SELECT tenancy.create_sso_connection(%s)', arguments), state, '%', '%', promise) FROM (VALUES
    ($$ test.acme(), 'Acme SSO', 'https://sso.test/' $$, '23505', 'a name is given once in an organization'),
    ($$ test.acme(), '', 'https://sso.test/' $$, '23514', 'a connection has a name'),
    ($$ 'dddddddd-0000-4000-8000-000000000009', 'x', 'https://sso.test/' $$, '42704', 'its organization exists'),
    ($$ test.acme(), 'x', 'https://nobody.test/' $$, '42704', 'its issuer exists'),
    ($$ NULL, 'x', 'https://sso.test/' $$, '22004', 'the organization is no NULL'),
    ($$ test.acme(), NULL, 'https://sso.test/' $$, '22004', 'nor is the name'),
    ($$ test.acme(), 'x', NULL $$, '22004', 'nor the issuer'),
    ($$ test.acme(), 'x', 'https://sso.test/', NULL $$, '22004', 'nor the methods: NULL does not ask for nothing'),
    ($$ test.acme(), 'x', 'https://sso.test/', '{NULL}' $$, '23514', 'nor one of them'),
    ($$ test.acme(), 'x', 'https://sso.test/', '{""}' $$, '23514', 'no method is empty'),
    ($$ test.acme(), 'x', 'https://sso.test/', '{{mfa},{hwk}}' $$, '23514', 'methods are a list'),
    ($$ test.acme(), 'x', 'https://sso.test/', accepted_acr => '{""}' $$, '23514', 'no context is empty'),
    ($$ test.acme(), 'x', 'https://sso.test/', accepted_aal => '{aal9}' $$, '23514', 'assurance levels are those that exist')
) AS v (arguments, state, promise);
SELECT lives_ok($$ SELECT tenancy.create_sso_connection(test.bolt(), 'Acme SSO of Bolt', 'https://sso.test/') $$, 'two organizations may share an issuer');

SELECT lives_ok($$ SELECT tenancy.alter_sso_connection(test.c(), accepted_acr => '{gold}') $$, 'a draft can be changed');
SELECT test.same($$ SELECT name, issuer, accepted_amr, accepted_acr, version FROM tenancy.sso_connection WHERE id = test.c() $$,
                 $$ VALUES ('Acme SSO', 'https://sso.test/', '{mfa,hwk}'::text[], '{gold}'::text[], 2) $$, 'what is not named stays, and the version counts');
SELECT lives_ok($$ SELECT tenancy.alter_sso_connection(test.c(), accepted_acr => '{}') $$, 'an empty list');
SELECT is((SELECT accepted_acr FROM tenancy.sso_connection WHERE id = test.c()), '{}', 'asks for nothing');
SELECT test.refused($$ SELECT tenancy.alter_sso_connection(test.c(), issuer => 'https://nobody.test/') $$, '42704', 'issuer "https://nobody.test/" is not registered', 'Register it%', 'a new issuer exists');
SELECT test.refused(format('SELECT tenancy.%s', call), '42704', 'single sign-on connection "%" does not exist', '%', 'an unknown connection: ' || call)
  FROM (SELECT replace(c, '$', '''dddddddd-0000-4000-8000-000000000009''') FROM unnest(ARRAY['alter_sso_connection($)', 'drop_sso_connection($)', 'add_sso_domain($, ''a.b'')',
        'verify_sso_domain($, ''a.b'', ''x'')', 'remove_sso_domain($, ''a.b'')', 'set_sso_break_glass($, ''a'', ''b'')', 'set_sso_state($, ''testing'')', 'test_sso($, ''x'')']) c) AS v (call);
SELECT test.refused(format('SELECT tenancy.%s', call), '22004', '% may not be NULL', '%', 'NULL: ' || call)
  FROM unnest(ARRAY['alter_sso_connection(NULL)', 'drop_sso_connection(NULL)', 'add_sso_domain(NULL, ''a.b'')', 'add_sso_domain(test.c(), NULL)', 'verify_sso_domain(NULL, ''a.b'', ''x'')',
        'verify_sso_domain(test.c(), NULL, ''x'')', 'remove_sso_domain(NULL, ''a.b'')', 'remove_sso_domain(test.c(), NULL)', 'set_sso_break_glass(test.c(), NULL, ''b'')', 'set_sso_break_glass(test.c(), ''a'', NULL)',
        'set_sso_state(test.c(), NULL)', 'set_sso_state(NULL, ''testing'')', 'test_sso(NULL, ''x'')', 'test_sso(test.c(), NULL)']) call;

-- Domains -----------------------------------------------------------------------------------------------------------------

SELECT test.refused(format('SELECT tenancy.add_sso_domain(test.c(), %L)', domain), '22023', 'the domain is not a full name%', 'Such as acme.example%', 'no domain: ' || to_json(domain))
  FROM unnest(ARRAY['', 'com', 'localhost', '.com', 'acme.', 'acme.example.', '.acme.example', 'acme..example', 'acme example.com', '-acme.example', 'acme-.example', 'acme_x.example', '*.example', '10.0.0.1',
                    'acme.1', 'ann@acme.example', 'žluť.example', 'acme.example/', E'acme.example\n', E'a.b\nacme.example', repeat('a', 64) || '.example', repeat('a.', 127) || 'example']) domain;
SELECT matches(tenancy.add_sso_domain(test.c(), 'Acme.EXAMPLE'), '^pg-tenancy-verification=[0-9a-f]{64}$', 'a domain gets a challenge that nobody guesses');
SELECT is(tenancy.add_sso_domain(test.c(), 'acme.example'), (SELECT challenge FROM tenancy.sso_domain), 'and the same one when it is added again');
SELECT test.same($$ SELECT name, verified_at, verified_by FROM tenancy.sso_domain $$, $$ VALUES ('acme.example', NULL, NULL) $$, 'in lower case, once, and not verified');
SELECT lives_ok($$ SELECT tenancy.add_sso_domain(test.c(), 'xn--lu-9ja08c.xn--p1ai') $$, 'internationalized names in their ASCII form are names');
SELECT is(tenancy.remove_sso_domain(test.c(), 'XN--lu-9ja08c.xn--p1ai'), true, 'a domain can be removed');
SELECT is(tenancy.remove_sso_domain(test.c(), 'xn--lu-9ja08c.xn--p1ai'), false, 'once');
SELECT is(test.version(), 3::bigint, 'as long as it is not verified it changes nothing');
SELECT is(tenancy.verify_sso_domain(test.c(), 'acme.example', VARIADIC observed), false, promise) FROM (VALUES
    ('{}'::text[], 'no record verifies nothing'), (NULL, 'nor does NULL'), ('{NULL}', 'nor one in the list'), ('{v=spf1,pg-tenancy-verification=}', 'nor do other records'),
    (ARRAY[(SELECT upper(challenge) FROM tenancy.sso_domain)], 'nor the challenge in capitals')) AS v (observed, promise);
SELECT test.refused($$ SELECT tenancy.verify_sso_domain(test.c(), 'other.example', 'x') $$, '42704', 'the connection has no domain "other.example"', 'Add it%', 'what was not added is not verified');
SELECT is(tenancy.verify_sso_domain(test.c(), 'ACME.example', 'v=spf1', (SELECT challenge FROM tenancy.sso_domain)), true, 'the challenge among the records verifies the domain');
SELECT test.same($$ SELECT verified_by, verified_at IS NOT NULL FROM tenancy.sso_domain $$, $$ VALUES ('test_owner', true) $$, 'and it is kept who said so');
SELECT is(test.version(), 4::bigint, 'a verified domain changes what members must meet');
SELECT is(tenancy.verify_sso_domain(test.c(), 'acme.example', (SELECT challenge FROM tenancy.sso_domain)), true, 'verifying again');
SELECT is(test.version(), 4::bigint, 'changes nothing');
SELECT lives_ok($$ SELECT tenancy.add_sso_domain((SELECT id FROM tenancy.sso_connection WHERE name = 'Acme SSO of Bolt'), 'acme.example') $$, 'another organization may claim the same domain');
SELECT isnt((SELECT challenge FROM tenancy.sso_domain WHERE organization = test.bolt()), (SELECT challenge FROM tenancy.sso_domain WHERE organization = test.acme()), 'with a challenge of its own');
SELECT test.refused($$ SELECT tenancy.verify_sso_domain(d.connection, d.name, d.challenge) FROM tenancy.sso_domain d WHERE organization = test.bolt() $$, '23505',
                    'domain "acme.example" is verified for another connection', '%', 'but not have it verified too');

-- Testing -----------------------------------------------------------------------------------------------------------------

SELECT test.refused($$ SELECT tenancy.test_sso(test.c(), 'x') $$, '55000', 'the connection is a draft%', 'Begin to test it%', 'a draft is not tested');
SELECT test.refused($$ SELECT tenancy.set_sso_state(test.c(), 'enforced') $$, '55000', 'a connection goes from draft to enforced by way of testing', '%', 'a draft is not enforced');
SELECT test.refused($$ SELECT tenancy.set_sso_state(test.c(), 'on') $$, '22023', 'a connection is draft, testing or enforced', '%', 'there are three states');
SELECT lives_ok($$ SELECT tenancy.set_sso_state(test.c(), 'testing'), tenancy.set_sso_state(test.c(), 'testing') $$, 'a draft can be tested');
SELECT is(test.way_in(test.token('ada')), 'token', 'a connection that is tested binds nobody');

SELECT matches(test.tried(token), outcome, promise) FROM (VALUES
    ('', '^false: .*three parts', 'no token'),
    (test.forged(test.good('sso-eve')), '^false: the token''s signature is not valid', 'a forged token'),
    (test.good('sso-eve', '{"exp": 1}'), '^false: the token has expired', 'an expired token'),
    (test.good('sso-eve', '{"iss": "https://evil.test/"}'), '^false: the token''s issuer is not registered, or not active$', 'a token of an unknown issuer'),
    (test.good('stranger'), '^false: .*no active membership', 'a stranger''s token'),
    (test.good('sso-bob'), '^false: .*no active membership', 'a token of a member of another organization'),
    (test.token('ada', '{"amr": ["hwk"], "email": "a@acme.example"}'), '^false: The token is of another issuer', 'a member''s token of another issuer'),
    (test.good('sso-eve', '{"amr": ["pwd"]}'), '^false: The token''s "amr"', 'a token of another method'),
    (test.good('sso-eve', '{"amr": null}'), '^false: The token''s "amr"', 'a token without a method'),
    (test.good('sso-eve', '{"email": "eve@bolt.example"}'), '^false: .*"email"', 'an address of another domain'),
    (test.good('sso-eve', '{"email_verified": false}'), '^false: .*"email"', 'an address that is not verified'),
    (test.good('sso-eve'), '^true: all conditions are met$', 'a token that meets all'),
    (test.good('sso-eve', '{"amr": [{"method": "hwk", "timestamp": 1}]}'), '^true: ', 'a token as Supabase writes it')
) AS v (token, outcome, promise);
SAVEPOINT tested;
SELECT isnt(tenancy.add_sso_domain(test.c(), 'pending.example'), NULL, 'a domain that is not verified');
SELECT matches(test.tried(test.good('sso-eve', '{"email": "eve@pending.example"}')), '^false: .*"email"', 'lets nobody in');
SELECT lives_ok($$ SELECT tenancy.remove_sso_domain(test.c(), 'acme.example') $$, 'and alone');
SELECT matches(test.tried(test.good('sso-eve', '{"email": null}')), '^true: ', 'it asks for no address');
ROLLBACK TO tested;
SELECT lives_ok($$ SELECT tenancy.set_issuer('https://sso.test/', '{database}', jwks_file => (SELECT jwks_file FROM tenancy.issuer WHERE issuer = 'https://sso.test/'), role_claim => '/org_role', role_rule => 'claim') $$,
                'where the token names the role');
SELECT matches(test.tried(test.good('sso-eve')), '^false: the token names no role', 'a test fails as the sign-in would');
ROLLBACK TO tested;
SELECT is(tenancy.whoami(), '{"authenticated": false}', 'a test gives the transaction no identity');
SELECT test.same($$ SELECT succeeded, count(*), count(subject), min(version), max(version) FROM tenancy.sso_test GROUP BY 1 ORDER BY 1 $$,
                 $$ VALUES (false, 11, 7, 4, 4), (true, 2, 2, 4, 4) $$, 'each outcome is kept, with the version and, of a verified token, the subject');
SELECT is_empty($$ SELECT * FROM tenancy.sso_test t WHERE to_jsonb(t)::text ~ '(eyJ|evil|@|hwk)' $$, 'neither the token nor what it claims is kept');

-- Enforcing ---------------------------------------------------------------------------------------------------------------

SELECT test.refused(format('SELECT tenancy.set_sso_break_glass(test.c(), %L, %L)', subject, issuer), '55000', 'the subject is no active member%', 'Name a member%', promise) FROM (VALUES
    ('eve', test.issuer(), 'who may not update single sign-on cannot be the break-glass admin'), ('bob', test.issuer(), 'nor an admin of another organization'),
    ('ada', 'https://sso.test/', 'nor the same subject of another issuer'), ('nobody', test.issuer(), 'nor a stranger')) AS v (subject, issuer, promise);

CREATE FUNCTION pg_temp.why_not() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    PERFORM tenancy.set_sso_state(test.c(), 'enforced');
    RETURN 'it is';
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN detail;
END
$$;
SELECT matches(pg_temp.why_not(), 'No break-glass admin', 'without a break-glass admin nothing is enforced');
SELECT lives_ok($$ SELECT tenancy.set_sso_break_glass(test.c(), 'ada', test.issuer()) $$, 'an admin of another issuer is named');
SELECT is(test.version(), 4::bigint, 'which changes nothing that was tested');
SAVEPOINT ready;
SELECT lives_ok($$ SELECT tenancy.alter_sso_connection(test.c(), accepted_amr => '{hwk}') $$, 'settings change after the test');
SELECT matches(pg_temp.why_not(), 'No test sign-in', 'a test of other settings does not count');
ROLLBACK TO ready;
SELECT lives_ok($$ SELECT tenancy.remove_sso_domain(test.c(), 'acme.example') $$, 'a verified domain goes after the test');
SELECT matches(pg_temp.why_not(), 'No test sign-in', 'a test with it does not count');
ROLLBACK TO ready;
RESET SESSION AUTHORIZATION;
UPDATE tenancy.sso_test SET tested_at = clock_timestamp() - interval '24 hours 1 second' WHERE succeeded;
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT matches(pg_temp.why_not(), 'No test sign-in', 'a test that is older than a day does not count');
ROLLBACK TO ready;
RESET SESSION AUTHORIZATION;
DELETE FROM tenancy.sso_test WHERE succeeded;
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT matches(pg_temp.why_not(), 'No test sign-in', 'failed tests do not count');
ROLLBACK TO ready;
SELECT lives_ok($$ SELECT tenancy.set_issuer_status('https://sso.test/', 'disabled') $$, 'the issuer is disabled');
SELECT matches(pg_temp.why_not(), '^Its issuer is not active', 'nobody could get in: not enforced');
SELECT matches(test.tried(test.good('sso-eve')), '^false: the token''s issuer is not registered, or not active$', 'nor does a test succeed');
ROLLBACK TO ready;
SELECT lives_ok($$ SELECT tenancy.set_issuer_status(test.issuer(), 'disabled') $$, 'the issuer of the break-glass admin is disabled');
SELECT matches(pg_temp.why_not(), '^The issuer of the break-glass admin', 'a way in that is shut does not count');
ROLLBACK TO ready;
SELECT unnest(ARRAY[lives_ok(change, promise), matches(pg_temp.why_not(), '^The break-glass admin is no active member', 'so nothing is enforced')]) FROM (VALUES
    (1, $$ SELECT tenancy.set_membership(test.acme(), 'ada', 'admin', test.issuer(), 'suspended') $$, 'the admin is suspended'),
    (2, $$ SELECT tenancy.set_membership(test.acme(), 'ada', 'reader', test.issuer()) $$, 'the admin is none any more'),
    (3, $$ SELECT tenancy.set_membership(test.acme(), 'ada', 'admin', test.issuer(), valid_until => now()) $$, 'the admin''s membership has ended'),
    (4, $$ SELECT tenancy.remove_membership(test.acme(), 'ada') $$, 'the admin is gone')) AS v (n, change, promise) ORDER BY n;
ROLLBACK TO ready;
SELECT is(pg_temp.why_not(), 'it is', 'with all of it the connection is enforced');
SELECT is(test.state(), 'enforced', 'and says so');

-- Who gets in -------------------------------------------------------------------------------------------------------------

SELECT is(test.way_in(token), method, promise) FROM (VALUES
    (test.good('sso-eve'), 'token', 'a member through single sign-on is let in'),
    (test.good('sso-ada'), 'token', 'an admin too'),
    (test.good('sso-eve', '{"amr": [{"method": "mfa", "timestamp": 1}]}'), 'token', 'in either form of "amr"'),
    (test.token('eve', '{"amr": ["hwk"], "email": "eve@acme.example"}'), test.shut(), 'a member with a token of another issuer is refused'),
    (test.good('sso-eve', '{"amr": ["pwd"]}'), test.shut(), 'with a password alone too'),
    (test.good('sso-eve', '{"amr": null}'), test.shut(), 'and without a method'),
    (test.good('sso-eve', '{"amr": "mfa"}'), test.shut(), 'and with one that is no list'),
    (test.good('sso-eve', '{"email": null}'), test.shut(), 'and without an address'),
    (test.good('sso-eve', '{"email": "eve@sub.acme.example"}'), test.shut(), 'and with one of a subdomain'),
    (test.good('sso-eve', '{"email_verified": "false"}'), test.shut(), 'and with one that is not verified'),
    (test.good('sso-ada', '{"amr": ["pwd"]}'), test.shut(), 'admins as well'),
    (test.token('ada'), 'break-glass', 'the break-glass admin is let in, and marked'),
    (test.token('ada', '{"amr": ["hwk"], "email": "a@acme.example"}'), 'break-glass', 'whatever the token says'),
    (test.token('mia', '{"org_id": "bolt"}'), 'token', 'who is in another organization too gets in there as before'),
    (test.token('bob'), 'token', 'another organization is not concerned'),
    (test.good('sso-bob', '{"amr": null, "email": null}'), 'token', 'nor asked for anything by the shared issuer''s connection')) AS v (token, method, promise);
SELECT matches(test.way_in(test.token('stranger')), 'no active membership', 'a stranger is not told that the organization has single sign-on');
SELECT matches(test.way_in(test.forged(test.token('ada'))), 'signature is not valid', 'a forged token breaks no glass');
SELECT matches(test.way_in(test.token('ada', '{"exp": 1}')), 'expired', 'nor does an expired one');
SELECT test.refused($$ SELECT tenancy.authenticate(test.token('eve')) $$, '28000', 'the organization requires single sign-on', 'Sign in through%', 'the refusal names the next step');
SELECT is((SELECT count(*) FROM unnest('{sso.test,acme,hwk,mfa,ada,issuer.test}'::text[]) secret, test.detail_of($$ SELECT tenancy.authenticate(test.token('eve')) $$) d WHERE d LIKE '%' || secret || '%'), 0::bigint,
          'and nothing of the settings');

SAVEPOINT enforced;
SELECT unnest(ARRAY[lives_ok(change, promise), is(test.way_in(test.token('ada')), expected, 'so: ' || expected)]) FROM (VALUES
    (1, $$ SELECT tenancy.set_membership(test.acme(), 'ada', 'reader', test.issuer()) $$, 'a break-glass admin who is none any more breaks no glass', test.shut()),
    (2, $$ SELECT tenancy.set_membership(test.acme(), 'ada', 'admin', test.issuer()) $$, 'and does as an admin again', 'break-glass'),
    (3, $$ SELECT tenancy.set_issuer_status('https://sso.test/', 'disabled') $$, 'when the connection''s issuer fails, the glass can be broken', 'break-glass')) AS v (n, change, promise, expected) ORDER BY n;
SELECT matches(test.way_in(test.good('sso-eve')), '^28000 .*issuer', 'while members are refused');
SELECT is(test.way_in(test.token('eve')), test.shut(), 'also those who come otherwise: a failed issuer opens no door');
RESET SESSION AUTHORIZATION;
SELECT throws_ok($$ DELETE FROM tenancy.issuer WHERE issuer = 'https://sso.test/' $$, '23503', NULL, 'nor does a deleted one: it cannot be deleted under a connection');
SET LOCAL SESSION AUTHORIZATION test_owner;
ROLLBACK TO enforced;

-- What may be changed now -------------------------------------------------------------------------------------------------

SELECT test.refused(format('SELECT tenancy.%s', call), '55000', 'single sign-on connection "Acme SSO" is enforced and cannot be changed', 'In one transaction:%', 'refused while enforced: ' || call)
  FROM unnest(ARRAY['alter_sso_connection(test.c(), accepted_amr => ''{}'')', 'alter_sso_connection(test.c(), ''New name'')', 'drop_sso_connection(test.c())', 'add_sso_domain(test.c(), ''new.example'')', 'remove_sso_domain(test.c(), ''acme.example'')']) call;
SELECT test.refused($$ SELECT tenancy.set_sso_state(test.c(), 'draft') $$, '55000', 'a connection goes from enforced to draft by way of testing', '%', 'nor does it become a draft at once');
SELECT is(tenancy.verify_sso_domain(test.c(), 'acme.example', (SELECT challenge FROM tenancy.sso_domain WHERE connection = test.c())), true, 'a job may verify again what is verified');
SELECT lives_ok($$ SELECT tenancy.set_sso_break_glass(test.c(), 'sso-ada', 'https://sso.test/') $$, 'the break-glass admin can be replaced');
SELECT is(test.way_in(test.token('ada')), test.shut(), 'the old one is refused then');
SELECT is(test.way_in(test.good('sso-ada', '{"amr": null}')), 'break-glass', 'and the new one let in');
SELECT is(test.state(), 'enforced', 'nothing of this ends the enforcement');
ROLLBACK TO enforced;

SELECT lives_ok($$ SELECT tenancy.set_sso_state(test.c(), 'testing') $$, 'whoever opens the door says so');
SELECT is(test.way_in(test.token('eve')), 'token', 'and it is open');
SELECT lives_ok($$ SELECT tenancy.alter_sso_connection(test.c(), accepted_amr => '{}', accepted_acr => '{gold}', accepted_aal => '{aal2}') $$, 'the settings can be changed');
SELECT matches(pg_temp.why_not(), 'No test sign-in', 'and have to be tested');
SELECT matches(test.tried(test.good('sso-eve', '{"aal": "aal2"}')), '"acr"', 'without the context a test fails');
SELECT matches(test.tried(test.good('sso-eve', '{"acr": "gold", "aal": "aal1"}')), '"aal"', 'with another level too');
SELECT is(test.tried(test.good('sso-eve', '{"acr": "gold", "aal": "aal2"}')), 'true: all conditions are met', 'with both it succeeds');
SELECT is(pg_temp.why_not(), 'it is', 'before they are enforced again');
SELECT is(test.way_in(test.good('sso-eve', '{"acr": "gold", "aal": "aal2"}')), 'token', 'the new conditions hold');
SELECT is(test.way_in(test.good('sso-eve', '{"acr": "gold"}')), test.shut(), 'each of them');
SELECT lives_ok($$ SELECT tenancy.set_sso_state(test.c(), 'testing'), tenancy.set_sso_state(test.c(), 'draft') $$, 'step by step it becomes a draft');
SELECT lives_ok($$ SELECT tenancy.drop_sso_connection(test.c()) $$, 'which can be dropped');
SELECT is(test.c(), NULL, 'and is gone');
SELECT is_empty($$ SELECT FROM tenancy.sso_domain WHERE organization = test.acme() UNION ALL SELECT FROM tenancy.sso_test $$, 'with its domains and tests');
SELECT is(test.way_in(test.token('eve')), 'token', 'members get in as before');

-- What the audit says -----------------------------------------------------------------------------------------------------

CREATE FUNCTION pg_temp.newest(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before bigint := (SELECT count(*) FROM test.event);
BEGIN
    EXECUTE change;
    RETURN (SELECT string_agg(format('%s %s', operation, table_name), ', ' ORDER BY n) FROM test.event WHERE n > before);
END
$$;
SELECT is(pg_temp.newest(change), events, promise) FROM (VALUES
    (1, $$ SELECT tenancy.create_sso_connection(test.acme(), 'Acme SSO', 'https://sso.test/') $$, 'insert sso_connection', 'creating a connection is an event'),
    (2, $$ SELECT tenancy.alter_sso_connection(test.c(), accepted_amr => '{mfa}') $$, 'update sso_connection', 'changing it'),
    (3, $$ SELECT tenancy.add_sso_domain(test.c(), 'acme.test') $$, 'insert sso_domain', 'adding a domain'),
    (4, $$ SELECT tenancy.verify_sso_domain(test.c(), 'acme.test', 'x') $$, NULL, 'not, where nothing changes'),
    (5, $$ SELECT tenancy.verify_sso_domain(test.c(), 'acme.test', (SELECT challenge FROM tenancy.sso_domain WHERE connection = test.c())) $$, 'update sso_domain, update sso_connection', 'verifying a domain'),
    (6, $$ SELECT tenancy.remove_sso_domain(test.c(), 'acme.test') $$, 'delete sso_domain, update sso_connection', 'removing it'),
    (7, $$ SELECT tenancy.set_sso_break_glass(test.c(), 'ada', test.issuer()) $$, 'update sso_connection', 'naming the break-glass admin'),
    (8, $$ SELECT tenancy.set_sso_state(test.c(), 'testing') $$, 'update sso_connection', 'testing it'),
    (9, $$ SELECT tenancy.test_sso(test.c(), 'x') $$, 'insert sso_test', 'a test that fails'),
    (10, $$ SELECT tenancy.test_sso(test.c(), test.good('sso-eve', '{"amr": ["mfa"]}')) $$, 'insert sso_test', 'a test that succeeds'),
    (11, $$ SELECT tenancy.set_sso_state(test.c(), 'enforced') $$, 'update sso_connection', 'enforcing it'),
    (12, $$ SELECT tenancy.set_sso_state(test.c(), 'enforced') $$, NULL, 'not, where it is enforced already'),
    (13, $$ SELECT tenancy.set_sso_state(test.c(), 'testing') $$, 'update sso_connection', 'and opening the door')) AS v (n, change, events, promise) ORDER BY n;
SELECT is((SELECT (old ->> 'state') || ' ' || (new ->> 'state') FROM test.event ORDER BY n DESC LIMIT 1), 'enforced testing', 'an event says what was and what is');
SELECT test.same($$ SELECT DISTINCT organization, domain, method, session_user_name FROM test.event WHERE organization = test.acme() $$,
                 $$ VALUES (test.acme(), 'sso', 'none', 'test_owner') $$, 'events stand in the organization''s chain and name the database user');
SELECT is_empty($$ SELECT * FROM test.event WHERE coalesce(new, old)::text LIKE '%eyJ%' $$, 'no event holds a token');

-- Whoever administers with a token of the application is named by it, and the broken glass stays in sight.
SELECT lives_ok($$ SELECT tenancy.set_sso_state(test.c(), 'enforced') $$, 'enforced again');
SAVEPOINT signed_in;
CALL test.sign_in('ada', correlation_id => 'repair');
SELECT is(tenancy.whoami() ->> 'method', 'break-glass', 'the break-glass admin signs in');
SELECT lives_ok($$ SELECT tenancy.set_sso_state(test.c(), 'testing') $$, 'and opens the door');
INSERT INTO app.finding (id, title) VALUES (50, 'under broken glass');
SELECT test.same($$ SELECT method, subject, session_user_name FROM test.event ORDER BY n DESC LIMIT 1 $$, $$ VALUES ('break-glass', 'ada', 'test_owner') $$, 'the event of that names the admin and the broken glass');
RESET SESSION AUTHORIZATION;
SELECT is((SELECT string_agg(DISTINCT a.method, ',') FROM tenancy.event e JOIN tenancy.event_actor a ON a.id = e.actor WHERE a.correlation_id = 'repair'), 'break-glass', 'as does every event of the transaction');
SELECT is((SELECT count(*) FROM tenancy.event e JOIN tenancy.event_actor a ON a.id = e.actor WHERE a.correlation_id = 'repair'), 2::bigint, 'those of the application''s tables too');
SELECT is_empty('SELECT * FROM tenancy.verify_audit()', 'the audit is whole');
ROLLBACK TO signed_in;

-- Who else may look and write -----------------------------------------------------------------------------------------------

SET LOCAL SESSION AUTHORIZATION test_application;
SELECT throws_ok('SELECT tenancy.' || call, '42501', NULL, 'an application may not call ' || call)
  FROM unnest(ARRAY['create_sso_connection(test.acme(), ''x'', ''y'')', 'alter_sso_connection(test.acme())', 'drop_sso_connection(test.acme())', 'add_sso_domain(test.acme(), ''a.b'')', 'verify_sso_domain(test.acme(), ''a.b'', ''x'')',
        'remove_sso_domain(test.acme(), ''a.b'')', 'set_sso_break_glass(test.acme(), ''a'', ''b'')', 'set_sso_state(test.acme(), ''testing'')', 'test_sso(test.acme(), ''x'')', 'lock_sso_connection(test.acme(), false)',
        'may_break_glass(test.acme(), ''a'', ''b'')']) call;
SELECT throws_ok('SELECT * FROM tenancy.' || name, '42501', NULL, 'an application may not read ' || name) FROM unnest('{sso_connection,sso_domain,sso_test}'::text[]) name;
SET LOCAL SESSION AUTHORIZATION test_auditor;
SELECT lives_ok('SELECT * FROM tenancy.' || name, 'an auditor may read ' || name) FROM unnest('{sso_connection,sso_domain,sso_test}'::text[]) name;
SELECT throws_ok('DELETE FROM tenancy.' || name, '42501', NULL, 'and not delete from ' || name) FROM unnest('{sso_connection,sso_domain,sso_test}'::text[]) name;
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT throws_ok(format('UPDATE tenancy.%s SET organization = organization', name), '42501', NULL, 'an administrator may not write ' || name) FROM unnest('{sso_connection,sso_domain,sso_test}'::text[]) name;
RESET SESSION AUTHORIZATION;
SELECT test.same($$ SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger WHERE tgrelid::regclass::text LIKE 'tenancy.sso\_%' AND tgname LIKE 'audit%' AND NOT tgisinternal ORDER BY 1, 2 $$,
    $$ SELECT t, n, 'A' FROM unnest('{tenancy.sso_connection,tenancy.sso_domain,tenancy.sso_test}'::text[]) t, unnest('{audit_row,audit_truncate}'::text[]) n ORDER BY 1, 2 $$,
    'the triggers that audit them fire under session_replication_role = replica too');
SELECT lives_ok('TRUNCATE tenancy.sso_test', 'a superuser who truncates');
SELECT is((SELECT operation || ' ' || table_name FROM test.event ORDER BY n DESC LIMIT 1), 'truncate sso_test', 'leaves an event');

SELECT * FROM finish();
ROLLBACK;
