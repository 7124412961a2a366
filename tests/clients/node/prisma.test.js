// Prisma's client and its schema engine on the shop of examples/shop, which is protected after its first day.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

import { sqlstateOf, statusOf } from 'pg-tenancy';
import { identity, withIdentity, withOrganization } from 'pg-tenancy/prisma';

import { commands } from './prisma-engine.js';
import { createShop } from './shop.js';

let shop;
let prisma;
let first;
const migrations = [];

// The models of a day.
function schemaOf(...changes) {
  return changes.reduce((text, [old, changed]) => {
    assert.ok(text.includes(old), old);
    return text.replace(old, changed);
  }, first);
}

before(async () => {
  shop = await createShop('prisma');
  await shop.admin.query(`DROP DATABASE IF EXISTS ${shop.owner.database}_shadow WITH (FORCE)`);
  await shop.admin.query(`CREATE DATABASE ${shop.owner.database}_shadow TEMPLATE template0 OWNER ${shop.owner.user}`);
  first = await readFile('shop/prisma/schema.prisma', 'utf8');
  prisma = commands(shop.owner);
  migrations.push({ name: '0001_shop', sql: await prisma.fromEmpty(first) });
  await prisma.deploy(migrations);
  assert.equal(await prisma.next(migrations), 'createMigration');
  await shop.protect();
});

after(async () => {
  await shop?.admin.query(`DROP DATABASE IF EXISTS ${shop.owner.database}_shadow WITH (FORCE)`);
  await shop?.destroy();
});

const REVIEW = [['model warehouse {', `model review {
  id              BigInt  @id @default(autoincrement())
  organization_id String  @default(dbgenerated()) @db.Uuid
  product_id      BigInt
  stars           Int
  product         product @relation(fields: [product_id], references: [id], onDelete: NoAction, onUpdate: NoAction)
}

model warehouse {`], ['  lines           purchase_line[]\n}\n\nmodel customer', '  lines           purchase_line[]\n  reviews         review[]\n}\n\nmodel customer']];
const relation = (column) => [
  ['  shipments       shipment[]\n}\n\nmodel purchase {', '  shipments       shipment[]\n  purchases       purchase[]\n}\n\nmodel purchase {'],
  ['  note            String?\n', `  note            String?\n  ${column}    BigInt?
  warehouse       warehouse?      @relation(fields: [${column}], references: [id], onDelete: NoAction, onUpdate: NoAction)\n`]];
const RENAMED = [['  name            String\n  email', '  full_name       String\n  email']];
const SECOND = [...REVIEW, ...relation('warehouse_id')];
const THIRD = [...REVIEW, ...relation('origin_id'), ...RENAMED];

async function deploy(name, schema, sql) {
  migrations.push({ name, sql: sql ?? await prisma.fromMigrations(migrations, schema) });
  await prisma.deploy(migrations);
  assert.equal(await prisma.fromMigrations(migrations, schema), '', 'the models and the migrations agree');
  await shop.intact();
  return migrations.at(-1).sql.split('\n').filter((line) => /^[A-Z]/.test(line));
}

test('the difference between migrations and models is empty', async () => {
  assert.equal(await prisma.fromMigrations(migrations, first), '');
  await shop.intact();
});

test('db push, which compares with the database, is refused without harm', async () => {
  assert.match(await prisma.fromDatabase(first), /DROP CONSTRAINT/);
  const keys = await shop.foreignKeys();
  await assert.rejects(prisma.push(first), /less protected/);
  assert.deepEqual(await shop.foreignKeys(), keys);
  await shop.intact();
});

test('migrate dev, which compares with the database too, would reset it', async () => {
  assert.equal(await prisma.next(migrations), 'reset');
});

test('db pull gives models that agree with the database', async () => {
  const pulled = await prisma.pull(first);
  assert.match(pulled, /fields: \[(organization_id, customer_id|customer_id, organization_id)\]/);
  assert.equal(await prisma.fromDatabase(pulled), '');
});

test('a new model and a new relation come through, with the organization in their keys', async () => {
  assert.deepEqual((await deploy('0002_reviews', schemaOf(...REVIEW))).map((line) => line.slice(0, 21)),
    ['CREATE TABLE "review"', 'ALTER TABLE "review" ']);
  await deploy('0003_origins', schemaOf(...SECOND));
  const keys = await shop.foreignKeys();
  assert.ok(keys.includes('review FOREIGN KEY (organization_id, product_id) REFERENCES product(organization_id, id)'));
  assert.ok(keys.includes('purchase FOREIGN KEY (organization_id, warehouse_id) REFERENCES warehouse(organization_id, id)'));
});

test('two members write and read their own, with relations', async () => {
  await writeFile('shop/prisma/schema.prisma', schemaOf(...SECOND));
  // `generate` wants a schema engine to be there, and does not run it.
  await promisify(execFile)(process.execPath, [path.resolve('node_modules/prisma/build/index.js'), 'generate'], {
    cwd: 'shop/prisma', env: { ...process.env, DATABASE_URL: shop.ownerUrl, PRISMA_SCHEMA_ENGINE_BINARY: process.execPath, CHECKPOINT_DISABLE: '1' },
  });
  const { PrismaPg } = await import('@prisma/adapter-pg');
  const { PrismaClient } = (await import('@prisma/client')).default;
  const client = new PrismaClient({ adapter: new PrismaPg({ ...shop.app, max: 3 }) });
  const as = (subject, work) => withIdentity(client, { token: shop.token(subject), correlationId: `prisma ${subject}` }, work);
  const ids = {};
  try {
    for (const subject of ['alice', 'bob']) {
      await as(subject, async (tx) => {
        const customer = await tx.customer.create({
          data: { name: subject, email: '', addresses: { create: { city: 'Turin' } }, referred: { create: { name: 'friend', email: '' } } },
        });
        await tx.purchase.create({ data: {
          placed_at: new Date(), customer: { connect: { id: customer.id } }, warehouse: { create: { name: `of ${subject}` } },
        } });
        ids[subject] = customer.id;
      });
    }
    const read = { include: { customer: true, warehouse: true } };
    await Promise.all(Array.from({ length: 10 }, async (_, n) => {
      const subject = ['alice', 'bob'][n % 2];
      const rows = n < 5
        ? await as(subject, (tx) => tx.purchase.findMany(read))
        : await client.$extends(identity(shop.token(subject))).purchase.findMany(read);
      assert.deepEqual(rows.map((row) => [row.customer.name, row.warehouse.name]), [[subject, `of ${subject}`]]);
      assert.equal(rows[0].organization_id, shop.organizations[subject]);
    }));
    await assert.rejects(as('alice', (tx) => tx.address.create({ data: { customer_id: ids.bob, city: 'x' } })),
      (error) => error.code === 'P2003' || sqlstateOf(error) === '23503');
    await assert.rejects(as('alice', async (tx) => {
      await tx.warehouse.create({ data: { name: 'second thoughts' } });
      throw new Error('changed my mind');
    }), /changed my mind/);
    assert.equal(await as('alice', (tx) => tx.warehouse.count()), 1);
    for (const token of [undefined, 'no token']) {
      await assert.rejects(withIdentity(client, token, (tx) => tx.customer.findMany()), (error) => statusOf(error) === 401);
      await assert.rejects(client.$extends(identity(token)).customer.findMany(), (error) => statusOf(error) === 401);
    }
    await assert.rejects(client.customer.findMany(), (error) => statusOf(error) === 401);
    const smuggled = { organization_id: shop.organizations.bob, name: 'smuggled' };
    await assert.rejects(as('alice', (tx) => tx.warehouse.create({ data: smuggled })), (error) => statusOf(error) === 403);
    await assert.rejects(withOrganization(client, { organization: shop.organizations.bob, reason: 'no operator' },
      (tx) => tx.customer.findMany()), (error) => statusOf(error) === 403);
    await as('bob', async (tx) => {
      await tx.purchase.deleteMany();
      await tx.customer.deleteMany({ where: { referred_by: ids.bob } });
      await tx.customer.delete({ where: { id: ids.bob } });
    });
    assert.equal(await as('alice', (tx) => tx.address.count()), 1, "a cascade stayed within bob's rows");
    assert.equal(await as('bob', (tx) => tx.address.count()), 0);
  } finally {
    await client.$disconnect();
  }
});

test('a column and a relation are renamed by an edited migration', async () => {
  await deploy('0004_names', schemaOf(...THIRD), `
    ALTER TABLE "customer" RENAME COLUMN "name" TO "full_name";
    ALTER TABLE "purchase" RENAME COLUMN "warehouse_id" TO "origin_id";
    ALTER TABLE "purchase" RENAME CONSTRAINT "purchase_warehouse_id_fkey" TO "purchase_origin_id_fkey";`);
});

test('a relation is dropped with a reason, and refused without', async () => {
  const schema = schemaOf(...REVIEW, ...RENAMED);
  const sql = await prisma.fromMigrations(migrations, schema);
  assert.match(sql, /DROP CONSTRAINT "purchase_origin_id_fkey"[^]*DROP COLUMN "origin_id"/);
  const keys = await shop.foreignKeys();
  await assert.rejects(prisma.deploy([...migrations, { name: '0005_drop', sql }]), /less protected/);
  assert.deepEqual(await shop.foreignKeys(), keys, 'all or nothing');
  await prisma.rolledBack('0005_drop');
  migrations.push({ name: '0006_drop', sql: `SET LOCAL tenancy.override_reason = 'TICKET-8: no origins';\n${sql}` });
  await prisma.deploy(migrations);
  await shop.asOwner((client) => client.query("SELECT tenancy.protect('purchase')"));
  await shop.intact();
  assert.equal(await prisma.fromMigrations(migrations, schema), '');
});

test('all of it is taken back by going forward', async () => {
  assert.match(await prisma.fromMigrations(migrations, schemaOf(...RENAMED)), /DROP CONSTRAINT "review_product_id_fkey"[^]*DROP TABLE "review"/);
  await deploy('0007_back', first, `
    ALTER TABLE "customer" RENAME COLUMN "full_name" TO "name";
    DROP TABLE "review";`);
});
