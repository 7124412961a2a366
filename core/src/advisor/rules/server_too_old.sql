SELECT 'server ' || current_setting('server_version'),
    format('the server is older than %s, which mended row-level security (CVE-2026-14666)', f.version),
       format('-- install PostgreSQL %s or newer and restart the server', f.version), NULL
  FROM (VALUES (15, 19), (16, 15), (17, 11), (18, 5)) AS v (major, minor)
 CROSS JOIN LATERAL (SELECT v.major || '.' || v.minor AS version) f
 WHERE current_setting('server_version_num')::integer / 10000 = v.major
     AND current_setting('server_version_num')::integer % 10000 < v.minor
