import sequelizePackage from 'sequelize';
import { giveReason } from './pg.js';
import { PROVENANCE, Provenance } from './provenance.js';
import { adapter } from './statement.js';

const { DataTypes, QueryTypes, literal } = sequelizePackage;

export const { withIdentity, withOrganization } = adapter((sequelize, { text, values }, work) => {
  return sequelize.transaction(async (transaction) => {
    await sequelize.query(text, { bind: values, transaction, logging: false });
    return work(transaction);
  });
});

export function organizationColumn({ field = 'organization_id', type = DataTypes.UUID } = {}) {
  return { type, field, allowNull: false, defaultValue: literal('tenancy.org_id()') };
}

const ACTIONS = { a: 'NO ACTION', r: 'RESTRICT', c: 'CASCADE', n: 'SET NULL', d: 'SET DEFAULT' };

// The foreign keys of a table that carry the organization, as plain ones: column, target and actions.
const REFERENCES = `
  SELECT k.conname AS name, a.attname AS "column", t.relname AS target, k.confdeltype::text AS "onDelete",
         k.confupdtype::text AS "onUpdate"
    FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_class t ON t.oid = k.confrelid
    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
   WHERE k.contype = 'f' AND n.nspname = $1 AND c.relname = $2`;

const nameOf = (table) => (typeof table === 'object' ? table.tableName : table);

export function quiet(sequelize, { reason } = {}) {
  const queries = sequelize.getQueryInterface();
  const { changeColumn, getForeignKeyReferencesForTable } = queries;

  const select = (sql, bind, { transaction } = {}) =>
    sequelize.query(sql, { bind, transaction, type: QueryTypes.SELECT, logging: false });

  // What `tenancy.protect` made of a table, and its keys that the model still has.
  const read = async (table, options) => {
    const name = nameOf(table);
    const schema = table.schema || options?.schema || sequelize.options.schema || 'public';
    const made = new Provenance(await select(PROVENANCE, [], options)).of(schema, name);
    const model = Object.values(sequelize.models).find((one) => nameOf(one.getTableName()) === name);
    const attributes = Object.values(model?.rawAttributes ?? {});
    const same = (await select(REFERENCES, [schema, name], options)).filter((key) => {
      const attribute = attributes.find((one) => (one.field ?? one.fieldName) === key.column);
      return made.references.has(key.name) && attribute?.references
        && nameOf(attribute.references.model) === key.target
        && (attribute.onDelete ?? 'NO ACTION').toUpperCase() === ACTIONS[key.onDelete]
        && (attribute.onUpdate ?? 'NO ACTION').toUpperCase() === ACTIONS[key.onUpdate];
    });
    return { ...made, same };
  };

  // One sync of one model passes the same options to all that it calls; nothing else asks for the keys with them.
  const known = new WeakMap();

  queries.getForeignKeyReferencesForTable = async (table, options) => {
    const found = await read(table, options);
    if (options) known.set(options, { name: nameOf(table), found });
    const keys = await getForeignKeyReferencesForTable.call(queries, table, options);
    return keys.filter((key) => !found.same.some(({ name }) => name === key.constraintName));
  };
  queries.changeColumn = async (table, column, attribute, options) => {
    const { name, found } = known.get(options) ?? {};
    const { organization, same } = name === nameOf(table) ? found : await read(table, options);
    if (organization?.column === column) return;
    const { references, onDelete, onUpdate, ...rest } = attribute;
    await changeColumn.call(queries, table, column, same.some((key) => key.column === column) ? rest : attribute, options);
  };
  if (reason) sequelize.addHook('afterConnect', (connection) => { giveReason(connection, reason); });
  return sequelize;
}
