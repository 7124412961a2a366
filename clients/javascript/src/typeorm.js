import { isDrop, PROVENANCE, Provenance, withReason } from './provenance.js';
import { adapter } from './statement.js';

export const { withIdentity, withOrganization } = adapter((source, { text, values }, work) => {
  return source.transaction(async (manager) => {
    await manager.query(text, values);
    return work(manager);
  });
});

// A foreign key as it was before the organization was added to it.
function plain(key, { child_organization: child, parent_organization: parent }) {
  const columns = key.columnNames.map((name, n) => [name, key.referencedColumnNames[n]]);
  const kept = columns.filter(([name, referenced]) => name !== child || referenced !== parent);
  key.columnNames = kept.map(([name]) => name);
  key.referencedColumnNames = kept.map(([, referenced]) => referenced);
}

// A table as it was before `tenancy.protect`, except for what the model has of it too.
function fold(table, { references, keys, organization }, metadata) {
  for (const key of table.foreignKeys) if (references.has(key.name)) plain(key, references.get(key.name));
  table.uniques = table.uniques.filter((unique) => !keys.has(unique.name));
  table.indices = table.indices.filter((index) => !keys.has(index.name) && index.name !== organization?.index);
  const column = organization && table.findColumnByName(organization.column);
  const model = organization && metadata?.columns.find((one) => one.databaseName === organization.column);
  if (!column || !model) return;
  if (model.default === undefined) column.default = organization.previous_default ?? undefined;
  if (organization.was_nullable && model.isNullable) column.isNullable = true;
}

const quieted = new WeakSet();

export function quiet(source, { reason } = {}) {
  if (quieted.has(source)) return source;
  quieted.add(source);
  const create = source.driver.createQueryRunner;
  source.driver.createQueryRunner = function createQueryRunner(...options) {
    const runner = create.apply(this, options);
    const { query, loadTables } = runner;
    const readProvenance = async () => new Provenance(await query.call(runner, PROVENANCE));
    runner.loadTables = async function quietTables(...names) {
      const tables = await loadTables.apply(this, names);
      const made = tables.length ? await readProvenance() : undefined;
      for (const table of tables) {
        const name = table.name.split('.').pop();
        const metadata = source.entityMetadatas.find(
          (one) => one.tableName === name && (one.schema ?? table.schema) === table.schema);
        fold(table, made.of(table.schema, name), metadata);
      }
      return tables;
    };
    const run = ({ text, values }) => query.call(runner, text, values);
    runner.query = (text, ...rest) => {
      const statement = () => query.call(runner, text, ...rest);
      return reason && isDrop(text) ? withReason(run, text, reason, statement) : statement();
    };
    return runner;
  };
  return source;
}
