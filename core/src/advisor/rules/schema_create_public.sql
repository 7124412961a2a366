SELECT n.nspname::text,
    format('PUBLIC may create objects in %I, where protected tables are: a function or table there can stand in for another', n.nspname), format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', n.nspname), NULL
  FROM pg_namespace n
 CROSS JOIN LATERAL aclexplode(n.nspacl) g
 WHERE g.grantee = 0 AND g.privilege_type = 'CREATE'
   AND EXISTS (SELECT FROM tenancy.protected_tables() t JOIN pg_class c ON c.oid = t."table"
       WHERE c.relnamespace = n.oid)
