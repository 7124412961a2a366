// Tests of an application that share one transaction, which is rolled back: several persons act in it one after another.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { drizzle } from 'drizzle-orm/node-postgres';
import { pgTable, text } from 'drizzle-orm/pg-core';
import knex from 'knex';
import pg from 'pg';
import { DataSource, EntitySchema } from 'typeorm';

import { sqlstateOf } from 'pg-tenancy';
import * as forDrizzle from 'pg-tenancy/drizzle';
import * as forKnex from 'pg-tenancy/knex';
import * as forTypeorm from 'pg-tenancy/typeorm';

import { createShop } from './shop.js';

let shop;

const note = pgTable('note', { title: text().notNull() });
const Note = new EntitySchema({ name: 'note', columns: { title: { type: 'text', primary: true } } });
const undone = new Error('roll back');

// Each client: its outer transaction, which `withIdentity` takes in place of the database, and an insert and a select.
const CLIENTS = {
  Knex: {
    ...forKnex,
    async outer(work) {
      const db = knex({ client: 'pg', connection: shop.app });
      await db.transaction(work).finally(() => db.destroy());
    },
    insert: (tx, title) => tx('note').insert({ title }),
    titles: (tx) => tx('note').pluck('title'),
  },
  Drizzle: {
    ...forDrizzle,
    async outer(work) {
      const client = new pg.Client(shop.app);
      await client.connect();
      await drizzle(client).transaction(work).finally(() => client.end());
    },
    insert: (tx, title) => tx.insert(note).values({ title }),
    titles: async (tx) => (await tx.select().from(note)).map((row) => row.title),
  },
  TypeORM: {
    ...forTypeorm,
    async outer(work) {
      const { user: username, ...app } = shop.app;
      const source = await new DataSource({
        type: 'postgres', ...app, username, entities: [Note], installExtensions: false,
      }).initialize();
      await source.transaction(work).finally(() => source.destroy());
    },
    insert: (tx, title) => tx.insert('note', { title }),
    titles: async (tx) => (await tx.find('note')).map((row) => row.title),
  },
};

before(async () => {
  shop = await createShop('testing');
  await shop.asOwner((client) => client.query('CREATE TABLE note (organization_id uuid NOT NULL, title text NOT NULL)'));
  await shop.protect();
});

after(() => shop?.destroy());

test('without the setting the second person is refused', async () => {
  const { outer, withIdentity, titles } = CLIENTS.Knex;
  await assert.rejects(outer(async (tx) => {
    await withIdentity(tx, shop.token('alice'), titles);
    await withIdentity(tx, shop.token('bob'), titles);
  }), (error) => sqlstateOf(error) === '28000');
});

for (const [name, { outer, withIdentity, insert, titles }] of Object.entries(CLIENTS)) {
  test(`${name}: with the setting each sees their own, and all of it is rolled back`, async () => {
    await shop.admin.query(`ALTER DATABASE ${shop.app.database} SET tenancy.several_identities = on`);
    await shop.admin.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1 AND datname = $2',
      [shop.app.user, shop.app.database]); // the pooler's connection, which has the old setting
    await assert.rejects(outer(async (tx) => {
      await withIdentity(tx, shop.token('alice'), (inner) => insert(inner, 'of alice'));
      await withIdentity(tx, shop.token('bob'), async (inner) => {
        assert.deepEqual(await titles(inner), []);
        await insert(inner, 'of bob');
      });
      await withIdentity(tx, shop.token('alice'), async (inner) => assert.deepEqual(await titles(inner), ['of alice']));
      await assert.rejects(withIdentity(tx, 'no token', titles), (error) => sqlstateOf(error) === '28000');
      await withIdentity(tx, shop.token('bob'), async (inner) => assert.deepEqual(await titles(inner), ['of bob']));
      throw undone;
    }), undone);
    assert.equal((await shop.admin.query('SELECT FROM note')).rowCount, 0);
  });
}
