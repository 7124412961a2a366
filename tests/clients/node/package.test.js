// The package of clients/javascript, as npm installs it, behind PgBouncer: each driver and mapper, Express and Fastify.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

import { drizzle } from 'drizzle-orm/node-postgres';
import { bigint, pgTable, text } from 'drizzle-orm/pg-core';
import express from 'express';
import Fastify from 'fastify';
import knex from 'knex';
import { Kysely, PostgresDialect } from 'kysely';
import pg from 'pg';
import postgres from 'postgres';
import { DataTypes, Sequelize } from 'sequelize';
import { DataSource, EntitySchema } from 'typeorm';

import { HttpError, sqlstateOf, statusOf } from 'pg-tenancy';
import * as forDrizzle from 'pg-tenancy/drizzle';
import { identity as expressIdentity } from 'pg-tenancy/express';
import { identity as fastifyIdentity } from 'pg-tenancy/fastify';
import * as forKnex from 'pg-tenancy/knex';
import * as forKysely from 'pg-tenancy/kysely';
import * as forPg from 'pg-tenancy/pg';
import * as forPostgres from 'pg-tenancy/postgres';
import * as forSequelize from 'pg-tenancy/sequelize';
import { TestIssuer, createTestIssuer } from 'pg-tenancy/testing';
import * as forTypeorm from 'pg-tenancy/typeorm';

const host = process.env.PG_TENANCY_POOLER_HOST;
const port = Number(process.env.PG_TENANCY_POOLER_PORT);
const { PGDATABASE: database, PGPASSWORD: password } = process.env;
const MEMBER = 'test_tenancy_application';
const WORKER = 'test_tenancy_operator';
const OWN = { anna: ['anna 1', 'anna 2'], ben: ['ben 1'] };

let admin;
let issuer;
const organizations = {};

// Each driver and mapper: how it connects, reads the titles and inserts one.
const CLIENTS = {
  pg: {
    ...forPg,
    open: (user) => new pg.Pool({ host, port, user, database, password, max: 3 }),
    close: (pool) => pool.end(),
    titles: async (client) => (await client.query('SELECT title FROM bill ORDER BY title')).rows.map((row) => row.title),
    insert: (client, title) => client.query('INSERT INTO bill (title) VALUES ($1)', [title]),
    fail: (client) => client.query('SELECT 1 / 0'),
  },
  'postgres.js': {
    ...forPostgres,
    open: (user) => postgres({ host, port, user, database, password, max: 3, prepare: false }),
    close: (sql) => sql.end(),
    titles: async (sql) => (await sql`SELECT title FROM bill ORDER BY title`).map((row) => row.title),
    insert: (sql, title) => sql`INSERT INTO bill ${sql({ title })}`,
    fail: (sql) => sql`SELECT 1 / 0`,
  },
  Kysely: {
    ...forKysely,
    open: (user) => new Kysely({
      dialect: new PostgresDialect({ pool: new pg.Pool({ host, port, user, database, password, max: 3 }) }),
    }),
    close: (db) => db.destroy(),
    titles: async (db) => (await db.selectFrom('bill').select('title').orderBy('title').execute()).map((row) => row.title),
    insert: (db, title) => db.insertInto('bill').values({ title }).execute(),
    fail: (db) => db.selectNoFrom((expression) => expression.lit(1).as('one')).where(({ eb, lit }) => eb(eb(lit(1), '/', lit(0)), '=', 1)).execute(),
  },
  Knex: {
    ...forKnex,
    open: (user) => knex({ client: 'pg', connection: { host, port, user, database, password }, pool: { min: 0, max: 3 } }),
    close: (db) => db.destroy(),
    titles: (db) => db('bill').orderBy('title').pluck('title'),
    insert: (db, title) => db('bill').insert({ title }),
    fail: (db) => db.raw('SELECT 1 / 0'),
  },
  Drizzle: {
    ...forDrizzle,
    open: (user) => drizzle(new pg.Pool({ host, port, user, database, password, max: 3 })),
    close: (db) => db.$client.end(),
    titles: async (db) => (await db.select().from(bill).orderBy(bill.title)).map((row) => row.title),
    insert: (db, title) => db.insert(bill).values({ title }),
    fail: (db) => db.execute('SELECT 1 / 0'),
  },
  TypeORM: {
    ...forTypeorm,
    open: (username) => new DataSource({
      type: 'postgres', host, port, username, database, password, poolSize: 3, entities: [Bill], installExtensions: false,
    }).initialize(),
    close: (source) => source.destroy(),
    titles: async (manager) => (await manager.find('bill', { order: { title: 'ASC' } })).map((row) => row.title),
    insert: (manager, title) => manager.insert('bill', { title }),
    fail: (manager) => manager.query('SELECT 1 / 0'),
  },
  Sequelize: {
    withIdentity: (sequelize, who, work) =>
      forSequelize.withIdentity(sequelize, who, (transaction) => work({ sequelize, transaction })),
    withOrganization: (sequelize, job, work) =>
      forSequelize.withOrganization(sequelize, job, (transaction) => work({ sequelize, transaction })),
    open: (username) => {
      const sequelize = new Sequelize({
        dialect: 'postgres', host, port, username, database, password, logging: false, pool: { max: 3 },
      });
      sequelize.define('bill', {
        id: { type: DataTypes.BIGINT, primaryKey: true, autoIncrement: true },
        organizationId: forSequelize.organizationColumn(),
        title: DataTypes.TEXT,
      }, { tableName: 'bill', timestamps: false, underscored: true });
      return sequelize;
    },
    close: (sequelize) => sequelize.close(),
    titles: async ({ sequelize, transaction }) =>
      (await sequelize.models.bill.findAll({ order: ['title'], transaction })).map((row) => row.title),
    insert: ({ sequelize, transaction }, title) => sequelize.models.bill.create({ title }, { transaction }),
    fail: ({ sequelize, transaction }) => sequelize.query('SELECT 1 / 0', { transaction }),
  },
};

const bill = pgTable('bill', {
  id: bigint({ mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
  title: text().notNull(),
});
const Bill = new EntitySchema({
  name: 'bill',
  columns: { id: { type: 'bigint', primary: true, generated: 'identity' }, title: { type: 'text' } },
});

const refused = (status) => (error) => {
  assert.equal(statusOf(error), status, `${error.stack} ${JSON.stringify(error)}`);
  return true;
};

before(async () => {
  admin = new pg.Client();
  await admin.connect();
  await admin.query(`
    CREATE TABLE bill (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organization_id uuid NOT NULL, title text);
    SELECT tenancy.protect('bill');
    GRANT SELECT, INSERT, UPDATE, DELETE ON bill TO ${MEMBER}, ${WORKER}`);
  issuer = await createTestIssuer(admin, { audience: 'bills' });
  organizations.anna = await issuer.createOrganization(admin, 'Anna', { anna: 'admin', rita: 'reader' });
  organizations.ben = await issuer.createOrganization(admin, 'Ben', { ben: 'admin' });
  for (const [owner, titles] of Object.entries(OWN)) {
    for (const title of titles) {
      await admin.query('INSERT INTO bill (organization_id, title) VALUES ($1, $2)', [organizations[owner], title]);
    }
  }
});

after(() => admin?.end());

for (const [name, client] of Object.entries(CLIENTS)) {
  test(name, async (t) => {
    const db = await client.open(MEMBER);
    const as = (subject, work, more) =>
      client.withIdentity(db, more ? { token: issuer.token(subject), ...more } : issuer.token(subject), work);
    try {
      await t.test('two members see their own rows alone, also many at a time', async () => {
        await Promise.all(Array.from({ length: 20 }, (_, n) => as(['anna', 'ben'][n % 2], async (tx) => {
          assert.deepEqual(await client.titles(tx), OWN[['anna', 'ben'][n % 2]]);
        })));
      });

      await t.test('an error of the work rolls it back, and the next transaction works', async () => {
        await assert.rejects(as('anna', async (tx) => {
          await client.insert(tx, 'anna 3');
          assert.deepEqual(await client.titles(tx), [...OWN.anna, 'anna 3']);
          throw new Error('changed my mind');
        }), /changed my mind/);
        await assert.rejects(as('anna', (tx) => client.fail(tx)), (error) => sqlstateOf(error) === '22012');
        assert.deepEqual(await as('anna', client.titles), OWN.anna);
      });

      await t.test('a new row is of the member, and its event has the correlation id', async () => {
        await as('ben', (tx) => client.insert(tx, name), { correlationId: `request of ${name}` });
        assert.deepEqual(await as('anna', client.titles), OWN.anna);
        assert.deepEqual(await as('ben', client.titles), [name, ...OWN.ben].sort());
        const { rows } = await admin.query(
          "DELETE FROM bill WHERE title = $1 RETURNING organization_id", [name]);
        assert.deepEqual(rows, [{ organization_id: organizations.ben }]);
        const events = await admin.query('SELECT subject, operation FROM tenancy.audit_trail WHERE correlation_id = $1',
          [`request of ${name}`]);
        assert.ok(events.rows.some((row) => row.subject === 'ben'), JSON.stringify(events.rows));
      });

      await t.test('no, bad and expired tokens are 401, whoever came before', async () => {
        const expired = issuer.token('anna', { expiresIn: -600 });
        const stranger = new TestIssuer({ issuer: issuer.issuer, audience: 'bills' }).token('anna');
        for (const token of [undefined, null, '', 'no token', expired, stranger, issuer.token('nobody')]) {
          await assert.rejects(client.withIdentity(db, token, client.titles), refused(401));
          await assert.rejects(client.withIdentity(db, { token }, client.titles), refused(401));
        }
        const organization = organizations.ben;
        await assert.rejects(as('anna', client.titles, { organization }), refused(401));
      });

      await t.test('what the role may not do is 403', async () => {
        assert.deepEqual(await as('rita', client.titles), OWN.anna);
        await assert.rejects(as('rita', (tx) => client.insert(tx, 'of a reader')), refused(403));
      });

      await t.test('a worker acts for one organization, with a reason', async () => {
        const worker = await client.open(WORKER);
        try {
          const job = { organization: organizations.ben, reason: `job of ${name}` };
          assert.deepEqual(await client.withOrganization(worker, job, client.titles), OWN.ben);
          const reader = { ...job, role: 'reader', correlationId: 'job-1' };
          await assert.rejects(client.withOrganization(worker, reader, (tx) => client.insert(tx, 'x')), refused(403));
          await assert.rejects(client.withOrganization(db, job, client.titles), refused(403));
        } finally {
          await client.close(worker);
        }
      });
    } finally {
      await client.close(db);
    }
  });
}

test('pg: rows in the format of COPY', async () => {
  const pool = CLIENTS.pg.open(MEMBER);
  const { copyRows, withIdentity } = forPg;
  try {
    const lines = Array.from({ length: 1000 }, (_, n) => `copied ${n}\n`);
    for (const table of ['bill', 'public.bill']) {
      assert.equal(await withIdentity(pool, issuer.token('ben'), (client) => copyRows(client, table, ['title'], lines)), 1000);
    }
    const { rows } = await admin.query("DELETE FROM bill WHERE title LIKE 'copied %' RETURNING organization_id");
    assert.deepEqual(new Set(rows.map((row) => row.organization_id)), new Set([organizations.ben]));
    assert.equal(rows.length, 2000);
    await assert.rejects(withIdentity(pool, issuer.token('anna'), (client) =>
      copyRows(client, 'bill', ['title', 'organization_id'], [`smuggled\t${organizations.ben}\n`])), refused(403));
    await assert.rejects(withIdentity(pool, issuer.token('rita'), (client) => copyRows(client, 'bill', ['title'], lines)), refused(403));
    await assert.rejects(withIdentity(pool, issuer.token('anna'), (client) => copyRows(client, 'bill"; --', ['title'], lines)),
      { code: '42P01' });
    assert.deepEqual(await withIdentity(pool, issuer.token('anna'), CLIENTS.pg.titles), OWN.anna);
  } finally {
    await pool.end();
  }
});

test("codes of other layers are not taken for the database's", () => {
  for (const error of [null, undefined, 'text', new Error('x'), { code: '28000' }, { code: 'P2010' }, { code: 'EPIPE' },
    { severity: 'FATAL', code: '28000' }, { cause: { severity: 'FATAL', code: '28000' } }]) {
    assert.equal(statusOf(error), 500, JSON.stringify(error));
  }
  const own = { severity: 'ERROR', code: '42501' };
  const round = { code: 'P2010', meta: {} };
  round.cause = round;
  assert.equal(statusOf(round), 500);
  for (const error of [own, { cause: own }, { parent: own }, { driverError: own }, { code: 'P2010', cause: { cause: own } },
    { code: 'P2010', meta: { driverAdapterError: { cause: { originalCode: '42501' } } } }]) {
    assert.equal(statusOf(error), 403, JSON.stringify(error));
  }
});

// The same requests to both frameworks, over HTTP.
async function requests(base, pool) {
  const get = async (path, headers = {}) => {
    const response = await fetch(`${base}${path}`, { headers });
    return [response.status, await response.text(), response.headers.get('www-authenticate')];
  };
  const bearer = (subject) => ({ authorization: `Bearer ${issuer.token(subject)}` });
  const before = (await admin.query('SELECT count(*) FROM bill')).rows[0].count;
  await Promise.all(Array.from({ length: 10 }, async (_, n) => {
    const subject = ['anna', 'ben'][n % 2];
    const [status, body] = await get('/bills', bearer(subject));
    assert.deepEqual([status, JSON.parse(body)], [200, OWN[subject]]);
  }));
  for (const headers of [{}, { authorization: 'Basic YTpi' }, { authorization: 'Bearer x' }, bearer('nobody')]) {
    const [status, body, authenticate] = await get('/bills', headers);
    assert.deepEqual([status, authenticate], [401, 'Bearer'], body);
    assert.doesNotMatch(body, /membership|organization/, 'what the database says stays inside');
  }
  const [status, body] = await get('/write', bearer('rita'));
  assert.equal(status, 403, body);
  assert.doesNotMatch(body, /permission|role|bill/);
  assert.equal((await get('/fail', bearer('anna')))[0], 500);
  assert.deepEqual((await get('/write', { ...bearer('ben'), 'x-request-id': base }))[0], 200);
  const { rows } = await admin.query('SELECT subject FROM tenancy.audit_trail WHERE correlation_id = $1', [base]);
  assert.ok(rows.some((row) => row.subject === 'ben'));
  await admin.query("DELETE FROM bill WHERE title = 'of a request'");
  assert.equal((await admin.query('SELECT count(*) FROM bill')).rows[0].count, before);
  assert.equal(pool.idleCount, pool.totalCount, 'a connection was not given back');
}

const handlers = {
  bills: (request) => request.withIdentity(CLIENTS.pg.titles),
  write: (request) => request.withIdentity(async (client) => (await CLIENTS.pg.insert(client, 'of a request')).rowCount),
  fail: (request) => request.withIdentity((client) => CLIENTS.pg.fail(client)),
};

test('Express', async () => {
  const pool = CLIENTS.pg.open(MEMBER);
  const app = express().set('env', 'production');
  app.use(expressIdentity((who, work) => forPg.withIdentity(pool, who, work)));
  for (const [path, handler] of Object.entries(handlers)) {
    app.get(`/${path}`, async (request, response) => { response.json(await handler(request)); });
  }
  const server = app.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const errors = console.error;
  console.error = () => {};
  try {
    await requests(`http://127.0.0.1:${server.address().port}`, pool);
  } finally {
    console.error = errors;
    server.close();
    server.closeAllConnections();
    await pool.end();
  }
});

test('Fastify', async () => {
  const pool = CLIENTS.pg.open(MEMBER);
  const app = Fastify();
  await app.register(fastifyIdentity, { open: (who, work) => forPg.withIdentity(pool, who, work) });
  for (const [path, handler] of Object.entries(handlers)) app.get(`/${path}`, handler);
  try {
    await requests(await app.listen({ port: 0, host: '127.0.0.1' }), pool);
  } finally {
    await app.close();
    await pool.end();
  }
});

test('the error of the middleware has the error of the database as its cause', async () => {
  const app = Fastify();
  const pool = CLIENTS.pg.open(MEMBER);
  let seen;
  await app.register(fastifyIdentity, {
    open: (who, work) => forPg.withIdentity(pool, who, work),
    token: (request) => request.query.token,
    organization: (request) => request.query.organization,
    correlationId: () => 'own',
  });
  app.get('/', (request) => request.withIdentity(CLIENTS.pg.titles));
  app.setErrorHandler((error, request, reply) => { seen = error; reply.code(error.statusCode).send(); });
  try {
    const get = (subject, organization) =>
      app.inject({ url: '/', query: { token: issuer.token(subject), organization: organizations[organization] } });
    assert.deepEqual((await get('anna', 'anna')).json(), OWN.anna);
    assert.equal((await get('anna', 'ben')).statusCode, 401);
    assert.ok(seen instanceof HttpError);
    assert.equal(seen.cause.code, '28000');
  } finally {
    await app.close();
    await pool.end();
  }
});

test('the pages show the code of the shop, which runs here', async () => {
  for (const [page, file] of [['drizzle', 'migrate.js'], ['typeorm', 'data-source.js'], ['knex', 'knexfile.js']]) {
    const code = (await readFile(`shop/${page}/${file}`, 'utf8')).replace(/^\/\/.*\n\n/, '');
    const shown = (await readFile(`pages/${page}.md`, 'utf8')).split('```js\n').map((part) => part.split('```')[0]);
    assert.ok(shown.includes(code), `${page}.md does not show ${file}`);
  }
});

test('the types say what the package does', async () => {
  await promisify(execFile)(process.execPath, ['node_modules/typescript/bin/tsc', '-p', '.']).catch((error) => {
    assert.fail(error.stdout);
  });
});
