# Every table with an organization now, and every later one as it is created.
class ProtectShop < ActiveRecord::Migration[6.1]
  def up
    execute "SELECT tenancy.set_guardrail('new_tables', 'enforce', 'every new table has its tenant')"
    execute "SELECT tenancy.protect_schema('public')"
  end

  def down
    execute "SELECT tenancy.unprotect_schema('public')"
    execute 'SELECT tenancy.unprotect("table") FROM tenancy.protected_tables()'
  end
end
