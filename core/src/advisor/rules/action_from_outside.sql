-- A referential action that a change of an unprotected table sets off in a protected one. Tables of tenants have a rule
-- of their own.
SELECT format('%s.%I', f.conrelid::regclass, f.conname),
       format('whoever changes a row of %s, which is not protected, changes or deletes rows of every organization in %s by %I', f.confrelid::regclass, f.conrelid::regclass, f.conname),
       CASE WHEN EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = f.conrelid)
            THEN format('-- make %I a foreign key without referential actions', f.conname)
            ELSE format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I FOREIGN KEY (%s) REFERENCES %s (%s)%s%s%s',
                        f.conrelid::regclass, f.conname, f.conname, k.child, f.confrelid::regclass, k.parent, CASE
                            WHEN f.confmatchtype = 'f' THEN ' MATCH FULL' END,
                        CASE WHEN f.condeferrable THEN ' DEFERRABLE' END, CASE WHEN f.condeferred
                            THEN ' INITIALLY DEFERRED' END) END,
       NULL::text
  FROM pg_constraint f
  JOIN tenancy.protected_tables() p ON p."table" = f.conrelid
  JOIN pg_class t ON t.oid = f.confrelid
 CROSS JOIN LATERAL (SELECT string_agg(quote_ident(c.attname), ', '
     ORDER BY u.place) AS child, string_agg(quote_ident(r.attname), ', ' ORDER BY u.place) AS parent,
                            bool_or(c.attname = p.organization_column AND p.through IS NULL) AS of_tenants
                       FROM unnest(f.conkey, f.confkey) WITH ORDINALITY AS u (child, parent, place)
                       JOIN pg_attribute c ON c.attrelid = f.conrelid AND c.attnum = u.child
                       JOIN pg_attribute r ON r.attrelid = f.confrelid AND r.attnum = u.parent) k
 WHERE f.contype = 'f' AND f.conparentid = 0
   AND (f.confupdtype IN ('c', 'n', 'd') OR f.confdeltype IN ('c', 'n', 'd'))
   AND NOT EXISTS (SELECT FROM tenancy.protected_tables() o WHERE o."table" = f.confrelid)
   AND (NOT k.of_tenants OR EXISTS (SELECT FROM tenancy.exclusions() e WHERE e."table" = f.confrelid))
