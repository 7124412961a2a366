# A relation with its column, a relation whose column stays, and a table.
class DropRelations < ActiveRecord::Migration[6.1]
  def up
    remove_column :shipment, :warehouse_id
    execute "SET LOCAL tenancy.override_reason = 'TICKET-7: purchases come from other warehouses too'"
    remove_foreign_key :purchase, column: :sent_from_id
    execute "SELECT tenancy.protect('purchase')" # tenancy.drift() does not miss it from here on
    drop_table :rating
  end

  def down
    create_table :rating do |t|
      t.uuid :organization_id, null: false
      t.references :product, null: false, foreign_key: { to_table: :product }
      t.integer :stars, null: false
    end
    add_foreign_key :purchase, :warehouse, column: :sent_from_id
    add_reference :shipment, :warehouse, foreign_key: { to_table: :warehouse }
  end
end
