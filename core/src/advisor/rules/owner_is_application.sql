-- What an owner may, a member may that inherits its rights or can SET ROLE to it (told apart from Postgres 16 on).
WITH RECURSIVE edge (member, role, sql) AS (
    SELECT m.member, m.roleid, format('REVOKE %I FROM %I%s', pg_get_userbyid(m.roleid), pg_get_userbyid(m.member),
                                      CASE WHEN to_jsonb(m) ? 'set_option'
                                          THEN format(' GRANTED BY %I', pg_get_userbyid(m.grantor)) ELSE '' END)
      FROM pg_auth_members m
     WHERE m.admin_option OR COALESCE((to_jsonb(m) ->> 'set_option')::boolean
         OR (to_jsonb(m) ->> 'inherit_option')::boolean, true)),
application (oid) AS (
    SELECT oid FROM pg_roles WHERE rolname = 'tenancy_application'
     UNION
    SELECT m.member FROM application a JOIN pg_auth_members m ON m.roleid = a.oid),
can_be (oid, role, sql) AS (
    SELECT oid, oid, NULL::text COLLATE "C" FROM application
     UNION
    SELECT c.oid, e.role, e.sql FROM can_be c JOIN edge e ON e.member = c.role)
SELECT format('%s / %I', c.oid::regclass, r.rolname),
       format('%I acts for tenants, and as %s of %s could switch its policies off', r.rolname,
              CASE WHEN b.role = b.oid THEN 'owner' ELSE format('member of the owner, %I,', o.rolname) END,
                  c.oid::regclass),
       -- A table of the group itself is given away: taking the membership would end the application.
       CASE WHEN o.oid IN (SELECT oid FROM application) THEN format('ALTER TABLE %s OWNER TO CURRENT_USER',
           c.oid::regclass)
            ELSE string_agg(DISTINCT b.sql, '; ') END,
       NULL::text
  FROM tenancy.protected_tables() t
  JOIN pg_class c ON c.oid = t."table"
  JOIN pg_roles o ON o.oid = c.relowner
  JOIN can_be b ON b.role = o.oid
  JOIN pg_roles r ON r.oid = b.oid AND NOT r.rolsuper AND r.rolcanlogin
 GROUP BY c.oid, b.oid, b.role, o.oid, o.rolname, r.rolname
