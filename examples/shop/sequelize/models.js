// The shop, as Sequelize's documentation has a developer write it, with one helper for the organization column.

import { DataTypes } from 'sequelize';
import { organizationColumn } from 'pg-tenancy/sequelize';

export function defineShop(sequelize) {
  const define = (name, columns) => sequelize.define(name, {
    id: { type: DataTypes.BIGINT, primaryKey: true, autoIncrement: true },
    organizationId: organizationColumn(),
    ...columns,
  }, { tableName: name, timestamps: false, underscored: true });
  const text = () => ({ type: DataTypes.TEXT, allowNull: false });
  const numeric = () => ({ type: DataTypes.DECIMAL, allowNull: false });

  const category = define('category', { name: text() });
  const product = define('product', { sku: text(), name: text(), price: numeric() });
  const customer = define('customer', { name: text(), email: text() });
  const address = define('address', { city: text() });
  const warehouse = define('warehouse', { name: text() });
  const purchase = define('purchase', { placedAt: { type: DataTypes.DATE, allowNull: false }, note: DataTypes.TEXT });
  const purchaseLine = define('purchase_line', { quantity: { type: DataTypes.INTEGER, allowNull: false } });
  const shipment = define('shipment', {});
  const invoice = define('invoice', { total: numeric() });
  const payment = define('payment', { amount: numeric() });

  const required = (name) => ({ name, allowNull: false });
  category.belongsTo(category, { as: 'parent', foreignKey: 'parentId' });
  product.belongsTo(category, { foreignKey: 'categoryId' });
  customer.belongsTo(customer, { as: 'referrer', foreignKey: { name: 'referrerId', field: 'referred_by' } });
  address.belongsTo(customer, { foreignKey: required('customerId'), onDelete: 'CASCADE' });
  purchase.belongsTo(customer, { foreignKey: required('customerId') });
  purchaseLine.belongsTo(purchase, { foreignKey: required('purchaseId'), onDelete: 'CASCADE' });
  purchaseLine.belongsTo(product, { foreignKey: required('productId') });
  shipment.belongsTo(purchase, { foreignKey: required('purchaseId') });
  shipment.belongsTo(warehouse, { foreignKey: 'warehouseId' });
  invoice.belongsTo(purchase, { foreignKey: 'purchaseId' });
  invoice.belongsTo(invoice, { as: 'corrected', foreignKey: { name: 'correctedId', field: 'corrects' } });
  payment.belongsTo(invoice, { foreignKey: required('invoiceId') });

  return {
    category, product, customer, address, warehouse, purchase, purchaseLine, shipment, invoice, payment,
  };
}
