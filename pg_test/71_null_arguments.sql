-- NULL where none is meant: refused as bad input is, not as a failure of the extension.
BEGIN;
\ir helpers/fixture.sql
SELECT plan(9);

SELECT test.refused('SELECT ' || call, '22%', '%', '%_%', 'refused with a hint: ' || call) FROM unnest(ARRAY[
    'tenancy.set_issuer(NULL, ''{a}'', test.public_jwks())', 'tenancy.set_issuer(''x'', NULL, test.public_jwks())', 'tenancy.set_issuer(''x'', ''{a}'', NULL)', 'tenancy.set_issuer(''x'', ''{NULL}'', test.public_jwks())',
    'tenancy.set_issuer(''x'', ''{a}'', test.public_jwks(), ''{NULL}'')', 'tenancy.set_issuer(''x'', ''{a}'', test.public_jwks(), leeway_seconds => NULL)',
    'tenancy.protect(NULL)', 'tenancy.plan(NULL)', 'tenancy.verify_audit(whole => NULL)']) call;

SELECT * FROM finish();
ROLLBACK;
