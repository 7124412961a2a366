-- What a policy reads itself, and what the functions read that it calls.
WITH source (policy, text, called) AS (
    SELECT p.oid, COALESCE(pg_get_expr(p.polqual, p.polrelid), '') || ' ' || COALESCE(pg_get_expr(p.polwithcheck,
        p.polrelid), ''), NULL::regprocedure FROM pg_policy p
     UNION ALL
    SELECT d.objid, f.prosrc || ' ' || COALESCE(pg_get_function_sqlbody(f.oid), ''), f.oid
      FROM pg_depend d
      JOIN pg_proc f ON d.refclassid = 'pg_proc'::regclass AND f.oid = d.refobjid
          AND f.pronamespace <> 'tenancy'::regnamespace
     WHERE d.classid = 'pg_policy'::regclass)
SELECT DISTINCT ON (p.oid) format('%s.%I', c.oid::regclass, p.polname),
       format('the policy %I of %s reads a setting%s that any SQL of the session can change', p.polname,
           c.oid::regclass, COALESCE(', in ' || s.called::text || ',', '')),
       CASE WHEN t.protected OR NOT t.protectable THEN format('DROP POLICY %I ON %s', p.polname, c.oid::regclass)
            ELSE format('DROP POLICY %I ON %s; SELECT tenancy.protect(%L%s)', p.polname, c.oid::regclass,
                c.oid::regclass, CASE WHEN t.whole THEN '' ELSE ', null_rows => ''nobody''' END) END, NULL
  FROM source s
  JOIN pg_policy p ON p.oid = s.policy
  JOIN pg_class c ON c.oid = p.polrelid AND c.relpersistence <> 't'
 CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM tenancy.protected_tables() t WHERE t."table" = c.oid) AS protected,
                            count(a.attname) > 0 AS protectable,
                            (array_agg(a.attnotnull ORDER BY
                                array_position('{organizationId,organization_id,org_id,tenant_id}',
                                    a.attname::text)))[1] AS whole
                       FROM pg_attribute a
                      WHERE a.attrelid = c.oid AND NOT a.attisdropped
                          AND a.attname IN ('organizationId', 'organization_id', 'org_id', 'tenant_id')) t
 WHERE s.text ~ '\mcurrent_setting\M'
   AND NOT EXISTS (SELECT FROM tenancy.exclusions() e WHERE e."table" = c.oid)
 ORDER BY p.oid, s.called::oid NULLS FIRST
