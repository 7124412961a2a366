# ActiveRecord behind PgBouncer.

require 'logger'
require 'minitest/autorun'
require 'stringio'
require_relative 'identity'
require_relative 'connect'

ACME = 'aaaaaaaa-0000-4000-8000-000000000001'.freeze
GLOBEX = 'bbbbbbbb-0000-4000-8000-000000000002'.freeze
OWN = { 'ALICE' => ['acme one', 'acme two', 'acme three'], 'BOB' => ['globex one', 'globex two'] }.freeze

class Invoice < ActiveRecord::Base
  self.table_name = 'invoice'
end

class Clients < Minitest::Test
  def token(of)
    ENV.fetch("TOKEN_#{of}")
  end

  def titles
    Invoice.where('id < ?', 1000).order(:id).pluck(:title)
  end

  def assert_refused(sqlstate, status)
    error = assert_raises(ActiveRecord::StatementInvalid) { yield }
    assert_equal sqlstate, error.cause.result.error_field(PG::Result::PG_DIAG_SQLSTATE)
    assert_equal status, status_of(error)
  end

  def test_each_member_sees_their_own_rows_in_turn_on_one_connection
    20.times do
      OWN.each do |subject, own|
        assert_equal own, with_identity(token(subject)) { titles }
        assert_refused('28000', 401) { titles }
      end
    end
  end

  def test_threads_with_connections_of_their_own_see_their_own_rows
    threads = OWN.flat_map do |subject, own|
      Array.new(2) do
        Thread.new do
          ActiveRecord::Base.connection_pool.with_connection do
            Array.new(10) { with_identity(token(subject)) { titles } }.uniq == [own]
          end
        end
      end
    end
    assert_equal [true] * 4, threads.map(&:value)
  end

  def test_the_rows_of_another_organization_are_not_found_by_their_id
    with_identity(token('ALICE')) do
      assert_equal 'acme one', Invoice.find(1).title
      assert_raises(ActiveRecord::RecordNotFound) { Invoice.find(101) }
      assert_equal 0, Invoice.where(id: 101).update_all(total: 0)
      assert_equal 0, Invoice.where(id: 101).delete_all
    end
  end

  def test_a_new_row_belongs_to_the_organization_of_the_member
    title = "it's; -- 世界 $1"
    invoice = with_identity(token('BOB'), 'ruby-7') { Invoice.create!(title: title, total: '12.50') }
    assert_nil invoice.organization_id # the database has filled it in; reload shows it
    with_identity(token('BOB')) { assert_equal [title, GLOBEX], [invoice.reload.title, invoice.organization_id] }
    with_identity(token('ALICE')) { assert_nil Invoice.find_by(id: invoice.id) }
  end

  def test_without_a_token_nothing_is_shown
    assert_refused('28000', 401) { titles }
    assert_refused('28000', 401) { with_identity('') { titles } }
    assert_refused('28000', 401) { with_identity(nil) { titles } }
  end

  def test_an_expired_token_is_refused
    assert_refused('28000', 401) { with_identity(token('EXPIRED')) { titles } }
    refute ActiveRecord::Base.connection.transaction_open?
  end

  def test_a_reader_reads_and_may_not_write
    assert_equal OWN['ALICE'], with_identity(token('VICTOR')) { titles }
    assert_refused('42501', 403) { with_identity(token('VICTOR')) { Invoice.find(1).update!(total: 1) } }
  end

  def test_a_row_for_another_organization_is_refused
    assert_refused('42501', 403) do
      with_identity(token('ALICE')) { Invoice.create!(organization_id: GLOBEX, title: 'smuggled') }
    end
  end

  def test_a_nested_transaction_undoes_its_own_work_and_keeps_the_member
    with_identity(token('ALICE')) do
      Invoice.create!(title: 'kept')
      assert_refused('42501', 403) do
        Invoice.transaction(requires_new: true) { Invoice.create!(organization_id: GLOBEX, title: 'undone') }
      end
      Invoice.transaction(requires_new: true) do
        Invoice.create!(title: 'undone')
        raise ActiveRecord::Rollback
      end
      assert_equal OWN['ALICE'], titles
    end
    nested = Invoice.where(title: %w[kept undone])
    assert_equal(['kept'], with_identity(token('ALICE')) { nested.pluck(:title) })
    assert_empty(with_identity(token('BOB')) { nested.pluck(:title) })
  end

  def test_an_error_of_the_application_undoes_everything_and_leaves_nothing_to_the_next_user
    assert_raises(ArgumentError) do
      with_identity(token('ALICE')) do
        Invoice.delete_all
        raise ArgumentError
      end
    end
    assert_refused('28000', 401) { titles }
    assert_equal OWN['BOB'], with_identity(token('BOB')) { titles }
    assert_equal OWN['ALICE'], with_identity(token('ALICE')) { titles }
  end

  def test_what_follows_a_swallowed_error_is_not_committed
    with_identity(token('ALICE')) do
      Invoice.create!(title: 'swallowed')
      assert_raises(ActiveRecord::StatementInvalid) { Invoice.where('1 / 0 = id').to_a }
    end
    assert_empty(with_identity(token('ALICE')) { Invoice.where(title: 'swallowed').to_a })
  end

  def test_other_errors_are_the_servers
    nonsense = -> { ActiveRecord::Base.connection.execute('nonsense') }
    assert_equal 500, status_of(assert_raises(ActiveRecord::StatementInvalid, &nonsense))
    assert_equal 500, status_of(ActiveRecord::StatementInvalid.new('without a cause'))
  end

  def test_the_log_does_not_show_the_token
    log = StringIO.new
    ActiveRecord::Base.logger = Logger.new(log)
    with_identity(token('ALICE')) { Invoice.where(title: 'a parameter').to_a }
    assert_includes log.string, 'a parameter'
    refute_includes log.string, token('ALICE')
  ensure
    ActiveRecord::Base.logger = nil
  end
end
