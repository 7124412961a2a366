# Rails' transactional tests, in a database with tenancy.several_identities = on: two members in one transaction, which
# is undone after each test.

require 'minitest/autorun'
require 'active_support'
require 'active_support/test_case'
require_relative 'identity'
require_relative 'connect'
require 'active_record/fixtures'

class Invoice < ActiveRecord::Base
  self.table_name = 'invoice'
end

class TransactionalTest < ActiveSupport::TestCase
  include ActiveRecord::TestFixtures
  self.use_transactional_tests = true

  def as(subject, &work)
    with_identity(ENV.fetch("TOKEN_#{subject}"), &work)
  end

  def find_own_rows_alone
    assert_equal 1, ActiveRecord::Base.connection.open_transactions
    as('ALICE') { assert_empty Invoice.where(title: 'of the test') }
    as('ALICE') { Invoice.create!(title: 'of the test') }
    as('BOB') { assert_equal [], Invoice.where(title: 'of the test').to_a }
    as('ALICE') { assert_equal 1, Invoice.where(title: 'of the test').count }
    error = assert_raises(ActiveRecord::StatementInvalid) { as('VICTOR') { Invoice.create!(title: 'of a reader') } }
    assert_equal 403, status_of(error)
  end

  test 'two members of one transaction find their own rows alone' do
    find_own_rows_alone
  end

  test 'nothing is left of another test' do
    find_own_rows_alone
  end
end
