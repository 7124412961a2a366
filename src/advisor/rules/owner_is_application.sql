WITH RECURSIVE application (oid) AS (
    SELECT oid FROM pg_roles WHERE rolname = 'tenancy_application'
     UNION
    SELECT m.member FROM application a JOIN pg_auth_members m ON m.roleid = a.oid),
can_be (oid, role) AS (
    SELECT oid, oid FROM application
     UNION
    SELECT c.oid, m.roleid FROM can_be c JOIN pg_auth_members m ON m.member = c.role)
SELECT c.oid::regclass::text || ' / ' || r.rolname, format('%I acts for tenants, and as %s of %s could switch its policies off', r.rolname,
              CASE WHEN b.role = b.oid THEN 'owner' ELSE format('member of the owner, %I,', o.rolname) END, c.oid::regclass),
       CASE WHEN b.role = b.oid THEN format('ALTER TABLE %s OWNER TO CURRENT_USER', c.oid::regclass) ELSE format('REVOKE %I FROM %I', o.rolname, r.rolname) END, NULL
  FROM tenancy.protected_tables() t
  JOIN pg_class c ON c.oid = t."table"
  JOIN pg_roles o ON o.oid = c.relowner
  JOIN can_be b ON b.role = o.oid
  JOIN pg_roles r ON r.oid = b.oid AND NOT r.rolsuper AND r.rolcanlogin
