-- What the operations of operations.txt work on, made by a server that runs as usual. Variables: jwks, the key set of
-- the token's issuer.
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
CREATE EXTENSION pg_tenancy;
CREATE ROLE bench_application;
GRANT tenancy_application TO bench_application;
SELECT count(tenancy.create_organization('Tenant ' || n, lpad(to_hex(n), 32, '0')::uuid))
  FROM generate_series(1, 100) n \g /dev/null

-- By a file, because HMAC keys are taken in no other way.
SELECT format('COPY (SELECT %L) TO PROGRAM %L', :'jwks',
              format('umask 077 && cat > "%s/bench.json"', current_setting('tenancy.jwks_directory'))) \gexec
SELECT tenancy.set_issuer('https://idp.example/', '{bench}', jwks_file => 'bench.json') \g /dev/null
SELECT tenancy.set_membership(lpad('1', 32, '0')::uuid, 'alice', 'admin') \g /dev/null

-- Tenant 1 has 40 % of the rows.
CREATE TABLE by_hand (id bigint PRIMARY KEY, organization_id uuid NOT NULL, title text, cents bigint);
INSERT INTO by_hand
SELECT n, lpad(to_hex(CASE WHEN n % 100 < 40 THEN 1 ELSE 2 + n % 99 END), 32, '0')::uuid, 'finding ' || n, n % 1000
  FROM generate_series(1, 20000) n;
CREATE INDEX ON by_hand (organization_id);
CREATE TABLE protected (LIKE by_hand INCLUDING ALL);
INSERT INTO protected SELECT * FROM by_hand;
CREATE TABLE audited (LIKE by_hand INCLUDING ALL);
INSERT INTO audited SELECT * FROM by_hand;
SELECT tenancy.protect('protected'), tenancy.protect('audited') \g /dev/null
-- Isolation and audit have figures of their own.
SET tenancy.override_reason = 'measured without audit';
DROP TRIGGER tenancy_audit ON protected;
GRANT SELECT, INSERT, UPDATE, DELETE ON by_hand, protected, audited TO bench_application;
SELECT tenancy.seal() \g /dev/null
SELECT count(*) FROM tenancy.verify_audit() \g /dev/null
VACUUM (FREEZE, ANALYZE);
CHECKPOINT;
