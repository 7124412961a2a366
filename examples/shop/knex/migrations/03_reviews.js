// A new table and a new relation. The guardrail `new_tables` protects the table.

export async function up(knex) {
  await knex.schema.createTable('review', (table) => {
    table.bigIncrements('id');
    table.uuid('organization_id').notNullable();
    table.bigInteger('product_id').notNullable().references('id').inTable('product');
    table.integer('stars').notNullable();
  });
  await knex.schema.alterTable('purchase', (table) => {
    table.bigInteger('warehouse_id').references('id').inTable('warehouse');
  });
}

export async function down(knex) {
  await knex.schema.alterTable('purchase', (table) => {
    table.dropForeign('warehouse_id');
    table.dropColumn('warehouse_id');
  });
  await knex.schema.dropTable('review');
}
