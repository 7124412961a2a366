WITH RECURSIVE part (oid, root) AS (
    SELECT i.inhrelid, i.inhparent FROM pg_inherits i JOIN tenancy.protected_tables() p ON p."table" = i.inhparent
     UNION
    SELECT i.inhrelid, part.root FROM part JOIN pg_inherits i ON i.inhparent = part.oid)
SELECT DISTINCT ON (part.oid) part.oid::regclass::text, format('%s is part of %s and not protected itself',
    part.oid::regclass, part.root::regclass),
       format('SELECT tenancy.protect(%L)', part.root::regclass), NULL
  FROM part
  JOIN pg_class c ON c.oid = part.oid AND c.relpersistence <> 't'
 WHERE NOT EXISTS (SELECT FROM tenancy.protected_tables() p WHERE p."table" = part.oid)
   AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = part.root)
 ORDER BY part.oid, part.root
