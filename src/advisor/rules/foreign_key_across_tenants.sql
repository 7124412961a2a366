SELECT format('%s.%I', f.conrelid::regclass, f.conname),
       format('%I of %s points at %s without %I: it accepts another organization''s row%s', f.conname, f.conrelid::regclass, f.confrelid::regclass, c.organization_column,
              CASE WHEN f.confdeltype IN ('c', 'n', 'd') THEN ', and deleting that row changes this one across the border' ELSE '' END),
       CASE WHEN ca.atttypid <> pa.atttypid
            THEN format('ALTER TABLE %s ALTER COLUMN %I TYPE %s', f.conrelid::regclass, ca.attname, format_type(pa.atttypid, NULL))
            WHEN NOT ca.attnotnull THEN format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL; SELECT tenancy.protect(%L)', f.conrelid::regclass, ca.attname, f.conrelid::regclass)
            WHEN NOT pa.attnotnull THEN format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL; SELECT tenancy.protect(%L)', f.confrelid::regclass, pa.attname, f.confrelid::regclass)
            ELSE format('SELECT tenancy.protect(%L)', f.conrelid::regclass) END,
       CASE WHEN f.confdeltype IN ('c', 'n', 'd') THEN 'error' ELSE 'warning' END
  FROM pg_constraint f
  JOIN tenancy.protected_tables() c ON c."table" = f.conrelid AND c.through IS NULL
  JOIN tenancy.protected_tables() p ON p."table" = f.confrelid AND p.through IS NULL
  JOIN pg_attribute ca ON ca.attrelid = f.conrelid AND ca.attname = c.organization_column
  JOIN pg_attribute pa ON pa.attrelid = f.confrelid AND pa.attname = p.organization_column
 WHERE f.contype = 'f' AND f.conparentid = 0
   AND NOT EXISTS (SELECT FROM unnest(f.conkey, f.confkey) AS pair (child, parent) WHERE pair.child = ca.attnum AND pair.parent = pa.attnum)
