-- Which expression a policy judges rows by: those that are read, and those that are written.
WITH RECURSIVE expression AS (
    SELECT p.oid, p.polrelid, p.polname, p.polpermissive, p.polcmd, p.polroles, a.attname, side.writes, w.text
      FROM pg_policy p
      JOIN pg_class c ON c.oid = p.polrelid AND c.relrowsecurity AND c.relpersistence <> 't'
          AND c.relnamespace <> 'tenancy'::regnamespace
      JOIN LATERAL (SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND NOT attisdropped
          AND attname IN ('organizationId', 'organization_id', 'org_id', 'tenant_id')
                     ORDER BY array_position('{organizationId,organization_id,org_id,tenant_id}', attname::text) LIMIT
                         1) a ON true
      JOIN LATERAL (VALUES (false, CASE WHEN p.polcmd <> 'a' THEN pg_get_expr(p.polqual, c.oid) END),
                           (true, CASE WHEN p.polcmd IN ('*', 'a', 'w')
                               THEN COALESCE(pg_get_expr(p.polwithcheck, c.oid), pg_get_expr(p.polqual, c.oid)) END))
                        AS side (writes, text) ON side.text IS NOT NULL
     -- Without what only looks like the column: texts, other names in quotes, functions of its name, and a test for
     -- NULL.
     CROSS JOIN LATERAL (SELECT regexp_replace(replace(regexp_replace(side.text, $q$("([^"]|"")*")|'([^']|'')*'$q$,
         '\1', 'g'), quote_ident(a.attname), a.attname),
                                               '"([^"]|"")*"', 'q', 'g') AS text) v
     -- A branch of CASE that is true is another OR.
     CROSS JOIN LATERAL (SELECT regexp_replace(regexp_replace(regexp_replace(v.text, '[\w.]+\(', '(', 'g'),
         format('\m%s IS NOT NULL', a.attname), '', 'g'),
                                               'THEN true', ' OR true OR ', 'g') AS text) w
     WHERE NOT EXISTS (SELECT FROM tenancy.protected_tables() t WHERE t."table" = c.oid)
       AND NOT EXISTS (SELECT FROM tenancy.exclusions() e WHERE e."table" = c.oid)),
-- From the innermost parentheses outwards: what they hold isolates if each side of an OR does, and one side of an AND.
reduced (oid, writes, attname, text) AS (
    SELECT oid, writes, attname, text FROM expression
     UNION ALL
    SELECT r.oid, r.writes, r.attname,
           m[1] || CASE WHEN EXISTS (SELECT FROM regexp_split_to_table(m[2], ' OR ') AS side
               WHERE side !~ format('\m%s\M|@isolates', r.attname))
                        THEN '@open' ELSE '@isolates' END || m[3]
      FROM reduced r CROSS JOIN regexp_match(r.text, '^([^)]*)\(([^()]*)\)(.*)$') AS m
     WHERE m IS NOT NULL),
judged AS (
    SELECT e.*, NOT EXISTS (SELECT FROM regexp_split_to_table(r.text, ' OR ') AS side
        WHERE side !~ format('\m%s\M|@isolates', e.attname)) AS isolates
      FROM expression e
      JOIN reduced r ON r.oid = e.oid AND r.writes = e.writes AND r.text !~ '\([^()]*\)')
SELECT format('%s.%I', j.polrelid::regclass, j.polname),
       format('the policy %I of %s lets rows be %s whatever their %I is, and no restrictive policy does not', j.polname,
           j.polrelid::regclass,
              string_agg(CASE WHEN j.writes THEN 'written' ELSE 'read' END, ' and ' ORDER BY j.writes), j.attname),
       format('SELECT tenancy.protect(%L%s)', j.polrelid::regclass,
              CASE WHEN (SELECT attnotnull FROM pg_attribute WHERE attrelid = j.polrelid AND attname = j.attname)
                  THEN '' ELSE ', null_rows => ''nobody''' END),
       -- For roles that do not act for tenants it may be meant.
       CASE WHEN 0 = ANY (j.polroles) OR EXISTS (SELECT FROM pg_roles a CROSS JOIN unnest(j.polroles) AS r (oid)
                                                  WHERE pg_has_role(a.oid, 'tenancy_application', 'MEMBER')
                                                      AND pg_has_role(a.oid, r.oid, 'USAGE') AND NOT a.rolsuper)
            THEN 'error' ELSE 'warning' END
  FROM judged j
 WHERE j.polpermissive AND NOT j.isolates
   AND NOT EXISTS (SELECT FROM judged r WHERE r.polrelid = j.polrelid AND NOT r.polpermissive AND r.isolates
       AND r.writes = j.writes
                      AND (r.polcmd = '*' OR r.polcmd = j.polcmd) AND (r.polroles = '{0}' OR j.polroles <@ r.polroles))
 GROUP BY j.oid, j.polrelid, j.polname, j.polroles, j.attname
