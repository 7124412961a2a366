SELECT 'tenancy.checkpoint',
       format('the newest checkpoint is of %s, and events have been sealed since: nobody outside could prove that these are not rewritten', coalesce(date_trunc('second', c.made_at)::text, 'never')),
       'SELECT tenancy.checkpoint()',
       NULL::text
  FROM (SELECT max(b.sealed_at) AS sealed_at, min(b.sealed_at) AS first FROM tenancy.block b) b
 CROSS JOIN (SELECT max(c.made_at) AS made_at FROM tenancy.checkpoint c) c
 WHERE (coalesce(current_setting('tenancy.signing_key_file', true), '') <> ''
     OR coalesce(current_setting('tenancy.signing_key_command', true), '') <> '')
   AND b.sealed_at > coalesce(c.made_at, '-infinity')
   AND coalesce(c.made_at, b.first) < now() - interval '1 hour'
