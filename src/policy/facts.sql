SELECT jsonb_build_object(
         'oid', c.oid::int8,
         'table', format('%I.%I', n.nspname, c.relname),
         'name', c.relname,
         'schema', n.nspname,
         'schema_quoted', quote_ident(n.nspname),
         'kind', c.relkind,
         'temporary', c.relpersistence = 't',
         'system', n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast', 'tenancy'),
         'owned', pg_has_role(c.relowner, 'USAGE'),
         'parents', (
           SELECT COALESCE(jsonb_agg(format('%I.%I', pn.nspname, p.relname) ORDER BY i.inhseqno), '[]')
             FROM pg_inherits i
             JOIN pg_class p ON p.oid = i.inhparent
             JOIN pg_namespace pn ON pn.oid = p.relnamespace
            WHERE i.inhrelid = c.oid),
         'partition', c.relispartition,
         'members', (
           WITH RECURSIVE member (oid, level) AS (
               SELECT i.inhrelid, 1 FROM pg_inherits i WHERE i.inhparent = c.oid
                -- Of the ways to a child each length counts once, however many there are.
                UNION
               SELECT i.inhrelid, m.level + 1
                 FROM member m JOIN pg_inherits i ON i.inhparent = m.oid)
           SELECT COALESCE(jsonb_agg(m.oid::int8 ORDER BY m.level, m.oid), '[]')
             FROM (SELECT oid, max(level) FROM member GROUP BY oid) AS m (oid, level)
             JOIN pg_class mc ON mc.oid = m.oid
            -- A temporary child is read by the session that made it and by nobody else.
            WHERE c.relpersistence = 't' OR mc.relpersistence <> 't'),
         'pages', c.relpages,
         'row_security', c.relrowsecurity,
         'force_row_security', c.relforcerowsecurity,
         'columns', (
           SELECT COALESCE(jsonb_agg(jsonb_build_object(
                    'name', a.attname,
                    'quoted', quote_ident(a.attname),
                    'data_type', format_type(a.atttypid, NULL),
                    'not_null', a.attnotnull,
                    'default', pg_get_expr(d.adbin, d.adrelid),
                    'generated', a.attgenerated <> '' OR a.attidentity <> '',
                    'computed_from', (
                      SELECT COALESCE(jsonb_agg(f.attname ORDER BY f.attnum), '[]')
                        FROM pg_depend y
                        JOIN pg_attribute f
                          ON f.attrelid = y.refobjid AND f.attnum::int4 = y.refobjsubid
                       WHERE y.classid = 'pg_attrdef'::regclass AND y.objid = d.oid
                         AND y.refclassid = 'pg_class'::regclass
                         AND y.refobjid = c.oid AND f.attnum <> a.attnum))
                    ORDER BY a.attnum), '[]')
             FROM pg_attribute a
             LEFT JOIN pg_attrdef d
               ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
         'policies', (
           SELECT COALESCE(jsonb_agg(jsonb_build_object(
                    'name', p.polname,
                    'permissive', p.polpermissive,
                    'command', p.polcmd,
                    'to_public', p.polroles = '{0}',
                    'using', pg_get_expr(p.polqual, p.polrelid),
                    'check', pg_get_expr(p.polwithcheck, p.polrelid))
                    ORDER BY p.polname), '[]')
             FROM pg_policy p
            WHERE p.polrelid = c.oid),
         'triggers', (
           SELECT COALESCE(jsonb_agg(jsonb_build_object(
                    'name', t.tgname,
                    'definition', pg_get_triggerdef(t.oid),
                    'enabled', t.tgenabled,
                    'cloned', t.tgparentid <> 0)
                    ORDER BY t.tgname), '[]')
             FROM pg_trigger t
            WHERE t.tgrelid = c.oid AND NOT t.tgisinternal),
         'indexes', (
           SELECT COALESCE(jsonb_agg(jsonb_build_object(
                    'name', ic.relname,
                    'quoted', quote_ident(ic.relname),
                    'columns', (
                      SELECT jsonb_agg(COALESCE(a.attname, '') ORDER BY k.place)
                        FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
                        LEFT JOIN pg_attribute a
                          ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                         AND k.attnum > 0
                       WHERE k.place <= i.indnkeyatts),
                    'unique', i.indisunique AND i.indimmediate,
                    'primary', i.indisprimary,
                    'comment', obj_description(u.oid, 'pg_constraint'))
                    ORDER BY ic.relname), '[]')
             FROM pg_index i
             JOIN pg_class ic ON ic.oid = i.indexrelid
             LEFT JOIN pg_constraint u
               ON u.conrelid = i.indrelid AND u.conindid = i.indexrelid AND u.contype IN ('p', 'u')
            WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL
              AND ic.relam = (SELECT m.oid FROM pg_am m WHERE m.amname = 'btree')),
         'broken_indexes', (
           SELECT COALESCE(jsonb_agg(quote_ident(ic.relname) ORDER BY ic.relname), '[]')
             FROM pg_index i
             JOIN pg_class ic ON ic.oid = i.indexrelid
            WHERE i.indrelid = c.oid AND NOT i.indisvalid AND ic.relkind = 'i'
              AND ic.relname ~ '_tenancy_(idx|key)[0-9]*$'),
         'checks', (
           SELECT COALESCE(jsonb_agg(jsonb_build_object('name', k.conname, 'validated', k.convalidated)), '[]')
             FROM pg_constraint k
            WHERE k.conrelid = c.oid AND k.contype = 'c'
              AND k.conname = 'tenancy_organization_not_null'),
         'references', (
           SELECT COALESCE(jsonb_agg(jsonb_build_object(
                    'name', f.conname,
                    'quoted', quote_ident(f.conname),
                    'child', f.conrelid::int8,
                    'parent', f.confrelid::int8,
                    'child_columns', (
                      SELECT jsonb_agg(jsonb_build_object('name', a.attname, 'quoted', quote_ident(a.attname),
                               'data_type', format_type(a.atttypid, NULL)) ORDER BY k.place)
                        FROM unnest(f.conkey) WITH ORDINALITY AS k (attnum, place)
                        JOIN pg_attribute a
                          ON a.attrelid = f.conrelid AND a.attnum = k.attnum),
                    'parent_columns', (
                      SELECT jsonb_agg(jsonb_build_object('name', a.attname, 'quoted', quote_ident(a.attname),
                               'data_type', format_type(a.atttypid, NULL)) ORDER BY k.place)
                        FROM unnest(f.confkey) WITH ORDINALITY AS k (attnum, place)
                        JOIN pg_attribute a
                          ON a.attrelid = f.confrelid AND a.attnum = k.attnum),
                    'match_type', f.confmatchtype,
                    'on_update', f.confupdtype,
                    'on_delete', f.confdeltype,
                    'on_delete_columns', (
                      SELECT COALESCE(jsonb_agg(quote_ident(a.attname) ORDER BY k.place), '[]')
                        FROM unnest(f.confdelsetcols) WITH ORDINALITY AS k (attnum, place)
                        JOIN pg_attribute a
                          ON a.attrelid = f.conrelid AND a.attnum = k.attnum),
                    'deferrable', f.condeferrable,
                    'deferred', f.condeferred,
                    'validated', f.convalidated,
                    'enforced', COALESCE((to_jsonb(f) ->> 'conenforced')::bool, true)
                      AND NOT EXISTS (SELECT FROM pg_trigger t
                                       WHERE t.tgconstraint = f.oid AND t.tgrelid IN (f.conrelid, f.confrelid)
                                           AND t.tgenabled NOT IN ('O', 'A')),
                    'comment', obj_description(f.oid, 'pg_constraint'))
                    ORDER BY f.conrelid, f.conname), '[]')
             FROM pg_constraint f
            WHERE f.contype = 'f' AND f.conparentid = 0
              -- By index: pg_constraint has none for the table that is pointed at.
              AND f.oid IN (SELECT d.objid FROM pg_depend d
                             WHERE d.classid = 'pg_constraint'::regclass
                               AND d.refclassid = 'pg_class'::regclass
                               AND d.refobjid = c.oid)
              AND (f.conrelid = c.oid OR f.confrelid = c.oid)),
         'taken_names', (
           SELECT COALESCE(jsonb_agg(o.relname ORDER BY o.relname), '[]')
             FROM pg_class o
            WHERE o.relnamespace = c.relnamespace
              AND o.relname ~ '_tenancy_(idx|key)[0-9]*$'
              AND o.relname >= left(c.relname, 10)::name
              AND o.relname < (left(c.relname, 10) || chr(1114111))::name),
         'provenance', (
           SELECT obj_description(p.oid, 'pg_policy')
             FROM pg_policy p
            WHERE p.polrelid = c.oid AND p.polname = 'tenancy_isolation'),
         'provenance_before', (
           SELECT obj_description(p.oid, 'pg_policy')
             FROM pg_policy p
            WHERE p.polrelid = c.oid AND p.polname = 'tenancy_isolation_before')
       )::text
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = $1
