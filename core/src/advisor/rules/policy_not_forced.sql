SELECT c.oid::regclass::text, format('the owner of %s, %I, is not bound by its policies', c.oid::regclass,
    pg_get_userbyid(c.relowner)), format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', c.oid::regclass),
       CASE WHEN NOT t.tenants THEN 'info' END
  FROM pg_class c
 CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped
     AND a.attname IN ('organizationId', 'organization_id', 'org_id', 'tenant_id'))
                            OR EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid
                                AND p.polname = 'tenancy_isolation') AS tenants) t
 WHERE c.relrowsecurity AND NOT c.relforcerowsecurity AND c.relpersistence <> 't'
     AND c.relnamespace <> 'tenancy'::regnamespace
   AND NOT EXISTS (SELECT FROM tenancy.exclusions() e WHERE e."table" = c.oid)
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
       AND d.deptype = 'e')
