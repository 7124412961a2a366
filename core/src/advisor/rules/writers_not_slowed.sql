-- Somebody has set the limit, and nothing comes of it; or the sealer stands still, so that writers pass the limit.
SELECT 'tenancy.max_unsealed_events', c.cause, c.remediation, NULL::text
  FROM pg_settings s
 CROSS JOIN LATERAL (
       SELECT 'The library is not in shared_preload_libraries, so writers never wait.',
              '-- add pg_tenancy to shared_preload_libraries, and restart the server'
        WHERE s.source <> 'default' AND current_setting('shared_preload_libraries') !~ '\mpg_tenancy\M'
       UNION ALL
       SELECT 'tenancy.seal_interval is 0, so no worker seals and writers never wait.',
              'ALTER SYSTEM RESET tenancy.seal_interval'
        WHERE s.source <> 'default' AND current_setting('tenancy.seal_interval') = '0'
          AND current_setting('shared_preload_libraries') ~ '\mpg_tenancy\M'
       UNION ALL
       SELECT format('%s events wait to be sealed, more than %s, and the sealer has made no progress for 10 seconds: '
                     'writers go on.', t.counted_events, t.event_limit),
              'SELECT tenancy.seal()'
         FROM tenancy.throttle_state() t WHERE t.given_up) AS c (cause, remediation)
 WHERE s.name = 'tenancy.max_unsealed_events' AND s.setting <> '0'
