-- Values beyond tenancy.audit_value_limit go by digest, however large: the text of a bytea has twice as many bytes, more than Postgres can allocate.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(5);

CREATE DOMAIN app.attachment AS bytea;
CREATE TABLE app.file (id integer PRIMARY KEY, organization_id uuid NOT NULL, content app.attachment);
DO $$ BEGIN PERFORM tenancy.protect('app.file'); END $$;
SET LOCAL tenancy.audit_value_limit = '1kB';
SET LOCAL bytea_output = 'escape';

INSERT INTO app.file SELECT n, test.acme(), convert_to(repeat('x', n), 'UTF8') FROM unnest('{511,512,4096,5000,9000}'::integer[]) n;
SELECT results_eq($$ SELECT e.row_key ->> 'id', e.payload -> 'digests' -> 'new' -> 'content' ->> 'sha256', (e.payload -> 'digests' -> 'new' -> 'content' ->> 'bytes')::integer FROM tenancy.event e WHERE table_name = 'file' AND operation = 'insert' ORDER BY ordinal $$,
    $$ SELECT n::text, CASE WHEN n > 511 THEN encode(sha256(convert_to('\x' || repeat('78', n), 'UTF8')), 'hex') END, CASE WHEN n > 511 THEN 2 + 2 * n END FROM unnest('{511,512,4096,5000,9000}'::integer[]) n $$,
    'the digest of a bytea is that of its hexadecimal text');
SELECT is((SELECT payload -> 'new' ->> 'content' FROM tenancy.event WHERE table_name = 'file' AND operation = 'insert' ORDER BY ordinal LIMIT 1), '\x' || repeat('78', 511), 'one that has no more than the limit is told');

INSERT INTO app.file SELECT 1, test.acme(), convert_to(repeat('x', 537000000), 'UTF8');
SET LOCAL bytea_output = 'hex';
SELECT throws_ok($$ SELECT length(content::text) FROM app.file WHERE id = 1 $$, 'XX000', NULL, 'a value whose text cannot be made');
SELECT is((SELECT (payload -> 'digests' -> 'new' -> 'content' ->> 'bytes')::bigint FROM tenancy.event WHERE table_name = 'file' AND row_key ->> 'id' = '1'), 1074000002::bigint, 'is written all the same');
UPDATE app.file SET content = '' WHERE id = 1;
SELECT is((SELECT payload -> 'digests' -> 'old' -> 'content' ->> 'sha256' FROM tenancy.event WHERE table_name = 'file' AND operation = 'update'),
          (SELECT payload -> 'digests' -> 'new' -> 'content' ->> 'sha256' FROM tenancy.event WHERE table_name = 'file' AND operation = 'insert' AND row_key ->> 'id' = '1'), 'and changed');

SELECT * FROM finish();
ROLLBACK;
