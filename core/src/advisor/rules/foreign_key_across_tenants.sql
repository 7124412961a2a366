WITH key AS (
    SELECT f.*, c.organization_column, format('%s.%I', f.conrelid::regclass, f.conname) AS object,
           c.through IS NULL AND p.through IS NULL AND ca.atttypid = pa.atttypid AND ca.attnotnull AND (pa.attnotnull
               OR p.null_rows = 'nobody')
           AND f.confupdtype NOT IN ('n', 'd') AND NOT (ca.attnum = ANY (f.conkey) OR pa.attnum = ANY (f.confkey))
           AND (f.confmatchtype <> 'f' OR array_length(f.conkey, 1) = 1) AS carries,
           array_length(f.conkey, 1) = 1 AND t.relkind = 'r' AND f.conname !~ '\\'
           AND (fa.atttypid = ta.atttypid OR fa.atttypid IN ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)
               AND ta.atttypid IN ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)) AS checkable,
           EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid IN (f.conrelid, f.confrelid)) AS part,
           -- What the organizations of the two tables are rows of, where a foreign key tells it.
           CASE WHEN c.through IS NULL THEN COALESCE((SELECT min(o.confrelid) FROM pg_constraint o WHERE o.contype = 'f'
               AND o.conrelid = f.conrelid AND o.conkey = ARRAY[ca.attnum]),
                (SELECT min(o.confrelid) FROM pg_constraint o WHERE o.contype = 'f' AND o.confrelid = f.conrelid
                    AND o.confkey = ARRAY[ca.attnum] AND o.conrelid <> f.conrelid)) END AS child_tenants,
           CASE WHEN p.through IS NULL THEN COALESCE((SELECT min(o.confrelid) FROM pg_constraint o WHERE o.contype = 'f'
               AND o.conrelid = f.confrelid AND o.conkey = ARRAY[pa.attnum]),
                (SELECT min(o.confrelid) FROM pg_constraint o WHERE o.contype = 'f' AND o.confrelid = f.confrelid
                    AND o.confkey = ARRAY[pa.attnum] AND o.conrelid <> f.confrelid)) END AS parent_tenants
      FROM pg_constraint f
      JOIN tenancy.protected_tables() c ON c."table" = f.conrelid
      JOIN tenancy.protected_tables() p ON p."table" = f.confrelid
      JOIN pg_class t ON t.oid = f.confrelid
      JOIN pg_attribute ca ON ca.attrelid = f.conrelid AND ca.attname = c.organization_column AND NOT ca.attisdropped
      JOIN pg_attribute pa ON pa.attrelid = f.confrelid AND pa.attname = p.organization_column AND NOT pa.attisdropped
      JOIN pg_attribute fa ON fa.attrelid = f.conrelid AND fa.attnum = f.conkey[1]
      JOIN pg_attribute ta ON ta.attrelid = f.confrelid AND ta.attnum = f.confkey[1]
     WHERE f.contype = 'f' AND f.conparentid = 0
       -- It is the way to the organization, carries the organization, or is checked by a trigger.
       AND NOT (c.through IS NOT NULL AND f.conkey = ARRAY[ca.attnum])
       AND NOT (c.through IS NULL AND p.through IS NULL
                AND EXISTS (SELECT FROM unnest(f.conkey, f.confkey) AS pair (child, parent) WHERE pair.child = ca.attnum
                    AND pair.parent = pa.attnum))
       AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = f.conrelid
           AND g.tgfoid = 'tenancy.check_reference()'::regprocedure AND g.tgenabled IN ('O', 'A')
                          AND substring(g.tgargs, 1, octet_length(f.conname) + 1) = convert_to(f.conname, 'UTF8') ||
                              '\x00'::bytea))
SELECT k.object,
       format('%I of %s points at %s without %I: it accepts another organization''s row%s', k.conname,
           k.conrelid::regclass, k.confrelid::regclass, k.organization_column,
              CASE WHEN k.confdeltype IN ('c', 'n', 'd') THEN
                  ', and deleting that row changes this one across the border' ELSE '' END),
       CASE WHEN k.child_tenants <> k.parent_tenants
                THEN format('-- say in tenancy.exclude which of %s and %s is of no organization, or drop %I: their organizations are rows of %s and of %s',
                            k.conrelid::regclass, k.confrelid::regclass, k.conname, k.child_tenants::regclass,
                                k.parent_tenants::regclass)
            WHEN NOT k.part AND (k.carries OR k.checkable) THEN format('SELECT tenancy.protect(%L)',
                k.conrelid::regclass)
            WHEN k.part THEN format('-- make %I a foreign key between the tables that %s and %s are part of, and protect those again', k.conname, k.conrelid::regclass, k.confrelid::regclass)
            ELSE format('-- have %I point at one key column of the same type, or put the organization columns into it',
                k.conname) END,
       CASE WHEN k.confdeltype IN ('c', 'n', 'd') THEN 'error' ELSE 'warning' END
  FROM key k
