// A relation whose column stays, a relation with its column, and a table are dropped.

export async function up(knex) {
  await knex.schema.alterTable('purchase', (table) => table.dropForeign('origin_id', 'purchase_warehouse_id_foreign'));
  await knex.schema.alterTable('shipment', (table) => table.dropColumn('warehouse_id'));
  await knex.schema.dropTable('rating');
}

export async function down(knex) {
  await knex.schema.createTable('rating', (table) => {
    table.bigIncrements('id');
    table.uuid('organization_id').notNullable();
    table.bigInteger('product_id').notNullable().references('id').inTable('product');
    table.integer('stars').notNullable();
  });
  await knex.schema.alterTable('shipment', (table) => {
    table.bigInteger('warehouse_id').references('id').inTable('warehouse');
  });
  await knex.schema.alterTable('purchase', (table) => {
    table.foreign('origin_id', 'purchase_warehouse_id_foreign').references('id').inTable('warehouse');
  });
}
