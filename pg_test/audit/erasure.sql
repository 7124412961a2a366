-- Erasure, as far as it can be seen before a commit; tests/erasure.rs has the rest.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(14);

UPDATE app.finding SET title = 'x' WHERE id = 1;
CREATE TEMP TABLE target AS SELECT id FROM tenancy.event WHERE transaction = pg_current_xact_id() AND table_name = 'finding' ORDER BY id DESC LIMIT 1;

SELECT test.refused($$ SELECT tenancy.erase_payload((SELECT id FROM target), 'r') $$, '55000', '%not sealed', '%tenancy.seal()%', 'an event that is not sealed cannot be erased');
SELECT test.refused($$ SELECT tenancy.erase_payload(gen_random_uuid(), 'r') $$, '42704', 'there is no event%', '%', 'nor one that is not there');
SELECT test.refused('SELECT tenancy.' || call, state, '%', '%', 'refused: ' || call) FROM (VALUES
    ('erase_payload(NULL, ''r'')', '22004'), ('erase_payload(gen_random_uuid(), NULL)', '22004'), ('erase_payload(gen_random_uuid(), '' '')', '22023'),
    ('erase_row_payloads(NULL, ''app.finding'', ''{"id": 1}'', ''r'')', '22004'), ('erase_row_payloads(test.acme(), NULL, ''{"id": 1}'', ''r'')', '22004'),
    ('erase_row_payloads(test.acme(), ''app.finding'', NULL, ''r'')', '22004'), ('erase_row_payloads(test.acme(), ''app.finding'', ''{"id": 1}'', NULL)', '22004'),
    ('erase_row_payloads(test.acme(), ''app.finding'', ''{"id": 1}'', ''r'', repeat(''x'', 1001))', '22023')) v (call, state);
SELECT is(tenancy.erase_row_payloads(test.bolt(), 'app.finding', '{"id": 1}', 'r'), 0::bigint, 'the events of a row are those of its organization');
SELECT is((SELECT count(*) FROM tenancy.event JOIN target USING (id) WHERE payload IS NOT NULL AND payload_salt IS NOT NULL), 1::bigint, 'what was refused changed nothing');

SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('ada');
SELECT throws_ok($$ SELECT tenancy.erase_payload(gen_random_uuid(), 'r') $$, '42501', NULL, 'the application may erase nothing');
SELECT throws_ok($$ SELECT tenancy.erase_row_payloads(test.acme(), 'app.finding', '{"id": 1}', 'r') $$, '42501', NULL, 'not even of its own organization');

SELECT * FROM finish();
ROLLBACK;
