-- Keys of secrets: who manages them, what each state allows, and what becomes of changes by others. The ring of the test
-- server has the keys "first" and "second"; broken ones are in tests/secret_keys.rs.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(85);

-- Arguments ----------------------------------------------------------------------------------------------------------

SELECT test.refused(format($$ SELECT tenancy.add_key_encryption_key(%L, 'why') $$, id), '22023', 'the id of a key has%', '%', 'no key has the id ' || id)
  FROM unnest(ARRAY['', 'First', '-a', '.a', 'a b', 'a;b', 'a%k', 'a$b', E'a\nb', 'ä', repeat('a', 65)]) id;
SELECT test.refused('SELECT tenancy.' || call, '22004', '%may not be NULL', '%', 'no argument may be NULL: ' || call) FROM unnest(ARRAY[
    'add_key_encryption_key(NULL, ''why'')', 'add_key_encryption_key(''first'', NULL)', 'add_key_encryption_key(''first'', ''why'', NULL)',
    'set_current_key_encryption_key(NULL, ''why'')', 'set_current_key_encryption_key(''first'', NULL)', 'retire_key_encryption_key(NULL, ''why'')', 'retire_key_encryption_key(''first'', NULL)',
    'rotate_data_key(NULL, ''why'')', 'rotate_data_key(test.acme(), NULL)']) call;
SELECT test.refused(format($$ SELECT tenancy.add_key_encryption_key('first', %L) $$, reason), '22023', 'the reason is blank, or longer%', '%', 'a reason says something')
  FROM unnest(ARRAY['', E' \t', repeat('x', 1001)]) reason;
SELECT test.refused($$ SELECT tenancy.add_key_encryption_key('first', 'why', 'vault') $$, '22023', '%ring or command, not "vault"', '%', 'there are two providers');

-- Registering and choosing -------------------------------------------------------------------------------------------

SELECT is_empty('SELECT * FROM tenancy.key_status()', 'at first there is no key');
SELECT test.refused($$ SELECT tenancy.rotate_data_key(test.acme(), 'why') $$, '55000', 'no key-encryption key is current', '%set_current_key_encryption_key%', 'and so no data key can be made');
SELECT test.refused($$ SELECT tenancy.add_key_encryption_key('third', 'why') $$, 'F0000', 'the key-encryption key "third" is missing', '%tenancy.secret_key_file%', 'a key that is not in the ring is not registered');
SELECT test.refused($$ SELECT tenancy.add_key_encryption_key('first', 'why', 'command') $$, 'F0000', 'the key-encryption key "first" cannot be reached', '%tenancy.key_wrap_command%', 'nor one that no command reaches');
SELECT test.refused(format($$ SELECT tenancy.%s('first', 'why') $$, name), '42704', 'key-encryption key "first" is not registered', '%', name || ' needs a registered key')
  FROM unnest('{set_current_key_encryption_key,retire_key_encryption_key}'::text[]) name;

SET LOCAL SESSION AUTHORIZATION test_custodian;
SELECT lives_ok($$ SELECT tenancy.add_key_encryption_key('first', 'the first key') $$, 'a custodian registers a key');
SELECT test.refused($$ SELECT tenancy.add_key_encryption_key('first', 'why') $$, '23505', 'key-encryption key "first" is registered already', '%a new id%', 'and none twice');
SELECT lives_ok($$ SELECT tenancy.add_key_encryption_key('second', 'the second key') $$, 'and another one');
SELECT results_eq('SELECT id, provider, state, is_current, data_keys, behind, available, detail FROM tenancy.key_status()',
    $$ VALUES ('first', 'ring', 'enabled', false, 0::bigint, 0::bigint, 'yes', NULL::text), ('second', 'ring', 'enabled', false, 0, 0, 'yes', NULL) $$, 'none of which is current');
SELECT lives_ok($$ SELECT tenancy.set_current_key_encryption_key('first', 'begin') $$, 'one is made current');
SELECT is_empty($$ SELECT 1 WHERE tenancy.rotate_data_key(test.acme(), 'begin') IS NULL $$, 'and an organization gets keys');
SELECT is_empty($$ SELECT 1 WHERE tenancy.rotate_data_key(test.bolt(), 'begin') IS NULL $$, 'and another one');
SELECT test.refused($$ SELECT tenancy.rotate_data_key('00000000-0000-0000-0000-000000000000', 'why') $$, '42704', 'organization % does not exist', '%', 'an unknown one does not');
SELECT results_eq('SELECT id, state, is_current, data_keys FROM tenancy.key_status()', $$ VALUES ('first', 'enabled', true, 4::bigint), ('second', 'draining', false, 0) $$, 'a data key and a key for fingerprints each');
SELECT cmp_ok(tenancy.forget_keys(), '=', 4, 'which the session has kept');
SELECT is(tenancy.forget_keys(), 0, 'and then forgotten');
RESET SESSION AUTHORIZATION;

SELECT results_eq($$ SELECT octet_length(wrapped), count(*) FROM tenancy.data_key GROUP BY 1 $$, $$ VALUES (130, 4::bigint) $$, 'wrapped as the format says');
SELECT is((SELECT count(DISTINCT substr(wrapped, 19, 32)) FROM tenancy.data_key), 4::bigint, 'each with a salt of its own');
CREATE TEMPORARY TABLE before AS SELECT * FROM tenancy.data_key;
SELECT isnt(tenancy.rotate_data_key(test.acme(), 'it is old'), NULL, 'a data key is rotated');
SELECT results_eq($$ SELECT d.purpose COLLATE "default", d.state COLLATE "default", b.state COLLATE "default" FROM tenancy.data_key d LEFT JOIN before b USING (id) WHERE d.organization = test.acme() ORDER BY d.id $$,
    $$ VALUES ('fingerprint', 'current', 'current'), ('seal', 'old', 'current'), ('seal', 'current', NULL) $$, 'the one before becomes old, and the key for fingerprints stays');
SELECT is_empty($$ SELECT FROM tenancy.data_key d JOIN before b USING (id) WHERE d.wrapped <> b.wrapped $$, 'no key was wrapped anew');

-- States -------------------------------------------------------------------------------------------------------------

SELECT test.refused($$ SELECT tenancy.retire_key_encryption_key('first', 'why') $$, '55000', 'key-encryption key "first" is the current one', '%', 'the current key is not retired');
SELECT lives_ok($$ SELECT tenancy.set_current_key_encryption_key('second', 'the yearly change') $$, 'another key is made current');
SELECT results_eq('SELECT id, state, is_current FROM tenancy.key_status()', $$ VALUES ('first', 'draining', false), ('second', 'enabled', true) $$, 'the one before is draining');
SELECT test.refused($$ SELECT tenancy.retire_key_encryption_key('first', 'why') $$, '55000', '5 data keys are wrapped under key-encryption key "first"', '%tenancy.key_status()%', 'and not retired while keys are under it');
SELECT lives_ok($$ SELECT tenancy.set_current_key_encryption_key('first', 'back') $$, 'it may become current again');
SELECT lives_ok($$ SELECT tenancy.retire_key_encryption_key('second', 'never used') $$, 'a key with nothing under it is retired');
SELECT results_eq('SELECT id, state, is_current, available FROM tenancy.key_status()', $$ VALUES ('first', 'enabled', true, 'yes'), ('second', 'retired', false, NULL) $$, 'and not tried any more');
SELECT test.refused(format($$ SELECT tenancy.%s('second', 'why') $$, name), '55000', 'key-encryption key "second" is retired', '%', name || ' does not take a retired key')
  FROM unnest('{set_current_key_encryption_key,retire_key_encryption_key}'::text[]) name;
SELECT test.refused($$ SELECT tenancy.add_key_encryption_key('second', 'why') $$, '23505', '%registered already', '%', 'nor is its id free again');

-- Events -------------------------------------------------------------------------------------------------------------

SELECT results_eq($$ SELECT operation, reason, new_values ->> 'id', organization, result FROM tenancy.audit_trail WHERE domain = 'secret_key' AND operation LIKE 'key_%' ORDER BY id $$, $$ VALUES
    ('key_added', 'the first key', 'first', '00000000-0000-0000-0000-000000000000'::uuid, 'success'), ('key_added', 'the second key', 'second', '00000000-0000-0000-0000-000000000000', 'success'),
    ('key_current', 'begin', 'first', '00000000-0000-0000-0000-000000000000', 'success'), ('key_current', 'the yearly change', 'second', '00000000-0000-0000-0000-000000000000', 'success'),
    ('key_current', 'back', 'first', '00000000-0000-0000-0000-000000000000', 'success'), ('key_retired', 'never used', 'second', '00000000-0000-0000-0000-000000000000', 'success') $$, 'each change is an event');
SELECT results_eq($$ SELECT reason, (new_values ->> 'organization')::uuid, new_values ->> 'key_encryption_key' FROM tenancy.audit_trail WHERE operation = 'data_key_rotated' ORDER BY id $$,
    $$ VALUES ('begin', test.acme(), 'first'), ('begin', test.bolt(), 'first'), ('it is old', test.acme(), 'first') $$, 'the rotation of a data key too');
SELECT is_empty($$ SELECT FROM tenancy.event e, tenancy.data_key d WHERE e.payload::text LIKE '%' || encode(substr(d.wrapped, 19, 32), 'hex') || '%' OR e.payload::text LIKE '%' || encode(substr(d.wrapped, 19, 32), 'base64') || '%' $$,
    'and none holds a wrapped key');
CALL test.sign_in('ada', test.acme());
SELECT test.refused(format($$ SELECT tenancy.record_event('reveal', %L) $$, domain), '22023', '%the extension itself records in', '%', 'an application cannot write such an event') FROM unnest('{secret,secret_key}'::text[]) domain;

-- Changes by others --------------------------------------------------------------------------------------------------

SELECT test.refused(statement, '42501', 'the tables of keys and secrets are written by their functions alone', '%', 'a superuser is refused: ' || statement) FROM unnest(ARRAY[
    'UPDATE tenancy.key_encryption_key SET is_current = false', 'DELETE FROM tenancy.data_key', 'TRUNCATE tenancy.data_key CASCADE', 'INSERT INTO tenancy.data_key SELECT * FROM tenancy.data_key',
    'UPDATE tenancy.data_key SET organization = test.bolt()', 'COPY tenancy.data_key FROM PROGRAM ''true''']) statement;
SET LOCAL session_replication_role = replica;
SELECT test.refused('UPDATE tenancy.data_key SET organization = test.bolt()', '42501', 'the tables of keys and secrets are written by their functions alone', '%', 'in the role of a replica too');
RESET session_replication_role;

-- Roles --------------------------------------------------------------------------------------------------------------

SET LOCAL SESSION AUTHORIZATION test_custodian;
SELECT is((SELECT count(*) FROM tenancy.key_encryption_key), 2::bigint, 'a custodian sees the registered keys');
SELECT throws_ok('SELECT * FROM tenancy.data_key', '42501', NULL, 'and no wrapped key');
SELECT throws_ok(call, '42501', NULL, 'a custodian may not: ' || call) FROM unnest(ARRAY['UPDATE tenancy.key_encryption_key SET is_current = false', 'SHOW tenancy.secret_key_file', 'SHOW tenancy.key_wrap_command',
    'SET tenancy.key_cache_lifetime = 0', 'SELECT tenancy.org_id()', 'SELECT * FROM tenancy.audit_trail']) call;
SET LOCAL SESSION AUTHORIZATION test_auditor;
SELECT is((SELECT count(*) FROM tenancy.key_status()), 2::bigint, 'an auditor sees their states');
SELECT throws_ok('SELECT tenancy.' || call, '42501', NULL, 'and does not change them: ' || call) FROM unnest(ARRAY['rotate_data_key(NULL, NULL)', 'retire_key_encryption_key(NULL, NULL)']) call;
SET LOCAL SESSION AUTHORIZATION test_application;
SELECT throws_ok(call, '42501', NULL, 'an application may not: ' || call) FROM unnest(ARRAY['SELECT * FROM tenancy.key_status()', 'SELECT tenancy.rotate_data_key(NULL, NULL)', 'SELECT tenancy.add_key_encryption_key(NULL, NULL)',
    'SELECT * FROM tenancy.key_encryption_key', 'SELECT * FROM tenancy.data_key']) call;
SELECT is(tenancy.forget_keys() >= 0, true, 'but forget keys');
RESET SESSION AUTHORIZATION;

SELECT * FROM finish();
ROLLBACK;
