SELECT format('database %I', d.datname),
       'a transaction may authenticate as several persons, one after another',
       format('ALTER DATABASE %I RESET tenancy.several_identities', d.datname),
       NULL::text
  FROM pg_database d
 WHERE d.datname = current_database()
   AND EXISTS (SELECT FROM pg_db_role_setting s, unnest(s.setconfig) AS c (setting)
                WHERE s.setdatabase = d.oid AND s.setrole = 0
                  AND lower(c.setting) ~ '^tenancy\.several_identities=(on|t|y|1)')
