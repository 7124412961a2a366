// A database for the shop of examples/shop: its owner, who has no superuser's rights, and the application.

import assert from 'node:assert/strict';

import pg from 'pg';
import { TestIssuer } from 'pg-tenancy/testing';

const OWNER = 'test_shop_owner';
const APP = 'test_shop_app';
const { PGHOST, PGPORT, PGPASSWORD, PG_TENANCY_POOLER_HOST: host, PG_TENANCY_POOLER_PORT: port } = process.env;

const address = (user, database, at, atPort) =>
  `postgresql://${user}:${encodeURIComponent(PGPASSWORD)}@/${database}?host=${encodeURIComponent(at)}&port=${atPort}`;

async function connected(connectionString, work) {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

export async function createShop(tool) {
  const database = `${process.env.PGDATABASE}_${tool}`;
  const root = new pg.Client({ database: 'postgres' });
  await root.connect();
  await root.query(`DROP DATABASE IF EXISTS ${database} WITH (FORCE)`);
  await root.query(`CREATE DATABASE ${database} TEMPLATE template0`);
  const admin = new pg.Client({ database });
  await admin.connect();
  await admin.query('CREATE EXTENSION pg_tenancy');
  for (const role of [OWNER, APP]) {
    if (!(await admin.query('SELECT FROM pg_roles WHERE rolname = $1', [role])).rowCount) {
      await admin.query(`CREATE ROLE ${role}`);
    }
    await admin.query(`ALTER ROLE ${role} LOGIN PASSWORD ${pg.escapeLiteral(PGPASSWORD)}`);
  }
  await admin.query(`
    GRANT tenancy_admin TO ${OWNER};
    GRANT tenancy_application TO ${APP};
    GRANT CREATE ON DATABASE ${database} TO ${OWNER};
    ALTER SCHEMA public OWNER TO ${OWNER};
    SET ROLE ${OWNER};
    ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO ${APP};
    ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO ${APP};
    RESET ROLE`);
  const issuer = await new TestIssuer().register(admin);
  await admin.query("SELECT tenancy.create_role('clerk'), tenancy.grant_permission('clerk', '*', '*')");
  const organizations = {
    alice: await issuer.createOrganization(admin, 'Acme', { alice: 'clerk' }),
    bob: await issuer.createOrganization(admin, 'Globex', { bob: 'clerk' }),
  };

  const owner = { host: PGHOST, port: Number(PGPORT), user: OWNER, password: PGPASSWORD, database };
  const app = { host, port: Number(port), user: APP, password: PGPASSWORD, database };
  const ownerUrl = address(OWNER, database, PGHOST, PGPORT);
  const asOwner = (work) => connected(ownerUrl, work);
  return {
    admin, owner, ownerUrl, app, organizations, asOwner,
    token: (subject) => issuer.token(subject),

    async protect() {
      const rows = await asOwner(async (client) => {
        await client.query("SELECT tenancy.set_guardrail('new_tables', 'enforce', 'every table has its tenant')");
        return (await client.query('SELECT * FROM tenancy.protect_schema($1)', ['public'])).rows;
      });
      assert.equal(await this.unprotected(), 0, JSON.stringify(rows));
    },

    /** How many tables with an organization column are not protected. */
    async unprotected() {
      const { rows } = await admin.query(`
        SELECT count(*)::integer AS found FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attname = 'organization_id'
           AND NOT (c.relrowsecurity AND c.relforcerowsecurity)`);
      return rows[0].found;
    },

    /** Every table is as protect left it, and each foreign key between protected tables carries the organization. */
    async intact() {
      assert.equal(await this.unprotected(), 0);
      assert.deepEqual((await admin.query('SELECT * FROM tenancy.drift()')).rows, []);
      const advice = "SELECT * FROM tenancy.advise('error') WHERE rule <> 'server_too_old'"; // of the tests' server
      assert.deepEqual((await admin.query(advice)).rows, []);
      const { rows } = await admin.query(`
        SELECT conrelid::regclass::text AS "table", conname FROM pg_constraint
         WHERE contype = 'f' AND connamespace = 'public'::regnamespace AND cardinality(conkey) < 2`);
      assert.deepEqual(rows, []);
    },

    /** The definitions of all foreign keys, in order, each with the organization as its first column. */
    async foreignKeys() {
      const { rows } = await admin.query(`
        SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) AS key FROM pg_constraint
         WHERE contype = 'f' AND connamespace = 'public'::regnamespace ORDER BY 1`);
      return rows.map((row) => row.key.replace(/\((\w+), organization_id\)/g, '(organization_id, $1)'));
    },

    async destroy() {
      await admin.end();
      await root.query(`DROP DATABASE IF EXISTS ${database} WITH (FORCE)`);
      await root.end();
    },
  };
}
