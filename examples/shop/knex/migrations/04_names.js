// Other names for a column, a relation and a table.

export async function up(knex) {
  await knex.schema.alterTable('customer', (table) => table.renameColumn('name', 'full_name'));
  await knex.schema.alterTable('purchase', (table) => table.renameColumn('warehouse_id', 'origin_id'));
  await knex.schema.renameTable('review', 'rating');
}

export async function down(knex) {
  await knex.schema.renameTable('rating', 'review');
  await knex.schema.alterTable('purchase', (table) => table.renameColumn('origin_id', 'warehouse_id'));
  await knex.schema.alterTable('customer', (table) => table.renameColumn('full_name', 'name'));
}
