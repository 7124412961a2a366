// drizzle-kit's generate, migrate and push on the shop of examples/shop, which is protected after its first day.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { cp, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

import { drizzle } from 'drizzle-orm/node-postgres';
import pg from 'pg';

import { sqlstateOf } from 'pg-tenancy';
import { withIdentity } from 'pg-tenancy/drizzle';
import { giveReason } from 'pg-tenancy/pg';

import { createShop } from './shop.js';

const RENAMED = '\x1b[B\r'; // the second choice: renamed, not created

let shop;
let folder;
let original;

// drizzle-kit asks about renames on a terminal alone, so `script` gives it one.
function kit(command, { terminal = false } = {}) {
  const program = path.resolve('node_modules/drizzle-kit/bin.cjs');
  const options = { cwd: folder, env: { ...process.env, DATABASE_URL: shop.ownerUrl } };
  const child = terminal
    ? spawn('script', ['-qec', `${process.execPath} ${program} ${command}`, '/dev/null'], options)
    : spawn(process.execPath, [program, ...command.split(' ')], options);
  return new Promise((resolve) => {
    let output = '';
    let seen = 0;
    const read = (data) => {
      output += data;
      const question = output.indexOf('rename column', seen);
      if (terminal && question >= 0) {
        seen = output.length;
        if (/[?] *|❯/.test(output.slice(0, question))) child.stdin.write(RENAMED);
      }
    };
    child.stdout.on('data', read);
    child.stderr.on('data', read);
    child.on('close', () => resolve(output));
  });
}

const sqlFiles = async () => (await readdir(path.join(folder, 'drizzle'))).filter((name) => name.endsWith('.sql')).sort();

// Changes the models, and returns the statements that drizzle-kit generates for it.
async function generate(changes, options) {
  let text = original;
  for (const [old, changed] of changes) {
    assert.ok(text.includes(old), old);
    text = text.replace(old, changed);
  }
  await writeFile(path.join(folder, 'schema.js'), text);
  const before = await sqlFiles().catch(() => []);
  const output = await kit('generate', options);
  const [file] = (await sqlFiles()).filter((name) => !before.includes(name));
  if (!file) {
    assert.match(output, /nothing to migrate/);
    return [];
  }
  const sql = await readFile(path.join(folder, 'drizzle', file), 'utf8');
  return sql.split('--> statement-breakpoint').map((statement) => statement.trim());
}

// The program of the page; the reason is its argument.
async function migrated(...reason) {
  await promisify(execFile)(process.execPath, ['migrate.js', ...reason],
    { cwd: folder, env: { ...process.env, DATABASE_URL: shop.ownerUrl } });
}

let version = 0;
async function models() {
  version += 1;
  const file = path.join(folder, `schema.${version}.js`); // a module is read once
  await cp(path.join(folder, 'schema.js'), file);
  return import(pathToFileURL(file));
}

before(async () => {
  shop = await createShop('drizzle');
  folder = await mkdtemp(path.resolve('shop/drizzle-'));
  await cp('shop/drizzle', folder, { recursive: true });
  original = await readFile(path.join(folder, 'schema.js'), 'utf8');
  await generate([]);
  await kit('migrate');
  await shop.protect();
});

after(async () => {
  await shop?.destroy();
  await rm(folder, { recursive: true, force: true });
});

const REVIEW = ["export const invoice", `export const review = pgTable('review', {
  id: id(),
  organizationId: organizationId(),
  productId: key('product_id').notNull().references(() => product.id),
  stars: integer().notNull(),
});

export const invoice`];
const RELATION = ['  note: text(),\n', "  note: text(),\n  warehouseId: key('warehouse_id').references(() => warehouse.id),\n"];
const RENAMED_RELATION = [RELATION[0], RELATION[1].replace('warehouse_id', 'origin_id')];
const DROPPED_RELATION = [RELATION[0], "  note: text(),\n  warehouseId: key('origin_id'),\n"];
const RENAMED_COLUMN = ['  name: text().notNull(),\n  email', "  name: text('full_name').notNull(),\n  email"];

test('generate sees nothing of the protection', async () => {
  assert.deepEqual(await generate([]), []);
  await shop.intact();
});

test('push, which compares with the database, is refused without harm', async () => {
  const keys = await shop.foreignKeys();
  const output = await kit('push --force');
  assert.match(output, /protect/);
  assert.deepEqual(await shop.foreignKeys(), keys);
  await shop.intact();
});

test('a new model and a new relation come through, with the organization in their keys', async () => {
  assert.equal((await generate([REVIEW])).length, 2);
  await kit('migrate');
  await shop.intact();
  const statements = await generate([REVIEW, RELATION]);
  assert.equal(statements.length, 2);
  assert.match(statements[1], /ADD CONSTRAINT .* FOREIGN KEY \("warehouse_id"\) REFERENCES "public"."warehouse"\("id"\)/);
  await kit('migrate');
  await shop.intact();
  const keys = await shop.foreignKeys();
  assert.ok(keys.includes('review FOREIGN KEY (organization_id, product_id) REFERENCES product(organization_id, id)'));
  assert.ok(keys.includes('purchase FOREIGN KEY (organization_id, warehouse_id) REFERENCES warehouse(organization_id, id)'));
});

test('two members write and read their own, with relations', async () => {
  const schema = await models();
  const db = drizzle(new pg.Pool({ ...shop.app, max: 2 }), { schema });
  const as = (subject, work) => withIdentity(db, shop.token(subject), work);
  const ids = {};
  try {
    for (const subject of ['alice', 'bob']) {
      await as(subject, async (tx) => {
        const [warehouse] = await tx.insert(schema.warehouse).values({ name: `of ${subject}` }).returning();
        const [customer] = await tx.insert(schema.customer).values({ name: subject, email: '' }).returning();
        await tx.insert(schema.customer).values({ name: 'friend', email: '', referredBy: customer.id });
        await tx.insert(schema.address).values({ customerId: customer.id, city: 'Turin' });
        await tx.insert(schema.purchase).values({ customerId: customer.id, warehouseId: warehouse.id, placedAt: new Date() });
        ids[subject] = customer.id;
      });
    }
    const { purchase, customer, warehouse, address } = schema;
    const { eq } = await import('drizzle-orm');
    for (const subject of ['alice', 'bob']) {
      const rows = await as(subject, (tx) => tx.select().from(purchase)
        .innerJoin(customer, eq(customer.id, purchase.customerId))
        .innerJoin(warehouse, eq(warehouse.id, purchase.warehouseId)));
      assert.deepEqual(rows.map((row) => [row.customer.name, row.warehouse.name]), [[subject, `of ${subject}`]]);
      assert.equal(rows[0].purchase.organizationId, shop.organizations[subject]);
    }
    await assert.rejects(as('alice', (tx) => tx.insert(address).values({ customerId: ids.bob, city: 'x' })),
      (error) => sqlstateOf(error) === '23503');
    await as('bob', async (tx) => {
      await tx.delete(purchase);
      await tx.delete(customer).where(eq(customer.referredBy, ids.bob));
      await tx.delete(customer).where(eq(customer.id, ids.bob));
    });
    assert.equal((await as('alice', (tx) => tx.select().from(address))).length, 1, "a cascade stayed within bob's rows");
    assert.equal((await as('bob', (tx) => tx.select().from(address))).length, 0);
  } finally {
    await db.$client.end();
  }
});

test('a column and a relation are renamed; without a reason the latter is refused', async () => {
  assert.deepEqual(await generate([REVIEW, RELATION, RENAMED_COLUMN], { terminal: true }),
    ['ALTER TABLE "customer" RENAME COLUMN "name" TO "full_name";']);
  await kit('migrate');
  await shop.intact();
  const statements = await generate([REVIEW, RENAMED_RELATION, RENAMED_COLUMN], { terminal: true });
  assert.equal(statements.length, 3, statements.join('\n'));
  const keys = await shop.foreignKeys();
  await assert.rejects(migrated(), /code: '42501'/);
  assert.deepEqual(await shop.foreignKeys(), keys, 'all or nothing');
  await migrated('TICKET-7: purchases have an origin');
  await shop.intact();
  assert.ok((await shop.foreignKeys()).includes(
    'purchase FOREIGN KEY (organization_id, origin_id) REFERENCES warehouse(organization_id, id)'));
});

test('a relation is dropped, then all is taken back by going forward', async () => {
  const [statement, ...none] = await generate([REVIEW, DROPPED_RELATION, RENAMED_COLUMN]);
  assert.match(statement, /DROP CONSTRAINT/);
  assert.deepEqual(none, []);
  await migrated('TICKET-8: origins are free text');
  await shop.intact();
  const { rows } = await shop.admin.query(
    "SELECT count(*)::integer AS found FROM tenancy.audit_trail WHERE reason LIKE 'TICKET-8%'");
  assert.ok(rows[0].found > 0, 'the reason is in the audit');

  const back = await generate([], { terminal: true });
  assert.deepEqual(back.sort(), [
    'ALTER TABLE "customer" RENAME COLUMN "full_name" TO "name";',
    'ALTER TABLE "purchase" DROP COLUMN "origin_id";',
    'DROP TABLE "review" CASCADE;',
  ]);
  await migrated('roll back');
  await shop.intact();
  assert.deepEqual(await generate([]), []);
});

test('a relation and its column are dropped at once', async () => {
  await generate([RELATION]);
  await kit('migrate');
  await shop.intact();
  const statements = await generate([]);
  assert.match(statements[0], /^ALTER TABLE "purchase" DROP CONSTRAINT/);
  assert.match(statements[1], /^ALTER TABLE "purchase" DROP COLUMN "warehouse_id"/);
  await assert.rejects(migrated(), /code: '42501'/);
  await migrated('roll back');
  await shop.intact();
});

test('the reason covers no other statement', async () => {
  const client = giveReason(new pg.Client(shop.owner), 'migration');
  await client.connect();
  try {
    for (const statement of ['ALTER TABLE customer DISABLE ROW LEVEL SECURITY', 'DROP POLICY tenancy_isolation ON customer CASCADE',
      'ALTER TABLE address DROP CONSTRAINT address_customer_id_customer_id_fk, DISABLE ROW LEVEL SECURITY',
      'ALTER TABLE address DROP CONSTRAINT address_customer_id_customer_id_fk; DROP POLICY tenancy_isolation ON customer',
      'ALTER TABLE customer DROP COLUMN organization_id CASCADE']) {
      await client.query('BEGIN');
      await assert.rejects(client.query(statement), { code: '42501' }, statement);
      await client.query('ROLLBACK');
    }
    await client.query('BEGIN');
    await client.query('ALTER TABLE address DROP CONSTRAINT address_customer_id_customer_id_fk');
    await assert.rejects(client.query('ALTER TABLE customer DISABLE ROW LEVEL SECURITY'), { code: '42501' });
  } finally {
    await client.end();
  }
  await shop.intact();
});
