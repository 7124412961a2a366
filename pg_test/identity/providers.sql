-- What the providers' tokens need: presets, organization ids of their own, roles in the token, keys in files, retired
-- keys, revocations.
BEGIN;
\ir ../helpers/fixture.sql
SELECT no_plan();
SET LOCAL ROLE test_owner;

-- Enters as the subject, and leaves no identity behind.
CREATE FUNCTION pg_temp.enter(subject text, claims jsonb DEFAULT '{}', organization uuid DEFAULT NULL, header jsonb DEFAULT '{}', OUT entered uuid, OUT role text)
LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        entered := tenancy.authenticate(test.token(subject, claims, header), organization);
        role := tenancy.actor_role();
        RAISE EXCEPTION SQLSTATE 'UNDO0';
    EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
    END;
END
$$;
CREATE FUNCTION pg_temp.register(preset text, more text DEFAULT '') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SELECT tenancy.set_issuer(test.issuer(), %L, jwks_file => test.key_file(test.jwks()), leeway_seconds => 0, preset => %L%s)',
                   '{database}', preset, more);
END
$$;

-- Presets -----------------------------------------------------------------------------------------------------------------

SELECT tenancy.set_external_organization(test.bolt(), test.issuer(), 'org_2bolt') \g /dev/null
SELECT tenancy.set_external_role(test.issuer(), 'org:admin', 'admin') \g /dev/null
SELECT tenancy.set_external_role(test.issuer(), 'org:member', 'reader') \g /dev/null

CREATE TEMP TABLE tokens (preset text, claims jsonb, role text, promise text);
INSERT INTO tokens VALUES
    ('generic',       '{"org_id": "org_2bolt"}', 'admin', 'generic'),
    ('supabase',      '{"role": "authenticated", "app_metadata": {"org_id": "org_2bolt"}, "user_metadata": {"org_id": "acme"}}', 'admin', 'Supabase, app_metadata'),
    ('supabase_hook', '{"role": "authenticated", "org_id": "org_2bolt", "org_role": "reader"}', 'reader', 'Supabase, custom access token hook'),
    ('auth0',         '{"org_id": "org_2bolt", "azp": "app", "scope": "openid"}', 'admin', 'Auth0'),
    ('clerk_v1',      '{"aud": null, "azp": "database", "org_id": "org_2bolt", "org_role": "org:admin"}', 'admin', 'Clerk, version 1'),
    ('clerk_v2',      '{"aud": null, "azp": "database", "v": 2, "o": {"id": "org_2bolt", "slg": "bolt", "rol": "reader"}}', 'reader', 'Clerk, version 2'),
    ('workos',        '{"org_id": "org_2bolt", "role": "org:member"}', 'reader', 'WorkOS'),
    ('keycloak',      '{"organization": {"bolt-alias": {"id": "org_2bolt"}}}', 'admin', 'Keycloak, with ids'),
    ('keycloak',      '{"organization": {"org_2bolt": {}}}', 'admin', 'Keycloak, without ids'),
    ('keycloak',      '{"organization": ["org_2bolt"]}', 'admin', 'Keycloak, a list of aliases');
DO $$
DECLARE t record; found record;
BEGIN
    ALTER TABLE tokens ADD entered uuid, ADD entered_as text;
    FOR t IN SELECT * FROM tokens LOOP
        PERFORM pg_temp.register(t.preset);
        SELECT * INTO found FROM pg_temp.enter('mia', t.claims);
        UPDATE tokens SET entered = found.entered, entered_as = found.role WHERE promise = t.promise;
    END LOOP;
END
$$;
SELECT is(entered || ' as ' || entered_as, test.bolt() || ' as ' || role, 'the preset reads a token of ' || promise) FROM tokens;

SELECT pg_temp.register('keycloak') \g /dev/null
SELECT is((pg_temp.enter('mia', '{"organization": {"acme": {}, "org_2bolt": {}}}', test.acme())).entered, test.acme(), 'of several organizations in the token the caller names one');
SELECT test.refused($$ SELECT pg_temp.enter('mia', '{"organization": {"acme": {}, "org_2bolt": {}}}') $$, '28000', '%several organizations%', '%', 'or is told to');
SELECT test.refused($$ SELECT pg_temp.enter('mia', '{"organization": {"acme": {}}}', test.bolt()) $$, '28000', 'the token is for another organization%', '%', 'and can name no other');
SELECT test.refused($$ SELECT pg_temp.enter('mia', '{"organization": {"bolt": {"id": "0e1f6b1c-2c6c-4c0e-9a57-000000000000"}}}') $$, '28000', '%no active membership here', '%',
                    'beside an id that is not known the alias, which its customer chooses, names nothing');
SELECT test.refused($$ SELECT pg_temp.enter('mia', '{"organization": {}}') $$, '28000', '%no active membership here', '%', 'a token that lists no organization is for none');
SELECT test.refused($$ SELECT pg_temp.enter('mia', '{"organization": "acme"}') $$, '28000', 'the organization claim of the token is not of the form%', '%', 'a string is not what Keycloak writes');

SELECT pg_temp.register('okta') \g /dev/null
SELECT is((pg_temp.enter('ada', '{"org_id": "bolt"}')).entered, test.acme(), 'Okta''s tokens name no organization: the membership decides');
SELECT pg_temp.register('clerk_v2') \g /dev/null
SELECT test.refused($$ SELECT pg_temp.enter('ada', '{"aud": null, "azp": "https://evil.test", "o": {"id": "acme", "rol": "admin"}}') $$, '28000',
                    'the token is meant for another audience', '%', 'a token of another application of the same Clerk instance is refused');
SELECT test.refused($$ SELECT pg_temp.enter('ada', '{"o": {"id": "acme", "rol": "admin"}}') $$, '28000', '%"azp" is absent', '%', 'and so is one that does not say');

-- Entra: all tenants' tokens are signed with the same keys, so the issuer has to be the tenant's.
SELECT tenancy.set_issuer('https://login.test/7f1e/v2.0', '{database}', jwks_file => test.key_file(test.jwks()), preset => 'entra') \g /dev/null
SELECT tenancy.set_membership(test.acme(), 'ada', 'admin', 'https://login.test/7f1e/v2.0') \g /dev/null
SELECT tenancy.set_external_organization(test.acme(), 'https://login.test/7f1e/v2.0', '7f1e') \g /dev/null
SELECT is((pg_temp.enter('ada', '{"iss": "https://login.test/7f1e/v2.0", "tid": "7f1e"}')).entered, test.acme(), 'an Entra tenant is known by its "tid"');
SELECT test.refused($$ SELECT pg_temp.enter('ada', '{"iss": "https://login.test/7f1e/v2.0", "tid": "7f1"}') $$, '28000',
                    '%"tid" is not a part of the issuer''s path', '%', 'which has to be the issuer''s own');

-- Every pointer can be another one.
SELECT pg_temp.register('clerk_v2', $$, organization_claim => '/app_metadata/org', role_claim => '', audience_claim => '/aud'$$) \g /dev/null
SELECT is((pg_temp.enter('mia', '{"app_metadata": {"org": "org_2bolt"}, "o": {"id": "acme", "rol": "reader"}}'))::text, format('(%s,admin)', test.bolt()),
          'a preset''s pointers can be replaced and taken away');
SELECT test.refused(format($$ SELECT pg_temp.register(%L, %L) $$, preset, more), '22023', message, '%_%', promise) FROM (VALUES
    ('cleark', '', '"cleark" is no preset that is known', 'an unknown preset is refused'),
    ('generic', $$, organization_claim => '$.org'$$, 'organization_claim must be a JSON pointer%', 'a JSON path is no JSON pointer'),
    ('generic', $$, role_claim => '/a~2'$$, 'role_claim must be a JSON pointer%', 'a wrong escape is refused'),
    ('generic', $$, organization_form => 'list'$$, 'organization_form must be text or keyed', 'an unknown form is refused'),
    ('generic', $$, role_rule => 'wider'$$, 'role_rule must be membership, claim or narrower', 'an unknown rule is refused'),
    ('generic', $$, role_rule => 'claim'$$, 'without a role_claim%', 'a rule that reads the claim needs one'),
    ('generic', $$, audience_claim => ''$$, 'audience_claim may not be empty%', 'there is always an audience')
) AS v (preset, more, message, promise);

-- Organizations by the provider's ids ------------------------------------------------------------------------------------

SELECT pg_temp.register('generic') \g /dev/null
SELECT test.refused($$ SELECT tenancy.set_external_organization(test.acme(), 'https://nobody.test/', 'x') $$, '42704', '%does not exist', 'Create them first%', 'an external id needs a registered issuer');
SELECT test.refused($$ SELECT pg_temp.enter('ada', '{"org_id": "org_2bolt"}') $$, '28000', '%no active membership here', '%', 'an external id gives nobody a membership');
SELECT is(test.rows($$ SELECT (pg_temp.enter('mia', '{"org_id": "acme"}')).entered $$) ->> 0, format('["%s"]', test.acme()), 'the organization''s own text id still counts');
SELECT tenancy.set_external_organization(test.bolt(), test.issuer(), 'acme') \g /dev/null
SELECT is((pg_temp.enter('mia', '{"org_id": "acme"}')).entered, test.bolt(), 'but the name that it was given for the issuer comes first');
SELECT is(tenancy.remove_external_organization(test.issuer(), 'acme'), true, 'which can be taken away');
SELECT is(tenancy.remove_external_organization(test.issuer(), 'acme'), false, 'once');
SELECT is((pg_temp.enter('mia', '{"org_id": "acme"}')).entered, test.acme(), 'and then is gone');

-- Roles -------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION pg_temp.role_of(subject text, claim jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT (pg_temp.enter(subject, jsonb_build_object('r', claim))).role
$$;
SELECT pg_temp.register('generic', $$, role_claim => '/r'$$) \g /dev/null
SELECT is((SELECT role_rule FROM tenancy.issuer WHERE issuer = test.issuer()), 'narrower', 'where a role claim is read the narrower role is the default');
SELECT is(pg_temp.role_of('ada', '"reader"'), 'reader', 'an admin by membership acts as the reader that the token says');
SELECT is(pg_temp.role_of('vic', '"admin"'), 'reader', 'a reader by membership stays one, whatever the token says');
SELECT is(pg_temp.role_of('vic', '["org:admin", "reader", "offline_access"]'), 'reader', 'roles that are not known here are left out');
SELECT is(pg_temp.role_of('vic', '"org:member"'), 'reader', 'a provider''s name of a role is translated');
SELECT test.refused($$ SELECT pg_temp.role_of('vic', '"emperor"') $$, '28000', 'the token names no role that is known here', 'Compare the token''s role%', 'a role that does not exist is none');
SELECT test.refused($$ SELECT pg_temp.enter('vic') $$, '28000', 'the token names no role%', '%', 'a token without the claim is refused');
SELECT test.refused($$ SELECT pg_temp.role_of('vic', '{"admin": true}') $$, '28000', 'the role claim of the token is neither%', '%', 'an object is no role');
SELECT tenancy.create_role('billing'), tenancy.grant_permission('billing', 'invoice', 'read') \g /dev/null
SELECT test.refused($$ SELECT pg_temp.role_of('eve', '"billing"') $$, '28000', '%permit different things%', 'Give the membership the role%', 'of two roles that cannot be compared none is chosen');
SELECT pg_temp.register('generic', $$, role_claim => '/r', role_rule => 'claim'$$) \g /dev/null
SELECT is(pg_temp.role_of('vic', '"org:admin"'), 'admin', 'by claim the token''s role counts');
SELECT test.refused($$ SELECT pg_temp.role_of('nobody', '"org:admin"') $$, '28000', '%no active membership here', '%', 'of a member');
SELECT test.refused($$ SELECT pg_temp.role_of('vic', '["admin", "reader"]') $$, '28000', 'the token names several roles%', '%', 'and only a single one');
SELECT pg_temp.register('generic', $$, role_claim => '/r', role_rule => 'membership'$$) \g /dev/null
SELECT is(pg_temp.role_of('vic', '{"admin": 1}'), 'reader', 'by membership the claim is not even read');
SELECT pg_temp.register('generic', $$, role_claim => '/r'$$) \g /dev/null
SELECT is(pg_temp.role_of('vic', '"org:admin"'), 'reader', 'translated');
SELECT is(tenancy.remove_external_role(test.issuer(), 'org:admin'), true, 'a translation can be taken away');
SELECT test.refused($$ SELECT pg_temp.role_of('vic', '"org:admin"') $$, '28000', 'the token names no role%', '%', 'and counts no more, though the session has parsed it');

-- Keys in files -----------------------------------------------------------------------------------------------------------

SELECT pg_temp.register('generic') \g /dev/null
SELECT is((SELECT jwks::text FROM tenancy.issuer WHERE issuer = test.issuer()), NULL, 'a secret does not reach the database');
SELECT is(strpos((SELECT string_agg(i::text, '') FROM tenancy.issuer i), test.base64url(test.signing_key())), 0, 'in no column');
SELECT test.refused(format('SELECT tenancy.set_issuer(%L, %L, jwks_file => %L)', test.issuer(), '{database}', file), 'F0000', '%', 'See tenancy.jwks_directory%', promise) FROM (VALUES
    ('../postgresql.conf', 'a file outside of the folder is refused'), ('/etc/passwd', 'so is an absolute path'),
    ('.hidden', 'so is a hidden file'), ('missing.json', 'a file that is not there is refused')) AS v (file, promise);
SELECT test.refused(format('SELECT tenancy.set_issuer(%L, %L)', test.issuer(), '{database}'), '22004', 'one of jwks and jwks_file must be given', '%', 'an issuer needs keys');
SELECT test.refused(format('SELECT tenancy.set_issuer(%L, %L, test.public_jwks(), jwks_file => %L)', test.issuer(), '{database}', 'a'), '22023', 'only one of%', '%', 'from one place');
RESET ROLE;
UPDATE tenancy.issuer SET jwks = test.jwks()::json, jwks_file = NULL WHERE issuer = test.issuer();
SELECT test.refused($$ SELECT pg_temp.enter('ada') $$, '22023', 'an HMAC secret is not taken through SQL', '%', 'one that a superuser writes into the table is not used');
SET LOCAL ROLE test_owner;
SELECT pg_temp.register('generic') \g /dev/null
SELECT test.refused($$ SELECT tenancy.refresh_issuer_keys('https://nobody.test/') $$, '42704', '%with a key file is registered', '%', 'only an issuer with a file has keys to refresh');
SELECT is(tenancy.refresh_issuer_keys(test.issuer()), false, 'a refresh tells that nothing changed');

-- Retired keys ------------------------------------------------------------------------------------------------------------

SELECT tenancy.retire_key(test.issuer(), 'k1', clock_timestamp() + interval '1 hour') \g /dev/null
SELECT is((pg_temp.enter('ada')).entered, test.acme(), 'a key signs until it is retired');
SELECT tenancy.retire_key(test.issuer(), 'k1') \g /dev/null
SELECT test.refused($$ SELECT pg_temp.enter('ada') $$, '28000', 'the key that signed the token is retired', '%', 'and nothing after');
SELECT tenancy.retire_key(test.issuer(), 'k1', 'infinity') \g /dev/null
SELECT is((pg_temp.enter('ada')).entered, test.acme(), 'unless the retirement is taken back');
SELECT test.refused($$ SELECT tenancy.retire_key('https://nobody.test/', 'k1') $$, '42704', '%is not registered', '%', 'a key belongs to an issuer');

-- Revocations -------------------------------------------------------------------------------------------------------------

SELECT tenancy.revoke_session(test.issuer(), 'session of ada', 'stolen laptop') \g /dev/null
SELECT test.refused($$ SELECT pg_temp.enter('ada') $$, '28000', 'the token was revoked', 'Sign in anew%', 'a revoked session is refused');
SELECT test.refused($$ SELECT pg_temp.enter('ada', '{"sid": "other", "jti": "session of ada"}') $$, '28000', 'the token was revoked', '%', 'by whichever claim names it');
SELECT test.refused($$ SELECT pg_temp.enter('ada', '{"sid": "other", "session_id": "session of ada"}') $$, '28000', 'the token was revoked', '%', 'session_id too');
SELECT is((pg_temp.enter('ada', '{"sid": "another"}')).entered, test.acme(), 'another session of the subject goes on');
SELECT is((pg_temp.enter('eve', '{"sid": "session of eve"}')).entered, test.acme(), 'and another subject''s');
SELECT tenancy.revoke_subject(test.issuer(), 'eve') \g /dev/null
SELECT test.refused($$ SELECT pg_temp.enter('eve', jsonb_build_object('iat', floor(extract(epoch FROM clock_timestamp()))::bigint - 60)) $$, '28000', 'the token was revoked', '%', 'all tokens of a subject from before a time are refused');
SELECT test.refused($$ SELECT pg_temp.enter('eve', '{"iat": null}') $$, '28000', 'the token was revoked', '%', 'and those that do not say when they were issued');
SELECT is((pg_temp.enter('vic', '{"iat": null}')).entered, test.acme(), 'as others may');
SELECT tenancy.revoke_subject(test.issuer(), 'eve', clock_timestamp() - interval '1 day') \g /dev/null
SELECT test.refused($$ SELECT pg_temp.enter('eve', jsonb_build_object('iat', floor(extract(epoch FROM clock_timestamp()))::bigint - 60)) $$, '28000', 'the token was revoked', '%', 'an earlier time takes nothing back');
SELECT is((pg_temp.enter('eve', jsonb_build_object('iat', ceil(extract(epoch FROM (SELECT issued_before FROM tenancy.revoked_subject)))::bigint))).entered, test.acme(), 'a token issued after it is accepted') WHERE (SELECT pg_sleep(1.1)) IS NOT NULL;
SELECT is(tenancy.purge_revocations(now() - interval '1 day'), 0::bigint, 'young revocations stay');
SELECT is(tenancy.purge_revocations(clock_timestamp() + interval '1 day'), 2::bigint, 'old ones can be deleted');
SELECT is((pg_temp.enter('ada')).entered, test.acme(), 'and then count no more');

SELECT * FROM finish();
ROLLBACK;
