SELECT d.object_type, d.object_identity, n.nspname::pg_catalog.text, r.relname::pg_catalog.text, r.oid,
       CASE
           WHEN p.oid IS NOT NULL THEN pg_catalog.json_build_object(
               'policy_command', CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
               'permissive', p.polpermissive,
               'roles', (SELECT pg_catalog.json_agg(CASE WHEN g.oid OPERATOR(pg_catalog.=) 0 THEN 'public' ELSE COALESCE(u.rolname::pg_catalog.text, g.oid::pg_catalog.text) END ORDER BY g.place)
                           FROM pg_catalog.unnest(p.polroles) WITH ORDINALITY AS g (oid, place)
                           LEFT JOIN pg_catalog.pg_roles u ON u.oid OPERATOR(pg_catalog.=) g.oid),
               'using', pg_catalog.pg_get_expr(p.polqual, p.polrelid),
               'check', pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))
           WHEN t.oid IS NOT NULL THEN pg_catalog.json_build_object(
               'function', (SELECT pg_catalog.format('%I.%I', fn.nspname, f.proname)
                              FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_namespace fn ON fn.oid OPERATOR(pg_catalog.=) f.pronamespace
                             WHERE f.oid OPERATOR(pg_catalog.=) t.tgfoid),
               'enabled', t.tgenabled)
           WHEN r.oid OPERATOR(pg_catalog.=) d.objid THEN pg_catalog.json_build_object(
               'owner', pg_catalog.pg_get_userbyid(r.relowner), 'row_security', r.relrowsecurity, 'force_row_security', r.relforcerowsecurity)
       END::pg_catalog.text,
       COALESCE(audit.of, false), d.command
  FROM pg_catalog.pg_event_trigger_ddl_commands() d
  LEFT JOIN pg_catalog.pg_policy p
    ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_policy'::pg_catalog.regclass AND p.oid OPERATOR(pg_catalog.=) d.objid
  LEFT JOIN pg_catalog.pg_trigger t
    ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_trigger'::pg_catalog.regclass AND t.oid OPERATOR(pg_catalog.=) d.objid
  LEFT JOIN pg_catalog.pg_rewrite w
    ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND w.oid OPERATOR(pg_catalog.=) d.objid
  LEFT JOIN pg_catalog.pg_constraint k
    ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid OPERATOR(pg_catalog.=) d.objid
  LEFT JOIN pg_catalog.pg_index i
    ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND i.indexrelid OPERATOR(pg_catalog.=) d.objid
  LEFT JOIN pg_catalog.pg_statistic_ext st
    ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass AND st.oid OPERATOR(pg_catalog.=) d.objid
  LEFT JOIN pg_catalog.pg_class r
    ON r.oid OPERATOR(pg_catalog.=) COALESCE(p.polrelid, t.tgrelid, w.ev_class, k.conrelid, i.indrelid, st.stxrelid,
         CASE WHEN d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass THEN d.objid END)
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) r.relnamespace
  -- Its own name and owner tell a partition of the audit: it need not be attached yet.
  LEFT JOIN LATERAL (
      SELECT u.rolsuper FROM pg_catalog.pg_class o JOIN pg_catalog.pg_roles u ON u.oid OPERATOR(pg_catalog.=) o.relowner
       WHERE o.oid OPERATOR(pg_catalog.=) r.oid AND n.nspname OPERATOR(pg_catalog.=) 'tenancy' AND r.relname OPERATOR(pg_catalog.~) '^event(_actor)?_[0-9]{4}_[0-9]{2}$') AS audit (of) ON true
 WHERE d.classid IS NULL
    OR (r.relpersistence IS NULL OR r.relpersistence OPERATOR(pg_catalog.<>) 't')
   AND (n.nspname OPERATOR(pg_catalog.=) 'tenancy'
        OR d.schema_name OPERATOR(pg_catalog.=) 'tenancy'
        OR d.object_type IN ('policy', 'extension', 'publication', 'publication relation', 'publication namespace')
        OR d.object_type OPERATOR(pg_catalog.=) 'schema' AND d.object_identity OPERATOR(pg_catalog.=) 'tenancy'
        OR EXISTS (SELECT FROM pg_catalog.pg_policy x
                    WHERE x.polrelid OPERATOR(pg_catalog.=) r.oid AND x.polname OPERATOR(pg_catalog.=) 'tenancy_isolation')
        OR EXISTS (SELECT FROM pg_catalog.pg_trigger x JOIN pg_catalog.pg_proc f ON f.oid OPERATOR(pg_catalog.=) x.tgfoid
                     JOIN pg_catalog.pg_namespace o ON o.oid OPERATOR(pg_catalog.=) f.pronamespace
                    WHERE x.tgrelid OPERATOR(pg_catalog.=) r.oid AND o.nspname OPERATOR(pg_catalog.=) 'tenancy'))
