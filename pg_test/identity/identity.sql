-- Organizations, roles, issuers and memberships: how they are filled, and what authenticate makes of them.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(60);
SET LOCAL ROLE test_owner;

-- Filling -------------------------------------------------------------------------------------------------------------

SELECT isnt(tenancy.create_organization('New'), NULL, 'create_organization returns the id');
SELECT results_eq($$ SELECT text_id = id::text, integer_id, status FROM tenancy.organization WHERE name = 'New' $$,
                  $$ VALUES (true, NULL::bigint, 'active') $$, 'an organization has its id as text id unless another is given');
SELECT throws_ok($$ SELECT tenancy.create_organization('Twice', text_id => 'acme') $$, '23505', NULL, 'a text id is given once');
SELECT throws_ok($$ SELECT tenancy.create_organization('Twice', integer_id => 1) $$, '23505', NULL, 'an integer id is given once');
SELECT throws_ok($$ SELECT tenancy.create_organization('Twice', test.acme()) $$, '23505', NULL, 'an id is given once');
SELECT throws_ok($$ SELECT tenancy.create_organization('') $$, '23514', NULL, 'an organization has a name');
SELECT throws_ok($$ SELECT tenancy.set_organization_status(test.acme(), 'asleep') $$, '23514', NULL,
                 'an organization is active or suspended and nothing else');
SELECT test.refused($$ SELECT tenancy.set_organization_status('dddddddd-0000-4000-8000-000000000009', 'active') $$, '42704',
                    'organization "%" does not exist', 'Create it with tenancy.create_organization.', 'an unknown organization has no status');

SELECT lives_ok($$ SELECT tenancy.create_role('inspector', 'reads'), tenancy.create_role('inspector', 'reads all') $$, 'creating a role twice is safe');
SELECT is((SELECT description FROM tenancy.role WHERE name = 'inspector'), 'reads all', 'the second time changes its description');
SELECT lives_ok($$ SELECT tenancy.grant_permission('inspector', 'finding', 'read', 'read'), tenancy.grant_permission('inspector', 'finding', 'read') $$,
                'granting a permission twice is safe');
SELECT results_eq($$ SELECT domain, action FROM tenancy.role_permission WHERE role = 'inspector' $$, $$ VALUES ('finding', 'read') $$,
                  'it is there once');
SELECT lives_ok($$ SELECT tenancy.revoke_permission('inspector', 'finding', 'read', 'fly') $$, 'revoking what was never granted is no error');
SELECT is_empty($$ SELECT FROM tenancy.role_permission WHERE role = 'inspector' $$, 'a revoked permission is gone');
SELECT test.refused($$ SELECT tenancy.grant_permission('nobody', 'finding', 'read') $$, '42704', 'role "nobody" does not exist',
                    'Create it with tenancy.create_role.', 'permissions are granted to roles that exist');

SELECT test.refused(format('SELECT tenancy.set_membership(%L, %L, %L, %L)', organization, 'x', role, issuer), '42704',
                    'the organization, the role or the issuer of the membership does not exist', 'Create them first%', promise)
  FROM (VALUES
    ('dddddddd-0000-4000-8000-000000000009', 'admin', NULL, 'a membership needs an organization that exists'),
    (test.acme()::text, 'emperor', NULL, 'a membership needs a role that exists'),
    (test.acme()::text, 'admin', 'https://other.test/', 'a membership needs an issuer that exists')
  ) AS v (organization, role, issuer, promise);
SELECT throws_ok($$ SELECT tenancy.set_membership(test.acme(), 'x', 'admin', status => 'asleep') $$, '23514', NULL,
                 'a membership is active or suspended and nothing else');
SELECT throws_ok($$ SELECT tenancy.set_membership(test.acme(), '', 'admin') $$, '23514', NULL, 'a member has a subject');
SELECT lives_ok($$ SELECT tenancy.set_membership(test.acme(), 'eve', 'editor') $$, 'setting a membership twice is safe');
SELECT is(tenancy.remove_membership(test.acme(), 'nobody'), false, 'removing a membership that is not there tells so');

-- Choosing the organization -------------------------------------------------------------------------------------------

-- Where a token gets in. In a subtransaction that is rolled back, so that the next may be somebody else's.
CREATE FUNCTION pg_temp.admitted(token text, organization uuid DEFAULT NULL) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    entered uuid;
BEGIN
    entered := tenancy.authenticate(token, organization);
    RAISE EXCEPTION USING ERRCODE = 'P0099';
EXCEPTION WHEN SQLSTATE 'P0099' THEN
    RETURN entered;
END
$$;
CREATE FUNCTION pg_temp.enter(subject text, claims jsonb DEFAULT '{}', organization uuid DEFAULT NULL) RETURNS uuid LANGUAGE sql AS $$
    SELECT pg_temp.admitted(test.token(subject, claims), organization)
$$;

SELECT is(pg_temp.enter('ada'), test.acme(), 'the only membership decides when nothing names an organization');
SELECT is(pg_temp.enter('mia', organization => test.bolt()), test.bolt(), 'the caller names one of several');
SELECT is(pg_temp.enter('mia', '{"org_id": "bolt"}'), test.bolt(), 'the token names it by its text id');
SELECT is(pg_temp.enter('mia', jsonb_build_object('org_id', test.acme())), test.acme(), 'the token names it by its id');
SELECT is(pg_temp.enter('mia', jsonb_build_object('org_id', upper(test.acme()::text))), test.acme(), 'an id is the same in capitals');
SELECT is(pg_temp.enter('mia', '{"org_id": "acme"}', test.acme()), test.acme(), 'token and caller may name the same');
SELECT test.refused($$ SELECT pg_temp.enter('mia') $$, '28000', 'the subject is a member of several organizations, and none is named',
                    'Name the organization%', 'of several organizations one must be named');
SELECT test.refused($$ SELECT pg_temp.enter('mia', '{"org_id": "acme"}', test.bolt()) $$, '28000',
                    'the token is for another organization than the one named', 'Leave the argument out%',
                    'a token for one organization never serves another');
SELECT test.refused($$ SELECT pg_temp.enter('ada', '{"org_id": 1}') $$, '28000', 'the organization claim of the token is not of the form that is expected', '%',
                    'the organization claim is a string');
SELECT is(pg_temp.enter('ada', '{"org_id": null}'), test.acme(), 'a null claim names no organization');

-- What the caller must not learn --------------------------------------------------------------------------------------

CREATE FUNCTION pg_temp.error_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws('|', state, message, detail, hint);
END
$$;
SELECT is(pg_temp.error_of($$ SELECT pg_temp.enter('ada', organization => test.bolt()) $$),
          pg_temp.error_of($$ SELECT pg_temp.enter('ada', organization => 'dddddddd-0000-4000-8000-000000000009') $$),
          'somebody else''s organization and one that does not exist look the same');
SELECT is(pg_temp.error_of($$ SELECT pg_temp.enter('ada', '{"org_id": "bolt"}') $$),
          pg_temp.error_of($$ SELECT pg_temp.enter('ada', '{"org_id": "nothing"}') $$),
          'nor does a claim tell them apart');
SELECT is(pg_temp.error_of($$ SELECT pg_temp.enter('ada', '{"org_id": "acme"}', test.bolt()) $$) LIKE '%bolt%', false,
          'no error names the other organization');

-- Memberships that give no access ---------------------------------------------------------------------------------------

SELECT test.refused($$ SELECT pg_temp.enter('stranger') $$, '28000', '%its subject has no active membership here', 'Ask an admin%',
                    'a good token of somebody without a membership is refused');
SELECT tenancy.set_membership(test.acme(), 'eve', 'editor', status => 'suspended') \g /dev/null
SELECT is(pg_temp.error_of($$ SELECT pg_temp.enter('eve') $$) LIKE '28000|%|The membership is suspended.|%', true, 'a suspended member is refused, and told');
SELECT tenancy.set_membership(test.acme(), 'eve', 'editor', valid_until => now() - interval '1 second') \g /dev/null
SELECT is(pg_temp.error_of($$ SELECT pg_temp.enter('eve') $$) LIKE '28000|%|The membership has ended.|%', true, 'a member whose time is over is refused, and told');
SELECT tenancy.set_membership(test.acme(), 'eve', 'editor', valid_until => clock_timestamp() + interval '10 minutes') \g /dev/null
SAVEPOINT as_eve;
SELECT is(tenancy.authenticate(test.token('eve')), test.acme(), 'a member whose time is not over is let in');
SELECT cmp_ok((tenancy.whoami() ->> 'expires_at')::timestamptz, '<', clock_timestamp() + interval '11 minutes',
              'and only until the membership ends, though the token lasts longer');
ROLLBACK TO SAVEPOINT as_eve;
SELECT tenancy.set_organization_status(test.acme(), 'suspended') \g /dev/null
SELECT is(pg_temp.error_of($$ SELECT pg_temp.enter('ada') $$) LIKE '28000|%|The organization is suspended.|%', true, 'nobody enters a suspended organization');
SELECT is(pg_temp.enter('mia'), test.bolt(), 'who is in another one too enters that');
SELECT tenancy.set_organization_status(test.acme(), 'active') \g /dev/null
SELECT is(pg_temp.enter('ada'), test.acme(), 'an organization made active again lets its members in');
SELECT is(tenancy.remove_membership(test.acme(), 'eve'), true, 'removing a membership tells that it was there');
SELECT test.refused($$ SELECT pg_temp.enter('eve') $$, '28000', '%no active membership here', '%', 'a removed member is refused');

-- Issuers -------------------------------------------------------------------------------------------------------------

SELECT lives_ok($$ SELECT tenancy.set_issuer('https://other.test/', '{database}', jwks_file => test.key_file(test.jwks('another secret of thirty-two bytes'::bytea))) $$,
                'a second issuer may use the same "kid"');
SELECT test.refused($$ SELECT tenancy.set_membership(test.acme(), 'zoe', 'reader') $$, '22023', 'the issuer of the member must be named%',
                    'tenancy.set_membership(..., issuer => ...).', 'with two issuers a member''s must be named');
SELECT test.refused($$ SELECT tenancy.authenticate(test.token('ada', '{"iss": "https://other.test/"}', key => 'another secret of thirty-two bytes')) $$,
                    '28000', '%no active membership here', '%', 'a subject of one issuer is nobody with another issuer''s token');
SELECT test.refused($$ SELECT tenancy.authenticate(test.token('ada', key => 'another secret of thirty-two bytes')) $$,
                    '28000', 'the token''s signature is not valid', '%', 'a key of one issuer signs nothing for another');
SELECT tenancy.set_membership(test.bolt(), 'ada', 'reader', 'https://other.test/') \g /dev/null
SELECT is(pg_temp.admitted(test.token('ada', '{"iss": "https://other.test/"}', key => 'another secret of thirty-two bytes')), test.bolt(),
          'the same subject of two issuers is two people');

SELECT tenancy.set_issuer_status(test.issuer(), 'disabled') \g /dev/null
SELECT test.refused($$ SELECT pg_temp.enter('ada') $$, '28000', '%issuer%', 'Register the issuer with tenancy.set_issuer%', 'tokens of a disabled issuer are refused');
SELECT tenancy.set_issuer(test.issuer(), '{database}', jwks_file => test.key_file(test.jwks())) \g /dev/null
SELECT test.refused($$ SELECT pg_temp.enter('ada') $$, '28000', '%issuer%', '%', 'new keys make no issuer active again');
SELECT tenancy.set_issuer_status(test.issuer(), 'active') \g /dev/null
SELECT is(pg_temp.enter('ada'), test.acme(), 'tokens of an issuer made active again are accepted');
SELECT throws_ok($$ SELECT tenancy.set_issuer_status(test.issuer(), 'asleep') $$, '23514', NULL, 'an issuer is active or disabled and nothing else');
SELECT test.refused($$ SELECT tenancy.set_issuer_status('https://nobody.test/', 'active') $$, '42704', 'issuer "https://nobody.test/" is not registered',
                    'Register it with tenancy.set_issuer.', 'an unknown issuer has no status');

SELECT tenancy.set_issuer(test.issuer(), '{database}', jwks_file => test.key_file(test.jwks('the new secret, also of 32 bytes.'::bytea)), leeway_seconds => 0) \g /dev/null
SELECT test.refused($$ SELECT pg_temp.enter('ada') $$, '28000', 'the token''s signature is not valid', '%', 'after a change of keys the old key signs nothing');
SELECT is(pg_temp.admitted(test.token('ada', key => 'the new secret, also of 32 bytes.')), test.acme(), 'and the new key does');
SELECT is((SELECT count(*) FROM tenancy.membership WHERE issuer = test.issuer()), 5::bigint, 'the memberships stay');

SELECT tenancy.set_issuer(test.issuer(), '{database}', jwks_file => test.key_file(test.jwks()), organization_claim => '/app_metadata/https:~1~1claims.test~1org', leeway_seconds => 0) \g /dev/null
SELECT is(pg_temp.enter('mia', '{"app_metadata": {"https://claims.test/org": "bolt"}}'), test.bolt(), 'the organization claim may lie deep, under a name with slashes');
SELECT tenancy.set_issuer(test.issuer(), '{database}', jwks_file => test.key_file(test.jwks()), organization_claim => '', leeway_seconds => 0) \g /dev/null
SELECT test.refused($$ SELECT pg_temp.enter('mia', '{"org_id": "bolt"}') $$, '28000', '%several organizations%', '%',
                    'without an organization claim the issuer''s tokens name none');

SELECT * FROM finish();
ROLLBACK;
