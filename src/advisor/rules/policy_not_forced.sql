SELECT c.oid::regclass::text, format('the owner of %s, %I, is not bound by its policies', c.oid::regclass, c.relowner::regrole), format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', c.oid::regclass), NULL
  FROM pg_class c
 WHERE c.relrowsecurity AND NOT c.relforcerowsecurity AND c.relnamespace <> 'tenancy'::regnamespace
   AND NOT EXISTS (SELECT FROM tenancy.exclusions() e WHERE e."table" = c.oid)
