// What `drizzle-kit migrate` does, and with a reason (`node migrate.js 'TICKET-7: ...'`) also dropped relations.

import { drizzle } from 'drizzle-orm/node-postgres';
import { migrate } from 'drizzle-orm/node-postgres/migrator';
import pg from 'pg';
import { giveReason } from 'pg-tenancy/pg';

const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
const [, , reason] = process.argv;
await client.connect();
try {
  await migrate(drizzle(reason ? giveReason(client, reason) : client), { migrationsFolder: './drizzle' });
} finally {
  await client.end();
}
