SELECT c.oid::regclass::text || ' / ' || CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(g.grantee) END,
       format('%s has TRIGGER on %s', CASE WHEN g.grantee = 0 THEN 'PUBLIC'
           ELSE quote_ident(pg_get_userbyid(g.grantee)) END, c.oid::regclass),
       format('REVOKE TRIGGER ON %s FROM %s', c.oid::regclass, CASE WHEN g.grantee = 0 THEN 'PUBLIC'
           ELSE quote_ident(pg_get_userbyid(g.grantee)) END), NULL
  FROM tenancy.protected_tables() t
  JOIN pg_class c ON c.oid = t."table"
  CROSS JOIN LATERAL aclexplode(c.relacl) g
 WHERE g.privilege_type = 'TRIGGER' AND g.grantee <> c.relowner
