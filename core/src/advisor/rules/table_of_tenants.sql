-- A table that the organization column of a protected table points at.
SELECT t.oid::regclass::text,
       format('%s points at %s by its organization column: whoever changes a key of %s moves the rows of that organization, and ON DELETE CASCADE empties it',
              min(f.conrelid::regclass::text), t.oid::regclass, t.oid::regclass),
       CASE WHEN t.relispartition OR count(DISTINCT k.attnum) > 1 OR NOT bool_and(k.fit)
            THEN format('-- protect %s by the column that its organizations are named by: tenancy.protect(%L, organization_column => ...)', t.oid::regclass, t.oid::regclass)
            ELSE concat(CASE WHEN min(k.identity) IS NOT NULL
                THEN format('ALTER TABLE %s ALTER COLUMN %I DROP IDENTITY; ', t.oid::regclass, min(k.identity)) END,
                        format('SELECT tenancy.protect(%L, organization_column => %L)', t.oid::regclass,
                            min(k.attname))) END,
       NULL::text
  FROM pg_constraint f
  JOIN tenancy.protected_tables() p ON p."table" = f.conrelid AND p.through IS NULL
  JOIN pg_class t ON t.oid = f.confrelid AND t.relpersistence <> 't'
  JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attname = p.organization_column AND NOT a.attisdropped
 CROSS JOIN LATERAL (SELECT b.attnum, b.attname, CASE WHEN b.attidentity <> '' THEN b.attname END AS identity,
                            b.attnotnull AND b.attgenerated = ''
                            AND format_type(b.atttypid, NULL) IN ('uuid', 'text', 'character varying', 'integer',
                                'bigint') AS fit
                       FROM unnest(f.conkey, f.confkey) AS u (child, parent)
                       JOIN pg_attribute b ON b.attrelid = f.confrelid AND b.attnum = u.parent
                      WHERE u.child = a.attnum) k
 WHERE f.contype = 'f' AND f.conparentid = 0
   AND NOT EXISTS (SELECT FROM tenancy.protected_tables() o WHERE o."table" = t.oid)
   AND NOT EXISTS (SELECT FROM tenancy.exclusions() e WHERE e."table" = t.oid)
   AND t.relnamespace <> 'tenancy'::regnamespace
 GROUP BY t.oid, t.relispartition
