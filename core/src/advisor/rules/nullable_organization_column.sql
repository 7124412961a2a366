SELECT t."table"::text, format('%I of %s may be NULL, and nobody has said what that means', t.organization_column,
    t."table"),
       format('SELECT tenancy.protect(%L, null_rows => ''nobody'')', t."table"), NULL
  FROM tenancy.protected_tables() t
  JOIN pg_attribute a ON a.attrelid = t."table" AND a.attname = t.organization_column
 WHERE NOT a.attnotnull AND t.null_rows IS NULL AND t.through IS NULL
