-- From Postgres 16 on, a membership may come without the right to SET ROLE; the right to give it on is the right to
-- take it.
WITH RECURSIVE edge (member, role, sql) AS (
    SELECT m.member, m.roleid, format('REVOKE %I FROM %I%s', pg_get_userbyid(m.roleid), pg_get_userbyid(m.member),
                                      CASE WHEN to_jsonb(m) ? 'set_option'
                                          THEN format(' GRANTED BY %I', pg_get_userbyid(m.grantor)) ELSE '' END)
      FROM pg_auth_members m
     WHERE m.admin_option OR COALESCE((to_jsonb(m) ->> 'set_option')::boolean, true)),
application (oid) AS (
    SELECT oid FROM pg_roles WHERE rolname = 'tenancy_application'
     UNION
    SELECT m.member FROM application a JOIN pg_auth_members m ON m.roleid = a.oid),
can_be (oid, role, sql) AS (
    SELECT oid, oid, NULL::text COLLATE "C" FROM application
     UNION
    SELECT c.oid, e.role, e.sql FROM can_be c JOIN edge e ON e.member = c.role),
-- Roles that no policy binds, and that read protected tables without acting for a tenant.
reader (oid, tables) AS (
    SELECT r.oid, count(*)
      FROM pg_roles r
      JOIN tenancy.protected_tables() t ON has_table_privilege(r.oid, t."table", 'SELECT')
     WHERE r.rolbypassrls AND NOT r.rolsuper AND r.oid NOT IN (SELECT oid FROM application)
     GROUP BY r.oid)
SELECT CASE WHEN c.role = c.oid THEN quote_ident(r.rolname) ELSE format('%I / %I', r.rolname, b.rolname) END,
       CASE WHEN c.role = c.oid THEN format('%I acts for tenants, and no policy binds it', r.rolname)
            ELSE format('%I acts for tenants, and can become %I, which no policy binds', r.rolname, b.rolname) END,
       CASE WHEN c.role <> c.oid THEN string_agg(DISTINCT c.sql, '; ')
            WHEN b.rolsuper THEN format('ALTER ROLE %I NOSUPERUSER NOBYPASSRLS', b.rolname)
                ELSE format('ALTER ROLE %I NOBYPASSRLS', b.rolname) END,
       NULL::text
  FROM can_be c
  JOIN pg_roles r ON r.oid = c.oid AND r.rolname <> 'tenancy_application'
  JOIN pg_roles b ON b.oid = c.role AND (b.rolsuper OR b.rolbypassrls)
 GROUP BY c.oid, c.role, r.rolname, b.rolname, b.rolsuper
 UNION ALL
SELECT quote_ident(r.rolname), format('no policy binds %I, which reads %s protected tables without acting for a tenant',
    r.rolname, n.tables),
       format('ALTER ROLE %I NOBYPASSRLS', r.rolname), 'info'
  FROM reader n
  JOIN pg_roles r ON r.oid = n.oid
