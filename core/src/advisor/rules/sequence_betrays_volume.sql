SELECT s.oid::regclass::text || ' / ' || g.grantee_name,
    format('%s reads %s, which counts the rows of all organizations in %s', g.grantee_name, s.oid::regclass, t."table"),
       format('REVOKE SELECT ON SEQUENCE %s FROM %s', s.oid::regclass, g.grantee_name), NULL
  FROM tenancy.protected_tables() t
  JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t."table"
      AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
  JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
  CROSS JOIN LATERAL (SELECT a.privilege_type, a.grantee, CASE WHEN a.grantee = 0 THEN 'PUBLIC'
      ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee_name FROM aclexplode(s.relacl) a) g
 WHERE g.privilege_type = 'SELECT' AND g.grantee <> s.relowner
