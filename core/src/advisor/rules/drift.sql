SELECT d."table"::text, d.problem, format('SELECT tenancy.protect(%L)', d."table"), CASE WHEN d.open THEN 'error' ELSE 'warning' END
  FROM tenancy.drift() d
