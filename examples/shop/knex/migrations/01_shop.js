// The shop, as Knex' documentation has a developer write it. `organization_id` is an ordinary column.

export async function up(knex) {
  const create = (name, columns) => knex.schema.createTable(name, (table) => {
    table.bigIncrements('id');
    table.uuid('organization_id').notNullable();
    columns(table);
  });
  const key = (table, name, target) => table.bigInteger(name).references('id').inTable(target);

  await create('category', (table) => {
    key(table, 'parent_id', 'category');
    table.text('name').notNullable();
  });
  await create('product', (table) => {
    key(table, 'category_id', 'category');
    table.text('sku').notNullable();
    table.text('name').notNullable();
    table.decimal('price', null).notNullable();
  });
  await create('customer', (table) => {
    table.text('name').notNullable();
    table.text('email').notNullable();
    key(table, 'referred_by', 'customer');
  });
  await create('address', (table) => {
    key(table, 'customer_id', 'customer').onDelete('CASCADE').notNullable();
    table.text('city').notNullable();
  });
  await create('warehouse', (table) => table.text('name').notNullable());
  await create('purchase', (table) => {
    key(table, 'customer_id', 'customer').notNullable();
    table.timestamp('placed_at').notNullable();
    table.text('note');
  });
  await create('purchase_line', (table) => {
    key(table, 'purchase_id', 'purchase').onDelete('CASCADE').notNullable();
    key(table, 'product_id', 'product').notNullable();
    table.integer('quantity').notNullable();
  });
  await create('shipment', (table) => {
    key(table, 'purchase_id', 'purchase').notNullable();
    key(table, 'warehouse_id', 'warehouse');
  });
  await create('invoice', (table) => {
    key(table, 'purchase_id', 'purchase');
    key(table, 'corrects', 'invoice');
    table.decimal('total', null).notNullable();
  });
  await create('payment', (table) => {
    key(table, 'invoice_id', 'invoice').notNullable();
    table.decimal('amount', null).notNullable();
  });
}

export async function down(knex) {
  const tables = ['payment', 'invoice', 'shipment', 'purchase_line', 'purchase', 'warehouse', 'address', 'customer',
    'product', 'category'];
  for (const table of tables) await knex.schema.dropTable(table);
}
