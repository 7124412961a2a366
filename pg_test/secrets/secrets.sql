-- Secrets: what is stored and how, and which arguments are refused. Who may do what, and what other organizations see
-- of it, is in tests/secrets.rs.
BEGIN;
\ir ../helpers/fixture.sql
SELECT no_plan();

-- Before there is a key ------------------------------------------------------------------------------------------------

CALL test.sign_in('ada', test.acme());
SET LOCAL ROLE test_application;
SELECT test.refused($$ SELECT tenancy.put_secret('aws', 'a value') $$, '55000', 'no key-encryption key is current', '%set_current_key_encryption_key%', 'without a key nothing is stored');
RESET ROLE;
SELECT is_empty('SELECT FROM tenancy.secret', 'nor is a half of it');
DO $$ BEGIN PERFORM tenancy.add_key_encryption_key('first', 'test'), tenancy.set_current_key_encryption_key('first', 'test'); END $$;
SET LOCAL ROLE test_application;

-- Arguments ------------------------------------------------------------------------------------------------------------

SELECT test.refused('SELECT tenancy.' || call, '22004', '%may not be NULL', '%', 'no argument may be NULL: ' || call) FROM unnest(ARRAY[
    'put_secret(NULL, ''v'')', 'put_secret(''n'', NULL)', 'put_secret(''n'', ''v'', NULL)', 'put_secret(''n'', ''v'', scope => NULL)', 'put_secret(''n'', ''v'', domain => NULL)',
    'external_id(NULL)', 'destroy_secret(NULL, ''why'')', 'destroy_secret(''aws'', NULL)']) call;
SELECT test.refused(format($$ SELECT tenancy.put_secret(%L, 'v') $$, name), '22023', 'the name of a secret has 1 to 200 bytes%', '%', 'no secret has this name')
  FROM unnest(ARRAY['', E'a\nb', E'a\u0085b', repeat('x', 201), repeat('ä', 101)]) name;
SELECT test.refused($$ SELECT tenancy.external_id('') $$, '22023', 'the name of a secret has 1 to 200 bytes%', '%', 'nor has a role it');
SELECT test.refused(format($$ SELECT tenancy.put_secret('n', %s) $$, value), '22023', 'a value has 1 to 65536 bytes', '%', 'no value is like this')
  FROM unnest(ARRAY[$$''$$, $$repeat('x', 65537)$$]) value;
SELECT test.refused($$ SELECT tenancy.put_secret('n', 'v', 'aws') $$, '22023', 'there is no kind "aws" of secrets', '%', 'there is no other kind');
SELECT test.refused($$ SELECT tenancy.put_secret('n', 'v', scope => 'all') $$, '22023', 'a scope is read_only or write, not "all"', '%', 'there is no other scope');
SELECT test.refused($$ SELECT tenancy.put_secret('n', 'v', scope => 'write') $$, '42501', '%needs an approved action type', '%', 'nothing is stored that allows changes');
SELECT test.refused($$ SELECT tenancy.put_secret('n', 'v', expires_at => clock_timestamp()) $$, '22023', 'expires_at is in the past', '%', 'nothing is stored that has expired');
SELECT test.refused(format($$ SELECT tenancy.put_secret('n', 'v', %s => %L) $$, argument, value), '22023', argument || ' is blank, or longer than 1000 bytes', '%', 'a text says something')
  FROM unnest('{description,provider_key_id}'::text[]) argument, unnest(ARRAY['', '  ', repeat('x', 1001)]) value;
SELECT test.refused(format($$ SELECT tenancy.put_secret('n', %L, 'aws_access_key') $$, value), '22023', 'the value is not one of the kind "aws_access_key"', '%tenancy.secret_kind%', 'a value has the members of its kind')
  FROM unnest(ARRAY['AKIA', '{}', '[]', '{"access_key_id": "AKIA"}', '{"access_key_id": "AKIA", "secret_access_key": "x"', '{"access_key_id": "AKIA", "secret_access_key": "x", "access_key_id": "AKIB"}']) value;
SELECT test.refused(format($$ SELECT tenancy.destroy_secret('aws', %L) $$, reason), '22023', 'the reason is blank, or longer%', '%', 'a reason says something') FROM unnest(ARRAY['', ' ', repeat('x', 1001)]) reason;

-- Storing --------------------------------------------------------------------------------------------------------------

SELECT isnt(tenancy.put_secret('aws', '{"access_key_id": "AKIA", "secret_access_key": "MARK-1"}', 'aws_access_key', description => 'of the billing account', provider_key_id => 'AKIA', expires_at => 'infinity'), NULL, 'a credential is stored');
SELECT test.refused($$ SELECT tenancy.put_secret('aws', 'MARK-2') $$, '23505', 'the organization has, or had, a secret "aws"', '%rotation%', 'a name is given once');
SELECT isnt(tenancy.put_secret('the same', '{"access_key_id": "AKIA", "secret_access_key": "MARK-1"}'), NULL, 'a value may stand in two secrets');
SELECT isnt(tenancy.put_secret('largest', repeat('x', 65536)), NULL, 'the largest value');
SELECT isnt(tenancy.put_secret('smallest', 'x'), NULL, 'and the smallest');
SELECT test.same($$ SELECT name, kind, scope, domain, owner_subject, owner_issuer, description, created_by, destroyed_at FROM tenancy.secret WHERE name = 'aws' $$,
    $$ VALUES ('aws', 'aws_access_key', 'read_only', 'secret', 'ada', test.issuer(), 'of the billing account', 'ada', NULL) $$, 'its description is there to read');
SELECT test.same($$ SELECT number, state, v.scope, provider_key_id, expires_at, valued_at = v.announced_at AND promoted_at = valued_at, retired_at FROM tenancy.secret_version v JOIN tenancy.secret s ON s.id = secret WHERE name = 'aws' $$,
    $$ VALUES (1, 'current', 'read_only', 'AKIA', 'infinity'::timestamptz, true, NULL) $$, 'and its version, which is current');
SELECT is((SELECT count(DISTINCT fingerprint) FROM tenancy.secret_version), 3::bigint, 'two values that are the same have one fingerprint');
SELECT throws_ok('SELECT * FROM tenancy.sealed_value', '42501', NULL, 'nobody reads what is sealed');
RESET ROLE;
SELECT is((SELECT count(*) FROM tenancy.sealed_value v JOIN tenancy.secret_version USING (secret, number) WHERE sha256(sealed) = sealed_digest AND substr(sealed, 3, 16) = uuid_send(data_key)), 4::bigint, 'each with its digest and its data key');
SELECT test.same($$ SELECT octet_length(sealed) FROM tenancy.sealed_value ORDER BY secret $$, 'VALUES (98 + 64), (98 + 64), (98 + 65600), (98 + 64)', 'padded, header and tag included');
SELECT is_empty($$ SELECT FROM tenancy.sealed_value WHERE position('MARK' IN encode(sealed, 'escape')) > 0 $$, 'no sealed value shows its value');
SELECT is_empty($$ SELECT FROM tenancy.event WHERE payload::text LIKE '%MARK%' $$, 'nor does an event');
SELECT test.same($$ SELECT v.organization, subject, new_values ->> 'version', new_values ->> 'kind', new_values ->> 'provider_key_id', (new_values ->> 'sealed_digest') = encode(sealed_digest, 'hex')
                      FROM tenancy.audit_trail JOIN tenancy.secret_version v ON v.secret = (new_values ->> 'secret')::uuid WHERE operation = 'put' AND new_values ->> 'name' = 'aws' $$,
    $$ VALUES (test.acme(), 'ada', '1', 'aws_access_key', 'AKIA', true) $$, 'what was stored is an event in the organization''s chain');

-- The external id of a role --------------------------------------------------------------------------------------------

SET LOCAL ROLE test_application;
SAVEPOINT before;
SELECT isnt(tenancy.put_secret('role', '{"role_arn": "arn:aws:iam::123456789012:role/costs"}', 'aws_role'), NULL, 'a role is stored');
SELECT matches(tenancy.external_id('role'), '^[\w+=,.@:/-]{2,255}$', 'its external id is one that AWS takes');
SELECT is(tenancy.external_id('role'), (SELECT external_id FROM tenancy.secret WHERE name = 'role'), 'whoever may read the secret sees it in the table, too');
SELECT test.refused($$ SELECT tenancy.external_id('aws') $$, '22023', 'the secret "aws" is of the kind "aws_access_key"', '%', 'a secret of another kind has none');
SELECT is_empty($$ SELECT FROM tenancy.secret WHERE (external_id IS NOT NULL) <> (kind = 'aws_role') $$, 'so says the table');
ROLLBACK TO before;
RESET ROLE;

-- Changes by others ----------------------------------------------------------------------------------------------------

SELECT test.refused(statement, '42501', 'the tables of keys and secrets are written by their functions alone', '%', 'a superuser is refused: ' || statement) FROM unnest(ARRAY[
    'UPDATE tenancy.secret SET scope = ''write''', 'UPDATE tenancy.secret SET external_id = ''chosen''', 'DELETE FROM tenancy.sealed_value', 'TRUNCATE tenancy.secret, tenancy.secret_version, tenancy.sealed_value, tenancy.rotation, tenancy.health_report', 'INSERT INTO tenancy.sealed_value SELECT * FROM tenancy.sealed_value',
    'UPDATE tenancy.secret_version SET number = 9', 'UPDATE tenancy.secret_kind SET members = ''{}''']) statement;
SET LOCAL ROLE test_application;
SELECT throws_ok(statement, '42501', NULL, 'an application may not: ' || statement) FROM unnest(ARRAY['UPDATE tenancy.secret SET scope = ''write''', 'UPDATE tenancy.secret SET external_id = ''chosen''', 'DELETE FROM tenancy.secret_version', 'UPDATE tenancy.secret_kind SET members = ''{}''']) statement;
RESET ROLE;

-- The end --------------------------------------------------------------------------------------------------------------

SET LOCAL ROLE test_application;
SAVEPOINT before;
SELECT is(tenancy.destroy_secret('aws', 'the account is closed'), 1, 'a secret is destroyed');
SELECT test.refused($$ SELECT tenancy.destroy_secret('aws', 'again') $$, '42704', 'there is no secret "aws"', '%', 'once');
SELECT test.refused($$ SELECT tenancy.put_secret('aws', 'v') $$, '23505', '%', '%', 'its name is not free again');
SELECT test.same($$ SELECT state, v.retired_at IS NOT NULL, destroyed_at IS NOT NULL FROM tenancy.secret_version v JOIN tenancy.secret s ON s.id = secret WHERE name = 'aws' $$, $$ VALUES ('retired', true, true) $$, 'what is known of it stays');
RESET ROLE;
SELECT is_empty($$ SELECT FROM tenancy.sealed_value JOIN tenancy.secret s ON s.id = secret WHERE name = 'aws' $$, 'the value is gone');
SELECT is((SELECT count(*) FROM tenancy.sealed_value), 3::bigint, 'and those of other secrets stay');
SELECT test.same($$ SELECT reason, new_values ->> 'values' FROM tenancy.audit_trail WHERE operation = 'destroy' AND domain = 'secret' $$, $$ VALUES ('the account is closed', '1') $$, 'which is an event');
ROLLBACK TO before;
RESET ROLE;
SELECT is((SELECT count(*) FROM tenancy.sealed_value JOIN tenancy.secret s ON s.id = secret WHERE name = 'aws'), 1::bigint, 'a rollback keeps it');

SELECT * FROM finish();
ROLLBACK;
