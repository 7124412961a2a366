WITH RECURSIVE application (oid) AS (
    SELECT oid FROM pg_roles WHERE rolname = 'tenancy_application'
     UNION
    SELECT m.member FROM application a JOIN pg_auth_members m ON m.roleid = a.oid),
can_be (oid, role) AS (
    SELECT oid, oid FROM application
     UNION
    SELECT c.oid, m.roleid FROM can_be c JOIN pg_auth_members m ON m.member = c.role)
SELECT r.rolname::text,
       CASE WHEN c.role = c.oid THEN format('%I acts for tenants, and no policy binds it', r.rolname)
            ELSE format('%I acts for tenants, and can become %I, which no policy binds', r.rolname, b.rolname) END,
       CASE WHEN c.role <> c.oid THEN format('REVOKE %I FROM %I', b.rolname, r.rolname)
            WHEN b.rolsuper THEN format('ALTER ROLE %I NOSUPERUSER NOBYPASSRLS', b.rolname) ELSE format('ALTER ROLE %I NOBYPASSRLS', b.rolname) END, NULL
  FROM can_be c
  JOIN pg_roles r ON r.oid = c.oid
  JOIN pg_roles b ON b.oid = c.role AND (b.rolsuper OR b.rolbypassrls)
 WHERE r.rolname <> 'tenancy_application'
