// Prisma's schema engine, as its command line carries it: a WebAssembly module in the package `prisma`. The command line
// of version 7 runs `migrate` and `db` by a native program that the registry does not have. This drives the module
// instead, through Prisma's own adapter for `pg`.

import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';

import { PrismaPg } from '@prisma/adapter-pg';
import { ColumnTypeEnum, bindMigrationAwareSqlAdapterFactory } from '@prisma/driver-adapter-utils';
import * as glue from '@prisma/schema-engine-wasm/schema_engine_bg';

// The adapter does not know the types "char" and name of the catalogs.
const CHAR = 18;
const KNOWN = { [CHAR]: 25, 19: 25, 1002: 1009, 1003: 1009 }; // text and arrays of text

// The engine forgets a timer of a minute with each lock. The process must not wait for it.
const { setTimeout: start } = globalThis;
globalThis.setTimeout = (...args) => start(...args).unref();

const require = createRequire(import.meta.url);
const file = path.join(path.dirname(require.resolve('prisma/package.json')), 'build/schema_engine_bg.wasm');
const { instance } = await WebAssembly.instantiate(await readFile(file), { './schema_engine_bg.js': glue });
glue.__wbg_set_wasm(instance.exports);
instance.exports.__wbindgen_start();
globalThis.PRISMA_WASM_PANIC_REGISTRY = { set_message: (message) => console.error(message) };

// The native program sends a migration as one query, and so as one transaction. The adapter would cut it at each `;`.
async function connect(config) {
  const adapter = await new PrismaPg(config).connect();
  adapter.executeScript = (script) => adapter.underlyingDriver().query(script).then(() => {}, (error) => adapter.onError(error));
  const { performIO, queryRaw } = adapter;
  let characters = [];
  adapter.performIO = async (query) => {
    const result = await performIO.call(adapter, query);
    characters = result.fields.map((field) => field.dataTypeID === CHAR);
    for (const field of result.fields) field.dataTypeID = KNOWN[field.dataTypeID] ?? field.dataTypeID;
    return result;
  };
  adapter.queryRaw = async (query) => {
    const result = await queryRaw.call(adapter, query);
    characters.forEach((is, n) => { if (is) result.columnTypes[n] = ColumnTypeEnum.Character; });
    return result;
  };
  return adapter;
}

function factoryOf(config, opened) {
  const factory = new PrismaPg(config);
  factory.connect = async () => {
    const adapter = await connect(config);
    opened.push(adapter);
    return adapter;
  };
  // As with `shadowDatabaseUrl`: a database that is there, and that is emptied each time.
  factory.connectToShadowDb = async () => {
    const shadow = await connect({ ...config, database: `${config.database}_shadow` });
    opened.push(shadow);
    await shadow.executeScript('DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public');
    return shadow;
  };
  return bindMigrationAwareSqlAdapterFactory(factory);
}

const filters = { externalTables: [], externalEnums: [] };
const filesOf = (schema) => [{ path: 'schema.prisma', content: schema }];
const model = (schema) => ({ tag: 'schemaDatamodel', files: filesOf(schema) });
const list = (migrations) => ({
  baseDir: '/migrations',
  lockfile: { path: 'migration_lock.toml', content: 'provider = "postgresql"\n' },
  shadowDbInitScript: '',
  migrationDirectories: migrations.map(({ name, sql }) => ({
    path: name, migrationFile: { path: 'migration.sql', content: { tag: 'ok', value: sql } },
  })),
});

/** The commands of `prisma`, each on a connection of its own. */
export function commands(config) {
  const run = async (work) => {
    const opened = [];
    const engine = await glue.SchemaEngine.new({ datamodels: undefined }, () => {}, factoryOf(config, opened));
    try {
      return await work(engine);
    } finally {
      engine.free();
      // The engine leaves its connections open, and with them its advisory lock.
      const pools = opened.map((adapter) => adapter.underlyingDriver());
      await Promise.all(pools.filter((pool) => !pool.ended).map((pool) => pool.end()));
    }
  };
  const diff = (from, to) => run(async (engine) => {
    const { stdout, exitCode } = await engine.diff({ from, to, script: true, exitCode: true, filters });
    return exitCode === 0 ? '' : stdout;
  });
  return {
    /** migrate diff --from-empty --to-schema */
    fromEmpty: (schema) => diff({ tag: 'empty' }, model(schema)),
    /** migrate diff --from-migrations --to-schema */
    fromMigrations: (migrations, schema) => diff({ tag: 'migrations', ...list(migrations) }, model(schema)),
    /** migrate diff --from-config-datasource --to-schema */
    fromDatabase: (schema) => diff({ tag: 'schemaDatasource', files: filesOf(schema), configDir: '.' }, model(schema)),
    /** migrate deploy */
    deploy: (migrations) => run((engine) => engine.applyMigrations({ migrationsList: list(migrations), filters })),
    /** migrate resolve --rolled-back */
    rolledBack: (name) => run((engine) => engine.markMigrationRolledBack({ migrationName: name })),
    /** What migrate dev does next: `createMigration`, or `reset` where it finds drift. */
    next: (migrations) => run(async (engine) => (await engine.devDiagnostic({ migrationsList: list(migrations), filters })).action.tag),
    /** db push */
    push: (schema) => run((engine) => engine.schemaPush({ force: true, schema: { files: filesOf(schema) }, filters })),
    /** db pull */
    pull: (schema) => run(async (engine) => (await engine.introspect({
      schema: { files: filesOf(schema) }, baseDirectoryPath: '.', force: false, compositeTypeDepth: -1, namespaces: null,
    })).schema.files[0].content),
  };
}
