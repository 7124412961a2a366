WITH key AS (
    SELECT i.indexrelid, i.indrelid, t.organization_column, u.conname, u.contype, i.indisprimary,
           pg_get_indexdef(i.indexrelid) AS definition,
           (SELECT array_agg(a.attname ORDER BY k.place) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum,
               place)
              JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                  WHERE k.place <= i.indnkeyatts) AS columns,
           0 = ANY (i.indkey::int2[]) OR i.indpred IS NOT NULL AS special
      FROM tenancy.protected_tables() t
      JOIN pg_index i ON i.indrelid = t."table" AND (i.indisunique OR i.indisexclusion)
      LEFT JOIN pg_constraint u ON u.conindid = i.indexrelid AND u.conrelid = i.indrelid
          AND u.contype IN ('p', 'u', 'x')
     WHERE t.through IS NULL AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indrelid)),
judged AS (
    SELECT k.*, special IS FALSE AND indisprimary AND array_length(columns, 1) = 1 AND EXISTS (
               SELECT FROM pg_attribute a WHERE a.attrelid = k.indrelid AND a.attname = k.columns[1]
                  AND a.atttypid IN ('text'::regtype, 'character varying'::regtype, 'character'::regtype)) AS text_id,
           (SELECT string_agg(DISTINCT f.conrelid::regclass::text, ', ') FROM pg_constraint f WHERE f.contype = 'f'
               AND f.conindid = k.indexrelid) AS pointing,
           special IS FALSE AND array_length(columns, 1) = 1 AND EXISTS (
               SELECT FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                WHERE a.attrelid = k.indrelid AND a.attname = k.columns[1]
                  AND (a.attidentity <> '' OR a.atttypid = 'uuid'::regtype
                      OR pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%')) AS surrogate
      FROM key k
     WHERE NOT k.organization_column = ANY (COALESCE(columns, '{}')))
SELECT k.indexrelid::regclass::text,
    format('%s of %s does not have %I in it: a value that another organization has is told from one that nobody has',
        CASE WHEN k.conname IS NULL THEN 'the unique index ' || k.indexrelid::regclass
            ELSE format('the key %I', k.conname) END, k.indrelid::regclass, k.organization_column),
       -- What a foreign key points at stays a key as long as it does.
       CASE WHEN k.pointing IS NOT NULL THEN
           format('-- %s points at it: have its foreign key carry %I, then put %2$I into this key', k.pointing,
               k.organization_column)
            WHEN k.contype = 'p' THEN
                format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %2$I PRIMARY KEY (%3$I, %4$s)',
                    k.indrelid::regclass, k.conname, k.organization_column, l.columns)
            WHEN k.contype = 'u' THEN
                format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %2$I UNIQUE (%3$I, %4$s)',
                    k.indrelid::regclass, k.conname, k.organization_column, l.columns)
            WHEN k.contype = 'x' THEN format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %2$I %s',
                k.indrelid::regclass, k.conname,
                                             regexp_replace(pg_get_constraintdef((SELECT oid FROM pg_constraint u
                                                 WHERE u.conindid = k.indexrelid
                                                     AND u.contype = 'x')), '\(', format('(%I WITH =, ',
                                                         k.organization_column)))
            ELSE format('DROP INDEX %s; %s', k.indexrelid::regclass, regexp_replace(k.definition, ' USING (\w+) \(',
                format(' USING \1 (%I, ', k.organization_column))) END,
       CASE WHEN k.surrogate THEN 'info' ELSE 'warning' END
  FROM judged k
  CROSS JOIN LATERAL (SELECT string_agg(quote_ident(c), ', ' ORDER BY place) AS columns
      FROM unnest(k.columns) WITH ORDINALITY AS u (c, place)) l
 WHERE NOT k.text_id
 UNION ALL
-- One finding for all of a schema: where the application makes ids at random, it is one decision.
SELECT format('schema %I', n.nspname),
       format('%s tables of %I have a primary key that is one column of text without the organization, %s among them: ids that nobody can guess tell nothing, others tell that they are taken', count(*), n.nspname, min(k.indrelid::regclass::text)),
       format('-- have ids made at random, as uuid, cuid or nanoid are, or put the organization into the keys of %I',
           n.nspname), 'info'
  FROM judged k
  JOIN pg_class c ON c.oid = k.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE k.text_id
 GROUP BY n.nspname
