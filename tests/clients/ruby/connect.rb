# PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE name the pooler.
ActiveRecord::Base.establish_connection(
  adapter: 'postgresql',
  prepared_statements: false, # names of statements and PgBouncer do not go together
  advisory_locks: false       # migrations: PgBouncer in transaction mode cannot hold them
)
