// What the types of the package promise to an application in TypeScript; checked by tsc, never run.

import { drizzle } from 'drizzle-orm/node-postgres';
import { pgTable, text } from 'drizzle-orm/pg-core';
import express from 'express';
import Fastify from 'fastify';
import type { Knex } from 'knex';
import type { Kysely } from 'kysely';
import { Pool } from 'pg';
import type { Sql } from 'postgres';
import type { Sequelize } from 'sequelize';
import type { DataSource } from 'typeorm';

import { statusOf } from 'pg-tenancy';
import * as forDrizzle from 'pg-tenancy/drizzle';
import { identity as expressIdentity } from 'pg-tenancy/express';
import { identity as fastifyIdentity } from 'pg-tenancy/fastify';
import * as forKnex from 'pg-tenancy/knex';
import * as forKysely from 'pg-tenancy/kysely';
import * as forPg from 'pg-tenancy/pg';
import * as forPrisma from 'pg-tenancy/prisma';
import * as forPostgres from 'pg-tenancy/postgres';
import * as forSequelize from 'pg-tenancy/sequelize';
import { createTestIssuer } from 'pg-tenancy/testing';
import * as forTypeorm from 'pg-tenancy/typeorm';

declare const sql: Sql;
declare const kysely: Kysely<{ bill: { title: string } }>;
declare const knex: Knex;
declare const prisma: forPrisma.PrismaClient & { bill: { findMany(): Promise<{ title: string }[]> } };
declare const source: DataSource;
declare const sequelize: Sequelize;

const pool = new Pool();
const who = { token: 'token', correlationId: 'request-1' };
const bill = pgTable('bill', { title: text().notNull() });
const titles = async (token: string | undefined): Promise<string[]> => [
  ...(await forPg.withIdentity(pool, token, async (client) => (await client.query<{ title: string }>('')).rows)).map((row) => row.title),
  ...(await forPostgres.withIdentity(sql, who, (tx) => tx<{ title: string }[]>`SELECT title FROM bill`)).map((row) => row.title),
  ...(await forKysely.withIdentity(kysely, who, (tx) => tx.selectFrom('bill').select('title').execute())).map((row) => row.title),
  ...(await forKnex.withIdentity(knex, who, async (tx) => (await tx<{ title: string }>('bill').pluck('title')) as string[])),
  ...(await forDrizzle.withIdentity(drizzle(pool), who, (tx) => tx.select().from(bill))).map((row) => row.title),
  ...(await forTypeorm.withIdentity(source, who, (manager) => manager.find<{ title: string }>('bill'))).map((row) => row.title),
  ...(await forPrisma.withIdentity(prisma, who, (tx) => tx.bill.findMany())).map((row) => row.title),
  ...(await forPrisma.identity(token)(prisma).bill.findMany()).map((row) => row.title),
  await forSequelize.withIdentity(sequelize, who, (transaction) => sequelize.query('', { transaction })).then(String),
];
const count: Promise<number> = forPg.withIdentity(pool, who, (client) => forPg.copyRows(client, 'bill', ['title'], ['a\n']));
const job = forPg.withOrganization(pool, { organization: 'id', reason: 'why' }, async () => 1);
const status: 401 | 403 | 500 = statusOf(new Error('x'));

const app = express();
app.use(expressIdentity((identity, work) => forPg.withIdentity(pool, identity, work), { token: (request) => request.ip ?? '' }));
app.get('/', async (request, response) => { response.json(await request.withIdentity(async () => 1)); });

const fastify = Fastify();
fastify.register(fastifyIdentity, { open: (identity, work) => forPg.withIdentity(pool, identity, work) });
fastify.get('/', (request) => request.withIdentity(async () => 1));

const issuer = await createTestIssuer(pool, { audience: 'tests' });
const token: string = issuer.token('alice', { expiresIn: 60, role: 'x' });
const column = forSequelize.organizationColumn({ field: 'org_id' });

// @ts-expect-error a job needs a reason
forPg.withOrganization(pool, { organization: 'id' }, async () => 1);
// @ts-expect-error a table that the database does not have
forKysely.withIdentity(kysely, who, (tx) => tx.selectFrom('bills').selectAll().execute());
// @ts-expect-error a pool of another driver
forPg.withIdentity(sql, who, async () => 1);

export { titles, count, job, status, token, column };
