class Rename < ActiveRecord::Migration[6.1]
  def change
    rename_column :customer, :name, :full_name
    rename_column :purchase, :origin_id, :sent_from_id
    rename_table :review, :rating
  end
end
