-- A query on the parent reads the rows of its partitions and children under the policies of the parent alone.
WITH up AS (
    SELECT i.inhparent AS parent, i.inhrelid AS child, c.relispartition AS partition,
           EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.inhparent AND NOT a.attisdropped
                      AND a.attname IN ('organizationId', 'organization_id', 'org_id', 'tenant_id'))
           AND NOT EXISTS (SELECT FROM pg_inherits g WHERE g.inhrelid = i.inhparent) AS protectable
      FROM pg_inherits i
      JOIN tenancy.protected_tables() t ON t."table" = i.inhrelid
      JOIN pg_class c ON c.oid = i.inhrelid
     WHERE NOT EXISTS (SELECT FROM tenancy.protected_tables() p WHERE p."table" = i.inhparent))
SELECT u.parent::regclass::text, format('a query on %s reads %s past the policies of the latter', u.parent::regclass,
    min(u.child::regclass::text)),
       CASE WHEN bool_and(u.protectable) THEN format('SELECT tenancy.protect(%L)', u.parent::regclass)
            ELSE string_agg(CASE WHEN u.partition THEN format('ALTER TABLE %s DETACH PARTITION %s', u.parent::regclass,
                u.child::regclass)
                                 ELSE format('ALTER TABLE %s NO INHERIT %s', u.child::regclass, u.parent::regclass) END,
                                     '; ' ORDER BY u.child) END,
       NULL::text
  FROM up u
 GROUP BY u.parent
