SELECT format('role %I', r.rolname),
       format('%I is a member of tenancy_application and of %I: it sees the statements and the counters of other sessions, with literals of other organizations', r.rolname, g.rolname),
       format('REVOKE %I FROM %I', g.rolname, r.rolname),
       NULL::text
  FROM pg_roles g
  JOIN pg_auth_members m ON m.roleid = g.oid
  JOIN pg_roles r ON r.oid = m.member
 WHERE g.rolname IN ('pg_read_all_stats', 'pg_monitor', 'pg_stat_scan_tables', 'pg_read_all_settings')
   AND NOT r.rolsuper AND r.rolname <> 'pg_monitor' AND pg_has_role(r.oid, 'tenancy_application', 'MEMBER')
