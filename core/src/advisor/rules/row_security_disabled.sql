SELECT c.oid::regclass::text, format('%s has policies, and row-level security is not enabled', c.oid::regclass),
    format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', c.oid::regclass), NULL
  FROM pg_class c
 WHERE NOT c.relrowsecurity AND c.relpersistence <> 't' AND EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid)
   AND NOT EXISTS (SELECT FROM tenancy.exclusions() e WHERE e."table" = c.oid)
