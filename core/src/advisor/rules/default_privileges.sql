SELECT format('%I%s / %s', pg_get_userbyid(d.defaclrole), COALESCE(' in ' || quote_ident(n.nspname), ''),
    g.grantee_name),
       format('tables that %I makes%s come with %s for %s', pg_get_userbyid(d.defaclrole), CASE WHEN n.oid IS NULL
           THEN '' ELSE format(' in %I', n.nspname) END, string_agg(g.privilege_type, ', '
               ORDER BY g.privilege_type), g.grantee_name),
       format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE %s ON TABLES FROM %s', pg_get_userbyid(d.defaclrole), CASE
           WHEN n.oid IS NULL THEN '' ELSE format(' IN SCHEMA %I', n.nspname) END,
              string_agg(g.privilege_type, ', ' ORDER BY g.privilege_type), g.grantee_name), NULL
  FROM pg_default_acl d
  LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
  CROSS JOIN LATERAL (SELECT a.privilege_type, a.grantee, CASE WHEN a.grantee = 0 THEN 'PUBLIC'
      ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee_name FROM aclexplode(d.defaclacl) a) g
 WHERE d.defaclobjtype = 'r' AND g.grantee <> d.defaclrole AND (g.grantee = 0
     OR g.privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER'))
 GROUP BY d.defaclrole, d.defaclnamespace, n.oid, n.nspname, g.grantee_name
