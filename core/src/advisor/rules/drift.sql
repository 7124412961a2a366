SELECT d."table"::text, d.problem, format('SELECT tenancy.protect(%L)', d."table"), CASE WHEN d.exposed THEN 'error'
    ELSE 'warning' END
  FROM tenancy.drift() d
