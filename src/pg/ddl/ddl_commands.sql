SELECT d.object_type, d.object_identity, n.nspname::text, r.relname::text, r.oid,
       CASE
           WHEN p.oid IS NOT NULL THEN json_build_object(
               'policy_command', CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                   WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
               'permissive', p.polpermissive,
               'roles', (SELECT json_agg(CASE WHEN g.oid = 0 THEN 'public'
                   ELSE COALESCE(u.rolname::text, g.oid::text) END ORDER BY g.place)
                           FROM unnest(p.polroles) WITH ORDINALITY AS g (oid, place)
                           LEFT JOIN pg_roles u ON u.oid = g.oid),
               'using', pg_get_expr(p.polqual, p.polrelid),
               'check', pg_get_expr(p.polwithcheck, p.polrelid))
           WHEN t.oid IS NOT NULL THEN json_build_object(
               'function', (SELECT format('%I.%I', fn.nspname, f.proname)
                              FROM pg_proc f JOIN pg_namespace fn ON fn.oid = f.pronamespace
                             WHERE f.oid = t.tgfoid),
               'enabled', t.tgenabled)
           WHEN r.oid = d.objid THEN json_build_object(
               'owner', pg_get_userbyid(r.relowner), 'row_security', r.relrowsecurity, 'force_row_security',
                   r.relforcerowsecurity)
       END::text,
       COALESCE(audit.of, false), d.command
  FROM pg_event_trigger_ddl_commands() d
  LEFT JOIN pg_policy p
    ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
  LEFT JOIN pg_trigger t
    ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
  LEFT JOIN pg_rewrite w
    ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
  LEFT JOIN pg_constraint k
    ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
  LEFT JOIN pg_index i
    ON d.classid = 'pg_class'::regclass AND i.indexrelid = d.objid
  LEFT JOIN pg_statistic_ext st
    ON d.classid = 'pg_statistic_ext'::regclass AND st.oid = d.objid
  LEFT JOIN pg_class r
    ON r.oid = COALESCE(p.polrelid, t.tgrelid, w.ev_class, k.conrelid, i.indrelid, st.stxrelid,
         CASE WHEN d.classid = 'pg_class'::regclass THEN d.objid END)
  LEFT JOIN pg_namespace n ON n.oid = r.relnamespace
  -- Its own name and owner tell a partition of the audit: it need not be attached yet.
  LEFT JOIN LATERAL (
      SELECT u.rolsuper FROM pg_class o JOIN pg_roles u ON u.oid = o.relowner
       WHERE o.oid = r.oid AND n.nspname = 'tenancy'
         AND r.relname ~ '^event_(actor|batch)_[0-9]{4}_[0-9]{2}$') AS audit (of)
           ON true
 WHERE d.classid IS NULL
    OR (r.relpersistence IS NULL OR r.relpersistence <> 't')
   AND (n.nspname = 'tenancy'
        OR d.schema_name = 'tenancy'
        OR d.object_type IN ('policy', 'extension', 'publication', 'publication relation', 'publication namespace')
        OR d.object_type = 'schema' AND d.object_identity = 'tenancy'
        OR EXISTS (SELECT FROM pg_policy x
                    WHERE x.polrelid = r.oid AND x.polname = 'tenancy_isolation')
        OR EXISTS (SELECT FROM pg_trigger x JOIN pg_proc f ON f.oid = x.tgfoid
                     JOIN pg_namespace o ON o.oid = f.pronamespace
                    WHERE x.tgrelid = r.oid AND o.nspname = 'tenancy'))
