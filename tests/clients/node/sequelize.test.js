// Sequelize's sync({ alter: true }) and migrations by its query interface on the shop of examples/shop.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { DataTypes, Sequelize } from 'sequelize';

import { sqlstateOf } from 'pg-tenancy';
import { organizationColumn, quiet, withIdentity } from 'pg-tenancy/sequelize';

import { createShop } from './shop.js';
import { defineShop } from './shop/sequelize/models.js';

let shop;

const connect = ({ user: username, ...rest }) =>
  new Sequelize({ dialect: 'postgres', ...rest, username, logging: false, pool: { max: 2 } });

// Everything of the tables that a migration can change.
async function catalog() {
  const { rows } = await shop.admin.query(`
    SELECT c.relname AS "table", 'column ' || a.attname AS what,
           concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)) AS is
      FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
    UNION ALL SELECT conrelid::regclass::text, 'constraint ' || conname, pg_get_constraintdef(oid)
      FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT tablename, 'index ' || indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT tablename, 'policy ' || policyname, concat_ws(' ', permissive, cmd, qual, with_check)
      FROM pg_policies WHERE schemaname = 'public'
    ORDER BY 1, 2, 3`);
  return rows.map((row) => `${row.table} ${row.what}: ${row.is}`);
}

// Lets the models of a day alter the tables, in a transaction, and returns what has changed.
async function sync(change = () => {}, { reason = 'migration', helped = true } = {}) {
  const before = await catalog();
  const sequelize = connect(shop.owner);
  if (helped) quiet(sequelize, { reason });
  try {
    change(defineShop(sequelize), sequelize);
    await sequelize.transaction((transaction) => sequelize.sync({ alter: true, transaction }));
  } finally {
    await sequelize.close();
  }
  const now = await catalog();
  return [...before.filter((line) => !now.includes(line)).map((line) => `- ${line}`),
    ...now.filter((line) => !before.includes(line)).map((line) => `+ ${line}`)];
}

before(async () => {
  shop = await createShop('sequelize');
  await sync(undefined, { helped: false });
  await shop.protect();
});

after(() => shop?.destroy());

test('without the helper, sync is refused without harm', async () => {
  const before = await catalog();
  await assert.rejects(sync(undefined, { helped: false }), (error) => ['42501', '0A000'].includes(sqlstateOf(error)));
  assert.deepEqual(await catalog(), before);
});

test('sync of unchanged models changes nothing', async () => {
  assert.deepEqual(await sync(), []);
  await shop.intact();
});

const second = (models, sequelize) => {
  models.review = sequelize.define('review', {
    id: { type: DataTypes.BIGINT, primaryKey: true, autoIncrement: true },
    organizationId: organizationColumn(),
    stars: { type: DataTypes.INTEGER, allowNull: false },
  }, { tableName: 'review', timestamps: false, underscored: true });
  models.review.belongsTo(models.product, { foreignKey: { name: 'productId', allowNull: false } });
};
const third = (models, sequelize) => {
  second(models, sequelize);
  models.purchase.belongsTo(models.warehouse, { foreignKey: 'warehouseId' });
};

test('a new model and a new relation come through, with the organization in their keys', async () => {
  await sync(second);
  await shop.intact();
  const changes = await sync(third);
  assert.ok(changes.every((line) => /^\+ purchase (column|constraint)/.test(line)) || changes.length === 2, changes.join('\n'));
  await shop.intact();
  const keys = await shop.foreignKeys();
  assert.ok(keys.some((key) => key.startsWith('review FOREIGN KEY (organization_id, product_id) REFERENCES product')), keys.join('\n'));
  assert.ok(keys.some((key) => key.startsWith('purchase FOREIGN KEY (organization_id, warehouse_id) REFERENCES warehouse')));
  assert.deepEqual(await sync(third), []);
});

test('two members write and read their own, with relations', async () => {
  const sequelize = connect(shop.app);
  const models = defineShop(sequelize);
  third(models, sequelize);
  const { warehouse, customer, address, purchase } = models;
  const as = (subject, work) => withIdentity(sequelize, shop.token(subject), work);
  const ids = {};
  try {
    for (const subject of ['alice', 'bob']) {
      await as(subject, async (transaction) => {
        const from = await warehouse.create({ name: `of ${subject}` }, { transaction });
        const one = await customer.create({ name: subject, email: '' }, { transaction });
        await customer.create({ name: 'friend', email: '', referrerId: one.id }, { transaction });
        await address.create({ customerId: one.id, city: 'Turin' }, { transaction });
        await purchase.create({ customerId: one.id, warehouseId: from.id, placedAt: new Date() }, { transaction });
        ids[subject] = one.id;
      });
    }
    for (const subject of ['alice', 'bob']) {
      const rows = await as(subject, (transaction) => purchase.findAll({ include: [customer, warehouse], transaction }));
      assert.deepEqual(rows.map((row) => [row.customer.name, row.warehouse.name]), [[subject, `of ${subject}`]]);
      assert.equal(rows[0].organizationId, shop.organizations[subject]);
    }
    await assert.rejects(as('alice', (transaction) => address.create({ customerId: ids.bob, city: 'x' }, { transaction })),
      (error) => sqlstateOf(error) === '23503');
    await as('bob', async (transaction) => {
      await purchase.destroy({ where: {}, transaction });
      await customer.destroy({ where: { id: ids.bob }, transaction });
    });
    assert.equal(await as('alice', (transaction) => address.count({ transaction })), 1, "a cascade stayed within bob's rows");
    assert.equal(await as('bob', (transaction) => address.count({ transaction })), 0);
    const [friend] = await as('bob', (transaction) => customer.findAll({ transaction }));
    assert.deepEqual([friend.referrerId, friend.organizationId], [null, shop.organizations.bob], 'SET NULL of the column alone');
  } finally {
    await sequelize.close();
  }
});

test('another action of a relation needs a reason', async () => {
  const cascading = (models, sequelize) => {
    second(models, sequelize);
    models.purchase.belongsTo(models.warehouse, { foreignKey: 'warehouseId', onDelete: 'CASCADE' });
  };
  const before = await catalog();
  await assert.rejects(sync(cascading, { reason: '' }), (error) => sqlstateOf(error) === '42501');
  assert.deepEqual(await catalog(), before);
  await sync(cascading, { reason: 'TICKET-7: purchases go with their warehouse' });
  await shop.intact();
  assert.ok((await shop.foreignKeys()).some((key) => /^purchase .*warehouse_id.* ON DELETE CASCADE/.test(key)));
  assert.deepEqual(await sync(cascading), []);
  await sync(third, { reason: 'roll back' });
  await shop.intact();
});

test('a column and a relation are renamed by a migration, and sync agrees', async () => {
  const renamed = (models, sequelize) => {
    second(models, sequelize);
    models.purchase.belongsTo(models.warehouse, { foreignKey: { name: 'warehouseId', field: 'origin_id' } });
  };
  const migration = async (work) => {
    const sequelize = quiet(connect(shop.owner), { reason: 'migration' });
    try {
      await sequelize.transaction((transaction) => work(sequelize.getQueryInterface(), { transaction }));
    } finally {
      await sequelize.close();
    }
    await shop.intact();
  };
  await migration((queries, options) => queries.renameColumn('purchase', 'warehouse_id', 'origin_id', options));
  assert.deepEqual(await sync(renamed), []);
  await migration((queries, options) => queries.renameColumn('purchase', 'origin_id', 'warehouse_id', options));
  assert.deepEqual(await sync(third), []);
  const [key] = (await shop.admin.query(`SELECT conname FROM pg_constraint
    WHERE conrelid = 'purchase'::regclass AND confrelid = 'warehouse'::regclass`)).rows;
  await migration((queries, options) => queries.removeConstraint('purchase', key.conname, options));
  await migration((queries, options) => queries.addConstraint('purchase', {
    type: 'foreign key', fields: ['warehouse_id'], references: { table: 'warehouse', field: 'id' }, name: 'purchase_warehouse', ...options,
  }));
  assert.ok((await shop.foreignKeys()).some((one) => one.startsWith('purchase FOREIGN KEY (organization_id, warehouse_id)')));
});

test('what is dropped from the models is dropped by sync, and all is as on the first day', async () => {
  const changes = await sync();
  assert.ok(changes.some((line) => line.startsWith('- purchase column warehouse_id')), changes.join('\n'));
  assert.ok(changes.every((line) => line.startsWith('- purchase')), changes.join('\n'));
  await shop.intact();
});
