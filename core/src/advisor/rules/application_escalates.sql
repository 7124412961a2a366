WITH RECURSIVE application (oid) AS (
    SELECT oid FROM pg_roles WHERE rolname = 'tenancy_application'
     UNION
    SELECT m.member FROM application a JOIN pg_auth_members m ON m.roleid = a.oid),
edge (member, role, sql) AS (
    SELECT m.member, m.roleid, format('REVOKE %I FROM %I%s', pg_get_userbyid(m.roleid), pg_get_userbyid(m.member),
                                      CASE WHEN to_jsonb(m) ? 'set_option'
                                          THEN format(' GRANTED BY %I', pg_get_userbyid(m.grantor)) ELSE '' END)
      FROM pg_auth_members m
     WHERE m.admin_option OR COALESCE((to_jsonb(m) ->> 'set_option')::boolean
         OR (to_jsonb(m) ->> 'inherit_option')::boolean, true)),
can_be (oid, role, sql) AS (
    SELECT oid, oid, NULL::text COLLATE "C" FROM application
     UNION
    SELECT c.oid, e.role, e.sql FROM can_be c JOIN edge e ON e.member = c.role),
power (name, what) AS (VALUES
    ('tenancy_admin', 'changes members, roles, policies and guardrails'),
    ('tenancy_operator', 'assumes any organization without a token'),
    ('tenancy_auditor', 'reads the events of all organizations'),
    ('tenancy_custodian', 'manages the keys of secrets'),
    ('tenancy_trail', 'changes the view that shows members their events'),
    ('pg_read_server_files', 'reads the files of the server, those of tables and keys among them'),
    ('pg_write_server_files', 'writes the files of the server'),
    ('pg_execute_server_program', 'runs programs as the server'))
SELECT format('%I / %I', r.rolname, p.name), format('%I acts for tenants, and as %I %s', r.rolname, p.name, p.what),
       string_agg(DISTINCT c.sql, '; '), NULL::text
  FROM can_be c
  JOIN pg_roles r ON r.oid = c.oid AND r.rolname <> 'tenancy_application' AND NOT r.rolsuper
  JOIN pg_roles g ON g.oid = c.role AND g.oid <> c.oid
  JOIN power p ON p.name = g.rolname
 GROUP BY r.rolname, p.name, p.what
 UNION ALL
SELECT format('%I / %s', r.rolname, a.name), format('%I acts for tenants, and with %s it %s', r.rolname, a.name,
    a.what),
       format('ALTER ROLE %I NO%s', r.rolname, a.name), NULL
  FROM application m
  JOIN pg_roles r ON r.oid = m.oid AND NOT r.rolsuper
  JOIN LATERAL (VALUES ('REPLICATION', r.rolreplication, 'reads the changes of all organizations from the log'),
                       ('CREATEROLE', r.rolcreaterole,
                           'makes roles, and before Postgres 16 becomes any that is no superuser')) AS a (name, has,
                               what) ON a.has
