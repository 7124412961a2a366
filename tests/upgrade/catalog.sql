-- All that the extension consists of, one text an item, so that an upgraded database can be compared with a fresh one.
-- Objects are found by their membership, and what belongs to a table by the table. search_path is pg_catalog alone.
WITH member AS (
    SELECT d.classid, d.objid, (pg_identify_object(d.classid, d.objid, 0)).*
      FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
     WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'pg_tenancy'
), relation AS (
    SELECT c.*, c.oid::regclass AS name
      FROM pg_class c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
), routine AS (
    SELECT p.*, p.oid::regprocedure AS name
      FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
), grantee AS (
    SELECT 0 AS oid, 'PUBLIC' AS name UNION ALL SELECT oid, rolname FROM pg_roles
), described AS (
    -- What has a comment: the members, and the parts of the tables.
    SELECT classid, objid FROM member
    UNION ALL SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c JOIN relation r ON r.oid = c.conrelid
    UNION ALL SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger t JOIN relation r ON r.oid = t.tgrelid
    UNION ALL SELECT 'pg_policy'::regclass, p.oid FROM pg_policy p JOIN relation r ON r.oid = p.polrelid
    UNION ALL SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i JOIN relation r ON r.oid = i.indrelid
    UNION ALL SELECT 'pg_namespace'::regclass, 'tenancy'::regnamespace
    UNION ALL SELECT 'pg_extension'::regclass, oid FROM pg_extension WHERE extname = 'pg_tenancy'
)
SELECT concat_ws(' | ', 'member', type, identity) FROM member
UNION ALL
SELECT concat_ws(' | ', 'comment', o.type, o.identity, d.objsubid, d.description)
  FROM (SELECT DISTINCT classid, objid FROM described) m JOIN pg_description d ON d.classoid = m.classid AND d.objoid = m.objid,
       pg_identify_object(m.classid, m.objid, 0) o
 -- Those of columns are below, with their names: numbers have gaps after an upgrade.
 WHERE d.objsubid = 0
UNION ALL
SELECT concat_ws(' | ', 'extension', extversion, extowner = 10, extnamespace::regnamespace, extrelocatable)
  FROM pg_extension WHERE extname = 'pg_tenancy'
UNION ALL
SELECT concat_ws(' | ', 'dumped rows', c.oid::regclass, c.condition)
  FROM pg_extension e, unnest(e.extconfig, e.extcondition) c (oid, condition) WHERE e.extname = 'pg_tenancy'
UNION ALL
SELECT concat_ws(' | ', 'relation', name, relkind, relpersistence, 'rls', relrowsecurity, 'force', relforcerowsecurity, relreplident, reloptions,
                            relowner = 10 OR relowner::regrole::text = 'tenancy_trail')
  FROM relation
UNION ALL
-- Debian's 15.20 marks each column with a pg_attver that a user cannot set.
SELECT concat_ws(' | ', 'column', r.name,
                            row_number() OVER (PARTITION BY r.oid ORDER BY a.attnum), a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                            a.attidentity, a.attgenerated, a.attstorage, a.attcompression, a.attcollation::regcollation, (SELECT string_agg(o, ',') FROM unnest(a.attoptions) o WHERE o !~ '^pg_attver='), a.attstattarget,
                            'default', pg_get_expr(d.adbin, d.adrelid), 'comment', col_description(r.oid, a.attnum))
  FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
UNION ALL
SELECT concat_ws(' | ', 'grant on column', r.name, a.attname, grantee.name, g.privilege_type, g.is_grantable)
  FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND NOT a.attisdropped, aclexplode(a.attacl) g JOIN grantee ON grantee.oid = g.grantee
UNION ALL
SELECT concat_ws(' | ', 'grant on relation', r.name, grantee.name, g.privilege_type, g.is_grantable)
  FROM relation r, aclexplode(coalesce(r.relacl, acldefault(CASE r.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", r.relowner))) g
  JOIN grantee ON grantee.oid = g.grantee
 WHERE r.relkind IN ('r', 'p', 'v', 'm', 'S')
UNION ALL
SELECT concat_ws(' | ', 'view', name, pg_get_viewdef(oid)) FROM relation WHERE relkind IN ('v', 'm')
UNION ALL
SELECT concat_ws(' | ', 'partitioned', name, pg_get_partkeydef(oid)) FROM relation WHERE relkind = 'p'
UNION ALL
SELECT concat_ws(' | ', 'sequence', r.name, s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmax, s.seqmin, s.seqcache, s.seqcycle)
  FROM relation r JOIN pg_sequence s ON s.seqrelid = r.oid
UNION ALL
SELECT concat_ws(' | ', 'rule', pg_get_ruledef(w.oid)) FROM relation r JOIN pg_rewrite w ON w.ev_class = r.oid AND w.rulename <> '_RETURN'
UNION ALL
SELECT concat_ws(' | ', 'policy', r.name, p.polname, p.polcmd, p.polpermissive, pg_get_expr(p.polqual, r.oid), 'check', pg_get_expr(p.polwithcheck, r.oid),
                            (SELECT string_agg(g.name, ',' ORDER BY g.name) FROM unnest(p.polroles) role JOIN grantee g ON g.oid = role))
  FROM relation r JOIN pg_policy p ON p.polrelid = r.oid
UNION ALL
SELECT concat_ws(' | ', 'trigger', r.name, t.tgenabled, pg_get_triggerdef(t.oid))
  FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal
UNION ALL
SELECT concat_ws(' | ', 'index', pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisreplident, i.indisclustered)
  FROM relation r JOIN pg_index i ON i.indrelid = r.oid
UNION ALL
SELECT concat_ws(' | ', 'constraint', r.name, c.conname, pg_get_constraintdef(c.oid), c.convalidated)
  FROM relation r JOIN pg_constraint c ON c.conrelid = r.oid
UNION ALL
SELECT concat_ws(' | ', 'routine', name, proowner = 10, pg_get_functiondef(oid)) FROM routine WHERE prokind <> 'a'
UNION ALL
SELECT concat_ws(' | ', 'grant on routine', r.name, grantee.name, g.privilege_type, g.is_grantable)
  FROM routine r, aclexplode(coalesce(r.proacl, acldefault('f', r.proowner))) g JOIN grantee ON grantee.oid = g.grantee
UNION ALL
SELECT concat_ws(' | ', 'type', t.oid::regtype, t.typtype, t.typnotnull, t.typdefault, t.typbasetype::regtype, t.typacl::text,
                            (SELECT string_agg(l.enumlabel, ',' ORDER BY l.enumsortorder) FROM pg_enum l WHERE l.enumtypid = t.oid),
                            (SELECT string_agg(pg_get_constraintdef(c.oid), ',' ORDER BY c.conname) FROM pg_constraint c WHERE c.contypid = t.oid))
  FROM pg_type t JOIN member m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
UNION ALL
SELECT concat_ws(' | ', 'event trigger', evtname, evtevent, evtenabled, evttags, evtfoid::regprocedure, evtowner = 10)
  FROM pg_event_trigger t JOIN member m ON m.classid = 'pg_event_trigger'::regclass AND m.objid = t.oid
UNION ALL
SELECT concat_ws(' | ', 'grant on schema', grantee.name, g.privilege_type, g.is_grantable)
  FROM pg_namespace n, aclexplode(n.nspacl) g JOIN grantee ON grantee.oid = g.grantee WHERE n.nspname = 'tenancy'
UNION ALL
-- What a dump takes for given, so that it has the grants of the database's owner alone.
SELECT concat_ws(' | ', 'given by the extension', o.type, o.identity, i.objsubid <> 0, grantee.name, g.privilege_type)
  FROM pg_init_privs i JOIN member m ON m.classid = i.classoid AND m.objid = i.objoid, pg_identify_object(i.classoid, i.objoid, 0) o,
       aclexplode(i.initprivs) g JOIN grantee ON grantee.oid = g.grantee
UNION ALL
SELECT concat_ws(' | ', 'security label', o.type, o.identity, l.provider, l.label)
  FROM pg_seclabel l JOIN member m ON m.classid = l.classoid AND m.objid = l.objoid, pg_identify_object(l.classoid, l.objoid, 0) o
ORDER BY 1
