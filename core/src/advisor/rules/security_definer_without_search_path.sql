-- pg_temp is looked in first for tables where a path does not name it, and anybody's own are in there.
SELECT f.oid::regprocedure::text,
       CASE WHEN p.path IS NULL THEN format('%s runs as %I with the names of whoever calls it', f.oid::regprocedure,
           o.rolname)
            WHEN w.schema IS NOT NULL THEN
                format('%s runs as %I and looks for names in %I, where others may create them', f.oid::regprocedure,
                    o.rolname, w.schema)
            ELSE format('%s runs as %I, and a temporary table of whoever calls it comes before those of its search_path', f.oid::regprocedure, o.rolname) END,
       format('ALTER ROUTINE %s SET search_path = %s', f.oid::regprocedure,
              CASE WHEN p.path IS NULL AND n.nspname IN ('public', 'pg_catalog') THEN 'pg_catalog, pg_temp'
                   WHEN p.path IS NULL THEN format('pg_catalog, %I, pg_temp', n.nspname)
                   ELSE concat_ws(', ', s.kept, 'pg_temp') END),
       NULL
  FROM pg_proc f
  JOIN pg_namespace n ON n.oid = f.pronamespace
  JOIN pg_roles o ON o.oid = f.proowner
  JOIN pg_language l ON l.oid = f.prolang AND l.lanname NOT IN ('c', 'internal')
 CROSS JOIN LATERAL (SELECT max(substr(setting, 13)) AS path FROM unnest(f.proconfig) AS setting
     WHERE setting LIKE 'search\_path=%') p
 CROSS JOIN LATERAL (SELECT array_agg(replace(part[1], '""', '"') ORDER BY place) AS schemas
                       FROM (SELECT ARRAY[COALESCE(m[1], m[2])] AS part, place
                               FROM regexp_matches(p.path, '"((?:[^"]|"")*)"|([^", ]+)', 'g') WITH ORDINALITY AS x (m,
                                   place)) y) q
  LEFT JOIN LATERAL (SELECT u.schema
                       FROM unnest(q.schemas) AS u (schema)
                       LEFT JOIN pg_namespace sn ON sn.nspname = u.schema
                      WHERE u.schema = '$user'
                         OR EXISTS (SELECT FROM aclexplode(sn.nspacl) a WHERE a.grantee = 0
                             AND a.privilege_type = 'CREATE')
                      ORDER BY u.schema LIMIT 1) w ON true
 CROSS JOIN LATERAL (SELECT string_agg(quote_ident(u.schema), ', ' ORDER BY u.place) AS kept
                       FROM unnest(q.schemas) WITH ORDINALITY AS u (schema, place)
                       LEFT JOIN pg_namespace sn ON sn.nspname = u.schema
                      WHERE u.schema NOT IN ('pg_temp', '$user', '')
                        AND NOT EXISTS (SELECT FROM aclexplode(sn.nspacl) a WHERE a.grantee = 0
                            AND a.privilege_type = 'CREATE')) s
 WHERE f.prosecdef AND n.nspname !~ '^(pg_|information_schema$|tenancy$)'
   AND (p.path IS NULL OR w.schema IS NOT NULL OR p.path <> '""' AND NOT 'pg_temp' = ANY (q.schemas))
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid
       AND d.deptype = 'e')
