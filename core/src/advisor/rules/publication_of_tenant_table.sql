SELECT format('%I / %s', p.pubname, t."table"),
    format('%I publishes every organization''s rows of %s: a subscriber is bound by no policy', p.pubname, t."table"),
       CASE WHEN p.puballtables OR s.oid IS NOT NULL THEN format('DROP PUBLICATION %I', p.pubname)
           ELSE format('ALTER PUBLICATION %I DROP TABLE %s', p.pubname, t."table") END, NULL
  FROM tenancy.protected_tables() t
  JOIN pg_class c ON c.oid = t."table"
  CROSS JOIN pg_publication p
  LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = t."table"
  LEFT JOIN pg_publication_namespace s ON s.pnpubid = p.oid AND s.pnnspid = c.relnamespace
 WHERE p.puballtables OR s.oid IS NOT NULL OR r.oid IS NOT NULL AND r.prqual IS NULL
