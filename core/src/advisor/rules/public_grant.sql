SELECT c.oid::regclass::text, format('PUBLIC has %s on %s', string_agg(g.privilege_type, ', '
    ORDER BY g.privilege_type), c.oid::regclass), format('REVOKE ALL ON %s FROM PUBLIC', c.oid::regclass), NULL
  FROM tenancy.protected_tables() t
  JOIN pg_class c ON c.oid = t."table"
  CROSS JOIN LATERAL aclexplode(c.relacl) g
 WHERE g.grantee = 0
 GROUP BY c.oid
