-- Every role can SHOW a setting; before the library is loaded nothing hides it. So no secret may stand in one.
SELECT s.name, format('%s can be read by every role, and its text looks as if it held a secret', s.name),
       '-- name a file or a command that reads the secret from elsewhere, in postgresql.conf', NULL::text
  FROM (SELECT n.name, current_setting(n.name, true) AS value
          FROM unnest(ARRAY['tenancy.signing_key_command', 'tenancy.signing_key_file', 'tenancy.commitment_key_file',
              'tenancy.secret_key_command', 'tenancy.secret_key_file', 'tenancy.key_wrap_command',
              'tenancy.jwks_directory']) AS n (name)) s
 WHERE s.value ~* '(PRIVATE.?KEY|PASSWORD=|TOKEN=|SECRET=|BEARER |AKIA[0-9A-Z]{16}|[A-Za-z0-9+/]{43}=)'
