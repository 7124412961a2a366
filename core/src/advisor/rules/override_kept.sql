SELECT CASE WHEN s.setrole = 0 THEN format('database %I', d.datname)
            WHEN s.setdatabase = 0 THEN format('role %I', pg_get_userbyid(s.setrole))
            ELSE format('role %I in database %I', pg_get_userbyid(s.setrole), d.datname) END,
       format('every session of %s passes the guardrails, because: %s',
              CASE WHEN s.setrole = 0 THEN 'the database' ELSE quote_ident(pg_get_userbyid(s.setrole)) END,
                  substr(c.setting, 25)),
       CASE WHEN s.setrole = 0 AND s.setdatabase = 0 THEN 'ALTER ROLE ALL RESET tenancy.override_reason'
            WHEN s.setrole = 0 THEN format('ALTER DATABASE %I RESET tenancy.override_reason', d.datname)
            WHEN s.setdatabase = 0 THEN format('ALTER ROLE %I RESET tenancy.override_reason',
                pg_get_userbyid(s.setrole))
            ELSE format('ALTER ROLE %I IN DATABASE %I RESET tenancy.override_reason', pg_get_userbyid(s.setrole),
                d.datname) END,
       NULL::text
  FROM pg_db_role_setting s
  JOIN LATERAL unnest(s.setconfig) AS c (setting) ON c.setting LIKE 'tenancy.override\_reason=_%'
  JOIN pg_database d ON d.datname = current_database() AND s.setdatabase IN (0, d.oid)
