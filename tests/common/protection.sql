-- What protects the tables, one text an item, so that two databases can be compared. Left out is what differs by nature
-- between versions: privileges and constraints that older ones do not have, and the row types of tables.
WITH relation AS (
    SELECT c.*, c.oid::pg_catalog.regclass AS name, n.nspname
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname !~ '^pg_|^information_schema$'
)
SELECT pg_catalog.concat_ws(' | ', 'relation', name, relkind, relowner::pg_catalog.regrole, 'rls', relrowsecurity, 'force', relforcerowsecurity, relreplident, reloptions)
  FROM relation WHERE relkind NOT IN ('i', 'I', 't')
UNION ALL
SELECT pg_catalog.concat_ws(' | ', 'grant on relation', r.name, a.grantee::pg_catalog.regrole, a.grantor::pg_catalog.regrole, a.privilege_type, a.is_grantable)
  FROM relation r, pg_catalog.aclexplode(coalesce(r.relacl, pg_catalog.acldefault(CASE r.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", r.relowner))) a
 WHERE r.relkind NOT IN ('i', 'I', 't', 'c') AND a.privilege_type <> 'MAINTAIN'
UNION ALL
SELECT pg_catalog.concat_ws(' | ', 'column', r.name, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.attacl,
                            pg_catalog.pg_get_expr(d.adbin, d.adrelid))
  FROM relation r JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
 WHERE r.relkind IN ('r', 'p', 'v')
UNION ALL
SELECT pg_catalog.concat_ws(' | ', 'policy', r.name, p.polname, p.polcmd, p.polpermissive, pg_catalog.pg_get_expr(p.polqual, r.oid), 'check',
                            pg_catalog.pg_get_expr(p.polwithcheck, r.oid),
                            (SELECT pg_catalog.string_agg(role::pg_catalog.regrole::text, ',' ORDER BY role::pg_catalog.regrole::text) FROM pg_catalog.unnest(p.polroles) role),
                            pg_catalog.obj_description(p.oid, 'pg_policy'))
  FROM relation r JOIN pg_catalog.pg_policy p ON p.polrelid = r.oid
UNION ALL
SELECT pg_catalog.concat_ws(' | ', 'trigger', r.name, t.tgenabled, pg_catalog.pg_get_triggerdef(t.oid), t.tgparentid <> 0, pg_catalog.obj_description(t.oid, 'pg_trigger'))
  FROM relation r JOIN pg_catalog.pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal
UNION ALL
SELECT pg_catalog.concat_ws(' | ', 'index', pg_catalog.pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisunique, i.indisreplident)
  FROM relation r JOIN pg_catalog.pg_index i ON i.indrelid = r.oid
UNION ALL
SELECT pg_catalog.concat_ws(' | ', 'constraint', r.name, c.conname, pg_catalog.pg_get_constraintdef(c.oid), c.convalidated, pg_catalog.obj_description(c.oid, 'pg_constraint'))
  FROM relation r JOIN pg_catalog.pg_constraint c ON c.conrelid = r.oid AND c.contype NOT IN ('n', 't')
UNION ALL
SELECT pg_catalog.concat_ws(' | ', 'view', r.name, pg_catalog.pg_get_viewdef(r.oid))
  FROM relation r WHERE r.relkind = 'v' AND r.nspname <> 'tenancy'
UNION ALL
SELECT pg_catalog.concat_ws(' | ', 'function', p.oid::pg_catalog.regprocedure, p.prosecdef, p.provolatile, p.proparallel, p.proleakproof, p.proconfig, p.prosupport, p.prosrc)
  FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'tenancy'::pg_catalog.regnamespace
UNION ALL
SELECT pg_catalog.concat_ws(' | ', 'grant on function', p.oid::pg_catalog.regprocedure, a.grantee::pg_catalog.regrole, a.privilege_type)
  FROM pg_catalog.pg_proc p, pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a
 WHERE p.pronamespace = 'tenancy'::pg_catalog.regnamespace
UNION ALL
SELECT pg_catalog.concat_ws(' | ', 'schema', n.nspname, n.nspowner::pg_catalog.regrole, a.grantee::pg_catalog.regrole, a.privilege_type)
  FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) a
 WHERE n.nspname !~ '^pg_|^information_schema$'
UNION ALL
SELECT pg_catalog.concat_ws(' | ', 'default privileges', defaclrole::pg_catalog.regrole, defaclnamespace::pg_catalog.regnamespace, defaclobjtype, defaclacl)
  FROM pg_catalog.pg_default_acl
UNION ALL
SELECT pg_catalog.concat_ws(' | ', 'publication', pubname, schemaname, tablename, attnames, rowfilter) FROM pg_catalog.pg_publication_tables
UNION ALL
SELECT pg_catalog.concat_ws(' | ', 'event trigger', evtname, evtevent, evtenabled, evtfoid::pg_catalog.regprocedure, evttags, pg_catalog.obj_description(oid, 'pg_event_trigger'))
  FROM pg_catalog.pg_event_trigger
UNION ALL
SELECT pg_catalog.concat_ws(' | ', 'member of the extension', pg_catalog.pg_describe_object(d.classid, d.objid, 0))
  FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
 WHERE e.extname = 'pg_tenancy' AND d.deptype = 'e' AND d.classid <> 'pg_catalog.pg_type'::pg_catalog.regclass
UNION ALL
SELECT pg_catalog.concat_ws(' | ', 'extension', e.extname, e.extversion, e.extnamespace::pg_catalog.regnamespace,
                            (SELECT pg_catalog.string_agg(c::pg_catalog.regclass::text, ',' ORDER BY c::pg_catalog.regclass::text) FROM pg_catalog.unnest(e.extconfig) c))
  FROM pg_catalog.pg_extension e WHERE e.extname = 'pg_tenancy'
ORDER BY 1
