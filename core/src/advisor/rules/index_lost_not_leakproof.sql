WITH key AS (
    SELECT t."table", t.organization_column, i.indexrelid, k.place::integer AS place, k.attnum, a.attname, a.atttypid,
        m.amname, oc.opcname, ty.typtype,
           (SELECT bool_or(f.proleakproof) FROM pg_amop o JOIN pg_operator op ON op.oid = o.amopopr
               JOIN pg_proc f ON f.oid = op.oprcode
             WHERE o.amopfamily = oc.opcfamily AND o.amopstrategy = CASE m.amname WHEN 'btree' THEN 3 ELSE 1 END
                 AND o.amoplefttype = oc.opcintype AND o.amoprighttype = oc.opcintype) AS leakproof
      FROM tenancy.protected_tables() t
      JOIN pg_index i ON i.indrelid = t."table" AND i.indisvalid
      JOIN pg_class ic ON ic.oid = i.indexrelid
      JOIN pg_am m ON m.oid = ic.relam
      CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS k (attnum, opclass, place)
      JOIN pg_opclass oc ON oc.oid = k.opclass
      JOIN pg_type ty ON ty.oid = oc.opcintype
      LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum > 0
     WHERE k.place <= i.indnkeyatts AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = t."table"))
SELECT k.indexrelid::regclass::text,
       CASE WHEN k.attnum = 0 THEN
           format('%s is on the expression %s, whose functions are not leakproof: under row-level security it serves no query', k.indexrelid::regclass, e.expression)
            WHEN k.opcname LIKE '%pattern_ops' THEN
                format('%s is for LIKE on %I, which is not leakproof: under row-level security it serves no LIKE',
                    k.indexrelid::regclass, k.attname)
            ELSE format('%s has %I, and the operators of %s are not leakproof: under row-level security they are no index condition', k.indexrelid::regclass, k.attname, format_type(k.atttypid, NULL)) END,
       CASE WHEN k.attnum = 0 THEN
           format('ALTER TABLE %s ADD COLUMN %I %s GENERATED ALWAYS AS (%s) STORED; CREATE INDEX ON %1$s (%5$I, %2$I); DROP INDEX %6$s',
                                          k."table", 'indexed_' || k.place, e.data_type, e.expression,
                                              k.organization_column, k.indexrelid::regclass)
            -- What else stands on the column would not take another type.
            WHEN (k.typtype = 'e' OR format_type(k.atttypid, NULL) = 'numeric') AND b.bound
            THEN format('-- make %I of %s text, together with what it is linked to or what depends on it', k.attname,
                k."table")
            WHEN k.typtype = 'e' OR format_type(k.atttypid, NULL) = 'numeric'
                THEN format('ALTER TABLE %s ALTER COLUMN %I TYPE text USING %2$I::text', k."table", k.attname)
            WHEN k.opcname LIKE '%pattern_ops' THEN format('DROP INDEX %s; CREATE INDEX ON %s (%I, %I COLLATE "C")',
                k.indexrelid::regclass, k."table", k.organization_column, k.attname)
            ELSE format('DROP INDEX %s; CREATE INDEX ON %s (%I)', k.indexrelid::regclass, k."table",
                k.organization_column) END, NULL
  FROM key k
  LEFT JOIN LATERAL (SELECT pg_get_indexdef(k.indexrelid, k.place, false) AS expression,
                            (SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
                                WHERE a.attrelid = k.indexrelid AND a.attnum = k.place) AS data_type) e ON k.attnum = 0
 CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND (f.conrelid = k."table"
     AND k.attnum = ANY (f.conkey) OR f.confrelid = k."table" AND k.attnum = ANY (f.confkey)))
                            OR EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_class'::regclass
                                AND d.refobjid = k."table" AND d.refobjsubid = k.attnum
                                          AND d.classid IN ('pg_rewrite'::regclass, 'pg_policy'::regclass,
                                              'pg_trigger'::regclass, 'pg_attrdef'::regclass))
                            OR EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'c' AND f.conrelid = k."table"
                                AND k.attnum = ANY (f.conkey))
                            OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = k."table") AS bound) b
 WHERE k.attnum = 0 OR k.opcname LIKE '%pattern_ops' OR NOT COALESCE(k.leakproof, false)
