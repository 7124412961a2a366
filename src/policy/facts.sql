SELECT pg_catalog.jsonb_build_object(
         'oid', c.oid::pg_catalog.int8,
         'table', pg_catalog.format('%I.%I', n.nspname, c.relname),
         'name', c.relname,
         'schema', n.nspname,
         'schema_quoted', pg_catalog.quote_ident(n.nspname),
         'kind', c.relkind,
         'temporary', c.relpersistence OPERATOR(pg_catalog.=) 't',
         'system', n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast', 'tenancy'),
         'owned', pg_catalog.pg_has_role(c.relowner, 'USAGE'),
         'parents', (
           SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.format('%I.%I', pn.nspname, p.relname) ORDER BY i.inhseqno), '[]')
             FROM pg_catalog.pg_inherits i
             JOIN pg_catalog.pg_class p ON p.oid OPERATOR(pg_catalog.=) i.inhparent
             JOIN pg_catalog.pg_namespace pn ON pn.oid OPERATOR(pg_catalog.=) p.relnamespace
            WHERE i.inhrelid OPERATOR(pg_catalog.=) c.oid),
         'partition', c.relispartition,
         'members', (
           WITH RECURSIVE member (oid, level) AS (
               SELECT i.inhrelid, 1 FROM pg_catalog.pg_inherits i WHERE i.inhparent OPERATOR(pg_catalog.=) c.oid
                -- Of the ways to a child each length counts once, however many there are.
                UNION
               SELECT i.inhrelid, m.level OPERATOR(pg_catalog.+) 1
                 FROM member m JOIN pg_catalog.pg_inherits i ON i.inhparent OPERATOR(pg_catalog.=) m.oid)
           SELECT COALESCE(pg_catalog.jsonb_agg(m.oid::pg_catalog.int8 ORDER BY m.level, m.oid), '[]')
             FROM (SELECT oid, pg_catalog.max(level) FROM member GROUP BY oid) AS m (oid, level)
             JOIN pg_catalog.pg_class mc ON mc.oid OPERATOR(pg_catalog.=) m.oid
            -- A temporary child is read by the session that made it and by nobody else.
            WHERE c.relpersistence OPERATOR(pg_catalog.=) 't' OR mc.relpersistence OPERATOR(pg_catalog.<>) 't'),
         'pages', c.relpages,
         'row_security', c.relrowsecurity,
         'force_row_security', c.relforcerowsecurity,
         'columns', (
           SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                    'name', a.attname,
                    'quoted', pg_catalog.quote_ident(a.attname),
                    'data_type', pg_catalog.format_type(a.atttypid, NULL),
                    'not_null', a.attnotnull,
                    'default', pg_catalog.pg_get_expr(d.adbin, d.adrelid),
                    'generated', a.attgenerated OPERATOR(pg_catalog.<>) '' OR a.attidentity OPERATOR(pg_catalog.<>) '',
                    'computed_from', (
                      SELECT COALESCE(pg_catalog.jsonb_agg(f.attname ORDER BY f.attnum), '[]')
                        FROM pg_catalog.pg_depend y
                        JOIN pg_catalog.pg_attribute f
                          ON f.attrelid OPERATOR(pg_catalog.=) y.refobjid AND f.attnum::pg_catalog.int4 OPERATOR(pg_catalog.=) y.refobjsubid
                       WHERE y.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND y.objid OPERATOR(pg_catalog.=) d.oid
                         AND y.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
                         AND y.refobjid OPERATOR(pg_catalog.=) c.oid AND f.attnum OPERATOR(pg_catalog.<>) a.attnum))
                    ORDER BY a.attnum), '[]')
             FROM pg_catalog.pg_attribute a
             LEFT JOIN pg_catalog.pg_attrdef d
               ON d.adrelid OPERATOR(pg_catalog.=) a.attrelid AND d.adnum OPERATOR(pg_catalog.=) a.attnum
            WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped),
         'policies', (
           SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                    'name', p.polname,
                    'permissive', p.polpermissive,
                    'command', p.polcmd,
                    'to_public', p.polroles OPERATOR(pg_catalog.=) '{0}',
                    'using', pg_catalog.pg_get_expr(p.polqual, p.polrelid),
                    'check', pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))
                    ORDER BY p.polname), '[]')
             FROM pg_catalog.pg_policy p
            WHERE p.polrelid OPERATOR(pg_catalog.=) c.oid),
         'triggers', (
           SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                    'name', t.tgname,
                    'definition', pg_catalog.pg_get_triggerdef(t.oid),
                    'enabled', t.tgenabled,
                    'cloned', t.tgparentid OPERATOR(pg_catalog.<>) 0)
                    ORDER BY t.tgname), '[]')
             FROM pg_catalog.pg_trigger t
            WHERE t.tgrelid OPERATOR(pg_catalog.=) c.oid AND NOT t.tgisinternal),
         'indexes', (
           SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                    'name', ic.relname,
                    'quoted', pg_catalog.quote_ident(ic.relname),
                    'columns', (
                      SELECT pg_catalog.jsonb_agg(COALESCE(a.attname, '') ORDER BY k.place)
                        FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k (attnum, place)
                        LEFT JOIN pg_catalog.pg_attribute a
                          ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid AND a.attnum OPERATOR(pg_catalog.=) k.attnum
                         AND k.attnum OPERATOR(pg_catalog.>) 0
                       WHERE k.place OPERATOR(pg_catalog.<=) i.indnkeyatts),
                    'unique', i.indisunique AND i.indimmediate,
                    'primary', i.indisprimary,
                    'comment', pg_catalog.obj_description(u.oid, 'pg_constraint'))
                    ORDER BY ic.relname), '[]')
             FROM pg_catalog.pg_index i
             JOIN pg_catalog.pg_class ic ON ic.oid OPERATOR(pg_catalog.=) i.indexrelid
             LEFT JOIN pg_catalog.pg_constraint u
               ON u.conrelid OPERATOR(pg_catalog.=) i.indrelid AND u.conindid OPERATOR(pg_catalog.=) i.indexrelid AND u.contype IN ('p', 'u')
            WHERE i.indrelid OPERATOR(pg_catalog.=) c.oid AND i.indisvalid AND i.indpred IS NULL
              AND ic.relam OPERATOR(pg_catalog.=) (SELECT m.oid FROM pg_catalog.pg_am m WHERE m.amname OPERATOR(pg_catalog.=) 'btree')),
         'broken_indexes', (
           SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.quote_ident(ic.relname) ORDER BY ic.relname), '[]')
             FROM pg_catalog.pg_index i
             JOIN pg_catalog.pg_class ic ON ic.oid OPERATOR(pg_catalog.=) i.indexrelid
            WHERE i.indrelid OPERATOR(pg_catalog.=) c.oid AND NOT i.indisvalid AND ic.relkind OPERATOR(pg_catalog.=) 'i'
              AND ic.relname OPERATOR(pg_catalog.~) '_tenancy_(idx|key)[0-9]*$'),
         'checks', (
           SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('name', k.conname, 'validated', k.convalidated)), '[]')
             FROM pg_catalog.pg_constraint k
            WHERE k.conrelid OPERATOR(pg_catalog.=) c.oid AND k.contype OPERATOR(pg_catalog.=) 'c'
              AND k.conname OPERATOR(pg_catalog.=) 'tenancy_organization_not_null'),
         'references', (
           SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                    'name', f.conname,
                    'quoted', pg_catalog.quote_ident(f.conname),
                    'child', f.conrelid::pg_catalog.int8,
                    'parent', f.confrelid::pg_catalog.int8,
                    'child_columns', (
                      SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('name', a.attname, 'quoted', pg_catalog.quote_ident(a.attname),
                               'data_type', pg_catalog.format_type(a.atttypid, NULL)) ORDER BY k.place)
                        FROM pg_catalog.unnest(f.conkey) WITH ORDINALITY AS k (attnum, place)
                        JOIN pg_catalog.pg_attribute a
                          ON a.attrelid OPERATOR(pg_catalog.=) f.conrelid AND a.attnum OPERATOR(pg_catalog.=) k.attnum),
                    'parent_columns', (
                      SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('name', a.attname, 'quoted', pg_catalog.quote_ident(a.attname),
                               'data_type', pg_catalog.format_type(a.atttypid, NULL)) ORDER BY k.place)
                        FROM pg_catalog.unnest(f.confkey) WITH ORDINALITY AS k (attnum, place)
                        JOIN pg_catalog.pg_attribute a
                          ON a.attrelid OPERATOR(pg_catalog.=) f.confrelid AND a.attnum OPERATOR(pg_catalog.=) k.attnum),
                    'match_type', f.confmatchtype,
                    'on_update', f.confupdtype,
                    'on_delete', f.confdeltype,
                    'on_delete_columns', (
                      SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.quote_ident(a.attname) ORDER BY k.place), '[]')
                        FROM pg_catalog.unnest(f.confdelsetcols) WITH ORDINALITY AS k (attnum, place)
                        JOIN pg_catalog.pg_attribute a
                          ON a.attrelid OPERATOR(pg_catalog.=) f.conrelid AND a.attnum OPERATOR(pg_catalog.=) k.attnum),
                    'deferrable', f.condeferrable,
                    'deferred', f.condeferred,
                    'validated', f.convalidated,
                    'enforced', COALESCE((pg_catalog.to_jsonb(f) OPERATOR(pg_catalog.->>) 'conenforced')::pg_catalog.bool, true)
                      AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t
                                       WHERE t.tgconstraint OPERATOR(pg_catalog.=) f.oid AND t.tgrelid IN (f.conrelid, f.confrelid) AND t.tgenabled NOT IN ('O', 'A')),
                    'comment', pg_catalog.obj_description(f.oid, 'pg_constraint'))
                    ORDER BY f.conrelid, f.conname), '[]')
             FROM pg_catalog.pg_constraint f
            WHERE f.contype OPERATOR(pg_catalog.=) 'f' AND f.conparentid OPERATOR(pg_catalog.=) 0
              -- By index: pg_constraint has none for the table that is pointed at.
              AND f.oid IN (SELECT d.objid FROM pg_catalog.pg_depend d
                             WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass
                               AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
                               AND d.refobjid OPERATOR(pg_catalog.=) c.oid)
              AND (f.conrelid OPERATOR(pg_catalog.=) c.oid OR f.confrelid OPERATOR(pg_catalog.=) c.oid)),
         'taken_names', (
           SELECT COALESCE(pg_catalog.jsonb_agg(o.relname ORDER BY o.relname), '[]')
             FROM pg_catalog.pg_class o
            WHERE o.relnamespace OPERATOR(pg_catalog.=) c.relnamespace
              AND o.relname OPERATOR(pg_catalog.~) '_tenancy_(idx|key)[0-9]*$'
              AND o.relname OPERATOR(pg_catalog.>=) pg_catalog.left(c.relname, 10)::pg_catalog.name
              AND o.relname OPERATOR(pg_catalog.<) (pg_catalog.left(c.relname, 10) OPERATOR(pg_catalog.||) pg_catalog.chr(1114111))::pg_catalog.name),
         'provenance', (
           SELECT pg_catalog.obj_description(p.oid, 'pg_policy')
             FROM pg_catalog.pg_policy p
            WHERE p.polrelid OPERATOR(pg_catalog.=) c.oid AND p.polname OPERATOR(pg_catalog.=) 'tenancy_isolation'),
         'provenance_before', (
           SELECT pg_catalog.obj_description(p.oid, 'pg_policy')
             FROM pg_catalog.pg_policy p
            WHERE p.polrelid OPERATOR(pg_catalog.=) c.oid AND p.polname OPERATOR(pg_catalog.=) 'tenancy_isolation_before')
       )::pg_catalog.text
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE c.oid OPERATOR(pg_catalog.=) $1
