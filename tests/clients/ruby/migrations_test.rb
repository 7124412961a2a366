# ActiveRecord's migrations over the shop in examples/shop/rails: adopt, migrate twice, roll back; schema.rb and
# structure.sql. The owner of the tables is no superuser.

require 'minitest/autorun'
require 'pg'
require 'stringio'
require 'tempfile'
require_relative 'identity'

MIGRATIONS = File.expand_path('../../../examples/shop/rails/db/migrate', __dir__)
DATABASE = ENV.fetch('PGDATABASE')
SUBJECTS = %w[ALICE BOB].freeze
OWNER = 'test_tenancy_shop_owner'.freeze
APPLICATION = 'test_tenancy_application'.freeze
SHOP = %w[address category customer invoice payment product purchase purchase_line shipment warehouse].freeze

class Migrations < Minitest::Test
  # By the socket, where local users are trusted.
  def superuser(database)
    PG.connect(dbname: database, user: 'postgres')
  end

  # A new schema in the database of the suite, which has the issuer and the members.
  def setup
    @superuser = superuser(DATABASE)
    @superuser.exec(<<~SQL)
      SET client_min_messages = error;
      SELECT tenancy.unprotect_schema('public');
      DROP SCHEMA public CASCADE;
      CREATE SCHEMA public;
      GRANT USAGE ON SCHEMA public TO PUBLIC;
      DO $$ BEGIN CREATE ROLE #{OWNER} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
      GRANT tenancy_admin TO #{OWNER};
      GRANT CREATE ON SCHEMA public TO #{OWNER};
      ALTER DEFAULT PRIVILEGES FOR ROLE #{OWNER} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO #{APPLICATION};
      ALTER DEFAULT PRIVILEGES FOR ROLE #{OWNER} GRANT USAGE ON SEQUENCES TO #{APPLICATION};
    SQL
    connect(OWNER)
    ActiveRecord::Migration.verbose = false
  end

  def teardown
    ActiveRecord::Base.remove_connection
    @superuser.close
  end

  def connect(user)
    ActiveRecord::Base.establish_connection(adapter: 'postgresql', database: DATABASE, username: user)
  end

  def migrations
    ActiveRecord::MigrationContext.new(MIGRATIONS, ActiveRecord::SchemaMigration)
  end

  def column(sql)
    @superuser.exec(sql).column_values(0)
  end

  def assert_protected(tables)
    assert_empty column('SELECT problem FROM tenancy.drift()')
    protected = "SELECT polrelid::regclass FROM pg_policy WHERE polname = 'tenancy_isolation' ORDER BY 1::text"
    assert_equal tables.sort, column(protected).sort
    plain = "SELECT conrelid::regclass FROM pg_constraint
              WHERE contype = 'f' AND connamespace = 'public'::regnamespace AND cardinality(conkey) <> 2"
    assert_empty column(plain)
  end

  # Each tenant writes, and finds the own rows alone.
  def assert_separate
    connect(APPLICATION)
    warehouse = Class.new(ActiveRecord::Base) { self.table_name = 'warehouse' }
    as = ->(subject, &work) { with_identity(ENV.fetch("TOKEN_#{subject}"), &work) }
    SUBJECTS.each { |subject| as.call(subject) { warehouse.create!(name: subject) } }
    SUBJECTS.each { |subject| assert_equal([subject], as.call(subject) { warehouse.distinct.pluck(:name) }) }
    assert_raises(ActiveRecord::StatementInvalid) { warehouse.count }
    connect(OWNER)
  end

  def relations(table)
    ActiveRecord::Base.connection.foreign_keys(table).map { |key| [key.column, key.to_table, key.primary_key] }
  end

  def test_the_shop_is_adopted_migrated_twice_and_rolled_back
    migrations.up(20260101000001)
    before = relations('shipment')
    migrations.up(20260101000002)
    assert_protected(SHOP)
    assert_separate
    assert_equal before, relations('shipment'), 'Rails sees the relations as they were'

    migrations.up(20260102000001)
    assert_protected(SHOP + ['review'])
    migrations.up(20260103000001)
    assert_protected(SHOP + ['rating'])
    migrations.up
    assert_protected(SHOP)
    assert_separate

    [%w[rating], %w[review], []].each do |more|
      migrations.rollback(1)
      assert_protected(SHOP + more)
    end
    migrations.rollback(1)
    assert_empty column('SELECT "table" FROM tenancy.protected_tables()')
    migrations.rollback(1)
    assert_empty ActiveRecord::Base.connection.tables & SHOP
  end

  def test_a_relation_is_not_dropped_without_a_reason
    migrations.up(20260101000002)
    error = assert_raises(ActiveRecord::StatementInvalid) do
      ActiveRecord::Base.connection.remove_foreign_key(:shipment, :warehouse)
    end
    assert_equal 403, status_of(error)
    assert_protected(SHOP)
  end

  # schema.rb has the relations, and neither policies nor triggers.
  def test_schema_rb_names_each_relation_once
    migrations.up
    dumped = StringIO.new
    ActiveRecord::SchemaDumper.dump(ActiveRecord::Base.connection, dumped)
    keys = dumped.string.scan(/add_foreign_key "(\w+)", "(\w+)"(?:, column: "(\w+)")?/).sort_by(&:to_s)
    assert_equal 11, keys.size
    refute_includes keys.flatten, 'organization_id'
    refute_includes dumped.string, 'tenancy_isolation'
  end

  # structure.sql has everything: what is loaded from it is protected.
  def test_structure_sql_loads_into_a_protected_database
    migrations.up
    loaded = "#{DATABASE}_loaded"
    structure = Tempfile.new(['structure', '.sql'])
    tasks(DATABASE).structure_dump(structure.path, nil)
    @superuser.exec("DROP DATABASE IF EXISTS #{loaded} WITH (FORCE)")
    @superuser.exec("CREATE DATABASE #{loaded} TEMPLATE template0")
    tasks(loaded).structure_load(structure.path, nil)
    there = superuser(loaded)
    assert_empty there.exec('SELECT problem FROM tenancy.drift()').column_values(0)
    assert_equal SHOP.size, there.exec('SELECT FROM tenancy.protected_tables()').ntuples
  ensure
    there&.close
    structure&.unlink
    @superuser.exec("DROP DATABASE IF EXISTS #{loaded} WITH (FORCE)")
  end

  def tasks(database)
    settings = { adapter: 'postgresql', database: database, username: 'postgres' }
    config = ActiveRecord::DatabaseConfigurations::HashConfig.new('test', 'primary', settings)
    ActiveRecord::Tasks::PostgreSQLDatabaseTasks.new(config)
  end
end
