// The shop, as Drizzle's documentation has a developer write it. `organization_id` is an ordinary column.

import { bigint, integer, numeric, pgTable, text, timestamp, uuid } from 'drizzle-orm/pg-core';

const id = () => bigint({ mode: 'number' }).primaryKey().generatedAlwaysAsIdentity();
const organizationId = () => uuid('organization_id').notNull();
const key = (name) => bigint(name, { mode: 'number' });

export const category = pgTable('category', {
  id: id(),
  organizationId: organizationId(),
  parentId: key('parent_id').references(() => category.id),
  name: text().notNull(),
});

export const product = pgTable('product', {
  id: id(),
  organizationId: organizationId(),
  categoryId: key('category_id').references(() => category.id),
  sku: text().notNull(),
  name: text().notNull(),
  price: numeric().notNull(),
});

export const customer = pgTable('customer', {
  id: id(),
  organizationId: organizationId(),
  name: text().notNull(),
  email: text().notNull(),
  referredBy: key('referred_by').references(() => customer.id),
});

export const address = pgTable('address', {
  id: id(),
  organizationId: organizationId(),
  customerId: key('customer_id').notNull().references(() => customer.id, { onDelete: 'cascade' }),
  city: text().notNull(),
});

export const warehouse = pgTable('warehouse', {
  id: id(),
  organizationId: organizationId(),
  name: text().notNull(),
});

export const purchase = pgTable('purchase', {
  id: id(),
  organizationId: organizationId(),
  customerId: key('customer_id').notNull().references(() => customer.id),
  placedAt: timestamp('placed_at', { withTimezone: true }).notNull(),
  note: text(),
});

export const purchaseLine = pgTable('purchase_line', {
  id: id(),
  organizationId: organizationId(),
  purchaseId: key('purchase_id').notNull().references(() => purchase.id, { onDelete: 'cascade' }),
  productId: key('product_id').notNull().references(() => product.id),
  quantity: integer().notNull(),
});

export const shipment = pgTable('shipment', {
  id: id(),
  organizationId: organizationId(),
  purchaseId: key('purchase_id').notNull().references(() => purchase.id),
  warehouseId: key('warehouse_id').references(() => warehouse.id),
});

export const invoice = pgTable('invoice', {
  id: id(),
  organizationId: organizationId(),
  purchaseId: key('purchase_id').references(() => purchase.id),
  corrects: key('corrects').references(() => invoice.id),
  total: numeric().notNull(),
});

export const payment = pgTable('payment', {
  id: id(),
  organizationId: organizationId(),
  invoiceId: key('invoice_id').notNull().references(() => invoice.id),
  amount: numeric().notNull(),
});
