export async function up(knex) {
  await knex.raw("SELECT tenancy.set_guardrail('new_tables', 'enforce', 'every new table has its tenant')");
  await knex.raw("SELECT tenancy.protect_schema('public')");
}

export async function down(knex) {
  await knex.raw("SELECT tenancy.unprotect_schema('public')");
  await knex.raw('SELECT tenancy.unprotect(t) FROM unnest(?::regclass[]) t', [[
    'payment', 'invoice', 'shipment', 'purchase_line', 'purchase', 'warehouse', 'address', 'customer', 'product', 'category',
  ]]);
}
