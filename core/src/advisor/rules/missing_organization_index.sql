SELECT t."table"::text, format('no index of %s begins with %I: each query of a tenant reads the rows of all', t."table",
    t.organization_column),
       format('CREATE INDEX ON %s (%I)', t."table", t.organization_column), NULL
  FROM tenancy.protected_tables() t
  JOIN pg_attribute a ON a.attrelid = t."table" AND a.attname = t.organization_column
 WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = t."table" AND i.indisvalid AND i.indpred IS NULL
     AND i.indkey[0] = a.attnum)
