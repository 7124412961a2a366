SELECT c.oid::regclass::text, format('%s has %s: name the one that is meant', c.oid::regclass,
    string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)),
       format('-- tenancy.protect(%L, organization_column => ...)', c.oid::regclass), NULL
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
      AND a.attname IN ('organizationId', 'organization_id', 'org_id', 'tenant_id')
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.relnamespace <> 'tenancy'::regnamespace
   AND NOT EXISTS (SELECT FROM tenancy.protected_tables() t WHERE t."table" = c.oid)
   AND NOT EXISTS (SELECT FROM tenancy.exclusions() e WHERE e."table" = c.oid)
   -- Somebody has said which for the whole schema.
   AND NOT EXISTS (SELECT FROM tenancy.protected_schema s JOIN pg_attribute m ON m.attname = s.organization_column
       AND m.attrelid = c.oid AND NOT m.attisdropped
                    WHERE s.schema_name = c.relnamespace::regnamespace::name)
 GROUP BY c.oid HAVING count(*) > 1
