-- What is recorded of reveals, who reads it, and who may write it. What crashes, rollbacks and standbys do is in
-- tests/reveal_record.rs.
BEGIN;
\ir ../helpers/fixture.sql
SELECT no_plan();

DO $$ BEGIN
    PERFORM tenancy.add_key_encryption_key('first', 'test'), tenancy.set_current_key_encryption_key('first', 'test');
END $$;
CALL test.sign_in('ada', test.acme());
SET LOCAL ROLE test_application;
SELECT lives_ok($$ SELECT tenancy.put_secret('aws', 'a value') $$, 'a secret');
SELECT is(tenancy.reveal_secret('aws', 'first; DROP TABLE x'), 'a value', 'is revealed');
SELECT is(tenancy.reveal_secret('aws', 'second', 1), 'a value', 'and by its number');
SELECT test.refused($$ SELECT tenancy.reveal_secret('aws', 'third', 7) $$, '42704', '%has no version 7', '%', 'a version that is not there');
SELECT test.refused($$ SELECT tenancy.reveal_secret('gcp', 'fourth') $$, '42704', 'there is no secret "gcp"', '%', 'a secret that is not there');
SELECT is_empty('SELECT FROM tenancy.secret_use', 'nothing is counted until it is taken in');
RESET ROLE;
SELECT is_empty($$ SELECT FROM tenancy.event WHERE operation = 'reveal' $$, 'nor is there an event');
SELECT is(tenancy.seal(), tenancy.seal(), 'taking in seals nothing of this transaction');
SELECT is(ARRAY(SELECT concat_ws('/', new_values ->> 'purpose', result, reason, new_values ->> 'name', new_values ->> 'version') FROM tenancy.audit_trail WHERE operation = 'reveal' AND domain = 'secret' AND organization = test.acme() ORDER BY 1),
    ARRAY['first; DROP TABLE x/success/aws/1', 'fourth/denied/secret_unknown/gcp', 'second/success/aws/1', 'third/denied/secret_unknown/aws/7'],
    'each reveal has one event, and one that is refused as well');
SELECT is_empty($$ SELECT FROM tenancy.event e WHERE e::text LIKE '%a value%' $$, 'none has the value');
SELECT is((SELECT sum(records) FROM tenancy.reveal_journal), 4::numeric, 'the position is after all of them');

SET LOCAL ROLE test_application;
SELECT is((SELECT concat_ws(' ', number, subject, uses) FROM tenancy.secret_use), '1 ada 2', 'members see who uses a secret');
SELECT throws_ok('SELECT FROM tenancy.reveal_journal', '42501', NULL, 'and not how far records were taken in');
RESET ROLE;
SELECT test.refused(change, '42501', 'the tables of keys and secrets are written by their functions alone', '%', 'nobody writes by hand: ' || change) FROM unnest(ARRAY[
    'DELETE FROM tenancy.secret_use', 'TRUNCATE tenancy.secret_use', 'UPDATE tenancy.secret_use SET uses = 1', 'DELETE FROM tenancy.reveal_journal', 'UPDATE tenancy.reveal_journal SET "offset" = 0',
    $$INSERT INTO tenancy.reveal_journal VALUES ('x', 0, 0, 0, now())$$]) change;
SELECT * FROM finish();
ROLLBACK;
