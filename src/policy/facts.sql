SELECT pg_catalog.jsonb_build_object(
         'table', pg_catalog.format('%I.%I', n.nspname, c.relname),
         'name', c.relname,
         'schema_quoted', pg_catalog.quote_ident(n.nspname),
         'kind', c.relkind,
         'temporary', c.relpersistence OPERATOR(pg_catalog.=) 't',
         'system', n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast', 'tenancy'),
         'inherits', EXISTS (SELECT FROM pg_catalog.pg_inherits i
                              WHERE i.inhrelid OPERATOR(pg_catalog.=) c.oid OR i.inhparent OPERATOR(pg_catalog.=) c.oid),
         'row_security', c.relrowsecurity,
         'force_row_security', c.relforcerowsecurity,
         'columns', (
           SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                    'name', a.attname,
                    'quoted', pg_catalog.quote_ident(a.attname),
                    'data_type', pg_catalog.format_type(a.atttypid, NULL),
                    'not_null', a.attnotnull,
                    'default', pg_catalog.pg_get_expr(d.adbin, d.adrelid),
                    'generated', a.attgenerated OPERATOR(pg_catalog.<>) '' OR a.attidentity OPERATOR(pg_catalog.<>) '')
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
                    'enabled', t.tgenabled)
                    ORDER BY t.tgname), '[]')
             FROM pg_catalog.pg_trigger t
            WHERE t.tgrelid OPERATOR(pg_catalog.=) c.oid AND NOT t.tgisinternal),
         'indexes', (
           SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('name', ic.relname, 'first_column', a.attname)
                    ORDER BY ic.relname), '[]')
             FROM pg_catalog.pg_index i
             JOIN pg_catalog.pg_class ic ON ic.oid OPERATOR(pg_catalog.=) i.indexrelid
             JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) ic.relam AND m.amname OPERATOR(pg_catalog.=) 'btree'
             JOIN pg_catalog.pg_attribute a
               ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid AND a.attnum OPERATOR(pg_catalog.=) i.indkey[0]
            WHERE i.indrelid OPERATOR(pg_catalog.=) c.oid AND i.indisvalid AND i.indpred IS NULL),
         'taken_names', (
           SELECT COALESCE(pg_catalog.jsonb_agg(o.relname ORDER BY o.relname), '[]')
             FROM pg_catalog.pg_class o
            WHERE o.relnamespace OPERATOR(pg_catalog.=) c.relnamespace AND pg_catalog.strpos(o.relname, '_tenancy_idx') OPERATOR(pg_catalog.>) 0),
         'provenance', (
           SELECT pg_catalog.obj_description(p.oid, 'pg_policy')
             FROM pg_catalog.pg_policy p
            WHERE p.polrelid OPERATOR(pg_catalog.=) c.oid AND p.polname OPERATOR(pg_catalog.=) 'tenancy_isolation')
       )::pg_catalog.text
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE c.oid OPERATOR(pg_catalog.=) $1
