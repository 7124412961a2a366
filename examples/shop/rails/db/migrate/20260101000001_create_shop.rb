# The shop, as the Rails guides have a developer write it. `organization_id` is an ordinary column.
class CreateShop < ActiveRecord::Migration[6.1]
  def shop_table(name)
    create_table name do |t|
      t.uuid :organization_id, null: false
      yield t
    end
  end

  def change
    shop_table :category do |t|
      t.references :parent, foreign_key: { to_table: :category }
      t.text :name, null: false
    end
    shop_table :product do |t|
      t.references :category, foreign_key: { to_table: :category }
      t.text :sku, null: false
      t.text :name, null: false
      t.decimal :price, null: false
    end
    shop_table :customer do |t|
      t.text :name, null: false
      t.text :email, null: false
      t.references :referred_by, foreign_key: { to_table: :customer }
    end
    shop_table :address do |t|
      t.references :customer, null: false, foreign_key: { to_table: :customer, on_delete: :cascade }
      t.text :city, null: false
    end
    shop_table(:warehouse) { |t| t.text :name, null: false }
    shop_table :purchase do |t|
      t.references :customer, null: false, foreign_key: { to_table: :customer }
      t.column :placed_at, :timestamptz, null: false
      t.text :note
    end
    shop_table :purchase_line do |t|
      t.references :purchase, null: false, foreign_key: { to_table: :purchase, on_delete: :cascade }
      t.references :product, null: false, foreign_key: { to_table: :product }
      t.integer :quantity, null: false
    end
    shop_table :shipment do |t|
      t.references :purchase, null: false, foreign_key: { to_table: :purchase }
      t.references :warehouse, foreign_key: { to_table: :warehouse }
    end
    shop_table :invoice do |t|
      t.references :purchase, foreign_key: { to_table: :purchase }
      t.references :corrects, foreign_key: { to_table: :invoice }
      t.decimal :total, null: false
    end
    shop_table :payment do |t|
      t.references :invoice, null: false, foreign_key: { to_table: :invoice }
      t.decimal :amount, null: false
    end
  end
end
