require 'active_record'

# One transaction as the member that the token names.
def with_identity(token, correlation_id = nil)
  ActiveRecord::Base.transaction do
    # What is named SCHEMA, Rails' log leaves out: it shows the parameters of other statements.
    ActiveRecord::Base.connection.exec_query(
      'SELECT tenancy.authenticate($1, correlation_id => $2)', 'SCHEMA', [token, correlation_id]
    )
    yield
  end
end

# What an API answers to an ActiveRecord::StatementInvalid: the SQLSTATE says who is to blame.
def status_of(error)
  # 28000: no, bad or expired token; no membership. 42501: the role may not.
  { '28000' => 401, '42501' => 403 }.fetch(error.cause&.result&.error_field(PG::Result::PG_DIAG_SQLSTATE), 500)
end
