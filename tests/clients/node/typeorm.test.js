// TypeORM's synchronize, schema:log and migrations on the shop of examples/shop, which is protected after its first day.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

import { DataSource, EntitySchema } from 'typeorm';

import { quiet, withIdentity } from 'pg-tenancy/typeorm';

import { createShop } from './shop.js';
import * as entities from './shop/typeorm/entities.js';

let shop;

const ORGANIZATION = { name: 'organization_id', type: 'uuid' };
const ID = { type: 'bigint', primary: true, generated: 'increment' };
const to = (target, name) => ({ type: 'many-to-one', target, joinColumn: { name }, nullable: true });

// The models of a day: those of the shop with some in another form, or new.
const models = (changed = {}) => Object.values({ ...entities, ...changed }).filter(Boolean);
const altered = (entity, change) => {
  const { columns, relations, ...rest } = entity.options;
  return new EntitySchema({ ...rest, ...change({ columns: { ...columns }, relations: { ...relations } }) });
};

async function asOwner(list, work, options) {
  const { user: username, ...owner } = shop.owner;
  const source = new DataSource({
    type: 'postgres', ...owner, username, entities: list, installExtensions: false, migrationsTransactionMode: 'each',
    migrations: [], ...options,
  });
  await source.initialize();
  try {
    return await work(source);
  } finally {
    await source.destroy();
  }
}

const quietly = (list, work, options) => asOwner(list, (source) => work(quiet(source, { reason: 'migration' })), options);
const difference = async (source) => (await source.driver.createSchemaBuilder().log()).upQueries.map(({ query }) => query);

// What `typeorm migration:generate` writes into a file, as `typeorm migration:run` takes it.
let stamp = 1700000000000;
async function generated(list) {
  const sql = await quietly(list, (source) => source.driver.createSchemaBuilder().log());
  const run = (queries) => async (runner) => { for (const { query, parameters } of queries) await runner.query(query, parameters); };
  stamp += 1;
  const migration = class {
    up = run(sql.upQueries);
    down = run([...sql.downQueries].reverse());
  };
  Object.defineProperty(migration, 'name', { value: `change${stamp}` });
  return { migration, up: sql.upQueries.map(({ query }) => query) };
}

before(async () => {
  shop = await createShop('typeorm');
  await asOwner(models(), (source) => source.synchronize());
  await shop.protect();
});

after(() => shop?.destroy());

test('without the helper, the difference is the protection, and synchronize is refused without harm', async () => {
  const foreignKeys = await shop.foreignKeys();
  await asOwner(models(), async (source) => {
    assert.ok((await difference(source)).length > 30);
    await assert.rejects(source.synchronize(), (error) => ['42501', '2BP01'].includes(error.code));
  });
  assert.deepEqual(await shop.foreignKeys(), foreignKeys);
  await shop.intact();
});

test('the difference of unchanged models is empty, and synchronize does nothing', async () => {
  await quietly(models(), async (source) => {
    assert.deepEqual(await difference(source), []);
    await source.synchronize();
  });
  await shop.intact();
});

test('the command line takes the data source of the example', async () => {
  const { stdout } = await promisify(execFile)(process.execPath,
    ['node_modules/typeorm/cli.js', 'schema:log', '-d', 'shop/typeorm/data-source.js'],
    { env: { ...process.env, DATABASE_URL: shop.ownerUrl } });
  assert.match(stdout, /schema is up to date/);
});

const review = new EntitySchema({
  name: 'review',
  columns: { id: ID, organizationId: ORGANIZATION, stars: { type: 'integer' } },
  relations: { product: to('product', 'product_id') },
});
const shopOfTwo = () => ({
  review,
  Purchase: altered(entities.Purchase, ({ columns, relations }) => ({
    columns, relations: { ...relations, warehouse: to('warehouse', 'warehouse_id') },
  })),
});
const applied = [];

async function migrate(list, expected) {
  const { migration, up } = await generated(list);
  assert.equal(up.length, expected.length, up.join('\n'));
  up.forEach((query, n) => assert.match(query, expected[n]));
  applied.push(migration);
  await quietly(list, (source) => source.runMigrations(), { migrations: [...applied] });
  await quietly(list, async (source) => assert.deepEqual(await difference(source), []));
  await shop.intact();
}

async function revert(list) {
  await quietly(list, (source) => source.undoLastMigration(), { migrations: [...applied] });
  applied.pop();
  await quietly(list, async (source) => assert.deepEqual(await difference(source), []));
  await shop.intact();
}

test('a new model and a new relation come through, with the organization in their keys', async () => {
  await migrate(models({ review }), [/^CREATE TABLE "review"/, /^ALTER TABLE "review" ADD CONSTRAINT/]);
  await migrate(models(shopOfTwo()), [/^ALTER TABLE "purchase" ADD "warehouse_id"/, /^ALTER TABLE "purchase" ADD CONSTRAINT/]);
  const keys = await shop.foreignKeys();
  assert.ok(keys.includes('review FOREIGN KEY (organization_id, product_id) REFERENCES product(organization_id, id)'));
  assert.ok(keys.includes('purchase FOREIGN KEY (organization_id, warehouse_id) REFERENCES warehouse(organization_id, id)'));
});

test('two members write and read their own, with relations', async () => {
  const { user: username, ...app } = shop.app;
  const source = await new DataSource({
    type: 'postgres', ...app, username, entities: models(shopOfTwo()), installExtensions: false,
  }).initialize();
  const as = (subject, work) => withIdentity(source, shop.token(subject), work);
  const ids = {};
  try {
    for (const subject of ['alice', 'bob']) {
      await as(subject, async (manager) => {
        const warehouse = await manager.save('warehouse', { name: `of ${subject}` });
        const customer = await manager.save('customer', { name: subject, email: `${subject}@shop.example` });
        await manager.save('customer', { name: `friend of ${subject}`, email: '', referredBy: customer });
        await manager.save('address', { customer, city: 'Turin' });
        await manager.save('purchase', { customer, warehouse, placedAt: new Date() });
        ids[subject] = customer.id;
      });
    }
    for (const subject of ['alice', 'bob']) {
      await as(subject, async (manager) => {
        const purchases = await manager.find('purchase', { relations: { customer: true, warehouse: true } });
        assert.deepEqual(purchases.map((row) => [row.customer.name, row.warehouse.name]), [[subject, `of ${subject}`]]);
        assert.equal(purchases[0].organizationId, shop.organizations[subject]);
      });
    }
    await assert.rejects(as('alice', (manager) => manager.insert('address', { customer: { id: ids.bob }, city: 'x' })),
      { code: '23503' });
    await as('bob', (manager) => manager.delete('purchase', { customer: { id: ids.bob } }));
    await as('bob', (manager) => manager.delete('customer', { name: 'friend of bob' }));
    await as('bob', (manager) => manager.delete('customer', { id: ids.bob }));
    assert.equal(await as('alice', (manager) => manager.count('address')), 1, "a cascade stayed within bob's rows");
    assert.equal(await as('bob', (manager) => manager.count('address')), 0);
  } finally {
    await source.destroy();
  }
});

const renamedColumn = () => ({
  ...shopOfTwo(),
  Customer: altered(entities.Customer, ({ columns: { name, ...columns }, relations }) => ({
    columns: { ...columns, fullName: { ...name, name: 'full_name' } }, relations,
  })),
});
const renamedRelation = () => ({
  ...renamedColumn(),
  Shipment: altered(entities.Shipment, ({ columns, relations: { warehouse, ...relations } }) => ({
    columns, relations: { ...relations, origin: { ...warehouse, joinColumn: { name: 'origin_id' } } },
  })),
});
const droppedRelation = () => ({
  ...renamedRelation(),
  Purchase: altered(entities.Purchase, ({ columns, relations }) => ({
    columns: { ...columns, warehouseId: { name: 'warehouse_id', type: 'bigint', nullable: true } }, relations,
  })),
});
const droppedColumn = () => ({ ...droppedRelation(), Purchase: entities.Purchase });

test('a column and a relation are renamed', async () => {
  await migrate(models(renamedColumn()), [/^ALTER TABLE "customer" RENAME COLUMN "name" TO "full_name"/]);
  await migrate(models(renamedRelation()), [/DROP CONSTRAINT/, /RENAME COLUMN "warehouse_id" TO "origin_id"/, /ADD CONSTRAINT/]);
});

test('a relation, then its column are dropped', async () => {
  await migrate(models(droppedRelation()), [/^ALTER TABLE "purchase" DROP CONSTRAINT/]);
  await migrate(models(droppedColumn()), [/^ALTER TABLE "purchase" DROP COLUMN "warehouse_id"/]);
});

test('all of it is rolled back, one by one', async () => {
  for (const changes of [droppedRelation(), renamedRelation(), renamedColumn(), shopOfTwo(), { review }, {}]) {
    await revert(models(changes));
  }
  assert.equal((await shop.admin.query("SELECT to_regclass('public.review') AS there")).rows[0].there, null);
});

test('without a reason a dropped relation is refused, and the refusal says what to do', async () => {
  const list = models({ Address: altered(entities.Address, ({ columns }) => ({ columns, relations: {} })) });
  await asOwner(list, async (source) => {
    await assert.rejects(quiet(source).synchronize(), (error) => error.code === '42501' && /override_reason/.test(error.hint ?? error.driverError.hint));
  });
  await shop.intact();
});

test('the reason covers no other statement', async () => {
  await quietly(models(), async (source) => {
    for (const statement of ['ALTER TABLE customer DISABLE ROW LEVEL SECURITY', 'DROP POLICY tenancy_isolation ON customer',
      'ALTER TABLE customer ALTER COLUMN organization_id DROP NOT NULL', 'ALTER TABLE customer DROP COLUMN organization_id CASCADE']) {
      await assert.rejects(source.transaction((manager) => manager.query(statement)), { code: '42501' }, statement);
    }
  });
  await shop.intact();
});
