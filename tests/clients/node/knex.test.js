// Knex' migrations of examples/shop, forward and back, by its command line.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

import knex from 'knex';

import { sqlstateOf } from 'pg-tenancy';
import { withIdentity } from 'pg-tenancy/knex';

import { createShop } from './shop.js';

let shop;

async function migrate(...command) {
  const { stdout } = await promisify(execFile)(process.execPath,
    [path.resolve('node_modules/knex/bin/cli.js'), ...command],
    { cwd: 'shop/knex', env: { ...process.env, DATABASE_URL: shop.ownerUrl } });
  return stdout;
}

const step = async (command, file) => {
  assert.match(await migrate(command), new RegExp(file));
  await shop.intact();
};

before(async () => {
  shop = await createShop('knex');
  await migrate('migrate:up');
});

after(() => shop?.destroy());

test('the schema is protected by a migration, and again after a roll back', async () => {
  const plain = await shop.foreignKeys();
  await step('migrate:up', '02_protect.js');
  await migrate('migrate:down');
  assert.deepEqual(await shop.foreignKeys(), plain);
  await step('migrate:up', '02_protect.js');
  assert.equal(await shop.unprotected(), 0);
});

test('a new table and a new relation, with the organization in their keys', async () => {
  await step('migrate:up', '03_reviews.js');
  const keys = await shop.foreignKeys();
  assert.ok(keys.includes('review FOREIGN KEY (organization_id, product_id) REFERENCES product(organization_id, id)'));
  assert.ok(keys.includes('purchase FOREIGN KEY (organization_id, warehouse_id) REFERENCES warehouse(organization_id, id)'));
});

test('two members write and read their own, with relations', async () => {
  const db = knex({ client: 'pg', connection: shop.app, pool: { min: 0, max: 2 } });
  const as = (subject, work) => withIdentity(db, shop.token(subject), work);
  const ids = {};
  try {
    for (const subject of ['alice', 'bob']) {
      await as(subject, async (tx) => {
        const [from] = await tx('warehouse').insert({ name: `of ${subject}` }).returning('id');
        const [customer] = await tx('customer').insert({ name: subject, email: '' }).returning('id');
        await tx('customer').insert({ name: 'friend', email: '', referred_by: customer.id });
        await tx('address').insert({ customer_id: customer.id, city: 'Turin' });
        await tx('purchase').insert({ customer_id: customer.id, warehouse_id: from.id, placed_at: new Date() });
        ids[subject] = customer.id;
      });
    }
    for (const subject of ['alice', 'bob']) {
      const rows = await as(subject, (tx) => tx('purchase').join('customer', 'customer.id', 'purchase.customer_id')
        .join('warehouse', 'warehouse.id', 'purchase.warehouse_id')
        .select('customer.name', 'warehouse.name as from', 'purchase.organization_id'));
      assert.deepEqual(rows, [{ name: subject, from: `of ${subject}`, organization_id: shop.organizations[subject] }]);
    }
    await assert.rejects(as('alice', (tx) => tx('address').insert({ customer_id: ids.bob, city: 'x' })),
      (error) => sqlstateOf(error) === '23503');
    await as('bob', async (tx) => {
      await tx('purchase').delete();
      await tx('customer').where({ referred_by: ids.bob }).delete();
      await tx('customer').where({ id: ids.bob }).delete();
    });
    assert.equal((await as('alice', (tx) => tx('address'))).length, 1, "a cascade stayed within bob's rows");
    assert.equal((await as('bob', (tx) => tx('address'))).length, 0);
  } finally {
    await db.destroy();
  }
});

test('names change and things are dropped, and all of it is rolled back', async () => {
  const day3 = await shop.foreignKeys();
  await step('migrate:up', '04_names.js');
  await step('migrate:up', '05_drops.js');
  await step('migrate:down', '05_drops.js');
  await step('migrate:down', '04_names.js');
  assert.deepEqual(await shop.foreignKeys(), day3);
  await step('migrate:down', '03_reviews.js');
  await step('migrate:latest', 'Batch');
  await step('migrate:rollback', 'Batch');
});

test('without a reason a dropped relation is refused, and nothing is done', async () => {
  const keys = await shop.foreignKeys();
  const db = knex({ client: 'pg', connection: shop.owner });
  try {
    await assert.rejects(db.schema.alterTable('address', (table) => table.dropForeign('customer_id')), { code: '42501' });
  } finally {
    await db.destroy();
  }
  assert.deepEqual(await shop.foreignKeys(), keys);
});
