# PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE name the pooler.
ActiveRecord::Base.establish_connection(
  adapter: 'postgresql',
  prepared_statements: false, # PgBouncer before 1.21, or without max_prepared_statements
  advisory_locks: false       # migrations: PgBouncer in transaction mode cannot hold them
)
