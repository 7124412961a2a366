# A new table and a new relation. The guardrail `new_tables` protects the table.
class AddReviews < ActiveRecord::Migration[6.1]
  def up
    create_table :review do |t|
      t.uuid :organization_id, null: false
      t.references :product, null: false, foreign_key: { to_table: :product }
      t.integer :stars, null: false
    end
    add_reference :purchase, :origin, foreign_key: { to_table: :warehouse }
  end

  # The relation goes with its column. `remove_reference` drops the relation first, which needs a reason.
  def down
    remove_column :purchase, :origin_id
    drop_table :review
  end
end
