-- The roles that the suites share. They are there before the suites run side by side: a role that one creates within its
-- transaction would keep the others waiting.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN VALUES ('test_application', 'tenancy_application'), ('test_owner', 'tenancy_admin'), ('test_auditor', 'tenancy_auditor'), ('test_custodian', 'tenancy_custodian'),
                         ('test_stranger', NULL) LOOP
        IF to_regrole(wanted.column1) IS NULL THEN
            EXECUTE format('CREATE ROLE %I', wanted.column1);
        END IF;
        IF wanted.column2 IS NOT NULL AND NOT pg_has_role(wanted.column1, wanted.column2, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO %I', wanted.column2, wanted.column1);
        END IF;
    END LOOP;
END
$$;
