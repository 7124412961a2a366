SET ROLE shop_app;
SELECT id, total FROM invoice;

BEGIN;
SELECT tenancy.authenticate(:'ann');
SELECT id, total FROM invoice;
UPDATE invoice SET total = 0 WHERE id = 3;
UPDATE invoice SET total = 130 WHERE id = 1;
COMMIT;

BEGIN;
SELECT tenancy.authenticate(:'bob');
SELECT id, total FROM invoice;
COMMIT;

RESET ROLE;
SELECT tenancy.seal() > 0 AS sealed;
SELECT subject, operation, row_key, old_values, new_values FROM tenancy.audit_trail WHERE subject IS NOT NULL;
SELECT * FROM tenancy.verify_audit();
